"""Bars of scores: one panel per measure, bars per unit on the left, the means of all rows on the right.

Rows of which only a mean is known appear on the right alone. Drawn with Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
Colour = tuple[int, int, int]

OURS: Colour = (38, 110, 200)
OTHERS: tuple[Colour, ...] = ((214, 96, 40), (240, 176, 110), (96, 160, 90), (150, 110, 180), (120, 120, 130))
QUIET: Colour = (196, 196, 204)
"""Colours: what was measured here, what others printed per unit, and what is a mean or a constant only."""

_PAPER, _INK, _FAINT, _WHISKER = (255, 255, 255), (20, 20, 24), (226, 226, 230), (20, 20, 24)
_MARGIN, _AXIS, _HEAD, _FOOT, _LINE = 14, 46, 54, 34, 24
_GROUP, _NAMES, _TRACK = 62, 400, 150
_LEAST = 230


@dataclass(frozen=True)
class Bar:
    """One row: `values` `(G,)`, NaN where unknown, and the mean; `ends` `(2, G + 1)` intervals of both."""

    name: str
    values: F64
    mean: float
    ends: F64 | None = None
    colour: Colour = QUIET


@dataclass(frozen=True)
class Panel:
    """A measure: its title, the groups' names, and the rows from the top."""

    title: str
    groups: tuple[str, ...]
    bars: tuple[Bar, ...]


def chart(title: str, panels: Sequence[Panel], foot: Sequence[str] = ()) -> U8:
    """The panels below each other, `(H, W, 3)` uint8.

    Args:
        title: printed above.
        panels: at least one, of the same groups.
        foot: lines printed below.
    """
    width = _MARGIN + _AXIS + _GROUP * max(len(p.groups) for p in panels) + 24 + _NAMES + _TRACK + 70
    heights = [max(_LEAST, _LINE * len(p.bars)) + _HEAD + _FOOT for p in panels]
    image = Image.new("RGB", (width, 40 + sum(heights) + 20 * len(foot) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, 10), title, fill=_INK, font=_font(20))
    y = 40
    for panel, height in zip(panels, heights, strict=True):
        _panel(draw, panel, y, height)
        y += height
    for line in foot:
        draw.text((_MARGIN, y), line, fill=(90, 90, 100), font=_font(13))
        y += 20
    return np.array(image)


def ticks(low: float, high: float) -> list[float]:
    """Round values from at or below `low` to at or above `high`, four to eight of them; 0 is among them."""
    low, high = min(low, 0.0), max(high, 0.0)
    span = high - low or 1.0
    step = 10.0 ** math.floor(math.log10(span))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if span / s <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _panel(draw: ImageDraw.ImageDraw, panel: Panel, y: int, height: int) -> None:
    draw.text((_MARGIN, y + 4), panel.title, fill=_INK, font=_font(16))
    known = [
        v for b in panel.bars for v in (*b.values, b.mean, *(b.ends.ravel() if b.ends is not None else ()))
    ]
    finite = [v for v in known if np.isfinite(v)] or [0.0, 1.0]
    marks = ticks(min(finite), max(finite))
    top, bottom, left = y + _HEAD, y + height - _FOOT, _MARGIN + _AXIS
    right = left + _GROUP * len(panel.groups)

    def at(value: float) -> float:
        return bottom - (value - marks[0]) / (marks[-1] - marks[0]) * (bottom - top)

    for mark in marks:
        draw.line((left, at(mark), right, at(mark)), fill=_INK if mark == 0 else _FAINT)
        draw.text((left - 8, at(mark)), f"{mark:g}", fill=_INK, font=_font(13), anchor="rm")
    split = [b for b in panel.bars if np.isfinite(b.values).any()]
    width = (_GROUP - 12) / max(len(split), 1)
    for g, group in enumerate(panel.groups):
        x = left + g * _GROUP + 6
        draw.text((x + _GROUP / 2 - 6, bottom + 14), group, fill=_INK, font=_font(13), anchor="mm")
        for i, bar in enumerate(split):
            ends = None if bar.ends is None else bar.ends[:, g]
            _upright(draw, at, x + i * width, width, bar.values[g], ends, bar.colour)
    _means(draw, panel, marks, right + 24, top)


def _upright(
    draw: ImageDraw.ImageDraw,
    at: object,
    x: float,
    width: float,
    value: float,
    ends: F64 | None,
    colour: Colour,
) -> None:
    assert callable(at)
    if not np.isfinite(value):
        draw.text((x + width / 2, at(0) - 7), "-", fill=colour, font=_font(13), anchor="mm")
        return
    y0, y1 = sorted((at(0), at(value)))
    draw.rectangle((x, y0, x + width - 2, max(y1, y0 + 1)), fill=colour)
    if ends is not None and np.isfinite(ends).all():
        middle = x + width / 2 - 1
        draw.line((middle, at(ends[0]), middle, at(ends[1])), fill=_WHISKER, width=1)
        for end in ends:
            draw.line((middle - 3, at(end), middle + 3, at(end)), fill=_WHISKER, width=1)


def _means(draw: ImageDraw.ImageDraw, panel: Panel, marks: list[float], x: int, top: int) -> None:
    """The means as horizontal bars with their names and numbers; the legend of the panel as well."""
    draw.text((x, top - 30), "mean over the units", fill=_INK, font=_font(14))
    start = x + _NAMES
    scale = _TRACK / (marks[-1] - marks[0])
    zero = start - marks[0] * scale
    for i, bar in enumerate(panel.bars):
        y = top + i * _LINE
        draw.rectangle((x, y + 4, x + 12, y + 16), fill=bar.colour)
        draw.text((x + 18, y + 10), _short(bar.name), fill=_INK, font=_font(14), anchor="lm")
        draw.rectangle((start, y + 5, start + _TRACK, y + 15), fill=_FAINT)
        if np.isfinite(bar.mean):
            x0, x1 = sorted((zero, zero + bar.mean * scale))
            draw.rectangle((x0, y + 5, max(x1, x0 + 1), y + 15), fill=bar.colour)
            if bar.ends is not None and np.isfinite(bar.ends[:, -1]).all():
                a, b = (zero + float(e) * scale for e in bar.ends[:, -1])
                draw.line((a, y + 10, b, y + 10), fill=_WHISKER)
                for end in (a, b):
                    draw.line((end, y + 7, end, y + 13), fill=_WHISKER)
        shown = f"{bar.mean:.3f}" if np.isfinite(bar.mean) else "-"
        draw.text((start + _TRACK + 8, y + 10), shown, fill=_INK, font=_font(14), anchor="lm")


def _short(name: str) -> str:
    """The name, cut where it would run into its bar."""
    font, room = _font(14), _NAMES - 24
    while font.getlength(name) > room:
        name = name[:-2].rstrip(" ,(…") + "…"
    return name


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
