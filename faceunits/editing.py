"""Photos with other action units: what was asked becomes parameters, and an engine carries them out.

    photo ─ detect, align ─► crop ─ read ─► y ─ asked for ─► y' ─ motion or gan ─► photo with the change

Intensities are 0-5, as in tables; sides are the subject's. The engine `motion` moves the photo's own pixels:
it keeps identity, background, hair and detail, and can show only what muscles of the face do. The engine
`gan` adds what changes in a generator's picture of the face; it can show what the generator has learnt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from faceunits import aus, estimation
from faceunits.errors import AlignmentError, ConfigError, InputError
from faceunits.io import image as image_io
from faceunits.types import Face, Reading
from faceunits.wishes import Target as Target
from faceunits.wishes import Wish as Wish
from faceunits.wishes import asked as asked
from faceunits.wishes import check as check
from faceunits.wishes import resolve as resolve

if TYPE_CHECKING:
    from torch import Tensor

    from faceunits.alignment.detect import FaceSource
    from faceunits.fitting import Models
    from faceunits.gan.engine import Scene
    from faceunits.gan.files import Files, Networks
    from faceunits.motion.engine import Stage
    from faceunits.networks.mesh import Mesh

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

ENGINES = ("auto", "motion", "gan")
"""`motion` moves the photo's pixels; `gan` needs a generator of faces; `auto` is `AUTO`, or `gan` where files
of its networks are named."""

AUTO = "motion"
"""What scores better on photos."""

MAX_YAW_DEG = 28.0
"""Heads that are turned further show only half of a face."""


@dataclass(frozen=True)
class EditResult:
    """An edited photo.

    `picture` `(H, W, C)` uint8; `before` what was measured of the edited faces; `wanted` for each of them
    the intensities 0-5 by column of a table that were asked for; `faces` their numbers, 0 the largest;
    `skipped` for each face that was passed over the reason.
    """

    picture: U8
    before: Reading
    wanted: tuple[dict[str, float], ...]
    faces: tuple[int, ...]
    skipped: Mapping[int, str]


@dataclass(frozen=True)
class Prepared:
    """One face of a photo, ready to be edited: `number` by size, `reading` of it alone, `stage` of it; and
    `scene` of it, if the engine is `gan`."""

    number: int
    reading: Reading
    stage: Stage
    scene: Scene | None = None


def edit(
    picture: str | os.PathLike[str] | U8,
    units: Mapping[str, float] | None = None,
    *,
    relative: Mapping[str, float] | None = None,
    like: str | os.PathLike[str] | U8 | None = None,
    neutral: bool = False,
    face: int | Literal["all"] = 0,
    engine: str = "auto",
    files: Files | None = None,
    strength: float = 1.0,
    force: bool = False,
    device: str = "auto",
    detector: FaceSource | None = None,
) -> EditResult:
    """A photo with other action units.

    Args:
        picture: a photo, or a picture `(H, W, 3)` uint8 RGB, or `(H, W, 4)` with alpha.
        units: intensities 0-5 that units shall have: `{"AU12": 3, "AU06_L": 2}`; the others stay.
        relative: changes of units from what they are: `{"AU04": 1}`; ends at 0 and 5.
        like: a photo whose units all of them take before `units` and `relative` are heard.
        neutral: all units go to 0 before `units` and `relative` are heard.
        face: which face, 0 the largest, or `all`.
        engine: `motion`, `gan`, or `auto` for the better one.
        files: `faceunits.gan.files.Files` of generator, encoder and editor for `gan`; else the package's.
        strength: share of the change that is made, 1 for all of it.
        force: allow values beyond 0-5, which extrapolate.
        device: `auto`, `cpu`, `cuda`, ...
        detector: as for `estimate`.

    Raises:
        InputError: the photo cannot be read, has no such face, or the face is turned too far away.
        ParameterError: an unknown action unit, one that the engine cannot change, or a value out of range.
        ConfigError: an engine that is not there.
        WeightsError: files that are damaged or of other networks.
    """
    engine = chosen(engine, files)
    check(units or {}, relative or {}, force=force)
    networks = load(engine, files, device)
    check_known(networks, [*(units or {}), *(relative or {})])
    pixels = picture if isinstance(picture, np.ndarray) else image_io.read(picture)
    wish = Wish(units or {}, relative or {}, None, neutral, strength, force)
    if like is not None:
        other = like if isinstance(like, np.ndarray) else image_io.read(like)
        wish = resembling(wish, prepare(other, device=device, detector=detector, networks=networks)[0][0])
    prepared, skipped = prepare(pixels, face=face, device=device, detector=detector, networks=networks)
    wanted, out = [], pixels
    for one in prepared:
        goal = resolve(wish, one.reading)
        out = carry_out(one, goal, out)
        wanted.append(asked(wish, one.reading, goal))
    return EditResult(out, estimation.join([p.reading for p in prepared]), tuple(wanted),
                      tuple(p.number for p in prepared), skipped)  # fmt: skip


def chosen(engine: str, files: Files | None = None) -> str:
    """`motion` or `gan`; refuses engines that are unknown or not there.

    Raises:
        ConfigError: such an engine, or files that belong to the other.
    """
    from faceunits.gan.files import Files, require

    if engine not in ENGINES:
        raise ConfigError(f"expected the engine {', '.join(ENGINES)}; got {engine!r}")
    files = files or Files()
    if engine == "auto":
        engine = "gan" if files.given else AUTO
    if engine == "motion" and files.given:
        raise ConfigError(
            "expected files of generator, encoder and editor with the engine gan; got the engine motion; "
            "leave the files out or choose gan"
        )
    if engine == "gan":
        require(files)
    return engine


def load(engine: str, files: Files | None = None, device: str = "auto") -> Networks | None:
    """The networks of the engine `gan`; None for `motion`, which `chosen` may have found.

    Raises:
        ConfigError: as `chosen`, or files that do not belong together.
        WeightsError: files that are damaged or of other networks.
    """
    if chosen(engine, files) == "motion":
        return None
    from faceunits.gan.files import Files
    from faceunits.gan.files import load as load_files

    return load_files(files or Files(), str(estimation.models(device).device))


def check_known(networks: Networks | None, keys: Iterable[str]) -> None:
    """Refuses units that the editor of the engine `gan` was not trained for.

    Raises:
        ParameterError: such a unit, or one of its sides.
    """
    from faceunits.gan import labels

    if networks is not None:
        for key in keys:
            labels.places(networks.names, key)


def resembling(wish: Wish, model: Prepared) -> Wish:
    """The wish that starts from the expression of another photo's face."""
    return replace(wish, like=model.reading, latent=model.scene.w if model.scene else None)


