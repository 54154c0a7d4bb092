"""From a neutral portrait to a `Skin`: fit the rig, then keep where in the photo each colour is.

Data flow: photo and its 189 template points -> `fit_photo` -> `Skin`; `collect` does so for folders
of portraits and keeps held-out people in a file of their own. Needs scipy and scikit-image.
"""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse
from scipy.optimize import least_squares

from faceunits.errors import InputError
from faceunits.rig import anchors, atlas, raster, shape, spline
from faceunits.rig.shape import FaceModel
from faceunits.rig.skin import Skin, save

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

N_IDENTITY = 60
CAMERA_CM = 100.0
"""Distance of a portrait camera; its perspective, not the size of the face, is what matters."""
SIGMA_PX = 5.0
"""Misfit that weighs as much as one standard deviation of identity; neighbours on a curve agree, so
it is larger than the error of one point."""
FIT_ROUNDS = 4
SETS = (("london", "neutral_face_189", "neutral_face"), ("canada", "face_189", "face"))
"""Folder, its landmarks in face crops, and the folder of the crops."""
GRAZING_PX = 30.0
"""How far skin that the photo does not show is read outside its place, see `_outwards`."""
HAIR_FADE_CM = 0.3
"""Beyond the hair line the photo's colour gives way to painted hair over this width."""


@dataclass(frozen=True)
class _Camera:
    """Pitch, yaw, roll in degrees, px per cm, and the pixel of the middle of the eyes."""

    angles: F64
    scale: float
    offset: F64

    def screen(self, model: FaceModel, points: NDArray[np.floating]) -> F64:
        """`(n, 3)` x, y in px, depth in cm."""
        rotate = shape.rotation(*self.angles)
        seen = shape.project(model, points.astype(np.float32), rotate, distance=CAMERA_CM).astype(np.float64)
        seen[:, :2] = seen[:, :2] * self.scale + self.offset
        return seen


def fit_photo(
    model: FaceModel, photo: NDArray[np.uint8], points: NDArray[np.floating], *,
    name: str = "", gender: str = "", ethnicity: str = "",
) -> Skin:  # fmt: skip
    """The skin of a neutral, roughly frontal face.

    Args:
        model: the face model, loaded with at least one identity mode.
        photo: `(H, W, 3)` uint8.
        points: `(189, 2)` template points, px.
        name, gender, ethnicity: kept with the skin.

    Raises:
        InputError: points or photo of another shape.
    """
    if points.shape != (189, 2) or photo.ndim != 3:
        raise InputError(f"expected 189 points and an RGB photo; got {points.shape} and {photo.shape}")
    placed = points.astype(np.float64)
    curves = anchors.curves(model)
    camera, identity = _fit(model, placed, curves)
    vertices = shape.vertices(model, identity, np.zeros(len(model.expression_names), np.float32))
    screen = camera.screen(model, vertices)
    coords = _warp(model, screen, placed, curves)
    coords = _outwards(model, vertices, screen, coords, camera)
    skin = atlas.skin_pixels(photo, placed)
    coords = _lips(model, coords, placed)
    coords = _eyeballs(model, coords, len(photo))
    return Skin(
        name=name, photo=atlas.build(photo, placed), identity=identity, coords=coords.astype(np.float32),
        visible=_trust(model), color=(np.median(photo[skin], 0) / 255).astype(np.float32),
        hair_color=_hair_color(photo, placed), gender=gender, ethnicity=ethnicity,
    )  # fmt: skip


def _fit(model: FaceModel, points: F64, curves: list[anchors.Curve]) -> tuple[_Camera, F32]:
    """Pose, scale and identity that bring the curves onto the photo's, with a Gaussian prior."""
    used = [c for c in curves if c.weight > 0]
    rows = sparse.vstack([c.rows for c in used])
    aim = np.concatenate([anchors.targets(c, points) for c in used])
    weight = np.concatenate([np.full(c.rows.shape[0], c.weight) for c in used])
    neutral, modes = model.neutral.astype(np.float64), model.identity.astype(np.float64)
    jaw = anchors.resample(points[list(anchors.JAW)], anchors.JAW_SAMPLES)
    eyes = points[[18, 22, 23, 27]].mean(0)
    start = np.zeros(6 + len(modes))
    # the rig's outer eye corners are 8.9 cm apart
    start[3:6] = np.log(np.linalg.norm(points[27] - points[18]) / 8.9), *eyes

    def unpack(x: F64) -> _Camera:
        return _Camera(x[:3] * 10, float(np.exp(x[3])), x[4:6])

    for _ in range(FIT_ROUNDS):
        whole = (neutral + np.tensordot(start[6:], modes, 1)).astype(np.float32)
        screen = unpack(start).screen(model, whole)
        rim = anchors.jaw_vertices(model, screen[:, :2], screen[model.landmarks[33], :2], jaw)
        pick = sparse.csr_matrix((np.ones(len(rim)), (np.arange(len(rim)), rim)), (len(rim), len(neutral)))
        both = sparse.vstack([rows, pick]).tocsr()
        base = both @ neutral
        basis = np.stack([both @ m for m in modes])  # (N, K, 3)
        goal = np.concatenate([aim, jaw])
        factor = np.concatenate([weight, np.full(len(rim), 0.6)])[:, None] / SIGMA_PX

        def misfit(
            x: F64, base: F64 = base, basis: F64 = basis, goal: F64 = goal, factor: F64 = factor
        ) -> F64:
            seen = unpack(x).screen(model, base + np.tensordot(x[6:], basis, 1))
            return np.concatenate([((seen[:, :2] - goal) * factor).ravel(), x[6:], x[:3] * 0.5])

        start = least_squares(misfit, start, method="trf", x_scale="jac", diff_step=1e-3, max_nfev=6).x
    return unpack(start), start[6:].astype(np.float32)


