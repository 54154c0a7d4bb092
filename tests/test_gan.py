"""The GAN engine: framing, labels, and what may and may not change in a photo."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import test_gan_files as small
import test_motion
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from faceunits.alignment import warp
from faceunits.errors import AlignmentError, ParameterError
from faceunits.gan import engine, frame, labels
from faceunits.gan.files import Networks
from faceunits.types import LANDMARK_MIRROR

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


@cache
def networks(alignment: str = "face") -> Networks:
    names = ("AU01", "AU04", "AU12_L", "AU12_R", "AU25", "AU26")
    return Networks(small.generator(), small.encoder(), small.editor(), names, alignment)


def marks() -> F64:
    """68 landmarks in the photo of `test_motion.stage`."""
    stage = test_motion.stage()
    return stage.photo_points(stage.laid.shape)[stage.laid.array("landmarks")]


@cache
def scene(alignment: str = "face") -> engine.Scene:
    stage = test_motion.stage()
    points = warp.apply(stage.back, warp.template(128))
    return engine.scene(stage.picture, stage, points, marks(), networks(alignment))


def code(seed: int = 0, size: float = 3.0) -> torch.Tensor:
    return size * torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(seed))


# Framing


def test_ffhq_s_square_is_that_of_its_description() -> None:
    at = marks()
    eye, other = at[36:42].mean(0), at[42:48].mean(0)
    middle, across = (eye + other) / 2, other - eye
    down = (at[48] + at[54]) / 2 - middle
    x = across - down[::-1] * (-1, 1)
    x *= max(2 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*x)
    y = x[::-1] * (-1, 1)
    centre = middle + 0.1 * down
    corners = np.array([centre - x - y, centre - x + y, centre + x + y, centre + x - y])
    matrix = frame.ffhq(at, 256)
    expected = np.array([[0, 0], [0, 256], [256, 256], [256, 0]]) - 0.5
    assert np.allclose(warp.apply(matrix, corners), expected)


@settings(max_examples=20)
@given(turn=st.floats(-1.2, 1.2), scale=st.floats(0.3, 4), x=st.floats(-50, 50))
def test_the_square_goes_along_with_the_face(turn: float, scale: float, x: float) -> None:
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    move = np.array([[c, -s, x], [s, c, 3.0]])
    moved = warp.apply(move, marks())
    at = np.array([[10.0, 20], [100, 90]])
    both = warp.apply(frame.ffhq(moved, 64), warp.apply(move, at))
    assert np.allclose(both, warp.apply(frame.ffhq(marks(), 64), at))


def test_a_mirrored_face_has_a_mirrored_square() -> None:
    flipped = (marks() * (-1, 1) + (295, 0))[LANDMARK_MIRROR]
    at = np.array([[10.0, 20], [100, 90]])
    mirrored = warp.apply(frame.ffhq(flipped, 64), at * (-1, 1) + (295, 0))
    assert np.allclose(mirrored * (-1, 1) + (63, 0), warp.apply(frame.ffhq(marks(), 64), at))


def test_a_square_of_another_size_is_the_same_square() -> None:
    small_one = frame.resized(frame.ffhq(marks(), 64), 64, 256)
    assert np.allclose(small_one, frame.ffhq(marks(), 256))


def test_points_that_are_no_face_are_refused() -> None:
    for at in (np.zeros((68, 2)), np.full((68, 2), np.nan)):
        with pytest.raises(AlignmentError, match="landmarks of a face"):
            frame.ffhq(at, 64)


def test_within_the_photo_both_framings_cut_alike() -> None:
    photo = test_motion.stage().picture
    matrix = np.array([[0.5, 0.1, -60], [-0.1, 0.5, -20]])
    cut = frame.crop(photo, matrix, 32, alignment="ffhq")
    assert np.array_equal(cut, warp.crop(photo, matrix, 32))
    assert np.array_equal(frame.crop(photo, matrix, 32, alignment="face"), cut)


def test_beyond_the_photo_ffhq_goes_on_softly() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (60, 80, 3), np.uint8)
    photo[:, :8] = 20
    matrix = np.array([[1.0, 0, 40], [0, 1, 40]])  # 40 pixels to the left and above
    cut = 255 * frame.crop(photo, matrix, 120, alignment="ffhq")
    assert np.abs(cut[:, 45:95, 52:112] - photo[5:55, 12:72].transpose(2, 0, 1)).max() < 1  # itself
    assert np.abs(cut[:, 90, 38] - 20).max() < 10  # mirrored at the border
    median = np.median(photo.reshape(-1, 3), 0)
    assert np.abs(cut[:, 0, 0] - median).max() < 12
    repeated = 255 * warp.crop(photo, matrix, 120)
    assert cut[0, 45:95, :20].std() < 0.2 * photo.std() < repeated[0, :20, 60:110].std()


# Labels


def test_names_have_places_by_side() -> None:
    names = networks().names
    assert labels.places(names, "AU12") == [2, 3]
    assert labels.places(names, "12l") == [2]
    assert labels.places(names, "AU4") == [1]
    with pytest.raises(ParameterError, match="no sides of AU04; got AU4_L; use AU04, or the engine motion"):
        labels.places(names, "AU4_L")
    with pytest.raises(ParameterError, match=r"knows \(AU01, AU04, .*got AU18"):
        labels.places(names, "AU18")


MEASURED = {"AU01": 0.3, "AU04": 4.5, "AU12_L": 2.0, "AU12_R": 1.0, "AU12": 2.0, "AU25": 0.0}


def shifted(base: torch.Tensor, *shift: float) -> torch.Tensor:
    net = networks().editor
    now = net.decode(base)
    return base + net.encode(now + torch.tensor([shift])) - net.encode(now)


def asked(base: torch.Tensor, **given: object) -> torch.Tensor:
    wishes = {"absolute": {}, "change": {}} | given
    return labels.code(networks().editor, networks().names, base, MEASURED, **wishes)


def test_labels_move_by_what_is_asked_beyond_what_is() -> None:
    base = networks().editor.read(scene().w)
    cases = (
        ({"absolute": {"AU12": 3}}, (0, 0, 0.2, 0.4, 0, 0)),
        ({"absolute": {"AU12_R": 0}, "change": {"AU26": 1}}, (0, 0, 0, -0.2, 0, 0.2)),
        ({"change": {"AU4": 1, "AU1": -2}}, (-0.06, 0.1, 0, 0, 0, 0)),
        ({"change": {"AU4": 1}, "force": True}, (0, 0.2, 0, 0, 0, 0)),
    )
    for wishes, shift in cases:
        torch.testing.assert_close(asked(base, **wishes), shifted(base, *shift))


def test_as_measured_is_the_code_itself() -> None:
    base = networks().editor.read(scene().w)
    assert torch.equal(asked(base), base)
    as_measured = {name: MEASURED[name] for name in networks().names if name in MEASURED}
    assert torch.equal(asked(base, absolute=as_measured, change={"AU26": 0}), base)


# The photo


@pytest.mark.parametrize("alignment", frame.ALIGNMENTS)
def test_the_same_code_gives_the_photo_back(alignment: str) -> None:
    stage, one = test_motion.stage(), scene(alignment)
    out = one.draw(stage.picture, networks().editor.read(one.w))
    assert np.array_equal(out, stage.picture)
    assert out is not stage.picture
    assert np.array_equal(one.draw(stage.picture, code(), share=0.0), stage.picture)


@pytest.mark.parametrize("alignment", frame.ALIGNMENTS)
def test_nothing_changes_outside_the_head(alignment: str) -> None:
    from faceunits import editing
    from faceunits.evaluation import edits

    stage = test_motion.stage()
    outside = ~edits.head(editing.Prepared(0, None, stage), stage.picture.shape[:2])  # type: ignore[arg-type]
    out = scene(alignment).draw(stage.picture, code())
    assert np.array_equal(out[outside], stage.picture[outside])
    changed = (out != stage.picture).any(-1)
    assert changed[~outside].mean() > 0.5


def even(one: engine.Scene, amount: float) -> NDArray[np.float64]:
    """What an even change of the generator's picture does to the photo, grey levels."""
    photo = np.full((296, 296, 3), 100, np.uint8)
    return one._onto(photo, one.shown + amount).astype(float) - photo


