"""Groups of options as one parameter of a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from faceunits import cli_options


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option("--width", "-w", help="pixels", min=1)] = 640
    tall: Annotated[bool, typer.Option("--tall", help="twice as high as wide")] = False


def draw(
    out: Annotated[Path, typer.Argument(help="picture", metavar="OUT")],
    size: Size,
    title: Annotated[str, typer.Option(help="above it")] = "none",
) -> None:
    """Draw something."""
    print(out, size, title)


def run(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(cli_options.spread(draw))
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output


def test_fields_left_out_have_their_defaults() -> None:
    assert run("a.png") == (0, f"a.png {Size()} none\n")


def test_fields_are_options_beside_the_commands_own() -> None:
    expected = f"a.png {Size(width=3, tall=True)} x\n"
    assert run("a.png", "-w", "3", "--tall", "--title", "x") == (0, expected)


def test_fields_are_checked_as_options_are() -> None:
    code, said = run("a.png", "--width", "0")
    assert code == 2
    assert "--width" in said


def test_help_tells_of_all_and_of_the_command() -> None:
    code, said = run("--help")
    assert code == 0
    for text in ("Draw something.", "OUT", "--title", "--width", "pixels", "--tall", "640"):
        assert text in said
    assert "--size" not in said


def test_networks_of_ones_own_are_told(tmp_path: Path) -> None:
    from faceunits import weights

    own = tmp_path / "mine.safetensors"
    own.write_bytes(b"weights of E")
    shipped, other = cli_options.Networks().about("paper"), cli_options.Networks(parser=own).about("paper")
    assert shipped["recipe"] == "paper"
    assert shipped["fitting"].startswith(weights.describe("fitting")["file"])
    assert other["parser"].startswith("mine.safetensors, sha256 ")
    assert other["fitting"] == "measured anew"  # the shipped one belongs to the shipped pair
    assert other["generator"] == shipped["generator"]
    assert shipped["student"].startswith(weights.describe("student")["file"])
    assert other["student"] == "none: E reads"
    beside = cli_options.Networks(parser=own, student=own).about("paper")
    assert beside["student"].startswith("mine.safetensors, sha256 ")
