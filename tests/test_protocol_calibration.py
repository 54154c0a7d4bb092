"""Calibrations by labels: scored on other people only, rising, and sane at their edges."""

from __future__ import annotations

import json

import layouts
import numpy as np
import pytest
from counted import ABOUT, SUBJECTS, check, disfa_pairs, row_of
from hypothesis import given
from hypothesis import strategies as st

from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import calibration, protocol, tables
from faceunits.evaluation.scores import Pairing


def test_a_calibration_is_scored_on_other_people_only(disfa, tmp_path):
    (tmp_path / "subjects.txt").write_text("# fitted on\nSN001\nsn013  # case does not matter\n")
    outcome = protocol.evaluate(
        disfa,
        tmp_path / "kept",
        layouts.measure(),
        about=ABOUT,
        calibrate=tmp_path / "subjects.txt",
        rounds=0,
    )
    mine, rest = disfa_pairs(["SN001", "SN013"]), ["SN003", "SN002"]
    lines = {}
    for au, pairs in mine.items():
        x, y = [p for _, p in pairs], [t for t, _ in pairs]
        mx, my = sum(x) / len(x), sum(y) / len(y)
        slope = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
        lines[au] = (slope, my - slope * mx)
    name = "the 2 other subjects"
    check(row_of(outcome, f"faceunits uncalibrated, {name}"), disfa_pairs(rest))
    wanted = disfa_pairs(rest, change=lambda au, p: min(max(lines[au][0] * p + lines[au][1], 0), 5))
    check(row_of(outcome, f"faceunits CALIBRATED (affine), {name}"), wanted)
    check(row_of(outcome, outcome.main), disfa_pairs(SUBJECTS))  # untouched by it
    assert outcome.calibration.subjects == ("SN001", "SN013")
    told = tables.values(outcome)["calibration"]
    assert told["fitted on"] == ["SN001", "SN013"]
    json.dumps(told, allow_nan=False)


def test_subjects_to_calibrate_on_must_be_some_of_them(disfa, tmp_path):
    path = tmp_path / "subjects.txt"
    path.write_text("SN001\nSN099\n")
    with pytest.raises(InputError, match=r"subjects\.txt, line 2; got 'SN099'"):
        calibration.subjects_of(path, disfa.subjects)
    for text in ("# nobody\n", "\n".join(SUBJECTS)):
        path.write_text(text)
        with pytest.raises(InputError, match="some of the 4 subjects"):
            calibration.subjects_of(path, disfa.subjects)
    with pytest.raises(ConfigError, match="cubic"):
        calibration.check_kind("cubic")


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=14))
def test_the_monotone_calibration_is_the_nearest_rising_one(points):
    x, y = np.array(points, float).T
    knots = calibration.monotone(x, y)
    assert (np.diff(knots[0]) > 0).all()
    assert (np.diff(knots[1]) >= -1e-12).all()
    # the max-min formula of isotonic regression, by loops
    places = sorted(set(x))
    for p in places:
        means = [
            min(np.mean(y[(x >= low) & (x <= high)]) for high in places if high >= p)
            for low in places
            if low <= p
        ]
        assert np.interp(p, *knots) == pytest.approx(max(means), abs=1e-9)


def test_calibrations_at_their_edges():
    truth = np.array([[0, np.nan], [2, np.nan], [4, np.nan]], np.float32)
    falling = np.array([[4, 1], [2, 2], [0, 3]], np.float32)
    pairing = Pairing((1, 2), truth, falling, np.zeros(3, np.int64), ("a",))
    fitted = calibration.fit(pairing)
    np.testing.assert_allclose(fitted.apply(falling)[:, 0], 2)  # never turned upside down
    np.testing.assert_allclose(fitted.apply(falling)[:, 1], falling[:, 1])  # nothing known: as it is
    steep = pairing.showing(np.array([[1, 1], [1.01, 2], [1.02, 3]], np.float32))
    assert calibration.fit(steep).apply(np.array([[3, 3]], np.float32))[0, 0] == 5  # a coder's scale ends
    monotone = calibration.fit(pairing, "monotone")
    np.testing.assert_allclose(monotone.apply(falling)[:, 0], 2)
    assert np.isnan(monotone.apply(np.full((1, 2), np.nan, np.float32))).all()
