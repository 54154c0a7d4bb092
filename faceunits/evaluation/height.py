"""How strong smiles are read, against how far the corners of the mouth went in the same person.

One photo does not show how far a mouth has moved, two of one person do: one at rest and one smiling. The
corners' way, as a share of the way that AU12 takes them, is an intensity that no label and no network's
reading of AU12 has a part in; AUC and rank correlation say nothing of it. Landmarks alone are used. A smile
that C read beside the same two photos is no stranger to them: C is told the landmarks too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from faceunits import aus, fitting
from faceunits.alignment import warp
from faceunits.evaluation import crops, metrics
from faceunits.evaluation.crops import Tool
from faceunits.evaluation.report import Figure, Report
from faceunits.fitting import optimise

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FIXED = [36, 39, 42, 45, 27, 28, 33]
"""iBUG points that no muscle moves much: corners of the eyes, bridge and foot of the nose."""
CORNERS = [48, 54]
"""Of the mouth: the subject's right, left."""


def ways(rest: NDArray[np.floating], shown: NDArray[np.floating]) -> F64:
    """`(B, 2)` how far the mouth's corners went outwards and upwards, mean of both sides, in distances of
    the outer corners of the eyes. `rest` and `shown` `(B, 68, 2)` pixels of two photos of each person."""
    a, b = shown.astype(np.float64), rest.astype(np.float64)
    span = b[:, 45] - b[:, 36]
    size = np.linalg.norm(span, axis=1, keepdims=True)
    along = span / size
    upwards = np.stack([along[:, 1], -along[:, 0]], 1)
    carried = warp.apply(warp.between(a[:, FIXED], b[:, FIXED]), a[:, CORNERS])
    right, left = np.moveaxis((carried - b[:, CORNERS]) / size[:, None], 1, 0)
    return np.stack([((left - right) * along).sum(1), ((left + right) * upwards).sum(1)], 1) / 2


def full_way(models: fitting.Models) -> F64:
    """`(2,)` what `ways` gives of the mean face whose AU12 goes from 0 to 1, as M's sketch draws it."""
    networks = models.networks
    y = optimise.base_face(networks.generator, networks.n_au, 2)
    y[1, 2 : 2 + networks.n_au] = torch.from_numpy(models.profile.expand({"AU12": aus.MAX_INTENSITY}))
    with torch.inference_mode():
        points = networks.sketch(y)[0].cpu().numpy()
    full: F64 = ways(points[:1], points[1:])[0]
    return full


def heights(rest: NDArray[np.floating], shown: NDArray[np.floating], full: F64) -> F64:
    """`(B,)` AU12 by the corners' way, 0-5 and beyond: the multiple of `full` that comes nearest to it."""
    out: F64 = aus.MAX_INTENSITY * (ways(rest, shown) @ full) / (full @ full)
    return out


def height(folder: str | Path, on: Tool, *, rounds: int = 1000) -> Report:
    """AU12 as read in smiles against the way of the mouth's corners.

    Args:
        folder: with `neutral` and `smiling`, photos of the same names in both.
        on: what measures.
        rounds: of the bootstrap over people.

    Returns:
        Means of both (0-5), their difference, mean absolute difference, correlation and ICC(3,1); the same of
        smiles read beside their people at rest, where C is at hand.

    Raises:
        InputError: no person with a face in both photos.
    """
    at_rest, smiling = crops.read_pairs(Path(folder), on.models.crop_size, on.detector)
    rest, smile = crops.read(at_rest, on), crops.read(smiling, on)
    way = heights(rest.landmarks, smile.landmarks, full_way(on.models))
    read = crops.of_reading(smile)["AU12_r"].to_numpy(np.float64)
    page = Report("Smiles: AU12 as read, and by the way of the mouth's corners", {"people": len(way)})
    readings = {"smiles, 0-5": read}
    if on.models.comparison is not None:
        judged = crops.of_reading(crops.read_beside(smiling, at_rest, on.models))["AU12_r"]
        readings["smiles beside the same people at rest, 0-5"] = judged.to_numpy(np.float64)
    everyone = np.arange(len(way))
    for step, values in readings.items():
        for name, statistic in statistics(way, values).items():
            low, high = metrics.interval(len(way), statistic, rounds=rounds)
            value = statistic(everyone)
            page.figures.append(Figure(step, name, value, len(way), low=low, high=high))
    page.tables["by height"] = table(way, read)
    return page


def statistics(way: F64, read: F64) -> dict[str, Callable[[NDArray[np.int64]], float]]:
    """Figures of some people, by their index."""
    gap = read - way
    return {
        "AU12 by the corners' way, mean": lambda k: float(way[k].mean()),
        "AU12 as read, mean": lambda k: float(read[k].mean()),
        "read minus way, mean": lambda k: float(gap[k].mean()),
        "mean absolute difference": lambda k: float(np.abs(gap[k]).mean()),
        "correlation": lambda k: _r(way[k], read[k]),
        "ICC(3,1)": lambda k: metrics.icc31(np.stack([way[k], read[k]], 1)),
    }


def _r(a: F64, b: F64) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")


def table(way: F64, read: F64) -> pd.DataFrame:
    """Means of both in thirds of people, by the corners' way."""
    parts = np.array_split(np.argsort(way), min(3, len(way)))
    rows = [
        {"people": len(k), "by the corners' way": way[k].mean(), "as read": read[k].mean()} for k in parts
    ]
    return pd.DataFrame(rows, index=["least", "middle", "most"][: len(rows)] if len(rows) == 3 else None)
