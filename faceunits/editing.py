"""Photos with other action units: what was asked becomes parameters, and an engine carries them out.

    photo ─ detect, align ─► crop ─ read ─► y ─ asked for ─► y' ─ motion ─► photo with the change

Intensities are 0-5, as in tables; sides are the subject's. The motion engine moves the photo's own pixels:
it keeps identity, background, hair and detail, and can show only what muscles of the face do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from faceunits import aus, estimation
from faceunits.errors import AlignmentError, ConfigError, InputError, ParameterError
from faceunits.io import image as image_io
from faceunits.types import Face, Reading

if TYPE_CHECKING:
    from faceunits.alignment.detect import FaceSource
    from faceunits.motion.engine import Stage
    from faceunits.networks.mesh import Mesh

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

ENGINES = ("auto", "motion", "gan")
"""`motion` moves the photo's pixels; `gan` needs a generator of faces; `auto` is `motion`."""

MAX_YAW_DEG = 28.0
"""Heads that are turned further show only half of a face."""


@dataclass(frozen=True)
class Wish:
    """What is asked for, intensities 0-5 by name.

    `absolute` values that units shall have; `change` is added to those they have. `like` a face
    whose units all units take first; `neutral` sets all units to 0 first. `strength` scales the whole
    change; `force` allows values beyond 0-5.
    """

    absolute: Mapping[str, float]
    change: Mapping[str, float]
    like: Reading | None = None
    neutral: bool = False
    strength: float = 1.0
    force: bool = False


@dataclass(frozen=True)
class Target:
    """`au` `(A,)` parameters wanted; `lips` what is added to the opening between the lips, in that of a full
    AU25, or, negative, which share of it goes; None if it follows from the parameters."""

    au: F32
    lips: float | None


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
    """One face of a photo, ready to be edited: `number` by size, `reading` of it alone, `stage` of it."""

    number: int
    reading: Reading
    stage: Stage


