"""Readers of the official layouts of data sets that the user holds; nothing is shipped or fetched.

    root ─ reader ─► DataSet of Recordings (frames, labels, video or photos) ─ protocol ─► tables

Facts - units, columns, scales, splits, published rows - stand in `labels.toml`.
"""

from __future__ import annotations

import os
from pathlib import Path

from faceunits.errors import ConfigError
from faceunits.evaluation.datasets import ckplus, disfa, facewarehouse, fera2015, mmi
from faceunits.evaluation.datasets.records import NAMES, DataSet, Recording, Spec, column, spec

__all__ = ["NAMES", "DataSet", "Recording", "Spec", "column", "read", "spec"]

_READERS = {
    "disfa": disfa.read, "fera2015": fera2015.read, "ckplus": ckplus.read, "mmi": mmi.read,
    "facewarehouse": facewarehouse.read,
}  # fmt: skip


def read(name: str, root: str | os.PathLike[str], **options: object) -> DataSet:
    """A data set on disk.

    Args:
        name: one of `NAMES`.
        root: folder of the official layout.
        **options: `camera` (disfa: left or right), `peaks_only` (ckplus), `profiles` (mmi).

    Raises:
        ConfigError: an unknown name or option.
        InputError: another layout, a missing label file, or a label that cannot be: names file and line.
    """
    about = spec(name)
    try:
        data = _READERS[name](about, Path(root), **options)
    except TypeError as error:
        if "keyword argument" not in str(error):
            raise
        raise ConfigError(f"the data set {name} has no option {', '.join(options)}; leave it out") from None
    missing = sorted(set(about.subjects) - set(data.subjects))
    if missing:
        data.notes.append(
            f"{len(data.subjects)} of {len(about.subjects)} subjects are there; not: {', '.join(missing)}"
        )
    return data
