"""Trains AUEditNet's editor, or a baseline of it, on stored latents of labelled frames.

Pairs are two frames of one person. First latents and labels alone, which costs next to nothing: latents of
rendered frames are told where the picture space came with what tells them, others are the encoder's. Told
targets are in the source's pose, which no label names: an editor that is shown two poses learns to turn every
head half way to the mean.

Then pictures too, drawn from the encoder's latents, as in use: E reads the edited picture as it reads the
target's frame, but what was not asked for, pose and identity as in the source given back. A generator draws
less of a unit than it is told; the editor learns to ask for more. R, which judges edits, takes no part.
Encoder and generator stay as they are.

Source: AUEditNet (Jin et al. 2024); terms and weights are our reconstruction, see `networks.editor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits import aus, weights
from faceunits.evaluation import editor_files
from faceunits.fitting.models import load_parser
from faceunits.networks import editor_baselines
from faceunits.networks.editor import DISFA, Editor, EditorConfig, code_loss, edited_levels
from faceunits.networks.encoders import pooled
from faceunits.networks.parser import Parser
from faceunits.rig import shape
from faceunits.training import autoencoder, loop
from faceunits.training import frames as labelled

Rows = tuple[Tensor, Tensor]
"""Source and target frames of pairs, `(B,)` each."""


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
    pictures: int = 8
    """Pairs per step that are drawn, in the second part."""
    pixel_weight: float = 8.0
    """Of the squared error of the edited picture against the target's, in [-1, 1]."""
    unit_weight: float = 250.0
    """Of the squared error of the action units that E reads in it, on [0, 1]."""
    person_weight: float = 50.0
    """Of the squared error of the pose and identity that E reads in it."""
    label_weight: float = 80.0
    """Of the squared error of labels read from latents, on [0, 1]."""
    code_weight: float = 1.0
    """Of the squared error of label codes."""
    codec_weight: float = 1.0
    """Of labels sent through the codec and back."""
    latent_weight: float = 1.0
    """Of the squared error of the edited latent, relative to the spread of latents within people."""
    drawn: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(
            steps=300, lr=3e-4, warmup=20, weight_decay=1e-4, ema=0.98, save_every=50
        )
    )
    """The second part; no steps leave it out."""
    share: float = 0.7
    """What is kept lies this share of the way from the weights before the second part to those after it:
    most of what it gains, and less of what it moves beside."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(steps=4000, lr=1e-3, weight_decay=1e-4, bf16=False)
    )
    """The first part."""


@dataclass(frozen=True)
class Known:
    """What is known of N frames: latents `w` `(N, L, D)` and what the pose adds to them, `labels` `(N, K)` in
    [0, 1], and the variance of latents within people, `spread` `(L, D)`: w+ has directions of very different
    size."""

    w: Tensor
    pose: Tensor
    labels: Tensor
    spread: Tensor

    def move(self, source: Tensor, target: Tensor) -> Tensor:
        """`(B, L, D)` from the latents of some frames to those of others, in the pose of the former."""
        return (self.w[target] - self.pose[target]) - (self.w[source] - self.pose[source])


@dataclass(frozen=True)
class Pictures:
    """What draws and looks; of N frames the encoder's latents `encoded` `(N, L, D)` and the action units and
    lip gap that E reads, `units` `(N, A + 1)`; and which of these a label is made of, `(K, A + 1)`."""

    space: editor_files.Space
    parser: Parser
    encoded: Tensor
    units: Tensor
    made_of: Tensor

    def show(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures of latents, and E's readings of them."""
        picture = self.space.decode(w)
        readings: Tensor = self.parser(pooled(picture, self.parser.config.size), through=True).readings
        return picture, readings


@torch.no_grad()
def _each(see: Callable[[Tensor], Tensor], image: NDArray[np.uint8], batch: int) -> Tensor:
    """What `see` says of pictures `(N, S, S, 3)`, given them as `(B, 3, S, S)` in [0, 1]."""
    parts = (image[i : i + batch].transpose(0, 3, 1, 2).copy() for i in range(0, len(image), batch))
    return torch.cat([see(torch.from_numpy(part).float() / 255) for part in parts])


