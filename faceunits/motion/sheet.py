"""Edited faces side by side, each with its caption."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

U8 = NDArray[np.uint8]


def grid(
    pictures: list[U8],
    captions: list[str],
    square: tuple[int, int, int],
    *,
    side: int = 320,
    columns: int = 6,
) -> U8:
    """Sheet `(H, W, 3)` of the same part of several pictures.

    Args:
        pictures: `(H, W, 3)` uint8, of one size.
        captions: a line under each.
        square: x, y and size of the part, pixels; what lies beyond the picture is grey.
        side: of a face on the sheet, pixels.
        columns: faces side by side at most.
    """
    columns = min(columns, len(pictures))
    rows, strip = math.ceil(len(pictures) / columns), max(14, side // 12)
    page = Image.new("RGB", (columns * side, rows * (side + strip)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(strip * 0.7)
    x0, y0, size = square
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        part = Image.new("RGB", (size, size), (128, 128, 128))
        part.paste(Image.fromarray(picture), (-x0, -y0))
        x, y = i % columns * side, i // columns * (side + strip)
        page.paste(part.resize((side, side), Image.Resampling.LANCZOS), (x, y))
        pen.text((x + side / 2, y + side + strip / 2), caption, fill="black", font=font, anchor="mm")
    return np.asarray(page)
