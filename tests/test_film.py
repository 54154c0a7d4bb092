"""The film: every frame at its own time, with what was measured drawn where it was."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stand_ins
from numpy.typing import NDArray

from faceunits import reporting
from faceunits.errors import InputError
from faceunits.io import video
from faceunits.reporting import films
from faceunits.viz import film
from faceunits.viz.report import courses

U8 = NDArray[np.uint8]


def save_video(path: Path, shots: list[tuple[float, U8]], codec: str = "libx264") -> Path:
    """Pictures with their times as a video that loses next to nothing."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"crf": "5", "g": "5"})
        stream.height, stream.width = shots[0][1].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_s, picture in shots:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def place(width: int = 200, height: int = 300, faces: tuple[int, ...] = (0,)) -> film.Layout:
    return film.layout(width, height, {"AU06": 1, "AU12": 5, "AU25": 0}, faces)


def face(
    value: float = 0.0, *, box: tuple[float, ...] = (50, 60, 80, 90), face_id: int = 0
) -> film.FaceShown:
    values = {"AU12_r": value, "AU12_L_r": value / 2, "AU12_R_r": value, "AU25_r": 2.0}
    return film.FaceShown(face_id, np.array(box, np.float32), values)


def is_colour(picture: U8, colour: tuple[int, int, int], tolerance: int = 0) -> NDArray[np.bool_]:
    return (np.abs(picture.astype(int) - colour) <= tolerance).all(axis=2)


def test_the_picture_stays_and_the_box_is_where_it_was() -> None:
    picture = np.full((300, 200, 3), 40, np.uint8)
    out = film.draw(film.Shot(picture, 0, [face()]), place())
    assert out.shape[0] == 300
    assert out.shape[1] > 200
    changed = (out[:, :200] != picture).any(axis=2)
    # the box from 50, 60 to 130, 150, and the number above it
    assert changed[60, 50:130].all()
    assert changed[60:150, 130].all()
    assert not changed[70:140, 60:120].any()
    assert not changed[160:].any()


def test_bars_grow_with_their_value_and_keep_their_side() -> None:
    def lengths(value: float) -> tuple[int, int]:
        out = film.draw(film.Shot(np.zeros((300, 200, 3), np.uint8), 0, [face(value)]), place())
        # below the two lines that name the sides
        panel = out[2 * place().row + 4 :, 200:]
        return int(is_colour(panel, film._RIGHT).sum()), int(is_colour(panel, film._LEFT).sum())

    found = [lengths(v) for v in (0, 1, 3, 5)]
    assert found[0] == (0, 0)
    assert [r for r, _ in found] == sorted({r for r, _ in found})
    assert all(0 < left < right for right, left in found[1:])


def test_landmarks_and_undefined_values_can_be_drawn() -> None:
    marks = np.array([[100.0, 200.0], [np.float32(5000), 3]], np.float32)
    shown = film.FaceShown(2, np.full(4, np.nan, np.float32), {"AU12_r": float("nan")}, marks)
    out = film.draw(film.Shot(np.zeros((300, 200, 3), np.uint8), 0, [shown]), place(faces=(2,)))
    assert out[200, 100].any()
    assert not out[60, 50].any()


def test_a_face_without_a_column_tells_its_strongest_units() -> None:
    many = place(300, 300, (0, 1, 2, 3))
    assert many.faces == (0, 1, 2)
    shot = np.zeros((300, 300, 3), np.uint8)
    silent = film.mark(shot, [face(face_id=3)], (300, 300), columns=many.faces)
    telling = film.mark(shot, [face(4.0, face_id=3)], (300, 300), columns=many.faces)
    assert (telling[:60] > 0).sum() > (silent[:60] > 0).sum()


@pytest.mark.parametrize(("height", "rows"), [(60, 1), (90, 3), (2000, 25)])
def test_the_panel_shows_what_there_is_room_for(height: int, rows: int) -> None:
    strength = {f"AU{i:02d}": float(i % 7) for i in range(1, 26)}
    found = film.layout(640, height, strength, [0])
    assert len(found.units) == rows
    assert {strength[u] for u in found.units} >= {6.0}
    assert (len(found.units) + 3) * found.row <= max(height, 4 * 13)


def test_every_frame_keeps_its_time(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.533, 2.0]
    shots = [film.Shot(np.full((61, 81, 3), 40 * i, np.uint8), t, [face(i)]) for i, t in enumerate(times)]
    where = place(81, 61)
    assert film.write(tmp_path / "o.mp4", iter(shots), where) == 5
    found = list(video.frames(tmp_path / "o.mp4"))
    np.testing.assert_allclose([f.time_s for f in found], times, atol=1e-4)
    assert {f.picture.shape for f in found} == {(62, where.size[0], 3)}
    for i, f in enumerate(found):
        assert abs(float(f.picture[:30, :30].mean()) - 40 * i) < 4


def test_the_first_frame_may_come_late_and_times_may_repeat(tmp_path: Path) -> None:
    shots = [film.Shot(np.zeros((60, 80, 3), np.uint8), t, []) for t in (1.5, 1.5, 1.6)]
    film.write(tmp_path / "o.mp4", shots, place(80, 60))
    np.testing.assert_allclose(
        [f.time_s for f in video.frames(tmp_path / "o.mp4")], [1.5, 1.5, 1.6], atol=1e-3
    )


