"""Portraits whose muscles are moved: photos with known action units.

Renders have action units and photos of people asked to show none have zeros: taught by both, a reader
learns that a photo means zero. Here the engine of `edit` moves the faces of such photos by units that are
drawn as for renders, so that photos show them too, and no brush but the photo's own pixels is used. The face
itself is changed a little every time, also where no unit is: that skin was moved tells nothing.

What people do who smile for a camera nobody knows, but what is added to it is known all the same: two
pictures of one portrait differ by what was added to each. Few people have been asked to be at rest, many
have smiled.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from faceunits import aus, fitting
from faceunits.alignment import warp
from faceunits.errors import ConfigError
from faceunits.evaluation.fits import crops_of
from faceunits.motion import engine, face
from faceunits.rig import pack, sample
from faceunits.rig.shape import parameters
from faceunits.rig.synth import stacked

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

OTHER_MUSCLES = 0.15
"""Spread of the logarithms of gain and onset of a unit, one draw for both sides: people's muscles differ."""

SMILES = 0.25
"""Share of faces drawn as portraits show them, `sample.smiles`; the others are `sample.natural`."""

POSED = ("AU06", "AU07", "AU10", "AU12", "AU14", "AU16", "AU26")
"""Units of people who smile for a camera; the others are taken to be at rest, as in those asked for it."""

ACTIVE = 0.1
"""Units of such people that are read above this are at work: they are changed up and down from there."""


@dataclass(frozen=True)
class Animation:
    """What to draw."""

    portraits: str = ""
    """File made by `people.write`."""
    seed: int = 89
    """Of what is drawn; from `shards.FIRST_TEST_SEED` on it trains nothing."""
    shard: int = 200
    """Faces in a file."""
    each: int = 4
    """Pictures in turn of one portrait."""
    other_face: float = 0.1
    """Spread of what is added to each identity parameter, a half of what people differ by: few people have
    been asked to be at rest, and they would be known by heart."""
    at_rest: float = 0.3
    """Share of pictures, beyond what is drawn so, in which no unit is at work, or nothing is added."""
    acting: bool = False
    """Portraits of people who were not asked to be at rest, instead of those who were."""
    neutral: bool = False
    """Draw every face once more with nothing added, as `neutral` of a row; of people at rest only."""


