"""How well editors of latents do what was asked, on rendered people that none of them has seen.

For each editor: requested against measured units, change of the units that were not asked for, identity,
distance to the frame that was wanted; single units from -2 to 5; expressions taken over from pictures; and
for the baselines the same at the identity score of the full model, since an editor that does little keeps
the person well. Specification: AUEditNet's protocol with renders in the place of DISFA's test subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus
from faceunits.errors import ConfigError
from faceunits.evaluation import editor_bench as benches
from faceunits.evaluation import editor_scores as scores
from faceunits.evaluation import editor_sheets as sheets
from faceunits.evaluation import edits, metrics
from faceunits.evaluation.editor_bench import STAYS, STEPS, Bench, Edited
from faceunits.evaluation.editor_scores import Seen
from faceunits.evaluation.report import Figure, Report
from faceunits.networks.editor import Editor

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
Tell = Callable[[str], None]

ICC_BAR, OTHERS_BAR = 0.75, 0.25
"""Of the full model: mean ICC(3,1) over the units, and mean change of the other units, 0-5."""

REAL, BACK, STILL = "wanted frames, real", "wanted frames, given back", "source frames, given back"
"""References: what is read of the truth, of the truth through encoder and generator, and of no edit."""


@dataclass
class Page:
    """The report, its pictures by title, and long tables for programs."""

    report: Report
    pictures: dict[str, U8] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """Figures of one set of pictures, and the sums per person behind its agreement."""

    values: dict[str, float]
    per_unit: dict[str, F64]
    parts: F64


def run(bench: Bench, editors: Mapping[str, Editor], *, tell: Tell = lambda text: None) -> Page:
    """Every figure of some editors.

    Args:
        bench: of `editor_bench.prepare`.
        editors: by name; the first is the one that the others are compared with.
        tell: gets a line when a part begins.

    Raises:
        ConfigError: no editor, or one of other latents or units.
    """
    if not editors:
        raise ConfigError("expected an editor to evaluate; got none; name the file of one")
    benches.check(dict(editors), bench.space, bench.frames.names)
    page = Page(Report("How well editors do what was asked", about(bench)))
    table = references(bench)
    shown = sheets.shown_of(bench)
    done: dict[str, Edited] = {}
    for name, net in editors.items():
        tell(f"{name}: {len(bench.pairs)} edits")
        w = benches.wanted(bench, net)
        done[name] = benches.carry_out(bench, w, bench.column("target"), keep=shown)
        table[name] = score(bench, done[name].seen, bench.column("target"), edited=done[name])
    page.report.tables["edits"] = pd.DataFrame({k: v.values for k, v in table.items()}).T
    for measure in ("icc", "mse", "mae"):
        page.report.tables[f"{measure} per unit"] = pd.DataFrame(
            {k: v.per_unit[measure] for k, v in table.items()}, index=list(bench.frames.names)
        )
    first = next(iter(editors))
    page.report.figures += figures(bench, first, table[first])
    single = {}
    for name in list(editors)[: max(bench.plan.singles, 1)]:
        tell(f"{name}: single units")
        single[name] = single_units(bench, editors[name])
    page.report.tables["single units"] = pd.DataFrame({k: _mean_row(v[0]) for k, v in single.items()}).T
    page.report.tables[f"single units, {first}"] = single[first][0]
    tell("expressions taken over from pictures")
    page.report.tables["taken over from a picture"], taken = transfers(bench, editors, shown)
    if len(editors) > 1:
        _match(page, bench, editors, table[first], tell)
    page.pictures["edits"] = sheets.edit_sheet(bench, shown, done)
    if taken:
        page.pictures["expressions of others"] = sheets.transfer_sheet(bench, shown, taken)
    page.pictures[f"single units, {first}"] = sheets.series_sheet(bench, editors[first])
    page.tables = {
        "pairs": bench.pairs, "values": sheets.values(bench, done),
        "series": pd.concat([v[1].assign(editor=k) for k, v in single.items()]),
    }  # fmt: skip
    return page


def about(bench: Bench) -> dict[str, Any]:
    """What the figures stand on."""
    people = np.unique(bench.frames.person).tolist()
    judged = bench.judges
    return {
        "people": f"{len(people)} ({', '.join(map(str, people))}), {len(bench.frames.image)} frames",
        "edits": f"{len(bench.pairs)}, seed {bench.plan.seed}",
        "measured by": "the package's reader (`fast`), which took no part in making the editors; 0-5",
        "icc": "ICC(3,1), measured against requested, mean over the units, with its interval over people; "
        "icc_seen: against what the reader sees in the real frame that was wanted, "
        "which leaves its own error out",
        "others": f"mean change of units whose label changes by less than {STAYS}, against the source frame "
        "given back (of real frames against the real one)",
        "identity": "cosine with the source frame given back: "
        + (
            "ArcFace" if judged.arcface else "of the identity parameters that are read; ArcFace was not given"
        ),
        "look": "distance of colours and identity parameters; below 0.10 it is one person",
        "distance": "to the real frame that was wanted: mean absolute difference over four scales, in [0, 1]"
        + (", and LPIPS" if judged.lpips else "; LPIPS was not given"),
        "quality": "Frechet distance to the wanted real frames in E's last features (E taught the editors "
        "that are trained with pictures)"
        + (", and FID" if judged.inception else "; Inception was not given, so this is no FID"),
    }


def references(bench: Bench) -> dict[str, Score]:
    """Scores of pictures that no editor has touched."""
    target = bench.column("target")
    out = {REAL: score(bench, bench.real.rows(target), target, start=bench.real)}
    for title, rows in ((BACK, target), (STILL, bench.column("source"))):
        drawn = benches.carry_out(bench, bench.w[rows], target)
        out[title] = score(bench, drawn.seen, target, edited=drawn)
    return out


def score(
    bench: Bench, seen: Seen, truth: I64, *, edited: Edited | None = None, start: Seen | None = None
) -> Score:
    """Figures of the pictures of all pairs.

    Args:
        bench: of `prepare`.
        seen: of as many pictures.
        truth: `(P,)` frames whose labels were asked for.
        edited: also has distances to these frames.
        start: of all frames, what changes and identity are counted from; the frames given back by default.
    """
    source = bench.column("source")
    parts = benches.agreement_parts(bench, seen.units, truth)
    per_unit = metrics.agreement(parts.sum(0))
    mean = metrics.with_mean(per_unit)
    low, high = metrics.intervals(parts, rounds=bench.plan.rounds)["icc"][:, -1]
    group = bench.group
    by_eye = metrics.sums(bench.real.units[truth], seen.units, group, int(group.max()) + 1).sum(0)
    back, real = (start or bench.back).rows(source), bench.real.rows(source)
    stays = np.abs(bench.frames.labels[truth] - bench.frames.labels[source]) < STAYS
    change = np.abs(seen.units - back.units)
    values = {
        "icc": float(mean["icc"][-1]), "icc_low": float(low), "icc_high": float(high),
        "mse": float(mean["mse"][-1]), "mae": float(mean["mae"][-1]),
        "icc_seen": float(metrics.with_mean(metrics.agreement(by_eye))["icc"][-1]),
        "others": float(change[stays].mean()) if stays.any() else float("nan"),
        "identity": float(benches.identity(seen, back).mean()),
        "identity_real": float(benches.identity(seen, real).mean()),
        "identity_parameters": float(scores.likeness(seen.identity, back.identity).mean()),
        "look": float(scores.apart(seen.look, back.look).mean()),
        "multi_scale_l1": float(edited.l1.mean()) if edited else float("nan"),
        "frechet_of_e": scores.frechet(seen.features, bench.real.features[truth]),
    }  # fmt: skip
    if edited is not None and len(edited.lpips):
        values["lpips"] = float(edited.lpips.mean())
    if seen.inception.shape[1]:
        values["fid"] = scores.frechet(seen.inception, bench.real.inception[truth])
    return Score(values, per_unit, parts)


def figures(bench: Bench, name: str, got: Score) -> list[Figure]:
    """The figures with a bar."""
    n, v = len(bench.pairs), got.values
    units = len(bench.frames.names)
    return [
        Figure("edits", f"{name}: mean ICC(3,1) over {units} units, requested against measured", v["icc"], n,
               ICC_BAR, low=v["icc_low"], high=v["icc_high"]),
        Figure("edits", f"{name}: mean change of the other units, 0-5", v["others"], n, OTHERS_BAR, True),
        Figure("edits", f"{name}: identity score", v["identity"], n),
    ]  # fmt: skip


# Single units


def single_units(bench: Bench, editor: Editor) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each unit by itself set to `STEPS` on calm frames: a summary per unit, and all values."""
    rows, values = {}, []
    names = bench.frames.names
    for k, name in enumerate(names):
        seen = benches.carry_out(bench, benches.series(bench, editor, k), briefly=True).seen
        at = np.repeat(bench.calm, len(STEPS))
        back = bench.back.rows(at)
        far = [i for i in range(len(names)) if names[i] != name and names[i] not in companions(name)]
        table = pd.DataFrame({
            "frame": [bench.frames.place[i] for i in at], "person": bench.frames.person[at], "unit": name,
            "asked": np.tile(STEPS, len(bench.calm)), "measured": seen.units[:, k],
            "others": np.abs(seen.units - back.units)[:, far].mean(1) if far else np.nan,
            "identity": benches.identity(seen, back),
        })  # fmt: skip
        values.append(table)
        rows[name] = response(table)
    return pd.DataFrame(rows).T, pd.concat(values)


