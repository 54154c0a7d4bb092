"""Videos from disk: every frame once, in order, as uint8 `(H, W, 3)` RGB, upright, with its own time.

Times are the presentation timestamps that the file holds, so a variable frame rate stays what it was.
Turned and mirrored recordings are set upright, oblong pixels are made square. Memory does not grow with
the length: a frame is handed over before the next is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits.errors import ConfigError, InputError
from faceunits.io import image as image_io
from faceunits.io.files import printable

U8 = NDArray[np.uint8]

SUFFIXES = frozenset(
    ".mp4 .m4v .mov .qt .avi .mkv .webm .mpg .mpeg .m2v .ts .mts .m2ts .wmv .asf .flv .3gp .3g2 .ogv .ogg "
    ".mxf .vob .dv .y4m".split()
)
"""What is taken from a folder as a video."""

_SOUND = frozenset(".mp3 .m4a .aac .wav .flac .opus .oga .mka .wma .aiff".split())


@dataclass(frozen=True)
class Clip:
    """What a video says of itself: size in pixels as shown, turn that makes it upright (degrees
    clockwise), duration in seconds (NaN if not told), an estimate of the number of frames (0 if none),
    mean frames per second (NaN if not told)."""

    width: int
    height: int
    rotation_deg: int
    duration_s: float
    frames: int
    rate: float


@dataclass(frozen=True)
class Frame:
    """`number` counts from 1 over the whole file; `time_s` is the presentation timestamp in seconds;
    `picture` `(H, W, 3)` uint8 RGB, upright."""

    number: int
    time_s: float
    picture: U8


class UnreadableVideo(InputError):
    """A file from which no frame that was asked for can be read."""


class BrokenVideo(InputError):
    """A video that breaks off or is damaged; the frames before that were handed over.

    `frames_read` is how many frames could be decoded, `last_s` the time of the last one.
    """

    def __init__(self, message: str, *, frames_read: int, last_s: float):
        super().__init__(message)
        self.frames_read, self.last_s = frames_read, last_s


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file is to be read as a video; judged by its name, and by its content if that says nothing.

    Sound files count as videos, so that they are refused as what they are.
    """
    suffix = Path(path).suffix.lower()
    if suffix in SUFFIXES | _SOUND:
        return True
    if suffix in image_io.SUFFIXES or not Path(path).is_file() or Path(path).stat().st_size == 0:
        return False
    try:
        with _open(path) as (container, _):
            return "image2" not in container.format.name and not container.format.name.endswith("_pipe")
    except UnreadableVideo:
        return False


def probe(path: str | os.PathLike[str]) -> Clip:
    """Size, rotation, duration and frame estimate of a video, from its header and its first frame.

    Raises:
        UnreadableVideo: not a video, without a picture track, without a frame, or unreadable.
    """
    where = printable(path)
    with _open(path) as (container, stream):
        first = next((f for f in _decode(container, stream, []) if f.width and f.height), None)
        if first is None:
            raise _empty(where)
        turns, _ = _turn(first)
        width, height = _square(first, stream)
        if turns % 2:
            width, height = height, width
        rate = float(stream.average_rate or 0) or float("nan")
        duration = _duration_s(container, stream)
        frames = int(stream.frames or 0)
        if not frames and np.isfinite(rate * duration):
            frames = round(rate * duration)
        return Clip(width, height, -90 * turns % 360, duration, frames, rate)


def frames(
    path: str | os.PathLike[str],
    *,
    every: int = 1,
    start_s: float | None = None,
    end_s: float | None = None,
    after: int = 0,
) -> Iterator[Frame]:
    """The frames of a video, decoded once, in order of presentation.

    Args:
        path: any file that FFmpeg reads.
        every: hand over only every n-th frame, counted from the first one at or after `start_s`.
        start_s: hand over frames from this time on.
        end_s: and before this time.
        after: leave out frames up to this number, without a change to the choice of the others.

    Raises:
        UnreadableVideo: not a video, without a picture track, without a frame, or none between the times.
        BrokenVideo: after the last frame before a break.
        ConfigError: settings out of range.
    """
    check(every, start_s, end_s)
    return _frames(path, every, start_s, end_s, after)


