"""The student R: exact symmetry, batches, folding, its place in a fit, and a short training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from test_engine import FIELDS, need_onnx, unsettled
from torch import nn

from faceunits import aus, engine, estimation, fitting, weights
from faceunits.errors import ConfigError, WeightsError
from faceunits.fitting import models, optimise
from faceunits.networks.parser import turned_back
from faceunits.networks.student import Student, StudentConfig, deeper, finer, lean
from faceunits.training import drawn, loop, student
from faceunits.types import LANDMARK_MIRROR

PROFILE = aus.profile()
MIRROR = torch.from_numpy(PROFILE.mirror())


def config(size: int = small.SIZE) -> StudentConfig:
    return StudentConfig(
        size=size, left=size // 8, top=size // 8, half=size // 2, stem=4, channels=(6, 8, 10),
        blocks=(1, 1, 1), squeeze=4, hidden=12, au_mirror=tuple(int(k) for k in MIRROR),
        n_identity=small.N_IDENTITY,
    )  # fmt: skip


def network(size: int = small.SIZE) -> Student:
    torch.manual_seed(3)
    net = Student(config(size))
    unsettled(net)
    net.mean.uniform_(0.3, 0.6)
    net.std.uniform_(0.1, 0.3)
    with torch.no_grad():  # so that readings differ visibly between faces
        for layer in (net.hidden[0], net.answer, net.doubt):
            layer.weight.mul_(6)
    return net.eval().requires_grad_(False)


def with_student() -> fitting.Models:
    own = small.models()
    return replace(own, networks=replace(own.networks, student=network()))


def test_a_mirrored_face_gives_mirrored_readings_exactly():
    net, image = network(), torch.from_numpy(small.crops(3))
    points, readings, doubt = net(image)
    turned = net(image.flip(-1))
    back = turned_back(turned[0], turned[1], MIRROR, torch.from_numpy(LANDMARK_MIRROR), small.SIZE)
    known = net.config.known
    torch.testing.assert_close(back[0], points)
    torch.testing.assert_close(back[1][:, :known], readings[:, :known])
    n = len(MIRROR)
    torch.testing.assert_close(turned[2][:, :n][:, MIRROR], doubt[:, :n])
    assert (readings[:, :n] - readings[:, :n][:, MIRROR]).abs().max() > 1e-3  # the sides do differ


def test_a_batch_is_read_as_its_members():
    net, image = network(), torch.from_numpy(small.crops(3))
    together = net(image)
    for k in range(3):
        for whole, alone in zip(together, net(image[k : k + 1]), strict=True):
            torch.testing.assert_close(whole[k : k + 1], alone)


def test_folded_norms_change_nothing_but_rounding():
    net, image = network(), torch.from_numpy(small.crops(2))
    thin = lean(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in thin.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())  # the original stays
    for wanted, found in zip(net(image), thin(image), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_nothing_outside_the_window_counts():
    net, image = network(), torch.from_numpy(small.crops(1))
    other = image.clone()
    other[..., : net.config.top, :] = 0
    other[..., : net.config.left] = 1
    other[..., -net.config.left :] = 1
    torch.testing.assert_close(net(other)[1], net(image)[1])


def test_the_reading_is_that_of_the_student_on_the_parameters_scale():
    own, image = with_student(), small.crops(2)
    read = fitting.read(image, own)
    points, readings, doubt = network()(torch.from_numpy(image))
    scaled = optimise.to_scale(own.networks, readings)
    n = len(PROFILE)
    np.testing.assert_allclose(read.au, scaled[:, :n].clamp(0, 1), atol=1e-5)
    np.testing.assert_allclose(read.landmarks, points, atol=1e-3)
    assert (read.confidence < 1).all()
    assert doubt.shape == (2, n + 3)


def test_a_fit_starts_from_the_students_reading():
    own, image = with_student(), small.crops(2)
    read, drawn = estimation.measurer("fast")(image, own), fitting.fit(image, own, "fast")
    np.testing.assert_allclose(drawn.au, read.au, atol=1e-5)
    np.testing.assert_allclose(drawn.landmarks, read.landmarks, atol=1e-3)
    assert not np.allclose(drawn.au, fitting.fit(image, small.models(), "fast").au, atol=1e-3)


def test_the_papers_recipe_does_without_a_student():
    image = small.crops(1)
    alone, beside = (fitting.fit(image, m, "paper").au for m in (small.models(), with_student()))
    np.testing.assert_array_equal(alone, beside)


def test_a_student_of_larger_crops_reads_beside_smaller_networks():
    """R looks at all of a crop, E and M at their own size; landmarks are in pixels of R's crop."""
    own, factor = small.models(), 2
    own = replace(own, networks=replace(own.networks, student=network(factor * small.SIZE)))
    assert own.crop_size == factor * small.SIZE
    image = np.kron(small.crops(2), np.ones((1, 1, factor, factor), np.float32))
    read, drawn = fitting.read(image, own), fitting.fit(image, own, "fast")
    np.testing.assert_allclose(read.landmarks, network(own.crop_size)(torch.from_numpy(image))[0], atol=1e-2)
    fast = estimation.measurer("fast")(image, own)
    np.testing.assert_allclose(drawn.landmarks, fast.landmarks, atol=1e-2)
    assert drawn.image.shape[-1] == small.SIZE
    alone, beside = (fitting.fit(image, m, "paper") for m in (small.models(), own))
    np.testing.assert_array_equal(beside.au, alone.au)  # E looks at the same
    np.testing.assert_allclose(beside.landmarks, (alone.landmarks + 0.5) * factor - 0.5, atol=1e-3)


