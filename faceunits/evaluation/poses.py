"""FaceWarehouse without labels: how far each pose moves each unit, and whether the units tell poses apart."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits.errors import InputError
from faceunits.evaluation import metrics
from faceunits.evaluation.datasets.records import F64, DataSet
from faceunits.evaluation.protocol import Measure, Outcome, Progress, predictions

NEUTRAL = 0


def evaluate(
    data: DataSet,
    folder: str | os.PathLike[str],
    measure: Measure,
    *,
    about: Mapping[str, Any],
    rounds: int = 1000,
    progress: Progress | None = None,
) -> Outcome:
    """Rises per pose and unit, with 95 % intervals by person, and the share of poses told by the units.

    Args:
        data: of `datasets.read("facewarehouse", ...)`.
        folder: where measurements are kept.
        measure: of `protocol.measurer`.
        about: of `protocol.fingerprint`.
        rounds: of the bootstrap by person.
        progress: as for `protocol.predictions`.

    Returns:
        `rows` has pose, au, n, mean and rise with its interval (0-5), and the share of people whose unit
        rises.

    Raises:
        InputError: nobody's neutral photo shows a face.
    """
    poses = sorted({int(f) for r in data.recordings for f in r.frames})
    tensors, failures, units = [], [], []
    for recording, table in predictions(data, folder, measure, about=about, progress=progress):
        units = [c for c in table.columns if c.endswith("_r") and len(c) == len("AU12_r")]
        rows = table.set_index("frame").reindex(poses)
        values = rows[units].to_numpy(np.float64)
        values[(rows["success"] != 1).to_numpy()] = np.nan
        tensors.append(values)
        lost = rows.loc[recording.frames][rows.loc[recording.frames, "success"] != 1]
        failures.append(
            pd.DataFrame({"subject": recording.subject, "sequence": "", "frame": lost.index,
                          "reason": lost["reason"].fillna("").to_numpy()})
        )  # fmt: skip
    people = np.stack(tensors)  # people, poses, units
    neutral = people[:, poses.index(NEUTRAL)]
    if np.isnan(neutral).all():
        raise InputError("expected a face in some neutral photo; none was found; look at the failed frames")
    failed = pd.concat(failures, ignore_index=True)
    told = recognised(people)
    n = len(told)
    share = float(told.mean()) if n else float("nan")
    low, high = (
        metrics.interval(n, lambda rows: float(told[rows].mean()), rounds=rounds) if n > 1 else (np.nan,) * 2
    )
    facts = {
        "data set": data.spec.title,
        "people": len(people),
        "photos": sum(len(r.frames) for r in data.recordings),
        "poses told apart": f"{share:.3f} [{low:.3f}, {high:.3f}] of the photos are nearest to the mean of "
        f"their own pose over the other people; by chance {1 / len(poses):.3f}",
    }
    counts = pd.DataFrame(
        [
            {"subject": r.subject, "sequence": r.sequence, "labelled": 0, "photos": len(r.frames)}
            for r in data.recordings
        ]
    )
    rows = _rises(people - neutral[:, None], people, poses, units, rounds)
    return Outcome(
        data.spec.title, "", rows, failed, counts, facts | dict(about), [data.spec.mark, *data.notes]
    )


def _rises(rise: F64, people: F64, poses: list[int], units: list[str], rounds: int) -> pd.DataFrame:
    out = []
    for j, pose in enumerate(poses):
        for k, unit in enumerate(units):
            values = rise[:, j, k]
            valid = values[~np.isnan(values)]
            n = len(valid)
            low, high = float("nan"), float("nan")
            if n > 1 and rounds and pose != NEUTRAL:
                low, high = metrics.interval(n, lambda rows, v=valid: float(v[rows].mean()), rounds=rounds)  # type: ignore[misc]
            shown = people[:, j, k]
            out.append(
                {"pose": pose, "au": unit.removesuffix("_r"), "n": n,
                 "mean": float(shown[~np.isnan(shown)].mean()) if not np.isnan(shown).all() else np.nan,
                 "rise": float(valid.mean()) if n else np.nan, "rise_low": low, "rise_high": high,
                 "share_rising": float((valid > 0).mean()) if n else np.nan}
            )  # fmt: skip
    return pd.DataFrame(out)


def recognised(people: F64) -> F64:
    """`(P,)` per person the share of photos that are nearest to their pose's mean over the other people.

    Args:
        people: `(P, K, A)` intensities, NaN where there was no face; poses that nobody else shows are left
            out, as are people without any.
    """
    known: NDArray[np.bool_] = np.asarray(np.isfinite(people).all(axis=2))
    total, count = np.where(known[..., None], people, 0).sum(0), known.sum(0)
    out = []
    for values, there in zip(people, known, strict=True):
        left = count - there
        usable = left > 0
        means = (total - np.where(there[:, None], values, 0))[usable] / left[usable, None]
        place = np.flatnonzero(usable)
        asked = np.flatnonzero(there & usable)
        if not len(asked):
            continue
        distance = np.linalg.norm(values[asked, None] - means[None], axis=2)
        out.append(float(np.mean(place[distance.argmin(1)] == asked)))
    return np.array(out, np.float64)
