"""A face in four views: shifts that cancel, mirrored alike, each face by itself, and who is read so."""

from __future__ import annotations

import json

import moving
import numpy as np
import pandas as pd
import pytest
import small
import torch
from PIL import Image
from skimage import data
from test_student import with_student
from typer.testing import CliRunner

import faceunits as fu
from faceunits import aus, cli, estimation, fitting
from faceunits.errors import ConfigError
from faceunits.fitting import optimise, steady

FACE = data.astronaut()


def test_views_are_shifted_by_half_a_step_to_each_corner():
    across = torch.arange(192.0).expand(1, 3, 192, 192)
    for crops, axis in ((across, 0), (across.transpose(2, 3), 1)):
        views = steady.shifted(crops)
        assert views.shape == (4, 3, 192, 192)
        inside = (views - crops)[..., 4:-4, 4:-4].mean((1, 2, 3))
        wanted = [[-1.5, 1.5, -1.5, 1.5], [-1.5, -1.5, 1.5, 1.5]][axis]
        torch.testing.assert_close(inside, torch.tensor(wanted), atol=1e-3, rtol=0)


def test_the_views_of_one_face_stay_together():
    crops = torch.from_numpy(small.crops(3))
    whole = steady.shifted(crops)
    for k in range(3):
        torch.testing.assert_close(whole[4 * k : 4 * k + 4], steady.shifted(crops[k : k + 1]))
    values = torch.arange(24.0).reshape(12, 2)
    torch.testing.assert_close(steady.mean(values), values.view(3, 4, 2).mean(1))


def test_a_mirrored_face_gives_mirrored_readings():
    own, crops = with_student(), small.crops(3)
    read = steady.steadily(lambda some: fitting.read(some, own))
    straight, turned = read(crops), read(np.ascontiguousarray(crops[..., ::-1]))
    np.testing.assert_allclose(turned.au[:, aus.profile().mirror()], straight.au, atol=1e-4)
    np.testing.assert_allclose(turned.pose_deg, straight.pose_deg * [1, -1], atol=1e-3)


def test_the_mean_is_that_of_what_is_read_of_the_views():
    own, crops = with_student(), small.crops(2)
    found = estimation.measurer("fast")(crops, own)
    seen = fitting.read(steady.shifted(torch.from_numpy(crops)).numpy(), own)
    for name in ("au", "pose_deg", "identity", "lip_gap", "confidence", "landmarks"):
        of_each = getattr(seen, name).reshape(2, 4, *getattr(seen, name).shape[1:])
        np.testing.assert_allclose(getattr(found, name), of_each.mean(1), atol=1e-5)
    assert np.abs(found.au - fitting.read(crops, own).au).max() > 1e-4


def test_a_fit_begins_at_the_mean_unless_its_recipe_knows_one_view():
    own, crops = with_student(), small.crops(2)
    for recipe, views in ((optimise.FAST, None), (optimise.Recipe(
        iterations=0, readings=1.0, mirror=True, curves=True, start_at_reading=True), 1)):  # fmt: skip
        wanted = estimation.measurer("fast", views=views)(crops, own)
        found = fitting.fit(crops, own, recipe)
        np.testing.assert_allclose(found.au, wanted.au, atol=1e-5)


def test_an_e_that_reads_looks_once():
    own, crops = small.models(), small.crops(2)
    np.testing.assert_array_equal(estimation.measurer("fast")(crops, own).au, fitting.read(crops, own).au)


def test_photos_are_read_in_four_views_unless_one_is_asked_for():
    default, four, one = (fu.estimate(FACE, **how) for how in ({}, {"views": 4}, {"views": 1}))
    pd.testing.assert_frame_equal(default, four)
    units = [c for c in default if c.startswith("AU") and c.endswith("_r")]
    apart = (default[units] - one[units]).abs().max(axis=None)
    assert 0.01 < apart < 0.8


def test_frames_are_read_in_one_view_unless_four_are_asked_for(tmp_path):
    film = moving.write(tmp_path / "a.mkv", [FACE] * 2)
    default, one, four = (fu.estimate(film, **how) for how in ({}, {"views": 1}, {"views": 4}))
    pd.testing.assert_frame_equal(default, one)
    units = [c for c in default if c.startswith("AU") and c.endswith("_r")]
    assert len(default) == 2
    assert 0.01 < (default[units] - four[units]).abs().max(axis=None) < 0.8


def test_the_description_of_a_table_says_how_many_views(tmp_path):
    photo = tmp_path / "a.png"
    Image.fromarray(FACE).save(photo)
    for words, wanted in (([], {"photos": 4, "videos": 1}), (["--views", "1"], {"photos": 1, "videos": 1})):
        run = CliRunner().invoke(cli.app, ["estimate", str(photo), "-o", str(tmp_path / "t.csv"), *words])
        assert run.exit_code == 0, run.output
        assert json.loads((tmp_path / "t.json").read_text())["options"]["views"] == wanted


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"views": 2}, "1 view of a face, or 4"),
        ({"views": 0}, "1 view of a face, or 4"),
        ({"views": 4, "method": "fit"}, "only the method fast"),
    ],
)
def test_other_numbers_and_methods_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        fu.estimate(FACE, **setting)
    with pytest.raises(ConfigError, match=message):
        next(fu.stream("a.mp4", **setting))
