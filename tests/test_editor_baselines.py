"""The simpler editors: what all of them promise, and what tells each from the full model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceunits.errors import ConfigError, ParameterError
from faceunits.networks import editor_baselines as baselines
from faceunits.networks.editor import DISFA, Editor, EditorConfig, code_loss

K = 5
TINY = EditorConfig(
    names=DISFA[:K], levels=10, edited=6, latent=24, code=7, slot=4, hidden=16, label_hidden=8
)
TRAINED = tuple(n for n in baselines.NAMES if n not in baselines.LINEAR)


def editor(name: str, seed: int = 0) -> Editor:
    """With all weights of a size that makes a visible edit."""
    torch.manual_seed(seed)
    if name in baselines.LINEAR:
        labels = torch.rand(40, K)
        return baselines.fit_linear(name, TINY, latents(40, seed), labels, torch.arange(40) // 5)
    net = baselines.build(name, TINY).requires_grad_(False)
    net.residual_head[2].weight.normal_(0, 0.5)
    net.gate.uniform_(0.5, 1.5)
    return net


def latents(batch: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 10, 24, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", baselines.NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_promises_of_an_editor(name, seed):
    net, w = editor(name, seed), latents(4, seed + 9)
    labels = torch.rand(4, K)
    assert torch.equal(net(w, net.read(w)).target, w)
    nothing = torch.zeros(4, K, dtype=torch.bool)
    assert torch.equal(net(w, net.changed(w, labels, nothing)).target, w)
    edit = net(w, net.encode(torch.zeros(4, K)))
    assert torch.equal(edit.target, edit.neutral)
    assert torch.equal(net.neutral(w), edit.neutral)
    edit = net(w, net.encode(labels))
    assert torch.equal(edit.target[:, 6:], w[:, 6:])
    assert ((edit.target - w)[:, :6].abs().amax(2) > 1e-4).all()
    for i in range(4):
        alone = net(w[i : i + 1], net.encode(labels[i : i + 1])).target
        torch.testing.assert_close(edit.target[i : i + 1], alone, atol=1e-5, rtol=1e-4)
    other = net.read(latents(4, seed + 20))
    assert torch.equal(net.between(w, other, 1.0), other)


@pytest.mark.parametrize("name", baselines.NAMES)
def test_an_editor_is_built_again_from_its_own_configuration(name):
    net = editor(name)
    again = baselines.build(name, net.config)
    again.load_state_dict(net.state_dict())
    w, labels = latents(), torch.rand(3, K)
    assert torch.equal(again(w, again.encode(labels)).target, net(w, net.encode(labels)).target)
    assert net.config.names == TINY.names
    assert net.config.edited == 6


@pytest.mark.parametrize("name", TRAINED)
def test_one_trainer_trains_them_all(name):
    """The full model's losses reach every parameter, and a few steps learn an edit."""
    torch.manual_seed(0)
    net = baselines.build(name, TINY)
    labels, wanted = torch.rand(64, K), torch.rand(64, K)
    mixing = torch.randn(K, 24)
    rest = 0.1 * torch.randn(64, 10, 24)
    source, target = rest.clone(), rest.clone()
    source[:, 1] += labels @ mixing
    target[:, 1] += wanted @ mixing

    def loss() -> torch.Tensor:
        moved = net(source, net.encode(wanted)).target
        return (moved - target).square().mean() + sum(code_loss(net, source, labels))

    loss().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = (source - target).square().mean()
    for _ in range(80):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    after = (net(source, net.encode(wanted)).target - target).square().mean()
    assert after < before / 4


def test_a_single_branch_moves_by_the_difference_of_the_codes():
    net, w = editor("single"), latents()
    code = net.encode(torch.rand(3, K))
    by_hand = net.residual(net.embedding(w[:, :6]), code - net.label(w[:, :6]))
    torch.testing.assert_close(net(w, code).target[:, :6] - w[:, :6], by_hand, atol=1e-5, rtol=1e-4)
    full = Editor(TINY)
    full.load_state_dict(net.state_dict())  # the same modules, joined otherwise
    assert not torch.allclose(full(w, code).target, net(w, code).target, atol=1e-3)


