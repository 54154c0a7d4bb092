"""LPIPS: public names, and the distance against its formula in loops over layers."""

from __future__ import annotations

import pytest
import torch
from small import needs_layouts
from test_networks import layout, shapes
from torch.nn import functional as F

from faceunits.errors import ConfigError, ParameterError
from faceunits.networks.lpips import CHANNELS, Lpips, Trunk

KINDS = pytest.mark.parametrize("kind", ["alex", "vgg"])

# where convolutions stand in the public lists of layers: index, stride, padding, and whether a pool follows
ALEX = ((0, 4, 2, True), (3, 1, 2, True), (6, 1, 1, False), (8, 1, 1, False), (10, 1, 1, False))
VGG = ((0, 2), (2, 2, "tap"), (5,), (7, "tap"), (10,), (12,), (14, "tap"), (17,), (19,), (21, "tap"),
       (24,), (26,), (28, "tap"))  # fmt: skip


def network(kind):
    torch.manual_seed(0)
    net = Lpips(kind).double()
    for name, p in net.named_parameters():
        if name.startswith("heads"):
            p.data.abs_()  # as trained ones are
        elif name.endswith("bias"):
            p.data.normal_(0, 0.1)
    return net


def pictures(batch=2, size=32):
    g = torch.Generator().manual_seed(1)
    return [torch.rand(batch, 3, size, size + 8, dtype=torch.double, generator=g) * 2 - 1 for _ in range(2)]


def maps(kind, s, x):
    """The five maps from the state dict by hand; pools stand before 5, 10, 17 and 24 in VGG-16."""
    shift, scale = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
    x = torch.stack([(x[:, c] - shift[c]) / scale[c] for c in range(3)], 1)
    out = []
    if kind == "alex":
        for index, stride, pad, pool in ALEX:
            conv = F.conv2d(x, s[f"features.{index}.weight"], s[f"features.{index}.bias"], stride, pad)
            x = conv.clamp(min=0)
            out.append(x)
            x = F.max_pool2d(x, 3, 2) if pool else x
        return out
    for index, *marks in VGG:
        x = F.max_pool2d(x, 2) if index in (5, 10, 17, 24) else x
        conv = F.conv2d(x, s[f"features.{index}.weight"], s[f"features.{index}.bias"], padding=1)
        x = conv.clamp(min=0)
        if "tap" in marks:
            out.append(x)
    return out


@needs_layouts
@KINDS
def test_names_of_the_public_files(kind):
    with torch.device("meta"):
        net = Lpips(kind)
    theirs = layout({"alex": "alexnet", "vgg": "vgg16"}[kind])
    assert shapes(net.trunk) == {k: v for k, v in theirs.items() if not k.startswith("classifier.")}
    assert shapes(net.heads) == layout(f"lpips_lin_{kind}")


@KINDS
def test_the_distance_equals_its_formula(kind):
    net, (a, b) = network(kind), pictures()
    s, heads = net.trunk.state_dict(), net.heads.state_dict()
    wanted = torch.zeros(2, dtype=torch.double)
    for i, (x, y) in enumerate(zip(maps(kind, s, a), maps(kind, s, b), strict=True)):
        assert x.shape[1] == CHANNELS[kind][i]
        x = x / ((x**2).sum(1, keepdim=True).sqrt() + 1e-10)
        y = y / ((y**2).sum(1, keepdim=True).sqrt() + 1e-10)
        weight = heads[f"lin{i}.model.1.weight"][0, :, 0, 0]
        wanted += torch.einsum("bchw,c->bhw", (x - y) ** 2, weight).mean((1, 2))
    torch.testing.assert_close(net(a, b), wanted)
    assert (wanted > 1e-3).all()
    torch.testing.assert_close(torch.stack(net.by_layer(a, b)).sum(0), wanted)


@KINDS
def test_it_is_a_distance(kind):
    net, (a, b) = network(kind), pictures()
    assert torch.equal(net(a, a), torch.zeros(2, dtype=torch.double))
    torch.testing.assert_close(net(a, b), net(b, a))
    torch.testing.assert_close(net(a, b)[:1], net(a[:1], b[:1]))
    near = a + 0.1 * (b - a)
    assert (net(a, near) < net(a, b)).all()


def test_it_is_frozen_and_without_chance():
    net, (a, b) = Lpips("alex"), [p.float() for p in pictures()]
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    assert torch.equal(net(a, b), net(a, b))


def test_gradients_also_where_all_features_are_zero():
    net, (a, b) = network("alex"), pictures(1)
    t = torch.zeros(1, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: net(a + t * (b - a), b), (t,))
    for p in net.trunk.parameters():
        p.data.zero_()  # every feature 0: the norm has no slope there
    a.requires_grad_()
    net(a, b).sum().backward()
    assert torch.equal(a.grad, torch.zeros_like(a))


def test_wrong_pictures_are_refused():
    net = Lpips("alex")
    with pytest.raises(ParameterError, match="equal shape"):
        net(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 32, 32))
    with pytest.raises(ParameterError, match="32 px"):
        net(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConfigError, match="alex or vgg"):
        Trunk("squeeze")
