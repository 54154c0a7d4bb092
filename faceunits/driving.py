"""Parameters to pictures and to other faces: render, transfer an expression, blend shapes.

All three go through the generator M; no rig is needed. Transfer is GE-Net's figure 1, blend shapes its
figure 5b.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from faceunits import aus, estimation
from faceunits.errors import ParameterError
from faceunits.types import FitResult

U8 = NDArray[np.uint8]

ARKIT = tuple(
    "eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft "
    "eyeWideLeft eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight "
    "eyeSquintRight eyeWideRight jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel "
    "mouthPucker mouthLeft mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft "
    "mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight "
    "mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft "
    "mouthPressRight mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight "
    "browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff "
    "cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight tongueOut".split()
)
"""The 52 names of ARKit's blend shapes; left and right are the subject's."""

_RENAMED = {"cheekRaiser": "cheekSquint"}
_WITHOUT_SIDES = ("browInnerUp", "cheekPuff")


def render(
    au: Mapping[str, float] | None = None,
    *,
    pitch_deg: float = 0.0,
    yaw_deg: float = 0.0,
    identity_seed: int | None = None,
    device: str = "auto",
) -> U8:
    """A face with given action units, `(S, S, 3)` uint8 RGB.

    Args:
        au: intensity 0-5 by name: `AU12` (both sides), `AU12_L`, ...
        pitch_deg: + nose down.
        yaw_deg: + towards the subject's left.
        identity_seed: of a random person; None is the mean face.
        device: `auto`, `cpu`, `cuda`, ...

    Raises:
        ParameterError: an unknown action unit, or a value out of range.
    """
    from faceunits import fitting

    models = estimation.models(device)
    return fitting.render(
        models, dict(au or {}), pitch_deg=pitch_deg, yaw_deg=yaw_deg, identity_seed=identity_seed
    )


def transfer(
    a: estimation.Picture | FitResult,
    b: estimation.Picture | FitResult,
    *,
    recipe: str = "default",
    device: str = "auto",
) -> U8:
    """The person of `a` with the pose and the action units of `b`, `(S, S, 3)` uint8 RGB.

    Args:
        a: photo, picture `(H, W, 3)` uint8 or fit; of several faces the first, which is the largest.
        b: the same.
        recipe: of the fit; see `estimate`.
        device: `auto`, `cpu`, `cuda`, ...

    Raises:
        InputError: a photo that cannot be read or shows no face.
    """
    from faceunits import fitting

    results = [
        x if isinstance(x, FitResult) else estimation.fit(x, recipe=recipe, device=device) for x in (a, b)
    ]
    models = estimation.models(device)
    return fitting.transfer(estimation.select(results[0], 0), estimation.select(results[1], 0), models)


def blendshapes(result: FitResult, index: int = 0) -> dict[str, float]:
    """Weights of ARKit's 52 blend shapes, 0..1; those that no action unit drives are 0.

    Args:
        result: of `fit`.
        index: which of its faces.

    Raises:
        ParameterError: the fit was made with parameters of another profile.
    """
    shapes: dict[str, float] = {}
    for parameter, value in zip(_profile(result.names).parameters, result.au[index], strict=True):
        for shape, weight in parameter.shapes:
            shapes[shape] = shapes.get(shape, 0.0) + weight * float(np.clip(value, 0, 1))
    out = dict.fromkeys(ARKIT, 0.0)
    for shape, weight in shapes.items():
        name, share = _arkit(shape)
        out[name] += share * min(weight, 1.0)
    return {name: round(min(weight, 1.0), 4) for name, weight in out.items()}


def _profile(names: tuple[str, ...]) -> aus.Profile:
    for name in ("default", "paper23"):
        if aus.profile(name).names == names:
            return aus.profile(name)
    raise ParameterError(f"expected the parameters of the profile default or paper23; got {', '.join(names)}")


def _arkit(shape: str) -> tuple[str, float]:
    """ARKit's name of a shape of the rig, and its share: ARKit has one shape where the rig has two halves."""
    match = re.fullmatch(r"(\w+?)_([LR])", shape)
    if not match:
        return shape, 1.0
    stem, side = match.groups()
    if stem in _WITHOUT_SIDES:
        return stem, 0.5
    return _RENAMED.get(stem, stem) + {"L": "Left", "R": "Right"}[side], 1.0
