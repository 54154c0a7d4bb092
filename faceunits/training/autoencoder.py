"""Trains the editor's picture space: a StyleGAN2 synthesis network and its encoder, together.

A GAN learnt from noise needs a GPU for days and then an encoder that inverts it badly. Here both halves
learn to give a picture back, with an adversarial term, so that inversion is good by construction. The
latent is still w+, one code per level, so AUEditNet's editor works on it unchanged. There is no mapping
network: no face can be drawn from noise.

Every number of w+ is kept at mean 0 and variance 1. Left free, codes shrink at once, since at first they only
disturb the mean face, and then take thousands of steps to grow again. The file has this folded into the
encoder's last layers, so it is a plain pSp.

Coarse pictures first: the synthesis sums pictures of rising side, and a sum of 32 px costs a tenth of one
of 128 px. Two terms beyond pixels: differences of neighbouring pixels, because an absolute error alone
blurs; and the action units, which must be readable from w+ by one linear layer, because they are a few
pixels that the eye cares for and the pixel error does not. E takes no part: it is the judge of the edits.

Source of the losses: Richardson et al. 2021, "Encoding in Style", section 3.2 (pixels); Karras et al.
2020, "Analyzing and Improving the Image Quality of StyleGAN", section 3 (non-saturating loss, lazy R1).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits import weights
from faceunits.networks.editor import DISFA
from faceunits.networks.encoders import EncoderConfig, Psp, pooled
from faceunits.networks.layers import EqualLinear
from faceunits.networks.stylegan2 import StyleConfig, StyleDiscriminator, StyleGenerator
from faceunits.training import frames as labelled
from faceunits.training import loop
from faceunits.training.people import IGNORE

Batch = dict[str, Tensor]

BACKGROUND, FEATURES = (0, 10), range(2, 10)
"""Helen's classes that matter less (background, hair) and more (brows, eyes, nose, mouth)."""


