"""StyleGAN2: names and shapes of the public files, and arithmetic against slow references in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import needs_layouts
from test_networks import layout, shapes
from torch.autograd import gradcheck, gradgradcheck

from faceunits.errors import ConfigError, ParameterError
from faceunits.networks.layers import Activation, ActiveLinear, EqualLinear, fir_kernel, upfirdn2d
from faceunits.networks.stylegan2 import (
    ModulatedConv,
    StyleConfig,
    StyleDiscriminator,
    StyleGenerator,
    batch_deviation,
)

TINY = StyleConfig(size=16, latent=6, mapping_layers=2, widths=(5, 4, 3))


def generator(config: StyleConfig = TINY, seed: int = 0) -> StyleGenerator:
    """In double precision, with noise and biases that are not zero."""
    torch.manual_seed(seed)
    net = StyleGenerator(config).double().requires_grad_(False)
    for name, p in net.named_parameters():
        if name.endswith(("noise.weight", "bias")):
            p.add_(0.3 * torch.randn_like(p))
    return net


# References: loops and numpy, from the state dict alone


def slow_upfirdn(x, kernel, up, down, pad):
    h, w = x.shape
    big = np.zeros((h * up + sum(pad), w * up + sum(pad)))
    for i in range(h):
        for j in range(w):
            big[pad[0] + i * up, pad[0] + j * up] = x[i, j]
    k = len(kernel)
    out = np.zeros(((big.shape[0] - k) // down + 1, (big.shape[1] - k) // down + 1))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for a in range(k):
                for b in range(k):  # convolution: the kernel runs against the picture
                    out[i, j] += kernel[k - 1 - a, k - 1 - b] * big[i * down + a, j * down + b]
    return out


def slow_conv(x, weight, pad):
    """Correlation of `(in, H, W)` with `(out, in, k, k)`."""
    k = weight.shape[-1]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((len(weight), x.shape[1] - k + 1, x.shape[2] - k + 1))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = np.einsum("oiab,iab->o", weight, x[:, i : i + k, j : j + k])
    return out


def slow_transposed(x, weight):
    """Every pixel of `(in, H, W)` paints its `(out, in, 3, 3)` two steps apart."""
    _, h, w = x.shape
    out = np.zeros((len(weight), 2 * h + 1, 2 * w + 1))
    for i in range(h):
        for j in range(w):
            out[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("oiab,i->oab", weight, x[:, i, j])
    return out


def slow_leaky(x):
    return np.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def slow_modulated(s, name, x, w, *, demodulate):
    """One picture through `name`: its own weights, made first, as the paper writes them."""
    stored = s[f"{name}.weight"][0]
    style = s[f"{name}.modulation.weight"] @ w / math.sqrt(len(w)) + s[f"{name}.modulation.bias"]
    weight = stored / math.sqrt(stored[0].size) * style[None, :, None, None]
    if demodulate:
        weight = weight / np.sqrt((weight**2).sum((1, 2, 3), keepdims=True) + 1e-8)
    if f"{name}.blur.kernel" in s:
        kernel = s[f"{name}.blur.kernel"]
        return np.stack([slow_upfirdn(c, kernel, 1, 1, (1, 1)) for c in slow_transposed(x, weight)])
    return slow_conv(x, weight, weight.shape[-1] // 2)


def slow_image(net, w):
    """Image of one w+ `(L, D)`, in the order of the public file's layers."""
    s = {k: v.numpy() for k, v in net.state_dict().items()}

    def styled(name, noise, x, code):
        x = slow_modulated(s, f"{name}.conv", x, code, demodulate=True)
        x = x + s[f"{name}.noise.weight"] * s[f"noises.noise_{noise}"][0, 0]
        return slow_leaky(x + s[f"{name}.activate.bias"][:, None, None])

    def rgb(name, x, code):
        return slow_modulated(s, f"{name}.conv", x, code, demodulate=False) + s[f"{name}.bias"][0]

    x = styled("conv1", 0, s["input.input"][0], w[0])
    image = rgb("to_rgb1", x, w[1])
    for i in range(len(net.to_rgbs)):
        x = styled(f"convs.{2 * i}", 2 * i + 1, x, w[2 * i + 1])
        x = styled(f"convs.{2 * i + 1}", 2 * i + 2, x, w[2 * i + 2])
        kernel = s[f"to_rgbs.{i}.upsample.kernel"]
        image = np.stack([slow_upfirdn(c, kernel, 2, 1, (2, 1)) for c in image])
        image = image + rgb(f"to_rgbs.{i}", x, w[2 * i + 3])
    return image


