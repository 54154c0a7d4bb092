"""Videos to rows: frame by frame, in pieces of bounded size, and long runs that can be interrupted.

    video ─ io ─► frames ─ track ─► crops ─ read or fit ─► rows ─► pieces of a table

Every frame that is looked at has at least one row. A run writes its rows to a part file beside the table
and, at the end of a piece, what the next frame depends on to a state file; started again, it goes on
there and ends with the same bytes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus, estimation, resting
from faceunits.io import image as image_io
from faceunits.io import video as video_io
from faceunits.io.files import printable
from faceunits.networks.threads import one_thread

if TYPE_CHECKING:
    from faceunits.alignment.detect import FaceSource
    from faceunits.alignment.track import Seen, Tracker
    from faceunits.fitting import Models
    from faceunits.fitting.beside import Neutral
    from faceunits.types import Reading

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
State = dict[str, NDArray[Any]]

_PIECE = 32
"""Frames per piece of a table. With methods that take a second per face, a quarter of that."""

_PORTRAIT = 256
"""Side of the saved portraits in pixels."""

_BETTER = 0.02
"""A portrait is replaced when the confidence rises by this much."""


@dataclass(frozen=True)
class Machine:
    """What measures faces, loaded once for all videos of a run; `follow` is the fast reading, which every
    method needs to follow a face."""

    detector: FaceSource
    networks: Models
    measure: estimation.Measure
    follow: estimation.Measure
    method: str
    recipe: str
    device: str
    engine: str = "auto"
    views: int | None = None
    calm: Neutral | None = None
    by_quiet_frames: bool = False

    def at_rest(self, path: Path, window: Window) -> Machine:
        """The machine for one video, which knows how its person looks at rest where that is asked for."""
        if not self.by_quiet_frames:
            return self
        calm = resting.quiet_frames(path, window, self.detector, self.networks)
        if calm is None:
            return self
        read = estimation.measurer(self.method, self.recipe, calm=calm, views=self.views or 1)
        return replace(self, measure=read, follow=read, calm=calm)

    def photos(self, files: Sequence[Path | U8], *, batch: int) -> pd.DataFrame:
        """The rows of photos."""
        return estimation.estimate(
            files,
            method=self.method,
            recipe=self.recipe,
            engine=self.engine,
            device=self.device,
            detector=self.detector,
            neutral=self.calm,
            views=self.views,
            batch=batch,
        )

    def read(self, crops: F32) -> Reading:
        """The fast reading."""
        return self.follow(crops, self.networks)

    def tracker(self) -> Tracker:
        """For a new video."""
        from faceunits.alignment.track import Tracker

        return Tracker(self.detector, self.read, self.networks.crop_size)


@dataclass(frozen=True)
class Window:
    """Which frames are looked at: see `io.video.frames`."""

    every: int = 1
    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        video_io.check(self.every, self.start_s, self.end_s)

    def expected(self, clip: video_io.Clip) -> int:
        """Estimate of the number of these frames; 0 if the clip does not tell."""
        share = 1.0
        if clip.duration_s > 0:
            begin = min(max(self.start_s or 0.0, 0.0), clip.duration_s)
            end = min(clip.duration_s if self.end_s is None else self.end_s, clip.duration_s)
            share = max(0.0, end - begin) / clip.duration_s
        return round(clip.frames * share / self.every)


@dataclass
class Mark:
    """Where a video is: all frames up to `number` are in the table, of which `frames` were looked at;
    `state` is the tracker's, `best` the confidence of each face's portrait."""

    number: int = 0
    frames: int = 0
    state: State = field(default_factory=dict)
    best: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """Some frames' rows, and where the video is after them."""

    table: pd.DataFrame
    mark: Mark


def prepare(
    method: str = "fast",
    recipe: str = "default",
    device: str = "auto",
    detector: FaceSource | None = None,
    *,
    engine: str = "auto",
    neutral: estimation.Source | Neutral | None = None,
    views: int | None = None,
) -> Machine:
    """Load what measures; frames are read in one view unless another number is asked for.

    Raises:
        ConfigError: an unknown method, recipe or device, or a neutral face with a method that knows none.
        InputError: a neutral photo without a face.
        WeightsError: weights that are missing or damaged.
    """
    each = 1 if views is None and method == "fast" else views
    measure = estimation.measurer(method, recipe, engine=engine, views=each)
    if neutral is not None:
        resting.check(method, engine)
    source, networks = detector or estimation.detector(), estimation.models(device)
    calm, auto = None, resting.is_auto(neutral)
    if neutral is not None and not auto:
        calm = estimation.at_rest(neutral, source, networks)
        measure = estimation.measurer(method, recipe, calm=calm, views=each)
    follow = measure if method == "fast" else estimation.measurer("fast", views=1)
    return Machine(source, networks, measure, follow, method, recipe, device, engine, views, calm, auto)


