"""What a fit must know of a pair of trained networks, measured once and shipped beside them.

beta of eq. 5 and the step sizes of section 3.4 from the base face; the curves and errors of E's
readings on rendered faces that trained nothing; the identity subspace (eqs. 8-10) from fits of neutral faces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceunits import fitting, weights
from faceunits.evaluation.fits import crops_of
from faceunits.fitting import curves, optimise, prior
from faceunits.fitting import models as fit_models
from faceunits.training import shards
from faceunits.training.parser import codes
from faceunits.types import LANDMARK_MIRROR


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
    images, truth = _unseen(config)
    n = len(models.names)
    measured = fit_models.measure(models.networks.generator, models.networks.parser, n)
    read = readings(models, images)
    knots, values = curves.matching(*_both_sides(models, read[:, : n + 1], truth[:, : n + 1]))
    measured |= {"knots": knots, "values": values}
    straight = curves.apply(read[:, : n + 1].contiguous(), knots, values)
    wrong = torch.cat([(read - truth)[:, n + 1 : n + 3] / 2, (straight - truth[:, : n + 1])[:, :n]], 1)
    measured["spread"] = wrong.square().mean(0).sqrt()
    at_rest = images[(truth[:, :n] < 0.02).all(1).numpy()]
    if config.neutral:
        with np.load(config.neutral) as pack:
            at_rest = np.concatenate([at_rest, pack["image"][pack["neutral"]][::3]])
    networks = fit_models.assemble(
        models.networks.generator, models.networks.sketch, models.networks.parser, n, measured
    )
    space = subspace(replace(models, networks=networks), at_rest[: config.most_neutral])
    measured |= {"subspace.mean": space.mean, "subspace.basis": space.basis,
                 "subspace.low": space.low, "subspace.high": space.high}  # fmt: skip
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    weights.save(
        out / "fitting.safetensors", measured, {"kind": "fitting", "profile": models.profile.name}, {}
    )
    return measured


def _both_sides(models: fitting.Models, read: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Readings and truth with those of the mirrored faces: both sides get one curve."""
    n = len(models.names)
    swap = torch.from_numpy(np.append(models.profile.mirror(), n))
    return torch.cat([read, read[:, swap]]), torch.cat([truth, truth[:, swap]])


def _unseen(config: FittingTraining) -> tuple[NDArray[np.uint8], Tensor]:
    """Images and what E should read of them, `(n, R)` in the order of `reading_names`."""
    packs = [dict(np.load(p)) for p in shards.find((config.renders,), "varied")]
    images = np.concatenate([p["image"] for p in packs])
    return images, torch.from_numpy(np.concatenate([codes(p) for p in packs]))


def readings(models: fitting.Models, images: NDArray[np.uint8]) -> Tensor:
    """`(n, R)` E's readings of crops and their mirror images, as a fit takes them, before the curves."""
    mirror, points = torch.from_numpy(models.profile.mirror()), torch.from_numpy(LANDMARK_MIRROR)
    recipe = optimise.Recipe(mirror=True, readings=1.0)
    out = []
    for i in range(0, len(images), 32):
        crops = torch.from_numpy(crops_of(images[i : i + 32])).to(models.device)
        seen = optimise.observe(
            models.networks, crops, recipe, mirror.to(models.device), points.to(models.device)
        )
        out.append(seen.readings.cpu())
    return torch.cat(out)


def subspace(models: fitting.Models, images: NDArray[np.uint8]) -> prior.Subspace:
    """Eqs. 8-10 from fits of expressionless faces with the action units held at 0."""
    recipe = replace(optimise.DEFAULT, at_rest=True, subspace=False, features=0.0)
    found = [
        torch.from_numpy(fitting.fit(crops_of(images[i : i + 16]), models, recipe).identity)
        for i in range(0, len(images), 16)
    ]
    return prior.from_neutral(torch.cat(found))
