"""Rendered data sets: shards of crops with exact parameters, labels and landmarks, from seeds.

Shard `k` depends on the seed and `k` alone, so an interrupted run resumes and any machine makes the
same faces. A finished shard is never half-written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceunits import aus
from faceunits.errors import ConfigError
from faceunits.rig import look, muscles, pack, render, sample, shape, skin, surround
from faceunits.rig.shade import HELEN

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class SynthConfig:
    """What a data set holds."""

    rig: str = ""
    """Directory of the face model."""
    skins: str = ""
    """File of real skins made by `rig.skin.collect`; empty for painted skins only."""
    look: str = "varied"
    """`varied`, or `plain` (the fixed look that M imitates)."""
    parameters: str = "natural"
    """`natural`, `smiles` (as portraits show them), `dense` (many units at once), or `uniform` (GE-Net,
    section 4.1)."""
    profile: str = "default"
    """Action-unit profile: `default` or `paper23`."""
    n_identity: int = 60
    """Identity modes that vary."""
    size: int = 128
    """Pixels per side."""
    shard: int = 1000
    """Faces per shard."""
    muscles: float = 0.0
    """Share of the faces whose muscles differ from the rig's (`rig.muscles`)."""
    muscle_strength: tuple[float, float] = (1.0, 1.0)
    """How much they differ, from and to; see `rig.muscles.draw`."""
    bend_cm: float = 0.0
    """How much the faces of those people are built differently from any identity of the rig."""
    company: float = 0.0
    """How much of what the FACS manual lists as seen with a movement comes along in those people
    (`rig.muscles.COMPANY`)."""
    rest: float = 1.0
    """How much those people may look active at rest; see `rig.muscles.draw`."""
    brows_cm: tuple[float, float] = (0.0, 0.0)
    """Mean and spread of how much higher than the rig's the brows lie at rest (varied look only). Of people
    at rest they lie 0.4 lower, two thirds of what AU1 raises them (`benchmarks/proportions.py`)."""
    folds: float = 0.0
    """Share of the faces whose skin keeps folds at rest (`rig.look.folded`)."""
    recolour: float = 0.0
    """Share of the faces whose real skin gets another tone (`rig.look.recoloured`)."""
    camera: bool = True
    """Blur, noise and compression of a camera, and things held before the face; without them for trainings
    that draw their own in every view of a picture (varied look only)."""
    jitter: bool = True
    """Move the crop as an imperfect detector would (varied look only)."""
    neutral: bool = False
    """Draw every person once more, at rest, as `neutral` of a row (varied look only)."""
    seed: int = 0
    """Seeds from 900,000 on are kept for testing: the trainers leave them out."""


@dataclass(frozen=True)
class Stage:
    """All that drawing needs, loaded once per process."""

    model: shape.FaceModel
    static: render.Static
    profile: aus.Profile
    weights: F32
    skins: list[skin.Skin]
    gap: tuple[float, float]
    marks: F32
    """`(D, 68, 3)` the identity modes at the landmarks."""


@cache
def stage(config: SynthConfig) -> Stage:
    """Loads the rig and the skins of a configuration."""
    model = shape.load(config.rig, n_identity=config.n_identity)
    profile = aus.profile(config.profile)
    weights = model.shape_weights(profile)
    people = skin.load(config.skins) if config.skins else []
    gap, marks = _gap_range(model, profile, weights), model.identity[:, model.landmarks]
    return Stage(model, render.prepare(model), profile, weights, people, gap, marks)


def _gap_range(model: shape.FaceModel, profile: aus.Profile, weights: F32) -> tuple[float, float]:
    """Lip gap (cm) of the base face at rest, and of a full AU25 on it."""
    rest = np.zeros(1, np.float32)
    full = profile.expand({"AU25": aus.MAX_INTENSITY}) @ weights
    closed = shape.vertices(model, rest, np.zeros_like(full))
    return gap_cm(closed[model.landmarks]), gap_cm(shape.vertices(model, rest, full)[model.landmarks])


