"""The report: its figures are those of the table, its page is complete, safe and small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceunits import aus
from faceunits.errors import InputError
from faceunits.viz import report
from faceunits.viz.report import courses, packing

EVIL = "<img src=x onerror=alert(1)>&\"'.mp4"


def rows(
    values: list[float] | np.ndarray,
    *,
    name: str = "a.mp4",
    face_id: int = 0,
    first: int = 1,
    rate: float = 10,
) -> pd.DataFrame:
    """One face in successive frames with these intensities of AU12; its left side is half of it."""
    frame = np.arange(first, first + len(values))
    x = np.asarray(values, float)
    return pd.DataFrame(
        {
            "input": name, "frame": frame, "face_id": face_id, "timestamp": (frame - 1) / rate,
            "confidence": 0.9, "success": 1, "reason": "", "face_x": 20.0, "face_y": 20.0, "face_w": 60.0,
            "face_h": 60.0, "pose_pitch_deg": -3.0, "pose_yaw_deg": 5.0, "pose_roll_deg": 0.0,
            "AU06_r": x / 10, "AU12_r": x, "AU12_L_r": x / 2, "AU12_R_r": x,
        }
    )  # fmt: skip


def empty(count: int, reason: str, *, name: str = "a.mp4", first: int = 1, rate: float = 10) -> pd.DataFrame:
    frame = np.arange(first, first + count)
    return pd.DataFrame(
        {"input": name, "frame": frame, "face_id": -1, "timestamp": (frame - 1) / rate, "success": 0,
         "reason": reason}
    )  # fmt: skip


def only(table: pd.DataFrame) -> courses.Recording:
    [recording] = courses.recordings(table)
    return recording


def html(table: pd.DataFrame, **more: Any) -> str:
    shown, left_out = report.choose(courses.recordings(table))
    return report.page("table.csv", shown, left_out=left_out, **({"about": None} | more))


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    values: dict[str, Any] = json.loads(found[1])
    return values


def decoded(recording: dict[str, Any], course: dict[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest values as the page's script reads them."""
    names = [s[0] for s in recording["series"]]
    low, step = recording["series"][names.index(name)][1:]
    parts = 1 if recording["per"] == 1 else 2
    codes = np.frombuffer(base64.b64decode(course["data"]), "<u2").reshape(parts, len(names), course["count"])
    values = np.where(codes == 65535, np.nan, low + step * codes)[:, names.index(name)]
    return values[0], values[-1]


# ---- figures ----------------------------------------------------------------------------------------------


def test_a_video_is_split_into_courses_and_gaps() -> None:
    table = pd.concat(
        [rows([0, 1, 2]), empty(2, "no face", first=4), empty(1, "too dark", first=6), rows([3], first=7),
         rows([4, 4], face_id=1, first=2)]
    )  # fmt: skip
    recording = only(table.sample(frac=1, random_state=0))
    assert recording.frame.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert [(c.face_id, c.at.tolist()) for c in recording.courses] == [(0, [0, 1, 2, 6]), (1, [1, 2])]
    at = recording.series.index("AU12_r")
    assert recording.courses[0].values[:, at].tolist() == [0, 1, 2, 3]
    assert recording.gaps == (courses.Gap(3, 4, "no face"), courses.Gap(5, 5, "too dark"))


def test_frames_that_the_table_lacks_are_a_gap() -> None:
    recording = only(pd.concat([rows([1, 1, 1]), rows([1, 1, 1], first=8)]))
    assert [(g.first, g.last) for g in recording.gaps] == [(2, 3)]
    assert "between frames 3 and 8" in recording.gaps[0].reason
    every_fifth = rows(np.ones(20)).iloc[::5]
    assert only(every_fifth).gaps == ()


