"""Photos and videos to rows: read, find the faces, align, measure, and put the answers in a plain table.

    file ─ io ─► photo ─ detect ─► faces ─ warp ─► crops ─ read or fit ─► Reading ─► rows, overlay

A photo that cannot be read, or shows no face, is a row that says so; the rest of a run goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus
from faceunits.errors import AlignmentError, ConfigError, InputError
from faceunits.io import image as image_io
from faceunits.io import video as video_io
from faceunits.io.files import make_folder, printable
from faceunits.types import Face, FitResult, Reading

if TYPE_CHECKING:
    from faceunits.alignment.detect import FaceSource
    from faceunits.fitting import Models

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Picture = str | os.PathLike[str] | U8
Source = Picture | Iterable[Picture]
Progress = Callable[[int, int, str], None]

COLUMNS = (
    "input", "frame", "face_id", "timestamp", "confidence", "success", "reason",
    "face_x", "face_y", "face_w", "face_h", "pose_pitch_deg", "pose_yaw_deg", "pose_roll_deg",
)  # fmt: skip
"""Columns before those of the action units; names of OpenFace where it has one."""

UNREADABLE = "unreadable: "
"""Beginning of `reason` in the row of a file that could not be read."""

METHODS = ("fast", "refine", "fit")
"""One pass of E; that and a few steps of the fit; the whole fit. More time, more evidence."""

_OVERLAY_SIDE = 1280


@dataclass
class _Photo:
    """One input on its way: what was found, and the rows it ends in."""

    name: str
    picture: U8 | None = None
    reason: str = ""
    faces: list[Face] = field(default_factory=list)
    crops: list[F32 | None] = field(default_factory=list)
    rolls_deg: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def estimate(
    source: Source,
    *,
    method: str = "fast",
    recipe: str = "default",
    engine: str = "auto",
    device: str = "auto",
    detector: FaceSource | None = None,
    overlay: str | os.PathLike[str] | None = None,
    batch: int = 8,
    every: int = 1,
    start_s: float | None = None,
    end_s: float | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Action units of every face in photos and videos, one row per face (and frame).

    A video's table is as long as the video: `stream` gives it in pieces.

    Args:
        source: a photo, video or folder, a picture `(H, W, 3)` uint8 RGB, or several of these.
        method: `fast` reads each face in one pass of a network; `fit` finds the rendered face that looks
            like it, by gradient descent; `refine` does a few steps of that from the fast reading.
        recipe: of `fit`: `default`, or `paper` for GE-Net's own setting.
        engine: of `fast`: `torch`, `onnx` (CPU only; extra of that name), or `auto`,
            which is `onnx` once that has been used.
        device: `auto`, `cpu`, `cuda`, ...
        detector: the built-in one by default; else one of `alignment.adapters`, or any function from a
            picture to its faces, called once per readable photo, in order.
        overlay: folder for one picture per photo that shows what was measured; made if need be; not for
            videos.
        batch: faces of photos measured at a time.
        every: of videos, only every n-th frame.
        start_s: of videos, frames from this time on.
        end_s: of videos, frames before this time.
        progress: called after each input with the number done, the number in all, and the name.

    Returns:
        A table with `COLUMNS`, then `AU01_r`, `AU01_L_r`, `AU01_R_r`, ... in [0, 5] (5 x parameter, linear,
        uncalibrated); sides are the subject's. `face_id` counts from 0, the largest face, within a photo;
        in a video it numbers people in order of appearance, `frame` counts from 1 and `timestamp` is the
        presentation time in seconds.
        `confidence` is the smaller of the detector's and the method's. Box in pixels of the upright photo;
        pose in degrees: pitch + nose down, yaw + towards the subject's left, roll + clockwise in the image.
        A photo or frame without a face, or a file that cannot be read, is one row with `success` 0,
        `face_id` -1, a `reason`, and NaN elsewhere.

    Warns:
        UserWarning: a video that breaks off; its rows up to there are in the table.

    Raises:
        InputError: a path that does not exist, a folder without photos and videos, or an overlay folder
            that cannot be written to.
        ConfigError: an unknown method or recipe, settings out of range, or an overlay of a video.
        WeightsError: weights that are missing or damaged.
    """
    measure = measurer(method, recipe, engine=engine, evidence=overlay is not None)
    if batch < 1:
        raise ConfigError(f"expected a batch of at least 1; got {batch}")
    inputs = _inputs(source)
    if any(map(is_video, inputs)):
        if overlay is not None:
            raise ConfigError("expected photos with an overlay; got a video; leave the overlay out")
        from faceunits import streaming

        machine = streaming.prepare(method, recipe, device, detector)
        window = streaming.Window(every, start_s, end_s)
        return streaming.mixed(inputs, machine, window, batch=batch, progress=progress)
    names = _overlay_names(inputs, overlay)
    detector, networks = detector or _detector(), models(device)
    rows: list[dict[str, Any]] = []
    done = 0
    for group in _groups(
        (_prepare(name, item, detector, networks.crop_size) for name, item in inputs), batch
    ):
        results = _measure(group, networks, measure, batch)
        for photo, found in zip(group, results, strict=True):
            rows += _rows(photo, found)
            if names and any(found):
                _write_overlay(names[done], photo, found)
            done += 1
            if progress:
                progress(done, len(inputs), photo.name)
    return pd.DataFrame(rows, columns=all_columns(networks.names))


