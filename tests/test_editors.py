"""Evaluation of editors, on a toy world in which every answer is known, and on tiny networks.

In the toy world a picture holds its latent in the corner: the first row the units, the second the person.
E is a stand-in that looks the units and the person up there.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from small import FACE_MODEL, N_AU, N_IDENTITY, SIZE, models, needs_model
from torch import Tensor
from typer.testing import CliRunner

from faceunits import aus, cli_editors, fitting, weights
from faceunits.errors import ConfigError, FaceunitsError, InputError, ParameterError, WeightsError
from faceunits.evaluation import crops, editor_bench, editor_files, editor_scores, editor_sets, editors
from faceunits.evaluation.crops import Tool
from faceunits.evaluation.editor_bench import STEPS, Plan
from faceunits.evaluation.editor_files import Space
from faceunits.evaluation.editor_sets import Frames
from faceunits.networks import editor_baselines
from faceunits.networks.editor import DISFA, Editor, EditorConfig
from faceunits.networks.editor_baselines import LinearEditor
from faceunits.networks.encoders import EncoderConfig, Psp
from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator
from faceunits.types import Reading

NAMES = DISFA[:5]
UNITS = ("AU01", "AU02", "AU04", "AU05", "AU06")
CONFIG = EditorConfig(names=NAMES, levels=4, edited=2, latent=8)


# The toy world


def encode(image: Tensor) -> Tensor:
    return image[:, 0, :4, :8].clone()


def decode(w: Tensor) -> Tensor:
    image = torch.zeros(len(w), 3, SIZE, SIZE)
    image[:, 0, :4, :8] = w.clamp(0, 1)
    return image


TOY = Space(encode, decode, 4, 8)


def look_up(image: np.ndarray, on: fitting.Models) -> Reading:
    n, names = len(image), aus.profile().names
    pose, points = np.zeros((n, 2), np.float32), np.zeros((n, 68, 2), np.float32)
    au = np.zeros((n, N_AU), np.float32)
    for k, unit in enumerate(UNITS):
        for i, name in enumerate(names):
            if name[:4] == unit:
                au[:, i] = image[:, 0, 0, k]
    zero = np.zeros(n, np.float32)
    return Reading(names, au, pose, image[:, 0, 1, :6], zero, zero, points)


def people(count: int = 4, frames: int = 10, *, seed: int = 0) -> Frames:
    """Whole levels of five units; a person is six numbers."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, (count * frames, 5)) * (rng.random((count * frames, 5)) < 0.6)
    person = np.arange(count * frames) // frames
    w = np.zeros((count * frames, 4, 8), np.float32)
    w[:, 0, :5] = labels / 5
    w[:, 1, :6] = rng.choice([0.2, 0.8], (count, 6))[person]
    image = (255 * decode(torch.from_numpy(w)).permute(0, 2, 3, 1).numpy() + 0.5).astype(np.uint8)
    places = tuple(f"toy:{i}" for i in range(len(w)))
    return Frames(NAMES, image, labels.astype(np.float32), person.astype(np.int64), places)


def toy_editor(*, spoils: float = 0.0, gain: float = 1.0) -> LinearEditor:
    """Reads and sets the units; a step also changes the person by so much."""
    net = LinearEditor(CONFIG)
    for k in range(5):
        net.readers[k, k] = 1
        net.directions[k, k] = gain
        net.directions[k, 8 + k] = spoils
    return net


def idle() -> Editor:
    net = editor_baselines.build("full", CONFIG).requires_grad_(False)
    net.gate.zero_()
    return net


@pytest.fixture(scope="module")
def bench() -> editor_bench.Bench:
    tool = Tool(models(), look_up, lambda image: [])
    plan = Plan(pairs=20, rounds=50, match=40, batch=16, singles=9)
    return editor_bench.prepare(people(), TOY, tool, plan=plan)


