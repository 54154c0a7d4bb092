"""A scene to pixels, parsing labels and exact landmarks, already in the canonical crop.

The five points of the projected face are known exactly, so the similarity of `alignment.warp` is
applied to the projected vertices and the crop is drawn directly: renders and photos share one
template, and nothing is resampled.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from faceunits.alignment import warp
from faceunits.rig import blend, raster, shade, shape
from faceunits.rig.look import FOLDS, PLAIN, PLAIN_LIGHT, Light, Look
from faceunits.rig.muscles import Muscles, stem
from faceunits.rig.shape import FaceModel

F32 = NDArray[np.float32]

SUPERSAMPLE = 2
SHADOW_SIZE = 128


@dataclass(frozen=True)
class Scene:
    """What is drawn: identity `(D,)` in standard deviations, shape weights `(E,)`, pose and look.

    `brows_cm`: how much higher than the rig's the inner and the outer ends of the brows lie at rest.
    `jitter` `(5, 2)` cm is added to the five points, as an imperfect detector would. `muscles` change
    the rig's shapes for one person.
    """

    identity: F32
    weights: F32
    pitch_deg: float = 0.0
    yaw_deg: float = 0.0
    gaze_deg: tuple[float, float] = (0.0, 0.0)
    brows_cm: tuple[float, float] = (0.0, 0.0)
    distance: float = 60.0
    look: Look = PLAIN
    light: Light = PLAIN_LIGHT
    jitter: F32 | None = None
    muscles: Muscles | None = None


@dataclass(frozen=True)
class Render:
    """`image` `(S, S, 3)` float32 in [0, 1]; `label` `(S, S)` uint8 fine classes; `landmarks`
    `(68, 2)` crop pixels; `matrix` `(2, 3)` from image-plane cm to crop pixels; `marks` `(68, 3)` the
    landmarks of the face before it is turned, cm."""

    image: F32
    label: NDArray[np.uint8]
    landmarks: F32
    matrix: F32
    marks: F32


@dataclass(frozen=True)
class Static:
    """Per-vertex fields that do not depend on the scene, computed once per face model."""

    kind: NDArray[np.uint8]
    rim: F32
    brow_ends: F32 = field(repr=False)
    places: dict[str, F32] = field(repr=False)
    folds: F32 = field(repr=False)
    noise: F32 = field(repr=False)


def prepare(model: FaceModel, *, seed: int = 0) -> Static:
    """Distances to the lid rims, weights of the tinted places, and a skin noise map."""
    kind = np.array(
        [shade.KIND_OF.get(model.geometry_names[g], shade.SOCKET) for g in model.tri_geometry], np.uint8
    )
    face = np.unique(model.triangles[kind == shade.FACE])
    sockets = np.unique(model.triangles[(kind == shade.EYE_SOCKET_L) | (kind == shade.EYE_SOCKET_R)])
    edge = model.neutral[np.intersect1d(face, sockets)]
    rim = np.full(len(model.neutral), 9.0, np.float32)
    near = np.abs(model.neutral[:, 1] - edge[:, 1].mean()) < 2.5
    gaps = np.linalg.norm(model.neutral[near][:, None] - edge[None], axis=2)
    rim[near] = gaps.min(1)
    return Static(kind=kind, rim=rim, brow_ends=shape.brow_ends(model), places=_places(model),
                  folds=_folds(model), noise=_noise(np.random.default_rng(seed)))  # fmt: skip


def _folds(model: FaceModel) -> F32:
    """`(K, V)` in [0, 1] how much the shapes of each of `look.FOLDS` compress the skin of the mean face."""
    out = []
    for stems in FOLDS.values():
        weights = [float(stem(n) in stems) for n in model.expression_names]
        moved = model.neutral.copy()
        blend.add(moved, np.array(weights, np.float32), model.expression)
        squeeze = _squeeze(model, model.neutral, moved)
        out.append(squeeze / max(float(squeeze.max()), 1e-6))
    return np.stack(out)


def _squeeze(model: FaceModel, rest: F32, points: F32) -> F32:
    """`(V,)` in [0, 0.5]: share of the area around each vertex of the face that a movement takes away, of
    which the first eighth folds nothing."""
    before, after = raster.areas(rest, model.triangles), raster.areas(points, model.triangles)
    squeeze = np.clip(1 - after / np.maximum(before, 1e-6) - 0.12, 0, 0.5)
    out: F32 = (squeeze * (model.vert_geometry == 0)).astype(np.float32)
    return out


def _places(model: FaceModel) -> dict[str, F32]:
    """`(V,)` soft masks of cheeks, nose tip, eye bags and beard, from the landmarks."""
    points, marks = model.neutral, model.neutral[model.landmarks]

    def bump(center: F32, width: float) -> F32:
        out: F32 = np.exp(-np.sum((points - center) ** 2, 1) / (2 * width**2)).astype(np.float32)
        return out

    down = np.array([0, -1, 0], np.float32)
    cheeks = sum(bump((marks[e] + marks[m]) / 2, 1.5) for e, m in ((46, 54), (41, 48)))
    bags = sum(bump(marks[e] + 0.7 * down, 0.6) for e in (40, 41, 46, 47))
    jaw = marks[4:13].mean(0)
    below_nose = np.clip((marks[33, 1] - points[:, 1]) / 0.5, 0, 1)
    beard = below_nose * np.clip(1.2 - np.abs(points[:, 0]) / 9, 0, 1)
    beard *= np.clip((points[:, 1] - jaw[1] + 5) / 2, 0, 1) * (points[:, 2] > jaw[2] - 6)
    # cheeks stay free: hair grows below the line from the mouth corner to the ear lobe
    line = marks[54, 1] + 0.35 * np.maximum(np.abs(points[:, 0]) - 2.0, 0)
    beard *= np.clip((line + 1.0 - points[:, 1]) / 0.8, 0, 1)
    return {
        "redness": np.minimum(1, cheeks + 0.7 * bump(marks[30], 0.9)).astype(np.float32),
        "under_eye": np.minimum(1, bags).astype(np.float32),
        "beard": beard.astype(np.float32),
    }


def _noise(rng: np.random.Generator, size: int = 256) -> F32:
    """Three channels of fractal noise in about [-1, 1]; wraps round."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    out = []
    for exponent in (0.6, 0.9, 1.2):
        spectrum = np.fft.fft2(rng.normal(size=(size, size))) / np.maximum(frequency, 1 / size) ** exponent
        plane = np.fft.ifft2(spectrum).real
        out.append(plane / (2 * plane.std()))
    return np.stack(out, -1).astype(np.float32)