def test_photos_come_together_and_name_their_failures() -> None:
    table = pd.concat([rows([3.0], name="a.jpg"), empty(1, "unreadable: torn", name="b.jpg"),
                       rows([1.0], name="c.jpg"), rows([2.0], name="c.jpg", face_id=1)])  # fmt: skip
    table["frame"], table["timestamp"] = 0, 0.0
    recording = only(table)
    assert recording.photos == ("a.jpg", "b.jpg", "c.jpg")
    assert [(c.face_id, c.at.tolist()) for c in recording.courses] == [(0, [0, 2]), (1, [2])]
    assert recording.gaps == (courses.Gap(1, 1, "unreadable: torn"),)
    assert "torn" in html(table)


def test_without_usable_times_frames_are_counted() -> None:
    table = rows([1, 2, 3])
    table["timestamp"] = [0.0, 0.0, 0.1]
    assert only(table).time_s is None
    assert data_of(html(table))["recordings"][0]["time"] == [1, 2, 3]


def test_a_bare_table_of_another_tool_will_do() -> None:
    recording = only(pd.DataFrame({"AU12_r": [0.0, 4.0, np.nan]}))
    assert len(recording.frame) == 3
    assert courses.peaks(recording, recording.courses[0])[0].value == 4


def test_a_table_without_units_is_refused() -> None:
    with pytest.raises(InputError, match="expected a table with columns such as AU12_r; got x"):
        courses.recordings(pd.DataFrame({"x": [1]}))


def test_a_peak_is_the_top_of_a_stretch() -> None:
    #                     0  1  2  3    4  5  6  7  8  9  10 11 12 13 14
    recording = only(rows([0, 1, 3, 0.5, 2, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0]))
    found = [p for p in courses.peaks(recording, recording.courses[0]) if p.unit == "AU12"]
    # the dip at 3 lasts 0.2 s and ends nothing
    assert [(p.value, p.place, p.first, p.last) for p in found] == [
        (5, 9, 9, 9),
        (3, 2, 1, 4),
        (1, 13, 13, 13),
    ]
    assert [p.place for p in courses.peaks(recording, recording.courses[0], most=1)] == [9]


def test_of_photos_every_one_is_a_stretch() -> None:
    table = pd.concat([rows([v], name=f"{v}.jpg") for v in (2.0, 3.0, 0.5, 4.0)])
    table["frame"] = 0
    recording = only(table)
    assert [p.value for p in courses.peaks(recording, recording.courses[0], most=2)] == [4, 3]


def test_the_summary_is_that_of_the_rows() -> None:
    recording = only(rows([0, 0, 2, 4]))
    [six, twelve] = courses.summary(recording, recording.courses[0])
    assert (twelve.unit, twelve.mean, twelve.most, twelve.active) == ("AU12", 1.5, 4, 0.5)
    assert (twelve.right, twelve.left) == (1.5, 0.75)
    assert np.isnan([six.left, six.right]).all()


