"""The page's sections as HTML; every text that comes from outside goes through `escape`."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceunits.viz.report.courses import ACTIVE, Activity, Course, Gap, Peak, Recording, name_of

U8 = NDArray[np.uint8]

MOST_GAPS = 200
"""Gaps listed; the rest are counted."""

Key = tuple[int, int]
"""Place of a recording among those shown, and `face_id`."""


@dataclass(frozen=True)
class Evidence:
    """A face fitted anew: `pictures` by caption, `units` with intensity in the table and in the fit."""

    key: Key
    place: int
    pictures: Mapping[str, U8]
    units: Sequence[tuple[str, float, float]]
    confidence: float


def uri(picture: U8, quality: int = 82) -> str:
    """A picture `(H, W, 3)` as a data address, JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def moment(recording: Recording, place: int) -> str:
    """Time and frame of a place, or the photo's name; not escaped."""
    if not recording.is_video:
        return recording.photos[place]
    frame = f"frame {recording.frame[place]}"
    return frame if recording.time_s is None else f"{clock(float(recording.time_s[place]))}, {frame}"


def clock(seconds: float) -> str:
    """`1:02:03.45`, `2:03.45` or `3.45 s`."""
    sign, hundredths = ("-" if seconds < 0 else ""), round(abs(seconds) * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}:{minutes:02d}:{rest / 100:05.2f}"
    return f"{sign}{minutes}:{rest / 100:05.2f}" if minutes else f"{sign}{rest / 100:.2f} s"


def label(recording: Recording, face_id: int) -> str:
    """What a course is called: numbers of faces in photos are no people."""
    return f"face {face_id}" if recording.is_video else f"face no. {face_id}"


def controls(recordings: Sequence[Recording]) -> str:
    """The chart with its buttons; the script fills them."""
    choice = ""
    if len(recordings) > 1:
        options = "".join(f'<option value="{i}">{escape(r.name)}</option>' for i, r in enumerate(recordings))
        choice = f'<div class="row"><span>recording</span><select id="recording">{options}</select></div>'
    return f"""<section id="courses"><h2>Time courses</h2>
<p>Intensities 0 to 5; shaded where nothing was measured. <span id="thinned"></span></p>
{choice}<div class="row" id="units"><span>units</span></div>
<div class="row" id="faces"><span>faces</span></div>
<div class="row" id="options"><span>view</span></div>
<canvas id="chart" tabindex="0" role="application" aria-describedby="keys"
 aria-label="Time courses of action units"></canvas>
<p id="status" aria-live="polite"></p>
<p class="quiet" id="keys">Drag to move, double-click to zoom; once clicked, the wheel zooms too. Keys: left
and right step through the points, with Shift they move the view, + and − zoom, Home shows the whole.</p>
<noscript><p class="note">The chart needs JavaScript; the tables below do not.</p></noscript></section>"""


def people(shown: Sequence[tuple[Recording, Sequence[Course]]], portraits: Mapping[Key, U8]) -> str:
    """A card for each course."""
    out = ['<section id="people"><h2>Faces</h2>']
    for index, (recording, courses) in enumerate(shown):
        if len(shown) > 1:
            out.append(f"<h3>{escape(recording.name)}</h3>")
        if not recording.is_video:
            out.append(
                '<p class="quiet">In photos, face no. 0 is the largest of each photo; '
                "the number does not tell people apart from one photo to the next.</p>"
            )
        cards = [_card(recording, c, portraits.get((index, c.face_id))) for c in courses]
        out.append(f'<div class="cards">{"".join(cards)}</div>')
    return "\n".join(out) + "</section>"


def _card(recording: Recording, course: Course, portrait: U8 | None) -> str:
    name = label(recording, course.face_id)
    picture = '<div class="none">no portrait</div>'
    if portrait is not None:
        picture = f'<img src="{uri(portrait)}" alt="portrait of {name}">'
    count, whole = len(course.at), len(recording.frame)
    what = "frames" if recording.is_video else "photos"
    lines = [f"measured in {count:,} of {whole:,} {what} ({count / whole:.0%})"]
    if recording.is_video:
        first, last = (moment(recording, int(course.at[i])) for i in (0, -1))
        lines += [f"first: {first}", f"last: {last}"]
    if "confidence" in recording.series:
        belief = course.values[:, recording.series.index("confidence")]
        if np.isfinite(belief).any():
            lines.append(f"confidence: mean {np.nanmean(belief):.2f}, least {np.nanmin(belief):.2f}")
    told = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<div class="card">{picture}<div><h3>{name}</h3>{told}</div></div>'


def peak_table(
    index: int, recording: Recording, course: Course, peaks: Sequence[Peak], pictures: Mapping[int, U8]
) -> str:
    """Peaks of one course by action unit, with pictures by place where there are any."""
    if not peaks:
        return f'<p class="quiet">No action unit reached {ACTIVE:g}.</p>'
    rows = []
    uris = {p.place: uri(pictures[p.place]) for p in peaks if p.place in pictures}
    drawn: set[int] = set()
    for p in peaks:
        picture = ""
        if p.place in uris and p.place not in drawn:
            picture = f'<img src="{uris[p.place]}" alt="face at {p.unit} {p.value:.1f}">'
            drawn.add(p.place)
        elif p.place in uris:
            picture = '<span class="quiet">as above</span>'
        at, first, last = (_x(recording, place) for place in (p.place, p.first, p.last))
        button = (
            f'<button type="button" data-recording="{index}" data-face="{course.face_id}" '
            f'data-unit="{p.unit}" data-at="{at}" data-from="{first}" data-to="{last}">show</button>'
        )
        cells = [p.unit, name_of(p.unit), f"{p.value:.2f}", moment(recording, p.place)]
        if recording.is_video:
            cells.append(_duration(recording, p))
        told = "".join(
            f'<td class="{kind}">{escape(cell)}</td>'
            for kind, cell in zip(("", "", "n", "wide", "n"), cells, strict=False)
        )
        rows.append(f"<tr>{told}<td>{button}</td>" + (f"<td>{picture}</td>" if pictures else "") + "</tr>")
    head = ["unit", "", "peak", "at"] + ["active for"] * recording.is_video + [""] + ["face"] * bool(pictures)
    return _table(head, rows)