def check(every: int, start_s: float | None, end_s: float | None) -> None:
    """Raise ConfigError for a choice of frames that makes no sense."""
    if every < 1:
        raise ConfigError(f"expected every n-th frame with n of at least 1; got {every}")
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise ConfigError(f"expected an end after the start; got {start_s:g} s to {end_s:g} s")


def _frames(
    path: str | os.PathLike[str], every: int, start_s: float | None, end_s: float | None, after: int
) -> Iterator[Frame]:
    where = printable(path)
    damage: list[str] = []
    number = first = 0
    time_s = float("nan")
    with _open(path) as (container, stream):
        convert = _converter(stream)
        period = 1 / float(stream.average_rate or 25)
        for frame in _decode(container, stream, damage):
            number += 1
            if frame.pts is not None:
                time_s = float(frame.pts * (frame.time_base or stream.time_base))
            else:  # a bare stream of pictures has no clock of its own
                time_s = time_s + period if number > 1 else 0.0
            if end_s is not None and time_s >= end_s:
                break
            if start_s is not None and time_s < start_s:
                continue
            first = first or number
            if number > after and (number - first) % every == 0:
                yield Frame(number, time_s, convert(frame))
        else:
            if number and not damage:
                damage += _breaks_off(Path(path), container, stream, time_s)
    if not number:
        raise _empty(where, damage)
    if damage:
        raise BrokenVideo(
            f"expected a whole video; {where} breaks off or is damaged after {number} frames, "
            f"{time_s:.2f} s ({damage[0]}); copy it again",
            frames_read=number,
            last_s=time_s,
        )
    if not first:
        raise UnreadableVideo(
            f"expected frames from {start_s or 0:g} s on; {where} ends at {time_s:.2f} s; choose other times"
        )


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """The open file and its first track of moving pictures."""
    import av

    where = printable(path)
    file = Path(path)
    if not os.path.lexists(file):
        raise UnreadableVideo(f"expected a video; {where} does not exist; check the name")
    if not file.is_file():
        raise UnreadableVideo(f"expected a video; {where} is not a regular file; name a video")
    if file.stat().st_size == 0:
        raise UnreadableVideo(f"expected a video; {where} is empty (0 bytes); copy it again")
    try:
        # An open file rather than a name: names may hold a colon or bytes that are not UTF-8, and a
        # playlist cannot send us to other files or to the network.
        source = file.open("rb")
    except OSError as error:
        raise UnreadableVideo(
            f"expected a video that may be read; {where}: {error.strerror}; change it"
        ) from None
    with source:
        try:
            container = av.open(source, mode="r", metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise UnreadableVideo(
                f"expected a video; {where} is of another kind or damaged ({_why(error)}); "
                "play it, and convert it to MP4"
            ) from None
        with container:
            tracks = [s for s in container.streams.video if not _is_cover(s)]
            if not tracks:
                raise UnreadableVideo(
                    f"expected a video; {where} holds sound only; name a file with pictures"
                )
            tracks[0].codec_context.thread_type = "SLICE"  # threads over frames would report damage late
            yield container, tracks[0]


def _is_cover(stream: Any) -> bool:
    """The picture on a music file is a video track of one frame."""
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _decode(container: Any, stream: Any, damage: list[str]) -> Iterator[Any]:
    """Decoded frames; what is damaged is noted and passed over."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            damage.append(_why(error))
            packet = None
        try:
            if packet is None:  # the decoder may still hold frames
                yield from stream.codec_context.decode(None)
                return
            yield from packet.decode()
        except av.EOFError:
            return
        except (av.FFmpegError, ValueError) as error:
            damage.append(_why(error))
            if packet is None:
                return


def _breaks_off(path: Path, container: Any, stream: Any, last_s: float) -> list[str]:
    """Why a file that ended without an error is yet not whole; empty if it is."""
    size = path.stat().st_size
    index = stream.index_entries
    promised = max(_promised_size(path), index[-1].pos + index[-1].size if len(index) else 0)
    if promised > size:
        return [f"it has {size} bytes, its header promises {promised}"]
    # a duration says little: edits take frames out of an MP4, Matroska's is that of the longest track
    if stream.duration and "avi" in container.format.name:
        missing = float(stream.duration * stream.time_base) - last_s
        if missing > max(1.0, 3 / float(stream.average_rate or 25)):
            return [f"its header promises {missing:.1f} s more"]
    return []


def _promised_size(path: Path) -> int:
    """Bytes of an AVI or Matroska file by its own header; 0 if it does not say.

    Sources: RIFF: the size of all that follows after 8 bytes. RFC 8794 (EBML): an element's size is a
    number whose leading zeros tell its length; all ones means unknown, as in a live recording.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return 8 + int.from_bytes(head[4:8], "little")
    at = head.find(b"\x18\x53\x80\x67")  # the segment, which holds everything
    if head[:4] != b"\x1a\x45\xdf\xa3" or at < 0 or at + 5 > len(head) or not head[at + 4]:
        return 0
    length = 9 - head[at + 4].bit_length()
    value = int.from_bytes(head[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
    return 0 if value == (1 << 7 * length) - 1 else at + 4 + length + value


def _duration_s(container: Any, stream: Any) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else float("nan")


def _converter(stream: Any) -> Any:
    """Function from a decoded frame to its upright picture; one scaler serves all frames."""
    from av.video.reformatter import VideoReformatter

    scaler = VideoReformatter()

    def convert(frame: Any) -> U8:
        width, height = _square(frame, stream)
        rgb = scaler.reformat(
            frame, width=width, height=height, format="rgb24", src_color_range=frame.color_range, threads=1
        )
        picture = rgb.to_ndarray()
        turns, mirrored = _turn(frame)
        if mirrored:
            picture = picture[:, ::-1]
        if turns:
            picture = np.rot90(picture, turns)
        return np.ascontiguousarray(picture)

    return convert


def _square(frame: Any, stream: Any) -> tuple[int, int]:
    """Width and height with square pixels, before the turn."""
    ratio = float(stream.sample_aspect_ratio or 1)
    if not 0.2 < ratio < 5 or abs(ratio - 1) < 0.01:
        return frame.width, frame.height
    return max(1, round(frame.width * ratio)), frame.height


def _turn(frame: Any) -> tuple[int, bool]:
    """Quarter turns, counter-clockwise, and whether to mirror before them."""
    try:
        sides = [s for s in frame.side_data if s.type.name == "DISPLAYMATRIX"]
    except ValueError:  # side data of a kind that this PyAV has no name for
        return round(frame.rotation / 90) % 4, False
    if not sides:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(sides[0]), np.int32)[:5].astype(float)
    mirrored = a * d - b * c < 0
    if mirrored:  # the matrix with its first axis turned round is a pure turn
        a, b = -a, -b
    # (a, b) is where the axis to the right goes, y down: a positive angle turns clockwise
    return round(-np.degrees(np.arctan2(b, a)) / 90) % 4, mirrored


def _empty(where: str, damage: list[str] | None = None) -> UnreadableVideo:
    why = f" ({damage[0]})" if damage else ""
    return UnreadableVideo(
        f"expected a video with frames; {where} has none that can be decoded{why}; copy it again"
    )


def _why(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def find(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Photos and videos that files and folders stand for, in order, each once; as `image.find`."""
    out: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(chain(image_io._walk(path), _walk(path)))
            if not inside:
                raise InputError(
                    f"expected a folder with photos or videos; {printable(path)} has none; name another"
                )
            out |= dict.fromkeys(inside)
        else:
            out |= dict.fromkeys(image_io.find([path]))
    return list(out)


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(root, name)
