"""AUEditNet's editing network: what must hold exactly, whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faceunits.errors import ConfigError, ParameterError
from faceunits.networks.editor import (
    DISFA,
    Editor,
    EditorConfig,
    LevelLinear,
    ZeroedMlp,
    code_loss,
    edited_levels,
)

TINY = EditorConfig(
    names=DISFA[:5], levels=10, edited=6, latent=24, code=7, slot=4, hidden=16, label_hidden=8
)


def editor(seed: int = 0, config: EditorConfig = TINY) -> Editor:
    """With all weights of a size that makes a visible edit."""
    torch.manual_seed(seed)
    net = Editor(config).requires_grad_(False)
    net.residual_head[2].weight.normal_(0, 0.5)
    net.gate.uniform_(0.5, 1.5)
    return net


def latents(batch: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 10, 24, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 9))
def test_the_same_code_gives_the_same_latent_bit_for_bit(seed, batch):
    net, w = editor(seed), latents(batch, seed + 1)
    assert torch.equal(net(w, net.read(w)).target, w)
    nothing = torch.zeros(batch, 5, dtype=torch.bool)
    assert torch.equal(net(w, net.changed(w, torch.full((batch, 5), 0.7), nothing)).target, w)
    assert torch.equal(net(w, net.shifted(w, torch.zeros(batch, 5))).target, w)
    assert torch.equal(net(w, net.between(w, net.encode(torch.rand(batch, 5)), 0.0)).target, w)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 9))
def test_zero_labels_give_the_pseudo_neutral_latent(seed, batch):
    net, w = editor(seed), latents(batch, seed + 1)
    code = net.encode(torch.zeros(batch, 5))
    assert torch.equal(code, torch.zeros(batch, 6, 7))
    edit = net(w, code)
    assert torch.equal(edit.target, edit.neutral)
    assert torch.equal(net.neutral(w), edit.neutral)
    assert not torch.equal(edit.neutral, w)


def test_other_levels_are_untouched():
    net, w = editor(), latents()
    edit = net(w, net.encode(torch.rand(3, 5)))
    assert torch.equal(edit.target[:, 6:], w[:, 6:])
    assert torch.equal(edit.neutral[:, 6:], w[:, 6:])
    assert ((edit.target - w)[:, :6].abs().amax(2) > 1e-3).all()  # and all edited ones are


def test_a_level_depends_on_that_level_alone():
    net, w = editor(), latents()
    other = w.clone()
    other[:, 2] += 1
    moved = net(other, net.encode(torch.full((3, 5), 0.5))).target
    plain = net(w, net.encode(torch.full((3, 5), 0.5))).target
    assert torch.equal(moved[:, [0, 1, 3, 4, 5]], plain[:, [0, 1, 3, 4, 5]])
    assert not torch.equal(moved[:, 2], plain[:, 2])


def test_pictures_of_a_batch_do_not_mix():
    net, w, labels = editor(), latents(4), torch.rand(4, 5)
    together = net(w, net.encode(labels)).target
    for i in range(4):
        alone = net(w[i : i + 1], net.encode(labels[i : i + 1])).target
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=1e-5)


def test_the_edit_equals_the_spec_written_out():
    net, w, labels = editor().double(), latents().double(), torch.rand(3, 5).double()
    s = {k: v.numpy() for k, v in net.state_dict().items()}

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    def codec(x, name):
        for i in (0, 2, 4):
            x = x @ s[f"{name}.layers.{i}.weight"].T
            x = leaky(x + s[f"{name}.layers.{i}.bias"]) if i < 4 else x
        return x

    def level(x, name, j):
        out = x @ s[f"{name}.weight"][j]
        return out + s[f"{name}.bias"][j] if f"{name}.bias" in s else out

    def mlp(x, name, j):
        return level(leaky(level(x, f"{name}.0", j)), f"{name}.2", j)

    code = (codec(labels.numpy(), "encoder") - codec(np.zeros((1, 5)), "encoder")).reshape(3, 6, 7)
    edit = net(w, net.encode(labels))
    read = []
    for j in range(6):
        x = w[:, j].numpy()
        z, own = mlp(x, "embedding", j), mlp(x, "label", j)
        read.append(own)

        def part(code, z=z, j=j):
            return s["gate"][j] * mlp(z * level(code, "modulation", j), "residual_head", j)

        neutral = x - part(own)
        np.testing.assert_allclose(edit.source_code[:, j], own, atol=1e-12)
        np.testing.assert_allclose(edit.neutral[:, j], neutral, atol=1e-12)
        np.testing.assert_allclose(edit.target[:, j], neutral + part(code[:, j]), atol=1e-12)
    labels_read = codec(np.stack(read, 1).reshape(3, -1), "decoder") - codec(np.zeros((1, 42)), "decoder")
    np.testing.assert_allclose(net.decode(net.read(w)), labels_read, atol=1e-12)


def test_relative_codes_change_what_was_chosen():
    net, w = editor(), latents()
    now = net.decode(net.read(w))
    chosen = torch.tensor([False, True, False, False, True])
    wanted = torch.where(chosen, torch.full_like(now, 0.8), now)
    code = net.changed(w, torch.full_like(now, 0.8), chosen)
    torch.testing.assert_close(code, net.read(w) + net.encode(wanted) - net.encode(now))
    difference = torch.where(chosen, 0.8 - now, torch.zeros_like(now))
    torch.testing.assert_close(net.shifted(w, difference), code)
    assert not torch.allclose(net(w, code).target, w)


def test_the_way_between_ends_exactly_at_the_code():
    net, w = editor(), latents()
    code = net.read(latents(seed=9))  # of another face: the image condition
    assert torch.equal(net.between(w, code, 1.0), code)
    torch.testing.assert_close(net.between(w, code, 0.25), 0.75 * net.read(w) + 0.25 * code)


def test_training_starts_from_hardly_any_edit():
    torch.manual_seed(0)
    net = Editor(EditorConfig())
    assert net.config.edited == edited_levels(18) == 11
    assert edited_levels(10) == 6
    w = torch.randn(1, 18, 512)
    with torch.no_grad():
        moved = (net(w, net.encode(torch.rand(1, 12))).target - w).abs().max()
    assert 0 < moved < 0.05
    assert float(net.residual_head[2].weight.detach().std()) == pytest.approx(1e-3, rel=0.02)


def test_all_levels_and_one_can_be_edited():
    for edited in (1, 10):
        net = editor(config=EditorConfig(**{**TINY.__dict__, "edited": edited}))
        w = latents()
        moved = (net(w, net.encode(torch.rand(3, 5))).target - w).abs().amax((0, 2)) > 0
        assert moved.tolist() == [True] * edited + [False] * (10 - edited)


def test_gradients_reach_every_parameter_and_are_right():
    net = editor().double().requires_grad_(True)
    w, labels = latents(2).double(), torch.rand(2, 5).double()
    loss = net(w, net.encode(labels)).target.square().mean() + sum(code_loss(net, w, labels))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    w.requires_grad_()
    labels.requires_grad_()
    assert torch.autograd.gradcheck(lambda w, y: net(w, net.encode(y)).target[:, ::3, ::5], (w, labels))


def test_the_label_losses_vanish_for_a_perfect_reader():
    net, w = editor(), latents()
    labels = net.decode(net.read(w))
    first, second, third = code_loss(net, w, labels)
    assert float(first) == pytest.approx(0, abs=1e-12)
    assert second > 0
    again = net.decode(net.encode(labels))
    assert float(third) == pytest.approx(float((again - labels).square().mean()), rel=1e-4)


def test_a_few_steps_learn_to_read():
    torch.manual_seed(0)
    net = Editor(TINY)
    labels = torch.rand(64, 5)
    w = torch.randn(64, 10, 24)
    w[:, 0, :5] = 4 * labels
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        code_loss(net, w, labels)[0].backward()
        optimiser.step()
    # the variance of the labels is what their mean alone would leave
    assert code_loss(net, w, labels)[0].item() < labels.var().item() / 3


def test_zeroed_layers_and_layers_per_level():
    torch.manual_seed(0)
    assert torch.equal(ZeroedMlp(3, 8, 4)(torch.zeros(7, 3)), torch.zeros(7, 4))
    layer = LevelLinear(2, 3, 4)
    x = torch.randn(5, 2, 3)
    for j in range(2):
        torch.testing.assert_close(layer(x)[:, j], x[:, j] @ layer.weight[j] + layer.bias[j, 0])


def test_wrong_shapes_are_refused():
    net = editor()
    with pytest.raises(ParameterError, match="labels"):
        net.encode(torch.zeros(1, 12))
    with pytest.raises(ParameterError, match="latent"):
        net.read(torch.zeros(1, 18, 512))
    with pytest.raises(ConfigError, match="1 to 10 edited levels"):
        EditorConfig(**{**TINY.__dict__, "edited": 11})
