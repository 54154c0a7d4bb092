"""A folder of OBJ files as a face model: ICT-FaceKit's own `FaceXModel`, or any model laid out like it.

`read` gives the arrays of the packed file, so `shape.load` makes one `FaceModel` of both; the painted
fields, which upstream does not have, come from `paint`. Some 160 files of text take about a minute.

Required of a folder:

- `generic_neutral_mesh.obj`: `v` in centimetres (+x the subject's left, +y up, +z out of the face),
  `f` counter-clockwise from outside, and `vt` for the face, which must not overlap itself there.
- `vertex_indices.json` with `idx_to_landmark_verts`: 68 vertices of the face, counted from 0, in iBUG
  order (0 at the subject's right jaw, 36-41 the subject's right eye). Its optional `expressions` names
  the shapes that must be there, in order.
- `identity000.obj`, `identity001.obj`, ...: the neutral plus one standard deviation of a mode; maybe none.
- any other OBJ file is the expression shape of its name at 1. Each has the neutral's vertices in its
  order; only `v` is read.

A mesh with upstream's counts has its geometries by the polygon ranges of upstream's README. Another
mesh names them with `g`, `o` or `usemtl`: a name of `GEOMETRIES` or a material of upstream's; polygons
of an unknown name belong to `face`. To be drawn, a model also needs `sclera_L/R` (with uv 0.5, 0.5 at
the pupil), `eye_socket_L/R` and the shapes `eyeBlink_L/R`.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits.errors import RigError
from faceunits.rig import paint

F64 = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]

NEUTRAL = "generic_neutral_mesh.obj"
INDICES = "vertex_indices.json"
LANDMARKS = "idx_to_landmark_verts"

GEOMETRIES = (
    "face", "head_neck", "mouth_socket", "eye_socket_L", "eye_socket_R", "gums_tongue", "teeth", "sclera_L",
    "iris_L", "sclera_R", "iris_R", "lacrimal_L", "lacrimal_R", "eye_blend_L", "eye_blend_R",
    "eye_occlusion_L", "eye_occlusion_R", "eyelashes_L", "eyelashes_R",
)  # fmt: skip

POLYGONS = (
    9230, 1914, 2082, 404, 404, 2972, 4490, 800, 798, 800, 798, 163, 163, 15, 15, 128, 128, 540, 540,
)  # fmt: skip
"""Polygons of each geometry in file order. Source: ICT-FaceKit, README, "Face Model Topology"."""

VERTICES = 26719

MATERIALS = {
    "M_Face": "face", "M_BackHead": "head_neck", "M_GumsTongue": "gums_tongue", "M_Teeth": "teeth",
    "M_ScleraLeft": "sclera_L", "M_IrisLeft": "iris_L", "M_ScleraRight": "sclera_R", "M_IrisRight": "iris_R",
    "M_LacrimalFluid": "lacrimal_L", "M_EyeBlend": "eye_blend_L", "M_EyeOcclusion": "eye_occlusion_L",
    "M_EyeLashes": "eyelashes_L",
}  # fmt: skip
"""Upstream's materials; the last four serve both sides, which no one draws."""

EYES_CM = (5.0, 15.0)
"""Outer eye corners closer or farther than this are not a face in centimetres."""

EYE_DEPTH = 1.2
"""Without eyeballs their centres are taken this far (cm) behind the middle of the lids."""

UNPAINTED = -9.0
"""Place along and across a brow off the face, as in the packed file."""


@dataclass(frozen=True)
class Mesh:
    """`points` `(V, 3)`; `uv` `(U, 2)`; each polygon's `(vertex, uv)` corners from 0 (uv -1 where it
    has none), and the last `g` or `o` name and material before it ("" before any)."""

    points: F64
    uv: F64
    polygons: tuple[tuple[tuple[int, int], ...], ...]
    groups: tuple[str, ...]
    materials: tuple[str, ...]


