"""Trains AUEditNet's editor, or a baseline of it, on stored latents of labelled frames.

Pairs are two frames of one person; latents of rendered ones are told where the picture space came with what
tells them, others are the encoder's. First latents and labels alone, which costs next to nothing; then the
pictures too, that of the edited latent against that of the target's (AUEditNet; terms and weights:
reconstruction, see `networks.editor`). Encoder and generator stay as they are. The estimator that judges
edits takes no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits import weights
from faceunits.evaluation import editor_files
from faceunits.networks import editor_baselines
from faceunits.networks.editor import DISFA, Editor, EditorConfig, code_loss, edited_levels
from faceunits.training import autoencoder, loop
from faceunits.training import frames as labelled


@dataclass(frozen=True)
class EditorTraining:
    """Data, sizes and weights of the loss."""

    frames: tuple[str, ...] = ()
    """Folders of `frames_*.npz` (`faceunits frames`)."""
    space: str = ""
    """File of encoder and generator that `train autoencoder` wrote."""
    out: str = ""
    """Folder of checkpoints."""
    editor: str = "full"
    """`full`, or a baseline of `networks.editor_baselines`."""
    names: tuple[str, ...] = DISFA
    """Action units of a label."""
    every_level: bool = True
    """Edit all levels of w+; otherwise the coarse and middle ones, 11 of 18."""
    batch: int = 64
    """Pairs per step."""
    pictures_from: int = 1_000_000
    """Step from which pictures count too."""
    pictures: int = 8
    """Pairs of a batch whose pictures are drawn."""
    pixel_weight: float = 8.0
    """Of the squared error of the edited picture against the target's, in [-1, 1]."""
    label_weight: float = 80.0
    """Of the squared error of labels read from latents, on [0, 1]."""
    code_weight: float = 1.0
    """Of the squared error of label codes."""
    codec_weight: float = 1.0
    """Of labels sent through the codec and back."""
    latent_weight: float = 1.0
    """Of the squared error of the edited latent, relative to the spread of latents within people."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(steps=6000, lr=1e-3, weight_decay=1e-4, bf16=False)
    )


@dataclass(frozen=True)
class Pair:
    """Latents `(B, L, D)` and labels `(B, K)` of source and target."""

    step: int
    source: Tensor
    target: Tensor
    source_labels: Tensor
    labels: Tensor


@torch.no_grad()
def encode(space: editor_files.Space, image: NDArray[np.uint8], *, batch: int = 64) -> Tensor:
    """`(N, L, D)` latents of pictures `(N, S, S, 3)`."""
    out = []
    for i in range(0, len(image), batch):
        part = torch.from_numpy(image[i : i + batch].transpose(0, 3, 1, 2).copy())
        out.append(space.encode(part.float() / 255))
    return torch.cat(out)


@torch.no_grad()
def tell(teller: autoencoder.Teller, data: labelled.Frames, *, batch: int = 64) -> Tensor:
    """`(N, L, D)` latents of rendered frames, from their parameters and each person's first frame.

    What the encoder says of a frame falls short of its action units, as every estimate of least square error
    does, and an editor would learn edits that fall as short.
    """
    first = np.unique(data.person, return_index=True)[1]
    looks = torch.from_numpy(data.image[first].transpose(0, 3, 1, 2).copy())
    z = torch.cat([teller.seen(part.float() / 127.5 - 1) for part in torch.split(looks, batch)])
    return teller.placed(torch.from_numpy(data.told), z[data.person])


def pairs(w: Tensor, data: labelled.Frames, config: EditorTraining, step: int) -> Iterator[Pair]:
    """Batches of two frames of a person: a unit, then a level that the person shows, then a frame of it,
    so that rare intensities count; any other frame of the person as the source."""
    rng = np.random.default_rng([config.loop.seed, step])
    labels = torch.from_numpy(data.labels)
    level = np.rint(5 * data.labels).astype(int)
    people = [np.flatnonzero(data.person == p) for p in np.unique(data.person)]
    people = [rows for rows in people if len(rows) > 1]
    shown = [
        [[rows[level[rows, k] == v] for v in np.unique(level[rows, k])] for k in range(labels.shape[1])]
        for rows in people
    ]
    while True:
        chosen = []
        for p in rng.integers(len(people), size=config.batch):
            by_level = shown[p][int(rng.integers(labels.shape[1]))]
            target = int(rng.choice(by_level[int(rng.integers(len(by_level)))]))
            source = int(rng.choice(people[p][people[p] != target]))
            chosen.append((source, target))
        a, b = torch.tensor(chosen).T
        yield Pair(step, w[a], w[b], labels[a], labels[b])
        step += 1


def losses(
    net: nn.Module, pair: Pair, config: EditorTraining, space: editor_files.Space, spread: Tensor
) -> loop.Losses:
    """Labels, codes, the codec, latents, and from `pictures_from` on pictures.

    Half of the targets are named by their labels, half by the code of their latent. `spread` `(L, D)` is
    the variance of latents within people: w+ has directions of very different size.
    """
    assert isinstance(net, Editor)
    half = len(pair.labels) // 2
    read = net.read(pair.target)
    code = torch.cat([net.encode(pair.labels[:half]), read[half:]])
    edit = net(pair.source, code)
    terms = {
        "latent": config.latent_weight * ((edit.target - pair.target).square() / spread).mean(),
        "label": torch.zeros(()), "code": torch.zeros(()), "codec": torch.zeros(()),
    }  # fmt: skip
    for w, labels in ((pair.source, pair.source_labels), (pair.target, pair.labels)):
        label, same, codec = code_loss(net, w, labels)
        terms["label"] = terms["label"] + config.label_weight * label / 2
        terms["code"] = terms["code"] + config.code_weight * same / 2
        terms["codec"] = terms["codec"] + config.codec_weight * codec / 2
    anywhere = torch.empty_like(pair.labels).uniform_(-0.2, 1)
    terms["codec"] = terms["codec"] + config.codec_weight * F.mse_loss(
        net.decode(net.encode(anywhere)), anywhere
    )
    if pair.step >= config.pictures_from:
        rows = torch.arange(half - config.pictures // 2, half + (config.pictures + 1) // 2)
        with torch.no_grad():
            wanted = space.decode(pair.target[rows])
        with loop.mixed():
            drawn = space.decode(edit.target[rows])
        terms["pixels"] = config.pixel_weight * 4 * F.mse_loss(drawn.float(), wanted)
    return terms


def within(w: Tensor, person: NDArray[np.int64]) -> Tensor:
    """`(L, D)` mean variance of latents within people, no less than a hundredth of its mean."""
    people = [w[torch.from_numpy(person == p)] for p in np.unique(person)]
    value = torch.stack([x.var(0, unbiased=False) for x in people]).mean(0)
    return value.clamp_min(0.01 * float(value.mean()))


def train(config: EditorTraining) -> Editor:
    """Trains an editor and writes `editor.safetensors` into the output folder; linear ones are solved.

    The full model is also written with its encoder and generator, as `gan.safetensors` for `edit`.
    """
    space = editor_files.load_space(config.space)
    data = labelled.read(config.frames, config.names)
    teller = Path(config.space).with_name(autoencoder.TOLD)
    told = teller.exists() and data.told.shape[1] > 0
    w = tell(autoencoder.load_teller(teller), data) if told else encode(space, data.image)
    count = space.levels if config.every_level else edited_levels(space.levels)
    sizes = EditorConfig(names=config.names, levels=space.levels, edited=count, latent=space.latent)
    path = Path(config.out) / "editor.safetensors"
    if config.editor in editor_baselines.LINEAR:
        labels, person = torch.from_numpy(data.labels), torch.from_numpy(data.person)
        net: Editor = editor_baselines.fit_linear(config.editor, sizes, w, labels, person)
    else:
        torch.manual_seed(config.loop.seed)
        spread = within(w, data.person)
        mean = loop.run(
            editor_baselines.build(config.editor, sizes), lambda step: pairs(w, data, config, step),
            lambda m, b: losses(m, b, config, space, spread), config.loop, config.out, settings=config,
        )  # fmt: skip
        assert isinstance(mean, Editor)
        net = mean
    path.parent.mkdir(parents=True, exist_ok=True)
    editor_files.save_editor(path, config.editor, net)
    if config.editor == "full":
        (state, about), (more, told) = weights.load(config.space), weights.load(path)
        weights.save(
            path.with_name("gan.safetensors"),
            weights.halved(state | more),
            about | told | {"kind": "gan"},
            {},
        )
    return net
