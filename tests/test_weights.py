"""Weights come back bit for bit with their configuration, and wrong files are one line."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from faceunits import weights
from faceunits.errors import InputError, WeightsError

CONFIG = {"network": "small", "widths": [3, 5]}


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))


@pytest.fixture
def path(tmp_path: Path, module: nn.Module) -> Path:
    weights.save(tmp_path / "a.safetensors", module.state_dict(), CONFIG, {"licence": "MIT"})
    return tmp_path / "a.safetensors"


def test_comes_back(path: Path, module: nn.Module) -> None:
    state, config = weights.load(path)
    assert config == CONFIG
    assert weights.card(path) == {"licence": "MIT"}
    other = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    weights.fill(other, state, source=path)
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=0)
    assert stat.S_IMODE(path.stat().st_mode) & 0o044, "others may read a weights file"


def test_tied_and_sliced_tensors_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"a": base, "b": base, "c": base.T, "d": base[1:]}
    weights.save(tmp_path / "a.safetensors", state, {}, {})
    for name, tensor in weights.load(tmp_path / "a.safetensors")[0].items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def test_checksum(path: Path) -> None:
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.sha256(path) == expected
    assert weights.describe(path) == {"file": "a.safetensors", "sha256": expected}


def test_wrong_files_are_one_line(tmp_path: Path, path: Path) -> None:
    whole = path.read_bytes()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("no weights\n" * 100)
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pickle").write_bytes(b"\x80\x02}q\x00." * 20)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    for name in ("empty", "text", "cut", "pickle", "foreign", "missing", ""):
        with pytest.raises(WeightsError, match="expected") as caught:
            weights.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_name_that_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_FOLDER", tmp_path)
    assert weights.shipped() == {}
    with pytest.raises(WeightsError, match="install the package again"):
        weights.load("parser")
    with pytest.raises(WeightsError, match="one of detector, student, comparison"):
        weights.load("teacher")


def test_a_shipped_name(tmp_path: Path, module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_FOLDER", tmp_path)
    weights.save(tmp_path / "parser.safetensors", module.state_dict(), CONFIG, {})
    assert weights.shipped() == {"parser": tmp_path / "parser.safetensors"}
    assert weights.load("parser")[1] == CONFIG


def test_fill_insists_on_names_and_shapes(module: nn.Module) -> None:
    state = module.state_dict()
    short = {k: v for k, v in state.items() if k != "0.bias"}
    with pytest.raises(WeightsError, match=r"1 tensors missing, 0 left over \(0.bias is missing\)"):
        weights.fill(module, short, source="x")
    with pytest.raises(WeightsError, match="more has no place"):
        weights.fill(module, state | {"more": torch.zeros(1)}, source="x")
    with pytest.raises(WeightsError, match=r"expected 0.bias of shape \(5,\) in x; got \(4,\)"):
        weights.fill(module, state | {"0.bias": torch.zeros(4)}, source="x")


def test_settings_become_their_dataclass() -> None:
    @dataclass(frozen=True)
    class Sizes:
        widths: tuple[int, ...]
        network: str = ""

    assert weights.settings(Sizes, CONFIG | {"more": 1}, source="x") == Sizes((3, 5), "small")
    with pytest.raises(WeightsError, match="in x: their header has no widths for Sizes"):
        weights.settings(Sizes, {"network": "small"}, source="x")


def test_nothing_is_written_to_a_wrong_place(tmp_path: Path, module: nn.Module) -> None:
    with pytest.raises(InputError, match="make the folder"):
        weights.save(tmp_path / "no" / "a.safetensors", module.state_dict(), {}, {})


@pytest.mark.parametrize("name", weights.NAMES)
def test_what_is_shipped_loads_and_has_a_card(name: str) -> None:
    if name not in weights.shipped():
        pytest.skip(f"the {name} is not in this checkout")
    state, config = weights.load(name)
    assert state
    assert config
    assert all(torch.isfinite(t).all() for t in state.values())
    assert weights.shipped()[name].with_suffix(".md").is_file()