def test_a_finer_student_says_the_same_of_the_same_face():
    coarse = network(64)
    old = coarse.config
    new = replace(old, size=96, left=12, top=12, half=48, kernel=9, stride=3)
    fine = Student(new).eval()
    fine.load_state_dict(finer(coarse.state_dict(), old, new))
    smooth = torch.nn.functional.interpolate(torch.rand(4, 3, 9, 9), size=(96, 96), mode="bicubic").clamp(
        0, 1
    )
    small_ones = torch.nn.functional.interpolate(smooth, size=(64, 64), mode="bilinear", antialias=True)
    for a, b in zip(coarse(small_ones)[1:], fine(smooth)[1:], strict=True):
        assert (a - b).abs().max() < 0.1 * (a - a.mean(0)).abs().max()
    points = (coarse(small_ones)[0] + 0.5) * 1.5 - 0.5
    torch.testing.assert_close(fine(smooth)[0], points, atol=0.2, rtol=0)
    with pytest.raises(WeightsError, match="strides"):
        finer(coarse.state_dict(), old, replace(new, stride=2))
    with pytest.raises(WeightsError, match="hidden=13"):
        finer(coarse.state_dict(), old, replace(new, hidden=13))


def test_a_deeper_student_says_the_same():
    old = network()
    new = replace(old.config, blocks=(1, 2, 3))
    deep = Student(new)
    deep.load_state_dict(deeper(old.state_dict(), old.config, new))
    image = torch.from_numpy(small.crops(2))
    for a, b in zip(old(image), deep.eval()(image), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(WeightsError, match="last two stages"):
        deeper(old.state_dict(), old.config, replace(new, blocks=(2, 1, 1)))


def test_onnxruntime_reads_as_torch_does(tmp_path, monkeypatch):
    need_onnx()
    monkeypatch.setenv("FACEUNITS_CACHE", str(tmp_path))
    own, image = with_student(), small.crops(3)
    assert engine.fingerprint(own) != engine.fingerprint(small.models())
    found, wanted = engine.choose(own, "onnx")(image), fitting.read(image, own)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-4, err_msg=name)


# Files


def test_weights_and_what_was_measured_on_them_come_back(tmp_path):
    net, path = network(), tmp_path / "student.safetensors"
    n = len(PROFILE)
    measured = {
        "knots": torch.rand(n + 1, 4).sort(1).values, "values": torch.rand(n + 1, 4).sort(1).values,
        "spread": torch.rand(n + 2),
    }  # fmt: skip
    student.export(net, measured, student.StudentTraining(n_identity=small.N_IDENTITY), path)
    again, told, about = models.load_student(path)
    assert about["kind"] == "student"
    assert about["reading_names"][:n] == list(PROFILE.names)
    for name, value in measured.items():
        torch.testing.assert_close(told[name], value)
    image = torch.from_numpy(small.crops(1))
    torch.testing.assert_close(again(image)[1], net(image)[1], atol=1e-2, rtol=1e-2)
    other = tmp_path / "other.safetensors"
    student.export(net, measured, student.StudentTraining(profile="paper23", n_identity=0), other)
    with pytest.raises(WeightsError, match="paper23"):
        fitting.load(student=other)