@pytest.fixture(scope="module")
def page(bench: editor_bench.Bench) -> editors.Page:
    return editors.run(bench, {"perfect": toy_editor(), "idle": idle(), "half": toy_editor(gain=0.5)})


def test_a_perfect_editor_reaches_every_bar(page):
    row = page.report.tables["edits"].loc["perfect"]
    assert row["icc"] == pytest.approx(1)
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
    still = table.loc[editors.STILL]
    assert still["icc"] < 0.5
    assert still["others"] == 0
    for column in ("icc", "mae", "mse", "others", "identity", "multi_scale_l1"):
        assert table.loc["idle", column] == pytest.approx(still[column])


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
    from faceunits.evaluation import pages

    written = pages.write(page.report, tmp_path, "e", pictures=page.pictures, tables=page.tables)
    assert {p.name for p in written} == {
        "e.md", "e.json", "e_edits.png", "e_expressions_of_others.png", "e_single_units_perfect.png",
        "e_pairs.csv", "e_values.csv", "e_series.csv",
    }  # fmt: skip
    values = json.loads((tmp_path / "e.json").read_text())
    assert values["tables"]["edits"]["perfect"]["icc"] == pytest.approx(1)
    assert "E of the package" in values["about"]["measured by"]
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
    tool = Tool(models(), look_up, lambda image: [])
    bench = editor_bench.prepare(people(3, seed=9), TOY, tool, plan=Plan(pairs=10, rounds=10))
    for name, net in nets.items():
        w = editor_bench.wanted(bench, net)
        got = editors.score(bench, editor_bench.carry_out(bench, w).seen, bench.column("target"))
        assert got.values["icc"] > 0.9, name


# What is asked


def test_pairs_are_balanced_over_units_and_levels():
    frames = people(3, 40)
    table = editor_sets.pairs(frames, 50, seed=1)
    pd.testing.assert_frame_equal(table, editor_sets.pairs(frames, 50, seed=1))
    assert not table.equals(editor_sets.pairs(frames, 50, seed=2))
    source, target, other = (table[c].to_numpy() for c in ("source", "target", "other"))
    assert (source != target).all()
    np.testing.assert_array_equal(frames.person[source], table["person"])
    np.testing.assert_array_equal(frames.person[target], table["person"])
    assert (frames.person[other] != table["person"]).all()
    for row in table.itertuples():
        assert frames.labels[row.target, NAMES.index(row.unit)] == row.level
    for _, own in table.groupby("person"):
        assert own["unit"].value_counts().tolist() == [10] * 5
        for unit, part in own.groupby("unit"):
            shown = np.unique(frames.labels[frames.person == own["person"].iloc[0], NAMES.index(unit)])
            counts = part["level"].value_counts().reindex(shown, fill_value=0)
            assert counts.max() - counts.min() <= 1
    assert table["target_at"].tolist() == [frames.place[i] for i in target]


def test_the_smallest_sets():
    with pytest.raises(InputError, match="at least 2 frames"):
        editor_sets.pairs(people(2, 1), 3)
    alone = editor_sets.pairs(people(1, 4), 3)
    assert (alone["other"] == -1).all()
    person = np.repeat(np.arange(5), 2)
    training, test = editor_sets.split(person, 2)
    assert (training.tolist(), test.tolist()) == ([0, 1, 2], [3, 4])
    for count in (0, 5, 9):
        assert editor_sets.split(person, count)[0].size == 0
    frames = people(2, 6)
    calm = editor_sets.calmest(frames, 2)
    for half in (calm[:2], calm[2:]):
        own = frames.labels[frames.person == frames.person[half[0]]].sum(1)
        assert sorted(frames.labels[half].sum(1)) == sorted(own)[:2]


def test_one_person_alone_has_nobody_to_take_from():
    tool = Tool(models(), look_up, lambda image: [])
    bench = editor_bench.prepare(people(1), TOY, tool, plan=Plan(pairs=6, rounds=5))
    page = editors.run(bench, {"perfect": toy_editor()})
    assert "icc, another" not in page.report.tables["taken over from a picture"]
    assert "expressions of others" not in page.pictures


