"""Trains the comparison C on pairs: a face and the same person at rest, as R reads both.

Renders of one person in two poses, in every second pair in two lights, and photos of people at rest, whose
muscles were moved. R stays as it is, so that it looks at every pair only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceunits import aus, fitting, weights
from faceunits.errors import ConfigError
from faceunits.evaluation.fits import crops_of
from faceunits.fitting import curves
from faceunits.networks import comparison
from faceunits.networks.comparison import Comparison
from faceunits.networks.student import Student, lean
from faceunits.terminal import say
from faceunits.training import shards, views
from faceunits.training.parser import codes


@dataclass(frozen=True)
class ComparisonTraining:
    """Data, sizes and how long."""

    pairs: tuple[str, ...] = ()
    """Folders of shards; those with `neutral` train (`synthesize` or `animate` with `neutral=true`)."""
    valid: str = ""
    """Folder of such renders that train nothing but the curves."""
    student: str = "student"
    """Weights of R."""
    out: str = ""
    """Folder for `comparison.safetensors`, and for what R says of each shard."""
    hidden: int = 512
    """See `networks.comparison.ComparisonConfig`."""
    dropout: float = 0.5
    """See `networks.comparison.ComparisonConfig`."""
    looks: int = 1
    """Views of every pair of crops: shifted, turned, in other tones, worse."""
    same: float = 0.1
    """Share of the faces of a step that are compared with nearly themselves, and show nothing: a photo meant
    as neutral need not be."""
    epochs: int = 20
    batch: int = 128
    """Pairs per step."""
    lr: float = 1e-3
    """Highest learning rate (AdamW); falls as a cosine."""
    weight_decay: float = 0.2
    seed: int = 0
    threads: int = 1
    """CPU threads."""


@dataclass(frozen=True)
class Pairs:
    """What R says of `n` faces and of the same people at rest `(2, n, N)`, and what is true `(n, A + 1)`."""

    said: Tensor
    calm: Tensor
    code: Tensor

    def __len__(self) -> int:
        return len(self.code)

    def rows(self, at: Tensor | slice) -> tuple[Tensor, Tensor, Tensor]:
        """`(2m, N)` twice, as `Comparison` takes them, and `(m, A + 1)`."""
        return self.said[:, at].flatten(0, 1), self.calm[:, at].flatten(0, 1), self.code[at]


def train(config: ComparisonTraining) -> Comparison:
    """Trains C and writes `comparison.safetensors` into the output folder.

    Raises:
        ConfigError: folders without shards, or shards without neutral faces.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    student, _, about = fitting.models.load_student(config.student)
    pairs = read(student, config.pairs, config)
    fresh = read(student, (config.valid,), config, looks=0)
    net = descend(comparison.of(student, hidden=config.hidden, dropout=config.dropout), pairs, fresh, config)
    with torch.inference_mode():
        readings = net(*fresh.rows(slice(None))[:2])
    knots, values = curves.matching(
        torch.cat([readings, readings[:, net.mirror]]), torch.cat([fresh.code, fresh.code[:, net.mirror]])
    )
    told = {**net.config.__dict__, "kind": "comparison", "profile": about["profile"]}
    told["student"] = _mark(config)
    state = weights.halved(net.state_dict()) | {"knots": knots, "values": values}
    weights.save(Path(config.out) / "comparison.safetensors", state, told, {})
    return net


