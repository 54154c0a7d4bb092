"""The report: one HTML page that shows a table of ours, complete in itself and readable offline.

Style, script, data and pictures are all in the page; a content policy in its head forbids any request
and any script but our own. What it shows is computed in `courses`, thinned for drawing in `packing` and
written in `sections`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits.viz.report import courses as measured
from faceunits.viz.report import packing, sections
from faceunits.viz.report.courses import Course, Peak, Recording
from faceunits.viz.report.sections import Evidence, Key

U8 = NDArray[np.uint8]

MOST_COURSES = 60
"""Faces in one page, those with the most rows first; the rest are counted."""

_FEW = 8
_START_UNITS = 8

Shown = list[tuple[Recording, list[Course]]]


def choose(recordings: Sequence[Recording]) -> tuple[Shown, int]:
    """The recordings and courses that go into a page, and how many courses are left out.

    A recording whose courses are all left out is left out too; one without any face is kept while there
    is room, since its gaps are its result.
    """
    ranked = sorted(
        ((len(c.at), i, c) for i, r in enumerate(recordings) for c in r.courses), key=lambda t: (-t[0], t[1])
    )
    kept = {(i, c.face_id) for _, i, c in ranked[:MOST_COURSES]}
    out: Shown = []
    for i, recording in enumerate(recordings):
        chosen = [c for c in recording.courses if (i, c.face_id) in kept]
        if chosen or (not recording.courses and len(out) < MOST_COURSES):
            out.append((recording, chosen))
    return out, max(0, len(ranked) - MOST_COURSES)


def peaks(shown: Shown) -> dict[Key, list[Peak]]:
    """Peaks of every course of a page: up to three per action unit, or one where there are many faces."""
    most = 3 if sum(len(c) for _, c in shown) <= _FEW else 1
    return {
        (i, course.face_id): measured.peaks(recording, course, most=most)
        for i, (recording, courses) in enumerate(shown)
        for course in courses
    }


def page(
    title: str,
    shown: Shown,
    *,
    about: Mapping[str, Any] | None,
    left_out: int = 0,
    portraits: Mapping[Key, U8] | None = None,
    found: Mapping[Key, Sequence[Peak]] | None = None,
    pictures: Mapping[Key, Mapping[int, U8]] | None = None,
    evidence: Sequence[Evidence] = (),
) -> str:
    """The page as HTML.

    Args:
        title: name of the table.
        shown: of `choose`, as is `left_out`.
        about: the description beside the table, or None where there is none.
        left_out: courses that `choose` left out.
        portraits: pictures `(H, W, 3)` uint8 by recording and face.
        found: of `peaks`; computed when None.
        pictures: of peaks, by recording and face, then by place.
        evidence: faces that were fitted anew.
    """
    found = peaks(shown) if found is None else found
    recordings = [recording for recording, _ in shown]
    body = [
        _head(title, shown, about, left_out, proven=bool(evidence)),
        sections.controls(recordings) if shown else "",
        sections.people(shown, portraits or {}),
        _peaks(shown, found, pictures or {}),
        sections.evidence_section(recordings, evidence),
        _gaps(recordings),
        _summary(shown),
        sections.making(about),
    ]
    data = packing.pack(shown)
    for (recording, chosen), packed in zip(shown, data["recordings"], strict=True):
        packed["start"] = _start(recording, chosen)
    return _document(title, "\n".join(body), data)


def _document(title: str, body: str, data: Mapping[str, Any]) -> str:
    here = files(__name__)
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":  # nothing in the data may end the element that holds them
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} - faceunits report</title>
<style>{style}</style></head><body>
{body}
</main>
<footer>Written by faceunits. The page holds all that it shows; it makes no request to any network.</footer>
<script type="application/json" id="data">{text}</script>
<script>{script}</script>
</body></html>
"""


