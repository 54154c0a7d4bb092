"""The mesh laid upon a photo: where its points are now, and where they will be.

The network says how points move; the photo's own landmarks say where they start. What the mesh lacks at
the landmarks is spread over it smoothly (biharmonic splines over a face whose lips and lids are apart, so
that the upper and the lower lip need not agree) and carried along when the points move.

Convention: points (x, y) in pixels of the crop; depth in cm, larger is nearer; left and right are the
subject's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceunits import aus, weights
from faceunits.networks.mesh import SKIN, Mesh, MeshConfig
from faceunits.rig import raster

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
"""iBUG points above and below the openings of the eyes."""
LIPS = ((61, 67), (62, 66), (63, 65))

SLACK = np.array([4.0] * 17 + [0.6] * 10 + [0.6] * 9 + [0.05] * 12 + [0.1] * 12 + [0.05] * 8)
"""How far the spline may miss each landmark: the outline is uncertain, lids and lips must fit."""

LASH_CM = 0.16
"""Width of the upper lid's edge with its lashes."""

LAP_PX = 0.25
"""A shut lid overlaps the other by this much of the crop, or the eyeball would shine through."""

ROLL = 1.4
"""Lips part by this much more than the gap that is to be seen: their insides roll out into it."""

LIP_CM = 1.4
"""Skin this near to the opening of the mouth goes along when lips are closed."""

SKIRT_CM = 5.0
"""Below the jaw, movement ends within this distance."""


@dataclass(frozen=True)
class Shape:
    """The mesh in one expression: `points` `(K, 2)` crop pixels, `solid` `(K, 3)` cm before the viewer,
    `normal` `(K, 3)`."""

    points: F64
    solid: F32
    normal: F32


@dataclass(frozen=True)
class Laid:
    """A mesh laid upon one face.

    `y` `(P,)` its parameters; `shape` as the face is now; `miss` `(68, 2)` crop pixels from the network's
    landmarks to the photo's; `spread` `(K, 68)` from misses to every point; `fade` `(K,)` 1 where points
    move freely, 0 at the outline; `size` of the crop in pixels.
    """

    mesh: Mesh
    y: F32
    raw: Shape
    shape: Shape
    miss: F64
    spread: F64
    fade: F64
    size: int

    @cached_property
    def full_gap(self) -> float:
        """Crop pixels between the lips of the mean face at a full AU25."""
        net, at = self.mesh, self.array("landmarks")
        drive = aus.profile().expand({"AU25": aus.MAX_INTENSITY})
        y = np.full((2, len(self.y)), 0.5, np.float32)
        y[0, 2 : 2 + len(drive)], y[1, 2 : 2 + len(drive)] = 0, drive
        rest, full = (_shape(net, row, y[0], self.size).points[at] for row in y)
        return float(np.mean([full[b, 1] - full[a, 1] - rest[b, 1] + rest[a, 1] for a, b in LIPS]))

    def array(self, name: str) -> NDArray[Any]:
        """A buffer of the mesh."""
        out: NDArray[Any] = self.mesh.get_buffer(name).numpy()
        return out


def load(source: str | os.PathLike[str] = "mesh") -> Mesh:
    """The mesh in evaluation mode.

    Raises:
        WeightsError: a file that is missing, damaged or of another network.
    """
    state, about = weights.load(source)
    net = Mesh(weights.settings(MeshConfig, about, source=source))
    weights.fill(net, state, source=source)
    return net.eval().requires_grad_(False)


def lay(mesh: Mesh, y: F32, landmarks: F32, size: int) -> Laid:
    """The mesh upon a face.

    Args:
        mesh: of `load`.
        y: `(P,)` pitch, yaw, action units, identity in [0, 1], as the face is now.
        landmarks: `(68, 2)` crop pixels of the photo.
        size: side of the crop in pixels.
    """
    raw = _shape(mesh, y, y, size)
    marks = mesh.landmarks.numpy()
    rest = mesh.get_buffer("rest").numpy().astype(np.float64)
    spread = splines(rest, rest[marks], SLACK)
    miss = landmarks - raw.points[marks]
    own = Shape(raw.points + spread @ miss, raw.solid, raw.normal)
    fade = mesh.get_buffer("fade").numpy().astype(np.float64)
    # the rim of a head that is seen from the side is not the rim of the mesh: there the skin turns away
    side = np.clip(np.abs(rest[:, 0]) / 2.0 - 2.0, 0, 1)
    facing = smooth((raw.normal[:, 2] - 0.05) / 0.4)
    return Laid(mesh, y, raw, own, miss, spread, fade * (1 - side * (1 - facing)), size)


