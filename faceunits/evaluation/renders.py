"""Rendered faces that trained nothing, where every parameter is known: agreement, and sides.

A shard of `synthesize` holds the truth. Seeds from 900,000 on are kept for testing. Of portraits whose
muscles `animate` moved, and of which nobody knows what they showed before, the changes are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus
from faceunits.evaluation import crops, fits, metrics, resting
from faceunits.evaluation.crops import Progress, Tool
from faceunits.evaluation.report import Figure, Report
from faceunits.viz.curves import Line, panel

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

ONE_SIDED = 0.3
"""Least difference of the sides, of a parameter's range, that counts as a one-sided action."""


def renders(
    shards: Sequence[str | Path],
    on: Tool,
    *,
    count: int = 200,
    rounds: int = 200,
    progress: Progress | None = None,
) -> Report:
    """Agreement of the measured with the true parameters of rendered faces.

    Args:
        shards: files of `synthesize` or `animate`.
        on: what measures.
        count: faces of each shard.
        rounds: of the bootstrap over people: each face is one, unless the shards say who is in a picture.
        progress: called with faces done and in all.

    Raises:
        InputError: a file that is no shard, or one of another profile than the networks'.
    """
    truth, measured, gaps, sure = [], [], [], []
    who: list[Hashable] = []
    changes, still, beside_rest = 0, [], []
    for i, path in enumerate(shards):
        shard = fits.checked(fits.read_shard(path, count, labelled=False), path, on.models)
        reading = crops.read(list(fits.crops_of(shard["image"])), on)
        au, read = shard["au"], reading.au
        if np.isnan(au).any() and {"added", "portrait"} <= set(shard):
            added, portrait = shard["added"][:, : au.shape[1]], shard["portrait"]
            calm = ~added.any(1)
            still.append(within(read[calm], portrait[calm]))
            au, read = within(added, portrait), within(read, portrait)
            changes += len(au)
        truth.append(au)
        measured.append(read)
        if "neutral" in shard and on.models.comparison is not None:
            beside_rest.append(resting.ways(shard, reading, on))
        sure.append(reading.confidence)
        who += shard["person"].tolist() if "person" in shard else [(i, k) for k in range(len(reading.au))]
        gaps.append(np.stack([shard.get("lip_gap", np.full(len(reading.au), np.nan)), reading.lip_gap], 1))
        if progress:
            progress(i + 1, len(shards))
    t, p, gap = (np.concatenate(x).astype(np.float32) for x in (truth, measured, gaps))
    names = on.models.names
    page = Report("Rendered faces that trained nothing", {"faces": len(t)})
    people = members(who)
    if len(people) < len(t):
        page.about["people"] = len(people)
    if changes:
        page.about["compared"] = f"in {changes} pictures what differs from the mean of the same portrait's"
    page.tables["parameters"] = fits.icc_table(names, t, p)
    if not changes:  # what a table shows has no negative values
        page.tables["columns"] = column_table(names, t, p, gap)
    page.tables["one-sided actions"] = sides(names, t, p)
    confidence, error = np.concatenate(sure), aus.MAX_INTENSITY * np.abs(t - p).mean(1)
    page.tables["error by confidence"] = by_confidence(confidence, error)
    rank = -metrics.spearman(confidence, error)
    page.figures = [*_figures(t, p, people, rounds), *side_figures(names, t, p)]
    page.figures.append(Figure("confidence", "rank correlation of doubt and error", rank, len(t)))
    if beside_rest:
        figures, page.tables["ICC by what is known of rest"] = resting.compared(
            beside_rest, names, people, rounds=rounds
        )
        page.figures += figures
    if changes:
        page.figures += change_figures(t, p, np.concatenate(still))
    return page


def change_figures(truth: F32, predicted: F32, still: F32) -> list[Figure]:
    """How much of the changes is read, and how much where nothing but the face was changed: `still` `(n, A)`
    readings less their portrait's mean."""
    spread = float(aus.MAX_INTENSITY * still.std(0).mean()) if len(still) else float("nan")
    return [
        Figure(
            "changes", "share that is read, mean of the parameters", read_share(truth, predicted), len(truth)
        ),
        Figure("changes", "spread where nothing was added, 0-5, mean of the parameters", spread, len(still)),
    ]


def read_share(truth: F32, predicted: F32) -> float:
    """Mean over columns of the slope of what is read over what is true, through zero: 1 where all is read."""
    squares = np.square(truth).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = (truth * predicted).sum(0) / squares
    return float(slopes[squares > 0].mean()) if squares.any() else float("nan")


