"""A face beside the same person at rest: exact symmetry, what is refused, and a short training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import small
import torch
from skimage import data
from test_student import MIRROR, network, with_student
from typer.testing import CliRunner

import faceunits as fu
from faceunits import cli, estimation, fitting, resting, streaming, weights
from faceunits.errors import ConfigError, InputError
from faceunits.fitting import beside
from faceunits.networks import comparison
from faceunits.rig import synth
from faceunits.training import animated
from faceunits.training import comparison as training
from faceunits.types import Reading

SMILE = data.astronaut()


def trained(seed: int = 0) -> comparison.Comparison:
    """A C that says something of its own."""
    torch.manual_seed(seed)
    net = comparison.of(network(), hidden=16, dropout=0.5)
    for last in (net.bent[-1], net.straight):
        torch.nn.init.normal_(last.weight, std=0.3)
    return net.eval().requires_grad_(False)


def test_what_is_not_trained_gives_the_students_own_reading():
    student, image = network(), torch.from_numpy(small.crops(3))
    net = comparison.of(student, hidden=16, dropout=0.5).eval()
    said = student.said(student.heard(image))
    torch.testing.assert_close(net(said, said.flip(0)), student(image)[1][:, : len(MIRROR) + 1])


def test_mirrored_faces_give_mirrored_readings_exactly():
    student, net = network(), trained()
    image, calm = torch.from_numpy(small.crops(4)).chunk(2)
    straight = net(*(student.said(student.heard(x)) for x in (image, calm)))
    turned = net(*(student.said(student.heard(x.flip(-1))) for x in (image, calm)))
    torch.testing.assert_close(turned[:, net.mirror], straight)
    assert (straight[:, 0] - straight[:, 1]).abs().max() > 1e-3  # the sides do differ


def saved(tmp_path, net: comparison.Comparison) -> fitting.Models:
    """Models with a student and this C, whose curves leave everything as it is."""
    line = torch.linspace(-9, 9, 5).repeat(len(MIRROR) + 1, 1)
    about = {**net.config.__dict__, "kind": "comparison"}
    weights.save(tmp_path / "c.safetensors", net.state_dict() | {"knots": line, "values": line}, about, {})
    return replace(with_student(), comparison=tmp_path / "c.safetensors")


def test_people_have_their_own_rest_and_one_may_have_several_pictures(tmp_path):
    models, crops = saved(tmp_path, trained()), small.crops(4)
    faces, calm = crops[:2], crops[2:]
    both = beside.read(faces, models, beside.neutral(calm, models))
    for k in range(2):
        alone = beside.read(faces[k : k + 1], models, beside.neutral(calm[k : k + 1], models))
        np.testing.assert_allclose(both.au[k], alone.au[0], atol=1e-5)
    one = beside.neutral(calm, models).mean()
    assert one.said.shape[1] == 1
    shared = beside.read(faces, models, one)
    assert np.abs(shared.au - both.au).max() > 1e-4
    plain = fitting.read(faces, models)
    for same in ("pose_deg", "identity", "landmarks", "confidence"):
        np.testing.assert_allclose(getattr(both, same), getattr(plain, same), atol=1e-5)


def test_networks_without_a_student_or_its_comparison_are_refused():
    with pytest.raises(ConfigError, match="with an R"):
        beside.neutral(small.crops(1), small.models())
    with pytest.raises(ConfigError, match="the C that was trained"):
        beside.neutral(small.crops(1), with_student())


def test_the_shipped_comparison_belongs_to_the_shipped_student():
    _, about = weights.load("comparison")
    assert about["student"] == weights.describe("student")["sha256"][:16]


def test_a_face_beside_itself_shows_nothing():
    alone, own = fu.estimate(SMILE), fu.estimate(SMILE, neutral=SMILE)
    assert list(alone) == list(own)
    assert alone.loc[0, "AU12_r"] > 2
    units = [c for c in own if c.startswith("AU") and c.endswith("_r")]
    assert own.loc[0, "AU12_r"] < 1
    assert own.loc[0, units].mean() < alone.loc[0, units].mean() / 2
    same = ["face_x", "pose_yaw_deg", "confidence"]
    pd.testing.assert_frame_equal(alone[same], own[same])


def test_several_photos_and_what_was_looked_at_before_count_as_one_neutral():
    networks, finder = estimation.models(), estimation.detector()
    calm = estimation.at_rest([SMILE, SMILE], finder, networks)
    once, twice = fu.estimate(SMILE, neutral=SMILE), fu.estimate(SMILE, neutral=calm)
    pd.testing.assert_frame_equal(once, twice, atol=1e-4)


@pytest.mark.parametrize("setting", [{"method": "fit"}, {"method": "refine"}, {"engine": "onnx"}])
def test_other_ways_to_measure_know_no_neutral(setting):
    with pytest.raises(ConfigError, match="with a neutral face"):
        fu.estimate(SMILE, neutral=SMILE, **setting)


def test_a_neutral_without_a_face_or_in_a_film_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a face at rest in array"):
        fu.estimate(SMILE, neutral=np.zeros((64, 64, 3), np.uint8))
    film = tmp_path / "a.mp4"
    film.write_bytes(b"no film, and nobody looks")
    with pytest.raises(InputError, match="is a video"):
        fu.estimate(SMILE, neutral=film)


def test_the_command_names_the_neutral_beside_the_table(tmp_path):
    from PIL import Image

    photo = tmp_path / "a.png"
    Image.fromarray(SMILE).save(photo)
    run = CliRunner().invoke(cli.app, ["estimate", str(photo), "-o", str(tmp_path / "t.csv"),
                                       "--neutral", str(photo)])  # fmt: skip
    assert run.exit_code == 0, run.output
    assert pd.read_csv(tmp_path / "t.csv").loc[0, "AU12_r"] < 1
    told = json.loads((tmp_path / "t.json").read_text())["options"]["neutral"]
    assert told == [{"file": "a.png", "sha256": weights.sha256(photo)}]
    both = CliRunner().invoke(cli.app, ["estimate", str(photo), "-o", str(tmp_path / "u.csv"), "--neutral",
                                        str(photo), "--baseline", "auto"])  # fmt: skip
    assert isinstance(both.exception, ConfigError)


@small.needs_model
def test_a_person_is_drawn_at_rest_too_and_the_first_face_stays_what_it_was():
    config = synth.SynthConfig(
        rig=str(small.FACE_MODEL), size=64, shard=2, camera=False, seed=5, n_identity=12
    )
    without, pack = synth.make(config, 0), synth.make(replace(config, neutral=True), 0)
    assert "neutral" not in without
    assert pack["neutral"].shape == pack["image"].shape
    assert pack["neutral"].dtype == np.uint8
    np.testing.assert_array_equal(pack["image"][0], without["image"][0])
    far = np.abs(pack["image"].astype(float) - pack["neutral"][::-1]).mean()
    assert np.abs(pack["image"].astype(float) - pack["neutral"]).mean() < far  # the same person


def test_people_who_act_have_no_neutral():
    with pytest.raises(ConfigError, match="expected neutral faces of people at rest"):
        animated.make(animated.Animation(acting=True, neutral=True), 0)


def test_a_short_training_learns_what_rest_hides(tmp_path):
    """What R says is a unit plus how the person looks at rest: alone it cannot be told."""
    student = network()
    n, count = len(MIRROR) + 1, 600
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(count, n, generator=generator)
    said = torch.zeros(2, count, student.answer.out_features)
    calm = said.clone()
    rest = torch.randn(count, n, generator=generator)
    swap = [*MIRROR.tolist(), n - 1]
    for side, (units, own) in enumerate(((truth, rest), (truth[:, swap], rest[:, swap]))):
        said[side, :, :n] = (units - student.mean[:n]) / student.std[:n] + own
        calm[side, :, :n] = own
    pairs = training.Pairs(said, calm, truth)
    settings = training.ComparisonTraining(
        epochs=40, batch=32, hidden=16, dropout=0.0, lr=1e-2, weight_decay=0.0, same=0.0
    )
    net = training.descend(comparison.of(student, hidden=16, dropout=0.0), pairs, pairs, settings)
    with torch.inference_mode():
        wrong = (net(*pairs.rows(slice(None))[:2]) - truth).square().mean()
        alone = (rest * student.std[:n]).square().mean()
    assert wrong < alone / 10


def test_the_training_wants_pairs(tmp_path):
    np.savez(tmp_path / "varied_1_00000.npz", image=np.zeros((1, 8, 8, 3), np.uint8))
    settings = training.ComparisonTraining(pairs=(str(tmp_path),), out=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="neutral=true"):
        training.train(settings)


def test_what_rest_is_worth_is_reported(tmp_path):
    """Known answers: a reading that is true but for how people look at rest."""
    from faceunits.evaluation import resting as compared

    rng = np.random.default_rng(0)
    truth = rng.random((40, 3)).astype(np.float32)
    parts = [truth, truth[::-1].copy(), np.zeros_like(truth), truth]
    people = [np.arange(4 * k, 4 * k + 4) for k in range(10)]
    figures, table = compared.compared([parts], ("AU01_L", "AU01_R", "AU02_L"), people, rounds=20)
    value = {(f.step, f.name): f.value for f in figures}
    assert value["read beside rest", "mean ICC(3,1) of the parameters"] == pytest.approx(1)
    assert value["read beside rest", "mean absolute error, 0-5"] == 0
    assert value["less the reading at rest", "mean absolute error, 0-5"] == pytest.approx(5 * truth.mean())
    gain = next(f for f in figures if f.name == "ICC above read alone")
    assert gain.low <= gain.value == pytest.approx(1 - value["read alone", "mean ICC(3,1) of the parameters"])
    assert list(table) == list(compared.WAYS)


def test_the_quietest_faces_look_ahead_and_do_least():
    au = np.array([[0.9, 0.0], [0.1, 0.0], [0.0, 0.0], [0.2, 0.1], [0.0, 0.1]], np.float32)
    pose = np.array([[0, 0], [0, 0], [0, 30], [5, -5], [-20, 0]], np.float32)
    assert resting.quietest(au, pose, 2).tolist() == [1, 3]
    assert resting.quietest(au, pose, 4).tolist() == [1, 3, 0, 2]  # turned ones only when there are no others
    assert len(resting.quietest(au, pose, 9)) == 5


def test_the_quietest_of_a_long_video_are_found_with_few_at_hand(tmp_path, monkeypatch):
    """Known answer: the darker a frame, the less is at work; the quietest tenth of all is wanted."""
    rng = np.random.default_rng(0)
    levels = rng.permutation(np.linspace(0.1, 0.9, 90)).astype(np.float32)
    film, asked = tmp_path / "a.mp4", []

    def faces(*_):
        yield from (np.full((3, 4, 4), level) for level in levels[:80])

    def read(crops, networks):
        level = crops.mean((1, 2, 3))[:, None]
        return Reading((), level, np.zeros((len(crops), 2), np.float32), level, level, level, level)

    monkeypatch.setattr(resting, "_faces", faces)
    monkeypatch.setattr(fitting, "read", read)
    monkeypatch.setattr(beside, "neutral", lambda crops, networks: asked.append(crops) or beside.Neutral(
        torch.zeros(2, 1, 1)))  # fmt: skip
    resting.quiet_frames(film, streaming.Window(), lambda picture: [], None)
    np.testing.assert_allclose(np.sort(asked[0].mean((1, 2, 3))), np.sort(levels[:80])[:8], rtol=1e-5)


def test_photos_have_no_quiet_frames():
    with pytest.raises(InputError, match="expected a video with neutral auto"):
        fu.estimate(SMILE, neutral="auto")


def clip(path, pictures):
    """A film of these pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        stream.bit_rate = 4_000_000
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_video_is_read_beside_its_own_quiet_frames_and_alone_where_there_are_none(tmp_path):
    rest = fu.edit(SMILE, {"AU12": 0, "AU6": 0, "AU25": 0}).picture
    film = clip(tmp_path / "a.mp4", [rest] * 8 + [SMILE] * 4)
    alone, own = fu.estimate(film), fu.estimate(film, neutral="auto")
    assert list(alone) == list(own)
    assert len(alone) == len(own) == 12
    smile = own["frame"] > 8
    assert own.loc[smile, "AU12_r"].mean() > own.loc[~smile, "AU12_r"].mean() + 1
    assert own.loc[~smile, "AU12_r"].mean() < max(0.5, alone.loc[~smile, "AU12_r"].mean())
    short = clip(tmp_path / "b.mp4", [SMILE] * 3)
    pd.testing.assert_frame_equal(fu.estimate(short), fu.estimate(short, neutral="auto"))
    empty = clip(tmp_path / "c.mp4", [np.zeros_like(SMILE)] * 6)
    table = fu.estimate(empty, neutral="auto")
    assert (table["success"] == 0).all()
    assert len(table) == 6
