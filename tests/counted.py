"""Miniature data sets scored by loops, slowly: what the scores of a table must be."""

from __future__ import annotations

import math

import layouts
import pandas as pd
import pytest

from faceunits.evaluation import protocol

ABOUT = {"method": "stand-in"}
SUBJECTS = ["SN001", "SN002", "SN013", "SN003"]


def slow_scores(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """MAE, MSE, Pearson's r and ICC(3,1) by loops and the formulas of Shrout and Fleiss."""
    n = len(pairs)
    mae = sum(abs(t - p) for t, p in pairs) / n
    mse = sum((t - p) ** 2 for t, p in pairs) / n
    mean_t, mean_p = sum(t for t, _ in pairs) / n, sum(p for _, p in pairs) / n
    up = sum((t - mean_t) * (p - mean_p) for t, p in pairs)
    down = math.sqrt(sum((t - mean_t) ** 2 for t, _ in pairs) * sum((p - mean_p) ** 2 for _, p in pairs))
    grand = (mean_t + mean_p) / 2
    between = 2 * sum(((t + p) / 2 - grand) ** 2 for t, p in pairs) / (n - 1)
    raters = n * ((mean_t - grand) ** 2 + (mean_p - grand) ** 2)
    total = sum((t - grand) ** 2 + (p - grand) ** 2 for t, p in pairs)
    error = (total - (n - 1) * between - raters) / (n - 1)
    icc = (between - error) / (between + error)
    return {"icc": icc, "mae": mae, "mse": mse, "r": up / down if down else float("nan")}


def check(row: pd.DataFrame, by_au: dict[int, list[tuple[float, float]]]) -> None:
    """A row of the table against pairs collected by a loop."""
    row = row.set_index("au")
    for measure in ("icc", "mae", "mse", "r"):
        slow = {au: slow_scores(pairs)[measure] for au, pairs in by_au.items()}
        for au, value in slow.items():
            assert row.loc[f"AU{au:02d}", measure] == pytest.approx(value, abs=2e-6), (measure, au)
            assert row.loc[f"AU{au:02d}", "n"] == len(by_au[au])
        assert row.loc["mean", measure] == pytest.approx(sum(slow.values()) / len(slow), abs=2e-6)


def disfa_pairs(subjects: list[str], *, lost: str = "skip", change=lambda au, p: p) -> dict[int, list]:
    out: dict[int, list] = {au: [] for au in layouts.DISFA_AUS}
    for au in layouts.DISFA_AUS:
        for s in subjects:
            for f in range(1, 31):
                p = None if layouts.is_lost(f) else layouts.guess(s, f, au)
                if p is None and lost == "skip":
                    continue
                out[au].append((layouts.intensity(s, f, au), change(au, 0.0 if p is None else p)))
    return out


def row_of(outcome: protocol.Outcome, name: str) -> pd.DataFrame:
    found = outcome.rows[outcome.rows["row"] == name]
    assert len(found), outcome.rows["row"].unique()
    return found
