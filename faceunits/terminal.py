"""What the commands say to people: on stderr, for stdout belongs to tables and pages."""

from __future__ import annotations

import sys


def say(text: object) -> None:
    """One line to stderr."""
    print(text, file=sys.stderr)
