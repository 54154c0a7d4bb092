"""The command `evaluate edit`: edits of photos, or of rendered people by editors of latents."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceunits.cli_options import Device
from faceunits.errors import InputError, ParameterError
from faceunits.io.files import check_folder, printable
from faceunits.terminal import say

if TYPE_CHECKING:
    from faceunits.evaluation.crops import Tool
    from faceunits.evaluation.editor_files import Space
    from faceunits.evaluation.editor_scores import Judges
    from faceunits.evaluation.editor_sets import Frames
    from faceunits.networks.editor import Editor


def add_evaluation(evaluate: typer.Typer) -> None:
    """Register `evaluate edit`."""
    evaluate.command("edit")(evaluate_edit)


def evaluate_edit(
    photos: Annotated[
        list[Path] | None, typer.Argument(help="photos, or folders of photos", metavar="PHOTOS...")
    ] = None,
    renders: Annotated[
        Path | None, typer.Option(help="instead of photos: folder of renders, several frames per person")
    ] = None,
    gan: Annotated[
        Path | None,
        typer.Option(help="weights of encoder and generator, and of an editor: judges the engine gan"),
    ] = None,
    editor: Annotated[
        list[Path] | None,
        typer.Option(help="with --renders: weights of further editors; all are compared with the first"),
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="with --renders: folder of people from whom linear baselines learn")
    ] = None,
    people: Annotated[
        int,
        typer.Option(help="with --renders: so many people, the last ones, take the test; 0: all", min=0),
    ] = 9,
    pairs: Annotated[int, typer.Option(help="with --renders: edits of each person", min=1)] = 60,
    singles: Annotated[
        int, typer.Option(help="with --renders: editors whose single units are tried", min=1)
    ] = 1,
    arcface: Annotated[Path | None, typer.Option(help="your file of IR-SE50, for identity")] = None,
    lpips: Annotated[
        tuple[Path, Path] | None, typer.Option(help="your files of AlexNet or VGG-16, and of LPIPS's heads")
    ] = None,
    inception: Annotated[Path | None, typer.Option(help="your file of Inception, for FID")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="folder of tables and contact sheets; else to stdout"),
    ] = None,
    series: Annotated[str, typer.Option(help="of photos: such as AU12,AU01+02; all when empty")] = "",
    device: Device = "auto",
) -> None:
    """How well edits do what was asked: requested against measured units, identity, surroundings, time.

    With --renders: editors of latents on people they have not seen, beside two linear baselines.
    """
    if renders is None:
        if not photos:
            raise InputError("expected photos, or --renders with a folder; got neither; name one")
        if editor or arcface or lpips or inception:
            raise ParameterError(
                "expected --editor, --arcface, --lpips and --inception with --renders only; got one with "
                "photos; leave it out"
            )
        _on_photos(photos, output, series, device, gan)
        return
    if photos or series:
        raise ParameterError("expected photos, or --renders; got both, or --series; leave one out")
    if gan is None:
        raise InputError("expected --gan with --renders; got none; name the weights of encoder and generator")
    files = _Files(renders, training, gan, tuple(editor or ()), arcface, lpips, inception)
    _on_renders(files, people, pairs, singles, output, device)


def _on_photos(photos: list[Path], output: Path | None, series: str, device: str, gan: Path | None) -> None:
    from faceunits import editing
    from faceunits.evaluation import edits
    from faceunits.gan.files import Files
    from faceunits.io import image, table
    from faceunits.photos import told_apart

    chosen = tuple(s for s in series.split(",") if s) or tuple(edits.SERIES)
    for name in chosen:
        if name not in edits.SERIES:
            raise ParameterError(
                f"expected a series {', '.join(edits.SERIES)}; got {name!r}; use these, with commas between"
            )
    files = image.find(photos)
    if output:
        check_folder(output)
        output.mkdir(exist_ok=True)
    networks = editing.load("gan", Files(gan, gan, gan), device) if gan else None
    summary, values, outcomes = edits.evaluate(
        files, series=chosen, device=device, sheets=output is not None, networks=networks, tell=say
    )
    sys.stdout.write(table.text(summary))
    if output:
        about = table.describe(weights={}, options={"series": list(chosen), "photos": len(outcomes)})
        for name, rows in (("edits", summary), ("edits_values", values)):
            table.write(output / f"{name}.csv", rows, about=about)
        names = told_apart([Path(o.name).stem for o in outcomes])
        for name, outcome in zip(names, outcomes, strict=True):
            assert outcome.sheet is not None  # asked for with the folder
            image.write(output / f"{name}_sheet.png", outcome.sheet)
        say(f"wrote tables and {len(outcomes)} sheets to {printable(output)}; the sheets show edited people")


@dataclass(frozen=True)
class _Files:
    """What an evaluation on renders reads."""

    renders: Path
    training: Path | None
    gan: Path
    editors: tuple[Path, ...]
    arcface: Path | None
    lpips: tuple[Path, Path] | None
    inception: Path | None


def _on_renders(
    files: _Files, people: int, pairs: int, singles: int, output: Path | None, device: str
) -> None:
    from faceunits import fitting, weights
    from faceunits.evaluation import crops, editor_bench, editor_files, editor_sets, editors, pages

    if output:
        check_folder(output)
    place = fitting.models.device_of(device)
    space = editor_files.load_space(files.gan, place)
    nets = _editors(files, place)
    names = next(iter(nets.values())).config.names
    editor_bench.check(nets, space, names)
    # crops come ready made: no detector is loaded
    on = crops.tool(fitting.load(device=device), detector=lambda image: [])
    frames = editor_sets.read(files.renders, names, on.models)
    rest, test = editor_sets.split(frames.person, 0 if files.training else people)
    others = editor_sets.read(files.training, names, on.models) if files.training else frames.of(rest)
    nets |= _linear(others, space, nets, on)
    plan = editor_bench.Plan(pairs=pairs, singles=singles)
    say(f"{len(test)} people; encoding their frames")
    bench = editor_bench.prepare(frames.of(test), space, on, _judges(files, place), plan)
    page = editors.run(bench, nets, tell=say)
    told = [weights.describe(path) for path in (files.gan, *files.editors)]
    page.report.about["files"] = ", ".join(f"{t['file']}, sha256 {t['sha256'][:16]}" for t in told)
    for figure in page.report.figures:
        say(figure.line())
    if output is None:
        sys.stdout.write(page.report.markdown())
        return
    written = pages.write(page.report, output, "editors", pictures=page.pictures, tables=page.tables)
    say("wrote " + ", ".join(printable(p) for p in written))


def _editors(files: _Files, place: Any) -> dict[str, Editor]:
    """Editors under their kind's name, or their file's where two are of one kind."""
    from faceunits.evaluation import editor_files

    paths = [*([files.gan] if editor_files.holds_editor(files.gan) else []), *files.editors]
    if not paths:
        raise InputError("expected an editor in --gan, or --editor; got neither; name the file of one")
    loaded = [(*editor_files.load_editor(path, place), path) for path in paths]
    kinds = [name for name, _, _ in loaded]
    named = {(k if kinds.count(k) == 1 else printable(p.stem)): net for k, net, p in loaded}
    if len(named) < len(loaded):
        raise InputError("expected editors of different file names; got one name twice; rename a file")
    return named


def _linear(frames: Frames, space: Space, nets: dict[str, Editor], on: Tool) -> dict[str, Editor]:
    """The linear baselines, where there are people to learn from, that no file was named of."""
    from faceunits.evaluation import editor_bench
    from faceunits.networks import editor_baselines

    if all(name in nets for name in editor_baselines.LINEAR):
        return {}
    if not len(frames.image):
        say("nobody beside those who take the test: no linear baselines; --training names a folder of others")
        return {}
    config = next(iter(nets.values())).config
    say("linear baselines: encoding the frames of the other people")
    found = editor_bench.linear(frames, space, config, device=on.models.device)
    return {k: v for k, v in found.items() if k not in nets}


def _judges(files: _Files, place: Any) -> Judges:
    from faceunits.evaluation.editor_scores import Judges
    from faceunits.weights import official

    return Judges(
        arcface=official.identity(files.arcface).to(place) if files.arcface else None,
        lpips=official.lpips(*files.lpips).to(place) if files.lpips else None,
        inception=official.inception(files.inception).to(place) if files.inception else None,
    )
