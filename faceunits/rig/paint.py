"""Painted regions of a face that has only a mesh and 68 landmarks: brows, lips, nose, neck, hair, ears.

These have no geometry of their own, so their borders are curves in the face's uv tile, where it is
flat: they ride on the surface under any identity and expression. Lips, inner mouth and brows follow
the landmarks; nose, hair line, neck and ears were drawn by hand in a frame that the landmarks span.
`upstream` fills with these the fields that an upstream folder lacks. No scipy: drawing must not need
it.

Convention: +x is the subject's left in space and in uv, +y up, cm. A field is the signed distance to
a border, cm, > 0 inside, clipped to ±5; -5 where the region does not apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]

REGIONS = (
    "brow_L", "brow_R", "nose", "upper_lip", "lower_lip", "inner_mouth", "ear_L", "ear_R", "neck", "hair",
)  # fmt: skip

REACH = 5.0
"""Fields are clipped to ± this, cm."""

BROW_DROP = np.array([0.15, 0.18, 0.14, 0.11, 0.07])
"""The brows' middle runs this far (cm) below their five landmarks, inner end first."""

BROW_RADIUS = np.array([
    [0.0, 0.33], [0.1, 0.35], [0.2, 0.39], [0.3, 0.42], [0.45, 0.425], [0.6, 0.375], [0.75, 0.3],
    [1.0, 0.185],
])  # fmt: skip
"""Half the height (cm) of a brow at each place along it, 0 = inner end, 1 = tail."""

NOSE = np.array([
    [0.0, 1.02], [0.27, 1.007], [0.54, 0.956], [0.76, 0.795], [0.96, 0.612], [1.17, 0.44], [1.37, 0.312],
    [1.45, 0.25], [1.455, 0.165], [1.38, 0.095], [1.27, 0.048], [1.09, 0.024], [0.82, 0.011], [0.54, 0.007],
    [0.0, 0.006],
])  # fmt: skip
"""Left half of the nose, top to base: x in half widths of the base (landmarks 31, 35), y from the
subnasale (33) to the nasion (27)."""

# In the tile's frame: origin at the nasion (27), x to 1 at landmark 16, y to -1 at the chin (8).
HAIR = np.array([
    [0.0, 0.383], [0.163, 0.384], [0.326, 0.378], [0.488, 0.361], [0.568, 0.347], [0.647, 0.325],
    [0.716, 0.284], [0.764, 0.219], [0.814, 0.156], [0.882, 0.111], [0.94, 0.054], [0.969, -0.022],
    [0.986, -0.101], [1.005, -0.15], [1.03, -0.183], [1.058, -0.193], [1.085, -0.183], [1.108, -0.15],
    [1.125, -0.101], [1.145, -0.065], [1.18, -0.045], [1.26, -0.032], [1.6, -0.03], [1.6, 0.8], [0.0, 0.8],
])  # fmt: skip
NECK = np.array([
    [0.0, -1.038], [0.116, -1.04], [0.232, -1.045], [0.348, -1.055], [0.464, -1.058], [0.579, -1.05],
    [0.694, -1.034], [0.807, -1.006], [0.908, -0.951], [0.986, -0.866], [1.035, -0.761], [1.074, -0.652],
    [1.1, -0.612], [1.13, -0.588], [1.16, -0.58], [1.274, -0.573], [1.6, -0.57], [1.6, -2.0], [0.0, -2.0],
])  # fmt: skip
EAR = np.array([
    [1.6, -0.045], [1.251, -0.048], [1.195, -0.064], [1.153, -0.103], [1.128, -0.156], [1.117, -0.213],
    [1.11, -0.272], [1.105, -0.33], [1.102, -0.389], [1.101, -0.448], [1.1, -0.507], [1.104, -0.565],
    [1.112, -0.612], [1.125, -0.624], [1.181, -0.632], [1.6, -0.64],
])  # fmt: skip

NAPE = ((-0.7, -0.8), (-0.42, -0.31))
"""Border of hair and neck on the back of the head, a line of (height, depth) in heights of the face
(landmarks 8 to 27), from the nasion and from the ears (landmarks 0, 16)."""


