"""Commands for those who make the weights: synthesize, train, evaluate; heavy imports inside, as in `cli`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from faceunits import cli_datasets, cli_editors, cli_evaluate, cli_frames, cli_robust
from faceunits.errors import ConfigError
from faceunits.terminal import bar_or_lines, say

TRAINERS = {
    "autoencoder": ("faceunits.training.autoencoder", "AutoencoderTraining"),
    "comparison": ("faceunits.training.comparison", "ComparisonTraining"),
    "detector": ("faceunits.training.detector", "TrainingConfig"),
    "editor": ("faceunits.training.editor", "EditorTraining"),
    "fitting": ("faceunits.training.calibrate", "FittingTraining"),
    "generator": ("faceunits.training.generator", "GeneratorTraining"),
    "mesh": ("faceunits.training.mesh", "MeshTraining"),
    "parser": ("faceunits.training.parser", "ParserTraining"),
    "student": ("faceunits.training.student", "StudentTraining"),
}
"""For each network the module with its `train` function, and the class of its settings there."""

Config = Annotated[Path | None, typer.Option(help="TOML file of settings")]
Words = Annotated[list[str] | None, typer.Option("--set", help="one setting, key=value; may be repeated")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show the settings and stop")]

train = typer.Typer(no_args_is_help=True, help="Train a network; an interrupted run resumes.")
evaluate = typer.Typer(
    no_args_is_help=True,
    help="Measure the shipped networks on people kept out of training, on data sets that you hold, and on "
    "any photos or tables.",
)


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(synthesize)
    app.command()(skins)
    app.command()(portraits)
    app.command()(animate)
    app.add_typer(cli_frames.frames, name="frames")
    app.add_typer(train, name="train")
    for module in (cli_evaluate, cli_datasets, cli_robust):
        module.add_commands(evaluate)
    cli_editors.add_evaluation(evaluate)
    app.add_typer(evaluate, name="evaluate")


def synthesize(
    out: Annotated[Path, typer.Argument(help="folder for the shards")],
    count: Annotated[int, typer.Option(help="faces")] = 1000,
    workers: Annotated[int, typer.Option(help="processes")] = 1,
    config: Config = None,
    words: Words = None,
    dry_run: DryRun = False,
) -> None:
    """Draw training faces with the rig; shards that exist are kept, so that a run can be resumed."""
    from faceunits.rig import synth

    settings = _settings(synth.SynthConfig, config, words)
    say(f"{count} faces to {out}")
    if dry_run:
        return
    with bar_or_lines("faces") as step:
        synth.write(settings, out, count, workers=workers, progress=step)


def skins(
    rig: Annotated[Path, typer.Argument(help="folder of the face model")],
    faces: Annotated[Path, typer.Argument(help="folder with the photo sets london and canada")],
    out: Annotated[Path, typer.Argument(help="folder for the skins")],
    kin: Annotated[int, typer.Option(help="write this many skins mixed of two people each as well")] = 0,
) -> None:
    """Take real skins from portraits with landmarks, for synthesize; people kept out go to a file apart."""
    try:
        from faceunits.rig import kin as kinship
        from faceunits.rig import portrait, shape, skin
    except ImportError as error:
        raise ConfigError(
            f"expected {error.name}, which is not installed; pip install 'faceunits[train]'"
        ) from None

    model = shape.load(rig)
    portrait.collect(model, faces, out)
    if kin:
        people = skin.load(out / "skins_train.npz")
        skin.save(out / "skins_kin.npz", kinship.family(model, people, kin))
    say(f"wrote the skins to {out}")


def portraits(
    faces: Annotated[Path, typer.Argument(help="folder with the photo sets london, canada and congress")],
    out: Annotated[Path, typer.Argument(help="file to write, .npz")],
    size: Annotated[int, typer.Option(help="side of the crops in pixels")] = 128,
    part: Annotated[
        str,
        typer.Option(
            help="whose: all who may train; teach or choose, those who teach R and those by whom trainings "
            "are chosen; test, people kept out, for evaluation only"
        ),
    ] = "all",
) -> None:
    """Cut labelled crops for E's and R's training from portraits; people kept out are left out."""
    from faceunits.training import people

    say(f"wrote {people.write(faces, out, size=size, part=part)} crops to {out}")


def animate(
    crops: Annotated[Path, typer.Argument(help="file of `portraits`")],
    out: Annotated[Path, typer.Argument(help="folder for the shards")],
    count: Annotated[int, typer.Option(help="faces")] = 6000,
    workers: Annotated[int, typer.Option(help="processes")] = 1,
    config: Config = None,
    words: Words = None,
    dry_run: DryRun = False,
) -> None:
    """Move the muscles of people at rest, or with `--set acting=true` of those who smile for a camera and of
    whom only what is added is known, for R's training; shards that exist are kept."""
    from faceunits.training import animated

    settings = _settings(animated.Animation, config, [f"portraits={crops}", *(words or [])])
    say(f"{count} faces to {out}")
    if dry_run:
        return
    with bar_or_lines("faces") as step:
        animated.write(settings, out, count, workers=workers, progress=step)


