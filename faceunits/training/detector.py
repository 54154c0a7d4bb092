"""Trains the detector's two networks together on composites made on the fly.

One pass serves both: the finder sees the composite, the landmarker sees crops around its faces, around
nothing, and around the finder's own false alarms, which are the negatives that matter.

    faceunits train detector --set data=faces --set out=runs/detector --set minutes=60
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Full
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits import weights
from faceunits.alignment.warp import TEMPLATE_VERSION, face_size, invert, similarity
from faceunits.evaluation.photos import TRAINING_PICTURES, Photo, library_pictures, read_photos
from faceunits.networks.detector import STRIDES, DetectorConfig, FaceFinder, Landmarker, cells
from faceunits.training import loop
from faceunits.training.composites import (
    Composer,
    Composite,
    Portrait,
    patches,
    portrait,
    portraits,
    warp_crop,
)
from faceunits.training.turning import mean_depth, turn

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

SMALLEST_LANDMARKED = 26.0
"""Faces below this many pixels train the finder only: their crops hold no detail to place points by."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one run."""

    data: str
    """Folder with the photo sets `london`, `canada`, `congress`."""
    out: str
    """Folder for checkpoints, the log and the weights."""
    renders: str = ""
    """Pattern of rendered sets (`.npz` with `image` and `landmarks`); empty for none."""
    minutes: float = 60.0
    """Length of the run; the learning rate falls to zero over it."""
    batch: int = 32
    """Composites per step."""
    size: int = 192
    """Side of a composite in pixels; larger faces than this are left to the detector's shrunk look."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.02
    """AdamW's weight decay."""
    ema: float = 0.998
    """Decay of the averaged weights, which are the ones that ship."""
    seed: int = 0
    """Seed of the composites and the initial weights."""
    workers: int = 1
    """Processes that make composites."""
    threads: int = 1
    """Threads of the training process."""


@dataclass(frozen=True)
class Batch:
    """`images` `(B, S, S, 3)`; per picture its faces; crops `(M, C, C, 3)` with their targets."""

    images: U8
    points: list[F32]
    visible: list[F32]
    crops: U8
    crop_points: F32
    crop_weight: F32  # of the points' error; 0 where there is no face
    is_face: F32


def jittered(rng: np.random.Generator, points: F32, size: int, amount: float) -> F32:
    """`(2, 3)` crop-to-picture transform about a face, off by about what the finder is off."""
    back = invert(similarity(points[None].astype(np.float64), size)[0])
    angle = math.radians(float(rng.normal(0, 11 * amount)))
    zoom = math.exp(float(rng.normal(0, 0.13 * amount)))
    c = (size - 1) / 2
    turn = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shift = c + rng.normal(0, 0.055 * size * amount, 2) - turn @ np.array([c, c])
    linear = back[:, :2] @ turn
    return np.concatenate([linear, (back[:, :2] @ shift + back[:, 2])[:, None]], 1).astype(np.float32)


def displaced(rng: np.random.Generator, points: F32, size: int) -> F32:
    """`(2, 3)` a crop that holds a part of a face or far too much of it: a false proposal."""
    m = jittered(rng, points, size, 0.5)
    kind, c = rng.integers(0, 3), (size - 1) / 2
    zoom = (1.0, rng.uniform(0.22, 0.4), rng.uniform(2.4, 4.0))[kind]
    angle = rng.uniform(0, 2 * math.pi)
    reach = size * (rng.uniform(0.38, 0.8) if kind == 0 else 0.15 * rng.random())
    shift = np.array([math.cos(angle), math.sin(angle)]) * reach + c * (1 - zoom)
    return np.concatenate([m[:, :2] * zoom, (m[:, :2] @ shift + m[:, 2])[:, None]], 1).astype(np.float32)


def random_crop(rng: np.random.Generator, faces: F32, picture: int, size: int) -> F32 | None:
    """`(2, 3)` a crop anywhere that is not on a face."""
    for _ in range(6):
        side = math.exp(rng.uniform(math.log(20), math.log(picture)))
        x, y = rng.uniform(0, picture, 2)
        if all(
            math.hypot(x - f[:, 0].mean(), y - f[:, 1].mean()) > 0.6 * (side / 1.43 + face_size(f))
            for f in faces
        ):
            a, zoom = rng.normal(0, 0.4), side / size
            turn = zoom * np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
            shift = np.array([x, y]) - turn @ np.array([size / 2, size / 2])
            return np.concatenate([turn, shift[:, None]], 1).astype(np.float32)
    return None


