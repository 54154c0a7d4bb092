"""How well the detector does on people it never saw: recall, false alarms, exactness, time.

Only people of `kept_out.toml` are shown to it. Each is pasted into a 640 x 480 picture at a known width
and tilt and then degraded, so that every figure says what it depends on.

    faceunits evaluate detector faces
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from faceunits.alignment.detect import Detector, FaceSource
from faceunits.alignment.warp import apply, face_box, face_size
from faceunits.evaluation.photos import (
    HELD_OUT_PICTURES,
    Photo,
    five_of_mesh,
    library_pictures,
    read_photos,
    to_face_frame,
)

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

WIDTHS_PX = (45, 64, 100, 200, 400)
"""Face widths, cheek to cheek, in a picture of 640 x 480."""

FOUND_WITHIN = 0.25
"""A face counts as found when its points are off by less than this many pupil distances on average."""


def dark(image: U8, rng: np.random.Generator, width: int) -> U8:
    """An eighth of the light, in steps of 8 bit, with a dark camera's noise."""
    noisy = image.astype(np.float32) / 8 + rng.normal(0, 1.5, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def blurred(image: U8, rng: np.random.Generator, width: int) -> U8:
    """Gaussian blur of 3 % of the face's width: lids and lips run together."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.03 * width)))


def noisy(image: U8, rng: np.random.Generator, width: int) -> U8:
    """Gaussian noise of 25 grey levels."""
    return np.clip(image + rng.normal(0, 25, image.shape), 0, 255).astype(np.uint8)


def plain(image: U8, rng: np.random.Generator, width: int) -> U8:
    """As it is."""
    return image


CONDITIONS: dict[str, tuple[float, Callable[[U8, np.random.Generator, int], U8]]] = {
    "upright": (0.0, plain),
    "tilt -30": (-30.0, plain),
    "tilt +30": (30.0, plain),
    "dark": (0.0, dark),
    "blurred": (0.0, blurred),
    "noisy": (0.0, noisy),
}
"""Tilt in degrees (+ clockwise) and what the camera does."""


@dataclass(frozen=True)
class Scene:
    """A 640 x 480 picture with one face and its points `(5, 2)`."""

    image: U8
    points: F64


def place(photo: Photo, background: U8, width_px: float, tilt_deg: float, rng: np.random.Generator) -> Scene:
    """The portrait at a width and tilt somewhere in a picture, its border faded."""
    size = (640, 480)
    zoom = width_px / float(face_size(photo.points))
    a = math.radians(tilt_deg)
    turn = zoom * np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    middle = photo.points.mean(0)
    free = np.maximum(np.array(size) / 2 - 0.65 * width_px, 0)
    at = np.array(size) / 2 + rng.uniform(-1, 1, 2) * free
    forward = np.concatenate([turn, (at - turn @ middle)[:, None]], 1)
    back = np.linalg.inv(turn)
    # Pillow's pixel centres lie on halves.
    shift = middle + 0.5 - back @ (at + 0.5)
    data = (*back[0], shift[0], *back[1], shift[1])
    shrink = max(1, int(1 / zoom))
    source = Image.fromarray(photo.image)
    if shrink > 1:
        source = source.reduce(shrink)
        data = tuple(v / shrink for v in data)
    border = Image.fromarray(_fade(source.size))
    base = Image.fromarray(background).resize(size)
    warped = source.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    mask = border.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    base.paste(warped, (0, 0), mask)
    return Scene(np.asarray(base), apply(forward, photo.points))


def _fade(size: tuple[int, int]) -> U8:
    """`(H, W)` opaque, but for a border of 4 %."""
    ramps = [np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.04 * n) for n in size]
    return (255 * np.clip(np.minimum(ramps[0][None], ramps[1][:, None]), 0, 1)).astype(np.uint8)


def error(points: NDArray[np.floating], truth: F64) -> float:
    """Mean distance of five points in pupil distances."""
    pupils = np.hypot(*(truth[1] - truth[0]))
    return float(np.hypot(*(points - truth).T).mean() / max(pupils, 0.45 * face_size(truth)))


def offset_free(points: F64, truth: F64) -> NDArray[np.float64]:
    """`(N,)` mean point error in pupil distances, each point's mean offset over the faces removed.

    What "mouth corner" means differs between people who place points; a constant difference of opinion
    is no error.
    """
    off = to_face_frame(points, truth) - to_face_frame(truth, truth)
    off = off - off.mean(0)
    distances: F64 = np.hypot(off[..., 0], off[..., 1]).mean(1)
    return distances


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, p = 1.96, hits / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def bootstrap(values: F64, rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of a mean."""
    means = rng.choice(values, (2000, len(values))).mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def evaluate_detection(
    data_dir: str | Path, *, detector: FaceSource | None = None, congress_every: int = 5
) -> pd.DataFrame:
    """The issue's bars as a table: `figure, value, low, high, n, bar, met`.

    Args:
        data_dir: folder with `london`, `canada`, `congress` and, where there, `interfaces_cc0`,
            `debruine_cc0` and `clips`.
        detector: the built-in one by default.
        congress_every: of the kept-out portraits, show every so many; there are 100.
    """
    data, rng = Path(data_dir), np.random.default_rng(0)
    find = detector or Detector()
    rows: list[dict[str, object]] = []

    def share(figure: str, hits: int, n: int, bar: float, *, below: bool = False) -> None:
        if n:
            low, high = wilson(hits, n)
            met = hits / n <= bar if below else hits / n >= bar
            rows.append(
                {
                    "figure": figure,
                    "value": hits / n,
                    "low": low,
                    "high": high,
                    "n": n,
                    "bar": bar,
                    "met": met,
                }
            )

    photos = read_photos(data, kept=True)
    portraits = [p for p in photos if p.person.startswith("congress")][::congress_every]
    # Of the other sets the whole pictures; their close crops show the same people again.
    people = [p for p in photos if face_size(p.points) < 0.45 * p.image.shape[1]] + portraits
    backgrounds = library_pictures(HELD_OUT_PICTURES) or [np.full((480, 640, 3), 128, np.uint8)]
    alarms = shown = 0
    exact: dict[str, list[tuple[str, NDArray[np.floating], F64]]] = {}
    for name, (tilt, camera) in CONDITIONS.items():
        for width in WIDTHS_PX:
            hits = 0
            for photo in people:
                scene = place(photo, backgrounds[rng.integers(len(backgrounds))], width, tilt, rng)
                faces = find(camera(scene.image, rng, width))
                errors = [error(f.points, scene.points) for f in faces]
                best = int(np.argmin(errors)) if errors else -1
                found = best >= 0 and errors[best] < FOUND_WITHIN
                hits += found
                alarms += len(faces) - found
                shown += 1
                if found:
                    group = f"{photo.person.split('/')[0]}"
                    exact.setdefault(f"{name}, {width} px", []).append(
                        (group, faces[best].points, scene.points)
                    )
            share(f"found, {name}, {width} px", hits, len(people), 1.0)
    share("false alarms beside a face, per picture", alarms, shown, 0.0, below=True)
    for name, found_faces in exact.items():
        values = [
            offset_free(np.array([f[1] for f in part], np.float64), np.array([f[2] for f in part]))
            for group in ("london", "canada", "congress")
            if len(part := [f for f in found_faces if f[0] == group]) > 3
        ]
        if values:
            rows.append(_exactness(f"point error, {name}", np.concatenate(values), rng))
    rows += _originals(find, photos, rng)
    for figure, hits, n, bar, below in _other_pictures(find, data):
        share(figure, hits, n, bar, below=below)
    rows.append(_timing(find, people[0], backgrounds[0], rng))
    return pd.DataFrame(rows)


def _exactness(figure: str, values: F64, rng: np.random.Generator) -> dict[str, object]:
    low, high = bootstrap(values, rng)
    value = float(values.mean())
    return {
        "figure": figure, "value": value, "low": low, "high": high, "n": len(values), "bar": 0.025,
        "met": value <= 0.025,
    }  # fmt: skip


def _originals(find: FaceSource, photos: list[Photo], rng: np.random.Generator) -> list[dict[str, object]]:
    """Point error on the untouched photos, against hand-placed and against automatic points."""
    found: dict[str, list[tuple[NDArray[np.floating], F64]]] = {}
    for photo in photos:
        faces = find(photo.image)
        if faces:
            best = min(faces, key=lambda f: error(f.points, photo.points))
            truth = "hand-placed" if photo.hand_placed else "automatic"
            found.setdefault(f"{photo.person.split('/')[0]}, {truth}", []).append((best.points, photo.points))
    return [
        _exactness(
            f"point error, untouched {name}",
            offset_free(np.array([p for p, _ in pairs], np.float64), np.array([t for _, t in pairs])),
            rng,
        )
        for name, pairs in found.items()
    ]


def _other_pictures(find: FaceSource, data: Path) -> Iterator[tuple[str, int, int, float, bool]]:
    """Figure, hits, number, bar, and whether fewer is better, of the sets that are there."""
    blank = [find(p) for p in library_pictures(HELD_OUT_PICTURES)]
    yield "pictures without a face, with an alarm", sum(bool(f) for f in blank), len(blank), 0.0, True
    film = data / "clips" / "no_face.mp4"
    if film.exists():
        frames = [find(frame) for frame in film_frames(film)]
        yield (
            "film frames without a face, with an alarm",
            sum(bool(f) for f in frames),
            len(frames),
            0.0,
            True,
        )
    collage = data / "clips" / "multi_face_collage.jpg"
    if collage.exists():
        yield "collage of six faces", len(find(_read(collage))), 6, 1.0, False
    wild = data / "interfaces_cc0"
    if wild.exists():
        with np.load(wild / "landmarks_auto.npz") as z:
            truth = face_box(five_of_mesh(z["mediapipe478"]))
            names = [str(i) for i in z["ids"]]
        hits = 0
        for name, box in zip(names, truth, strict=True):
            faces = find(_read(wild / "images" / f"{name}.jpg"))
            hits += any(_overlap(f.box, box) > 0.4 for f in faces)
        yield "found, portraits in the wild", hits, len(names), 0.9, False
    one = sorted((data / "debruine_cc0" / "images").glob("*.*"))
    if one:
        counts = [len(find(_read(p))) for p in one]
        yield "found, one person near and far", sum(c == 1 for c in counts), len(one), 1.0, False


def _read(path: Path) -> U8:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _overlap(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    shared = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    inside = float(np.clip(shared, 0, None).prod())
    return inside / float(a[2:].prod() + b[2:].prod() - inside)


def film_frames(path: Path) -> Iterator[U8]:
    """Frames of a film as RGB; none where PyAV is not installed, which nothing else here needs."""
    try:
        import av
    except ImportError:
        return
    with av.open(str(path)) as film:
        for frame in film.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _timing(find: FaceSource, photo: Photo, background: U8, rng: np.random.Generator) -> dict[str, object]:
    """Milliseconds of processor time per 640 x 480 picture with one face, on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    scenes = [place(photo, background, w, 0.0, rng).image for w in WIDTHS_PX for _ in range(4)]
    for scene in scenes[:3]:
        find(scene)
    spent = []
    for scene in scenes:
        # Processor time: other programs on the machine do not count.
        start = time.process_time()
        find(scene)
        spent.append(1000 * (time.process_time() - start))
    torch.set_num_threads(threads)
    return {
        "figure": "time per picture, one core, ms", "value": float(np.median(spent)),
        "low": float(np.percentile(spent, 2.5)), "high": float(np.percentile(spent, 97.5)),
        "n": len(spent), "bar": 40.0, "met": float(np.median(spent)) <= 40,
    }  # fmt: skip