def _warp(model: FaceModel, screen: F64, points: F64, curves: list[anchors.Curve]) -> F64:
    """`(V, 2)` projected vertices, moved smoothly so that every curve falls on the photo's."""
    jaw = anchors.resample(points[list(anchors.JAW)], anchors.JAW_SAMPLES)
    rim = anchors.jaw_vertices(model, screen[:, :2], screen[model.landmarks[33], :2], jaw)
    flat = screen[:, :2]
    source = np.concatenate([c.rows @ flat for c in curves] + [flat[rim]])
    goal = np.concatenate([anchors.targets(c, points) for c in curves] + [jaw])
    # far from the face nothing moves: a ring of fixed points keeps the spline from running away
    middle, reach = jaw.mean(0) - [0, np.ptp(jaw[:, 1])], 1.6 * np.ptp(jaw[:, 0])
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = middle + reach * np.stack([np.cos(turn), np.sin(turn)], 1)
    source, goal = np.concatenate([source, ring]), np.concatenate([goal, ring])
    return spline.mover(source, goal, apart=0.5, smoothing=1e-4)(flat)  # curves meet at corners


def _outwards(model: FaceModel, vertices: F32, screen: F64, coords: F64, camera: _Camera) -> F64:
    """Coordinates with the skin that the photo does not show moved out into the atlas' filling.

    Seen at a grazing angle or hidden, a few pixels of the border would streak over the whole side of
    the face; outside the outline the atlas goes on in smooth skin.
    """
    rotate = shape.rotation(*camera.angles)
    normal = raster.normals((vertices @ rotate.T).astype(np.float32), model.triangles)
    facing = np.clip((normal[:, 2] - 0.05) / 0.35, 0, 1)
    # what a neutral face folds away, lids, lips and nostrils, keeps its neighbours' colour
    marks = vertices[model.landmarks]
    gap = np.linalg.norm(vertices[:, None, :2] - marks[None, 17:, :2], axis=2).min(1)
    facing = np.maximum(facing, np.clip((2.2 - gap) / 0.8, 0, 1))
    center = screen[model.landmarks[27:31], :2].mean(0)
    away = coords - center
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1.0)
    return np.asarray(coords + away * (1 - facing[:, None]) * GRAZING_PX)


def _trust(model: FaceModel) -> F32:
    """`(V,)` 1 on face, head and eyeballs, fading to 0 inside the hair, which is painted."""
    region = model.region[:, model.region_names.index("hair")]
    drawn = ("face", "head_neck", "sclera_L", "sclera_R")
    own = [i for i, n in enumerate(model.geometry_names) if n in drawn]
    out = np.clip(1 - region / HAIR_FADE_CM, 0, 1) * np.isin(model.vert_geometry, own)
    return np.asarray(out, np.float32)


def _lips(model: FaceModel, coords: F64, points: F64) -> F64:
    """Coordinates with each lip kept on its own side of the lip line, however it rolls inwards."""
    region = {n: model.region[:, i] for i, n in enumerate(model.region_names)}
    drop = -model.expression[model.expression_names.index("jawOpen"), :, 1]
    near = np.maximum(np.maximum(region["upper_lip"], region["lower_lip"]), region["inner_mouth"]) > -0.1
    middle = drop[model.landmarks[[62, 66]]].mean()
    lower = np.where(region["inner_mouth"] > 0, drop > middle, region["lower_lip"] > region["upper_lip"])
    out = coords.copy()
    for below, template in ((False, (87, 94, 95, 96, 97, 98, 93)), (True, (87, 99, 100, 101, 102, 103, 93))):
        line = anchors.resample(points[list(template)], 60)
        own = near & (lower == below)
        level = np.interp(out[own, 0], line[:, 0], line[:, 1])
        if below:
            out[own, 1] = np.maximum(out[own, 1], level + anchors.SEAM_PX)
        else:
            out[own, 1] = np.minimum(out[own, 1], level - anchors.SEAM_PX)
    return out


