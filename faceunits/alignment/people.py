"""Who is who: what a face looks like, how alike two looks are, and which lost face has come back.

A look is a small colour picture of the crop and the identity code of the reading. It tells people apart
within one video, under one light, with one haircut; it is no biometric identification, and does not
outlive the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from faceunits.alignment.warp import apply, invert
from faceunits.types import Face

F32 = NDArray[np.float32]
T = TypeVar("T")

_GRID = 8
_IDENTITY = 0.8
"""Weight of the identity code beside the colours: the best of 0.3 to 1.2 on the portraits below."""

SAME = 0.10
"""Looks nearer than this are one person's. On 60 people photographed neutral and smiling under one light,
0.4 % of pairs of different people and 87 % of pairs of the same lie below."""

SAME_SOON = 0.16
"""The same for a face that was lost less than `SOON_S` ago, about where it was lost."""

SAME_HIDDEN = 0.45
"""The same for a face that was lost behind another one less than `HIDDEN_S` ago: what comes out from there
is still half covered, and looks like neither, but hardly is a stranger."""

SOON_S = 2.0
HIDDEN_S = 5.0
MARGIN = 0.02
"""By so much a look must be nearer to one person than to another."""

NEAR = 1.5
"""Faces whose middles are closer than this many face widths may be taken for each other."""
SAME_PLACE = 0.35
"""Tracks closer than this many face widths are on one face."""
SAME_FACE = 0.3
"""Intersection over union of a detected and a followed box of one face."""
PARTED_S = 1.0
"""So long after a meeting faces are still checked for a swap, and no look is learned."""

_MOST_LOOKS = 4
_MOST_PEOPLE = 500


def five(landmarks: F32) -> F32:
    """`(5, 2)` points of `types.FIVE_POINTS` from `(68, 2)` iBUG points, as the rig defines them.

    Fewer landmarks, as of networks of another kind, are taken to be the five points themselves.
    """
    p = landmarks
    if len(p) == 5:
        return p
    return np.stack([(p[36] + p[39]) / 2, (p[42] + p[45]) / 2, p[30], p[48], p[54]])


def look(crop: F32, identity: F32, inside: NDArray[np.bool_] | None = None) -> F32:
    """`(192 + D,)` from a crop `(3, S, S)` and its identity code `(D,)`; see `unlike`.

    `inside` `(8, 8)` says which parts of the crop lie in the picture; the others have no colour, NaN.
    """
    size = crop.shape[1] // _GRID * _GRID
    n = size // _GRID
    colours = crop[:, :size, :size].reshape(3, _GRID, n, _GRID, n).mean((2, 4))
    if inside is not None:
        colours[:, ~inside] = np.nan
    colours = colours.ravel()
    return np.concatenate([colours, identity]).astype(np.float32)


def inside(matrix: NDArray[np.float64], size: int, picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`(8, 8)` which parts of the crop `(2, 3)` of `size` pixels show the picture and not its border."""
    at = (np.arange(_GRID) + 0.5) * size / _GRID - 0.5
    x, y = np.moveaxis(apply(invert(matrix), np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)), -1, 0)
    height, width = picture.shape[:2]
    out: NDArray[np.bool_] = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return out.reshape(_GRID, _GRID)


def unlike(seen: F32, known: Sequence[F32]) -> float:
    """Distance of a look from the nearest of a person's looks; infinite for a person without any.

    Colours count where both have them; with fewer than half of them nothing is said.
    """
    if not len(known):
        return float("inf")
    n = 3 * _GRID**2
    apart = (np.stack(list(known)) - seen) ** 2
    shared = np.isfinite(apart[:, :n])
    colour = np.where(shared, apart[:, :n], 0).sum(1) / np.maximum(shared.sum(1), 1)
    distance = np.sqrt(colour) + _IDENTITY * np.sqrt(apart[:, n:].mean(1))
    return float(np.where(shared.sum(1) * 2 >= n, distance, np.inf).min())


def remember(known: list[F32], seen: F32) -> None:
    """Add a look to a person's: a new one if it is different, else the nearest moves a little towards it.

    One that lies partly beside the picture is kept only until there is a better one.
    """
    if known and np.isnan(known[0]).any():
        known.clear()
    if known and np.isnan(seen).any():
        return
    distances = [unlike(seen, [k]) for k in known]
    if not known or (min(distances) > SAME / 2 and len(known) < _MOST_LOOKS):
        known.append(seen)
        return
    i = int(np.argmin(distances))
    known[i] = (known[i] + np.float32(0.05) * (seen - known[i])).astype(np.float32)


@dataclass(frozen=True)
class Missing:
    """A lost face: its looks, its last box `(4,)`, how long it is gone, and if another was near."""

    looks: Sequence[F32]
    box: F32
    gone_s: float
    is_behind: bool = False


def recognise(
    faces: Sequence[tuple[F32, Face]], missing: Sequence[Missing], present: Sequence[Sequence[F32]]
) -> list[int | None]:
    """For each new face which of the missing it is, or None.

    Careful: a person given two numbers is easier to mend than two people given one. A face must be like
    its person, more so than like any other missing one, and than like anybody who is present.
    """
    pairs = []
    for i, (seen, face) in enumerate(faces):
        distances = [unlike(seen, m.looks) for m in missing]
        others = min((unlike(seen, p) for p in present), default=float("inf"))
        for j, m in enumerate(missing):
            limit = _limit(m, face)
            rivals = min((d for k, d in enumerate(distances) if k != j), default=float("inf"))
            margin = MARGIN if limit == SAME else 0.0
            if distances[j] < min(limit, others, rivals - margin):
                pairs.append((distances[j], i, j))
    out: list[int | None] = [None] * len(faces)
    for _, i, j in sorted(pairs):
        if out[i] is None and j not in out:
            out[i] = j
    return out


def _limit(missing: Missing, face: Face) -> float:
    """How unlike its person a face may be."""
    if not _is_close(face.box, missing.box):
        return SAME
    if missing.is_behind and missing.gone_s < HIDDEN_S:
        return SAME_HIDDEN
    return SAME_SOON if missing.gone_s < SOON_S else SAME


def _is_close(a: F32, b: F32) -> bool:
    apart = float(np.hypot(*((a[:2] + a[2:] / 2) - (b[:2] + b[2:] / 2))))
    return apart < 3 * float(max(a[2], b[2]))


def overlap(a: Face, b: Face) -> float:
    """Intersection over union of two boxes."""
    low = np.maximum(a.box[:2], b.box[:2])
    high = np.minimum(a.box[:2] + a.box[2:], b.box[:2] + b.box[2:])
    shared = float(np.clip(high - low, 0, None).prod())
    return shared / max(float(a.box[2:].prod() + b.box[2:].prod()) - shared, 1e-9)


def distance_in_faces(a: Face, b: Face) -> float:
    """Distance of two faces' middles in widths of the wider one."""
    apart = a.points.mean(0) - b.points.mean(0)
    return float(np.hypot(*apart)) / max(float(a.box[2]), float(b.box[2]), 1e-9)


def recent(people: list[T], seen_s: Callable[[T], float]) -> list[T]:
    """The list, or the most recently seen of a crowd, so that memory stays bounded."""
    if len(people) <= _MOST_PEOPLE:
        return people
    kept = {id(p) for p in sorted(people, key=seen_s)[-_MOST_PEOPLE:]}
    return [p for p in people if id(p) in kept]