# Training


def shard(folder: Path, seed: int, *, count: int = 6, size: int = small.SIZE) -> Path:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    path = folder / f"varied_{seed}_00000.npz"
    np.savez(
        path, image=rng.integers(0, 255, (count, size, size, 3)).astype(np.uint8),
        landmarks=rng.uniform(0, size, (count, 68, 2)).astype(np.float32),
        au=rng.random((count, len(PROFILE)), np.float32),
        identity=rng.random((count, small.N_IDENTITY), np.float32),
        pose_deg=rng.uniform(-20, 20, (count, 2)).astype(np.float32), lip_gap=rng.random(count, np.float32),
    )  # fmt: skip
    return path


def test_shards_kept_for_testing_and_half_written_ones_train_nothing(tmp_path):
    shard(tmp_path, 900_000)
    (tmp_path / "varied_1_00000.npz.part.npz").write_bytes(b"half")
    faces = student.Faces((str(tmp_path),))
    with pytest.raises(ConfigError, match="synthesize"):
        faces.refresh()
    trained_on = shard(tmp_path, 899_999)
    faces.refresh()
    assert faces.known == {trained_on}


def test_renders_of_another_size_are_brought_to_the_trainings(tmp_path):
    path = shard(tmp_path, 1, size=32)
    faces = student.Faces((str(tmp_path),), 64)
    faces.refresh()
    image, _, points = faces.draw(np.random.default_rng(0), 4)
    assert image.shape == (4, 64, 64, 3)
    with np.load(path) as pack:
        np.testing.assert_allclose(faces.points[0], 2 * pack["landmarks"] + 0.5, atol=1e-4)
        means = faces.images[0].mean((1, 2)), pack["image"].mean((1, 2))
    np.testing.assert_allclose(*means, atol=3)
    assert points.shape == (4, 68, 2)


def test_portraits_are_taught_before_the_curves(tmp_path, monkeypatch):
    """R has curves of its own: taught what E says after its, it would stretch the same reading twice."""
    image = np.random.default_rng(0).integers(0, 255, (3, 96, 96, 3)).astype(np.uint8)
    np.savez(tmp_path / "people.npz", image=image, neutral=np.array([True, False, False]))
    own = small.models()
    monkeypatch.setattr(fitting, "load", lambda *_: own)
    told = student.portraits(str(tmp_path / "people.npz"))
    crops = torch.from_numpy(student.crops_of(image, small.SIZE))
    points, readings, _ = own.reader(crops)
    np.testing.assert_allclose(told.code, readings, atol=1e-5)
    np.testing.assert_allclose(told.points, (points + 0.5) * 96 / small.SIZE - 0.5, atol=1e-3)


def test_what_m_draws_shows_the_code_beside_it():
    own, n = small.models().networks, len(PROFILE)
    drawer = drawn.Drawer(own.generator, own.sketch, PROFILE, small.N_IDENTITY)
    image, code, points = drawer.draw(np.random.default_rng(0), 3, small.SIZE)
    told = torch.from_numpy(code)
    y = torch.cat([0.5 + told[:, n + 1 : n + 3] / 2, told[:, :n], told[:, n + 3 :] + 0.5], 1)
    with torch.no_grad():
        pictures, marks = own.generator(y), own.sketch(y)[0]
    assert len(np.unique(code, axis=0)) == 3
    assert np.abs(image - 255 * pictures.permute(0, 2, 3, 1).numpy().clip(0, 1)).max() < 1
    np.testing.assert_allclose(points, marks * small.SIZE - 0.5, atol=1e-3)


def test_m_of_other_parameters_cannot_draw():
    with pytest.raises(ConfigError, match="60 identity modes"):
        drawn.drawer("default", 12)


def test_a_short_training_gives_a_student_that_loads(tmp_path):
    shard(tmp_path / "data", 1, size=64)
    shard(tmp_path / "valid", 2, count=40, size=64)
    settings = student.StudentTraining(
        renders=(str(tmp_path / "data"),), valid=str(tmp_path / "valid"), out=str(tmp_path / "out"), size=64,
        n_identity=small.N_IDENTITY, channels=(8, 8, 8), batch=4, harder=True,
        loop=loop.LoopConfig(steps=3, save_every=2, bf16=False),
    )  # fmt: skip
    net = student.train(settings)
    again, told, _ = models.load_student(tmp_path / "out" / "student.safetensors")
    assert told["knots"].shape == told["values"].shape == (len(PROFILE) + 1, 17)
    assert told["spread"].shape == (len(PROFILE) + 2,)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(image)[1], net(image)[1], atol=2e-2, rtol=1e-2)


