"""Folders of OBJ files: the parser, what a folder must hold, and the painted regions against the pack's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import FACE_MODEL, needs_model, rig, tiny

from faceunits.errors import RigError
from faceunits.rig import paint, render, shade, shape, upstream


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# OBJ

QUAD = "v 0 0 0\nv 2 0 0\nv 2 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"


def corners(tmp_path: Path, faces: str) -> list[list[tuple[int, int]]]:
    return [list(p) for p in upstream.parse(write(tmp_path / "a.obj", QUAD + faces)).polygons]


def test_a_small_file_is_read(tmp_path):
    text = (
        "# a comment\nmtllib x.mtl\n\no thing\nv 1 2.5 -3e0 # inline\n  v 0 1 0 1.0\nv\t1 0 0 .5 .5 .5\n"
        "vt 0.25 0.75 0\nvt 0.5\nvn 0 0 1\ng\nusemtl M_Face\ns off\nf 1/1/1 2/2/1 \\\n 3/1/1\n"
    )
    mesh = upstream.parse(write(tmp_path / "a.obj", text))
    np.testing.assert_array_equal(mesh.points, [[1, 2.5, -3], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(mesh.uv, [[0.25, 0.75], [0.5, 0]])
    assert mesh.polygons == (((0, 0), (1, 1), (2, 0)),)
    assert mesh.groups == ("",)
    assert mesh.materials == ("M_Face",)
    np.testing.assert_array_equal(upstream.parse_points(tmp_path / "a.obj"), mesh.points)


@pytest.mark.parametrize(
    ("face", "expected"),
    [
        ("f 1 2 3", [(0, -1), (1, -1), (2, -1)]),
        ("f 1/4 2/3 3/2", [(0, 3), (1, 2), (2, 1)]),
        ("f 1//1 2//1 3//1", [(0, -1), (1, -1), (2, -1)]),
        ("f 1/4/9 2/3/9 3/2/9", [(0, 3), (1, 2), (2, 1)]),
        ("f -4/-1 -3/-2 -1/-4", [(0, 3), (1, 2), (3, 0)]),
    ],
)
def test_corners_of_all_forms(tmp_path, face, expected):
    assert corners(tmp_path, face) == [expected]


@given(
    st.lists(
        st.tuples(*[st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 6))] * 3),
        min_size=1,
        max_size=20,
    )
)
def test_vertices_survive_writing_and_reading(tmp_path_factory, points):
    path = tmp_path_factory.mktemp("obj") / "a.obj"
    write(path, "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in points))
    np.testing.assert_array_equal(upstream.parse_points(path), points)
    np.testing.assert_array_equal(upstream.parse(path).points, points)


def test_polygons_are_split_on_the_shorter_diagonal_and_keep_their_winding(tmp_path):
    kite = "v 0 0 0\nv 3 -1 0\nv 6 0 0\nv 3 1 0\nf 1 2 3 4\nf 2 3 4 1\nf 1 2 3\n"
    tri, uv, source = upstream.triangulate(upstream.parse(write(tmp_path / "a.obj", kite)))
    np.testing.assert_array_equal(tri, [[0, 1, 3], [1, 2, 3], [1, 2, 3], [1, 3, 0], [0, 1, 2]])
    assert (uv == -1).all()
    np.testing.assert_array_equal(source, [0, 0, 1, 1, 2])


def test_a_pentagon_is_a_fan(tmp_path):
    mesh = upstream.parse(write(tmp_path / "a.obj", QUAD + "v 1 3 0\nf 1 2 3 5 4\n"))
    np.testing.assert_array_equal(upstream.triangulate(mesh)[0], [[0, 1, 2], [0, 2, 4], [0, 4, 3]])


@pytest.mark.parametrize(
    "line", ["v 1 2", "v 1 2 x", "v 1 nan 2", "vt", "f 1 2", "f 1 2 0", "f 1 2 a", "f 1 2 9", "f 1 2 -9",
             "f 1/1 2/1 3/9", "f 1/0 2/1 3/1"],
)  # fmt: skip
def test_a_broken_line_is_named(tmp_path, line):
    write(tmp_path / "bent.obj", QUAD + line + "\n")
    with pytest.raises(RigError, match=r"bent\.obj, line 9: "):
        upstream.parse(tmp_path / "bent.obj")


def test_a_file_without_vertices_or_no_file_is_refused(tmp_path):
    with pytest.raises(RigError, match="no vertices"):
        upstream.parse(write(tmp_path / "a.obj", "# nothing\n"))
    with pytest.raises(RigError, match=r"none\.obj"):
        upstream.parse_points(tmp_path / "none.obj")


# Any face: a bent sheet with landmarks

STEP = 0.25


def sheet() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, uv, quads and landmarks of a mirror-symmetric sheet, 18 x 22 cm."""
    x, y = np.meshgrid(np.arange(-36, 37) * STEP, np.arange(-56, 33) * STEP)
    points = np.stack([x, y, -0.06 * x**2], -1).reshape(-1, 3)
    uv = np.stack([(x + 9) / 18, (y + 14) / 22], -1).reshape(-1, 2)
    wide, high = 73, 89
    corner = (np.arange(high - 1)[:, None] * wide + np.arange(wide - 1)).ravel()
    quads = np.stack([corner, corner + 1, corner + 1 + wide, corner + wide], 1)
    flat = tiny().neutral[:68, :2]
    # round half away from 0, so that left and right stay mirrored
    column = np.sign(flat[:, 0]) * np.floor(np.abs(flat[:, 0]) / STEP + 0.5) + 36
    row = np.floor(flat[:, 1] / STEP + 0.5) + 56
    return points, uv, quads, (row * wide + column).astype(int)


