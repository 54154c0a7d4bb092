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
from faceunits.errors import ConfigError
from faceunits.evaluation.fits import crops_of
from faceunits.fitting.models import load_generator
from faceunits.motion import engine, face
from faceunits.rig import pack, sample
from faceunits.rig.shape import POSE_RANGE_DEG
from faceunits.rig.synth import stacked
from faceunits.types import Reading

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
    networks = fitting.load()
    mesh, gaps = face.load(), _gaps()
    reading = fitting.read(crops_of(images, networks.crop_size), networks)
    rows: list[dict[str, object]] = []
    for k, image in enumerate(images):
        rest = _parameters(reading, k)
        landmarks = reading.landmarks[k] * (image.shape[1] / networks.crop_size)
        stage = engine.stage(image, np.eye(2, 3), rest, landmarks, mesh, image.shape[1])
        for _ in range(min(config.each, config.shard - len(rows))):
            au, y = _drawn(rng, rest, len(reading.names), config)
            shape = face.reshape(stage.laid, y)
            rows.append({
                "image": stage.draw(y), "landmarks": shape.points[mesh.landmarks.numpy()].astype(np.float32),
                "au": au, "lip_gap": gaps(y), "pose_deg": reading.pose_deg[k],
                "identity": y[2 + len(au) :], "person": np.int64(names.index(names[chosen[k]])),
            })  # fmt: skip
    return stacked(rows)


def write(
    config: Animation, directory: str | Path, count: int, *, workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Shards `animated_{seed}_{index}.npz` with at least `count` faces; those that exist are kept."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    shards = range(-(-count // config.shard))
    paths = {i: folder / f"animated_{config.seed}_{i:05d}.npz" for i in shards}

    def faces(done: int, wanted: int) -> None:
        if progress:
            progress(done * config.shard, wanted * config.shard)

    pack.fill(paths, partial(make, config), workers=workers, progress=faces)
    return list(paths.values())


def _parameters(reading: Reading, k: int) -> F32:
    """`(P,)` of face `k`, taken to be at rest."""
    pose = np.clip(0.5 + reading.pose_deg[k] / (2 * POSE_RANGE_DEG), 0, 1)
    return np.concatenate([pose, np.zeros(len(reading.names)), reading.identity[k]]).astype(np.float32)


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


def _gaps() -> Callable[[F32], np.float32]:
    """The gap between the lips of parameters `(P,)`, as M's sketch knows it."""
    _, sketch, _ = load_generator()

    def gap(y: F32) -> np.float32:
        with torch.inference_mode():
            wide = float(sketch(torch.from_numpy(y)[None].clamp(0, 1))[1])
        return np.float32(np.clip(wide, 0, 2))

    return gap
