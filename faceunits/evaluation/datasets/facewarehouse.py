"""FaceWarehouse: photos of 150 people in twenty poses of the face, pose 0 neutral; no unit labels.

    Tester_1/TrainingPose/pose_0.png .. pose_19.png

What a pose was asked to show is known from pictures only, so nothing is compared with a label: the report
says how far each pose moves each unit from the same person's neutral photo.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from faceunits.errors import InputError
from faceunits.evaluation.datasets import records
from faceunits.evaluation.datasets.records import DataSet, Recording, Spec
from faceunits.io.files import printable


def read(spec: Spec, root: Path) -> DataSet:
    """One recording per person: the photos of the poses, `frames` their numbers from 0.

    Raises:
        InputError: no person's folder, one without photos, or one without the neutral pose.
    """
    records.check_root(root)
    data = DataSet(spec, root)
    for person in records.entries(root):
        match = re.fullmatch(r"Tester_?0*(\d+)", person.name, re.IGNORECASE)
        if not match or not person.is_dir():
            continue
        poses = records.numbered(records.needed(person, "TrainingPose"), r"pose_?0*(\d+)")
        if 0 not in poses:
            raise InputError(
                f"expected {printable(person / 'TrainingPose' / 'pose_0.png')}, the neutral pose; there is "
                "none; copy it from the data set"
            )
        numbers = sorted(poses)
        data.recordings.append(
            Recording(
                f"Tester_{int(match[1])}", "", np.array(numbers, np.int64), np.zeros((len(numbers), 0)),
                person, images=tuple(poses[n] for n in numbers), first=0,
            )
        )  # fmt: skip
    everything = set().union(*(r.frames.tolist() for r in data.recordings))
    for r in data.recordings:
        lacking = sorted(everything - set(r.frames.tolist()))
        if lacking:
            data.notes.append(f"{r.subject} lacks pose {', '.join(map(str, lacking))}, which others have")
    if not data.recordings:
        raise InputError(
            f"expected folders such as {printable(root / 'Tester_1' / 'TrainingPose')}; there are none; "
            "check --root and the data set's layout"
        )
    return data