def companions(unit: str) -> set[str]:
    """Units, under the same form of name, that move with one by what they are."""

    def plain(name: str) -> str:
        return "".join(aus.parse(name))

    moved = {c for key, found in edits.COMPANIONS.items() if "+" not in key and key == plain(unit)
             for c in found}  # fmt: skip
    if plain(unit) in edits.SERIES["AU01+02"]:  # raised brows widen the eyes
        moved |= set(edits.COMPANIONS["AU01+02"])
    return moved | {f"AU{int(m[2:])}" for m in moved}


def response(table: pd.DataFrame) -> dict[str, float]:
    """How one unit follows what is asked.

    `spearman` from 0 to 5 per frame, mean; `constant` frames whose value never changed, which count as 0
    there; `icc`; `mae_whole` and `mae_half` at whole values and between them; `at_0`, `at_5`; and for
    requests below 0: `below`, measured less what it is at 0, `others_below` and `identity_below`.
    """
    inside = table[table["asked"] >= 0]
    outside = table[table["asked"] < 0]
    ranks = [
        metrics.spearman(p["asked"].to_numpy(float), p["measured"].to_numpy(float))
        for _, p in inside.groupby("frame", sort=False)
    ]
    error = (inside["measured"] - inside["asked"]).abs()
    whole = inside["asked"] % 1 == 0
    at = inside.groupby("asked")["measured"].mean()
    return {
        "spearman": float(np.mean(np.nan_to_num(ranks))), "constant": float(np.isnan(ranks).sum()),
        "icc": metrics.icc31(inside[["asked", "measured"]].to_numpy(float)),
        "mae_whole": float(error[whole].mean()), "mae_half": float(error[~whole].mean()),
        "at_0": float(at.iloc[0]), "at_5": float(at.iloc[-1]),
        "others": float(inside["others"].mean()), "identity": float(inside["identity"].mean()),
        "below": float(outside["measured"].mean() - at.iloc[0]),
        "others_below": float(outside["others"].mean()), "identity_below": float(outside["identity"].mean()),
    }  # fmt: skip


