"""Trains the editor's picture space: a StyleGAN2 synthesis network and its encoder, together.

A GAN learnt from noise needs a GPU for days and then an encoder that inverts it badly; an encoder and a
synthesis that learn from nothing but pictures agree on the mean face and take as long to find the few pixels
that action units move. But of a rendered face all parameters are known. So the synthesis is told them, as the
generator M is, and learns to draw:

    w+ = A (y, z)        y pose, action units, identity;  z = look(another frame of the same person)

z sees another expression, so it can hold skin, light and background only, and y has all the rest: a change of
action units is a straight way in w+ by construction. The encoder learns from pictures the w+ that was told,
and from portraits, of which nothing is told, to give them back. The latent is w+, one code per level, so
AUEditNet's editor works on it unchanged. There is no mapping network: no face can be drawn from noise.

Coarse pictures first: the synthesis sums pictures of rising side, and a sum of 32 px costs a tenth of one
of 128 px. Beyond pixels, differences of neighbouring pixels count, because an absolute error alone blurs.
Neither E nor R takes part: E teaches the editor afterwards, R judges the edits.

Source of the losses: Richardson et al. 2021, "Encoding in Style", section 3.2 (pixels); Karras et al.
2020, "Analyzing and Improving the Image Quality of StyleGAN", section 3 (non-saturating loss, lazy R1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits import weights
from faceunits.errors import ConfigError
from faceunits.networks.encoders import EncoderConfig, Psp, pooled
from faceunits.networks.stylegan2 import PixelNorm, StyleConfig, StyleDiscriminator, StyleGenerator
from faceunits.training import frames as labelled
from faceunits.training import loop
from faceunits.training.people import IGNORE

Batch = dict[str, Tensor]

BACKGROUND, FEATURES = (0, 10), range(2, 10)
"""Helen's classes that matter less (background, hair) and more (brows, eyes, nose, mouth)."""

TOLD = "teller.safetensors"
"""File beside encoder and generator with what tells w+."""

LOOK_PX = 32
"""Side of the pictures in which z is found: skin, light and background need no detail."""


FASTER = {"generator": 12.0, "tell": 5.0}
"""Factors of the learning rate. A step of Adam moves a weight by the rate: a thirtieth of one that is drawn
as a convolution's usually is, a five-hundredth of the synthesis', whose weights have variance 1."""


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
    look: int = 64
    """Length of z."""
    look_widths: tuple[int, ...] = (16, 32, 64, 128)
    """Channels of the convolutions that find it, each of stride 2, in pictures of 32 px."""
    batch: int = 16
    """Pictures per step."""
    photo_share: float = 0.125
    """Share of a batch that is real portraits."""
    seen_share: float = 0.25
    """Share of the rendered frames that are drawn from the encoder's w+, not from what was told."""
    coarse: tuple[int, ...] = (1500, 3000)
    """Steps at which the side of the pictures doubles, up to `size` after the last."""
    encoder_from: int = 1500
    """Step at which the encoder comes in; before, all pictures are rendered ones, drawn from what is told."""
    detail: float = 3.0
    """Extra weight of brows, eyes, nose and mouth, as they are few pixels."""
    behind: float = 0.1
    """Weight of background and hair."""
    edge_weight: float = 1.0
    """Of the absolute error of differences between neighbours."""
    code_weight: float = 1.0
    """Of the encoder's squared error in w+, as a share of the variance."""
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


@dataclass(frozen=True)
class TellerConfig:
    """Sizes of what tells w+."""

    parameters: int = 101
    """Numbers that are known of a rendered face: P."""
    levels: int = 12
    """Codes of w+."""
    latent: int = 128
    """Length of a code."""
    look: int = 64
    """Length of z."""
    widths: tuple[int, ...] = (16, 32, 64, 128)
    """Channels of the convolutions that find z, each of stride 2."""


