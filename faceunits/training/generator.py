"""Trains M on plain renders: L1 + lambda x perceptual (GE-Net, eqs. 2-4), and its `Sketch`.

The perceptual term compares VGG-16's maps where the user names its weights, otherwise E's own maps;
the paper's schedule is `loop.optimiser = "sgd"`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits import aus, weights
from faceunits.errors import ConfigError
from faceunits.fitting.models import load_parser
from faceunits.networks.generator import Generator, GeneratorConfig, Sketch
from faceunits.networks.vgg import Vgg16
from faceunits.rig import shape
from faceunits.training import loop, shards

Extractor = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class GeneratorTraining:
    """Data, sizes and weights of the loss."""

    renders: tuple[str, ...] = ()
    """Folders of `plain_*.npz` shards."""
    out: str = ""
    """Folder of checkpoints."""
    widths: tuple[int, ...] = (256, 256, 192, 96, 48)
    """Channels of M's layers but the last; the paper's 512 px are 512, 512, 512, 256, 128, 64, 64."""
    perceptual: str = ""
    """`vgg` with `perceptual_weights`, `parser` with the same, or empty for L1 alone."""
    perceptual_weights: str = ""
    """File of the perceptual network."""
    perceptual_weight: float = 0.1
    """lambda of eq. 4."""
    detail: float = 0.0
    """Extra weight of brows, eyes, nose and mouth in eq. 2, as they are few pixels; 0 is the paper's."""
    profile: str = "default"
    """Action-unit profile of the renders."""
    n_identity: int = 60
    """Identity parameters of the renders."""
    batch: int = 32
    """Images per step; the paper has 64."""
    sketch_steps: int = 6000
    """Further steps of the sketch alone, in batches of 512."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(lr=2e-3, weight_decay=0.0, beta1=0.7)
    )


class Imitator(nn.Module):
    """M and its sketch, trained side by side on the same parameters."""

    def __init__(self, config: GeneratorTraining) -> None:
        super().__init__()
        self.parameters_count = 2 + len(aus.profile(config.profile)) + config.n_identity
        self.generator = Generator(GeneratorConfig(parameters=self.parameters_count, widths=config.widths))
        self.sketch = Sketch(self.parameters_count)


def read(folders: tuple[str, ...], *, testing: bool = False) -> dict[str, NDArray[Any]]:
    """All plain shards of folders but those kept for testing (or only those).

    Raises:
        ConfigError: there are none.
    """
    packs = []
    for path in shards.find(folders, "plain", testing=testing):
        with np.load(path) as pack:
            packs.append({k: pack[k] for k in pack.files})
    out = {k: np.concatenate([p[k] for p in packs]) for k in ("image", "label", "landmarks", "lip_gap")}
    return out | {"y": np.concatenate([shape.parameters(p) for p in packs])}


def extractor(config: GeneratorTraining) -> Extractor | None:
    """The frozen network of the perceptual term."""
    if not config.perceptual:
        return None
    if config.perceptual == "vgg":
        net: nn.Module = Vgg16()
        state = torch.load(config.perceptual_weights, weights_only=True)
        net.load_state_dict({k: v for k, v in state.items() if k in net.state_dict()}, strict=True)
        net.eval().requires_grad_(False)
        return net
    if config.perceptual == "parser":
        parser, _ = load_parser(config.perceptual_weights)
        return lambda image: parser(image).maps
    raise ConfigError(f"expected perceptual vgg, parser or empty; got {config.perceptual!r}")


def losses(
    net: nn.Module, batch: dict[str, Tensor], config: GeneratorTraining, see: Extractor | None
) -> loop.Losses:
    """Appearance (eq. 2), perceptual (eq. 3), and the sketch's squared errors."""
    assert isinstance(net, Imitator)
    drawn = net.generator(batch["y"])
    image = batch["image"].float() / 255
    points, gap = net.sketch(batch["y"])
    features = (batch["label"] >= 2) & (batch["label"] <= 9)
    emphasis = 1 + config.detail * features[:, None].float()
    size = image.shape[-1]
    truth = (batch["landmarks"] + 0.5) / size
    terms = {
        "appearance": ((drawn.float() - image).abs() * emphasis).mean(),
        "sketch": 100 * F.mse_loss(points.float(), truth),
        "gap": 0.1 * F.mse_loss(gap.float(), batch["lip_gap"]),
    }
    if see is not None:
        with torch.no_grad():
            wanted = see(image)
        got = see(drawn)
        distance = torch.stack(
            [
                F.mse_loss(a.float(), b.float()) / b.float().square().mean()
                for a, b in zip(got, wanted, strict=True)
            ]
        )
        terms["perceptual"] = config.perceptual_weight * distance.sum()
    return terms


def train(config: GeneratorTraining) -> Imitator:
    """Trains M and writes `generator.safetensors` into the output folder."""
    data = read(config.renders)
    see = extractor(config)

    def batches(step: int) -> Iterator[dict[str, Tensor]]:
        rng = np.random.default_rng([config.loop.seed, step])
        while True:
            rows = rng.integers(0, len(data["y"]), config.batch)
            image = torch.from_numpy(data["image"][rows].transpose(0, 3, 1, 2).copy())
            yield {
                "image": image.contiguous(memory_format=torch.channels_last),
                "y": torch.from_numpy(data["y"][rows]),
                "label": torch.from_numpy(data["label"][rows]),
                "landmarks": torch.from_numpy(data["landmarks"][rows].astype(np.float32)),
                "lip_gap": torch.from_numpy(data["lip_gap"][rows].astype(np.float32)),
            }

    torch.manual_seed(config.loop.seed)
    net = Imitator(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = loop.run(
        net, batches, lambda m, b: losses(m, b, config, see), config.loop, config.out, settings=config
    )
    assert isinstance(mean, Imitator)
    polish(mean.sketch, data, config)
    export(mean, config, Path(config.out) / "generator.safetensors")
    return mean


def polish(sketch: Sketch, data: dict[str, NDArray[Any]], config: GeneratorTraining) -> None:
    """Trains the sketch on, in large batches: geometry needs no pictures and converges far later."""
    if not config.sketch_steps:
        return
    y = torch.from_numpy(data["y"])
    truth = (torch.from_numpy(data["landmarks"].astype(np.float32)) + 0.5) / data["image"].shape[1]
    gap = torch.from_numpy(data["lip_gap"].astype(np.float32))
    optimiser = torch.optim.AdamW(sketch.parameters(), 3e-3, weight_decay=1e-4)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=config.sketch_steps)
    chance = torch.Generator().manual_seed(config.loop.seed)
    sketch.train()
    for _ in range(config.sketch_steps):
        rows = torch.randint(0, len(y), (512,), generator=chance)
        points, opened = sketch(y[rows])
        loss = 1000 * F.mse_loss(points, truth[rows]) + 0.1 * F.mse_loss(opened, gap[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        plan.step()
    sketch.eval()


def export(net: Imitator, config: GeneratorTraining, path: Path) -> None:
    """Writes M and its sketch with the meaning of their parameters."""
    state = net.state_dict()
    sketch = {k: v for k, v in state.items() if k.startswith("sketch.")}  # exact to a tenth of a pixel
    state = weights.halved(state) | sketch
    about = {**net.generator.config.__dict__, "kind": "generator", "profile": config.profile,
             "n_identity": config.n_identity}  # fmt: skip
    weights.save(path, state, about, {})