def encode(space: editor_files.Space, image: NDArray[np.uint8], *, batch: int = 64) -> Tensor:
    """`(N, L, D)` latents of pictures `(N, S, S, 3)`."""
    return _each(space.encode, image, batch)


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


@torch.no_grad()
def of_pose(teller: autoencoder.Teller, told: NDArray[np.float32]) -> Tensor:
    """`(N, L, D)` what the pose in parameters `(N, P)` adds to latents."""
    y = torch.from_numpy(told)
    facing = y.clone()
    facing[:, shape.POSE] = 0.5
    z = y.new_zeros(len(y), teller.config.look)
    return teller.placed(y, z) - teller.placed(facing, z)


def units_of(parser: Parser, image: NDArray[np.uint8], count: int, *, batch: int = 64) -> Tensor:
    """`(N, count)` the first readings of E in pictures `(N, S, S, 3)`."""
    return _each(lambda part: parser(part).readings[:, :count], image, batch)


def made_of(names: Sequence[str], parameters: Sequence[str]) -> Tensor:
    """`(K, A + 1)` whether a unit of a label is made of a parameter, or, as AU25, of the lip gap."""
    readings = [*map(aus.parse, parameters), aus.parse("AU25")]
    wanted = map(aus.parse, names)
    return torch.tensor([[unit == au and side in ("", s) for au, s in readings] for unit, side in wanted])


def pairs(data: labelled.Frames, batch: int, seed: int, step: int) -> Iterator[Rows]:
    """Batches of two frames of a person, source and target: a unit, then a level that the person shows, then
    a frame of it, so that rare intensities count; any other frame of the person as the source."""
    rng = np.random.default_rng([seed, step])
    level = np.rint(5 * data.labels).astype(int)
    people = [np.flatnonzero(data.person == p) for p in np.unique(data.person)]
    people = [rows for rows in people if len(rows) > 1]
    shown = [
        [[rows[level[rows, k] == v] for v in np.unique(level[rows, k])] for k in range(level.shape[1])]
        for rows in people
    ]
    while True:
        chosen = []
        for p in rng.integers(len(people), size=batch):
            by_level = shown[p][int(rng.integers(level.shape[1]))]
            target = int(rng.choice(by_level[int(rng.integers(len(by_level)))]))
            source = int(rng.choice(people[p][people[p] != target]))
            chosen.append((source, target))
        source_rows, target_rows = torch.tensor(chosen).T
        yield source_rows, target_rows


def losses(net: nn.Module, rows: Rows, known: Known, config: EditorTraining) -> loop.Losses:
    """`code_losses`, and latents. Half of the targets are named by their labels, half by the code of their
    latent."""
    assert isinstance(net, Editor)
    source, labels = known.w[rows[0]], known.labels[rows[1]]
    target = source + known.move(*rows)
    half = len(labels) // 2
    code = torch.cat([net.encode(labels[:half]), net.read(target[half:])])
    latent = config.latent_weight * _distance(net(source, code).target, target, known)
    return {"latent": latent, **code_losses(net, rows, known, config)}


def code_losses(net: Editor, rows: Rows, known: Known, config: EditorTraining) -> loop.Losses:
    """Labels, codes, and the codec, of sources and targets alike."""
    source, labels = known.w[rows[0]], known.labels[rows[1]]
    target = source + known.move(*rows)
    terms = {"label": torch.zeros(()), "code": torch.zeros(()), "codec": torch.zeros(())}
    for w, truth in ((source, known.labels[rows[0]]), (target, labels)):
        label, same, codec = code_loss(net, w, truth)
        terms["label"] = terms["label"] + config.label_weight * label / 2
        terms["code"] = terms["code"] + config.code_weight * same / 2
        terms["codec"] = terms["codec"] + config.codec_weight * codec / 2
    anywhere = torch.empty_like(labels).uniform_(-0.2, 1)
    terms["codec"] = terms["codec"] + config.codec_weight * F.mse_loss(
        net.decode(net.encode(anywhere)), anywhere
    )
    return terms