class Teller(nn.Module):
    """w+ of what is known of a rendered face, and of the look of another frame of the same person.

    `mean` and `std` `(P,)` of the parameters.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: TellerConfig) -> None:
        super().__init__()
        self.config = config
        widths = (3, *config.widths)
        convs = [
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.LeakyReLU(0.2))
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        ]
        side = LOOK_PX // 2 ** len(config.widths)
        self.look = nn.Sequential(
            *convs, nn.Flatten(), nn.Linear(widths[-1] * side * side, config.look), PixelNorm()
        )
        self.place = nn.Linear(config.parameters + config.look, config.levels * config.latent)
        nn.init.normal_(self.place.weight, std=self.place.in_features**-0.5)
        self.register_buffer("mean", torch.zeros(config.parameters))
        self.register_buffer("std", torch.ones(config.parameters))

    def forward(self, told: Tensor, other: Tensor) -> Tensor:
        """w+ `(B, L, D)` of parameters `(B, P)` in the look of `other` `(B, 3, S, S)` in [-1, 1]."""
        return self.placed(told, self.seen(other))

    def seen(self, other: Tensor) -> Tensor:
        """The look z `(B, Z)` of pictures `(B, 3, S, S)` in [-1, 1]."""
        z: Tensor = self.look(pooled(other, LOOK_PX)).float()
        return z

    def placed(self, told: Tensor, z: Tensor) -> Tensor:
        """w+ `(B, L, D)` of parameters `(B, P)` and z `(B, Z)`."""
        with torch.autocast(told.device.type, enabled=False):
            w: Tensor = self.place(torch.cat([(told - self.mean) / self.std, z], 1))
        return w.view(len(told), self.config.levels, self.config.latent)


class Autoencoder(nn.Module):
    """Encoder, synthesis, discriminator; and, for training alone, what tells w+.

    The `average` of encoder and generator is zero.
    """

    def __init__(self, config: AutoencoderTraining, told: NDArray[np.float32]) -> None:
        """`told` `(N, P)`: parameters of the training frames."""
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
        self.tell = Teller(
            TellerConfig(told.shape[1], style.levels, config.latent, config.look, config.look_widths)
        )
        self.tell.mean.copy_(torch.from_numpy(told.mean(0)))
        self.tell.std.copy_(torch.from_numpy(told.std(0) + 1e-3))

    def see(self, image: Tensor) -> Tensor:
        """w+ `(B, L, D)` of pictures `(B, 3, S, S)` in [-1, 1]."""
        w: Tensor = self.encoder(pooled(image, self.encoder.config.size)).float()
        return w

    def draw(self, w: Tensor, side: int | None = None) -> Tensor:
        """The picture of w+, or a coarser one."""
        return self.generator.synthesize(self.generator.styles(w), self.generator.no_noise(), side=side)


def side_at(config: AutoencoderTraining, step: int) -> int:
    """Side of the pictures that a step compares."""
    return config.size >> sum(step < s for s in config.coarse)


def losses(net: nn.Module, batch: Batch, config: AutoencoderTraining, step: int) -> loop.Losses:
    """Pixels, edges, codes; and from `judge_from` on both sides of the adversarial game.

    `batch` has `image` uint8 `(B, 3, S, S)`, `weight` `(B, 1, S, S)` of each pixel, and of its first n
    pictures `told` `(n, P)` and `other` uint8 `(n, 3, S, S)`. One optimiser steps all networks: each side's
    terms reach its own weights only.
    """
    assert isinstance(net, Autoencoder)
    image, other = (batch[k].float() / 127.5 - 1 for k in ("image", "other"))
    side = side_at(config, step)
    told = net.tell(batch["told"], other)
    n = len(told)
    seen = net.see(image) if step >= config.encoder_from else told[:0]
    first = n - round(config.seen_share * n) if len(seen) else n  # from here on the encoder's w+ are drawn
    again = net.draw(torch.cat([told[:first], seen[first:]]), side)
    wanted, weight = image, batch["weight"]
    if side < config.size:
        wanted, weight = F.adaptive_avg_pool2d(image, side), F.adaptive_avg_pool2d(weight, side)
    wrong = (again.float() - wanted) / weight.mean()
    rows = (wrong.diff(dim=2).abs() * weight[:, :, 1:]).mean()
    columns = (wrong.diff(dim=3).abs() * weight[:, :, :, 1:]).mean()
    terms = {"pixels": (wrong.abs() * weight).mean(), "edges": config.edge_weight * (rows + columns)}
    if len(seen):
        aim = told.detach()
        terms["codes"] = config.code_weight * (seen[:n] - aim).square().mean() / aim.var(0).mean()
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
    """Steps and their pictures: frames with another frame of each person, then portraits."""
    rng = np.random.default_rng([config.loop.seed, step])
    photos = dict(np.load(config.photos)) if config.photos else None
    emphasis = np.ones(256, np.float32)  # by class; classes that a portrait leaves open count as skin
    emphasis[list(BACKGROUND)] = config.behind
    emphasis[list(FEATURES)] += config.detail
    emphasis[IGNORE] = 1
    order = np.argsort(data.person, kind="stable")
    start, count = np.unique(data.person[order], return_index=True, return_counts=True)[1:]
    while True:
        n_photo = round(config.batch * config.photo_share) if photos and step >= config.encoder_from else 0
        rows = rng.integers(len(data.image), size=config.batch - n_photo)
        who = data.person[rows]
        others = order[start[who] + rng.integers(count[who])]
        image, parts = data.image[rows], data.parts[rows]
        if photos and n_photo:
            more = rng.integers(len(photos["image"]), size=n_photo)
            image = np.concatenate([image, photos["image"][more]])
            parts = np.concatenate([parts, photos["label"][more]])
        yield (
            step,
            {
                "image": torch.from_numpy(image).permute(0, 3, 1, 2),
                "weight": torch.from_numpy(emphasis[parts])[:, None],
                "told": torch.from_numpy(data.told[rows]),
                "other": torch.from_numpy(data.image[others]).permute(0, 3, 1, 2),
            },
        )
        step += 1


def train(config: AutoencoderTraining) -> Autoencoder:
    """Trains both halves and writes `autoencoder.safetensors` into the output folder."""
    torch.manual_seed(config.loop.seed)
    data = labelled.read(config.frames)
    if not data.told.shape[1]:
        raise ConfigError(
            "expected rendered frames, whose parameters are known; run `faceunits frames render`"
        )
    mean = loop.run(
        Autoencoder(config, data.told), lambda step: batches(data, config, step),
        lambda m, b: losses(m, b[1], config, b[0]), config.loop, config.out, settings=config, faster=FASTER,
    )  # fmt: skip
    assert isinstance(mean, Autoencoder)
    export(mean, Path(config.out) / "autoencoder.safetensors")
    return mean


def export(net: Autoencoder, path: Path) -> None:
    """Writes encoder and generator, as `gan.parts` reads them, and beside them what tells w+."""
    state = {f"encoder.{k}": v for k, v in net.encoder.state_dict().items()}
    state |= {f"generator.{k}": v for k, v in net.generator.state_dict().items()}
    state["average"] = torch.zeros(net.encoder.config.latent)  # codes are relative to it
    about = {
        "kind": "gan", "size": net.generator.config.size, "alignment": "face",
        "generator": asdict(net.generator.config), "encoder": {**asdict(net.encoder.config), "kind": "psp"},
    }  # fmt: skip
    weights.save(path, weights.halved(state), about, {})
    weights.save(
        path.with_name(TOLD), net.tell.state_dict(), {"kind": "teller", **asdict(net.tell.config)}, {}
    )


def load_teller(path: Path) -> Teller:
    """What tells w+, in evaluation form."""
    state, about = weights.load(path)
    net = Teller(weights.settings(TellerConfig, about, source=path))
    weights.fill(net, state, source=path)
    return net.eval().requires_grad_(False)