def test_a_change_sets_in_without_a_seam() -> None:
    for alignment in frame.ALIGNMENTS:
        done = even(scene(alignment), 14 / 127.5)
        assert done.max() == 14  # in the middle all of it
        assert done.min() == 0
        for axis in (0, 1):
            assert np.abs(np.diff(done, axis=axis)).max() <= 3


def test_the_rim_is_as_wide_as_the_face_is_large() -> None:
    corner, soft = engine.mask(test_motion.stage(2), test_motion.stage(2).matrix, 128)
    _, large = engine.mask(test_motion.stage(4), test_motion.stage(4).matrix, 128)
    shrunk = large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2]
    shrunk = shrunk.reshape(shrunk.shape[0] // 2, 2, -1, 2).mean((1, 3))
    assert abs(shrunk.mean() - soft[: shrunk.shape[0], : shrunk.shape[1]].mean()) < 0.02
    assert soft.max() == 1
    assert min(corner) >= 0


def test_the_neck_changes_only_where_the_chin_may_go() -> None:
    stage, one = test_motion.stage(), scene("ffhq")
    chin = marks()[8] - one.corner

    def at(below_cm: float, aside_cm: float = 0.0) -> float:
        x, y = np.round(chin + np.array([aside_cm, below_cm]) * stage.pixels_per_cm).astype(int)
        return float(one.mask[y, x])

    assert at(-1) == 1
    assert at(1.5) > 0.6
    assert at(3.7) == at(1, 5) == at(1, -5) == 0
    x, y = np.round(warp.apply(stage.back, np.array([[64.0, 40.0]]))[0] - one.corner).astype(int)
    assert one.mask[y, x] == 1  # between the eyes


def test_the_photo_s_detail_stays_unless_forms_change() -> None:
    one = scene()
    rng = np.random.default_rng(0)
    photo = rng.integers(90, 110, (296, 296, 3), np.uint8)
    inner = one.mask == 1
    (x0, y0), (h, w) = one.corner, one.mask.shape
    stripes = (torch.arange(32) % 2 * 2.0 - 1).expand(1, 3, 32, 32)

    def after(change: torch.Tensor | float) -> tuple[NDArray[np.floating], float]:
        """The inner part, and how much of the photo's noise is in its first channel."""
        part = one._onto(photo, one.shown + change)[y0 : y0 + h, x0 : x0 + w][inner].astype(float)
        noise = photo[y0 : y0 + h, x0 : x0 + w][inner].astype(float)[:, 0] - 100
        return part, float(np.cov(part[:, 0], noise)[0, 1] / noise.var())

    for amount in (10, 60):
        part, left = after(amount / 127.5)
        assert left > 0.99  # light that changes shows the same skin
        assert np.abs(part.mean(0) - photo.mean((0, 1)) - amount).max() < 1
    part, left = after(stripes * 40 / 127.5)
    assert abs(left) < 0.1
    assert np.abs(part.mean(0) - photo.mean((0, 1))).max() < 2  # the colour is the photo's
    _, left = after(stripes * 1 / 127.5)
    assert left > 0.99


def test_pictures_are_carried_to_where_they_belong() -> None:
    size = 32
    for scale, turn in ((1 / 6, 0.0), (0.4, 0.3), (2.5, -0.2), (5.0, 0.1)):
        c, s = scale * np.cos(turn), scale * np.sin(turn)
        matrix = np.array([[c, -s, 4.0], [s, c, 6.0]])
        grid = torch.stack(torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="xy"))[None]
        box = (3, 1, 5, 4) if scale > 1 else (20, 10, 12, 14)
        out = engine.carry(grid, matrix, box)
        at = np.stack(np.meshgrid(np.arange(box[0], box[0] + box[2]), np.arange(box[1], box[1] + box[3])), -1)
        place = warp.apply(matrix, at)
        known = ((place > 5) & (place < size - 6)).all(-1)
        assert known.any()
        assert np.abs(out - place)[known].max() < 0.05 * max(1, scale)  # torch's cubic is not exact on ramps