def _head(title: str, shown: Shown, about: Mapping[str, Any] | None, left_out: int, *, proven: bool) -> str:
    videos = [r for r, _ in shown if r.is_video]
    photos = sum(len(r.frame) for r, _ in shown if not r.is_video)
    frames = sum(len(r.frame) for r in videos)
    told = []
    if videos:
        told.append(f"{len(videos)} video{'s' * (len(videos) > 1)} with {frames:,} frames")
    if photos:
        told.append(f"{photos:,} photo{'s' * (photos > 1)}")
    faces = sum(len(c) for r, c in shown if r.is_video)
    if faces:
        told.append(f"{faces} face{'s' * (faces > 1)} followed")
    lead = escape(", ".join(told) or "an empty table")
    if len(videos) == 1 and not photos:
        lead = f"{escape(videos[0].name)}: {lead}"
    scale = str(about["scale"]) if about and "scale" in about else "unknown: no description beside the table"
    weights = about.get("weights") if about else None
    if isinstance(weights, Mapping) and weights:
        used = ", ".join(
            f"{k} {str(v.get('sha256', '?'))[:8]}" for k, v in weights.items() if hasattr(v, "get")
        )
    else:
        used = "unknown"
    more = f'<p class="note">{left_out} faces with fewer rows are left out of this page.</p>' * (left_out > 0)
    links = {"courses": "Time courses", "people": "Faces", "peaks": "Peaks",
             "evidence": "Fitted faces" if proven else "", "gaps": "Gaps",
             "summary": "Summary", "making": "How it was made"}  # fmt: skip
    nav = "".join(f'<a href="#{key}">{name}</a>' for key, name in links.items() if name)
    return f"""<header><h1>{escape(title)}</h1><p>{lead}</p>
<p class="quiet">Scale: {escape(scale)}. Weights: {escape(used)}. Left and right are the subject's.</p>
<nav>{nav}</nav></header><main>{more}"""


def _peaks(
    shown: Shown, found: Mapping[Key, Sequence[Peak]], pictures: Mapping[Key, Mapping[int, U8]]
) -> str:
    out = [
        '<section id="peaks"><h2>Peaks</h2><p>The greatest value of each stretch in which a unit stayed at '
        f"{measured.ACTIVE:g} or above; per unit the highest few.</p>"
    ]
    opened = False
    for i, (recording, courses) in enumerate(shown):
        for course in courses:
            key = (i, course.face_id)
            mine = sorted(found.get(key, ()), key=lambda p: (p.unit, -p.value))
            name = escape(recording.name) + ", " if len(shown) > 1 else ""
            table = sections.peak_table(i, recording, course, mine, pictures.get(key, {}))
            name += sections.label(recording, course.face_id)
            out.append(
                f"<details{' open' * (not opened)}><summary>{name}: {len(mine)} peaks</summary>"
                f"{table}</details>"
            )
            opened = True
    return "\n".join(out) + "</section>"


def _gaps(recordings: Sequence[Recording]) -> str:
    out = ['<section id="gaps"><h2>Gaps</h2>']
    for recording in recordings:
        lost = sum(g.last - g.first + 1 for g in recording.gaps)
        if len(recordings) > 1:
            out.append(f"<h3>{escape(recording.name)}</h3>")
        if lost:
            what = "frames" if recording.is_video else "photos"
            out.append(f"<p>{lost:,} of {len(recording.frame):,} {what} are in gaps.</p>")
        out.append(sections.gap_table(recording))
    return "\n".join(out) + "</section>"


def _summary(shown: Shown) -> str:
    out = [
        '<section id="summary"><h2>Summary</h2><p>Over the frames in which the face was measured; active is '
        f"{measured.ACTIVE:g} or above.</p>"
    ]
    opened = False
    for recording, courses in shown:
        for course in courses:
            name = escape(recording.name) + ", " if len(shown) > 1 else ""
            table = sections.activity_table(measured.summary(recording, course))
            out.append(
                f"<details{' open' * (not opened)}><summary>{name}{sections.label(recording, course.face_id)}"
                f", {len(course.at):,} rows</summary>{table}</details>"
            )
            opened = True
    return "\n".join(out) + "</section>"


def _start(recording: Recording, courses: Sequence[Course]) -> list[str]:
    """The action units shown at first: those that move most."""
    reach: dict[str, float] = {}
    for course in courses:
        for activity in measured.summary(recording, course):
            reach[activity.unit] = max(reach.get(activity.unit, 0.0), activity.active + activity.most / 100)
    return sorted(sorted(reach, key=lambda unit: -reach[unit])[:_START_UNITS])
