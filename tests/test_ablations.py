"""Feature spaces, the similarity of expressions, and the page of ablations, on small untrained networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small import N_AU, SIZE, crops, models
from test_stability import photo, shard

from faceunits import fitting
from faceunits.errors import InputError, WeightsError
from faceunits.evaluation import ablations, pages, similarity, spaces
from faceunits.fitting import optimise
from faceunits.networks.parser import RESNET50, Parser
from faceunits.networks.vgg import Vgg16


@pytest.fixture(scope="module")
def all_spaces():
    return spaces.spaces(models())


def test_spaces_and_their_names(all_spaces):
    names = [s.name for s in all_spaces]
    assert names == ["raw pixels", spaces.UNTRAINED, "E without attention", "E with attention"]
    assert [s.attention for s in all_spaces] == [False] * 3 + [True]
    assert spaces.left_out(all_spaces) == "VGG-16, ResNet-50"
    named = [replace(all_spaces[0], name="VGG-16"), replace(all_spaces[0], name="imagenet")]
    assert spaces.left_out([*all_spaces, *named]) == ""


def test_random_weights_repeat_and_leave_the_callers_chance_alone(all_spaces):
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    again = spaces.spaces(models())
    assert torch.rand(1) == before
    a, b = (s[1].networks.parser.inner.conv1.weight for s in (all_spaces, again))
    assert torch.equal(a, b)
    other = spaces.spaces(models(), seed=1)[1].networks.parser.inner.conv1.weight
    assert not torch.equal(a, other)


def test_distance_of_pixels_is_that_of_pixels(all_spaces):
    a, b = crops(2), crops(3, seed=1)
    got = spaces.distances(all_spaces[0], a, b, torch.device("cpu"))
    beta = all_spaces[0].networks.beta[0]
    want = [[beta * np.abs(x - y).mean() for y in b] for x in a]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for space in all_spaces:
        same = spaces.distances(space, a, a, torch.device("cpu"))
        np.testing.assert_allclose(np.diag(same), 0, atol=1e-6)
        assert same[0, 1] > 0


def test_a_fit_in_e_is_the_fit_of_the_package(all_spaces):
    recipe = replace(ablations.BY_FEATURES, iterations=3)
    got = spaces.descend(all_spaces[-1], crops(3), models(), recipe, batch=2)
    want = fitting.fit(crops(3), models(), recipe)
    np.testing.assert_allclose(got.au, want.au, atol=1e-5)
    np.testing.assert_allclose(got.trace, want.trace, rtol=1e-4)
    without = fitting.fit(crops(3), models(), replace(recipe, attention=False))
    other = spaces.descend(all_spaces[-2], crops(3), models(), recipe)
    np.testing.assert_allclose(other.au, without.au, atol=1e-5)
    assert np.abs(other.au - got.au).max() > 1e-3


def test_a_fit_by_pixels_comes_closer_in_pixels(all_spaces):
    crop, _ = ablations.closed_loop_faces(models(), 2)
    got = spaces.descend(all_spaces[0], crop, models(), replace(ablations.BY_FEATURES, iterations=10))
    assert (got.trace[-1] < got.trace[0]).all()
    assert np.abs(got.image - crop).mean() < np.abs(_base() - crop).mean()


def _base():
    networks = models().networks
    with torch.no_grad():
        return networks.generator(optimise.base_face(networks.generator, N_AU, 1)).numpy()


def test_named_weights_are_used(tmp_path):
    torch.manual_seed(3)
    vgg = Vgg16()
    torch.save(vgg.state_dict() | {"classifier.0.weight": torch.zeros(2)}, tmp_path / "vgg.pth")
    trunk = Parser(replace(RESNET50, blocks=(1, 1, 1, 1), size=SIZE))
    with pytest.raises(WeightsError, match="public layout"):
        torch.save(trunk.state_dict(), tmp_path / "small.pth")
        spaces.spaces(models(), resnets={"mine": tmp_path / "small.pth"})
    got = spaces.spaces(models(), vgg=tmp_path / "vgg.pth")
    assert got[1].name == "VGG-16"
    assert torch.equal(got[1].networks.parser.inner.features["0"].weight, vgg.features["0"].weight)
    with pytest.raises(WeightsError, match="cannot be read"):
        spaces.spaces(models(), vgg=tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match="cannot be read"):
        spaces.spaces(models(), vgg=tmp_path / "text.pth")


def test_rows_on_the_diagonal():
    sharp = np.array([[[0.0, 1], [1, 0]], [[1, 0], [2, 1]]])
    assert similarity.on_diagonal(sharp) == 0.75
    shown = similarity.shown(sharp)
    np.testing.assert_allclose(shown, [[0.5, 0.5], [1, 0]])


def test_expressions_far_apart():
    au = np.zeros((5, 3), np.float32)
    au[1], au[2], au[3], au[4] = [0.1, 0, 0], [1, 0, 0], [0, 1, 0], [0.9, 0, 0]
    chosen = similarity._apart(au, 3)
    assert chosen[0] == 0
    assert set(chosen[1:]) == {2, 3}


def test_a_face_is_most_like_itself(all_spaces):
    """Drawn faces against the same faces: every row has its minimum, 0, on the diagonal."""
    person = similarity.own_faces(models(), 1)[0]
    assert person.seen.shape == (10, 3, SIZE, SIZE)
    same = replace(person, seen=person.drawn)
    for space in all_spaces[:1] + all_spaces[-1:]:
        values = similarity.matrices(space, [same], models())
        assert values.shape == (1, 10, 10)
        assert similarity.on_diagonal(values) == 1


def test_faces_of_a_shard_wear_each_others_expressions(tmp_path):
    with np.load(shard(tmp_path / "a.npz", count=9)) as pack:
        values = {k: pack[k] for k in pack.files}
    people = similarity.shard_faces(models(), values, 5, expressions=4)
    assert len(people) == 2  # nine faces make two groups of four
    assert people[0].drawn.shape == (4, 4, 3, SIZE, SIZE)
    first = [
        i
        for i in range(9)
        if np.allclose(people[0].seen[0] * 255, values["image"][i].transpose(2, 0, 1), atol=0.01)
    ]
    i = first[0]
    own = similarity.draw(models(), similarity.parameters(values)[[i]])
    np.testing.assert_allclose(people[0].drawn[0, 0], own[0], atol=1e-5)


def test_scores():
    def of(statistics, rows):
        return {name: statistic(np.array(rows)) for name, statistic in statistics.items()}

    truth = np.array([[0.0, 1.0], [0.5, 0.0]], np.float32)
    assert of(ablations.of_rendered(truth, truth), [0, 1]) == {"error": 0, "ICC": pytest.approx(1)}
    assert of(ablations.of_rendered(truth, truth + 0.1), [1, 1])["error"] == pytest.approx(0.5)
    names = ("AU12_L", "AU12_R", "AU04_L")
    seen = np.array([[0.2, 0, 0], [0.1, 0, 0.3], [0, 0.8, 0], [0.15, 0, 0]], np.float32)
    got = of(ablations.of_pairs(names, seen), [0, 1])
    assert got["AUC AU12"] == 0.75
    assert got["AU12 neutral"] == pytest.approx(0.75)
    assert got["AU12 smiling"] == pytest.approx(5 * (0.8 + 0.15) / 2)
    assert got["neutral mean"] == pytest.approx(5 * 0.6 / 6)
    second = of(ablations.of_pairs(names, seen), [1])  # one person: both of their photos
    assert second["AU12 neutral"] == pytest.approx(0.5)
    assert second["AU12 smiling"] == pytest.approx(0.75)
    assert ablations.of_pairs(names, seen[:0]) == {}


def folder(path):
    for kind, start in (("neutral", 0), ("smiling", 10)):
        (path / kind).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(photo(start + i)).save(path / kind / f"p{i}.png")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path / "smiling" / "p1.png")
    return path


def test_the_whole_page(tmp_path, monkeypatch, all_spaces):
    from test_stability import finder

    monkeypatch.setattr(ablations, "Detector", lambda weights: finder)
    place = folder(tmp_path / "pairs")
    faces, people = ablations.gather(models(), None, place, 2, 1, "detector")
    assert set(people) == {"faces of M", "real pairs"}
    assert len(faces.neutral) == 1  # the first of the three
    neutral, _ = ablations.read_pairs(place, SIZE, finder, 3)
    assert len(neutral) == 2  # one smile shows no face
    plan = ablations.Plan(iterations=(0, 2), space_iterations=2, recipes=("fast", "refine"), rounds=20)
    few = [all_spaces[0], all_spaces[-1]]
    told: list[str] = []
    page = ablations.run(models(), few, faces, people, plan, tell=told.append)
    tables = page.report.tables
    assert list(tables["feature spaces"].index) == ["raw pixels", "E with attention"]
    assert (tables["feature spaces"]["loss left"] > 0).all()
    assert list(tables["iterations"].index) == ["0", "2"]
    assert list(tables["recipes"].index) == ["fast", "refine"]
    assert len(tables["identity subspace"]) == 4
    assert page.report.about["feature spaces left out"] == "VGG-16, ResNet-50: no weights were named"
    _check_intervals(page.report)
    assert list(tables["similarity of expressions, real pairs"].index) == [s.name for s in few]
    # without steps the default recipe is the fast one, here of the photo alone
    fast = fitting.fit(faces.crops, models(), replace(optimise.FAST, mirror=False))
    want = 5 * np.abs(fast.au - faces.au).mean()
    assert tables["iterations"].loc["0", "error"] == pytest.approx(want, abs=1e-6)
    paths = pages.write(page.report, tmp_path / "out", "ablations", pictures=page.pictures)
    text = paths[0].read_text()
    for path in paths[2:]:
        assert f"({path.name})" in text
        assert np.asarray(Image.open(path)).std() > 0
    assert {"ablations_similarity_faces_of_m_jet.png", "ablations_iterations.png"} <= {p.name for p in paths}


def _check_intervals(page):
    """Every error of a table stands among the figures with an interval, and differences are those of rows."""
    by = {(f.step, f.name): f for f in page.figures}
    for title in ("feature spaces", "iterations", "recipes", "identity subspace"):
        for name, row in page.tables[title].iterrows():
            figure = by[(title, f"{name}: error")]
            assert figure.value == pytest.approx(row["error"])
            assert figure.low <= figure.value <= figure.high
    rise = by[("identity subspace", "paper, without: error above that of paper, with")]
    rows = page.tables["identity subspace"]["error"]
    assert rise.value == pytest.approx(rows["paper, without"] - rows["paper, with"], abs=1e-6)
    rise = by[("iterations", "2: error above that of 0")]
    rows = page.tables["iterations"]["error"]
    assert rise.value == pytest.approx(rows["2"] - rows["0"], abs=1e-6)


def test_pictures_show_rendered_faces_only(all_spaces, monkeypatch):
    shown = []
    monkeypatch.setattr(
        ablations.warp, "picture", lambda crop: shown.append(crop) or np.zeros((8, 8, 3), np.uint8)
    )
    crop, au = ablations.closed_loop_faces(models(), 2)
    real = crops(1, seed=7)
    faces = ablations.Faces(crop, au, real, real)
    plan = ablations.Plan(iterations=(0,), space_iterations=1, recipes=("fast",), rounds=2)
    ablations.run(models(), all_spaces[:1], faces, {}, plan)
    assert {0, 1} == {i for i in range(2) if any(np.array_equal(crop[i], x) for x in shown)}
    assert not any(np.array_equal(real[0], x) for x in shown)
    assert len(shown) == 4  # two renders, and what was fitted to each


def test_a_shard_gives_the_faces(tmp_path):
    path = shard(tmp_path / "a.npz", count=22)
    faces, people = ablations.gather(models(), path, None, 3, 1, "detector")
    assert faces.crops.shape == (3, 3, SIZE, SIZE)
    assert faces.neutral.shape == (0, 3, SIZE, SIZE)
    assert len(people["renders"]) == 1
    with pytest.raises(InputError, match="nobody with a face"):
        ablations.read_pairs(folder(tmp_path / "p"), SIZE, lambda picture: [], 3)
