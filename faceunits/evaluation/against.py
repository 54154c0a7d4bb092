"""Any tool's table against any labels: rows paired by photo and frame, then the scores of a data set.

A table of labels is a CSV file with columns for units (`AU12`, `AU12_r`, `12`; 0-5, empty where not coded)
and, as far as they are needed to tell rows apart, `input` (or `file`, `image`, `photo`) and `frame`;
`subject` gives intervals by person.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from faceunits.aus import MAX_INTENSITY
from faceunits.errors import InputError
from faceunits.evaluation import protocol, scores
from faceunits.evaluation.datasets.records import Published, column, spec
from faceunits.evaluation.protocol import Outcome
from faceunits.evaluation.scores import Pairing
from faceunits.io import readers
from faceunits.io.files import printable

_NAMES = ("input", "file", "image", "photo", "filename", "path")


def compare(
    ours: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    *,
    beside: str | None = None,
    rounds: int = 1000,
) -> Outcome:
    """Scores of a table of measurements against a table of labels.

    Args:
        ours: table of faceunits, OpenFace, Py-Feat or LibreFace, told by its columns.
        truth: CSV file of labels.
        beside: data set whose published rows are shown as well, where it has the same units.
        rounds: of the bootstrap by subject, or by photo where no subject is told.

    Raises:
        InputError: a table that cannot be read, a label outside 0..5 (file and line), no unit or no row in
            common.
    """
    labels, aus = read_labels(truth)
    found = readers.read_table(ours)
    missing = [a for a in aus if column(a) not in found]
    shared = [a for a in aus if a not in missing]
    if not shared:
        raise InputError(
            f"expected units of {printable(truth)} ({', '.join(f'AU{a}' for a in aus)}) in {printable(ours)}"
            "; it has none of them; compare other tables"
        )
    keys = _keys(labels, found, Path(truth), Path(ours))
    best = _best(found, keys)
    joined = labels.merge(best, on=keys, how="left", suffixes=("", "_ours"), validate="m:1")
    seen = joined["success"].notna()
    if not seen.any():
        raise InputError(
            f"expected rows of {printable(ours)} with the {' and '.join(keys)} of {printable(truth)}, such "
            f"as {labels[keys].iloc[0].tolist()}; found none; compare tables of the same photos"
        )
    predicted = joined[[column(a) for a in shared]].to_numpy(np.float32)
    predicted[(joined["success"] != 1).to_numpy()] = np.nan
    pairing = _pairing(joined, shared, predicted)
    lost = joined.loc[np.isnan(predicted).any(axis=1)]
    failed = pd.DataFrame(
        {"subject": lost["_subject"], "sequence": lost.get("input", pd.Series("", lost.index)),
         "frame": lost.get("frame", pd.Series(0, lost.index)),
         "reason": lost["reason"].where(seen[lost.index], "no such row in the table").fillna("")}
    )  # fmt: skip
    unlabelled = len(best) - int(best[keys].merge(labels[keys].drop_duplicates(), on=keys).shape[0])
    tool = str(found.attrs.get("tool", "table"))
    main = f"{tool}, all rows"
    filled = pairing.showing(pairing.filled)
    rows = [
        scores.row(main, pairing, rounds=rounds),
        scores.row(f"{tool}, missing taken as 0", filled, rounds=rounds),
        scores.baselines(pairing),
    ]  # fmt: skip
    if beside is not None:
        rows.append(
            scores.published([_of(p, spec(beside).aus, shared) for p in spec(beside).published], shared)
        )
    notes = []
    if missing:
        notes.append(f"units with labels but not measured: {', '.join(f'AU{a}' for a in missing)}")
    if unlabelled:
        notes.append(f"{unlabelled} measured rows have no label and are left out")
    if "subject" not in labels:
        notes.append("no column subject: the bootstrap draws photos or videos, not people")
    return Outcome(
        f"{Path(ours).name} against {Path(truth).name}", main, pd.concat(rows, ignore_index=True), failed,
        pd.DataFrame({"labelled": [len(labels)], "paired": [int(seen.sum())], "failed": [len(failed)]}),
        {"measured by": tool, "scale": found.attrs.get("scale", "not told"), "paired by": " and ".join(keys),
         "labelled rows": len(labels)},
        notes,
    )  # fmt: skip


def read_labels(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, tuple[int, ...]]:
    """A table of labels with columns `input`, `frame` and `subject` as far as it has them, and its units.

    The units' columns are named `truth_N`.

    Raises:
        InputError: a file that cannot be read, without units, or with a label that is not 0 to 5.
    """
    where = printable(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True,
                            skip_blank_lines=False)  # fmt: skip
    except (OSError, ValueError) as error:
        raise InputError(f"expected a CSV file of labels; {where}: {' '.join(str(error).split())}") from None
    table.columns = pd.Index([str(c).strip() for c in table.columns])
    units: dict[int, str] = {}
    for name in table.columns:
        match = re.fullmatch(r"(?:AU[ _]?)?0*(\d{1,2})(?:_(?:r|intensity))?", name, re.IGNORECASE)
        if match and int(match[1]) not in units:
            units[int(match[1])] = name
    if not units:
        raise InputError(
            f"expected columns of units such as AU12 in {where}; got {', '.join(table.columns)}; rename them"
        )
    if table.empty:
        raise InputError(f"expected labels in {where}; it has a title line only; name another")
    out = pd.DataFrame(index=table.index)
    photo = next((c for n in _NAMES for c in table.columns if c.lower() == n), None)
    if photo is not None:
        out["input"] = table[photo]
    for key in ("frame", "subject"):
        given = next((c for c in table.columns if c.lower() == key), None)
        if given is not None:
            out[key] = _whole(table[given], where, key) if key == "frame" else table[given]
    for au, name in units.items():
        values = pd.to_numeric(table[name].where(table[name] != "", "nan"), errors="coerce")
        wrong = (values.isna() & (table[name] != "") & (table[name].str.lower() != "nan")) | (values < 0)
        wrong |= values > MAX_INTENSITY
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"expected an intensity of 0 to 5, or nothing, for {name} in {where}, line {i + 2}; got "
                f"{table[name].iloc[i]!r}; correct the file"
            )
        out[f"truth_{au}"] = values
    return out, tuple(sorted(units))


def _whole(texts: pd.Series[str], where: str, key: str) -> pd.Series[int]:
    numbers = pd.to_numeric(texts, errors="coerce")
    wrong = numbers.isna() | (numbers != numbers.round())
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"expected a whole number as {key} in {where}, line {i + 2}; got {texts.iloc[i]!r}; correct it"
        )
    return numbers.astype("int64")


def _keys(labels: pd.DataFrame, found: pd.DataFrame, truth: Path, ours: Path) -> list[str]:
    """Columns to pair by; names are cut to the file's own where folders differ, rows numbered without any."""
    keys = []
    if "input" in labels and (found["input"].astype(str) != "").any():
        if not set(labels["input"]) & set(found["input"]):
            for table in (labels, found):
                table["input"] = table["input"].astype(str).str.replace(r".*[/\\]", "", regex=True)
            if not set(labels["input"]) & set(found["input"]):
                for table in (labels, found):
                    table["input"] = table["input"].str.replace(r"\.[^.]*$", "", regex=True)
        keys.append("input")
    if "frame" in labels and found["frame"].notna().all():
        found["frame"] = found["frame"].astype("int64")
        keys.append("frame")
    elif keys and found.groupby("input")["frame"].nunique().gt(1).any():
        raise InputError(
            f"expected a column frame in {printable(truth)}, since {printable(ours)} has several frames of "
            "one input; add it"
        )
    if not keys:
        if found.duplicated("frame").any() or len(found) != len(labels):
            raise InputError(
                f"expected a column input or frame in {printable(truth)} ({len(labels)} rows) to pair it "
                f"with {printable(ours)} ({len(found)} rows); add one"
            )
        labels["row"], found["row"] = range(len(labels)), range(len(found))
        keys = ["row"]
    double = labels.duplicated(keys)
    if double.any():
        i = int(np.flatnonzero(double)[0])
        raise InputError(
            f"expected one line per {' and '.join(keys)} in {printable(truth)}; line {i + 2} repeats "
            f"{labels[keys].iloc[i].tolist()}; add a column frame, or remove the line"
        )
    return keys


def _best(found: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row per key: the largest measured face."""
    number = found.groupby(keys, sort=False).ngroup()
    best = protocol.one_face(found.assign(_frame=found["frame"], frame=number))
    return best.drop(columns="frame").rename(columns={"_frame": "frame"})


def _pairing(joined: pd.DataFrame, aus: list[int], predicted: scores.F32) -> Pairing:
    if "subject" in joined:
        people = joined["subject"].astype(str)
    else:
        people = joined["input"].astype(str) if "input" in joined else pd.Series("all", joined.index)
    codes, names = pd.factorize(people, sort=True)
    joined["_subject"] = people
    truth = joined[[f"truth_{a}" for a in aus]].to_numpy(np.float32)
    return Pairing(tuple(aus), truth, predicted, np.asarray(codes, np.int64), tuple(map(str, names)))


def _of(row: Published, theirs: tuple[int, ...], ours: list[int]) -> Published:
    """A printed row for the units of ours; its means hold only where the units are the same."""
    values = {
        m: tuple(v[theirs.index(a)] if a in theirs else float("nan") for a in ours)
        for m, v in row.values.items()
    }
    same = set(theirs) == set(ours)
    return Published(row.name, row.note, row.source, values, row.means if same else {})
