"""Commands that turn the networks into files for other programs; heavy imports inside, as in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceunits.io.files import printable
from faceunits.terminal import say

export = typer.Typer(no_args_is_help=True, help="Write the networks for other programs.")


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.add_typer(export, name="export")


@export.command("onnx")
def export_onnx(
    folder: Annotated[Path, typer.Argument(help="folder for the files", metavar="DIR")],
) -> None:
    """Write the detector and the fast reader as ONNX files, each with a .json that describes it."""
    from faceunits import engine, fitting
    from faceunits import export as exporting

    engine.require("onnx", "onnxscript")
    say(f"six files to {printable(folder)}; about half a minute")
    exporting.onnx(
        folder,
        fitting.load(device="cpu"),
        sources={"student": "student"},
        progress=lambda path: say(f"wrote {printable(path)}"),
    )