@dataclass(frozen=True)
class Painting:
    """`region` `(V, 10)` fields named by `REGIONS`; `along` and `across` `(V, 2)` of the left and the
    right brow: place from the inner end (0) to the tail (1), cm above its middle."""

    region: F64
    along: F64
    across: F64


def paint(points: F64, uv: F64, triangles: Ints, landmarks: Ints, head: Ints) -> Painting:
    """All painted fields of a face.

    Args:
        points: `(V, 3)` neutral, cm.
        uv: `(V, 2)`; only the face's are read.
        triangles: `(T, 3)` of the geometry `face`, whose uv must not overlap.
        landmarks: `(68,)` vertices of the face, iBUG order.
        head: `(H,)` vertices of the back of head and neck that are not also the face's.
    """
    used = np.unique(triangles)
    sheet = _Sheet(points, uv, triangles, used)
    marks = uv[landmarks]
    region = np.full((len(points), len(REGIONS)), -REACH)
    along, across = np.zeros((len(points), 2)), np.full((len(points), 2), REACH)
    for side, order in enumerate((range(22, 27), range(21, 16, -1))):
        along[used, side], across[used, side], field = _brow(sheet, marks[list(order)])
        region[used, side] = field
    for name, outline in _outlines(marks, sheet.hole(marks)).items():
        region[used, REGIONS.index(name)] = sheet.field(outline)
    neck, hair = _nape(points[head], points[landmarks])
    region[head, REGIONS.index("neck")], region[head, REGIONS.index("hair")] = neck, hair
    return Painting(np.clip(region, -REACH, REACH), along, across)


class _Sheet:
    """The face as a flat sheet: uv in, surface distance out."""

    def __init__(self, points: F64, uv: F64, triangles: Ints, used: Ints) -> None:
        self.space, self.flat = points[used], uv[used]
        self.triangles = np.searchsorted(used, triangles)

    def lift(self, at: F64) -> F64:
        """`(m, 3)` points of the surface at uv places `(n, 2)`, m <= n: those off the sheet are dropped."""
        a, b, c = (self.flat[self.triangles[:, k]] for k in range(3))
        e, f = b - a, c - a
        area = e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]
        solid = np.abs(area) > 1e-12
        a, e, f, area, corners = a[solid], e[solid], f[solid], area[solid], self.triangles[solid]
        low = np.minimum(np.minimum(a, a + e), a + f) - 1e-9
        high = np.maximum(np.maximum(a, a + e), a + f) + 1e-9
        out = []
        for p in at:
            near = np.flatnonzero(((p >= low) & (p <= high)).all(1))
            d = p - a[near]
            v = (d[:, 0] * f[near, 1] - d[:, 1] * f[near, 0]) / area[near]
            w = (e[near, 0] * d[:, 1] - e[near, 1] * d[:, 0]) / area[near]
            hit = np.flatnonzero((v > -1e-6) & (w > -1e-6) & (v + w < 1 + 1e-6))
            if len(hit):
                i = hit[0]
                share = np.array([1 - v[i] - w[i], v[i], w[i]])
                out.append(share @ self.space[corners[near[i]]])
        return np.array(out).reshape(-1, 3)

    def field(self, outline: F64) -> F64:
        """`(U,)` signed distance to a closed uv polygon: side from uv, size from space, cm."""
        border = self.lift(_even(np.concatenate([outline, outline[:1]]), 400))
        if not len(border):  # the whole curve lies off the sheet
            return np.full(len(self.space), -REACH)
        size = np.minimum(_nearest(self.space, border)[1], REACH)
        return np.where(_inside(self.flat, outline), size, -size)

    def hole(self, marks: F64) -> F64:
        """`(n, 2)` uv of the mouth's opening: the rim whose middle is nearest to the inner lips' middle.

        The inner lip landmarks themselves where the lips are closed by polygons.
        """
        edges = np.concatenate([self.triangles[:, [k, (k + 1) % 3]] for k in range(3)])
        kinds, count = np.unique(np.sort(edges, 1), axis=0, return_counts=True)
        follow: dict[int, list[int]] = {}
        for i, j in kinds[count == 1].tolist():
            follow.setdefault(i, []).append(j)
            follow.setdefault(j, []).append(i)
        inner = marks[60:68]
        while follow:
            stack, loop = [next(iter(follow))], []
            while stack:
                at = stack.pop()
                if at in follow:
                    loop.append(at)
                    stack += follow.pop(at)
            rim = self.flat[loop]
            if _inside(rim.mean(0)[None], inner)[0] and np.ptp(rim[:, 0]) < np.ptp(marks[48:60, 0]):
                return np.asarray(rim)
        return np.asarray(inner)