def stream(
    path: str | os.PathLike[str],
    *,
    method: str = "fast",
    recipe: str = "default",
    engine: str = "auto",
    device: str = "auto",
    detector: FaceSource | None = None,
    every: int = 1,
    start_s: float | None = None,
    end_s: float | None = None,
    portraits: str | os.PathLike[str] | None = None,
    neutral: estimation.Source | None = None,
    views: int | None = None,
) -> Iterator[pd.DataFrame]:
    """Action units along a video, in tables of at most some dozen frames; memory does not grow.

    Args:
        path: a video.
        method: as for `estimate`.
        recipe: as for `estimate`.
        engine: as for `estimate`.
        device: as for `estimate`.
        detector: as for `estimate`; called at the start, when a face is lost, and about once a second.
        every: only every n-th frame.
        start_s: from this time on.
        end_s: before this time.
        portraits: folder for one picture per person, `face_000.png`, from the frame of most confidence.
        neutral: as for `estimate`.
        views: as for `estimate`; 1 by default.

    Yields:
        Tables with the columns of `estimate`. `frame` counts from 1 over the whole file, `timestamp` is
        the presentation time in seconds, `face_id` numbers people in order of appearance. A frame
        without a face is a row with `success` 0, `face_id` -1 and a `reason`.

    Raises:
        InputError: a video that cannot be read.
        BrokenVideo: after the last rows before a break.
        ConfigError: settings out of range.
    """
    window = Window(every, start_s, end_s)
    machine = prepare(method, recipe, device, detector, engine=engine, neutral=neutral, views=views)
    folder = None if portraits is None else Path(portraits)
    naming = None if folder is None else (lambda number: folder / f"face_{number:03d}.png")
    for piece in pieces(path, machine, window, portrait=naming):
        yield piece.table


def pieces(
    path: str | os.PathLike[str],
    machine: Machine,
    window: Window,
    *,
    after: Mark | None = None,
    portrait: Callable[[int], Path] | None = None,
) -> Iterator[Piece]:
    """The rows of a video piece by piece; the borders of pieces depend on the video alone.

    Args:
        path: a video.
        machine: of `prepare`.
        window: which frames.
        after: go on behind this mark.
        portrait: file of a face's portrait by its number; none are saved without it.

    Raises:
        InputError: a video that cannot be read.
        BrokenVideo: after the last piece before a break.
    """
    machine = machine.at_rest(Path(path), window)
    tracker, mark = machine.tracker(), after or Mark()
    if mark.state:
        tracker.restore(mark.state)
    gallery = _Gallery(dict(mark.best), portrait)
    size = _PIECE if machine.method == "fast" else _PIECE // 4
    name = printable(path)
    held: list[_Held] = []
    looked = mark.frames

    def piece() -> Piece:
        table = _table(name, held, machine)
        gallery.save()
        here = Mark(held[-1].number, looked, tracker.state(), dict(gallery.best))
        held.clear()
        return Piece(table, here)

    frames = video_io.frames(
        path, every=window.every, start_s=window.start_s, end_s=window.end_s, after=mark.number
    )
    try:
        for frame in frames:
            with one_thread():
                seen = tracker(frame.picture, frame.time_s)
            gallery.show(frame.picture, seen)
            held.append(_Held(frame.number, frame.time_s, frame.picture.shape[1::-1], seen))
            looked += 1
            if looked == 1 or looked % size == 0:  # the first frame alone: nobody waits for 32 to see it
                yield piece()
    except video_io.BrokenVideo:
        if held:
            yield piece()
        raise
    if held:
        yield piece()