def is_video(item: tuple[str, Path | U8]) -> bool:
    """Whether a named input is a video."""
    return isinstance(item[1], Path) and video_io.is_video(item[1])


def unreadable(name: str, error: Exception, names: tuple[str, ...]) -> pd.DataFrame:
    """The one row of a file that cannot be read."""
    row = {"input": name, "frame": 0, "timestamp": 0.0, "face_id": -1, "success": 0}
    return pd.DataFrame([row | {"reason": f"{UNREADABLE}{error}"}], columns=all_columns(names))


def all_columns(names: tuple[str, ...]) -> list[str]:
    """Columns of a table whose models have these parameters."""
    empty = aus.columns(names, np.zeros((1, len(names)), np.float32), np.zeros(1, np.float32))
    return [*COLUMNS, *empty]


def fit(
    source: Picture,
    *,
    recipe: str = "default",
    device: str = "auto",
    detector: FaceSource | None = None,
    batch: int = 8,
) -> FitResult:
    """Fitted parameters and pictures of every face in one photo, the largest face first.

    Args:
        source: a photo, or a picture `(H, W, 3)` uint8 RGB.
        recipe: `default`, or `paper` for GE-Net's own setting.
        device: `auto`, `cpu`, `cuda`, ...
        detector: as for `estimate`.
        batch: faces fitted at a time.

    Raises:
        InputError: the photo cannot be read or shows no face.
    """
    detector, networks = detector or _detector(), models(device)
    inputs = _inputs(source)
    if len(inputs) != 1:
        raise InputError(f"expected one photo; got {len(inputs)}; use estimate for several")
    photo = _prepare(*inputs[0], detector, networks.crop_size)
    found = [f for f in _measure([photo], networks, measurer("fit", recipe), batch)[0] if f]
    if not found:
        reason = (photo.reason or photo.reasons[0]).removeprefix(UNREADABLE)
        raise InputError(f"expected a face in {photo.name}; {reason}; use another photo")
    return _join([select(fitted(result), index) for result, index in found])


def fitted(result: Reading) -> FitResult:
    """The same, known to carry its evidence."""
    assert isinstance(result, FitResult)  # `measurer` was asked for it
    return result


Measure = Callable[[F32, "Models"], Reading]


def measurer(
    method: str, recipe: str = "default", *, engine: str = "auto", evidence: bool = False
) -> Measure:
    """The function from crops to readings of a method; with `evidence` its results are `FitResult`.

    Raises:
        ConfigError: an unknown method, recipe or engine, or a recipe or engine for a method that has none.
    """
    from faceunits import fitting

    if method not in METHODS:
        raise ConfigError(f"expected the method {', '.join(METHODS)}; got {method!r}")
    if engine != "auto" and (method != "fast" or evidence):
        raise ConfigError(f"only the method fast, without overlay, has engines; got {engine!r}; leave it out")
    if method == "fit":
        fitting.recipe(recipe)  # refused now rather than after the first photo
        return lambda crops, networks: fitting.fit(crops, networks, recipe=recipe)
    if recipe != "default":
        raise ConfigError(f"the method {method} has no recipe; got {recipe!r}; use --method fit")
    if method == "fast":
        return _with_evidence if evidence else _reader(engine)
    return lambda crops, networks: fitting.fit(crops, networks, recipe=method)


