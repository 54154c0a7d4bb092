"""A page of figures with its pictures and, beside it, its tables as CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits.evaluation.report import Report
from faceunits.io import image as images
from faceunits.io.files import replacing

U8 = NDArray[np.uint8]


def write(
    page: Report,
    folder: str | Path,
    name: str,
    *,
    pictures: Mapping[str, U8] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> list[Path]:
    """Write `name.md`, `name.json`, `name_PICTURE.png` and `name_TABLE.csv`; makes the folder.

    Args:
        page: figures and tables.
        folder: where.
        name: beginning of every file name.
        pictures: `(H, W, 3)` uint8 by title; shown at the end of the page, in order.
        tables: long tables by title, as CSV only.

    Raises:
        InputError: a place that cannot be written to.
    """
    markdown, values = page.write(folder, name)
    written = [markdown, values]
    shown = []
    for title, picture in (pictures or {}).items():
        path = Path(folder) / f"{name}_{_plain(title)}.png"
        images.write(path, picture)
        shown += ["", f"## {title}", "", f"![{title}]({path.name})"]
        written.append(path)
    for title, table in (tables or {}).items():
        path = Path(folder) / f"{name}_{_plain(title)}.csv"
        with replacing(path) as temporary:
            table.to_csv(temporary, index=False, float_format="%.5f", lineterminator="\n")
        written.append(path)
    if shown:
        with replacing(markdown) as temporary:
            temporary.write_text(page.markdown() + "\n".join(shown) + "\n", encoding="utf-8")
    return written


def _plain(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