def write(path: Path, frames: Frames, **changes: object) -> Path:
    pack = {
        "image": frames.image, "person": frames.person,
        "identity": np.eye(9, dtype=np.float32)[frames.person],
        "units": np.pad(frames.labels / 5, ((0, 0), (0, 7))),
    }  # fmt: skip
    pack |= changes
    np.savez(path, **{k: v for k, v in pack.items() if v is not None})
    return path


def test_frames_are_read_as_they_were_written(tmp_path):
    first, second = people(2, 3), people(3, 3, seed=1)
    write(tmp_path / "frames_0_00000.npz", first)
    write(tmp_path / "frames_0_00001.npz", second.of([2]))
    (tmp_path / "frames_0_00002.npz.part.npz").write_bytes(b"half a file")
    got = editor_sets.read(tmp_path, ("AU4", "AU01"), models())
    np.testing.assert_array_equal(got.image, np.concatenate([first.image, second.of([2]).image]))
    np.testing.assert_allclose(got.labels[:6], first.labels[:, [2, 0]], atol=1e-6)
    assert got.person.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert got.place[6] == "frames_0_00001.npz:0"
    assert len(got.of([1]).image) == 3


def test_labels_follow_from_parameters(tmp_path):
    frames = people(2, 3)
    au = np.random.default_rng(0).random((6, N_AU)).astype(np.float32)
    gap = np.linspace(0, 1.5, 6).astype(np.float32)
    write(tmp_path / "a.npz", frames, units=None, au=au, lip_gap=gap)
    got = editor_sets.read(tmp_path / "a.npz", ("AU12", "AU25"), models())
    names = aus.profile().names
    larger = np.maximum(au[:, names.index("AU12_L")], au[:, names.index("AU12_R")])
    np.testing.assert_allclose(got.labels[:, 0], 5 * larger, rtol=1e-6)
    np.testing.assert_allclose(got.labels[:, 1], 5 * np.clip(gap, 0, 1), rtol=1e-6)
    with pytest.raises(ParameterError, match="expected a unit of"):
        editor_sets.columns_of(("AU18_L",), names, au, gap)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"person": None}, "it holds image, identity, units"),
        ({"units": None}, "labels"),
        ({"units": None, "au": np.zeros((6, 3)), "lip_gap": np.zeros(6)}, "parameters per face; got 3"),
        ({"identity": np.random.default_rng(0).random((6, 4))}, "person 0 has several"),
    ],
)
def test_other_files_are_refused(tmp_path, changes, message):
    write(tmp_path / "a.npz", people(2, 3), **changes)
    with pytest.raises(InputError, match=message):
        editor_sets.read(tmp_path, NAMES, models())


def test_places_without_frames_are_refused(tmp_path):
    with pytest.raises(InputError, match="found none"):
        editor_sets.read(tmp_path, NAMES, models())
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"cannot read the frames .*a\.npz"):
        editor_sets.read(tmp_path, NAMES, models())
    write(tmp_path / "a.npz", people(2, 3))
    with pytest.raises(ParameterError, match="got AU45"):
        editor_sets.read(tmp_path, ("AU45",), models())
    write(tmp_path / "b.npz", people(2, 3), image=np.zeros((6, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="of one size"):
        editor_sets.read(tmp_path, NAMES, models())


@needs_model
def test_rendered_frames_are_read(tmp_path):
    rendered = pytest.importorskip("faceunits.rig.frames")
    rendered.write(
        rendered.FramesConfig(rig=str(FACE_MODEL), people=2, frames=2, n_identity=12, size=32), tmp_path
    )
    frames = editor_sets.read(tmp_path, DISFA, models())
    assert frames.image.shape == (4, 32, 32, 3)
    assert frames.person.tolist() == [0, 0, 1, 1]
    assert 0 <= frames.labels.min() <= frames.labels.max() <= 5
    assert len(editor_sets.pairs(frames, 4)) == 8


# Measures


def test_the_frechet_distance_has_known_values():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 3))
    assert editor_scores.frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert editor_scores.frechet(a, a + np.array([1, 2, 0])) == pytest.approx(5)
    assert editor_scores.frechet(a, 3 * a - 2 * a.mean(0)) == pytest.approx(4 * np.trace(np.cov(a.T)))
    turned = a @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert editor_scores.frechet(turned, a) == pytest.approx(editor_scores.frechet(a, turned))
    few = editor_scores.frechet(rng.normal(size=(5, 40)), rng.normal(size=(5, 40)))  # singular covariances
    assert np.isfinite(few)
    assert np.isnan(editor_scores.frechet(a[:1], a))


