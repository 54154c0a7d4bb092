"""MMI: clips with the phases of each unit - neutral, onset, apex, offset - and no intensities.

    Sessions/1/S001-001.avi                 or photos in its place
    Sessions/1/S001-001-oao_aucs.xml        per ActionUnit markers with Frame (from 1) and Type 0..3
    Sessions/1/session.xml, S001-001.xml    names and values: subject, view

GE-Net prints ICC and MAE on MMI and does not say of what. Ours: neutral 0, apex 1, straight ramps in
onset and offset; the sides of a unit together are the larger one. Every figure is marked phase-derived.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from xml.parsers import expat

import numpy as np

from faceunits.errors import InputError
from faceunits.evaluation.datasets import records
from faceunits.evaluation.datasets.records import F64, I64, DataSet, Recording, Spec
from faceunits.io.files import printable

NEUTRAL, ONSET, APEX, OFFSET = range(4)
CODING = "-oao_aucs.xml"


@dataclass
class _Sheet:
    """Markers `(frame, phase, line)` by unit and side, the line where each unit begins, and names with
    values, of XML files."""

    markers: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)


def read(spec: Spec, root: Path, *, profiles: bool = False) -> DataSet:
    """The clips that have a coding of phases; those without, and profile views, are counted in a note.

    Raises:
        InputError: a missing folder, a coding without its clip, or markers that cannot be.
    """
    records.check_root(root)
    sessions = records.needed(root, "Sessions")
    data = DataSet(spec, root, about={"labels": spec.mark})
    uncoded: list[str] = []
    skipped = anonymous = 0
    for folder in (p for p in records.entries(sessions) if p.is_dir()):
        codings = [p for p in records.entries(folder) if p.name.lower().endswith(CODING)]
        uncoded += [folder.name] * (not codings)
        for coding in codings:
            stem = coding.name[: -len(CODING)]
            about = _about(folder, stem)
            view = " ".join(v for k, v in about.items() if "view" in k).lower()
            if "profile" in view and not profiles:
                skipped += 1
                continue
            subject, known = _subject(folder, stem, about)
            anonymous += not known
            data.recordings.append(_recording(spec, data, subject, stem, folder, coding))
    if not data.recordings:
        raise InputError(
            f"expected codings such as {printable(sessions / '1' / ('S001-001' + CODING))}; found none"
            f"{f' but {skipped} of profile views (--profiles)' if skipped else ''}; check --root"
        )
    if uncoded:
        names = ", ".join(uncoded[: records.SHOWN]) + ", ..." * (len(uncoded) > records.SHOWN)
        data.notes.append(f"{len(uncoded)} sessions have no coding of phases and are left out: {names}")
    if skipped:
        data.notes.append(f"{skipped} clips in profile view are left out (--profiles takes them in)")
    if anonymous:
        data.notes.append(f"the subject of {anonymous} clips is not told; each counts as a person of its own")
    return data


def _subject(folder: Path, stem: str, about: dict[str, str]) -> tuple[str, bool]:
    for name in ("subject", "subjectid", "subjectnumber"):
        if about.get(name):
            return f"S{about[name]}", True
    match = re.match(r"(S\d+)-", stem, re.IGNORECASE)
    return (match[1].upper(), True) if match else (f"session{folder.name}", False)


def _about(folder: Path, stem: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for name in ("session.xml", f"{stem}.xml"):
        path = records.child(folder, name)
        if path:
            out |= parse(path).values
    return out


def parse(path: Path) -> _Sheet:
    """Markers and values of an XML file, with line numbers.

    Raises:
        InputError: names file and line of what is not XML or no marker.
    """
    sheet, units = _Sheet(), []
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        given = {k.lower(): v.strip() for k, v in attributes.items()}
        if tag.lower() == "actionunit":
            units.append(given.get("number", ""))
            sheet.markers.setdefault(units[-1], [])
            sheet.lines.setdefault(units[-1], parser.CurrentLineNumber)
        elif units and (tag.lower() == "marker" or {"frame", "type"} & set(given)):
            given = {"frame": "none", "type": "none"} | given
            try:
                frame, phase = int(given["frame"]), int(given["type"])
            except ValueError:
                frame, phase = 0, -1
            if frame < 1 or phase not in (NEUTRAL, ONSET, APEX, OFFSET):
                raise InputError(
                    f"expected a marker with Frame from 1 and Type 0 to 3 in {printable(path)}, line "
                    f"{parser.CurrentLineNumber}; got {given['frame']!r} and {given['type']!r}; correct it"
                )
            sheet.markers[units[-1]].append((frame, phase, parser.CurrentLineNumber))
        elif "name" in given and "value" in given:
            sheet.values[records.plain(given["name"])] = given["value"]

    def end(tag: str) -> None:
        if tag.lower() == "actionunit":
            units.pop()

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise InputError(
            f"expected XML in {printable(path)}, line {error.lineno}; {expat.ErrorString(error.code)}; copy "
            "it again"
        ) from None
    except OSError as error:
        raise InputError(f"expected the file {printable(path)}; {error.strerror}; copy it again") from None
    return sheet


def _recording(
    spec: Spec, data: DataSet, subject: str, stem: str, folder: Path, coding: Path
) -> Recording:  # fmt: skip
    sheet = parse(coding)
    if not any(sheet.markers.values()):
        data.notes.append(f"no marker, all units are taken as neutral: {printable(coding)}")
    last = max((m[0] for unit in sheet.markers.values() for m in unit), default=1)
    labels, tail = np.zeros((last, len(spec.aus))), np.zeros(len(spec.aus))
    for name, markers in sheet.markers.items():
        match = re.fullmatch(r"[A-Z]*0*(\d+)[A-Z]*", name, re.IGNORECASE)
        if not match:
            raise InputError(
                f"expected the number of a unit in {printable(coding)}, line {sheet.lines[name]}; got "
                f"{name!r}; correct the file"
            )
        if int(match[1]) not in spec.aus or not markers:
            continue
        for a, b in zip(markers, markers[1:], strict=False):
            if b[0] <= a[0]:
                raise InputError(
                    f"expected rising frames in {printable(coding)}, line {b[2]}; got {b[0]} after {a[0]}; "
                    "correct the file"
                )
        k = spec.aus.index(int(match[1]))
        strength, after = ramps(markers, last)
        labels[:, k] = np.maximum(labels[:, k], strength)
        tail[k] = np.maximum(tail[k], after)  # an unknown side makes the unit unknown
    video, images = _media(folder, stem)
    if video is None and not images:
        raise InputError(
            f"expected the clip {printable(folder / (stem + '.avi'))} of {printable(coding)}; there is none; "
            "copy it, or move the coding elsewhere"
        )
    frames: I64 = np.arange(1, last + 1)
    labels, tail = spec.label_scale * labels, spec.label_scale * tail
    line = max((m[2] for unit in sheet.markers.values() for m in unit if m[0] == last), default=1)
    if images:
        if last > len(images):
            raise InputError(
                f"expected at least {last} photos in {printable(folder)}, by {printable(coding)}, line "
                f"{line}; found {len(images)}; copy them again"
            )
        more = np.tile(tail, (len(images) - last, 1))
        labels, frames = np.concatenate([labels, more]), np.arange(1, len(images) + 1)
    return Recording(
        subject, stem, frames, labels, coding, video=video, images=images, first_line=line, tail=tail
    )


def ramps(markers: list[tuple[int, int, int]], last: int) -> tuple[F64, float]:
    """Strength 0..1 of frames 1..`last`, and that of the frames after.

    A phase lasts until the next marker; an onset rises to 1 and an offset falls to 0 at that marker. One
    that nothing ends has an unknown strength after its marker.
    """
    out, after = np.zeros(last), 0.0
    for i, (frame, phase, _) in enumerate(markers):
        stop = markers[i + 1][0] if i + 1 < len(markers) else last + 1
        n = stop - frame
        open_end = i + 1 == len(markers)
        if phase in (NEUTRAL, APEX):
            out[frame - 1 : stop - 1] = after = float(phase == APEX)
        else:
            rise = np.arange(n) / n if not open_end else np.r_[0.0, np.full(n - 1, np.nan)]
            out[frame - 1 : stop - 1] = rise if phase == ONSET else 1 - rise
            after = float("nan")
    return out, after


def _media(folder: Path, stem: str) -> tuple[Path | None, tuple[Path, ...]]:
    """The video of a clip, else the photos that bear its name, else all photos of the session.

    Raises:
        InputError: a gap in the photos' numbers, after which every label would be of another frame.
    """
    for path in records.entries(folder):
        if path.suffix.lower() in records.VIDEO_SUFFIXES and path.stem.lower() == stem.lower():
            return path, ()
    own = records.numbered(folder, re.escape(stem) + r"\D*?0*(\d+)")
    own = own or records.numbered(folder, r".*?(\d+)\D*")
    for a, b in pairwise(sorted(own)):
        if b != a + 1:
            raise InputError(
                f"expected photos without a gap in {printable(folder)}; after {printable(own[a].name)} comes "
                f"{printable(own[b].name)}; copy them again"
            )
    return None, tuple(own[n] for n in sorted(own))
