"""Tables of every tool come out in one layout; each literal table has the columns its tool writes."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceunits import estimation
from faceunits.errors import ConfigError, InputError
from faceunits.io import table
from faceunits.io.readers import read_table

OURS = """\
input,frame,face_id,timestamp,confidence,success,reason,face_x,face_y,face_w,face_h,\
pose_pitch_deg,pose_yaw_deg,pose_roll_deg,AU12_L_r,AU12_R_r,AU12_r
NA,1,0,0.0000,0.9000,1,,10.5000,20.0000,30.0000,40.0000,1.0000,-2.0000,3.0000,1.2346,0.5000,1.2346
" a, b.mp4",2,-1,0.0333,,0,no face found in 8 x 8 pixels,,,,,,,,,,
"""

# FeatureExtraction writes a space after each comma of the header, older versions in the rows as well.
OPENFACE_VIDEO = """\
frame, face_id, timestamp, confidence, success, gaze_0_x, gaze_angle_x, pose_Tx, pose_Ty, pose_Tz, pose_Rx, \
pose_Ry, pose_Rz, x_0, x_1, x_67, y_0, y_1, y_67, X_0, AU01_r, AU12_r, AU45_r, AU01_c, AU12_c, AU28_c
1, 0, 0.000, 0.98, 1, 0.1, 0.2, 3.0, 4.0, 500.0, 0.100, 0.200, -0.300, 100.0, 110.0, 150.0, 200.0, 190.0, \
260.0, 9.9, 0.50, 2.25, 0.00, 1.0, 1.0, 0.0
2, 0, 0.033, 0.03, 0, 0, 0, 0, 0, 0, 0.000, 0.000, 0.000, 0, 0, 0, 0, 0, 0, 0, 0.00, 0.00, 0.00, 0.0, 0.0, 0.0
3, 1, 0.067, 0.93, 1, 0, 0, 0, 0, 0, -nan(ind), 0.000, 0.000, 1, 2, 3, 4, 5, 6, 0, 0.00, 5.00, 0.10, 0, 1, 0
"""
OPENFACE_PHOTO = """\
face,confidence,gaze_0_x,pose_Rx,pose_Ry,pose_Rz,AU06_r,AU06_c
0,0.975,0.0,0.000,-0.500,0.000,3.10,1.0
1,0.625,0.0,0.000,0.500,0.000,0.00,0.0
"""
# Py-Feat to 0.6 has three angles, in degrees; AUs in [0, 1], one of them FACS's 43.
PYFEAT_OLD = """\
,frame,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore,x_0,y_0,Pitch,Roll,Yaw,AU01,AU11,AU12,AU43,\
anger,input,approx_time
0,0.0,10.5,20.0,30.0,40.0,0.99,1,1,-3.5,-3.4,1.5,0.1,0.2,0.9,1.0,0.1,/data/clip.mp4,00:00
1,30.0,nan,nan,nan,nan,nan,nan,nan,nan,nan,nan,nan,nan,nan,nan,nan,/data/clip.mp4,00:01
2,1860.0,,,,,,,,,,,,,,,,/data/clip.mp4,01:02
"""
# Since then there are six, in radians, and persons.
PYFEAT_NEW = """\
FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore,x_0,Pitch,Roll,Yaw,X,Y,Z,AU01,AU12,AU43,Neutral,\
gaze_pitch,Identity_1,mesh_x_0,FrameHeight,FrameWidth,input,frame,approx_time,Identity
1.0,2.0,30.0,40.0,0.9,1,0.1,0.2,-0.3,0,0,5,0.5,1.0,0.0,0.9,0,0.1,7,480,640,a.mp4,0,00:00,Person_1
1.0,2.0,50.0,60.0,0.8,1,0.0,0.0,0.0,0,0,5,0.0,0.0,0.0,0.9,0,0.1,7,480,640,a.mp4,0,00:00,Person_0
,,,,0.0,,,,,,,,0.2,0.2,0.2,,,,,480,640,a.mp4,1,00:00,
"""
LIBREFACE_VIDEO = """\
frame_idx,frame_time_in_ms,pitch,yaw,roll,lm_mp_0_x,lm_mp_0_y,lm_mp_0_z,au_1,au_12,au_1_intensity,\
au_12_intensity,au_26_intensity,facial_expression,gaze_yaw,gaze_pitch
0,0.0,3.2,-1.5,0.1,0.5,0.5,0.0,0,1,0.123,4.5,0.0,Happiness,1.0,2.0
3,{},3.2,-1.5,0.1,0.5,0.5,0.0,0,1,,,,,,
"""
LIBREFACE_PHOTO = """\
,input_image_path,aligned_image_path,facial_expression,au_1,au_1_intensity,au_12_intensity
0,/photos/smile.png,./tmp/a.png,Happiness,0,0.1,3.0
"""


def read(tmp_path: Path, text: str, name: str = "some table.csv") -> pd.DataFrame:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_table(path)


def faceless(out: pd.DataFrame, row: int, tool: str) -> bool:
    rest = [
        c for c in out.columns if c not in ("input", "frame", "face_id", "timestamp", "success", "reason")
    ]
    why = out["reason"][row] == f"{tool} reports no face" and out["face_id"][row] == -1
    return bool(why and out["success"][row] == 0 and out.loc[row, rest].isna().all())


@pytest.mark.parametrize(
    "text",
    [
        OURS, OPENFACE_VIDEO, OPENFACE_PHOTO, PYFEAT_OLD, PYFEAT_NEW,
        LIBREFACE_VIDEO.format(100), LIBREFACE_PHOTO,
    ],
)  # fmt: skip
@pytest.mark.parametrize("rows", ["all", "none"])
def test_one_layout(tmp_path: Path, text: str, rows: str) -> None:
    out = read(tmp_path, text if rows == "all" else text.splitlines()[0] + "\n")
    units = [str(name) for name in out.columns[len(estimation.COLUMNS) :]]
    assert tuple(out.columns[: len(estimation.COLUMNS)]) == estimation.COLUMNS
    assert units == sorted(units)
    assert all(table.UNIT.fullmatch(name) for name in units)
    assert (len(out) > 0) == (rows == "all")
    assert {str(out[n].dtype) for n in ("frame", "face_id", "success")} == {"int64"}
    assert {str(out[n].dtype) for n in (*units, "timestamp", "confidence", "face_x", "pose_yaw_deg")} == {
        "float64"
    }
    assert all(pd.api.types.is_string_dtype(out[n]) for n in ("input", "reason"))
    assert not out["reason"].isna().any()
    assert set(out.attrs) == {"tool", "scale", "pose"}


def test_ours(tmp_path: Path) -> None:
    out = read(tmp_path, OURS)
    assert out["input"].tolist() == ["NA", " a, b.mp4"]
    assert out["reason"].tolist() == ["", "no face found in 8 x 8 pixels"]
    assert out["face_id"].tolist() == [0, -1]
    assert out["AU12_L_r"][0] == 1.2346
    assert out["pose_yaw_deg"][0] == -2
    assert out.loc[1, "face_x":].isna().all()
    assert out.attrs["tool"] == "faceunits"
    assert out.attrs["scale"] == table.SCALE


def test_the_scale_of_ours_is_that_of_its_description(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"table_version": table.VERSION, "scale": "another"}))
    assert read(tmp_path, OURS, "t.csv").attrs["scale"] == "another"
    (tmp_path / "t.json").write_text("not JSON")
    assert read(tmp_path, OURS, "t.csv").attrs["scale"] == table.SCALE
    (tmp_path / "t.json").write_text(json.dumps({"table_version": table.VERSION + 1, "scale": "x"}))
    with pytest.raises(InputError, match=r"version 1 or older; .*t.csv has version 2; install"):
        read(tmp_path, OURS, "t.csv")


def test_openface_video(tmp_path: Path) -> None:
    out = read(tmp_path, OPENFACE_VIDEO)
    assert out["input"].tolist() == ["some table"] * 3
    assert out["frame"].tolist() == [1, 2, 3]
    assert out["face_id"].tolist() == [0, -1, 1]
    assert out["timestamp"].tolist() == [0, 0.033, 0.067]
    pose = out.loc[0, ["pose_pitch_deg", "pose_yaw_deg", "pose_roll_deg"]].astype(float)
    assert pose.tolist() == pytest.approx([5.72958, -11.45916, -17.18873], abs=1e-4)
    assert out.loc[0, ["face_x", "face_y", "face_w", "face_h"]].tolist() == [100, 190, 50, 70]
    assert out.columns[14:].tolist() == ["AU01_r", "AU12_r", "AU45_r"]  # presence and other numbers stay out
    assert out.loc[0, ["AU01_r", "AU12_r", "AU45_r", "confidence"]].tolist() == [0.5, 2.25, 0, 0.98]
    assert faceless(out, 1, "OpenFace")
    assert np.isnan(out["pose_pitch_deg"][2])
    assert out["success"].tolist() == [1, 0, 1]


def test_openface_photo(tmp_path: Path) -> None:
    out = read(tmp_path, OPENFACE_PHOTO)
    assert out["frame"].tolist() == [0, 0]
    assert out["timestamp"].tolist() == [0, 0]
    assert out["face_id"].tolist() == [0, 1]
    assert out["success"].tolist() == [1, 1]
    assert out["pose_yaw_deg"].tolist() == pytest.approx([28.6479, -28.6479], abs=1e-4)
    assert out["face_x"].isna().all()
    assert "FACS" in out.attrs["scale"]


def test_pyfeat_in_degrees(tmp_path: Path) -> None:
    out = read(tmp_path, PYFEAT_OLD)
    assert out["frame"].tolist() == [1, 31, 1861]
    assert out["timestamp"].tolist() == [0, 1, 62]
    assert out["input"][0] == "/data/clip.mp4"
    assert out.loc[0, ["pose_pitch_deg", "pose_yaw_deg", "pose_roll_deg"]].tolist() == [3.5, -1.5, -3.4]
    assert out.loc[0, ["face_x", "face_y", "face_w", "face_h"]].tolist() == [10.5, 20, 30, 40]
    units = out.loc[0, ["AU01_r", "AU11_r", "AU12_r", "AU45_r"]].astype(float)
    assert units.tolist() == pytest.approx([0.5, 1.0, 4.5, 5.0])
    assert faceless(out, 1, "Py-Feat")
    assert faceless(out, 2, "Py-Feat")
    assert "belief" in out.attrs["scale"]


def test_pyfeat_in_radians(tmp_path: Path) -> None:
    out = read(tmp_path, PYFEAT_NEW)
    pose = out.loc[0, ["pose_pitch_deg", "pose_yaw_deg", "pose_roll_deg"]].astype(float)
    assert pose.tolist() == pytest.approx([-5.72958, 17.18873, -11.45916], abs=1e-4)
    assert out["face_id"].tolist() == [1, 0, -1]
    assert out["frame"].tolist() == [1, 1, 2]
    assert faceless(out, 2, "Py-Feat")  # though its networks were given an empty picture and answered


def test_pyfeat_without_persons_counts_faces_by_size(tmp_path: Path) -> None:
    out = read(tmp_path, PYFEAT_NEW.replace("Person_0", "Unknown"))
    assert out["face_id"].tolist() == [1, 0, -1]
    assert out["confidence"][:2].tolist() == [0.9, 0.8]


def test_pyfeat_photos(tmp_path: Path) -> None:
    out = read(tmp_path, PYFEAT_NEW.replace("a.mp4,0", "a.JPG,0").replace("a.mp4,1", "b.png,1"))
    assert out["frame"].tolist() == [0, 0, 0]  # theirs counts the photos of a run
    assert out["timestamp"].tolist() == [0, 0, 0]


def test_pyfeat_with_both_closed_eyes_and_blink(tmp_path: Path) -> None:
    text = "FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight,FaceScore,AU43,AU45\n1,1,1,1,1,0.2,0.6\n"
    assert read(tmp_path, text)["AU45_r"].tolist() == pytest.approx([3.0])


@pytest.mark.parametrize(("time", "seconds"), [(0.12, 0.12), (120.0, 0.12), (3.0 / 1.5, 2.0), (3001, 3.001)])
def test_libreface_video_whatever_unit_its_time_is_in(tmp_path: Path, time: float, seconds: float) -> None:
    out = read(tmp_path, LIBREFACE_VIDEO.format(time))
    assert out["timestamp"].tolist() == pytest.approx([0, seconds])
    assert out["frame"].tolist() == [1, 4]
    assert out["face_id"].tolist() == [0, -1]
    assert out.loc[0, ["AU01_r", "AU12_r", "AU26_r"]].tolist() == [0.123, 4.5, 0]
    assert out.columns[14:].tolist() == ["AU01_r", "AU12_r", "AU26_r"]
    assert out["pose_yaw_deg"].isna().all()
    assert out.attrs["pose"].startswith("left out")
    assert faceless(out, 1, "LibreFace")


def test_libreface_photo(tmp_path: Path) -> None:
    out = read(tmp_path, LIBREFACE_PHOTO)
    assert out.loc[0, ["input", "frame", "timestamp", "AU12_r"]].tolist() == ["/photos/smile.png", 0, 0, 3.0]


PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=12)
NUMBER = st.floats(-1e4, 1e4) | st.just(float("nan"))
ROW = st.fixed_dictionaries(
    {
        **dict.fromkeys((*estimation.COLUMNS, "AU01_L_r", "AU01_R_r", "AU01_r"), NUMBER),
        "input": PRINTABLE, "reason": PRINTABLE,
        "frame": st.integers(0, 10**9), "face_id": st.integers(-1, 99), "success": st.integers(0, 1),
    }
)  # fmt: skip


@settings(max_examples=15)
@given(rows=st.lists(ROW, max_size=5))
def test_what_was_written_is_read(tables: Path, rows: list[dict[str, Any]]) -> None:
    names = [*estimation.COLUMNS, "AU01_L_r", "AU01_R_r", "AU01_r"]
    written = pd.DataFrame(rows, columns=names)
    endings = [e for e in table.ENDINGS if e != ".parquet" or importlib.util.find_spec("pyarrow")]
    for ending in endings:
        table.write(tables / f"t{ending}", written, about={"table_version": table.VERSION, "scale": "s"})
        out = read_table(tables / f"t{ending}")
        assert out.attrs["scale"] == "s"
        if not rows and ending == ".jsonl":
            assert out.columns.tolist() == list(estimation.COLUMNS)  # no row, so no names of units
            continue
        assert out.columns.tolist() == names
        for name in names:
            if name in (*table.TEXT, *table.WHOLE):
                assert out[name].tolist() == written[name].tolist()
            else:
                expected = [float(f"{value:.4f}") for value in written[name].astype(float)]
                np.testing.assert_array_equal(out[name].to_numpy(), expected)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def test_another_tools_table_in_another_format(tmp_path: Path) -> None:
    text = OPENFACE_VIDEO.replace("-nan(ind)", "0.0")
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    pd.read_csv(tmp_path / "t.csv").to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    out = read_table(tmp_path / "t.jsonl")
    assert out.attrs["tool"] == "OpenFace"
    pd.testing.assert_frame_equal(out, read_table(tmp_path / "t.csv"))


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert len(read(tmp_path, "\ufeff" + OPENFACE_PHOTO)) == 2
    assert len(read(tmp_path, "\ufeff" + OURS)) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "a,b\n1,2\n", r"faceunits \(input, .*OpenFace \(frame, .*; .*t.csv has a, b; name a table"),
        ("t.csv", ",".join(f"c{i}" for i in range(700)) + "\n", r"has c0, c1, .*c7, \.\.\. \(700 in all\)"),
        ("t.csv", "frame;confidence;success\n", "has frame;confidence;success"),
        ("t.csv", "", "is empty"),
        ("t.csv", b"\x89PNG\r\n\x1a\n\x00\x01\xff", "expected"),
        ("t.csv", OURS + "clip.mp4,3\n", "damaged .*face_id, row 3"),
        ("t.csv", OURS.replace("0.9000", "high"), "damaged .*high"),
        ("t.csv", OURS.replace("NA,1,", "NA,1.5,"), "no whole number in column frame, row 1"),
        ("t.csv", OURS + "x,3" + ",1" * 40 + "\n", "damaged"),
        ("t.jsonl", "", None),
        ("t.jsonl", '{"a": 1}\n', "has a;"),
        ("t.jsonl", '{"a": 1', "damaged"),
        ("t.jsonl", "[1]\n", "a line is not an object"),
        ("t.jsonl", b"\xff\xfe\n", "damaged"),
        ("t.txt", OURS, "ending in .csv, .parquet or .jsonl"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, content: str | bytes, message: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if message is None:
        assert len(read_table(path)) == 0
        return
    with pytest.raises(InputError, match=message) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match="damaged"):
        read_table(tmp_path / "t.parquet")


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"faceunits\[parquet\]"):
        read_table(tmp_path / "t.parquet")
