"""Training: the parsing loss on sets of classes, who is read, which shards are used, and resuming."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small import FACES, N_IDENTITY, needs_faces
from torch import Tensor, nn

from faceunits import aus, weights
from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import photos
from faceunits.fitting import load
from faceunits.rig import shape
from faceunits.rig.shade import HELEN_MIRROR
from faceunits.training import generator, loop, parser, people
from faceunits.types import LANDMARK_MIRROR

PROFILE = aus.profile()
SIZE = 32


# Losses


def test_a_set_of_classes_needs_belief_in_the_set_only():
    """Two pixels: one of class 3, one of background or hair (code 11); the answer by hand."""
    scores = torch.randn(1, 11, 1, 2, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([[[3, 11]]], dtype=torch.uint8)
    p = scores.softmax(1)[0, :, 0]
    wanted = -(math.log(p[3, 0]) + math.log(p[0, 1] + p[10, 1])) / 2
    assert float(parser.parsing_loss(scores, label)) == pytest.approx(wanted, rel=1e-5)


def test_belief_may_lie_anywhere_within_the_set():
    for code, allowed in people.SETS.items():
        label = torch.full((1, 1, 1), code, dtype=torch.uint8)
        for name in range(11):
            scores = torch.full((1, 11, 1, 1), -20.0)
            scores[0, name] = 20
            value = float(parser.parsing_loss(scores, label))
            assert (value < 1e-4) == (name in allowed), (code, name)


def test_unlabelled_pixels_count_for_nothing():
    scores = torch.randn(1, 11, 1, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    label = torch.tensor([[[5, 255, 0]]], dtype=torch.uint8)
    value = parser.parsing_loss(scores, label)
    value.backward()
    assert (scores.grad[..., 1] == 0).all()
    alone = parser.parsing_loss(scores[..., [0, 2]], label[..., [0, 2]])
    torch.testing.assert_close(value, alone)


def test_exact_labels_give_the_usual_cross_entropy():
    scores = torch.randn(2, 11, 4, 4, generator=torch.Generator().manual_seed(2))
    label = torch.randint(0, 11, (2, 4, 4), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        parser.parsing_loss(scores, label.byte()), nn.functional.cross_entropy(scores, label)
    )


def test_readings_have_the_order_that_the_fit_expects():
    names = parser.reading_names(PROFILE, 3)
    n = len(PROFILE)
    assert names[:n] == PROFILE.names
    assert names[n:] == ("lip_gap", "pitch", "yaw", "id000", "id001", "id002")


# Renders


def shard(folder: Path, look: str, seed: int, *, count: int = 4) -> Path:
    """Noise in the form of a rendered shard."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    path = folder / f"{look}_{seed}_00000.npz"
    np.savez(
        path, image=rng.integers(0, 255, (count, SIZE, SIZE, 3)).astype(np.uint8),
        label=rng.integers(0, 11, (count, SIZE, SIZE)).astype(np.uint8),
        landmarks=rng.uniform(0, SIZE, (count, 68, 2)).astype(np.float32),
        au=rng.random((count, len(PROFILE)), np.float32),
        identity=rng.random((count, N_IDENTITY), np.float32),
        pose_deg=rng.uniform(-20, 20, (count, 2)).astype(np.float32), lip_gap=rng.random(count, np.float32),
    )  # fmt: skip
    return path


def settings(folder: Path, **values: object) -> parser.ParserTraining:
    return parser.ParserTraining(
        renders=(str(folder),), batch=4, n_identity=N_IDENTITY, rotate=1,
        **values,  # type: ignore[arg-type]
    )  # fmt: skip


def test_shards_kept_for_testing_train_nothing(tmp_path):
    shard(tmp_path, "varied", 900_000)
    shard(tmp_path, "plain", 900_001)
    with pytest.raises(ConfigError, match="synthesize"):
        next(iter(parser.Crops(settings(tmp_path), 0)))
    with pytest.raises(ConfigError, match="synthesize"):
        generator.read((str(tmp_path),))
    shard(tmp_path, "plain", 7, count=3)
    assert len(generator.read((str(tmp_path),))["y"]) == 3
    assert len(generator.read((str(tmp_path),), testing=True)["y"]) == 4
    trained_on = shard(tmp_path, "varied", 899_999)
    crops = parser.Crops(settings(tmp_path), 0)
    next(iter(crops))
    assert crops.used == [trained_on]


