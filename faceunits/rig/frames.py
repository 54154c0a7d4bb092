"""Several frames of each rendered person, for the editor: same skin, light and camera, other expressions.

As a laboratory films them: no occluders, a sharp camera, nearly the same pose. Expressions are those of
DISFA's labels (twelve units, both sides alike, whole levels 0 to 5), so that whatever is trained on these
frames can be trained on that data set too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceunits.networks.editor import DISFA
from faceunits.rig import pack, render, surround, synth
from faceunits.rig.shade import HELEN


@dataclass(frozen=True)
class FramesConfig:
    """Who is drawn, and how often."""

    rig: str = ""
    """Directory of the face model."""
    skins: str = ""
    """File of real skins; empty for painted skins only."""
    people: int = 27
    """Identities."""
    frames: int = 200
    """Frames of each."""
    graded: bool = True
    """Whole levels 0 to 5; otherwise any value between."""
    profile: str = "default"
    """Action-unit profile."""
    n_identity: int = 60
    """Identity modes that vary."""
    size: int = 128
    """Pixels per side."""
    seed: int = 0
    """Seeds from 900,000 on are kept for testing: the trainers leave them out."""


def expression(rng: np.random.Generator, *, graded: bool) -> dict[str, float]:
    """Intensities 0-5 by name: rest in one frame of ten, else one to four units."""
    if rng.random() < 0.1:
        return {}
    chosen = rng.choice(len(DISFA), int(rng.integers(1, 5)), replace=False)
    return {DISFA[k]: float(rng.integers(1, 6) if graded else rng.uniform(0.5, 5)) for k in chosen}


def person(config: FramesConfig, index: int) -> dict[str, NDArray[np.generic]]:
    """All frames of one person, as a shard of `synth.make` with `person` `(n,)` beside."""
    asked = synth.SynthConfig(
        config.rig, config.skins, profile=config.profile, n_identity=config.n_identity, size=config.size,
        jitter=False,
    )  # fmt: skip
    on = synth.stage(asked)
    rng = np.random.default_rng([config.seed, index])
    face, seen = synth.scene(rng, on, asked)
    chance = int(rng.integers(1 << 30))  # the same background behind every frame
    pitch, yaw = rng.normal(0, 5), rng.normal(0, 7)
    rows: list[dict[str, object]] = []
    for _ in range(config.frames):
        active = on.profile.expand(expression(rng, graded=config.graded))
        moved = replace(
            seen, weights=active @ on.weights, pitch_deg=float(pitch + rng.normal(0, 1.5)),
            yaw_deg=float(yaw + rng.normal(0, 2)),
        )  # fmt: skip
        behind = surround.backdrop(np.random.default_rng(chance), config.size, seen.look)
        drawn = render.draw(on.model, on.static, moved, config.size, behind)
        rows.append(synth.truth(on, replace(face, au=active), moved, drawn.marks) | {
            "image": render.rounded(drawn.image), "label": HELEN[drawn.label],
            "landmarks": drawn.landmarks, "person": np.int64(index),
        })  # fmt: skip
    return synth.stacked(rows)


def write(
    config: FramesConfig, directory: str | Path, *, workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """One file per person; those that exist are kept.

    Args:
        config: who and how often.
        directory: where `frames_{seed}_{person}.npz` go.
        workers: processes.
        progress: called with people done and people wanted.
    """
    stem = f"frames_{config.seed}"
    return pack.folder(
        directory, stem, partial(person, config), config.people, workers=workers, progress=progress
    )
