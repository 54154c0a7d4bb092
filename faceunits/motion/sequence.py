"""A face on its way from its own expression to another, as a video."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faceunits.errors import ConfigError
from faceunits.io.files import replacing

if TYPE_CHECKING:
    from faceunits.editing import Prepared, Target

U8 = NDArray[np.uint8]

HOLD_S = 0.5
"""The first and the last picture stay this long."""


def shares(seconds: float, rate: int) -> list[float]:
    """How far each frame has come, 0 to 1: at rest, a movement that begins and ends gently, at rest."""
    hold = max(1, round(HOLD_S * rate))
    count = max(2, round(seconds * rate))
    way = [(1 - np.cos(np.pi * i / (count - 1))) / 2 for i in range(count)]
    return [0.0] * hold + [float(w) for w in way] + [1.0] * hold


def frames(
    picture: U8, prepared: Sequence[Prepared], goals: Sequence[Target], *, seconds: float, rate: int
) -> Iterator[U8]:
    """Pictures `(H, W, 3)` of the way."""
    from dataclasses import replace

    last: tuple[float, U8] | None = None
    for share in shares(seconds, rate):
        if last is None or last[0] != share:
            out = picture
            for one, goal in zip(prepared, goals, strict=True):
                stage = replace(one.stage, picture=out)
                y = stage.laid.y.copy()
                n = 2 + len(goal.au)
                y[2:n] += np.float32(share) * (goal.au - y[2:n])
                lips = None if goal.lips is None else share * goal.lips
                out = stage.draw(y, lips=lips)
            last = (share, out)
        yield last[1]


def write(
    path: str | os.PathLike[str], picture: U8, prepared: Sequence[Prepared], goals: Sequence[Target], *,
    seconds: float, rate: int, note: dict[str, Any] | None,
) -> int:  # fmt: skip
    """Write the way as H.264 in MP4, whole or not at all; returns the number of frames.

    Raises:
        ConfigError: PyAV is not installed.
        InputError: a place that cannot be written to.
    """
    try:
        import av
    except ImportError:
        raise ConfigError("expected PyAV for --sequence; it is not installed; pip install av") from None
    height, width = (n // 2 * 2 for n in picture.shape[:2])
    count = 0
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        if note is not None:
            container.metadata["comment"] = json.dumps(note)
            container.metadata["encoder"] = str(note.get("software", ""))
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "17"}
        for out in frames(picture, prepared, goals, seconds=seconds, rate=rate):
            whole = np.ascontiguousarray(out[:height, :width])
            for packet in stream.encode(av.VideoFrame.from_ndarray(whole, format="rgb24")):
                container.mux(packet)
            count += 1
        for packet in stream.encode():
            container.mux(packet)
    return count