def write_obj(path: Path, points: np.ndarray, rest: str = "") -> None:
    write(path, "\n".join("v " + " ".join(f"{c:.9g}" for c in p) for p in points.tolist()) + "\n" + rest)


def write_sheet(folder: Path, *, scale: float = 1.0, material: str = "skin") -> np.ndarray:
    points, uv, quads, marks = sheet()
    rest = "".join(f"vt {u:.9g} {v:.9g}\n" for u, v in uv) + f"usemtl {material}\n"
    rest += "".join("f " + " ".join(f"{i + 1}/{i + 1}" for i in q) + "\n" for q in quads.tolist())
    write_obj(folder / upstream.NEUTRAL, points * scale, rest)
    write_obj(folder / "identity000.obj", points * 1.1 * scale)
    write_obj(folder / "jawOpen.obj", (points - np.array([0, 1, 0])) * scale)
    (folder / upstream.INDICES).write_text(json.dumps({upstream.LANDMARKS: marks.tolist()}), encoding="utf-8")
    return marks


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> shape.FaceModel:
    folder = tmp_path_factory.mktemp("sheet")
    write_sheet(folder)
    return shape.load(folder)


def field(model: shape.FaceModel, name: str) -> np.ndarray:
    return model.region[:, model.region_names.index(name)]


def test_another_linear_face_loads(plain):
    points, _, quads, marks = sheet()
    assert len(plain.neutral) == len(points)
    assert len(plain.triangles) == 2 * len(quads)
    np.testing.assert_array_equal(plain.landmarks, marks)
    np.testing.assert_allclose(plain.identity[0], points * 0.1, atol=1e-5)
    assert plain.expression_names == ("jawOpen",)
    np.testing.assert_allclose(plain.expression[0], np.broadcast_to([0, -1, 0], points.shape), atol=1e-5)
    assert (plain.eye_center[0, 0] > 0) & (plain.eye_center[1, 0] < 0)


def test_fewer_modes_are_read_when_asked(tmp_path):
    write_sheet(tmp_path)
    write(tmp_path / "identity000.obj", "not read")
    assert shape.load(tmp_path, n_identity=0).n_identity == 0


def test_mirroring_a_face_swaps_its_painted_sides(plain):
    flip = np.array([-1, 1, 1], np.float32)
    np.testing.assert_allclose(plain.neutral[plain.mirror], plain.neutral * flip, atol=1e-5)
    swap = [n.replace("_L", "_X").replace("_R", "_L").replace("_X", "_R") for n in plain.region_names]
    for name, twin in zip(plain.region_names, swap, strict=True):
        np.testing.assert_allclose(field(plain, name)[plain.mirror], field(plain, twin), atol=0.05)


