"""Commands that judge a measurement where nobody has labelled faces: on renders, on how still it is, on
mirror images, under worse conditions, by groups of people; and the ablations of the fit.

They join the `evaluate` commands of `cli_evaluate`; heavy imports inside, as in `cli`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceunits.cli_evaluate import finish, tell
from faceunits.cli_options import DetectorWeights, Measuring, Method, Networks, Output, Recipe, spread
from faceunits.errors import ConfigError, InputError
from faceunits.io.files import printable
from faceunits.terminal import bar, say

if TYPE_CHECKING:
    import pandas as pd

    from faceunits.evaluation.crops import Tool

OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", help="folder of the page (.md, .json), its pictures and tables")
]
Photos = Annotated[list[Path], typer.Argument(help="photos, or folders of photos", metavar="PHOTOS...")]


def add_commands(evaluate: typer.Typer) -> None:
    """Register the commands of this file under `evaluate`."""
    for command in (renders, stability, mirror, height, robustness, groups, ablations):
        evaluate.command(command.__name__)(spread(command))


def renders(
    shards: Annotated[list[Path], typer.Argument(help=".npz files of synthesize", metavar="SHARDS...")],
    using: Networks,
    count: Annotated[int, typer.Option(help="faces of each shard", min=2)] = 200,
    method: Method = "fast",
    recipe: Recipe = "default",
    views: Annotated[int | None, typer.Option(help="of fast: 4 as photos are read, 1 as videos are")] = None,
    output: Output = None,
) -> None:
    """Agreement with the truth on rendered faces that trained nothing, and errors of left against right."""
    from faceunits.evaluation import crops, pages
    from faceunits.evaluation import renders as steps

    # crops come ready made: no detector is loaded
    on = crops.tool(using.load(), method, recipe, detector=lambda image: [], views=views)
    with bar("shards") as step:
        page = steps.renders(shards, on, count=count, progress=step)
    page.about |= {"method": method} | using.about(recipe) | ({} if views is None else {"views": views})
    tell(page.figures)
    if output is None:
        finish(page, output, "renders")
    else:
        _wrote(pages.write(page, output, "renders", pictures={"confidence": steps.chart(page)}))


def stability(
    using: Measuring,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="videos, or tables of videos by this or another tool", metavar="VIDEO|TABLE..."),
    ] = None,
    frozen: Annotated[
        list[Path] | None, typer.Option(help="photo that is made into a video in which nothing moves; repeat")
    ] = None,
    tracked: Annotated[
        bool,
        typer.Option(help="measure as `estimate` does videos; else each frame on its own, as in the paper"),
    ] = False,
    frames: Annotated[int, typer.Option(help="frames of a frozen photo", min=5)] = 60,
    interpolation: Annotated[str, typer.Option(help="of its shifts: fourier or bicubic")] = "fourier",
    output: Output = None,
) -> None:
    """How still the units are: the paper's Table 3 on videos, and the jitter of frozen photos."""
    if not sources and not frozen:
        raise InputError("expected a video, a table, or --frozen with a photo; got none; name one")
    others = using.parser or using.generator or using.fitting or using.student or using.recipe != "default"
    if tracked and others:
        raise ConfigError(
            "expected the package's own networks with --tracked; got others or a recipe; leave out either"
        )
    from faceunits.evaluation import stability as steps

    on: list[Tool] = []

    def tool() -> Tool:  # tables alone need no networks
        if not on:
            on.append(using.tool())
        return on[0]

    about = {"method": using.method, "frames": "tracked" if tracked else "each on its own"}
    if sources:
        tables = {path.name: _track(path, using.method, tracked, tool) for path in sources}
        page = steps.stability(tables)
        page.about |= about if on or tracked else {}
        page.about |= using.told() if on else {}
        tell(page.figures)
        finish(page, output, "stability")
    if frozen:
        options = steps.Frozen(frames=frames, interpolation=interpolation)
        page = steps.frozen_report(_frozen(_photos(frozen), using.method, tracked, tool, options))
        page.about |= about | {
            "shift": f"up to {options.shift:g} px by {interpolation}",
            "noise": f"sigma {options.noise:g}/255", "frames of each photo": frames,
        }  # fmt: skip
        page.about |= using.told()
        tell(page.figures)
        finish(page, output, "frozen")


