"""Pages, pictures and commands of the scores; any table beside any labels."""

from __future__ import annotations

import json

import layouts
import numpy as np
import pandas as pd
import pytest
import typer
from counted import ABOUT, check, row_of
from typer.testing import CliRunner

from faceunits import cli_datasets
from faceunits.errors import InputError
from faceunits.evaluation import against, protocol, tables


def test_the_page_holds_ours_beside_what_was_published(disfa, tmp_path):
    outcome = protocol.evaluate(disfa, tmp_path / "kept", layouts.measure(), about=ABOUT, rounds=20)
    paths = tables.write(outcome, tmp_path / "page", "disfa_fast")
    assert sorted(p.name for p in paths) == [
        "disfa_fast.csv", "disfa_fast.json", "disfa_fast.md", "disfa_fast.png", "disfa_fast_failed.csv",
    ]  # fmt: skip
    page = (tmp_path / "page" / "disfa_fast.md").read_text()
    assert "| GE-Net | 0.660 | 0.670 |" in page
    assert "| OpenFace |  |" in page
    assert "arXiv 2004.05908" in page
    mean = row_of(outcome, outcome.main).set_index("au").loc["mean", "icc"]
    assert f"| **{outcome.main}** |" in page
    assert f"{mean:.3f} |" in page
    assert "no face in frame N" in page
    values = json.loads((tmp_path / "page" / "disfa_fast.json").read_text())
    found = next(r for r in values["rows"] if r["row"] == outcome.main and r["au"] == "mean")
    assert found["icc"] == pytest.approx(mean, abs=1e-5)
    table = pd.read_csv(tmp_path / "page" / "disfa_fast.csv")
    assert len(table) == len(outcome.rows)
    assert len(pd.read_csv(tmp_path / "page" / "disfa_fast_failed.csv")) == len(outcome.failed)
    with pytest.raises(InputError, match="choose another"):
        tables.write(outcome, tmp_path / "page" / "disfa_fast.md" / "sub", "x")


def test_the_picture_has_a_bar_as_high_as_the_score():
    from faceunits.viz import bars

    bar = bars.Bar("ours", np.array([1.0, 0.5, np.nan]), 0.75, None, bars.OURS)
    drawn = bars.chart("t", [bars.Panel("ICC", ("AU01", "AU02", "AU04"), (bar,))])
    blue = (drawn == np.array(bars.OURS)).all(-1)
    columns = blue[:, : 14 + 46 + 3 * 62].sum(0)
    first, second = columns[60:122].max(), columns[122:184].max()
    assert first == pytest.approx(2 * second, abs=2)
    assert columns[190:240].max() < 8  # nothing but the sign of what is unknown
    assert bars.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert bars.ticks(-0.3, 0.9)[0] <= -0.3
    assert len(bars.ticks(0, 0)) >= 2


def stand_in_table(path) -> None:
    rows = []
    for s in "ab":
        for f in range(1, 13):
            row = {"input": f"/somewhere/{s}.mp4", "frame": f, "face_id": 0, "timestamp": f / 20,
                   "confidence": 0.9, "success": int(not layouts.is_lost(f)), "reason": "",
                   "face_x": 0.0, "face_y": 0.0, "face_w": 10.0, "face_h": 10.0, "pose_pitch_deg": 0.0,
                   "pose_yaw_deg": 0.0, "pose_roll_deg": 0.0, "AU06_r": layouts.guess(s, f, 6),
                   "AU12_r": layouts.guess(s, f, 12)}  # fmt: skip
            rows.append(row if row["success"] else row | {"AU06_r": np.nan, "AU12_r": np.nan})
    pd.DataFrame(rows).to_csv(path, index=False)


def stand_in_labels(path, *, frames: int = 12) -> None:
    lines = ["Subject,file,frame,AU6,AU12_r,AU07"]
    for s in "ab":
        lines += [f"{s},{s}.mp4,{f},{layouts.intensity(s, f, 6)},{layouts.intensity(s, f, 12)},1"
                  for f in range(1, frames + 1)]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")


def test_any_table_is_compared_with_any_labels(tmp_path):
    ours, truth = tmp_path / "ours.csv", tmp_path / "truth.csv"
    stand_in_table(ours)
    stand_in_labels(truth)
    outcome = against.compare(ours, truth, beside="fera2015", rounds=20)
    pairs = {
        au: [(layouts.intensity(s, f, au), layouts.guess(s, f, au)) for s in "ab" for f in range(1, 13)
             if not layouts.is_lost(f)]
        for au in (6, 12)
    }  # fmt: skip
    check(row_of(outcome, outcome.main), pairs)
    assert len(outcome.failed) == 2
    assert any("AU7" in n for n in outcome.notes)
    net = row_of(outcome, "GE-Net").set_index("au")["icc"]
    assert net["AU06"] == 0.69
    assert np.isnan(net["mean"])  # of other units
    stand_in_labels(truth, frames=13)
    longer = against.compare(ours, truth, rounds=0)
    assert set(longer.failed.loc[longer.failed["frame"] == 13, "reason"]) == {"no such row in the table"}
    assert "## ICC(3,1), higher is better" in tables.markdown(longer)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,frame,AU6\na.mp4,1,0\na.mp4,2,7\n", r"AU6 in .*truth\.csv, line 3; got '7'"),
        ("file,frame,AU6\na.mp4,1,many\n", "line 2; got 'many'"), ("file,frame\na.mp4,1\n", "such as AU12"),
        ("file,frame,AU6\na.mp4,1.5,0\n", "frame in .*line 2"), ("file,frame,AU6\n", "title line"),
        ("file,frame,AU6\nx.mp4,1,0\n", "found none"), ("file,AU6\na.mp4,0\n", "column frame"),
        ("AU6\n0\n", "column input or frame"), ("file,frame,AU28\na.mp4,1,0\n", "none of them"),
        ("file,frame,AU6\na.mp4,1,0\na.mp4,1,0\n", "line 3 repeats"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_are_named(tmp_path, text, said):
    stand_in_table(tmp_path / "ours.csv")
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        against.compare(tmp_path / "ours.csv", tmp_path / "truth.csv")
    assert "\n" not in str(caught.value)


@pytest.fixture
def command(monkeypatch):
    app = typer.Typer()
    cli_datasets.add_commands(app)
    monkeypatch.setattr(protocol, "measurer", lambda method, device: layouts.measure())
    monkeypatch.setattr(protocol, "fingerprint", lambda method: {"method": method})
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


@pytest.mark.parametrize("name", ["disfa", "fera2015", "ckplus", "mmi", "facewarehouse"])
def test_the_commands_write_their_pages(command, tmp_path, name):
    build = {"fera2015": layouts.fera}.get(name) or getattr(layouts, name)
    root = build(tmp_path / "data")
    done = command(name, "--root", root, "-o", tmp_path / "out", "--rounds", 5)
    assert done.exit_code == 0, done.output
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert {f"{name}_fast.md", f"{name}_fast.csv", f"{name}_fast.json", "measured"} <= written
    assert (tmp_path / "out" / f"{name}_fast.png").exists() == (name != "facewarehouse")
    assert "goes on where it was" in done.stderr


def test_the_command_of_tables_prints_without_a_folder(command, tmp_path):
    stand_in_table(tmp_path / "ours.csv")
    stand_in_labels(tmp_path / "truth.csv")
    done = command("table", tmp_path / "ours.csv", tmp_path / "truth.csv", "--rounds", 5)
    assert done.exit_code == 0, done.output
    assert "| AU12 |" in done.stdout.replace("| AU06 | AU12 |", "| AU12 |")
    assert "constant 0" in done.stdout
