"""Faces of a video fitted anew: the photo beside the face that the model makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from faceunits import aus
from faceunits.reporting.aligning import align
from faceunits.reporting.sources import Progress, row_of, value
from faceunits.types import Face
from faceunits.viz import overlay
from faceunits.viz.report.courses import POSE, Course, Recording, units
from faceunits.viz.report.sections import Evidence

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

_CANDIDATES = 1000
_UNITS_COMPARED = 6
_PANELS = ("photo", "aligned crop, landmarks", "fitted face", "residual (bright = large)")


def spread(recording: Recording, courses: Sequence[Course], count: int) -> Iterator[tuple[Course, list[int]]]:
    """Places worth a fit: of the longest courses, frames as different as can be, the liveliest among them.

    Args:
        recording: that has the courses.
        courses: to choose from.
        count: of places, in all.
    """
    ranked = sorted(courses, key=lambda c: -len(c.at))[:count]
    columns = [i for i, name in enumerate(recording.series) if len(name) == len("AU12_r")]
    for i, course in enumerate(ranked):
        share = count // len(ranked) + (i < count % len(ranked))
        some = np.unique(np.linspace(0, len(course.at) - 1, _CANDIDATES).astype(int))
        some = some[np.isfinite(course.box[some]).all(1)]
        if not len(some):
            continue
        values = np.nan_to_num(course.values[np.ix_(some, columns)])
        chosen = [int(values.sum(1).argmax())]
        distance = np.linalg.norm(values - values[chosen[0]], axis=1)
        while len(chosen) < share and distance.max() > 0:
            chosen.append(int(distance.argmax()))
            distance = np.minimum(distance, np.linalg.norm(values - values[chosen[-1]], axis=1))
        yield course, sorted(int(course.at[some[j]]) for j in chosen)


def fit(
    index: int,
    recording: Recording,
    chosen: Sequence[tuple[Course, int]],
    regions: Mapping[tuple[int, int], tuple[U8, F32]],
    device: str,
    progress: Progress | None,
) -> list[Evidence]:
    """The chosen faces fitted anew; one whose crop cannot be found is left out.

    Args:
        index: place of the recording among those of the page.
        recording: that has the courses.
        chosen: course and place.
        regions: part of the picture and box in it, by face and place.
        device: `auto`, `cpu`, `cuda`, ...
        progress: called after each face.
    """
    from faceunits import estimation, fitting
    from faceunits.rig.shape import five_points

    out = []
    for done, (course, place) in enumerate(chosen, 1):
        networks = estimation.models(device)
        region, box = regions[course.face_id, place]
        row = row_of(course, place)
        [aligned] = align(region, [(box, value(recording, course, row, POSE[2]))], networks)
        if aligned is not None:
            result = fitting.fit(aligned.crop[None], networks)
            confidence = float(result.confidence[0])
            face = Face(box, five_points(aligned.landmarks).astype(np.float32), confidence)
            panels = overlay.panels(region, face, aligned.crop, result, 0)
            pictures = {name: panels[name] for name in _PANELS}
            fitted = {k: float(v[0]) for k, v in aus.columns(result.names, result.au, result.lip_gap).items()}
            pairs = _strongest(
                (unit, value(recording, course, row, unit + "_r"), fitted[unit + "_r"])
                for unit in units(recording.series)
                if unit + "_r" in fitted
            )
            out.append(Evidence((index, course.face_id), place, pictures, pairs, confidence))
        if progress:
            progress(done, len(chosen), "fits")
    return out


def _strongest(pairs: Iterator[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    ranked = sorted(pairs, key=lambda p: -float(np.nanmax([p[1], p[2], 0])))
    return sorted(ranked[:_UNITS_COMPARED])
