"""Faces along a video: numbers that stay, crops that do not tremble, losses that are noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import moving
import numpy as np
import pytest
import small
from moving import scene

from faceunits.alignment import people, register, warp
from faceunits.alignment.track import Seen, Tracker, TrackOptions
from faceunits.types import Face

SIZE = 64
FPS = 25


def tracker(detector: moving.Detector | None = None, **options: float) -> Tracker:
    return Tracker(
        detector or moving.Detector(),
        lambda crops: moving.read(crops, None),
        SIZE,
        options=TrackOptions(**options),
    )


def follow(pictures: Iterable[np.ndarray], track: Tracker | None = None, start: int = 0) -> list[list[Seen]]:
    track = track or tracker()
    return [track(picture, (start + i) / FPS) for i, picture in enumerate(pictures)]


def level(picture: np.ndarray, seen: Seen) -> int:
    """Whose square a face lies on."""
    x, y = seen.face.points.mean(0).round().astype(int)
    return int(picture[y, x, 0])


def place(seen: Seen) -> np.ndarray:
    """Nose tip by the crop's matrix."""
    return warp.apply(warp.invert(seen.matrix), warp.template(SIZE))[2]


def test_the_first_frame_is_the_detectors() -> None:
    picture = scene((20, 30, 60, 210), (120, 30, 50, 250))
    faces = sorted(moving.Detector()(picture), key=lambda f: -f.box[2])
    seen = follow([picture])[0]
    assert [s.face_id for s in seen] == [0, 1]
    for s, face in zip(seen, faces, strict=True):
        np.testing.assert_array_equal(s.face.points, face.points)
        np.testing.assert_array_equal(s.matrix, warp.similarity(face.points[None], SIZE)[0])
        np.testing.assert_array_equal(s.crop, warp.crop(picture, s.matrix, SIZE))


