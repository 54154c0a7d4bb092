"""The whole way from a file to table and pictures, through untrained networks of the real kind.

The numbers mean nothing; shapes, names, sides and files must be right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stand_ins
import torch
from stand_ins import picture, save
from torch import nn

import faceunits as fu
from faceunits import aus, estimation, fitting, weights
from faceunits.fitting import models as fitting_models
from faceunits.networks.generator import Generator, GeneratorConfig, Sketch
from faceunits.networks.parser import Parser, ParserConfig
from faceunits.networks.student import Student, StudentConfig

N_IDENTITY = 5
SIZE = 64
FACES = picture((20, 40, 40, 210), (180, 40, 80, 250))


@pytest.fixture(autouse=True)
def untrained(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Small untrained weights in the place of the shipped ones."""
    folder = tmp_path_factory.mktemp("weights")
    profile = aus.profile()
    about = {"profile": "default", "n_identity": N_IDENTITY}
    torch.manual_seed(0)
    parser_config = ParserConfig(
        blocks=(1, 1, 1, 1), planes=(4, 4, 4, 4), stem=8, pool=False, size=SIZE, landmarks=68,
        readings=len(profile) + 3 + N_IDENTITY,
    )  # fmt: skip
    parser = Parser(parser_config)
    weights.save(folder / "parser.safetensors", parser.state_dict(), asdict(parser_config) | about, {})
    config = GeneratorConfig(parameters=2 + len(profile) + N_IDENTITY, widths=(16, 16, 16, 16))
    pair = nn.ModuleDict({"generator": Generator(config), "sketch": Sketch(config.parameters)})
    weights.save(folder / "generator.safetensors", pair.state_dict(), asdict(config) | about, {})
    generator = pair["generator"]
    assert isinstance(generator, Generator)
    measured = fitting_models.measure(generator.eval(), parser.eval(), len(profile))
    weights.save(folder / "fitting.safetensors", measured, about, {})
    mirror = tuple(int(k) for k in profile.mirror())
    student_config = StudentConfig(
        size=SIZE, left=8, top=8, half=32, stem=4, channels=(4, 4, 4), blocks=(1, 1, 1), squeeze=4, hidden=8,
        au_mirror=mirror, n_identity=N_IDENTITY,
    )  # fmt: skip
    student = Student(student_config)
    student.mean[-2 * 68 :].uniform_(0.2, 0.8)  # landmarks that can be a face's
    weights.save(folder / "student.safetensors", student.state_dict(), asdict(student_config) | about, {})
    monkeypatch.setattr(weights, "_FOLDER", folder)
    monkeypatch.setattr(estimation, "detector", lambda: stand_ins.detect)
    estimation.models.cache_clear()
    yield folder
    estimation.models.cache_clear()


def test_a_file_becomes_rows_and_a_picture(tmp_path: Path) -> None:
    table = fu.estimate(save(tmp_path / "a.png", FACES), device="cpu", overlay=tmp_path / "out")
    assert table["success"].tolist() == [1, 1]
    values = table.iloc[:, 14:].to_numpy(float)
    assert ((values >= 0) & (values <= 5)).all()
    assert table["confidence"].between(0, 1).all()
    assert fu.read(tmp_path / "out" / "a_overlay.png").shape[0] > 1000  # two sheets


def test_a_batch_equals_its_members() -> None:
    together = fu.estimate([FACES, FACES], device="cpu", batch=4)
    singly = fu.estimate([FACES, FACES], device="cpu", batch=1)
    pd.testing.assert_frame_equal(together, singly, atol=0.05, check_exact=False)


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_recipes(recipe: str) -> None:
    result = fu.fit(FACES, recipe=recipe, device="cpu")
    assert result.au.shape == (2, len(aus.profile()))
    assert result.image.shape == (2, 3, SIZE, SIZE)
    assert np.isfinite(result.trace).all()


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(fu.FaceunitsError, match="paper"):
        fu.fit(FACES, recipe="magic", device="cpu")


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(fu.FaceunitsError, match=f"device auto, cpu or one .* got '{device}'"):
        fu.fit(FACES, device=device)


def test_render_and_transfer() -> None:
    neutral, smile = fu.render(device="cpu"), fu.render({"AU12": 5}, yaw_deg=10, device="cpu")
    assert neutral.shape == smile.shape == (SIZE, SIZE, 3)
    assert neutral.dtype == np.uint8
    assert (neutral != smile).any()
    assert (fu.render(identity_seed=3, device="cpu") != neutral).any()
    assert fu.transfer(FACES, fu.fit(FACES, device="cpu"), device="cpu").shape == (SIZE, SIZE, 3)


def test_weights_that_do_not_belong_together_are_refused(untrained: Path) -> None:
    parser, generator = untrained / "parser.safetensors", untrained / "generator.safetensors"
    with pytest.raises(fu.FaceunitsError, match="expected"):
        fitting.load(parser=generator, generator=parser, device="cpu")