def test_half_written_shards_are_left_alone(tmp_path):
    (tmp_path / "plain_1_00000.npz.part.npz").write_bytes(b"half")
    with pytest.raises(ConfigError):
        generator.read((str(tmp_path),))


def test_flipped_crops_keep_their_meaning(tmp_path):
    """Each crop of a batch is one of the shard or its mirror image, and so is all that is said of it."""
    path = shard(tmp_path, "varied", 3)
    with np.load(path) as pack:
        truth = {k: pack[k] for k in pack.files}
    n, seen = len(PROFILE), set()
    for _, batch in zip(range(6), iter(parser.Crops(settings(tmp_path), 0)), strict=False):
        for k in range(len(batch["image"])):
            image = batch["image"][k].numpy().transpose(1, 2, 0)
            flip = bool(batch["flipped"][k])
            straight = image[:, ::-1] if flip else image
            (i,) = np.flatnonzero((truth["image"] == straight).all((1, 2, 3)))
            label = batch["label"][k].numpy()
            code, points = batch["code"][k].numpy(), batch["points"][k].numpy()
            yaw = truth["pose_deg"][i, 1] / parser.POSE_UNIT_DEG
            if flip:
                np.testing.assert_array_equal(HELEN_MIRROR[label[:, ::-1]], truth["label"][i])
                np.testing.assert_allclose(code[:n][PROFILE.mirror()], truth["au"][i])
                back = points[LANDMARK_MIRROR] * [-1, 1] + [SIZE - 1, 0]
                np.testing.assert_allclose(back, truth["landmarks"][i], atol=1e-4)
            else:
                np.testing.assert_array_equal(label, truth["label"][i])
                np.testing.assert_allclose(code[:n], truth["au"][i])
                np.testing.assert_allclose(points, truth["landmarks"][i])
            assert code[n] == pytest.approx(truth["lip_gap"][i])
            assert code[n + 1] == pytest.approx(truth["pose_deg"][i, 0] / parser.POSE_UNIT_DEG, rel=1e-5)
            assert code[n + 2] == pytest.approx(-yaw if flip else yaw, rel=1e-5)
            seen.add(flip)
    assert seen == {True, False}


def test_parameters_are_pose_units_identity(tmp_path):
    with np.load(shard(tmp_path, "plain", 1)) as pack:
        data = {k: pack[k] for k in pack.files}
    data["pose_deg"] = np.tile(np.float32([28.6, -28.6]), (4, 1))
    y = shape.parameters(data)
    np.testing.assert_allclose(y[:, :2], np.tile([1, 0], (4, 1)), atol=1e-6)
    np.testing.assert_array_equal(y[:, 2 : 2 + len(PROFILE)], data["au"])
    np.testing.assert_array_equal(y[:, 2 + len(PROFILE) :], data["identity"])


def test_a_short_training_gives_weights_that_load(tmp_path):
    shard(tmp_path / "data", "plain", 1)
    config = generator.GeneratorTraining(
        renders=(str(tmp_path / "data"),), out=str(tmp_path / "out"), widths=(8, 8, 8), n_identity=N_IDENTITY,
        batch=2, sketch_steps=2,
        loop=loop.LoopConfig(steps=3, save_every=2, bf16=False),
    )  # fmt: skip
    generator.train(config)
    _, about = weights.load(tmp_path / "out" / "generator.safetensors")
    assert about["kind"] == "generator"
    assert about["parameters"] == 2 + len(PROFILE) + N_IDENTITY
    with pytest.raises(Exception, match="expected"):  # M alone is not a pair
        load(
            parser=tmp_path / "out" / "generator.safetensors",
            generator=tmp_path / "out" / "generator.safetensors",
        )


# People