@given(st.data())
def test_thinning_keeps_least_and_greatest(data: st.DataObject) -> None:
    n, k = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 9))
    at = np.array(sorted(data.draw(st.sets(st.integers(0, 80), min_size=1, max_size=n))))
    number = st.one_of(st.just(np.nan), st.floats(0, 5, width=32))
    drawn = data.draw(st.lists(number, min_size=len(at), max_size=len(at)))
    values = np.array(drawn, np.float32)[:, None]
    least, greatest = packing.thin(values, at, k)
    assert len(least) == at[-1] // k - at[0] // k + 1
    for b in range(len(least)):
        inside = values[(at // k - at[0] // k) == b, 0]
        inside = inside[np.isfinite(inside)]
        wanted = (inside.min(), inside.max()) if len(inside) else (np.nan, np.nan)
        np.testing.assert_equal((least[b, 0], greatest[b, 0]), wanted)


def test_codes_lead_back_to_the_values() -> None:
    values = np.array([[0, -90.5, 0.25], [5, 90.5, 1], [np.nan] * 3], np.float32)
    series = ("AU12_r", "pose_yaw_deg", "confidence")
    codes = packing.encode(values, series)
    low, step = np.array([packing.scale_of(s) for s in series]).T[:, :, None]
    assert (codes[:, 2] == 65535).all()
    assert (np.abs(low + step * codes[:, :2] - values[:2].T) <= step / 2 + 1e-5).all()


# ---- page -------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Refuses tags that do not close in order; collects tags, attributes and text."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data


def parsed(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = html(rows([0, 1, 5, 2]), portraits={(0, 0): np.zeros((40, 40, 3), np.uint8)})
    reader = parsed(page)
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in reader.tags}
    for tag, attributes in reader.tags:
        assert not {name for name in attributes if name.startswith("on")}, tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,")), tag
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_only_our_own_script_may_run() -> None:
    page = html(rows([1]))
    script = page[page.rindex("<script>") + len("<script>") : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [
        a["content"] for tag, a in parsed(page).tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("video", [True, False])
def test_names_and_reasons_cannot_become_markup(video: bool) -> None:
    evil = f"</script><script>alert(2)</script>{EVIL}"
    unread = empty(1, evil, name=evil if video else evil + "2", first=4)
    table = pd.concat([rows([0, 3, 0], name=evil), unread, rows([1], name="<b>other</b>")])
    if not video:
        table["frame"] = 0
    page = html(table, about={"scale": evil, "weights": {evil: {"sha256": evil}}, "options": {evil: [evil]}})
    reader = parsed(page)
    assert [a for tag, a in reader.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"}, {},
    ]  # fmt: skip
    assert not [a for tag, a in reader.tags if tag == "img"]
    assert evil in reader.text
    recording = data_of(page)["recordings"][0]
    assert evil == (recording["name"] if video else recording["photos"][0])
    assert evil in recording["gaps"][0]


def test_the_drawn_values_are_those_of_the_table() -> None:
    values = np.round(np.random.default_rng(0).random(50) * 5, 3)
    [recording] = data_of(html(pd.concat([rows(values[:30]), rows(values[30:], first=33)])))["recordings"]
    least, greatest = decoded(recording, recording["courses"][0], "AU12_r")
    np.testing.assert_allclose(least[:30], values[:30], atol=1e-3)
    np.testing.assert_allclose(greatest[-20:], values[30:], atol=1e-3)
    assert recording["per"] == 1
    assert recording["time"][:3] == [0.0, 0.1, 0.2]


def test_a_long_table_gives_a_small_page_that_says_so() -> None:
    n = 100_000
    rng = np.random.default_rng(0)
    names = aus.profile().names
    units = aus.columns(names, rng.random((n, len(names)), np.float32), rng.random(n, np.float32))
    table = rows(np.zeros(n)).drop(columns=["AU06_r", "AU12_r", "AU12_L_r", "AU12_R_r"]).assign(**units)
    table.loc[77_777, "AU12_r"] = 4.9876
    table.loc[n // 2 :, "face_id"] = 1
    page = html(table)
    assert len(page.encode()) < 5_000_000
    [recording] = data_of(page)["recordings"]
    assert recording["per"] > 1
    least, greatest = decoded(recording, recording["courses"][1], "AU12_r")
    bucket = 77_777 // recording["per"] - recording["courses"][1]["first"]
    inside = table["AU12_r"].to_numpy().reshape(-1)[77_777 // recording["per"] * recording["per"] :]
    assert greatest[bucket] == pytest.approx(inside[: recording["per"]].max(), abs=1e-3)
    assert least[bucket] == pytest.approx(inside[: recording["per"]].min(), abs=1e-3)


def test_many_faces_and_videos_are_bounded() -> None:
    table = pd.concat([rows(np.full(5 + i, 3.0), name=f"{i % 9}.mp4", face_id=i) for i in range(80)])
    shown, left_out = report.choose(courses.recordings(table))
    assert (sum(len(c) for _, c in shown), left_out) == (60, 20)
    assert min(len(c.at) for _, cs in shown for c in cs) == 25
    assert "20 faces with fewer rows are left out" in html(table)


def test_an_empty_table_is_a_page_too() -> None:
    assert "an empty table" in parsed(html(rows([]))).text
    assert "no face" in parsed(html(empty(3, "no face").assign(AU12_r=np.nan))).text
