"""Commands that compare with labels: evaluate disfa, fera2015, ckplus, mmi, facewarehouse and table.

Heavy imports inside, as in `cli`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceunits.cli_options import Device, Method, spread
from faceunits.io.files import printable
from faceunits.terminal import bar_or_lines, say

if TYPE_CHECKING:
    from faceunits.evaluation.protocol import Outcome

Root = Annotated[Path, typer.Option(help="folder of the data set, in its official layout")]
Rounds = Annotated[int, typer.Option(help="draws of the bootstrap by subject", min=0)]


@dataclass(frozen=True)
class Run:
    """How a data set is measured and where its page goes."""

    method: Method = "fast"
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="folder for the page and for what was measured [./evaluation_NAME]"
        ),
    ] = None
    rounds: Rounds = 1000
    device: Device = "auto"


@dataclass(frozen=True)
class Scoring(Run):
    """And how it is compared with the labels."""

    calibrate: Annotated[
        Path | None, typer.Option(help="text file of subjects to fit a calibration on; the others are scored")
    ] = None
    kind: Annotated[str, typer.Option("--calibration", help="affine or monotone")] = "affine"
    clip: Annotated[bool, typer.Option("--clip", help="add a row of predictions clipped to 0-5")] = False


def add_commands(evaluate: typer.Typer) -> None:
    """Register the commands of this file under `evaluate`."""
    for command in (disfa, fera2015, ckplus, mmi, facewarehouse, table):
        evaluate.command(command.__name__)(spread(command))


def disfa(
    root: Root, how: Scoring, camera: Annotated[str, typer.Option(help="left or right")] = "left"
) -> None:
    """Agreement with DISFA's labels: twelve units, all 27 subjects and the three parts."""
    _dataset("disfa", root, how, camera=camera)


def fera2015(root: Root, how: Scoring) -> None:
    """Agreement with the labels of FERA 2015 (BP4D): five units, Development first."""
    _dataset("fera2015", root, how)


def ckplus(
    root: Root,
    how: Scoring,
    peaks_only: Annotated[bool, typer.Option("--peaks-only", help="leave neutral first frames out")] = False,
) -> None:
    """Agreement with the labels of CK+: peaks and, unless told otherwise, neutral first frames."""
    _dataset("ckplus", root, how, peaks_only=peaks_only)


def mmi(
    root: Root,
    how: Scoring,
    profiles: Annotated[bool, typer.Option("--profiles", help="take clips in profile view as well")] = False,
) -> None:
    """Agreement with the phases of MMI, which has no intensities."""
    _dataset("mmi", root, how, profiles=profiles)


def facewarehouse(root: Root, how: Run) -> None:
    """How far each pose of FaceWarehouse moves each unit; it has no labels."""
    _dataset("facewarehouse", root, how)


def table(
    ours: Annotated[Path, typer.Argument(help="table of faceunits, OpenFace, Py-Feat or LibreFace")],
    truth: Annotated[Path, typer.Argument(help="CSV of labels 0-5: input and/or frame, subject, AU12, ...")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder of the page; else to stdout")
    ] = None,
    beside: Annotated[
        str | None, typer.Option(help="data set whose published rows to show: disfa, ...")
    ] = None,
    rounds: Rounds = 1000,
) -> None:
    """Agreement of any tool's table with any labels."""
    from faceunits.evaluation import against

    _finish(against.compare(ours, truth, beside=beside, rounds=rounds), output, "table")


def _dataset(name: str, root: Path, how: Run, **options: object) -> None:
    from faceunits.evaluation import calibration, datasets, poses, protocol

    place = how.output or Path(f"evaluation_{name}")
    data = datasets.read(name, root, **options)
    if isinstance(how, Scoring) and how.calibrate:  # what can be wrong comes out before the long part
        calibration.subjects_of(how.calibrate, data.subjects)
        calibration.check_kind(how.kind)
    measure, about = protocol.measurer(how.method, how.device), protocol.fingerprint(how.method)
    frames = sum(len(r.frames) for r in data.recordings)
    say(
        f"{data.spec.title}: {len(data.recordings)} recordings of {len(data.subjects)} subjects, {frames} "
        f"frames; writes to {printable(place)}; an interrupted run goes on where it was"
    )
    kept = place / "measured"
    with bar_or_lines("frames") as step:
        if isinstance(how, Scoring):
            outcome = protocol.evaluate(
                data, kept, measure, about=about, calibrate=how.calibrate, kind=how.kind, clip=how.clip,
                rounds=how.rounds, progress=step,
            )  # fmt: skip
        else:
            outcome = poses.evaluate(data, kept, measure, about=about, rounds=how.rounds, progress=step)
    _finish(outcome, place, f"{name}_{how.method}")


def _finish(outcome: Outcome, output: Path | None, name: str) -> None:
    from faceunits.evaluation import tables

    if output is None:
        sys.stdout.write(tables.markdown(outcome))
        return
    paths = tables.write(outcome, output, name)
    for line in tables.summary(outcome):
        say(line)
    say("wrote " + ", ".join(printable(p) for p in paths))