def test_the_distance_over_scales_has_known_values():
    a = torch.rand(2, 3, 32, 32)
    np.testing.assert_allclose(editor_scores.multi_scale_l1(a, a), 0)
    np.testing.assert_allclose(editor_scores.multi_scale_l1(a, a + 0.3), 0.3, rtol=1e-5)
    checks = (torch.arange(32)[:, None] + torch.arange(32)[None]) % 2
    checks = checks.float().expand(1, 3, 32, 32)
    np.testing.assert_allclose(editor_scores.multi_scale_l1(checks, 1 - checks), 0.25)  # at full size only


def test_likeness_and_looks():
    a = np.array([[1.0, 0], [1, 1], [0, 0]])
    np.testing.assert_allclose(editor_scores.likeness(a, a), [1, 1, 0])
    np.testing.assert_allclose(editor_scores.likeness(a[:1], a[1:2]), 2**-0.5)
    look = np.full((1, 192 + 4), 0.5)
    brighter = look.copy()
    brighter[:, :192] += 0.05
    np.testing.assert_allclose(editor_scores.apart(look, brighter), 0.05, rtol=1e-5)


def test_arcface_sees_the_face_where_it_was_trained_to():
    """The public five points of ArcFace's 112 px crop lie within 3 px of where ours come out."""
    from faceunits.alignment import warp

    wanted = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]])
    size = 128
    spots = torch.zeros(5, 3, size, size)
    y, x = np.mgrid[:size, :size]
    for i, (px, py) in enumerate(warp.template(size)):
        spots[i] = torch.from_numpy(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)).float()
    view = (editor_scores.arcface_view(spots) + 1) / 2
    assert view.shape == (5, 3, 112, 112)
    weight = view[:, 0].numpy() / view[:, 0].sum((1, 2), keepdim=True).numpy()
    y, x = np.mgrid[:112, :112]
    found = np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], 1)
    assert np.linalg.norm(found - wanted, axis=1).max() < 3
    grey = editor_scores.arcface_view(torch.full((1, 3, 512, 512), 0.25))
    torch.testing.assert_close(grey, torch.full_like(grey, -0.5))


def test_judges_of_a_user_are_asked(bench):
    class Brightness(torch.nn.Module):
        def forward(self, image, other=None):
            if other is not None:
                return (image - other).abs().mean((1, 2, 3))
            return torch.stack([image.mean((1, 2, 3)), torch.ones(len(image))], 1)

    judges = editor_scores.Judges(Brightness(), Brightness(), Brightness())
    tool = Tool(models(), look_up, lambda image: [])
    asked = editor_bench.prepare(people(2), TOY, tool, judges, Plan(pairs=4, rounds=5))
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


# Files and the command


