"""Tables to disk: CSV, Parquet or JSON lines, and beside each the JSON file that says what made it.

The CSV text, four decimals, defines the values; the other formats are made from it, so that all three
hold the same numbers. Columns have a version of their own, `VERSION`: it grows when a column is renamed
or changes meaning.
"""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from faceunits import __version__
from faceunits.errors import ConfigError, InputError
from faceunits.io.files import check_folder, printable, replacing

VERSION = 1

SCALE = "0-5 = 5 x parameter, linear, uncalibrated"

POSE = "degrees; pitch + nose down, yaw + towards the subject's left, roll + clockwise in the image"

DECIMALS = 4
"""Of every number in a table."""

ENDINGS = (".csv", ".parquet", ".jsonl")
"""Of table names; the ending chooses the format."""

COLUMNS = (
    "input", "frame", "face_id", "timestamp", "confidence", "success", "reason",
    "face_x", "face_y", "face_w", "face_h", "pose_pitch_deg", "pose_yaw_deg", "pose_roll_deg",
)  # fmt: skip
"""Columns of a table of faces before those of the action units; names of OpenFace where it has one."""

TEXT = ("input", "reason")
WHOLE = ("frame", "face_id", "success")
"""Which of `COLUMNS` hold text and which whole numbers; all others hold decimals."""

UNIT = re.compile(r"AU\d\d(_[LR])?_r")
"""Names of the columns of action units, intensities 0-5."""
_CHUNK = 5000
"""Rows converted at a time: some 3 MB with the columns of all action units."""

_PACKAGES = ("torch", "numpy", "av", "numba", "pandas", "pillow", "safetensors")


def text(table: pd.DataFrame) -> str:
    """The table as CSV: four decimals, undefined values empty."""
    return str(table.to_csv(index=False, float_format=f"%.{DECIMALS}f", lineterminator="\n"))


def write(path: str | os.PathLike[str], table: pd.DataFrame, *, about: Mapping[str, Any]) -> Path:
    """Write the table, and `about` as JSON beside it, each whole or not at all.

    Args:
        path: ends in `.csv`, `.parquet` or `.jsonl`; the JSON file has the same name ending in `.json`.
        table: what `estimate` returns.
        about: what `describe` returns.

    Returns:
        Path of the JSON file.

    Raises:
        InputError: another ending, or a place that cannot be written to.
        ConfigError: `.parquet` without the extra that writes it.
    """
    path = Path(path)
    check(path)
    sidecar = path.with_suffix(".json")
    # The JSON file first: a table without its description would be the worse half to have.
    write_json(sidecar, about)
    if path.suffix.lower() == ".csv":
        with replacing(path) as temporary:
            temporary.write_text(text(table), encoding="utf-8", newline="")
    else:
        kinds = {str(name): _kind(str(name), table[name]) for name in table}
        _convert(io.StringIO(text(table)), path, kinds)
    return sidecar


def finish(
    part: str | os.PathLike[str], path: str | os.PathLike[str], *, about: Mapping[str, Any] | None = None
) -> Path:
    """Make a table of faces from the CSV file that a long run has written row by row.

    The table is there whole or not at all; memory stays constant in its length. The part file is gone
    afterwards: renamed where the table is CSV too, else removed. It stays when anything fails.

    Args:
        part: CSV as `text` writes it, with a header.
        path: ends in `.csv`, `.parquet` or `.jsonl`.
        about: what `describe` returns, to be written as JSON beside the table; None leaves that file alone.

    Returns:
        Path of the JSON file.

    Raises:
        InputError: no such part file, a damaged one, another ending, or a place that cannot be written to.
        ConfigError: `.parquet` without the extra that writes it.
    """
    part, path = Path(part), Path(path)
    check(path)
    if not part.is_file():
        raise InputError(f"expected rows in {printable(part)}; there is no such file; start the run again")
    if path.is_dir():
        raise InputError(
            f"expected the name of a table to write; {printable(path)} is a folder; add a file name"
        )
    sidecar = path.with_suffix(".json")
    if about is not None:
        write_json(sidecar, about)
    if path.suffix.lower() == ".csv":
        _move(part, path)
    else:
        _convert(part, path, {name: _kind(name) for name in _header(part)})
        part.unlink()
    return sidecar


