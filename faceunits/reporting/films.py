"""A video and its table to a film that shows what was measured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceunits.io import video as video_io
from faceunits.io.readers import read_table
from faceunits.reporting.aligning import Aligned, align
from faceunits.reporting.sources import Progress, check, check_time, recording_of, value
from faceunits.viz import film
from faceunits.viz.report.courses import POSE, Course, Recording, recordings, units

if TYPE_CHECKING:
    from faceunits.fitting import Models

F32 = NDArray[np.float32]


def render(
    table: str | os.PathLike[str],
    video: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    landmarks: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> int:
    """Write the video with boxes, landmarks and bars as MP4; returns the number of frames.

    Between the frames of a table that has every n-th only, a box moves evenly and the bars stay.

    Args:
        table: what `io.readers.read_table` reads.
        video: the video that was measured.
        out: name of the film, `.mp4`.
        landmarks: read anew in every frame, which takes most of the time.
        device: `auto`, `cpu`, `cuda`, ...
        progress: called with the number of frames done and an estimate of all.

    Raises:
        InputError: a table or video that cannot be read, a video that is not the table's, or a place that
            cannot be written to.
        BrokenVideo: a video that breaks off; the film up to there has been written.
    """
    check(out, ".mp4")
    found = recordings(read_table(table))
    recording = found[recording_of(video, found)]
    clip = video_io.probe(video)
    strength = {
        unit: max((_most(recording, c, unit + "_r") for c in recording.courses), default=0.0)
        for unit in units(recording.series)
    }
    ranked = [c.face_id for c in sorted(recording.courses, key=lambda c: -len(c.at))]
    place = film.layout(clip.width, clip.height, strength, ranked)
    networks = None
    if landmarks and recording.courses:
        from faceunits import estimation

        networks = estimation.models(device)
    broken: list[video_io.BrokenVideo] = []
    shots = _shots(_until_break(video, broken), video, recording, networks, clip.frames, progress)
    count = film.write(out, shots, place, rate=clip.rate)
    if broken:
        raise broken[0]
    return count


def _most(recording: Recording, course: Course, name: str) -> float:
    if name not in recording.series:
        return 0.0
    return float(np.nan_to_num(course.values[:, recording.series.index(name)]).max(initial=0.0))


def _until_break(
    video: str | os.PathLike[str], broken: list[video_io.BrokenVideo]
) -> Iterator[video_io.Frame]:
    """The frames; a break is noted, so that the film up to it is finished."""
    try:
        yield from video_io.frames(video)
    except video_io.BrokenVideo as error:
        broken.append(error)


def _shots(
    frames: Iterator[video_io.Frame],
    video: str | os.PathLike[str],
    recording: Recording,
    networks: Models | None,
    total: int,
    progress: Progress | None,
) -> Iterator[film.Shot]:
    usual = float(np.median(np.diff(recording.frame))) if len(recording.frame) > 1 else 1.0
    places = {int(number): place for place, number in enumerate(recording.frame)}
    names = [name for name in recording.series if name.endswith("_r")]
    columns = [recording.series.index(name) for name in names]
    for frame in frames:
        if frame.number in places:
            check_time(video, recording, places[frame.number], frame)
        seen = [(c, s) for c in recording.courses if (s := _state(recording, c, frame.number, usual))]
        marks: Sequence[Aligned | None] = [None] * len(seen)
        if networks is not None and seen:
            rolls = [value(recording, c, row, POSE[2]) for c, (row, _) in seen]
            boxes = [box for _, (_, box) in seen]
            marks = align(frame.picture, list(zip(boxes, rolls, strict=True)), networks)
        faces = []
        for (c, (row, box)), mark in zip(seen, marks, strict=True):
            values = dict(zip(names, map(float, c.values[row, columns]), strict=True))
            faces.append(film.FaceShown(c.face_id, box, values, None if mark is None else mark.landmarks))
        yield film.Shot(frame.picture, frame.time_s, faces, f"{frame.time_s:.2f} s, frame {frame.number}")
        if progress:
            progress(frame.number, max(total, frame.number), "film")


def _state(recording: Recording, course: Course, number: int, usual: float) -> tuple[int, F32] | None:
    """Row of a course that holds at a frame, and the box there; None where the face is not seen."""
    row = int(np.searchsorted(recording.frame[course.at], number, side="right")) - 1
    if row < 0:
        return None
    here = int(recording.frame[course.at[row]])
    if here == number:
        return row, course.box[row]
    if row + 1 == len(course.at):
        return None
    following = int(recording.frame[course.at[row + 1]])
    if following - here > 1.5 * usual:
        return None
    share = np.float32((number - here) / (following - here))
    return row, course.box[row] * (1 - share) + course.box[row + 1] * share