def reshape(laid: Laid, y: F32, *, lips: float | None = None) -> Shape:
    """The mesh with other action units, in front of the same crop.

    Args:
        laid: of `lay`.
        y: `(P,)` with the pose and the identity of `laid.y`.
        lips: what is added to the opening between the lips, in that of a full AU25, or, negative, which
            share of it goes; as the network says when None.
    """
    raw = _shape(laid.mesh, y, laid.y, laid.size)
    marks = laid.array("landmarks")
    before, after = laid.raw.points[marks], raw.points[marks]
    now = laid.shape.points[marks]
    miss = laid.miss.copy()
    for pairs in (LIDS, LIPS):
        for up, low in pairs:
            gap, new = before[low, 1] - before[up, 1], after[low, 1] - after[up, 1]
            # an opening that closes takes its miss along: a face whose eyes are wider than the mesh's
            # must shut them as well; one that opens adds what the mesh adds
            share = float(np.clip(new / gap, 0, 1)) if gap > 0.3 else 1.0
            mean, half = (miss[up] + miss[low]) / 2, (miss[up] - miss[low]) / 2
            miss[up], miss[low] = mean + share * half, mean - share * half
            opening = after[low, 1] + miss[low, 1] - after[up, 1] - miss[up, 1]
            wanted = opening
            if pairs is LIPS and lips is not None:
                wanted = now[low, 1] - now[up, 1]
                wanted = wanted * max(1 + lips, 0) if lips < 0 else wanted + lips * ROLL * laid.full_gap
            wanted = max(wanted, 0.0)
            miss[up, 1] += (opening - wanted) / 2
            miss[low, 1] -= (opening - wanted) / 2
    placed = raw.points + laid.spread @ miss
    moved = meet(laid, shut(laid, placed)) - laid.shape.points
    return Shape(laid.shape.points + laid.fade[:, None] * moved, raw.solid, raw.normal)


def lid_gaps(laid: Laid, points: F64, name: str) -> tuple[I32, F64]:
    """Points of the upper lid's edge and how far below each the lower lid's edge is, pixels."""
    loop = laid.array(name).astype(np.int32)
    upper = loop[laid.array("foot")[loop] >= 0]
    lower = np.setdiff1d(loop, upper)
    ends = upper[[points[upper, 0].argmin(), points[upper, 0].argmax()]]
    lower = np.concatenate([lower, ends])
    lower = lower[np.argsort(points[lower, 0])]
    return upper, np.interp(points[upper, 0], points[lower, 0], points[lower, 1]) - points[upper, 1]


def shut(laid: Laid, points: F64) -> F64:
    """The points with upper lids that end at the lower ones: none goes beyond, and nearly shut is shut."""
    out = points.copy()
    foot, top = laid.array("foot").astype(int), laid.array("top").astype(int)
    for name in ("lid_L", "lid_R"):
        _, before = lid_gaps(laid, laid.shape.points, name)
        upper, gap = lid_gaps(laid, points, name)
        share = float(np.clip(gap, 0, None).mean() / max(np.clip(before, 0, None).mean(), 0.3))
        shutting = float(np.clip((share - 0.1) / 0.2, 0, 1))
        wanted = np.clip(gap, 0, None) * shutting - LAP_PX * (1 - shutting)
        drop = np.zeros(len(points))
        drop[upper] = gap - wanted
        lid = np.flatnonzero((foot >= 0) & np.isin(foot, upper))
        along = points[top[lid]] - points[foot[lid]]
        height = ((points[lid] - points[foot[lid]]) * along).sum(1) / np.maximum((along**2).sum(1), 1e-6)
        out[lid, 1] += drop[foot[lid]] * (1 - smooth(height))
    return out


def meet(laid: Laid, points: F64) -> F64:
    """The points with lips that meet along their whole line where they were open and nearly close."""

    def opening(at: F64) -> float:
        return float(np.mean([at[low, 1] - at[up, 1] for up, low in LIPS]))

    marks = laid.array("landmarks")
    before, after = opening(laid.shape.points[marks]), opening(points[marks])
    closing = 1 - float(np.clip((after / max(before, 0.1) - 0.1) / 0.2, 0, 1))
    if before < 0.5 or closing == 0:
        return points
    loop = laid.array("lip").astype(int)
    rest = laid.array("rest").astype(np.float64)
    upper = rest[loop, 1] > rest[loop, 1].mean()
    at = points[loop]
    order_up, order_low = (np.flatnonzero(k)[np.argsort(at[k, 0])] for k in (upper, ~upper))
    across = np.interp(at[:, 0], at[order_low, 0], at[order_low, 1])
    over = np.interp(at[:, 0], at[order_up, 0], at[order_up, 1])
    shift = np.where(upper, 1.0, -1.0) * closing * np.clip(across - over + LAP_PX, 0, None) / 2
    apart = np.linalg.norm(rest[:, None] - rest[loop][None], axis=2)
    near = apart.argmin(1)
    out = points.copy()
    skin = laid.array("kind") == SKIN
    out[:, 1] += skin * (1 - smooth(apart.min(1) / LIP_CM)) * shift[near]
    return out