def _duration(recording: Recording, peak: Peak) -> str:
    """From the first active frame to the one after the last."""
    if recording.time_s is None:
        return f"{recording.frame[peak.last] - recording.frame[peak.first] + 1} frames"
    times = recording.time_s
    if peak.last + 1 < len(times):
        end = times[peak.last + 1]
    else:  # nothing follows: as long as the frames usually last
        end = times[-1] + (times[-1] - times[0]) / max(1, len(times) - 1)
    return f"{end - times[peak.first]:.2f} s"


def _x(recording: Recording, place: int) -> float:
    """Where the chart has a place."""
    x = recording.frame[place] if recording.time_s is None else recording.time_s[place]
    return round(float(x), 3)


def gap_table(recording: Recording) -> str:
    """Frames without a measured face, and why."""
    gaps = recording.gaps
    if not gaps:
        what = "frame" if recording.is_video else "photo"
        return f'<p class="quiet">None: a face was measured in every {what} of the table.</p>'
    rows = []
    for gap in gaps[:MOST_GAPS]:
        told = [moment(recording, gap.first), moment(recording, gap.last), str(gap.last - gap.first + 1)]
        if not recording.is_video:
            told = told[:1]
        cells = "".join(f'<td class="wide">{escape(t)}</td>' for t in [*told, _reason(gap)])
        rows.append(f"<tr>{cells}</tr>")
    head = ["from", "to", "frames", "reason"] if recording.is_video else ["photo", "reason"]
    rest = len(gaps) - MOST_GAPS
    more = f'<p class="quiet">and {rest:,} more, which the table lists</p>' if rest > 0 else ""
    return _table(head, rows) + more


def _reason(gap: Gap) -> str:
    return gap.reason if len(gap.reason) <= 300 else gap.reason[:300] + "…"


def activity_table(activities: Sequence[Activity]) -> str:
    """Mean, greatest value, share active and the sides of each action unit."""
    rows = []
    for a in activities:
        bar = f'<span class="bar"><i style="width:{100 * a.active:.1f}%"></i></span>'
        sides = ["" if math.isnan(v) else f"{v:.2f}" for v in (a.right, a.left)]
        cells = [f"{a.mean:.2f}", f"{a.most:.2f}", f"{a.active:.1%}{bar}", *sides]
        told = "".join(f'<td class="n">{c}</td>' for c in cells)
        rows.append(f"<tr><td>{a.unit}</td><td>{escape(name_of(a.unit))}</td>{told}</tr>")
    return _table(["unit", "", "mean", "max", "share active", "mean, right", "mean, left"], rows)


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    right = {"mean", "max", "peak", "share active", "mean, right", "mean, left", "active for"}
    cells = "".join(f'<th scope="col"{" class=n" * (h in right)}>{h}</th>' for h in head)
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def evidence_section(shown: Sequence[Recording], found: Sequence[Evidence]) -> str:
    """Photo, crop, fitted face and residual of frames that were fitted anew."""
    if not found:
        return ""
    out = [
        '<section id="evidence"><h2>Fitted faces</h2><p>These frames were fitted anew, as different '
        "from each other as the table has them. The closer the fitted face is to the photo, the better "
        "the numbers can be trusted; bright places of the residual are those the model could not explain.</p>"
    ]
    for item in found:
        recording = shown[item.key[0]]
        panels = "".join(
            f'<div>{escape(caption)}<img src="{uri(picture)}" alt="{escape(caption)}"></div>'
            for caption, picture in item.pictures.items()
        )
        rows = [
            f'<tr><td>{unit}</td><td>{escape(name_of(unit))}</td><td class="n">{a:.2f}</td>'
            f'<td class="n">{b:.2f}</td></tr>'
            for unit, a, b in item.units
        ]
        name = f"{escape(recording.name)}, " * (len(shown) > 1) + label(recording, item.key[1])
        title = (
            f"{name}, {escape(moment(recording, item.place))}; confidence of the fit {item.confidence:.2f}"
        )
        numbers = _table(["unit", "", "table", "fit"], rows) if rows else ""
        out.append(
            f"<figure><figcaption><strong>{title}</strong></figcaption>"
            f'<div class="panels">{panels}</div>{numbers}</figure>'
        )
    return "\n".join(out) + "</section>"


def making(about: Mapping[str, Any] | None) -> str:
    """What the description beside the table says: scale, weights, options, versions."""
    out = ['<section id="making"><h2>How it was made</h2>']
    if about is None:
        out.append(
            '<p class="note">No description (.json) lies beside the table: scale, weights and options '
            "are not known.</p></section>"
        )
        return "\n".join(out)
    plain = {k: v for k, v in about.items() if not isinstance(v, Mapping)}
    out.append(_list(plain))
    for name, values in about.items():
        if isinstance(values, Mapping):
            out.append(f"<h3>{escape(name.replace('_', ' '))}</h3>{_list(values)}")
    return "\n".join(out) + "</section>"


def _list(values: Mapping[str, Any]) -> str:
    items = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            told = "<br>".join(f"{escape(str(k))} <code>{escape(str(v))}</code>" for k, v in value.items())
        else:
            told = escape(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
        items.append(f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{told}</dd>")
    return f"<dl>{''.join(items)}</dl>"