def prepare(
    pixels: U8,
    *,
    face: int | Literal["all", "only"] = 0,
    device: str = "auto",
    detector: FaceSource | None = None,
    networks: Networks | None = None,
) -> tuple[list[Prepared], dict[int, str]]:
    """Faces of a picture, ready to be edited, and for those that cannot be the reason.

    Args:
        pixels: `(H, W, 3)` uint8 RGB, or `(H, W, 4)` with alpha.
        face: which, 0 the largest, or `all`; or `only`, where there must be no other.
        device: where networks run.
        detector: as for `estimate`.
        networks: of `load`, for the engine `gan`.

    Raises:
        InputError: no such face, or none that can be edited.
    """
    rgb = opaque(pixels)
    found = find(rgb, detector)
    if face == "only" and len(found) > 1:
        raise InputError(
            f"expected one face in the photo; found {len(found)}; say which with --face 0 (the largest) to "
            f"--face {len(found) - 1}, or --face all"
        )
    face = 0 if face == "only" else face
    numbers = list(range(len(found))) if face == "all" else [face]
    if face != "all" and not 0 <= face < len(found):
        raise InputError(
            f"expected a face 0 to {len(found) - 1} (0 is the largest); got {face}; name another"
        )
    models = estimation.models(device)
    out: list[Prepared] = []
    skipped: dict[int, str] = {}
    for number in numbers:
        try:
            one = _ready(number, found[number], pixels, rgb, models)
            out.append(replace(one, scene=_scene(one, rgb, found[number], networks)) if networks else one)
        except AlignmentError as error:
            skipped[number] = f"not aligned: {error}"
        except _TurnedAway as error:
            skipped[number] = str(error)
    if not out:
        reasons = "; ".join(f"face {n} is {why}" for n, why in skipped.items())
        raise InputError(f"expected a face that can be edited; {reasons}; use another photo")
    return out, skipped


class _TurnedAway(Exception):
    """A face that shows one half only."""


