"""Portrait sets, their photos with five points, and face-free pictures, to train and to test on.

The people of `kept_out.toml` and the others never mix. Points are hand-placed where the set has them;
automatic ones are moved by the mean difference to the hand-placed ones, so that all mean the same spot.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceunits.types import FIVE_MIRROR

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


ALBUMS = ("london", "canada", "congress")
"""Portrait sets with landmarks, each in the folder of its name."""


@dataclass(frozen=True)
class Album:
    """A portrait set: for each row the person of `ids`, whether they are `kept_out`, and `marks`, arrays
    of landmarks by name."""

    folder: Path
    ids: tuple[str, ...]
    kept_out: NDArray[np.bool_]
    marks: Mapping[str, NDArray[np.floating]]

    @property
    def name(self) -> str:
        return self.folder.name

    def person(self, row: int) -> str:
        """`set/identifier`."""
        return f"{self.name}/{self.ids[row]}"

    def picture(self, kind: str, row: int) -> U8:
        """`(H, W, 3)` the photo of a person in the subfolder `kind`."""
        with Image.open(self.folder / kind / f"{self.ids[row]}.jpg") as picture:
            return np.asarray(picture.convert("RGB"))


@cache
def album(folder: Path) -> Album:
    """The portrait set of a folder that is named as one of `ALBUMS`."""
    with np.load(folder / ("landmarks_auto.npz" if folder.name == "congress" else "landmarks.npz")) as pack:
        marks = {name: pack[name] for name in pack.files if name != "ids"}
        ids = tuple(map(str, pack["ids"]))
    places = {name: place for place, name in enumerate(sorted(ids))}
    held = np.array([is_kept_out(folder.name, name, places[name]) for name in ids])
    return Album(folder, ids, held, marks)


@cache
def kept_out() -> dict[str, Any]:
    """The list of people whose pixels train nothing."""
    text = resources.files("faceunits.evaluation").joinpath("kept_out.toml").read_text("utf-8")
    return tomllib.loads(text)


def is_kept_out(source: str, name: str, position: int = 0) -> bool:
    """Whether a person is on the list; `position` is the place among the sorted names of the set."""
    rules = kept_out()
    if source == "congress":
        return position % int(rules["congress_every"]) == 0
    named = rules.get(source, "all")
    return named == "all" or name in list(named)


@dataclass(frozen=True)
class Photo:
    """`image` `(H, W, 3)` uint8, `points` `(5, 2)` pixels, and who it is (`set/identifier`).

    `hand_placed`: points by hand rather than automatic ones. `mesh` `(468, 2)`: MediaPipe's automatic
    landmarks, None where the set has none for this picture.
    """

    image: U8
    points: F64
    person: str
    hand_placed: bool
    mesh: F64 | None = None


def five_of_mesh(mesh: NDArray[np.floating], *, nose: int = 4) -> F64:
    """`(..., 5, 2)` points from MediaPipe's 478: middles of the eye corners, nose tip, mouth corners."""
    p = np.asarray(mesh, np.float64)[..., :2]
    eye_r = (p[..., 33, :] + p[..., 133, :]) / 2
    eye_l = (p[..., 362, :] + p[..., 263, :]) / 2
    return np.stack([eye_r, eye_l, p[..., nose, :], p[..., 61, :], p[..., 291, :]], -2)


def five_of_template(points: NDArray[np.floating]) -> F64:
    """`(..., 5, 2)` points from the 189 hand-placed ones of the London and Canada sets."""
    p = np.asarray(points, np.float64)
    eye_r = (p[..., 18, :] + p[..., 22, :]) / 2
    eye_l = (p[..., 23, :] + p[..., 27, :]) / 2
    nose = (p[..., 54, :] + p[..., 60, :]) / 2
    return np.stack([eye_r, eye_l, nose, p[..., 87, :], p[..., 93, :]], -2)


def to_face_frame(points: F64, reference: F64) -> F64:
    """`(B, 5, 2)` points about the reference's eye middle, along its eyes, in pupil distances."""
    origin = (reference[:, 0] + reference[:, 1]) / 2
    unit = reference[:, 1] - reference[:, 0]
    centred = points - origin[:, None]
    across = (centred * unit[:, None]).sum(-1)
    down = centred[..., 1] * unit[:, None, 0] - centred[..., 0] * unit[:, None, 1]
    framed: F64 = np.stack([across, down], -1) / (unit**2).sum(-1)[:, None, None]
    return framed


