"""Photos and videos to rows: read, find the faces, align, measure, and put the answers in a plain table.

    file ─ io ─► photo ─ detect ─► faces ─ warp ─► crops ─ read or fit ─► Reading ─► rows, overlay

A photo that cannot be read, or shows no face, is a row that says so; the rest of a run goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faceunits import aus, photos, resting
from faceunits.errors import ConfigError, InputError
from faceunits.io import video as video_io
from faceunits.io.files import printable
from faceunits.photos import UNREADABLE as UNREADABLE
from faceunits.photos import Input, Photo, R
from faceunits.types import Face, FitResult, Reading

if TYPE_CHECKING:
    import pandas as pd

    from faceunits.alignment.detect import FaceSource
    from faceunits.fitting import Models
    from faceunits.fitting.beside import Neutral

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

METHODS = ("fast", "refine", "fit")
"""One pass of R; that and a few steps of the fit; the whole fit. More time, more evidence."""


def estimate(
    source: Source,
    *,
    method: str = "fast",
    recipe: str = "default",
    engine: str = "auto",
    device: str = "auto",
    detector: FaceSource | None = None,
    overlay: str | os.PathLike[str] | None = None,
    neutral: Source | Neutral | None = None,
    views: int | None = None,
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
        neutral: photos of the person at rest, when all faces are of one person: action units are judged by
            how the largest face of each looks, so that a heavy brow is no frown. `auto`: each video by the
            quietest tenth of its own frames; photos beside it, and videos in which fewer than five frames
            show a face, are read alone. With the method `fast` and torch.
        views: of `fast`: 4 reads each face four times, shifted by up to 1.5 of 192 pixels, and takes the
            mean, which is steadier (`fitting.steady`); 1 reads it once. By default photos are read in 4
            and videos in 1, for the time that it takes.
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
        InputError: a path that does not exist, a folder without photos and videos, an overlay folder
            that cannot be written to, or a neutral photo without a face.
        ConfigError: an unknown method or recipe, settings out of range, or an overlay of a video.
        WeightsError: weights that are missing or damaged.
    """
    import pandas as pd  # here: an edit makes no table, and pandas takes a third of a second

    how: Any = {"engine": engine, "evidence": overlay is not None, "views": views}
    measure = measurer(method, recipe, **how)
    if neutral is not None:
        resting.check(method, engine)
    if batch < 1:
        raise ConfigError(f"expected a batch of at least 1; got {batch}")
    inputs = _inputs(source)
    if resting.is_auto(neutral) and not any(map(is_video, inputs)):
        raise InputError("expected a video with neutral auto; got photos; name a photo of the person at rest")
    if any(map(is_video, inputs)):
        if overlay is not None:
            raise ConfigError("expected photos with an overlay; got a video; leave the overlay out")
        from faceunits import streaming

        machine = streaming.prepare(
            method, recipe, device, detector, engine=engine, neutral=neutral, views=views
        )
        window = streaming.Window(every, start_s, end_s)
        return streaming.mixed(inputs, machine, window, batch=batch, progress=progress)
    pictures = [] if overlay is None else photos.overlay_names(inputs, overlay)
    finder, networks = _finder(detector), models(device)
    if neutral is not None:
        calm = at_rest(neutral, finder, networks)
        measure = measurer(method, recipe, **how, calm=calm)
    rows: list[dict[str, Any]] = []
    done = 0
    prepared = (photos.prepare(name, item, finder, networks.crop_size) for name, item in inputs)
    for group in photos.groups(prepared, batch):
        results = photos.measure(group, lambda crops: measure(crops, networks), batch)
        for photo, found in zip(group, results, strict=True):
            rows += _rows(photo, found)
            if pictures and any(found):
                photos.write_overlay(pictures[done], photo, found)
            done += 1
            if progress:
                progress(done, len(inputs), photo.name)
    return pd.DataFrame(rows, columns=all_columns(networks.names))


def is_video(item: Input) -> bool:
    """Whether a named input is a video."""
    return isinstance(item[1], Path) and video_io.is_video(item[1])


def unreadable(name: str, error: Exception, names: tuple[str, ...]) -> pd.DataFrame:
    """The one row of a file that cannot be read."""
    import pandas as pd

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
    from faceunits import fitting

    finder, networks = _finder(detector), models(device)
    inputs = _inputs(source)
    if len(inputs) != 1:
        raise InputError(f"expected one photo; got {len(inputs)}; use estimate for several")
    photo = photos.prepare(*inputs[0], finder, networks.crop_size)
    results = photos.measure([photo], lambda crops: fitting.fit(crops, networks, recipe=recipe), batch)
    found = [place for place in results[0] if place]
    if not found:
        reason = (photo.reason or photo.reasons[0]).removeprefix(UNREADABLE)
        raise InputError(f"expected a face in {photo.name}; {reason}; use another photo")
    return join([select(result, index) for result, index in found])


