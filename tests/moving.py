"""Small videos of coloured squares that move, with a detector and a reading that know them.

A person is a square whose red is 210, 230 or 250; the other two channels carry a hue of its own and a
pattern to hold on to. What hides a part of a square hides its pixels, as with faces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import stand_ins
from numpy.typing import NDArray

from faceunits import estimation, fitting
from faceunits.types import Face, Reading

U8 = NDArray[np.uint8]
LEVELS = (210, 230, 250)
HUES = {210: (40, 160), 230: (160, 40), 250: (110, 110)}
SHARE = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])
"""The five points in a square of side 1."""


def square(level: int, side: int) -> U8:
    """A person's square: eyes and mouth darker in green and blue."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    pattern = np.zeros((side, side))
    for at in SHARE:
        pattern += np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 0.004)
    pattern = 1 - 0.6 * np.clip(pattern, 0, 1)
    out = np.full((side, side, 3), level, np.uint8)
    for channel, value in zip((1, 2), HUES[level], strict=True):
        out[..., channel] = value * pattern
    return out


def scene(*people: tuple[int, int, int, int], size: tuple[int, int] = (120, 240)) -> U8:
    """Grey with squares (x, y, side, level), later ones in front; outside the picture they are cut."""
    out = np.full((*size, 3), 60, np.uint8)
    for x, y, side, level in people:
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, size[1]), min(y + side, size[0])
        if x1 > x0 and y1 > y0:
            out[y0:y1, x0:x1] = square(level, side)[y0 - y : y1 - y, x0 - x : x1 - x]
    return out


class Detector:
    """Finds squares of which most is to be seen; counts how often it is asked."""

    def __init__(self) -> None:
        self.looks = self.second_looks = 0

    def __call__(self, picture: U8) -> list[Face]:
        self.looks += 1
        return _faces(picture)

    def refine(self, picture: U8, faces: list[Face]) -> list[Face]:
        self.second_looks += len(faces)
        out = []
        for face in faces:
            x, y = np.clip(face.points.mean(0).round().astype(int), 0, np.array(picture.shape[1::-1]) - 1)
            out.append(replace(face, score=0.9 if picture[y, x, 0] > 200 else 0.01))
        return out


def _faces(picture: U8) -> list[Face]:
    faces = []
    for level in LEVELS:
        ys, xs = np.nonzero(np.abs(picture[..., 0].astype(int) - level) < 6)
        if len(ys) < 100:
            continue
        # robust against the blended borders of other squares
        x0, x1 = np.percentile(xs, [1, 99])
        y0, y1 = np.percentile(ys, [1, 99])
        side = float(max(x1 - x0, y1 - y0)) / 0.98
        if len(ys) < 0.6 * side**2:
            continue
        corner = np.array([(x0 + x1 - side) / 2, (y0 + y1 - side) / 2])
        box = np.array([*corner, side, side], np.float32)
        faces.append(Face(box, (corner + SHARE * side).astype(np.float32), 0.9))
    return faces


def read(crops: NDArray[np.float32], models: object) -> Reading:
    """The person in the middle of each crop: its points, and its level above 200 as AU12."""
    whole = stand_ins.fit(crops, stand_ins.StandInModels())
    points = np.full((len(crops), 5, 2), crops.shape[-1] / 2, np.float32)
    for i, crop in enumerate(crops):
        size = crop.shape[-1]
        best = 0.0
        y, x = np.mgrid[:size, :size]
        middle = np.exp(-((x - size / 2) ** 2 + (y - size / 2) ** 2) / (2 * (size / 6) ** 2))
        for level in LEVELS:
            mask = np.abs(crop[0] * 255 - level) < 6
            if mask.sum() > 0.1 * mask.size and (mask * middle).sum() > best:
                best = float((mask * middle).sum())
                at = np.stack(np.nonzero(mask)[::-1], -1)
                side = at.std(0) * np.sqrt(12)  # of an even spread
                points[i] = at.mean(0) + (SHARE - 0.5) * side
    names = [n for n in Reading.__dataclass_fields__ if n != "landmarks"]
    return Reading(**{n: getattr(whole, n) for n in names}, landmarks=points)


def install(patch: pytest.MonkeyPatch) -> Detector:
    """Put the stand-ins in the place of the networks."""
    stand_ins.install(patch)
    detector = Detector()
    patch.setattr(estimation, "detector", lambda: detector)
    patch.setattr(fitting, "read", read)
    return detector


def write(
    path: Path, pictures: Iterable[U8], *, times_s: Sequence[float] | None = None, codec: str = "ffv1",
    pixels: str = "bgr0", turn_deg: int = 0, flip: bool = False, options: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """A video of these pictures, without loss unless another codec is asked for; 25 per second."""
    ticks = 25 if path.suffix == ".avi" else 1000  # AVI has no times, only numbers
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, ticks)
        if turn_deg or flip:
            stream.set_display_rotation(turn_deg, hflip=flip)
        for i, picture in enumerate(pictures):
            if not i:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = round(ticks * (times_s[i] if times_s else i / 25))
            frame.time_base = Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
