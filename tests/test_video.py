"""Videos: every frame once, with its time and upright, whatever the file; damage is told."""

from __future__ import annotations

import io
import os
from pathlib import Path

import av
import moving
import numpy as np
import pytest
from PIL import Image

from faceunits.errors import ConfigError, InputError
from faceunits.io import video


def pictures(count: int, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """Red in the upper left, blue in the lower right, and a place that tells the number."""
    out = []
    for i in range(count):
        p = np.zeros((*size, 3), np.uint8)
        p[:16, :16], p[-16:, -16:] = (255, 0, 0), (0, 0, 255)
        p[size[0] // 2, size[1] // 2] = i
        out.append(p)
    return out


def noise(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(count)]


def corners(p: np.ndarray) -> str:
    """Upper left, upper right, lower left, lower right: R, B or a dot."""
    return "".join(
        "R" if v[0] > 150 > v[2] else "B" if v[2] > 150 > v[0] else "."
        for v in (p[4, 4], p[4, -5], p[-5, 4], p[-5, -5])
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.write(tmp_path_factory.mktemp("video") / "a.mkv", pictures(20))


def test_frames_in_order_without_loss(whole: Path) -> None:
    frames = list(video.frames(whole))
    assert [f.number for f in frames] == list(range(1, 21))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(20) / 25)
    for frame, picture in zip(frames, pictures(20), strict=True):
        np.testing.assert_array_equal(frame.picture, picture)


def test_times_are_those_of_the_file(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.05, 0.2, 1.0, 1.001, 3.5]
    path = moving.write(tmp_path / "v.mkv", pictures(7), times_s=times)
    np.testing.assert_allclose([f.time_s for f in video.frames(path)], times, atol=1e-9)


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        ({"every": 6}, [1, 7, 13, 19]),
        ({"start_s": 0.2}, list(range(6, 21))),
        ({"end_s": 0.2}, list(range(1, 6))),
        ({"every": 4, "start_s": 0.2, "end_s": 0.5}, [6, 10]),
        ({"every": 4, "start_s": 0.2, "end_s": 0.5, "after": 7}, [10]),
        ({"after": 18}, [19, 20]),
    ],
)
def test_a_choice_of_frames(whole: Path, choice: dict, numbers: list[int]) -> None:
    assert [f.number for f in video.frames(whole, **choice)] == numbers


@pytest.mark.parametrize("bad", [{"every": 0}, {"start_s": 2.0, "end_s": 1.0}])
def test_choices_that_make_no_sense(whole: Path, bad: dict) -> None:
    with pytest.raises(ConfigError, match="expected"):
        video.frames(whole, **bad)


def test_no_frames_between_the_times(whole: Path) -> None:
    with pytest.raises(video.UnreadableVideo, match=r"ends at 0\.76 s"):
        list(video.frames(whole, start_s=9))


@pytest.mark.parametrize(
    ("turn_deg", "flip", "expected"),
    [
        (0, False, "R..B"), (90, False, ".BR."), (-90, False, ".RB."), (180, False, "B..R"),
        (0, True, ".RB."), (90, True, "B..R"), (180, True, ".BR."),
    ],
)  # fmt: skip
def test_turned_and_mirrored_recordings_come_upright(
    tmp_path: Path, turn_deg: int, flip: bool, expected: str
) -> None:
    path = moving.write(
        tmp_path / "r.mp4", pictures(2), codec="mpeg4", pixels="yuv420p", turn_deg=turn_deg, flip=flip
    )
    picture = next(video.frames(path)).picture
    assert corners(picture) == expected
    assert picture.shape[:2] == ((64, 48) if turn_deg in (90, -90) else (48, 64))
    clip = video.probe(path)
    assert (clip.height, clip.width) == picture.shape[:2]
    if not flip:
        assert clip.rotation_deg == -turn_deg % 360


def test_probe(whole: Path) -> None:
    clip = video.probe(whole)
    assert (clip.width, clip.height, clip.rotation_deg, clip.rate) == (64, 48, 0, 25)
    assert clip.frames == pytest.approx(20, abs=1)
    assert clip.duration_s == pytest.approx(0.8, abs=0.05)


