"""A video with what was measured drawn into it: boxes, landmarks, and bars of the action units beside it.

    Shot (picture, time, faces) ─ draw ─► picture with its panel ─ write ─► H.264 in MP4

The picture keeps its size; the panel is added at its right. Every frame keeps its own time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from faceunits import aus
from faceunits.errors import InputError
from faceunits.io.files import printable, replacing

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Colour = tuple[int, int, int]

MOST_COLUMNS = 3
"""Faces with bars of their own in the panel; others have their strongest units beside the box."""

_CLOCK = 90_000
"""Ticks per second: the customary clock of MPEG, which all common frame rates divide."""

_PAPER, _INK, _FAINT, _TRACK = (22, 24, 29), (233, 235, 238), (150, 156, 165), (52, 56, 64)
_RIGHT, _LEFT = (107, 177, 245), (255, 156, 91)
_FACES = ((69, 207, 160), (220, 195, 77), (231, 159, 213), (107, 177, 245), (255, 156, 91), (190, 200, 210))
_LEAST_ROW, _MOST_ROW = 13, 30


@dataclass(frozen=True)
class FaceShown:
    """One face of a shot: `box` `(4,)` x, y, width, height and `landmarks` `(K, 2)`, pixels of the picture,
    or None where they are not known; `values` 0-5 by table column (`AU12_r`, `AU12_L_r`, ...)."""

    face_id: int
    box: F32
    values: Mapping[str, float]
    landmarks: F32 | None = None


@dataclass(frozen=True)
class Shot:
    """A picture `(H, W, 3)` uint8, its time in seconds, the faces in it, and a line for the panel."""

    picture: U8
    time_s: float
    faces: Sequence[FaceShown]
    caption: str = ""


@dataclass(frozen=True)
class Layout:
    """Where things are: the picture's size, the units with a row each, the faces with a column each."""

    width: int
    height: int
    units: tuple[str, ...]
    faces: tuple[int, ...]
    row: int

    @property
    def column(self) -> int:
        """Width of a face's column, pixels."""
        return round(10.5 * self.row)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the film: even, as H.264 wants them."""
        width = self.width + max(1, len(self.faces)) * self.column
        return width + width % 2, self.height + self.height % 2


def layout(width: int, height: int, strength: Mapping[str, float], faces: Sequence[int]) -> Layout:
    """Place for as many units as fit beside the picture.

    Args:
        width: of the picture, pixels.
        height: of the picture, pixels.
        strength: by unit (`AU12`); where there is no room for all, the strongest are shown.
        faces: numbers, the most important first.
    """
    room = max(1, height // _LEAST_ROW - 3)
    units = tuple(sorted(sorted(strength, key=lambda u: (-strength[u], u))[:room]))
    row = int(np.clip(height // (len(units) + 3), _LEAST_ROW, _MOST_ROW))
    return Layout(width, height, units, tuple(sorted(faces[:MOST_COLUMNS])), row)


def draw(shot: Shot, place: Layout) -> U8:
    """The shot with its panel, `(H, W, 3)` uint8 of `place.size`."""
    canvas = _background(place).copy()
    size = (place.width, place.height)
    canvas.paste(Image.fromarray(mark(shot.picture, shot.faces, size, columns=place.faces)), (0, 0))
    pen = ImageDraw.Draw(canvas)
    by_id = {face.face_id: face for face in shot.faces}
    for i, face_id in enumerate(place.faces):
        _column(pen, place, i, by_id.get(face_id))
    _say(pen, (place.width + 6, place.height - place.row + 2), shot.caption, _FAINT, place.row - 3)
    return np.array(canvas)


def write(out: str | os.PathLike[str], shots: Iterable[Shot], place: Layout, *, rate: float = 30.0) -> int:
    """Write shots as H.264 in MP4, whole or not at all; returns their number.

    Args:
        out: name of the film.
        shots: in the order of their times.
        place: of `layout`.
        rate: usual frames per second; a hint for the encoder, the times of the shots are kept.

    Raises:
        InputError: another ending than `.mp4`, a place that cannot be written to, or no shot at all.
    """
    if Path(out).suffix.lower() != ".mp4":
        raise InputError(f"expected a name ending in .mp4; got {printable(out)}; change the ending")
    # Through a file object: names may hold bytes that are not UTF-8.
    with replacing(out) as temporary, temporary.open("wb") as file:
        count = _encode(file, shots, place, rate)
        if not count:
            raise InputError(f"expected frames to write to {printable(out)}; got none; name another video")
    return count


def _encode(file: Any, shots: Iterable[Shot], place: Layout, rate: float) -> int:
    import av
    from av.video.reformatter import Colorspace

    count, last = 0, -1
    with av.open(file, "w", format="mp4", options={"movflags": "faststart"}) as container:
        per_second = Fraction(rate if np.isfinite(rate) and rate > 0 else 30.0).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=per_second, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height = place.size
        stream.pix_fmt = "yuv420p"
        clock = Fraction(1, _CLOCK)
        stream.time_base = stream.codec_context.time_base = clock
        # said aloud, since players otherwise guess the colours from the size
        stream.codec_context.colorspace = stream.codec_context.color_primaries = 1  # BT.709
        stream.codec_context.color_trc = 1
        for shot in shots:
            frame = av.VideoFrame.from_ndarray(draw(shot, place), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            last = max(round(shot.time_s * _CLOCK), last + 1)
            frame.pts, frame.time_base = last, clock
            container.mux(stream.encode(frame))
            count += 1
        if count:
            container.mux(stream.encode(None))
    return count


def mark(
    picture: U8, faces: Sequence[FaceShown], size: tuple[int, int], *, columns: Sequence[int] | None = None
) -> U8:
    """A picture with boxes, numbers and landmarks, `(H, W, 3)` uint8.

    Args:
        picture: `(H, W, 3)`; one of another shape than `size` is fitted into it.
        faces: to be marked.
        size: width and height of the result, pixels.
        columns: faces whose values are shown elsewhere; others have their strongest units beside the box.
    """
    canvas, factor, shift = _fitted(picture, size)
    pen = ImageDraw.Draw(canvas)
    thick = max(2, round(min(size) / 300))
    names = []
    for face in faces:
        colour = _FACES[face.face_id % len(_FACES)]
        box = face.box * factor + (*shift, 0, 0)
        if np.isfinite(box).all():
            _frame(pen, box, size, colour, thick)
            told = "" if columns is None or face.face_id in columns else _strongest(face.values)
            names.append((face, box, told))
        if face.landmarks is not None:
            radius = max(1.0, thick * 0.6)
            for x, y in face.landmarks * factor + shift:
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    # the shortest last: a long one may reach over its neighbour's
    for face, box, told in sorted(names, key=lambda n: -len(n[2])):
        _name(pen, face, box, size, told)
    return np.array(canvas)


def _fitted(picture: U8, size: tuple[int, int]) -> tuple[Image.Image, float, tuple[int, int]]:
    """The picture at the given size, the factor to it, and where it begins; the rest is dark."""
    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    if (width, height) == size:
        return image, 1.0, (0, 0)
    factor = min(size[0] / width, size[1] / height)
    scaled = (max(1, round(width * factor)), max(1, round(height * factor)))
    shift = ((size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2)
    canvas = Image.new("RGB", size, _PAPER)
    canvas.paste(image.resize(scaled, Image.Resampling.BICUBIC, reducing_gap=3.0), shift)
    return canvas, factor, shift


def _frame(
    pen: ImageDraw.ImageDraw, box: NDArray[np.floating], size: tuple[int, int], colour: Colour, thick: int
) -> None:
    x0, y0, x1, y1 = _corners(box, size)
    pen.rectangle((x0, y0, x1, y1), outline=colour, width=thick)


def _corners(box: NDArray[np.floating], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Of the part of a box that lies in the picture."""
    x, y, w, h = (float(v) for v in box)
    right, bottom = size[0] - 1, size[1] - 1
    x0, y0 = min(max(x, 0), right), min(max(y, 0), bottom)
    return x0, y0, max(x0, min(x + w, right)), max(y0, min(y + h, bottom))


