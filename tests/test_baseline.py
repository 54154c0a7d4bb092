"""A person's own neutral: what is taken off, from whom, and that nothing happens silently."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from stand_ins import install, picture, save
from typer.testing import CliRunner

from faceunits import baseline, cli
from faceunits.errors import InputError

ONE = picture((30, 40, 60, 240))


def table(rows: int = 20, face: int = 0, *, rest: float = 0.6) -> pd.DataFrame:
    left = np.full(rows, rest)
    left[-2:] = 3.0
    return pd.DataFrame(
        {"input": "clip.mp4", "frame": range(1, rows + 1), "face_id": face, "success": 1, "reason": "",
         "AU12_r": np.maximum(left, 0.2), "AU12_L_r": left, "AU12_R_r": 0.2}
    )  # fmt: skip


def test_a_neutral_is_taken_off_every_row_and_never_goes_below_zero():
    out, told = baseline.take_off(table(), {"AU12_r": 9.0, "AU12_L_r": 0.6, "AU12_R_r": 0.5})
    np.testing.assert_allclose(out["AU12_L_r"], [0.0] * 18 + [2.4] * 2, atol=1e-9)
    assert (out["AU12_R_r"] == 0).all()
    np.testing.assert_allclose(out["AU12_r"], out["AU12_L_r"])  # the larger side again
    assert told["taken_off"]["all"]["AU12_L_r"] == 0.6


def test_each_person_has_a_neutral_of_their_own():
    both = pd.concat([table(), table(face=1, rest=1.5), table(rows=4, face=2)], ignore_index=True)
    before = both.copy()
    out, told = baseline.take_off(both)
    pd.testing.assert_frame_equal(both, before)
    assert out.loc[out["face_id"] == 0, "AU12_L_r"].max() == pytest.approx(2.4)
    assert out.loc[out["face_id"] == 1, "AU12_L_r"].max() == pytest.approx(1.5)
    pd.testing.assert_frame_equal(out[out["face_id"] == 2], both[both["face_id"] == 2])
    assert told["kept_as_measured"] == ["clip.mp4, face 2"]
    assert set(told["taken_off"]) == {"clip.mp4, face 0", "clip.mp4, face 1"}


def test_rows_without_a_face_stay_so():
    lost = table()
    lost.loc[3, ["AU12_r", "AU12_L_r", "AU12_R_r"]] = np.nan
    lost.loc[3, "success"] = 0
    out, _ = baseline.take_off(lost)
    assert out.loc[3, ["AU12_r", "AU12_L_r"]].isna().all()
    assert out["AU12_r"].notna().sum() == 19


def test_the_command_writes_a_second_table_and_says_so(tmp_path, monkeypatch):
    install(monkeypatch)
    photo = save(tmp_path / "a.png", ONE)
    run = CliRunner().invoke(cli.app, ["estimate", str(photo), "-o", str(tmp_path / "t.csv"),
                                       "--baseline", str(photo)])  # fmt: skip
    assert run.exit_code == 0, run.output
    plain, own = (pd.read_csv(tmp_path / n) for n in ("t.csv", "t_baseline.csv"))
    assert (own.filter(regex="^AU.*_r$") == 0).all(axis=None)  # the neutral itself
    assert (plain.filter(regex="^AU.*_r$") > 0).any(axis=None)
    told = json.loads((tmp_path / "t_baseline.json").read_text())
    assert told["baseline"]["from"] == str(photo)
    empty = save(tmp_path / "empty.png", picture())
    with pytest.raises(InputError, match="expected a neutral face"):
        baseline.of_file(empty)
    refused = CliRunner().invoke(cli.app, ["estimate", str(photo), "--baseline", "auto"])
    assert isinstance(refused.exception, InputError) or refused.exit_code
