"""Real portraits as training crops for E: label maps from drawn regions or automatic points.

Only people who may be trained on are read (`evaluation/kept_out.toml`). Where a source says less
than Helen's classes do, the label is a set of classes, and E need only put its belief into the set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from faceunits.alignment import warp
from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import photos
from faceunits.evaluation.photos import ALBUMS, Album
from faceunits.io.files import printable

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

IGNORE = 255
SETS: dict[int, tuple[int, ...]] = {
    11: (0, 10),  # drawn maps leave hair out: background or hair
    12: (1, 6, 10),  # inside the automatic face outline: skin, nose, or a fringe
    13: (0, 1, 10),  # outside it: anything but a feature
}
"""Label codes above Helen's ten, and the classes each of them allows."""

_SWAP_SIDES = np.array([11, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10], np.uint8)
"""Drawn maps number the brows and eyes by image side; ours by the subject's."""

# Point numbers of the 478-point face mesh.
_NOSE_TIP = 1  # of E's training crops; the detector's points have number 4
_OUTLINE = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
            148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]  # fmt: skip
_REGIONS: tuple[tuple[int, list[int]], ...] = (
    (3, [46, 53, 52, 65, 55, 107, 66, 105, 63, 70]),
    (2, [276, 283, 282, 295, 285, 336, 296, 334, 293, 300]),
    (5, [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246]),
    (4, [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466]),
    (7, [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78]),
    (
        9,
        [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 78],
    ),
    (8, [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191]),
)


@dataclass(frozen=True)
class Person:
    """`name`, `image` `(H, W, 3)` uint8, `label` `(H, W)` codes, `points` `(5, 2)`; `neutral` when
    the person was asked to show no expression."""

    name: str
    image: U8
    label: U8
    points: F32
    neutral: bool


def label_from_mesh(points: F32, size: tuple[int, int]) -> U8:
    """`(H, W)` codes drawn from the 478-point mesh; `size` is width, height."""
    canvas = Image.new("L", size, 13)
    pen = ImageDraw.Draw(canvas)
    for code, indices in ((12, _OUTLINE), *_REGIONS):
        pen.polygon([(float(points[i, 0]), float(points[i, 1])) for i in indices], fill=code)
    return np.asarray(canvas)


PARTS = ("all", "teach", "choose", "test")
"""Of the portraits: all that may train, those by which trainings are not chosen, those by which they are, and
those of people kept out."""


def people(faces: str | Path, part: str = "all") -> Iterator[Person]:
    """Portraits of a folder with the London, Canada and Congress sets side by side.

    Args:
        faces: folder with `london`, `canada`, `congress`.
        part: one of `PARTS`; `test` is for evaluation only.

    Raises:
        ConfigError: another part.
        InputError: the folder holds none of the sets.
    """
    if part not in PARTS:
        raise ConfigError(f"expected a part of the people, {', '.join(PARTS)}; got {part!r}")
    folders = [Path(faces) / name for name in ALBUMS if (Path(faces) / name).is_dir()]
    if not folders:
        raise InputError(f"expected the folders {', '.join(ALBUMS)} in {printable(faces)}; found none")
    for album in map(photos.album, folders):
        for row in _rows(album, part):
            yield from _read(album, row)


def _rows(album: Album, part: str) -> list[int]:
    rows = sorted(np.flatnonzero(album.kept_out == (part == "test")).tolist(), key=album.ids.__getitem__)
    if part in ("all", "test"):
        return rows
    every = int(photos.kept_out()["congress_choosing"])
    choosing = rows[every // 2 :: every] if album.name == "congress" else []
    return choosing if part == "choose" else [r for r in rows if r not in choosing]


def _read(album: Album, row: int) -> Iterator[Person]:
    name = album.person(row)
    if album.name == "congress":
        yield _from_mesh(name, album.picture("images", row), album.marks["mediapipe478"][row])
        return
    kind = "neutral_face" if album.name == "london" else "face"
    with Image.open(album.folder / "parsing_face" / f"{album.ids[row]}.png") as picture:
        drawn = np.asarray(picture)
    points = photos.five_of_template(album.marks[f"{kind}_189"][row]).astype(np.float32)
    yield Person(name, album.picture(kind, row), _SWAP_SIDES[drawn], points, True)
    if album.name == "london":
        mesh = album.marks["smiling_mediapipe478"][row]
        yield _from_mesh(f"{name}/smile", album.picture("smiling", row), mesh)


def _from_mesh(name: str, image: U8, mesh: NDArray[np.floating]) -> Person:
    points = mesh.astype(np.float32)
    label = label_from_mesh(points, (image.shape[1], image.shape[0]))
    five = photos.five_of_mesh(points, nose=_NOSE_TIP).astype(np.float32)
    return Person(name, image, label, five, False)


def crop_label(label: U8, matrix: F32, size: int) -> U8:
    """`(S, S)` codes of a crop, by the nearest pixel."""
    y, x = np.mgrid[:size, :size].astype(np.float64)
    inverse = np.linalg.inv(matrix[:, :2].astype(np.float64))
    source = np.stack([x - matrix[0, 2], y - matrix[1, 2]], -1) @ inverse.T
    i, j = np.rint(source[..., 1]).astype(int), np.rint(source[..., 0]).astype(int)
    inside = (i >= 0) & (i < label.shape[0]) & (j >= 0) & (j < label.shape[1])
    out = label[np.clip(i, 0, label.shape[0] - 1), np.clip(j, 0, label.shape[1] - 1)]
    return np.where(inside, out, IGNORE).astype(np.uint8)


def write(
    faces: str | Path,
    path: str | Path,
    *,
    size: int = 128,
    variants: int = 6,
    seed: int = 0,
    part: str = "all",
) -> int:
    """Writes jittered crops of the portraits of a part (see `PARTS`) to one file; returns how many."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[U8, U8, bool, str]] = []
    for person in people(faces, part):
        span = float(np.linalg.norm(person.points[1] - person.points[0]))
        for _ in range(variants):
            noise = rng.normal(0, 0.02, (5, 2)) + rng.normal(0, 0.025, (1, 2))
            points = (person.points + noise * span).astype(np.float32)
            matrix = warp.similarity(points[None], size)[0].astype(np.float32)
            image = warp.picture(warp.crop(person.image, matrix, size))
            rows.append((image, crop_label(person.label, matrix, size), person.neutral, person.name))
    np.savez(
        path, image=np.stack([r[0] for r in rows]), label=np.stack([r[1] for r in rows]),
        neutral=np.array([r[2] for r in rows]), name=np.array(json.dumps([r[3] for r in rows])),
    )  # fmt: skip
    return len(rows)
