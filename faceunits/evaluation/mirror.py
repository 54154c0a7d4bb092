"""Photos against their mirror images: a measurement must not know left from right.

The whole way is mirrored, detector and alignment included; the sides of the result are swapped back.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from faceunits import aus
from faceunits.errors import InputError
from faceunits.evaluation import crops, metrics
from faceunits.evaluation.crops import Progress, Tool
from faceunits.evaluation.report import Figure, Report
from faceunits.io import image as images
from faceunits.io.files import printable
from faceunits.types import Reading


def mirror(folder: str | Path, on: Tool, *, rounds: int = 200, progress: Progress | None = None) -> Report:
    """Agreement of the photos of a folder with their mirror images.

    Args:
        folder: of photos, at any depth; the largest face of each is measured.
        on: what measures.
        rounds: of the bootstrap over photos.
        progress: called with photos done and in all.

    Returns:
        Per parameter ICC(3,1), mean absolute difference and mean difference (0-5); their means.

    Raises:
        InputError: fewer than two photos with a face in both.
    """
    paths = images.find([folder])
    pairs, lost = [], {"unreadable": 0, "no face in the photo": 0, "no face in the mirror image": 0}
    for i, path in enumerate(paths):
        try:
            picture = images.read(path)
        except InputError:
            lost["unreadable"] += 1
            picture = None
        if picture is not None:
            straight = crops.crop(picture, on)
            turned = crops.crop(np.ascontiguousarray(picture[:, ::-1]), on)
            if straight is not None and turned is not None:
                pairs.append((straight, turned))
            else:
                lost["no face in the photo" if straight is None else "no face in the mirror image"] += 1
        if progress:
            progress(i + 1, len(paths))
    if len(pairs) < 2:
        raise InputError(
            f"expected at least two photos with a face in {printable(folder)}; found {len(pairs)} of "
            f"{len(paths)}; name a folder with more"
        )
    straight_ = crops.read([a for a, _ in pairs], on)
    turned_ = crops.flipped(crops.read([b for _, b in pairs], on), on.models.profile)
    page = Report("Photos against their mirror images", {"photos": len(pairs)})
    page.about |= {name: count for name, count in lost.items() if count}
    page.tables["parameters"] = table(straight_, turned_)
    page.figures = figures(straight_, turned_, rounds=rounds)
    return page


def table(straight: Reading, turned: Reading) -> pd.DataFrame:
    """Per parameter `icc`, `mae_0_5` and `bias_0_5`, the mean of photo minus mirror image."""
    gap = aus.MAX_INTENSITY * (straight.au - turned.au)
    icc = metrics.icc_columns(straight.au, turned.au)
    rows = {"icc": icc, "mae_0_5": np.abs(gap).mean(0), "bias_0_5": gap.mean(0)}
    return pd.DataFrame(rows, index=list(straight.names))


def figures(straight: Reading, turned: Reading, *, rounds: int) -> list[Figure]:
    """Means over the parameters with intervals over the photos."""
    a, b, n = straight.au, turned.au, len(straight.au)
    size = aus.MAX_INTENSITY * np.abs(a - b).mean(1)
    yaw = np.abs(straight.pose_deg[:, 1] - turned.pose_deg[:, 1])

    def icc(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        values = metrics.icc_columns(a[rows], b[rows])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    out = []
    for name, of in (
        ("mean ICC(3,1) of the parameters", icc),
        ("mean absolute difference, 0-5", lambda rows: float(size[rows].mean())),
        ("mean absolute difference of yaw, degrees", lambda rows: float(yaw[rows].mean())),
    ):
        low, high = metrics.interval(n, of, rounds=rounds)
        out.append(Figure("mirror", name, of(np.arange(n)), n, low=low, high=high))
    return out
