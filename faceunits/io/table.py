"""Tables to disk: the CSV file, and beside it the JSON file that says what made it.

Columns have a version of their own, `VERSION`: it grows when a column is renamed or changes meaning.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from faceunits import __version__
from faceunits.errors import InputError
from faceunits.io.files import printable, replacing

VERSION = 1

SCALE = "0-5 = 5 x parameter, linear, uncalibrated"

_PACKAGES = ("torch", "numpy", "numba", "pandas", "pillow", "safetensors")


def text(table: pd.DataFrame) -> str:
    """The table as CSV: four decimals, undefined values empty."""
    return str(table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


def write(path: str | os.PathLike[str], table: pd.DataFrame, *, about: Mapping[str, Any]) -> Path:
    """Write the table as CSV and `about` as JSON beside it, each whole or not at all.

    Args:
        path: ends in `.csv`; the JSON file has the same name ending in `.json`.
        table: what `estimate` returns.
        about: what `describe` returns.

    Returns:
        Path of the JSON file.

    Raises:
        InputError: another ending, or a place that cannot be written to.
    """
    path = Path(path)
    check(path)
    sidecar = path.with_suffix(".json")
    # The JSON file first: a table without its description would be the worse half to have.
    write_json(sidecar, about)
    with replacing(path) as temporary:
        temporary.write_text(text(table), encoding="utf-8", newline="")
    return sidecar


def check(path: str | os.PathLike[str]) -> None:
    """Refuse, before the work begins, a table name that `write` would refuse after it.

    Raises:
        InputError: an ending other than `.csv`, or a folder that is not there or not writable.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise InputError(f"expected a table name ending in .csv; got {printable(path)}; change the ending")
    check_folder(path)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise InputError if a file cannot be made where `path` is to be written."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise InputError(f"cannot write {printable(path)}: its folder does not exist; make the folder first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {printable(path)}: its folder is write-protected; choose another")


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
        "pose": "degrees; pitch + nose down, yaw + towards the subject's left, roll + clockwise in the image",
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
