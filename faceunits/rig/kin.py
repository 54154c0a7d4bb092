"""More skins than there are portraits: people mixed place by place, as relatives share their looks.

A network that has seen sixty-odd real skins knows them by heart. In a skin of `mixed` some places are one
person's and some another's, on one tone, with borders that fade: brows of one, cheeks of the other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from faceunits.rig import spline
from faceunits.rig.atlas import TILE
from faceunits.rig.shape import FaceModel
from faceunits.rig.skin import Skin

F64 = NDArray[np.float64]

ANCHORS = 400
"""Vertices that tie one person's atlas to another's."""
STEP = 8
"""The map between two atlases is solved at every 8th pixel."""


def mixed(rng: np.random.Generator, model: FaceModel, a: Skin, b: Skin) -> Skin:
    """A skin in the atlas of `a`, with the tone of `a`, in which random places show `b`."""
    height, width = a.photo.shape[:2]
    face = height - TILE
    other = _placed_as(model, a, b, (face, width)) * (a.color / np.maximum(b.color, 0.02))
    share = _patches(rng, (face, width))[..., None]
    photo = a.photo.astype(np.float64)
    photo[:face] += share * (other - photo[:face])
    if rng.random() < 0.5:  # both eyes are one person's
        photo[face:, : 2 * TILE] = b.photo[-TILE:, : 2 * TILE]
    t = rng.random()
    return replace(
        a, name=f"{a.name}+{b.name}", photo=np.clip(photo + 0.5, 0, 255).astype(np.uint8),
        identity=((1 - t) * a.identity + t * b.identity).astype(np.float32), gender="", ethnicity="",
        hair_color=b.hair_color if rng.random() < 0.5 else a.hair_color,
    )  # fmt: skip


def _placed_as(model: FaceModel, a: Skin, b: Skin, shape: tuple[int, int]) -> F64:
    """`(h, w, 3)` the colours of `b` where `a` has the same place of the face."""
    marks = model.landmarks
    front = np.flatnonzero((model.vert_geometry == 0) & (a.visible > 0.5) & (model.neutral[:, 2] > -6))
    spread = front[:: max(1, len(front) // ANCHORS)]
    source, goal = (np.concatenate([s.coords[spread], s.coords[marks]]).astype(np.float64) for s in (a, b))
    move = spline.mover(source, goal, apart=1, smoothing=1e-3)
    rows, columns = np.arange(0, shape[0] + STEP, STEP), np.arange(0, shape[1] + STEP, STEP)
    grid = np.stack(np.meshgrid(columns, rows), -1).astype(np.float64)
    coarse = move(grid.reshape(-1, 2)).reshape(grid.shape)
    y, x = np.mgrid[: shape[0], : shape[1]] / STEP
    at = [ndimage.map_coordinates(coarse[..., k], [y, x], order=1) for k in (1, 0)]
    at[0] = np.minimum(at[0], len(b.photo) - TILE - 1)  # never down into the eyeballs
    planes = [ndimage.map_coordinates(b.photo[..., c], at, np.float64, 1, mode="nearest") for c in range(3)]
    return np.stack(planes, -1)


def _patches(rng: np.random.Generator, shape: tuple[int, int]) -> F64:
    """`(h, w)` in [0, 1]: smooth patches some eyes apart, sharing a random part of the face."""
    noise = rng.normal(size=(9, 9))
    if rng.random() < 0.7:  # faces are mostly alike on both sides
        noise = (noise + noise[:, ::-1]) / np.sqrt(2)
    noise = ndimage.zoom(noise, (shape[0] / 9, shape[1] / 9), order=3)
    return np.asarray(np.clip(0.5 + 1.2 * noise + rng.uniform(-0.6, 0.6), 0, 1))


def family(model: FaceModel, people: list[Skin], count: int, *, seed: int = 0) -> list[Skin]:
    """The people, then `count` skins mixed of two of them each."""
    rng = np.random.default_rng(seed)
    pairs = [rng.choice(len(people), 2, replace=False) for _ in range(count)]
    return people + [mixed(rng, model, people[int(i)], people[int(j)]) for i, j in pairs]
