"""Which part of a table a video is, and whether it is the table's own video."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceunits.errors import InputError
from faceunits.io.files import check_folder, printable
from faceunits.io.video import Frame
from faceunits.viz.report.courses import Course, Recording

F32 = NDArray[np.float32]
Progress = Callable[[int, int, str], None]

_TIME_DIFFERS_S = 0.05


def check(out: str | os.PathLike[str], ending: str) -> None:
    """Refuse, before the work begins, a name that could not be written to after it.

    Raises:
        InputError: another ending, or a folder that is not there or not writable.
    """
    if Path(out).suffix.lower() != ending:
        raise InputError(f"expected a name ending in {ending}; got {printable(out)}; change the ending")
    check_folder(out)


def recording_of(video: str | os.PathLike[str], shown: Sequence[Recording]) -> int:
    """Which recording of a table is this video: the one of its name, or the only one.

    Raises:
        InputError: a table without frames of a video, or of several others.
    """
    videos = [i for i, recording in enumerate(shown) if recording.is_video]
    if not videos:
        raise InputError("expected a table of a video; got one without frames of any; leave out --video")
    whole, wanted = printable(video), Path(printable(video)).name
    for candidates in (
        [i for i in videos if shown[i].name == whole],
        [i for i in videos if Path(shown[i].name).name == wanted],
        videos,
    ):
        if len(candidates) == 1:
            return candidates[0]
    names = ", ".join(shown[i].name for i in videos[:5])
    raise InputError(f"expected a video of the table ({names}); got {whole}; name one of these")


def check_time(video: str | os.PathLike[str], recording: Recording, place: int, frame: Frame) -> None:
    """Refuse a frame that the table has at another time.

    Raises:
        InputError: the video is not the table's.
    """
    if recording.time_s is None:
        return
    time_s = float(recording.time_s[place])
    if abs(time_s - frame.time_s) > _TIME_DIFFERS_S:
        raise InputError(
            f"expected frame {frame.number} at {time_s:.3f} s, as the table has it; {printable(video)} has "
            f"it at {frame.time_s:.3f} s; name the table's own video"
        )


def row_of(course: Course, place: int) -> int:
    """Row of a course's values at a place in which it was measured."""
    return int(np.searchsorted(course.at, place))


def value(recording: Recording, course: Course, row: int, name: str) -> float:
    """One number of a course; NaN where the table has no such column."""
    return (
        float(course.values[row, recording.series.index(name)]) if name in recording.series else float("nan")
    )