def test_pictures_of_another_size_are_fitted_in() -> None:
    wide = np.full((100, 400, 3), 99, np.uint8)
    out = film.mark(wide, [face(box=(0, 0, 400, 100))], (200, 300))
    assert out.shape == (300, 200, 3)
    assert (out[150, 50:150] == 99).all()
    assert is_colour(out, film._FACES[0])[125].all()
    assert not (out[:100] == 99).any()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got none"):
        film.write(tmp_path / "o.mp4", [], place())
    with pytest.raises(InputError, match=r"ending in \.mp4"):
        film.write(tmp_path / "o.avi", [], place())
    with pytest.raises(InputError, match="folder does not exist"):
        film.write(tmp_path / "none" / "o.mp4", [], place())
    assert not list(tmp_path.iterdir())


# ---- from a table -----------------------------------------------------------------------------------------

GREEN = film._FACES[0]


def table(path: Path, frames: list[int], x: list[float], rate: float = 10) -> Path:
    pd.DataFrame(
        {
            "input": "a.mp4", "frame": frames, "face_id": 0, "timestamp": [(f - 1) / rate for f in frames],
            "confidence": 0.9, "success": 1, "reason": "", "face_x": x, "face_y": 20.0, "face_w": 60.0,
            "face_h": 60.0, "pose_pitch_deg": 0.0, "pose_yaw_deg": 0.0, "pose_roll_deg": 0.0, "AU12_r": 3.0,
        }
    ).to_csv(path, index=False)  # fmt: skip
    return path


def clip(path: Path, count: int) -> Path:
    return save_video(path, [(i / 10, np.full((200, 300, 3), 30, np.uint8)) for i in range(count)])


def left_edges(path: Path) -> list[float | None]:
    """Where the upright lines of boxes begin in each frame of a film."""
    out: list[float | None] = []
    for f in video.frames(path):
        columns = is_colour(f.picture[40:70, :300], GREEN, 40).mean(axis=0) > 0.8
        out.append(float(np.flatnonzero(columns)[0]) if columns.any() else None)
    return out


def test_a_film_shows_each_row_in_its_frame(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", [2, 3], [50, 100])
    count = reporting.render(source, clip(tmp_path / "a.mp4", 5), tmp_path / "o.mp4", landmarks=False)
    assert count == 5
    assert left_edges(tmp_path / "o.mp4") == [
        None,
        pytest.approx(50, abs=1),
        pytest.approx(100, abs=1),
        None,
        None,
    ]


def test_between_the_frames_of_a_sparse_table_the_box_moves(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", [1, 5, 9, 21], [40, 80, 120, 40])
    reporting.render(source, clip(tmp_path / "a.mp4", 21), tmp_path / "o.mp4", landmarks=False)
    edges = left_edges(tmp_path / "o.mp4")
    assert edges[:9] == [pytest.approx(40 + 10 * i, abs=1.5) for i in range(9)]
    assert edges[9:20] == [None] * 11  # the face was away: longer than the usual step
    assert edges[20] == pytest.approx(40, abs=1)


def test_landmarks_are_read_where_the_face_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    asked: list[tuple[float, float]] = []

    def align(picture: U8, faces: list[tuple[NDArray[np.float32], float]], networks: object) -> list[object]:
        asked.extend((float(box[0]), roll) for box, roll in faces)
        return [films.Aligned(np.zeros((3, 64, 64), np.float32), np.array([[200.0, 150.0]], np.float32))]

    monkeypatch.setattr(films, "align", align)
    source = table(tmp_path / "t.csv", [1, 2], [50, 60])
    reporting.render(source, clip(tmp_path / "a.mp4", 2), tmp_path / "o.mp4")
    assert asked == [(50, 0), (60, 0)]
    for f in video.frames(tmp_path / "o.mp4"):
        assert int(f.picture[150, 200, 1]) > 100
        assert int(f.picture[150, 210, 1]) < 60


def test_a_video_that_breaks_off_gives_the_film_up_to_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shots = [(i / 10, rng.integers(0, 255, (200, 300, 3), np.uint8)) for i in range(12)]
    whole = save_video(tmp_path / "whole.mkv", shots)
    torn = tmp_path / "a.mkv"
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    source = table(tmp_path / "t.csv", [1, 2], [50, 60])
    with pytest.raises(video.BrokenVideo) as error:
        reporting.render(source, torn, tmp_path / "o.mp4", landmarks=False)
    assert 2 < error.value.frames_read < 12
    assert len(list(video.frames(tmp_path / "o.mp4"))) == error.value.frames_read


def test_a_video_at_another_pace_is_refused(tmp_path: Path) -> None:
    source = table(tmp_path / "t.csv", [1, 2, 3], [50, 60, 70], rate=25)
    with pytest.raises(InputError, match=r"expected frame 2 at 0\.040 s"):
        reporting.render(source, clip(tmp_path / "a.mp4", 3), tmp_path / "o.mp4", landmarks=False)
    assert not (tmp_path / "o.mp4").exists()


def test_a_box_holds_until_the_next_row_and_not_beyond() -> None:
    frame = {"frame": [1, 3, 9], "timestamp": [0.0, 0.2, 0.8], "AU12_r": [1.0, 2.0, 3.0]}
    boxes = {"face_x": [0.0, 10.0, 0.0], "face_y": 0.0, "face_w": 5.0, "face_h": 5.0}
    [recording] = courses.recordings(pd.DataFrame(frame | boxes | {"input": "a"}))
    states = [films._state(recording, recording.courses[0], n, 2) for n in range(11)]
    shown = [None if s is None else (s[0], float(s[1][0])) for s in states]
    assert shown[:5] == [None, (0, 0), (0, 5), (1, 10), None]
    assert shown[9:] == [(2, 0), None]