def shift_in_face_frame(points: F64, shift: F64) -> F64:
    """`(B, 5, 2)` points moved by `(5, 2)` pupil distances along and across their eyes' line."""
    unit = points[:, 1] - points[:, 0]
    along = unit[:, None]
    below = np.stack([-unit[:, 1], unit[:, 0]], -1)[:, None]
    return points + shift[None, :, :1] * along + shift[None, :, 1:] * below


def automatic_shift(data: Path) -> F64:
    """`(5, 2)` hand-placed minus automatic points in pupil distances, mean over the training people."""
    differences = []
    for name, hand, mesh in (
        ("london", "neutral_189", "neutral_mediapipe478"),
        ("canada", "face_189", "face_mediapipe478"),
    ):
        people = album(data / name)
        truth, guess = five_of_template(people.marks[hand]), five_of_mesh(people.marks[mesh])
        truth, guess = truth[~people.kept_out], guess[~people.kept_out]
        differences.append(to_face_frame(truth, guess) - to_face_frame(guess, guess))
    shift: F64 = np.concatenate(differences).mean(0)
    # People as a whole have no handedness: the shift is made mirror-symmetric.
    mirrored: F64 = shift[FIVE_MIRROR] * (-1, 1)
    return (shift + mirrored) / 2


def read_photos(data: Path, *, kept: bool = False) -> list[Photo]:
    """All photos of the people who may be trained on, or, if `kept`, of those kept out."""
    shift = automatic_shift(data)
    found: list[Photo] = []

    def add(people: Album, kind: str, points: F64, mesh: F64 | None, *, by_hand: bool) -> None:
        for row in np.flatnonzero(people.kept_out == kept).tolist():
            own = None if mesh is None else mesh[row, :468]
            picture = people.picture(kind, row)
            found.append(Photo(picture, points[row], people.person(row), by_hand, own))

    def mesh_of(people: Album, name: str) -> F64:
        return people.marks[name][..., :2].astype(np.float64)

    def in_crop(points: F64, box: NDArray[np.floating]) -> F64:
        box = box.astype(np.float64)
        return (points - box[:, None, :2] + 0.5) * (512 / box[:, 2, None, None]) - 0.5

    london, canada, congress = (album(data / name) for name in ALBUMS)
    mesh = mesh_of(london, "neutral_mediapipe478")
    add(london, "neutral", five_of_template(london.marks["neutral_189"]), mesh, by_hand=True)
    mesh = in_crop(mesh, london.marks["neutral_crop_box"])
    add(london, "neutral_face", five_of_template(london.marks["neutral_face_189"]), mesh, by_hand=True)
    mesh = mesh_of(london, "smiling_mediapipe478")
    smile, box = shift_in_face_frame(five_of_mesh(mesh), shift), london.marks["smiling_crop_box"]
    add(london, "smiling", smile, mesh, by_hand=False)
    add(london, "smiling_face", in_crop(smile, box), in_crop(mesh, box), by_hand=False)
    add(canada, "images", five_of_template(canada.marks["images_189"]), None, by_hand=True)
    mesh = mesh_of(canada, "face_mediapipe478")
    add(canada, "face", five_of_template(canada.marks["face_189"]), mesh, by_hand=True)
    mesh = mesh_of(congress, "mediapipe478")
    add(congress, "images", shift_in_face_frame(five_of_mesh(mesh), shift), mesh, by_hand=False)
    return found


TRAINING_PICTURES = (
    "coffee.png", "chelsea.png", "brick.png", "gravel.png", "moon.png", "hubble_deep_field.jpg",
    "retina.jpg", "ihc.png", "cell.png", "clock_motion.png", "color.png", "motorcycle_left.png",
    "text.png", "chessboard_RGB.png", "logo.png", "horse.png", "microaneurysms.png", "phantom.png",
)  # fmt: skip
"""Face-free pictures inside scikit-image that train; `HELD_OUT_PICTURES` only test."""

HELD_OUT_PICTURES = ("rocket.jpg", "coins.png", "grass.png", "page.png")


def library_pictures(names: tuple[str, ...]) -> list[U8]:
    """Face-free pictures that come inside scikit-image, those of `names` that are installed."""
    folder = Path(str(resources.files("skimage"))) / "data"
    found = []
    for name in names:
        if (folder / name).exists():
            with Image.open(folder / name) as picture:
                found.append(np.asarray(picture.convert("RGB")))
    return found
