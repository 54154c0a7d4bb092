"""A data set's labels against our measurements: measure once per recording, pair, score.

    Recording ─ measure ─► table, kept on disk ─ pair ─► labels | predictions ─ scores ─► rows

Tables are kept under a name that changes with the method, the weights and the source, so that a run can be
interrupted and resumed and never mixes two kinds of numbers. A subject is one person: of several faces in
a frame the largest counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from faceunits.errors import InputError
from faceunits.evaluation import calibration, scores
from faceunits.evaluation.datasets.records import F64, DataSet, Part, Recording, Spec
from faceunits.evaluation.scores import F32, Pairing
from faceunits.io import table as tables
from faceunits.io.files import make_folder, printable, replacing

Measure = Callable[[Recording], Iterator[pd.DataFrame]]
"""From a recording to tables with the columns of `estimate`, `frame` in the recording's own base."""

Progress = Callable[[int, int, str], None]
"""Frames done, frames in all, and the recording; frames whose tables were kept are not counted."""

EVERYBODY = "all subjects"

_PHOTOS = 64
_NEEDED = ("frame", "success", "reason", "face_w", "face_h")


@dataclass
class Outcome:
    """Scores of a data set, and all that a reader of them must know.

    `rows`: `scores.COLUMNS`; `failed`: subject, sequence, frame, reason of labelled frames without a
    measurement; `recordings`: counts of each; `main`: the row to be set beside published ones.
    """

    title: str
    main: str
    rows: pd.DataFrame
    failed: pd.DataFrame
    recordings: pd.DataFrame
    about: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    calibration: calibration.Calibration | None = None


def measurer(method: str = "fast", device: str = "auto") -> Measure:
    """The function from a recording to tables of our estimator.

    Raises:
        ConfigError: an unknown method.
    """
    from faceunits import estimation

    estimation.measurer(method)  # an unknown one is refused now

    def measure(recording: Recording) -> Iterator[pd.DataFrame]:
        if recording.video is not None:
            from faceunits import streaming

            for rows in streaming.stream(recording.video, method=method, device=device):
                yield rows.assign(frame=rows["frame"] + (recording.first - 1))
            return
        for start in range(0, len(recording.images), _PHOTOS):
            part = slice(start, start + _PHOTOS)
            photos = list(recording.images[part])
            found = estimation.estimate(photos, method=method, device=device)
            numbers = dict(zip(map(printable, photos), recording.frames[part], strict=True))
            yield found.assign(frame=found["input"].map(numbers).astype("int64"))

    return measure


def fingerprint(method: str) -> dict[str, Any]:
    """What a measurement depends on besides its source."""
    from faceunits import weights
    from faceunits.fitting import steady

    used = {name: weights.describe(name)["sha256"] for name in weights.shipped()}
    return {"method": method, "weights": used, "table_version": tables.VERSION, "views": steady.VIEWS}


def predictions(
    data: DataSet,
    folder: str | os.PathLike[str],
    measure: Measure,
    *,
    about: Mapping[str, Any],
    progress: Progress | None = None,
) -> Iterator[tuple[Recording, pd.DataFrame]]:
    """Each recording with its table, measured now or kept from an earlier run.

    Args:
        data: of `datasets.read`.
        folder: where tables are kept; made if need be.
        measure: of `measurer`.
        about: what the numbers depend on; of `fingerprint`.
        progress: is told after each part of a recording.

    Raises:
        InputError: a folder that cannot be written to, or a video that cannot be read.
    """
    place = make_folder(folder, "choose another with -o")
    columns = list(dict.fromkeys(data.spec.columns)) or None
    paths = {r.key: place / f"{r.key}-{_digest(r, about)}.csv" for r in data.recordings}
    if len(paths) < len(data.recordings):
        raise InputError(f"expected recordings of different names in {printable(data.root)}; some are equal")
    total = sum(len(r.frames) for r in data.recordings if not paths[r.key].is_file())
    before = 0
    for recording in data.recordings:
        path = paths[recording.key]
        if not path.is_file():
            parts = []
            for part in measure(recording):
                parts.append(part)
                if progress:
                    # a clip may go on after its last label
                    done = min(int(part["frame"].nunique()) + sum(p["frame"].nunique() for p in parts[:-1]),
                               len(recording.frames))  # fmt: skip
                    progress(before + done, total, recording.key)
            before += len(recording.frames)
            with replacing(path) as temporary:
                temporary.write_text(tables.text(pd.concat(parts, ignore_index=True)), encoding="utf-8")
        yield recording, _read(path, columns)


