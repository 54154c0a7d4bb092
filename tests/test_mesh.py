"""The mesh: against the rig it learned from, the sketch that learned the same, and the template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small import FACE_MODEL, needs_model, rig

from faceunits import aus, weights
from faceunits.alignment import warp
from faceunits.errors import ConfigError
from faceunits.fitting.models import load_generator
from faceunits.motion import face
from faceunits.networks.mesh import Mesh
from faceunits.training import mesh as training
from faceunits.types import LANDMARK_MIRROR

N = len(aus.profile())


@pytest.fixture(scope="module")
def net() -> Mesh:
    return face.load()


def parameters(**units: float) -> torch.Tensor:
    y = torch.full((1, 2 + N + 60), 0.5)
    y[0, 2 : 2 + N] = torch.from_numpy(aus.profile().expand(units))
    return y


def landmarks(net: Mesh, y: torch.Tensor) -> torch.Tensor:
    return net(y)[0][:, net.landmarks.long()] * 128 - 0.5


def test_the_base_face_lies_on_the_template(net: Mesh) -> None:
    p = landmarks(net, parameters())[0].numpy()
    five = np.stack([(p[36] + p[39]) / 2, (p[42] + p[45]) / 2, p[30], p[48], p[54]])
    assert np.abs(five - warp.template(128)).max() < 0.1


def test_left_is_right_mirrored(net: Mesh) -> None:
    a = landmarks(net, parameters(AU12_L=4, AU45_R=3))[0]
    b = landmarks(net, parameters(AU12_R=4, AU45_L=3))[0][LANDMARK_MIRROR]
    assert torch.allclose(a[:, 0] + b[:, 0], torch.full((68,), 127.0), atol=0.6)
    assert torch.allclose(a[:, 1], b[:, 1], atol=0.6)


def test_it_agrees_with_the_sketch(net: Mesh) -> None:
    """Another network that learned the same landmarks from other faces."""
    _, sketch, _ = load_generator()
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.uniform(0.3, 0.7, (20, 2 + N + 60)).astype(np.float32))
    y[:, 2 : 2 + N] = 0
    y[:, 2 + aus.profile().index("AU12_L")] = torch.linspace(0, 1, 20)
    apart = (landmarks(net, y) - (sketch(y)[0] * 128 - 0.5)).norm(dim=-1)
    assert float(apart.mean()) < 0.3


def test_a_batch_equals_its_members(net: Mesh) -> None:
    y = torch.cat([parameters(AU12=3), parameters(AU26=5), parameters(AU04=2)])
    y[1, :2] = torch.tensor([0.3, 0.8])
    together, alone = net(y)[0], torch.cat([net(row[None])[0] for row in y])
    assert torch.allclose(together, alone, atol=1e-5)


def test_lids_close_whatever_the_width_of_the_eyes(net: Mesh) -> None:
    for seed in range(4):
        y = parameters(AU45=5)
        y[0, 2 + N :] += 0.15 * torch.randn(60, generator=torch.Generator().manual_seed(seed))
        rest = y.clone()
        rest[:, 2 : 2 + N] = 0
        opened, shut = net.aperture(net.solid(rest)), net.aperture(net.solid(y))
        assert float((shut / opened).max()) < 0.3


def test_values_beyond_the_range_go_further(net: Mesh) -> None:
    i = 2 + aus.profile().index("AU12_L")
    y = torch.cat([parameters(AU12=5)] * 2)
    y[1, i : i + 2] = 1.4
    corner = net.solid(y)[:, int(net.landmarks[54])]
    rest = net.solid(parameters())[0, int(net.landmarks[54])]
    assert float((corner[1] - rest).norm()) > 1.3 * float((corner[0] - rest).norm())


def test_borders_and_kinds_fit(net: Mesh) -> None:
    kind = net.get_buffer("kind")
    for name in ("jaw", "lid_L", "lid_R", "lip"):
        loop = net.get_buffer(name).long()
        assert len(set(loop.tolist())) == len(loop)
        assert int(kind[loop].max()) == 0
    assert float(net.get_buffer("rest")[net.get_buffer("lid_L").long(), 0].min()) > 0  # the subject's left
    assert float(net.get_buffer("fade").min()) == 0
    assert int(net.get_buffer("triangles").max()) < net.config.points


def test_the_card_tells_the_error() -> None:
    assert 0 < weights.card("mesh")["mean_error_px_of_128"] < 0.15


def test_settings_must_name_places() -> None:
    with pytest.raises(ConfigError, match="rig and out"):
        training.train(training.MeshTraining())


@needs_model
def test_it_learns_the_rig() -> None:
    config = training.MeshTraining(n_identity=12, faces=90, test_faces=6)
    layout = training.choose(rig())
    learned = training.learn(rig(), layout, config)
    assert training.measure(learned, rig(), layout, config)["mean"] < 0.05


@needs_model
def test_training_writes_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.shape, "load", lambda *_, **__: rig())
    config = training.MeshTraining(
        rig=str(FACE_MODEL), out=str(tmp_path), n_identity=12, faces=3, test_faces=2
    )
    training.train(config)
    loaded = face.load(tmp_path / "mesh.safetensors")
    assert loaded.config.n_identity == 12