def _track(path: Path, method: str, tracked: bool, tool: Callable[[], Tool]) -> pd.DataFrame:
    """The table of a video, measured or read."""
    from faceunits.evaluation import stability as steps
    from faceunits.io import readers, video

    if path.suffix.lower() in (".csv", ".jsonl", ".parquet"):
        return readers.read_table(path)
    if tracked:
        import pandas as pd

        from faceunits import streaming

        joined: pd.DataFrame = pd.concat(list(streaming.stream(path, method=method)), ignore_index=True)
        return joined
    return steps.video_table(path.name, (frame.picture for frame in video.frames(path)), tool())


def _frozen(
    photos: list[Path], method: str, tracked: bool, tool: Callable[[], Tool], options: Any
) -> dict[str, pd.DataFrame]:
    from faceunits.evaluation import stability as steps
    from faceunits.io import image

    out = {}
    # a page tells photos apart, and nothing of the machine they lie on
    folder = os.path.commonpath([p.absolute().parent for p in photos])
    with bar("photos") as step:
        for i, path in enumerate(photos):
            picture, name = image.read(path), printable(os.path.relpath(path, folder))
            if tracked:
                out[name] = steps.frozen_tracked(name, picture, method, options)
            else:
                out[name] = steps.video_table(name, steps.frozen(picture, options), tool())
            step(i + 1, len(photos))
    return out


def mirror(
    folder: Annotated[Path, typer.Argument(help="folder of photos", metavar="DIR")],
    using: Measuring,
    output: Output = None,
) -> None:
    """Agreement of photos with their mirror images, sides swapped."""
    from faceunits.evaluation import mirror as steps

    on = using.tool()
    with bar("photos") as step:
        page = steps.mirror(folder, on, progress=step)
    page.about |= {"method": using.method} | using.told()
    tell(page.figures)
    finish(page, output, "mirror")


def height(
    folder: Annotated[
        Path, typer.Argument(help="folder with neutral and smiling: photos of the same names", metavar="DIR")
    ],
    using: Measuring,
    output: Output = None,
) -> None:
    """How strong smiles are read, against how far the mouth's corners went in the same person."""
    from faceunits.evaluation import height as steps

    page = steps.height(folder, using.tool())
    page.about |= {"method": using.method} | using.told()
    tell(page.figures)
    finish(page, output, "height")


def robustness(
    photos: Photos,
    using: Measuring,
    output: OutputFolder,
    other: Annotated[
        list[Path] | None, typer.Option(help="another tool's table of the pictures of --pictures; repeat")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="folder for the changed pictures (PNG), for other tools")
    ] = None,
    only: Annotated[str, typer.Option(help="comma-separated kinds; else all: light, blur, noise, ...")] = "",
    pose: Annotated[bool, typer.Option(help="also draw each face turned")] = True,
) -> None:
    """Drift of the units when the same photo gets worse (the paper's Figure 10), as curves."""
    from faceunits.evaluation import pages
    from faceunits.evaluation import robustness as steps
    from faceunits.io import readers

    kinds = steps.chosen(only)
    # ours is called faceunits in the page
    others = {path.stem.replace("faceunits", "other"): readers.read_table(path) for path in other or []}
    on = using.tool()
    with bar("photos") as step:
        measured, without = steps.measure(
            _photos(photos), on, kinds=kinds, pose=pose, pictures=pictures, progress=step
        )
    tables = {name: steps.of_other(measured, table) for name, table in others.items()}
    page, charts, drift = steps.report(measured, tables)
    page.about |= {"photos without a face": ", ".join(without) or "none", "method": using.method}
    page.about |= using.told()
    tell(page.figures)
    _wrote(pages.write(page, output, "robustness", pictures=charts, tables=drift))
    if pictures and not others:
        say(
            f"{len(measured)} pictures in {printable(pictures)}: measure them with another tool, "
            "then add --other"
        )


