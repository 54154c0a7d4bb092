"""The values passed between modules: plain frozen dataclasses, nothing else.

Conventions: points are (x, y) pixels, first pixel centred on (0, 0); left and right are the
subject's; images of networks are float32 RGB `(B, 3, H, W)` in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIVE_POINTS = ("eye_R", "eye_L", "nose_tip", "mouth_R", "mouth_L")
"""Order of five-point arrays: image left to right on a frontal face, eyes, nose, mouth corners."""

FIVE_MIRROR = [1, 0, 2, 4, 3]
"""The same points after a horizontal flip."""


LANDMARK_MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46,
     39, 38, 37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip
"""iBUG point after a horizontal flip."""


@dataclass(frozen=True)
class Face:
    """A detected face.

    `box`: `(4,)` x, y, width, height in pixels of the picture. `points`: `(5, 2)` in the order of
    `FIVE_POINTS`. `score`: belief in [0, 1] that this is a face.
    """

    box: NDArray[np.float32]
    points: NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Reading:
    """What was measured of `B` faces.

    `au` `(B, A)` in [0, 1] in the order of `names`; `pose_deg` `(B, 2)` pitch, yaw in degrees;
    `identity` `(B, D)` in [0, 1]; `lip_gap` `(B,)` in [0, 1]; `confidence` `(B,)` in [0, 1];
    `landmarks` `(B, 68, 2)` iBUG points in crop pixels.
    """

    names: tuple[str, ...]
    au: NDArray[np.float32]
    pose_deg: NDArray[np.float32]
    identity: NDArray[np.float32]
    lip_gap: NDArray[np.float32]
    confidence: NDArray[np.float32]
    landmarks: NDArray[np.float32]


@dataclass(frozen=True)
class FitResult(Reading):
    """What `fitting.fit` returns for `B` faces: a reading, and the evidence for it, S pixels wide as M draws.

    `image` `(B, 3, S, S)` the fitted face M(y); `parsing` `(B, S, S)` uint8 classes of the photo;
    `parsing_fitted` the same of the fitted face; `residual` `(B, S, S)` the feature distance per
    place; `trace` `(T, B)` loss per iteration.
    """

    image: NDArray[np.float32]
    parsing: NDArray[np.uint8]
    parsing_fitted: NDArray[np.uint8]
    residual: NDArray[np.float32]
    trace: NDArray[np.float32]
