"""How a person looks at rest, from photos of them or from the quiet frames of a video: what `estimate` can
judge the same person's faces by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceunits import photos
from faceunits.errors import ConfigError, InputError
from faceunits.io import video as video_io

if TYPE_CHECKING:
    from faceunits.alignment.detect import FaceSource
    from faceunits.fitting import Models
    from faceunits.fitting.beside import Neutral
    from faceunits.streaming import Window

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

AUTO = "auto"
"""Of a video: the person's own quiet frames."""

LOOKED_AT = 150
"""Frames of a video, evenly spread, among which the quiet ones are found."""

MOST = 2 * LOOKED_AT
"""Faces after which nobody looks further, where a file does not say how long it is."""

_BATCH = 16

QUIET = 0.1
"""Share of the faces found there that count as rest."""

LEAST = 5
"""Fewer frames with a face do not show how somebody looks at rest."""

FRONTAL_DEG = 15.0
"""Faces turned further show rest badly."""


def is_auto(neutral: object) -> bool:
    """Whether a video's own quiet frames are asked for."""
    return isinstance(neutral, str) and neutral == AUTO


def check(method: str, engine: str) -> None:
    """Refuses what knows no neutral.

    Raises:
        ConfigError: another method than `fast`, or the engine `onnx`.
    """
    if method != "fast" or engine == "onnx":
        what = f"the method {method}" if method != "fast" else "the engine onnx"
        raise ConfigError(
            f"expected the method fast and the engine torch with a neutral face; got {what}; leave one out"
        )


def look(inputs: Sequence[tuple[str, Path | U8]], finder: FaceSource, networks: Models) -> Neutral:
    """One person at rest: the mean of the largest faces of photos.

    Args:
        inputs: printable name, and file or picture `(H, W, 3)` uint8 RGB, of each photo.
        finder: from a picture to its faces.
        networks: of `fitting.load`.

    Raises:
        InputError: a photo that cannot be read, or one without a face that can be cut out.
    """
    from faceunits.fitting import beside

    crops = []
    for name, item in inputs:
        photo = photos.prepare(name, item, finder, networks.crop_size)
        crop = photo.crops[0] if photo.crops else None
        if crop is None:
            reason = photo.reason or photo.reasons[0]
            raise InputError(
                f"expected a face at rest in {name}; {reason.removeprefix(photos.UNREADABLE)}; name another"
            )
        crops.append(crop)
    return beside.neutral(np.stack(crops), networks).mean()


def quiet_frames(path: Path, window: Window, finder: FaceSource, networks: Models) -> Neutral | None:
    """The person of a video at rest: the quietest tenth of the largest faces of frames spread over it; None
    where too few frames show a face.

    Args:
        path: a video.
        window: which of its frames count.
        finder: from a picture to its faces.
        networks: of `fitting.load`.

    Raises:
        UnreadableVideo: a file that cannot be read.
    """
    from faceunits import fitting
    from faceunits.fitting import beside

    kept: list[F32] = []  # crops, units and poses of the quietest faces so far, in the order of the video
    seen, faces = 0, islice(_faces(path, window, finder, networks), MOST)
    while part := list(islice(faces, _BATCH)):
        crops = np.stack(part)
        reading = fitting.read(crops, networks)
        found = [crops, reading.au, reading.pose_deg]
        together = [np.concatenate(pair) for pair in zip(kept, found, strict=True)] if kept else found
        best = np.sort(quietest(together[1], together[2], round(QUIET * MOST)))
        kept = [of[best] for of in together]
        seen += len(crops)
    if seen < LEAST:
        return None
    crops, au, pose = kept
    chosen = quietest(au, pose, max(LEAST, round(QUIET * seen)))
    return beside.neutral(crops[chosen], networks).mean()


def _faces(path: Path, window: Window, finder: FaceSource, networks: Models) -> Iterator[F32]:
    """Crops `(3, S, S)` of the largest faces of frames spread over a video."""
    step = max(1, window.expected(video_io.probe(path)) // LOOKED_AT)
    frames = video_io.frames(path, every=window.every * step, start_s=window.start_s, end_s=window.end_s)
    with suppress(video_io.BrokenVideo):  # what is before the break is there
        for frame in frames:
            photo = photos.prepare("", frame.picture, finder, networks.crop_size)
            if photo.crops and photo.crops[0] is not None:
                yield photo.crops[0]


def quietest(au: F32, pose_deg: F32, count: int) -> NDArray[np.intp]:
    """The rows of `count` faces of one person in which least is at work, frontal ones first.

    Args:
        au: `(n, A)` in [0, 1]; what is read of the person in every frame does not change the order.
        pose_deg: `(n, 2)`.
        count: how many; all, when there are fewer.
    """
    turned = np.abs(pose_deg).max(1) > FRONTAL_DEG
    return np.lexsort((au.sum(1), turned))[:count]
