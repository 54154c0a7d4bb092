"""Reads a clip with faceunits, all action units in every frame; one process, measured by its parent.

python worker_faceunits.py CLIP ENGINE
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure


def rows(clip: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows that `estimate` would write, as they come."""
    from faceunits import streaming

    for table in streaming.stream(clip, engine=name, device="cpu"):
        yield from table.to_dict("records")


def main(clip: str, name: str) -> None:
    watch, found = measure.Stopwatch(), 0
    for row in rows(Path(clip), name):
        found += row["success"]
        watch.row()
    watch.report(found=found)


if __name__ == "__main__":
    main(*sys.argv[1:])