def test_kept_out_people_are_named():
    assert photos.is_kept_out("london", "042")
    assert not photos.is_kept_out("london", "001")
    assert photos.is_kept_out("canada", "003f")
    assert photos.is_kept_out("congress", "anyone", 0)
    assert not photos.is_kept_out("congress", "anyone", 1)
    assert photos.is_kept_out("interfaces_cc0", "anyone")
    assert photos.is_kept_out("a set of tomorrow", "anyone")  # unknown sets train nothing
    rules = photos.kept_out()
    assert len(set(rules["london"])) == 24
    assert len(set(rules["canada"])) == 8


def test_a_folder_without_the_sets_is_refused(tmp_path):
    with pytest.raises(InputError, match="london"):
        list(people.people(tmp_path))


def test_a_crops_label_is_its_nearest_pixel():
    label = np.arange(16, dtype=np.uint8).reshape(4, 4)
    same = people.crop_label(label, np.array([[1, 0, 0], [0, 1, 0]], np.float32), 4)
    np.testing.assert_array_equal(same, label)
    moved = people.crop_label(label, np.array([[1, 0, 1], [0, 1, 0]], np.float32), 4)
    np.testing.assert_array_equal(moved[:, 1:], label[:, :-1])
    assert (moved[:, 0] == people.IGNORE).all()


@needs_faces
def test_people_kept_out_never_train(monkeypatch):
    def names(source: str, part: str) -> set[str]:
        # pictures are not needed to know who is read
        monkeypatch.setattr(people, "_read", lambda album, row: iter([album.person(row)]))
        return {n for n in people.people(FACES, part) if n.startswith(source)}

    rules = photos.kept_out()
    for source in ("london", "canada"):
        kept, used = names(source, "test"), names(source, "all")
        assert kept == {f"{source}/{n}" for n in rules[source]}
        assert not kept & used
        assert len(used) >= 30
    kept, used = names("congress", "test"), names("congress", "all")
    assert not kept & used
    assert len(kept) == -(-(len(kept) + len(used)) // rules["congress_every"])
    teach, choose = names("congress", "teach"), names("congress", "choose")
    assert teach | choose == used
    assert not teach & choose
    assert len(choose) == pytest.approx(len(used) / rules["congress_choosing"], abs=1)
    assert names("london", "teach") == names("london", "all")
    assert not names("london", "choose")
    with pytest.raises(ConfigError, match="teach"):
        next(people.people(FACES, "tests"))


@needs_faces
def test_every_fifth_portrait_trains_nothing():
    album = photos.album(FACES / "congress")
    names = sorted(p.stem for p in (FACES / "congress" / "images").glob("*.jpg"))
    assert names == sorted(album.ids)
    held = {name for name, kept in zip(album.ids, album.kept_out, strict=True) if kept}
    assert held == set(names[::5])


@needs_faces
def test_a_portrait_has_its_sides_and_its_points():
    person = next(people.people(FACES, "test"))
    assert person.neutral
    assert person.label.shape == person.image.shape[:2]
    columns = np.arange(person.label.shape[1])
    for left, right in ((2, 3), (4, 5)):
        x = [((person.label == n).sum(0) @ columns) / (person.label == n).sum() for n in (left, right)]
        assert x[0] > x[1]  # the subject's left is image right
    x, y = np.rint(person.points).astype(int).T
    assert person.label[y[0], x[0]] == 5
    assert person.label[y[1], x[1]] == 4


# Loop


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))


def batches(step: int):
    while True:
        rng = np.random.default_rng(step)
        step += 1
        yield torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32))


def losses(net: nn.Module, x: Tensor) -> loop.Losses:
    target = x @ torch.tensor([1.0, -2.0, 0.5])
    return {"fit": (x @ net.weight - target).square().mean()}


def config(steps: int, **values: object) -> loop.LoopConfig:
    plain = {"lr": 0.05, "warmup": 5, "weight_decay": 0.0, "ema": 0.9, "save_every": 10, "bf16": False}
    return loop.LoopConfig(steps=steps, **(plain | values))  # type: ignore[arg-type]