class Told(Student):
    """Says what it is told to say."""

    said: torch.Tensor

    def forward(self, image):
        return torch.full((len(image), 68, 2), 5.0), self.said, None


def test_what_nobody_knows_teaches_nothing_and_pairs_teach_their_difference():
    """Two renders, a moved pair and a portrait seen twice: errors only where something is known."""
    net, n = Told(config()), len(PROFILE)
    known = n + 3
    code = torch.rand(6, known + small.N_IDENTITY, generator=torch.Generator().manual_seed(0))
    said = code.clone()
    added = torch.zeros(4, n + 1)
    added[:2] = 0.1 * torch.arange(2.0)[:, None]
    code[2:4, :7] = float("nan")
    said[2:4, :7] = torch.rand(7) + 0.1 * torch.arange(2.0)[:, None]  # whatever it is, the second shows more
    said[3, 7 : n + 1] = said[2, 7 : n + 1] + 0.1
    code[3] = torch.where(code[3].isnan(), code[3], said[3])
    said[5] = said[4]
    net.said = said.requires_grad_()
    batch = {"image": torch.zeros(6, 3, 64, 64), "points": torch.full((6, 68, 2), 5.0), "code": code,
             "added": added, "rest": torch.tensor([False, False])}  # fmt: skip
    settings = student.StudentTraining(batch=2, moved_batch=1, photo_batch=1, taught_weight=0.0)
    terms = student.losses(net, batch, settings)
    assert set(terms) == {"au", "identity", "points", "moved", "twins", "taught"}
    assert sum(terms.values()).item() == pytest.approx(0, abs=1e-9)
    turned = torch.cat([added[:2].flip(0), added[2:]])
    wrong = student.losses(net, {**batch, "added": turned}, settings)
    assert wrong["moved"].item() == pytest.approx(settings.moved_weight * 0.2**2, rel=1e-4)
    assert wrong["twins"].item() == 0
    with torch.no_grad():
        net.said[3, :7] += 1
        net.said[2, 7:n] += 1
    terms = student.losses(net, batch, settings)
    assert terms["moved"].item() == pytest.approx(settings.moved_weight * n / (n + 1), rel=1e-4)
    assert terms["au"].item() == pytest.approx((n - 7) / (4 * known - 14), rel=1e-4)
    sum(terms.values()).backward()
    assert torch.isfinite(net.said.grad).all()
    assert net.said.grad[3, :7].all()


def test_averaged_weights_lie_between_and_their_norms_fit_the_data():
    a, b = network(), network()
    with torch.no_grad():
        for weight in b.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    start = {k: v.clone() for k, v in a.state_dict().items()}
    trained = {k: v.clone() for k, v in b.state_dict().items()}
    images = 0.2 + 0.1 * torch.rand(16, 3, small.SIZE, small.SIZE)
    mean = student.averaged(b, start, 0.25, iter([{"image": images}] * 3))
    assert not mean.training
    for name, weight in mean.named_parameters():
        torch.testing.assert_close(weight, 0.75 * start[name] + 0.25 * trained[name])
    norm = mean.eye[0][1]
    seen = mean.eye[0][0](torch.cat([images, images.flip(-1)])[..., small.SIZE // 8 :, _half(mean)] * 4 - 2)
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), atol=1e-3, rtol=1e-3)