def _ready(number: int, found: Face, pixels: U8, rgb: U8, models: Models) -> Prepared:
    """One face, measured and with the mesh upon it.

    Raises:
        AlignmentError: points that coincide.
        _TurnedAway: more than `MAX_YAW_DEG` to the side.
    """
    from faceunits.alignment import warp
    from faceunits.motion import engine
    from faceunits.rig.shape import parameters

    matrix = warp.similarity(found.points[None], models.crop_size)[0]
    read = estimation.measurer("fast", engine="torch")  # the numbers of `estimate`
    reading = read(warp.crop(rgb, matrix, models.crop_size)[None], models)
    yaw = float(reading.pose_deg[0, 1])
    if abs(yaw) > MAX_YAW_DEG:
        raise _TurnedAway(f"turned {abs(yaw):.0f} degrees to the side; up to {MAX_YAW_DEG:g} can be edited")
    [y] = parameters(vars(reading))
    stage = engine.stage(pixels, matrix, y, reading.landmarks[0], mesh(), models.crop_size)
    return Prepared(number, reading, stage)


def find(rgb: U8, detector: FaceSource | None = None) -> list[Face]:
    """Faces of a picture, the largest first.

    Raises:
        InputError: none.
    """
    detector = detector or estimation.detector()
    found = sorted(detector(rgb), key=lambda f: -float(f.box[2] * f.box[3]))
    if not found:
        size = f"{rgb.shape[1]} x {rgb.shape[0]} pixels"
        raise InputError(f"expected a face in the photo; none found in {size}; use another photo")
    return found


def _scene(one: Prepared, rgb: U8, found: Face, networks: Networks) -> Scene:
    from faceunits.alignment import warp
    from faceunits.gan import engine

    landmarks = warp.apply(one.stage.back, one.reading.landmarks[0])
    return engine.scene(rgb, one.stage, found.points, landmarks, networks)


def carry_out(one: Prepared, goal: Target, pixels: U8 | None = None) -> U8:
    """The photo with one face changed.

    Args:
        one: of `prepare`.
        goal: of `resolve`.
        pixels: the photo as earlier changes left it; as it was when None.

    Raises:
        ParameterError: a unit that the engine cannot change.
    """
    if one.scene is not None:
        before = one.stage.picture if pixels is None else pixels
        return one.scene.draw(before, _code(one.scene, goal.wish, one.reading))
    stage = one.stage if pixels is None or pixels is one.stage.picture else replace(one.stage, picture=pixels)
    y = stage.laid.y.copy()
    y[2 : 2 + len(goal.au)] = goal.au
    return stage.draw(y, lips=goal.lips)


def _code(scene: Scene, wish: Wish, reading: Reading) -> Tensor:
    """`(1, E, m)` the editor's code of what is asked for."""
    import torch

    from faceunits.gan import labels

    editor, names = scene.networks.editor, scene.networks.names
    with torch.inference_mode():
        own = editor.read(scene.w)
        base, of = own, reading
        if wish.like is not None and wish.latent is not None:
            base, of = editor.read(wish.latent), wish.like
        columns = aus.columns(of.names, of.au, of.lip_gap)
        measured = {n.removesuffix("_r"): float(v[0]) for n, v in columns.items()}
        if wish.neutral and wish.like is None:
            base, measured = torch.zeros_like(own), {}
        code = labels.code(
            editor, names, base, measured, absolute=wish.absolute, change=wish.change, force=wish.force
        )
        return editor.between(scene.w, code, wish.strength)


def on_the_way(prepared: list[Prepared], goals: list[Target]) -> tuple[list[Prepared], list[Target]]:
    """Faces and goals as `motion.sequence` takes them, whichever the engine."""
    from faceunits.gan import way

    faces, ends = [], []
    for one, goal in zip(prepared, goals, strict=True):
        if one.scene is not None:
            start = way.Start(np.zeros(3, np.float32))
            code = _code(one.scene, goal.wish, one.reading)
            route = way.Way(one.stage.picture, one.scene, code, start)
            one = replace(one, stage=cast("Stage", route))
            goal = replace(goal, au=way.END, lips=None)
        faces.append(one)
        ends.append(goal)
    return faces, ends


def opaque(pixels: U8) -> U8:
    """`(H, W, 3)` with transparent places white.

    Raises:
        InputError: an array of another layout.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or 0 in pixels.shape:
        raise InputError(
            f"expected a picture (H, W, 3) or (H, W, 4) of uint8; got {pixels.shape} {pixels.dtype}"
        )
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    share = pixels[..., 3:].astype(np.float32) / 255
    return np.asarray(pixels[..., :3] * share + 255 * (1 - share) + 0.5).astype(np.uint8)


@cache
def mesh() -> Mesh:
    """The mesh that comes with the package, loaded once."""
    from faceunits.motion import face

    return face.load()