def crops_of(rng: np.random.Generator, made: Composite, size: int) -> list[tuple[U8, F32, float, float]]:
    """Crops of one composite: (picture, points, weight of the points, is a face)."""
    found: list[tuple[U8, F32, float, float]] = []
    nothing = np.zeros((5, 2), np.float32)

    def add(m: F32, points: F32 | None, weight: float) -> None:
        picture = warp_crop(made.image, m, size)
        if points is None:
            found.append((picture, nothing, 0.0, 0.0))
            return
        forward = invert(m)
        target = points.astype(np.float64) @ forward[:, :2].T + forward[:, 2]
        found.append((picture, target.astype(np.float32), weight, 1.0))

    for points, visible in zip(made.points, made.visible, strict=True):
        s = float(face_size(points))
        if visible < 0.6:
            continue
        amount = float(rng.choice([2.0, 1.0, 0.35, 0.15], p=[0.15, 0.3, 0.3, 0.25]))
        if s >= SMALLEST_LANDMARKED:
            add(jittered(rng, points, size, amount), points, min(1.0, s / 70) * visible)
        elif rng.random() < 0.4:
            add(jittered(rng, points, size, amount), points, 0.1)
        if rng.random() < 0.25:
            add(displaced(rng, points, size), None, 0.0)
    for points in made.false_points:
        add(jittered(rng, points, size, 0.6), None, 0.0)
    if rng.random() < 0.5:
        m = random_crop(rng, made.points, made.image.shape[0], size)
        if m is not None:
            add(m, None, 0.0)
    return found


def make_batch(rng: np.random.Generator, composer: Composer, count: int, crop_size: int) -> Batch:
    made = [composer.compose(rng) for _ in range(count)]
    crops = [c for m in made for c in crops_of(rng, m, crop_size)]
    return Batch(
        np.stack([m.image for m in made]),
        [m.points for m in made],
        [m.visible for m in made],
        np.stack([c[0] for c in crops]),
        np.stack([c[1] for c in crops]),
        np.array([c[2] for c in crops], np.float32),
        np.array([c[3] for c in crops], np.float32),
    )


@dataclass(frozen=True)
class CellTargets:
    """Per picture and cell: `label` `(B, N)` 1 face, 0 none, -1 ignored; `points` `(B, N, 5, 2)`."""

    label: Tensor
    points: Tensor
    size: Tensor


