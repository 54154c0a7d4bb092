"""Views of a crop: points move with their pixels, and what makes a crop worse stays within bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceunits.training import views


@pytest.mark.parametrize("bend_px", [0.0, 1.5])
def test_points_move_with_their_pixels(bend_px):
    """A bright dot lies where its point says, before and after the crop is moved."""
    image = torch.zeros(8, 3, 64, 64)
    at = torch.tensor([[[20.0, 40.0]]]).repeat(8, 1, 1)
    image[:, :, 40, 20] = 1
    rng = torch.Generator().manual_seed(0)
    moved, where = views.moved(image, at, rng, shift_px=2.5, scale=0.04, turn_deg=2.5, bend_px=bend_px)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    for k in range(8):
        weight = moved[k, 0] / moved[k, 0].sum()
        found = torch.stack([(weight * x).sum(), (weight * y).sum()])
        torch.testing.assert_close(found, where[k, 0], atol=0.3, rtol=0)
    assert (where - at).abs().max() > 1


def test_bends_are_smooth_and_of_unit_spread():
    field = views.bends(400, 64, torch.Generator().manual_seed(0))
    assert field.square().mean().sqrt() == pytest.approx(1, abs=0.2)
    steps = torch.cat([field.diff(dim=2).flatten(), field.diff(dim=3).flatten()])
    assert steps.abs().max() < 0.5  # at 1.5 px of 192, two pixels next to each other stay so


def test_tones_change_levels_and_keep_their_order():
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    out = views.toned(np.random.default_rng(0), np.stack([ramp] * 4))
    assert out.shape == (4, 3, 64, 64)
    assert out.dtype == np.float32
    assert (np.diff(out, axis=3) >= 0).all()  # brighter stays brighter
    assert out.min() >= 0
    assert out.max() <= 1
    assert np.abs(out - ramp.transpose(2, 0, 1) / 255).max() > 0.05


def test_worse_crops_stay_in_range_and_most_are_untouched():
    image = torch.rand(64, 3, 32, 32)
    worse = views.worsened(image.clone(), torch.Generator().manual_seed(0))
    assert worse.min() >= 0
    assert worse.max() <= 1
    same = (worse == image).flatten(1).all(1).float().mean()
    assert 0.3 < same < 0.9


@pytest.mark.parametrize("harder", [views.shaded, views.coarser, views.covered])
def test_harder_crops_stay_in_range_and_most_are_untouched(harder):
    image = torch.rand(128, 3, 32, 32)
    seen = harder(image.clone(), torch.Generator().manual_seed(0))
    assert seen.min() >= 0
    assert seen.max() <= 1
    same = (seen == image).flatten(1).all(1)
    assert 0.5 < same.float().mean() < 0.97
    assert not torch.equal(seen[~same], image[~same])


def test_what_covers_a_face_hides_a_part_of_it_only():
    image = torch.linspace(0, 1, 64).view(-1, 1, 1, 1).expand(64, 3, 32, 32).clone()
    seen = views.covered(image.clone(), torch.Generator().manual_seed(1), share=1.0)
    hidden = (seen != image).any(1).float().mean((1, 2))
    assert (hidden > 0).all()
    assert hidden.max() < 0.8
