"""Smiles by the way of the mouth's corners: known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceunits import estimation
from faceunits.evaluation import height
from faceunits.fitting import optimise
from faceunits.types import LANDMARK_MIRROR


@pytest.fixture(scope="module")
def models():
    return estimation.models("cpu")


def drawn(models, rng, values):
    """Points `(n, 68, 2)` of random people whose AU12 has these values, and of the same people at rest."""
    networks = models.networks
    y = optimise.base_face(networks.generator, networks.n_au, len(values))
    y[:, 2 + networks.n_au :] += torch.from_numpy(rng.normal(0, 0.15, (len(y), y.shape[1] - 41)).astype("f4"))
    rest = networks.sketch(y)[0]
    y[:, [2 + i for i, n in enumerate(models.names) if n.startswith("AU12")]] = torch.tensor(values)[:, None]
    return rest.detach().numpy() * 192, networks.sketch(y)[0].detach().numpy() * 192


def test_the_way_of_drawn_smiles_is_their_au12(models):
    values = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    rest, smile = drawn(models, np.random.default_rng(0), values)
    found = height.heights(rest, smile, height.full_way(models))
    np.testing.assert_allclose(found, 5 * np.array(values), atol=0.4)


def test_size_place_and_turn_of_the_photos_do_not_count(models):
    rest, smile = drawn(models, np.random.default_rng(1), [0.5, 1.0])
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    np.testing.assert_allclose(
        height.ways(rest, 3 * smile @ turn.T + 40), height.ways(rest, smile), atol=1e-6
    )


def test_a_mirrored_smile_is_as_high(models):
    rest, smile = drawn(models, np.random.default_rng(2), [0.7])
    mirrored = [(p * np.array([-1, 1]))[:, LANDMARK_MIRROR] for p in (rest, smile)]
    np.testing.assert_allclose(height.ways(*mirrored), height.ways(rest, smile), atol=1e-6)


def test_thirds_of_people_are_told_apart():
    way, read = np.arange(9.0), np.arange(9.0) / 2
    found = height.table(way, read)
    assert found["by the corners' way"].tolist() == [1, 4, 7]
    assert found["as read"].tolist() == [0.5, 2, 3.5]
