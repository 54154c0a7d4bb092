"""Scores to disk, and scores of any tool's table against any labels.

`write` makes the page: Markdown for readers, CSV and JSON for programs, a picture, and which frames
failed. `compare` pairs two tables by photo and frame.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from faceunits.evaluation.protocol import Outcome
from faceunits.evaluation.scores import BASELINE, MEAN, MEASURED, PUBLISHED
from faceunits.io import image as images
from faceunits.io.files import make_folder, replacing
from faceunits.viz import bars

TITLES = {
    "icc": "ICC(3,1), higher is better",
    "mae": "mean absolute error on 0-5, lower is better",
    "mse": "mean squared error on 0-5, lower is better",
    "r": "Pearson's correlation, higher is better",
}

_REASONS = 8


def markdown(outcome: Outcome, name: str = "") -> str:
    """The page; `name` is that of the picture's file, without its ending."""
    lines = [f"# {outcome.title}", ""]
    lines += [f"- {key}: {_plainly(value)}" for key, value in outcome.about.items()]
    lines += [f"- **{note}**" for note in outcome.notes[:_REASONS]]
    if len(outcome.notes) > _REASONS:
        lines.append(f"- {len(outcome.notes) - _REASONS} more notes stand in the JSON file")
    if "pose" in outcome.rows:
        lines += _poses(outcome.rows)
    else:
        lines += _scores(outcome.rows, outcome.main)
        if name:
            lines += ["", f"![scores]({name}.png)"]
        lines += _counts(outcome)
    lines += _failed(outcome)
    sources = outcome.rows.get("source", pd.Series(dtype=str)).replace("", np.nan).dropna().unique()
    if len(sources):
        lines += ["", "## Sources of published rows", ""]
        for source in sources:
            rows = outcome.rows.loc[outcome.rows["source"] == source]
            lines.append(f"- {', '.join(rows['row'].unique())}: {source}")
    return "\n".join(lines) + "\n"


def _scores(rows: pd.DataFrame, main: str) -> list[str]:
    lines = []
    units = list(rows["au"].unique())
    for measure, title in TITLES.items():
        told = rows[rows[measure].notna()]
        lines += [
            "",
            f"## {title}",
            "",
            "| row | " + " | ".join(units) + " | note |",
            "|---" * (len(units) + 2) + "|",
        ]
        for row, part in told.groupby("row", sort=False):
            by = part.set_index("au").reindex(units)
            bold = "**" if row == main else ""
            note = next((n for n in part["note"] if n), "")
            mark = "published" if part["kind"].iloc[0] == PUBLISHED else ""
            cells = [_number(v) for v in by[measure]]
            lines.append(
                f"| {bold}{row}{bold} | {' | '.join(cells)} | {', '.join(x for x in (mark, note) if x)} |"
            )
            low, high = by[measure + "_low"], by[measure + "_high"]
            if low.notna().any():
                ends = [
                    f"{_number(a)} .. {_number(b)}" if pd.notna(a) else ""
                    for a, b in zip(low, high, strict=True)
                ]
                lines.append(f"| 95 % interval | {' | '.join(ends)} | by subject |")
    return lines


def _counts(outcome: Outcome) -> list[str]:
    """Pairs of every unit in the main row, of the mean in the others, and what had no partner."""
    rows = outcome.rows[outcome.rows["kind"] == MEASURED]
    lines = [
        "",
        "## Frames",
        "",
        "| row | unit | pairs | missing | labels above 0 | subjects |",
        "|---" * 6 + "|",
    ]
    for _, r in rows.iterrows():
        if r["row"] == outcome.main or r["au"] == MEAN:
            lines.append(
                f"| {r['row']} | {r['au']} | {int(r['n'])} | {int(r['missing'])} | {r['nonzero']:.1%} | "
                f"{int(r['subjects'])} |"
            )
    for what in ("labels without a frame", "frames without a label"):
        if what in outcome.recordings and outcome.recordings[what].sum():
            alone = outcome.recordings[outcome.recordings[what] > 0]
            lines += ["", f"{int(alone[what].sum())} {what}, in {len(alone)} recordings; left out."]
    undefined = rows[(rows["au"] != MEAN) & rows["icc"].isna()]
    if len(undefined):
        told = ", ".join(f"{r['au']} ({r['row']})" for _, r in undefined.iterrows())
        lines += ["", f"ICC is undefined, and left out of its mean, for {told}: neither side varies."]
    return lines


def _poses(rows: pd.DataFrame) -> list[str]:
    units = list(rows["au"].unique())
    lines = ["", "## Mean rise above the same person's neutral photo, 0-5", "",
             "| pose | " + " | ".join(units) + " | n |", "|---" * (len(units) + 2) + "|"]  # fmt: skip
    for pose, part in rows.groupby("pose", sort=False):
        by = part.set_index("au").reindex(units)
        lines.append(f"| {pose} | {' | '.join(_number(v) for v in by['rise'])} | {int(by['n'].max())} |")
    return lines