# Layers


@pytest.mark.parametrize(
    ("up", "down", "pad"),
    [(1, 1, (0, 0)), (1, 1, (1, 2)), (2, 1, (2, 1)), (1, 2, (1, 1)), (2, 2, (3, 0))],
)
def test_resampling_equals_the_loops(up, down, pad):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 5, 7)), rng.normal(size=(4, 4))  # not symmetric: direction shows
    out = upfirdn2d(torch.from_numpy(x), torch.from_numpy(kernel), up=up, down=down, pad=pad)
    for b in range(2):
        for c in range(3):
            np.testing.assert_allclose(out[b, c], slow_upfirdn(x[b, c], kernel, up, down, pad), atol=1e-12)


def test_the_filter_keeps_a_constant():
    flat = torch.ones(1, 1, 16, 16)
    assert fir_kernel().sum() == pytest.approx(1)
    up = upfirdn2d(flat, fir_kernel(4), up=2, pad=(2, 1))
    assert up.shape[-1] == 32
    torch.testing.assert_close(up[..., 4:-4, 4:-4], torch.ones(1, 1, 24, 24))


def test_equalised_layers():
    torch.manual_seed(0)
    x = torch.randn(3, 8)
    layer = ActiveLinear(8, 5, lr=0.01, bias=2.0)
    assert float(layer.weight.detach().std()) == pytest.approx(100, rel=0.4)  # stored over the rate
    flat = x.numpy() @ (layer.weight.detach().numpy() * 0.01 / math.sqrt(8)).T + 0.01 * 2
    np.testing.assert_allclose(layer(x).detach(), slow_leaky(flat), rtol=1e-4, atol=1e-6)
    plain = EqualLinear(8, 5, bias=1.0)
    np.testing.assert_allclose(plain(x).detach(), x @ plain.weight.detach().T / math.sqrt(8) + 1, rtol=1e-5)
    act = Activation(2)
    act.bias.data = torch.tensor([1.0, -1.0])
    out = act(torch.zeros(1, 2, 1, 1)).flatten().tolist()
    assert out == pytest.approx([math.sqrt(2), -0.2 * math.sqrt(2)])


@pytest.mark.parametrize(
    ("kernel", "up", "demodulate"), [(3, False, True), (3, True, True), (1, False, False)]
)
def test_modulated_convolution_equals_weights_made_for_each_picture(kernel, up, demodulate):
    torch.manual_seed(1)
    conv = ModulatedConv(4, 3, kernel, 6, up=up, demodulate=demodulate).double()
    x, w = torch.randn(3, 4, 5, 5, dtype=torch.double), torch.randn(3, 6, dtype=torch.double)
    out = conv(x, conv.modulation(w)).detach()
    state = {f"c.{k}": v.numpy() for k, v in conv.state_dict().items()}
    for b in range(3):
        wanted = slow_modulated(state, "c", x[b].numpy(), w[b].numpy(), demodulate=demodulate)
        np.testing.assert_allclose(out[b], wanted, atol=1e-12)
    assert out.shape[-1] == (10 if up else 5)


def test_derivatives_of_first_and_second_order():
    torch.manual_seed(2)
    conv = ModulatedConv(2, 2, 3, 3, up=True).double()
    x = torch.randn(2, 2, 3, 3, dtype=torch.double, requires_grad=True)
    style = torch.randn(2, 2, dtype=torch.double, requires_grad=True)
    assert gradcheck(conv, (x, style))
    assert gradgradcheck(conv, (x, style))  # R1 and path length need it


# Generator


