"""Carries out what is asked of an editor, on people it has not seen, and measures the pictures.

Each edit starts from the latent of a rendered frame; what comes of it is drawn by the generator and measured
by the package's reader. References beside the edits: the real frames, and the frames given back without
an edit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceunits import aus
from faceunits.alignment import warp
from faceunits.errors import ConfigError
from faceunits.evaluation import editor_scores as scores
from faceunits.evaluation import editor_sets as sets
from faceunits.evaluation import fits, metrics
from faceunits.evaluation.crops import Tool
from faceunits.evaluation.editor_files import Space
from faceunits.evaluation.editor_scores import Judges, Seen
from faceunits.evaluation.editor_sets import Frames
from faceunits.networks import editor_baselines
from faceunits.networks.editor import Editor, EditorConfig
from faceunits.networks.encoders import pooled

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

STEPS = (-2.0, -1.0, *np.arange(0, 5.01, 0.5).tolist())
"""What is asked of single units, 0-5; below 0 is extrapolation."""

STAYS = 0.25
"""A unit whose label changes by less, 0-5, was not asked to change."""


LIMIT = 2.0
"""Largest strength that is tried for an identity score."""


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    pairs: int = 60
    """Edits of each person."""
    calm: int = 1
    """Frames of each person on which single units go through `STEPS`."""
    singles: int = 1
    """Editors, from the first on, that are tried on single units: many pictures each."""
    match: int = 60
    """Edits, of those above, on which the strength of equal identity is sought."""
    batch: int = 32
    """Pictures at a time."""
    rounds: int = 1000
    """Of the bootstrap over people."""
    seed: int = 900_600
    """Of the choice of edits."""


@dataclass(frozen=True)
class Bench:
    """People kept out, what is asked, and how they look unedited.

    `w` `(N, L, D)` latents of `frames`; `pairs` of `editor_sets.pairs`; `calm` rows for single units;
    `real` and `back` what was measured of the frames and of the frames given back by the generator.
    """

    frames: Frames
    pairs: pd.DataFrame
    calm: I64
    w: Tensor
    real: Seen
    back: Seen
    space: Space
    on: Tool
    judges: Judges
    plan: Plan

    @property
    def labels(self) -> Tensor:
        """`(N, K)` labels of the frames as editors take them, in [0, 1]."""
        return torch.from_numpy(self.frames.labels / aus.MAX_INTENSITY).to(self.w)

    def column(self, name: str) -> I64:
        """A column of the pairs, as rows of the frames."""
        return np.array(self.pairs[name], np.int64)  # a copy: pandas' own may not be written to

    @property
    def group(self) -> I64:
        """`(P,)` number of the person of each pair, from 0."""
        return np.unique(self.pairs["person"].to_numpy(), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class Edited:
    """Pictures of `P` latents: what was `seen`; mean absolute difference over scales to the frame that was
    wanted, `l1` `(P,)`; `lpips` `(P,)` or of no rows; `pictures` of the rows that were to be kept."""

    seen: Seen
    l1: F64
    lpips: F64
    pictures: dict[int, U8]


def prepare(frames: Frames, space: Space, on: Tool, judges: Judges | None = None,
            plan: Plan | None = None) -> Bench:  # fmt: skip
    """The bench of some people: chooses what is asked, encodes and measures the frames that are needed.

    Raises:
        InputError: a person with a single frame.
    """
    plan, judges = plan or Plan(), judges or Judges()
    pairs = sets.pairs(frames, plan.pairs, seed=plan.seed)
    calm = sets.calmest(frames, plan.calm)
    columns = ["source", "target", "other"]
    used = np.unique(np.concatenate([pairs[columns].to_numpy(np.int64).ravel(), calm]))
    used = used[used >= 0]
    for name in columns:  # rows of what is kept
        kept = np.searchsorted(used, pairs[name])
        pairs[name] = np.where(pairs[name] >= 0, kept, -1)
    chosen = frames.rows(used)
    w = encode(chosen, space, plan.batch, on.models.device)
    real = scores.see(pictures(chosen, plan.batch), frames.names, on, judges)
    back = scores.see(drawn(space, w, plan.batch), frames.names, on, judges)
    return Bench(chosen, pairs, np.searchsorted(used, calm), w, real, back, space, on, judges, plan)


def pictures(frames: Frames, batch: int) -> Iterator[Tensor]:
    """The frames, `(B, 3, S, S)` in [0, 1]."""
    for i in range(0, len(frames.image), batch):
        yield torch.from_numpy(fits.crops_of(frames.image[i : i + batch]))


def encode(frames: Frames, space: Space, batch: int, device: torch.device | str = "cpu") -> Tensor:
    """`(N, L, D)` latents of frames."""
    with torch.inference_mode():
        return torch.cat([space.encode(x.to(device)) for x in pictures(frames, batch)])


def drawn(space: Space, w: Tensor, batch: int) -> Iterator[Tensor]:
    """Pictures `(B, 3, S, S)` of latents `(N, L, D)`."""
    with torch.inference_mode():
        for i in range(0, len(w), batch):
            yield space.decode(w[i : i + batch])


def linear(
    frames: Frames, space: Space, config: EditorConfig, *, per_person: int = 100, seed: int = 0,
    batch: int = 32, device: torch.device | str = "cpu",
) -> dict[str, Editor]:  # fmt: skip
    """The two linear baselines, from people who may train; at most so many frames of each."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in np.unique(frames.person):
        own = np.flatnonzero(frames.person == person)
        rows += np.sort(rng.permutation(own)[:per_person]).tolist()
    chosen = frames.rows(np.array(rows, np.int64))
    w = encode(chosen, space, batch, device).cpu()
    labels, person = torch.from_numpy(chosen.labels / aus.MAX_INTENSITY), torch.from_numpy(chosen.person)
    return {
        name: editor_baselines.fit_linear(name, config, w, labels, person).to(device)
        for name in editor_baselines.LINEAR
    }