def test_norms_come_from_renders_and_portraits_alike(tmp_path, monkeypatch):
    """Dark renders and bright portraits in equal parts: the first norm sees the middle of both."""
    shard(tmp_path / "data", 1, size=64)
    shard(tmp_path / "valid", 2, count=40, size=64)
    rest = np.arange(6) < 3
    people = student.Portraits(
        np.full((6, 64, 64, 3), 250, np.uint8), rest,
        np.zeros((6, len(PROFILE) + 3 + small.N_IDENTITY), np.float32), np.full((6, 68, 2), 32, np.float32),
    )  # fmt: skip
    monkeypatch.setattr(student, "portraits", lambda _: people)
    settings = student.StudentTraining(
        renders=(str(tmp_path / "data"),), valid=str(tmp_path / "valid"), out=str(tmp_path / "out"), size=64,
        photos="people", n_identity=small.N_IDENTITY, channels=(8, 8, 8), batch=8, photo_batch=2,
        loop=loop.LoopConfig(steps=2, save_every=2, bf16=False),
    )  # fmt: skip
    even, before = student.train(settings), student.train(replace(settings, norm_portraits=0))
    # the second went on where the first ended, which was the end
    torch.testing.assert_close(even.answer.weight, before.answer.weight)
    dark, bright = 0.5, 1.0  # of random and of white pixels, before tones are changed
    weight = even.eye[0][0].weight.sum((1, 2, 3))
    middle = weight * (4 * (dark + bright) / 2 - 2)
    wrong = (even.eye[0][1].running_mean - middle).abs().mean()
    alone = (even.eye[0][1].running_mean - weight * (4 * dark - 2)).abs().mean()
    assert wrong < 0.4 * alone


def test_what_is_kept_of_the_start_is_this_trainings_start(tmp_path, monkeypatch):
    """A deeper R begins at random in its new blocks, each time otherwise: the share must know which."""
    shard(tmp_path / "data", 1, size=64)
    shard(tmp_path / "valid", 2, count=40, size=64)
    settings = student.StudentTraining(
        renders=(str(tmp_path / "data"),), valid=str(tmp_path / "valid"), out=str(tmp_path / "out"), size=64,
        n_identity=small.N_IDENTITY, channels=(8, 8, 8), batch=4,
        loop=loop.LoopConfig(steps=2, save_every=2, bf16=False),
    )  # fmt: skip
    student.train(settings)
    began = []

    def recorded(*args):
        torch.rand(len(began) + 1)  # as whatever is read in between may draw
        net = build(*args)
        began.append({k: v.detach().clone() for k, v in net.named_parameters()})
        return net

    build = student.build
    monkeypatch.setattr(student, "build", recorded)
    deep = student.train(replace(
        settings, init=str(tmp_path / "out" / "student.safetensors"), out=str(tmp_path / "deep"),
        blocks=(1, 2, 3), share=0.0,
    ))  # fmt: skip
    assert dict(deep.named_parameters()).keys() == began[0].keys()
    for name, weight in deep.named_parameters():
        if not name.startswith("doubt."):  # fitted afterwards
            torch.testing.assert_close(weight, began[0][name], msg=name)


def test_what_is_kept_may_be_of_an_earlier_training(tmp_path):
    shard(tmp_path / "data", 1, size=64)
    shard(tmp_path / "valid", 2, count=40, size=64)
    first = student.StudentTraining(
        renders=(str(tmp_path / "data"),), valid=str(tmp_path / "valid"), out=str(tmp_path / "first"),
        size=64, n_identity=small.N_IDENTITY, channels=(8, 8, 8), batch=4,
        loop=loop.LoopConfig(steps=2, save_every=2, bf16=False),
    )  # fmt: skip
    student.train(first)
    earlier = str(tmp_path / "first" / "student.safetensors")
    second = replace(first, init=earlier, out=str(tmp_path / "second"))
    student.train(second)
    later = str(tmp_path / "second" / "student.safetensors")
    third = student.train(replace(first, init=later, before=earlier, share=0.0, out=str(tmp_path / "third")))
    kept, _ = weights.load(earlier)
    for name, weight in third.named_parameters():
        if not name.startswith("doubt."):  # fitted afterwards
            torch.testing.assert_close(weight, kept[name].float(), msg=name)


def _half(net: Student) -> slice:
    return slice(net.config.left, net.config.left + net.config.half)


def test_a_share_needs_weights_to_start_from(tmp_path):
    shard(tmp_path / "data", 1, size=64)
    settings = student.StudentTraining(renders=(str(tmp_path / "data"),), share=0.5)
    faces = student.Faces(settings.renders)
    faces.refresh()
    with pytest.raises(ConfigError, match="start from"):
        student.build(settings, faces)


@pytest.mark.parametrize("half", [{"moved": ("somewhere",)}, {"moved_batch": 4}])
def test_moved_portraits_need_folders_and_a_number(half):
    with pytest.raises(ConfigError, match="moved_batch"):
        student.train(student.StudentTraining(renders=("somewhere",), valid="there", **half))
