"""Commands that measure the networks: evaluate fit and contrast; heavy imports inside, as in `cli`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceunits.cli_options import DetectorWeights, Networks, Output, Recipe, spread
from faceunits.io.files import printable
from faceunits.terminal import say

if TYPE_CHECKING:
    from faceunits.evaluation.report import Figure, Report


def add_commands(evaluate: typer.Typer) -> None:
    """Register the commands of this file under `evaluate`."""
    for command in (fit, contrast):
        evaluate.command(command.__name__)(spread(command))


def fit(
    plain: Annotated[Path, typer.Option(help="shard of plain renders kept for testing")],
    varied: Annotated[Path, typer.Option(help="shard of varied renders kept for testing")],
    faces: Annotated[Path, typer.Option(help="folder with the photo sets london and canada")],
    using: Networks,
    count: Annotated[int, typer.Option(help="faces of the closed loop and of each shard", min=2)] = 200,
    recipe: Recipe = "default",
    detector: DetectorWeights = "detector",
    output: Output = None,
) -> None:
    """Every figure of a fit: renders, real people kept out, mirror images, time; each step as it is done."""
    from faceunits.alignment.detect import Detector
    from faceunits.evaluation import report
    from faceunits.fitting import optimise

    optimise.recipe(recipe)  # an unknown one is refused before the networks are read
    models = using.load()
    page = report.Report("How well a fit measures", using.about(recipe, detector))
    page.about["faces per step"] = count
    name = f"fit_{recipe}"

    def done(figure: Figure) -> None:
        say(figure.line())
        if output:  # what is done so far, should the run be interrupted
            page.write(output, name)

    report.fit(
        models, recipe, plain=plain, varied=varied, faces=faces, count=count, detector=Detector(detector),
        report=page, tell=done,
    )  # fmt: skip
    finish(page, output, name)


def contrast(
    folder: Annotated[
        Path, typer.Argument(help="folder with neutral/NAME.jpg and smiling/NAME.jpg", metavar="DIR")
    ],
    using: Networks,
    recipe: Recipe = "default",
    detector: DetectorWeights = "detector",
    output: Output = None,
) -> None:
    """How well the units tell smiling from neutral photos; contrast_labels.csv in the folder is used."""
    from faceunits.alignment.detect import Detector
    from faceunits.evaluation import report

    models = using.load()
    page = report.contrast(models, recipe, folder, detector=Detector(detector))
    page.about |= using.about(recipe, detector)
    tell(page.figures)
    finish(page, output, "contrast")


def tell(figures: Iterable[Figure]) -> None:
    """One line each to stderr."""
    for figure in figures:
        say(figure.line())


def finish(page: Report, output: Path | None, name: str) -> None:
    """Write the page to its folder, or to stdout where there is none."""
    if output is None:
        sys.stdout.write(page.markdown())
        return
    say("wrote " + " and ".join(printable(p) for p in page.write(output, name)))
