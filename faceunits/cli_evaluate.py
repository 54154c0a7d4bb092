"""Commands that measure the networks: evaluate fit and contrast; heavy imports inside, as in `cli`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceunits.terminal import say

if TYPE_CHECKING:
    from faceunits.evaluation.report import Figure, Report
    from faceunits.fitting import Models

Recipe = Annotated[str, typer.Option(help="default, or paper for GE-Net's own setting")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Parser = Annotated[Path | None, typer.Option(help="weights of E instead of the shipped ones")]
Generator = Annotated[Path | None, typer.Option(help="weights of M instead of the shipped ones")]
Fitting = Annotated[Path | None, typer.Option(help="what was measured on that pair")]
DetectorWeights = Annotated[str, typer.Option("--detector", help="weights of the detector by name or path")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="folder of the page (.md, .json); else to stdout")
]


def add_commands(evaluate: typer.Typer) -> None:
    """Register the commands of this file under `evaluate`."""
    evaluate.command("fit")(fit)
    evaluate.command("contrast")(contrast)


def fit(
    plain: Annotated[Path, typer.Option(help="shard of plain renders kept for testing")],
    varied: Annotated[Path, typer.Option(help="shard of varied renders kept for testing")],
    faces: Annotated[Path, typer.Option(help="folder with the photo sets london and canada")],
    count: Annotated[int, typer.Option(help="faces of the closed loop and of each shard", min=2)] = 200,
    recipe: Recipe = "default",
    parser: Parser = None,
    generator: Generator = None,
    fitting: Fitting = None,
    detector: DetectorWeights = "detector",
    device: Device = "auto",
    output: Output = None,
) -> None:
    """Every figure of a fit: renders, real people kept out, mirror images, time; each step as it is done."""
    from faceunits.alignment.detect import Detector
    from faceunits.evaluation import report
    from faceunits.fitting import optimise

    optimise.recipe(recipe)  # an unknown one is refused before the networks are read
    models = _models(parser, generator, fitting, device)
    page = report.Report("How well a fit measures", _about(recipe, parser, generator, fitting, detector))
    page.about["faces per step"] = count
    name = f"fit_{recipe}"

    def tell(figure: Figure) -> None:
        say(figure.line())
        if output:  # what is done so far, should the run be interrupted
            page.write(output, name)

    report.fit(
        models, recipe, plain=plain, varied=varied, faces=faces, count=count, detector=Detector(detector),
        report=page, tell=tell,
    )  # fmt: skip
    _finish(page, output, name)


def contrast(
    folder: Annotated[
        Path, typer.Argument(help="folder with neutral/NAME.jpg and smiling/NAME.jpg", metavar="DIR")
    ],
    recipe: Recipe = "default",
    parser: Parser = None,
    generator: Generator = None,
    fitting: Fitting = None,
    detector: DetectorWeights = "detector",
    device: Device = "auto",
    output: Output = None,
) -> None:
    """How well the units tell smiling from neutral photos; contrast_labels.csv in the folder is used."""
    from faceunits.alignment.detect import Detector
    from faceunits.evaluation import report

    models = _models(parser, generator, fitting, device)
    page = report.contrast(models, recipe, folder, detector=Detector(detector))
    page.about |= _about(recipe, parser, generator, fitting, detector)
    for figure in page.figures:
        say(figure.line())
    _finish(page, output, "contrast")


def _models(parser: Path | None, generator: Path | None, fitting: Path | None, device: str) -> Models:
    from faceunits import fitting as fits

    return fits.load(parser, generator, fitting, device)


def _about(
    recipe: str, parser: Path | None, generator: Path | None, fitting: Path | None, detector: str
) -> dict[str, Any]:
    """What the figures were made with; no time stamp, so that runs compare equal."""
    from faceunits import weights
    from faceunits.io import table

    measured = fitting or ("fitting" if parser is None and generator is None else None)
    used = {"parser": parser or "parser", "generator": generator or "generator", "fitting": measured,
            "detector": detector}  # fmt: skip
    about: dict[str, Any] = {"recipe": recipe}
    for name, source in used.items():
        told = weights.describe(source) if source else None
        about[name] = f"{told['file']}, sha256 {told['sha256'][:16]}" if told else "measured anew"
    return about | {"versions": ", ".join(f"{k} {v}" for k, v in table.versions().items())}


def _finish(page: Report, output: Path | None, name: str) -> None:
    from faceunits.io.files import printable

    if output is None:
        sys.stdout.write(page.markdown())
        return
    say("wrote " + " and ".join(printable(p) for p in page.write(output, name)))
