"""Reads a clip with faceunits, all action units in every frame; one process, measured by its parent.

python worker_faceunits.py CLIP ENGINE
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure

AGAIN = 50
"""Frames after which faces are looked for anew, as `faceunits.streaming` would."""


def rows(clip: Path, name: str) -> Iterator[dict[str, Any]]:
    """A row per frame: the crop follows the last frame's landmarks, found anew when lost."""
    import numpy as np

    from faceunits import aus, engine, fitting
    from faceunits.alignment import warp
    from faceunits.alignment.detect import Detector
    from faceunits.io import video
    from faceunits.rig.shape import five_points

    models = fitting.load(device="cpu")
    read, detect, size = engine.choose(models, name), Detector(), models.crop_size
    points = None
    for frame in video.frames(clip):
        row: dict[str, Any] = {"frame": frame.number, "timestamp": frame.time_s, "success": 0}
        if points is None or frame.number % AGAIN == 1:
            faces = detect(frame.picture)
            points = faces[0].points[None] if faces else None
        if points is None:
            yield row
            continue
        matrix = warp.similarity(points, size)
        reading = read(warp.crop(frame.picture, matrix[0], size)[None])
        found = warp.apply(warp.invert(matrix), reading.landmarks)
        points = five_points(found[0].astype(np.float32))[None]
        columns = aus.columns(reading.names, reading.au, reading.lip_gap)
        row |= {name: float(values[0]) for name, values in columns.items()}
        yield row | {"success": 1}


def main(clip: str, name: str) -> None:
    watch, found = measure.Stopwatch(), 0
    for row in rows(Path(clip), name):
        found += row["success"]
        watch.row()
    watch.report(found=found)


if __name__ == "__main__":
    main(*sys.argv[1:])