def test_regions_lie_where_the_landmarks_are(plain):
    marks = plain.landmarks
    inside = {n: field(plain, n) > 0 for n in plain.region_names}
    assert inside["nose"][marks[[28, 29, 30]]].all()
    assert inside["brow_R"][marks[[18, 19, 20]]].all()
    assert inside["brow_L"][marks[[23, 24, 25]]].all()
    assert not np.logical_or.reduce([inside[n][marks[36:48]] for n in inside]).any()  # eyes are not painted
    middle = np.flatnonzero(inside["brow_L"])
    assert (plain.neutral[middle, 0] > 0).all()
    along = plain.brow[marks[[22, 23, 24, 25, 26]], 0, 0]
    np.testing.assert_allclose(along, [0, 0.25, 0.5, 0.75, 1], atol=0.06)
    assert (plain.brow[marks[22:27], 0, 1] > 0).all()  # landmarks mark the upper edge


def test_a_field_is_the_distance_in_cm(plain):
    """Far from the border's bends, one step up the sheet is one step of the field."""
    nose = field(plain, "nose").reshape(89, 73)
    column = nose[:, 36]
    below = np.flatnonzero((column < -0.5) & (column > -3) & (np.arange(89) < 50))
    np.testing.assert_allclose(np.diff(column[below]), STEP, atol=0.03)


def broken(folder: Path, part: str) -> None:
    """One thing wrong with the folder of a sheet."""
    marks = json.loads((folder / upstream.INDICES).read_text(encoding="utf-8"))[upstream.LANDMARKS]
    neutral = (folder / upstream.NEUTRAL).read_text(encoding="utf-8")
    match part:
        case "neutral":
            (folder / upstream.NEUTRAL).unlink()
        case "indices":
            (folder / upstream.INDICES).unlink()
        case "short":
            write(folder / upstream.INDICES, json.dumps({upstream.LANDMARKS: marks[:60]}))
        case "range":
            write(folder / upstream.INDICES, json.dumps({upstream.LANDMARKS: [*marks[:67], 99999]}))
        case "listed":
            table = {upstream.LANDMARKS: marks, "expressions": ["mouthSmile_L"]}
            write(folder / upstream.INDICES, json.dumps(table))
        case "count":
            write_obj(folder / "jawOpen.obj", sheet()[0][:-1])
        case "line":
            write(folder / "identity000.obj", "v 0 0 0\nv 0 zero 0\n")
        case "uv":
            write(folder / upstream.NEUTRAL, neutral.replace("/1 ", " ", 1))
        case "off":
            write(folder / upstream.NEUTRAL, neutral.replace("usemtl skin", "usemtl M_Teeth"))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("neutral", r"generic_neutral_mesh\.obj"),
        ("indices", r"vertex_indices\.json.*68 vertices"),
        ("short", "68 vertices .* got 60"),
        ("range", "0 to 6496"),
        ("listed", r"mouthSmile_L\.obj"),
        ("count", r"jawOpen\.obj: expected 6497 vertices .* got 6496"),
        ("line", r"identity000\.obj, line 2: expected 3 numbers after v; got '0 zero 0'"),
        ("uv", "uv point"),
        ("off", "geometry 'face'"),
    ],
)
def test_a_folder_with_a_fault_is_refused(tmp_path, part, message):
    write_sheet(tmp_path)
    broken(tmp_path, part)
    with pytest.raises(RigError, match=message):
        shape.load(tmp_path)


def test_a_model_in_millimetres_is_refused(tmp_path):
    write_sheet(tmp_path, scale=10)
    with pytest.raises(RigError, match="centimetres"):
        shape.load(tmp_path)


# Eyes, mirror


