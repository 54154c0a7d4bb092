"""Trains E: parsing on renders and real portraits, landmarks and readings on renders (GE-Net, 3.3).

Pixel-wise cross-entropy as in the paper. The two heads beyond the paper use losses whose optimum is
the mean (squared error), because an absolute error pulls sparse action units to zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits import aus, weights
from faceunits.networks.parser import LIGHT, RESNET50, Features, Parser, ParserConfig
from faceunits.rig.shade import HELEN_MIRROR
from faceunits.training import loop, shards
from faceunits.training.people import IGNORE, SETS
from faceunits.types import LANDMARK_MIRROR


@dataclass(frozen=True)
class ParserTraining:
    """Data and weights of the loss."""

    renders: tuple[str, ...] = ()
    """Folders of shards made by `synth`; shards that appear later are used as they come."""
    photos: str = ""
    """File made by `people.write`; empty for renders only."""
    out: str = ""
    """Folder of checkpoints."""
    backbone: str = "light"
    """`light` or `resnet50`."""
    close_ups: bool = False
    """Refine the points of eyes, brows and mouth at full resolution: a third better, twice the time."""
    init: str = ""
    """What to start from: a ResNet-50 ImageNet state dict (`.pt`, `.pth`), or an earlier E (a
    `.safetensors` file, or `parser` for the shipped one); may be empty."""
    profile: str = "default"
    """Action-unit profile of the renders."""
    n_identity: int = 60
    """Identity parameters that are read."""
    batch: int = 32
    """Crops per step."""
    photo_share: float = 0.25
    """Share of a batch that is real portraits."""
    landmark_weight: float = 20.0
    """Of the squared landmark error in crop fractions, in units of 1e-3."""
    heat_weight: float = 0.1
    """Of the cross-entropy of the landmark maps, which sharpens them long before their mean is right."""
    exact_weight: float = 0.6
    """Of the error of the close-ups' points, in pixels of 128."""
    reading_weight: float = 15.0
    """Of the squared error of action units, pose and lip gap."""
    identity_weight: float = 1.0
    """Of the squared error of identity parameters."""
    rest_weight: float = 1.5
    """Of the squared readings of people asked for a neutral face, whose true values are known."""
    twin_weight: float = 1.0
    """Of the squared difference, times `reading_weight`, between two views of one portrait."""
    doubt_faces: int = 6000
    """Renders on which, in the end, E learns to tell how wrong its readings may be."""
    rotate: int = 8
    """Shards held in memory; one is exchanged every 64 batches."""
    loop: loop.LoopConfig = field(default_factory=loop.LoopConfig)


def reading_names(profile: aus.Profile, n_identity: int) -> tuple[str, ...]:
    """Order of the reading head: action units, lip gap, pitch, yaw, identity."""
    return (*profile.names, "lip_gap", "pitch", "yaw", *(f"id{k:03d}" for k in range(n_identity)))


POSE_UNIT_DEG = 28.6
Batch = dict[str, Tensor]


