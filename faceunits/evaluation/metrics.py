"""Agreement between intensities: ICC(3,1), AUC, rank correlation, and intervals by person."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def icc31(table: NDArray[np.floating]) -> float:
    """ICC(3,1): two-way, single rating, consistency.

    Args:
        table: `(n, k)` items by raters.

    Returns:
        NaN when all raters are constant or there are fewer than two items; 0 when only one varies.

    Source: Shrout & Fleiss 1979; their table of 6 x 4 gives 0.715.
    """
    x = np.asarray(table, np.float64)
    n, k = x.shape
    if n < 2:
        return float("nan")
    mean = x.mean()
    between = k * np.sum((x.mean(1) - mean) ** 2) / (n - 1)  # BMS
    raters = n * np.sum((x.mean(0) - mean) ** 2)
    error = (np.sum((x - mean) ** 2) - (n - 1) * between - raters) / ((n - 1) * (k - 1))  # EMS
    below = between + (k - 1) * error
    return float((between - error) / below) if below > 1e-12 else float("nan")


def icc_columns(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> F64:
    """`(A,)` ICC(3,1) of each column of two `(n, A)` tables."""
    return np.array([icc31(np.stack([t, p], 1)) for t, p in zip(truth.T, predicted.T, strict=True)])


def auc(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """Chance that a positive scores above a negative, ties counting half; NaN without one of them."""
    if not len(positive) or not len(negative):
        return float("nan")
    gap = np.asarray(positive)[:, None] - np.asarray(negative)[None]
    return float(np.mean((gap > 0) + 0.5 * (gap == 0)))


def ranks(values: NDArray[np.floating]) -> F64:
    """`(n,)` ranks from 1, ties sharing their mean."""
    values = np.asarray(values, np.float64)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    out: F64 = ((2 * last - counts + 1) / 2)[inverse]
    return out


def spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Rank correlation; NaN where one side is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def interval(
    count: int, statistic: Callable[[NDArray[np.int64]], float], *, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval: `statistic` of `count` people drawn with replacement, by their index."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, count, count)) for _ in range(rounds)]
    values = [v for v in values if not np.isnan(v)]
    if not values:
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def f1_classes(a: NDArray[np.uint8], b: NDArray[np.uint8], groups: dict[str, tuple[int, ...]],
               valid: NDArray[np.bool_] | None = None) -> dict[str, float]:  # fmt: skip
    """F1 of groups of classes between label maps, from pixel counts summed over all of them."""
    out = {}
    for name, classes in groups.items():
        x, y = np.isin(a, classes), np.isin(b, classes)
        if valid is not None:
            x, y = x & valid, y & valid
        total = int(x.sum() + y.sum())
        out[name] = 2 * int((x & y).sum()) / total if total else float("nan")
    return out


FACE_GROUPS: dict[str, tuple[int, ...]] = {
    "brows": (2, 3), "eyes": (4, 5), "nose": (6,), "lips": (7, 9), "skin": (1,),
}  # fmt: skip
