"""CK+: sequences from a neutral first frame to a peak, which alone is coded.

    cohn-kanade-images/S005/001/S005_001_00000011.png
    FACS/S005/001/S005_001_00000011_facs.txt          lines of unit and intensity; 0 = strength not coded

By default the peak and, with every unit at 0, the first frame of each sequence; which frames GE-Net took
is not stated, and ICC depends on it, so every table names the choice.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from faceunits.errors import InputError
from faceunits.evaluation.datasets import records
from faceunits.evaluation.datasets.records import F64, DataSet, Recording, Spec
from faceunits.io.files import printable
from faceunits.io.image import SUFFIXES

MAX_INTENSITY = 5.0


def read(spec: Spec, root: Path, *, peaks_only: bool = False) -> DataSet:
    """One recording per sequence: its first photo and its peak, or the peak alone.

    Raises:
        InputError: a missing folder, labels without photos, photos without labels, or labels that cannot be.
    """
    records.check_root(root)
    pictures = records.needed(root, "cohn-kanade-images")
    facs = records.needed(root, "FACS", "FACS_labels")
    frames = "peaks only" if peaks_only else "peaks, and first frames with all units 0"
    data = DataSet(spec, root, about={"frames": frames})
    coded = _sequences(facs)
    for (subject, sequence), folder in _sequences(pictures).items():
        pictures_ = [p for p in records.entries(folder) if p.suffix.lower() in SUFFIXES]
        if pictures_ and (subject, sequence) not in coded:
            raise InputError(
                f"expected labels {printable(facs / subject / sequence / '*_facs.txt')} of the photos in "
                f"{printable(folder)}; there are none; copy them, or move the photos elsewhere"
            )
    for (subject, sequence), folder in coded.items():
        data.recordings.append(_recording(spec, data, pictures, subject, sequence, folder, peaks_only))
    if not data.recordings:
        raise InputError(
            f"expected label files such as S005/001/S005_001_00000011_facs.txt in {printable(facs)}; there "
            "are none; check --root and the data set's layout"
        )
    return data


def _pattern(subject: str, sequence: str) -> str:
    return rf"{subject}_{sequence}_0*(\d+)"


def _sequences(root: Path) -> dict[tuple[str, str], Path]:
    out = {}
    for person in records.entries(root):
        if not re.fullmatch(r"S\d+", person.name, re.IGNORECASE):
            continue
        for folder in records.entries(person):
            if re.fullmatch(r"\d+", folder.name) and folder.is_dir():
                out[person.name.upper(), folder.name] = folder
    return out


def _recording(
    spec: Spec, data: DataSet, pictures: Path, subject: str, sequence: str, folder: Path, peaks_only: bool
) -> Recording:
    wanted = _pattern(subject, sequence) + r"_facs\.txt"
    files = [p for p in records.entries(folder) if re.fullmatch(wanted, p.name, re.IGNORECASE)]
    if len(files) != 1:
        raise InputError(
            f"expected one label file {printable(folder / f'{subject}_{sequence}_*_facs.txt')}; found "
            f"{len(files)}; check the data set's layout"
        )
    match = re.fullmatch(wanted, files[0].name, re.IGNORECASE)
    assert match  # as in the list above
    peak = int(match[1])
    place = records.child(pictures, subject)
    place = records.child(place, sequence) if place else None
    photos = records.numbered(place, _pattern(subject, sequence)) if place else {}
    if peak not in photos:
        photo = pictures / subject / sequence / f"{subject}_{sequence}_{peak:08d}.png"
        raise InputError(
            f"expected the photo {printable(photo)} of the labels {printable(files[0])}; there is none; copy "
            "it, or move the labels elsewhere"
        )
    frames, labels = [peak], [_labels(spec, data, files[0])]
    first = min(photos)
    if first != 1 and not peaks_only:
        data.notes.append(f"begins with frame {first}, taken as neutral: {printable(photos[first])}")
    if not peaks_only and first != peak:
        frames.insert(0, first)
        labels.insert(0, np.zeros(len(spec.aus)))
    return Recording(
        subject, sequence, np.array(frames, np.int64), spec.label_scale * np.stack(labels), files[0],
        images=tuple(photos[f] for f in frames), spare_images=len(photos) - len(frames),
    )  # fmt: skip


def _labels(spec: Spec, data: DataSet, path: Path) -> F64:
    """Intensities of the peak: a unit that is not listed is 0, one without a strength is unknown."""
    out = np.zeros(len(spec.aus))
    seen: dict[int, int] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise InputError(
            f"expected the label file {printable(path)}; {error.strerror}; copy it again"
        ) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            unit, value = (float(w) for w in line.split())
        except ValueError:
            unit = value = float("nan")
        if not (unit == np.floor(unit) and unit > 0 and value >= 0 and np.isfinite(value)):
            raise InputError(
                f"expected a unit and an intensity of 0 to 5 in {printable(path)}, line {number}; got "
                f"{line.strip()[:40]!r}; correct the file"
            )
        if int(unit) in seen:
            raise InputError(
                f"expected each unit once in {printable(path)}, line {number}; AU{int(unit)} stands in line "
                f"{seen[int(unit)]} already; correct the file"
            )
        seen[int(unit)] = number
        if value > MAX_INTENSITY:
            data.notes.append(f"intensity {value:g} taken as 5: {printable(path)}, line {number}")
        if int(unit) in spec.aus:
            out[spec.aus.index(int(unit))] = min(value, MAX_INTENSITY) if value else np.nan
    if not seen:
        data.notes.append(f"no unit is listed, all are taken as 0: {printable(path)}")
    return out
