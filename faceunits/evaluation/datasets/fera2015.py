"""FERA 2015, the intensity part of BP4D: 41 subjects, eight tasks, five units.

Layout, from the root:

    AU-Intensity-Codes3.0/AU06/F001_T1_AU06.csv       frame,intensity; 9 = not codable; a title line or none
    F001/T1/2440.jpg                                  zero padding varies
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from faceunits.errors import InputError
from faceunits.evaluation.datasets import records
from faceunits.evaluation.datasets.records import DataSet, Recording, Spec
from faceunits.io.files import printable

CODES = "AU-Intensity-Codes3.0"
NOT_CODED = 9.0


def read(spec: Spec, root: Path) -> DataSet:
    """The tasks that have labels, paired with their photos by frame number.

    Raises:
        InputError: a missing folder or label file, a task without photos, photos of a labelled subject
            without labels, a label file of another name, or labels that cannot be.
    """
    records.check_root(root)
    codes = records.needed(root, CODES)
    files = {au: _files(records.needed(codes, f"AU{au:02d}"), au) for au in spec.aus}
    tasks = sorted(set().union(*files.values()))
    if not tasks:
        raise InputError(
            f"expected label files such as {printable(codes / 'AU06' / 'F001_T1_AU06.csv')}; there are none; "
            "check --root and the data set's layout"
        )
    data = DataSet(spec, root)
    homes = _homes(root, codes)
    data.notes += _unlabelled(spec, homes, codes, set(tasks))
    for subject, task in tasks:
        for au in spec.aus:
            if (subject, task) not in files[au]:
                path = codes / f"AU{au:02d}" / f"{subject}_{task}_AU{au:02d}.csv"
                raise InputError(
                    f"expected the label file {printable(path)}; there is none; copy it from the data set"
                )
        pairs = [
            records.read_pairs(files[au][subject, task], unknown=NOT_CODED, header=True) for au in spec.aus
        ]
        records.same_frames(pairs)
        folder = records.child(homes[subject], task) if subject in homes else None
        pictures = records.numbered(folder, r"0*(\d+)") if folder else {}
        if not pictures:
            raise InputError(
                f"expected the photos {printable(root / subject / task / '*.jpg')} of the labels "
                f"{printable(pairs[0].path)}; there are none; copy them, or move the labels elsewhere"
            )
        frames = pairs[0].frames
        have = np.array([int(f) in pictures for f in frames])
        if not have.any():
            raise InputError(
                f"expected photos of the frames in {printable(pairs[0].path)}, line {pairs[0].first_line} "
                f"and after; {printable(folder or root)} has none; check that both are of one task"
            )
        labels = spec.label_scale * np.stack([p.values for p in pairs], 1)
        data.recordings.append(
            Recording(
                subject, task, frames[have], labels[have], pairs[0].path,
                images=tuple(pictures[int(f)] for f in frames[have]), first_line=pairs[0].first_line,
                spare_labels=int((~have).sum()), spare_images=len(pictures) - int(have.sum()),
            )
        )  # fmt: skip
    return data


def _unlabelled(spec: Spec, homes: dict[str, Path], codes: Path, tasks: set[tuple[str, str]]) -> list[str]:
    """A note of photos without labels: those of the challenge's test subjects were never given out.

    Raises:
        InputError: photos of a subject whose labels were given out.
    """
    without = []
    for subject, home in sorted(homes.items()):
        for folder in records.entries(home):
            task = folder.name.upper()
            if not re.fullmatch(r"T\d+", task) or (subject, task) in tasks:
                continue
            if not records.numbered(folder, r"0*(\d+)"):
                continue
            if subject in spec.subjects:
                path = codes / "AU06" / f"{subject}_{task}_AU06.csv"
                raise InputError(
                    f"expected labels such as {printable(path)} of the photos in {printable(folder)}; there "
                    "are none; copy them, or move the photos elsewhere"
                )
            without.append(f"{subject} {task}")
    return [f"photos without labels are left out: {', '.join(without)}"] if without else []


def _files(folder: Path, au: int) -> dict[tuple[str, str], Path]:
    out: dict[tuple[str, str], Path] = {}
    for path in records.entries(folder):
        match = re.fullmatch(rf"([FM]\d+)_(T\d+)_AU0*{au}\.csv", path.name, re.IGNORECASE)
        if match:
            records.once(out, (match[1].upper(), match[2].upper()), path)
        elif path.suffix.lower() == ".csv":
            raise InputError(
                f"expected names such as F001_T1_AU{au:02d}.csv in {printable(folder)}; got "
                f"{printable(path.name)}; rename it, or move it elsewhere"
            )
    return out


def _homes(root: Path, codes: Path) -> dict[str, Path]:
    """Photo folder of each subject, in the root or one level below it."""
    out: dict[str, Path] = {}
    for place in (root, *(p for p in records.entries(root) if p.is_dir() and p != codes)):
        for path in records.entries(place):
            if re.fullmatch(r"[FM]\d{3}", path.name, re.IGNORECASE) and path.is_dir():
                out.setdefault(path.name.upper(), path)
    return out
