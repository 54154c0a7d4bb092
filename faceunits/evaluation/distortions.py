"""What may happen to a photo: light, blur, noise, compression, size, cover, colour, tilt.

Each takes a picture `(H, W, 3)` uint8, the box of its face and a strength, and gives a picture of the
same size. Lengths are shares of the face's width, so that photos of any size are treated alike.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Apply = Callable[[U8, F32, float, np.random.Generator], U8]


@dataclass(frozen=True)
class Distortion:
    """`strengths` grow from weak to strong; `unit` says what they count."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    apply: Apply


def _linear(picture: U8) -> F32:
    """Amount of light in [0, 1], from sRGB values."""
    x = picture.astype(np.float32) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _encoded(light: F32) -> U8:
    x = np.clip(light, 0, 1)
    return _eight(255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055))


def _eight(values: NDArray[np.floating]) -> U8:
    return np.asarray(np.clip(values + 0.5, 0, 255)).astype(np.uint8)


def darken(picture: U8, box: F32, stops: float, rng: np.random.Generator) -> U8:
    """Half the light per stop; each value is rounded, so that the shadows lose their steps."""
    return _encoded(_linear(picture) * np.float32(2**-stops))


def brighten(picture: U8, box: F32, stops: float, rng: np.random.Generator) -> U8:
    """Twice the light per stop; what is too bright stays white."""
    return _encoded(_linear(picture) * np.float32(2**stops))


def side_light(picture: U8, box: F32, stops: float, rng: np.random.Generator) -> U8:
    """The image's right side of the face loses `stops` of light, the left none, evenly in between."""
    x = (np.arange(picture.shape[1]) - box[0]) / max(float(box[2]), 1.0)
    gain = 2.0 ** (-stops * np.clip(x, 0, 1))
    return _encoded(_linear(picture) * gain[None, :, None].astype(np.float32))


def blur(picture: U8, box: F32, percent: float, rng: np.random.Generator) -> U8:
    """Gaussian, standard deviation in percent of the face's width."""
    radius = float(box[2]) * percent / 100
    return np.array(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def noise(picture: U8, box: F32, sigma: float, rng: np.random.Generator) -> U8:
    """Gaussian, of its own in every pixel and channel, standard deviation of 255."""
    return _eight(picture + rng.normal(0, sigma, picture.shape))


def jpeg(picture: U8, box: F32, quality_lost: float, rng: np.random.Generator) -> U8:
    """JPEG of quality 100 less the strength."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=round(100 - quality_lost))
    return np.array(Image.open(file).convert("RGB"))


def shrink(picture: U8, box: F32, width: float, rng: np.random.Generator) -> U8:
    """A face of `width` pixels, blown up again to the old size."""
    height, wide = picture.shape[:2]
    factor = min(1.0, width / max(float(box[2]), 1.0))
    size = (max(1, round(wide * factor)), max(1, round(height * factor)))
    small = Image.fromarray(picture).resize(size, Image.Resampling.BOX)
    return np.array(small.resize((wide, height), Image.Resampling.BICUBIC))


def cover_below(picture: U8, box: F32, percent: float, rng: np.random.Generator) -> U8:
    """A grey sheet over the lowest `percent` of the face, as a mask or a hand is."""
    x, y, w, h = (float(v) for v in box)
    return _filled(picture, x - 0.1 * w, y + h * (1 - percent / 100), 1.2 * w, h * percent / 100 + 0.1 * h)


def cover_side(picture: U8, box: F32, percent: float, rng: np.random.Generator) -> U8:
    """A grey sheet over `percent` of the face from the image's left."""
    x, y, w, h = (float(v) for v in box)
    return _filled(picture, x - 0.1 * w, y - 0.1 * h, w * (percent / 100 + 0.1), 1.2 * h)


def _filled(picture: U8, x: float, y: float, width: float, height: float) -> U8:
    out = picture.copy()
    x0, y0 = max(0, round(x)), max(0, round(y))
    out[y0 : max(0, round(y + height)), x0 : max(0, round(x + width))] = 127
    return out


def grey(picture: U8, box: F32, percent: float, rng: np.random.Generator) -> U8:
    """So much of the colour taken away."""
    light = picture @ np.array([0.299, 0.587, 0.114])
    share = percent / 100
    return _eight(picture * (1 - share) + light[..., None] * share)


def warm(picture: U8, box: F32, percent: float, rng: np.random.Generator) -> U8:
    """More red and less blue light by so much, as under lamps at home."""
    share = percent / 100
    return _encoded(_linear(picture) * np.array([1 + share, 1, 1 - share], np.float32))


def cool(picture: U8, box: F32, percent: float, rng: np.random.Generator) -> U8:
    """More blue and less red light by so much, as in the shade."""
    share = percent / 100
    return _encoded(_linear(picture) * np.array([1 - share, 1, 1 + share], np.float32))


def contrast(picture: U8, box: F32, percent: float, rng: np.random.Generator) -> U8:
    """Values driven away from the picture's mean by so much, as a filter of an app does."""
    mean = picture.mean()
    return _eight(mean + (picture - mean) * (1 + percent / 100))


def tilt(picture: U8, box: F32, degrees: float, rng: np.random.Generator) -> U8:
    """Turned about the middle of the face, clockwise; beyond the border the edge repeats."""
    middle = (float(box[0] + box[2] / 2), float(box[1] + box[3] / 2))
    pad = max(picture.shape[:2]) // 2
    wide = Image.fromarray(np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode="edge"))
    turned = wide.rotate(
        -degrees, Image.Resampling.BICUBIC, center=(middle[0] + pad, middle[1] + pad)
    )  # fmt: skip
    return np.array(turned)[pad:-pad, pad:-pad]


ALL = (
    Distortion("dark", "stops less light", (1, 2, 3, 4), darken),
    Distortion("bright", "stops more light", (0.5, 1, 1.5, 2), brighten),
    Distortion("side light", "stops less on one side", (1, 2, 3, 4), side_light),
    Distortion("blur", "sigma, % of the face's width", (1, 2, 3, 5), blur),
    Distortion("noise", "sigma, of 255", (5, 10, 20, 40), noise),
    Distortion("JPEG", "100 - quality", (40, 70, 85, 95), jpeg),
    Distortion("low resolution", "face width, pixels", (96, 64, 48, 32), shrink),
    Distortion("cover below", "% of the face's height", (15, 30, 45, 55), cover_below),
    Distortion("cover side", "% of the face's width", (10, 20, 35, 50), cover_side),
    Distortion("grey", "% of the colour lost", (25, 50, 75, 100), grey),
    Distortion("warm", "% more red, less blue", (15, 30, 45, 60), warm),
    Distortion("cool", "% more blue, less red", (15, 30, 45, 60), cool),
    Distortion("contrast", "% more contrast", (25, 50, 100, 150), contrast),
    Distortion("tilt", "degrees in the image", (10, 20, 30, 45), tilt),
)
"""In the order of GE-Net's Figure 10, as far as it goes: light, quality, cover, style, pose."""
