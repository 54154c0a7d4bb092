"""Reads a clip with faceunits, all action units in every frame; one process, measured by its parent.

python worker_faceunits.py CLIP ENGINE
"""

from __future__ import annotations

import sys
from pathlib import Path

import measure


def main(clip: str, name: str) -> None:
    watch, found = measure.Stopwatch(), 0
    from faceunits import streaming

    for table in streaming.stream(Path(clip), engine=name, device="cpu"):
        found += int(table["success"].sum())
        watch.row(len(table))  # all at once: a row counts when it is there
    watch.report(found=found)


if __name__ == "__main__":
    main(*sys.argv[1:])
