"""Scores of miniature data sets, every number beside a slow computation; kept tables; poses."""

from __future__ import annotations

import math

import layouts
import numpy as np
import pandas as pd
import pytest
from counted import ABOUT, SUBJECTS, check, disfa_pairs, row_of, slow_scores

from faceunits.errors import InputError
from faceunits.evaluation import datasets, poses, protocol, scores, tables
from faceunits.evaluation.scores import Pairing


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
