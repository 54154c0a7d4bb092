"""A table, and the video it was measured in, to a report page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits.errors import InputError
from faceunits.io import image as image_io
from faceunits.io import video as video_io
from faceunits.io.files import printable, replacing
from faceunits.io.readers import read_table
from faceunits.reporting import evidence as proof
from faceunits.reporting.sources import Progress, check, check_time, recording_of, row_of
from faceunits.viz import film, report
from faceunits.viz.report.courses import Course, Peak, Recording, recordings
from faceunits.viz.report.sections import Evidence, Key

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

MOST_PICTURES = 48
"""Peaks shown with a picture, the strongest of every face and unit first."""

_PICTURE_HEIGHT = 168
_PORTRAIT = 192


def write(
    table: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    video: str | os.PathLike[str] | None = None,
    evidence: int = 4,
    device: str = "auto",
    progress: Progress | None = None,
) -> None:
    """Write the report of a table as one HTML page.

    Args:
        table: what `io.readers.read_table` reads; its description (`.json`) and portraits
            (`<stem>_faces/face_000.png`) are taken from beside it where they exist.
        out: name of the page, `.html`.
        video: the video that was measured; adds pictures of the peaks and faces fitted anew.
        evidence: how many faces to fit anew.
        device: `auto`, `cpu`, `cuda`, ...
        progress: called with the number done, the number in all, and what is being done.

    Raises:
        InputError: a table or video that cannot be read, a video that is not the table's, or a place that
            cannot be written to.
    """
    check(out, ".html")
    table = Path(table)
    values = read_table(table)
    shown, left_out = report.choose(recordings(values))
    found = report.peaks(shown)
    pictures: dict[Key, dict[int, U8]] = {}
    fitted: list[Evidence] = []
    if video is not None:
        index = recording_of(video, [recording for recording, _ in shown])
        recording, courses = shown[index]
        peaks = {c.face_id: found.get((index, c.face_id), ()) for c in courses}
        chosen = [(c, place) for c, places in proof.spread(recording, courses, evidence) for place in places]
        seen = _from_video(video, recording, courses, peaks, chosen, progress)
        pictures = {(index, face_id): mine for face_id, mine in seen[0].items()}
        fitted = proof.fit(index, recording, chosen, seen[1], device, progress)
    page = report.page(
        printable(table.name),
        shown,
        about=_about(table, values.attrs),
        left_out=left_out,
        portraits=_portraits(table, shown),
        found=found,
        pictures=pictures,
        evidence=fitted,
    )
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _about(table: Path, attrs: Mapping[Any, Any]) -> dict[str, Any] | None:
    """The description beside the table; of another tool's table what the reader knows."""
    path = table.with_suffix(".json")
    if not path.is_file():
        known = {str(k): str(v) for k, v in attrs.items() if k in ("tool", "scale", "pose")}
        return known if known.get("tool", "faceunits") != "faceunits" else None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"expected the description of the table; {printable(path)} is damaged ({error}); remove it"
        ) from error
    return values if isinstance(values, dict) else {"description": values}


def _portraits(table: Path, shown: report.Shown) -> dict[Key, U8]:
    """Portraits beside the table; one of several videos does not say whose they are."""
    videos = [i for i, (recording, _) in enumerate(shown) if recording.is_video]
    folder = table.with_name(table.stem + "_faces")
    out: dict[Key, U8] = {}
    if len(videos) == 1 and folder.is_dir():
        for course in shown[videos[0]][1]:
            path = folder / f"face_{course.face_id:03d}.png"
            if path.is_file():
                try:
                    out[videos[0], course.face_id] = image_io.shrink(image_io.read(path), _PORTRAIT)[0]
                except InputError:  # the card says that there is no portrait
                    continue
    return out


def _from_video(
    video: str | os.PathLike[str],
    recording: Recording,
    courses: Sequence[Course],
    peaks: Mapping[int, Sequence[Peak]],
    chosen: Sequence[tuple[Course, int]],
    progress: Progress | None,
) -> tuple[dict[int, dict[int, U8]], dict[tuple[int, int], tuple[U8, F32]]]:
    """Pictures of peaks, and faces to be fitted, by face and place, in one pass over the video."""
    wanted = _worth_a_picture(peaks)
    by_id = {c.face_id: c for c in courses}
    boxes = {(i, place): by_id[i].box[row_of(by_id[i], place)] for i, place in wanted}
    needed = {place for _, place in wanted} | {place for _, place in chosen}
    pictures: dict[int, dict[int, U8]] = {}
    cut: dict[tuple[int, int], tuple[U8, F32]] = {}
    for place, picture in _places(video, recording, needed, progress):
        for (face_id, at), box in boxes.items():
            if at == place:
                pictures.setdefault(face_id, {})[place] = _thumbnail(*around(picture, box, 0.35), face_id)
        for course, at in chosen:
            if at == place:
                # more than the crop needs, which reaches beyond the box
                cut[course.face_id, place] = around(picture, course.box[row_of(course, place)], 0.8)
    return pictures, cut


def _worth_a_picture(peaks: Mapping[int, Sequence[Peak]]) -> set[tuple[int, int]]:
    """Face and place of the peaks with a picture: the highest of every unit first, then the rest."""
    ranked = []
    for face_id, mine in peaks.items():
        seen: set[str] = set()
        for peak in sorted(mine, key=lambda p: -p.value):
            ranked.append((peak.unit in seen, -peak.value, face_id, peak.place))
            seen.add(peak.unit)
    out: dict[tuple[int, int], None] = {}
    for _, _, face_id, place in sorted(ranked):
        if len(out) < MOST_PICTURES:
            out[face_id, place] = None
    return set(out)


def _places(
    video: str | os.PathLike[str], recording: Recording, needed: Iterable[int], progress: Progress | None
) -> Iterator[tuple[int, U8]]:
    """Place and picture of the frames needed; decoding stops after the last one."""
    by_number = {int(recording.frame[place]): place for place in needed}
    last = max(by_number, default=0)
    if not last:
        return
    number = 0
    for frame in video_io.frames(video):
        number = frame.number
        if number in by_number:
            check_time(video, recording, by_number[number], frame)
            yield by_number[number], frame.picture
        if progress:
            progress(number, last, "video")
        if number >= last:
            return
    raise InputError(
        f"expected {last} frames, as the table has; {printable(video)} has {number}; name its own video"
    )


def around(picture: U8, box: F32, margin: float) -> tuple[U8, F32]:
    """The part of a picture around a box, `margin` sides wider each way, and the box in it."""
    height, width = picture.shape[:2]
    if not np.isfinite(box).all():
        return picture, box
    x, y, w, h = (float(v) for v in box)
    grow = margin * max(w, h)
    x0, x1 = (int(np.clip(v, 0, width)) for v in (x - grow, x + w + grow))
    y0, y1 = (int(np.clip(v, 0, height)) for v in (y - grow, y + h + grow))
    if x1 - x0 < 2 or y1 - y0 < 2:  # the box lies beside the picture
        return picture, box
    return picture[y0:y1, x0:x1].copy(), np.array([x - x0, y - y0, w, h], np.float32)


def _thumbnail(region: U8, box: F32, face_id: int) -> U8:
    """The part of the frame with its box, `_PICTURE_HEIGHT` high."""
    width = max(1, round(region.shape[1] * _PICTURE_HEIGHT / region.shape[0]))
    return film.mark(region, [film.FaceShown(face_id, box, {})], (width, _PICTURE_HEIGHT))