@needs_layouts
@pytest.mark.parametrize("size", [256, 1024])
def test_the_generator_has_the_names_of_the_public_files(size):
    with torch.device("meta"):
        assert shapes(StyleGenerator(StyleConfig(size=size))) == layout(f"stylegan2_g_ema_{size}")


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256, 512, 1024])
def test_every_size(size):
    config = StyleConfig(size=size)
    assert config.levels == 2 * int(math.log2(size)) - 2
    with torch.device("meta"):
        net, judge = StyleGenerator(config), StyleDiscriminator(config)
        w = net.map(torch.empty(2, 512))
        assert len(net.styles(w)) == 3 * int(math.log2(size)) - 4
        assert net(net.spread(w)).shape == (2, 3, size, size)
        assert judge(torch.empty(2, 3, size, size)).shape == (2, 1)


@pytest.mark.parametrize("dtype", [torch.double, torch.float])
def test_the_image_equals_the_slow_reference(dtype):
    net = generator()
    w = torch.randn(2, TINY.levels, 6, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    wanted = np.stack([slow_image(net, code.numpy()) for code in w])
    image = net.to(dtype)(w.to(dtype))
    np.testing.assert_allclose(image, wanted, atol=1e-10 if dtype == torch.double else 2e-5)
    assert wanted.std() > 0.1


def test_the_mapping_equals_its_formula():
    net = generator()
    z = torch.randn(3, 6, dtype=torch.double)
    x = z.numpy()
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)
    for layer in list(net.style)[1:]:
        x = slow_leaky(x @ layer.weight.numpy().T * 0.01 / math.sqrt(6) + 0.01 * layer.bias.numpy())
    np.testing.assert_allclose(net.map(z), x, atol=1e-12)


def test_latents_spaces_and_truncation():
    net = generator()
    w, other = net.map(torch.randn(2, 2, 6, dtype=torch.double).flatten(0, 1)).unflatten(0, (2, 2))
    torch.testing.assert_close(net(w), net(w[:, None].expand(-1, 6, -1)))
    torch.testing.assert_close(net.synthesize(net.styles(w)), net(w))
    mixed = net.mix(w, other, 2)
    torch.testing.assert_close(mixed[:, 1], w)
    torch.testing.assert_close(mixed[:, 2], other)
    net.average = net.mean_w(64)
    torch.testing.assert_close(net.average, net.mean_w(64))
    assert (net.mean_w(64, seed=1) - net.average).abs().max() > 0
    torch.testing.assert_close(net.truncate(w, 1.0), w)
    torch.testing.assert_close(net.truncate(w, 0.0), net.average.expand(2, -1))
    torch.testing.assert_close(net.truncate(w, 0.7), net.average + 0.7 * (w - net.average))
    net.average = torch.stack([net.average + i for i in range(6)])  # one per level
    assert net.truncate(w, 0.5).shape == (2, 6, 6)


def test_noise_is_the_stored_one_unless_given():
    net = generator()
    w = torch.randn(2, 6, dtype=torch.double)
    assert torch.equal(net(w), net(w, net.stored_noise()))
    fresh = [net.random_noise(2, torch.Generator().manual_seed(i)) for i in (5, 5, 6)]
    assert torch.equal(net(w, fresh[0]), net(w, fresh[1]))
    assert not torch.allclose(net(w, fresh[0]), net(w, fresh[2]))
    silent = net(w, net.no_noise())
    for conv in [net.conv1, *net.convs]:
        conv.noise.weight.zero_()
    torch.testing.assert_close(net(w), silent)


def test_pictures_of_a_batch_do_not_mix():
    net = generator()
    w = torch.randn(3, 6, 6, dtype=torch.double)
    torch.testing.assert_close(net(w)[1:2], net(w[1:2]))


def test_gradients_of_the_image():
    net = generator()
    w = torch.randn(1, 6, 6, dtype=torch.double, requires_grad=True)
    assert gradcheck(lambda w: net(w)[:, :, ::5, ::5], (w,))


