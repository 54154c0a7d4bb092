"""Encoders and the identity network: public names, and arithmetic against formulas in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import needs_layouts
from test_networks import layout, shapes
from test_stylegan2 import slow_conv
from torch import nn
from torch.autograd import gradcheck

from faceunits.errors import ConfigError, ParameterError
from faceunits.networks.encoders import E4e, EncoderConfig, Psp, _add, pooled
from faceunits.networks.irse50 import IRSE50, Unit, face_of

TINY = EncoderConfig(levels=8, size=32, latent=16, widths=(16,) * 5, units=(1, 2, 1, 1))


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """In evaluation mode, with running statistics and slopes that are not those of the start."""
    torch.manual_seed(seed)
    for name, t in [*net.named_parameters(), *net.named_buffers()]:
        if name.endswith("running_var"):
            t.data.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            t.data.normal_(0, 0.3)
        elif t.ndim == 1 and name.endswith("weight"):
            t.data.uniform_(0.1, 1)
    return net.double().eval().requires_grad_(False)


def encoder(kind: type[Psp] | type[E4e] = Psp) -> Psp | E4e:
    torch.manual_seed(0)
    return randomised(kind(TINY))


def picture(batch: int = 2) -> torch.Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, 32, 32, dtype=torch.double, generator=source) * 2 - 1


@needs_layouts
def test_names_of_the_public_files():
    with torch.device("meta"):
        assert shapes(IRSE50()) == layout("irse50")
        assert shapes(E4e()) == layout("e4e_encoder_1024")
        psp = Psp()
        assert shapes(psp) == layout("psp_encoder_1024")
        assert [int(len(h.convs) / 2) for h in psp.styles] == [4] * 3 + [5] * 4 + [6] * 11
        assert psp(torch.empty(2, 3, 256, 256)).shape == (2, 18, 512)
        assert IRSE50().eval()(torch.empty(2, 3, 112, 112)).shape == (2, 512)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(16, 32, 2), (16, 16, 2), (16, 16, 1)])
def test_a_unit_equals_its_formula(inputs, outputs, stride):
    torch.manual_seed(2)
    unit = randomised(Unit(inputs, outputs, stride))
    s = {k: v.numpy() for k, v in unit.state_dict().items()}

    def norm(x, name):
        scale = s[f"{name}.weight"] / np.sqrt(s[f"{name}.running_var"] + 1e-5)
        centred = x - s[f"{name}.running_mean"][:, None, None]
        return centred * scale[:, None, None] + s[f"{name}.bias"][:, None, None]

    x = torch.randn(inputs, 6, 6, dtype=torch.double).numpy()
    y = slow_conv(norm(x, "res_layer.0"), s["res_layer.1.weight"], 1)
    y = np.where(y > 0, y, y * s["res_layer.2.weight"][:, None, None])
    y = norm(slow_conv(y, s["res_layer.3.weight"], 1)[:, ::stride, ::stride], "res_layer.4")
    hidden = np.maximum(s["res_layer.5.fc1.weight"][:, :, 0, 0] @ y.mean((1, 2)), 0)
    y = y / (1 + np.exp(-s["res_layer.5.fc2.weight"][:, :, 0, 0] @ hidden))[:, None, None]
    short = x[:, ::stride, ::stride]
    if inputs != outputs:
        short = norm(slow_conv(short, s["shortcut_layer.0.weight"], 0), "shortcut_layer.1")
    np.testing.assert_allclose(unit(torch.from_numpy(x)[None])[0], y + short, atol=1e-10)


def test_enlarging_puts_corners_on_corners():
    small, large = torch.arange(3.0).expand(1, 1, 3, 3), torch.zeros(1, 1, 5, 5)
    torch.testing.assert_close(_add(small, large)[0, 0, 0], torch.tensor([0, 0.5, 1, 1.5, 2]))
    torch.testing.assert_close(_add(small, large + 1)[0, 0, 0, 0], torch.tensor(1.0))


def test_a_head_reads_its_own_map():
    net, image = encoder(), picture()
    coarse, middle, fine = net.maps(image)
    assert [m.shape[-1] for m in (coarse, middle, fine)] == [2, 4, 8]
    assert [int(len(h.convs) / 2) for h in net.styles] == [1] * 3 + [2] * 4 + [3]
    codes = net.codes(image)
    for level, source in ((2, coarse), (3, middle), (6, middle), (7, fine)):
        x = source
        for conv in list(net.styles[level].convs)[::2]:
            x = torch.stack([torch.from_numpy(slow_conv(m.numpy(), conv.weight.numpy(), 1)) for m in x])
            x = x[:, :, ::2, ::2] + conv.bias[:, None, None]
            x = torch.where(x > 0, x, 0.01 * x)
        linear = net.styles[level].linear
        wanted = x.flatten(1) @ (linear.weight / math.sqrt(16)).T + linear.bias
        torch.testing.assert_close(codes[level], wanted)


def test_taps_are_the_ends_of_the_last_three_stages():
    net, image = encoder(), picture(1)
    seen = {}
    for i, unit in enumerate(net.body):
        unit.register_forward_hook(lambda _m, _x, y, i=i: seen.update({i: y}))
    coarse, middle, fine = net.maps(image)
    torch.testing.assert_close(coarse, seen[4])
    torch.testing.assert_close(middle, _add(seen[4], net.latlayer1(seen[3])))
    torch.testing.assert_close(fine, _add(middle, net.latlayer2(seen[2])))


def test_psp_stacks_codes_and_e4e_adds_differences():
    psp, image = encoder(), picture()
    e4e = E4e(TINY).double().eval().requires_grad_(False)
    e4e.load_state_dict(psp.state_dict())
    codes = psp.codes(image)
    average = torch.randn(8, 16, dtype=torch.double)
    torch.testing.assert_close(psp(image), torch.stack(codes, 1))
    psp.average = e4e.average = average
    torch.testing.assert_close(psp(image), torch.stack(codes, 1) + average)
    wanted = torch.stack([codes[0]] + [codes[0] + c for c in codes[1:]], 1) + average
    torch.testing.assert_close(e4e(image), wanted)
    torch.testing.assert_close(e4e.progressive(image, 1), codes[0][:, None] + average)
    torch.testing.assert_close(e4e.progressive(image, 3)[:, 3:], codes[0][:, None] + average[3:])
    torch.testing.assert_close(e4e.progressive(image, 3)[:, :3], wanted[:, :3])


def test_pictures_of_a_batch_do_not_mix():
    net, image = encoder(E4e), picture(3)
    torch.testing.assert_close(net(image)[1:2], net(image[1:2]))


def test_gradients():
    net = encoder(E4e)
    image = picture(1).requires_grad_()
    at = torch.zeros_like(image)
    at[0, :, 10:12, 10:12] = 1
    point = torch.zeros(1, dtype=torch.double, requires_grad=True)
    assert gradcheck(lambda t: net(image.detach() + t * at), (point,))


def test_identities_have_length_one():
    torch.manual_seed(3)
    net = IRSE50().eval().requires_grad_(False)
    face = torch.rand(1, 3, 112, 112) * 2 - 1
    out = net(face)
    assert float(out.norm()) == pytest.approx(1, abs=1e-6)
    x = net.output_layer(net.body(net.input_layer(face)))[0]
    torch.testing.assert_close(out[0], x / x.square().sum().sqrt(), atol=1e-6, rtol=1e-4)


def test_the_identity_network_looks_at_the_middle():
    image = torch.zeros(1, 3, 256, 256)
    image[:, :, 35:223, 32:220] = 1  # rows 35 to 222, columns 32 to 219
    assert face_of(image).shape == (1, 3, 112, 112)
    assert torch.equal(face_of(image), torch.ones(1, 3, 112, 112))
    image[:, :, 35, 32] = 0
    assert face_of(image)[0, 0, 0, 0] < 1
    large = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(face_of(large), face_of(image))


def test_pictures_are_averaged_down():
    image = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    torch.testing.assert_close(pooled(image, 2)[0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    assert pooled(image, 8).shape == (1, 3, 8, 8)


def test_wrong_sizes_are_refused():
    with pytest.raises(ParameterError, match="aligned picture"):
        encoder()(torch.zeros(1, 3, 64, 64))
    with torch.device("meta"), pytest.raises(ParameterError, match="aligned face"):
        IRSE50()(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ConfigError, match="power of two"):
        EncoderConfig(size=100)
    with pytest.raises(ConfigError, match="5 widths"):
        EncoderConfig(widths=(16, 16))
