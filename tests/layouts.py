"""Miniature data sets in the official layouts, with labels that a test can compute anew, and a stand-in
for the estimator whose answers depend on subject, frame and unit alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from faceunits.evaluation.datasets import Recording, spec

DISFA_AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
FERA_AUS = (6, 10, 12, 14, 17)


def intensity(subject: str, frame: int, au: int) -> int:
    """A label 0..5; each unit is 0 in two thirds of the frames."""
    value = (sum(map(ord, subject)) + 7 * frame + 3 * au) % 18
    return value if value <= 5 else 0


def guess(subject: str, frame: int, au: int) -> float:
    """The stand-in's answer: the label, disturbed; four decimals, as in a table."""
    noise = ((sum(map(ord, subject)) * 13 + frame * 29 + au * 17) % 101) / 101 - 0.5
    return round(float(np.clip(0.7 * intensity(subject, frame, au) + 0.5 + noise, 0, 5)), 4)


def is_lost(frame: int) -> bool:
    """Frames in which the stand-in finds no face."""
    return frame % 11 == 4


def photo(path: Path, grey: int = 128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(path)
    return path


def disfa(root: Path, subjects: tuple[str, ...] = ("SN001", "SN002", "SN013"), frames: int = 30) -> Path:
    for subject in subjects:
        folder = root / "ActionUnit_Labels" / subject
        folder.mkdir(parents=True)
        for au in DISFA_AUS:
            lines = [f"{f},{intensity(subject, f, au)}" for f in range(1, frames + 1)]
            (folder / f"{subject}_au{au}.txt").write_text("\n".join(lines) + "\n")
        for side in ("Left", "Right"):
            place = root / f"Video{'s' * (side == 'Left')}_{side}Camera"
            place.mkdir(exist_ok=True)
            name = "comp" if side == "Left" else "Comp"
            (place / f"{side}Video{subject}_{name}.avi").write_bytes(f"{subject} {frames}".encode())
    return root


def fera(root: Path, subjects: tuple[str, ...] = ("F001", "F002", "M001", "M002"), frames: int = 20) -> Path:
    """Frames count from 300; F002 has title lines; frame 303 of unit 6 is not codable; one photo too many."""
    for subject in subjects:
        numbers = range(300, 300 + frames)
        for au in FERA_AUS:
            folder = root / "AU Intensity Codes3.0" / f"AU{au:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            lines = ["frame,intensity"] if subject == "F002" else []
            for f in numbers:
                lines.append(f"{f},{9 if au == 6 and f == 303 else intensity(subject, f, au)}")
            (folder / f"{subject}_T1_AU{au:02d}.csv").write_text("\n".join(lines))
        for f in (299, *numbers):
            photo(root / subject / "T1" / (f"{f:04d}.jpg" if subject == "M001" else f"{f}.jpg"))
    return root


def ckplus(root: Path) -> Path:
    """Two people, three sequences; `S005/001` lists a unit without strength, and one above 5."""
    content = {
        ("S005", "001", 11): [(9, 5), (17, 0), (25, 6.5)], ("S005", "002", 5): [(12, 3), (26, 2)],
        ("S010", "001", 14): [(1, 2), (2, 4)],
    }  # fmt: skip
    for (subject, sequence, last), units in content.items():
        stem = f"{subject}_{sequence}_"
        for f in range(1, last + 1):
            photo(root / "cohn-kanade-images" / subject / sequence / f"{stem}{f:08d}.png")
        path = root / "FACS" / subject / sequence / f"{stem}{last:08d}_facs.txt"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"   {a:.7e}   {v:.7e}\n" for a, v in units) + "\n")
    return root


def coding(units: dict[str, list[tuple[int, int]]]) -> str:
    """A file of phases; units to `(frame, type)`."""
    body = "".join(
        f' <ActionUnit Number="{n}">\n' + "".join(f'  <Marker Frame="{f}" Type="{t}"/>\n' for f, t in markers)
        + " </ActionUnit>\n" for n, markers in units.items()
    )  # fmt: skip
    return f'<?xml version="1.0"?>\n<AUCoding>\n{body}</AUCoding>\n'


def mmi(root: Path) -> Path:
    """A clip with both sides of AU12 and an open end, one of photos, a profile, and an uncoded session."""
    for name, stem, units in (
        ("1", "S001-001", {"12L": [(1, 0), (3, 1), (7, 2), (9, 3), (13, 0)], "12R": [(1, 0), (5, 2), (6, 0)],
                           "4": [(1, 0), (4, 1)], "99": [(2, 2)]}),
        ("2", "S002-010", {"25": [(1, 0), (2, 1), (4, 2)]}),
        ("3", "S003-001", {"1": [(1, 2)]}),
    ):  # fmt: skip
        folder = root / "Sessions" / name
        folder.mkdir(parents=True)
        (folder / f"{stem}-oao_aucs.xml").write_text(coding(units))
        view = "Profile" if name == "3" else "Frontal"
        (folder / "session.xml").write_text(f'<session><tag Name="Camera View" Value="{view}"/></session>')
        if name == "2":
            for f in range(1, 7):
                photo(folder / f"{stem}_{f:03d}.jpg")
        else:
            (folder / f"{stem}.avi").write_bytes(b"clip")
    (root / "Sessions" / "4").mkdir()
    return root


def facewarehouse(root: Path, people: int = 3, poses: int = 4) -> Path:
    for i in range(1, people + 1):
        for j in range(poses):
            photo(root / f"Tester_{i}" / "TrainingPose" / f"pose_{j}.png")
    return root


def measure(length: int = 30, columns: tuple[str, ...] | None = None):
    """A stand-in for `protocol.measurer`: `guess`, in two parts, with a smaller face beside the right one."""

    def of(recording: Recording) -> Iterator[pd.DataFrame]:
        frames = range(1, length + 1) if recording.video else recording.frames.tolist()
        names = columns or tuple(dict.fromkeys(spec("disfa").columns + spec("fera2015").columns
                                               + spec("ckplus").columns + spec("mmi").columns))  # fmt: skip
        rows = []
        for f in frames:
            aus = {n: guess(recording.subject, f, int(n[2:4])) for n in names}
            face = {
                "frame": f,
                "face_id": 1,
                "success": 1,
                "reason": "",
                "face_w": 40.0,
                "face_h": 40.0,
            } | aus
            if is_lost(f):
                face = {"frame": f, "face_id": -1, "success": 0, "reason": f"no face in frame {f}"}
            else:
                rows.append(face | {"face_id": 0, "face_w": 10.0, "face_h": 10.0} | dict.fromkeys(names, 4.9))
            rows.append(face)
        table = pd.DataFrame(rows)
        middle = len(table) // 2
        yield table.iloc[:middle]
        yield table.iloc[middle:]

    return of