def _distance(w: Tensor, wanted: Tensor, known: Known) -> Tensor:
    return ((w - wanted).square() / known.spread).mean()


def drawn_losses(
    net: nn.Module, rows: Rows, known: Known, pictures: Pictures, config: EditorTraining
) -> loop.Losses:
    """`code_losses`, and for the first pairs of a batch what their pictures show, edited from
    the encoder's latents; half of the targets are named by their labels, half by what the editor reads in
    the other frame's latent."""
    assert isinstance(net, Editor)
    terms = code_losses(net, rows, known, config)
    a, b = (r[: config.pictures] for r in rows)
    half = len(a) // 2
    source, count = pictures.encoded[a], pictures.units.shape[1]
    code = torch.cat([net.encode(known.labels[b[:half]]), net.read(pictures.encoded[b[half:]])])
    edited, wanted = net(source, code).target, source + known.move(a, b)
    picture, seen = pictures.show(edited)
    with torch.no_grad():
        plain, before = pictures.space.decode(wanted), pictures.show(source)[1]
        stays = (known.labels[b] - known.labels[a]).abs() < 0.05
        stays = stays.float() @ pictures.made_of.float() > 0
        units = torch.where(stays, before[:, :count], pictures.units[b])
    return terms | {
        "latent": config.latent_weight * _distance(edited, wanted, known),
        "pixels": config.pixel_weight * 4 * F.mse_loss(picture.float(), plain),
        "units": config.unit_weight * F.mse_loss(seen[:, :count], units),
        "person": config.person_weight * F.mse_loss(seen[:, count:], before[:, count:]),
    }


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
    labels = torch.from_numpy(data.labels)
    beside = Path(config.space).with_name(autoencoder.TOLD)
    if beside.exists() and data.told.shape[1]:
        teller = autoencoder.load_teller(beside)
        w, pose, encoded = tell(teller, data), of_pose(teller, data.told), None
    else:
        w = encoded = encode(space, data.image)
        pose = torch.zeros_like(w)
    count = space.levels if config.every_level else edited_levels(space.levels)
    sizes = EditorConfig(names=config.names, levels=space.levels, edited=count, latent=space.latent)
    path = Path(config.out) / "editor.safetensors"
    if config.editor in editor_baselines.LINEAR:
        net: Editor = editor_baselines.fit_linear(
            config.editor, sizes, w, labels, torch.from_numpy(data.person)
        )
    else:
        known = Known(w, pose, labels, within(w, data.person))
        net = _trained(config, sizes, data, known, space, encoded)
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


def _trained(
    config: EditorTraining, sizes: EditorConfig, data: labelled.Frames, known: Known,
    space: editor_files.Space, encoded: Tensor | None,
) -> Editor:  # fmt: skip
    """The editor after both parts; what is not `encoded` yet is when the second needs it."""
    torch.manual_seed(config.loop.seed)
    first, second = config.loop, config.drawn
    net: nn.Module = loop.run(
        editor_baselines.build(config.editor, sizes),
        lambda step: pairs(data, config.batch, first.seed, step),
        lambda m, rows: losses(m, rows, known, config), first, config.out, settings=config,
    )  # fmt: skip
    if second.steps:
        parser, about = load_parser()
        of = made_of(config.names, aus.profile(str(about["profile"])).names)
        units = units_of(parser, data.image, of.shape[1])
        encoded = encode(space, data.image) if encoded is None else encoded
        pictures = Pictures(space, parser, encoded, units, of)
        before = {k: v.clone() for k, v in net.state_dict().items()}
        net = loop.run(
            net, lambda step: pairs(data, config.batch, second.seed + 1, step),
            lambda m, rows: drawn_losses(m, rows, known, pictures, config), second,
            Path(config.out) / "drawn", settings=config,
        )  # fmt: skip
        net.load_state_dict(loop.between(before, net.state_dict(), config.share))
    assert isinstance(net, Editor)
    return net