def tiny_gan(path: Path, editor: Editor | None = None) -> Path:
    torch.manual_seed(0)
    style = StyleConfig(SIZE, 16, 0, (8, 8, 8, 8))
    sizes = EncoderConfig(style.levels, SIZE, 16, (4, 16, 16, 16, 16), (1, 1, 1, 1))
    encoder, generator = Psp(sizes), StyleGenerator(style)
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    state |= {f"generator.{k}": v for k, v in generator.state_dict().items()}
    state["average"] = torch.full((16,), 0.1)
    about = {
        "kind": "gan", "size": SIZE, "alignment": "face", "generator": style.__dict__,
        "encoder": {**sizes.__dict__, "kind": "psp"},
    }  # fmt: skip
    if editor is not None:
        state |= {f"editor.{k}": v for k, v in editor.state_dict().items()}
        about["editor"] = editor.config.__dict__
    weights.save(path, state, about, {})
    return path


SMALL = EditorConfig(
    names=NAMES, levels=8, edited=5, latent=16, code=4, slot=2, hidden=8, label_hidden=8
)


def test_a_picture_space_comes_back_from_its_file(tmp_path):
    space = editor_files.load_space(tiny_gan(tmp_path / "gan.safetensors"))
    image = torch.rand(2, 3, SIZE, SIZE)
    w = space.encode(image)
    assert w.shape == (2, space.levels, space.latent) == (2, 8, 16)
    again = space.decode(w)
    assert again.shape == image.shape
    assert 0 <= again.min() <= again.max() <= 1
    assert space.encode(torch.rand(1, 3, 2 * SIZE, 2 * SIZE)).shape == (1, 8, 16)
    state, about = weights.load(tmp_path / "gan.safetensors")
    weights.save(tmp_path / "b.safetensors", state, about | {"alignment": "ffhq"}, {})
    with pytest.raises(WeightsError, match="of ffhq alignment"):
        editor_files.load_space(tmp_path / "b.safetensors")
    state["average"] += 1
    weights.save(tmp_path / "c.safetensors", state, about, {})
    torch.testing.assert_close(editor_files.load_space(tmp_path / "c.safetensors").encode(image), w + 1)


@pytest.mark.parametrize("name", editor_baselines.NAMES)
def test_editors_come_back_from_their_files(tmp_path, name):
    net = editor_baselines.build(name, SMALL)
    editor_files.save_editor(tmp_path / "e.safetensors", name, net)
    kind, again = editor_files.load_editor(tmp_path / "e.safetensors")
    assert kind == name
    assert again.config == net.config
    w, labels = torch.rand(2, 8, 16), torch.rand(2, 5)
    assert torch.equal(again(w, again.encode(labels)).target, net(w, net.encode(labels)).target)


def test_files_without_an_editor_are_refused(tmp_path):
    gan = tiny_gan(tmp_path / "gan.safetensors")
    assert not editor_files.holds_editor(gan)
    with pytest.raises(WeightsError, match="expected an editor in"):
        editor_files.load_editor(gan)
    weights.save(tmp_path / "e.safetensors", {}, {"editor": {"kind": "magic"}}, {})
    with pytest.raises(WeightsError, match="got magic"):
        editor_files.load_editor(tmp_path / "e.safetensors")
    with pytest.raises(WeightsError, match="expected an encoder and a generator"):
        editor_files.load_space(tmp_path / "e.safetensors")


def command(*words: object) -> tuple[int, BaseException | None, str]:
    app = typer.Typer()
    evaluate = typer.Typer()
    app.add_typer(evaluate, name="evaluate")
    cli_editors.add_evaluation(evaluate)
    evaluate.command("other")(lambda: None)  # one command alone would lose its name
    done = CliRunner().invoke(app, ["evaluate", "edit", *map(str, words)])
    return done.exit_code, done.exception, done.stdout


