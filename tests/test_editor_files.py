"""Files of editors, and the command that judges them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from PIL import Image
from small import SIZE, models
from toy_editors import NAMES, people, write
from typer.testing import CliRunner

from faceunits import cli_editors, fitting, weights
from faceunits.errors import FaceunitsError, WeightsError
from faceunits.evaluation import editor_files, edits
from faceunits.networks import editor_baselines
from faceunits.networks.editor import Editor, EditorConfig
from faceunits.networks.encoders import EncoderConfig, Psp
from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator


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


SMALL = EditorConfig(names=NAMES, levels=8, edited=5, latent=16, code=4, slot=2, hidden=8, label_hidden=8)


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
    with pytest.raises(WeightsError, match="got ffhq alignment"):
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
    with pytest.raises(WeightsError, match="sizes of the editor in the header"):
        editor_files.load_editor(gan)
    weights.save(tmp_path / "e.safetensors", {}, {"editor": {"kind": "magic"}}, {})
    with pytest.raises(WeightsError, match="got magic"):
        editor_files.load_editor(tmp_path / "e.safetensors")
    with pytest.raises(WeightsError, match="sizes of the encoder in the header"):
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
        (("a.jpg", "--arcface", "x"), "with --renders only"),
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
    """Their sheets are told apart where two photos have one name."""
    photos = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"]
    for photo in photos:
        photo.parent.mkdir()
        Image.new("RGB", (8, 8)).save(photo)
    asked = []

    def evaluate(paths, **options):
        asked.append((paths, options["series"], options["networks"]))
        sheet = np.zeros((4, 4, 3), np.uint8)
        table = pd.DataFrame({"series": ["AU12"]})
        return table, table, [edits.Outcome(p.name, sheet=sheet + i) for i, p in enumerate(paths)]

    monkeypatch.setattr(edits, "evaluate", evaluate)
    out = tmp_path / "out"
    code, error, _ = command(*photos, "--series", "AU12", "-o", out)
    assert code == 0, error
    assert asked == [(photos, ("AU12",), None)]
    assert [np.asarray(Image.open(out / name)).max() for name in ("x_sheet.png", "x-2_sheet.png")] == [0, 1]
    code, error, _ = command(photos[0], "--series", "AU99")
    assert "expected a series" in str(error)
