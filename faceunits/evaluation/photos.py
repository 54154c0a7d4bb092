"""Portraits with five points, and face-free pictures, for training and testing the detector.

The people of `kept_out.toml` and the others never mix. Points are hand-placed where the set has them;
automatic ones are moved by the mean difference to the hand-placed ones, so that all mean the same spot.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


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


def five_of_mesh(mesh: NDArray[np.floating]) -> F64:
    """`(..., 5, 2)` points from MediaPipe's 478: middles of the eye corners, nose tip, mouth corners."""
    p = np.asarray(mesh, np.float64)[..., :2]
    eye_r = (p[..., 33, :] + p[..., 133, :]) / 2
    eye_l = (p[..., 362, :] + p[..., 263, :]) / 2
    return np.stack([eye_r, eye_l, p[..., 4, :], p[..., 61, :], p[..., 291, :]], -2)


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


def kept_out(data: Path) -> set[str]:
    """`set/identifier` of everyone whose pixels train nothing."""
    text = resources.files("faceunits.evaluation").joinpath("kept_out.toml").read_text("utf-8")
    table = tomllib.loads(text)
    out = {f"{name}/{i}" for name in ("london", "canada") for i in table[name]}
    congress = sorted(p.stem for p in (data / "congress" / "images").glob("*.jpg"))
    return out | {f"congress/{i}" for i in congress[:: table["congress_every"]]}


def automatic_shift(data: Path) -> F64:
    """`(5, 2)` hand-placed minus automatic points in pupil distances, mean over the training people."""
    out = kept_out(data)
    differences = []
    for name, hand, mesh in (
        ("london", "neutral_189", "neutral_mediapipe478"),
        ("canada", "face_189", "face_mediapipe478"),
    ):
        with np.load(data / name / "landmarks.npz") as z:
            keep = np.array([f"{name}/{i}" not in out for i in z["ids"]])
            truth, guess = five_of_template(z[hand])[keep], five_of_mesh(z[mesh])[keep]
        differences.append(to_face_frame(truth, guess) - to_face_frame(guess, guess))
    shift: F64 = np.concatenate(differences).mean(0)
    # People as a whole have no handedness: the shift is made mirror-symmetric.
    mirrored: F64 = shift[[1, 0, 2, 4, 3]] * (-1, 1)
    return (shift + mirrored) / 2


def read_photos(data: Path, *, kept: bool = False) -> list[Photo]:
    """All photos of the people who may be trained on, or, if `kept`, of those kept out."""
    out, shift = kept_out(data), automatic_shift(data)
    found: list[Photo] = []

    def add(folder: Path, name: str, ids: list[str], points: F64, mesh: F64 | None, by_hand: bool) -> None:
        for n, i in enumerate(ids):
            person = f"{name}/{i}"
            if (person in out) == kept:
                own = None if mesh is None else mesh[n, :468]
                with Image.open(folder / f"{i}.jpg") as picture:
                    found.append(Photo(np.asarray(picture.convert("RGB")), points[n], person, by_hand, own))

    def in_crop(points: F64, box: F64) -> F64:
        return (points - box[:, None, :2] + 0.5) * (512 / box[:, 2, None, None]) - 0.5

    with np.load(data / "london" / "landmarks.npz") as z:
        ids, folder = [str(i) for i in z["ids"]], data / "london"
        mesh = z["neutral_mediapipe478"][..., :2].astype(np.float64)
        add(folder / "neutral", "london", ids, five_of_template(z["neutral_189"]), mesh, True)
        mesh = in_crop(mesh, z["neutral_crop_box"].astype(np.float64))
        add(folder / "neutral_face", "london", ids, five_of_template(z["neutral_face_189"]), mesh, True)
        mesh = z["smiling_mediapipe478"][..., :2].astype(np.float64)
        smile = shift_in_face_frame(five_of_mesh(mesh), shift)
        box = z["smiling_crop_box"].astype(np.float64)
        add(folder / "smiling", "london", ids, smile, mesh, False)
        add(folder / "smiling_face", "london", ids, in_crop(smile, box), in_crop(mesh, box), False)
    with np.load(data / "canada" / "landmarks.npz") as z:
        ids, folder = [str(i) for i in z["ids"]], data / "canada"
        mesh = z["face_mediapipe478"].astype(np.float64)
        add(folder / "images", "canada", ids, five_of_template(z["images_189"]), None, True)
        add(folder / "face", "canada", ids, five_of_template(z["face_189"]), mesh, True)
    with np.load(data / "congress" / "landmarks_auto.npz") as z:
        ids = [str(i) for i in z["ids"]]
        mesh = z["mediapipe478"].astype(np.float64)
        points = shift_in_face_frame(five_of_mesh(mesh), shift)
        add(data / "congress" / "images", "congress", ids, points, mesh, False)
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