def test_without_codec_every_level_gets_the_labels():
    net, labels = editor("no_codec"), torch.rand(3, K)
    code = net.encode(labels)
    assert code.shape == (3, 6, K)
    assert all(torch.equal(code[:, j], labels) for j in range(6))
    torch.testing.assert_close(net.decode(code), labels)
    w = latents()
    torch.testing.assert_close(net.decode(net.read(w)), net.read(w).mean(1))
    assert not any(k.startswith(("encoder", "decoder")) for k in net.state_dict())


def test_the_flat_module_mixes_levels_and_the_full_one_does_not():
    w = latents()
    other = w.clone()
    other[:, 2] += 1
    moved = {}
    for name in ("flat", "full"):
        net = editor(name)
        code = net.encode(torch.full((3, K), 0.5))
        difference = (net(other, code).target - other) - (net(w, code).target - w)
        moved[name] = difference.abs().amax((0, 2)) > 1e-5
    assert moved["flat"].tolist() == [True] * 6 + [False] * 4
    assert moved["full"].tolist() == [j == 2 for j in range(10)]
    assert torch.equal(editor("flat").encode(torch.ones(2, K)), torch.ones(2, 1, K))


# Linear ones


def planted(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents that hold their labels linearly, with little else, of eight people."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.rand(400, K, generator=source)
    mixing = torch.linalg.qr(torch.randn(6 * 24, K, generator=source))[0].T  # (K, E D)
    w = 0.01 * torch.randn(400, 10, 24, generator=source)
    w[:, :6] += (labels @ mixing).view(400, 6, 24)
    return w, labels, torch.arange(400) // 50, mixing


@pytest.mark.parametrize("name", baselines.LINEAR)
def test_planted_directions_are_found(name):
    w, labels, person, mixing = planted()
    net = baselines.fit_linear(name, TINY, w, labels, person)
    torch.testing.assert_close(net.decode(net.read(w)), labels, atol=0.05, rtol=0)
    torch.testing.assert_close(net.directions, mixing, atol=0.06, rtol=0)
    wanted = labels.flip(0)
    moved = net(w, net.encode(wanted)).target
    truth = w.clone()
    truth[:, :6] += ((wanted - labels) @ mixing).view(400, 6, 24)
    assert float((moved - truth).square().mean()) < 0.02 * float((w - truth).square().mean())


def test_a_ridge_step_changes_the_reading_of_its_unit_alone():
    net, w = editor("ridge"), latents()
    now = net.decode(net.read(w))
    wanted = now.clone()
    wanted[:, 2] += 0.4
    after = net.decode(net.read(net(w, net.encode(wanted)).target))
    torch.testing.assert_close(after, wanted, atol=1e-4, rtol=1e-4)


def test_both_forms_of_the_ridge_are_one():
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.normal(size=(30, 8))), torch.from_numpy(rng.normal(size=(30, 3)))
    penalty = 0.3 * x.square().sum(0).mean()
    wide = x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(30, dtype=x.dtype), y)
    torch.testing.assert_close(baselines._ridge(x, y, 0.3), wide)
    torch.testing.assert_close(
        baselines._ridge(x[:5], y[:5], 1e-9), torch.linalg.pinv(x[:5]) @ y[:5], atol=1e-6, rtol=1e-5
    )


def test_the_penalty_is_chosen_on_people_left_out():
    w, labels, person, _ = planted()
    x = w[:, :6].flatten(1).double()
    clean = baselines._best(x, labels.double(), person, 3)
    noise = baselines._best(x, torch.rand(400, K).double(), person, 3)
    assert clean <= 0.1
    assert noise == max(baselines.STRENGTHS)  # nothing to learn: the mean is best
    alone = baselines._best(x, labels.double(), torch.zeros(400), 3)
    assert alone == baselines.STRENGTHS[len(baselines.STRENGTHS) // 2]


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ConfigError, match="expected an editor full, ridge"):
        baselines.build("rigde")
    with pytest.raises(ConfigError, match="expected ridge or pattern"):
        baselines.fit_linear("full", TINY, latents(), torch.rand(3, K), torch.arange(3))
    with pytest.raises(ParameterError, match="as many labels and people"):
        baselines.fit_linear("ridge", TINY, latents(), torch.rand(2, K), torch.arange(3))
    for name in baselines.NAMES:
        with pytest.raises(ParameterError, match="labels"):
            editor(name).encode(torch.zeros(1, 12))
        with pytest.raises(ParameterError, match="latent"):
            editor(name).read(torch.zeros(1, 18, 512))