def edit(
    picture: str | os.PathLike[str] | U8,
    units: Mapping[str, float] | None = None,
    *,
    relative: Mapping[str, float] | None = None,
    like: str | os.PathLike[str] | U8 | None = None,
    neutral: bool = False,
    face: int | Literal["all"] = 0,
    engine: str = "auto",
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
        engine: `motion`, or `auto` for the best there is.
        strength: share of the change that is made, 1 for all of it.
        force: allow values beyond 0-5, which extrapolate.
        device: `auto`, `cpu`, `cuda`, ...
        detector: as for `estimate`.

    Raises:
        InputError: the photo cannot be read, has no such face, or the face is turned too far away.
        ParameterError: an unknown action unit, or a value out of range.
        ConfigError: an engine that is not there.
    """
    check_engine(engine)
    check(units or {}, relative or {}, force=force)
    pixels = picture if isinstance(picture, np.ndarray) else image_io.read(picture)
    model = None
    if like is not None:
        other = like if isinstance(like, np.ndarray) else image_io.read(like)
        model = prepare(other, face=0, device=device, detector=detector)[0][0].reading
    wish = Wish(units or {}, relative or {}, model, neutral, strength, force)
    prepared, skipped = prepare(pixels, face=face, device=device, detector=detector)
    wanted, out = [], pixels
    for one in prepared:
        goal = resolve(wish, one.reading)
        out = carry_out(one, goal, out)
        wanted.append(asked(wish, one.reading, goal))
    return EditResult(out, _join([p.reading for p in prepared]), tuple(wanted),
                      tuple(p.number for p in prepared), skipped)  # fmt: skip


def check_engine(engine: str) -> None:
    """Refuses engines that are unknown or not there.

    Raises:
        ConfigError: such an engine.
    """
    if engine not in ENGINES:
        raise ConfigError(f"expected the engine {', '.join(ENGINES)}; got {engine!r}")
    if engine == "gan":
        raise ConfigError(
            "the engine gan is not part of this version: it has no generator of faces; use motion"
        )


def check(units: Mapping[str, float], relative: Mapping[str, float], *, force: bool = False) -> None:
    """Refuses names that do not exist and values out of range, before anything is read.

    Raises:
        ParameterError: such a name or value, or a unit that is asked for twice.
    """
    seen: dict[str, str] = {}
    for key, value in [*units.items(), *relative.items()]:
        names = parameters(key)
        for name in names:
            if name in seen:
                raise ParameterError(
                    f"expected each action unit once; got {seen[name]} and {key}; leave one out"
                )
            seen[name] = key
        if not np.isfinite(value):
            raise ParameterError(f"expected a number for {key}; got {value}")
        top, low = aus.MAX_INTENSITY, -aus.MAX_INTENSITY if key in relative else 0.0
        if not low <= value <= top and not force:
            kind = f"a change of {low:+g} to {top:+g}" if key in relative else f"an intensity of 0 to {top:g}"
            raise ParameterError(f"expected {kind} for {key}; got {value:g}; --force extrapolates")


OPENINGS = ("AU25", "AU26", "AU27")
"""Units that are read from the lips and the jaw together, see `aus.columns`."""


def parameters(key: str) -> tuple[str, ...]:
    """The parameters that a name stands for: `AU12` for both of its sides.

    Raises:
        ParameterError: there are none.
    """
    name, side = aus.parse(key)
    if name in OPENINGS:
        if side:
            raise ParameterError(f"{name} has no sides; got {key!r}, use {name}")
        return (name,)
    names = aus.profile().names
    found = tuple(n for n in ([name + side] if side else [name, name + "_L", name + "_R"]) if n in names)
    if not found:
        raise ParameterError(f"{name} has no sides; got {key!r}, use {name}")
    return found


def resolve(wish: Wish, reading: Reading) -> Target:
    """The parameters that one face shall have.

    Args:
        wish: what is asked for.
        reading: of that face alone.
    """
    au, start = reading.au[0].astype(np.float32).copy(), reading.au[0]
    names = reading.names
    columns = aus.columns(names, reading.au, reading.lip_gap)
    lips: float | None = None
    if wish.neutral:
        au[:] = 0
        lips = -1.0
    if wish.like is not None:
        au = wish.like.au[0].astype(np.float32).copy()
        lips = _parting(float(reading.lip_gap[0]), float(wish.like.lip_gap[0]))
    opening: dict[str, float] = {}
    for key, value in wish.absolute.items():
        for name in parameters(key):
            if name in OPENINGS:
                opening[name] = value
            else:
                au[names.index(name)] = value / aus.MAX_INTENSITY
    for key, value in wish.change.items():
        for name in parameters(key):
            if name in OPENINGS:
                opening[name] = _limit(float(columns[name + "_r"][0]) + value, wish.force)
            else:
                i = names.index(name)
                au[i] = _limit(aus.MAX_INTENSITY * au[i] + value, wish.force) / aus.MAX_INTENSITY
    if opening:
        lips = _open(au, names, opening, float(columns["AU25_r"][0]), lips)
    share = wish.strength
    lips = None if lips is None else share * lips
    return Target((start + np.float32(share) * (au - start)).astype(np.float32), lips)


def _limit(value: float, force: bool) -> float:
    return value if force else float(np.clip(value, 0, aus.MAX_INTENSITY))


def _open(
    au: F32, names: tuple[str, ...], opening: Mapping[str, float], now: float, lips: float | None
) -> float | None:
    """Sets jaw and lips for AU25, AU26 and AU27; returns what is added to the opening, as in `Target`.

    Args:
        au: `(A,)` changed in place.
        names: of the parameters.
        opening: intensities 0-5 of these units.
        now: AU25 of the face as it is.
        lips: what was to be added before these units were heard.
    """
    jaw, full = names.index("AU26"), aus.JAW_DROP_FULL
    if "AU26" in opening:
        au[jaw] = full * opening["AU26"] / aus.MAX_INTENSITY
        lips = None
    if "AU27" in opening:
        wide = opening["AU27"] / aus.MAX_INTENSITY
        au[jaw] = full + (1 - full) * wide if wide > 0 else min(float(au[jaw]), full)
        lips = None
    if "AU25" not in opening:
        return lips
    more = (opening["AU25"] - now) / aus.MAX_INTENSITY
    # the muscles that part lips, as in `aus.Profile.expand`; how far they part is set directly
    for name, weight in (("AU16", 0.35), ("AU10", 0.2)):
        for side in ("_L", "_R"):
            i = names.index(name + side)
            au[i] = max(float(au[i]) + weight * more, 0.0)
    if "AU26" not in opening and "AU27" not in opening:
        au[jaw] = max(float(au[jaw]) + 0.05 * more, 0.0)
    return _parting(now / aus.MAX_INTENSITY, opening["AU25"] / aus.MAX_INTENSITY)


def _parting(now: float, wanted: float) -> float:
    """From one opening between the lips to another, both in that of a full AU25, as `Target.lips`."""
    return wanted - now if wanted >= now else wanted / now - 1


def asked(wish: Wish, reading: Reading, goal: Target) -> dict[str, float]:
    """Intensities 0-5 by name, of the units that were asked for, as one face shall have them."""
    columns = aus.columns(reading.names, goal.au[None], reading.lip_gap)
    if wish.neutral or wish.like is not None:
        before = aus.columns(reading.names, reading.au, reading.lip_gap)
        named = {
            n.removesuffix("_r"): float(v[0]) for n, v in columns.items()
            if n.count("_") == 1 and abs(float(v[0] - before[n][0])) >= 0.1
        }  # fmt: skip
        if wish.neutral and before["AU25_r"][0] >= 0.1:
            named["AU25"] = 0.0
    else:
        named = {}
    for key in [*wish.absolute, *wish.change]:
        name, side = aus.parse(key)
        named[name + side] = float(wish.absolute.get(key, np.nan))
        if key in wish.change:
            before = aus.columns(reading.names, reading.au, reading.lip_gap)
            source = before if name == "AU25" else columns
            extra = wish.change[key] if name == "AU25" else 0.0
            named[name + side] = _limit(float(source[name + side + "_r"][0]) + extra, wish.force)
    return {k: round(v, 2) for k, v in named.items()}


def prepare(
    pixels: U8,
    *,
    face: int | Literal["all"] = 0,
    device: str = "auto",
    detector: FaceSource | None = None,
) -> tuple[list[Prepared], dict[int, str]]:
    """Faces of a picture, ready to be edited, and for those that cannot be the reason.

    Args:
        pixels: `(H, W, 3)` uint8 RGB, or `(H, W, 4)` with alpha.
        face: which, 0 the largest, or `all`.
        device: where networks run.
        detector: as for `estimate`.

    Raises:
        InputError: no such face, or none that can be edited.
    """
    from faceunits import fitting
    from faceunits.alignment import warp
    from faceunits.motion import engine
    from faceunits.rig.shape import POSE_RANGE_DEG

    rgb = opaque(pixels)
    found = find(rgb, detector)
    numbers = list(range(len(found))) if face == "all" else [face]
    if face != "all" and not 0 <= face < len(found):
        raise InputError(
            f"expected a face 0 to {len(found) - 1} (0 is the largest); got {face}; name another"
        )
    networks = estimation.models(device)
    out, skipped = [], {}
    for number in numbers:
        try:
            matrix = warp.similarity(found[number].points[None], networks.crop_size)[0]
            crop = warp.crop(rgb, matrix, networks.crop_size)
        except AlignmentError as error:
            skipped[number] = f"not aligned: {error}"
            continue
        reading = fitting.read(crop[None], networks)
        pitch, yaw = (float(v) for v in reading.pose_deg[0])
        if abs(yaw) > MAX_YAW_DEG:
            skipped[number] = (
                f"turned {abs(yaw):.0f} degrees to the side; up to {MAX_YAW_DEG:g} can be edited"
            )
            continue
        pose = 0.5 + np.array([pitch, yaw]) / (2 * POSE_RANGE_DEG)
        y = np.concatenate([pose, reading.au[0], reading.identity[0]]).astype(np.float32)
        stage = engine.stage(pixels, matrix, y, reading.landmarks[0], mesh(), networks.crop_size)
        out.append(Prepared(number, reading, stage))
    if not out:
        reasons = "; ".join(f"face {n} is {why}" for n, why in skipped.items())
        raise InputError(f"expected a face that can be edited; {reasons}; use another photo")
    return out, skipped


def find(rgb: U8, detector: FaceSource | None = None) -> list[Face]:
    """Faces of a picture, the largest first.

    Raises:
        InputError: none.
    """
    detector = detector or estimation._detector()
    found = sorted(detector(rgb), key=lambda f: -float(f.box[2] * f.box[3]))
    if not found:
        size = f"{rgb.shape[1]} x {rgb.shape[0]} pixels"
        raise InputError(f"expected a face in the photo; none found in {size}; use another photo")
    return found


def carry_out(one: Prepared, goal: Target, pixels: U8 | None = None) -> U8:
    """The photo with one face changed.

    Args:
        one: of `prepare`.
        goal: of `resolve`.
        pixels: the photo as earlier changes left it; as it was when None.
    """
    from dataclasses import replace

    stage = one.stage if pixels is None or pixels is one.stage.picture else replace(one.stage, picture=pixels)
    y = stage.laid.y.copy()
    y[2 : 2 + len(goal.au)] = goal.au
    return stage.draw(y, lips=goal.lips)


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


def _join(readings: list[Reading]) -> Reading:
    names = readings[0].names
    arrays = [n for n in Reading.__dataclass_fields__ if n != "names"]
    return Reading(names=names, **{n: np.concatenate([getattr(r, n) for r in readings]) for n in arrays})