def check(editors: dict[str, Editor], space: Space, names: Sequence[str]) -> None:
    """Refuses editors of another picture space or of other units.

    Raises:
        ConfigError: naming the first one.
    """
    for name, net in editors.items():
        c = net.config
        if (c.levels, c.latent, c.names) != (space.levels, space.latent, tuple(names)):
            raise ConfigError(
                f"expected editors of {space.levels} levels of {space.latent} numbers and of "
                f"{', '.join(names)}; {name} has {c.levels} of {c.latent} and {', '.join(c.names)}; train "
                "it on these latents and labels"
            )


# What is asked of an editor, as latents


def wanted(bench: Bench, editor: Editor, rows: I64 | slice = slice(None), *, strength: float = 1.0) -> Tensor:
    """Latents `(P, L, D)` of the pairs: labels of the target frame asked of the source frame.

    Args:
        bench: of `prepare`.
        editor: any.
        rows: of the pairs.
        strength: share of the way from the source's latent that is gone.
    """
    w = bench.w[bench.column("source")[rows]]
    labels = bench.labels[bench.column("target")[rows]]
    with torch.inference_mode():
        hat: Tensor = editor(w, editor.encode(labels)).target
    return hat if strength == 1 else w + strength * (hat - w)


def transferred(bench: Bench, editor: Editor, model: str) -> tuple[Tensor, I64]:
    """Latents of the pairs with the expression that a picture shows, and which pairs these are.

    Args:
        bench: of `prepare`.
        editor: any.
        model: `target`, another frame of the person, or `other`, a frame of somebody else.
    """
    rows = np.flatnonzero(bench.column(model) >= 0)
    w, like = bench.w[bench.column("source")[rows]], bench.w[bench.column(model)[rows]]
    with torch.inference_mode():
        return editor(w, editor.read(like)).target, rows


def series(bench: Bench, editor: Editor, unit: int) -> Tensor:
    """Latents `(C * len(STEPS), L, D)` of the calm frames with one unit set to each of `STEPS`."""
    w = bench.w[bench.calm].repeat_interleave(len(STEPS), 0)
    labels = w.new_zeros(len(w), len(bench.frames.names))
    labels[:, unit] = w.new_tensor(STEPS).repeat(len(bench.calm)) / aus.MAX_INTENSITY
    chosen = torch.arange(labels.shape[1], device=w.device) == unit
    with torch.inference_mode():
        out: Tensor = editor(w, editor.changed(w, labels, chosen)).target
    return out


# Measuring


def carry_out(
    bench: Bench, w: Tensor, goal: I64 | None = None, keep: Sequence[int] = (), *, briefly: bool = False
) -> Edited:
    """Draws and measures latents.

    Args:
        bench: of `prepare`.
        w: `(P, L, D)`.
        goal: `(P,)` rows of the frames that were wanted; None where there is no such frame.
        keep: rows of `w` whose pictures are to be kept.
        briefly: as in `editor_scores.see`.
    """
    parts: list[tuple[Seen, F64, F64]] = []
    kept: dict[int, U8] = {}
    start = 0
    for image in drawn(bench.space, w, bench.plan.batch):
        seen = scores.see([image], bench.frames.names, bench.on, bench.judges, briefly=briefly)
        l1 = lpips = np.zeros(0)
        if goal is not None:
            rows = goal[start : start + len(image)]
            truth = torch.from_numpy(fits.crops_of(bench.frames.image[rows])).to(image)
            small = pooled(image, truth.shape[-1]) if image.shape != truth.shape else image
            l1 = scores.multi_scale_l1(small, truth)
            if bench.judges.lpips is not None:
                with torch.inference_mode():
                    lpips = bench.judges.lpips(2 * small - 1, 2 * truth - 1).double().cpu().numpy()
        parts.append((seen, l1, lpips))
        for i in keep:
            if start <= i < start + len(image):
                kept[i] = warp.picture(image[i - start].cpu().numpy())
        start += len(image)
    joined = scores.joined([p[0] for p in parts])
    return Edited(joined, np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts]), kept)


def identity(seen: Seen, reference: Seen) -> F64:
    """`(P,)` identity score: ArcFace where it was measured, else the identity parameters that are read."""
    if seen.arcface.shape[1]:
        return scores.likeness(seen.arcface, reference.arcface)
    return scores.likeness(seen.identity, reference.identity)


def strength_for(
    bench: Bench, editor: Editor, goal: float, *, rows: I64, limit: float = LIMIT, halvings: int = 7
) -> float:
    """The strength, up to `limit`, at which an editor's mean identity score is `goal`.

    The largest one that keeps the score at or above it, found by halving: the farther from the source, the
    less alike. 0, no edit at all, where nothing else keeps it.
    """
    reference = bench.back.rows(bench.column("source")[rows])
    full = wanted(bench, editor, rows)
    w = bench.w[bench.column("source")[rows]]

    def score(strength: float) -> float:
        seen = carry_out(bench, w + strength * (full - w), briefly=True).seen
        return float(identity(seen, reference).mean())

    low, high = 0.0, limit
    if score(limit) >= goal:
        return limit
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) >= goal else (low, middle)
    return low


def agreement_parts(bench: Bench, units: F64, truth: I64, rows: I64 | slice = slice(None)) -> F64:
    """Sums `(people, K, 8)` of measured units `(P, K)` of some pairs against labels of the frames `truth`."""
    group = bench.group
    return metrics.sums(bench.frames.labels[truth], units, group[rows], int(group.max()) + 1)