def frame(screen: F32, jitter: F32 | None, size: int) -> F32:
    """`(2, 3)` similarity from projected cm to crop pixels; `screen` `(68, 2+)` landmarks."""
    five = shape.five_points(screen)
    if jitter is not None:
        five = five + jitter
    out: F32 = warp.similarity(five[None], size)[0].astype(np.float32)
    return out


def rounded(image: F32) -> NDArray[np.uint8]:
    """`(S, S, 3)` uint8 of a picture in [0, 1]."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def draw(model: FaceModel, static: Static, scene: Scene, size: int, backdrop: F32 | None = None) -> Render:
    """One face in the canonical crop.

    Args:
        model: the face model.
        static: `prepare(model)`.
        scene: what to draw; `scene.jitter` is `(5, 2)` cm added to the five points.
        size: pixels per side of the crop.
        backdrop: `(S, S, 3)` float32 in [0, 1] behind the head; mid grey when None.
    """
    face = shape.built(model, scene.identity, scene.muscles)
    face[:, 1] += static.brow_ends @ np.array(scene.brows_cm, np.float32)
    nothing = np.zeros_like(scene.weights)
    rest = shape.vertices(model, scene.identity, nothing, muscles_=scene.muscles, face=face)
    points = shape.vertices(
        model, scene.identity, scene.weights, gaze_deg=scene.gaze_deg, muscles_=scene.muscles, face=face
    )
    rotate = shape.rotation(scene.pitch_deg, scene.yaw_deg)
    screen = shape.project(model, points, rotate, distance=scene.distance)
    matrix = frame(screen[model.landmarks], scene.jitter, size)
    flat = screen[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    samples = np.column_stack([flat * SUPERSAMPLE + (SUPERSAMPLE - 1) / 2, screen[:, 2]]).astype(np.float32)
    index, bary, _ = raster.visibility(samples, model.triangles, size * SUPERSAMPLE)
    turned = ((points - model.eye_center.mean(0)) @ rotate.T).astype(np.float32)
    normal = raster.normals(turned, model.triangles)
    color, label = _shade(model, static, scene, index, bary, rest, points, turned, normal)
    if backdrop is None:
        backdrop = np.full((size, size, 3), 0.5, np.float32)
    image, label = shade.downsample(color, label, backdrop, SUPERSAMPLE)
    return Render(image, label, flat[model.landmarks].astype(np.float32), matrix, points[model.landmarks])


def _shade(
    model: FaceModel, static: Static, scene: Scene, index: NDArray[np.int32], bary: F32, rest: F32,
    points: F32, turned: F32, normal: F32,
) -> tuple[F32, NDArray[np.uint8]]:  # fmt: skip
    look, light = scene.look, scene.light
    crease = np.zeros(len(points), np.float32)
    if look.wrinkle > 0:
        crease += np.float32(look.wrinkle) * _squeeze(model, rest, points)
    if look.folds:
        for dark, place in zip(look.folds, static.folds, strict=True):
            crease += np.float32(dark) * place ** np.float32(look.fold_edge)
    tint = np.ones((len(points), 4), np.float32)
    tint[:, 1:3] -= look.redness * static.places["redness"][:, None] * np.array([0.45, 0.35], np.float32)
    tint[:, :3] *= 1 - look.under_eye * static.places["under_eye"][:, None]
    tint[:, 3] = static.places["beard"]
    if look.real is not None:
        photo, coords, visible = look.real.photo, look.real.coords, look.real.visible
    else:
        photo, visible = np.zeros((2, 2, 3), np.uint8), np.zeros(len(points), np.float32)
        coords = np.zeros((len(points), 2), np.float32)
    palette = np.stack([look.skin, look.lip, look.brow, look.hair, look.iris, look.sclera, look.teeth,
                        look.mouth, np.full(3, 0.02)]).astype(np.float32)  # fmt: skip
    lips_z = float(turned[model.landmarks[[51, 57]], 2].mean())
    scalars = np.array([look.brow_density, look.brow_shift, look.hair_shift, look.lash, look.noise,
                        look.pupil, light.specular, light.gloss, light.shadow, look.real is not None,
                        look.real is not None and look.real_eyes, look.beard, lips_z,
                        _mouth_light(look, points[model.landmarks])], np.float32)  # fmt: skip
    shadow_map, shadow_frame = _shadow(model, turned, light)
    shift = np.random.default_rng(look.noise_seed).integers(0, len(static.noise), 2)
    noise = np.roll(static.noise, tuple(shift), (0, 1)) if look.noise_seed else static.noise
    return shade.shade(
        index, bary, model.triangles, static.kind, turned, normal, model.region, model.brow, model.eye_radius,
        model.uv, static.rim, tint, crease, photo,
        look.real_gain / np.float32(255), coords, visible, noise, palette, scalars,
        light.ambient, light.directions, light.colors, shadow_map, shadow_frame,
    )  # fmt: skip


def _mouth_light(look: Look, landmarks: F32) -> float:
    """Share of the light that enters the mouth: all of it from a gap of 0.8 cm."""
    gap = float(np.linalg.norm(landmarks[62] - landmarks[66]))
    return 1 - look.mouth_shade * max(0.0, 1 - gap / 0.8)


def _shadow(model: FaceModel, turned: F32, light: Light) -> tuple[F32, F32]:
    """Depth of the face as the first lamp sees it, orthographic, and the lamp's frame."""
    if light.shadow <= 0:
        return np.zeros((1, 1), np.float32), np.zeros((4, 3), np.float32)
    forward = light.directions[0]
    right = np.cross(np.array([0, 1, 0.01]), forward)
    right /= np.linalg.norm(right)
    up = np.cross(forward, right)
    axes = np.stack([right, up, forward]).astype(np.float32)
    seen = turned @ axes.T
    low, high = np.array([-13, -14]), np.array([13, 12])  # cm: face, hair line and chin
    scale = (SHADOW_SIZE - 1) / float((high - low).max())
    samples = np.column_stack([(seen[:, 0] - low[0]) * scale, (high[1] - seen[:, 1]) * scale, seen[:, 2]])
    depth = raster.visibility(samples.astype(np.float32), model.triangles, SHADOW_SIZE)[2]
    frame_ = np.vstack([axes, [low[0], high[1], scale]]).astype(np.float32)
    return depth, frame_
