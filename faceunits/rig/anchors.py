"""Which points of the rig's surface are which of the 189 template points of a photographed face.

Used by `skin` to fit the rig to a photo. Both sides are curves (lid rims, lip borders, brow edges,
nose wings, hair line) matched by arc length; the jaw is a silhouette, so its points are found anew
for each pose. Points of the surface are linear in the vertices: a sparse row of weights each.

Template: the 189 points of the Face Research Lab London Set (DeBruine & Jones 2017); image left is
the subject's right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import CubicSpline
from scipy.sparse.csgraph import dijkstra

from faceunits.rig.shape import FaceModel

F64 = NDArray[np.float64]
Rows: TypeAlias = Any  # scipy.sparse.csr_matrix; scipy carries no types

JAW = (125, 126, 127, 128, 129, 130, 131, 132, 133)
JAW_SAMPLES = 21
SEAM_PX = 1.0
"""The lips' inner borders are read this far (px) off the lip line, whose dark seam is not lip."""

BROW_FRINGE_PX = 2.0
"""Hairs stand this far (px) outside the template's brow edges; left there they double the brow."""


@dataclass(frozen=True)
class Curve:
    """`rows` `(n, V)` points of the surface for `n` points, even in arc length, on the template's
    polyline `template`; `weight` in the fit; `shift_px` moves the photo's points down."""

    name: str
    rows: Rows
    template: tuple[int, ...]
    weight: float
    shift_px: float = 0.0


def resample(points: F64, count: int) -> F64:
    """`(count, 2)` points even in arc length on a smooth curve through `(m, 2)` points."""
    if len(points) == 1:
        return points
    knots = _chords(points)
    dense = CubicSpline(knots, points)(np.linspace(0, knots[-1], 400)) if len(points) > 2 else points
    along = _chords(dense)
    at = np.linspace(0, along[-1], count)
    return np.stack([np.interp(at, along, dense[:, k]) for k in range(2)], 1)


def _chords(points: F64) -> F64:
    steps = np.maximum(np.linalg.norm(np.diff(points, axis=0), axis=1), 1e-6)
    return np.concatenate([[0.0], np.cumsum(steps)])


class _Surface:
    """The face's mesh as a graph, for curves along it."""

    def __init__(self, model: FaceModel) -> None:
        self.model = model
        self.points = model.neutral.astype(np.float64)
        face = model.vert_geometry == model.geometry_names.index("face")
        tri = model.triangles[face[model.triangles].all(1)]
        edges = np.concatenate([tri[:, [0, 1]], tri[:, [1, 2]], tri[:, [2, 0]]])
        self.edges = np.unique(np.sort(edges, 1), axis=0)
        length = np.linalg.norm(self.points[self.edges[:, 0]] - self.points[self.edges[:, 1]], axis=1)
        size = len(self.points)
        graph = sparse.csr_matrix((length, (self.edges[:, 0], self.edges[:, 1])), (size, size))
        self.graph = graph + graph.T

    def even(self, rows: Rows, count: int) -> Rows:
        """`(count, V)` rows even in arc length, seen from the front, on the polyline of `rows`."""
        along = _chords((rows @ self.points)[:, :2])
        at = np.linspace(0, along[-1], count)
        low = np.clip(np.searchsorted(along, at, "right") - 1, 0, len(along) - 2)
        share = (at - along[low]) / (along[low + 1] - along[low])
        picks = np.arange(count)
        mix = sparse.csr_matrix(
            (np.concatenate([1 - share, share]), (np.tile(picks, 2), np.concatenate([low, low + 1]))),
            (count, len(along)),
        )
        return (mix @ rows).tocsr()

    def rim(self, landmarks: tuple[int, ...]) -> Rows:
        """The mesh's own edges between landmarks: lid rims and the lip line are edge loops."""
        marks = self.model.landmarks[list(landmarks)]
        path = [int(marks[0])]
        for start, end in zip(marks, marks[1:], strict=False):
            back = dijkstra(self.graph, indices=start, return_predecessors=True)[1]
            part, at = [], int(end)
            while at != start:
                part.append(at)
                at = int(back[at])
            path += part[::-1]
        return self.select(np.array(path))

    def spline(self, landmarks: tuple[int, ...]) -> Rows:
        """The smooth curve through landmarks, as the rig's lips were drawn."""
        marks = self.model.landmarks[list(landmarks)]
        knots = _chords(self.points[marks][:, :2])
        at = np.linspace(0, knots[-1], 40)
        if len(marks) > 2:
            mix = CubicSpline(knots, np.eye(len(marks)))(at)
        else:
            mix = np.stack([1 - at / knots[-1], at / knots[-1]], 1)
        return (sparse.csr_matrix(mix) @ self.select(marks)).tocsr()

    def border(self, region: str) -> Rows:
        """Where a painted region's field crosses 0 on the edges of the mesh, unordered."""
        field = self.model.region[:, self.model.region_names.index(region)].astype(np.float64)
        a, b = self.edges.T
        # -5 marks places where the field is not defined
        cross = (field[a] > 0) != (field[b] > 0)
        cross &= np.minimum(field[a], field[b]) > -4
        a, b = a[cross], b[cross]
        share = field[a] / (field[a] - field[b])
        picks = np.arange(len(a))
        return sparse.csr_matrix(
            (np.concatenate([1 - share, share]), (np.tile(picks, 2), np.concatenate([a, b]))),
            (len(a), len(self.points)),
        )

    def select(self, at: NDArray[np.integer[Any]]) -> Rows:
        one = (np.ones(len(at)), (np.arange(len(at)), at))
        return sparse.csr_matrix(one, (len(at), len(self.points)))


