"""What tests of the rig, the networks and the fit share: data by name, a tiny face, untrained networks.

The face model and the portraits are not part of the package. Tests that need them read where they lie
from `FACEUNITS_FACE_MODEL`, `FACEUNITS_FACES` and `FACEUNITS_LAYOUTS` (beside the clone when unset) and skip
without them.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from faceunits import aus
from faceunits.fitting import Models
from faceunits.fitting.models import assemble, measure
from faceunits.networks.generator import Generator, GeneratorConfig, Sketch
from faceunits.networks.parser import Parser, ParserConfig
from faceunits.rig import render, shape
from faceunits.types import LANDMARK_MIRROR

_BESIDE = Path(__file__).resolve().parents[2] / "shared"
FACE_MODEL = Path(os.environ.get("FACEUNITS_FACE_MODEL", _BESIDE / "face-model"))
FACES = Path(os.environ.get("FACEUNITS_FACES", _BESIDE / "faces"))
LAYOUTS = Path(os.environ.get("FACEUNITS_LAYOUTS", _BESIDE / "specs" / "layouts"))

needs_model = pytest.mark.skipif(
    not (FACE_MODEL / "ict_facekit.npz").exists(),
    reason="set FACEUNITS_FACE_MODEL to the face model's folder",
)
needs_faces = pytest.mark.skipif(
    not (FACES / "london" / "landmarks.npz").exists(), reason="set FACEUNITS_FACES to the portraits' folder"
)
needs_layouts = pytest.mark.skipif(
    not (LAYOUTS / "resnet50.json").exists(),
    reason="set FACEUNITS_LAYOUTS to the folder of the public networks' layouts",
)

F32 = NDArray[np.float32]


@cache
def rig() -> shape.FaceModel:
    """The real face model with its largest modes."""
    return shape.load(FACE_MODEL, n_identity=12)


@cache
def static() -> render.Static:
    return render.prepare(rig())


def _half() -> dict[int, tuple[float, float, float]]:
    """The subject's right half of the 68 landmarks and the middle line, cm, roughly."""
    out = {i: (-7 + 7 * (i / 8) ** 2, -1.5 * i + 1, -8 + i) for i in range(9)}
    out |= {17 + i: (-6 + 1.1 * i, 2 + 0.3 * min(i, 2), 0.1 * i) for i in range(5)}
    out |= {27 + i: (0, 0.5 - 1.2 * i, 0.5 * i) for i in range(4)}
    out |= {31: (-1.2, -4.2, 0.5), 32: (-0.6, -4.4, 0.8), 33: (0, -4.5, 1)}
    out |= {36: (-4.5, 0, -0.5), 37: (-3.7, 0.5, 0), 38: (-2.7, 0.5, 0), 39: (-2, 0, 0)}
    out |= {40: (-2.7, -0.5, 0), 41: (-3.7, -0.5, 0)}
    out |= {48: (-2.6, -7, 0), 49: (-1.6, -6.5, 0.5), 50: (-0.6, -6.3, 0.8), 51: (0, -6.4, 0.8)}
    out |= {57: (0, -8, 0.7), 58: (-0.8, -7.9, 0.6), 59: (-1.8, -7.5, 0.3)}
    out |= {60: (-2.3, -7, 0.1), 61: (-0.8, -6.95, 0.6), 62: (0, -6.95, 0.7), 66: (0, -7.05, 0.7)}
    return out | {67: (-0.8, -7.05, 0.6)}


