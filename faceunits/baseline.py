"""A person's own neutral, taken off their values: what is left is what they do beyond how they look at rest.

Never done silently: the table as measured stays as it is, and a second one is written beside it, whose
description names the neutral and its values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from faceunits import aus, estimation
from faceunits.errors import InputError
from faceunits.io import readers
from faceunits.io.files import printable
from faceunits.io.table import UNIT

AUTO = "auto"
QUIET = 0.1
"""`auto` takes the value that a unit is below in this share of a person's rows."""
LEAST_ROWS = 10
"""Fewer rows of a person do not tell how they look at rest."""
TABLES = (".csv", ".parquet", ".jsonl")


def of_file(path: str | Path) -> dict[str, float]:
    """Values 0-5 by column of the neutral in a photo (its largest face) or a table (mean of its faces).

    Raises:
        InputError: no such file, or one without a face.
    """
    source = Path(path)
    if source.suffix.lower() in TABLES:
        table = readers.read_table(source)
    else:
        table = estimation.estimate(source)
        table = table[table["face_id"] == 0]
    table = table[table["success"] == 1]
    if table.empty:
        raise InputError(f"expected a neutral face in {printable(source)}; found none; name another")
    return {name: float(table[name].mean()) for name in units(table)}


def units(table: pd.DataFrame) -> list[str]:
    """Columns with intensities, such as AU12_r and AU12_L_r."""
    return [name for name in map(str, table) if UNIT.fullmatch(name)]


def take_off(
    table: pd.DataFrame, neutral: dict[str, float] | str = AUTO
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table with a neutral taken off, never below 0; a two-sided unit is again its larger side.

    Args:
        table: of `estimate`; left as it is.
        neutral: values by column, for every row; or `auto`: each person (`face_id`) of each input by the
            tenth percentile of their own rows. People with fewer than ten keep their values.

    Returns:
        The new table, and what was taken off by person, with the people who kept their values.
    """
    out, names = table.copy(), units(table)
    taken: dict[str, dict[str, float]] = {}
    kept: list[str] = []
    if neutral != AUTO:
        assert isinstance(neutral, dict)
        groups = [("all", out.index)]
    else:
        groups = [(f"{key[0]}, face {key[1]}", part.index) for key, part in out.groupby(["input", "face_id"])]
    for person, rows in groups:
        seen = out.loc[rows]
        seen = seen[seen["success"] == 1]
        if isinstance(neutral, dict):
            base = {n: neutral.get(n, 0.0) for n in names}
        elif len(seen) < LEAST_ROWS:
            kept += [person] if len(seen) else []
            continue
        else:
            base = {n: float(seen[n].quantile(QUIET)) for n in names}
        taken[person] = {n: round(v, 4) for n, v in base.items()}
        values = out.loc[rows, names] - pd.Series(base)
        out.loc[rows, names] = values.clip(0, aus.MAX_INTENSITY)
    for name in names:
        sides = [name.replace("_r", f"_{side}_r") for side in "LR"]
        if all(side in names for side in sides):
            out[name] = np.fmax(out[sides[0]], out[sides[1]])
    return out, {"taken_off": taken, "kept_as_measured": kept}
