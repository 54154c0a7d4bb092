"""What several views of a face are worth to the fast reading: shifted, scaled and turned, and the mean taken.

    python benchmarks/views.py SHARD...

Prints a Markdown table: per kind of views the mean ICC(3,1) of all parameters and the mean absolute error
(0-5) in each shard of `faceunits synthesize`. `fitting.steady` is the row of four corners at 1.5 pixels.
"""

from __future__ import annotations

import argparse
import math
from itertools import product
from pathlib import Path

import measure
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from faceunits import aus, fitting
from faceunits.evaluation import metrics
from faceunits.evaluation.fits import crops_of

F32 = NDArray[np.float32]
View = tuple[float, float, float, float]
"""Pixels to the right and down, logarithm of the scale, degrees."""

SIDES = (-1, 1)


def corners(px: float, *, log_scale: float = 0.0, turn_deg: float = 0.0) -> list[View]:
    """One view to each corner, opposite ones scaled and turned alike."""
    return [(px * x, px * y, log_scale * x * y, turn_deg * x * y) for x, y in product(SIDES, SIDES)]


DESIGNS: dict[str, list[View]] = {
    "one": [(0, 0, 0, 0)],
    "two, of a diagonal at 1.5 px": [(s * 1.5, s * 1.5, 0, 0) for s in SIDES],
    "two, 3 % larger and smaller": [(0, 0, s * 0.03, 0) for s in SIDES],
    "two, turned by 3 degrees": [(0, 0, 0, s * 3) for s in SIDES],
    "four corners at .75 px": corners(0.75),
    "four corners at 1.5 px": corners(1.5),
    "four corners at 3 px": corners(3),
    "and 2 % larger or smaller": corners(1.5, log_scale=0.02),
    "and turned by 2 degrees": corners(1.5, turn_deg=2),
    "eight, at 1.5 px, 2 %, 2 degrees": [
        (1.5 * x, 1.5 * y, 0.02 * z, 2.0 * x * y * z) for x, y, z in product(SIDES, SIDES, SIDES)
    ],
}


def seen(crops: F32, view: View) -> F32:
    """Crops `(B, 3, S, S)` of 192 px as a view shows them."""
    x, y, log_scale, turn_deg = view
    size, angle = crops.shape[-1], math.radians(turn_deg)
    cos, sin = math.exp(-log_scale) * math.cos(angle), math.exp(-log_scale) * math.sin(angle)
    back = torch.tensor([[cos, sin, -2 * x / size], [-sin, cos, -2 * y / size]])
    grid = F.affine_grid(back.expand(len(crops), 2, 3), list(crops.shape), align_corners=False)
    return F.grid_sample(torch.from_numpy(crops), grid, padding_mode="border", align_corners=False).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shards", type=Path, nargs="+", help="of `faceunits synthesize`, 192 px")
    parser.add_argument("--count", type=int, default=400, help="faces of each shard")
    args = parser.parse_args()
    models, rows = fitting.load(device="cpu"), [{"views": name} for name in DESIGNS]
    for path in args.shards:
        with np.load(path) as shard:
            truth, images = shard["au"][: args.count], shard["image"][: args.count]
        parts = [crops_of(images[i : i + 50]) for i in range(0, len(images), 50)]
        read: dict[View, F32] = {}
        for row, views in zip(rows, DESIGNS.values(), strict=True):
            for view in set(views) - set(read):
                read[view] = np.concatenate([fitting.read(seen(p, view), models).au for p in parts])
            found = np.mean([read[v] for v in views], 0)
            icc = np.nanmean(metrics.icc_columns(truth, found))
            error = aus.MAX_INTENSITY * np.abs(truth - found).mean()
            row[path.stem] = f"{icc:.4f}; {error:.4f}"
    print(measure.heading("Views of a face"))
    print(measure.table(rows))


if __name__ == "__main__":
    main()
