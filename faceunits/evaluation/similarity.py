"""Does a feature space tell expressions apart? The matrix of GE-Net's Figure 7.

Entry (i, j) is the loss between a picture of expression i and the face that M draws with expression j in
the same pose; light, colours and, in part, the person differ, which should not matter.
A space that sees expressions has the smallest entry of each row on the diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceunits import fitting
from faceunits.alignment import warp
from faceunits.evaluation import distortions
from faceunits.evaluation.fits import crops_of
from faceunits.evaluation.spaces import Space, distances
from faceunits.rig.shape import parameters

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

EXPRESSIONS: Mapping[str, Mapping[str, float]] = {
    "rest": {},
    "smile": {"AU12": 4, "AU06": 3},
    "open mouth": {"AU26": 5, "AU16": 1},
    "raised brows": {"AU01": 4, "AU02": 4},
    "frown": {"AU04": 5},
    "wrinkled nose": {"AU09": 4, "AU10": 4},
    "pucker": {"AU18": 5},
    "closed eyes": {"AU45": 5},
    "sorrow": {"AU01": 3, "AU15": 4, "AU17": 3},
    "puffed cheeks": {"AU34": 5},
}
"""Ten expressions by their intensities, 0-5; which ten of FaceWarehouse the paper shows is not told."""


@dataclass(frozen=True)
class Person:
    """`seen` `(n, 3, S, S)` pictures of n expressions and `drawn`, M's faces with the same ones."""

    names: tuple[str, ...]
    seen: F32
    drawn: F32


def draw(models: fitting.Models, y: F32) -> F32:
    """`(n, 3, S, S)` faces that M draws of parameters `(n, P)`."""
    with torch.inference_mode():
        image = models.networks.generator(torch.from_numpy(y).to(models.device))
    return np.asarray(image.float().cpu().numpy())


def wearing(y: F32, au: F32) -> F32:
    """`(n, P)` the face of parameters `(P,)` with other action units `(n, A)`."""
    out = np.repeat(y[None], len(au), 0)
    out[:, 2 : 2 + au.shape[1]] = au
    return out


def own_faces(models: fitting.Models, people: int, *, seed: int = 0) -> list[Person]:
    """People that M draws itself, in other lights, colours and focus, against M's mean face in their pose.

    Needs no data, but is easier than photos: M draws both sides.
    """
    rng = np.random.default_rng(seed)
    n_id = models.networks.generator.config.parameters - 2 - len(models.names)
    au = np.stack([models.profile.expand(dict(v)) for v in EXPRESSIONS.values()])
    n, out = len(au), []
    for _ in range(people):
        identity = np.clip(0.5 + 0.16 * rng.normal(0, 1, (1, n_id)), 0, 1).repeat(n, 0)
        pose = np.clip(0.5 + rng.normal(0, 0.12, (1, 2)), 0, 1).repeat(n, 0)
        own, base = (
            np.concatenate([pose, au, i], 1, dtype=np.float32) for i in (identity, 0 * identity + 0.5)
        )
        seen = np.stack([_changed(x, rng) for x in draw(models, own)])
        mean = draw(models, base)
        out.append(Person(tuple(EXPRESSIONS), seen, mean))
    return out


def _changed(image: F32, rng: np.random.Generator) -> F32:
    """The picture `(3, S, S)` in a light, a colour and a focus of its own."""
    picture = warp.picture(image)
    box = np.array([0, 0, *picture.shape[1::-1]], np.float32)
    picture = distortions.side_light(picture, box, rng.uniform(0, 1.5), rng)
    tint = distortions.warm if rng.random() < 0.5 else distortions.cool
    picture = tint(picture, box, rng.uniform(0, 40), rng)
    picture = distortions.blur(picture, box, rng.uniform(0, 1), rng)
    picture = distortions.noise(picture, box, 4, rng)
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255)


def shard_faces(
    models: fitting.Models, shard: Mapping[str, NDArray[Any]], people: int, *, expressions: int = 10
) -> list[Person]:
    """Groups of rendered faces with expressions far apart; each is compared with M's face of its own
    pose and identity wearing the expressions of all."""
    images = crops_of(shard["image"], models.networks.generator.config.size)
    y, au = parameters(shard), shard["au"].astype(np.float32)
    left = np.arange(len(au))
    out: list[Person] = []
    while len(left) >= expressions and len(out) < people:
        chosen = left[_apart(au[left], expressions)]
        left = np.setdiff1d(left, chosen)
        drawn = np.stack([draw(models, wearing(y[i], au[chosen])) for i in chosen])
        names = tuple(str(n + 1) for n in range(expressions))
        out.append(Person(names, images[chosen], drawn))
    return out


def _apart(au: F32, count: int) -> NDArray[np.int64]:
    """Places of `count` rows, each the farthest from those before it, from the calmest on."""
    chosen = [int(au.sum(1).argmin())]
    gap = np.full(len(au), np.inf)
    for _ in range(count - 1):
        gap = np.minimum(gap, np.linalg.norm(au - au[chosen[-1]], axis=1))
        chosen.append(int(gap.argmax()))
    return np.array(chosen)


def real_faces(models: fitting.Models, neutral: F32, smiling: F32) -> list[Person]:
    """Real people at rest and smiling `(N, 3, S, S)` against M's face of the same person and pose.

    Pose and identity are E's reading of each photo; the two expressions are given, not read.
    """
    au = np.stack([models.profile.expand(dict(EXPRESSIONS[name])) for name in ("rest", "smile")])
    out = []
    for pair in zip(neutral, smiling, strict=True):
        seen = np.stack(pair)
        drawn = np.stack([draw(models, wearing(y, au)) for y in parameters(vars(fitting.read(seen, models)))])
        out.append(Person(("rest", "smile"), seen, drawn))
    return out


def matrices(space: Space, people: Sequence[Person], models: fitting.Models) -> F64:
    """`(people, n, n)` losses; rows are pictures, columns drawn expressions.

    `drawn` may differ from row to row `(n, n, 3, S, S)`: then each picture has drawn faces of its own.
    """
    out = []
    for person in people:
        if person.drawn.ndim == 5:
            rows = [
                distances(space, person.seen[[i]], person.drawn[i], models.device)[0]
                for i in range(len(person.seen))
            ]
            out.append(np.stack(rows))
        else:
            out.append(distances(space, person.seen, person.drawn, models.device))
    return np.stack(out)


def on_diagonal(values: F64) -> float:
    """Share of the rows of `(..., n, n)` losses whose smallest entry is on the diagonal."""
    n = values.shape[-1]
    return float((values.argmin(-1) == np.arange(n)).mean())


def shown(values: F64) -> F64:
    """`(n, n)` in [0, 1] of `(people, n, n)` losses: each row from its smallest to its largest, then the
    mean over people, as the rows of different pictures have different levels."""
    low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
    return np.asarray(((values - low) / np.maximum(high - low, 1e-12)).mean(0))
