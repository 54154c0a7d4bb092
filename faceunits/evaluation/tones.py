"""Does a measurement err more on dark or on light skin? On rendered faces, whose truth is known.

The scale is the individual typology angle of the albedo a face was drawn with (`rig.look.ita_deg`), in the
six bands of dermatology. Painted skins have the tone they were given. A real person's skin has that of its
portrait, whose light and exposure nobody calibrated: the bands order such skins and do not diagnose them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus
from faceunits.errors import InputError
from faceunits.evaluation import crops, fits, groups
from faceunits.evaluation.crops import Progress, Tool
from faceunits.evaluation.report import Report
from faceunits.io.files import printable

BANDS = (
    ("dark, below -30", -np.inf), ("brown, -30 to 10", -30.0), ("tan, 10 to 28", 10.0),
    ("intermediate, 28 to 41", 28.0), ("light, 41 to 55", 41.0), ("very light, above 55", 55.0),
)  # fmt: skip
"""Names and where they begin, degrees. Source: Del Bino et al. 2006, "Relationship between skin response to
ultraviolet exposure and skin color type"."""


def bands(angles: NDArray[np.floating]) -> list[str | None]:
    """The band of each angle in degrees; None where it is not given."""
    place = np.searchsorted([start for _, start in BANDS], angles, side="right") - 1
    return [BANDS[i][0] if np.isfinite(a) else None for i, a in zip(place, angles, strict=True)]


def report(
    shards: Sequence[str | Path], on: Tool, *, count: int = 2000, rounds: int = 500,
    progress: Progress | None = None,
) -> Report:  # fmt: skip
    """Errors and false alarms of rendered faces by skin tone: worst band, gap, and whether it is chance.

    Args:
        shards: files of `synthesize` with `skin_tone`.
        on: what measures.
        count: faces of each shard; each is a person of its own.
        rounds: of the bootstrap and of the random groupings.
        progress: called with shards done and in all.

    Raises:
        InputError: a file that is no shard, one of other networks, or one without skin tones.
    """
    truth, measured, angles = [], [], []
    for i, path in enumerate(shards):
        shard = fits.checked(fits.read_shard(path, count), path, on.models)
        if "skin_tone" not in shard:
            raise InputError(
                f"expected skin_tone in {printable(path)}; it was drawn before shards had it; remove it and "
                "draw the same faces again with synthesize"
            )
        gap = shard.get("lip_gap", np.full(len(shard["au"]), np.nan)).astype(np.float32)
        truth.append(pd.DataFrame(aus.columns(on.models.names, shard["au"].astype(np.float32), gap)))
        measured.append(crops.columns(list(fits.crops_of(shard["image"])), on))
        angles.append(np.asarray(shard["skin_tone"], np.float64))
        if progress:
            progress(i + 1, len(shards))
    t, p = (pd.concat(x, ignore_index=True) for x in (truth, measured))
    tone = np.concatenate(angles)
    page = Report("Errors by skin tone, on rendered faces that trained nothing")
    page.about |= {
        "faces": len(t),
        "skin tone": "individual typology angle of the drawn albedo, degrees; of real skins that of an "
        "uncalibrated portrait",
        "median angle": f"{np.median(tone):.0f}",
        "groups in the gap": f"those of at least {groups.LEAST} faces",
        "by chance": "share of random groupings of the same faces with as large a gap",
    }
    measures = groups.of_truth(p, t, np.arange(len(t)), len(t))
    page.figures, gaps = groups.compare(
        bands(tone), measures, step="skin tone", rounds=rounds, order=[name for name, _ in BANDS]
    )
    if len(gaps):
        page.tables["gaps by skin tone"] = gaps
    page.tables["mean absolute error by unit, 0-5"] = _by_unit(t, p, bands(tone))
    return page


def _by_unit(truth: pd.DataFrame, measured: pd.DataFrame, band: Sequence[str | None]) -> pd.DataFrame:
    """Per whole unit its error in each band."""
    units = crops.whole(truth.columns)
    errors = (truth[units] - measured[units]).abs()
    errors.columns = pd.Index([u[:4] for u in units])
    by = errors.groupby(pd.Series([b or "" for b in band]), sort=False).mean()
    return by.reindex([name for name, _ in BANDS if name in by.index]).T
