"""The motion engine on a drawn face whose parameters and landmarks are known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from faceunits import aus
from faceunits.fitting.models import load_generator
from faceunits.motion import draw, engine, face, inside, sequence, sheet

N = len(aus.profile())
Y = np.concatenate([np.full(2, 0.5), np.zeros(N), np.full(60, 0.5)]).astype(np.float32)
SCALE, MARGIN = 2, 20


@cache
def stage(scale: int = SCALE, alpha: bool = False) -> engine.Stage:
    """The base face as M draws it, `scale` times as large, on a striped ground."""
    generator, _, _ = load_generator()
    with torch.no_grad():
        drawn = generator(torch.from_numpy(Y)[None])[0].permute(1, 2, 0).numpy()
    big = Image.fromarray((255 * drawn).astype(np.uint8)).resize((128 * scale,) * 2, Image.Resampling.BICUBIC)
    picture = np.pad(np.array(big), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="wrap")
    if alpha:
        picture = np.dstack([picture, np.full(picture.shape[:2], 200, np.uint8)])
    matrix = np.array([[1 / scale, 0, 0], [0, 1 / scale, 0]])
    matrix[:, 2] = 0.5 / scale - 0.5 - MARGIN / scale
    net = face.load()
    marks = face.lay(net, Y, np.zeros((68, 2), np.float32), 128).raw.points[net.landmarks.numpy()]
    return engine.stage(picture, matrix, Y, marks.astype(np.float32), net, 128)


def wanted(**units: float) -> NDArray[np.float32]:
    y = Y.copy()
    y[2 : 2 + N] = aus.profile().expand(units)
    return y


def marks(shape: face.Shape) -> NDArray[np.float64]:
    return shape.points[stage().laid.array("landmarks")]


def test_what_is_not_asked_for_stays() -> None:
    assert np.array_equal(stage().draw(Y.copy()), stage().picture)
    assert stage().draw(Y.copy()) is not stage().picture


def test_nothing_moves_outside_the_head() -> None:
    from faceunits import editing
    from faceunits.evaluation import edits

    one = editing.Prepared(0, None, stage())  # type: ignore[arg-type]
    outside = ~edits.head(one, stage().picture.shape[:2])
    assert 0.2 < outside.mean() < 0.8
    for y in (wanted(AU27=5), wanted(AU12=5, AU06=5, AU34=5), wanted(AU01=5, AU02=5)):
        out = stage().draw(y)
        assert (out[outside] == stage().picture[outside]).all()
        assert (out != stage().picture).any()


def test_a_smile_raises_the_corners_of_the_mouth() -> None:
    before, after = marks(stage().laid.shape), marks(face.reshape(stage().laid, wanted(AU12=4)))
    for corner, outward in ((48, -1), (54, 1)):
        assert after[corner, 1] < before[corner, 1] - 1.5
        assert (after[corner, 0] - before[corner, 0]) * outward > 0.5
    assert np.abs(after[36:48] - before[36:48]).max() < 1


def test_one_side_moves_alone() -> None:
    before, after = marks(stage().laid.shape), marks(face.reshape(stage().laid, wanted(AU12_L=4)))
    moved = np.linalg.norm(after - before, axis=1)
    assert moved[54] > 3 * moved[48]  # the subject's left is image right


@pytest.mark.parametrize("side", ["L", "R"])
def test_a_lid_shuts_its_own_eye(side: str) -> None:
    laid = stage().laid
    shut = face.reshape(laid, wanted(**{f"AU45_{side}": 5}))
    for name in ("L", "R"):
        _, before = face.lid_gaps(laid, laid.shape.points, f"lid_{name}")
        _, after = face.lid_gaps(laid, shut.points, f"lid_{name}")
        assert (after.mean() < 0.05 * before.mean()) == (name == side)


def test_lids_that_are_wider_than_the_mesh_shut_as_well() -> None:
    laid = stage().laid
    net = laid.mesh
    at = laid.raw.points[net.landmarks.numpy()].copy()
    at[[37, 38, 43, 44], 1] -= 1.5
    wide = face.lay(net, Y, at.astype(np.float32), 128)
    _, opened = face.lid_gaps(wide, wide.shape.points, "lid_L")
    _, shut = face.lid_gaps(wide, face.reshape(wide, wanted(AU45=5)).points, "lid_L")
    _, usual = face.lid_gaps(laid, laid.shape.points, "lid_L")
    assert opened.mean() > 1.15 * usual.mean()
    assert shut.max() < 0.3


def test_the_jaw_opens_the_mouth_and_teeth_appear() -> None:
    shape = face.reshape(stage().laid, wanted(AU26=5))
    assert marks(shape)[8, 1] > marks(stage().laid.shape)[8, 1] + 2
    points = stage().photo_points(shape)
    x0, y0, size = stage().square
    index, _ = draw.visible(points, stage().depth(shape), stage().triangles, (x0, y0), size)
    hole, inner = inside.show(stage(), shape, points, index)
    lips = points[stage().laid.array("landmarks")[[62, 66]]].mean(0) - (x0, y0)
    x, y = (int(v) for v in lips)
    assert hole[2 * y, 2 * x]
    assert inner[y, x].max() < 120  # dark between the teeth


def test_lips_open_and_close_by_what_is_asked() -> None:
    laid = stage().laid

    def gap(shape: face.Shape) -> float:
        at = marks(shape)
        return float(np.mean([at[low, 1] - at[up, 1] for up, low in face.LIPS]))

    rest = gap(laid.shape)
    assert gap(face.reshape(laid, Y, lips=0.6)) - rest == pytest.approx(
        0.6 * face.ROLL * laid.full_gap, abs=0.25
    )
    opened = face.reshape(laid, wanted(AU26=4), lips=-1.0)
    assert gap(opened) < 0.3


def test_size_does_not_matter() -> None:
    y = wanted(AU12=4, AU04=3)
    small, large = stage(2).draw(y), stage(4).draw(y)
    small, large = small[MARGIN:-MARGIN, MARGIN:-MARGIN], large[MARGIN:-MARGIN, MARGIN:-MARGIN]
    shrunk = np.asarray(Image.fromarray(large).resize(small.shape[1::-1], Image.Resampling.BOX))
    error = np.mean((shrunk.astype(float) - small.astype(float)) ** 2)
    assert 10 * np.log10(255**2 / error) > 30


def test_alpha_goes_along() -> None:
    out = stage(alpha=True).draw(wanted(AU26=4))
    assert out.shape[2] == 4
    assert np.abs(out[..., 3].astype(int) - 200).max() <= 55  # the mouth's inside is opaque
    solid = stage().draw(wanted(AU12=3))
    assert np.abs(stage(alpha=True).draw(wanted(AU12=3))[..., :3].astype(int) - solid).max() <= 1


def test_a_landmark_that_is_elsewhere_is_met() -> None:
    net = stage().laid.mesh
    at = stage().laid.raw.points[net.landmarks.numpy()].astype(np.float32)
    at[48:68] += (2, -1)
    laid = face.lay(net, Y, at, 128)
    assert np.abs(laid.shape.points[net.landmarks.numpy()][48:68] - at[48:68]).max() < 0.35


def test_splines_keep_planes_and_meet_knots() -> None:
    rng = np.random.default_rng(0)
    knots, places = rng.normal(size=(30, 3)), rng.normal(size=(50, 3))
    slope = rng.normal(size=(3, 2))
    spread = face.splines(places, knots, np.full(30, 0.3))
    assert np.allclose(spread @ (knots @ slope + 1), places @ slope + 1)
    values = rng.normal(size=(30, 2))
    assert np.allclose(face.splines(knots, knots, np.zeros(30)) @ values, values)


def test_whole_pixels_move_without_loss() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    points = np.array([[2, 2], [20, 2], [2, 20], [20, 20]], float)
    triangles = np.array([[0, 2, 1], [1, 2, 3]], np.int32)
    index, bary = draw.visible(points + np.array([3, 1]), np.zeros(4, np.float32), triangles, (0, 0), 24)
    out = draw.compose(
        photo, 0, 0, index, bary, triangles, points, np.ones(4, np.float32),
        np.zeros(index.shape, bool), photo,
    )  # fmt: skip
    assert np.array_equal(out[5:20, 7:22], photo[4:19, 4:19])
    assert np.array_equal(out[:, :4], photo[:, :4])


def test_filling_keeps_what_is_known() -> None:
    image = np.random.default_rng(0).random((33, 20, 3)).astype(np.float32)
    known = np.zeros((33, 20), np.float32)
    known[5:9, 3:15] = 1
    out = draw.fill(image, known)
    assert np.allclose(out[known > 0], image[known > 0])
    assert out.min() >= image[known > 0].min() - 1e-5
    flat = draw.fill(np.full((33, 20, 1), 7, np.float32), known)
    assert np.allclose(flat, 7)


def test_the_way_begins_and_ends_at_rest() -> None:
    way = sequence.shares(2.0, 25)
    assert len(way) == 50 + 2 * 12
    assert way[0] == 0
    assert way[-1] == 1
    assert np.all(np.diff(way) >= 0)
    assert max(np.diff(way)) < 0.04


def test_a_sheet_has_a_place_for_each() -> None:
    page = sheet.grid(
        [np.full((50, 60, 3), v, np.uint8) for v in (0, 90, 180)],
        list("abc"),
        (-5, 0, 50),
        side=48,
        columns=2,
    )
    assert page.shape == (2 * (48 + 14), 96, 3)
    assert page[24, 72, 0] == 90
