"""Who is in the photos: people and their groups from a file, and the rows of a table that show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from faceunits.errors import ConfigError, InputError
from faceunits.io.files import printable

EDGES = (25.0, 35.0, 45.0)
"""Ages are told in bands that begin at these."""


def read(path: str | Path, by: Sequence[str], *, edges: Sequence[float] = EDGES) -> pd.DataFrame:
    """People by `id` with the columns `by` as text; numbers become bands.

    Args:
        path: CSV with `id` (or its first column) and the columns `by`; lines that begin with # are skipped.
        by: columns.
        edges: first values of the bands of a column of numbers.

    Raises:
        InputError: no such file, a missing column, or an id given twice.
    """
    try:
        table = pd.read_csv(path, comment="#", dtype=str)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the people of {printable(path)} ({error}); name a CSV file") from None
    missing = [c for c in by if c not in table]
    if missing or not len(table.columns):
        raise InputError(
            f"expected the columns {', '.join(by)} in {printable(path)}; got {', '.join(table.columns)}; "
            "choose others with --by"
        )
    key = "id" if "id" in table else table.columns[0]
    twice = table[key][table[key].duplicated()]
    if len(twice):
        raise InputError(f"expected each person once in {printable(path)}; {twice.iloc[0]} comes twice")
    out = table.set_index(key)[list(by)]
    for name in by:
        numbers = pd.to_numeric(out[name], errors="coerce")
        if numbers.notna().any() and numbers.isna().equals(out[name].isna()):
            out[name] = [band(v, edges) for v in numbers]
    return out.astype(object).where(out.notna(), None)


def read_labels(path: str | Path) -> pd.DataFrame:
    """Labels of smiles by person's id, as in `contrast_labels.csv`: `AU12`, `AU6`, `AU25`, 0 or 1, and
    `AU12_intensity`, 0 to 5; empty where nobody labelled them.

    Raises:
        InputError: a file that cannot be read, or without `id` and at least one of the three; names the line
            of another label, and of a person labelled twice.
    """
    try:
        table = pd.read_csv(path, comment="#", dtype={"id": str})
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the labels {printable(path)} ({error}); name a CSV file") from None
    if "id" not in table or not {"AU12", "AU6", "AU25"} & set(table):
        raise InputError(
            f"expected the columns id and AU12, AU6 or AU25 in {printable(path)}; got "
            f"{', '.join(map(str, table))}"
        )
    twice = table["id"].duplicated()
    if twice.any():
        i = int(np.flatnonzero(twice)[0])
        raise InputError(
            f"expected each person once in {printable(path)}, line {_line(path, i)}; {table['id'].iloc[i]} "
            "has labels already; remove one line"
        )
    allowed = dict.fromkeys(("AU12", "AU6", "AU25"), "0, 1") | {"AU12_intensity": "0 to 5"}
    for name in [n for n in allowed if n in table]:
        numbers = pd.to_numeric(table[name], errors="coerce")
        fits = numbers.between(0, 5) if name == "AU12_intensity" else numbers.isin((0, 1))
        wrong = table[name].notna() & ~fits
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"expected {allowed[name]} or nothing as {name} in {printable(path)}, line "
                f"{_line(path, i)}; got {str(table[name].iloc[i])!r}; correct the file"
            )
        table[name] = numbers
    return table.set_index("id")


def _line(path: str | Path, row: int) -> int:
    """Line of a CSV's row, counted from 1: comments and empty lines are none of its rows."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [n for n, text in enumerate(lines, 1) if text.strip() and not text.lstrip().startswith("#")]
    return kept[row + 1]


def band(value: float, edges: Sequence[float]) -> str | None:
    """`< 25`, `25-34`, ..., `45 +`; None for a value that is not given."""
    if not np.isfinite(value):
        return None
    place = int(np.searchsorted(edges, value, side="right"))
    if place == 0:
        return f"< {edges[0]:g}"
    return f"{edges[-1]:g} +" if place == len(edges) else f"{edges[place - 1]:g}-{edges[place] - 1:g}"


def rows_of(table: pd.DataFrame, known: pd.Index) -> pd.DataFrame:
    """The table's best row of each photo with `person` and `kind`, the name of the photo's folder.

    The person is the column `subject` where there is one, else the photo's name without its ending, or the
    part of it before the first `_` or `-` if only that is known. `attrs["strangers"]` counts the rows that
    are left out since their person is not known.

    Raises:
        InputError: no row of a known person.
    """
    if "subject" not in table and "input" not in table:
        raise InputError("expected a column input or subject in the table; got neither; name another table")
    rows = table
    if "face_id" in rows:  # face 0 is the largest, the subject of a portrait
        rows = rows[rows["face_id"] <= 0]
    inputs = (
        rows["input"].astype(str).str.replace("\\", "/")
        if "input" in rows
        else pd.Series("", index=rows.index)
    )
    stems = inputs.str.split("/").str[-1].str.replace(r"\.[A-Za-z0-9]+$", "", regex=True)
    names = rows["subject"].astype(str) if "subject" in rows else stems
    short = names.str.split(r"[_-]", regex=True).str[0]
    person = names.where(names.isin(known), short)
    kind = [("/" + text).split("/")[-2] for text in inputs]
    out = rows.assign(person=person, kind=kind)
    out = out[out["person"].isin(known)].reset_index(drop=True)
    out.attrs["strangers"] = len(rows) - len(out)
    if out.empty:
        raise InputError(
            f"expected photos named after people such as {known[0]}; got "
            f"{names.iloc[0] if len(names) else 'no rows'}; "
            "name the photos after the ids, or add a column subject"
        )
    return out


def parse_edges(text: str) -> tuple[float, ...]:
    """`25,35,45` as numbers.

    Raises:
        ConfigError: not rising numbers.
    """
    try:
        edges = tuple(float(part) for part in text.split(","))
    except ValueError:
        edges = ()
    if not edges or list(edges) != sorted(set(edges)):
        raise ConfigError(f"expected rising numbers such as 25,35,45; got {text!r}; correct --bands")
    return edges
