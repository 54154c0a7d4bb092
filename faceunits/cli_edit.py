"""The command `edit`: photos with other action units; heavy imports inside, as in `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceunits.cli_options import Device
from faceunits.errors import InputError, ParameterError
from faceunits.io.files import check_folder, printable
from faceunits.terminal import say

if TYPE_CHECKING:
    from faceunits.editing import Prepared, Wish
    from faceunits.io.marking import Photo

Output = Annotated[Path | None, typer.Option("--output", "-o", help="picture to write")]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(edit)


def edit(
    photo: Annotated[Path, typer.Argument(help="photo to edit", metavar="PHOTO")],
    units: Annotated[
        list[str] | None,
        typer.Argument(help="AU12=3 sets (0-5), AU4=+1 changes, AU6_L=2 one side", metavar="AU=VALUE..."),
    ] = None,
    output: Output = None,
    like: Annotated[Path | None, typer.Option(help="photo whose expression is taken")] = None,
    neutral: Annotated[bool, typer.Option("--neutral", help="relax all units first")] = False,
    grid: Annotated[
        str | None, typer.Option(help="sheet of one unit's values instead: AU12 0:5, AU12=0:5:0.5")
    ] = None,
    sequence: Annotated[Path | None, typer.Option(help="video (.mp4) from now to what is asked for")] = None,
    seconds: Annotated[float, typer.Option(help="of the video's movement", min=0.1, max=60)] = 2.0,
    rate: Annotated[int, typer.Option(help="frames per second of the video", min=1, max=120)] = 25,
    face: Annotated[str, typer.Option(help="number of a face, 0 the largest, or all")] = "",
    strength: Annotated[float, typer.Option(help="share of the change that is made")] = 1.0,
    engine: Annotated[str, typer.Option(help="auto, motion, or gan")] = "auto",
    generator: Annotated[
        Path | None,
        typer.Option(help="StyleGAN2 file for gan; else the encoder file's own", show_default=False),
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="e4e or pSp file for gan, or one with all three", show_default=False)
    ] = None,
    editor: Annotated[
        Path | None, typer.Option(help="file of `train editor` for gan", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="allow values beyond 0-5")] = False,
    no_mark: Annotated[
        bool, typer.Option("--no-mark", help="write no note of the edit into the file")
    ] = False,
    device: Device = "auto",
) -> None:
    """Change action units in a photo; only the face moves, everything else stays as it is."""
    words, grid = _with_span(units or [], grid)
    absolute, change = parse(words)
    from faceunits import editing
    from faceunits.gan.files import Files
    from faceunits.io import marking

    files = Files(generator, encoder, editor)
    engine = editing.chosen(engine, files)
    editing.check(absolute, change, force=force)
    steps = _steps(grid) if grid else None
    if steps:
        name, values = steps
        absolute.pop(name, None)  # a name asked for twice is the grid's
        for value in values:
            editing.check({**absolute, name: value}, change, force=force)
    if not (absolute or change or like or neutral or steps):
        raise ParameterError(
            "expected what to change, such as AU12=3 or AU4=+1, --like, --neutral or --grid; got nothing"
        )
    _places(photo, output, sequence, grid=bool(grid))
    original = marking.read(photo)
    networks = editing.load(engine, files, device)
    editing.check_known(networks, [*absolute, *change, *([steps[0]] if steps else [])])
    wish = editing.Wish(absolute, change, None, neutral, strength, force)
    if like:
        other = marking.read(like).rgb
        wish = editing.resembling(wish, editing.prepare(other, device=device, networks=networks)[0][0])
    prepared, skipped = editing.prepare(original.pixels, face=_face(face), device=device, networks=networks)
    for number, reason in skipped.items():
        say(f"faceunits: face {number} of {printable(photo)} stays as it is: {reason}")
    if no_mark:
        say("faceunits: --no-mark: the result carries no note of the edit; say so wherever you show it")
    if steps:
        _write_grid(prepared, wish, steps, output, original, engine=engine, mark=not no_mark)
        return
    goals = [editing.resolve(wish, p.reading) for p in prepared]
    wanted = {p.number: editing.asked(wish, p.reading, g) for p, g in zip(prepared, goals, strict=True)}
    note = None if no_mark else note_of(wanted, engine)
    if output:
        pixels = original.pixels
        for one, goal in zip(prepared, goals, strict=True):
            pixels = editing.carry_out(one, goal, pixels)
        marking.write(output, pixels, like=original, note=note)
        say(f"wrote {printable(output)}")
    if sequence:
        from faceunits.motion import sequence as video

        faces, ends = editing.on_the_way(prepared, goals)
        count = video.write(sequence, original.rgb, faces, ends, seconds=seconds, rate=rate, note=note)
        say(f"wrote {printable(sequence)}, {count} frames")


def parse(units: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Values to set and changes, by name: a sign before the number makes it a change.

    Raises:
        ParameterError: text of another form.
    """
    absolute: dict[str, float] = {}
    change: dict[str, float] = {}
    for text in units:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise ParameterError(
                f"expected an action unit and its intensity, such as AU12=3 or AU4=+1; got {text!r}"
            ) from None
        (change if value.strip()[:1] in ("+", "-") else absolute)[name] = number
    return absolute, change