def _mean_row(table: pd.DataFrame) -> dict[str, float]:
    """Means over the units; `constant` is a sum."""
    return {str(c): float(table[c].sum() if c == "constant" else table[c].mean()) for c in table.columns}


# Expressions of pictures


def transfers(
    bench: Bench, editors: Mapping[str, Editor], shown: list[int]
) -> tuple[pd.DataFrame, dict[str, dict[int, U8]]]:
    """Agreement with the labels of the frame whose expression was taken over; and, by editor, the pictures
    of the pairs `shown` with expressions of other people."""
    rows: dict[str, dict[str, float]] = {}
    taken: dict[str, dict[int, U8]] = {}
    for name, net in editors.items():
        row: dict[str, float] = {}
        for model, title in (("target", "same person"), ("other", "another")):
            w, pairs = benches.transferred(bench, net, model)
            if not len(pairs):
                continue
            keep = shown if model == "other" else ()
            edited = benches.carry_out(bench, w, keep=keep, briefly=True)
            truth, source = bench.column(model)[pairs], bench.column("source")[pairs]
            parts = benches.agreement_parts(bench, edited.seen.units, truth, pairs)
            got = metrics.with_mean(metrics.agreement(parts.sum(0)))
            same = benches.identity(edited.seen, bench.back.rows(source))
            row |= {f"icc, {title}": float(got["icc"][-1]), f"mae, {title}": float(got["mae"][-1]),
                    f"identity, {title}": float(same.mean())}  # fmt: skip
            if model == "other":
                taken[name] = edited.pictures
        rows[name] = row
    return pd.DataFrame(rows).T, taken