def test_the_cornea_does_not_move_the_eyeballs_centre():
    rng = np.random.default_rng(0)
    away = rng.normal(size=(800, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    ball = [3, 4, 8] + 1.2 * away * np.where(away[:, 2:] > 0.8, 1.15, 1)
    np.testing.assert_allclose(paint.eyeball(ball), [3, 4, 8], atol=1e-6)


def test_partners_are_each_others():
    points = np.array([[1, 0, 0], [-1, 0, 0.01], [0, 2, 0], [3, 1, 0], [4, 0, 0], [-4, 0, 0]], float)
    got = paint.mirror(points, np.array([0, 0, 0, 0, 1, 2]), ("face", "eye_L", "eye_R"))
    np.testing.assert_array_equal(got, [1, 0, 2, 3, 5, 4])


# The pack, written as upstream's files

SHAPES = ("browDown_L", "eyeBlink_L", "eyeBlink_R", "jawOpen", "mouthSmile_L")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Upstream's neutral, two identities, five listed shapes and an unlisted one, from the pack."""
    out = tmp_path_factory.mktemp("FaceXModel")
    with np.load(FACE_MODEL / "ict_facekit.npz") as pack:
        rest = "".join(f"vt {u:.9g} {v:.9g}\n" for u, v in pack["uv"].tolist())
        name, before = pack["material_name"], -1
        lines = []
        corner_lists = zip(pack["poly"].tolist(), pack["poly_uv"].tolist(), strict=True)
        for (vertices, uvs), material in zip(corner_lists, pack["poly_material"].tolist(), strict=True):
            if material != before:
                lines.append(f"usemtl {name[material]}")
                before = material
            lines.append(
                "f " + " ".join(f"{v + 1}/{u + 1}" for v, u in zip(vertices, uvs, strict=True) if v >= 0)
            )
        neutral = pack["neutral"].astype(np.float64)
        write_obj(
            out / upstream.NEUTRAL, neutral, rest + "mtllib ICTFaceModelMaterial.mtl\n" + "\n".join(lines)
        )
        for k in range(2):
            write_obj(out / f"identity{k:03d}.obj", neutral + pack["identity_delta"][k])
        names = pack["expression_name"].tolist()
        for shape_name in (*SHAPES, "cheekRaiser_L"):
            write_obj(out / f"{shape_name}.obj", neutral + pack["expression_delta"][names.index(shape_name)])
        table = {upstream.LANDMARKS: pack["landmark68"].tolist(), "expressions": list(SHAPES)}
    write(out / upstream.INDICES, json.dumps(table))
    return out


@pytest.fixture(scope="module")
def loaded(folder) -> shape.FaceModel:
    return shape.load(folder)


@needs_model
def test_a_folder_equals_the_pack(loaded):
    pack = rig()
    np.testing.assert_allclose(loaded.neutral, pack.neutral, atol=1e-4)
    np.testing.assert_allclose(loaded.identity, pack.identity[:2], atol=1e-4)
    assert loaded.expression_names == (*SHAPES, "cheekRaiser_L")
    at = [pack.expression_names.index(n) for n in loaded.expression_names]
    np.testing.assert_allclose(loaded.expression, pack.expression[at], atol=1e-4)
    for name in ("triangles", "tri_geometry", "vert_geometry", "landmarks", "mirror"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(pack, name), err_msg=name)
    assert loaded.geometry_names == pack.geometry_names
    assert loaded.region_names == pack.region_names
    np.testing.assert_allclose(loaded.eye_center, pack.eye_center, atol=1e-3)
    seen = np.minimum(pack.eye_radius, 0.4)  # the balls' backs end in a seam
    np.testing.assert_allclose(np.minimum(loaded.eye_radius, 0.4), seen, atol=2e-3)


def f1(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@needs_model
@pytest.mark.parametrize("name", paint.REGIONS)
def test_painted_regions_agree_with_the_packs(loaded, name):
    pack = rig()
    mine, theirs = field(loaded, name), field(pack, name)
    assert f1(mine > 0, theirs > 0) >= 0.95
    near = np.abs(theirs) < 0.3  # where a border's colour and label are made
    assert np.abs(mine - theirs)[near].mean() < 0.1


@needs_model
@pytest.mark.parametrize("side", [0, 1])
def test_places_along_a_brow_agree_with_the_packs(loaded, side):
    near = field(rig(), paint.REGIONS[side]) > -0.1
    mine, theirs = loaded.brow[near, side], rig().brow[near, side]
    np.testing.assert_allclose(mine[:, 0], theirs[:, 0], atol=0.03)
    np.testing.assert_allclose(mine[:, 1], theirs[:, 1], atol=0.15)


@needs_model
@pytest.mark.parametrize("yaw", [0.0, 28.0])
@pytest.mark.parametrize("jaw", [0.0, 0.6])
def test_rendered_labels_agree_with_the_packs(loaded, yaw, jaw):
    labels = []
    for model in (loaded, rig()):
        weights = np.zeros(len(model.expression_names), np.float32)
        weights[model.expression_names.index("jawOpen")] = jaw
        scene = render.Scene(np.zeros(2, np.float32), weights, yaw_deg=yaw)
        labels.append(render.draw(model, render.prepare(model), scene, 256).label)
    mine, theirs = labels
    for kind, name in enumerate(shade.LABELS):
        if (theirs == kind).sum() > 100:  # a sliver of an ear is all border
            assert f1(mine == kind, theirs == kind) >= 0.95, name
