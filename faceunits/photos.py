"""Photos on their way to rows: read, faces found and cut out, measured in batches, drawn in the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from faceunits.errors import AlignmentError, InputError
from faceunits.io import image as image_io
from faceunits.io.files import make_folder, printable
from faceunits.types import Face, FitResult, Reading

if TYPE_CHECKING:
    from faceunits.alignment.detect import FaceSource

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
R = TypeVar("R", bound=Reading)
Input = tuple[str, Path | U8]
"""Printable name, and file or picture."""

UNREADABLE = "unreadable: "
"""Beginning of `reason` in the row of a file that could not be read."""

_OVERLAY_SIDE = 1280


@dataclass
class Photo:
    """One input: `picture` `(H, W, 3)` if it could be read, else a `reason`; for each face, the largest
    first, its crop or None, the roll in degrees that the crop took out, and the reason for no crop."""

    name: str
    picture: U8 | None = None
    reason: str = ""
    faces: list[Face] = field(default_factory=list)
    crops: list[F32 | None] = field(default_factory=list)
    rolls_deg: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def prepare(name: str, item: Path | U8, detector: FaceSource, size: int) -> Photo:
    """Read one input, find its faces and cut them out, `size` pixels wide."""
    from faceunits.alignment import warp

    try:
        picture = item if isinstance(item, np.ndarray) else image_io.read(item)
    except InputError as error:
        return Photo(name, reason=f"{UNREADABLE}{error}")
    photo = Photo(name, picture)
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


def groups(photos: Iterable[Photo], batch: int) -> Iterator[list[Photo]]:
    """Photos until their faces fill a batch: memory stays constant in the number of photos."""
    group: list[Photo] = []
    faces = 0
    for photo in photos:
        group.append(photo)
        faces += len(photo.faces)
        if faces >= batch or len(group) >= batch:
            yield group
            group, faces = [], 0
    if group:
        yield group


def measure(group: Sequence[Photo], read: Callable[[F32], R], batch: int) -> list[list[tuple[R, int] | None]]:
    """For each photo and face the result that holds it and its place there; None where there is no crop.

    Args:
        group: photos whose faces are measured together.
        read: from crops `(B, 3, S, S)` to their measurement.
        batch: the largest B.
    """
    crops = [crop for photo in group for crop in photo.crops if crop is not None]
    places: list[tuple[R, int]] = []
    for start in range(0, len(crops), batch):
        part = np.stack(crops[start : start + batch])
        result = read(part)
        places += [(result, i) for i in range(len(part))]
    following = iter(places)
    return [[None if crop is None else next(following) for crop in photo.crops] for photo in group]


def overlay_names(inputs: Sequence[Input], folder: str | os.PathLike[str]) -> list[Path]:
    """A file per input in the overlay folder, which is made; equal names are told apart by a number.

    Raises:
        InputError: a folder that cannot be made or written to.
    """
    make_folder(folder, "choose another with --overlay")
    if not os.access(folder, os.W_OK):
        raise InputError(f"no permission to write to {printable(folder)}; choose another with --overlay")
    stems = [printable(item.stem) if isinstance(item, Path) else name for name, item in inputs]
    return [Path(folder, f"{name}_overlay.png") for name in told_apart(stems)]


def told_apart(names: Iterable[str]) -> list[str]:
    """The names in order, those that came before with a number behind."""
    taken: dict[str, None] = {}
    for name in names:
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}-{number}", number + 1
        taken[unique] = None
    return list(taken)


def write_overlay(path: Path, photo: Photo, found: Sequence[tuple[Reading, int] | None]) -> None:
    """The sheets of a photo's measured faces, at least one, as one picture.

    Args:
        path: to write.
        photo: that was read.
        found: of `measure`, with the evidence of a `FitResult`.
    """
    from faceunits.viz import overlay

    assert photo.picture is not None  # there are faces, so it was read
    small, factor = image_io.shrink(photo.picture, _OVERLAY_SIDE)
    sheets = []
    for i, (face, crop, place) in enumerate(zip(photo.faces, photo.crops, found, strict=True)):
        if place and crop is not None:
            result, index = place
            assert isinstance(result, FitResult)  # the method was asked for evidence
            scaled = Face(face.box * np.float32(factor), face.points * np.float32(factor), face.score)
            title = f"{Path(photo.name).name}, face {i}"
            sheets.append(
                overlay.sheet(small, scaled, crop, result, index, roll_deg=photo.rolls_deg[i], title=title)
            )
    image_io.write(path, overlay.stack(sheets))
