"""What the README shows, works."""

from __future__ import annotations

import re
from pathlib import Path

import moving
import pytest
import stand_ins

ROOT = Path(__file__).parent.parent


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    stand_ins.save(tmp_path / "photo.jpg", stand_ins.picture((30, 40, 60, 240)))
    moving.write(tmp_path / "clip.mp4", [stand_ins.picture((30, 40, 60, 240))] * 3)
    (code,) = _blocks("python")
    exec(code, {})


def test_the_commands_and_options_exist() -> None:
    from typer.main import get_command

    from faceunits import cli

    commands = get_command(cli.app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^faceunits (\w+)(.*?)(?:#|$)", "\n".join(_blocks("sh")), re.MULTILINE)
    assert len(lines) >= 5
    for name, rest in lines:
        command = commands[name]
        if hasattr(command, "commands"):  # train parser, evaluate detector
            command = command.commands[rest.split()[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"(?<= )--?[a-z]+", rest)) <= known


def test_every_package_is_on_the_map() -> None:
    text = (ROOT / "README.md").read_text()
    for path in (ROOT / "faceunits").iterdir():
        if (path.is_dir() and path.name != "__pycache__") or path.suffix == ".py":
            assert path.name in text, f"{path.name} is missing from the file map"
