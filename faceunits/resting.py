"""How a person looks at rest, from photos of them: what `estimate` can judge the same person's faces by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceunits import photos
from faceunits.errors import ConfigError, InputError

if TYPE_CHECKING:
    from faceunits.alignment.detect import FaceSource
    from faceunits.fitting import Models
    from faceunits.fitting.beside import Neutral

U8 = NDArray[np.uint8]


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
