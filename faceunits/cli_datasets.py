"""Commands that compare with labels: evaluate disfa, fera2015, ckplus, mmi, facewarehouse and table.

Heavy imports inside, as in `cli`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceunits.terminal import bar_or_lines, say

if TYPE_CHECKING:
    from faceunits.evaluation.protocol import Outcome

Root = Annotated[Path, typer.Option(help="folder of the data set, in its official layout")]
Method = Annotated[str, typer.Option(help="fast, refine or fit")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="folder for the page and for what was measured [./evaluation_NAME]"),
]
Calibrate = Annotated[
    Path | None, typer.Option(help="text file of subjects to fit a calibration on; the others are scored")
]
Kind = Annotated[str, typer.Option("--calibration", help="affine or monotone")]
Clip = Annotated[bool, typer.Option("--clip", help="add a row of predictions clipped to 0-5")]
Rounds = Annotated[int, typer.Option(help="draws of the bootstrap by subject", min=0)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]


def add_commands(evaluate: typer.Typer) -> None:
    """Register the commands of this file under `evaluate`."""
    for command in (disfa, fera2015, ckplus, mmi, facewarehouse, table):
        evaluate.command(command.__name__)(command)


def disfa(
    root: Root, method: Method = "fast", output: Output = None,
    camera: Annotated[str, typer.Option(help="left or right")] = "left",
    calibrate: Calibrate = None, kind: Kind = "affine", clip: Clip = False, rounds: Rounds = 1000,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Agreement with DISFA's labels: twelve units, all 27 subjects and the three parts."""
    _dataset("disfa", root, method, output, calibrate, kind, clip, rounds, device, camera=camera)


def fera2015(
    root: Root, method: Method = "fast", output: Output = None, calibrate: Calibrate = None,
    kind: Kind = "affine", clip: Clip = False, rounds: Rounds = 1000, device: Device = "auto",
) -> None:  # fmt: skip
    """Agreement with the labels of FERA 2015 (BP4D): five units, Development first."""
    _dataset("fera2015", root, method, output, calibrate, kind, clip, rounds, device)


def ckplus(
    root: Root, method: Method = "fast", output: Output = None,
    peaks_only: Annotated[bool, typer.Option("--peaks-only", help="leave neutral first frames out")] = False,
    calibrate: Calibrate = None, kind: Kind = "affine", clip: Clip = False, rounds: Rounds = 1000,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Agreement with the labels of CK+: peaks and, unless told otherwise, neutral first frames."""
    _dataset("ckplus", root, method, output, calibrate, kind, clip, rounds, device, peaks_only=peaks_only)


def mmi(
    root: Root, method: Method = "fast", output: Output = None,
    profiles: Annotated[bool, typer.Option("--profiles", help="take clips in profile view as well")] = False,
    calibrate: Calibrate = None, kind: Kind = "affine", clip: Clip = False, rounds: Rounds = 1000,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Agreement with the phases of MMI, which has no intensities."""
    _dataset("mmi", root, method, output, calibrate, kind, clip, rounds, device, profiles=profiles)


def facewarehouse(
    root: Root, method: Method = "fast", output: Output = None, rounds: Rounds = 1000, device: Device = "auto"
) -> None:
    """How far each pose of FaceWarehouse moves each unit; it has no labels."""
    _dataset("facewarehouse", root, method, output, None, "affine", False, rounds, device)


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


def _dataset(
    name: str, root: Path, method: str, output: Path | None, calibrate: Path | None, kind: str, clip: bool,
    rounds: int, device: str, **options: object,
) -> None:  # fmt: skip
    from faceunits.evaluation import calibration, datasets, poses, protocol
    from faceunits.io.files import printable

    place = output or Path(f"evaluation_{name}")
    data = datasets.read(name, root, **options)
    if calibrate is not None:  # what can be wrong comes out before the long part
        calibration.subjects_of(calibrate, data.subjects)
        calibration.check_kind(kind)
    measure, about = protocol.measurer(method, device), protocol.fingerprint(method)
    frames = sum(len(r.frames) for r in data.recordings)
    say(
        f"{data.spec.title}: {len(data.recordings)} recordings of {len(data.subjects)} subjects, {frames} "
        f"frames; writes to {printable(place)}; an interrupted run goes on where it was"
    )
    kept = place / "measured"
    with bar_or_lines("frames") as step:
        if name == "facewarehouse":
            outcome = poses.evaluate(data, kept, measure, about=about, rounds=rounds, progress=step)
        else:
            outcome = protocol.evaluate(
                data, kept, measure, about=about, calibrate=calibrate, kind=kind, clip=clip, rounds=rounds,
                progress=step,
            )  # fmt: skip
    _finish(outcome, place, f"{name}_{method}")


def _finish(outcome: Outcome, output: Path | None, name: str) -> None:
    from faceunits.evaluation import tables
    from faceunits.io.files import printable

    if output is None:
        sys.stdout.write(tables.markdown(outcome))
        return
    paths = tables.write(outcome, output, name)
    for line in tables.summary(outcome):
        say(line)
    say("wrote " + ", ".join(printable(p) for p in paths))
