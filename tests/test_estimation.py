"""The table: a row for every face and for every photo without one, whatever the input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stand_ins
from stand_ins import picture, save

import faceunits as fu
from faceunits import aus, engine, estimation
from faceunits.alignment import adapters
from faceunits.errors import ConfigError, InputError
from faceunits.types import Reading

ONE = picture((30, 40, 60, 240))
TWO = picture((20, 40, 40, 210), (180, 40, 80, 250))
NONE = picture()


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)


def test_columns_and_their_order() -> None:
    table = fu.estimate(ONE)
    assert tuple(table.columns[:14]) == estimation.COLUMNS
    assert table.columns[14:].tolist() == sorted(table.columns[14:])
    assert {"AU01_r", "AU01_L_r", "AU12_R_r", "AU25_r"} <= set(table.columns)
    assert fu.estimate(NONE).columns.tolist() == table.columns.tolist()


def test_values_of_a_row() -> None:
    row = fu.estimate(ONE).iloc[0]
    assert (row["success"], row["reason"], row["face_id"], row["frame"], row["input"]) == (
        1,
        "",
        0,
        0,
        "array[0]",
    )
    assert row["AU12_L_r"] == pytest.approx(5 * 40 / 55, abs=1e-3)
    assert row["AU12_R_r"] == pytest.approx(5 * 40 / 110, abs=1e-3)
    assert row["AU12_r"] == row["AU12_L_r"]
    assert (row["face_x"], row["face_y"], row["face_w"], row["face_h"]) == (30, 40, 60, 60)
    assert row["confidence"] == pytest.approx(0.8)
    assert (row["pose_pitch_deg"], row["pose_yaw_deg"]) == (3, -5)
    assert abs(row["pose_roll_deg"]) < 1


def test_all_faces_the_largest_first() -> None:
    table = fu.estimate(TWO)
    assert table["face_id"].tolist() == [0, 1]
    assert table["face_w"].tolist() == [80, 40]
    assert table["AU12_L_r"].is_monotonic_decreasing


def test_no_face_is_a_row() -> None:
    row = fu.estimate(NONE).iloc[0]
    assert (row["success"], row["face_id"], row["reason"]) == (0, -1, "no face found in 300 x 200 pixels")
    assert row[[c for c in row.index if c.startswith(("AU", "pose", "face_x", "conf"))]].isna().all()


def test_a_single_pixel_is_a_row() -> None:
    table = fu.estimate(np.zeros((1, 1, 3), np.uint8))
    assert table["reason"].tolist() == ["no face found in 1 x 1 pixels"]


def test_an_unreadable_file_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    save(tmp_path / "a.png", ONE)
    (tmp_path / "b.png").write_bytes(b"nothing of the kind")
    save(tmp_path / "c.png", TWO)
    table = fu.estimate(tmp_path)
    assert table["success"].tolist() == [1, 0, 1, 1]
    assert table["input"].tolist() == [str(tmp_path / n) for n in ("a.png", "b.png", "c.png", "c.png")]
    assert table["reason"][1].startswith("unreadable: expected a photo")


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_the_batch_changes_nothing(batch: int) -> None:
    pictures = [ONE, NONE, TWO, ONE, TWO, NONE, TWO]
    whole = fu.estimate(pictures, batch=batch)
    assert whole["face_id"].tolist() == [0, -1, 0, 1, 0, 0, 1, -1, 0, 1]
    singly = [fu.estimate(p) for p in pictures]
    values = np.concatenate([t.iloc[:, 14:].to_numpy(float) for t in singly])
    np.testing.assert_array_equal(whole.iloc[:, 14:].to_numpy(float), values)


def test_paths_and_arrays_together(tmp_path: Path) -> None:
    table = fu.estimate([ONE, str(save(tmp_path / "a.png", TWO)), tmp_path])
    assert table["input"].nunique() == 2


def test_progress_is_told() -> None:
    told: list[tuple[int, int, str]] = []
    fu.estimate([ONE, NONE], progress=lambda *what: told.append(what))
    assert told == [(1, 2, "array[0]"), (2, 2, "array[1]")]


def test_overlays_one_per_photo_with_a_face(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "a.png", TWO)
    save(tmp_path / "x" / "b.png", NONE)
    fu.estimate([tmp_path / "x", tmp_path / "y"], overlay=tmp_path / "new" / "out")
    names = sorted(p.name for p in (tmp_path / "new" / "out").iterdir())
    assert names == ["a-2_overlay.png", "a_overlay.png"]


def test_an_overlay_folder_that_is_a_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", ONE)
    with pytest.raises(InputError, match="cannot make the folder"):
        fu.estimate(path, overlay=path)


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    save(path, ONE)
    table = fu.estimate(path, overlay=tmp_path / "out")
    assert table["input"][0].endswith("caf\\xe9.png")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["caf\\xe9_overlay.png"]


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        [],
        [3],
        ["no.jpg"],
    ],
)
def test_inputs_of_the_wrong_kind(bad: object) -> None:
    with pytest.raises(InputError, match="expected"):
        fu.estimate(bad)  # type: ignore[arg-type]


def test_settings_of_the_wrong_kind() -> None:
    with pytest.raises(ConfigError, match="method fast"):
        fu.estimate(ONE, method="magic")
    with pytest.raises(ConfigError, match="batch"):
        fu.estimate(ONE, batch=0)


def test_points_that_give_no_crop_are_a_reason() -> None:
    def degenerate(image: np.ndarray) -> list[fu.Face]:
        return [fu.Face(f.box, f.points * 0, f.score) for f in stand_ins.detect(image)]

    row = fu.estimate(ONE, detector=degenerate).iloc[0]
    assert (row["success"], row["face_id"]) == (0, 0)
    assert row["reason"].startswith("not aligned: expected")
    assert row["face_w"] == 60


def test_the_callers_own_faces() -> None:
    points = np.array([[[100, 50], [140, 50], [120, 75], [105, 95], [135, 95]]])
    row = fu.estimate(ONE, detector=adapters.Given([adapters.from_points(points)])).iloc[0]
    assert (row["success"], row["face_id"]) == (1, 0)
    assert row["face_x"] < 100 < 140 < row["face_x"] + row["face_w"]


def test_fit_gives_all_faces_of_a_photo() -> None:
    result = fu.fit(TWO, batch=1)
    assert result.au.shape == (2, len(stand_ins.NAMES))
    assert result.trace.shape == (30, 2)
    first = estimation.select(result, 0)
    assert first.trace.shape == (30, 1)
    np.testing.assert_array_equal(first.au, result.au[:1])


def test_fit_without_a_face(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no face found"):
        fu.fit(NONE)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="another kind"):
        fu.fit(tmp_path / "a.png")
    save(tmp_path / "b.png", ONE)
    with pytest.raises(InputError, match="one photo; got 2"):
        fu.fit(tmp_path)


def test_blendshapes_have_arkits_names_and_the_subjects_sides() -> None:
    result = fu.fit(ONE)
    result.au[:] = 0
    for name, value in {"AU12_L": 0.5, "AU06_R": 0.25, "AU01_L": 1, "AU26": 0.7, "AU24": 1}.items():
        result.au[0, result.names.index(name)] = value
    shapes = fu.blendshapes(result)
    assert len(shapes) == 52
    assert {k: v for k, v in shapes.items() if v} == {
        "mouthSmileLeft": 0.5, "cheekSquintRight": 0.25, "browInnerUp": 0.5, "jawOpen": 0.7,
        "mouthPressLeft": 1.0, "mouthPressRight": 1.0, "mouthRollUpper": 0.4,
    }  # fmt: skip


@pytest.mark.parametrize("profile", ["default", "paper23"])
def test_every_shape_of_a_profile_has_a_blendshape(profile: str) -> None:
    from faceunits import driving

    for parameter in aus.profile(profile).parameters:
        for shape, _ in parameter.shapes:
            assert driving._arkit(shape)[0] in driving.ARKIT
    assert len(set(driving.ARKIT)) == 52


def test_an_overlay_changes_no_number(tmp_path: Path) -> None:
    plain, shown = fu.estimate(TWO), fu.estimate(TWO, overlay=tmp_path)
    pd.testing.assert_frame_equal(plain, shown)
    assert len(list(tmp_path.iterdir())) == 1


def test_faces_of_several_batches_are_joined_as_one() -> None:
    crops = np.random.default_rng(0).random((5, 3, 8, 8), np.float32)
    for measure in (stand_ins.fit, stand_ins.read):
        whole = measure(crops, stand_ins.StandInModels())
        parts = [measure(crops[i : i + 2], stand_ins.StandInModels()) for i in (0, 2, 4)]
        joined = estimation.join(parts)
        assert type(joined) is type(whole)
        for name in ("au", "pose_deg", "confidence", "landmarks"):
            np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert isinstance(whole, Reading)
    fits = [
        stand_ins.fit(crops[:2], stand_ins.StandInModels()),
        stand_ins.fit(crops[2:], stand_ins.StandInModels()),
    ]
    assert estimation.join(fits).trace.shape == (30, 5)  # faces come last there


def test_an_engine_is_never_that_of_other_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks made where others were freed have their number (`id`), not their weights."""
    monkeypatch.setattr(engine, "choose", lambda networks, name: lambda crops: networks.mark)
    read = estimation.measurer("fast")

    class Networks:
        steady = False

        def __init__(self, mark: int) -> None:
            self.mark = mark

    for mark in range(20):
        assert read(np.zeros((1, 3, 8, 8), np.float32), Networks(mark)) == mark