def test_a_bound_holds_every_layer():
    net = generator()
    bounded = StyleGenerator(StyleConfig(**{**TINY.__dict__, "clamp": 0.25})).double().requires_grad_(False)
    bounded.load_state_dict(net.state_dict())
    w = torch.randn(1, 6, dtype=torch.double)
    assert net.to_rgb1(torch.ones(1, 5, 4, 4).double(), net.styles(w)[1], limit=0).abs().max() > 0.25
    assert bounded.to_rgb1(torch.ones(1, 5, 4, 4).double(), net.styles(w)[1], limit=0.25).abs().max() <= 0.25
    assert not torch.allclose(net(w), bounded(w))


# Discriminator


def test_the_deviation_of_groups_equals_the_loops():
    torch.manual_seed(4)
    for batch, n in ((8, 4), (4, 4), (2, 2), (1, 1), (6, 3), (5, 1)):
        x = torch.randn(batch, 3, 2, 2, dtype=torch.double)
        out = batch_deviation(x)
        assert torch.equal(out[:, :3], x)
        for b in range(batch):
            mates = [m for m in range(batch) if m % (batch // n) == b % (batch // n)]
            assert len(mates) == n
            values = x[mates].numpy()
            wanted = np.sqrt(((values - values.mean(0)) ** 2).mean(0) + 1e-8).mean()
            np.testing.assert_allclose(out[b, 3], wanted)


def test_the_discriminator_equals_the_slow_reference():
    torch.manual_seed(5)
    net = StyleDiscriminator(TINY).double().requires_grad_(False)
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            p.add_(0.3 * torch.randn_like(p))
    s = {k: v.numpy() for k, v in net.state_dict().items()}
    images = torch.randn(2, 3, 16, 16, dtype=torch.double)

    def conv(x, name, pad):
        return slow_conv(x, s[name] / math.sqrt(s[name][0].size), pad)

    def active(x, name):
        return slow_leaky(x + s[name][:, None, None])

    def halved(x, name, pad):
        x = np.stack([slow_upfirdn(c, s[f"{name}.0.kernel"], 1, 1, pad) for c in x])
        return conv(x, f"{name}.1.weight", 0)[:, ::2, ::2]

    maps = []
    for x in images.numpy():
        x = active(conv(x, "convs.0.0.weight", 0), "convs.0.1.bias")
        for b in ("convs.1", "convs.2"):
            y = active(conv(x, f"{b}.conv1.0.weight", 1), f"{b}.conv1.1.bias")
            y = active(halved(y, f"{b}.conv2", (2, 2)), f"{b}.conv2.2.bias")
            x = (y + halved(x, f"{b}.skip", (1, 1))) / math.sqrt(2)
        maps.append(x)
    wanted = []
    for x in batch_deviation(torch.from_numpy(np.stack(maps))).numpy():
        x = active(conv(x, "final_conv.0.weight", 1), "final_conv.1.bias").ravel()
        w = s["final_linear.0.weight"]
        x = slow_leaky(w @ x / math.sqrt(len(x)) + s["final_linear.0.bias"])
        wanted.append(s["final_linear.1.weight"] @ x / math.sqrt(len(x)) + s["final_linear.1.bias"])
    np.testing.assert_allclose(net(images), np.stack(wanted), atol=1e-10)


# Errors


def test_wrong_sizes_are_refused():
    with pytest.raises(ConfigError, match="power of two"):
        StyleConfig(size=100)
    with pytest.raises(ConfigError, match="3 widths"):
        StyleConfig(size=16, widths=(4, 4))
    net = generator()
    with pytest.raises(ParameterError, match=r"\(any, 6, 6\)"):
        net(torch.zeros(1, 5, 6, dtype=torch.double))
    with pytest.raises(ParameterError, match="noise z"):
        net.map(torch.zeros(1, 5, dtype=torch.double))
    with pytest.raises(ParameterError, match="5 noise maps"):
        net(torch.zeros(1, 6, dtype=torch.double), net.stored_noise()[:2])
    with pytest.raises(ParameterError, match="an image"):
        StyleDiscriminator(TINY)(torch.zeros(1, 3, 8, 8))