class Crops:
    """Batches of renders (from rotating shards) and portraits, flipped and recoloured at random."""

    def __init__(self, config: ParserTraining, seed: int) -> None:
        self.config, self.rng = config, np.random.default_rng([config.loop.seed, seed])
        self.shards: list[dict[str, NDArray[Any]]] = []
        self.used: list[Path] = []
        self._held: list[Path] = []
        self.photos = dict(np.load(config.photos)) if config.photos else None
        self.mirror = aus.profile(config.profile).mirror()

    def _next_shard(self) -> Path:
        allowed = shards.find(self.config.renders, "varied")
        fresh = [p for p in allowed if p not in self.used]
        if not fresh:
            self.used = [p for p in self.used if any(p == q for q in self._held)]
            fresh = [p for p in allowed if p not in self.used] or allowed
        choice = fresh[int(self.rng.integers(len(fresh)))]
        self.used.append(choice)
        return choice

    def load(self) -> dict[str, NDArray[Any]]:
        """A shard not seen for long."""
        with np.load(self._next_shard()) as pack:
            shard = {k: pack[k] for k in pack.files}
        return shard | {"code": codes(shard)}

    def _rotate(self) -> None:
        shard = self.load()
        path = self.used[-1]
        if len(self.shards) < self.config.rotate:
            self.shards.append(shard)
            self._held = [*self._held, path]
        else:
            k = int(self.rng.integers(len(self.shards)))
            self.shards[k] = shard
            self._held[k] = path

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.config.rotate):
            self._rotate()
        n_photo = round(self.config.batch * self.config.photo_share) if self.photos is not None else 0
        count = 0
        while True:
            count += 1
            if count % 64 == 0:
                self._rotate()
            yield self._batch(self.config.batch - n_photo, n_photo)

    def _batch(self, n_render: int, n_photo: int) -> Batch:
        rng = self.rng
        held = [self.shards[int(k)] for k in rng.integers(len(self.shards), size=n_render)]
        rows = [(s, int(rng.integers(len(s["image"])))) for s in held]
        images = [s["image"][i] for s, i in rows]
        labels = [s["label"][i] for s, i in rows]
        code = np.stack([s["code"][i] for s, i in rows])
        points = np.stack([s["landmarks"][i] for s, i in rows]).astype(np.float32)
        rest = np.zeros(n_render + n_photo, bool)
        if self.photos is not None:
            n = len(self.photos["image"])
            for k in range(0, n_photo, 2):
                # rest is rare among the portraits, and the only thing known of their muscles
                pool = np.flatnonzero(self.photos["neutral"]) if rng.random() < 0.4 else np.arange(n)
                j = int(rng.choice(pool))
                image, label = self.photos["image"][j], self.photos["label"][j]
                images.append(_recolour(rng, image))
                labels.append(label)
                rest[n_render + k] = self.photos["neutral"][j]
                if k + 1 < n_photo:  # the same again, seen otherwise
                    images.append(_recolour(rng, _shifted(rng, image)))
                    labels.append(np.full_like(label, IGNORE))
        image = np.stack(images)
        label = np.stack(labels)
        flip = rng.random(len(image)) < 0.5
        image[flip] = image[flip][:, :, ::-1]
        swap = np.arange(256, dtype=np.uint8)
        swap[: len(HELEN_MIRROR)] = HELEN_MIRROR
        label[flip] = swap[label[flip][:, :, ::-1]]
        turned = np.flatnonzero(flip[:n_render])
        n_au = len(self.mirror)
        code[turned, :n_au] = code[turned][:, self.mirror]
        code[turned, n_au + 2] *= -1  # yaw
        points[turned] = points[turned][:, LANDMARK_MIRROR]
        points[turned, :, 0] = image.shape[2] - 1 - points[turned, :, 0]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image)).permute(0, 3, 1, 2),  # channels last
            "label": torch.from_numpy(label.copy()), "code": torch.from_numpy(code),
            "points": torch.from_numpy(points), "rest": torch.from_numpy(rest),
            "flipped": torch.from_numpy(flip),
        }  # fmt: skip


