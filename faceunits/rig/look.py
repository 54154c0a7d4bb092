"""How a face looks: colours, light, and what stands in front of and behind it.

`plain` is the one fixed look that generator M imitates (the "game" look of GE-Net); `varied` draws
a look at random over the human range, for the networks that must read photos.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from faceunits.rig.skin import Skin

F32 = NDArray[np.float32]


def rgb(*values: float) -> F32:
    return np.array(values, np.float32)


@dataclass(frozen=True)
class Look:
    """Albedo and painted detail; colours are linear-ish RGB in [0, 1], lengths in cm."""

    skin: F32 = field(default_factory=lambda: rgb(0.80, 0.60, 0.50))
    lip: F32 = field(default_factory=lambda: rgb(0.66, 0.33, 0.32))
    brow: F32 = field(default_factory=lambda: rgb(0.24, 0.15, 0.10))
    hair: F32 = field(default_factory=lambda: rgb(0.20, 0.13, 0.09))
    iris: F32 = field(default_factory=lambda: rgb(0.30, 0.40, 0.50))
    sclera: F32 = field(default_factory=lambda: rgb(0.86, 0.84, 0.82))
    teeth: F32 = field(default_factory=lambda: rgb(0.88, 0.85, 0.78))
    mouth: F32 = field(default_factory=lambda: rgb(0.40, 0.14, 0.13))
    redness: float = 0.0  # of cheeks and nose
    under_eye: float = 0.0  # darkness below the eyes
    beard: float = 0.0  # 0 none .. 1 dense
    brow_density: float = 0.9
    brow_shift: float = 0.0  # > 0 thicker
    hair_shift: float = 0.0  # > 0 lower hair line
    lash: float = 0.7  # darkness of the lid rims
    noise: float = 0.0  # strength of skin texture
    wrinkle: float = 0.0  # darkening where the skin is compressed
    folds: tuple[float, ...] = ()  # darkness of each of `FOLDS`, which the skin keeps at rest
    fold_edge: float = 1.0  # > 1 narrower
    pupil: float = 0.045
    mouth_shade: float = 0.0  # how much nearly closed lips keep the light out
    noise_seed: int = 0
    real: Skin | None = None  # a real person's pixels instead of the painted skin
    real_eyes: bool = False
    real_gain: F32 = field(default_factory=lambda: rgb(1, 1, 1))


FOLDS: dict[str, tuple[str, ...]] = {
    "nasolabial": ("mouthSmile",), "crow's feet": ("cheekRaiser", "eyeSquint"), "frown": ("browDown",),
    "nose": ("noseSneer",), "forehead": ("browInnerUp", "browOuterUp"), "chin": ("mouthShrugLower",),
}  # fmt: skip
"""Folds that older skin keeps, each where these shapes compress it."""


@dataclass(frozen=True)
class Light:
    """Ambient light and directional lamps; directions point from the face to the lamp."""

    ambient: F32 = field(default_factory=lambda: rgb(0.55, 0.55, 0.55))
    directions: F32 = field(default_factory=lambda: np.array([[0.25, 0.45, 0.85]], np.float32))
    colors: F32 = field(default_factory=lambda: np.array([[0.55, 0.55, 0.55]], np.float32))
    specular: float = 0.10
    gloss: float = 16.0
    shadow: float = 0.0  # share of the first lamp that is lost in its cast shadow


PLAIN = Look()
PLAIN_LIGHT = Light()


def varied(rng: np.random.Generator, skins: list[Skin] | None = None) -> Look:
    """A random look; with `skins`, two faces of three wear a real person's skin."""
    skin = _skin_tone(rng)
    dark = 1 - float(skin.mean())
    hair = _hair_color(rng, dark)
    lip = skin * rgb(*rng.uniform((0.75, 0.45, 0.45), (1.0, 0.8, 0.8)))
    if rng.random() < 0.15:  # lipstick
        lip = rgb(rng.uniform(0.4, 0.8), rng.uniform(0.02, 0.3), rng.uniform(0.05, 0.35))
    look = Look(
        skin=skin, lip=lip, hair=hair,
        brow=np.clip(hair * rng.uniform(0.5, 1.1) + rng.uniform(-0.03, 0.03), 0.01, 1).astype(np.float32),
        iris=_iris_color(rng), sclera=rgb(*(rng.uniform(0.65, 0.95) * rng.uniform(0.92, 1, 3))),
        teeth=rgb(*(rng.uniform(0.65, 1) * np.array([1, 0.97, rng.uniform(0.78, 0.96)]))),
        mouth=rgb(rng.uniform(0.2, 0.5), rng.uniform(0.05, 0.2), rng.uniform(0.05, 0.2)),
        redness=rng.uniform(0, 0.35), under_eye=rng.uniform(0, 0.3),
        beard=float(rng.random() < 0.25) * rng.uniform(0.15, 1),
        brow_density=rng.uniform(0.35, 1), brow_shift=rng.uniform(-0.08, 0.08),
        hair_shift=rng.uniform(-1.1, 0.9), lash=rng.uniform(0.1, 1), noise=rng.uniform(0, 0.2),
        wrinkle=rng.uniform(0, 1), pupil=rng.uniform(0.03, 0.075), mouth_shade=rng.uniform(0.3, 1),
        noise_seed=int(rng.integers(1 << 30)),
    )  # fmt: skip
    if skins and rng.random() < 0.66:
        person = skins[int(rng.integers(len(skins)))]
        gain = rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)
        look = replace(look, real=person, real_eyes=bool(rng.random() < 0.5), real_gain=rgb(*gain),
                       beard=look.beard * float(rng.random() < 0.3), skin=person.color * rgb(*gain),
                       brow_shift=0.0, noise=look.noise * 0.5,
                       hair=look.hair if rng.random() < 0.4 else person.hair_color)  # fmt: skip
    return look


