"""Long runs to one table: photos and videos in order, on disk as they go, to be interrupted at any time.

`OUT.part` has the rows so far, as CSV; `OUT.state` says how many bytes of it count, which inputs are
done and what the next frame depends on. The state is written at the end of a piece, whole or not at
all, after the rows that it speaks of; what lies behind them is cut off when a run goes on. Started again
with the same inputs and options, a run goes on there and the table has the same bytes as if nothing had
happened. With others it starts anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from faceunits import estimation, streaming
from faceunits.errors import InputError
from faceunits.io import table as table_io
from faceunits.io import video as video_io
from faceunits.io.files import printable, replacing

Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]

SAVE_S = 5.0
"""Seconds between two states at most, if pieces end that often."""

_PHOTOS = 8


@dataclass
class Tally:
    """What a run found, for its last line and its exit code."""

    inputs: int = 0
    faces: int = 0
    without: int = 0
    unreadable: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@dataclass
class _Progress:
    """Where a run is: inputs `done`, bytes of the part file that count, frames and photos in it, and the
    mark in the current video."""

    done: int = 0
    size: int = 0
    frames: int = 0
    mark: streaming.Mark = field(default_factory=streaming.Mark)
    tally: Tally = field(default_factory=Tally)


def run(
    files: Sequence[Path],
    output: Path,
    *,
    machine: streaming.Machine,
    window: streaming.Window,
    batch: int,
    about: Mapping[str, Any],
    say: Say,
    progress: Progress | None = None,
) -> Tally:
    """Measure photos and videos into one table.

    Args:
        files: photos and videos, in the order of the table.
        output: the table; portraits go to the folder `<its stem>_faces` beside it.
        machine: of `streaming.prepare`.
        window: which frames of videos.
        batch: faces of photos measured at a time.
        about: of `io.table.describe`; also decides whether an interrupted run was the same.
        say: told in a line when a run goes on, starts anew or is interrupted.
        progress: called with the frames and photos done, those expected in all (0 if unknown), and a name.

    Raises:
        InputError: a place that cannot be written to, a full disk among them; what was done is kept.
        KeyboardInterrupt: after the state was saved.
    """
    part, state = (output.with_name(output.name + ending) for ending in (".part", ".state"))
    faces = output.with_name(output.stem + "_faces")
    key = _key(files, window, batch, about)
    at = _restored(part, state, key, say)
    if at is None:
        at = _Progress()
        _clear(faces)
    total = _expected(files, window)
    with _kept(part, at), _opened(part, at.size) as rows:
        whole = _pack(key, at)  # of the last piece that is all in the part file
        saved_s = time.monotonic()
        try:
            for table, name in _tables(files, at, machine, window, batch, faces):
                _append(rows, table, at)
                whole = _pack(key, at)
                if time.monotonic() - saved_s > SAVE_S:
                    _save(state, rows, whole)
                    saved_s = time.monotonic()
                if progress:
                    progress(at.frames, total, name)
        except KeyboardInterrupt:
            if not at.size:
                raise
            _save(state, rows, whole)
            say(
                f"interrupted after {at.frames} frames or photos, which are in {printable(part)}; "
                "give the same command again to go on"
            )
            raise
        _save(state, rows, whole)
    table_io.finish(part, output, about=about)
    state.unlink(missing_ok=True)
    return at.tally


def _tables(
    files: Sequence[Path],
    at: _Progress,
    machine: streaming.Machine,
    window: streaming.Window,
    batch: int,
    faces: Path | None,
) -> Iterator[tuple[pd.DataFrame, str]]:
    """Pieces of the table; `at` is moved on before each is handed over."""
    videos = [video_io.is_video(f) for f in files]
    while at.done < len(files):
        if not videos[at.done]:
            end = at.done + 1
            while end < min(len(files), at.done + _PHOTOS) and not videos[end]:
                end += 1
            table = machine.photos(files[at.done : end], batch=batch)
            bad = table[table["reason"].str.startswith(estimation.UNREADABLE)]
            at.tally.unreadable += [str(reason) for reason in bad["reason"]]
            at.tally.inputs += end - at.done
            at.done = end
            yield table, printable(files[end - 1])
        else:
            prefix = f"{printable(files[at.done].stem)}_" if sum(videos) > 1 else ""
            yield from _video(files[at.done], at, machine, window, faces, prefix)


def _video(
    file: Path,
    at: _Progress,
    machine: streaming.Machine,
    window: streaming.Window,
    faces: Path | None,
    prefix: str,
) -> Iterator[tuple[pd.DataFrame, str]]:
    name = printable(file)
    found: list[pd.DataFrame] = []
    try:
        for piece in streaming.pieces(file, machine, window, after=at.mark, portrait=_naming(faces, prefix)):
            at.mark = piece.mark
            yield piece.table, name
    except video_io.BrokenVideo as error:
        at.tally.broken.append(str(error))
    except video_io.UnreadableVideo as error:
        found.append(estimation.unreadable(name, error, machine.networks.names))
        at.tally.unreadable += list(found[0]["reason"])
    at.tally.inputs += 1
    at.mark = streaming.Mark()
    at.done += 1
    # an empty piece, so that the end of the video is in the state
    yield found[0] if found else pd.DataFrame(columns=estimation.all_columns(machine.networks.names)), name


def _naming(faces: Path | None, prefix: str) -> Callable[[int], Path] | None:
    return None if faces is None else lambda number: faces / f"{prefix}face_{number:03d}.png"


def show(
    files: Sequence[Path],
    write: Callable[[str], object],
    *,
    machine: streaming.Machine,
    window: streaming.Window,
    batch: int,
    progress: Progress | None = None,
) -> Tally:
    """As `run`, but the rows go to a function of text, piece by piece, and nothing is kept."""
    at, total = _Progress(), _expected(files, window)
    for table, name in _tables(files, at, machine, window, batch, None):
        write(_text(table, at))
        if progress:
            progress(at.frames, total, name)
    return at.tally


def _append(rows: BinaryIO, table: pd.DataFrame, at: _Progress) -> None:
    rows.write(_text(table, at).encode("utf-8"))


def _text(table: pd.DataFrame, at: _Progress) -> str:
    """The next rows of the table, counted in `at`."""
    text = table_io.text(table)
    if at.size:
        text = text.partition("\n")[2]  # the header is there already
    at.size += len(text.encode("utf-8"))
    at.frames += len(table[["input", "frame"]].drop_duplicates())
    at.tally.faces += int((table["success"] == 1).sum())
    at.tally.without += int((table["success"] == 0).sum())
    return text


def _key(files: Sequence[Path], window: streaming.Window, batch: int, about: Mapping[str, Any]) -> str:
    """What two runs must have in common for one to go on where the other stopped."""
    inputs = []
    for file in files:
        with suppress(OSError):
            inputs.append([printable(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns])
    values = {"inputs": inputs, "window": asdict(window), "batch": batch, "about": dict(about)}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _pack(key: str, at: _Progress) -> dict[str, Any]:
    """The state as arrays, which later changes of `at` do not reach."""
    numbers = {"done": at.done, "size": at.size, "frames": at.frames, "tally": asdict(at.tally)}
    mark = {"number": at.mark.number, "frames": at.mark.frames, "best": at.mark.best}
    packed: dict[str, Any] = {f"tracker.{name}": value for name, value in at.mark.state.items()}
    return packed | {"json": np.array(json.dumps({"key": key, "at": numbers, "mark": mark}))}


def _save(state: Path, rows: BinaryIO, packed: dict[str, Any]) -> None:
    """First the rows, then the state that counts them."""
    rows.flush()
    os.fsync(rows.fileno())
    with replacing(state) as temporary, temporary.open("wb") as file:
        np.savez(file, **packed)


def _restored(part: Path, state: Path, key: str, say: Say) -> _Progress | None:
    """Where an interrupted run of this key was; None if there is none."""
    if not part.is_file() or not state.is_file():
        return None
    try:
        with np.load(state, allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in arrays.files}
        told = json.loads(str(values.pop("json")))
        at, mark = told["at"], told["mark"]
        if told["key"] != key:
            say(f"{printable(part)} is of a run with other inputs or options; starting anew")
            return None
        if part.stat().st_size < at["size"]:
            raise ValueError("the rows are gone")
        tracker = {name.removeprefix("tracker."): value for name, value in values.items()}
        best = {int(n): float(v) for n, v in mark["best"].items()}
        place = streaming.Mark(int(mark["number"]), int(mark["frames"]), tracker, best)
        found = _Progress(at["done"], at["size"], at["frames"], place, Tally(**at["tally"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        say(f"{printable(state)} is damaged; starting anew")
        return None
    say(f"going on after {found.frames} frames or photos of an interrupted run")
    return found


def _clear(faces: Path) -> None:
    """Portraits of an earlier run would look like this one's."""
    for path in faces.glob("*face_[0-9][0-9][0-9]*.png"):
        path.unlink()


def _expected(files: Sequence[Path], window: streaming.Window) -> int:
    """Frames and photos in all, as far as the videos tell; 0 if one does not."""
    total = 0
    for file in files:
        if not video_io.is_video(file):
            total += 1
            continue
        with suppress(InputError):
            count = window.expected(video_io.probe(file))
            if not count:
                return 0
            total += count
    return total


@contextmanager
def _opened(part: Path, size: int) -> Iterator[BinaryIO]:
    """The part file, cut to the bytes that count."""
    try:
        with part.open("r+b" if size else "wb") as rows:
            rows.truncate(size)
            rows.seek(size)
            yield rows
    finally:
        if part.is_file() and not part.stat().st_size:  # nothing was measured: leave nothing
            part.unlink()


@contextmanager
def _kept(part: Path, at: _Progress) -> Iterator[None]:
    """Say what a failed write has left."""
    try:
        yield
    except (OSError, InputError) as error:
        if isinstance(error, video_io.UnreadableVideo):
            raise
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"cannot go on ({why}); up to {at.frames} frames or photos are kept in {printable(part)}; "
            "make room and give the same command again to go on"
        ) from error
