"""Labels beside predictions, and the rows of a table of scores.

A row is one way to look at the same frames: as measured, missing ones taken as 0, calibrated, or a
constant in place of the measurement, without which a small error says little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits.evaluation import metrics
from faceunits.evaluation.datasets.records import Published

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

MEAN = "mean"
MEASURED, BASELINE, PUBLISHED = "measured", "baseline", "published"

COLUMNS = (
    "row", "kind", "au", "n", "subjects", "missing", "nonzero",
    *(name + end for name in metrics.MEASURES for end in ("", "_low", "_high")), "note", "source",
)  # fmt: skip
"""Of a table of scores: one line per row and unit, then one for the mean over the units.

`n` pairs of label and prediction; `missing` labels without a prediction; `nonzero` share of the labels
above 0; `_low` and `_high` 95 % intervals by subject; errors in units of 0-5.
"""


@dataclass(frozen=True)
class Pairing:
    """Labels and predictions of the same frames.

    `truth` `(N, A)` 0-5, NaN where not coded; `predicted` `(N, A)` 0-5, NaN where there was no face;
    `subject` `(N,)` place in `subjects`; `aus` `(A,)` FACS numbers.
    """

    aus: tuple[int, ...]
    truth: F32
    predicted: F32
    subject: I64
    subjects: tuple[str, ...]

    def of(self, chosen: Sequence[str]) -> Pairing:
        """The frames of some subjects."""
        kept = [s for s in self.subjects if s in set(chosen)]
        place = {self.subjects.index(s): i for i, s in enumerate(kept)}
        renumbered = np.array([place.get(i, -1) for i in range(len(self.subjects))], np.int64)[self.subject]
        rows = renumbered >= 0
        return Pairing(self.aus, self.truth[rows], self.predicted[rows], renumbered[rows], tuple(kept))

    def showing(self, predicted: F32) -> Pairing:
        """The same labels beside other predictions."""
        return replace(self, predicted=predicted)

    @property
    def filled(self) -> F32:
        """`predicted` with 0 where there was no face."""
        return np.nan_to_num(self.predicted, nan=0.0)

    @property
    def clipped(self) -> F32:
        """`predicted` within 0-5."""
        return np.clip(self.predicted, 0, 5)

    @property
    def label_means(self) -> F32:
        """`(N, A)`: the mean of each unit's labels in place of every prediction."""
        known = ~np.isnan(self.truth)
        sums = np.where(known, self.truth, 0).sum(0, dtype=np.float64)
        means = (sums / np.maximum(known.sum(0), 1)).astype(np.float32)
        return np.broadcast_to(means, self.truth.shape)


def row(
    name: str, pairing: Pairing, *, kind: str = MEASURED, note: str = "", rounds: int = 1000
) -> pd.DataFrame:
    """Scores of each unit and their mean, with `COLUMNS`.

    Args:
        name: of the row.
        pairing: what is compared.
        kind: `MEASURED` or `BASELINE`.
        note: what a reader must know.
        rounds: of the bootstrap by subject; 0 for none.
    """
    known = ~np.isnan(pairing.truth)
    paired = known & ~np.isnan(pairing.predicted)
    parts = metrics.sums(pairing.truth, pairing.predicted, pairing.subject, len(pairing.subjects))
    scores = metrics.with_mean(metrics.agreement(parts.sum(0)))
    ends = metrics.intervals(parts, rounds=rounds) if rounds else {}
    labels = known.sum(0)
    nonzero = (np.nan_to_num(pairing.truth) > 0).sum(0) / np.maximum(labels, 1)
    units = [f"AU{a:02d}" for a in pairing.aus]
    blank = np.full((2, len(units) + 1), np.nan)
    n = paired.sum(0)
    out: dict[str, object] = {
        "row": name, "kind": kind, "au": [*units, MEAN], "n": [*n, int(paired.any(1).sum())],
        "subjects": len(pairing.subjects),
        "missing": [*(labels - n), int((known.any(1) & ~paired.any(1)).sum())],
        "nonzero": [*nonzero, float(nonzero.mean()) if len(units) else np.nan],
    }  # fmt: skip
    defined = int(np.isfinite(scores["icc"][:-1]).sum())
    if kind == MEASURED and 0 < defined < len(units):
        note = ", ".join(x for x in (note, f"mean ICC of {defined} of {len(units)} units") if x)
    for measure in metrics.MEASURES:
        out[measure] = scores[measure]
        out[measure + "_low"], out[measure + "_high"] = ends.get(measure, blank)
    return pd.DataFrame(out | {"note": note, "source": ""}, columns=list(COLUMNS))


def baselines(pairing: Pairing, name: str = "") -> pd.DataFrame:
    """Rows of two constants on the frames that have a prediction: 0, and the mean of the labels."""
    shown = ~np.isnan(pairing.predicted)
    ending = f", {name}" if name else ""
    rows = []
    for title, constant, note in (
        ("constant 0", np.zeros_like(pairing.truth), ""),
        ("constant mean", pairing.label_means, "the mean of these very labels"),
    ):
        values = np.where(shown, constant, np.nan).astype(np.float32)
        rows.append(row(title + ending, pairing.showing(values), kind=BASELINE, note=note, rounds=0))
    return pd.concat(rows, ignore_index=True)


def published(rows: Sequence[Published], aus: Sequence[int]) -> pd.DataFrame:
    """Printed rows, with `COLUMNS`; what was not printed is NaN."""
    out = []
    for p in rows:
        for i, au in enumerate([*(f"AU{a:02d}" for a in aus), MEAN]):
            line: dict[str, object] = {
                "row": p.name,
                "kind": PUBLISHED,
                "au": au,
                "note": p.note,
                "source": p.source,
            }
            for measure in metrics.MEASURES:
                if au == MEAN:
                    line[measure] = p.means.get(measure, np.nan)
                else:
                    line[measure] = p.values[measure][i] if measure in p.values else np.nan
            out.append(line)
    return pd.DataFrame(out, columns=list(COLUMNS))