@dataclass(frozen=True)
class AutoencoderTraining:
    """Data, sizes and weights of the loss."""

    frames: tuple[str, ...] = ()
    """Folders of `frames_*.npz` (`faceunits frames`)."""
    photos: str = ""
    """File made by `people.write`; empty for frames only."""
    out: str = ""
    """Folder of checkpoints."""
    size: int = 128
    """Side of the pictures in pixels."""
    latent: int = 128
    """Length of a code of w+; the public files have 512."""
    widths: tuple[int, ...] = (128, 128, 128, 96, 48, 24)
    """Channels of the synthesis at 4, 8, ... px."""
    judge_widths: tuple[int, ...] = (128, 128, 96, 64, 32, 16)
    """Channels of the discriminator at 4, 8, ... px."""
    encoder_size: int = 64
    """Side of the encoder's input: pictures are averaged down to it, as to 256 in the public files."""
    encoder_widths: tuple[int, ...] = (16, 32, 64, 96, 128)
    """Channels of the encoder's stem and stages; 16 at least (squeeze and excitation)."""
    encoder_units: tuple[int, ...] = (1, 2, 2, 1)
    """Residual units of its stages."""
    names: tuple[str, ...] = DISFA
    """Action units that w+ must tell."""
    batch: int = 16
    """Pictures per step."""
    photo_share: float = 0.2
    """Share of a batch that is real portraits."""
    coarse: tuple[int, ...] = (1500, 3000)
    """Steps at which the side of the pictures doubles, up to `size` after the last."""
    detail: float = 3.0
    """Extra weight of brows, eyes, nose and mouth, as they are few pixels."""
    behind: float = 0.1
    """Weight of background and hair."""
    edge_weight: float = 1.0
    """Of the absolute error of differences between neighbours."""
    unit_weight: float = 5.0
    """Of the squared error of action units read from w+ by one linear layer."""
    judge_from: int = 1_000_000
    """Step at which the discriminator comes in; before, pictures are learnt by pixels alone."""
    judge_weight: float = 0.02
    """Of the non-saturating loss against the discriminator."""
    r1_weight: float = 2.0
    """gamma / 2 of the gradient penalty on real pictures."""
    r1_every: int = 16
    """Steps between penalties, which are then as many times as heavy."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(steps=6000, lr=2e-3, weight_decay=0.0, ema=0.995)
    )


class Level(nn.Module):
    """`(B, N)` to mean 0 and variance 1 by running statistics: a batch's own would make the code of a picture
    depend on the others, by a quarter of its spread in batches of 16."""

    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, width: int, momentum: float = 0.02) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.running_mean.lerp_(x.mean(0), self.momentum)
                self.running_var.lerp_((x - self.running_mean).square().mean(0), self.momentum)
        return (x - self.running_mean) * torch.rsqrt(self.running_var + self.eps)


class Autoencoder(nn.Module):
    """Encoder, synthesis, discriminator and the layer that reads action units from w+.

    The `average` of encoder and generator is zero, by `level`.
    """

    def __init__(self, config: AutoencoderTraining) -> None:
        super().__init__()
        style = StyleConfig(config.size, config.latent, 0, config.widths)
        sizes = EncoderConfig(
            style.levels, config.encoder_size, config.latent, config.encoder_widths, config.encoder_units
        )
        self.encoder = Psp(sizes)
        for layer in self.encoder.styles.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.01)
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = StyleGenerator(style)
        self.judge = StyleDiscriminator(StyleConfig(config.size, config.latent, 0, config.judge_widths))
        self.level = Level(style.levels * config.latent)
        self.units = nn.Linear(style.levels * config.latent, len(config.names))

    def forward(self, image: Tensor, side: int | None = None) -> tuple[Tensor, Tensor]:
        """`image` `(B, 3, S, S)` in [-1, 1] to w+ `(B, L, D)` and the picture, or a coarser one."""
        codes = self.encoder(pooled(image, self.encoder.config.size))
        w = self.level(codes.float().flatten(1)).view_as(codes)
        styles = self.generator.styles(w)
        return w, self.generator.synthesize(styles, self.generator.no_noise(), side=side)


def side_at(config: AutoencoderTraining, step: int) -> int:
    """Side of the pictures that a step compares."""
    return config.size >> sum(step < s for s in config.coarse)


def losses(net: nn.Module, batch: Batch, config: AutoencoderTraining, step: int) -> loop.Losses:
    """Pixels, edges, action units; and from `judge_from` on both sides of the adversarial game.

    `batch` has `image` uint8 `(B, 3, S, S)`, `weight` `(B, 1, S, S)` of each pixel, and `units` `(n, K)` of
    its first n pictures. One optimiser steps all networks: each side's terms reach its own weights only.
    """
    assert isinstance(net, Autoencoder)
    image = batch["image"].float() / 127.5 - 1
    side = side_at(config, step)
    w, again = net(image, side)
    wanted, weight = image, batch["weight"]
    if side < config.size:
        wanted, weight = F.adaptive_avg_pool2d(image, side), F.adaptive_avg_pool2d(weight, side)
    wrong = (again.float() - wanted) / weight.mean()
    rows = (wrong.diff(dim=2).abs() * weight[:, :, 1:]).mean()
    columns = (wrong.diff(dim=3).abs() * weight[:, :, :, 1:]).mean()
    units = batch["units"]
    read = net.units(w[: len(units)].flatten(1)).float()
    terms = {
        "pixels": (wrong.abs() * weight).mean(),
        "edges": config.edge_weight * (rows + columns),
        "units": config.unit_weight * F.mse_loss(read, units),
    }
    if step >= config.judge_from and side == config.size:
        terms |= game(net.judge, image, again.float(), config, step)
    return terms


def game(
    judge: StyleDiscriminator, image: Tensor, again: Tensor, config: AutoencoderTraining, step: int
) -> loop.Losses:
    """Non-saturating losses of both sides, and now and then R1."""
    still = {k: v.detach() for k, v in judge.named_parameters()}
    fooled = torch.func.functional_call(judge, still, (again,))
    terms = {
        "fooled": config.judge_weight * F.softplus(-fooled.float()).mean(),
        "judge": F.softplus(judge(again.detach()).float()).mean() + F.softplus(-judge(image).float()).mean(),
    }
    if step % config.r1_every == 0:
        with torch.autocast(image.device.type, enabled=False):
            real = image.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(judge(real).sum(), real, create_graph=True)
        terms["r1"] = config.r1_weight * config.r1_every * slope.square().sum((1, 2, 3)).mean()
    return terms


def batches(data: labelled.Frames, config: AutoencoderTraining, step: int) -> Iterator[tuple[int, Batch]]:
    """Steps and their pictures: frames, then portraits; half of each mirrored, since units have no sides."""
    rng = np.random.default_rng([config.loop.seed, step])
    photos = dict(np.load(config.photos)) if config.photos else None
    n_photo = round(config.batch * config.photo_share) if photos else 0
    emphasis = np.ones(256, np.float32)  # by class; classes that a portrait leaves open count as skin
    emphasis[list(BACKGROUND)] = config.behind
    emphasis[list(FEATURES)] += config.detail
    emphasis[IGNORE] = 1
    while True:
        rows = rng.integers(len(data.image), size=config.batch - n_photo)
        image, parts = data.image[rows], data.parts[rows]
        if photos:
            more = rng.integers(len(photos["image"]), size=n_photo)
            image = np.concatenate([image, photos["image"][more]])
            parts = np.concatenate([parts, photos["label"][more]])
        turned = rng.random(len(image)) < 0.5
        image[turned], parts[turned] = image[turned][:, :, ::-1], parts[turned][:, :, ::-1]
        yield (
            step,
            {
                "image": torch.from_numpy(image).permute(0, 3, 1, 2),
                "weight": torch.from_numpy(emphasis[parts])[:, None],
                "units": torch.from_numpy(data.labels[rows]),
            },
        )
        step += 1


def train(config: AutoencoderTraining) -> Autoencoder:
    """Trains both halves and writes `autoencoder.safetensors` into the output folder."""
    torch.manual_seed(config.loop.seed)
    data = labelled.read(config.frames, config.names)
    mean = loop.run(
        Autoencoder(config), lambda step: batches(data, config, step),
        lambda m, b: losses(m, b[1], config, b[0]), config.loop, config.out, settings=config,
    )  # fmt: skip
    assert isinstance(mean, Autoencoder)
    export(mean, Path(config.out) / "autoencoder.safetensors")
    return mean


def export(net: Autoencoder, path: Path) -> None:
    """Writes encoder and generator, as `gan.parts` reads them."""
    encoder = levelled(net)
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    state |= {f"generator.{k}": v for k, v in net.generator.state_dict().items()}
    state["average"] = torch.zeros(encoder.config.latent)  # codes are relative to it
    about = {
        "kind": "gan", "size": net.generator.config.size, "alignment": "face",
        "generator": asdict(net.generator.config), "encoder": {**asdict(encoder.config), "kind": "psp"},
    }  # fmt: skip
    weights.save(path, weights.halved(state), about, {})


def levelled(net: Autoencoder) -> Psp:
    """The encoder with `level`, in its evaluation form, folded into the last layer of each head."""
    encoder = deepcopy(net.encoder)
    mean, variance = net.level.running_mean, net.level.running_var
    d = encoder.config.latent
    with torch.no_grad():
        for j, head in enumerate(encoder.styles):
            linear = head.linear
            assert isinstance(linear, EqualLinear)
            gain = torch.rsqrt(variance[j * d : (j + 1) * d] + net.level.eps)
            linear.weight.mul_(gain[:, None])
            linear.bias.copy_((linear.bias - mean[j * d : (j + 1) * d]) * gain)
    return encoder
