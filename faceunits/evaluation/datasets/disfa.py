"""DISFA: one video per subject and camera, intensities 0-5 of twelve units for every frame.

    ActionUnit_Labels/SN001/SN001_au1.txt             frame,intensity; frames from 1
    Videos_LeftCamera/LeftVideoSN001_comp.avi         20 frames per second

Which camera the papers used is not stated; public code takes the left one.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from faceunits.errors import ConfigError, InputError
from faceunits.evaluation.datasets import records
from faceunits.evaluation.datasets.records import DataSet, Recording, Spec
from faceunits.io.files import printable


def read(spec: Spec, root: Path, *, camera: str = "left") -> DataSet:
    """The subjects in `ActionUnit_Labels` with the videos of one camera.

    Raises:
        ConfigError: a camera other than left and right.
        InputError: a missing folder, label file or video, or labels that cannot be.
    """
    if camera not in ("left", "right"):
        raise ConfigError(f"expected the camera left or right; got {camera!r}")
    records.check_root(root)
    labels = records.needed(root, "ActionUnit_Labels")
    side = camera.capitalize()
    videos = records.needed(root, f"Videos_{side}Camera", f"Video_{side}Camera")
    found: dict[str, Path] = {}
    strangers = []
    for path in records.entries(labels):
        match = re.fullmatch(r"SN0*(\d+)", path.name, re.IGNORECASE)
        if match and path.is_dir():
            records.once(found, f"SN{int(match[1]):03d}", path)
        elif path.is_dir():
            strangers.append(path)
    if not found:
        raise InputError(
            f"expected folders such as SN001 in {printable(labels)}; there are none; check --root and the "
            "data set's layout"
        )
    films = _films(videos, camera, strangers)
    for subject, film in films.items():
        if subject not in found:
            raise InputError(
                f"expected labels {printable(labels / subject / f'{subject}_au1.txt')} of {printable(film)}; "
                "there are none; copy them, or move the video elsewhere"
            )
    data = DataSet(spec, root, about={"camera": camera}, notes=records.strangers(strangers))
    for subject, folder in sorted(found.items()):
        if subject not in films:
            raise InputError(
                f"expected the video {printable(videos / f'{side}Video{subject}_comp.avi')} of the labels in "
                f"{printable(folder)}; there is none; copy it, or move the labels elsewhere"
            )
        data.recordings.append(_recording(spec, subject, camera, folder, films[subject]))
    return data


def _films(folder: Path, camera: str, strangers: list[Path]) -> dict[str, Path]:
    """Videos by subject; those of another name go to `strangers`."""
    out: dict[str, Path] = {}
    for path in records.entries(folder):
        if path.suffix.lower() not in records.VIDEO_SUFFIXES:
            continue
        match = re.fullmatch(rf"{camera}video_?SN0*(\d+)(_?comp)?", path.stem, re.IGNORECASE)
        if match:
            records.once(out, f"SN{int(match[1]):03d}", path)
        else:
            strangers.append(path)
    return out


def _recording(spec: Spec, subject: str, camera: str, folder: Path, video: Path) -> Recording:
    files = []
    for au in spec.aus:
        path = records.child(folder, f"{folder.name}_au{au}.txt", f"{subject}_au{au}.txt",
                             f"{subject}_au{au:02d}.txt")  # fmt: skip
        files.append(records.read_pairs(path or folder / f"{subject}_au{au}.txt"))
    records.same_frames(files)
    frames = files[0].frames
    wrong = np.flatnonzero(frames != np.arange(1, len(frames) + 1))
    if len(wrong):
        i = int(wrong[0])
        raise InputError(
            f"expected frame {i + 1} in {printable(files[0].path)}, line {files[0].line(i)}; got "
            f"{frames[i]}; copy the file again"
        )
    labels = spec.label_scale * np.stack([f.values for f in files], 1)
    return Recording(subject, camera, frames, labels, files[0].path, video=video, first=1)
