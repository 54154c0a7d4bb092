"""Table and video to report: what lies beside the table, the table's own video, the command."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import stand_ins
import typer
from hypothesis import given
from hypothesis import strategies as st
from test_film import save_video
from test_report_page import only, parsed, rows

from faceunits import cli, cli_report, estimation, fitting, reporting
from faceunits.alignment import warp
from faceunits.errors import InputError
from faceunits.io import table as table_io
from faceunits.reporting import aligning
from faceunits.reporting import evidence as proof


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table with its description, portraits and name."""

    def save(table: pd.DataFrame, name: str = "out.csv") -> Path:
        about = table_io.describe(weights={"parser": {"file": "p", "sha256": "abc123"}}, options={"every": 7})
        table_io.write(tmp_path / name, table, about=about)
        return tmp_path / name

    return save


def test_description_and_portraits_come_from_beside_the_table(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    path = saved(pd.concat([rows([1, 2]), rows([1, 2], face_id=1)]))
    folder = tmp_path / "out_faces"
    folder.mkdir()
    stand_ins.save(folder / "face_000.png", np.full((64, 64, 3), 90, np.uint8))
    (folder / "face_001.png").write_bytes(b"not a picture")
    reporting.write(path, tmp_path / "out.html")
    reader = parsed((tmp_path / "out.html").read_text())
    assert table_io.SCALE in reader.text
    assert "abc123" in reader.text
    assert [a["alt"] for tag, a in reader.tags if tag == "img"] == ["portrait of face 0"]
    assert reader.text.count("no portrait") == 1


def test_a_table_without_description_says_so(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = saved(rows([1]))
    path.with_suffix(".json").unlink()
    reporting.write(path, tmp_path / "out.html")
    assert "scale, weights and options are not known" in (tmp_path / "out.html").read_text()
    path.with_suffix(".json").write_text("{torn")
    with pytest.raises(InputError, match="description of the table"):
        reporting.write(path, tmp_path / "out.html")


def landmarks68(size: int) -> np.ndarray:
    """Points whose five are the template's."""
    out = np.full((68, 2), size / 2, np.float32)
    five = warp.template(size)
    for i, j in ((36, 0), (39, 0), (42, 1), (45, 1), (30, 2), (48, 3), (54, 4)):
        out[i] = five[j]
    return out


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading that takes the crop as it is, and the fit by formula."""
    stand_ins.install(monkeypatch)

    def read(crops: np.ndarray, models: stand_ins.StandInModels) -> SimpleNamespace:
        return SimpleNamespace(landmarks=np.stack([landmarks68(models.crop_size)] * len(crops)))

    monkeypatch.setattr(fitting, "read", read)
    assert estimation.models().crop_size == 64


def clip(path: Path, brightness: list[int]) -> Path:
    return save_video(path, [(i / 10, stand_ins.picture((20, 20, 60, b))) for i, b in enumerate(brightness)])


@pytest.mark.usefixtures("stand_in")
def test_with_its_video_peaks_have_pictures_and_faces_are_fitted(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    path = saved(rows([0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 2.5]))
    video = clip(tmp_path / "a.mp4", [200, 200, 250, 200, 200, 200, 220])
    reporting.write(path, tmp_path / "out.html", video=video, evidence=2)
    reader = parsed((tmp_path / "out.html").read_text())
    alts = [a["alt"] for tag, a in reader.tags if tag == "img"]
    assert [a for a in alts if a and a.startswith("face at")] == ["face at AU12 4.0", "face at AU12 2.5"]
    assert alts.count("fitted face") == 2
    # the fit by formula takes AU12 from the brightness of the crop: the video's frame 3, and its face
    for frame, numbers in ((1, r"0\.000\.00"), (3, r"4\.004\.55")):
        pattern = rf"frame {frame}; confidence of the fit 0\.80.*?AU12lip corner puller{numbers}"
        assert re.search(pattern, reader.text)
    assert "0.60 s, frame 70.10 s" in reader.text  # a peak in the last frame lasts one frame, too


@pytest.mark.usefixtures("stand_in")
def test_another_video_is_refused(saved: Callable[..., Path], tmp_path: Path) -> None:
    path = saved(rows([0, 0, 4, 0]))
    slow = save_video(tmp_path / "slow.mp4", [(i, stand_ins.picture((20, 20, 60, 230))) for i in range(4)])
    with pytest.raises(InputError, match=r"expected frame 3 at 0\.200 s"):
        reporting.write(path, tmp_path / "out.html", video=slow)
    short = clip(tmp_path / "short.mp4", [200, 200])
    with pytest.raises(InputError, match="has 2; name its own video"):
        reporting.write(path, tmp_path / "out.html", video=short)
    assert not (tmp_path / "out.html").exists()
    photos = rows([3.0]).assign(frame=0)
    with pytest.raises(InputError, match="expected a table of a video"):
        reporting.write(saved(photos, "photos.csv"), tmp_path / "out.html", video=slow)
    both = pd.concat([rows([1.0]), rows([1.0], name="b.mp4")])
    with pytest.raises(InputError, match=r"expected a video of the table \(a.mp4, b.mp4\)"):
        reporting.write(saved(both, "both.csv"), tmp_path / "out.html", video=slow)


def test_the_frames_to_fit_differ() -> None:
    recording = only(rows([0, 0, 0, 2, 2, 2, 5, 5]))
    [(course, places)] = proof.spread(recording, recording.courses, 3)
    assert course.face_id == 0
    assert sorted(recording.courses[0].values[places, recording.series.index("AU12_r")]) == [0, 2, 5]
    [(_, alike)] = proof.spread(only(rows([1, 1, 1])), only(rows([1, 1, 1])).courses, 3)
    assert len(alike) == 1
    assert list(proof.spread(recording, recording.courses, 0)) == []


@given(
    st.floats(-80, 80), st.floats(20, 300), st.floats(-100, 1000), st.floats(-100, 1000)
)  # fmt: skip
def test_box_and_roll_lead_back_to_the_points(roll: float, size: float, x: float, y: float) -> None:
    angle = np.radians(roll)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (warp.TEMPLATE * size) @ turn.T + (x, y)
    found = aligning.points_of(warp.face_box(points), roll)
    assert found is not None
    np.testing.assert_allclose(found, points, atol=0.02)


def test_a_box_that_is_undefined_has_no_points() -> None:
    assert aligning.points_of(np.full(4, np.nan, np.float32), 0) is None
    assert aligning.points_of(np.zeros(4, np.float32), 0) is None


# ---- command ----------------------------------------------------------------------------------------------


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    cli_report.add_commands(app)
    monkeypatch.setattr(cli, "app", app)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["faceunits", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), capfd.readouterr().err

    return run


def test_the_command_names_what_it_wrote(
    command: Callable[..., tuple[int, str]], saved: Callable[..., Path], tmp_path: Path
) -> None:
    path = saved(rows([1, 2]))
    assert command(path) == (0, f"wrote {tmp_path / 'out.html'}\n")
    assert (tmp_path / "out.html").is_file()


def test_the_command_refuses_before_it_works(
    command: Callable[..., tuple[int, str]], saved: Callable[..., Path], tmp_path: Path
) -> None:
    path = saved(rows([1, 2]))
    video = tmp_path / "a.mp4"
    video.write_bytes(b"")
    for arguments, message in (
        ([path, "-o", tmp_path / "a.pdf"], "expected a name ending in .html"),
        ([path, "-o", tmp_path / "none" / "a.html"], "its folder does not exist"),
        ([path, "--render", tmp_path / "b.mp4"], "add --video"),
        ([path, "--video", video, "--render", tmp_path / "b.avi"], "expected a name ending in .mp4"),
        ([path, "--video", video, "--render", video], "expected another name for the film"),
        ([tmp_path / "none.csv"], "none.csv"),
    ):
        code, said = command(*arguments)
        assert code == 2
        assert message in said
        assert said.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))