def _shifted(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Moved by up to two pixels, the border repeated."""
    dy, dx = (int(v) for v in rng.integers(-2, 3, 2))
    size = len(image)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
    return padded[2 + dy : 2 + dy + size, 2 + dx : 2 + dx + size]


def _recolour(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Exposure, contrast, colour cast, grey, noise, and now and then a low resolution."""
    x = image.astype(np.float64)
    x = (x - 128) * rng.uniform(0.6, 1.3) + 128 * rng.uniform(0.6, 1.3)
    x *= rng.uniform(0.9, 1.1, 3)
    if rng.random() < 0.15:
        x = np.repeat(x.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.25:
        x = (x + np.roll(x, 1, 0) + np.roll(x, 1, 1) + np.roll(x, (1, 1), (0, 1))) / 4
    if rng.random() < 0.4:
        x = x + rng.normal(0, abs(rng.normal(0, 8)), x.shape)
    return np.clip(x, 0, 255).astype(np.uint8)


def parsing_loss(scores: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy; a code above ten allows the classes of `SETS`, 255 is ignored.

    `scores` `(B, 11, S, S)`, `label` `(B, S, S)` uint8.
    """
    log_p = scores.float().log_softmax(1)
    target = label.long()
    exact = F.nll_loss(log_p, torch.where(target < 11, target, IGNORE), ignore_index=IGNORE, reduction="sum")
    total = exact
    for code, allowed in SETS.items():
        mask = target == code
        if bool(mask.any()):
            total = total - torch.logsumexp(log_p[:, list(allowed)], 1)[mask].sum()
    return total / (target != IGNORE).sum()


def heat_loss(heat: Tensor, points: Tensor, inside: Tensor, stride: int) -> Tensor:
    """Mean cross-entropy of landmark maps `(B, K, h, w)` against the four cells around each point.

    `points` `(B, K, 2)` crop pixels; `inside` `(B, K, 1)` whether to count it.
    """
    return cell_loss(heat, (points - (stride - 1) / 2) / stride, inside)


def cell_loss(heat: Tensor, at: Tensor, inside: Tensor) -> Tensor:
    """As `heat_loss`, with places `at` `(B, K, 2)` in cells of the maps."""
    h, w = heat.shape[-2:]
    log_p = heat.float().flatten(2).log_softmax(-1)
    x, y = at[..., 0].clamp(0, w - 1.001), at[..., 1].clamp(0, h - 1.001)
    i, j = y.floor(), x.floor()
    fy, fx = y - i, x - j
    total = torch.zeros_like(x)
    for di, wy in ((0, 1 - fy), (1, fy)):
        for dj, wx in ((0, 1 - fx), (1, fx)):
            cell = ((i + di) * w + j + dj).long()
            total = total - wy * wx * log_p.gather(-1, cell[..., None])[..., 0]
    return (total * inside[..., 0]).mean()


def losses(net: nn.Module, batch: Batch, config: ParserTraining) -> loop.Losses:
    """The weighted terms: parsing, landmarks, action units, identity, rest."""
    assert isinstance(net, Parser)
    image = batch["image"].float() / 255
    seen = net(image)
    n = len(batch["code"])
    n_au = len(aus.profile(config.profile))
    size = image.shape[-1]
    # every second pixel, a random one of the four: the full size would cost a quarter of the step
    dy, dx = (int(v) for v in torch.randint(0, 2, (2,)))
    scores = net.scores(seen.logits, every=2)
    terms = {"parsing": parsing_loss(scores, batch["label"][:, dy::2, dx::2])}
    rough = seen.points if seen.rough is None else seen.rough
    gap = (rough[:n].float() - batch["points"]) / size
    inside = ((batch["points"] > 0) & (batch["points"] < size - 1)).all(-1, keepdim=True)
    # robust: a covered landmark may be anywhere
    terms["points"] = (
        config.landmark_weight
        * (F.smooth_l1_loss(gap, torch.zeros_like(gap), beta=0.02, reduction="none") * inside).mean()
        * 10
    )
    if seen.close_ups:
        terms |= close_up_losses(net, seen, batch["points"], inside, config)
    read = seen.readings.float()
    wrong = (read[:n] - batch["code"]).square()
    terms["au"] = config.reading_weight * wrong[:, : n_au + 3].mean()
    # identity modes are not symmetric: a mirrored face has no known identity
    straight = ~batch["flipped"][:n]
    if bool(straight.any()):
        terms["identity"] = config.identity_weight * wrong[straight][:, n_au + 3 :].mean()
    terms["heat"] = config.heat_weight * heat_loss(seen.heat[:n], batch["points"], inside, net.stride)
    if len(read) - n > 1:
        apart = twin_loss(read, batch["flipped"], n, config)
        terms["twins"] = config.twin_weight * config.reading_weight * apart
    rest = batch["rest"]
    if bool(rest.any()):
        terms["rest"] = config.rest_weight * read[rest][:, : n_au + 1].square().mean()
    return terms


def close_up_losses(
    net: Parser, seen: Features, points: Tensor, inside: Tensor, config: ParserTraining
) -> loop.Losses:
    """The points of the close-ups: cross-entropy of their maps, and their own error, in tenths of pixels."""
    assert net.reader is not None
    assert net.reader.close_up is not None
    assert seen.points is not None
    assert seen.rough is not None
    n, maps, exact = len(points), [], []
    cells = net.reader.close_up.cells(points, seen.rough[:n].detach().float())
    for (index, at), heat in zip(cells, seen.close_ups, strict=True):
        h, w = heat.shape[-2:]
        within = (at > 0) & (at < at.new_tensor([w - 1, h - 1]))
        seen_here = inside[:, index] & within.all(-1, keepdim=True)
        maps.append(cell_loss(heat[:n], at, seen_here))
        gap = (seen.points[:n, index].float() - points[:, index]) * (128 / net.config.size)
        error = F.smooth_l1_loss(gap, torch.zeros_like(gap), beta=0.5, reduction="none")
        exact.append((error * seen_here).mean())
    return {
        "maps": config.heat_weight * torch.stack(maps).mean(),
        "exact": config.exact_weight * torch.stack(exact).mean(),
    }


def twin_loss(read: Tensor, flipped: Tensor, n: int, config: ParserTraining) -> Tensor:
    """Mean squared difference of action units, gap and pose between portraits n, n + 2, ... and the other
    views of them, n + 1, n + 3, ...; flipped faces are turned back first."""
    mirror = torch.from_numpy(aus.profile(config.profile).mirror())
    n_au = len(mirror)
    turned = torch.cat([read[:, mirror], read[:, n_au : n_au + 2], -read[:, n_au + 2 : n_au + 3]], 1)
    straight = torch.where(flipped[:, None], turned, read[:, : n_au + 3])[n:]
    pairs = len(straight) // 2 * 2
    return (straight[0:pairs:2] - straight[1:pairs:2]).square().mean()


def build(config: ParserTraining) -> Parser:
    """E of a training configuration."""
    base: ParserConfig = {"light": LIGHT, "resnet50": RESNET50}[config.backbone]
    names = reading_names(aus.profile(config.profile), config.n_identity)
    sizes = {"landmarks": 68, "readings": len(names), "doubts": len(names) - config.n_identity,
             "close_ups": config.close_ups}  # fmt: skip
    net = Parser(ParserConfig(**{**base.__dict__, **sizes}))
    if config.init:
        start(net, _state(config.init))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _state(source: str) -> dict[str, Tensor]:
    if Path(source).suffix in (".pt", ".pth"):
        state: dict[str, Tensor] = torch.load(source, weights_only=True)
        return state
    return weights.load(source)[0]


def _narrower(a: Tensor, b: Tensor) -> bool:
    return a.shape[0] == b.shape[0] and a.shape[2:] == b.shape[2:] and a.shape[1] < b.shape[1]


def start(net: Parser, state: dict[str, Tensor]) -> None:
    """Copies the tensors that fit; a layer that hears more than before ignores the new at first."""
    own = net.state_dict()
    for name, value in state.items():
        if name not in own:
            continue
        if value.shape == own[name].shape:
            own[name] = value.to(own[name].dtype)
        elif value.ndim >= 2 and _narrower(value, own[name]):
            own[name] = torch.zeros_like(own[name])
            own[name][:, : value.shape[1]] = value
    net.load_state_dict(own)


def prime(net: Parser, shards: list[dict[str, NDArray[Any]]], *, noise_px: float = 1.0) -> None:
    """Solves the reading head's linear path: ridge regression of parameters on landmarks.

    Left to the descent it takes thousands of steps, because the movements that count are small
    beside how people and poses differ. `noise_px` is added to the true landmarks, as E's err too.
    """
    reader = net.reader
    assert reader is not None
    points = np.concatenate([s["landmarks"] for s in shards]).reshape(-1, reader.mean.numel())
    points = points + np.random.default_rng(0).normal(0, noise_px, points.shape)
    truth = np.concatenate([s["code"] for s in shards])
    mean, std = points.mean(0), points.std(0)
    x = np.column_stack([(points - mean) / std, np.ones(len(points))])
    solved = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ truth)
    with torch.no_grad():
        reader.mean.copy_(torch.from_numpy(mean))
        reader.std.copy_(torch.from_numpy(std))
        reader.linear.weight.copy_(torch.from_numpy(solved[:-1].T))
        reader.linear.bias.copy_(torch.from_numpy(solved[-1]))
        reader.dense[-1].weight.mul_(0.1)  # type: ignore[operator]


def learn_doubt(net: Parser, shards: list[dict[str, NDArray[Any]]], *, faces: int, steps: int = 400) -> None:
    """Fits the doubt of a trained E: the log variance of each reading's error, linear in what the readings
    are made from, by the likelihood of the errors on `faces` of each shard. Nothing else changes.

    After the training, because beside it the doubt runs after errors that shrink.
    """
    assert net.reader is not None
    doubt, final = net.reader.doubt, net.reader.dense[-1]
    assert doubt is not None
    net.eval()
    heard: list[Tensor] = []
    hook = final.register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    wrong = []
    with torch.no_grad():
        for shard in shards:
            for i in range(0, min(faces, len(shard["image"])), 50):
                rows = slice(i, min(i + 50, faces))
                image = torch.from_numpy(np.ascontiguousarray(shard["image"][rows])).permute(0, 3, 1, 2)
                said = net(image.float() / 255).readings
                wrong.append((said - torch.from_numpy(shard["code"][rows]))[:, : doubt.out_features])
    hook.remove()
    weight, bias = likely_errors(torch.cat(heard), torch.cat(wrong), steps=steps)
    with torch.no_grad():
        doubt.weight.copy_(weight)
        doubt.bias.copy_(bias)


def likely_errors(
    x: Tensor, wrong: Tensor, *, steps: int = 400, penalty: float = 0.02
) -> tuple[Tensor, Tensor]:
    """Weight `(N, H)` and bias `(N,)` of a linear layer that tells the log variance of errors `(n, N)` from
    what was heard, `(n, H)`: those under which the errors are likeliest, kept small by `penalty`."""
    error = wrong.square()
    mean, spread = x.mean(0), x.std(0)
    # what renders are hardly ever heard to say may be loud in photos
    spread = spread.clamp_min(float(spread.median()) + 1e-6)
    z = (x - mean) / spread
    weight = torch.zeros(error.shape[1], x.shape[1], requires_grad=True)
    bias = (error.mean(0) + 1e-6).log().requires_grad_(True)
    optimiser = torch.optim.Adam([weight, bias], 0.01)
    for _ in range(steps):
        log_variance = (z @ weight.T + bias).clamp(-12, 2)
        likely = (error * torch.exp(-log_variance) + log_variance).mean()
        value = likely + penalty * weight.square().sum(1).mean()
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        return weight / spread, bias - (weight / spread) @ mean


def codes(shard: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """`(n, R)` what the reading head should say, in the order of `reading_names`."""
    gap = np.minimum(shard["lip_gap"], 1.5)[:, None]
    parts = [shard["au"], gap, shard["pose_deg"] / POSE_UNIT_DEG, shard["identity"] - 0.5]
    return np.concatenate(parts, 1).astype(np.float32)


def train(config: ParserTraining) -> Parser:
    """Trains E and writes `parser.safetensors` into the output folder."""
    torch.manual_seed(config.loop.seed)
    net = build(config)
    crops = Crops(config, 0)
    if not config.init:
        prime(net, [crops.load() for _ in range(config.rotate)])
    mean = loop.run(
        net, lambda step: iter(Crops(config, step)), lambda m, b: losses(m, b, config), config.loop,
        config.out, settings=config,
    )  # fmt: skip
    assert isinstance(mean, Parser)
    if config.doubt_faces:
        shards = [crops.load() for _ in range(config.rotate)]
        learn_doubt(mean, shards, faces=-(-config.doubt_faces // len(shards)))
    export(mean, config, Path(config.out) / "parser.safetensors")
    return mean


def export(net: Parser, config: ParserTraining, path: Path) -> None:
    """Writes E with what a reader of its numbers needs."""
    linear = "reader.linear.weight"  # a tenth of a pixel counts
    state = net.state_dict()
    state = weights.halved(state) | {linear: state[linear]}
    names = list(reading_names(aus.profile(config.profile), config.n_identity))
    about = {**net.config.__dict__, "kind": "parser", "profile": config.profile,
             "n_identity": config.n_identity, "reading_names": names}  # fmt: skip
    weights.save(path, state, about, {})