def _name(
    pen: ImageDraw.ImageDraw, face: FaceShown, box: NDArray[np.floating], size: tuple[int, int], told: str
) -> None:
    """Number, and what else is told of a face, above its box."""
    text_size = int(np.clip(size[1] / 30, 11, 24))
    text = f"face {face.face_id}{told}"
    x, y, _, _ = _corners(box, size)
    y = max(0.0, y - text_size - 4)
    width = _font(text_size).getlength(text) + 6
    x = max(0.0, min(x, size[0] - width))
    pen.rectangle((x, y, x + width, y + text_size + 3), fill=_PAPER)
    _say(pen, (x + 3, y + 1), text, _FACES[face.face_id % len(_FACES)], text_size)


def _strongest(values: Mapping[str, float]) -> str:
    whole = {k[:-2]: v for k, v in values.items() if len(k) == len("AU12_r") and v >= 1}
    return "".join(f"  {k} {v:.1f}" for k, v in sorted(whole.items(), key=lambda item: -item[1])[:3])


@cache
def _background(place: Layout) -> Image.Image:
    """The panel without its numbers."""
    canvas = Image.new("RGB", place.size, _PAPER)
    pen = ImageDraw.Draw(canvas)
    size = place.row - 3
    for i, face_id in enumerate(place.faces):
        x = place.width + 6 + i * place.column
        _say(pen, (x, 3), f"face {face_id}", _FACES[face_id % len(_FACES)], size)
        _say(pen, (x, 3 + place.row), "right", _RIGHT, size - 1)
        _say(pen, (x + 2.6 * place.row, 3 + place.row), "left", _LEFT, size - 1)
        _say(pen, (x + 4.9 * place.row, 3 + place.row), "0 to 5", _FAINT, size - 1)
        for k, unit in enumerate(place.units):
            y = (k + 2) * place.row
            _say(pen, (x, y + 2), unit, _INK, size)
            x0, x1 = _track(place, i)
            pen.rectangle((x0, y + 3, x1, y + place.row - 3), fill=_TRACK)
    return canvas


