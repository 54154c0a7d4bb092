"""Faces judged by how the same person looks at rest, against faces read alone, where a shard shows both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus
from faceunits.estimation import measurer
from faceunits.evaluation import crops, fits, metrics
from faceunits.evaluation.crops import Tool
from faceunits.evaluation.report import Figure
from faceunits.fitting import beside
from faceunits.resting import quietest
from faceunits.types import Reading

F32 = NDArray[np.float32]

WAYS = ("read alone", "less the reading at rest", "read beside rest")
"""The last two are `--baseline` and `--neutral`."""

QUIETEST = "read beside the quietest picture"
"""As `--neutral auto`, where a shard holds several pictures of each portrait."""


def ways(shard: dict[str, NDArray[Any]], reading: Reading, on: Tool) -> list[F32]:
    """What is true, and what each of `WAYS` makes of it, `(n, A)` of a shard with `neutral`, and `QUIETEST`
    where it says of which portrait a picture is; `reading` is what is read of its faces alone."""
    rest, shown = (fits.crops_of(shard[key]) for key in ("neutral", "image"))
    at_rest = crops.read(rest, on).au
    judged = crops.read_beside(shown, rest, on.models).au
    found = [shard["au"], reading.au, np.clip(reading.au - at_rest, 0, 1), judged]
    return found if "portrait" not in shard else [*found, _by_quietest(shard["portrait"], shown, reading, on)]


def _by_quietest(portrait: NDArray[np.integer], shown: F32, reading: Reading, on: Tool) -> F32:
    """`(n, A)` read beside the picture of the same portrait in which least is read."""
    out = np.empty_like(reading.au)
    for one in np.unique(portrait):
        rows = np.flatnonzero(portrait == one)
        chosen = rows[quietest(reading.au[rows], reading.pose_deg[rows], 1)]
        measure = measurer("fast", calm=beside.neutral(shown[chosen], on.models))
        out[rows] = measure(shown[rows], on.models).au
    return out


def compared(
    parts: list[list[F32]], names: tuple[str, ...], people: list[NDArray[np.int64]], *, rounds: int
) -> tuple[list[Figure], pd.DataFrame]:
    """Agreement and error of each way, how much the last agrees better than the others with an interval over
    people, and a table of it per parameter.

    Args:
        parts: of `ways`.
        names: of the parameters.
        people: rows of each person.
        rounds: of the bootstrap.
    """
    truth, *read = (np.concatenate(of) for of in zip(*parts, strict=True))

    def icc(values: F32, rows: NDArray[np.int64] | slice = slice(None)) -> float:
        return float(np.nanmean(metrics.icc_columns(truth[rows], values[rows])))

    figures = []
    told = (*WAYS, QUIETEST)[: len(read)]
    for way, values in zip(told, read, strict=True):
        figures.append(Figure(way, "mean ICC(3,1) of the parameters", icc(values), len(truth)))
        error = float(aus.MAX_INTENSITY * np.abs(truth - values).mean())
        figures.append(Figure(way, "mean absolute error, 0-5", error, len(truth)))
    best = read[len(WAYS) - 1]
    for way, values in zip(WAYS[:-1], read, strict=False):

        def more(chosen: NDArray[np.int64], values: F32 = values) -> float:
            rows = np.concatenate([people[k] for k in chosen])
            return icc(best, rows) - icc(values, rows)

        low, high = metrics.interval(len(people), more, rounds=rounds)
        gain = icc(best) - icc(values)
        figures.append(Figure(WAYS[-1], f"ICC above {way}", gain, len(truth), low=low, high=high))
    scores = [metrics.icc_columns(truth, values) for values in read]
    return figures, pd.DataFrame(dict(zip(told, scores, strict=True)), index=list(names))
