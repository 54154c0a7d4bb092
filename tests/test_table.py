"""Tables on disk: readable back, described, whole or not there."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceunits import estimation
from faceunits.errors import ConfigError, InputError
from faceunits.io import table
from faceunits.io.files import printable

TABLE = pd.DataFrame({"input": ["a.jpg", 'b, "c".jpg'], "face_id": [0, -1], "AU12_r": [1.23456, np.nan]})
ABOUT = table.describe(
    weights={"parser": {"file": "parser.safetensors", "sha256": "0" * 64}}, options={"batch": 8}
)
needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="install the extra parquet"
)


def faces(rows: int, seed: int = 0) -> pd.DataFrame:
    """A table of faces as a video gives it, every fifth frame without one."""
    rng = np.random.default_rng(seed)
    frame = np.arange(1, rows + 1)
    lost = frame % 5 == 0
    out = pd.DataFrame({"input": "a, b.mp4", "frame": frame, "face_id": np.where(lost, -1, 0)})
    out["timestamp"] = frame / 30
    out["confidence"] = rng.random(rows)
    out["success"] = np.where(lost, 0, 1)
    out["reason"] = np.where(lost, 'no "face"', "")
    for name in (*estimation.COLUMNS[7:], "AU01_L_r", "AU01_R_r", "AU01_r", "AU12_r"):
        out[name] = rng.normal(0, 3, rows)
    out.loc[lost, ["confidence", *out.columns[7:]]] = np.nan
    return out


def jsonl(path: Path) -> pd.DataFrame:
    return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


def test_comes_back(tmp_path: Path) -> None:
    sidecar = table.write(tmp_path / "out.csv", TABLE, about=ABOUT)
    back = pd.read_csv(tmp_path / "out.csv")
    assert back["input"].tolist() == TABLE["input"].tolist()
    assert back["face_id"].tolist() == [0, -1]
    assert back["AU12_r"][0] == pytest.approx(1.2346)
    assert np.isnan(back["AU12_r"][1])
    assert sidecar == tmp_path / "out.json"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "out.json"]


def test_the_description_says_scale_versions_weights_and_options(tmp_path: Path) -> None:
    about = json.loads(table.write(tmp_path / "out.csv", TABLE, about=ABOUT).read_text())
    assert about["scale"] == "0-5 = 5 x parameter, linear, uncalibrated"
    assert about["weights"]["parser"]["sha256"] == "0" * 64
    assert about["options"] == {"batch": 8}
    assert {"python", "torch", "numpy"} <= about["versions"].keys()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.txt", "ending in .csv, .parquet or .jsonl; got .*; change the ending"),
        ("out", "ending in .csv"),
        ("no/out.csv", "make the folder"),
        ("no/out.jsonl", "make the folder"),
    ],
)
def test_bad_places_are_refused_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table.check(tmp_path / name)
    with pytest.raises(InputError, match=message):
        table.write(tmp_path / name, TABLE, about=ABOUT)
    assert not list(tmp_path.iterdir())


def test_a_table_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        table.write(tmp_path / "out.csv", TABLE, about=ABOUT)


@given(name=st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b))
def test_any_file_name_can_be_a_cell(name: bytes) -> None:
    text = printable(os.fsdecode(name))
    assert text.isprintable()
    csv = table.text(pd.DataFrame({"input": [text], "x": [1]}))
    csv.encode("utf-8")
    assert len(csv.splitlines()) == 2


def test_columns_and_types_are_those_of_estimate() -> None:
    assert table.COLUMNS == estimation.COLUMNS
    assert set(table.TEXT) | set(table.WHOLE) <= set(table.COLUMNS)


@needs_pyarrow
@pytest.mark.parametrize("rows", [0, 1, 12])
def test_every_format_holds_the_values_of_the_csv(tmp_path: Path, rows: int) -> None:
    given = faces(rows)
    for name in ("out.csv", "out.PARQUET", "out.jsonl"):
        assert table.write(tmp_path / name, given, about=ABOUT) == tmp_path / "out.json"
    csv = pd.read_csv(tmp_path / "out.csv", dtype={"reason": "str"}).fillna({"reason": ""})
    parquet = pd.read_parquet(tmp_path / "out.PARQUET")
    assert parquet.columns.tolist() == given.columns.tolist()
    assert [str(parquet[n].dtype) for n in ("frame", "face_id", "success", "AU12_r")] == ["int64"] * 3 + [
        "float64"
    ]
    pd.testing.assert_frame_equal(parquet, csv.astype(parquet.dtypes), check_exact=True)
    if rows:
        pd.testing.assert_frame_equal(
            jsonl(tmp_path / "out.jsonl").astype(parquet.dtypes), parquet, check_exact=True
        )
    else:
        assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_json_lines_as_others_read_them(tmp_path: Path) -> None:
    table.write(tmp_path / "out.jsonl", TABLE, about=ABOUT)
    assert (tmp_path / "out.jsonl").read_text() == (
        '{"input": "a.jpg", "face_id": 0, "AU12_r": 1.2346}\n'
        '{"input": "b, \\"c\\".jpg", "face_id": -1, "AU12_r": null}\n'
    )


def test_other_tables_keep_their_types(tmp_path: Path) -> None:
    figures = pd.DataFrame({"name": ["NA", ""], "count": [3, 4], "share": [0.5, 1.0], "good": [True, False]})
    table.write(tmp_path / "out.jsonl", figures, about=ABOUT)
    assert jsonl(tmp_path / "out.jsonl").to_dict("list") == {
        "name": ["NA", ""], "count": [3, 4], "share": [0.5, 1.0], "good": ["True", "False"],
    }  # fmt: skip


@needs_pyarrow
@pytest.mark.parametrize("ending", table.ENDINGS)
def test_a_finished_part_is_the_table_written_at_once(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_CHUNK", 4)  # several chunks, the last one shorter
    given = faces(10)
    part = tmp_path / "rows.part"
    part.write_text(table.text(given), encoding="utf-8")
    sidecar = table.finish(part, tmp_path / f"out{ending}", about=ABOUT)
    assert json.loads(sidecar.read_text()) == ABOUT
    assert {p.name for p in tmp_path.iterdir()} == {"out" + ending, "out.json"}  # the part is gone
    table.write(tmp_path / f"once{ending}", given, about=ABOUT)
    if ending == ".parquet":
        pd.testing.assert_frame_equal(
            pd.read_parquet(tmp_path / "out.parquet"), pd.read_parquet(tmp_path / "once.parquet")
        )
    else:
        assert (tmp_path / f"out{ending}").read_bytes() == (tmp_path / f"once{ending}").read_bytes()


@pytest.mark.parametrize("ending", table.ENDINGS)
def test_a_part_without_rows(tmp_path: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    part = tmp_path / "rows.part"
    part.write_text(table.text(faces(0)), encoding="utf-8")
    assert table.finish(part, tmp_path / f"out{ending}") == tmp_path / "out.json"
    assert [p.name for p in tmp_path.iterdir()] == ["out" + ending]  # no description was asked for


def test_memory_does_not_grow_with_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_CHUNK", 25)
    peaks = []
    for rows in (100, 1000):
        part = tmp_path / "rows.part"
        part.write_text(table.text(faces(rows)), encoding="utf-8")
        table.finish(part, tmp_path / "warm.jsonl")
        part.write_text(table.text(faces(rows)), encoding="utf-8")
        tracemalloc.start()
        table.finish(part, tmp_path / "out.jsonl")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
@pytest.mark.parametrize(
    "damage", ["a.mp4,1\n", "a.mp4,1,0,x\n", "a.mp4,1,0,0.1,0.2,1,,,,,,,,,,,,,,,\n", "\xff\n"]
)
def test_a_damaged_part_stays_and_no_table_appears(tmp_path: Path, ending: str, damage: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    part = tmp_path / "rows.part"
    part.write_bytes(table.text(faces(6)).encode() + damage.encode("latin-1"))
    before = part.read_bytes()
    (tmp_path / f"out{ending}").write_text("an older table")
    with pytest.raises(InputError, match=r"expected whole rows of CSV in .*rows.part; .*; delete it"):
        table.finish(part, tmp_path / f"out{ending}")
    assert part.read_bytes() == before
    assert (tmp_path / f"out{ending}").read_text() == "an older table"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_part_that_cannot_become_the_table(tmp_path: Path) -> None:
    part = tmp_path / "rows.part"
    with pytest.raises(InputError, match="no such file"):
        table.finish(part, tmp_path / "out.csv")
    part.write_text(table.text(faces(2)), encoding="utf-8")
    with pytest.raises(InputError, match="ending in"):
        table.finish(part, tmp_path / "out.xlsx")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        table.finish(part, tmp_path / "out.csv", about=ABOUT)
    part.write_bytes(b"")
    with pytest.raises(InputError, match="expected whole rows of CSV"):
        table.finish(part, tmp_path / "out.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "rows.part"]


def test_a_part_on_another_disk_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "rows.part"
    part.write_text(table.text(faces(2)), encoding="utf-8")
    expected, rename = part.read_bytes(), os.replace

    def replace(source: Path, target: Path) -> None:
        if source == part:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    table.finish(part, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == expected
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_a_rename_that_fails_leaves_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "rows.part"
    part.write_text(table.text(faces(2)), encoding="utf-8")

    def refuse(_source: Path, _target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match=r"not permitted.*the rows are in .*rows.part"):
        table.finish(part, tmp_path / "out.csv")
    assert part.exists()


def test_without_pyarrow_the_remedy_is_named_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    for act in (table.check, lambda path: table.write(path, TABLE, about=ABOUT)):
        with pytest.raises(ConfigError, match=r"pip install 'faceunits\[parquet\]', or name the table .csv"):
            act(tmp_path / "out.parquet")
    table.check(tmp_path / "out.jsonl")
    assert not list(tmp_path.iterdir())