def gap_cm(points: F32) -> float:
    """Mean distance of the inner lips' three vertical pairs; `points` `(68, 3)`."""
    return float(np.mean([np.linalg.norm(points[a] - points[b]) for a, b in ((61, 67), (62, 66), (63, 65))]))


def scene(rng: np.random.Generator, stage_: Stage, config: SynthConfig) -> tuple[sample.Sample, render.Scene]:
    """Draws the parameters of one face and its look."""
    draws = {
        "natural": sample.natural, "smiles": sample.smiles, "dense": sample.dense, "uniform": sample.uniform,
    }  # fmt: skip
    draw = draws.get(config.parameters)
    if draw is None:
        raise ConfigError(f"expected parameters {', '.join(draws)}; got {config.parameters!r}")
    face = draw(rng, stage_.profile, config.n_identity)
    identity = shape.identity_weights(stage_.model, face.identity)
    weights = face.au @ stage_.weights
    if config.look == "plain":
        return face, render.Scene(identity, weights, face.pitch_deg, face.yaw_deg)
    if config.look != "varied":
        raise ConfigError(f"expected the look varied or plain; got {config.look!r}")
    skin_look = look.varied(rng, stage_.skins)
    if skin_look.real is not None and rng.random() < 0.4:  # the skin's own face, give or take
        own = 0.5 + skin_look.real.identity[: config.n_identity] / (2 * shape.IDENTITY_RANGE)
        near = np.clip(own + rng.normal(0, 0.04, len(own)), 0, 1).astype(np.float32)
        face = replace(face, identity=near)
        identity = shape.identity_weights(stage_.model, near)
    jitter = rng.normal(0, 0.12, (5, 2)) + rng.normal(0, 0.15, (1, 2)) if config.jitter else None
    # drawn only where asked for: the shards of earlier seeds stay what they were
    differs = config.muscles > 0 and rng.random() < config.muscles
    seen = render.Scene(
        identity, weights, face.pitch_deg, face.yaw_deg,
        gaze_deg=(float(rng.normal(0, 7)), float(rng.normal(0, 11))),
        distance=_distance(rng),
        look=skin_look, light=look.varied_light(rng),
        jitter=None if jitter is None else jitter.astype(np.float32),
    )  # fmt: skip
    if differs:
        low, high = config.muscle_strength
        strength = rng.uniform(low, high) if low < high else low
        names = stage_.model.expression_names
        extra = {"bend_cm": config.bend_cm, "company": config.company, "rest": config.rest}
        seen = replace(seen, muscles=muscles.draw(rng, names, strength=strength, **extra))
    if any(config.brows_cm):
        seen = replace(seen, brows_cm=_brows(rng, *config.brows_cm))
    if config.recolour > 0 and rng.random() < config.recolour:
        seen = replace(seen, look=look.recoloured(rng, seen.look))
    if config.folds > 0 and rng.random() < config.folds:
        seen = replace(seen, look=look.folded(rng, seen.look))
    return face, seen


def _distance(rng: np.random.Generator) -> float:
    """Of the camera, cm."""
    return float(np.exp(rng.uniform(np.log(30), np.log(200))))


def _brows(rng: np.random.Generator, mean: float, spread: float) -> tuple[float, float]:
    """Height of the inner and the outer ends, cm; lower than the last limit, lids would have no room."""
    height, tilt = rng.normal(mean, spread), rng.normal(0, spread / 2)
    inner, outer = np.clip([height + tilt, height - tilt], -1.1, 0.5)
    return float(inner), float(outer)