def _failed(outcome: Outcome) -> list[str]:
    failed = outcome.failed
    lines = ["", "## Frames without a measurement", ""]
    if failed.empty:
        return [*lines, "None."]
    kinds = failed["reason"].str.replace(r"\d+", "N", regex=True).replace("", "no reason given")
    for reason, count in kinds.value_counts().head(_REASONS).items():
        lines.append(f"- {count}: {reason}")
    worst = failed.groupby(["subject", "sequence"]).size().sort_values(ascending=False).head(_REASONS)
    told = ", ".join(f"{' '.join(x for x in key if x)} {n}" for key, n in worst.items())  # type: ignore[attr-defined]
    return [*lines, "", f"Most in: {told}. All of them stand in the file of failed frames."]


def picture(
    outcome: Outcome, measures: Iterable[str] = ("icc", "mae")
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bars per unit and means, ours first, `(H, W, 3)` uint8."""
    rows = outcome.rows
    panels = []
    for measure in measures:
        parts = [(n, p.set_index("au")) for n, p in rows[rows[measure].notna()].groupby("row", sort=False)]
        kept = [(n, p) for n, p in parts if _is_shown(str(n), p["kind"].iloc[0], outcome.main)]
        units = [u for u in rows["au"].unique() if u != MEAN]
        colours = iter([*bars.OTHERS, *[bars.QUIET] * len(kept)])
        drawn = []
        for n, p in kept:
            p = p.reindex([*units, MEAN])
            values = p[measure].to_numpy(np.float64)
            ends = p[[measure + "_low", measure + "_high"]].to_numpy(np.float64).T
            single = p["kind"].dropna().iloc[0] == BASELINE or not np.isfinite(values[:-1]).any()
            colour = bars.OURS if n == outcome.main else bars.QUIET if single else next(colours)
            note = next((x for x in p["note"].dropna() if x), "")
            name = (
                f"{n} ({note.split(';')[0]})" if note and p["kind"].dropna().iloc[0] == PUBLISHED else str(n)
            )
            shown = np.full(len(units), np.nan) if single else values[:-1]
            drawn.append(
                bars.Bar(name, shown, float(values[-1]), ends if np.isfinite(ends).any() else None, colour)
            )
        panels.append(bars.Panel(TITLES[measure], tuple(units), tuple(drawn)))
    foot = [n for n in outcome.notes if n.startswith("phase-derived")]
    return bars.chart(outcome.title, panels, [*foot, "whiskers: 95 % bootstrap intervals by subject"])


def _is_shown(name: str, kind: str, main: str) -> bool:
    """In the picture: the main row, calibrated rows and their like, constants, what was published."""
    return kind != MEASURED or name == main or "calibrated" in name.lower()


def values(outcome: Outcome) -> dict[str, Any]:
    """All of it for programs; undefined numbers are null."""
    out = {
        "title": outcome.title, "main row": outcome.main, "about": outcome.about, "notes": outcome.notes,
        "rows": _records(outcome.rows), "recordings": _records(outcome.recordings),
        "failed": len(outcome.failed),
    }  # fmt: skip
    if outcome.calibration is not None:
        out["calibration"] = outcome.calibration.values()
    return out


def summary(outcome: Outcome) -> list[str]:
    """A line per measured row for a log: the means and how many frames failed."""
    lines = []
    if "pose" not in outcome.rows:
        means = outcome.rows[(outcome.rows["au"] == MEAN) & (outcome.rows["kind"] == MEASURED)]
        for _, r in means.iterrows():
            lines.append(
                f"{r['row']}: ICC {r['icc']:.3f}, MAE {r['mae']:.3f}, r {r['r']:.3f}, n {int(r['n'])}"
            )
    return [*lines, f"frames without a measurement: {len(outcome.failed)}"]


def write(outcome: Outcome, folder: str | os.PathLike[str], name: str) -> list[Path]:
    """`name.md`, `.csv`, `.json`, `.png` and `name_failed.csv`, each whole or not at all; makes the folder.

    Raises:
        InputError: a place that cannot be written to.
    """
    place = make_folder(folder, "choose another with -o")
    drawn = "pose" not in outcome.rows
    texts = {
        f"{name}.md": markdown(outcome, name if drawn else ""),
        f"{name}.csv": outcome.rows.to_csv(index=False, float_format="%.5f", lineterminator="\n"),
        f"{name}.json": json.dumps(values(outcome), indent=2, allow_nan=False, default=str) + "\n",
        f"{name}_failed.csv": outcome.failed.to_csv(index=False, lineterminator="\n"),
    }
    written = []
    for file, text in texts.items():
        with replacing(place / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(place / file)
    if drawn:
        images.write(place / f"{name}.png", picture(outcome))
        written.append(place / f"{name}.png")
    return written


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): _json(v) for k, v in row.items()} for row in table.to_dict("records")]


def _json(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 5) if np.isfinite(value) else None
    return value


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _plainly(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v[:12] if isinstance(v, str) and re.fullmatch('[0-9a-f]{64}', v) else v}"
                         for k, v in value.items())  # fmt: skip
    return str(value)