def recoloured(rng: np.random.Generator, look: Look) -> Look:
    """A real skin on another tone of the human range; painted skins have one already.

    The gain stays within what turns pores and brows neither to black nor to white.
    """
    if look.real is None:
        return look
    gain = np.clip(_skin_tone(rng) / np.maximum(look.real.color, 0.05), 0.35, 1.7).astype(np.float32)
    hair = look.hair if rng.random() < 0.5 else look.hair * gain.min()
    return replace(look, real_gain=gain, skin=look.real.color * gain, hair=hair.astype(np.float32))


def folded(rng: np.random.Generator, look: Look) -> Look:
    """A face with folds that stay at rest, as older people have: they are no sign of a muscle at work."""
    age = rng.uniform(0.3, 1)
    folds = tuple(float(age * rng.uniform(0, 0.6) * (rng.random() < 0.7)) for _ in FOLDS)
    eyes = max(look.under_eye, age * rng.uniform(0, 0.35))
    return replace(look, folds=folds, fold_edge=float(np.exp(rng.uniform(-0.3, 1.4))), under_eye=eyes)


def ita_deg(skin: NDArray[np.floating]) -> float:
    """Individual typology angle of a skin's colour `(3,)`, sRGB values in [0, 1]: degrees, + light.

    atan2(L* - 50, b*) in CIELAB under D65: above 55 very light, below -30 dark. Of a real person's skin the
    colour is the median of a portrait's, in that portrait's light, so that it orders people of one set
    rather than measures their skin.

    Source: Chardon, Cretois, Hourseau 1991, "Skin colour typology and suntanning pathways".
    """
    x = np.asarray(skin, np.float64)
    light = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ light
    share = xyz / (0.9505, 1.0, 1.089)
    _, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return float(np.degrees(np.arctan2(116 * y - 66, 200 * (y - z))))


def _skin_tone(rng: np.random.Generator) -> F32:
    """Along measured skin reflectances, from very fair to very dark (sRGB-like values)."""
    stops = np.array([[0.93, 0.78, 0.70], [0.87, 0.68, 0.56], [0.76, 0.56, 0.42],
                      [0.60, 0.41, 0.28], [0.43, 0.28, 0.19], [0.26, 0.16, 0.11]])  # fmt: skip
    t = rng.uniform(0, len(stops) - 1)
    i = min(int(t), len(stops) - 2)
    tone = stops[i] + (t - i) * (stops[i + 1] - stops[i])
    return rgb(*np.clip(tone * rng.uniform(0.94, 1.06, 3), 0.05, 1))


def _hair_color(rng: np.random.Generator, dark: float) -> F32:
    stops = np.array([[0.05, 0.04, 0.04], [0.16, 0.10, 0.07], [0.34, 0.21, 0.13],
                      [0.62, 0.47, 0.29], [0.45, 0.18, 0.08], [0.70, 0.69, 0.68]])  # fmt: skip
    weights = np.array([0.25 + dark, 0.35, 0.25, 0.15 * (1 - dark), 0.08 * (1 - dark), 0.15])
    choice = stops[rng.choice(len(stops), p=weights / weights.sum())]
    return rgb(*np.clip(choice * rng.uniform(0.7, 1.3) + rng.uniform(-0.02, 0.02, 3), 0.01, 1))


def _iris_color(rng: np.random.Generator) -> F32:
    stops = np.array([[0.16, 0.09, 0.05], [0.30, 0.19, 0.10], [0.35, 0.38, 0.22], [0.33, 0.45, 0.58]])
    choice = stops[rng.choice(4, p=[0.45, 0.25, 0.12, 0.18])]
    return rgb(*np.clip(choice * rng.uniform(0.6, 1.4), 0.02, 1))


def varied_light(rng: np.random.Generator) -> Light:
    """Ambient plus one to three lamps, from flat to hard side light, slightly coloured."""
    count = int(rng.integers(1, 4))
    key = np.array([rng.normal(0, 0.8), rng.normal(0.4, 0.6), rng.uniform(0.25, 1.2)])
    others = np.stack([[rng.normal(0, 1), rng.normal(0.2, 0.7), rng.uniform(-0.1, 1)] for _ in range(2)])
    directions = np.concatenate([key[None], others])[:count]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    strength = rng.uniform(0.1, 0.75, count) * np.array([1, 0.5, 0.4])[:count]
    colors = strength[:, None] * rng.uniform(0.9, 1.1, (count, 3))
    ambient = max(0.2, rng.uniform(0.75, 1.1) - strength.sum() * 0.6) * rng.uniform(0.95, 1.05, 3)
    return Light(
        ambient=rgb(*ambient), directions=directions.astype(np.float32), colors=colors.astype(np.float32),
        specular=rng.uniform(0, 0.35), gloss=rng.uniform(6, 40),
        shadow=float(rng.random() < 0.6) * rng.uniform(0.3, 0.9),
    )  # fmt: skip
