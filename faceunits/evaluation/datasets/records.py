"""What a reader yields, and what readers share: the facts of `labels.toml`, file names, label lines.

A reader never drops anything in silence: what is wrong is an `InputError` that names file and line, what
is merely left out is counted in a note.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits.errors import ConfigError, InputError
from faceunits.io.files import printable
from faceunits.io.image import SUFFIXES

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NAMES = ("disfa", "fera2015", "ckplus", "mmi", "facewarehouse")
"""Data sets by the name of their command."""

SHOWN = 5
"""Names in a note."""

VIDEO_SUFFIXES = frozenset(".avi .mp4 .mov .mkv .mpg .mpeg .wmv .webm .m4v".split())


@dataclass(frozen=True)
class Published:
    """A printed row: `values[measure]` `(A,)` and `means[measure]`, measures as in `metrics.MEASURES`."""

    name: str
    note: str
    source: str
    values: dict[str, tuple[float, ...]]
    means: dict[str, float]


@dataclass(frozen=True)
class Part:
    """A named list of subjects; `main`: the one to be set beside published rows."""

    name: str
    subjects: tuple[str, ...]
    main: bool = False


@dataclass(frozen=True)
class Spec:
    """A data set's entry in `labels.toml`; `columns` `(A,)` are those of our tables."""

    name: str
    title: str
    aus: tuple[int, ...]
    columns: tuple[str, ...]
    label_scale: float
    prediction_scale: float
    tolerance_frames: int
    mark: str
    subjects: tuple[str, ...]
    parts: tuple[Part, ...]
    published: tuple[Published, ...]


@dataclass(frozen=True)
class Recording:
    """One video, or a run of photos, of one subject.

    `frames` `(N,)` rising frame numbers in the data set's own base; `labels` `(N, A)` in 0-5, NaN where not
    coded. Either `video`, whose first frame has the number `first`, or `images`, one per frame. `tail`
    `(A,)`: labels of a video's frames after the last of `frames`, None where those have none and are an
    error. `label_file` and `first_line`: where the first frame's label stands. `spare_labels` and
    `spare_images`: how many have no partner.
    """

    subject: str
    sequence: str
    frames: I64
    labels: F64
    label_file: Path
    video: Path | None = None
    images: tuple[Path, ...] = ()
    first: int = 1
    first_line: int = 1
    tail: F64 | None = None
    spare_labels: int = 0
    spare_images: int = 0

    @property
    def key(self) -> str:
        """Name for files and tables."""
        return f"{self.subject}_{self.sequence}" if self.sequence else self.subject


@dataclass
class DataSet:
    """The recordings of a data set as found on disk, and what is to be said of them."""

    spec: Spec
    root: Path
    recordings: list[Recording] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def subjects(self) -> list[str]:
        return sorted({r.subject for r in self.recordings})