def lash_source(laid: Laid, shape: Shape, lash: float) -> F64:
    """`(K, 2)` where in the crop each point takes its colour: on upper lids not where it was.

    The lid unrolls when it closes. Its edge with the lashes, `lash` pixels, keeps its width; the skin
    above it is stretched evenly.
    """
    now = laid.shape.points
    out = now.copy()
    foot, top = laid.array("foot").astype(int), laid.array("top").astype(int)
    lid = np.flatnonzero(foot >= 0)

    def column(points: F64) -> tuple[F64, F64]:
        along = points[top[lid]] - points[foot[lid]]
        length = np.maximum(np.linalg.norm(along, axis=1), 1e-3)
        return ((points[lid] - points[foot[lid]]) * along).sum(1) / length**2, length

    at_before, before = column(now)
    at_after, after = column(shape.points)
    height = at_after * after
    edge = np.minimum(lash, 0.4 * before)
    wanted = np.where(
        height < edge, height, edge + (height - edge) * (before - edge) / np.maximum(after - edge, 1e-3)
    )
    unrolled = smooth((after / before - 1.0) / 0.15)  # only what grows; a lid that folds keeps its colours
    free = np.zeros(len(now))  # at the corners lids do not unroll, nor those that stay open
    for name in ("lid_L", "lid_R"):
        upper, gap = lid_gaps(laid, now, name)
        _, left = lid_gaps(laid, shape.points, name)
        closing = 1 - left.clip(0).mean() / max(gap.clip(0).mean(), 0.3)
        free[upper] = smooth((gap / max(gap.max(), 0.3) - 0.1) / 0.4) * smooth(np.array(closing / 0.35))
    unrolled *= free[foot[lid]]
    out[lid] += (unrolled * (wanted / before - at_before))[:, None] * (now[top[lid]] - now[foot[lid]])
    return out


def _shape(mesh: Mesh, y: F32, by: F32, size: int) -> Shape:
    """The network's own idea, in the crop of the face `by`."""
    with torch.inference_mode():
        rows = torch.from_numpy(np.stack([y, by]).astype(np.float32))
        turned = mesh.turn(mesh.solid(rows), rows)
        place = mesh.place(turned[:1], turned[1:])[0]
    solid = np.ascontiguousarray(turned[0].numpy())
    triangles = mesh.get_buffer("triangles").numpy()
    return Shape(place.numpy().astype(np.float64) * size - 0.5, solid, raster.normals(solid, triangles))


def splines(places: F64, knots: F64, slack: F64) -> F64:
    """`(K, N)` biharmonic splines with an affine part: values at the knots to values at all places.

    Args:
        places: `(K, 3)` where values are wanted.
        knots: `(N, 3)` where they are known.
        slack: `(N,)` smoothing at each knot; 0 interpolates.
    """
    n = len(knots)
    system = np.zeros((n + 4, n + 4))
    # in three dimensions the biharmonic kernel is -r
    system[:n, :n] = -np.linalg.norm(knots[:, None] - knots[None], axis=2) + np.diag(slack)
    system[:n, n], system[:n, n + 1 :] = 1, knots
    system[n:, :n] = system[:n, n:].T
    inverse = np.linalg.inv(system)[:, :n]
    kernel = -np.linalg.norm(places[:, None] - knots[None], axis=2)
    out: F64 = kernel @ inverse[:n] + inverse[n] + places @ inverse[n + 1 :]
    return out


def smooth(x: NDArray[np.floating]) -> F64:
    """0 below 0, 1 above 1, with level ends."""
    t = np.clip(np.asarray(x, np.float64), 0, 1)
    return t * t * (3 - 2 * t)


def skin_triangles(mesh: Mesh) -> I32:
    """`(T, 3)` those of the skin."""
    triangles, kind = mesh.get_buffer("triangles").numpy(), mesh.get_buffer("kind").numpy()
    return np.ascontiguousarray(triangles[kind[triangles[:, 0]] == SKIN])


def inner_triangles(mesh: Mesh) -> I32:
    """`(T, 3)` those of teeth and gums."""
    triangles, kind = mesh.get_buffer("triangles").numpy(), mesh.get_buffer("kind").numpy()
    return np.ascontiguousarray(triangles[kind[triangles[:, 0]] != SKIN])
