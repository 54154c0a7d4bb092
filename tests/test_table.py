"""Tables on disk: readable back, described, whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceunits.errors import InputError
from faceunits.io import table
from faceunits.io.files import printable

TABLE = pd.DataFrame({"input": ["a.jpg", 'b, "c".jpg'], "face_id": [0, -1], "AU12_r": [1.23456, np.nan]})
ABOUT = table.describe(
    weights={"parser": {"file": "parser.safetensors", "sha256": "0" * 64}}, options={"batch": 8}
)


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
    ("name", "message"), [("out.txt", "ending in .csv"), ("no/out.csv", "make the folder")]
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
