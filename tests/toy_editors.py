"""A toy world for tests of editors, in which every answer is known.

A picture holds its latent in the corner: the first row the units, the second the person. E is a stand-in that
looks the units and the person up there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from small import N_AU, SIZE, models
from torch import Tensor

from faceunits import aus, fitting
from faceunits.evaluation.crops import Tool
from faceunits.evaluation.editor_files import Space
from faceunits.evaluation.editor_sets import Frames
from faceunits.networks.editor import DISFA, EditorConfig
from faceunits.networks.editor_baselines import LinearEditor
from faceunits.types import Reading

NAMES = DISFA[:5]
UNITS = ("AU01", "AU02", "AU04", "AU05", "AU06")
CONFIG = EditorConfig(names=NAMES, levels=4, edited=2, latent=8)


def encode(image: Tensor) -> Tensor:
    return image[:, 0, :4, :8].clone()


def decode(w: Tensor) -> Tensor:
    image = torch.zeros(len(w), 3, SIZE, SIZE)
    image[:, 0, :4, :8] = w.clamp(0, 1)
    return image


TOY = Space(encode, decode, 4, 8)


def look_up(image: np.ndarray, on: fitting.Models) -> Reading:
    n, names = len(image), aus.profile().names
    pose, points = np.zeros((n, 2), np.float32), np.zeros((n, 68, 2), np.float32)
    au = np.zeros((n, N_AU), np.float32)
    for k, unit in enumerate(UNITS):
        for i, name in enumerate(names):
            if name[:4] == unit:
                au[:, i] = image[:, 0, 0, k]
    zero = np.zeros(n, np.float32)
    return Reading(names, au, pose, image[:, 0, 1, :6], zero, zero, points)


def people(count: int = 4, frames: int = 10, *, seed: int = 0) -> Frames:
    """Whole levels of five units; a person is six numbers."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, (count * frames, 5)) * (rng.random((count * frames, 5)) < 0.6)
    person = np.arange(count * frames) // frames
    w = np.zeros((count * frames, 4, 8), np.float32)
    w[:, 0, :5] = labels / 5
    w[:, 1, :6] = rng.choice([0.2, 0.8], (count, 6))[person]
    image = (255 * decode(torch.from_numpy(w)).permute(0, 2, 3, 1).numpy() + 0.5).astype(np.uint8)
    places = tuple(f"toy:{i}" for i in range(len(w)))
    return Frames(NAMES, image, labels.astype(np.float32), person.astype(np.int64), places)


def toy_editor(*, spoils: float = 0.0, gain: float = 1.0) -> LinearEditor:
    """Reads and sets the units; a step also changes the person by so much."""
    net = LinearEditor(CONFIG)
    for k in range(5):
        net.readers[k, k] = 1
        net.directions[k, k] = gain
        net.directions[k, 8 + k] = spoils
    return net


def tool() -> Tool:
    """What measures in the toy world."""
    return Tool(models(), look_up, lambda image: [])


def write(path: Path, frames: Frames, **changes: object) -> Path:
    pack = {
        "image": frames.image, "person": frames.person,
        "identity": np.eye(9, dtype=np.float32)[frames.person],
        "units": np.pad(frames.labels, ((0, 0), (0, 7))),
    }  # fmt: skip
    pack |= changes
    np.savez(path, **{k: v for k, v in pack.items() if v is not None})
    return path