Measure = Callable[[F32, "Models"], Reading]


def at_rest(neutral: Source | Neutral, finder: FaceSource, networks: Models) -> Neutral:
    """What is known of a person at rest, from photos unless it is known already.

    Raises:
        InputError: a video, or a photo without a face.
    """
    from faceunits.fitting.beside import Neutral

    if isinstance(neutral, Neutral):
        return neutral
    inputs = _inputs(neutral)
    for name, _ in filter(is_video, inputs):
        raise InputError(f"expected photos of the person at rest; {name} is a video; save a frame of it")
    return resting.look(inputs, finder, networks)


def measurer(
    method: str,
    recipe: str = "default",
    *,
    engine: str = "auto",
    evidence: bool = False,
    calm: Neutral | None = None,
    views: int | None = None,
) -> Measure:
    """The function from crops to readings of a method; with `evidence` its results are `FitResult`, with
    `calm` faces are judged by it; `views` as for photos in `estimate`.

    Raises:
        ConfigError: an unknown method, recipe or engine, another number of views than 1 and 4, or one of
            these for a method that has none.
    """
    from faceunits import fitting
    from faceunits.fitting import steady

    if method not in METHODS:
        raise ConfigError(f"expected the method {', '.join(METHODS)}; got {method!r}")
    if engine != "auto" and method != "fast":
        raise ConfigError(f"only the method fast has engines; got {engine!r}; leave it out")
    if views is not None:
        steady.check(views)
        if method != "fast":
            raise ConfigError(f"only the method fast has views; got {views}; leave it out")
    if method == "fit":
        fitting.recipe(recipe)  # refused now rather than after the first photo
        return lambda crops, networks: fitting.fit(crops, networks, recipe=recipe)
    if recipe != "default":
        raise ConfigError(f"the method {method} has no recipe; got {recipe!r}; use --method fit")
    if method == "refine":
        return lambda crops, networks: fitting.fit(crops, networks, recipe="refine")
    read = _reader(engine) if calm is None else _beside(calm)
    read = read if views == 1 else _steady(read)
    if not evidence:
        return read
    return lambda crops, networks: fitting.illustrate(read(crops, networks), crops, networks)


def _reader(engine: str) -> Measure:
    """The fast reading by an engine, which is chosen when the networks are known."""
    from faceunits import engine as engines

    if engine not in engines.ENGINES:
        raise ConfigError(f"expected the engine {', '.join(engines.ENGINES)}; got {engine!r}")
    chosen: tuple[Models, engines.Read] | None = None

    def read(crops: F32, networks: Models) -> Reading:
        nonlocal chosen
        if chosen is None or chosen[0] is not networks:
            chosen = networks, engines.choose(networks, engine)
        return chosen[1](crops)

    return read


def _steady(read: Measure) -> Measure:
    """R's reading of several views; an E that reads in R's place looks once, as in a fit."""
    from faceunits.fitting import steady

    def of_views(crops: F32, networks: Models) -> Reading:
        if not networks.steady:
            return read(crops, networks)
        return steady.steadily(lambda some: read(some, networks))(crops)

    return of_views


def _beside(calm: Neutral) -> Measure:
    from faceunits.fitting import beside

    return lambda crops, networks: beside.read(crops, networks, calm)


def select(result: R, index: int) -> R:
    """The measurement of one face as a batch of one."""
    return _over_faces([result], lambda parts, axis: np.take(parts[0], [index], axis=axis))


def join(results: Sequence[R]) -> R:
    """Measurements of some faces each, at least one, as one of them all."""
    return _over_faces(results, lambda parts, axis: np.concatenate(parts, axis=axis))


def _over_faces(results: Sequence[R], change: Callable[[list[NDArray[Any]], int], NDArray[Any]]) -> R:
    """Apply `change` to every array of the results along the axis of the faces: the last of `trace`."""
    arrays = [f.name for f in fields(results[0]) if f.name != "names"]
    changed: dict[str, Any] = {
        n: change([getattr(r, n) for r in results], 1 if n == "trace" else 0) for n in arrays
    }
    return replace(results[0], **changed)


@cache
def detector() -> FaceSource:
    """The built-in one. Stays loaded between calls, as do the models: reading them takes longer than fitting
    a face."""
    from faceunits.alignment.detect import Detector

    return Detector()


def _finder(given: FaceSource | None) -> FaceSource:
    """For functions with an argument that hides the name `detector`."""
    return given or detector()


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


def _inputs(source: Source) -> list[Input]:
    """Printable name and file or picture of each input."""
    items = [source] if isinstance(source, str | os.PathLike | np.ndarray) else list(source)
    out: list[Input] = []
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


def _rows(photo: Photo, found: Sequence[tuple[Reading, int] | None]) -> list[dict[str, Any]]:
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
