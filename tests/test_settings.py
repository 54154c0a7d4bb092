"""Settings: file and words in their order, and no slip of the pen unnoticed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faceunits.errors import ConfigError, InputError
from faceunits.io import settings


@dataclass(frozen=True)
class Inner:
    steps: int = 10
    bf16: bool = True


@dataclass(frozen=True)
class Outer:
    data: str
    rate: float = 0.1
    widths: tuple[int, ...] = (1, 2)
    pair: tuple[float, float] | None = None
    loop: Inner = field(default_factory=Inner)


def test_words_win_over_the_file_and_the_file_over_the_class(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('data = "x"\nrate = 2\nwidths = [3]\n[loop]\nsteps = 5\n')
    got = settings.resolve(Outer, tmp_path / "a.toml", ["loop.steps=7", "data=some folder", "pair=[1, 2]"])
    assert got == Outer("some folder", 2.0, (3,), (1.0, 2.0), Inner(7))
    assert isinstance(got.rate, float)


def test_lines_show_everything() -> None:
    assert list(settings.lines(Outer("x")))[-2:] == ["loop.steps = 10", "loop.bf16 = True"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a value for data"),
        (["data=x", "rat=1"], "no setting rat; known: data, rate"),
        (["data=x", "loop.step=1"], "no setting loop.step; known: loop.steps"),
        (["data=x", "rate=fast"], "rate to be float; got 'fast'"),
        (["data=x", "loop.steps=1.5"], "steps to be int"),
        (["data=x", "loop.steps=true"], "steps to be int"),
        (["data=x", "loop.bf16=1"], "bf16 to be bool"),
        (["data=x", "widths=3"], "widths to be tuple"),
        (["data=x", "pair=[1]"], "pair to be"),
        (["data=x", "loop=3"], "loop to be Inner"),
        (["data=x", "data.inner=3"], "has none inside"),
        (["data"], "key=value"),
    ],
)
def test_slips_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings.resolve(Outer, None, words)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        settings.resolve(Outer, tmp_path / "missing.toml")
    (tmp_path / "a.toml").write_text("data = \n")
    with pytest.raises(ConfigError, match="expected TOML"):
        settings.resolve(Outer, tmp_path / "a.toml")