def cell_targets(points: list[F32], visible: list[F32], picture: int) -> CellTargets:
    """Which cells must speak for which face.

    Positive are the cells near the middle of a face on the grids that suit its size; around them, and
    on the other grids, a face is ignored; faces mostly out of sight are ignored altogether.
    """
    centres = [cells(picture // s, picture // s, s) for s in STRIDES]
    level = torch.cat([torch.full((len(c),), i) for i, c in enumerate(centres)])
    centre = torch.cat(centres)
    label = torch.zeros(len(points), len(centre))
    target = torch.zeros(len(points), len(centre), 5, 2)
    size = torch.ones(len(points), len(centre))
    for b, (faces, seen) in enumerate(zip(points, visible, strict=True)):
        for face, share in zip(faces, seen, strict=True):
            s = float(face_size(face))
            distance = (centre - torch.from_numpy(face.mean(0))).norm(dim=-1)
            label[b][(distance < 0.55 * s) & (label[b] == 0)] = -1
            if share < 0.5:
                continue
            for i, (low, high) in enumerate(FaceFinder.level_sizes):
                if low <= s < high:
                    on = level == i
                    nearest = distance[on].min()
                    chosen = on & (distance <= torch.maximum(nearest, torch.tensor(0.2 * s)))
                    label[b][chosen] = 1
                    target[b][chosen] = torch.from_numpy(face)
                    size[b][chosen] = s
    return CellTargets(label, target, size)


def finder_loss(logits: Tensor, points: Tensor, t: CellTargets) -> tuple[Tensor, Tensor]:
    """Focal loss of the scores (Lin et al. 2017) and the points' error in face sizes."""
    positive = t.label == 1
    count = positive.sum().clamp(min=1)
    used = (t.label >= 0).float()
    truth = positive.float()
    p = logits.sigmoid()
    miss = (p - truth).abs()
    score = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    score = (score * miss**2 * used).sum() / count
    error = (points[positive] - t.points[positive]) / t.size[positive][:, None, None]
    place = F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.02, reduction="sum") / count / 10
    return score, place


def landmarker_loss(
    logits: Tensor, points: Tensor, target: Tensor, weight: Tensor, is_face: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the belief, and the points' error in crop pixels."""
    score = F.binary_cross_entropy_with_logits(logits, is_face)
    error = F.smooth_l1_loss(points, target, beta=0.5, reduction="none").mean((1, 2))
    return score, (error * weight).sum() / weight.sum().clamp(min=1)


def false_alarms(
    images: U8, logits: Tensor, points: Tensor, label: Tensor, size: int, *, most: int = 24
) -> U8:
    """`(M, C, C, 3)` crops of what the finder takes for a face where there is none."""
    wrong = torch.where(label == 0, logits, torch.full_like(logits, -1e9))
    best, cell = wrong.max(1)  # one per picture
    found = []
    for b in torch.argsort(best, descending=True)[:most].tolist():
        p = points[b, cell[b]].numpy().astype(np.float64)
        if best[b] < -1 or np.ptp(p, 0).max() < 4:
            continue
        m = invert(similarity(p[None], size)[0]).astype(np.float32)
        found.append(warp_crop(np.ascontiguousarray(images[b]), m, size))
    return np.stack(found) if found else np.zeros((0, size, size, 3), np.uint8)


class Average:
    """Exponential mean of a network's weights and buffers."""

    def __init__(self, net: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.state = {k: v.detach().clone() for k, v in net.state_dict().items()}

    def update(self, net: nn.Module) -> None:
        self.steps += 1
        # Short memory at first, or the random start weighs for long.
        decay = min(self.decay, self.steps / (self.steps + 20))
        for k, v in net.state_dict().items():
            if v.dtype.is_floating_point:
                self.state[k].lerp_(v.detach(), 1 - decay)
            else:
                self.state[k].copy_(v)


def to_tensor(pictures: U8) -> Tensor:
    """`(B, 3, H, W)` float32 in [0, 1], channels last in memory."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(255)
    return x.contiguous(memory_format=torch.channels_last)


def turned_portraits(data: Path, photos: list[Photo], rng: np.random.Generator) -> list[Portrait]:
    """Two turned versions of each photo, at half its size: what is turned is not sharp anyway."""
    depth, out = mean_depth(data), []
    for photo in photos:
        if photo.mesh is None:
            continue
        small = portrait(photo.image, photo.points).levels[1]
        half = Photo(small, (photo.points + 0.5) / 2 - 0.5, photo.person, False)
        mesh = (photo.mesh + 0.5) / 2 - 0.5
        for side in (-1, 1):
            seen = turn(half, mesh, depth, side * rng.uniform(12, 52), rng.uniform(-22, 22))
            out.append(portrait(seen.image, seen.points))
    return out


def read_renders(pattern: str, rng: np.random.Generator, *, most: int = 6000) -> list[Portrait]:
    """Rendered faces as portraits: `image` `(n, H, W, 3)` uint8, `landmarks` `(n, 68, 2)` pixels."""
    from faceunits.rig.shape import five_points

    found = []
    path = Path(pattern)
    files = sorted(path.parent.glob(path.name))
    for file in files:
        with np.load(file) as z:
            images, marks = z["image"], five_points(z["landmarks"])
        for i in rng.permutation(len(images))[: -(-most // len(files))]:
            found.append(portrait(images[i], marks[i]))
    return found


def _produce(config: TrainingConfig, seed: int, queue: Any) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng([config.seed, seed])
    composer = build_composer(config, rng)
    parent = os.getppid()
    while os.getppid() == parent:
        batch = make_batch(rng, composer, config.batch, DetectorConfig().crop_size)
        while os.getppid() == parent:
            try:
                queue.put(batch, timeout=5)
                break
            except Full:
                continue


def build_composer(config: TrainingConfig, rng: np.random.Generator) -> Composer:
    """Frontal photos, half as many rendered faces and a bit more turned photos than that (by chance
    of being drawn), over whatever face-free pictures there are.
    """
    photos = read_photos(Path(config.data))
    backgrounds = library_pictures(TRAINING_PICTURES) * 40 + patches(photos)
    frontal = portraits(photos)
    faces, total = list(frontal), sum(p.weight for p in frontal)
    extra = [(turned_portraits(Path(config.data), photos, rng), 0.6)]
    if config.renders:
        extra.append((read_renders(config.renders, rng), 0.5))
    for some, share in extra:
        faces += [Portrait(p.levels, p.points, share * total / len(some)) for p in some]
    return Composer(faces, backgrounds, size=config.size)


def train(config: TrainingConfig) -> Path:
    """Trains until the time is up; resumes from the checkpoint in `out`; returns the weights' path."""
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1))
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    sizes = DetectorConfig()
    nets = nn.ModuleDict({"finder": FaceFinder(sizes), "landmarker": Landmarker(sizes)})
    average = Average(nets, config.ema)
    nets.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(nets.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    step = 0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        nets.load_state_dict(saved["nets"])
        average.state, average.steps = saved["average"], saved["step"]
        optimiser.load_state_dict(saved["optimiser"])
        step = saved["step"]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(6)
    makers = [
        context.Process(target=_produce, args=(config, step * 64 + i, queue), daemon=True)
        for i in range(config.workers)
    ]
    for maker in makers:
        maker.start()
    batch = queue.get()
    passed, last = 0.0, time.monotonic()
    before = last
    totals = np.zeros(5)
    counted = 0
    while passed < config.minutes:
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * passed / config.minutes))
        for group in optimiser.param_groups:
            group["lr"] = max(rate, 1e-5) * min(1.0, (step + 1) / 200)
        totals += _step(nets, optimiser, batch, sizes.crop_size)
        average.update(nets)
        step, counted = step + 1, counted + 1
        if time.monotonic() - last > 60:
            left = config.minutes - passed
            names = ("score", "place", "belief", "points", "alarms")
            parts = " ".join(f"{n} {v:.4f}" for n, v in zip(names, totals / counted, strict=True))
            line = f"step {step} {parts} lr {optimiser.param_groups[0]['lr']:.1e} {left:.0f} min left"
            print(line, flush=True)
            _save(out, nets, average, optimiser, step, sizes)
            last, counted = time.monotonic(), 0
            totals[:] = 0
        batch = queue.get()
        now = time.monotonic()
        # A run that was suspended goes on where it was: the pause does not count.
        passed, before = passed + min(now - before, 60) / 60, now
    _save(out, nets, average, optimiser, step, sizes)
    for maker in makers:
        maker.terminate()
    return out / "detector.safetensors"


