"""The detector with its shipped weights: one known portrait under many conditions, and no false faces.

The portrait is the astronaut that comes inside scikit-image; it trained nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from faceunits.alignment import adapters, warp
from faceunits.alignment.detect import Detector, DetectorOptions, suppress
from faceunits.errors import AlignmentError, ConfigError, InputError, WeightsError
from faceunits.evaluation.photos import HELD_OUT_PICTURES, library_pictures
from faceunits.networks.detector import DetectorConfig, FaceFinder, Landmarker, cells, fuse
from faceunits.types import Face

skimage = pytest.importorskip("skimage")

TRUTH = np.array([[202.5, 101.0], [248.0, 103.0], [224.0, 126.5], [203.0, 139.5], [243.5, 141.0]])
"""Read off the enlarged picture by eye, to about two pixels."""


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return library_pictures(("astronaut.png",))[0]


def best(faces: list[Face]) -> Face:
    assert faces
    return faces[0]


def off(face: Face, truth: np.ndarray) -> float:
    """Mean point error in pupil distances."""
    return float(np.hypot(*(face.points - truth).T).mean() / np.hypot(*(truth[1] - truth[0])))


def test_finds_the_portrait_and_its_points(detector: Detector, portrait: np.ndarray) -> None:
    faces = detector(portrait)
    assert len(faces) == 1
    assert off(faces[0], TRUTH) < 0.1
    assert faces[0].score > 0.8
    np.testing.assert_allclose(faces[0].box, warp.face_box(faces[0].points))


@pytest.mark.parametrize("angle", [-35, -30, -15, 15, 30, 35])
def test_tilt_is_found_and_measured(detector: Detector, portrait: np.ndarray, angle: int) -> None:
    upright = warp.roll_deg(warp.similarity(best(detector(portrait)).points[None], 256)[0])
    # Pillow turns counter-clockwise.
    turned = np.asarray(Image.fromarray(portrait).rotate(-angle, Image.Resampling.BICUBIC))
    face = best(detector(turned))
    roll = warp.roll_deg(warp.similarity(face.points[None], 256)[0])
    assert abs(float(roll - upright) - angle) < 4


@pytest.mark.parametrize("side", [160, 300, 900, 2500])
def test_points_scale_with_the_picture(detector: Detector, portrait: np.ndarray, side: int) -> None:
    resized = np.asarray(Image.fromarray(portrait).resize((side, side)))
    truth = (TRUTH + 0.5) * side / 512 - 0.5
    assert off(best(detector(resized)), truth) < 0.12


def test_mirror_swaps_the_sides(detector: Detector, portrait: np.ndarray) -> None:
    face = best(detector(portrait))
    mirrored = best(detector(np.ascontiguousarray(portrait[:, ::-1])))
    back = np.stack([511 - mirrored.points[:, 0], mirrored.points[:, 1]], 1)[[1, 0, 2, 4, 3]]
    assert off(face, back) < 0.06


def test_dark_blurred_noisy_grey(detector: Detector, portrait: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    blurred = np.asarray(Image.fromarray(portrait).filter(ImageFilter.GaussianBlur(2.5)))
    noisy = np.clip(portrait + rng.normal(0, 25, portrait.shape), 0, 255).astype(np.uint8)
    grey = np.repeat(np.asarray(Image.fromarray(portrait).convert("L"))[..., None], 3, 2)
    for picture in (portrait // 7, blurred, noisy, grey):
        assert off(best(detector(picture)), TRUTH) < 0.15


def test_a_face_cut_by_the_border(detector: Detector, portrait: np.ndarray) -> None:
    x0, y0 = 190, 70
    cut = np.ascontiguousarray(portrait[y0:170, x0:290])
    assert off(best(detector(cut)), TRUTH - (x0, y0)) < 0.2


def test_two_faces_are_two(detector: Detector, portrait: np.ndarray) -> None:
    both = np.concatenate([portrait, portrait[:, ::-1]], 1)
    faces = detector(both)
    assert len(faces) == 2
    assert faces[0].score >= faces[1].score
    assert abs(faces[0].points[:, 0].mean() - faces[1].points[:, 0].mean()) > 300


def test_no_face_in_pictures_without(detector: Detector) -> None:
    pictures = library_pictures(HELD_OUT_PICTURES)
    assert pictures
    for picture in pictures:
        assert detector(picture) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (700, 3), (33, 31), (3000, 4000)])
def test_blank_pictures_of_any_size(detector: Detector, shape: tuple[int, int]) -> None:
    assert detector(np.full((*shape, 3), 90, np.uint8)) == []


def test_the_same_picture_gives_the_same_faces(detector: Detector, portrait: np.ndarray) -> None:
    first, second = detector(portrait), detector(portrait)
    np.testing.assert_array_equal(first[0].points, second[0].points)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_other_layouts_are_refused(detector: Detector, image: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        detector(image)


def test_wrong_weights_and_options(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        Detector(tmp_path / "absent.safetensors")
    with pytest.raises(ConfigError, match="long_side"):
        Detector(options=DetectorOptions(long_side=10))


def test_refine_from_a_box(detector: Detector, portrait: np.ndarray) -> None:
    box = warp.face_box(TRUTH)
    rough = adapters.from_boxes(box[None] + (4, -3, 5, 2))
    assert off(rough[0], TRUTH) < 0.35
    refined = detector.refine(portrait, rough)
    assert off(refined[0], TRUTH) < 0.1
    assert detector.refine(portrait, []) == []


def test_boxes_of_the_template_give_the_template() -> None:
    points = warp.template(200)
    face = adapters.from_boxes(warp.face_box(points)[None])[0]
    np.testing.assert_allclose(face.points, points, atol=1e-3)


def test_callers_points_and_errors() -> None:
    faces = adapters.from_points(np.stack([TRUTH, TRUTH + 9]), score=0.7)
    assert [f.score for f in faces] == [0.7, 0.7]
    source = adapters.Given([faces, []])
    picture = np.zeros((4, 4, 3), np.uint8)
    assert len(source(picture)) == 2
    assert source(picture) == []
    with pytest.raises(AlignmentError, match="one more"):
        source(picture)
    with pytest.raises(AlignmentError, match="points"):
        adapters.from_points(TRUTH)
    with pytest.raises(AlignmentError, match="boxes"):
        adapters.from_boxes(np.array([[0, 0, 0, 10.0]]))


def test_suppress_keeps_the_best_of_each_face() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [30, 0, 10, 10], [2, 2, 4, 4]], np.float32)
    kept = suppress(boxes, np.array([0.6, 0.9, 0.3, 0.8], np.float32), 0.4)
    assert kept.tolist() == [1, 2]
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.4).tolist() == []


def test_cells_lie_on_pixel_centres() -> None:
    centres = cells(2, 3, 8).numpy()
    np.testing.assert_allclose(centres[0], [3.5, 3.5])
    np.testing.assert_allclose(centres[-1], [19.5, 11.5])


def test_networks_shapes_and_batch_independence() -> None:
    torch.manual_seed(0)
    config = DetectorConfig()
    finder, landmarker = FaceFinder(config).eval(), Landmarker(config).eval()
    images, crops = torch.rand(3, 3, 64, 96), torch.rand(3, 3, config.crop_size, config.crop_size)
    with torch.no_grad():
        logits, points = finder(images)
        n = 8 * 12 + 4 * 6 + 2 * 3
        assert logits.shape == (3, n)
        assert points.shape == (3, n, 5, 2)
        torch.testing.assert_close(finder(images[1:2])[0], logits[1:2], atol=1e-4, rtol=1e-4)
        belief, marks = landmarker(crops)
        assert belief.shape == (3,)
        assert marks.shape == (3, 5, 2)
        torch.testing.assert_close(landmarker(crops[1:2])[1], marks[1:2], atol=1e-3, rtol=1e-4)
        fuse(landmarker)
        torch.testing.assert_close(landmarker(crops)[1], marks, atol=1e-2, rtol=1e-3)


def test_exact_points_of_a_mirrored_picture_are_mirrored() -> None:
    picture = (
        np.random.default_rng(4).integers(0, 255, (12, 16, 3)).astype(np.uint8).repeat(12, 0).repeat(12, 1)
    )
    points = np.array([[[60, 50], [100, 55], [82, 75], [66, 95], [98, 96]]], np.float32)
    last = picture.shape[1] - 1
    turned = points[:, [1, 0, 2, 4, 3]] * [-1, 1] + [last, 0]
    detector = Detector()
    found = detector._exact(picture, points)
    back = detector._exact(np.ascontiguousarray(picture[:, ::-1]), turned.astype(np.float32))
    np.testing.assert_allclose(back[:, [1, 0, 2, 4, 3]] * [-1, 1] + [last, 0], found, atol=0.05)
