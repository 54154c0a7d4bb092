"""The camera, or a video in its place, as bars of action units in the terminal.

Shown is always the newest frame: what arrives while a frame is measured is passed over. Nothing is saved.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceunits.errors import InputError
from faceunits.io.files import printable
from faceunits.io.video import Frame

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from faceunits.alignment.track import Seen
    from faceunits.streaming import Machine

_BAR = 20
_MOST_FACES = 3

_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
"""For each platform FFmpeg's name of its camera interface, and of a camera by its number."""


@dataclass(frozen=True)
class Measured:
    """One face as it is shown: intensities 0-5 by column, pose and confidence."""

    face_id: int
    units: Mapping[str, float]
    values: Mapping[str, float]


def show(
    camera: int = 0,
    *,
    source: Path | None = None,
    seconds: float | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> int:
    """Measure the newest frame again and again, and show it; returns the number of frames measured.

    Args:
        camera: its number, from 0.
        source: a video in place of the camera; every frame of it, as fast as they can be measured.
        seconds: stop after so long; else at the end of the source, or with Ctrl-C.
        device: as for `estimate`.
        console: where to draw; the terminal by default.

    Raises:
        InputError: no camera that can be opened, or a video that cannot be read.
    """
    from rich.console import Console
    from rich.live import Live

    from faceunits import streaming

    with _frames(camera, source) as frames:
        machine = streaming.prepare("fast", device=device)
        tracker = machine.tracker()
        count, begin = 0, time.monotonic()
        with Live(console=console or Console(), auto_refresh=False) as view:
            for frame in frames:
                started = time.monotonic()
                seen = tracker(frame.picture, frame.time_s)
                count += 1
                spent_s = time.monotonic() - started
                view.update(draw(measure(seen, machine), spent_s), refresh=True)
                if seconds is not None and time.monotonic() - begin >= seconds:
                    break
    return count


def measure(seen: Sequence[Seen], machine: Machine) -> list[Measured]:
    """What is shown of the faces of a frame, by number."""
    from faceunits import streaming

    out = []
    for s, row in zip(seen, streaming.measured(seen, machine), strict=True):
        units = {k: float(v) for k, v in row.items() if k.startswith("AU")}
        out.append(
            Measured(
                s.face_id,
                units,
                {k: float(row[k]) for k in row if "AU12_r" in row and k.startswith(("pose", "conf"))},
            )
        )
    return out


def draw(faces: Sequence[Measured], spent_s: float) -> RenderableType:
    """Bars of every face side by side, at most three."""
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    if not faces:
        return Panel(Text("no face"), title=f"{1000 * spent_s:.0f} ms", width=56)
    panels = [
        Panel(_bars(face), title=_title(face), subtitle=f"{1000 * spent_s:.0f} ms per frame", width=56)
        for face in faces[:_MOST_FACES]
    ]
    return Columns(panels)


def _title(face: Measured) -> str:
    v = face.values
    if not v:
        return f"face {face.face_id}, not measured"
    return (
        f"face {face.face_id}, confidence {v['confidence']:.2f}, pitch {v['pose_pitch_deg']:+.0f} "
        f"yaw {v['pose_yaw_deg']:+.0f} roll {v['pose_roll_deg']:+.0f}"
    )


def _bars(face: Measured) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from faceunits import aus

    grid = Table.grid(padding=(0, 1))
    for column, value in face.units.items():
        name = column.removesuffix("_r")
        if "_" in name:  # its bar is that of the larger side; the numbers behind it are both
            continue
        length = round(value / aus.MAX_INTENSITY * _BAR)
        bar = Text("█" * length, "green") + Text("·" * (_BAR - length), "bright_black")
        sides = [face.units.get(f"{name}_{side}_r") for side in "LR"]
        both = f"L {sides[0]:.1f} R {sides[1]:.1f}" if None not in sides else ""
        grid.add_row(name, bar, f"{value:.1f}", Text(both, "bright_black"))
    return grid


@contextmanager
def _frames(camera: int, source: Path | None) -> Iterator[Iterator[Frame]]:
    if source is not None:
        from faceunits.io import video

        video.probe(source)  # refused before the networks are loaded
        yield video.frames(source)
        return
    with _opened(camera) as container:
        yield _newest(container)


@contextmanager
def _opened(camera: int) -> Iterator[Any]:
    import av

    if sys.platform not in _CAMERAS:
        raise InputError(
            f"expected a camera that can be opened by its number; on {sys.platform} it cannot; "
            "record a video and use --source"
        )
    interface, name = _CAMERAS[sys.platform]
    name = name.format(camera)
    try:
        container = av.open(name, format=interface, mode="r")
    except (av.FFmpegError, ValueError, OSError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"expected a camera; {printable(name)} cannot be opened ({why}); connect one, choose another "
            "with --camera, or use --source with a video"
        ) from None
    with container:
        yield container


def _newest(container: Any) -> Iterator[Frame]:
    """The newest frame of a camera each time one is asked for; a thread empties the camera's queue."""
    latest: list[Any] = []
    news, end = threading.Condition(), threading.Event()

    def read() -> None:
        try:
            for frame in container.decode(video=0):
                with news:
                    latest[:] = [frame]
                    news.notify()
                if end.is_set():
                    return
        finally:
            end.set()
            with news:
                news.notify()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    number, begin = 0, time.monotonic()
    try:
        while True:
            with news:
                while not latest and not end.is_set():
                    news.wait(1.0)
                if not latest:
                    return
                frame = latest.pop()
            number += 1
            yield Frame(number, time.monotonic() - begin, frame.to_ndarray(format="rgb24"))
    finally:
        end.set()
        thread.join(2.0)
