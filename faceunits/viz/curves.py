"""Charts of the evaluations, drawn with Pillow alone: curves over steps, matrices, rows of faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

U8 = NDArray[np.uint8]

_PAPER, _INK, _GRID = (255, 255, 255), (30, 30, 34), (226, 226, 230)
# Okabe and Ito's colours, which readers with any colour vision tell apart
_LINES = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (90, 90, 90),
)  # fmt: skip

# Nine stops of viridis (its authors gave it to the public domain): equal steps look equal, also in grey.
_VIRIDIS = np.array([
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
    (170, 220, 50), (253, 231, 37),
], np.float64)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One curve: a value per step, NaN where there is none."""

    name: str
    values: Sequence[float]
    dashed: bool = False


def panel(
    lines: Sequence[Line],
    steps: Sequence[str],
    *,
    title: str,
    across: str = "",
    top: float | None = None,
    size: tuple[int, int] = (440, 300),
) -> U8:
    """Curves over named steps, evenly spaced; the vertical axis begins at 0.

    Args:
        lines: of as many values as there are `steps`.
        steps: labels of the horizontal axis.
        title: above the chart, with the unit of the values.
        across: what the steps are.
        top: of the vertical axis; by default a little above the largest value.
        size: width and height in pixels.
    """
    width, height = size
    legend = 20 * ((len(lines) + 1) // 2)
    x0, x1, y0, y1 = 52, width - 18, 34, height - 44 - legend
    largest = max((v for line in lines for v in line.values if np.isfinite(v)), default=0.0)
    ticks = _ticks(top if top is not None else largest)
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((x0, 8), title, fill=_INK, font=_font(15))

    def place(i: int, value: float) -> tuple[float, float]:
        x = x0 + (x1 - x0) * (i / max(len(steps) - 1, 1))
        return x, y1 - (y1 - y0) * min(value / ticks[-1], 1.05)

    for tick in ticks:
        y = place(0, tick)[1]
        draw.line((x0, y, x1, y), fill=_GRID)
        draw.text((x0 - 6, y), f"{tick:g}", fill=_INK, font=_font(12), anchor="rm")
    for i, step in enumerate(steps):
        draw.text((place(i, 0)[0], y1 + 5), step, fill=_INK, font=_font(12), anchor="ma")
    draw.text(((x0 + x1) / 2, y1 + 21), across, fill=_INK, font=_font(12), anchor="ma")
    for n, line in enumerate(lines):
        colour = _LINES[n % len(_LINES)]
        points = [place(i, v) if np.isfinite(v) else None for i, v in enumerate(line.values)]
        for a, b in zip(points, points[1:], strict=False):
            if a and b:
                _segment(draw, a, b, colour, dashed=line.dashed)
        for point in points:
            if point:
                draw.ellipse((point[0] - 3, point[1] - 3, point[0] + 3, point[1] + 3), fill=colour)
        x, y = x0 + (n % 2) * (x1 - x0) // 2, height - legend - 2 + 20 * (n // 2)
        _segment(draw, (x, y + 8), (x + 22, y + 8), colour, dashed=line.dashed)
        draw.text((x + 28, y + 8), line.name, fill=_INK, font=_font(12), anchor="lm")
    return np.array(image)


def grid(panels: Sequence[U8], *, columns: int = 3) -> U8:
    """Pictures in rows of `columns`, at least one, on white."""
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(p.shape[0] for p in row) for row in rows]
    width = max(sum(p.shape[1] for p in row) for row in rows)
    out = np.full((sum(heights), width, 3), 255, np.uint8)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for p in row:
            out[y : y + p.shape[0], x : x + p.shape[1]] = p
            x += p.shape[1]
        y += height
    return out