def _outlines(marks: F64, hole: F64) -> dict[str, F64]:
    """Closed uv polygons of the regions other than brows."""
    # The mouth's opening ends in two corners; between them the lips' border has no surface.
    middle = (hole[:, 1].min() + hole[:, 1].max()) / 2
    right, left = (np.array([x, middle]) for x in (hole[:, 0].min(), hole[:, 0].max()))
    inner = np.concatenate([[marks[60]], [right], [left], [marks[64]]])
    frame = np.array([(marks[16] - marks[0])[0] / 2, (marks[27] - marks[8])[1]])
    base = np.array([(marks[35] - marks[31])[0] / 2, (marks[27] - marks[33])[1]])

    def drawn(half: F64, origin: F64, unit: F64) -> F64:
        whole = np.concatenate([half, half[::-1] * [-1, 1]])
        return np.asarray(whole * unit + origin)

    ear = EAR * frame
    return {
        "nose": smooth(drawn(NOSE, marks[33], base)),
        "upper_lip": np.concatenate([smooth(marks[48:55]), inner[::-1]]),
        "lower_lip": np.concatenate([smooth(marks[[54, 55, 56, 57, 58, 59, 48]]), inner]),
        "inner_mouth": _rolled(marks[60:68], hole),
        "ear_L": ear + marks[27],
        "ear_R": ear * [-1, 1] + marks[27],
        "neck": drawn(NECK, marks[27], frame),
        "hair": drawn(HAIR, marks[27], frame),
    }


def _rolled(inner: F64, hole: F64) -> F64:
    """The rows of the lips that roll inside: half-way from the inner lip landmarks to the opening."""
    top, low = inner[1:4, 1].mean(), inner[5:8, 1].mean()
    x = [(inner[0, 0] + hole[:, 0].min()) / 2, (inner[4, 0] + hole[:, 0].max()) / 2]
    y = [(low + hole[:, 1].min()) / 2, (top + hole[:, 1].max()) / 2]
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    # a rounded rectangle: |x|^4 + |y|^4 = 1
    round_ = np.stack([np.cos(angle), np.sin(angle)], 1)
    shape = np.sign(round_) * np.abs(round_) ** 0.5
    middle, half = np.array([sum(x) / 2, sum(y) / 2]), np.array([x[1] - x[0], y[1] - y[0]]) / 2
    return np.asarray(shape * half + middle)


