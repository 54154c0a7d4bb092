"""The command `report`: a table as a page, and its video as a film with overlay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceunits.cli_options import Device
from faceunits.errors import InputError
from faceunits.terminal import bar, say


def add_commands(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(report)


def report(
    table: Annotated[Path, typer.Argument(help="what estimate wrote: .csv, .parquet, .jsonl")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="page (.html); by default the table's name")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="the measured video: adds pictures of peaks, and fitted faces")
    ] = None,
    evidence: Annotated[int, typer.Option(help="faces to fit anew as evidence, with --video", min=0)] = 4,
    render: Annotated[
        Path | None, typer.Option(help="film (.mp4) with boxes, landmarks and bars; needs --video")
    ] = None,
    landmarks: Annotated[bool, typer.Option(help="landmarks in the film; they take most of its time")] = True,
    device: Device = "auto",
) -> None:
    """Write a table as one HTML page that needs no network: courses, faces, peaks, gaps, a summary."""
    from faceunits import reporting
    from faceunits.io.files import printable
    from faceunits.io.video import BrokenVideo
    from faceunits.reporting import sources

    if render and not video:
        raise InputError("expected the video to draw on; got --render alone; add --video")
    out = output or table.with_suffix(".html")
    sources.check(out, ".html")
    if render:
        sources.check(render, ".mp4")
        _refuse_overwriting(render, video)
    with bar() as step:
        reporting.write(table, out, video=video, evidence=evidence, device=device, progress=step)
    say(f"wrote {printable(out)}")
    if render and video:
        try:
            with bar() as step:
                count = reporting.render(
                    table, video, render, landmarks=landmarks, device=device, progress=step
                )
        except BrokenVideo as error:
            say(f"faceunits: {error}")
            say(f"wrote {printable(render)} up to there")
            raise typer.Exit(3) from None
        say(f"wrote {printable(render)}, {count} frames")


def _refuse_overwriting(film: Path, video: Path | None) -> None:
    if video and film.exists() and video.exists() and film.samefile(video):
        raise InputError("expected another name for the film than the video's; choose one with --render")