@cache
def tiny() -> shape.FaceModel:
    """A mirror-symmetric linear face of 80 vertices: the 68 landmarks and two octahedra for eyes.

    Its shapes are random but symmetric (`_L` is `_R` mirrored); identity mode 2 is antisymmetric.
    """
    rng = np.random.default_rng(0)
    flip = np.array([-1, 1, 1], np.float32)
    points = np.zeros((80, 3), np.float32)
    mirror = np.zeros(80, np.int32)
    mirror[:68] = LANDMARK_MIRROR
    for i, p in _half().items():
        points[i] = p
        points[mirror[i]] = flip * np.float32(p)
    ball = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
    center = np.array([[3.2, 0, -1], [-3.2, 0, -1]], np.float32)
    points[68:74], points[74:] = center[0] + ball, center[1] + ball
    mirror[68:74] = [77, 75, 76, 74, 78, 79]
    mirror[74:] = [71, 69, 70, 68, 72, 73]

    def symmetric(sign: float = 1) -> F32:
        d = rng.normal(0, 0.2, (80, 3)).astype(np.float32)
        return np.asarray((d + sign * flip * d[mirror]) / 2, np.float32)

    names, shapes = [], []
    for name in sorted({s for p in aus.profile().parameters for s, _ in p.shapes}):
        if name.startswith("jaw") and name != "jawOpen":
            continue
        if name.endswith("_L"):
            d = rng.normal(0, 0.2, (80, 3)).astype(np.float32)
            names += [name, name[:-1] + "R"]
            shapes += [d, flip * d[mirror]]
        elif not name.endswith("_R"):
            names.append(name)
            shapes.append(symmetric())
    side = rng.normal(0, 0.2, (80, 3)).astype(np.float32)
    names += ["jawLeft", "jawRight"]
    shapes += [side, flip * side[mirror]]
    closing = np.zeros((80, 3), np.float32)
    closing[[43, 44], 1], closing[[47, 46], 1] = -0.5, 0.5  # the subject's left lids meet
    shapes[names.index("eyeBlink_L")], shapes[names.index("eyeBlink_R")] = closing, flip * closing[mirror]
    geometry = np.zeros(80, np.uint8)
    geometry[68:74], geometry[74:] = 1, 2
    blank = np.zeros((80, 2), np.float32)
    return shape.FaceModel(
        neutral=points, identity=np.stack([symmetric(), symmetric(), symmetric(-1)]),
        expression=np.stack(shapes).astype(np.float32), expression_names=tuple(names),
        triangles=np.array([[0, 1, 2]], np.int32), tri_geometry=np.zeros(1, np.uint8), vert_geometry=geometry,
        geometry_names=("face", "sclera_L", "sclera_R"),
        landmarks=np.arange(68, dtype=np.int32), mirror=mirror,
        region=np.zeros((80, 1), np.float32), region_names=("nose",), brow=np.zeros((80, 2, 2), np.float32),
        eye_radius=np.ones(80, np.float32), uv=blank, eye_center=center,
    )  # fmt: skip


N_IDENTITY = 5
SIZE = 32
N_AU = len(aus.profile())


def parser(*, heads: bool = True, seed: int = 0) -> Parser:
    """A small untrained E."""
    torch.manual_seed(seed)
    config = ParserConfig(
        blocks=(1, 1, 1, 1), planes=(4, 4, 4, 4), stem=8, pool=False, size=SIZE,
        landmarks=68 if heads else 0, readings=N_AU + 3 + N_IDENTITY if heads else 0,
    )  # fmt: skip
    return Parser(config).eval().requires_grad_(False)


def generator(*, seed: int = 1, contrast: float = 8.0) -> tuple[Generator, Sketch]:
    """A small untrained M; `contrast` makes its pictures differ visibly with the parameters."""
    torch.manual_seed(seed)
    config = GeneratorConfig(parameters=2 + N_AU + N_IDENTITY, widths=(8, 8, 8))
    net = Generator(config)
    with torch.no_grad():
        net.layers[-1].weight.mul_(contrast / 0.1)
    return net.eval().requires_grad_(False), Sketch(config.parameters).eval().requires_grad_(False)


@cache
def models(*, heads: bool = True) -> Models:
    """Untrained networks of the real kind, and what is measured on them."""
    (m, sketch), e = generator(), parser(heads=heads)
    networks = assemble(m, sketch, e, N_AU, measure(m, e, N_AU))
    return Models(networks, aus.profile(), torch.device("cpu"))


def crops(count: int, *, seed: int = 0) -> F32:
    """`(B, 3, SIZE, SIZE)` smooth noise in [0, 1]."""
    coarse = np.random.default_rng(seed).random((count, 3, 8, 8), np.float32)
    return np.ascontiguousarray(coarse.repeat(SIZE // 8, 2).repeat(SIZE // 8, 3))