def mixed(
    inputs: Sequence[tuple[str, Path | U8]],
    machine: Machine,
    window: Window,
    *,
    batch: int,
    progress: estimation.Progress | None,
) -> pd.DataFrame:
    """Photos and videos, named, as one table in their order.

    Warns:
        UserWarning: a video that breaks off.
    """
    tables = [pd.DataFrame(columns=estimation.all_columns(machine.networks.names))]
    done = 0
    for is_video, group in groupby(inputs, estimation.is_video):
        members = list(group)
        if not is_video:
            table = machine.photos([item for _, item in members], batch=batch)
            names = {f"array[{i}]": name for i, (name, _) in enumerate(members)}
            table["input"] = table["input"].replace(names)  # counted over all inputs, not over these
            tables.append(table)
        for name, item in members if is_video else ():
            assert isinstance(item, Path)
            try:
                for piece in pieces(item, machine, window):  # one by one: the last may be followed by a break
                    tables.append(piece.table)
            except video_io.BrokenVideo as error:
                warnings.warn(str(error), stacklevel=3)
            except video_io.UnreadableVideo as error:
                tables.append(estimation.unreadable(name, error, machine.networks.names))
        done += len(members)
        if progress:
            progress(done, len(inputs), members[-1][0])
    return pd.concat(tables[len(tables) > 1 :], ignore_index=True)


@dataclass(frozen=True)
class _Held:
    """A frame whose rows are not made yet; its picture is gone."""

    number: int
    time_s: float
    size: tuple[int, ...]
    seen: Sequence[Seen]


class _Gallery:
    """The most confident portrait of each person; only the confidences stay in memory."""

    def __init__(self, best: dict[int, float], where: Callable[[int], Path] | None):
        self.best, self._where = best, where
        self._new: dict[int, U8] = {}

    def show(self, picture: U8, seen: Sequence[Seen]) -> None:
        from faceunits.alignment import warp

        if self._where is None:
            return
        for s in seen:
            confidence = min(float(s.face.score), float(s.reading.confidence[s.index]))
            known = self.best.get(s.face_id)
            if known is not None and not confidence > known + _BETTER:
                continue
            factor = _PORTRAIT / s.crop.shape[1]
            larger = s.matrix * factor
            larger[:, 2] += (factor - 1) / 2  # pixel centres
            crop = warp.crop(picture, larger, _PORTRAIT)
            self._new[s.face_id] = warp.picture(crop)
            self.best[s.face_id] = confidence

    def save(self) -> None:
        if self._where is None:
            return
        for face_id, picture in self._new.items():
            path = self._where(face_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            image_io.write(path, picture)
        self._new.clear()


def _table(name: str, held: Sequence[_Held], machine: Machine) -> pd.DataFrame:
    """The rows of some frames."""
    seen = [s for h in held for s in h.seen]
    found = measured(seen, machine)
    rows: list[dict[str, Any]] = []
    following = iter(zip(seen, found, strict=True))
    for h in held:
        base = {"input": name, "frame": h.number, "timestamp": h.time_s}
        if not h.seen:
            reason = f"no face found in {h.size[0]} x {h.size[1]} pixels"
            rows.append(base | {"face_id": -1, "success": 0, "reason": reason})
        for _ in h.seen:
            s, values = next(following)
            box = dict(zip(("face_x", "face_y", "face_w", "face_h"), map(float, s.face.box), strict=True))
            rows.append(base | {"face_id": s.face_id, "success": 0} | box | values)
    return pd.DataFrame(rows, columns=estimation.all_columns(machine.networks.names))


def measured(seen: Sequence[Seen], machine: Machine) -> list[dict[str, Any]]:
    """What is measured of each face, by column."""
    from faceunits.alignment import warp

    if not seen:
        return []
    if machine.method == "fast":  # measured already, when the face was followed
        results = [(s.reading, s.index) for s in seen]
    else:
        results = []
        for start in range(0, len(seen), 8):
            crops = np.stack([s.crop for s in seen[start : start + 8]])
            result = machine.measure(crops, machine.networks)
            results += [(result, i) for i in range(len(crops))]
    units = aus.columns(
        machine.networks.names,
        np.stack([r.au[i] for r, i in results]),
        np.stack([r.lip_gap[i] for r, i in results]),
    )
    table = np.stack(list(units.values()), 1).astype(float)
    out = []
    for s, (reading, i), values in zip(seen, results, table, strict=True):
        named = dict(zip(units, values.tolist(), strict=True))
        roll = float(warp.roll_deg(s.matrix))
        out.append(estimation.measured(s.face, reading, i, named) | {"pose_roll_deg": roll})
    return out
