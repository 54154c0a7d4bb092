"""What a fit must know of a pair of trained networks, measured once and shipped beside them.

beta of eq. 5 and the step sizes of section 3.4 from the base face; the errors of E's readings on
rendered faces that trained nothing; the identity subspace (eqs. 8-10) from fits of neutral faces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from faceunits import fitting, weights
from faceunits.errors import ConfigError
from faceunits.evaluation.fits import crops_of
from faceunits.fitting import models as fit_models
from faceunits.fitting import optimise, prior
from faceunits.fitting.pipeline import LANDMARK_MIRROR
from faceunits.rig.shape import POSE_RANGE_DEG
from faceunits.training.parser import FIRST_TEST_SEED


@dataclass(frozen=True)
class FittingTraining:
    """Networks and faces."""

    parser: str = "parser"
    """Weights of E."""
    generator: str = "generator"
    """Weights of M."""
    renders: str = ""
    """Folder of varied shards that trained neither; not those kept for testing."""
    neutral: str = ""
    """File made by `people.write`; its neutral portraits span the subspace, with the renders at rest."""
    out: str = ""
    """Folder for `fitting.safetensors`."""
    most_neutral: int = 400
    """Neutral faces fitted; the paper has 20,000."""


def train(config: FittingTraining) -> dict[str, Tensor]:
    """Measures and writes `fitting.safetensors`."""
    models = fitting.load(config.parser, config.generator)
    images, truth = _unseen(config, len(models.names))
    measured = fit_models.measure(models.networks.generator, models.networks.parser, len(models.names))
    read = readings(models, images)
    measured["spread"] = (read[:, : truth.shape[1]] - torch.from_numpy(truth)).square().mean(0).sqrt()
    at_rest = images[(truth[:, 2:] < 0.02).all(1)]
    if config.neutral:
        with np.load(config.neutral) as pack:
            at_rest = np.concatenate([at_rest, pack["image"][pack["neutral"]][::3]])
    space = subspace(models, at_rest[: config.most_neutral])
    measured |= {"subspace.mean": space.mean, "subspace.basis": space.basis,
                 "subspace.low": space.low, "subspace.high": space.high}  # fmt: skip
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    weights.save(
        out / "fitting.safetensors", measured, {"kind": "fitting", "profile": models.profile.name}, {}
    )
    return measured


def _unseen(config: FittingTraining, n_au: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and their `(n, 2 + A)` pose and action units in [0, 1]."""
    paths = sorted(Path(config.renders).glob("varied_*.npz"))
    paths = [p for p in paths if int(p.stem.split("_")[1]) < FIRST_TEST_SEED]
    if not paths:
        raise ConfigError(f"expected shards varied_*.npz in {config.renders!r}; run `faceunits synthesize`")
    packs = [np.load(p) for p in paths]
    images = np.concatenate([p["image"] for p in packs])
    pose = 0.5 + np.concatenate([p["pose_deg"] for p in packs]) / (2 * POSE_RANGE_DEG)
    return images, np.concatenate([pose, np.concatenate([p["au"] for p in packs])], 1).astype(np.float32)


def readings(models: fitting.Models, images: np.ndarray) -> Tensor:
    """`(n, 2 + A)` E's readings in [0, 1] of crops and their mirror images, as a fit uses them."""
    mirror = torch.from_numpy(models.profile.mirror())
    n = len(models.names)
    out = []
    for i in range(0, len(images), 32):
        crops = torch.from_numpy(crops_of(images[i : i + 32])).to(models.device)
        seen = optimise.observe(
            models.networks, crops, optimise.Recipe(mirror=True), mirror, torch.from_numpy(LANDMARK_MIRROR)
        ).readings.cpu()
        out.append(torch.cat([0.5 + seen[:, n + 1 : n + 3] / 2, seen[:, :n].clamp(0, 1)], 1))
    return torch.cat(out)


def subspace(models: fitting.Models, images: np.ndarray) -> prior.Subspace:
    """Eqs. 8-10 from fits of expressionless faces with the action units held at 0."""
    recipe = replace(optimise.DEFAULT, at_rest=True, subspace=False)
    found = [
        torch.from_numpy(fitting.fit(crops_of(images[i : i + 16]), models, recipe).identity)
        for i in range(0, len(images), 16)
    ]
    return prior.from_neutral(torch.cat(found))
