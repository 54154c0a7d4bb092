"""Groups of people: bands, joins, gaps that are real and gaps of chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import groups, metrics, subjects


def people_file(path, text="id,age,gender\n001,24,f\n002,31,m\n003,,f\n"):
    path.write_text("# a comment\n" + text)
    return path


def test_people_keep_their_zeros_and_ages_become_bands(tmp_path):
    got = subjects.read(people_file(tmp_path / "s.csv"), ["gender", "age"])
    assert list(got.index) == ["001", "002", "003"]
    assert got["age"].tolist() == ["< 25", "25-34", None]
    assert subjects.band(25, (25, 35)) == "25-34"
    assert subjects.band(35, (25, 35)) == "35 +"
    assert subjects.parse_edges("18,40") == (18, 40)
    with pytest.raises(ConfigError, match="--bands"):
        subjects.parse_edges("40,18")
    with pytest.raises(InputError, match="height"):
        subjects.read(tmp_path / "s.csv", ["height"])
    with pytest.raises(InputError, match="001 comes twice"):
        subjects.read(people_file(tmp_path / "t.csv", "id,g\n001,a\n001,b\n"), ["g"])
    with pytest.raises(InputError, match="name a CSV file"):
        subjects.read(tmp_path / "none.csv", ["g"])


def test_rows_find_their_person():
    known = pd.Index(["001", "002"])
    table = pd.DataFrame({
        "input": ["a/neutral/001.jpg", "a/neutral/001.jpg", r"a\smiling\002_x.png", "a/neutral/009.jpg"],
        "face_id": [0, 1, 0, 0], "AU12_r": [1.0, 2, 3, 4],
    })  # fmt: skip
    got = subjects.rows_of(table, known)
    assert got["person"].tolist() == ["001", "002"]  # bystanders and strangers are left out
    assert got["kind"].tolist() == ["neutral", "smiling"]
    named = subjects.rows_of(table.assign(subject=["002"] * 4), known)
    assert set(named["person"]) == {"002"}
    with pytest.raises(InputError, match="photos named after people such as 077"):
        subjects.rows_of(table, pd.Index(["077"]))


def pairs(n=40, *, shift=0.0, seed=0):
    """Photos at rest and smiling of n people, every second in group b, whose rest is `shift` higher."""
    rng = np.random.default_rng(seed)
    ids = [f"{i:03d}" for i in range(n)]
    extra = shift * (np.arange(n) % 2)
    rows = []
    for kind, level in (("neutral", 0.5), ("smiling", 3.0)):
        for i, name in enumerate(ids):
            value = level + rng.normal(0, 0.2) + (extra[i] if kind == "neutral" else 0)
            rows.append({"input": f"x/{kind}/{name}.jpg", "AU12_r": value, "AU04_r": 0.1, "AU12_L_r": 5.0})
    group = pd.DataFrame({"g": ["a", "b"] * (n // 2)}, index=ids, dtype=object)
    return pd.DataFrame(rows), group


def test_a_real_gap_is_not_chance_and_chance_is():
    table, people = pairs(shift=1.0)
    page = groups.report(table, people, rounds=100)
    gaps = page.tables["gaps by g"]
    name = next(n for n in gaps.index if n.startswith("neutral mean"))
    assert "worst: b" in name
    row = gaps.loc[name]
    # over the two whole units; the side does not count again
    assert row["gap"] == pytest.approx(0.5, abs=0.15)
    assert row["low"] <= row["gap"] <= row["high"]
    assert row["by chance"] < 0.05
    table, people = pairs(shift=0.0)
    row = groups.report(table, people, rounds=100).tables["gaps by g"].filter(like="neutral", axis=0).iloc[0]
    assert row["by chance"] > 0.05


def test_figures_are_those_of_each_group():
    table, people = pairs(shift=1.0)
    page = groups.report(table, people, rounds=20)
    values = {(f.step, f.name): f for f in page.figures}
    calm = table[table["input"].str.contains("neutral")].reset_index(drop=True)
    b = calm[np.arange(len(calm)) % 2 == 1]
    figure = values[("g: neutral mean, 0-5", "b")]
    assert figure.value == pytest.approx(b[["AU12_r", "AU04_r"]].to_numpy().mean())
    assert figure.n == 20
    assert figure.low <= figure.value <= figure.high
    share = values[("g: false alarms, share above 1", "b")].value
    assert share == pytest.approx((b[["AU12_r", "AU04_r"]].to_numpy() > 1).mean())
    smiles = table[table["input"].str.contains("smiling")].reset_index(drop=True)
    want = metrics.auc(smiles["AU12_r"].to_numpy()[1::2], b["AU12_r"].to_numpy())
    assert values[("g: AUC AU12, smiles against rest", "b")].value == pytest.approx(want)


def test_labels_say_which_smiles_count():
    table, people = pairs()
    labels = pd.DataFrame({"AU12": 1, "AU12_confidence": "high"}, index=people.index)
    labels.loc["001", "AU12_confidence"] = "low"
    table.loc[table["input"] == "x/smiling/001.jpg", "AU12_r"] = -9.0
    step, b = "g: AUC AU12, smiles against rest", "b"

    def auc(known):
        page = groups.report(table, people, labels=known, rounds=20)
        return next(f.value for f in page.figures if f.step == step and f.name == b)

    assert auc(labels) == 1
    assert auc(None) < 1
    with pytest.raises(InputError, match="labels of 000"):
        groups.report(table, people, labels=labels.drop("000"), rounds=20)


def test_small_groups_are_shown_but_have_no_gap():
    table, people = pairs(n=20)
    people.loc[["000", "002"], "g"] = "c"
    people.loc["004", "g"] = "d"
    people.loc["006", "g"] = None
    page = groups.report(table, people, rounds=20)
    shown = {f.name: f for f in page.figures if f.step == "g: neutral mean, 0-5"}
    assert {"a", "b", "c", "d"} < set(shown)
    assert shown["c"].n == 2
    assert np.isnan(shown["d"].low)  # one person has no interval
    assert not any("worst: c" in n or "best: c" in n for n in page.tables["gaps by g"].index)


def test_errors_by_group_equal_slow_ones():
    rng = np.random.default_rng(0)
    n, frames = 12, 5
    person = np.repeat([f"{i:03d}" for i in range(n)], frames)
    truth = pd.DataFrame({
        "input": [f"{p}_{k}.png" for k, p in enumerate(person)],
        "AU12_r": rng.integers(0, 6, n * frames) * 1.0, "AU04_r": rng.integers(0, 3, n * frames) * 1.0,
    })  # fmt: skip
    truth.loc[3, "AU12_r"] = np.nan
    table = truth.copy()
    table["AU12_r"] = truth["AU12_r"].fillna(0) + rng.normal(0, 1, len(truth))
    table["AU04_r"] += rng.normal(0, 0.8, len(truth))
    people = pd.DataFrame({"g": ["a", "b"] * (n // 2)}, index=[f"{i:03d}" for i in range(n)], dtype=object)
    page = groups.report(table, people, truth=truth, rounds=20)
    values = {(f.step, f.name): f.value for f in page.figures}
    mine = np.isin(person, people.index[people["g"] == "b"])
    errors, alarms, icc = [], [], []
    for unit in ("AU12_r", "AU04_r"):
        t, p = truth[unit].to_numpy()[mine], table[unit].to_numpy()[mine]
        known = np.isfinite(t)
        errors += list(np.abs(t - p)[known])
        alarms += list((p > 1)[known & (t == 0)])
        icc.append(metrics.icc31(np.stack([t[known], p[known]], 1)))
    assert values[("g: mean absolute error, 0-5", "b")] == pytest.approx(np.mean(errors))
    assert values[("g: mean ICC(3,1)", "b")] == pytest.approx(np.mean(icc))
    assert values[("g: false alarms, share above 1 where the truth is 0", "b")] == pytest.approx(
        np.mean(alarms)
    )


def test_wrong_tables_are_told():
    table, people = pairs()
    with pytest.raises(InputError, match="folder named calm"):
        groups.report(table, people, rest="calm", rounds=20)
    with pytest.raises(InputError, match="no input agrees"):
        groups.report(table, people, truth=table.assign(input="elsewhere.png").iloc[:1], rounds=20)
    twice = pd.concat([table, table])
    with pytest.raises(InputError, match="come twice"):
        groups.report(table, people, truth=twice, rounds=20)
    with pytest.raises(InputError, match="input or subject"):
        groups.report(table.drop(columns="input"), people, rounds=20)


def test_what_is_left_out_is_counted():
    table, people = pairs()
    page = groups.report(table, people.drop("003"), rounds=20)
    assert page.about["rows of people who are not in the people's file, left out"] == 2
    truth = table.drop(columns="AU12_L_r").assign(AU12_r=1.0, AU04_r=0.0)
    page = groups.report(table, people, truth=truth.iloc[:-3], rounds=20)
    assert page.about["rows without a truth, left out"] == 3
    truth.loc[4, "AU12_r"] = 6.0
    with pytest.raises(InputError, match=r"0 to 5; got 6 for AU12_r of x/neutral/004\.jpg, line 6"):
        groups.report(table, people, truth=truth, rounds=20)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("003,7,1", "line 5; got '7'"),
        ("003,yes,1", "line 5; got 'yes'"),
        ("001,0,0", "line 5; 001 has labels"),
    ],
)
def test_a_wrong_label_of_a_smile_is_named_with_its_line(tmp_path, line, said):
    path = tmp_path / "labels.csv"
    path.write_text(f"# by hand\nid,AU12,AU6\n001,1,0\n\n{line}\n")
    with pytest.raises(InputError, match=r"labels\.csv") as caught:
        subjects.read_labels(path)
    assert said in str(caught.value)


def test_labels_may_be_empty(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,AU12,AU6\n001,1,0\n002,,1\n")
    got = subjects.read_labels(path)
    assert got.loc["001", "AU12"] == 1
    assert np.isnan(got.loc["002", "AU12"])
