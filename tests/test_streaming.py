"""Videos to tables: every frame a row, in bounded pieces, and runs that survive an interruption."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import moving
import numpy as np
import pandas as pd
import pytest
import stand_ins
import torch
from moving import scene

import faceunits as fu
from faceunits import cli, estimation, live, runs, streaming
from faceunits.errors import ConfigError, InputError
from faceunits.io import image, video
from faceunits.networks.threads import one_thread

ONE = scene((40, 30, 60, 230))
TWO = scene((40, 30, 60, 230), (150, 40, 50, 250))


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> moving.Detector:
    return moving.install(monkeypatch)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Runs the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["faceunits", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return run


def a_minute_of_people(frames: int = 100) -> list[np.ndarray]:
    """One who walks, one who comes later, and some frames of nobody."""
    out = []
    for i in range(frames):
        people = [] if 40 <= i < 48 else [(10 + i // 2, 30, 60, 230)]
        out.append(scene(*people, *([(160, 40, 50, 250)] if i >= 60 else [])))
    return out


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.write(tmp_path_factory.mktemp("film") / "film.mkv", a_minute_of_people())


def broken(path: Path) -> Path:
    rng = np.random.default_rng(0)
    noisy = [np.maximum(ONE, rng.integers(0, 60, ONE.shape, np.uint8)) for _ in range(40)]
    moving.write(path, noisy)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def test_every_frame_has_a_row_in_pieces_of_bounded_size(film: Path) -> None:
    tables = list(streaming.stream(film))
    assert len(tables[0]) == 1  # at once
    assert max(len(t) for t in tables) <= 64
    table = pd.concat(tables, ignore_index=True)
    assert sorted(set(table["frame"])) == list(range(1, 101))
    np.testing.assert_allclose(table["timestamp"], (table["frame"] - 1) / 25)
    nobody = table[table["frame"].between(41, 48)]
    assert nobody["face_id"].tolist() == [-1] * 8
    assert set(nobody["reason"]) == {"no face found in 240 x 120 pixels"}
    assert nobody.filter(regex="^(AU|pose|face_x|conf)").isna().all(axis=None)
    assert nobody["success"].sum() == 0
    one, other = (table[table["face_id"] == i] for i in (0, 1))
    assert set(one["frame"]) == {*range(1, 41), *range(49, 101)}
    assert one["AU12_L_r"].mean() == pytest.approx(5 * 30 / 55, abs=0.1)
    assert other["AU12_L_r"].mean() == pytest.approx(5 * 50 / 55, abs=0.1)
    assert other["frame"].min() <= 61 + 26
    assert (table.loc[table["face_id"] >= 0, "success"] == 1).all()
    assert set(table["face_id"]) == {-1, 0, 1}


def test_columns_are_those_of_photos(film: Path) -> None:
    assert next(streaming.stream(film)).columns.tolist() == fu.estimate(ONE).columns.tolist()


@pytest.mark.parametrize("method", ["fast", "refine", "fit"])
def test_a_video_of_one_frame_is_a_photo(tmp_path: Path, method: str) -> None:
    path = moving.write(tmp_path / "a.mkv", [TWO])
    photo = stand_ins.save(tmp_path / "a.png", TWO)
    (one,) = streaming.stream(path, method=method)
    other = fu.estimate(photo, method=method)
    values = [c for c in one.columns if c not in ("input", "frame", "timestamp")]
    pd.testing.assert_frame_equal(one[values], other[values], check_exact=True)
    assert (one["frame"][0], one["timestamp"][0]) == (1, 0.0)


def test_the_engine_asked_for_reads_every_frame(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, threads = [], set()

    def choose(models: object, engine: str) -> Callable[[np.ndarray], object]:
        asked.append(engine)

        def read(crops: np.ndarray) -> object:
            threads.add(torch.get_num_threads())
            return moving.read(crops, models)

        return read

    monkeypatch.setattr("faceunits.engine.choose", choose)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in streaming.stream(film, engine="torch", end_s=0.5):
            assert torch.get_num_threads() == 2  # the caller's own, between pieces too
        with pytest.raises(ZeroDivisionError), one_thread():
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert asked == ["torch"]
    assert threads == {1}


def test_every_start_and_end(film: Path) -> None:
    table = pd.concat(streaming.stream(film, every=10, start_s=1.0, end_s=3.0))
    assert table["frame"].drop_duplicates().tolist() == [26, 36, 46, 56, 66]
    window = streaming.Window(10, 1.0, 3.0)
    assert window.expected(video.probe(film)) == pytest.approx(5, abs=1)
    with pytest.raises(ConfigError, match="n of at least 1"):
        next(streaming.stream(film, every=0))


def test_the_slow_methods_measure_the_followed_crops(film: Path) -> None:
    fast, fit = (pd.concat(streaming.stream(film, method=m, end_s=0.5)) for m in ("fast", "fit"))
    np.testing.assert_allclose(fast["AU12_L_r"], fit["AU12_L_r"], atol=1e-6)
    assert len(fit) == 13


def test_a_broken_video_gives_its_rows_first(tmp_path: Path) -> None:
    rows = 0
    with pytest.raises(video.BrokenVideo) as caught:
        for table in streaming.stream(broken(tmp_path / "a.mkv")):
            rows += len(table)
    assert rows == caught.value.frames_read > 5


def test_portraits_are_saved_and_looked_at(film: Path, tmp_path: Path) -> None:
    list(streaming.stream(film, portraits=tmp_path / "faces"))
    assert sorted(p.name for p in (tmp_path / "faces").iterdir()) == ["face_000.png", "face_001.png"]
    for number, level in ((0, 230), (1, 250)):
        picture = image.read(tmp_path / "faces" / f"face_{number:03d}.png")
        assert picture.shape == (256, 256, 3)
        assert abs(int(picture[128, 128, 0]) - level) <= 2


def test_estimate_takes_photos_and_videos_together(film: Path, tmp_path: Path) -> None:
    photo = stand_ins.save(tmp_path / "a.png", TWO)
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 99)
    table = fu.estimate([photo, film, tmp_path / "bad.mp4", ONE], every=50)
    names = table["input"].drop_duplicates().tolist()
    assert names == [str(photo), str(film), str(tmp_path / "bad.mp4"), "array[3]"]
    assert table["frame"].tolist()[:4] == [0, 0, 1, 51]
    assert table["reason"].str.startswith(estimation.UNREADABLE).sum() == 1
    with pytest.warns(UserWarning, match="breaks off"):
        assert len(fu.estimate(broken(tmp_path / "b.mkv"))) > 5
    with pytest.raises(ConfigError, match="overlay"):
        fu.estimate(film, overlay=tmp_path)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def go(film: Path, out: Path, say: Callable[[str], None] = print, **window: float) -> runs.Tally:
    return runs.run(
        [film, film.with_name("photo.png")], out, machine=streaming.prepare(), batch=8,
        window=streaming.Window(**window), about={"window": window}, say=say,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def inputs(film: Path) -> Path:
    stand_ins.save(film.with_name("photo.png"), TWO)
    return film


@pytest.mark.parametrize("stop", [1, 3, 33, 34, 80])
def test_an_interrupted_run_ends_with_the_same_bytes(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tally = go(inputs, tmp_path / "a" / "out.csv")
    assert sorted(files_of(tmp_path / "a")) == [
        "out.csv", "out.json", "out_faces/face_000.png", "out_faces/face_001.png"
    ]  # fmt: skip
    calls = 0
    read = moving.read

    def interrupt(crops: np.ndarray, models: object) -> object:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        return read(crops, models)

    monkeypatch.setattr("faceunits.fitting.read", interrupt)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        go(inputs, tmp_path / "b" / "out.csv", told.append)
    assert "out.csv" not in files_of(tmp_path / "b")
    if stop > 1:
        assert "again to go on" in told[-1]
        assert {"out.csv.part", "out.csv.state"} <= set(files_of(tmp_path / "b"))
    monkeypatch.setattr("faceunits.fitting.read", read)
    again = go(inputs, tmp_path / "b" / "out.csv", told.append)
    assert any("going on after" in line for line in told) == (stop > 1)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert again == tally


def test_a_killed_run_goes_on_from_its_last_state(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that no state counts are cut off, whatever they hold."""
    go(inputs, tmp_path / "a.csv")
    monkeypatch.setattr(runs, "SAVE_S", 0.0)
    pieces = iter(range(9))
    append = runs._append

    def die(rows: io.BufferedIOBase, table: pd.DataFrame, at: runs._Progress) -> None:
        if next(pieces) == 2:
            rows.write(b"half a ro")
            raise SystemExit  # nothing of ours catches it, as nothing catches a kill
        append(rows, table, at)

    monkeypatch.setattr(runs, "_append", die)
    with pytest.raises(SystemExit):
        go(inputs, tmp_path / "b.csv")
    assert (tmp_path / "b.csv.part").read_bytes().endswith(b"half a ro")
    monkeypatch.setattr(runs, "_append", append)
    go(inputs, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_another_run_starts_anew_and_says_so(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    out, told = tmp_path / "out.csv", []
    for damage in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(image, "read", interrupt)  # the photo comes after the video
            with pytest.raises(KeyboardInterrupt):
                go(inputs, out)
        if damage:
            (tmp_path / "out.csv.state").write_bytes(b"PK nothing")
        every = 1 if damage else 50
        go(inputs, out, told.append, every=every)
        assert ("damaged" if damage else "other inputs or options") in told[-1]
        assert pd.read_csv(out)["frame"].drop_duplicates().tolist() == [*range(1, 101, every), 0]
        assert not (tmp_path / "out.csv.part").exists()


def test_a_full_disk_is_told_and_nothing_is_half_written(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SAVE_S", 0.0)
    save, calls = runs.os.fsync, iter(range(99))

    def full(number: int) -> None:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(number)

    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        patch.setattr(runs.os, "fsync", full)
        with pytest.raises(InputError, match=r"No space left on device.*kept in .*again to go on"):
            go(inputs, out)
    assert not out.exists()
    told: list[str] = []
    go(inputs, out, told.append)
    assert "going on after 1 " in told[0]
    go(inputs, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_the_command_writes_table_description_and_portraits(command, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    code, stdout, err = command("estimate", film, "-o", out, "--every", 4)
    assert (code, stdout) == (0, "")
    table = pd.read_csv(out)
    assert table["frame"].drop_duplicates().tolist() == list(range(1, 101, 4))
    about = json.loads((tmp_path / "out.json").read_text())
    assert (about["options"]["every"], about["options"]["method"]) == (4, "fast")
    assert "1 video" in err
    assert (tmp_path / "out_faces" / "face_000.png").is_file()


def test_the_command_to_stdout(command, film: Path) -> None:
    code, out, _ = command("estimate", film, "--end", 1)
    assert code == 0
    assert len(pd.read_csv(io.StringIO(out))) == 25


def test_exit_codes_of_bad_videos(command, tmp_path: Path, film: Path) -> None:
    out = tmp_path / "out.csv"
    code, _, err = command("estimate", broken(tmp_path / "broken.mkv"), film, "-o", out)
    assert code == 3
    assert "breaks off" in err
    assert pd.read_csv(out)["input"].nunique() == 2
    assert (tmp_path / "out_faces" / "film_face_000.png").is_file()
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 99)
    code, _, err = command("estimate", tmp_path / "bad.mp4", film, "-o", out)
    assert code == 2
    assert "another kind" in err
    assert pd.read_csv(out)["frame"].tolist()[:2] == [0, 1]
    code, _, err = command("estimate", film, "--overlay", tmp_path / "x")
    assert code == 2
    assert "overlay" in err
    code, _, err = command("estimate", film, "--every", 0, "-o", out)
    assert code == 2
    assert not (tmp_path / "out.csv.part").exists()


def test_ctrl_c_says_how_to_go_on(
    command, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(999))

    def interrupt(crops: np.ndarray, models: object) -> object:
        if next(calls) == 50:
            raise KeyboardInterrupt
        return moving.read(crops, models)

    monkeypatch.setattr("faceunits.fitting.read", interrupt)
    code, _, err = command("estimate", film, "-o", tmp_path / "out.csv")
    assert code == 130
    assert "interrupted after 32 frames" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv.part", "out.csv.state", "out_faces"]


def test_live_draws_bars_of_a_file(film: Path, command) -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    assert live.show(source=film, console=console) == 100
    text = console.file.getvalue()
    for word in ("face 0", "AU12", "yaw -5", "no face", "face 1"):
        assert word in text
    code, out, _ = command("live", "--source", film, "--seconds", 0)
    assert code == 0
    assert "AU12" in out


def test_live_without_a_camera(command) -> None:
    code, _, err = command("live", "--camera", 97)
    assert code == 2
    assert "expected a camera" in err


def test_the_newest_frame_is_shown() -> None:
    class Camera:
        def decode(self, video: int):
            for i in range(50):
                yield moving.av.VideoFrame.from_ndarray(np.full((8, 8, 3), i, np.uint8), "rgb24")

    frames = list(live._newest(Camera()))
    assert frames[-1].picture[0, 0, 0] == 49
    assert [f.number for f in frames] == list(range(1, len(frames) + 1))