@train.command("detector")
def train_detector(config: Config = None, words: Words = None, dry_run: DryRun = False) -> None:
    """The face detector with its five points."""
    _train("detector", config, words, dry_run)


@train.command("parser")
def train_parser(config: Config = None, words: Words = None, dry_run: DryRun = False) -> None:
    """The parser E."""
    _train("parser", config, words, dry_run)


@train.command("student")
def train_student(config: Config = None, words: Words = None, dry_run: DryRun = False) -> None:
    """The student R, the fast reader."""
    _train("student", config, words, dry_run)


@train.command("comparison")
def train_comparison(config: Config = None, words: Words = None, dry_run: DryRun = False) -> None:
    """The comparison C, which puts R's reading right by how the same person looks at rest."""
    _train("comparison", config, words, dry_run)


@train.command("fitting")
def train_fitting(config: Config = None, words: Words = None, dry_run: DryRun = False) -> None:
    """What the fit must know of a trained E and M: step sizes, errors of readings, identity subspace."""
    _train("fitting", config, words, dry_run)


@train.command("generator")
def train_generator(config: Config = None, words: Words = None, dry_run: DryRun = False) -> None:
    """The generator M."""
    _train("generator", config, words, dry_run)


@train.command("mesh")
def train_mesh(config: Config = None, words: Words = None, dry_run: DryRun = False) -> None:
    """The mesh that moves the pixels of a photo."""
    _train("mesh", config, words, dry_run)


@train.command("autoencoder")
def train_autoencoder(config: Config = None, words: Words = None, dry_run: DryRun = False) -> None:
    """The encoder and the generator of the editor's pictures, together."""
    _train("autoencoder", config, words, dry_run)


@train.command("editor")
def train_editor(config: Config = None, words: Words = None, dry_run: DryRun = False) -> None:
    """The editor of latents, or a baseline of it."""
    _train("editor", config, words, dry_run)


@evaluate.command("detector")
def evaluate_detector(
    faces: Annotated[Path, typer.Argument(help="folder with the photo sets london, canada, congress, ...")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="table (.csv); else to stdout")
    ] = None,
    weights: Annotated[str, typer.Option(help="weights by name or path")] = "detector",
) -> None:
    """Recall, false alarms, exactness and time of the face detector."""
    from faceunits.alignment.detect import Detector
    from faceunits.evaluation.detection import evaluate_detection
    from faceunits.io import table

    if output:
        table.check(output)
    figures = evaluate_detection(faces, detector=Detector(weights))
    if output:
        about = table.describe(weights={"detector": _describe(weights)}, options={})
        say(f"wrote {output} and {table.write(output, figures, about=about)}")
    else:
        sys.stdout.write(table.text(figures))


def _describe(name_or_path: str) -> dict[str, str]:
    from faceunits import weights

    return weights.describe(name_or_path)


def _train(network: str, config: Path | None, words: list[str] | None, dry_run: bool) -> None:
    module_name, class_name = TRAINERS[network]
    module = import_module(module_name)
    settings = _settings(getattr(module, class_name), config, words)
    if not dry_run:
        module.train(settings)


def _settings(kind: type[Any], config: Path | None, words: list[str] | None) -> Any:
    """The settings of a run, shown before it starts."""
    from faceunits.io import settings

    resolved = settings.resolve(kind, config, words or [])
    for line in settings.lines(resolved):
        say(line)
    return resolved
