"""Networks for tests of everything around them: a detector of bright squares, and a fit by formula.

A face is a bright square on black, at most one in each half of the picture. Its brightness above 200 is
its AU12, so that a test can tell rows apart.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from faceunits import aus, estimation, fitting
from faceunits.types import Face, FitResult, Reading

NAMES = aus.profile("default").names


class StandInModels:
    crop_size = 64
    steady = False
    names = NAMES
    device = torch.device("meta")  # not the CPU: no engine but torch


def detect(picture: NDArray[np.uint8]) -> list[Face]:
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    half = picture.shape[1] // 2
    faces = []
    for start, part in ((0, picture[:, :half]), (half, picture[:, half:])):
        ys, xs = np.nonzero(part[..., 0] >= 200)
        if len(ys) < 16:
            continue
        x, y = float(xs.min() + start), float(ys.min())
        w, h = float(np.ptp(xs) + 1), float(np.ptp(ys) + 1)
        box = np.array([x, y, w, h], np.float32)
        share = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])
        points = (np.array([x, y]) + share * (w, h)).astype(np.float32)
        faces.append(Face(box, points, 0.9))
    return faces


def fit(crops: NDArray[np.float32], models: StandInModels, recipe: str = "default") -> FitResult:
    assert crops.dtype == np.float32
    b, _, s, _ = crops.shape
    au = np.zeros((b, len(NAMES)), np.float32)
    brightness = crops[:, 0, s // 2, s // 2] * 255
    au[:, NAMES.index("AU12_L")] = (brightness - 200) / 55
    au[:, NAMES.index("AU12_R")] = (brightness - 200) / 110
    return FitResult(
        names=NAMES,
        au=au,
        pose_deg=np.tile(np.array([3, -5], np.float32), (b, 1)),
        identity=np.full((b, 4), 0.5, np.float32),
        lip_gap=np.zeros(b, np.float32),
        confidence=np.full(b, 0.8, np.float32),
        image=crops.copy(),
        parsing=np.tile(np.arange(s, dtype=np.uint8) % 11, (b, s, 1)),
        parsing_fitted=np.zeros((b, s, s), np.uint8),
        residual=np.random.default_rng(0).random((b, s, s), np.float32),
        landmarks=np.full((b, 5, 2), s / 2, np.float32),
        trace=np.zeros((30, b), np.float32),
    )


def read(crops: NDArray[np.float32], models: StandInModels) -> Reading:
    whole = fit(crops, models)
    return Reading(**{name: getattr(whole, name) for name in Reading.__dataclass_fields__})


def illustrate(reading: Reading, crops: NDArray[np.float32], models: StandInModels) -> FitResult:
    return replace(fit(crops, models), au=reading.au)


def render(
    models: StandInModels,
    au: dict[str, float],
    *,
    pitch_deg: float = 0,
    yaw_deg: float = 0,
    identity_seed: int | None = None,
) -> NDArray[np.uint8]:
    aus.profile("default").expand(au)  # refuses what the real one refuses
    return np.full((64, 64, 3), 200, np.uint8)


def transfer(a: FitResult, b: FitResult, models: StandInModels) -> NDArray[np.uint8]:
    return np.full((64, 64, 3), 7, np.uint8)


def install(patch: pytest.MonkeyPatch) -> None:
    """Put the stand-ins in the place of the networks."""
    patch.setattr(estimation, "detector", lambda: detect)
    patch.setattr(estimation, "models", lambda device="auto": StandInModels())
    for function in (fit, illustrate, read, render, transfer):
        patch.setattr(fitting, function.__name__, function, raising=False)


def picture(*faces: tuple[int, int, int, int], size: tuple[int, int] = (200, 300)) -> NDArray[np.uint8]:
    """Black, with squares (x, y, side, brightness)."""
    out = np.zeros((*size, 3), np.uint8)
    for x, y, side, brightness in faces:
        out[y : y + side, x : x + side] = brightness
    return out


def save(path: Path, values: NDArray[np.uint8]) -> Path:
    Image.fromarray(values).save(path)
    return path
