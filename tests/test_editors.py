"""Evaluation of editors on a toy world in which every answer is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small import models
from toy_editors import CONFIG, NAMES, TOY, look_up, people, tool, toy_editor

from faceunits.errors import ConfigError
from faceunits.evaluation import editor_bench, editor_scores, editors, pages
from faceunits.evaluation.crops import Tool
from faceunits.evaluation.editor_bench import STEPS, Plan
from faceunits.networks import editor_baselines
from faceunits.networks.editor import Editor, EditorConfig


def idle() -> Editor:
    net = editor_baselines.build("full", CONFIG).requires_grad_(False)
    net.gate.zero_()
    return net


@pytest.fixture(scope="module")
def bench() -> editor_bench.Bench:
    plan = Plan(pairs=20, rounds=50, match=40, batch=16, singles=9)
    return editor_bench.prepare(people(), TOY, tool(), plan=plan)


@pytest.fixture(scope="module")
def page(bench: editor_bench.Bench) -> editors.Page:
    return editors.run(bench, {"perfect": toy_editor(), "idle": idle(), "half": toy_editor(gain=0.5)})


def test_a_perfect_editor_reaches_every_bar(page):
    row = page.report.tables["edits"].loc["perfect"]
    assert row["icc"] == row["icc_seen"] == pytest.approx(1)
    assert row["mae"] == pytest.approx(0, abs=0.02)
    assert row["others"] == pytest.approx(0, abs=1e-5)
    assert row["identity"] == pytest.approx(1, abs=1e-5)
    assert row["multi_scale_l1"] == pytest.approx(0, abs=1e-4)
    assert row["frechet_of_e"] == pytest.approx(0, abs=1e-4)
    assert [f.met for f in page.report.figures[:2]] == [True, True]


def test_references_stand_beside_the_edits(page):
    table = page.report.tables["edits"]
    assert list(table.index) == [editors.REAL, editors.BACK, editors.STILL, "perfect", "idle", "half"]
    assert table.loc[editors.REAL, "icc"] == pytest.approx(1)
    assert table.loc[editors.BACK, "icc"] == pytest.approx(1)
    assert table.loc[editors.REAL, "others"] == pytest.approx(0, abs=1e-5)  # from one real frame to another
    still = table.loc[editors.STILL]
    assert still["icc"] < 0.5
    assert still["others"] == 0
    for column in ("icc", "mae", "mse", "others", "identity", "multi_scale_l1"):
        assert table.loc["idle", column] == pytest.approx(still[column])


def test_errors_of_the_judge_can_be_told_from_those_of_an_editor():
    """E that sees too little spoils the agreement with what was asked, not that with what it sees."""

    def dull(image, on):
        return replace(look_up(image, on), au=0.5 * look_up(image, on).au ** 2)

    judge = Tool(models(), dull, lambda image: [])
    bench = editor_bench.prepare(people(2), TOY, judge, plan=Plan(pairs=20, rounds=5))
    edited = editor_bench.carry_out(bench, editor_bench.wanted(bench, toy_editor()))
    got = editors.score(bench, edited.seen, bench.column("target")).values
    assert got["icc_seen"] == pytest.approx(1, abs=1e-3)
    assert got["icc"] < 0.8


def test_agreement_is_with_what_was_asked(bench, page):
    """By the definition, from the long table."""
    values = page.tables["values"]
    half = values[values["editor"] == "half"]
    asked, got = half["AU4_asked"].to_numpy(), half["AU4_measured"].to_numpy()
    before = bench.frames.labels[bench.column("source"), 2]
    np.testing.assert_allclose(got, (before + asked) / 2, atol=0.02)
    assert page.report.tables["mae per unit"].loc["AU4", "half"] == pytest.approx(np.abs(asked - got).mean())
    assert page.report.tables["mse per unit"].loc["AU4", "half"] == pytest.approx(((asked - got) ** 2).mean())


def test_single_units_follow_and_others_stay(page):
    table = page.report.tables["single units, perfect"]
    assert list(table.index) == list(NAMES)
    assert (table["spearman"] > 0.999).all()
    assert (table["mae_half"] < 1e-4).all()
    np.testing.assert_allclose(table["at_5"], 5, atol=1e-4)
    np.testing.assert_allclose(table["below"], 0, atol=1e-6)  # pictures cannot show less than nothing
    assert (table["others"] < 1e-5).all()
    means = page.report.tables["single units"]
    assert means.loc["idle", "constant"] == 5 * 4  # of every unit and person
    assert means.loc["idle", "spearman"] == 0
    assert means.loc["half", "at_5"] < 4
    series = page.tables["series"]
    assert len(series) == 3 * 5 * 4 * len(STEPS)


def test_expressions_are_taken_over_from_pictures(page):
    table = page.report.tables["taken over from a picture"]
    for title in ("same person", "another"):
        assert table.loc["perfect", f"icc, {title}"] == pytest.approx(1)
        assert table.loc["perfect", f"identity, {title}"] == pytest.approx(1, abs=1e-5)
        assert table.loc["idle", f"icc, {title}"] < 0.5


def test_baselines_are_compared_at_equal_identity(bench):
    """An editor that spoils the person twice as much must do half as much."""
    page = editors.run(bench, {"one": toy_editor(spoils=0.05), "two": toy_editor(spoils=0.1)})
    table = page.report.tables["at equal identity score"]
    assert table.loc["two", "strength"] == pytest.approx(0.5, abs=0.03)
    assert table.loc["two", "identity"] == pytest.approx(table.loc["one", "identity"], abs=2e-3)
    assert table.loc["two", "icc"] < 0.9 < table.loc["one", "icc"]
    figure = page.report.figures[-1]
    assert figure.name == "ICC of one less that of two"
    assert figure.value == pytest.approx(table.loc["one", "icc"] - table.loc["two", "icc"])
    assert figure.met
    assert figure.low <= figure.value <= figure.high


def test_an_editor_that_keeps_the_person_goes_to_the_limit(bench):
    rows = np.arange(10)
    assert editor_bench.strength_for(bench, toy_editor(), 0.99, rows=rows, limit=2.0) == 2.0
    assert editor_bench.strength_for(bench, toy_editor(spoils=0.5), 1.1, rows=rows) == 0


def test_the_page_is_written_with_its_tables_and_sheets(page, tmp_path):
    written = pages.write(page.report, tmp_path, "e", pictures=page.pictures, tables=page.tables)
    assert {p.name for p in written} == {
        "e.md", "e.json", "e_edits.png", "e_expressions_of_others.png", "e_single_units_perfect.png",
        "e_pairs.csv", "e_values.csv", "e_series.csv",
    }  # fmt: skip
    values = json.loads((tmp_path / "e.json").read_text())
    assert values["tables"]["edits"]["perfect"]["icc"] == pytest.approx(1)
    assert "took no part" in values["about"]["measured by"]
    assert page.pictures["edits"].shape[1] > 6 * 100  # source, back, wanted and three editors


def test_editors_of_another_space_are_refused(bench):
    other = editor_baselines.build("full", EditorConfig(names=NAMES, levels=4, edited=2, latent=9))
    with pytest.raises(ConfigError, match=r"4 levels of 8 numbers.*odd has 4 of 9"):
        editors.run(bench, {"odd": other})
    with pytest.raises(ConfigError, match="got none"):
        editors.run(bench, {})


def test_linear_baselines_learn_the_toy_world():
    nets = editor_bench.linear(people(6, seed=3), TOY, CONFIG, per_person=8)
    assert list(nets) == list(editor_baselines.LINEAR)
    bench = editor_bench.prepare(people(3, seed=9), TOY, tool(), plan=Plan(pairs=10, rounds=10))
    for name, net in nets.items():
        w = editor_bench.wanted(bench, net)
        got = editors.score(bench, editor_bench.carry_out(bench, w).seen, bench.column("target"))
        assert got.values["icc"] > 0.9, name


def test_one_person_alone_has_nobody_to_take_from():
    bench = editor_bench.prepare(people(1), TOY, tool(), plan=Plan(pairs=6, rounds=5))
    page = editors.run(bench, {"perfect": toy_editor()})
    assert "icc, another" not in page.report.tables["taken over from a picture"]
    assert "expressions of others" not in page.pictures


def test_judges_of_a_user_are_asked(bench):
    class Brightness(torch.nn.Module):
        def forward(self, image, other=None):
            if other is not None:
                return (image - other).abs().mean((1, 2, 3))
            return torch.stack([image.mean((1, 2, 3)), torch.ones(len(image))], 1)

    judges = editor_scores.Judges(Brightness(), Brightness(), Brightness())
    asked = editor_bench.prepare(people(2), TOY, tool(), judges, Plan(pairs=4, rounds=5))
    row = editors.run(asked, {"perfect": toy_editor()}).report.tables["edits"].loc["perfect"]
    assert row["lpips"] == pytest.approx(0, abs=1e-5)
    assert row["fid"] == pytest.approx(0, abs=1e-6)
    assert row["identity"] != row["identity_parameters"]
    assert "ArcFace was not given" not in editors.about(asked)["identity"]
    assert "no FID" in editors.about(bench)["quality"]


def test_the_response_of_a_unit_has_known_values():
    asked = np.array(STEPS)
    table = pd.DataFrame({
        "frame": "a", "asked": asked, "measured": np.where(asked < 0, -0.5, asked + 0.25 * (asked % 1 != 0)),
        "others": np.where(asked < 0, 0.4, 0.1), "identity": np.where(asked < 0, 0.8, 0.9),
    })  # fmt: skip
    got = editors.response(table)
    assert got["spearman"] == 1
    assert (got["mae_whole"], got["mae_half"]) == pytest.approx((0, 0.25))
    assert (got["at_0"], got["at_5"], got["below"]) == pytest.approx((0, 5, -0.5))
    assert (got["others"], got["others_below"]) == pytest.approx((0.1, 0.4))
    assert (got["identity"], got["identity_below"]) == pytest.approx((0.9, 0.8))
    still = editors.response(table.assign(measured=1.0))
    assert (still["constant"], still["spearman"]) == (1, 0)


def test_companions_have_the_names_of_the_labels():
    assert {"AU6", "AU06"} <= editors.companions("AU12")
    assert "AU5" in editors.companions("AU1")
    assert editors.companions("AU15") == set()


def test_differences_are_of_the_same_people():
    parts = np.random.default_rng(0).random((6, 2, 8)) + np.array([20, 0, 0, 5, 5, 1, 0, 0])
    assert editors.difference(parts, parts, rounds=20) == (0, 0)
    assert np.isnan(editors.difference(parts[:1], parts[:1])).all()
