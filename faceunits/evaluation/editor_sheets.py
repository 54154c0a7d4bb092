"""Contact sheets and long tables of the evaluation of editors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits.alignment import warp
from faceunits.evaluation import editor_bench as benches
from faceunits.evaluation.editor_bench import STEPS, Bench, Edited
from faceunits.motion import sheet
from faceunits.networks.editor import Editor
from faceunits.viz import curves

U8 = NDArray[np.uint8]

SHOWN = 6
"""Edits on a contact sheet, one per person."""


def shown_of(bench: Bench) -> list[int]:
    """For the sheet: of each of the first people the edit that changes the labels most."""
    labels = bench.frames.labels
    size = np.abs(labels[bench.column("target")] - labels[bench.column("source")]).sum(1)
    group = bench.group
    best = [int(np.flatnonzero(group == g)[size[group == g].argmax()]) for g in np.unique(group)]
    return best[:SHOWN]


def edit_sheet(bench: Bench, shown: list[int], done: Mapping[str, Edited]) -> U8:
    """Source, source given back, wanted frame, and what each editor made, one row per edit."""
    return rows_of_faces(bench, shown, ("source", "target"), ("source", "wanted"),
                  {k: v.pictures for k, v in done.items()})  # fmt: skip


def transfer_sheet(bench: Bench, shown: list[int], taken: Mapping[str, Mapping[int, U8]]) -> U8:
    """Source, source given back, frame of another person, and what each editor made of it."""
    return rows_of_faces(bench, shown, ("source", "other"), ("source", "expression of"), taken)


def rows_of_faces(
    bench: Bench, shown: list[int], columns: tuple[str, str], heads: tuple[str, str],
    strips: Mapping[str, Mapping[int, U8]],
) -> U8:  # fmt: skip
    """Pictures of the edits `shown` in rows: two columns of frames by name, and what each editor made."""
    rows = []
    source, model = (bench.column(c) for c in columns)
    for i in shown:
        back = next(benches.drawn(bench.space, bench.w[source[i]][None], 1))[0]
        kept = [s[i] for s in strips.values() if i in s]
        image = bench.frames.image
        rows.append([image[source[i]], warp.picture(back.cpu().numpy()), image[model[i]], *kept])
    names = [heads[0], "given back", heads[1], *(k for k, s in strips.items() if s)]
    return curves.faces(rows, names)


def series_sheet(bench: Bench, editor: Editor) -> U8:
    """Each unit by itself at every whole value on the first calm frame, a row per unit."""
    pictures, captions = [], []
    whole = [i for i, s in enumerate(STEPS) if s % 1 == 0]
    for k, name in enumerate(bench.frames.names):
        w = benches.series(bench, editor, k)[: len(STEPS)][whole]
        images = next(benches.drawn(bench.space, w, len(w)))
        pictures += [warp.picture(image.cpu().numpy()) for image in images]
        captions += [f"{name} {STEPS[i]:g}" for i in whole]
    size = pictures[0].shape[0]
    return sheet.grid(pictures, captions, (0, 0, size), side=size, columns=len(whole))


def values(bench: Bench, done: Mapping[str, Edited]) -> pd.DataFrame:
    """A row per editor and edit: what was asked, what was measured, 0-5."""
    tables = []
    source, target = bench.column("source"), bench.column("target")
    for name, edited in done.items():
        table = bench.pairs[["person", "source_at", "target_at"]].assign(editor=name)
        for k, unit in enumerate(bench.frames.names):
            table[f"{unit}_asked"] = bench.frames.labels[target, k]
            table[f"{unit}_measured"] = edited.seen.units[:, k]
        table["identity"] = benches.identity(edited.seen, bench.back.rows(source))
        tables.append(table.assign(multi_scale_l1=edited.l1))
    return pd.concat(tables)