def _with_evidence(crops: F32, networks: Models) -> FitResult:
    """The fast reading, its very numbers, and the face that M draws for it."""
    from faceunits import fitting

    reading = fitting.read(crops, networks)
    drawn = fitting.fit(crops, networks, recipe="fast")
    return replace(drawn, **{f.name: getattr(reading, f.name) for f in fields(Reading)})


def _reader(engine: str) -> Measure:
    """The fast reading by an engine, which is chosen when the networks are known."""
    from faceunits import engine as engines

    if engine not in engines.ENGINES:
        raise ConfigError(f"expected the engine {', '.join(engines.ENGINES)}; got {engine!r}")
    chosen: dict[int, engines.Read] = {}

    def read(crops: F32, networks: Models) -> Reading:
        if id(networks) not in chosen:
            chosen[id(networks)] = engines.choose(networks, engine)
        return chosen[id(networks)](crops)

    return read


def select(result: FitResult, index: int) -> FitResult:
    """The fit of one face as a batch of one."""
    return _over_faces([result], lambda parts, axis: np.take(parts[0], [index], axis=axis))


def _join(results: Sequence[FitResult]) -> FitResult:
    return _over_faces(results, lambda parts, axis: np.concatenate(parts, axis=axis))


def _over_faces(
    results: Sequence[FitResult], change: Callable[[list[NDArray[Any]], int], NDArray[Any]]
) -> FitResult:
    """Apply `change` to every array of the results along the axis of the faces: the last of `trace`."""
    arrays = [f.name for f in fields(FitResult) if f.name != "names"]
    changed = {n: change([getattr(r, n) for r in results], 1 if n == "trace" else 0) for n in arrays}
    return FitResult(names=results[0].names, **changed)


@cache
def _detector() -> FaceSource:
    """Stays loaded between calls, as do the models: reading them takes longer than fitting a face."""
    from faceunits.alignment.detect import Detector

    return Detector()


