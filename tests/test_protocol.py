"""Scores of miniature data sets, every number beside a slow computation; kept tables; pages; commands."""

from __future__ import annotations

import json
import math

import layouts
import numpy as np
import pandas as pd
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from faceunits import cli_datasets
from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import against, calibration, datasets, poses, protocol, scores, tables
from faceunits.evaluation.scores import Pairing

ABOUT = {"method": "stand-in"}


def slow_scores(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """MAE, MSE, Pearson's r and ICC(3,1) by loops and the formulas of Shrout and Fleiss."""
    n = len(pairs)
    mae = sum(abs(t - p) for t, p in pairs) / n
    mse = sum((t - p) ** 2 for t, p in pairs) / n
    mean_t, mean_p = sum(t for t, _ in pairs) / n, sum(p for _, p in pairs) / n
    up = sum((t - mean_t) * (p - mean_p) for t, p in pairs)
    down = math.sqrt(sum((t - mean_t) ** 2 for t, _ in pairs) * sum((p - mean_p) ** 2 for _, p in pairs))
    grand = (mean_t + mean_p) / 2
    between = 2 * sum(((t + p) / 2 - grand) ** 2 for t, p in pairs) / (n - 1)
    raters = n * ((mean_t - grand) ** 2 + (mean_p - grand) ** 2)
    total = sum((t - grand) ** 2 + (p - grand) ** 2 for t, p in pairs)
    error = (total - (n - 1) * between - raters) / (n - 1)
    icc = (between - error) / (between + error)
    return {"icc": icc, "mae": mae, "mse": mse, "r": up / down if down else float("nan")}


def check(row: pd.DataFrame, by_au: dict[int, list[tuple[float, float]]]) -> None:
    """A row of the table against pairs collected by a loop."""
    row = row.set_index("au")
    for measure in ("icc", "mae", "mse", "r"):
        slow = {au: slow_scores(pairs)[measure] for au, pairs in by_au.items()}
        for au, value in slow.items():
            assert row.loc[f"AU{au:02d}", measure] == pytest.approx(value, abs=2e-6), (measure, au)
            assert row.loc[f"AU{au:02d}", "n"] == len(by_au[au])
        assert row.loc["mean", measure] == pytest.approx(sum(slow.values()) / len(slow), abs=2e-6)


def disfa_pairs(subjects: list[str], *, lost: str = "skip", change=lambda au, p: p) -> dict[int, list]:
    out: dict[int, list] = {au: [] for au in layouts.DISFA_AUS}
    for au in layouts.DISFA_AUS:
        for s in subjects:
            for f in range(1, 31):
                p = None if layouts.is_lost(f) else layouts.guess(s, f, au)
                if p is None and lost == "skip":
                    continue
                out[au].append((layouts.intensity(s, f, au), change(au, 0.0 if p is None else p)))
    return out


SUBJECTS = ["SN001", "SN002", "SN013", "SN003"]


@pytest.fixture
def disfa(tmp_path):
    return datasets.read("disfa", layouts.disfa(tmp_path / "disfa", tuple(SUBJECTS)))


def row_of(outcome: protocol.Outcome, name: str) -> pd.DataFrame:
    found = outcome.rows[outcome.rows["row"] == name]
    assert len(found), outcome.rows["row"].unique()
    return found


def test_every_row_of_disfa_is_that_of_a_slow_count(disfa, tmp_path):
    outcome = protocol.evaluate(
        disfa, tmp_path / "kept", layouts.measure(), about=ABOUT, clip=True, rounds=50
    )
    everybody = disfa_pairs(SUBJECTS)
    assert outcome.main == "faceunits, all subjects"
    main = row_of(outcome, outcome.main)
    check(main, everybody)
    check(row_of(outcome, "faceunits, missing taken as 0, all subjects"), disfa_pairs(SUBJECTS, lost="zero"))
    clipped = disfa_pairs(SUBJECTS, change=lambda au, p: min(max(p, 0.0), 5.0))
    check(row_of(outcome, "faceunits clipped to 0-5, all subjects"), clipped)
    check(row_of(outcome, "faceunits, part 1 (fold C)"), disfa_pairs(["SN001", "SN002"]))
    check(row_of(outcome, "faceunits, part 2 (fold B)"), disfa_pairs(["SN013"]))
    zero = disfa_pairs(SUBJECTS, change=lambda au, p: 0.0)
    constant = row_of(outcome, "constant 0, all subjects").set_index("au")
    for au, pairs in zero.items():
        unit = f"AU{au:02d}"
        slow = slow_scores(pairs)
        assert constant.loc[unit, "mae"] == pytest.approx(slow["mae"], abs=1e-6)
        assert constant.loc[unit, "icc"] == pytest.approx(0, abs=1e-9)
        assert np.isnan(constant.loc[unit, "r"])
        labels = [layouts.intensity(s, f, au) for s in SUBJECTS for f in range(1, 31)]
        means = row_of(outcome, "constant mean, all subjects").set_index("au")
        mean = sum(labels) / len(labels)
        assert means.loc[unit, "mae"] == pytest.approx(np.mean([abs(t - mean) for t, _ in pairs]), abs=1e-6)
        found = main.set_index("au").loc[unit]
        assert found["nonzero"] == pytest.approx(np.mean([v > 0 for v in labels]))
        assert found["missing"] == len(labels) - len(pairs) == 4 * 3
    lost = [f for f in range(1, 31) if layouts.is_lost(f)]
    assert outcome.failed[["subject", "frame"]].values.tolist() == [
        [s, f] for s in sorted(SUBJECTS) for f in lost
    ]
    assert set(outcome.failed["reason"]) == {f"no face in frame {f}" for f in lost}
    assert outcome.recordings["labelled"].tolist() == [30] * 4


def test_intervals_are_those_of_subjects_drawn_one_by_one(disfa, tmp_path):
    outcome = protocol.evaluate(disfa, tmp_path / "kept", layouts.measure(), about=ABOUT, rounds=40)
    found = row_of(outcome, outcome.main).set_index("au")
    people = sorted(SUBJECTS)
    pairs = {s: disfa_pairs([s]) for s in people}
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {m: [] for m in ("icc", "mae", "mse", "r")}
    unit: dict[str, list[float]] = {m: [] for m in drawn}
    for _ in range(40):
        chosen = [people[i] for i in rng.integers(0, len(people), len(people))]
        by_au = {au: slow_scores([p for s in chosen for p in pairs[s][au]]) for au in layouts.DISFA_AUS}
        for m in drawn:
            drawn[m].append(float(np.mean([v[m] for v in by_au.values()])))
            unit[m].append(by_au[12][m])
    for m in drawn:
        ends = np.percentile(drawn[m], [2.5, 97.5])
        assert found.loc["mean", [m + "_low", m + "_high"]].tolist() == pytest.approx(ends.tolist(), abs=1e-5)
        ends = np.percentile(unit[m], [2.5, 97.5])
        assert found.loc["AU12", [m + "_low", m + "_high"]].tolist() == pytest.approx(ends.tolist(), abs=1e-5)
    assert np.isnan(row_of(outcome, "faceunits, part 2 (fold B)")["icc_low"]).all()  # one person has none


def test_fera_scores_development_first_and_skips_uncodable_labels(tmp_path):
    data = datasets.read("fera2015", layouts.fera(tmp_path / "fera"))
    outcome = protocol.evaluate(data, tmp_path / "kept", layouts.measure(), about=ABOUT, rounds=0)
    assert outcome.main == "faceunits, Development"
    assert outcome.rows["row"].iloc[0] == outcome.main

    def pairs(subjects):
        return {
            au: [
                (layouts.intensity(s, f, au), layouts.guess(s, f, au))
                for s in subjects for f in range(300, 320)
                if not layouts.is_lost(f) and (au, f) != (6, 303)
            ]
            for au in layouts.FERA_AUS
        }  # fmt: skip

    check(row_of(outcome, outcome.main), pairs(["F002", "M002"]))
    check(row_of(outcome, "faceunits, Training"), pairs(["F001", "M001"]))
    check(row_of(outcome, "faceunits, all subjects"), pairs(["F001", "F002", "M001", "M002"]))
    assert outcome.recordings["frames without a label"].tolist() == [1] * 4
    assert "2 of its 20" in row_of(outcome, outcome.main)["note"].iloc[0]


def test_ckplus_and_mmi_are_scored_on_their_own_labels(tmp_path):
    data = datasets.read("ckplus", layouts.ckplus(tmp_path / "ck"))
    outcome = protocol.evaluate(data, tmp_path / "kept", layouts.measure(), about=ABOUT, rounds=0)
    frames = [("S005", 1, {}), ("S005", 11, {9: 5, 17: None, 25: 5}), ("S005", 1, {}), ("S005", 5, {12: 3}),
              ("S010", 1, {}), ("S010", 14, {1: 2, 2: 4})]  # fmt: skip
    for au in (1, 9, 12, 17, 25):
        pairs = [
            (labels.get(au, 0), layouts.guess(s, f, au)) for s, f, labels in frames
            if labels.get(au, 0) is not None and not layouts.is_lost(f)
        ]  # fmt: skip
        found = row_of(outcome, outcome.main).set_index("au").loc[f"AU{au:02d}"]
        assert found["n"] == len(pairs)
        for measure, value in slow_scores(pairs).items():
            np.testing.assert_allclose(found[measure], value, atol=2e-6)
    data = datasets.read("mmi", layouts.mmi(tmp_path / "mmi"))
    outcome = protocol.evaluate(data, tmp_path / "kept", layouts.measure(20), about=ABOUT, rounds=0)
    found = row_of(outcome, outcome.main).set_index("au")
    # the video goes on to frame 20: known as neutral for 12, unknown for 4 after its open onset
    assert found.loc["AU12", "n"] == 18 + 5
    assert found.loc["AU04", "n"] == 3 + 5
    assert any("phase-derived" in n for n in outcome.notes)
    measured = outcome.rows.loc[outcome.rows["kind"] == scores.MEASURED, "row"]
    assert measured.str.contains("phase-derived").all()  # never beside the paper's numbers without this
    assert "phase-derived: MMI has no intensities" in tables.markdown(outcome)


def test_measurements_are_kept_until_something_changes(disfa, tmp_path):
    asked: list[str] = []
    plain = layouts.measure()

    def counted(recording):
        asked.append(recording.subject)
        yield from plain(recording)

    def broken(recording):
        asked.append(recording.subject)
        if recording.subject == "SN003":
            yield next(plain(recording))
            raise KeyboardInterrupt
        yield from plain(recording)

    seen = []
    with pytest.raises(KeyboardInterrupt):
        protocol.evaluate(disfa, tmp_path / "kept", broken, about=ABOUT, progress=lambda *a: seen.append(a))
    assert asked == ["SN001", "SN002", "SN003"]
    assert [d for d, _, _ in seen] == [15, 30, 45, 60, 75]
    assert {t for _, t, _ in seen} == {120}
    assert not list((tmp_path / "kept").glob("*.part"))
    asked.clear()
    seen.clear()
    first = protocol.evaluate(
        disfa, tmp_path / "kept", counted, about=ABOUT, progress=lambda *a: seen.append(a)
    )
    assert asked == ["SN003", "SN013"]
    assert {t for _, t, _ in seen} == {60}
    asked.clear()
    again = protocol.evaluate(disfa, tmp_path / "kept", counted, about=ABOUT)
    assert not asked
    pd.testing.assert_frame_equal(first.rows, again.rows)
    protocol.evaluate(disfa, tmp_path / "kept", counted, about={"method": "another"})
    assert len(asked) == 4
    asked.clear()
    disfa.recordings[0].video.write_bytes(b"another recording")
    protocol.evaluate(disfa, tmp_path / "kept", counted, about=ABOUT)
    assert asked == ["SN001"]
    next((tmp_path / "kept").glob("SN002*")).write_text("nonsense\n1\n")
    with pytest.raises(InputError, match="SN002"):
        for _ in range(2):  # one of two kept tables of that person
            next((tmp_path / "kept").glob("SN002*")).write_text("nonsense\n1\n")
            protocol.evaluate(disfa, tmp_path / "kept", counted, about=ABOUT)
            protocol.evaluate(disfa, tmp_path / "kept", counted, about={"method": "another"})


@pytest.mark.parametrize(("length", "line", "said"), [(28, 29, "first without"), (32, 30, "frames follow")])
def test_a_video_of_another_length_is_named_with_the_line_of_its_labels(disfa, tmp_path, length, line, said):
    with pytest.raises(
        InputError, match=rf"LeftVideoSN001.*video has {length}.*_au1\.txt.*line {line} .*{said}"
    ):
        protocol.evaluate(disfa, tmp_path / "kept", layouts.measure(length), about=ABOUT)


@pytest.mark.parametrize("length", [29, 31])
def test_one_frame_more_or_less_is_known_of_disfa_and_counted(disfa, tmp_path, length):
    outcome = protocol.evaluate(disfa, tmp_path / "kept", layouts.measure(length), about=ABOUT, rounds=0)
    name = "labels without a frame" if length == 29 else "frames without a label"
    assert outcome.recordings[name].tolist() == [1] * 4
    if length == 29:
        last = outcome.failed[outcome.failed["frame"] == 30]
        assert set(last["reason"]) == {"no such frame in the video"}


def test_a_marker_beyond_the_end_of_a_clip_is_an_error(tmp_path):
    data = datasets.read("mmi", layouts.mmi(tmp_path / "mmi"))
    with pytest.raises(InputError, match=r"S001-001\.avi.*video has 12.*oao_aucs\.xml.*line 8"):
        protocol.evaluate(data, tmp_path / "kept", layouts.measure(12), about=ABOUT)


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


def test_a_hundred_thousand_frames_take_seconds(tmp_path):
    import time
    import tracemalloc

    rng = np.random.default_rng(0)
    n, names = 100_000, tuple(f"SN{i:03d}" for i in range(27))
    truth = rng.integers(0, 6, (n, 12)).astype(np.float32)
    predicted = rng.random((n, 12), np.float32) * 5
    pairing = Pairing(layouts.DISFA_AUS, truth, predicted, rng.integers(0, 27, n), names)
    start = time.process_time()
    tracemalloc.start()
    row = scores.row("r", pairing)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - start < 20
    assert peak_bytes < 200e6
    assert row["n"].iloc[0] == n


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


def test_facewarehouse_tells_how_far_poses_move_the_units(tmp_path):
    data = datasets.read("facewarehouse", layouts.facewarehouse(tmp_path / "fw"))
    names = ("AU01_r", "AU12_r")
    outcome = poses.evaluate(data, tmp_path / "kept", layouts.measure(columns=names), about=ABOUT, rounds=30)
    people = [f"Tester_{i}" for i in (1, 2, 3)]
    found = outcome.rows.set_index(["pose", "au"])
    for pose in (0, 1, 2, 3):
        for au in (1, 12):
            rises = [layouts.guess(s, pose, au) - layouts.guess(s, 0, au) for s in people]
            assert found.loc[(pose, f"AU{au:02d}"), "rise"] == pytest.approx(sum(rises) / 3, abs=1e-6)
            assert found.loc[(pose, f"AU{au:02d}"), "share_rising"] == pytest.approx(
                sum(r > 0 for r in rises) / 3
            )
    hits = []
    for s in people:
        own = []
        for pose in range(4):
            at = {
                q: [np.mean([layouts.guess(o, q, au) for o in people if o != s]) for au in (1, 12)]
                for q in range(4)
            }
            mine = [layouts.guess(s, pose, au) for au in (1, 12)]
            own.append(min(at, key=lambda q: math.dist(mine, at[q])) == pose)
        hits.append(np.mean(own))
    assert f"{np.mean(hits):.3f} [" in outcome.about["poses told apart"]
    paths = tables.write(outcome, tmp_path / "page", "facewarehouse_fast")
    assert "Mean rise above" in paths[0].read_text()
    assert not any(p.suffix == ".png" for p in paths)


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


@pytest.mark.slow
def test_the_estimator_reads_rendered_peaks(tmp_path):
    """Rendered faces in CK+'s layout, measured for real: smiles are found, and the run can be repeated."""
    from PIL import Image

    from faceunits import driving

    for i in range(3):
        stem = f"S{i + 1:03d}_001_"
        for f, values in ((1, {}), (2, {"AU12": 2.0}), (3, {"AU12": 4.0, "AU25": 3.0})):
            face = driving.render(values, identity_seed=i)
            wide = np.pad(face, ((face.shape[0] // 2,) * 2, (face.shape[1] // 2,) * 2, (0, 0)), mode="edge")
            path = tmp_path / "cohn-kanade-images" / stem[:4] / "001" / f"{stem}{f:08d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(wide).save(path)
        path = tmp_path / "FACS" / stem[:4] / "001" / f"{stem}{3:08d}_facs.txt"
        path.parent.mkdir(parents=True)
        path.write_text("  12.0  4.0\n  25.0  3.0\n")
    data = datasets.read("ckplus", tmp_path)
    about = protocol.fingerprint("fast")
    outcome = protocol.evaluate(data, tmp_path / "kept", protocol.measurer("fast"), about=about, rounds=0)
    found = row_of(outcome, outcome.main).set_index("au")
    assert found.loc["AU12", "n"] == 6
    assert found.loc["AU12", "icc"] > 0.5
    assert (
        found.loc["AU12", "mae"]
        < row_of(outcome, "constant 0, all subjects").set_index("au").loc["AU12", "mae"]
    )

    def never(recording):
        raise AssertionError("measured again")

    again = protocol.evaluate(data, tmp_path / "kept", never, about=about, rounds=0)
    pd.testing.assert_frame_equal(outcome.rows, again.rows)
