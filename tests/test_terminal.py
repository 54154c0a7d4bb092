"""Progress: bars on a terminal, silence or lines in a log."""

from __future__ import annotations

import io
import sys

import pytest

from faceunits import terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    out = Terminal()  # not in a fixture: pytest sets its own stderr between that and the test
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("TERM", "xterm")
    return out


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    with terminal.bar("photos") as step:
        step(1, 2, "a.jpg")
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_one_bar_of_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_a_terminal(monkeypatch)
    with terminal.bar("photos") as step:
        step(1, 2, "a.jpg")
        step(2, 2, "b.jpg")
    shown = screen.getvalue()
    assert "photos" in shown
    assert "100%" in shown
    assert "a.jpg" not in shown


def test_stages_get_bars_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_a_terminal(monkeypatch)
    with terminal.bar() as step:
        step(2, 2, "video")
        step(1, 4, "fits")
    shown = screen.getvalue()
    assert "video" in shown
    assert "25%" in shown


def test_a_long_run_writes_a_line_every_half_minute(
    clock: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    with terminal.bar_or_lines("frames") as step:
        for done in range(1, 8):
            step(10 * done, 100, "SN001")
            clock[0] += 10
    # 10 frames in 10 seconds
    assert capfd.readouterr().err == (
        "40 of 100 frames, 1 min left (SN001)\n70 of 100 frames, 0 min left (SN001)\n"
    )


def test_what_an_earlier_run_did_tells_no_pace(clock: list[float], capfd: pytest.CaptureFixture[str]) -> None:
    with terminal.bar_or_lines("faces") as step:
        step(1000, 1100)
        clock[0] += 60
        step(1001, 1100)
    assert capfd.readouterr().err == "1001 of 1100 faces, 99 min left\n"