def colour(values: NDArray[np.floating], *, scheme: str = "viridis") -> U8:
    """`(..., 3)` uint8 colours of values in [0, 1]; `jet` as in the paper, or `viridis`, even to the eye."""
    x = np.clip(np.nan_to_num(np.asarray(values, np.float64)), 0, 1)
    if scheme == "jet":
        # three trapezia, a quarter of the range apart
        rgb = np.stack([np.clip(1.5 - np.abs(4 * x - c), 0, 1) for c in (3, 2, 1)], -1)
        return np.asarray(255 * rgb + 0.5).astype(np.uint8)
    place = x * (len(_VIRIDIS) - 1)
    low = np.minimum(place.astype(int), len(_VIRIDIS) - 2)
    share = (place - low)[..., None]
    return np.asarray(_VIRIDIS[low] * (1 - share) + _VIRIDIS[low + 1] * share + 0.5).astype(np.uint8)


def matrix(
    values: NDArray[np.floating], names: Sequence[str], *, title: str, scheme: str = "viridis", cell: int = 34
) -> U8:
    """A square matrix in [0, 1] as coloured cells; a ring marks the smallest of each row.

    Args:
        values: `(n, n)`.
        names: of rows and columns.
        title: above.
        scheme: of `colour`.
        cell: pixels.
    """
    n = len(values)
    left = 12 + max(int(_font(12).getlength(name)) for name in names)
    shown = np.kron(np.arange(n * n).reshape(n, n), np.ones((cell, cell), int))
    cells = colour(values, scheme=scheme).reshape(-1, 3)[shown]
    width = max(left + n * cell + 52, 30 + int(_font(14).getlength(title)))
    image = Image.new("RGB", (width, 36 + n * cell + 26), _PAPER)
    image.paste(Image.fromarray(cells), (left, 34))
    draw = ImageDraw.Draw(image)
    draw.text((8, 8), title, fill=_INK, font=_font(14))
    for i, name in enumerate(names):
        middle = 34 + cell * i + cell // 2
        draw.text((left - 6, middle), name, fill=_INK, font=_font(12), anchor="rm")
        below = (left + cell * i + cell // 2, 38 + n * cell)
        draw.text(below, str(i + 1), fill=_INK, font=_font(12), anchor="ma")
        x, y = left + cell * int(np.nanargmin(values[i])) + cell // 2, middle
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), outline=(255, 255, 255), width=4)
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline=(0, 0, 0), width=2)
    bar = colour(np.linspace(1, 0, n * cell)[:, None].repeat(12, 1), scheme=scheme)
    image.paste(Image.fromarray(bar), (left + n * cell + 10, 34))
    for value, y in ((1, 34), (0, 34 + n * cell)):
        draw.text((left + n * cell + 28, y), str(value), fill=_INK, font=_font(12), anchor="lm")
    return np.array(image)


def faces(rows: Sequence[Sequence[U8]], heads: Sequence[str], *, side: int = 128) -> U8:
    """Pictures in rows under common headings, each drawn `side` pixels wide and high."""
    image = Image.new("RGB", (len(heads) * (side + 6), 26 + len(rows) * (side + 6)), _PAPER)
    draw = ImageDraw.Draw(image)
    for i, head in enumerate(heads):
        draw.text((i * (side + 6) + side / 2, 5), head, fill=_INK, font=_font(12), anchor="ma")
        for j, row in enumerate(rows):
            small = Image.fromarray(row[i]).resize((side, side), Image.Resampling.BICUBIC)
            image.paste(small, (i * (side + 6), 26 + j * (side + 6)))
    return np.array(image)


def _segment(
    draw: ImageDraw.ImageDraw,
    a: tuple[float, float],
    b: tuple[float, float],
    colour_: tuple[int, int, int],
    *,
    dashed: bool,
) -> None:
    length = max(float(np.hypot(b[0] - a[0], b[1] - a[1])), 1.0)
    starts = np.arange(0, length, 10) if dashed else np.zeros(1)
    for start in starts:
        s, e = start / length, min((start + 6) / length, 1.0) if dashed else 1.0
        ends = [(a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])) for t in (s, e)]
        draw.line(ends, fill=colour_, width=2)


def _ticks(top: float) -> list[float]:
    """Round values from 0 to at least `top`, three to six of them."""
    top = top if top > 0 else 1.0
    step = 10.0 ** np.floor(np.log10(top))
    step = next(s for s in (step / 5, step / 4, step / 2, step, 2 * step) if top / s <= 5)
    return [round(float(step * i), 10) for i in range(int(np.ceil(top / step - 1e-9)) + 1)]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
