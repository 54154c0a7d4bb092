"""A StyleGAN2 small enough for tests, and what makes two of them the same."""

from __future__ import annotations

import torch

from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator

TINY = StyleConfig(size=16, latent=8, mapping_layers=2, widths=(6, 5, 4))


def generator(seed: int = 0) -> StyleGenerator:
    torch.manual_seed(seed)
    net = StyleGenerator(TINY).eval().requires_grad_(False)
    for name, p in net.named_parameters():
        if name.endswith(("noise.weight", "bias")):
            p.add_(0.3 * torch.randn_like(p))
    net.average = net.mean_w(32)
    return net


def image(net: StyleGenerator) -> torch.Tensor:
    w = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    return net(net.truncate(w, 0.8))


def same(net: StyleGenerator, other: StyleGenerator) -> None:
    assert other.config == net.config
    assert not other.training
    torch.testing.assert_close(image(other), image(net), atol=1e-5, rtol=1e-4)


FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def ada_state(net: StyleGenerator) -> dict[str, torch.Tensor]:
    """Our generator's tensors under NVIDIA's names, by the table of the public layouts."""
    s = net.state_dict()
    out = {"mapping.w_avg": net.average}
    for k in range(TINY.mapping_layers):
        for part in ("weight", "bias"):
            out[f"mapping.fc{k}.{part}"] = s[f"style.{k + 1}.{part}"]
    out["synthesis.b4.const"] = s["input.input"][0]
    for n, r in enumerate((4, 8, 16)):
        out[f"synthesis.b{r}.resample_filter"] = FIR
        i = n - 1
        convs = {"conv1": ("conv1", 0)} if r == 4 else {
            "conv0": (f"convs.{2 * i}", 2 * i + 1), "conv1": (f"convs.{2 * i + 1}", 2 * i + 2)}  # fmt: skip
        for name, (old, noise) in convs.items():
            new = f"synthesis.b{r}.{name}"
            out[f"{new}.weight"] = s[f"{old}.conv.weight"][0]
            out[f"{new}.bias"] = s[f"{old}.activate.bias"]
            out[f"{new}.noise_strength"] = s[f"{old}.noise.weight"][0]
            out[f"{new}.noise_const"] = s[f"noises.noise_{noise}"][0, 0]
            out[f"{new}.resample_filter"] = out[f"synthesis.b{r}.resample_filter"]
            for part in ("weight", "bias"):
                out[f"{new}.affine.{part}"] = s[f"{old}.conv.modulation.{part}"]
        old, new = ("to_rgb1" if r == 4 else f"to_rgbs.{i}"), f"synthesis.b{r}.torgb"
        out[f"{new}.weight"], out[f"{new}.bias"] = s[f"{old}.conv.weight"][0], s[f"{old}.bias"].flatten()
        for part in ("weight", "bias"):
            out[f"{new}.affine.{part}"] = s[f"{old}.conv.modulation.{part}"]
    return {k: v.clone() for k, v in out.items()}
