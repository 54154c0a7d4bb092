"""From our scale to a coder's, unit by unit, fitted on the labels of named subjects.

`affine`: a x + b by least squares, a never below 0, held within 0-5. `monotone`: the rising steps nearest
to the labels (pool-adjacent-violators), straight between them. Either is a separate, named object: nothing
that faceunits estimates is calibrated, and a score counts only on people other than those it was fitted on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits.aus import MAX_INTENSITY
from faceunits.errors import ConfigError, InputError
from faceunits.evaluation.datasets import records
from faceunits.evaluation.scores import Pairing
from faceunits.io.files import printable

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

KINDS = ("affine", "monotone")


@dataclass(frozen=True)
class Calibration:
    """Per unit a curve through knots: `curves[i]` is `(2, K)`, our 0-5 and the coder's.

    A unit without labels keeps its own scale.
    """

    kind: str
    aus: tuple[int, ...]
    curves: tuple[F64, ...]
    subjects: tuple[str, ...]

    def apply(self, predicted: NDArray[np.floating]) -> F32:
        """`(N, A)` on the coder's scale; NaN stays NaN."""
        out = np.empty(predicted.shape, np.float32)
        for k, (x, y) in enumerate(self.curves):
            if self.kind == "affine":
                slope = (y[1] - y[0]) / (x[1] - x[0])
                # few labels and a unit that hardly moves make a steep line: a coder's scale ends at 5
                out[:, k] = np.clip(y[0] + slope * (predicted[:, k] - x[0]), 0, MAX_INTENSITY)
            else:
                out[:, k] = np.interp(predicted[:, k], x, y)
        return out

    def values(self) -> dict[str, Any]:
        """For JSON."""
        knots = {f"AU{a:02d}": np.round(c, 5).tolist() for a, c in zip(self.aus, self.curves, strict=True)}
        return {"kind": self.kind, "fitted on": list(self.subjects), "ours, coder's": knots}


def check_kind(kind: str) -> None:
    """Raise ConfigError for a kind that is not in `KINDS`."""
    if kind not in KINDS:
        raise ConfigError(f"expected the calibration {' or '.join(KINDS)}; got {kind!r}")


def fit(pairing: Pairing, kind: str = "affine") -> Calibration:
    """The calibration that these labels and predictions suggest.

    Raises:
        ConfigError: an unknown kind.
    """
    check_kind(kind)
    curves = []
    for t, p in zip(pairing.truth.T.astype(np.float64), pairing.predicted.T.astype(np.float64), strict=True):
        valid = ~(np.isnan(t) | np.isnan(p))
        if not valid.any():
            curves.append(np.array([[0.0, 5.0], [0.0, 5.0]]))
        elif kind == "affine":
            curves.append(_affine(p[valid], t[valid]))
        else:
            curves.append(monotone(p[valid], t[valid]))
    return Calibration(kind, pairing.aus, tuple(curves), pairing.subjects)


def _affine(x: F64, y: F64) -> F64:
    spread = x.var()
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).mean() / spread)) if spread > 1e-12 else 0.0
    ends = np.array([0.0, 5.0])
    return np.stack([ends, y.mean() + slope * (ends - x.mean())])


def monotone(x: F64, y: F64) -> F64:
    """Knots `(2, K)` of the rising function nearest to the points, in least squares.

    Source: pool-adjacent-violators, Barlow et al. 1972.
    """
    places, inverse, weights = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, y) / weights
    blocks: list[tuple[float, float, float, float]] = []  # mean, weight, first and last place
    for place, mean, weight in zip(places.tolist(), means.tolist(), weights.tolist(), strict=True):
        first = place
        while blocks and blocks[-1][0] >= mean:
            before = blocks.pop()
            mean = (before[0] * before[1] + mean * weight) / (before[1] + weight)
            weight, first = weight + before[1], before[2]
        blocks.append((mean, weight, first, place))
    knots = [(end, mean) for mean, _, first, last in blocks for end in dict.fromkeys((first, last))]
    return np.array(knots).T


def subjects_of(path: str | os.PathLike[str], known: list[str]) -> list[str]:
    """Subjects named in a text file, one a line; what follows # is a comment.

    Raises:
        InputError: names file and line of a subject that the data set lacks; a file that names nobody, or
            everybody.
    """
    file = Path(path)
    names: dict[str, None] = {}
    plain = {records.plain(k): k for k in known}
    for number, line in enumerate(records.lines_of(file), 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        if records.plain(text) not in plain:
            raise InputError(
                f"expected one of the subjects {', '.join(known[:3])}, ... in {printable(file)}, line "
                f"{number}; got {text!r}; correct the file"
            )
        names[plain[records.plain(text)]] = None
    if not names or len(names) == len(known):
        raise InputError(
            f"expected some of the {len(known)} subjects in {printable(file)}, and others to score; it names "
            f"{len(names)}; change the file"
        )
    return list(names)