def _eyeballs(model: FaceModel, coords: F64, height: int) -> F64:
    """Coordinates with the eyeballs' in their tiles below the photo."""
    out = coords.copy()
    out[:, 1] = np.minimum(out[:, 1], height - 2)  # nothing else may reach down into the tiles
    half = (atlas.TILE - 1) / 2
    for side, name in enumerate(("sclera_R", "sclera_L")):  # image left first
        ball = np.flatnonzero(model.vert_geometry == model.geometry_names.index(name))
        pupil = model.neutral[ball[np.argmin(model.eye_radius[ball])]]
        away = (model.neutral[ball] - pupil)[:, :2] * [1, -1]
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
        place = away * np.minimum(model.eye_radius[ball] / atlas.TILE_RADIUS, 0.98)[:, None] * half
        out[ball] = place + half + [side * atlas.TILE, height]
    return out


def _hair_color(photo: NDArray[np.uint8], points: F64) -> F32:
    """`(3,)` median colour between the hair line and the top of the head, in [0, 1]."""
    line, top = points[[137, 138, 139, 140, 141]], points[[149, 150, 151, 152, 153]]
    spots = np.concatenate([line * (1 - t) + top * t for t in (0.25, 0.35, 0.45, 0.55)])
    x, y = np.clip(np.rint(spots).astype(int), 0, np.array(photo.shape[1::-1]) - 1).T
    return np.asarray(np.median(photo[y, x], 0) / 255, np.float32)


def collect(
    model: FaceModel, faces_dir: str | Path, out_dir: str | Path, *,
    kept_out: dict[str, list[str]] | None = None,
) -> None:  # fmt: skip
    """Fit every portrait of the `london` and `canada` sets and write the skins.

    Writes `skins_train.npz` and, for people whose pixels must train nothing, `skins_kept_out.npz`.

    Raises:
        InputError: a folder lacks its landmarks.
    """
    if kept_out is None:
        path = Path(__file__).parents[1] / "evaluation/kept_out.toml"
        kept_out = tomllib.loads(path.read_text())
    sets = {group: _fit_set(model, Path(faces_dir) / group, *rest) for group, *rest in SETS}
    sets["canada"] = _balanced(sets["canada"], sets["london"])
    held = {f"{group}/{name}" for group in sets for name in kept_out[group]}
    everyone = [s for skins in sets.values() for s in skins]
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    save(Path(out_dir) / "skins_train.npz", [s for s in everyone if s.name not in held])
    save(Path(out_dir) / "skins_kept_out.npz", [s for s in everyone if s.name in held])


def _fit_set(model: FaceModel, base: Path, key: str, folder: str) -> list[Skin]:
    if not (base / "landmarks.npz").exists():
        raise InputError(f"expected landmarks.npz in {base}; name the folder that holds {base.name}/")
    with np.load(base / "landmarks.npz") as pack:
        names, all_points = [str(n) for n in pack["ids"]], pack[key]
    with (base / "subjects.csv").open(newline="") as file:
        people = {next(iter(r.values())): r for r in csv.DictReader(file)}
    out = []
    for name, points in zip(names, all_points, strict=True):
        photo = np.asarray(Image.open(base / folder / f"{name}.jpg").convert("RGB"))
        about = people.get(name, {})
        gender = about.get("gender") or about.get("face_gender") or ""
        # the Canadian set is "Young Adult White Faces" and has no such column
        ethnicity = about.get("ethnicity") or ("white" if base.name == "canada" else "")
        title = f"{base.name}/{name}"
        out.append(fit_photo(model, photo, points, name=title, gender=gender, ethnicity=ethnicity))
    return out


def _balanced(skins: list[Skin], like: list[Skin]) -> list[Skin]:
    """Skins with one gain per channel for the whole set, so that its mean skin is that of `like`.

    The Canadian photos have a red cast; people within the set keep their differences.
    """
    aim = np.mean([s.color for s in like if s.ethnicity == "white"], 0)
    gain = aim / np.mean([s.color for s in skins], 0)
    return [
        replace(
            s, photo=np.clip(s.photo * gain + 0.5, 0, 255).astype(np.uint8),
            color=np.asarray(s.color * gain, np.float32),
            hair_color=np.asarray(np.clip(s.hair_color * gain, 0, 1), np.float32),
        )
        for s in skins
    ]  # fmt: skip