@cache
def models(device: str = "auto") -> Models:
    """The generator and the parser that come with the package, loaded once per device.

    Raises:
        ConfigError: a device that this machine does not have.
        WeightsError: weights that are missing or damaged.
    """
    import torch

    from faceunits import fitting

    try:
        torch.empty(0, device=None if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise ConfigError(
            f"expected the device auto, cpu or one this machine has; got {device!r}; "
            f"CUDA is {'available' if torch.cuda.is_available() else 'not available'}"
        ) from error
    return fitting.load(device=device)


def _inputs(source: Source) -> list[tuple[str, Path | U8]]:
    """Printable name and file or picture of each input."""
    items = [source] if isinstance(source, str | os.PathLike | np.ndarray) else list(source)
    out: list[tuple[str, Path | U8]] = []
    for i, item in enumerate(items):
        if isinstance(item, np.ndarray):
            if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or 0 in item.shape:
                raise InputError(
                    f"expected a picture (H, W, 3) of uint8; got {item.shape} {item.dtype}; convert it first"
                )
            out.append((f"array[{i}]", item))
        elif isinstance(item, str | os.PathLike):
            out += [(printable(path), path) for path in video_io.find([item])]
        else:
            raise InputError(f"expected a path or an array; got {type(item).__name__}; read the photo first")
    if not out:
        raise InputError("expected at least one photo or video; got none; name some or a folder")
    return out


def _prepare(name: str, item: Path | U8, detector: FaceSource, size: int) -> _Photo:
    """Read one input, find its faces and cut them out."""
    from faceunits.alignment import warp

    try:
        picture = item if isinstance(item, np.ndarray) else image_io.read(item)
    except InputError as error:
        return _Photo(name, reason=f"{UNREADABLE}{error}")
    photo = _Photo(name, picture)
    photo.faces = sorted(detector(picture), key=lambda f: -float(f.box[2] * f.box[3]))
    if not photo.faces:
        photo.reason = f"no face found in {picture.shape[1]} x {picture.shape[0]} pixels"
    for face in photo.faces:
        try:
            matrix = np.asarray(warp.similarity(face.points[None], size))[0]
            crop, roll, reason = warp.crop(picture, matrix, size), float(warp.roll_deg(matrix)), ""
        except AlignmentError as error:
            crop, roll, reason = None, float("nan"), f"not aligned: {error}"
        photo.crops.append(crop)
        photo.rolls_deg.append(roll)
        photo.reasons.append(reason)
    return photo


def _groups(photos: Iterable[_Photo], batch: int) -> Iterator[list[_Photo]]:
    """Photos until their faces fill a batch: memory stays constant in the number of photos."""
    group: list[_Photo] = []
    faces = 0
    for photo in photos:
        group.append(photo)
        faces += len(photo.faces)
        if faces >= batch or len(group) >= batch:
            yield group
            group, faces = [], 0
    if group:
        yield group


Found = list[tuple[Reading, int] | None]


def _measure(group: Sequence[_Photo], networks: Models, measure: Measure, batch: int) -> list[Found]:
    """For each photo and face the result that holds it and its place there; None where there is no crop."""
    crops = [crop for photo in group for crop in photo.crops if crop is not None]
    places: list[tuple[Reading, int]] = []
    for start in range(0, len(crops), batch):
        part = np.stack(crops[start : start + batch])
        result = measure(part, networks)
        places += [(result, i) for i in range(len(part))]
    following = iter(places)
    return [[None if crop is None else next(following) for crop in photo.crops] for photo in group]


def _rows(photo: _Photo, found: Found) -> list[dict[str, Any]]:
    base: dict[str, Any] = {"input": photo.name, "frame": 0, "timestamp": 0.0}
    if not photo.faces:
        return [base | {"face_id": -1, "success": 0, "reason": photo.reason}]
    out = []
    for i, (face, place) in enumerate(zip(photo.faces, found, strict=True)):
        row = base | {"face_id": i, "success": 0, "reason": photo.reasons[i]}
        row |= dict(zip(("face_x", "face_y", "face_w", "face_h"), map(float, face.box), strict=True))
        if place:
            row |= measured(face, *place) | {"pose_roll_deg": photo.rolls_deg[i]}
        out.append(row)
    return out


def measured(
    face: Face, result: Reading, index: int, units: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """What a row says of a measured face; `units` are its columns of action units, if they are known."""
    if units is None:
        part = slice(index, index + 1)
        columns = aus.columns(result.names, result.au[part], result.lip_gap[part])
        units = {name: float(column[0]) for name, column in columns.items()}
    values: dict[str, Any] = dict(units)
    if not np.all(np.isfinite(list(values.values()))):
        return {"reason": "the measurement is not a number"}
    return values | {
        "success": 1,
        "reason": "",
        "confidence": min(float(face.score), float(result.confidence[index])),
        "pose_pitch_deg": float(result.pose_deg[index, 0]),
        "pose_yaw_deg": float(result.pose_deg[index, 1]),
    }


def _overlay_names(
    inputs: Sequence[tuple[str, Path | U8]], folder: str | os.PathLike[str] | None
) -> list[Path]:
    """A file per input in the overlay folder; equal names are told apart by a number."""
    if folder is None:
        return []
    make_folder(folder, "choose another with --overlay")
    if not os.access(folder, os.W_OK):
        raise InputError(f"no permission to write to {printable(folder)}; choose another with --overlay")
    taken: set[str] = set()
    out = []
    for name, item in inputs:
        stem = printable(item.stem) if isinstance(item, Path) else name
        unique, number = stem, 2
        while unique in taken:
            unique, number = f"{stem}-{number}", number + 1
        taken.add(unique)
        out.append(Path(folder, f"{unique}_overlay.png"))
    return out


def _write_overlay(path: Path, photo: _Photo, found: Found) -> None:
    from faceunits.viz import overlay

    assert photo.picture is not None  # there are faces, so it was read
    small, factor = image_io.shrink(photo.picture, _OVERLAY_SIDE)
    sheets = []
    for i, (face, crop, place) in enumerate(zip(photo.faces, photo.crops, found, strict=True)):
        if place and crop is not None:
            scaled = Face(face.box * np.float32(factor), face.points * np.float32(factor), face.score)
            title = f"{Path(photo.name).name}, face {i}"
            sheets.append(
                overlay.sheet(
                    small, scaled, crop, fitted(place[0]), place[1], roll_deg=photo.rolls_deg[i], title=title
                )
            )
    image_io.write(path, overlay.stack(sheets))
