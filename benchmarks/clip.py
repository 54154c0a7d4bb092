"""A clip of a drawn face that talks, smiles, turns and moves about, so that benchmarks run anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

U8 = NDArray[np.uint8]

WIDTH, HEIGHT, RATE = 640, 360, 25


def write(path: Path, seconds: float = 10.0) -> Path:
    """Write the clip, 640 x 360 at 25 frames a second, H.264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pictures(round(seconds * RATE)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def pictures(count: int) -> Iterator[U8]:
    """`(HEIGHT, WIDTH, 3)` pictures; the last leads back to the first, so that the clip can be looped."""
    from faceunits import driving

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(90, 160, (5, 8, 1), np.uint8).repeat(3, 2))
    room = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    for i in range(count):
        t = 2 * np.pi * i / count

        def wave(times: int, shift: float = 0.0, t: float = t) -> float:
            return float(0.5 - 0.5 * np.cos(times * t + shift))

        units = {
            "AU12": 4 * wave(2), "AU06": 2 * wave(2), "AU26": 2 * wave(9), "AU01": 3 * wave(3),
            "AU45": 5 * max(0.0, 8 * wave(5) - 7),
        }  # fmt: skip
        face = driving.render(units, yaw_deg=14 * np.sin(t), pitch_deg=6 * np.sin(2 * t), identity_seed=3)
        yield _placed(room, face, 250 + 20 * np.sin(2 * t), 320 + 60 * np.sin(t), 170 + 10 * np.sin(3 * t))


def _placed(room: U8, face: U8, size: float, x: float, y: float) -> U8:
    """The drawn face around (x, y), faded into the room: its frame would be the strongest edge of all."""
    side = round(size)
    big = np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), np.float32)
    at = np.linspace(-1, 1, side)
    far = np.hypot(at[None] / 0.92, (at[:, None] - 0.04) / 0.98)
    share = np.clip((1 - far) / 0.08, 0, 1)[..., None]
    out = room.astype(np.float32)
    left, top = round(x - side / 2), round(y - side / 2)
    part = out[max(top, 0) : top + side, max(left, 0) : left + side]
    rows, columns = part.shape[:2]
    down, right = max(-top, 0), max(-left, 0)
    s, b = (v[down : down + rows, right : right + columns] for v in (share, big))
    part[:] = (1 - s) * part + s * b
    return (out + 0.5).clip(0, 255).astype(np.uint8)


def loop(path: Path, to: Path, times: int) -> Path:
    """The clip `times` times over, by copying its packets: minutes of video in a second."""
    import av

    with av.open(str(path)) as source, av.open(str(to), "w") as target:
        track: Any = source.streams.video[0]
        copy = target.add_stream_from_template(track)
        length = round(float(track.frames / track.average_rate) / track.time_base)
        for turn in range(times):
            source.seek(0, stream=track)
            packets: Any = source.demux(track)
            for packet in packets:
                if packet.dts is None:
                    continue
                packet.pts += turn * length
                packet.dts += turn * length
                packet.stream = copy
                target.mux(packet)
    return to