def test_the_command_on_renders(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "load", lambda *a, **k: models())
    folder = tmp_path / "renders"
    folder.mkdir()
    write(folder / "frames_0_00000.npz", people(4, 6))
    torch.manual_seed(0)
    gan = tiny_gan(tmp_path / "gan.safetensors", editor_baselines.build("full", SMALL))
    editor_files.save_editor(tmp_path / "b.safetensors", "single", editor_baselines.build("single", SMALL))
    code, error, _ = command(
        "--renders", folder, "--gan", gan, "--editor", tmp_path / "b.safetensors", "--people", 2,
        "--pairs", 3, "-o", tmp_path / "out", "--device", "cpu", "--singles", 2,
    )  # fmt: skip
    assert code == 0, error
    values = json.loads((tmp_path / "out" / "editors.json").read_text())
    rows = list(values["tables"]["edits"])
    assert rows[3:] == ["full", "single", "ridge", "pattern"]
    assert values["about"]["people"].startswith("2 (2, 3)")
    assert list(values["tables"]["at equal identity score"]) == ["full", "single", "ridge", "pattern"]
    pairs = pd.read_csv(tmp_path / "out" / "editors_pairs.csv")
    assert len(pairs) == 6
    assert set(pairs["person"]) == {2, 3}
    assert list(values["tables"]["single units"]) == ["full", "single"]
    assert "gan.safetensors, sha256" in values["about"]["files"]


def test_linear_baselines_learn_from_others(tmp_path, monkeypatch):
    """People of another folder, whose numbers may be the same; without them there are none."""
    monkeypatch.setattr(fitting, "load", lambda *a, **k: models())
    for name, seed in (("test", 0), ("training", 1)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "frames_0_00000.npz", people(2, 4, seed=seed))
    gan = tiny_gan(tmp_path / "gan.safetensors", editor_baselines.build("full", SMALL))
    words = ("--renders", tmp_path / "test", "--gan", gan, "--pairs", 2, "--people", 0)
    told = {}
    for more in ((), ("--training", tmp_path / "training")):
        code, error, text = command(*words, *more)
        assert code == 0, error
        told[bool(more)] = text
    assert "| ridge |" not in told[False]
    assert "| ridge |" in told[True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected photos, or --renders"),
        (("a.jpg", "--gan", "x"), "with --renders only"),
        (("a.jpg", "--renders", "x"), "got both"),
        (("--renders", "x"), "expected --gan"),
        (("--renders", "x", "--gan", "{gan}"), "expected an editor in --gan"),
        (("--renders", "x", "--gan", "missing"), "does not exist"),
    ],
)
def test_the_command_explains(tmp_path, words, message):
    gan = tiny_gan(tmp_path / "gan.safetensors")
    code, error, _ = command(*(w.replace("{gan}", str(gan)) for w in words))
    assert code
    assert isinstance(error, FaceunitsError)
    assert message in str(error)


def test_photos_go_to_the_other_engines(monkeypatch, tmp_path):
    from faceunits import cli_edit

    seen = []
    monkeypatch.setattr(cli_edit, "evaluate_edit", lambda *given: seen.append(given))
    assert command(tmp_path / "a.jpg", "--series", "AU12", "-o", tmp_path / "out")[0] == 0
    assert seen == [([tmp_path / "a.jpg"], tmp_path / "out", "AU12", "auto")]


def test_real_networks_measure_tiny_pictures():
    """The untrained E itself, instead of the stand-in."""
    tool = crops.tool(models(), detector=lambda image: [])
    image = torch.rand(3, 3, 2 * SIZE, 2 * SIZE)
    seen = editor_scores.see([image[:2], image[2:]], NAMES, tool)
    assert seen.units.shape == (3, 5)
    assert seen.identity.shape == (3, N_IDENTITY)
    assert seen.features.shape == (3, 16)
    assert seen.arcface.shape == seen.inception.shape == (3, 0)
    alone = editor_scores.see([image[2:]], NAMES, tool, briefly=True)
    np.testing.assert_allclose(alone.units, seen.units[2:], atol=1e-4)
    assert alone.features.shape == (1, 0)
    assert len(seen.rows(np.array([0, 2])).look) == 2