def make(config: Animation, index: int) -> dict[str, NDArray[np.generic]]:
    """Shard `index`, as `rig.synth.make` names them: `image` `(n, S, S, 3)` uint8, `landmarks` `(n, 68, 2)`,
    `au` `(n, A)` and `lip_gap` `(n,)`, NaN where nobody knows (`POSED` units of people who act), and
    `pose_deg` `(n, 2)` and `identity` `(n, D)` as the shipped R reads them in the portrait; `added`
    `(n, A + 1)` what was added to action units and lip gap, `portrait` `(n,)` which pictures are of one
    portrait, and `person` `(n,)` a number for each name of the file; with `config.neutral` also `neutral` as
    `image`.

    Raises:
        ConfigError: no portraits of the kind wanted, or neutral faces of people who act.
    """
    if config.acting and config.neutral:
        raise ConfigError("expected neutral faces of people at rest; got acting and neutral; leave one out")
    rng = np.random.default_rng([config.seed, index])
    with np.load(config.portraits) as found:
        wanted = np.flatnonzero(found["neutral"] != config.acting)
        if not len(wanted):
            kind = "who act" if config.acting else "at rest"
            raise ConfigError(f"expected portraits of people {kind} in {config.portraits}; it has none")
        chosen = rng.choice(wanted, -(-config.shard // config.each))
        images, names = found["image"][chosen], json.loads(str(found["name"]))
    models, mesh, size = fitting.load(device="cpu"), face.load(), images.shape[1]
    reading = fitting.read(crops_of(images, models.crop_size), models)
    landmarks = warp.resized(reading.landmarks, size / models.crop_size)
    shown = reading.au if config.acting else np.zeros_like(reading.au)
    now = parameters(vars(reading) | {"au": shown}).clip(0, 1)
    unknown = _posed() & config.acting
    rows: list[dict[str, object]] = []
    for k, y0 in enumerate(now):
        stage, gap0 = engine.stage(images[k], np.eye(2, 3), y0, landmarks[k], mesh, size), _gap(models, y0)
        for _ in range(min(config.each, config.shard - len(rows))):
            added, y = _drawn(rng, y0, len(reading.names), config)
            shape = face.reshape(stage.laid, y)
            gap = _gap(models, y)
            au = np.where(unknown, np.nan, added).astype(np.float32)
            rows.append({
                "image": stage.draw(y), "landmarks": shape.points[mesh.landmarks.numpy()].astype(np.float32),
                "au": au, "lip_gap": np.float32(np.nan) if config.acting else gap,
                "added": np.append(added, gap - gap0).astype(np.float32),
                "pose_deg": reading.pose_deg[k], "identity": y[2 + len(au) :],
                "portrait": np.int64(k), "person": np.int64(names.index(names[chosen[k]])),
            })  # fmt: skip
            if config.neutral:
                still = y.copy()
                still[2 : 2 + len(au)] = y0[2 : 2 + len(au)]
                rows[-1]["neutral"] = stage.draw(still)
    return stacked(rows)


def write(
    config: Animation, directory: str | Path, count: int, *, workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Shards `animated_{seed}_{index}.npz` with at least `count` faces; those that exist are kept."""
    return pack.folder(
        directory, f"animated_{config.seed}", partial(make, config), count,
        shard=config.shard, workers=workers, progress=progress,
    )  # fmt: skip


def _drawn(rng: np.random.Generator, y0: F32, n_au: int, config: Animation) -> tuple[F32, F32]:
    """What is added to action units `(A,)`, and parameters `(P,)` that move this person's face by it."""
    profile = aus.profile()
    kind = sample.smiles if rng.random() < SMILES else sample.natural
    added = kind(rng, profile, len(y0) - 2 - n_au).au
    if config.acting:
        added = _changed(rng, y0[2 : 2 + n_au], added)
    if config.at_rest > 0 and rng.random() < config.at_rest:
        added[:] = 0
    units = sorted({n[:4] for n in profile.names})
    own = {u: np.exp(OTHER_MUSCLES * rng.normal(0, 1, 2)) for u in units if u not in ("AU26", "AU45")}
    gain, onset = np.array([own.get(n[:4], np.ones(2)) for n in profile.names]).T
    y = y0.copy()
    y[2 : 2 + n_au] = np.clip(y0[2 : 2 + n_au] + gain * np.sign(added) * np.abs(added) ** onset, 0, 1.2)
    y[2 + n_au :] = np.clip(y[2 + n_au :] + rng.normal(0, config.other_face, len(y) - 2 - n_au), 0, 1)
    return added, y


def _changed(rng: np.random.Generator, now: F32, drawn: F32) -> F32:
    """`(A,)` what is added to units `now`: to those at rest as drawn, to every second of those at work what
    there is room for, or up to half of it is taken away."""
    units = [n[:4] for n in aus.profile().names]
    draws = {u: rng.uniform(-1, 1) * (rng.random() < 0.5) for u in sorted(set(units))}
    share = np.array([draws[u] for u in units])
    room = 1.1 - now
    at_work = (now > ACTIVE) & _posed()
    change = np.where(share < 0, share * now / 2, share * np.clip(room, 0, 0.5))
    return np.where(at_work, change, np.minimum(drawn, room)).astype(np.float32)


def _posed() -> NDArray[np.bool_]:
    """`(A,)` the parameters of `POSED`."""
    return np.isin([n[:4] for n in aus.profile().names], POSED)


def _gap(models: fitting.Models, y: F32) -> np.float32:
    """The gap between the lips of parameters `(P,)`, as M's sketch knows it."""
    with torch.inference_mode():
        _, gap = models.networks.sketch(torch.from_numpy(y)[None].clamp(0, 1))
    return np.float32(gap.clamp(0, 2).item())