def make(config: SynthConfig, index: int) -> dict[str, NDArray[np.generic]]:
    """Shard `index`: `image` uint8 `(n, S, S, 3)`, `label` uint8 Helen classes, `landmarks`
    `(n, 68, 2)`, `au` `(n, A)`, `identity` `(n, D)`, `pose_deg` `(n, 2)`, `lip_gap` `(n,)`,
    `skin_tone` `(n,)` degrees, see `look.ita_deg`; with `config.neutral` also `neutral` as `image`."""
    on = stage(config)
    rng = np.random.default_rng([config.seed, index])
    rows: list[dict[str, object]] = []
    for _ in range(config.shard):
        face, seen = scene(rng, on, config)
        if config.look == "plain":
            drawn = render.draw(on.model, on.static, seen, config.size)
            image, label = render.rounded(drawn.image), drawn.label
        else:
            drawn, image, label = _taken(rng, on, seen, config)
        rows.append(truth(on, face, seen, drawn.marks) | {
            "image": image, "label": HELEN[label], "landmarks": drawn.landmarks,
            "skin_tone": np.float32(look.ita_deg(seen.look.skin)),
        })  # fmt: skip
        if config.neutral:
            rows[-1]["neutral"] = _at_rest(rng, on, seen, config)
    return stacked(rows)


def _taken(
    rng: np.random.Generator, on: Stage, seen: render.Scene, config: SynthConfig
) -> tuple[render.Render, NDArray[np.uint8], NDArray[np.uint8]]:
    """What is drawn of a scene of the varied look, and the picture and labels that a camera has of it."""
    behind = surround.backdrop(rng, config.size, seen.look)
    drawn = render.draw(on.model, on.static, seen, config.size, behind)
    covered, label = surround.cover(
        rng, drawn.image, drawn.label, drawn.landmarks, seen.look, things=config.camera
    )
    image = surround.degrade(rng, covered) if config.camera else render.rounded(covered)
    return drawn, image, label


def _at_rest(
    rng: np.random.Generator, on: Stage, seen: render.Scene, config: SynthConfig
) -> NDArray[np.uint8]:
    """`(S, S, 3)` the same person with no unit at work, head and eyes turned otherwise, in every second case
    in another light and from elsewhere: from the same film or from another day."""
    calm = replace(
        seen, weights=np.zeros_like(seen.weights), pitch_deg=float(rng.normal(0, 6)),
        yaw_deg=float(rng.normal(0, 7)), gaze_deg=(float(rng.normal(0, 5)), float(rng.normal(0, 7))),
        jitter=None if seen.jitter is None else rng.normal(0, 0.12, (5, 2)).astype(np.float32),
    )  # fmt: skip
    if rng.random() < 0.5:
        distance = _distance(rng)
        calm = replace(calm, light=look.varied_light(rng), distance=distance)
    return _taken(rng, on, calm, config)[1]


def truth(on: Stage, face: sample.Sample, seen: render.Scene, marks: F32) -> dict[str, object]:
    """The parameters that a picture of a face shows: `au`, `identity`, `pose_deg`, `lip_gap` of a row.
    `marks` are its `Render.marks`."""
    # lips that part at rest are parted: the gap is measured from the rig's closed mouth
    rest = on.model.neutral[on.model.landmarks] + np.einsum("d,dkc->kc", seen.identity, on.marks)
    opened = gap_cm(marks) - gap_cm(rest)
    return {
        "au": face.au, "identity": face.identity,
        "pose_deg": np.array([seen.pitch_deg, seen.yaw_deg], np.float32),
        "lip_gap": np.float32(np.clip(opened / (on.gap[1] - on.gap[0]), 0, 2)),
    }  # fmt: skip


def stacked(rows: Sequence[Mapping[str, object]]) -> dict[str, NDArray[np.generic]]:
    """Rows of the same keys as an array for each key."""
    return {k: np.stack([np.asarray(r[k]) for r in rows]) for k in rows[0]}


def write(
    config: SynthConfig, directory: str | Path, count: int, *, workers: int = 1, first: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Shards with at least `count` faces; those that exist are kept.

    Args:
        config: what to draw.
        directory: where `{look}_{seed}_{index}.npz` go.
        count: faces wanted.
        workers: processes.
        first: index of the first shard.
        progress: called with faces done and faces wanted.
    """
    return pack.folder(
        directory, f"{config.look}_{config.seed}", partial(make, config), count,
        shard=config.shard, first=first, workers=workers, progress=progress,
    )  # fmt: skip
