"""Training of the editor's picture space and of the editor: losses, pairs, files, resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
from small import FACE_MODEL, needs_model

from faceunits import aus, weights
from faceunits.errors import ConfigError
from faceunits.evaluation import editor_files, editor_sets
from faceunits.networks import editor_baselines
from faceunits.networks.editor import DISFA, EditorConfig
from faceunits.training import autoencoder, editor, frames, loop

SIZE = 32
PROFILE = aus.profile()
N_IDENTITY = 5
P = 2 + len(PROFILE) + N_IDENTITY


def config(folder: Path, **values: object) -> autoencoder.AutoencoderTraining:
    return autoencoder.AutoencoderTraining(
        frames=(str(folder),), out=str(folder / "out"), size=SIZE, latent=16, widths=(16,) * 4,
        judge_widths=(16,) * 4, encoder_size=SIZE, encoder_widths=(16,) * 5,
        encoder_units=(1, 1, 1, 1), look=6, look_widths=(4, 4), batch=4,
        **({"coarse": (), "encoder_from": 0} | values),  # type: ignore[arg-type]
    )  # fmt: skip


def batch(count: int = 4, *, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {
        "image": torch.from_numpy(rng.integers(0, 255, (count, 3, SIZE, SIZE)).astype(np.uint8)),
        "weight": torch.from_numpy(rng.uniform(0.1, 4, (count, 1, SIZE, SIZE)).astype(np.float32)),
        "told": torch.from_numpy(rng.random((count, P), np.float32)),
        "other": torch.from_numpy(rng.integers(0, 255, (count, 3, SIZE, SIZE)).astype(np.uint8)),
    }


def network(settings: autoencoder.AutoencoderTraining) -> autoencoder.Autoencoder:
    return autoencoder.Autoencoder(settings, np.random.default_rng(0).random((20, P), np.float32))


def face_frames(folder: Path, person: int, *, count: int = 12, seed: int = 7) -> Path:
    """Noise in the form of rendered frames; the brightness says how strong AU12 is."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(person)
    au = np.zeros((count, len(PROFILE)), np.float32)
    level = rng.integers(0, 6, count) / 5
    for name in ("AU12_L", "AU12_R"):
        au[:, PROFILE.names.index(name)] = level
    image = np.clip(40 + 25 * person + 100 * level[:, None, None, None], 0, 255)
    path = folder / f"frames_{seed}_{person:05d}.npz"
    np.savez(
        path, image=np.broadcast_to(image, (count, SIZE, SIZE, 3)).astype(np.uint8), au=au,
        lip_gap=np.zeros(count, np.float32), person=np.full(count, person),
        identity=np.full((count, N_IDENTITY), person / 10, np.float32), pose_deg=rng.normal(0, 3, (count, 2)),
    )  # fmt: skip
    return path


def disfa_like(folder: Path) -> Path:
    """Frames of which nothing but the labels is known."""
    folder.mkdir()
    units = np.zeros((3, len(DISFA)), np.float32)
    np.savez(folder / "frames_SN001_00000.npz", units=units, person=np.zeros(3, int),
             image=np.zeros((3, SIZE, SIZE, 3), np.uint8))  # fmt: skip
    return folder


# The picture space


def test_each_side_of_the_game_moves_its_own_weights_only(tmp_path):
    settings = config(tmp_path, judge_from=0)
    net = network(settings)
    terms = autoencoder.losses(net, batch(), settings, 1)
    assert set(terms) == {"pixels", "edges", "codes", "fooled", "judge"}

    def moved(name: str) -> set[str]:
        net.zero_grad()
        terms[name].backward(retain_graph=True)
        return {
            k.split(".")[0]
            for k, p in net.named_parameters()
            if p.grad is not None and bool((p.grad != 0).any())
        }

    assert moved("judge") == {"judge"}
    assert moved("fooled") == {"encoder", "generator", "tell"}
    assert moved("codes") == {"encoder"}  # it follows what was told, never the other way


def test_before_the_encoder_comes_in_pictures_are_told(tmp_path):
    settings = config(tmp_path, encoder_from=10)
    net = network(settings)
    terms = autoencoder.losses(net, batch(), settings, 9)
    assert set(terms) == {"pixels", "edges"}
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in net.encoder.parameters())
    assert "codes" in autoencoder.losses(net, batch(), settings, 10)