@settings(max_examples=15)
@given(radius=st.floats(0.4, 12))
def test_blur_has_its_radius(radius: float) -> None:
    picture = torch.zeros(1, 1, 128, 128)
    picture[0, 0, 60:68, 60:68] = 1
    out = engine.broad(picture, radius)[0, 0].double()
    across = out.sum(0) / out.sum()
    x = torch.arange(128.0).double()
    variance = (across * (x - (across * x).sum()) ** 2).sum() - (8**2 - 1) / 12
    assert out.sum() == pytest.approx(64, rel=1e-3)
    assert float(variance) == pytest.approx(radius**2, rel=0.15, abs=0.35)
    even = engine.broad(torch.full((1, 2, 128, 128), 0.7), radius)
    assert torch.allclose(even, torch.tensor(0.7))


def test_alpha_stays() -> None:
    stage = test_motion.stage(alpha=True)
    out = scene().draw(stage.picture, code())
    assert np.array_equal(out[..., 3], stage.picture[..., 3])
    assert np.array_equal(out[..., :3], scene().draw(stage.picture[..., :3].copy(), code()))


def test_the_way_ends_where_the_edit_is() -> None:
    stage, one = test_motion.stage(), scene()
    whole = one.draw(stage.picture, code())
    half = one.draw(stage.picture, code(), share=0.5)
    assert np.array_equal(one.draw(stage.picture, code(), share=1.0), whole)
    assert (
        0 < np.abs(half.astype(int) - stage.picture).mean() < np.abs(whole.astype(int) - stage.picture).mean()
    )


def test_a_face_outside_the_picture_changes_nothing() -> None:
    import dataclasses

    stage = test_motion.stage()
    beside = dataclasses.replace(stage, matrix=stage.matrix + np.array([[0, 0, 900.0], [0, 0, 0]]))
    assert engine.mask(beside, beside.matrix, 128)[1].size == 0
    one = dataclasses.replace(scene(), mask=np.zeros((0, 0), np.float32))
    assert np.array_equal(one.draw(stage.picture, code()), stage.picture)
