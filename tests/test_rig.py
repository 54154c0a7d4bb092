"""The rig: rasteriser, face shapes, projection, and random faces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from small import needs_model, rig, tiny

from faceunits import aus
from faceunits.alignment import warp
from faceunits.errors import ParameterError, RigError
from faceunits.rig import raster, sample, shape
from faceunits.types import LANDMARK_MIRROR

FLIP = np.array([-1, 1, 1], np.float32)
PROFILE = aus.profile()


def weights(model: shape.FaceModel, **units: float) -> np.ndarray:
    """`(E,)` shape weights of parameters in [0, 1] by name."""
    au = np.zeros(len(PROFILE), np.float32)
    for name, value in units.items():
        au[PROFILE.index(name)] = value
    return au @ model.shape_weights(PROFILE)


def rest(model: shape.FaceModel) -> np.ndarray:
    return np.zeros(len(model.expression_names), np.float32)


# Rasteriser

TRIANGLE = np.array([[1, 1, 0], [1, 6, 0], [6, 1, 0]], np.float32)  # front-facing: y points down


def test_a_known_triangle_covers_known_samples():
    index, bary, depth = raster.visibility(TRIANGLE, np.array([[0, 1, 2]], np.int32), 8)
    y, x = np.mgrid[:8, :8]
    np.testing.assert_array_equal(index == 0, (x >= 1) & (y >= 1) & (x + y <= 7))
    np.testing.assert_allclose(bary[3, 2], [0.4, 0.2], atol=1e-6)  # weights of (1, 6) and (6, 1)
    assert depth[3, 2] == 0
    assert depth[7, 7] == -1e9


def test_back_faces_are_not_drawn():
    index, _, _ = raster.visibility(TRIANGLE, np.array([[0, 2, 1]], np.int32), 8)
    assert (index == -1).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_triangle_wins_in_any_order(order):
    points = np.concatenate([TRIANGLE, TRIANGLE + np.array([0, 0, 2])]).astype(np.float32)
    triangles = np.array([[0, 1, 2], [3, 4, 5]], np.int32)[list(order)]
    index, _, depth = raster.visibility(points, triangles, 8)
    assert index[2, 2] == order.index(1)
    assert depth[2, 2] == 2


@given(st.lists(st.tuples(st.floats(-4, 20), st.floats(-4, 20), st.floats(-5, 5)), min_size=3, max_size=3))
def test_barycentric_weights_give_the_place_back(corners):
    points = np.array(corners, np.float32)
    (a, b), (c, d) = points[1:, :2] - points[0, :2]
    assume(abs(a * d - b * c) > 0.1)  # on a sliver the weights are rounding errors
    index, bary, depth = raster.visibility(points, np.array([[0, 1, 2]], np.int32), 16)
    i, j = np.nonzero(index == 0)
    u, v = bary[i, j, 0], bary[i, j, 1]
    place = points[0] + u[:, None] * (points[1] - points[0]) + v[:, None] * (points[2] - points[0])
    np.testing.assert_allclose(place[:, 0], j, atol=5e-3)
    np.testing.assert_allclose(place[:, 1], i, atol=5e-3)
    np.testing.assert_allclose(place[:, 2], depth[i, j], atol=5e-3)


def test_normals_of_a_sphere_are_its_radii():
    golden = (1 + 5**0.5) / 2
    ico = np.array([[a, b * golden, 0] for a in (-1, 1) for b in (-1, 1)], float)
    points = np.concatenate([ico, np.roll(ico, 1, 1), np.roll(ico, 2, 1)]).astype(np.float32)
    edge = 2.01
    close = np.linalg.norm(points[:, None] - points[None], axis=2) < edge
    triangles = [
        (a, b, c) if np.linalg.det(points[[a, b, c]]) > 0 else (a, c, b)
        for a in range(12) for b in range(a + 1, 12) for c in range(b + 1, 12)
        if close[a, b] and close[b, c] and close[a, c]
    ]  # fmt: skip
    assert len(triangles) == 20
    faces = np.array(triangles, np.int32)
    np.testing.assert_allclose(raster.normals(points, faces), points / np.linalg.norm(points[0]), atol=1e-5)
    whole = 20 * np.sqrt(3) / 4 * 4  # twenty equilateral triangles of side 2
    assert raster.areas(points, faces).sum() == pytest.approx(whole, rel=1e-5)


# Shape


def test_identity_is_linear_in_its_parameters():
    model = tiny()
    a, b = np.array([1, -0.5, 0.2], np.float32), np.array([0.3, 1, -1], np.float32)
    x = [shape.vertices(model, i, rest(model)) for i in (a, b, (a + b) / 2)]
    np.testing.assert_allclose(x[2], (x[0] + x[1]) / 2, atol=1e-5)


@given(st.floats(0, 1), st.sampled_from(["AU12_L", "AU04_R", "AU26", "AU01_L"]))
def test_an_expression_grows_in_proportion(value, name):
    model, who = tiny(), np.zeros(3, np.float32)
    neutral = shape.vertices(model, who, rest(model))
    full = shape.vertices(model, who, weights(model, **{name: 1})) - neutral
    part = shape.vertices(model, who, weights(model, **{name: value})) - neutral
    np.testing.assert_allclose(part, value * full, atol=1e-5)


def test_units_that_share_a_shape_do_not_overshoot_it():
    model, who = tiny(), np.zeros(1, np.float32)
    both = weights(model, AU24=1, AU23=1)  # both press the lips
    assert both.max() == 2
    np.testing.assert_array_equal(
        shape.vertices(model, who, both), shape.vertices(model, who, np.clip(both, 0, 1))
    )


def test_identity_parameters_span_their_range():
    model = tiny()
    np.testing.assert_allclose(
        shape.identity_weights(model, np.array([0, 0.5, 1], np.float32)),
        np.array([-1, 0, 1]) * shape.IDENTITY_RANGE,
    )
    with pytest.raises(ParameterError, match="at most 3"):
        shape.identity_weights(model, np.zeros(4, np.float32))


@given(st.lists(st.floats(0, 1, width=32), min_size=len(PROFILE), max_size=len(PROFILE)),
       st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3))  # fmt: skip
def test_mirrored_parameters_give_the_mirrored_face(au, who):
    model = tiny()
    values, identity = np.array(au, np.float32), np.array(who, np.float32)
    sides = np.array([1, 1, -1], np.float32)  # the third mode is antisymmetric
    matrix = model.shape_weights(PROFILE)
    straight = shape.vertices(model, identity, values @ matrix, gaze_deg=(5, 12))
    turned = shape.vertices(model, identity * sides, values[PROFILE.mirror()] @ matrix, gaze_deg=(5, -12))
    np.testing.assert_allclose(turned, straight[model.mirror] * FLIP, atol=1e-4)


def test_a_model_without_a_needed_shape_is_refused():
    model = tiny()
    poor = shape.FaceModel(
        **{**model.__dict__, "expression_names": ("eyeBlink_L",) * len(model.expression_names)}
    )
    with pytest.raises(RigError, match="no shape"):
        poor.shape_weights(PROFILE)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(RigError, match="ict_facekit"):
        shape.load(tmp_path)
    (tmp_path / "ict_facekit.npz").write_bytes(b"no pack")
    with pytest.raises(RigError, match="damaged"):
        shape.load(tmp_path)
    np.savez(tmp_path / "ict_facekit.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(RigError, match="layout"):
        shape.load(tmp_path)


# Pose and projection


def project(model: shape.FaceModel, pitch: float = 0, yaw: float = 0, roll: float = 0, distance: float = 60):
    """`(68, 2)` landmarks of the rest face in the image plane, cm."""
    points = shape.vertices(model, np.zeros(1, np.float32), rest(model))
    return shape.project(model, points, shape.rotation(pitch, yaw, roll), distance=distance)[
        model.landmarks, :2
    ]


def test_pitch_is_nose_down_and_yaw_towards_the_image_right():
    model = tiny()
    nose = project(model)[30]
    assert project(model, pitch=15)[30, 1] > nose[1] + 1  # y points down
    assert project(model, yaw=15)[30, 0] > nose[0] + 1  # the subject's left
    eyes = project(model, roll=15)
    assert eyes[45, 1] > eyes[36, 1] + 1  # clockwise: the image-right eye goes down


@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(-30, 30))
def test_rotations_are_rotations(pitch, yaw, roll):
    r = shape.rotation(pitch, yaw, roll).astype(np.float64)
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(r) == pytest.approx(1, abs=1e-6)


@given(st.floats(-28, 28), st.floats(-28, 28), st.floats(30, 200))
def test_a_mirrored_pose_gives_the_mirrored_picture(pitch, yaw, distance):
    model = tiny()
    straight = project(model, pitch, yaw, distance=distance)
    turned = project(model, pitch, -yaw, distance=distance)
    np.testing.assert_allclose(turned, straight[LANDMARK_MIRROR] * [-1, 1], atol=1e-3)


def test_nearer_cameras_see_larger_noses():
    near, far = (project(tiny(), distance=d) for d in (30, 200))
    assert near[33, 1] > far[33, 1]  # in front of the eyes, so larger
    assert np.linalg.norm(near[45] - near[36]) == pytest.approx(np.linalg.norm(far[45] - far[36]), rel=0.06)


def test_five_points_are_eye_middles_nose_and_mouth_corners():
    points = np.zeros((68, 3), np.float32)
    points[36, :2], points[39, :2] = (0, 0), (2, 0)
    points[42, :2], points[45, :2] = (8, 2), (10, 2)
    points[30, :2], points[48, :2], points[54, :2] = (5, 5), (2, 8), (8, 8)
    np.testing.assert_array_equal(shape.five_points(points), [[1, 0], [9, 2], [5, 5], [2, 8], [8, 8]])


# The real face model


@needs_model
def test_the_template_is_the_base_face():
    model = rig()
    flat = shape.project(model, model.neutral, shape.rotation(0, 0))[model.landmarks, :2]
    cm = shape.five_points(flat)
    np.testing.assert_allclose(warp.TEMPLATE, np.array([0.5, 0.3125]) + cm / warp.CROP_CM, atol=1e-4)


@needs_model
def test_the_real_model_mirrors_too():
    model = rig()
    matrix = model.shape_weights(PROFILE)
    rng = np.random.default_rng(1)
    sides = np.array([np.sign((m[model.mirror] * FLIP * m).sum()) for m in model.identity], np.float32)
    for _ in range(3):
        face = sample.natural(rng, PROFILE, model.n_identity)
        who = shape.identity_weights(model, face.identity)
        straight = shape.vertices(model, who, face.au @ matrix)
        turned = shape.vertices(model, who * sides, face.au[PROFILE.mirror()] @ matrix)
        assert np.abs(turned - straight[model.mirror] * FLIP).max() < 0.12


@needs_model
def test_every_mode_of_identity_is_symmetric_or_antisymmetric():
    model = rig()
    share = [(m[model.mirror] * FLIP * m).sum() / (m**2).sum() for m in model.identity]
    np.testing.assert_allclose(np.abs(share), 1, atol=0.01)


@needs_model
def test_blink_closes_narrow_and_wide_eyes():
    model = rig()
    widths = []
    rng = np.random.default_rng(2)
    closed = weights(model, AU45_L=1, AU45_R=1)
    for _ in range(12):
        who = rng.normal(0, 1, model.n_identity).astype(np.float32)
        before = shape.aperture(shape.vertices(model, who, rest(model)), model.landmarks)
        after = shape.aperture(shape.vertices(model, who, closed), model.landmarks)
        assert (after < 0.35).all()
        assert (after < 0.4 * before).all()
        widths.append(before.mean())
    assert max(widths) > 1.2 * min(widths)


@needs_model
def test_one_sided_units_move_their_own_side():
    model, who = rig(), np.zeros(1, np.float32)
    left = (model.neutral[:, 0] > 0.3) & (model.vert_geometry == 0)
    right = (model.neutral[:, 0] < -0.3) & (model.vert_geometry == 0)
    neutral = shape.vertices(model, who, rest(model))
    for name in PROFILE.names:
        if name[-2:] in ("_L", "_R") and not name.startswith("AU30"):
            moved = np.linalg.norm(shape.vertices(model, who, weights(model, **{name: 1})) - neutral, axis=1)
            own, other = (left, right) if name.endswith("_L") else (right, left)
            assert moved[own].sum() > 3 * moved[other].sum(), name
    jaw = [
        shape.vertices(model, who, weights(model, **{"AU30" + s: 1}))[model.landmarks[8], 0]
        for s in ("_L", "_R")
    ]
    assert jaw[0] > 0.3 > -0.3 > jaw[1]  # the chin goes to the named side


@needs_model
@pytest.mark.parametrize(
    ("name", "landmarks", "axis", "sign"),
    [("AU12", (48, 54), 1, 1), ("AU15", (48, 54), 1, -1), ("AU01", (21, 22), 1, 1), ("AU02", (17, 26), 1, 1),
     ("AU04", (20, 23), 1, -1), ("AU26", (8,), 1, -1), ("AU18", (51, 57), 2, 1), ("AU17", (57,), 1, 1)],
)  # fmt: skip
def test_units_move_what_their_names_say(name, landmarks, axis, sign):
    model, who = rig(), np.zeros(1, np.float32)
    au = PROFILE.expand({name: 5}) @ model.shape_weights(PROFILE)
    moved = shape.vertices(model, who, au) - shape.vertices(model, who, rest(model))
    assert (sign * moved[model.landmarks[list(landmarks)], axis] > 0.1).all()


# Random faces


@needs_model
def test_brows_lie_where_they_are_put_and_the_eyes_stay():
    model = rig()
    ends = shape.brow_ends(model)
    assert 0 <= ends.min() < ends.max() <= 1
    np.testing.assert_allclose(ends[model.mirror], ends, atol=0.02)
    marks = ends[model.landmarks]
    np.testing.assert_allclose(marks[[22, 21]], [[1, 0], [1, 0]], atol=0.02)
    np.testing.assert_allclose(marks[[26, 17]], [[0, 1], [0, 1]], atol=0.02)
    np.testing.assert_allclose(marks[17:27].sum(1), 1, atol=0.05)
    others = np.setdiff1d(np.arange(68), np.arange(17, 27))
    assert marks[36:48].max() < 0.01  # lids
    assert marks[others].max() < 0.1  # the bridge of the nose begins between the brows


@needs_model
@pytest.mark.parametrize("height", [-1.1, 0.5])
def test_brows_at_their_limits_fold_no_skin(height):
    model = rig()
    moved = model.neutral.copy()
    moved[:, 1] += height * shape.brow_ends(model).sum(1)
    place = np.abs(model.neutral[model.triangles].mean(1) - model.neutral[model.landmarks[[24, 19]]].mean(0))
    near = (place[:, 0] < 5) & (place[:, 1] < 2.5) & (place[:, 2] < 3) & (model.tri_geometry == 0)

    def facing(points: np.ndarray) -> np.ndarray:
        a, b, c = points[model.triangles[near]].transpose(1, 0, 2)
        return np.cross(b - a, c - a)[:, 2]

    before, after = facing(model.neutral), facing(moved)
    assert near.sum() > 300
    clear = before > 0.002
    assert (after[clear] > 0).all()


def draws(count: int) -> list[sample.Sample]:
    rng = np.random.default_rng(7)
    return [sample.natural(rng, PROFILE, 20) for _ in range(count)]


def test_natural_faces_stay_in_range():
    for face in draws(500):
        assert face.au.shape == (len(PROFILE),)
        assert face.au.min() >= 0
        assert face.au.max() <= 1
        assert face.identity.min() >= 0
        assert face.identity.max() <= 1
        assert abs(face.pitch_deg) <= shape.POSE_RANGE_DEG
        assert abs(face.yaw_deg) <= shape.POSE_RANGE_DEG
        assert face.au.dtype == face.identity.dtype == np.float32


def test_natural_faces_rest_and_smirk_as_often_as_they_should():
    faces = np.stack([f.au for f in draws(3000)])
    assert np.mean(faces.max(1) == 0) == pytest.approx(0.12, abs=0.03)
    left, right = faces[:, PROFILE.index("AU12_L")], faces[:, PROFILE.index("AU12_R")]
    smiles = (left > 0.05) | (right > 0.05)
    one_sided = ((left == 0) ^ (right == 0))[smiles].mean()
    assert one_sided == pytest.approx(0.2, abs=0.06)
    jaw = faces[:, [PROFILE.index("AU30_L"), PROFILE.index("AU30_R")]]
    assert (jaw.min(1) == 0).all()  # never to both sides
    sides = faces[:, PROFILE.mirror()]
    np.testing.assert_allclose(faces.mean(0), sides.mean(0), atol=0.02)
    assert (faces > 0.05).mean(0).min() > 0.02  # every unit is seen


def test_portraits_smile_or_rest_and_do_little_else():
    rng = np.random.default_rng(3)
    faces = np.stack([sample.smiles(rng, PROFILE, 4).au for _ in range(2000)])
    assert np.mean(faces.max(1) == 0) == pytest.approx(0.2, abs=0.03)
    active = {n: (faces[:, PROFILE.index(n)] > 0.05).mean() for n in ("AU12_L", "AU06_L", "AU16_L", "AU07_L")}
    assert active["AU12_L"] > active["AU06_L"] > active["AU16_L"] > 10 * active["AU07_L"] > 0


def test_uniform_faces_fill_the_range():
    rng = np.random.default_rng(0)
    faces = [sample.uniform(rng, PROFILE, 4) for _ in range(400)]
    au = np.stack([f.au for f in faces])
    np.testing.assert_allclose(au.mean(), 0.5, atol=0.01)
    assert np.ptp([f.yaw_deg for f in faces]) > 50


def test_a_seed_gives_the_same_face():
    a, b = (sample.natural(np.random.default_rng(5), PROFILE, 8) for _ in range(2))
    np.testing.assert_array_equal(a.au, b.au)
    np.testing.assert_array_equal(a.identity, b.identity)


# Columns


def test_columns_of_known_parameters():
    values = np.zeros((1, len(PROFILE)), np.float32)
    for name, value in (("AU12_L", 0.4), ("AU12_R", 0.8), ("AU26", 0.35 + 0.65 / 2), ("AU17", 0.2)):
        values[0, PROFILE.index(name)] = value
    got = {k: float(v[0]) for k, v in aus.columns(PROFILE.names, values, np.array([0.5], np.float32)).items()}
    wanted = {
        "AU12_L_r": 2,
        "AU12_R_r": 4,
        "AU12_r": 4,
        "AU26_r": 5,
        "AU27_r": 2.5,
        "AU17_r": 1,
        "AU25_r": 2.5,
    }
    for name, value in got.items():
        assert value == pytest.approx(wanted.get(name, 0), abs=1e-5), name
    assert set(wanted) <= set(got)


def test_a_small_jaw_drop_is_not_yet_a_stretch():
    values = np.zeros((1, len(PROFILE)), np.float32)
    values[0, PROFILE.index("AU26")] = 0.07
    got = aus.columns(PROFILE.names, values, np.zeros(1, np.float32))
    assert got["AU26_r"][0] == pytest.approx(1)
    assert got["AU27_r"][0] == 0
