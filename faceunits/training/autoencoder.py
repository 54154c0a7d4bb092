"""Trains the editor's picture space: a StyleGAN2 synthesis network and its encoder, together.

A GAN learnt from noise needs a GPU for days and then an encoder that inverts it badly. Here both halves
learn to give a picture back, with an adversarial term, so that inversion is good by construction. The
latent is still w+, one code per level, so AUEditNet's editor works on it unchanged. There is no mapping
network: no face can be drawn from noise.

Two terms beyond pixels: differences of neighbouring pixels, because an absolute error alone blurs; and the
action units, which must be readable from w+ by one linear layer, because they are a few pixels that the
eye cares for and the pixel error does not. E takes no part: it is the judge of the edits.

Source of the losses: Richardson et al. 2021, "Encoding in Style", section 3.2 (pixels, size of w); Karras et
al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", section 3 (non-saturating loss, lazy R1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits import aus, weights
from faceunits.networks.encoders import E4e, EncoderConfig, Psp
from faceunits.networks.stylegan2 import StyleConfig, StyleDiscriminator, StyleGenerator
from faceunits.training import loop
from faceunits.training.parser import Batch, Crops, ParserTraining


@dataclass(frozen=True)
class AutoencoderTraining:
    """Data, sizes and weights of the loss."""

    renders: tuple[str, ...] = ()
    """Folders of shards made by `synth`."""
    photos: str = ""
    """File made by `people.write`; empty for renders only."""
    out: str = ""
    """Folder of checkpoints."""
    init: str = ""
    """Folder of an earlier run to start from; may be empty."""
    size: int = 128
    """Side of the pictures in pixels."""
    latent: int = 128
    """Length of a code of w+; the public files have 512."""
    widths: tuple[int, ...] = (128, 128, 128, 96, 48, 24)
    """Channels of the synthesis at 4, 8, ... px."""
    judge_widths: tuple[int, ...] = (128, 128, 96, 64, 32, 16)
    """Channels of the discriminator at 4, 8, ... px."""
    encoder: str = "psp"
    """`psp` or `e4e`."""
    encoder_widths: tuple[int, ...] = (16, 16, 32, 64, 128)
    """Channels of the encoder's stem and stages; 16 at least (squeeze and excitation)."""
    encoder_units: tuple[int, ...] = (1, 2, 2, 1)
    """Residual units of its stages."""
    profile: str = "default"
    """Action-unit profile of the renders."""
    batch: int = 16
    """Pictures per step."""
    photo_share: float = 0.25
    """Share of a batch that is real portraits."""
    detail: float = 3.0
    """Extra weight of brows, eyes, nose and mouth, as they are few pixels."""
    edge_weight: float = 1.0
    """Of the absolute error of differences between neighbours."""
    unit_weight: float = 3.0
    """Of the squared error of action units read from w+ by one linear layer."""
    latent_weight: float = 0.01
    """Of the mean square of w+: the synthesis does not mind its scale, so nothing else keeps it."""
    judge_from: int = 1_000_000
    """Step at which the discriminator comes in; before, pictures are learnt by pixels alone."""
    judge_weight: float = 0.02
    """Of the non-saturating loss against the discriminator."""
    r1_weight: float = 2.0
    """gamma / 2 of the gradient penalty on real pictures."""
    r1_every: int = 16
    """Steps between penalties, which are then as many times as heavy."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(steps=6000, lr=1e-3, weight_decay=0.0, beta1=0.5)
    )


class Autoencoder(nn.Module):
    """Encoder, synthesis, discriminator and the layer that reads action units from w+.

    `average` of encoder and generator is zero: codes are learnt as they are.
    """

    def __init__(self, config: AutoencoderTraining) -> None:
        super().__init__()
        style = StyleConfig(config.size, config.latent, 0, config.widths)
        sizes = EncoderConfig(
            style.levels, config.size, config.latent, config.encoder_widths, config.encoder_units
        )
        self.encoder = Psp(sizes) if config.encoder == "psp" else E4e(sizes)
        self.generator = StyleGenerator(style)
        for head in self.encoder.styles:  # codes of about unit size from the start, as the synthesis expects
            for layer in head.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, a=0.01)
        self.judge = StyleDiscriminator(StyleConfig(config.size, config.latent, 0, config.judge_widths))
        self.units = nn.Linear(style.levels * config.latent, len(aus.profile(config.profile)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """`image` `(B, 3, S, S)` in [-1, 1] to w+ `(B, L, D)` and the picture given back."""
        w = self.encoder(image)
        return w, self.generator(w, self.generator.no_noise())


def losses(net: nn.Module, batch: Batch, config: AutoencoderTraining, step: int) -> loop.Losses:
    """Pixels, edges, action units; and from `judge_from` on both sides of the adversarial game.

    One optimiser steps all networks at once: each side's terms reach its own weights only.
    """
    assert isinstance(net, Autoencoder)
    image = batch["image"].float() / 127.5 - 1
    w, again = net(image)
    again = again.float()
    label = batch["label"]
    emphasis = 1 + config.detail * ((label >= 2) & (label <= 9))[:, None].float()
    wrong = (again - image) / emphasis.mean()
    rows = (wrong.diff(dim=2).abs() * emphasis[:, :, 1:]).mean()
    columns = (wrong.diff(dim=3).abs() * emphasis[:, :, :, 1:]).mean()
    code = batch["code"]
    read = net.units(w[: len(code)].flatten(1)).float()
    terms = {
        "pixels": (wrong.abs() * emphasis).mean(),
        "edges": config.edge_weight * (rows + columns),
        "units": config.unit_weight * F.mse_loss(read, code[:, : read.shape[1]]),
        "latent": config.latent_weight * w.float().square().mean(),
    }
    if step >= config.judge_from:
        terms |= game(net.judge, image, again, config, step)
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


def crops(config: AutoencoderTraining) -> ParserTraining:
    """E's batches of renders and portraits are what this trains on too."""
    return ParserTraining(
        renders=config.renders, photos=config.photos, profile=config.profile, batch=config.batch,
        photo_share=config.photo_share, loop=config.loop,
    )  # fmt: skip


def train(config: AutoencoderTraining) -> Autoencoder:
    """Trains both halves and writes `autoencoder.safetensors` into the output folder."""
    torch.manual_seed(config.loop.seed)
    net = Autoencoder(config)
    if config.init:
        state = torch.load(Path(config.init) / "checkpoint.pt", weights_only=True)["net"]
        net.load_state_dict(state)
    net.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batches(step: int) -> Iterator[tuple[int, Batch]]:
        yield from enumerate(Crops(crops(config), step), start=step)

    mean = loop.run(
        net, batches, lambda m, b: losses(m, b[1], config, b[0]), config.loop, config.out, settings=config
    )
    assert isinstance(mean, Autoencoder)
    export(mean, Path(config.out) / "autoencoder.safetensors")
    return mean


def export(net: Autoencoder, path: Path) -> None:
    """Writes encoder and generator, as `load` wants them."""
    kept = {k: v for k, v in net.state_dict().items() if k.startswith(("encoder.", "generator."))}
    weights.save(path, weights.halved(kept), about(net), {})


def about(net: Autoencoder) -> dict[str, object]:
    """What a reader of the file must know."""
    kind = "psp" if isinstance(net.encoder, Psp) else "e4e"
    return {
        "kind": "gan", "size": net.generator.config.size, "alignment": "face",
        "generator": asdict(net.generator.config), "encoder": {**asdict(net.encoder.config), "kind": kind},
    }  # fmt: skip