def read(
    student: Student, folders: tuple[str, ...], config: ComparisonTraining, *, looks: int | None = None
) -> Pairs:
    """What R says of the pairs in all shards: `looks` views of each, or at 0 the crops as they are; kept
    shard by shard in the output folder, so that an interrupted run resumes.

    Raises:
        ConfigError: no shard with neutral faces.
    """
    looks = config.looks if looks is None else looks
    kept = Path(config.out) / f"said_{_mark(config)}"
    kept.mkdir(parents=True, exist_ok=True)
    reader = lean(student)
    parts: list[dict[str, Tensor]] = []
    paths = [p for p in shards.find(folders) if _has_neutral(p)]
    if not paths:
        raise ConfigError(
            f"expected shards with neutral faces in {', '.join(folders)}; got none; make them with "
            "`faceunits synthesize --set neutral=true`"
        )
    for k, path in enumerate(paths):
        for look in range(max(1, looks)):
            name = kept / f"{path.parent.name}_{path.stem}_{look if looks else 'plain'}.pt"
            if not name.exists():
                rng = np.random.default_rng([config.seed, look, *path.stem.encode()]) if looks else None
                torch.save(_said(reader, path, rng), f"{name}.part")
                Path(f"{name}.part").replace(name)
            parts.append(torch.load(name, weights_only=True))
        if (k + 1) % 20 == 0 or k + 1 == len(paths):
            say(f"read {k + 1} of {len(paths)} shards")
    said, calm = (torch.cat([p[key] for p in parts], 1) for key in ("said", "calm"))
    return Pairs(said, calm, torch.cat([p["code"] for p in parts]))


def _has_neutral(path: Path) -> bool:
    with np.load(path) as pack:
        return "neutral" in pack


def _mark(config: ComparisonTraining) -> str:
    """Of the R whose words these are."""
    return weights.describe(config.student)["sha256"][:16]


def _said(reader: Student, path: Path, rng: np.random.Generator | None) -> dict[str, Tensor]:
    with np.load(path) as pack:
        pictures = {"said": pack["image"], "calm": pack["neutral"]}
        known = codes({k: pack[k] for k in ("au", "lip_gap", "pose_deg", "identity")})
    out = {}
    for key, images in pictures.items():
        parts = []
        with torch.inference_mode():
            for i in range(0, len(images), 50):
                some = images[i : i + 50]
                crops = torch.from_numpy(crops_of(some)) if rng is None else seen(some, rng)
                parts.append(reader.said(reader.heard(crops)).view(2, len(some), -1))
        out[key] = torch.cat(parts, 1)
    return out | {"code": torch.from_numpy(known[:, : len(aus.profile()) + 1])}


def seen(images: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """Views `(B, 3, S, S)` of crops `(B, S, S, 3)`, as R's training sees them; nothing is bent, which would
    make two people of one."""
    chance = torch.Generator().manual_seed(int(rng.integers(2**31)))
    x, _ = views.moved(
        torch.from_numpy(views.toned(rng, images)), torch.zeros(len(images), 1, 2), chance,
        shift_px=0.02 * images.shape[1], scale=0.04, turn_deg=2.5,
    )  # fmt: skip
    return views.worsened(views.coarser(views.shaded(x, chance), chance), chance)


NEARLY = 0.3
"""How far what is said of a face lies from what is said of nearly the same, as a share of how far it lies
from what is said of the person at rest."""


def descend(net: Comparison, pairs: Pairs, fresh: Pairs, config: ComparisonTraining) -> Comparison:
    """Squared error in R's standard units, as R's own."""
    every = comparison.beside(*pairs.rows(slice(None))[:2])
    net.said_mean.copy_(every.mean(0))
    net.said_std.copy_(every.std(0).clamp_min(1e-3))
    del every
    near = NEARLY * net.said_std[pairs.said.shape[2] :]
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    steps = max(1, len(pairs) // config.batch)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs * steps)

    def error(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        said, calm, code = batch
        wrong: Tensor = (net(said, calm) - code) / net.std
        return wrong.square().mean()

    for epoch in range(config.epochs):
        net.train()
        total = 0.0
        for at in torch.randperm(len(pairs)).tensor_split(steps):
            said, calm, code = pairs.rows(at)
            alike = torch.rand(len(at)) < config.same
            both = alike.repeat(2)
            calm[both] = said[both] + near * torch.randn_like(said[both])
            code[alike] = 0
            loss = error((said, calm, code))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            falling.step()
            total += float(loss.detach()) / steps
        net.eval()
        with torch.inference_mode():
            unseen = float(error(fresh.rows(slice(None))))
        say(f"epoch {epoch + 1}/{config.epochs}  error {total:.4f}, of faces not seen {unseen:.4f}")
    return net.eval()
