"""Faces as the generator M draws them, new ones for every step.

The fit compares photos with what M draws, so R should read M's pictures as well as renders.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from faceunits import aus
from faceunits.alignment import warp
from faceunits.errors import ConfigError
from faceunits.fitting.models import load_generator
from faceunits.fitting.optimise import reduced
from faceunits.networks.generator import Generator, Sketch
from faceunits.rig import sample, shape
from faceunits.training.parser import codes

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Drawer:
    """M, the sketch that knows its landmarks, and the action units and identity modes it draws."""

    generator: Generator
    sketch: Sketch
    profile: aus.Profile
    n_identity: int

    def draw(self, rng: np.random.Generator, count: int, size: int) -> tuple[NDArray[np.uint8], F32, F32]:
        """Images `(n, S, S, 3)`, codes `(n, R)` and landmarks `(n, 68, 2)` of random natural faces."""
        shown = sample.naturals(rng, self.profile, self.n_identity, count)
        y = torch.from_numpy(shape.parameters(shown))
        with torch.inference_mode():
            image = reduced(self.generator(y), size)
            points, gap = self.sketch(y)
        return (
            warp.picture(image.numpy()),
            codes(shown | {"lip_gap": gap.numpy()}),
            (points * size - 0.5).numpy(),
        )


@cache
def drawer(profile: str, n_identity: int) -> Drawer:
    """One of the shipped M.

    Raises:
        ConfigError: M has other parameters.
    """
    generator, sketch, about = load_generator()
    units, count = aus.profile(profile), generator.config.parameters
    if about["profile"] != profile or count != 2 + len(units) + n_identity:
        raise ConfigError(
            f"expected the profile {about['profile']} and {count - 2 - len(units)} identity modes, which M "
            f"draws; got {profile} and {n_identity}; set drawn to 0, or train for those"
        )
    return Drawer(generator, sketch, units, n_identity)