def test_a_moving_face_keeps_number_and_place_with_few_detections() -> None:
    detector = moving.Detector()
    pictures = [scene((10 + 2 * i, 30 + i // 3, 50, 230)) for i in range(60)]
    frames = follow(pictures, tracker(detector))
    for i, (picture, seen) in enumerate(zip(pictures, frames, strict=True)):
        assert [s.face_id for s in seen] == [0]
        assert level(picture, seen[0]) == 230
        nose = np.array([10 + 2 * i, 30 + i // 3]) + moving.SHARE[2] * 50
        assert np.abs(place(seen[0]) - nose).max() < 2.0
    assert detector.looks <= 4
    assert detector.second_looks <= 10


def test_a_frozen_face_has_a_frozen_crop() -> None:
    """Shifts below a pixel and noise: what the crop shows moves by a few hundredths of its pixels."""
    rng = np.random.default_rng(0)
    large = scene((120, 90, 150, 230), size=(360, 720)).astype(np.float64)
    errors, track = [], tracker()
    for i in range(30):
        dx, dy = rng.integers(-1, 2, 2)  # thirds of a pixel
        rolled = np.roll(large, (dy, dx), (0, 1)).reshape(120, 3, 240, 3, 3).mean((1, 3))
        picture = np.clip(rolled + rng.normal(0, 2, rolled.shape) + 0.5, 0, 255).astype(np.uint8)
        seen = track(picture, i / FPS)[0]
        true = (np.array([120, 90]) + moving.SHARE[2] * 150 + (dx, dy)) / 3
        errors.append((place(seen) - true) * warp.scale(seen.matrix))
    tremble = np.mean([np.std(errors[i : i + 5], 0) for i in range(len(errors) - 4)], 0)
    shaken = 0.27 * warp.scale(seen.matrix)  # spread of the shifts, which a fixed crop would show
    assert tremble.max() < 0.5 * shaken


def test_a_face_that_goes_is_lost_at_once() -> None:
    pictures = [scene((40, 30, 60, 230))] * 10 + [scene()] * 5 + [scene((140, 20, 60, 230))] * 3
    assert [len(s) for s in follow(pictures)] == [1] * 10 + [0] * 5 + [1] * 3


def test_a_face_that_leaves_the_picture_is_lost() -> None:
    pictures = [scene((150 + 6 * i, 30, 60, 230)) for i in range(20)]
    counts = [len(s) for s in follow(pictures)]
    assert counts[:5] == [1] * 5
    assert counts[-1] == 0


def test_who_returns_keeps_the_number_and_a_stranger_gets_one() -> None:
    one, other = (40, 30, 60, 230), (150, 30, 60, 250)
    pictures = [scene(one)] * 30 + [scene()] * 90 + [scene(other)] * 3 + [scene(one, other)] * 30
    frames = follow(pictures)
    assert [s.face_id for s in frames[29]] == [0]
    assert [s.face_id for s in frames[121]] == [1]
    assert {s.face_id: level(pictures[-1], s) for s in frames[-1]} == {0: 230, 1: 250}


def test_a_new_face_is_found_beside_one_that_is_followed() -> None:
    pictures = [scene((20, 30, 60, 230))] * 10 + [scene((20, 30, 60, 230), (150, 30, 60, 250))] * 30
    frames = follow(pictures)
    assert [s.face_id for s in frames[-1]] == [0, 1]
    first = next(i for i, seen in enumerate(frames) if len(seen) == 2)
    assert first <= 10 + FPS


@pytest.mark.parametrize("front", [0, 1])
def test_crossing_faces_do_not_swap(front: int) -> None:
    pictures = []
    for i in range(80):
        a, b = (10 + 2 * i, 30, 56, 210), (172 - 2 * i, 36, 52, 250)
        pictures.append(scene(*((b, a) if front == 0 else (a, b))))
    frames = follow(pictures)
    for picture, seen in zip(pictures, frames, strict=True):
        for s in seen:
            assert level(picture, s) == {0: 210, 1: 250}[s.face_id]
    assert [len(s) for s in (frames[0], frames[-1])] == [2, 2]
    assert min(len(s) for s in frames) == 1  # one was hidden, and not reported


def test_thirty_faces() -> None:
    class Crowd(moving.Detector):
        def __call__(self, picture: np.ndarray) -> list[Face]:
            one = super().__call__(picture[:60, :60])[0]
            shifts = [np.array([66 * (i % 6), 66 * (i // 6)], np.float32) for i in range(30)]
            return [replace(one, box=one.box + np.append(s, (0, 0)), points=one.points + s) for s in shifts]

    picture = scene(size=(340, 400))
    for i in range(30):
        x, y = 12 + 66 * (i % 6), 12 + 66 * (i // 6)
        picture[y : y + 40, x : x + 40] = moving.square(210, 40)
    frames = follow([picture] * 4, tracker(Crowd()))
    assert [[s.face_id for s in seen] for seen in frames] == [list(range(30))] * 4


def test_a_detector_without_a_second_look() -> None:
    detect = moving.Detector()
    plain: Callable = lambda picture: detect(picture)  # noqa: E731
    pictures = [scene((40, 30, 60, 230))] * 40 + [scene()] * 30
    counts = [len(s) for s in follow(pictures, Tracker(plain, lambda c: moving.read(c, None), SIZE))]
    assert counts[:40] == [1] * 40
    assert counts[-1] == 0


def test_points_that_make_no_crop_are_no_face() -> None:
    def degenerate(picture: np.ndarray) -> list[Face]:
        return [replace(f, points=f.points * 0) for f in moving.Detector()(picture)]

    track = Tracker(degenerate, lambda c: moving.read(c, None), SIZE)
    assert track(scene((40, 30, 60, 230)), 0.0) == []


@pytest.mark.parametrize("cut", [1, 17, 33])
def test_a_restored_tracker_goes_on_as_if_nothing_had_happened(cut: int) -> None:
    pictures = [scene((10 + 2 * i, 30, 56, 210), (172 - 2 * i, 36, 52, 250)) for i in range(60)]
    whole = follow(pictures)
    first, second = tracker(), tracker()
    follow(pictures[:cut], first)
    second.restore(first.state())
    for a, b in zip(whole[cut:], follow(pictures[cut:], second, cut), strict=True):
        assert [s.face_id for s in a] == [s.face_id for s in b]
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x.matrix, y.matrix)
            np.testing.assert_array_equal(x.crop, y.crop)


@pytest.mark.parametrize(
    ("turn_deg", "scale", "shift"),
    [(0, 1, (0.3, -0.2)), (0, 1, (7, -5)), (4, 1.03, (3, 2)), (-3, 0.97, (-2, 1))],
)
def test_registration_finds_a_known_movement(
    turn_deg: float, scale: float, shift: tuple[float, float]
) -> None:
    """A picture by formula, so that the moved one is exact."""

    def draw(back: np.ndarray) -> np.ndarray:
        grid = np.stack(np.meshgrid(np.arange(240.0), np.arange(200.0)), -1)
        x, y = np.moveaxis(warp.apply(back, grid.reshape(-1, 2)), -1, 0)
        z = np.sin(x / 9) * np.cos(y / 7) + np.sin((x + 2 * y) / 23) + np.cos((x - y) / 15)
        return np.repeat((127 + 40 * z).reshape(200, 240, 1), 3, 2).clip(0, 255).astype(np.uint8)

    a = np.radians(turn_deg)
    linear = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    middle = np.array([120.0, 100.0])
    motion = np.concatenate([linear, (middle + shift - linear @ middle)[:, None]], 1)
    matrix = np.array([[0.55, 0.02, -34.0], [-0.02, 0.55, -24.0]])
    before, after = draw(np.eye(2, 3)), draw(warp.invert(motion))
    reference = register.patch(register.around(before, matrix, SIZE), matrix, SIZE)
    found, alike = register.follow(reference, register.around(after, matrix, SIZE), matrix)
    points = warp.apply(warp.invert(matrix), warp.template(SIZE))
    error = warp.apply(found, warp.apply(motion, points)) - warp.template(SIZE)
    assert alike > 0.98
    assert np.abs(error).max() < 0.1


def test_registration_of_nothing_stays_where_it_is() -> None:
    flat = np.full((100, 100, 3), 90, np.uint8)
    matrix = np.array([[0.6, 0.0, 3.0], [0.0, 0.6, 3.0]])
    reference = register.patch(register.around(flat, matrix, SIZE), matrix, SIZE)
    found, _ = register.follow(reference, register.around(flat, matrix, SIZE), matrix)
    np.testing.assert_array_equal(found, matrix)


@pytest.mark.parametrize("corner", [(-500, -500), (90, 90), (500, 20)])
def test_registration_beside_the_picture(corner: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    matrix = np.array([[0.6, 0.0, -0.6 * corner[0]], [0.0, 0.6, -0.6 * corner[1]]])
    reference = register.patch(register.around(picture, matrix, SIZE), matrix, SIZE)
    found, alike = register.follow(reference, register.around(picture, matrix, SIZE), matrix)
    assert np.isfinite(found).all()
    assert np.isfinite(alike)


def _face(x: float = 0.0) -> Face:
    return Face(np.array([x, 0, 50, 60], np.float32), np.full((5, 2), x, np.float32), 0.9)


def test_recognition_is_careful() -> None:
    rng = np.random.default_rng(0)
    a, b = (people.look(rng.random((3, SIZE, SIZE), np.float32) * s, np.zeros(4)) for s in (1, 0.5))
    nearly = a + np.float32(0.01)
    far = np.array([900, 0, 50, 60], np.float32)

    def who(*missing: people.Missing, present: list | None = None) -> int | None:
        return people.recognise([(nearly, _face())], missing, present or [])[0]

    assert who(people.Missing([b], far, 9), people.Missing([a], far, 9)) == 1
    assert who(people.Missing([b], far, 9)) is None
    assert who() is None
    # two lost people who look alike: nobody can tell, so a new number
    assert who(people.Missing([a], far, 9), people.Missing([a + np.float32(0.02)], far, 9)) is None
    # somebody present looks more like it
    assert who(people.Missing([a], far, 9), present=[[nearly]]) is None


def test_one_lost_face_is_given_to_one_new_face_only() -> None:
    look = people.look(np.full((3, SIZE, SIZE), 0.5, np.float32), np.zeros(4))
    gone = people.Missing([look], np.array([0, 0, 50, 60], np.float32), 1.0)
    assert people.recognise([(look, _face()), (look, _face(90))], [gone], []) == [0, None]


def test_a_face_at_the_border_is_known_by_the_part_that_shows() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    matrix = np.array([[1.0, 0, -110], [0, 1.0, -10]])  # 14 of its 64 columns lie to the right of the picture
    wider = np.pad(picture, ((0, 0), (0, 40), (0, 0)), constant_values=30)
    whole = people.look(warp.crop(wider, matrix, SIZE), np.zeros(4), people.inside(matrix, SIZE, wider))
    crop = warp.crop(picture, matrix, SIZE)
    part = people.look(crop, np.zeros(4), people.inside(matrix, SIZE, picture))
    assert np.isnan(part).sum() == 3 * 8 * 2
    assert people.unlike(part, [whole]) < 0.02 < people.unlike(people.look(crop, np.zeros(4)), [whole])
    known: list[np.ndarray] = []
    for seen, kept in ((part, part), (whole, whole), (part, whole)):
        people.remember(known, seen)
        np.testing.assert_array_equal(known, [kept])
    nothing = people.look(crop, np.zeros(4), np.zeros((8, 8), bool))
    assert people.unlike(nothing, [whole]) == np.inf


def test_looks_are_few() -> None:
    known: list[np.ndarray] = []
    for i in range(50):
        people.remember(known, people.look(np.full((3, SIZE, SIZE), i / 50, np.float32), np.zeros(4)))
    assert 1 < len(known) <= 4


@pytest.mark.slow
@small.needs_faces
def test_clips_of_a_face_and_of_none() -> None:
    """The shipped networks: a face in frames 0-71, then a cartoon; and the other way round."""
    from faceunits import estimation, fitting
    from faceunits.alignment.detect import Detector
    from faceunits.io import video

    models = estimation.models("cpu")
    for name, begin, end in (("face_noface.mov", 0, 72), ("noface_face.mov", 96, 168), ("no_face.mp4", 0, 0)):
        track = Tracker(Detector(), lambda crops: fitting.read(crops, models), models.crop_size)
        path = small.FACES / "clips" / name
        found = [[s.face_id for s in track(f.picture, f.time_s)] for f in video.frames(path)]
        assert found == [[0] if begin <= i < end else [] for i in range(len(found))]