def read(directory: str | Path, *, n_identity: int | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of the packed file from a folder of OBJ files.

    Args:
        directory: the folder; what it must hold is told at the top of this module.
        n_identity: read only the first modes; all when None.

    Raises:
        RigError: a file is missing, broken or does not fit the neutral mesh.
    """
    folder = Path(directory)
    mesh = parse(folder / NEUTRAL)
    count = len(mesh.points)
    landmarks, listed = _indices(folder / INDICES, count)
    modes = _identities(folder)[:n_identity]
    names = _expressions(folder, listed)
    tri, tri_uv, tri_poly = triangulate(mesh)
    tri_geometry = _geometry(mesh)[tri_poly]
    owner = np.full(count, len(GEOMETRIES), np.int64)
    np.minimum.at(owner, tri.ravel(), np.repeat(tri_geometry, 3))
    owner[owner == len(GEOMETRIES)] = GEOMETRIES.index("eyelashes_R")  # of no polygon: not drawn
    _check_face(folder, mesh, landmarks, tri[tri_geometry == 0], tri_uv[tri_geometry == 0])
    identity = _deltas(modes, mesh.points)
    expression = _deltas([folder / f"{n}.obj" for n in names], mesh.points)
    uv = _vertex_uv(mesh, tri, tri_uv, np.argsort(tri_geometry, kind="stable"))
    head = np.flatnonzero(owner == GEOMETRIES.index("head_neck"))
    painting = paint.paint(mesh.points, uv, tri[tri_geometry == 0], landmarks, head)
    centers, radius = _eyes(mesh.points, uv, owner, landmarks)
    off = owner != 0
    along, across = painting.along.copy(), painting.across.copy()
    along[off], across[off] = UNPAINTED, UNPAINTED
    return {
        "neutral": mesh.points.astype(np.float32),
        "identity_delta": identity,
        "expression_delta": expression,
        "expression_name": np.array(names, dtype=np.str_),
        "tri": tri.astype(np.int32),
        "tri_geometry": tri_geometry.astype(np.uint8),
        "vert_geometry": owner.astype(np.uint8),
        "geometry_name": np.array(GEOMETRIES),
        "landmark68": landmarks.astype(np.int32),
        "mirror_vert": paint.mirror(mesh.points, owner, GEOMETRIES).astype(np.int32),
        "region_field": painting.region.astype(np.float32),
        "region_name": np.array(paint.REGIONS),
        "brow_along": along.astype(np.float32),
        "brow_across": across.astype(np.float32),
        "eye_radius": radius.astype(np.float32),
        "vert_uv": uv.astype(np.float32),
        "eye_center": centers.astype(np.float32),
    }


# OBJ


def parse(path: str | Path) -> Mesh:
    """A Wavefront OBJ file's `v`, `vt`, `f`, `g`, `o` and `usemtl`; other statements are passed over.

    Corners are `v`, `v/vt`, `v//vn` or `v/vt/vn`, counted from 1 or, when negative, back from the
    last one read.

    Raises:
        RigError: no such file, or a line that cannot be read, with its number.
    """
    points: list[tuple[float, ...]] = []
    uv: list[tuple[float, ...]] = []
    polygons: list[tuple[tuple[int, int], ...]] = []
    lines: list[int] = []
    groups: list[str] = []
    materials: list[str] = []
    group = material = ""
    for number, words in _statements(path):
        match words[0]:
            case "v":
                points.append(_floats(path, number, words, 3))
            case "vt":
                uv.append(_floats(path, number, words if len(words) > 2 else [*words, "0"], 2))
            case "f":
                polygons.append(_corners(path, number, words, len(points), len(uv)))
                lines.append(number)
                groups.append(group)
                materials.append(material)
            case "g" | "o":
                group = " ".join(words[1:])
            case "usemtl":
                material = " ".join(words[1:])
    if not points:
        raise RigError(f"{path} has no vertices (lines that start with v); fetch the file again")
    for number, polygon in zip(lines, polygons, strict=True):
        for vertex, corner in polygon:
            if not (0 <= vertex < len(points) and -1 <= corner < len(uv)):
                raise RigError(
                    f"{path}, line {number}: a corner is out of range; the file has {len(points)} "
                    f"vertices and {len(uv)} uv points; fetch the file again"
                )
    flat = np.array(uv, np.float64).reshape(-1, 2)
    return Mesh(np.array(points, np.float64), flat, tuple(polygons), tuple(groups), tuple(materials))


def parse_points(path: str | Path) -> F64:
    """`(V, 3)` the vertices of an OBJ file alone, several times as fast as `parse`.

    Raises:
        RigError: no such file, or a vertex that cannot be read, with its line's number.
    """
    rows = [_floats(path, number, words, 3) for number, words in _statements(path, only="v")]
    return np.array(rows, np.float64).reshape(-1, 3)


def _statements(path: str | Path, *, only: str = "") -> list[tuple[int, list[str]]]:
    """Numbered lines as words, without comments and empty lines; a backslash continues a line."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RigError(
            f"expected an OBJ file at {path}; it cannot be read ({error.strerror}); "
            "name the folder of the face model's OBJ files"
        ) from error
    out = []
    held, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if only and not held and not line.lstrip().startswith(only):
            continue
        line = line.partition("#")[0]
        if not held:
            first = number
        if line.rstrip().endswith("\\"):
            held += line.rstrip()[:-1] + " "
            continue
        words = (held + line).split()
        held = ""
        if words and (not only or words[0] == only):
            out.append((first, words))
    return out