def test_the_penalty_on_real_pictures_comes_every_so_often(tmp_path):
    settings = config(tmp_path, judge_from=0, r1_every=4)
    net = network(settings)
    assert "r1" in autoencoder.losses(net, batch(), settings, 8)
    assert "r1" not in autoencoder.losses(net, batch(), settings, 9)
    before = autoencoder.losses(net, batch(), replace(settings, judge_from=10), 8)
    assert "judge" not in before


def test_perfect_pictures_cost_nothing(tmp_path):
    settings = config(tmp_path)
    net = network(settings)
    given = batch()
    image = given["image"].float() / 127.5 - 1
    net.draw = lambda w, side: image  # type: ignore[method-assign]
    terms = autoencoder.losses(net, given, settings, 1)
    assert float(terms["pixels"]) == float(terms["edges"]) == 0


def test_looks_keep_their_size(tmp_path):
    """Nothing is gained by larger numbers before z, and no other picture of a batch changes it."""
    tell = network(config(tmp_path)).tell.eval().requires_grad_(False)
    pictures = torch.rand(4, 3, SIZE, SIZE) * 2 - 1
    z = tell.seen(pictures)
    torch.testing.assert_close(z.square().mean(1), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(tell.seen(pictures[:1]), z[:1])
    last = tell.look[-2]
    last.weight.mul_(1000)
    last.bias.mul_(1000)
    torch.testing.assert_close(tell.seen(pictures), z, atol=1e-4, rtol=1e-3)


def test_units_are_told_and_looks_are_seen(tmp_path):
    """w+ follows told parameters in a straight line, and the look comes from the other frame alone."""
    net = network(config(tmp_path)).eval().requires_grad_(False)
    told, other = batch(2)["told"], torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    step = torch.zeros_like(told).index_fill_(1, torch.tensor([7]), 0.1)
    once, twice = (net.tell(told + k * step, other) - net.tell(told, other) for k in (1, 2))
    torch.testing.assert_close(twice, 2 * once, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(once[0], once[1], atol=1e-5, rtol=1e-4)  # whoever it is
    assert float((net.tell(told, other.flip(0)) - net.tell(told, other)).abs().max()) > 1e-3


def test_pictures_of_w_are_those_of_what_was_told_or_seen(tmp_path):
    settings = config(tmp_path, seen_share=0.5)
    net, given, drawn = network(settings), batch(5), []
    given = {k: v[:4] if k in ("told", "other") else v for k, v in given.items()}  # the fifth is a portrait
    draw = net.draw
    net.draw = lambda w, side: drawn.append(w) or draw(w, side)  # type: ignore[method-assign,func-returns-value]
    net.eval().requires_grad_(False)
    autoencoder.losses(net, given, settings, 1)
    image, other = (given[k].float() / 127.5 - 1 for k in ("image", "other"))
    torch.testing.assert_close(drawn[0][:2], net.tell(given["told"], other)[:2])
    torch.testing.assert_close(drawn[0][2:], net.see(image)[2:])


def test_coarse_pictures_come_first(tmp_path):
    settings = config(tmp_path, coarse=(2, 5), judge_from=0)
    assert [autoencoder.side_at(settings, step) for step in (0, 1, 2, 4, 5, 9)] == [8, 8, 16, 16, 32, 32]
    net = network(settings)
    image = torch.rand(2, 3, SIZE, SIZE)
    assert net.draw(net.see(image), 8).shape == (2, 3, 8, 8)
    assert "judge" not in autoencoder.losses(net, batch(), settings, 4)
    assert "judge" in autoencoder.losses(net, batch(), settings, 5)


def test_features_weigh_more_than_what_is_behind(tmp_path):
    face_frames(tmp_path, 0)
    data = frames.read([str(tmp_path)])
    parts = np.zeros_like(data.parts)
    parts[:, :8], parts[:, 8:16] = 1, 4
    settings = config(tmp_path, detail=3.0, behind=0.1)
    step, given = next(autoencoder.batches(replace(data, parts=parts), settings, 7))
    assert step == 7
    np.testing.assert_allclose(given["weight"][:, 0, [0, 8, 16], 0], [[1, 4, 0.1]] * 4, rtol=1e-6)
    unknown = next(autoencoder.batches(data, settings, 0))[1]["weight"]
    assert (unknown == 1).all()


def test_a_short_training_gives_a_space_that_loads(tmp_path):
    face_frames(tmp_path, 0)
    steps = loop.LoopConfig(steps=2, save_every=1, bf16=False)
    net = autoencoder.train(config(tmp_path, loop=steps, judge_from=1))  # in evaluation form
    path = tmp_path / "out" / "autoencoder.safetensors"
    about = weights.load(path)[1]
    assert (about["kind"], about["alignment"], about["size"]) == ("gan", "face", SIZE)
    space = editor_files.load_space(path)
    image = torch.rand(2, 3, SIZE, SIZE)
    w = net.see(2 * image - 1)
    torch.testing.assert_close(space.encode(image), w, atol=2e-2, rtol=2e-2)  # the file has halves
    assert space.decode(w).shape == image.shape
    teller = autoencoder.load_teller(path.with_name(autoencoder.TOLD))
    told = batch(2)["told"]
    torch.testing.assert_close(teller(told, image), net.tell(told, image), atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match="parameters are known"):
        autoencoder.train(config(disfa_like(tmp_path / "disfa"), loop=steps))


# Frames


def test_people_of_two_files_are_two_people_and_test_seeds_stay_out(tmp_path):
    for person in (0, 1):
        face_frames(tmp_path, person)
    face_frames(tmp_path, 5, seed=900_001)
    data = frames.read([str(tmp_path)])
    assert sorted(set(data.person)) == [0, 1]
    assert data.labels.shape == (24, len(DISFA))
    assert data.labels.min() >= 0
    assert data.labels.max() <= 1
    assert set(frames.read([str(tmp_path)], tested=True).person) == {0, 1, 2}
    with pytest.raises(ConfigError, match="faceunits frames"):
        frames.read([str(tmp_path / "none")])


def test_disfa_becomes_frames(tmp_path, monkeypatch):
    layouts.disfa(tmp_path / "disfa", subjects=("SN001", "SN002"), frames=6)
    pictures = [
        type("F", (), {"number": i, "picture": np.full((48, 64, 3), 9 * i, np.uint8)}) for i in range(1, 7)
    ]
    monkeypatch.setattr(frames.video, "frames", lambda path, every: iter(pictures[::every]))
    points = np.array([[20, 20], [40, 20], [30, 28], [23, 36], [37, 36]], np.float32)
    face = type("Box", (), {"box": np.array([10, 10, 40, 35]), "points": points})
    monkeypatch.setattr(frames, "Detector", lambda: lambda picture: [] if picture[0, 0, 0] == 27 else [face])
    told = []
    paths = frames.from_disfa(
        tmp_path / "disfa", tmp_path / "out", subjects=["SN002"], every=2, size=SIZE,
        progress=lambda *a: told.append(a),
    )  # fmt: skip
    assert [p.name for p in paths] == ["frames_SN002_00000.npz"]
    assert "2 frames, 1 without a face" in told[0][2]
    data = frames.read([str(tmp_path / "out")])
    wanted = [
        [layouts.intensity("SN002", i, int(n[2:])) / 5 for n in DISFA]
        for i in (1, 5)
    ]  # fmt: skip
    np.testing.assert_allclose(data.labels, wanted, atol=1e-6)
    two = frames.read([str(tmp_path / "out")], (DISFA[5], DISFA[0]))
    np.testing.assert_array_equal(two.labels, data.labels[:, [5, 0]])
    with pytest.raises(ConfigError, match="SN999"):
        frames.from_disfa(tmp_path / "disfa", tmp_path / "out", subjects=["SN999"])


@needs_model
def test_rendered_frames_show_one_person(tmp_path):
    from faceunits.rig import frames as drawn

    asked = drawn.FramesConfig(rig=str(FACE_MODEL), people=2, frames=3, size=SIZE, seed=3)
    paths = drawn.write(asked, tmp_path)
    assert drawn.write(asked, tmp_path) == paths
    with np.load(paths[0]) as one, np.load(paths[1]) as other:
        assert np.ptp(one["identity"], axis=0).max() == 0
        assert (one["identity"][0] != other["identity"][0]).any()
        assert np.isin(np.round(5 * one["au"][:, PROFILE.names.index("AU12_L")], 4), range(6)).all()
        assert (one["person"] == 0).all()
        again = drawn.person(asked, 0)
        np.testing.assert_array_equal(one["image"], again["image"])


# The editor


def space(latent: int = 4, levels: int = 3) -> editor_files.Space:
    """Latents are brightness, the same at every place."""

    def encode(image: torch.Tensor) -> torch.Tensor:
        return image.mean((1, 2, 3))[:, None, None].expand(-1, levels, latent).clone()

    def decode(w: torch.Tensor) -> torch.Tensor:
        return w.mean((1, 2))[:, None, None, None].expand(-1, 3, 8, 8)

    return editor_files.Space(encode, decode, levels, latent)


def test_pairs_are_of_one_person_and_rare_levels_count(tmp_path):
    for person in range(3):
        face_frames(tmp_path, person, count=30)
    data = frames.read([str(tmp_path)])
    rare = np.zeros_like(data.labels)
    rare[::30, 0] = 1  # one frame in thirty shows AU1
    data = replace(data, labels=rare)
    source, target = (x.numpy() for x in next(editor.pairs(data, 600, 0, 0)))
    assert (data.person[source] == data.person[target]).all()
    assert (source != target).all()
    share = float(data.labels[target, 0].mean())
    assert share == pytest.approx(1 / 24, abs=0.03)  # half of the twelfth that AU1 is chosen in
    again = next(editor.pairs(data, 600, 0, 0))
    np.testing.assert_array_equal(again[0], source)


def test_an_editor_learns_what_brightness_says(tmp_path, monkeypatch):
    for person in range(4):
        face_frames(tmp_path / "frames", person, count=20)
    monkeypatch.setattr(editor_files, "load_space", lambda path: space())
    net = torch.nn.Linear(2, 2)
    weights.save(tmp_path / "space.safetensors", {"generator.x": net.weight}, {"alignment": "face"}, {})
    asked = editor.EditorTraining(
        frames=(str(tmp_path / "frames"),), space=str(tmp_path / "space.safetensors"),
        out=str(tmp_path / "out"), batch=16, drawn=loop.LoopConfig(steps=0),
        loop=loop.LoopConfig(steps=130, lr=6e-3, warmup=10, save_every=100, ema=0.9, bf16=False),
    )  # fmt: skip
    editor.train(asked)
    found, net = editor_files.load_editor(tmp_path / "out" / "editor.safetensors")
    assert found == "full"
    state, about = weights.load(tmp_path / "out" / "gan.safetensors")
    assert (about["kind"], about["alignment"], about["editor"]["kind"]) == ("gan", "face", "full")
    assert "generator.x" in state
    assert sum(k.startswith("editor.") for k in state) == len(net.state_dict())
    data = frames.read(asked.frames)
    w = editor.encode(space(), data.image)
    one = torch.from_numpy(data.person == 1)
    own, labels = w[one], torch.from_numpy(data.labels)[one]
    dark, bright = int(labels[:, 6].argmin()), int(labels[:, 6].argmax())
    moved = net(own[dark : dark + 1], net.encode(labels[bright : bright + 1])).target
    start, goal = float(own[dark].mean()), float(own[bright].mean())
    assert float(moved.mean()) - start == pytest.approx(goal - start, rel=0.35)


def test_told_latents_differ_within_a_person_by_what_was_told_alone(tmp_path):
    for person in range(2):
        face_frames(tmp_path, person, count=6)
    data = frames.read([str(tmp_path)])
    teller = autoencoder.Teller(autoencoder.TellerConfig(P, 8, 16, 6, (4, 4))).eval()
    w = editor.tell(teller, data, batch=4)
    assert w.shape == (12, 8, 16)
    change = torch.from_numpy(data.told[[1, 7]] - data.told[[0, 6]]) @ teller.place.weight[:, :P].T
    torch.testing.assert_close((w[[1, 7]] - w[[0, 6]]).flatten(1), change, atol=1e-5, rtol=1e-4)


def test_the_pose_is_a_part_of_a_told_latent_and_targets_have_the_source_s(tmp_path):
    face_frames(tmp_path, 0)
    data = frames.read([str(tmp_path)])
    teller = autoencoder.Teller(autoencoder.TellerConfig(P, 8, 16, 6, (4, 4))).eval()
    w, pose = editor.tell(teller, data), editor.of_pose(teller, data.told)
    facing = data.told.copy()
    facing[:, :2] = 0.5
    still = editor.tell(teller, replace(data, told=facing))
    torch.testing.assert_close(w - pose, still, atol=1e-5, rtol=1e-4)
    known = editor.Known(w, pose, torch.from_numpy(data.labels), editor.within(w, data.person))
    a, b = torch.tensor([0, 1]), torch.tensor([2, 0])
    torch.testing.assert_close(known.move(a, b), still[b] - still[a], atol=1e-5, rtol=1e-4)


class Brightness(torch.nn.Module):
    """Stands in for E: five units, the lip gap, two of pose and two of identity, all the mean brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"size": 8})

    def forward(self, image: torch.Tensor, *, through: bool = False) -> object:
        return type("Seen", (), {"readings": image.mean((1, 2, 3))[:, None].expand(-1, 10)})


def drawn(data: frames.Frames, shift: float = 0.0) -> tuple[editor.Known, editor.Pictures]:
    """What is known of frames, and pictures in which E shall read more by `shift`."""
    w = editor.encode(space(), data.image)
    known = editor.Known(w, torch.zeros_like(w), torch.from_numpy(data.labels), editor.within(w, data.person))
    seen = editor.units_of(Brightness(), data.image, 6) + shift
    of = torch.zeros(len(DISFA), 6, dtype=torch.bool)
    of[DISFA.index("AU12")] = True
    return known, editor.Pictures(space(), Brightness(), w, seen, of)


def test_labels_are_made_of_both_sides_and_au25_of_the_lip_gap():
    of = editor.made_of(("AU12", "AU4_L", "AU25"), PROFILE.names)
    shown = [[n for n, yes in zip([*PROFILE.names, "gap"], row, strict=True) if yes] for row in of.tolist()]
    assert shown == [["AU12_L", "AU12_R"], ["AU04_L"], ["gap"]]


def test_what_e_reads_in_pictures_counts(tmp_path):
    for person in range(2):
        face_frames(tmp_path, person)
    data = frames.read([str(tmp_path)])
    settings = editor.EditorTraining(pictures=4)
    net = editor_baselines.build("full", EditorConfig(levels=3, edited=3, latent=4))
    known, pictures = drawn(data)
    rows = next(editor.pairs(data, 16, 0, 0))
    first = editor.losses(net, rows, known, settings)
    torch.manual_seed(0)
    terms = editor.drawn_losses(net, rows, known, pictures, settings)
    assert set(terms) == {*first, "pixels", "units", "person"}
    # hardly an edit yet: E reads the source, not the target, and pose and identity are the source's
    moved = known.w[rows[1][:4], 0, 0] - known.w[rows[0][:4], 0, 0]
    assert float(terms["units"].detach()) == pytest.approx(250 * float(moved.square().mean()), rel=0.05)
    assert float(terms["person"].detach()) < 0.01 * float(terms["units"].detach())
    terms["units"].backward()
    assert all(p.grad is not None for p in net.residual_head.parameters())


def test_the_editor_asks_for_what_the_generator_leaves_out(tmp_path, monkeypatch):
    for person in range(3):
        face_frames(tmp_path / "frames", person, count=20)
    monkeypatch.setattr(editor_files, "load_space", lambda path: space())
    monkeypatch.setattr(editor, "load_parser", lambda: (Brightness(), {"profile": "default"}))
    data = frames.read([str(tmp_path / "frames")])
    known, pictures = drawn(data, 0.2)
    monkeypatch.setattr(editor, "units_of", lambda net, image, count: pictures.units)
    monkeypatch.setattr(editor, "made_of", lambda names, parameters: pictures.made_of)
    weights.save(tmp_path / "space.safetensors", {"generator.x": torch.zeros(1)}, {"alignment": "face"}, {})
    asked = editor.EditorTraining(
        frames=(str(tmp_path / "frames"),), space=str(tmp_path / "space.safetensors"),
        out=str(tmp_path / "out"), batch=16, person_weight=0.0, pixel_weight=0.0,
        loop=loop.LoopConfig(steps=60, lr=6e-3, warmup=10, ema=0.9, bf16=False),
        drawn=loop.LoopConfig(steps=60, lr=3e-3, warmup=5, ema=0.9, save_every=60, bf16=False),
    )  # fmt: skip
    brighter = editor.train(asked)
    plainer = editor.train(replace(asked, out=str(tmp_path / "plain"), drawn=loop.LoopConfig(steps=0)))
    again = editor.train(replace(asked, share=0.0)).state_dict()  # resumes, and leaves out what it learnt
    assert all(torch.equal(v, again[k]) for k, v in plainer.state_dict().items())
    rows = next(editor.pairs(data, 64, 1, 0))
    with torch.no_grad():
        more, less = (
            float((n(known.w[rows[0]], n.encode(known.labels[rows[1]])).target - known.w[rows[1]]).mean())
            for n in (brighter, plainer)
        )
    assert abs(less) < 0.05
    assert 0.05 < more < 0.25
    assert (tmp_path / "out" / "drawn" / "checkpoint.pt").exists()


def test_labels_are_those_of_tables(tmp_path):
    face_frames(tmp_path, 0)
    with np.load(tmp_path / "frames_7_00000.npz") as pack:
        table = editor_sets.columns_of(DISFA, PROFILE.names, pack["au"], pack["lip_gap"])
    np.testing.assert_allclose(frames.read([str(tmp_path)]).labels, table / 5, atol=1e-6)