def _brow(sheet: _Sheet, marks: F64) -> tuple[F64, F64, F64]:
    """Along, across and field of one brow from its five landmarks in uv, inner end first."""
    lifted = sheet.lift(marks)
    length = np.linalg.norm(np.diff(lifted, axis=0), axis=1).sum()
    scale = np.linalg.norm(np.diff(marks, axis=0), axis=1).sum() / length  # uv per cm
    middle = smooth(marks - np.stack([np.zeros(5), BROW_DROP * scale], 1), steps=24)
    share = np.linspace(0, 1, len(middle))
    lifted = sheet.lift(middle)
    at, gap = _nearest(sheet.space, lifted)
    along = share[at]
    above = sheet.flat[:, 1] > np.interp(sheet.flat[:, 0], *_rising(middle))
    radius = np.interp(along, BROW_RADIUS[:, 0], BROW_RADIUS[:, 1])
    # past the ends a part of the gap points along the brow
    tangent = np.gradient(lifted, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    ahead = np.sum((sheet.space - lifted[at]) * tangent[at], 1)
    across = np.sqrt(np.maximum(gap**2 - ahead**2, 0))
    return along, np.clip(np.where(above, across, -across), -REACH, REACH), radius - gap


def _rising(curve: F64) -> tuple[F64, F64]:
    order = np.argsort(curve[:, 0])
    return curve[order, 0], curve[order, 1]


def _nape(points: F64, marks: F64) -> tuple[F64, F64]:
    """`(H,)` neck and hair of the back of the head: the two sides of an inclined plane."""
    height = marks[27, 1] - marks[8, 1]
    (y0, z0), (y1, z1) = NAPE
    y = points[:, 1] - marks[27, 1]
    z = points[:, 2] - marks[[0, 16], 2].mean()
    slope = (y1 - y0) / (z1 - z0)
    above = (y - (y0 * height + slope * (z - z0 * height))) / np.hypot(1, slope)
    return -above, above


def smooth(points: F64, *, steps: int = 12) -> F64:
    """`((n - 1) * steps + 1, 2)` points of a Catmull-Rom curve through `(n, 2)` points."""
    padded = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    t = (np.arange(steps) / steps)[:, None]
    parts = []
    for p, q, r, s in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        parts.append(
            0.5 * (2 * q + (r - p) * t + (2 * p - 5 * q + 4 * r - s) * t**2 + (3 * q - p - 3 * r + s) * t**3)
        )
    return np.concatenate([*parts, points[-1:]])


def _even(points: F64, count: int) -> F64:
    """`(count, 2)` points even in arc length on a polyline."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, along[-1], count)
    return np.stack([np.interp(at, along, points[:, k]) for k in range(2)], 1)


def _inside(points: F64, polygon: F64) -> NDArray[np.bool_]:
    """`(n,)` whether points are inside a closed polygon (even-odd rule)."""
    out = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            cross = (points[:, 1] >= min(y0, y1)) & (points[:, 1] < max(y0, y1))
            out ^= cross & (points[:, 0] < x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0))
    return out


def _nearest(points: F64, others: F64, *, block: int = 1024) -> tuple[Ints, F64]:
    """`(n,)` index of and distance to the nearest of `others`, brute force in blocks."""
    index, distance = np.zeros(len(points), np.int64), np.zeros(len(points))
    center = others.mean(0)  # small numbers keep the expanded square accurate
    others = others - center
    square = (others**2).sum(1)
    for i in range(0, len(points), block):
        p = points[i : i + block] - center
        at = np.argmin(square - 2 * p @ others.T, axis=1)
        index[i : i + block] = at
        distance[i : i + block] = np.linalg.norm(p - others[at], axis=1)
    return index, distance


def mirror(points: F64, geometry: Ints, names: tuple[str, ...]) -> Ints:
    """`(V,)` left-right partner of each vertex; its own inverse; a vertex without partner is its own.

    Args:
        points: `(V, 3)` neutral.
        geometry: `(V,)` into `names`; `_L` geometries are partners of `_R` ones.
        names: names of the geometries.
    """
    out = np.arange(len(points))
    swap = {"_L": "_R", "_R": "_L"}
    flipped = points * [-1, 1, 1]
    for g, name in enumerate(names):
        twin = name[:-2] + swap[name[-2:]] if name[-2:] in swap else name
        here = np.flatnonzero(geometry == g)
        there = np.flatnonzero(geometry == names.index(twin)) if twin in names else here[:0]
        if not len(here) or not len(there) or name.endswith("_R"):
            continue
        # mutual nearest pairs first; what they leave over is paired among itself, until nothing is left
        while len(here) and len(there):
            to, gap = _nearest(flipped[here], points[there])
            back, _ = _nearest(flipped[there], points[here])
            pair = (back[to] == np.arange(len(here))) & (gap < 0.05)
            if not pair.any():
                break
            out[here[pair]], out[there[to[pair]]] = there[to[pair]], here[pair]
            left = np.ones(len(there), bool)
            left[to[pair]] = False
            here, there = here[~pair], there[left]
    # within one geometry a pair may be found from one side only
    return np.where(out[out] == np.arange(len(out)), out, np.arange(len(out)))


def eyeball(points: F64) -> F64:
    """`(3,)` centre of the sphere through the back half of an eyeball: in front the cornea bulges."""
    back = points[points[:, 2] <= (points[:, 2].min() + points[:, 2].max()) / 2]
    system = np.column_stack([2 * back, np.ones(len(back))])
    return np.asarray(np.linalg.lstsq(system, (back**2).sum(1), rcond=None)[0][:3])