def _track(place: Layout, i: int) -> tuple[int, int]:
    """First and last pixel of the bars of column i."""
    x = place.width + 6 + i * place.column
    return x + round(2.9 * place.row), x + round(7.9 * place.row)


def _column(pen: ImageDraw.ImageDraw, place: Layout, i: int, face: FaceShown | None) -> None:
    """Bars of one face: the subject's right above left, or one for a unit without sides."""
    x0, x1 = _track(place, i)
    for k, unit in enumerate(place.units):
        y = (k + 2) * place.row
        top, bottom = y + 3, y + place.row - 3
        value = float("nan") if face is None else float(face.values.get(unit + "_r", float("nan")))
        sides = [] if face is None else [face.values.get(f"{unit}_{side}_r") for side in "RL"]
        if len(sides) == 2 and None not in sides:
            middle = (top + bottom) // 2
            _bar(pen, x0, x1, top, middle, float(sides[0] or 0), _RIGHT)
            _bar(pen, x0, x1, middle + 1, bottom, float(sides[1] or 0), _LEFT)
        else:
            _bar(pen, x0, x1, top, bottom, value, _FAINT)
        shown = f"{value:.1f}" if np.isfinite(value) else "-"
        _say(pen, (x1 + 5, y + 2), shown, _INK if np.isfinite(value) else _FAINT, place.row - 3)


def _bar(
    pen: ImageDraw.ImageDraw, x0: int, x1: int, top: int, bottom: int, value: float, colour: Colour
) -> None:
    share = float(np.clip(np.nan_to_num(value) / aus.MAX_INTENSITY, 0, 1))
    if length := round((x1 - x0) * share):
        pen.rectangle((x0, top, x0 + length, bottom), fill=colour)


def _say(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: Colour, size: int) -> None:
    pen.text(at, text, fill=colour, font=_font(size))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
