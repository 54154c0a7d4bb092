"""Courses thinned for the page: the least and the greatest value of every few frames, as text.

A table of 100,000 frames and sixty columns would weigh 50 MB as numbers; a screen shows some thousand
columns of pixels. Hence neighbouring frames share a bucket that keeps their least and greatest value, so
that no peak is lost, and a value takes 16 bits.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits.viz.report.courses import POSE, Course, Recording, name_of, units

BUDGET = 1_000_000
"""Values in one page, of 2 bytes each: 2.7 MB of text."""

_STEPS = (8192, 6000, 4000, 3000, 2000, 1500, 1000, 700, 500, 350, 250, 175, 120, 80, 50)
_UNDEFINED = 65535
_LONGEST_NAME, _SHORTER_NAME, _MANY_NAMES = 120, 40, 2000

U16 = NDArray[np.uint16]
Shown = Sequence[tuple[Recording, Sequence[Course]]]


def choose_buckets(shown: Shown) -> int:
    """Buckets per recording, as many as the page may hold."""
    for most in _STEPS:
        if sum(_weight(r, c, most) for r, courses in shown for c in courses) <= BUDGET:
            return most
    return _STEPS[-1]


def per_bucket(recording: Recording, most: int) -> int:
    """Frames that share a bucket; 1 where nothing need be thinned."""
    return max(1, -(-len(recording.frame) // most))


def _weight(recording: Recording, course: Course, most: int) -> int:
    k = per_bucket(recording, most)
    span = int(course.at[-1] // k - course.at[0] // k + 1)
    return span * len(recording.series) * (2 if k > 1 else 1)


def thin(values: NDArray[np.floating], at: NDArray[np.integer], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Least and greatest value of every `k` places, each `(B, S)`, from the bucket of the first place on.

    Args:
        values: `(M, S)`; undefined ones are passed over.
        at: `(M,)` places, ascending; a bucket without a place is NaN.
        k: places per bucket.
    """
    bucket = at // k - at[0] // k
    starts = np.append(0, np.flatnonzero(np.diff(bucket)) + 1)
    out = []
    for pick in (np.fmin, np.fmax):
        filled = np.full((int(bucket[-1]) + 1, values.shape[1]), np.nan, np.float32)
        filled[bucket[starts]] = pick.reduceat(values, starts, axis=0)
        out.append(filled)
    return out[0], out[1]


def scale_of(name: str) -> tuple[float, float]:
    """Value of code 0, and of one step more, of a series."""
    if name in POSE:
        return -360.0, 0.02
    return (0.0, 0.0001) if name == "confidence" else (0.0, 0.001)


def encode(values: NDArray[np.floating], series: Sequence[str]) -> U16:
    """`(S, B)` codes of `(B, S)` values; undefined ones are 65535."""
    low, step = np.array([scale_of(name) for name in series]).T[:, :, None]
    codes = np.clip(np.round((values.T - low) / step), 0, _UNDEFINED - 1)
    coded: U16 = np.where(np.isnan(codes), _UNDEFINED, codes).astype(np.uint16)
    return coded


def pack(shown: Shown) -> dict[str, Any]:
    """What the page's script draws, ready for JSON; `data` of a course is little-endian base64.

    Of a course with `first` bucket and `count` buckets the codes lie one series after the other; where
    frames share buckets, the least values of all series come before the greatest.
    """
    most = choose_buckets(shown)
    names = sorted({u for recording, _ in shown for u in units(recording.series)})
    return {
        "units": {unit: name_of(unit) for unit in names},
        "recordings": [_recording(r, courses, per_bucket(r, most)) for r, courses in shown],
    }


def _recording(recording: Recording, courses: Sequence[Course], k: int) -> dict[str, Any]:
    time = recording.frame if recording.time_s is None else recording.time_s
    return {
        "name": recording.name,
        "video": recording.is_video,
        "timed": recording.time_s is not None,
        "frames": len(recording.frame),
        "per": k,
        "frame": recording.frame[::k].tolist(),
        "time": [round(float(t), 3) for t in time[::k]],
        "end": round(float(time[-1]), 3),
        "photos": _short(recording.photos[::k]),
        "series": [[name, *scale_of(name)] for name in recording.series],
        "gaps": [[_time(time, g.first), _time(time, g.last), g.reason] for g in recording.gaps[:500]],
        "courses": [_course(recording, c, k) for c in courses],
    }


def _time(time: NDArray[Any], place: int) -> float:
    return round(float(time[place]), 3)


def _short(names: Sequence[str]) -> list[str]:
    """Names at most so long that they leave room for the courses; the end of a path says more."""
    most = _LONGEST_NAME if len(names) <= _MANY_NAMES else _SHORTER_NAME
    return [n if len(n) <= most else "…" + n[-most:] for n in names]


def _course(recording: Recording, course: Course, k: int) -> dict[str, Any]:
    least, greatest = thin(course.values, course.at, k)
    parts = [least] if k == 1 else [least, greatest]
    codes = np.concatenate([encode(p, recording.series) for p in parts])
    return {
        "id": course.face_id,
        "first": int(course.at[0] // k),
        "count": len(least),
        "data": base64.b64encode(codes.astype("<u2").tobytes()).decode(),
    }
