"""Is the face model built like people? Landmarks of people at rest beside those of the rig's faces at rest.

    python benchmarks/proportions.py RIG PORTRAITS.npz

PORTRAITS is a file of `faceunits portraits`; R finds the landmarks of the people in it who were asked to be
at rest. All are turned and scaled so that the eyes lie level, 6.4 cm apart, and seen with their mirror image.
Prints a Markdown table, cm: where a part lies on the mean face of both, and how much faces differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import measure
import numpy as np
from numpy.typing import NDArray

from faceunits import aus, fitting
from faceunits.evaluation.fits import crops_of
from faceunits.rig import sample, shape
from faceunits.types import LANDMARK_MIRROR

EYES_CM = 6.4

PARTS = {
    "inner brow": (22,), "middle of the brow": (24,), "outer brow": (26,), "upper lid": (43, 44),
    "lower lid": (46, 47), "nose tip": (30,), "below the nose": (33,), "corner of the mouth": (54,),
    "upper lip": (51, 62), "lower lip": (57, 66), "chin": (8,),
}  # fmt: skip
"""Landmarks, iBUG order, of the subject's left side."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rig", type=Path, help="folder of the face model")
    parser.add_argument("portraits", type=Path, help="file of `faceunits portraits`")
    parser.add_argument("--faces", type=int, default=700, help="faces of the rig")
    args = parser.parse_args()
    rig, people = level(drawn(args.rig, args.faces)), level(found(args.portraits))
    print(
        measure.heading(
            "Faces at rest", notes=[f"{len(people) // 2} portraits, {args.faces} faces of the rig"]
        )
    )
    rows = []
    for name, marks in PARTS.items():
        a, b = (x[:, marks, 1].mean(1) for x in (rig, people))
        rows.append({
            "part": name, "rig, cm above the eyes": f"{a.mean():.2f}", "spread": f"{a.std():.2f}",
            "people": f"{b.mean():.2f}", "spread of people": f"{b.std():.2f}",
            "people higher by": f"{b.mean() - a.mean():+.2f}",
            "in spreads": f"{(b.mean() - a.mean()) / a.std():+.1f}",
        })  # fmt: skip
    print(measure.table(rows))


def drawn(folder: Path, count: int) -> NDArray[np.floating]:
    """`(n, 68, 2)` landmarks of random identities at rest, seen from the front; y down."""
    model, rng = shape.load(folder, n_identity=60), np.random.default_rng(3)
    nothing = np.zeros(len(model.expression_names), np.float32)
    out = []
    for _ in range(count):
        identity = sample.natural(rng, aus.profile(), 60).identity
        points = shape.vertices(model, shape.identity_weights(model, identity), nothing)
        turn = shape.rotation(*rng.normal(0, 2, 2))
        out.append(shape.project(model, points, turn, distance=100)[model.landmarks, :2])
    return np.stack(out)


def found(path: Path) -> NDArray[np.floating]:
    """`(n, 68, 2)` landmarks of the people at rest in a file, crop pixels."""
    with np.load(path) as portraits:
        images = portraits["image"][portraits["neutral"]]
    models, out = fitting.load(device="cpu"), []
    for i in range(0, len(images), 50):
        out.append(fitting.read(crops_of(images[i : i + 50]), models).landmarks)
    return np.concatenate(out)


def level(marks: NDArray[np.floating]) -> NDArray[np.floating]:
    """`(2n, 68, 2)` cm right of and above the middle of the eyes, each face and its mirror image."""
    left, right = marks[:, 42:48].mean(1), marks[:, 36:42].mean(1)
    along = (left - right) / np.linalg.norm(left - right, axis=1, keepdims=True)
    up = np.stack([along[:, 1], -along[:, 0]], 1)
    at = marks - ((left + right) / 2)[:, None]
    flat = np.einsum("nkj,naj->nka", at, np.stack([along, up], 1))
    flat *= EYES_CM / np.linalg.norm(left - right, axis=1)[:, None, None]
    return np.concatenate([flat, flat[:, LANDMARK_MIRROR] * [-1, 1]])


if __name__ == "__main__":
    main()