class Interrupt(Exception):
    pass


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path):
    whole = loop.run(Line(), batches, losses, config(60), tmp_path / "whole", echo=lambda text: None)

    def breaking(net: nn.Module, x: Tensor) -> loop.Losses:
        nonlocal count
        count += 1
        if count > 34:
            raise Interrupt
        return losses(net, x)

    count = 0
    with pytest.raises(Interrupt):
        loop.run(Line(), batches, breaking, config(60), tmp_path / "parts", echo=lambda text: None)
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 30
    resumed = loop.run(Line(), batches, losses, config(60), tmp_path / "parts", echo=lambda text: None)
    torch.testing.assert_close(resumed.weight, whole.weight, atol=1e-6, rtol=1e-5)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30, 40, 50, 60]
    assert not list((tmp_path / "parts").glob("*.part"))


def test_a_finished_training_is_not_repeated(tmp_path):
    first = loop.run(Line(), batches, losses, config(20), tmp_path, echo=lambda text: None)

    def never(net: nn.Module, x: Tensor) -> loop.Losses:
        raise AssertionError("a step too many")

    again = loop.run(Line(), batches, never, config(20), tmp_path, echo=lambda text: None)
    torch.testing.assert_close(again.weight, first.weight)


def test_the_loop_learns_and_writes_what_it_did(tmp_path):
    net = loop.run(Line(), batches, losses, config(400), tmp_path, settings=config(1), echo=lambda text: None)
    torch.testing.assert_close(net.weight.detach(), torch.tensor([1.0, -2.0, 0.5]), atol=0.05, rtol=0)
    told = json.loads((tmp_path / "settings.json").read_text())
    assert told["loop"]["steps"] == 400
    assert told["settings"]["steps"] == 1


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    def broken(net: nn.Module, x: Tensor) -> loop.Losses:
        return {"fit": losses(net, x)["fit"] * float("nan")}

    with pytest.raises(ConfigError, match="learning rate"):
        loop.run(Line(), batches, broken, config(10), tmp_path, echo=lambda text: None)


def test_batches_made_ahead_are_the_same_in_the_same_order():
    assert list(itertools.islice(loop.ahead(itertools.count()), 5)) == [0, 1, 2, 3, 4]

    def broken():
        yield 1
        raise ConfigError("no more")

    coming = loop.ahead(broken())
    assert next(coming) == 1
    with pytest.raises(ConfigError, match="no more"):
        next(coming)


def test_a_child_may_learn_faster_than_the_rest(tmp_path):
    """Adam's first step is the rate, whatever the gradient."""
    net = nn.ModuleDict({"slow": nn.Linear(1, 1, bias=False), "fast": nn.Linear(1, 1, bias=False)})
    before = {k: float(v.detach()) for k, v in net.named_parameters()}

    def of_both(net, batch):
        return {"sum": net["slow"].weight.sum() + net["fast"].weight.sum()}

    one = loop.LoopConfig(steps=1, lr=0.01, warmup=0, weight_decay=0, ema=0, bf16=False)
    loop.run(net, batches, of_both, one, tmp_path, echo=lambda text: None, faster={"fast": 5.0})
    moved = {k: before[k] - float(v.detach()) for k, v in net.named_parameters()}
    assert moved["slow.weight"] == pytest.approx(0.01, rel=1e-3)
    assert moved["fast.weight"] == pytest.approx(0.05, rel=1e-3)


def test_bfloat16_is_used_only_where_the_cpu_has_it(monkeypatch):
    for has in (True, False):
        monkeypatch.setattr(loop, "has_bf16", lambda has=has: has)
        with loop.mixed():
            assert torch.is_autocast_enabled("cpu") is has
        with loop.mixed(False):
            assert not torch.is_autocast_enabled("cpu")


def test_the_rate_rises_then_falls():
    settings_ = config(100, warmup=10, floor=0.02, lr=1.0)
    rates = [loop.rate(settings_, s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1)
    assert all(a < b for a, b in zip(rates[:10], rates[1:10], strict=False))
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert loop.rate(settings_, 100) == pytest.approx(0.02)
