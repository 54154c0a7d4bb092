"""A table as what a report shows of it: recordings, the courses of their faces, gaps, peaks, a summary.

    table ─ recordings ─► Recording ─┬─ courses ─► peaks, summary
                                     └─ gaps

A *recording* is one video, or all photos of the table together; a *course* is one face through it. Every
figure is taken from all rows of the table; only the drawn lines are thinned, by `packing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus
from faceunits.errors import InputError
from faceunits.io.table import UNIT

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Int = NDArray[np.int64]

POSE = ("pose_pitch_deg", "pose_yaw_deg", "pose_roll_deg")

ACTIVE = 1.0
"""Intensity from which an action unit counts as active: FACS level A on the 0-5 scale."""

_PAUSE_S = 0.3
"""A shorter dip below `ACTIVE` does not end a movement."""

_MISSING = "no row in the table"


@dataclass(frozen=True)
class Course:
    """One face through a recording: `at` `(M,)` places in its frames; `values` `(M, S)`; `box` `(M, 4)`."""

    face_id: int
    at: Int
    values: F32
    box: F32


@dataclass(frozen=True)
class Gap:
    """Places `first` to `last` of a recording in which nothing was measured, and why."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True)
class Recording:
    """A video, or the photos of a table.

    `series` `(S,)` columns of the courses' values; `frame` `(N,)` numbers as in the table, of photos 1 to N;
    `time_s` `(N,)`, or None where the table has no usable times; `photos` names, empty for a video.
    """

    name: str
    series: tuple[str, ...]
    frame: Int
    time_s: F64 | None
    photos: tuple[str, ...]
    courses: tuple[Course, ...]
    gaps: tuple[Gap, ...]

    @property
    def is_video(self) -> bool:
        return not self.photos


@dataclass(frozen=True)
class Peak:
    """The greatest value of a stretch in which an action unit stayed active; places in the recording."""

    unit: str
    value: float
    place: int
    first: int
    last: int


@dataclass(frozen=True)
class Activity:
    """One action unit of one course; `left` and `right` are means of the sides, NaN for one without."""

    unit: str
    mean: float
    most: float
    active: float
    left: float
    right: float


def units(series: Sequence[str]) -> list[str]:
    """`AU12`, ... of the columns, in the order of their numbers."""
    return sorted({name[:4] for name in series if UNIT.fullmatch(name)})


def recordings(table: pd.DataFrame) -> list[Recording]:
    """The recordings of a table, in its order; photos come together as the last one.

    Args:
        table: columns of `estimation.COLUMNS` and `AUnn_r`, `AUnn_L_r`, `AUnn_R_r` on 0-5. Missing ones
            of the former are filled in: one face, measured, unnamed.

    Raises:
        InputError: a table without action units.
    """
    series = tuple(c for c in table.columns if UNIT.fullmatch(str(c)))
    if not series:
        raise InputError(
            "expected a table with columns such as AU12_r; "
            f"got {', '.join(map(str, table.columns[:6])) or 'none'}; name a table of faceunits estimate"
        )
    series += tuple(c for c in ("confidence", *POSE) if c in table.columns)
    table = _filled(table, series)
    still = table.groupby("input", sort=False)["frame"].transform("max") == 0
    out = [_video(str(name), part, series) for name, part in table[~still].groupby("input", sort=False)]
    if still.any():
        out.append(_photos(table[still], series))
    return out


def _filled(table: pd.DataFrame, series: tuple[str, ...]) -> pd.DataFrame:
    """Every column that a report needs, in its own type."""
    out = pd.DataFrame(index=table.index)
    numbers = {"face_id": 0, "success": 1, "frame": 0, "timestamp": np.nan}
    numbers |= dict.fromkeys(("face_x", "face_y", "face_w", "face_h"), np.nan)
    for name, default in numbers.items():
        out[name] = pd.to_numeric(table[name], errors="coerce") if name in table else default
    for name, absent in (("frame", 0), ("face_id", -1), ("success", 0)):
        out[name] = out[name].fillna(absent).astype(np.int64)
    if "frame" not in table:
        out["frame"] = np.arange(1, len(table) + 1)
    for name in ("input", "reason"):
        out[name] = table[name].fillna("").astype(str) if name in table else ""
    values = {name: pd.to_numeric(table[name], errors="coerce").astype(np.float32) for name in series}
    return pd.DataFrame({name: out[name] for name in out} | values, index=table.index)


def _video(name: str, rows: pd.DataFrame, series: tuple[str, ...]) -> Recording:
    rows = rows.sort_values("frame", kind="stable")
    frame, first, place = np.unique(rows["frame"].to_numpy(), return_index=True, return_inverse=True)
    times = rows["timestamp"].to_numpy(np.float64)[first]
    usable = bool(np.isfinite(times).all() and (np.diff(times) > 0).all())  # else frames are counted instead
    gaps = [*_unmeasured(rows, place, len(frame), apart=False), *_missing(frame)]
    gaps.sort(key=lambda g: g.first)
    courses = _courses(rows, place, series)
    return Recording(name, series, frame, times if usable else None, (), courses, tuple(gaps))


