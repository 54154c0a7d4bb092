"""Random faces: identity, pose and action units, drawn as faces really move.

GE-Net draws every parameter uniformly and independently (section 4.1): `uniform`. With forty
two-sided parameters such faces are grimaces that nobody makes, so `natural` is the default: some at
rest, some with a few units, some with the usual companions (6 with 12, 4 with 7, ...).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceunits.aus import Profile
from faceunits.rig.shape import POSE_RANGE_DEG

F32 = NDArray[np.float32]

COMPANIONS: tuple[dict[str, float], ...] = (
    {"AU12": 1}, {"AU06": 0.7, "AU12": 1}, {"AU06": 0.8, "AU12": 1, "AU16": 0.4, "AU10": 0.3},
    {"AU06": 0.6, "AU12": 1, "AU10": 0.5, "AU26": 0.25}, {"AU07": 0.6, "AU12": 0.8, "AU14": 0.4},
    {"AU01": 1, "AU02": 1, "AU05": 0.7, "AU26": 0.4}, {"AU01": 1, "AU02": 1},
    {"AU04": 1, "AU07": 0.7, "AU23": 0.4}, {"AU04": 1, "AU07": 0.6, "AU24": 0.8},
    {"AU09": 1, "AU10": 0.7, "AU04": 0.5, "AU07": 0.4}, {"AU10": 1, "AU17": 0.6},
    {"AU01": 1, "AU04": 0.7, "AU15": 0.8, "AU17": 0.6}, {"AU15": 1, "AU17": 0.8},
    {"AU01": 0.9, "AU02": 0.6, "AU04": 0.7, "AU05": 0.9, "AU20": 0.9, "AU26": 0.3},
    {"AU18": 1}, {"AU22": 0.9, "AU26": 0.15}, {"AU28": 1}, {"AU24": 1, "AU17": 0.5},
    {"AU26": 0.4}, {"AU26": 0.25, "AU16": 0.5}, {"AU26": 1}, {"AU16": 0.6, "AU10": 0.4},
    {"AU14": 1}, {"AU20": 1, "AU16": 0.5}, {"AU34": 1}, {"AU45": 1}, {"AU45": 0.5}, {"AU05": 1},
)  # fmt: skip
"""Units that are often seen together, with their usual share of the strongest one."""


@dataclass(frozen=True)
class Sample:
    """Parameters of one face: `au` `(A,)` and `identity` `(D,)` in [0, 1], angles in degrees."""

    au: F32
    identity: F32
    pitch_deg: float
    yaw_deg: float


def natural(rng: np.random.Generator, profile: Profile, n_identity: int) -> Sample:
    """A face as people make them: rest (12 %), companions (40 %), a few single units (48 %)."""
    strength = np.zeros(len(profile), np.float32)
    kind = rng.random()
    if kind > 0.12:
        if kind < 0.52:
            chosen = dict(COMPANIONS[int(rng.integers(len(COMPANIONS)))])
            peak = rng.uniform(0.15, 1)
            for name, share in chosen.items():
                _raise(rng, strength, profile, name, peak * share * rng.uniform(0.5, 1.3))
        units = sorted({p.name[:4] for p in profile.parameters})
        for name in rng.choice(units, int(rng.integers(0 if kind < 0.52 else 1, 5)), replace=False):
            _raise(rng, strength, profile, str(name), rng.uniform(0.05, 1))
        if rng.random() < 0.08:  # lids are the busiest muscles
            _raise(rng, strength, profile, "AU45", rng.uniform(0.2, 1))
    return _seen(rng, strength, n_identity)


def naturals(rng: np.random.Generator, profile: Profile, n_identity: int, count: int) -> dict[str, F32]:
    """`count` natural faces, named as in a shard: `au` `(n, A)`, `identity` `(n, D)`, `pose_deg` `(n, 2)`."""
    faces = [natural(rng, profile, n_identity) for _ in range(count)]
    return {
        "au": np.stack([f.au for f in faces]), "identity": np.stack([f.identity for f in faces]),
        "pose_deg": np.array([(f.pitch_deg, f.yaw_deg) for f in faces], np.float32),
    }  # fmt: skip


def dense(rng: np.random.Generator, profile: Profile, n_identity: int) -> Sample:
    """Five to ten units at once: no face that people make, but each teaches many units.

    A network that reads sparse faces sees each unit in one picture of ten and learns slowly; these
    are for the first part of its training.
    """
    strength = np.zeros(len(profile), np.float32)
    units = sorted({p.name[:4] for p in profile.parameters})
    for name in rng.choice(units, int(rng.integers(5, 11)), replace=False):
        _raise(rng, strength, profile, str(name), rng.uniform(0.1, 1))
    return _seen(rng, strength, n_identity)


def smiles(rng: np.random.Generator, profile: Profile, n_identity: int) -> Sample:
    """What most portraits show: a smile with or without cheeks and teeth, and little else; or rest (20 %).

    Beside natural faces these teach how seldom anything but 6, 12 and 25 is at work in a smile.
    """
    strength = np.zeros(len(profile), np.float32)
    if rng.random() > 0.2:
        peak = rng.uniform(0.1, 1)
        _raise(rng, strength, profile, "AU12", peak)
        if rng.random() < 0.75:
            _raise(rng, strength, profile, "AU06", peak * rng.uniform(0.1, 1.1))
        if rng.random() < 0.65:  # lips part
            _raise(rng, strength, profile, "AU16", peak * rng.uniform(0.1, 0.6))
            _raise(rng, strength, profile, "AU10", peak * rng.uniform(0.05, 0.5))
            _raise(rng, strength, profile, "AU26", rng.uniform(0, 0.25))
        if rng.random() < 0.25:
            units = sorted({p.name[:4] for p in profile.parameters})
            _raise(rng, strength, profile, str(rng.choice(units)), rng.uniform(0.05, 0.7))
    return _seen(rng, strength, n_identity)


def _seen(rng: np.random.Generator, strength: F32, n_identity: int) -> Sample:
    """A random person and pose for given action units."""
    spread = rng.uniform(0.6, 1.0)
    identity = np.clip(0.5 + spread * rng.normal(0, 1, n_identity) / 5, 0, 1).astype(np.float32)
    wide = rng.random() < 0.3
    pitch = rng.uniform(-25, 25) if wide else rng.normal(0, 7)
    yaw = rng.uniform(-28, 28) if wide else rng.normal(0, 8)
    limit = POSE_RANGE_DEG
    return Sample(
        strength, identity, float(np.clip(pitch, -limit, limit)), float(np.clip(yaw, -limit, limit))
    )


def _raise(rng: np.random.Generator, out: F32, profile: Profile, name: str, value: float) -> None:
    """Sets both sides nearly alike (80 %), or one side only, as smirks and winks do."""
    sides = [i for i, n in enumerate(profile.names) if n[:4] == name]
    if name == "AU30":  # the jaw goes to one side
        sides = [sides[int(rng.integers(len(sides)))]]
    one_sided = len(sides) == 2 and rng.random() < 0.2
    for i in [sides[int(rng.integers(2))]] if one_sided else sides:
        out[i] = np.clip(value * rng.uniform(0.8, 1.2), 0, 1)


def uniform(rng: np.random.Generator, profile: Profile, n_identity: int) -> Sample:
    """Every parameter independent and uniform on its range (GE-Net, section 4.1)."""
    pitch, yaw = rng.uniform(-POSE_RANGE_DEG, POSE_RANGE_DEG, 2)
    return Sample(
        rng.random(len(profile), np.float32), rng.random(n_identity, np.float32), float(pitch), float(yaw)
    )