def check(path: str | os.PathLike[str]) -> None:
    """Refuse, before the work begins, a table name that `write` would refuse after it.

    Raises:
        InputError: an ending not in `ENDINGS`, or a folder that is not there or not writable.
        ConfigError: `.parquet` without the extra that writes it.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise InputError(
            f"expected a table name ending in .csv, .parquet or .jsonl; got {printable(path)}; "
            "change the ending"
        )
    if path.suffix.lower() == ".parquet":
        arrow(path)
    check_folder(path)


def arrow(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`, which are an optional extra.

    Raises:
        ConfigError: they are not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigError(
            f"expected pyarrow, which {printable(path)} needs; it is not installed; "
            "pip install 'faceunits[parquet]', or name the table .csv"
        ) from error


def _kind(name: str, column: pd.Series[Any] | None = None) -> str:
    """Type of a column: by its name in a table of faces, else by what it holds.

    The name comes first because the columns of an empty table, or of one chunk, hold nothing to go by.
    """
    if name in TEXT:
        return "str"
    if name in WHOLE:
        return "int64"
    if column is None or name in COLUMNS or UNIT.fullmatch(name):
        return "float64"
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return "str"
    return "int64" if pd.api.types.is_integer_dtype(column) else "float64"


def _header(part: Path) -> list[str]:
    try:
        return [str(name) for name in pd.read_csv(part, nrows=0, encoding="utf-8").columns]
    except ValueError as error:
        raise _damaged(part, error) from error


def _convert(source: Path | TextIO, path: Path, kinds: Mapping[str, str]) -> None:
    """CSV to the format that the ending of `path` names, chunk by chunk."""
    chunks = _chunks(source, kinds)
    with replacing(path) as temporary:
        try:
            if path.suffix.lower() == ".parquet":
                _write_parquet(chunks, temporary, kinds)
            else:
                _write_lines(chunks, temporary)
        except ValueError as error:  # pandas: broken rows, text where numbers belong, bytes not UTF-8
            raise _damaged(source, error) from error


def _chunks(source: Path | TextIO, kinds: Mapping[str, str]) -> Iterator[pd.DataFrame]:
    # An empty cell of text is an empty text, and a file may be called NA: only numbers can be missing.
    missing = {name: [""] for name, kind in kinds.items() if kind != "str"}
    with pd.read_csv(
        source,
        dtype=dict(kinds),
        keep_default_na=False,
        na_values=missing,
        chunksize=_CHUNK,
        encoding="utf-8",
    ) as reader:
        for chunk in reader:
            yield chunk.round(DECIMALS)  # older pandas miss the nearest number by its last bit


def _write_parquet(chunks: Iterable[pd.DataFrame], path: Path, kinds: Mapping[str, str]) -> None:
    pyarrow, parquet = arrow(path)
    types = {"str": pyarrow.string(), "int64": pyarrow.int64(), "float64": pyarrow.float64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    # An open file, since pyarrow refuses folder names that are not UTF-8.
    with path.open("wb") as file, parquet.ParquetWriter(file, schema) as writer:
        for chunk in chunks:
            writer.write_table(pyarrow.Table.from_pandas(chunk, schema=schema, preserve_index=False))


def _write_lines(chunks: Iterable[pd.DataFrame], path: Path) -> None:
    """One object per row; undefined values are null, since JSON has no NaN."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for chunk in chunks:
            for row in chunk.to_dict("records"):
                values = {name: None if value != value else value for name, value in row.items()}
                file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def _move(part: Path, path: Path) -> None:
    """Rename; copy where the two lie on different disks."""
    try:
        os.replace(part, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            reason = error.strerror or str(error)
            raise InputError(
                f"cannot write {printable(path)} ({reason}); the rows are in {printable(part)}"
            ) from error
        with replacing(path) as temporary:
            shutil.copyfile(part, temporary)
        part.unlink()


def _damaged(source: Path | TextIO, error: ValueError) -> InputError:
    where = printable(source) if isinstance(source, Path) else "the table"
    reason = " ".join(str(error).split())
    return InputError(f"expected whole rows of CSV in {where}; {reason}; delete it and start the run again")


def write_json(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Write values as indented JSON, whole or not at all.

    Raises:
        InputError: a place that cannot be written to.
    """
    content = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def describe(*, weights: Mapping[str, Mapping[str, str]], options: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader of the table needs to know of its making; no time stamp, so that runs compare equal.

    Args:
        weights: for each network `file` and `sha256`.
        options: as given to `estimate`.
    """
    return {
        "table_version": VERSION,
        "scale": SCALE,
        "sides": "L and R are the subject's; AUnn_r of a two-sided unit is the larger side",
        "pose": POSE,
        "box": "pixels of the photo turned upright by its EXIF orientation; x, y is the upper left corner",
        "versions": versions(),
        "weights": {name: dict(values) for name, values in weights.items()},
        "options": dict(options),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    out = {"faceunits": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:  # some systems install a package without its metadata
            out[name] = "not installed"
    return out
