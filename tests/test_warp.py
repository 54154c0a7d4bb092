"""Alignment: known answers, round trips, mirror symmetry, borders, and points that cannot be aligned."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from faceunits.alignment import warp
from faceunits.errors import AlignmentError

MIRROR = [1, 0, 2, 4, 3]

angles = st.floats(-180, 180)
zooms = st.floats(0.05, 20)
places = st.floats(-2000, 2000)


def moved(points: np.ndarray, angle_deg: float, zoom: float, x: float, y: float) -> np.ndarray:
    a = math.radians(angle_deg)
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    return zoom * points @ turn.T + (x, y)


def smooth_picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width] / max(height, width)
    rgb = np.stack([np.sin(5 * x + 2 * y), np.cos(4 * y - x), np.sin(3 * x * y + 1)], -1)
    return (127.5 + 120 * rgb).astype(np.uint8)


def test_template_is_mirror_symmetric_and_inside() -> None:
    mirrored = np.stack([1 - warp.TEMPLATE[:, 0], warp.TEMPLATE[:, 1]], 1)[MIRROR]
    np.testing.assert_allclose(mirrored, warp.TEMPLATE, atol=1e-12)
    assert warp.TEMPLATE.min() > 0.2
    assert warp.TEMPLATE.max() < 0.8


def test_template_is_where_the_rig_has_it() -> None:
    # 256 pixels of 20.48 cm: 12.5 pixels per centimetre, eyes 0.265 cm below their neutral middle.
    points = warp.template(256)
    np.testing.assert_allclose(points[0], [128 - 40 - 0.5, 80 + 0.265 * 12.5 - 0.5], atol=1e-9)
    np.testing.assert_allclose(points[1, 0] - points[0, 0], 80, atol=1e-9)


def test_the_template_itself_needs_no_transform() -> None:
    matrix = warp.similarity(warp.template(128)[None], 128)[0]
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-9)


@given(angles, zooms, places, places)
def test_similarity_undoes_any_move(angle: float, zoom: float, x: float, y: float) -> None:
    target = warp.template(256)
    points = moved(target, angle, zoom, x, y)
    matrix = warp.similarity(points[None], 256)[0]
    np.testing.assert_allclose(warp.apply(matrix, points), target, atol=1e-5)
    assert math.isclose(float(warp.scale(matrix)), 1 / zoom, rel_tol=1e-6)
    difference = (float(warp.roll_deg(matrix)) - angle + 180) % 360 - 180
    assert abs(difference) < 1e-4


@given(arrays(np.float64, (3, 5, 2), elements=st.floats(-20, 20)), angles)
def test_similarity_is_the_least_squares_one(noise: np.ndarray, angle: float) -> None:
    """No nearby rotation, scale or shift does better; a batch equals its members."""
    points = moved(warp.template(200), angle, 1.3, 40, -9) + noise
    matrices = warp.similarity(points, 200)

    def cost(matrix: np.ndarray, p: np.ndarray) -> float:
        return float(((warp.apply(matrix, p) - warp.template(200)) ** 2).sum())

    for matrix, p in zip(matrices, points, strict=True):
        np.testing.assert_allclose(matrix, warp.similarity(p[None], 200)[0], atol=1e-9)
        best = cost(matrix, p)
        for step in (1e-3, -1e-3):
            a = complex(1, step)
            for factor in (a / abs(a), 1 + step):
                c, s = complex(factor).real, complex(factor).imag
                middle = warp.apply(matrix, p).mean(0)
                turn = np.array([[c, -s], [s, c]])
                other = np.concatenate(
                    [turn @ matrix[:, :2], (turn @ (matrix[:, 2] - middle) + middle)[:, None]], 1
                )
                assert cost(other, p) >= best - 1e-6
            assert cost(matrix + np.array([[0, 0, step], [0, 0, -step]]), p) >= best - 1e-6


def test_no_reflection() -> None:
    flipped = warp.template(256) * (-1, 1)
    assert np.linalg.det(warp.similarity(flipped[None], 256)[0][:, :2]) > 0


@given(arrays(np.float64, (2, 2), elements=st.floats(-0.4, 0.4)), places, places)
def test_affine_undoes_any_affine_move(skew: np.ndarray, x: float, y: float) -> None:
    linear = np.eye(2) + skew
    points = warp.template(256) @ linear.T + (x, y)
    matrix = warp.affine(points[None], 256)[0]
    np.testing.assert_allclose(warp.apply(matrix, points), warp.template(256), atol=1e-5)


@given(arrays(np.float64, (2, 3), elements=st.floats(-5, 5)))
def test_invert_goes_back(noise: np.ndarray) -> None:
    matrix = np.array([[6.0, 0.0, 0.0], [0.0, 6.0, 0.0]]) + noise * (1, 1, 20)
    if abs(np.linalg.det(matrix[:, :2])) < 0.5:
        return
    points = np.array([[0.0, 0.0], [17.0, -4.0], [200.0, 90.0]])
    there = warp.apply(matrix, points)
    np.testing.assert_allclose(warp.apply(warp.invert(matrix), there), points, atol=1e-6)


@pytest.mark.parametrize(
    ("angle", "expected"), [(0, 0), (20, 20), (-35, -35), (100, 100)], ids=["none", "cw", "ccw", "lying"]
)
def test_roll_is_positive_clockwise(angle: float, expected: float) -> None:
    points = moved(warp.template(256), angle, 0.7, 300, 200)
    if 0 < angle < 90:
        # Clockwise as seen: the eye on the right of the image sinks (y grows downwards).
        assert points[1, 1] > points[0, 1]
    for fit in (warp.similarity, warp.affine):
        assert math.isclose(float(warp.roll_deg(fit(points[None], 256)[0])), expected, abs_tol=1e-6)


def test_mirrored_points_give_mirrored_crop() -> None:
    image = smooth_picture(240, 320)
    points = moved(warp.template(128), 17, 0.9, 80, 40)
    crop = warp.crop(image, warp.similarity(points[None], 128)[0], 128)
    mirrored = np.stack([319 - points[:, 0], points[:, 1]], 1)[MIRROR]
    other = warp.crop(np.ascontiguousarray(image[:, ::-1]), warp.similarity(mirrored[None], 128)[0], 128)
    np.testing.assert_allclose(other[:, :, ::-1], crop, atol=2e-3)


def test_identity_crop_returns_the_picture() -> None:
    image = smooth_picture(64, 64)
    crop = warp.crop(image, np.array([[1.0, 0, 0], [0, 1, 0]]), 64)
    assert crop.dtype == np.float32
    np.testing.assert_allclose(crop, image.transpose(2, 0, 1) / 255, atol=1e-6)
    assert np.array_equal(warp.picture(crop), image)


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.7, 8.0])
def test_shrinking_keeps_places_and_means(factor: float) -> None:
    """A ramp stays where it is at any factor: blocks and samples are centred right."""
    ramp = np.arange(600) / 600 * 250
    image = np.repeat(np.tile(ramp, (600, 1))[..., None], 3, 2).astype(np.uint8)
    size = 64
    back = np.array([[factor, 0, 20.0], [0, factor, 30.0]])
    crop = warp.crop(image, warp.invert(back), size)
    expected = (np.arange(size) * factor + 20) / 600 * 250 / 255
    np.testing.assert_allclose(crop[0].mean(0), expected, atol=0.004)


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = warp.crop(stripes, np.array([[0.15, 0, 0], [0, 0.15, 0]]), 70)
    np.testing.assert_allclose(crop, 0.5, atol=0.09)


@pytest.mark.parametrize("x", [-900.0, 900.0])
def test_beyond_the_picture_its_border_repeats(x: float) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 0], image[:, -1] = 50, 200
    crop = warp.crop(image, np.array([[1.0, 0, -x], [0, 1, 0]]), 32)
    np.testing.assert_allclose(crop, (50 if x < 0 else 200) / 255, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3000, 20)])
def test_pictures_of_odd_shapes(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    for zoom in (0.02, 1.0, 30.0):
        crop = warp.crop(image, np.array([[zoom, 0, 3], [0, zoom, -2]]), 24)
        np.testing.assert_allclose(crop, 77 / 255, atol=1e-6)


@pytest.mark.parametrize("fit", [warp.similarity, warp.affine])
@pytest.mark.parametrize(
    "points",
    [np.full((1, 5, 2), 7.0), np.full((1, 5, 2), np.nan), np.full((1, 5, 2), np.inf), np.ones((5, 2))],
    ids=["coinciding", "nan", "infinite", "no batch axis"],
)
def test_impossible_points(fit: object, points: np.ndarray) -> None:
    with pytest.raises(AlignmentError, match="expected"):
        fit(points, 128)  # type: ignore[operator]


def test_points_on_a_line_have_no_affine() -> None:
    line = np.stack([np.arange(5.0), 2 * np.arange(5.0)], 1)[None]
    with pytest.raises(AlignmentError, match="line"):
        warp.affine(line, 128)


def test_one_bad_face_spoils_no_silent_result() -> None:
    points = np.stack([warp.template(128), np.full((5, 2), 3.0)])
    with pytest.raises(AlignmentError):
        warp.similarity(points, 128)


def test_wrong_pictures_and_matrices() -> None:
    good = np.array([[1.0, 0, 0], [0, 1, 0]])
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(AlignmentError, match="uint8"):
            warp.crop(image, good, 8)
    with pytest.raises(AlignmentError, match="inverted"):
        warp.invert(np.zeros((2, 3)))


@given(angles, st.floats(0.2, 5), places, places)
def test_box_and_size_move_with_the_face(angle: float, zoom: float, x: float, y: float) -> None:
    base = warp.template(256)
    points = moved(base, angle, zoom, x, y)
    np.testing.assert_allclose(warp.face_size(points), zoom * warp.face_size(base), rtol=1e-4)
    upright = warp.face_box(moved(base, 0, zoom, x, y))
    np.testing.assert_allclose(upright[2:], zoom * warp.face_box(base)[2:], rtol=1e-4)
    assert upright[3] > upright[2]
    box = warp.face_box(points)
    assert np.all(points >= box[:2] - 1e-2)
    assert np.all(points <= box[:2] + box[2:] + 1e-2)