def curves(model: FaceModel) -> list[Curve]:
    """All matched curves of a model; independent of the photo."""
    surface = _Surface(model)
    out: list[Curve] = []
    template: tuple[int, ...]
    marks: tuple[int, ...]

    def add(
        name: str, rows: Rows, template: tuple[int, ...], count: int, weight: float, shift: float = 0
    ) -> None:
        out.append(Curve(name, surface.even(rows, count), template, weight, shift))

    for name, marks, template in (
        ("lid_upper_R", (36, 37, 38, 39), (18, 19, 20, 21, 22)),
        ("lid_lower_R", (36, 41, 40, 39), (18, 28, 29, 30, 22)),
        ("lid_upper_L", (42, 43, 44, 45), (23, 24, 25, 26, 27)),
        ("lid_lower_L", (42, 47, 46, 45), (23, 31, 32, 33, 27)),
    ):
        add(name, surface.rim(marks), template, 11, 1.0)
    upper_line, lower_line = (87, 94, 95, 96, 97, 98, 93), (87, 99, 100, 101, 102, 103, 93)
    add("lip_line", surface.rim((48, 60, 61, 62, 63, 64, 54)), upper_line, 15, 1.0, -SEAM_PX)
    add("lip_line", surface.rim((48, 60, 67, 66, 65, 64, 54)), lower_line, 15, 1.0, SEAM_PX)
    for marks, template, count in (
        ((48, 49, 50), (87, 88, 89), 7), ((50, 51), (89, 90), 3), ((51, 52), (90, 91), 3),
        ((52, 53, 54), (91, 92, 93), 7),
        ((54, 55, 56, 57, 58, 59, 48), (93, 108, 107, 106, 105, 104, 87), 13),
    ):  # fmt: skip
        add("lip_outer", surface.spline(marks), template, count, 1.0)
    for side, name, upper, lower in (
        (1, "brow_R", (75, 74, 73, 72, 71), (76, 84, 83, 71)),
        (0, "brow_L", (78, 79, 80, 81, 82), (77, 85, 86, 82)),
    ):
        border = surface.border(name)
        along, across = (border @ model.brow[:, side].astype(np.float64)).T
        for edge, template in ((across > 0, upper), (across <= 0, lower)):
            keep = np.flatnonzero(edge & (along > 0.0) & (along < 1.0))
            shift = BROW_FRINGE_PX * (-1 if template is upper else 1)
            add(name, border[keep[np.argsort(along[keep])]], template, 9, 0.5, shift)
    _nose(model, surface, out)
    border = surface.border("hair")
    places = border @ surface.points
    brows = surface.points[model.landmarks[[19, 24]], 1].mean()
    top = np.flatnonzero(places[:, 1] > brows + 0.6)
    angle = np.arctan2(places[top, 1] - brows, places[top, 0])
    add("hair", border[top[np.argsort(-angle)]], tuple(range(134, 145)), 13, 0.0)
    return out


def _nose(model: FaceModel, surface: _Surface, out: list[Curve]) -> None:
    border = surface.border("nose")
    places = border @ surface.points
    top = surface.points[model.landmarks[30], 1] + 0.1  # the wings' creases begin at the tip's height
    for base, template in ((31, (61, 62, 63, 64)), (35, (66, 67, 68, 69))):
        end = surface.points[model.landmarks[base]]
        side = np.sign(end[0])
        keep = np.flatnonzero((places[:, 1] < top) & (places[:, 0] * side > abs(end[0]) - 0.02))
        middle = np.array([side * (abs(end[0]) - 0.3), (top + end[1]) / 2])
        offset = places[keep, :2] - middle
        angle = np.arctan2(offset[:, 1], offset[:, 0] * side)
        rows = surface.even(border[keep[np.argsort(-angle)]], 7)
        out.append(Curve("nose_wing", rows, template, 0.7))
    for mark, points, weight in ((33, (55, 55), 1.0), (30, (54, 60), 0.3), (27, (50, 56), 0.2)):
        out.append(Curve("nose", surface.select(model.landmarks[[mark]]), points, weight))


def targets(curve: Curve, points: F64) -> F64:
    """`(n, 2)` pixels of a curve's points in a photo with `(189, 2)` template points.

    A single surface point is matched with the mean of its template points.
    """
    count = curve.rows.shape[0]
    chosen = points[list(curve.template)]
    placed = chosen.mean(0, keepdims=True) if count == 1 else resample(chosen, count)
    return np.asarray(placed + np.array([0.0, curve.shift_px]))


def jaw_vertices(model: FaceModel, screen: F64, center: F64, jaw: F64) -> NDArray[np.int64]:
    """`(n,)` vertices on the silhouette of the projected face in the directions of `jaw`.

    Args:
        model: the face model.
        screen: `(V, 2)` projected vertices, px.
        center: `(2,)` a place inside the face, px.
        jaw: `(n, 2)` jaw line in the photo, px.

    The silhouette is the outermost vertex of the face, without ears and the underside of the chin.
    """
    region = {n: model.region[:, i] for i, n in enumerate(model.region_names)}
    face = model.vert_geometry == model.geometry_names.index("face")
    face &= (region["ear_L"] < 0) & (region["ear_R"] < 0) & (region["neck"] < 0.05)
    candidates = np.flatnonzero(face)
    offset = screen[candidates] - center
    angle, radius = np.arctan2(offset[:, 1], offset[:, 0]), np.linalg.norm(offset, axis=1)
    wanted = np.arctan2(*(jaw - center).T[::-1])
    apart = np.abs((angle[None] - wanted[:, None] + np.pi) % (2 * np.pi) - np.pi)
    score = np.where(apart < np.radians(4), radius[None] * (1 - apart), -1.0)
    return np.asarray(candidates[np.argmax(score, 1)])
