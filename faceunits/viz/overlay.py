"""The picture beside the numbers: a reader sees what was measured and how well the face fits it.

One sheet per face: photo, aligned crop and fitted face above; parsing of the crop, parsing of the
fitted face and residual below; action-unit bars on the right. Drawn with Pillow alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from faceunits import aus
from faceunits.alignment import warp
from faceunits.io.image import shrink
from faceunits.types import Face, FitResult
from faceunits.viz import colours

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

PANEL = 320
"""Side of a picture panel, pixels."""

_CAPTION, _GAP, _ROW, _BARS = 26, 8, 26, 560
_PAPER, _INK, _FAINT = (255, 255, 255), (20, 20, 24), (226, 226, 230)
_RIGHT, _LEFT, _ONE = (38, 110, 200), (214, 96, 40), (90, 90, 100)
_BOX, _POINT = (60, 220, 90), (255, 230, 40)


def sheet(
    photo: U8, face: Face, crop: F32, result: FitResult, index: int, *, roll_deg: float = 0.0, title: str = ""
) -> U8:
    """One face as a picture, `(H, W, 3)` uint8.

    Args:
        photo: `(H, W, 3)`, the one that `face` refers to.
        face: box and points, in pixels of `photo`.
        crop: `(3, S, S)` in [0, 1], the aligned face that was fitted.
        result: of the batch that holds the face.
        index: place of the face in `result`.
        roll_deg: what alignment took out; reported only.
        title: printed above.
    """
    pitch, yaw = (float(v) for v in result.pose_deg[index])
    values = {
        name: float(column[0])
        for name, column in aus.columns(
            result.names, result.au[index : index + 1], result.lip_gap[index : index + 1]
        ).items()
    }
    shown = panels(photo, face, crop, result, index)
    bars = bar_chart(values)
    head = _CAPTION + 10
    step = PANEL + _CAPTION + _GAP
    height = max(head + 2 * step, head + bars.shape[0]) + _GAP
    canvas = Image.new("RGB", (_GAP + 3 * (PANEL + _GAP) + _BARS, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    line = (
        f"{title}   pitch {pitch:+.0f}°  yaw {yaw:+.0f}°  roll {roll_deg:+.0f}°   "
        f"confidence {result.confidence[index]:.2f}"
    )
    draw.text((_GAP, 8), line.strip(), fill=_INK, font=_font(19))
    for i, (caption, panel) in enumerate(shown.items()):
        x, y = _GAP + (i % 3) * (PANEL + _GAP), head + (i // 3) * step
        draw.text((x, y + 4), caption, fill=_INK, font=_font(15))
        canvas.paste(Image.fromarray(panel), (x, y + _CAPTION))
    canvas.paste(Image.fromarray(bars), (_GAP + 3 * (PANEL + _GAP), head))
    return np.array(canvas)


def panels(photo: U8, face: Face, crop: F32, result: FitResult, index: int) -> dict[str, U8]:
    """The six pictures of a sheet by their captions, `(PANEL, PANEL, 3)` uint8; arguments as for `sheet`."""
    return {
        "photo": _photo_panel(photo, face),
        "aligned crop, landmarks": _crop_panel(crop, result.landmarks[index]),
        "fitted face": _square(_picture(result.image[index])),
        "parsing of the crop": _square(colours.parsing(result.parsing[index]), nearest=True),
        "parsing of the fitted face": _square(colours.parsing(result.parsing_fitted[index]), nearest=True),
        "residual (bright = large)": _residual_panel(crop, result.residual[index]),
    }


def stack(sheets: Sequence[U8]) -> U8:
    """Sheets of one photo below each other, `(H, W, 3)` uint8.

    Args:
        sheets: at least one.
    """
    width = max(s.shape[1] for s in sheets)
    out = np.full((sum(s.shape[0] for s in sheets), width, 3), 255, np.uint8)
    y = 0
    for s in sheets:
        out[y : y + s.shape[0], : s.shape[1]] = s
        y += s.shape[0]
    return out


def bar_chart(values: Mapping[str, float]) -> U8:
    """Action units as bars with numbers, `(H, W, 3)` uint8; the subject's right and left separately.

    Args:
        values: intensity 0-5 by table column (`AU12_r`, `AU12_L_r`, ...), from `aus.columns`.
    """
    units = sorted({name[:4] for name in values})
    image = Image.new("RGB", (_BARS, _CAPTION + len(units) * _ROW + _GAP), _PAPER)
    draw = ImageDraw.Draw(image)
    label, half = 214, 158
    right, left = label + 4, label + 4 + half + 14
    draw.text((right, 4), "subject's right", fill=_RIGHT, font=_font(15))
    draw.text((left, 4), "subject's left", fill=_LEFT, font=_font(15))
    draw.text((6, 4), "intensity 0-5", fill=_INK, font=_font(15))
    for i, au in enumerate(units):
        y = _CAPTION + i * _ROW
        number = int(au[2:])
        draw.text((6, y + 4), f"{au} {aus.NAMES.get(number, '')}", fill=_INK, font=_font(15))
        if f"{au}_R_r" in values:
            _bar(draw, right, y, half, values[f"{au}_R_r"], _RIGHT)
            _bar(draw, left, y, half, values[f"{au}_L_r"], _LEFT)
        else:
            _bar(draw, right, y, left + half - right, values[f"{au}_r"], _ONE)
    return np.array(image)


def _bar(
    draw: ImageDraw.ImageDraw, x: int, y: int, width: int, value: float, colour: tuple[int, int, int]
) -> None:
    """A track from 0 to 5 with its bar; the number has a place of its own, so that no bar covers it."""
    track = width - 38
    draw.rectangle((x, y + 4, x + track, y + _ROW - 5), fill=_FAINT)
    if np.isfinite(value):
        length = round(track * float(np.clip(value / aus.MAX_INTENSITY, 0, 1)))
        if length:
            draw.rectangle((x, y + 4, x + length, y + _ROW - 5), fill=colour)
    shown = f"{value:.1f}" if np.isfinite(value) else "-"
    draw.text((x + track + 6, y + 3), shown, fill=_INK, font=_font(17))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _picture(image: F32) -> U8:
    """`(3, S, S)` in [0, 1] as `(S, S, 3)` uint8."""
    return warp.picture(np.nan_to_num(image))


def _square(picture: U8, *, nearest: bool = False) -> U8:
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
    return np.array(Image.fromarray(picture).resize((PANEL, PANEL), how))


def _photo_panel(photo: U8, face: Face) -> U8:
    small, factor = shrink(photo, PANEL)
    if factor == 1:
        factor = PANEL / max(photo.shape[:2])
        size = (max(1, round(photo.shape[1] * factor)), max(1, round(photo.shape[0] * factor)))
        small = np.array(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))
    canvas = Image.new("RGB", (PANEL, PANEL), _FAINT)
    left, top = (PANEL - small.shape[1]) // 2, (PANEL - small.shape[0]) // 2
    canvas.paste(Image.fromarray(small), (left, top))
    draw = ImageDraw.Draw(canvas)
    x, y, w, h = (float(v) * factor for v in face.box)
    draw.rectangle((left + x, top + y, left + x + max(w, 0), top + y + max(h, 0)), outline=_BOX, width=2)
    for px, py in face.points * factor:
        _dot(draw, left + float(px), top + float(py), 2.5)
    return np.array(canvas)


def _crop_panel(crop: F32, landmarks: F32) -> U8:
    canvas = Image.fromarray(_square(_picture(crop)))
    draw = ImageDraw.Draw(canvas)
    scale = PANEL / crop.shape[-1]
    for x, y in landmarks:
        if np.isfinite(x) and np.isfinite(y):
            # pixel centres lie on whole numbers, hence the halves
            _dot(draw, (float(x) + 0.5) * scale - 0.5, (float(y) + 0.5) * scale - 0.5, 2.0)
    return np.array(canvas)


def _residual_panel(crop: F32, residual: F32) -> U8:
    """Heat over the faded crop, so that a reader sees which part of the face does not fit."""
    grey = _square(_picture(crop)).mean(axis=2, keepdims=True) * 0.35
    mixed: U8 = np.clip(grey + 0.8 * _square(colours.heat(residual)), 0, 255).astype(np.uint8)
    return mixed


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_POINT, outline=_INK)