def by_confidence(confidence: NDArray[np.floating], error: NDArray[np.floating]) -> pd.DataFrame:
    """Tenths of the faces, the least sure first: their mean confidence, and their mean and 90th percentile of
    error, 0-5 over all parameters."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(10, len(confidence)))
    return pd.DataFrame(
        {
            "faces": [len(rows) for rows in parts],
            "confidence": [confidence[rows].mean() for rows in parts],
            "error": [error[rows].mean() for rows in parts],
            "error_90": [np.quantile(error[rows], 0.9) for rows in parts],
        },
        index=[f"{i + 1} of {len(parts)}" for i in range(len(parts))],
    )


def chart(page: Report) -> U8:
    """The table `error by confidence` as curves."""
    table = page.tables["error by confidence"]
    lines = [Line("mean", table["error"].tolist()), Line("90th percentile", table["error_90"].tolist(), True)]
    steps = [f"{v:.2f}" for v in table["confidence"]]
    return panel(lines, steps, title="error of all parameters, 0-5", across="mean confidence of a tenth")


def within(values: F32, portrait: NDArray[np.integer]) -> F32:
    """`(n, A)` less the mean of all rows of the same portrait."""
    means = pd.DataFrame(values).groupby(portrait).transform("mean")
    out: F32 = values - means.to_numpy(np.float32)
    return out


def members(who: Sequence[Hashable]) -> list[NDArray[np.int64]]:
    """The rows of each person, in the order of their first."""
    rows: dict[Hashable, list[int]] = {}
    for row, person in enumerate(who):
        rows.setdefault(person, []).append(row)
    return [np.array(r, np.int64) for r in rows.values()]


def _figures(truth: F32, predicted: F32, people: list[NDArray[np.int64]], rounds: int) -> list[Figure]:
    n = len(truth)

    def icc(rows: NDArray[np.int64]) -> float:
        values = metrics.icc_columns(truth[rows], predicted[rows])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    def error(rows: NDArray[np.int64]) -> float:
        return float(aus.MAX_INTENSITY * np.abs(truth[rows] - predicted[rows]).mean())

    out = []
    for name, of in (("mean ICC(3,1) of the parameters", icc), ("mean absolute error, 0-5", error)):

        def drawn(chosen: NDArray[np.int64], of: Callable[..., float] = of) -> float:
            return of(np.concatenate([people[k] for k in chosen]))

        low, high = metrics.interval(len(people), drawn, rounds=rounds)
        out.append(Figure("renders", name, of(np.arange(n)), n, low=low, high=high))
    nothing = float(aus.MAX_INTENSITY * np.abs(truth).mean())
    out.append(Figure("renders", "mean absolute error of always 0, 0-5", nothing, n))
    return out


def column_table(names: tuple[str, ...], truth: F32, predicted: F32, gap: F32) -> pd.DataFrame:
    """ICC, Pearson's r and error of the table's columns; `gap` `(n, 2)` true and measured lip gap."""
    a, b = (
        (pd.DataFrame(aus.columns(names, au, lips)).to_numpy() / aus.MAX_INTENSITY).astype(np.float32)
        for au, lips in ((truth, gap[:, 0]), (predicted, gap[:, 1]))
    )
    heads = list(aus.columns(names, truth[:1], gap[:1, 0]))
    kept = np.flatnonzero(np.isfinite(a).all(0))  # AU25 is undefined where a shard holds no lip gap
    chosen = tuple(heads[i].removesuffix("_r") for i in kept)
    return fits.icc_table(chosen, a[:, kept], b[:, kept])


def pairs(names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Places of the left and the right parameter of each two-sided unit.

    The jaw's ways to the left and to the right (AU30) are no sides: they exclude each other.
    """
    place = {n: i for i, n in enumerate(names)}
    left = [n for n in names if n.endswith("_L") and n[:-1] + "R" in place and n[:4] != "AU30"]
    return {n[:-2]: (place[n], place[n[:-1] + "R"]) for n in left}


def sides(names: tuple[str, ...], truth: F32, predicted: F32) -> pd.DataFrame:
    """Per two-sided unit, over the faces whose true sides differ by `ONE_SIDED` or more.

    Columns: `n` faces; `mae_0_5` of left minus right; `right side` the share whose stronger side is seen
    as the stronger; `leak_0_5` mean of the weaker side above its truth.
    """
    rows = {}
    for au, (left, right) in pairs(names).items():
        want, got = truth[:, left] - truth[:, right], predicted[:, left] - predicted[:, right]
        chosen = np.abs(want) >= ONE_SIDED
        weak = np.where(want > 0, right, left)
        leak = (predicted - truth)[np.arange(len(truth)), weak]
        n = int(chosen.sum())
        none = float("nan")
        rows[au] = {
            "n": n,
            "mae_0_5": aus.MAX_INTENSITY * float(np.abs(want - got)[chosen].mean()) if n else none,
            "right side": float((np.sign(got) == np.sign(want))[chosen].mean()) if n else none,
            "leak_0_5": aus.MAX_INTENSITY * float(leak[chosen].mean()) if n else none,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def side_figures(names: tuple[str, ...], truth: F32, predicted: F32) -> list[Figure]:
    """The same over all units together, each one-sided action counting once."""
    table = sides(names, truth, predicted)
    seen = table[table["n"] > 0]
    n = int(seen["n"].sum())
    if not n:
        return []
    weights = seen["n"].to_numpy()
    return [
        Figure("one-sided actions", name, float(np.average(seen[column], weights=weights)), n)
        for name, column in (
            ("mean absolute error of left minus right, 0-5", "mae_0_5"),
            ("share with the stronger side right", "right side"),
            ("weaker side above its truth, 0-5", "leak_0_5"),
        )
    ]