def test_a_resolution_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "sizes.mjpeg"
    with path.open("wb") as file:
        for size in ((48, 64), (48, 64), (96, 128), (64, 48)):
            buffer = io.BytesIO()
            Image.fromarray(pictures(1, size)[0]).save(buffer, "JPEG", quality=95)
            file.write(buffer.getvalue())
    frames = list(video.frames(path))
    assert [f.picture.shape[:2] for f in frames] == [(48, 64), (48, 64), (96, 128), (64, 48)]
    assert all(corners(f.picture) == "R..B" for f in frames)


def test_oblong_pixels_are_made_square(tmp_path: Path) -> None:
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pictures(1)[0], "rgb24")))
        container.mux(stream.encode(None))
    assert next(video.frames(path)).picture.shape == (48, 128, 3)
    assert video.probe(path).width == 128


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mp4"])
def test_a_truncated_file_gives_its_frames_and_says_so(tmp_path: Path, name: str) -> None:
    codec = {"a.mkv": "ffv1"}.get(name, "mpeg4")
    pixels = "bgr0" if codec == "ffv1" else "yuv420p"
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = moving.write(tmp_path / name, noise(40), codec=codec, pixels=pixels, options=options)
    assert len(list(video.frames(path))) == 40
    data = path.read_bytes()
    path.write_bytes(data[: 6 * len(data) // 10])
    got = []
    with pytest.raises(video.BrokenVideo, match="breaks off") as caught:
        for frame in video.frames(path):
            got.append(frame.number)
    assert 15 < len(got) < 32
    assert caught.value.frames_read == len(got)
    assert got == list(range(1, len(got) + 1))


def test_an_end_before_the_break_is_no_error(tmp_path: Path) -> None:
    path = moving.write(tmp_path / "a.mkv", noise(40))
    data = path.read_bytes()
    path.write_bytes(data[: 6 * len(data) // 10])
    assert len(list(video.frames(path, end_s=0.4))) == 10


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for name in ("a.mka", "a.mp3", "a.mp4"):
        path = path.rename(tmp_path / name)
        assert video.is_video(path)
        with pytest.raises(video.UnreadableVideo, match="sound only"):
            list(video.frames(path))


def test_a_video_without_frames(tmp_path: Path) -> None:
    path = moving.write(tmp_path / "a.mkv", [])
    with pytest.raises(video.UnreadableVideo, match="expected a video"):
        list(video.frames(path))
    with pytest.raises(video.UnreadableVideo, match="expected a video"):
        video.probe(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("nothing of the kind\n" * 50)
    for name, message in (
        ("empty.mp4", "0 bytes"), ("text.mp4", "another kind"), ("none.mp4", "does not exist"),
        (".", "regular"),
    ):  # fmt: skip
        with pytest.raises(video.UnreadableVideo, match=message):
            list(video.frames(tmp_path / name))


def test_names_that_look_like_something_else(tmp_path: Path) -> None:
    data = moving.write(tmp_path / "a.mkv", pictures(2)).read_bytes()
    for name in (b"http:b.mkv", b"caf\xe9.mkv", b"x%03d.mkv"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.write_bytes(data)
        assert len(list(video.frames(path))) == 2


def test_what_is_a_video(tmp_path: Path) -> None:
    path = moving.write(tmp_path / "a.mkv", pictures(2))
    assert video.is_video(path)
    assert video.is_video(path.rename(tmp_path / "nameless"))
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    assert not video.is_video((tmp_path / "a.png").rename(tmp_path / "b"))
    assert not video.is_video(tmp_path / "c.jpg")
    (tmp_path / "notes").write_text("a note")
    assert not video.is_video(tmp_path / "notes")


def test_a_folder_gives_its_photos_and_videos(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.jpg", "c.MOV", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).touch()
    assert [p.name for p in video.find([tmp_path])] == ["a.jpg", "b.mp4", "c.MOV"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has none"):
        video.find([tmp_path / "empty"])
