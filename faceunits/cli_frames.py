"""Commands that make labelled frames of people, which the editor is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceunits.terminal import bar_or_lines, say

frames = typer.Typer(
    no_args_is_help=True,
    help="Make labelled frames of people for `train editor`: rendered ones, or those of DISFA.",
)


@frames.command("render")
def render(
    rig: Annotated[Path, typer.Argument(help="folder of the face model")],
    out: Annotated[Path, typer.Argument(help="folder for the frames")],
    skins: Annotated[Path | None, typer.Option(help="file of real skins made by `skins`")] = None,
    people: Annotated[int, typer.Option(min=1, help="identities")] = 18,
    each: Annotated[int, typer.Option(min=2, help="frames of each")] = 200,
    graded: Annotated[bool, typer.Option(help="whole levels 0 to 5, as coders give them")] = True,
    seed: Annotated[int, typer.Option(help="from 900,000 on: kept for testing")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
) -> None:
    """Draw people in many expressions; files that exist are kept, so that a run can be resumed."""
    from faceunits.rig import frames as drawn

    config = drawn.FramesConfig(
        rig=str(rig), skins=str(skins or ""), people=people, frames=each, graded=graded, seed=seed
    )
    with bar_or_lines("people") as step:
        drawn.write(config, out, workers=workers, progress=step)


@frames.command("disfa")
def disfa(
    root: Annotated[Path, typer.Argument(help="DISFA in its official layout")],
    out: Annotated[Path, typer.Argument(help="folder for the frames")],
    subject: Annotated[list[str] | None, typer.Option(help="SN001, ...; may be repeated; else all")] = None,
    every: Annotated[int, typer.Option(min=1, help="take one frame of so many")] = 10,
) -> None:
    """Cut crops out of DISFA's videos, a file per subject; subjects that are there are kept."""
    from faceunits.training import frames as labelled

    labelled.from_disfa(
        root, out, subjects=subject or (), every=every,
        progress=lambda a, b, line: say(f"{a}/{b} subjects; {line}"),
    )  # fmt: skip
