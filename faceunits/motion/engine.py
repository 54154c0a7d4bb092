"""Geometry-guided editing: the photo's own pixels are moved as the muscles would move them.

    y, y' ─ mesh ─► where points are and will be ─ face ─► laid upon the photo ─ draw ─► skin moved
                                                              └─ mouth, eyes ─► what comes into view

The change is applied, never a reconstruction: where nothing moves, nothing changes, and outside the head
no pixel does. Convention: points (x, y) pixels of the photo; left and right are the subject's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from faceunits.alignment import warp
from faceunits.motion import draw, face, inside
from faceunits.networks.mesh import Mesh
from faceunits.rig import raster

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

LIGHT = np.array([0.0, 0.5, 0.866], np.float32)
"""Where light is taken to come from when skin turns: above the camera."""
AMBIENT = 0.45
CREASE = 0.6
"""How much darker skin becomes that shrinks to nothing."""
ROLLED = 0.45
"""How much darker than their outside the inside of the lips is."""
DEEPEST = 0.1
"""No fold is darker than this: wrinkles are finer than the mesh, and a broad shade looks like dirt."""
SKIRT_ROWS = 8


@dataclass(frozen=True)
class Stage:
    """A photo with a mesh laid upon one of its faces; `draw` gives it another expression.

    `picture` `(H, W, C)` uint8; `matrix` `(2, 3)` from the photo to the crop.
    """

    picture: U8
    matrix: F64
    laid: face.Laid

    @cached_property
    def back(self) -> F64:
        """`(2, 3)` from the crop to the photo."""
        return warp.invert(self.matrix)

    @cached_property
    def triangles(self) -> I32:
        """Skin, and the skirt below the jaw, whose points come after the mesh's."""
        jaw = len(self.laid.array("jaw"))
        first = np.concatenate([self.laid.array("jaw"), self._skirt_start + np.arange(SKIRT_ROWS * jaw)])
        grid = first.reshape(SKIRT_ROWS + 1, jaw)
        a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
        quads = np.stack([np.stack([a, b, c], -1), np.stack([b, d, c], -1)]).reshape(-1, 3)
        both = np.concatenate([quads, quads[:, ::-1]])  # whichever way it faces
        skin = face.skin_triangles(self.laid.mesh)
        return np.ascontiguousarray(np.concatenate([skin, both]), np.int32)

    @cached_property
    def firm(self) -> int:
        """How many of the triangles are skin."""
        return len(face.skin_triangles(self.laid.mesh))

    @cached_property
    def _skirt_start(self) -> int:
        return len(self.laid.shape.points)

    @cached_property
    def pixels_per_cm(self) -> float:
        """Of the photo, at the face."""
        return self.laid.size / warp.CROP_CM / float(warp.scale(self.matrix))

    def photo_points(self, shape: face.Shape) -> F64:
        """`(K + skirt, 2)` pixels of the photo."""
        now = self.laid.shape.points
        jaw = self.laid.array("jaw")
        moved = shape.points[jaw] - now[jaw]
        reach = face.SKIRT_CM * self.laid.size / warp.CROP_CM
        rows = []
        for k in range(1, SKIRT_ROWS + 1):
            share = k / SKIRT_ROWS
            still = now[jaw] + np.array([0.0, share * reach])
            rows.append(still + (1 - face.smooth(np.array(share))) * moved)
        return warp.apply(self.back, np.concatenate([shape.points, *rows]))

    @cached_property
    def square(self) -> tuple[int, int, int]:
        """x, y and size of a square that holds the mesh in every expression."""
        points = self.photo_points(self.laid.shape)
        low, high = np.floor(points.min(0)) - 3, np.ceil(points.max(0)) + 3
        return int(low[0]), int(low[1]), int((high - low).max()) + 1

    @cached_property
    def skin_now(self) -> NDArray[np.bool_]:
        """`(n, n)` samples of the square that the skin covers in the photo."""
        now, (x0, y0, size) = self.laid.shape, self.square
        index, _ = draw.visible(
            self.photo_points(now), self.depth(now), self.triangles, (x0, y0), size, firm=self.firm
        )
        return index >= 0

    @cached_property
    def covered(self) -> NDArray[np.bool_]:
        """`(n, n)` the same with the openings of eyes and mouth."""
        return self.skin_now | inside.openings(self)

    def source(self, shape: face.Shape) -> F64:
        """`(V, 2)` where each point's colour is in the photo; the lips' inside takes that of the outside."""
        laid = self.laid
        points = self.photo_points(laid.shape)
        lash = face.LASH_CM * laid.size / warp.CROP_CM
        count = len(laid.shape.points)
        points[:count] = warp.apply(self.back, face.lash_source(laid, shape, lash))
        roll = laid.array("roll").astype(int)
        share = np.where(roll != np.arange(count), self._closed, 0.0)[:, None]
        points[:count] += share * (points[roll] - points[:count])
        return points

    @cached_property
    def _closed(self) -> float:
        """1 where the lips meet in the photo, 0 where the mouth is open."""
        at = self.laid.shape.points[self.laid.array("landmarks")]
        gap = float(np.mean([at[low, 1] - at[up, 1] for up, low in face.LIPS]))
        return 1 - float(face.smooth(np.array((gap - 1.0) / 1.5)))

    def depth(self, shape: face.Shape) -> F32:
        """`(V,)` of mesh and skirt; the skirt lies behind the jaw."""
        jaw = shape.solid[self.laid.array("jaw"), 2]
        return np.concatenate([shape.solid[:, 2], np.tile(jaw - 0.5, SKIRT_ROWS)]).astype(np.float32)

    def draw(self, y: F32, *, lips: float | None = None) -> U8:
        """The photo with other action units.

        Args:
            y: `(P,)` parameters; pose and identity are those of the photo.
            lips: change of the opening between the lips, as in `face.reshape`; as y says when None.
        """
        if np.array_equal(y, self.laid.y) and lips in (None, 0.0):
            return self.picture.copy()
        shape = face.reshape(self.laid, y, lips=lips)
        x0, y0, size = self.square
        points, depth = self.photo_points(shape), self.depth(shape)
        index, bary = draw.visible(points, depth, self.triangles, (x0, y0), size, firm=self.firm)
        index[~self.covered] = -1  # what is no face now stays what it is
        hole, inner = inside.show(self, shape, points, index)
        light = np.ones(len(points), np.float32)
        light[: len(shape.points)] = self._light(shape)
        source = self.source(shape)
        still = (np.abs(points - source).max(1) < 1e-3) & (np.abs(light - 1) < 1e-3)
        index[still[self.triangles].all(1)[index] & (index >= 0)] = -1  # shows itself
        part = draw.compose(self.picture, x0, y0, index, bary, self.triangles, source, light, hole, inner)
        return self._put(part)

    def _put(self, part: U8) -> U8:
        out = self.picture.copy()
        x0, y0, size = self.square
        left, top = max(x0, 0), max(y0, 0)
        right, bottom = min(x0 + size, out.shape[1]), min(y0 + size, out.shape[0])
        if right > left and bottom > top:
            out[top:bottom, left:right] = part[top - y0 : bottom - y0, left - x0 : right - x0]
        return out

    def _light(self, shape: face.Shape) -> F32:
        """`(K,)` how much lighter or darker skin becomes because it turns."""

        def lit(normal: F32) -> F32:
            out: F32 = AMBIENT + (1 - AMBIENT) * np.maximum((normal @ LIGHT + 0.25) / 1.25, 0)
            return out

        ratio = lit(shape.normal) / lit(self.laid.shape.normal)
        skin = face.skin_triangles(self.laid.mesh)
        before, after = raster.areas(self.laid.shape.solid, skin), raster.areas(shape.solid, skin)
        # skin that is squeezed folds, as in rig.render, and folds are dark
        folds = np.clip(1 - after / np.maximum(before, 1e-6) - 0.08, 0, 0.5)
        ratio -= np.minimum(CREASE * folds, DEEPEST)
        # at the rims of lids and lips normals are of little worth
        share = self.laid.fade * self._calm
        out = 1 + share * (np.clip(ratio, 0.6, 1.06) - 1)
        # what rolls out from between closed lips is wet and lies in their shadow
        roll = self.laid.array("roll")
        out[roll != np.arange(len(roll))] *= 1 - ROLLED * self._closed
        return np.asarray(out, np.float32)

    @cached_property
    def _calm(self) -> F64:
        """`(K,)` 0 at the openings of eyes and mouth, where normals say little, .. 1 away from them."""
        rest = self.laid.array("rest").astype(np.float64)
        out = np.ones(len(rest))
        for name, reach in (("lid_L", 1.6), ("lid_R", 1.6), ("lip", 0.8)):
            rim = rest[self.laid.array(name)]
            gap = np.sqrt(((rest[:, None] - rim[None]) ** 2).sum(2).min(1))
            out *= face.smooth((gap - 0.15) / reach)
        return out


def stage(picture: U8, matrix: NDArray[np.floating], y: F32, landmarks: F32, mesh: Mesh, size: int) -> Stage:
    """A photo made ready for editing one face.

    Args:
        picture: `(H, W, C)` uint8; channels beyond the third (alpha) are moved as well.
        matrix: `(2, 3)` from the photo to the crop, of `alignment.warp.similarity`.
        y: `(P,)` parameters of the face in [0, 1].
        landmarks: `(68, 2)` crop pixels.
        mesh: of `face.load`.
        size: side of the crop in pixels.
    """
    return Stage(picture, np.asarray(matrix, np.float64), face.lay(mesh, y, landmarks, size))
