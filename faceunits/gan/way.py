"""A face in a generator's latent space as `motion.sequence` walks it: one parameter, how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from faceunits.gan.engine import Scene

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

END = np.ones(1, np.float32)
"""The parameter where the way ends."""


@dataclass(frozen=True)
class Start:
    """`y` `(3,)` pitch and yaw, which don't matter here, and the parameter where the way begins."""

    y: F32


@dataclass(frozen=True)
class Way:
    """`picture` `(H, W, C)` uint8 as other faces left it; `code` `(1, E, m)` where the way ends."""

    picture: U8
    scene: Scene
    code: Tensor
    laid: Start

    def draw(self, y: F32, *, lips: float | None = None) -> U8:
        """The photo at a place of the way: `y` as in `Start`."""
        return self.scene.draw(self.picture, self.code, share=float(y[2]))