def _step(nets: nn.ModuleDict, optimiser: torch.optim.Optimizer, batch: Batch, size: int) -> F32:
    """One update; returns the four losses and the count of false alarms."""
    nets.train()
    images = to_tensor(batch.images)
    targets = cell_targets(batch.points, batch.visible, images.shape[-1])
    with loop.mixed():
        logits, points = nets["finder"](images)
    score, place = finder_loss(logits, points, targets)
    hard = false_alarms(batch.images, logits.detach(), points.detach(), targets.label, size)
    crops = np.concatenate([batch.crops, hard])
    extra = len(hard)
    with loop.mixed():
        belief, marks = nets["landmarker"](to_tensor(crops))
    is_face = torch.from_numpy(np.pad(batch.is_face, (0, extra)))
    weight = torch.from_numpy(np.pad(batch.crop_weight, (0, extra)))
    target = torch.from_numpy(np.pad(batch.crop_points, ((0, extra), (0, 0), (0, 0))))
    certainty, exactness = landmarker_loss(belief, marks, target, weight, is_face)
    loss = score + 4 * place + certainty + exactness
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(nets.parameters(), 10.0)
    optimiser.step()
    return np.array([score.item(), place.item(), certainty.item(), exactness.item(), extra], np.float32)


def _save(
    out: Path,
    nets: nn.ModuleDict,
    average: Average,
    optimiser: torch.optim.Optimizer,
    step: int,
    sizes: DetectorConfig,
) -> None:
    """Checkpoint and weights, each written beside and then renamed, never half."""
    checkpoint = {
        "nets": nets.state_dict(),
        "average": average.state,
        "optimiser": optimiser.state_dict(),
        "step": step,
    }
    torch.save(checkpoint, out / "checkpoint.tmp")
    os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")
    # Half precision halves the file; the networks compute in float32.
    state = {k: v.half() if v.dtype.is_floating_point else v for k, v in average.state.items()}
    config = {"network": "detector", "template": TEMPLATE_VERSION, **asdict(sizes)}
    weights.save(out / "detector.safetensors", state, config, {"steps": step})
