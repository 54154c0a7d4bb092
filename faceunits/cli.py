"""The command line: thin coats over the Python functions.

Exit codes: 0 all went well (a photo without a face is a result, not an error); 2 something named on the
command line could not be read, written or understood - one line on stderr says what to do, and the other
inputs of the run are still processed; 3 a video breaks off, and the table has its rows up to there; 130
interrupted. Heavy imports live inside the commands, so that
help appears at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceunits import cli_edit, cli_export, cli_report, cli_train
from faceunits.cli_options import Device, Recipe
from faceunits.errors import ConfigError, FaceunitsError, InputError, ParameterError
from faceunits.io.files import check_folder, printable
from faceunits.terminal import bar, say

if TYPE_CHECKING:
    import pandas as pd

    from faceunits import runs
    from faceunits.alignment.detect import FaceSource

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Facial action units of photos and videos, without action-unit labels, with the fitted face beside.",
)
for _part in (cli_train, cli_edit, cli_export, cli_report):
    _part.add_commands(app)


def main() -> None:
    """Entry point: errors that the user can put right become one line and exit code 2."""
    try:
        app()
    except FaceunitsError as error:
        _complain(error)
        sys.exit(2)
    except KeyboardInterrupt:
        _complain("interrupted; nothing half-written was left")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our stdout, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


@app.command()
def estimate(
    paths: Annotated[
        list[Path], typer.Argument(help="photos, videos, or folders of these", metavar="PATHS...")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="table (.csv, .parquet, .jsonl), with a .json beside it; else to stdout"
        ),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="folder for pictures of what was measured (photos only)")
    ] = None,
    method: Annotated[
        str, typer.Option(help="fast: one pass per face; refine: and a few steps of the fit; fit: all of it")
    ] = "fast",
    recipe: Recipe = "default",
    engine: Annotated[
        str, typer.Option(help="of fast: auto, torch, or onnx (CPU only; extra of that name)")
    ] = "auto",
    detector: Annotated[str, typer.Option(help="builtin, or mediapipe (extra of that name)")] = "builtin",
    device: Device = "auto",
    batch: Annotated[int, typer.Option(help="faces of photos measured at a time")] = 8,
    every: Annotated[int, typer.Option(help="of videos, only every n-th frame")] = 1,
    start: Annotated[float | None, typer.Option(help="of videos, from this second on")] = None,
    end: Annotated[float | None, typer.Option(help="of videos, before this second")] = None,
    neutral: Annotated[
        list[Path] | None,
        typer.Option(
            help="photo of the person at rest, when all faces are of one person: units are judged by it; may "
            "be repeated. auto: each video by its own quiet frames",
            metavar="FILE|auto",
        ),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(
            help="of fast: 4 reads each face four times, shifted by a pixel or so, and takes the mean: "
            "steadier, slower; 1 reads it once. Unless given, photos are read in 4 and videos in 1"
        ),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            help="also write NAME_baseline with a person's own neutral taken off: a neutral photo or table "
            "of the one person, or auto (each face of a video by its own quiet frames)",
            metavar="FILE|auto",
        ),
    ] = "",
) -> None:
    """Write the action units of every face in photos and videos as a table.

    A long run can be interrupted: the same command again goes on where it stopped.
    """
    from faceunits.io import table as table_io

    if output:
        table_io.check(output)
    elif baseline:
        raise InputError("expected a table for --baseline to stand beside; got none; name one with -o")
    files, failed = _find(paths)
    if not files:
        raise typer.Exit(2)
    from faceunits import estimation, resting, weights
    from faceunits.io import video

    # before the long work, which a wrong name would waste
    taken_off = _neutral(baseline) if baseline else None
    options: dict[str, Any] = {"method": method, "recipe": recipe, "engine": engine, "detector": detector,
                               "device": device, "batch": batch}  # fmt: skip
    if method == "fast":
        from faceunits.fitting import steady

        options["views"] = {"photos": views or steady.VIEWS, "videos": views or 1}
    if neutral:
        if baseline:
            raise ConfigError("expected --neutral or --baseline; got both, which takes rest off twice")
        sums = [{"sha256": weights.sha256(path)} if path.is_file() else {} for path in neutral]
        options["neutral"] = [{"file": path.name} | s for path, s in zip(neutral, sums, strict=True)]
    by_rest = resting.AUTO if neutral == [Path(resting.AUTO)] else neutral or None
    if any(map(video.is_video, files)):
        if overlay:
            raise ConfigError("expected photos with --overlay; got a video; leave --overlay out")
        code = _estimate_videos(files, output, options, every, start, end, by_rest, views)
        if output and taken_off:
            _take_off(output, baseline, taken_off)
        if failed or code:
            raise typer.Exit(2 if failed else code)
        return
    with bar("photos") as step:
        table = estimation.estimate(
            files,
            method=method,
            recipe=recipe,
            engine=engine,
            device=device,
            detector=_face_source(detector),
            overlay=overlay,
            neutral=by_rest,
            views=views,
            batch=batch,
            progress=step,
        )
    if output:
        used = {name: weights.describe(name) for name in weights.shipped()}
        sidecar = table_io.write(output, table, about=table_io.describe(weights=used, options=options))
    else:
        sys.stdout.write(table_io.text(table))
    unreadable = table[table["reason"].str.startswith(estimation.UNREADABLE)]
    for reason in unreadable["reason"]:
        _complain(str(reason).removeprefix(estimation.UNREADABLE))
    if output:
        say(_summary(table, len(unreadable)))
        say(
            f"wrote {printable(output)} and {printable(sidecar)}"
            + (f", pictures in {printable(overlay)}" if overlay else "")
        )
        if taken_off:
            _take_off(output, baseline, taken_off)
    if failed or len(unreadable):
        raise typer.Exit(2)


def _estimate_videos(
    files: list[Path],
    output: Path | None,
    options: dict[str, Any],
    every: int,
    start: float | None,
    end: float | None,
    neutral: list[Path] | str | None,
    views: int | None,
) -> int:
    """Videos, with or without photos, as a run that can be interrupted; returns the exit code."""
    from faceunits import estimation, runs, streaming, weights
    from faceunits.io import table as table_io

    window = streaming.Window(every, start, end)
    batch = int(options["batch"])
    machine = streaming.prepare(
        options["method"],
        options["recipe"],
        options["device"],
        _face_source(options["detector"]),
        engine=options["engine"],
        neutral=neutral,
        views=views,
    )
    with bar("frames") as step:
        if output:
            used = {name: weights.describe(name) for name in weights.shipped()}
            about = table_io.describe(
                weights=used, options=options | {"every": every, "start_s": start, "end_s": end}
            )
            tally = runs.run(
                files,
                output,
                machine=machine,
                window=window,
                batch=batch,
                about=about,
                say=say,
                progress=step,
            )
        else:
            tally = runs.show(
                files, sys.stdout.write, machine=machine, window=window, batch=batch, progress=step
            )
    for reason in tally.unreadable:
        _complain(reason.removeprefix(estimation.UNREADABLE))
    for reason in tally.broken:
        _complain(reason)
    if output:
        say(_video_summary(files, tally))
        say(f"wrote {printable(output)} and {printable(output.with_suffix('.json'))}")
    return 2 if tally.unreadable else 3 if tally.broken else 0


def _video_summary(files: list[Path], tally: runs.Tally) -> str:
    from faceunits.io import video

    videos = sum(map(video.is_video, files))
    counted = [(videos, "video"), (len(files) - videos, "photo")]
    parts = [f"{n} {what}{'s' * (n != 1)}" for n, what in counted if n]
    parts += [f"{tally.faces} measured faces"] + [f"{tally.without} rows without"] * (tally.without > 0)
    return ", ".join(parts)


@app.command()
def live(
    camera: Annotated[int, typer.Option(help="number of the camera, from 0")] = 0,
    source: Annotated[Path | None, typer.Option(help="a video instead of the camera")] = None,
    seconds: Annotated[float | None, typer.Option(help="stop after so long; else with Ctrl-C")] = None,
    device: Device = "auto",
) -> None:
    """Show the action units of the faces before the camera as bars."""
    from faceunits import live as live_view

    live_view.show(camera, source=source, seconds=seconds, device=device)


@app.command()
def render(
    units: Annotated[
        list[str] | None, typer.Argument(help="AU12=4 AU6=3 AU1_L=2 ...", metavar="AU=VALUE...")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="picture to write")] = Path("face.png"),
    pitch: Annotated[float, typer.Option(help="degrees, + nose down")] = 0.0,
    yaw: Annotated[float, typer.Option(help="degrees, + towards the subject's left")] = 0.0,
    identity: Annotated[int | None, typer.Option(help="seed of a random person; else the mean face")] = None,
    device: Device = "auto",
) -> None:
    """Draw a face with given action units (0-5); needs no rig."""
    values = _intensities(units or [])
    from faceunits import driving
    from faceunits.io import image

    picture = driving.render(values, pitch_deg=pitch, yaw_deg=yaw, identity_seed=identity, device=device)
    image.write(output, picture)
    say(f"wrote {printable(output)}")


@app.command()
def transfer(
    a: Annotated[Path, typer.Argument(help="photo that gives the person", metavar="A")],
    b: Annotated[Path, typer.Argument(help="photo that gives pose and action units", metavar="B")],
    output: Annotated[Path, typer.Option("--output", "-o", help="picture to write")] = Path("transfer.png"),
    blendshapes: Annotated[Path | None, typer.Option(help="ARKit blend shapes of B, as .json")] = None,
    recipe: Recipe = "default",
    device: Device = "auto",
) -> None:
    """Draw the person of A with the pose and the action units of B."""
    from faceunits import driving, estimation
    from faceunits.io import image, table

    for path in (output, blendshapes):
        if path:
            check_folder(path)
    results = [estimation.fit(path, recipe=recipe, device=device) for path in (a, b)]
    image.write(output, driving.transfer(*results, recipe=recipe, device=device))
    written = [output]
    if blendshapes:
        pitch, yaw = (round(float(v), 3) for v in results[1].pose_deg[0])
        head = {"pitch_deg": pitch, "yaw_deg": yaw}
        values = {"source": printable(b), "head": head, "blendshapes": driving.blendshapes(results[1])}
        table.write_json(blendshapes, values)
        written.append(blendshapes)
    say("wrote " + " and ".join(map(printable, written)))


@app.command()
def doctor(device: Device = "auto") -> None:
    """Show versions, weights and device, and measure a face drawn by the generator itself."""
    from faceunits import weights
    from faceunits.io import table

    for name, version in table.versions().items():
        say(f"{name:<12} {version}")
    for name in weights.NAMES:
        described = weights.describe(name)  # raises, with the remedy, where a file is missing
        say(f"{name:<12} {described['file']}, sha256 {described['sha256']}")
        _, config = weights.load(name)
        say(f"{'':<12} {', '.join(f'{k} {v}' for k, v in config.items() if not isinstance(v, list | dict))}")

    import torch

    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    say(f"{'device':<12} {device}; CUDA: {cuda}; threads: {torch.get_num_threads()}")
    _self_test(device)


def _self_test(device: str) -> None:
    """A rendered smile must be found, and measured as more of a smile than a rendered neutral face."""
    import time

    import numpy as np

    from faceunits import driving, estimation

    pictures = []
    for values in ({}, {"AU12": 4.0}):
        face = driving.render(values, device=device)
        # a margin, since the crop cuts the forehead and the detector wants a whole head
        pictures.append(
            np.pad(face, ((face.shape[0] // 2,) * 2, (face.shape[1] // 2,) * 2, (0, 0)), mode="edge")
        )
    start = time.perf_counter()
    table = estimation.estimate(pictures, device=device)
    seconds = time.perf_counter() - start
    rows = table[table["face_id"] <= 0]
    if not bool((rows["success"] == 1).all()):
        raise InputError("the self-test found no face in a rendered picture; install the package again")
    neutral, smile = (float(v) for v in rows["AU12_r"])
    say(f"{'self-test':<12} AU12 neutral {neutral:.1f}, of a smile of 4.0 {smile:.1f}; {seconds:.1f} s")
    if smile < neutral + 1:
        raise InputError(
            "the self-test did not see the smile; the weights do not belong together; install again"
        )


def _face_source(name: str) -> FaceSource | None:
    if name == "builtin":
        return None
    if name != "mediapipe":
        raise ConfigError(f"expected the detector builtin or mediapipe; got {name!r}")
    from faceunits.alignment.adapters import MediaPipe

    return MediaPipe()


def _find(paths: list[Path]) -> tuple[list[Path], bool]:
    """The photos and videos behind the paths, and whether a path was wrong; each wrong one is reported."""
    from faceunits.io import video

    files: dict[Path, None] = {}
    failed = False
    for path in paths:
        try:
            files |= dict.fromkeys(video.find([path]))
        except FaceunitsError as error:
            _complain(error)
            failed = True
    return list(files), failed


def _intensities(units: list[str]) -> Mapping[str, float]:
    out = {}
    for text in units:
        name, _, value = text.partition("=")
        try:
            out[name] = float(value)
        except ValueError:
            raise ParameterError(
                f"expected an action unit and its intensity, such as AU12=4; got {text!r}"
            ) from None
    return out


def _neutral(source: str) -> dict[str, float] | str:
    """What `baseline.take_off` takes off: the values of a file, or `auto`."""
    from faceunits import baseline

    return source if source == baseline.AUTO else baseline.of_file(source)


def _take_off(output: Path, source: str, neutral: dict[str, float] | str) -> None:
    """Writes the finished table again, beside it, with a neutral taken off."""
    import json

    from faceunits import baseline
    from faceunits.io import readers
    from faceunits.io import table as table_io

    table, told = baseline.take_off(readers.read_table(output), neutral)
    about = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    path = output.with_name(f"{output.stem}_baseline{output.suffix}")
    table_io.write(path, table, about=about | {"baseline": {"from": source} | told})
    kept = len(told["kept_as_measured"])
    say(f"wrote {printable(path)}: {source} taken off" + (f"; {kept} with too few rows kept" if kept else ""))


def _summary(table: pd.DataFrame, unreadable: int) -> str:
    photos = table["input"].nunique()
    text = f"{photos} photo{'s' * (photos != 1)}, {int((table['success'] == 1).sum())} measured faces"
    without = int((table["success"] == 0).sum()) - unreadable
    return text + f", {without} without" * (without > 0) + f", {unreadable} unreadable" * (unreadable > 0)


def _complain(what: Any) -> None:
    say("faceunits: " + " ".join(str(what).split()))


if __name__ == "__main__":
    main()