def note_of(wanted: dict[int, dict[str, float]], engine: str = "motion") -> dict[str, Any]:
    """What an edited file says of itself."""
    import faceunits

    lines = [
        f"face {n}: " + ", ".join(f"{name}={value:g}" for name, value in values.items())
        for n, values in wanted.items()
    ]
    software = f"faceunits {faceunits.__version__}"
    return {
        "software": software, "engine": engine, "faces": {str(n): values for n, values in wanted.items()},
        "text": f"Facial expression edited by {software} (intensities 0-5): " + "; ".join(lines),
    }  # fmt: skip


def _with_span(units: list[str], grid: str | None) -> tuple[list[str], str | None]:
    """`--grid AU12 0:5` as `--grid AU12=0:5`: its span arrives among the words."""
    spans = [word for word in units if ":" in word and "=" not in word]
    if not grid or "=" in grid or len(spans) != 1:
        return units, grid
    return [word for word in units if word != spans[0]], f"{grid}={spans[0]}"


def _steps(text: str) -> tuple[str, list[float]]:
    """Name and values of a grid."""
    name, _, span = text.replace(" ", "=", 1).partition("=")
    try:
        first, last, *rest = (float(v) for v in span.split(":"))
        pace = rest[0] if rest else 1.0
        count = round((last - first) / pace) + 1
        if len(rest) > 1 or not 2 <= count <= 60:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise ParameterError(
            f"expected a grid such as AU12=0:5 or AU12=0:5:0.5, of 2 to 60 pictures; got {text!r}"
        ) from None
    return name, [round(first + i * pace, 6) for i in range(count)]


def _places(photo: Path, output: Path | None, sequence: Path | None, *, grid: bool) -> None:
    """Refuses, before any work, places that cannot be written to."""
    from faceunits.io import marking

    if output is None and (sequence is None or grid):
        raise InputError("expected -o with the name of a picture to write; got none; add -o out.png")
    if grid and sequence:
        raise ParameterError("expected --grid or --sequence; got both; leave one out")
    for path in (output, sequence):
        if path:
            check_folder(path)
            if path.exists() and photo.exists() and path.samefile(photo):
                raise InputError(
                    f"expected another name than the photo's; got {printable(path)}; choose one with -o"
                )
    if output:
        marking.check(output)
    if sequence and sequence.suffix.lower() not in (".mp4", ".m4v", ".mov"):
        raise InputError(
            f"expected a video name ending in .mp4; got {printable(sequence)}; change the ending"
        )


def _face(text: str) -> Any:
    """The face that is meant; with several in the photo it must be said which."""
    if text.strip().lower() in ("", "all"):
        return text.strip().lower() or "only"
    try:
        return int(text)
    except ValueError:
        raise ParameterError(f"expected --face with a number or all; got {text!r}") from None


def _write_grid(
    prepared: list[Prepared], wish: Wish, steps: tuple[str, list[float]], output: Path | None,
    original: Photo, *, engine: str, mark: bool,
) -> None:  # fmt: skip
    from dataclasses import replace

    from faceunits import editing
    from faceunits.io import marking
    from faceunits.motion import sheet

    assert output is not None  # `_places` saw to it
    name, values = steps
    pictures = []
    for value in values:
        pixels = original.pixels
        for one in prepared:
            here = replace(wish, absolute={**wish.absolute, name: value})
            goal = editing.resolve(here, one.reading)
            pixels = editing.carry_out(one, goal, pixels)
        pictures.append(editing.opaque(pixels))
    page = sheet.grid(pictures, [f"{name} {v:g}" for v in values], prepared[0].stage.square)
    wanted = {p.number: {name: values[-1]} for p in prepared}
    marking.write(output, page, note=note_of(wanted, engine) if mark else None)
    say(f"wrote {printable(output)}, {len(values)} pictures")