@cache
def _facts() -> dict[str, Any]:
    text = resources.files("faceunits.evaluation").joinpath("labels.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def column(au: int) -> str:
    """The column of our tables for a FACS number.

    Raises:
        ConfigError: a number that our tables lack.
    """
    columns: dict[str, str] = _facts()["columns"]
    if str(au) not in columns:
        raise ConfigError(f"expected one of the units {', '.join(columns)}; got {au}")
    return columns[str(au)]


@cache
def spec(name: str) -> Spec:
    """What `labels.toml` says of a data set.

    Raises:
        ConfigError: no such data set.
    """
    if name not in NAMES:
        raise ConfigError(f"expected the data set {', '.join(NAMES)}; got {name!r}")
    facts = _facts()[name]
    aus = tuple(facts["aus"])
    return Spec(
        name=name, title=facts["title"], aus=aus, columns=tuple(column(a) for a in aus),
        label_scale=facts["label_scale"], prediction_scale=facts["prediction_scale"],
        tolerance_frames=facts["tolerance_frames"], mark=facts["mark"], subjects=tuple(facts["subjects"]),
        parts=tuple(
            Part(p["name"], tuple(p["subjects"]), p.get("main", False)) for p in facts.get("parts", [])
        ),
        published=tuple(_published(p) for p in facts.get("published", [])),
    )  # fmt: skip


def _published(row: dict[str, Any]) -> Published:
    keys = {"icc": "icc", "mae": "mae", "mse": "mse", "pearson": "r"}
    values = {short: tuple(row[key]) for key, short in keys.items() if key in row}
    means = {short: row[f"{key}_mean"] for key, short in keys.items() if f"{key}_mean" in row}
    return Published(row["name"], row["note"], row["source"], values, means)


def plain(name: str) -> str:
    """A name without case, blanks and signs: copies of a data set differ in these."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, hidden names left out; nothing where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def child(folder: Path, *names: str) -> Path | None:
    """The entry of a folder with one of these names, signs and case aside."""
    wanted = {plain(n) for n in names}
    return next((p for p in entries(folder) if plain(p.name) in wanted), None)


def needed(folder: Path, *names: str) -> Path:
    """As `child`.

    Raises:
        InputError: there is none; names the patterns that were tried.
    """
    found = child(folder, *names)
    if found is None:
        tried = " or ".join(printable(folder / n) for n in names)
        raise InputError(f"expected {tried}; there is none; check --root and the data set's layout")
    return found


def check_root(root: Path) -> None:
    """Raise InputError unless the root is a folder."""
    if not root.is_dir():
        raise InputError(f"expected a folder; {printable(root)} is none; name the data set with --root")


def once(found: dict[Any, Path], key: Any, path: Path) -> None:
    """Keep `path` under `key`.

    Raises:
        InputError: there is another one already.
    """
    if key in found:
        raise InputError(
            f"expected one of {printable(found[key])} and {printable(path)}, which bear the same name; found "
            "both; move one elsewhere"
        )
    found[key] = path


def strangers(paths: list[Path]) -> list[str]:
    """A note of what is left out because its name is not understood, or none."""
    if not paths:
        return []
    shown = ", ".join(printable(p) for p in paths[:SHOWN])
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return [f"left out, since the layout has no such name: {shown}{more}"]


def numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Pictures of a folder by the number that the first group of `pattern` finds in their stem.

    Raises:
        InputError: two pictures with one number.
    """
    out: dict[int, Path] = {}
    for path in entries(folder):
        match = re.fullmatch(pattern, path.stem, re.IGNORECASE)
        if path.suffix.lower() not in SUFFIXES or not match:
            continue
        number = int(match[1])
        if number in out:
            raise InputError(
                f"expected one picture per frame; {printable(out[number])} and {printable(path)} are both "
                f"frame {number}; remove one"
            )
        out[number] = path
    return out


@dataclass(frozen=True)
class Pairs:
    """A label file: `frames` `(N,)`, `values` `(N,)`, and the line of the first."""

    path: Path
    frames: I64
    values: F64
    first_line: int

    def line(self, index: int) -> int:
        return self.first_line + index


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, blank ones at its end left out.

    Raises:
        InputError: a file that is missing, unreadable or empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").rstrip().splitlines()
    except OSError as error:
        raise InputError(
            f"expected the label file {printable(path)}; {error.strerror}; copy it from the data set"
        ) from None
    if not lines:
        raise InputError(f"expected labels in {printable(path)}; the file is empty; copy it again")
    return lines


def read_pairs(path: Path, *, unknown: float | None = None, header: bool = False) -> Pairs:
    """A file of lines `frame,intensity`.

    Args:
        path: of the file.
        unknown: value that means "not coded" and becomes NaN.
        header: whether the first line may be column titles.

    Raises:
        InputError: names file and line of what is not a frame number and an intensity of 0 to 5, and of
            frame numbers that do not rise.
    """
    lines = lines_of(path)
    skip = int(header and _numbers(lines[0]) is None)
    frames, values = _columns(path, lines[skip:], 1 + skip)
    ok = (values >= 0) & (values <= 5)
    if unknown is not None:
        ok |= values == unknown
    if not ok.all():
        i = int(np.flatnonzero(~ok)[0])
        raise InputError(
            f"expected an intensity of 0 to 5{'' if unknown is None else f', or {unknown:g} for not coded'} "
            f"in {printable(path)}, line {i + 1 + skip}; got {values[i]:g}; correct the file"
        )
    rising = np.diff(frames) > 0
    if not rising.all():
        i = int(np.flatnonzero(~rising)[0]) + 1
        raise InputError(
            f"expected rising frame numbers in {printable(path)}, line {i + 1 + skip}; got {frames[i]:g} "
            f"after {frames[i - 1]:g}; correct the file"
        )
    if unknown is not None:
        values = np.where(values == unknown, np.nan, values)
    return Pairs(path, frames.astype(np.int64), values, 1 + skip)


def _columns(path: Path, lines: list[str], first: int) -> tuple[F64, F64]:
    """Both columns; the lines are looked at singly only where something is wrong with one."""
    try:
        table = np.loadtxt(lines, delimiter=",", ndmin=2, comments=None)
    except ValueError:
        table = np.zeros((0, 0))
    whole = table.shape == (len(lines), 2) and np.isfinite(table).all()
    if whole and (table[:, 0] == np.floor(table[:, 0])).all() and (table[:, 0] >= 0).all():
        return table[:, 0], table[:, 1]
    for i, line in enumerate(lines):
        numbers = _numbers(line)
        if numbers is None or numbers[0] < 0 or numbers[0] != int(numbers[0]):
            raise InputError(
                f"expected a frame number and an intensity, as in 1,0, in {printable(path)}, line "
                f"{first + i}; got {line.strip()[:40]!r}; correct the file"
            )
    table = np.array([_numbers(line) for line in lines], np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _numbers(line: str) -> tuple[float, float] | None:
    """Two finite numbers separated by a comma, semicolon, tab or blanks."""
    words = re.split(r"[,;\s]+", line.strip())
    try:
        frame, value = (float(w) for w in words)
    except ValueError:
        return None
    return (frame, value) if np.isfinite([frame, value]).all() else None


def same_frames(files: list[Pairs]) -> None:
    """Check that the label files of one recording speak of the same frames.

    Raises:
        InputError: names the file and the line where two of them part.
    """
    first = files[0]
    for other in files[1:]:
        n = min(len(first.frames), len(other.frames))
        differ = np.flatnonzero(first.frames[:n] != other.frames[:n])
        if not len(differ) and len(first.frames) == len(other.frames):
            continue
        i = int(differ[0]) if len(differ) else n
        raise InputError(
            f"expected the same frames in {printable(first.path)} ({len(first.frames)}) and "
            f"{printable(other.path)} ({len(other.frames)}); they part at line {other.line(i)} of the "
            "latter; copy both again"
        )
