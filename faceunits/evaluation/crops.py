"""Photos to crops to columns for the evaluations: what `estimation` does, with networks of choice.

`estimation` always measures with the networks of the package; an evaluation must also be able to judge
others, hence the explicit `Tool`. A photo without a face keeps its place as a row of NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus, estimation, fitting
from faceunits.alignment import warp
from faceunits.alignment.detect import Detector, FaceSource
from faceunits.errors import AlignmentError, InputError
from faceunits.fitting import beside
from faceunits.io import image as images
from faceunits.io.files import printable
from faceunits.types import Face, Reading

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Tool:
    """What measures: `models` of `fitting.load`, a `measure` of `estimation.measurer`, a `detector`."""

    models: fitting.Models
    measure: estimation.Measure
    detector: FaceSource


def tool(
    models: fitting.Models,
    method: str = "fast",
    recipe: str = "default",
    *,
    detector: FaceSource | None = None,
    views: int | None = None,
) -> Tool:
    """A tool from networks, a method of `estimation.METHODS`, a detector (the built-in one when None), and
    the number of views as for photos in `estimate`.

    Raises:
        ConfigError: an unknown method or recipe, or another number of views.
    """
    return Tool(models, estimation.measurer(method, recipe, views=views), detector or Detector())


def largest(faces: Sequence[Face]) -> Face | None:
    """The face with the largest box, which is face 0 of a table; None without any."""
    return max(faces, key=lambda f: float(f.box[2] * f.box[3]), default=None)


def crop(picture: U8, on: Tool) -> F32 | None:
    """The aligned crop `(3, S, S)` of the largest face; None without one."""
    face = largest(on.detector(picture))
    return None if face is None else crop_of(picture, face, on.models.crop_size)


def crop_of(picture: U8, face: Face, size: int) -> F32 | None:
    """The aligned crop `(3, S, S)` of a face; None where its points make no crop."""
    try:
        return warp.crop(picture, warp.similarity(face.points[None], size)[0], size)
    except AlignmentError:
        return None


def read_pairs(folder: Path, size: int, finder: FaceSource, most: int | None = None) -> tuple[F32, F32]:
    """Crops `(N, 3, S, S)` of people at rest and smiling: all, or `most` evenly spread over the folder's
    names.

    Raises:
        InputError: no person with a face in both photos.
    """
    found = {kind: {p.stem: p for p in images.find([folder / kind])} for kind in ("neutral", "smiling")}
    names = sorted(found["neutral"].keys() & found["smiling"].keys())
    pairs = []
    for i in np.unique(np.linspace(0, len(names) - 1, min(most or len(names), len(names))).astype(int)):
        both = []
        for kind in found:
            picture = images.read(found[kind][names[i]])
            face = largest(finder(picture))
            both.append(None if face is None else crop_of(picture, face, size))
        if both[0] is not None and both[1] is not None:
            pairs.append((both[0], both[1]))
    if not pairs:
        raise InputError(
            f"expected photos of the same names, with faces, in neutral and smiling of {printable(folder)}; "
            f"found {len(names)} common names and nobody with a face in both; name another folder"
        )
    return np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])


def read(crops: Sequence[F32] | F32, on: Tool, *, batch: int = 16) -> Reading:
    """The measurement of crops `(3, S, S)`, at least one, joined over batches."""
    parts = [on.measure(np.stack([*crops[i : i + batch]]), on.models) for i in range(0, len(crops), batch)]
    return estimation.join(parts)


def read_beside(crops: F32, rest: F32, on: fitting.Models, *, batch: int = 50) -> Reading:
    """The fast reading of crops `(n, 3, S, S)`, each beside the one of the same person at rest."""
    parts = []
    for i in range(0, len(crops), batch):
        measure = estimation.measurer("fast", calm=beside.neutral(rest[i : i + batch], on))
        parts.append(measure(crops[i : i + batch], on))
    return estimation.join(parts)


def columns(crops: Sequence[F32 | None], on: Tool, *, batch: int = 16) -> pd.DataFrame:
    """Table columns (0-5), one row per crop in order; NaN where there is none."""
    found = [i for i, c in enumerate(crops) if c is not None]
    if found:
        table = of_reading(read([c for c in crops if c is not None], on, batch=batch))
        return table.set_index(np.array(found)).reindex(range(len(crops)))
    names = on.models.names
    empty = aus.columns(names, np.zeros((0, len(names)), np.float32), np.zeros(0, np.float32))
    return pd.DataFrame(np.nan, index=range(len(crops)), columns=list(empty))


def of_reading(reading: Reading) -> pd.DataFrame:
    """Table columns (0-5) of a measurement."""
    return pd.DataFrame(aus.columns(reading.names, reading.au, reading.lip_gap))


def whole(names: Sequence[str] | pd.Index) -> list[str]:
    """Of column names those of whole action units, `AU12_r`: the sides would count twice."""
    return [n for n in map(str, names) if n.startswith("AU") and n.endswith("_r") and len(n) == len("AU12_r")]


def flipped(reading: Reading, profile: aus.Profile) -> Reading:
    """The measurement of mirror images as one of the photos: sides swapped back, yaw turned."""
    pose = reading.pose_deg * np.array([1, -1], np.float32)
    return replace(reading, au=reading.au[:, profile.mirror()], pose_deg=pose)