def _floats(path: str | Path, number: int, words: list[str], count: int) -> tuple[float, ...]:
    try:
        values = tuple(map(float, words[1 : count + 1]))
    except ValueError:
        values = ()
    if len(values) != count or not all(map(math.isfinite, values)):
        raise RigError(
            f"{path}, line {number}: expected {count} numbers after {words[0]}; got "
            f"{' '.join(words[1:])!r}; fetch the file again"
        )
    return values


def _corners(
    path: str | Path, number: int, words: list[str], n_points: int, n_uv: int
) -> tuple[tuple[int, int], ...]:
    out = []
    for word in words[1:]:
        vertex, _, rest = word.partition("/")
        corner = rest.partition("/")[0]
        try:
            v, t = int(vertex), int(corner) if corner else None
        except ValueError:
            v, t = 0, None
        if v == 0 or t == 0:
            raise RigError(
                f"{path}, line {number}: expected corners like 1, 1/2, 1//3 or 1/2/3, counted from 1; "
                f"got {word!r}; fetch the file again"
            )
        first = v - 1 if v > 0 else n_points + v
        second = -1 if t is None else t - 1 if t > 0 else n_uv + t
        if first < 0 or (t is not None and second < 0):
            raise RigError(
                f"{path}, line {number}: {word!r} counts back past the first vertex or uv point; "
                "fetch the file again"
            )
        out.append((first, second))
    if len(out) < 3:
        raise RigError(
            f"{path}, line {number}: expected a polygon of at least 3 corners; got {len(out)}; "
            "fetch the file again"
        )
    return tuple(out)


def triangulate(mesh: Mesh) -> tuple[Ints, Ints, Ints]:
    """`(T, 3)` vertices, `(T, 3)` uv points (-1 where none) and `(T,)` polygon of each triangle.

    Quads are split on the shorter diagonal, larger polygons as a fan; winding and order are kept.
    """
    corners, source = [], []
    for at, polygon in enumerate(mesh.polygons):
        if len(polygon) == 4:
            a, b, c, d = polygon
            p = mesh.points
            if np.sum((p[a[0]] - p[c[0]]) ** 2) < np.sum((p[b[0]] - p[d[0]]) ** 2):
                parts = [(a, b, c), (a, c, d)]
            else:
                parts = [(a, b, d), (b, c, d)]
        else:
            parts = [(polygon[0], polygon[k], polygon[k + 1]) for k in range(1, len(polygon) - 1)]
        corners += parts
        source += [at] * len(parts)
    both = np.array(corners, np.int64).reshape(-1, 3, 2)
    return both[..., 0], both[..., 1], np.array(source, np.int64)


# The rest of a folder


def _indices(path: Path, count: int) -> tuple[Ints, list[str]]:
    """`(68,)` landmarks and the listed expression names."""
    need = f"68 vertices (0 to {count - 1}) in iBUG order"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RigError(f"expected {path} with {LANDMARKS!r}: {need}; it cannot be read ({error})") from error
    marks = table.get(LANDMARKS) if isinstance(table, dict) else None
    marks = marks if isinstance(marks, list) else []
    if len(marks) != 68 or not all(type(m) is int and 0 <= m < count for m in marks):
        raise RigError(
            f"{path}: expected {LANDMARKS!r}: {need}; got {len(marks)} entries, {marks[:5]}...; "
            "write that list"
        )
    listed = table.get("expressions", [])
    if not isinstance(listed, list) or not all(isinstance(n, str) for n in listed):
        raise RigError(
            f"{path}: expected 'expressions' to be a list of names; got {listed!r:.40}; correct it"
        )
    return np.array(marks, np.int64), listed