def groups(
    table: Annotated[
        Path,
        typer.Argument(help="table of photos by any tool; or a shard: its skin tones", metavar="TABLE|SHARD"),
    ],
    using: Networks,
    subjects: Annotated[
        Path | None,
        typer.Argument(help="people: id and their groups; not with a shard", metavar="SUBJECTS.csv"),
    ] = None,
    by: Annotated[str, typer.Option(help="columns of the people's file, comma-separated")] = "gender",
    bands: Annotated[str, typer.Option(help="where bands of a column of numbers begin")] = "25,35,45",
    rest: Annotated[str, typer.Option(help="folder name of the photos at rest")] = "neutral",
    action: Annotated[str, typer.Option(help="folder name of the same people's smiles")] = "smiling",
    labels: Annotated[Path | None, typer.Option(help="labels of the smiles, as contrast_labels.csv")] = None,
    truth: Annotated[Path | None, typer.Option(help="table of true intensities of the same inputs")] = None,
    rounds: Annotated[int, typer.Option(help="of the bootstrap and of the random groupings", min=20)] = 1000,
    count: Annotated[int, typer.Option(help="faces of a shard", min=2)] = 2000,
    method: Annotated[str, typer.Option(help="of a shard: fast, refine or fit")] = "fast",
    output: Output = None,
) -> None:
    """Errors and false alarms by group of people: the worst group, the gap, and whether it is chance."""
    if table.suffix.lower() == ".npz":
        from faceunits.evaluation import crops, tones

        # crops come ready made: no detector is loaded
        on = crops.tool(using.load(), method, detector=lambda image: [])
        with bar("shards") as step:
            page = tones.report([table], on, count=count, rounds=rounds, progress=step)
        page.about |= {"method": method} | using.about("default")
        tell(page.figures)
        finish(page, output, "groups_skin_tone")
        return
    if subjects is None:
        raise InputError("expected the people's file after the table; got none; name SUBJECTS.csv")
    from faceunits.evaluation import groups as steps
    from faceunits.evaluation import subjects as people
    from faceunits.io import readers

    names = [name.strip() for name in by.split(",") if name.strip()]
    known = people.read(subjects, names, edges=people.parse_edges(bands))
    page = steps.report(
        readers.read_table(table), known, rest=rest, action=action, rounds=rounds,
        labels=people.read_labels(labels) if labels else None,
        truth=readers.read_table(truth) if truth else None,
    )  # fmt: skip
    page.about |= {"table": printable(table)}
    tell(page.figures)
    finish(page, output, "groups")


def ablations(
    using: Networks,
    output: OutputFolder,
    shard: Annotated[
        Path | None, typer.Option(help=".npz of synthesize kept for testing; else faces that M draws itself")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="folder with neutral/NAME.* and smiling/NAME.* of real people")
    ] = None,
    count: Annotated[int, typer.Option(help="rendered faces that are fitted", min=1)] = 24,
    people: Annotated[int, typer.Option(help="people of each similarity matrix, and real pairs", min=1)] = 8,
    quick: Annotated[bool, typer.Option(help="few faces and steps: under three minutes")] = False,
    vgg: Annotated[Path | None, typer.Option(help="ImageNet weights of VGG-16, public layout")] = None,
    resnet: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE, weights in ResNet-50's public layout: ImageNet, expression, ...; repeat"
        ),
    ] = None,
    detector: DetectorWeights = "detector",
) -> None:
    """The paper's ablations as one page: feature spaces, expressions, iterations, recipes, identity."""
    from faceunits.evaluation import ablations as steps
    from faceunits.evaluation import pages, spaces

    files = dict(_named(text) for text in resnet or [])
    models = using.load()
    all_spaces = spaces.spaces(models, vgg=vgg, resnets=files)
    if quick:
        count, people = min(count, steps.QUICK_FACES), min(people, steps.QUICK_FACES)
    faces, groups_ = steps.gather(models, shard, pairs, count, people, detector)
    page = steps.run(models, all_spaces, faces, groups_, steps.QUICK if quick else steps.Plan(), tell=say)
    page.report.about |= {"rendered": "a shard" if shard else "faces that M draws itself: a closed loop"}
    page.report.about |= using.about("as named", detector)
    tell(page.report.figures)
    _wrote(pages.write(page.report, output, "ablations", pictures=page.pictures))


def _named(text: str) -> tuple[str, Path]:
    name, sign, path = text.partition("=")
    if not sign or not name or not path:
        raise ConfigError(f"expected NAME=FILE, such as imagenet=resnet50.pth; got {text!r}")
    return name, Path(path)


def _photos(paths: list[Path]) -> list[Path]:
    from faceunits.io import image

    return image.find(paths)


def _wrote(paths: list[Path]) -> None:
    say("wrote " + ", ".join(map(printable, paths)))
