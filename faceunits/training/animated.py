"""Portraits of people at rest whose muscles are moved: photos with known action units.

Renders have action units and photos of people asked to show none have zeros: taught by both, a reader
learns that a photo means zero. Here the engine of `edit` moves the faces of such photos by units that are
drawn as for renders, so that photos show them too, and no brush but the photo's own pixels is used. The face
itself is changed a little every time, also where no unit is: that skin was moved tells nothing.
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
from faceunits.rig.synth import stacked
from faceunits.training.generator import parameters

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

OTHER_MUSCLES = 0.15
"""Spread of the logarithms of gain and onset of a unit, one draw for both sides: people's muscles differ."""

SMILES = 0.25
"""Share of faces drawn as portraits show them, `sample.smiles`; the others are `sample.natural`."""


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
    """Share of pictures, beyond what is drawn so, in which no unit is at work."""


def make(config: Animation, index: int) -> dict[str, NDArray[np.generic]]:
    """Shard `index`, as `rig.synth.make` names them: `image` `(n, S, S, 3)` uint8, `landmarks` `(n, 68, 2)`,
    `au` `(n, A)`, `lip_gap` `(n,)`, and `pose_deg` `(n, 2)` and `identity` `(n, D)`, which nobody knows, as
    the shipped R reads them in the portrait at rest; `person` `(n,)` a number for each name of the file."""
    rng = np.random.default_rng([config.seed, index])
    with np.load(config.portraits) as found:
        calm = np.flatnonzero(found["neutral"])
        if not len(calm):
            raise ConfigError(f"expected portraits of people at rest in {config.portraits}; it has none")
        chosen = rng.choice(calm, -(-config.shard // config.each))
        images, names = found["image"][chosen], json.loads(str(found["name"]))
    models, mesh, size = fitting.load(device="cpu"), face.load(), images.shape[1]
    reading = fitting.read(crops_of(images, models.crop_size), models)
    landmarks = warp.resized(reading.landmarks, size / models.crop_size)
    still = {"pose_deg": reading.pose_deg, "au": np.zeros_like(reading.au), "identity": reading.identity}
    rows: list[dict[str, object]] = []
    for k, rest in enumerate(parameters(still).clip(0, 1)):
        stage = engine.stage(images[k], np.eye(2, 3), rest, landmarks[k], mesh, size)
        for _ in range(min(config.each, config.shard - len(rows))):
            au, y = _drawn(rng, rest, len(reading.names), config)
            shape = face.reshape(stage.laid, y)
            rows.append({
                "image": stage.draw(y), "landmarks": shape.points[mesh.landmarks.numpy()].astype(np.float32),
                "au": au, "lip_gap": _gap(models, y), "pose_deg": reading.pose_deg[k],
                "identity": y[2 + len(au) :], "person": np.int64(names.index(names[chosen[k]])),
            })  # fmt: skip
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


def _drawn(rng: np.random.Generator, rest: F32, n_au: int, config: Animation) -> tuple[F32, F32]:
    """Action units `(A,)` to be read, and parameters `(P,)` that move this person's face by them."""
    profile = aus.profile()
    kind = sample.smiles if rng.random() < SMILES else sample.natural
    au = kind(rng, profile, len(rest) - 2 - n_au).au
    if config.at_rest > 0 and rng.random() < config.at_rest:
        au[:] = 0
    units = sorted({n[:4] for n in profile.names})
    own = {u: np.exp(OTHER_MUSCLES * rng.normal(0, 1, 2)) for u in units if u not in ("AU26", "AU45")}
    gain, onset = np.array([own.get(n[:4], np.ones(2)) for n in profile.names]).T
    y = rest.copy()
    y[2 : 2 + n_au] = np.clip(gain * au**onset, 0, 1.2)
    y[2 + n_au :] = np.clip(y[2 + n_au :] + rng.normal(0, config.other_face, len(y) - 2 - n_au), 0, 1)
    return au, y


def _gap(models: fitting.Models, y: F32) -> np.float32:
    """The gap between the lips of parameters `(P,)`, as M's sketch knows it."""
    with torch.inference_mode():
        _, gap = models.networks.sketch(torch.from_numpy(y)[None].clamp(0, 1))
    return np.float32(gap.clamp(0, 2).item())