def _identities(folder: Path) -> list[Path]:
    """`identityNNN.obj` in order, up to the first number that is missing."""
    out: list[Path] = []
    while (path := folder / f"identity{len(out):03d}.obj").exists():
        out.append(path)
    return out


def _expressions(folder: Path, listed: list[str]) -> list[str]:
    """Names of the shapes: the listed ones in order, then other OBJ files by name."""
    for name in listed:
        if not (folder / f"{name}.obj").exists():
            raise RigError(
                f"expected {name}.obj in {folder}, which {INDICES} lists under 'expressions'; "
                "fetch it or unlist it"
            )
    stems = {p.stem for p in folder.glob("*.obj") if not re.fullmatch(r"identity\d+", p.stem)}
    others = stems - set(listed) - {Path(NEUTRAL).stem}
    return [*listed, *sorted(others, key=lambda name: (name.lower(), name))]


def _deltas(paths: list[Path], neutral: F64) -> NDArray[np.float32]:
    """`(n, V, 3)` what each shape adds to the neutral."""
    out = np.zeros((len(paths), *neutral.shape), np.float32)
    for i, path in enumerate(paths):
        points = parse_points(path)
        if len(points) != len(neutral):
            raise RigError(
                f"{path}: expected {len(neutral)} vertices like {NEUTRAL}; got {len(points)}; "
                "take it from the same release or out of the folder"
            )
        out[i] = points - neutral
    return out


def _geometry(mesh: Mesh) -> Ints:
    """`(Q,)` geometry of each polygon."""
    if len(mesh.points) == VERTICES and len(mesh.polygons) == sum(POLYGONS):
        return np.repeat(np.arange(len(GEOMETRIES)), POLYGONS)
    number = {name: i for i, name in enumerate(GEOMETRIES)}
    number |= {material: number[name] for material, name in MATERIALS.items()}
    pairs = zip(mesh.groups, mesh.materials, strict=True)
    return np.array([number.get(g, number.get(m, 0)) for g, m in pairs], np.int64)


def _check_face(folder: Path, mesh: Mesh, landmarks: Ints, tri: Ints, tri_uv: Ints) -> None:
    path = folder / NEUTRAL
    if not len(tri):
        raise RigError(
            f"{path}: expected polygons of the geometry 'face'; got none; name them with g or usemtl"
        )
    if tri_uv.min() < 0:
        raise RigError(
            f"{path}: expected a uv point (v/vt) at every corner of the face; got corners without; "
            "export the mesh with its uv"
        )
    stray = np.flatnonzero(~np.isin(landmarks, tri))
    if len(stray):
        raise RigError(
            f"{folder / INDICES}: expected landmarks on the geometry 'face'; {stray[0]} (vertex "
            f"{landmarks[stray[0]]}) is not; choose a vertex of the face"
        )
    right, left = mesh.points[landmarks[[36, 45]]]
    low, high = EYES_CM
    if not low < left[0] - right[0] < high:
        raise RigError(
            f"{path}: expected centimetres and the subject's left at +x, so outer eye corners (landmarks "
            f"36, 45) {low:g} to {high:g} apart; got {left[0] - right[0]:.3g}; scale or turn the meshes"
        )


def _vertex_uv(mesh: Mesh, tri: Ints, tri_uv: Ints, order: Ints) -> F64:
    """`(V, 2)` the uv of each vertex in the first of its triangles in `order`; 0 where it has none."""
    out = np.zeros((len(mesh.points), 2))
    vertices, corners = tri[order].ravel()[::-1], tri_uv[order].ravel()[::-1]
    has = corners >= 0
    out[vertices[has]] = mesh.uv[corners[has]]
    return out


def _eyes(points: F64, uv: F64, owner: Ints, landmarks: Ints) -> tuple[F64, F64]:
    """`(2, 3)` eyeball centres, left first, and `(V,)` uv distance from the pupil, 1 off the eyes."""
    radius = np.ones(len(points))
    centers = []
    for name, lids in (("sclera_L", slice(42, 48)), ("sclera_R", slice(36, 42))):
        ball = np.flatnonzero(owner == GEOMETRIES.index(name))
        if len(ball) < 8:
            centers.append(points[landmarks[lids]].mean(0) - [0, 0, EYE_DEPTH])
            continue
        centers.append(paint.eyeball(points[ball]))
        away = np.linalg.norm(uv[ball] - 0.5, axis=1)
        radius[ball] = np.where(away < 0.5, away, 1.0)
    return np.array(centers), radius