# Equal identity


def _match(page: Page, bench: Bench, editors: Mapping[str, Editor], reference: Score, tell: Tell) -> None:
    """Every further editor at the strength that gives the first one's identity score."""
    first = next(iter(editors))
    count = min(bench.plan.match, len(bench.pairs))
    rows = np.unique(np.linspace(0, len(bench.pairs) - 1, count).astype(np.int64))
    seen = benches.carry_out(bench, benches.wanted(bench, editors[first], rows), briefly=True).seen
    goal = float(benches.identity(seen, bench.back.rows(bench.column("source")[rows])).mean())
    table = {first: {"strength": 1.0, **_brief(reference)}}
    for name in list(editors)[1:]:
        tell(f"{name}: at the identity score of {first}")
        strength = benches.strength_for(bench, editors[name], goal, rows=rows)
        w = benches.wanted(bench, editors[name], strength=strength)
        got = score(bench, benches.carry_out(bench, w).seen, bench.column("target"))
        gain = reference.values["icc"] - got.values["icc"]
        low, high = difference(reference.parts, got.parts, rounds=bench.plan.rounds)
        table[name] = {"strength": strength, **_brief(got), "icc_less": gain}
        page.report.figures.append(
            Figure("equal identity", f"ICC of {first} less that of {name}", gain, len(bench.pairs), 0.0,
                   low=low, high=high)
        )  # fmt: skip
    page.report.tables["at equal identity score"] = pd.DataFrame(table).T
    page.report.about["strength"] = f"share of the way that is gone, at most {benches.LIMIT:g}"


def _brief(got: Score) -> dict[str, float]:
    return {k: got.values[k] for k in ("identity", "icc", "mse", "mae", "others")}


def difference(a: F64, b: F64, *, rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the difference of two mean ICCs, the same people drawn for both.

    Args:
        a: sums `(people, K, 8)`.
        b: of the same people.
        rounds: draws.
        seed: of the draws.
    """
    if len(a) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    times = np.stack([np.bincount(rng.integers(0, len(a), len(a)), minlength=len(a)) for _ in range(rounds)])
    means = []
    for parts in (a, b):
        drawn = (times @ parts.reshape(len(a), -1)).reshape(rounds, *parts.shape[1:])
        means.append(metrics.with_mean(metrics.agreement(drawn))["icc"][:, -1])
    low, high = np.nanpercentile(means[0] - means[1], [2.5, 97.5])
    return float(low), float(high)