def _digest(recording: Recording, about: Mapping[str, Any]) -> str:
    """Ten digits that change with what the table depends on: method, weights, and the source's files."""
    files = (recording.video,) if recording.video else recording.images
    sources = [(printable(f.name), f.stat().st_size) for f in files if f is not None]
    text = json.dumps([dict(about), sources, recording.first], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _read(path: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    """A kept table: of each frame the row of the largest measured face."""
    try:
        wanted = None if columns is None else [*_NEEDED, *columns]
        found = pd.read_csv(path, usecols=wanted, dtype={"reason": "str"}, keep_default_na=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"expected a table of this program; {printable(path)} is damaged ({error}); remove it"
        ) from error
    return one_face(found)


def one_face(table: pd.DataFrame) -> pd.DataFrame:
    """Of each frame the row of the largest measured face, or one that says why there is none; sorted."""
    size = (table["face_w"] * table["face_h"]).where(table["success"] == 1, -1.0).fillna(0)
    order = table.assign(_size=size).sort_values(["frame", "_size"], ascending=[True, False], kind="stable")
    return order.drop_duplicates("frame").drop(columns="_size").reset_index(drop=True)


def check_frames(recording: Recording, table: pd.DataFrame, tolerance: int) -> int:
    """How many labels a video has no frame for, 0 or few.

    Raises:
        InputError: more than `tolerance` apart; names the label file and its line.
    """
    if recording.video is None:
        return 0
    shown, labelled = int(table["frame"].max()), int(recording.frames[-1])
    apart = abs(shown - labelled) if recording.tail is None else max(0, labelled - shown)
    if apart <= tolerance:
        return max(0, labelled - shown)
    short = shown < labelled
    line = recording.first_line
    if recording.tail is None:
        line += int(np.searchsorted(recording.frames, min(shown, labelled))) + short
    raise InputError(
        f"expected as many frames in {printable(recording.video)} as its labels speak of; the video has "
        f"{shown}, {printable(recording.label_file)} goes to {labelled}: line {line} is "
        f"{'the first without a frame' if short else 'the last, and frames follow'}; copy both again"
    )


def pair(recording: Recording, table: pd.DataFrame, spec: Spec) -> tuple[F32, F32, pd.DataFrame]:
    """Labels and predictions `(N, A)` of a recording, and the labelled frames without a prediction.

    Raises:
        InputError: a video and labels of different length.
    """
    check_frames(recording, table, spec.tolerance_frames)
    frames, labels = _labels(recording, table)
    rows = table.set_index("frame").reindex(frames)
    predicted = rows[list(spec.columns)].to_numpy(np.float32) * np.float32(spec.prediction_scale)
    predicted[(rows["success"] != 1).to_numpy()] = np.nan
    lost = np.logical_and(np.isnan(predicted).any(axis=1), np.isfinite(labels).any(axis=1))
    reasons = rows["reason"].where(rows["success"].notna(), "no such frame in the video").fillna("")
    failed = pd.DataFrame(
        {"subject": recording.subject, "sequence": recording.sequence, "frame": frames[lost],
         "reason": reasons[lost].to_numpy()}
    )  # fmt: skip
    return labels.astype(np.float32), predicted, failed


def _labels(recording: Recording, table: pd.DataFrame) -> tuple[np.ndarray[Any, Any], F64]:
    """Frames and labels, where a tail is known up to the end of the video."""
    frames, labels = recording.frames, recording.labels
    shown = int(table["frame"].max())
    if recording.tail is None or recording.video is None or shown <= frames[-1]:
        return frames, labels
    more = np.arange(frames[-1] + 1, shown + 1)
    return np.concatenate([frames, more]), np.concatenate([labels, np.tile(recording.tail, (len(more), 1))])


def evaluate(
    data: DataSet,
    folder: str | os.PathLike[str],
    measure: Measure,
    *,
    about: Mapping[str, Any],
    calibrate: str | os.PathLike[str] | None = None,
    kind: str = "affine",
    clip: bool = False,
    rounds: int = 1000,
    progress: Progress | None = None,
) -> Outcome:
    """Every row of a data set's table.

    Args:
        data: of `datasets.read`.
        folder: where measurements are kept.
        measure: of `measurer`.
        about: of `fingerprint`; goes into the outcome.
        calibrate: text file of the subjects to fit a calibration on; scored on the others only.
        kind: of the calibration: `affine` or `monotone`.
        clip: add a row of predictions clipped to 0-5.
        rounds: of the bootstrap by subject.
        progress: as for `predictions`.

    Raises:
        InputError: as `predictions`, and a video and labels of different length.
    """
    chosen = calibration.subjects_of(calibrate, data.subjects) if calibrate is not None else []
    spec, names = data.spec, tuple(data.subjects)
    truths, found, codes, failures, counts = [], [], [], [], []
    for recording, table in predictions(data, folder, measure, about=about, progress=progress):
        truth, predicted, failed = pair(recording, table, spec)
        truths.append(truth)
        found.append(predicted)
        codes.append(np.full(len(truth), names.index(recording.subject)))
        failures.append(failed)
        counts.append(_counts(recording, table, truth, failed))
    pairing = Pairing(
        spec.aus, np.concatenate(truths), np.concatenate(found), np.concatenate(codes).astype(np.int64), names
    )
    main, rows, fitted = _rows(spec, pairing, chosen, kind=kind, clip=clip, rounds=rounds)
    printed = scores.published(spec.published, spec.aus)
    notes = [spec.mark] if spec.mark else []
    return Outcome(
        spec.title, main, pd.concat([*rows, printed], ignore_index=True) if len(printed) else pd.concat(rows),
        pd.concat(failures, ignore_index=True), pd.DataFrame(counts),
        {"data set": spec.title, "subjects": len(names), "recordings": len(data.recordings),
         "labelled frames": len(pairing.truth), "scale": tables.SCALE, **data.about, **dict(about)},
        notes + data.notes, fitted,
    )  # fmt: skip


def _counts(recording: Recording, table: pd.DataFrame, truth: F32, failed: pd.DataFrame) -> dict[str, Any]:
    video = recording.video is not None
    spare = len(set(recording.frames) - set(table["frame"])) if video else recording.spare_labels
    images = int((~table["frame"].isin(recording.frames)).sum()) if video and recording.tail is None else 0
    return {
        "subject": recording.subject, "sequence": recording.sequence, "labelled": len(truth),
        "failed": len(failed), "labels without a frame": spare,
        "frames without a label": images or recording.spare_images,
    }  # fmt: skip


def _rows(
    spec: Spec, pairing: Pairing, chosen: Sequence[str], *, kind: str, clip: bool, rounds: int
) -> tuple[str, list[pd.DataFrame], calibration.Calibration | None]:
    """The main row's name, all rows, and the calibration if one was asked for."""
    parts = [p for p in spec.parts if set(p.subjects) & set(pairing.subjects)]
    everybody = Part(EVERYBODY, pairing.subjects)
    parts = sorted([*parts, everybody], key=lambda p: (not p.main, p.name != EVERYBODY))
    tag = "faceunits" + (f" ({spec.mark.split(':')[0]})" if spec.mark else "")
    rows, main = [], f"{tag}, {parts[0].name}"
    for i, part in enumerate(parts):
        some = pairing.of(part.subjects)
        few = len(some.subjects) < len(part.subjects)
        note = f"{len(some.subjects)} of its {len(part.subjects)} subjects" if few else ""
        rows.append(scores.row(f"{tag}, {part.name}", some, note=note, rounds=rounds))
        if i == 0:
            rows += _views(tag, some, part.name, clip, rounds)
    if not chosen:
        return main, rows, None
    others = [s for s in pairing.subjects if s not in set(chosen)]
    fitted, rest = calibration.fit(pairing.of(chosen), kind), pairing.of(others)
    who = f"the {len(others)} other subjects"
    rows.append(scores.row(f"{tag} uncalibrated, {who}", rest, rounds=rounds))
    rows.append(
        scores.row(
            f"{tag} CALIBRATED ({kind}), {who}", rest.showing(fitted.apply(rest.predicted)),
            note=f"fitted on the labels of {len(chosen)} subjects who are not in this row", rounds=rounds,
        )
    )  # fmt: skip
    return main, rows, fitted


def _views(tag: str, some: Pairing, name: str, clip: bool, rounds: int) -> list[pd.DataFrame]:
    """The main row seen otherwise, and constants beside it."""
    out = []
    if clip:
        out.append(scores.row(f"{tag} clipped to 0-5, {name}", some.showing(some.clipped), rounds=rounds))
    filled = some.showing(some.filled)
    out.append(scores.row(f"{tag}, missing taken as 0, {name}", filled, rounds=rounds))
    return [*out, scores.baselines(some, name)]
