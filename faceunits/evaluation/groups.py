"""Does a tool err more, or see more that is not there, in some groups of people than in others?

A table of photos is joined with a file of people; every figure is made per group, with its interval over
the people, the worst group, the gap between the groups, and how often a gap as large comes by chance
when the same people are put into groups at random. The last is what tells a real gap: the largest of
several noisy figures always exceeds the smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus
from faceunits.errors import InputError
from faceunits.evaluation import crops, metrics
from faceunits.evaluation.report import Figure, Report
from faceunits.evaluation.subjects import rows_of

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Statistic = Callable[[I64], float]

LEAST = 5
"""Groups of fewer people are shown, but take no part in the gap."""


@dataclass(frozen=True)
class Measure:
    """A figure of some people, by their index; whether less of it is better."""

    name: str
    of: Statistic
    falling: bool


def of_pairs(rest: pd.DataFrame, action: pd.DataFrame | None, labels: pd.DataFrame | None) -> list[Measure]:
    """Measures of photos at rest and, where there are some, of the same people's smiles.

    Args:
        rest: columns `AUnn_r` of the photos at rest, one row per person.
        action: the same of the smiles, in the same order.
        labels: `AU12`, `AU6`, `AU25` of the smiles (0/1) and `AU*_confidence`, in the same order; without
            them every smile counts as showing all three.
    """
    units = crops.whole(rest.columns)
    values = rest[units].to_numpy(float)
    out = [
        Measure("neutral mean, 0-5", lambda rows: _mean(values[rows]), True),
        Measure("false alarms, share above 1", lambda rows: _share(values[rows]), True),
    ]
    if action is None:
        return out
    for column in ("AU12_r", "AU06_r", "AU25_r"):
        if column not in units:
            continue
        short = column[:-2].replace("AU0", "AU")
        shown = np.ones(len(rest), bool)
        if labels is not None and short in labels:
            sure = labels.get(f"{short}_confidence", pd.Series("high", labels.index)) != "low"
            shown = ((labels[short] == 1) & sure).to_numpy()
        calm, smile = rest[column].to_numpy(float), action[column].to_numpy(float)

        def auc(rows: I64, calm: F64 = calm, smile: F64 = smile, shown: NDArray[np.bool_] = shown) -> float:
            a, b = smile[rows][shown[rows]], calm[rows]
            return metrics.auc(a[np.isfinite(a)], b[np.isfinite(b)])

        out.append(Measure(f"AUC {short}, smiles against rest", auc, False))
    return out


def of_truth(predicted: pd.DataFrame, truth: pd.DataFrame, person: I64, people: int) -> list[Measure]:
    """Measures where the intensities are known.

    Args:
        predicted: columns `AUnn_r`, one row per photo or frame.
        truth: the same columns; NaN where it is not known.
        person: `(rows,)` index of the person.
        people: how many there are.
    """
    units = [u for u in crops.whole(truth.columns) if u in predicted]
    p, t = predicted[units].to_numpy(float), truth[units].to_numpy(float)
    both = np.isfinite(p) & np.isfinite(t)
    p, t = np.where(both, p, 0.0), np.where(both, t, 0.0)
    calm = both & (t == 0)
    # sums per person, (people, terms, A): a round of the bootstrap only adds them up
    terms = np.stack([both, t, p, t * t, p * p, t * p, np.abs(t - p), calm, calm & (p > 1)], 1).astype(float)
    sums = np.zeros((people, *terms.shape[1:]))
    np.add.at(sums, person, terms)

    def error(rows: I64) -> float:
        total = sums[rows].sum(0)
        return _ratio(total[6].sum(), total[0].sum())

    def alarms(rows: I64) -> float:
        total = sums[rows].sum(0)
        return _ratio(total[8].sum(), total[7].sum())

    def icc(rows: I64) -> float:
        n, st, sp, tt, pp, tp, *_ = sums[rows].sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = tt - st * st / n + pp - sp * sp / n
            # of two raters ICC(3,1) is 2 cov / (var + var)
            values = np.where(spread > 1e-9, 2 * (tp - st * sp / n) / spread, np.nan)
        return _mean(values)

    return [
        Measure("mean absolute error, 0-5", error, True),
        Measure("mean ICC(3,1)", icc, False),
        Measure("false alarms, share above 1 where the truth is 0", alarms, True),
    ]


def _mean(values: F64) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b else float("nan")


def _share(values: F64) -> float:
    known = values[np.isfinite(values)]
    return float((known > 1).mean()) if len(known) else float("nan")


def compare(
    groups: Sequence[str | None],
    measures: Sequence[Measure],
    *,
    step: str,
    rounds: int = 1000,
    seed: int = 0,
    order: Sequence[str] | None = None,
) -> tuple[list[Figure], pd.DataFrame]:
    """Every measure in every group.

    Args:
        groups: of each person, None where it is not given.
        measures: of people by index.
        step: name of the attribute.
        rounds: of the bootstrap over people and of the random groupings.
        seed: of both.
        order: of the groups on the page; numbers first, then the alphabet, when None.

    Returns:
        Figures with intervals; and per measure the values of the `worst` and the `best` group, the `gap`, its
        interval `low`..`high`, and `by chance`, the share of random groupings whose gap is as large. Groups
        of fewer than `LEAST` people have no part in these.
    """
    names = np.array([g if g is not None else "" for g in groups], object)
    present = {str(n) for n in names} - {""}
    shown = sorted(present, key=_order) if order is None else [g for g in order if g in present]
    members = {g: np.flatnonzero(names == g) for g in shown}
    # the gap of a group of two would be their own
    large = [g for g in shown if len(members[g]) >= LEAST]
    figures, rows = [], {}
    for measure in measures:
        values = {g: measure.of(members[g]) for g in shown}
        for g in shown:
            low, high = _interval(measure, members[g], rounds, seed)
            n = len(members[g])
            figures.append(Figure(f"{step}: {measure.name}", g, values[g], n, low=low, high=high))
        counted = [g for g in large if np.isfinite(values[g])]
        if len(counted) < 2:
            continue
        worst, best = sorted(counted, key=lambda g: values[g], reverse=measure.falling)[:: len(counted) - 1]
        gap = abs(values[best] - values[worst])
        rng = np.random.default_rng(seed)
        ends = [members[worst], members[best]]
        # of the two groups that were found to be worst and best: the largest gap of every round anew would
        # lie above the one that was found
        again = [
            _gap(measure, [people[rng.integers(0, len(people), len(people))] for people in ends], signed=True)
            for _ in range(rounds)
        ]
        everyone = np.concatenate([members[g] for g in counted])
        sizes = np.cumsum([len(members[g]) for g in counted])[:-1]
        random = [_gap(measure, np.split(rng.permutation(everyone), sizes)) for _ in range(rounds)]
        defined = np.array([x for x in again if np.isfinite(x)])
        low, high = (float(v) for v in np.percentile(defined, [2.5, 97.5])) if len(defined) else (gap, gap)
        by_chance = float(np.mean([not np.isfinite(x) or x >= gap - 1e-12 for x in random]))
        n = len(everyone)
        figures.append(Figure(f"{step}: {measure.name}", f"gap (worst: {worst})", gap, n, low=low, high=high))
        rows[f"{measure.name} (worst: {worst}, best: {best})"] = {
            "worst": values[worst], "best": values[best], "gap": gap, "low": low, "high": high,
            "by chance": by_chance,
        }  # fmt: skip
    return figures, pd.DataFrame.from_dict(rows, orient="index")


def _interval(measure: Measure, people: I64, rounds: int, seed: int) -> tuple[float, float]:
    if len(people) < 2:  # one person drawn again is the same person
        return float("nan"), float("nan")
    return metrics.interval(len(people), lambda at: measure.of(people[at]), rounds=rounds, seed=seed)


def _gap(measure: Measure, groups: Sequence[I64], *, signed: bool = False) -> float:
    """Largest less smallest value; `signed` by how much the last group is better than the first."""
    values = [measure.of(g) for g in groups]
    if not np.isfinite(values).all():
        return float("nan")
    if signed:
        return values[0] - values[-1] if measure.falling else values[-1] - values[0]
    return max(values) - min(values)


def _order(name: str) -> tuple[float, str]:
    """Bands by their first number, `< 25` before all; other names after them, by the alphabet."""
    first = name.replace("<", "-1").split("-")[0 if not name.startswith("<") else 1].split(" ")[0]
    try:
        return (-1.0 if name.startswith("<") else float(first)), name
    except ValueError:
        return float("inf"), name


def report(
    table: pd.DataFrame,
    subjects: pd.DataFrame,
    *,
    rest: str = "neutral",
    action: str = "smiling",
    labels: pd.DataFrame | None = None,
    truth: pd.DataFrame | None = None,
    rounds: int = 1000,
) -> Report:
    """Tables by group of a table of photos.

    Args:
        table: of any tool, with `input` (or `subject`) and `AUnn_r` on 0-5.
        subjects: of `subjects.read`.
        rest: folder name of the photos at rest: everything seen there is a false alarm.
        action: folder name of the same people's smiles.
        labels: of the smiles by person's id, see `of_pairs`.
        truth: intensities with the `input` and `frame` of the table's rows; errors instead of false alarms.
        rounds: see `compare`.

    Raises:
        InputError: photos of nobody in `subjects`, no photos at rest, or a truth of other photos.
    """
    rows = rows_of(table, subjects.index)
    page = Report("Differences between groups of people")
    strangers = rows.attrs["strangers"]
    if truth is not None:
        ids, measures, untold = _with_truth(rows, truth)
        page.about["rows without a truth, left out"] = untold
    else:
        ids, measures = _at_rest(rows, rest, action, labels)
    page.about |= {
        "people": len(ids), "people without a photo": len(subjects) - len(ids),
        "rows of people who are not in the people's file, left out": strangers,
        "groups in the gap": f"those of at least {LEAST} people",
        "by chance": "share of random groupings of the same people with as large a gap; small where it is "
        "real, but of twenty gaps one is below 0.05 by chance",
    }  # fmt: skip
    for name in map(str, subjects.columns):
        figures, gaps = compare(list(subjects.loc[ids, name]), measures, step=name, rounds=rounds)
        page.figures += figures
        if len(gaps):
            page.tables[f"gaps by {name}"] = gaps
    return page


def _at_rest(
    rows: pd.DataFrame, rest: str, action: str, labels: pd.DataFrame | None
) -> tuple[list[str], list[Measure]]:
    calm, smile = (
        rows[rows["kind"] == kind].drop_duplicates("person").set_index("person") for kind in (rest, action)
    )
    if calm.empty:
        raise InputError(
            f"expected photos in a folder named {rest}; got {', '.join(sorted(set(rows['kind'])))}; "
            "name the folder of the photos at rest with --rest, or the true intensities with --truth"
        )
    ids = [str(i) for i in (calm.index.intersection(smile.index) if len(smile) else calm.index)]
    known = None
    if labels is not None:
        missing = [i for i in ids if i not in labels.index]
        if missing:
            raise InputError(f"expected labels of {missing[0]}; there are none; add its row to the labels")
        known = labels.loc[ids]
    return ids, of_pairs(calm.loc[ids], smile.loc[ids] if len(smile) else None, known)


def _with_truth(rows: pd.DataFrame, truth: pd.DataFrame) -> tuple[list[str], list[Measure], int]:
    """People, measures, and how many rows have no truth."""
    keys = [k for k in ("input", "frame") if k in rows and k in truth]
    if "input" not in keys:
        raise InputError("expected the column input in the table and in the truth; add it")
    units = crops.whole(truth.columns)
    if truth.duplicated(keys).any():
        raise InputError(
            f"expected one row per {' and '.join(keys)} in the truth; some come twice; remove them"
        )
    for unit in units:
        wrong = np.flatnonzero((truth[unit] < 0) | (truth[unit] > aus.MAX_INTENSITY))
        if len(wrong):
            i = int(wrong[0])
            raise InputError(
                f"expected true intensities of 0 to {aus.MAX_INTENSITY:g}; got {truth[unit].iloc[i]:g} for "
                f"{unit} of {truth['input'].iloc[i]}, line {i + 2} of the truth; correct it"
            )
    joined = rows.merge(truth[[*keys, *units]], on=keys, how="inner", suffixes=("", "_true"))
    if joined.empty or not units:
        raise InputError(
            "expected the truth of the table's photos; no input agrees; use the same names in both"
        )
    ids = sorted(set(joined["person"]))
    person = joined["person"].map({i: n for n, i in enumerate(ids)}).to_numpy(np.int64)
    known = joined[[f"{u}_true" if f"{u}_true" in joined else u for u in units]]
    return ids, of_truth(joined, known.set_axis(units, axis=1), person, len(ids)), len(rows) - len(joined)
