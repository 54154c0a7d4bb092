"""What the commands say to people: on stderr, for stdout belongs to tables and pages."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_SECONDS_BETWEEN_LINES = 30


class Step(Protocol):
    """Told after each item: how many are done, of how many (0: nobody knows), and which it was."""

    def __call__(self, done: int, total: int, name: str = "") -> None:
        """One more item is done."""


def say(text: object) -> None:
    """One line to stderr."""
    print(text, file=sys.stderr)


@contextmanager
def bar(what: str = "") -> Iterator[Step]:
    """A bar with the time left, on a terminal only: a log file wants none.

    Args:
        what: is counted; without it, each name that is told gets a bar of its own.
    """
    if not sys.stderr.isatty():
        yield lambda done, total, name="": None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def step(done: int, total: int, name: str = "") -> None:
            title = what or name
            if title not in tasks:
                tasks[title] = bars.add_task(title, total=None)
            bars.update(tasks[title], completed=done, total=total or None)

        if what:
            step(0, 0)  # the first item may take long
        yield step


@contextmanager
def bar_or_lines(what: str) -> Iterator[Step]:
    """A bar on a terminal; elsewhere a line every half minute, for what takes hours."""
    if sys.stderr.isatty():
        with bar(what) as step:
            yield step
        return
    said = time.monotonic()
    first: tuple[float, int] | None = None  # a resumed run begins with much done: that tells no pace

    def line(done: int, total: int, name: str = "") -> None:
        nonlocal first, said
        now = time.monotonic()
        first = first or (now, done)
        if now - said >= _SECONDS_BETWEEN_LINES and done > first[1]:
            said = now
            left = (now - first[0]) / (done - first[1]) * (total - done) / 60
            say(f"{done} of {total} {what}, {left:.0f} min left" + f" ({name})" * bool(name))

    yield line
