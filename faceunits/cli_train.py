"""Commands for those who make the weights: synthesize, train, evaluate."""

from __future__ import annotations

import typer


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this file."""
