"""Commands that turn the networks into files for other programs; heavy imports inside, as in `cli`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

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
    from faceunits.io.files import printable

    engine.require("onnx", "onnxscript")
    print(f"six files to {printable(folder)}; about half a minute", file=sys.stderr)
    exporting.onnx(
        folder,
        fitting.load(device="cpu"),
        sources={"parser": "parser", "fitting": "fitting"},
        progress=lambda path: print(f"wrote {printable(path)}", file=sys.stderr),
    )
