"""Agreement between intensities: ICC(3,1), errors, AUC, correlations, and intervals by person."""

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


MEASURES = ("icc", "mae", "mse", "r")
"""Names of what `agreement` gives: ICC(3,1), mean absolute and squared error, Pearson's correlation."""


def sums(
    truth: NDArray[np.floating], predicted: NDArray[np.floating], group: NDArray[np.integer], groups: int
) -> F64:
    """What `agreement` needs of each group of rows, `(G, A, 8)`; sums of groups are those of their union.

    Args:
        truth: `(N, A)`, NaN where unknown.
        predicted: `(N, A)`, NaN where missing; pairs with a NaN count for nothing.
        group: `(N,)` from 0, for instance the subject of each row.
        groups: how many there are.
    """
    out = np.zeros((groups, truth.shape[1], 8))
    for k in range(truth.shape[1]):  # one column at a time: memory stays small
        t, p = np.asarray(truth[:, k], np.float64), np.asarray(predicted[:, k], np.float64)
        valid = ~(np.isnan(t) | np.isnan(p))
        if not valid.any():
            continue
        t, p, g = t[valid], p[valid], group[valid]
        gap = t - p
        # moments about the mean of all, since those about 0 lose digits
        t, p = t - t.mean(), p - p.mean()
        for j, values in enumerate((np.ones(len(t)), t, p, t * t, p * p, t * p, np.abs(gap), gap * gap)):
            out[:, k, j] = np.bincount(g, values, groups)
    return out


def agreement(parts: F64) -> dict[str, F64]:
    """Each of `MEASURES`, `(...)`, from `sums` `(..., 8)`.

    ICC(3,1) of two raters is twice their covariance over the sum of their variances: NaN when both are
    constant or there are fewer than two pairs, 0 when one is constant. Pearson's correlation is NaN when
    either is constant.
    """
    n = parts[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_t, mean_p, tt, pp, tp, mae, mse = (parts[..., j] / n for j in range(1, 8))
        var_t, var_p = tt - mean_t**2, pp - mean_p**2
        covariance = tp - mean_t * mean_p
        both = var_t + var_p
        icc = np.where((n >= 2) & (both > 1e-12), 2 * covariance / both, np.nan)
        defined = (n >= 2) & (var_t > 1e-12) & (var_p > 1e-12)
        r = np.where(defined, covariance / np.sqrt(var_t * var_p), np.nan)
    return {"icc": icc, "mae": mae, "mse": mse, "r": r}


def with_mean(scores: dict[str, F64]) -> dict[str, F64]:
    """Scores `(..., A)` with their plain mean over the units that have one, `(..., A + 1)`."""
    out = {}
    for name, values in scores.items():
        defined = ~np.isnan(values)
        count = defined.sum(-1)
        mean = np.where(defined, values, 0).sum(-1) / np.maximum(count, 1)
        out[name] = np.concatenate([values, np.where(count, mean, np.nan)[..., None]], -1)
    return out


def intervals(parts: F64, *, rounds: int = 1000, seed: int = 0) -> dict[str, F64]:
    """95 % bootstrap intervals `(2, A + 1)` of scores and their mean, groups drawn with replacement.

    Args:
        parts: `(G, A, 8)` of `sums`, a group per person; NaN with fewer than two people.
        rounds: draws.
        seed: of the draws, those of `interval`.
    """
    groups, units = parts.shape[:2]
    if groups < 2:
        return {name: np.full((2, units + 1), np.nan) for name in MEASURES}
    rng = np.random.default_rng(seed)
    times = np.stack([np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(rounds)])
    drawn = (times @ parts.reshape(groups, -1)).reshape(rounds, units, 8)
    out = {}
    for name, values in with_mean(agreement(drawn)).items():
        ends = np.full((2, units + 1), np.nan)
        for k in range(units + 1):
            defined = values[:, k][~np.isnan(values[:, k])]
            if len(defined):
                ends[:, k] = np.percentile(defined, [2.5, 97.5])
        out[name] = ends
    return out


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