def _photos(rows: pd.DataFrame, series: tuple[str, ...]) -> Recording:
    place, names = pd.factorize(rows["input"])
    gaps = _unmeasured(rows, place, len(names), apart=True)
    shown = tuple(str(n) or "photo" for n in names)
    frame = np.arange(1, len(names) + 1)
    return Recording("photos", series, frame, None, shown, _courses(rows, place, series), tuple(gaps))


def _courses(rows: pd.DataFrame, place: NDArray[np.integer], series: tuple[str, ...]) -> tuple[Course, ...]:
    out = []
    identity = rows["face_id"].to_numpy()
    measured = rows["success"].to_numpy() == 1
    for face_id in np.unique(identity[measured]):
        mine = np.flatnonzero(measured & (identity == face_id))
        at, first = np.unique(place[mine], return_index=True)  # a face has one row per frame
        part = rows.iloc[mine[first]]
        box = part[["face_x", "face_y", "face_w", "face_h"]].to_numpy(np.float32)
        out.append(Course(int(face_id), at.astype(np.int64), part[list(series)].to_numpy(np.float32), box))
    return tuple(out)


def _unmeasured(rows: pd.DataFrame, place: NDArray[np.integer], count: int, *, apart: bool) -> list[Gap]:
    """Stretches without a measured face; neighbours with one reason are one gap, unless kept `apart`."""
    measured = np.zeros(count, bool)
    measured[place[rows["success"].to_numpy() == 1]] = True
    empty = np.flatnonzero(~measured)
    if not len(empty):
        return []
    reasons = pd.Series(rows["reason"].to_numpy()).groupby(place).first().reindex(empty).fillna("")
    told = reasons.to_numpy(str)
    # one face out of many may give the reason; a frame without any says so itself
    told[told == ""] = "no face measured"
    new = np.ones(len(empty), bool)
    if not apart:
        new[1:] = (np.diff(empty) > 1) | (told[1:] != told[:-1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(empty)) - 1
    return [Gap(int(empty[a]), int(empty[b]), str(told[a])) for a, b in zip(first, last, strict=True)]


def _missing(frame: Int) -> list[Gap]:
    """Jumps in the frame numbers beyond the table's usual step: frames that the table says nothing of."""
    steps = np.diff(frame)
    if not len(steps):
        return []
    usual = np.median(steps)
    return [
        Gap(int(i), int(i + 1), f"{_MISSING} between frames {frame[i]} and {frame[i + 1]}")
        for i in np.flatnonzero(steps > 1.5 * usual)
    ]


def peaks(recording: Recording, course: Course, *, most: int = 3) -> list[Peak]:
    """Up to `most` peaks of every action unit of a course, the greatest first.

    A peak is the greatest value of a stretch with intensity of at least `ACTIVE`; in photos every photo is
    a stretch of its own.
    """
    out = []
    for unit in units(recording.series):
        if unit + "_r" not in recording.series or not len(course.at):
            continue
        values = course.values[:, recording.series.index(unit + "_r")]
        found = []
        for a, b in _stretches(recording, course.at, values >= ACTIVE):
            top = a + int(np.nanargmax(values[a : b + 1]))
            place = int(course.at[top])
            found.append(Peak(unit, float(values[top]), place, int(course.at[a]), int(course.at[b])))
        out += sorted(found, key=lambda p: -p.value)[:most]
    return out


def _stretches(recording: Recording, at: Int, active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each stretch of `active`; in a video, short pauses are bridged."""
    on = np.flatnonzero(active)
    if not len(on):
        return []
    if not recording.is_video:
        return [(int(i), int(i)) for i in on]
    if recording.time_s is None:
        apart = np.diff(on) > 3
    else:
        time_s = recording.time_s[at[on]]
        # frames may lie further apart than a pause: neighbours belong together all the same
        apart = (np.diff(on) > 1) & (np.diff(time_s) > _PAUSE_S)
    first = np.append(0, np.flatnonzero(apart) + 1)
    last = np.append(first[1:], len(on)) - 1
    return [(int(on[a]), int(on[b])) for a, b in zip(first, last, strict=True)]


def summary(recording: Recording, course: Course) -> list[Activity]:
    """Mean, greatest value and share of active frames of each action unit, over the frames measured."""
    out = []
    for unit in units(recording.series):
        columns = {
            side: course.values[:, recording.series.index(f"{unit}{side}_r")]
            for side in ("", "_L", "_R")
            if f"{unit}{side}_r" in recording.series
        }
        both = columns.get("", next(iter(columns.values())))
        whole = both[np.isfinite(both)]
        if not len(whole):
            continue
        means = [float(_mean(columns.get(side, both[:0]))) for side in ("_L", "_R")]
        active = float((whole >= ACTIVE).mean())
        out.append(Activity(unit, float(whole.mean()), float(whole.max()), active, means[0], means[1]))
    return out


def _mean(values: F32) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def name_of(unit: str) -> str:
    """`lip corner puller` of `AU12`; empty for one that the vocabulary lacks."""
    return aus.NAMES.get(int(unit[2:4]), "")
