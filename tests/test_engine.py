"""The lean E and the ONNX engine: the same numbers, refused kindly where they cannot run."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from torch import nn

from faceunits import engine, fitting
from faceunits.errors import ConfigError, ParameterError
from faceunits.fitting.models import Models, assemble, measure
from faceunits.networks.lean import prepare
from faceunits.networks.parser import LIGHT, Parser, ParserConfig

FIELDS = ("au", "pose_deg", "identity", "lip_gap", "confidence", "landmarks")


def unsettled(net: nn.Module) -> None:
    """Batch norms as training leaves them: not the identity."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5), (module.bias.data, -0.2, 0.2),
            ):  # fmt: skip
                assert tensor is not None
                tensor.uniform_(low, high)


def parser(config: ParserConfig) -> Parser:
    torch.manual_seed(0)
    net = Parser(config)
    unsettled(net)
    return net.eval().requires_grad_(False)


def models() -> Models:
    """Untrained networks with everything E can have, and curves that bend."""
    config = ParserConfig(
        blocks=(1, 1, 1, 1), planes=(4, 4, 4, 4), stem=8, pool=False, size=small.SIZE, landmarks=68,
        readings=small.N_AU + 3 + small.N_IDENTITY, dilations=(1, 1, 2, 4), close_ups=True,
        doubts=small.N_AU, place=True,
    )  # fmt: skip
    (m, sketch), e = small.generator(), parser(config)
    measured = measure(m, e, small.N_AU)
    rng = torch.Generator().manual_seed(0)
    for name in ("knots", "values"):
        measured[name] = torch.rand((small.N_AU + 1, 17), generator=rng).sort(1).values * 2 - 0.5
    networks = assemble(m, sketch, e, small.N_AU, measured)
    return Models(networks, small.aus.profile(), torch.device("cpu"))


def need_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if not engine.installed(name):
            pytest.skip(f"{name} is not installed (extra onnx)")


@cache
def reader_file() -> bytes:
    """The reader of `models()` as a file: traced once for all tests, which takes seconds."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEUNITS_CACHE", str(Path(folder, "deeper")))
        own = models()
        assert isinstance(engine.choose(own, "onnx"), engine.OnnxReader)
        return engine.cached(own).read_bytes()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Models, engine.Read, Path]:
    """Models, their reading by onnxruntime, and the cache with its file."""
    need_onnx()
    content = reader_file()
    own, folder = models(), tmp_path / "cache"
    monkeypatch.setenv("FACEUNITS_CACHE", str(folder))
    folder.mkdir()
    engine.cached(own).write_bytes(content)
    return own, engine.choose(own, "onnx"), folder


@pytest.mark.parametrize(
    "config", [LIGHT, replace(LIGHT, close_ups=False, place=False, pool=True), replace(LIGHT, doubts=40)]
)
def test_lean_networks_read_the_same(config: ParserConfig) -> None:
    net = parser(replace(config, landmarks=68, readings=102))
    lean = prepare(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in lean.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())  # the original stays
    image = torch.rand(2, 3, 128, 128)
    with torch.inference_mode():
        wanted = net(image)
        points, readings, doubt = lean(image)
    assert wanted.points is not None
    assert torch.allclose(points / 128, wanted.points / 128, atol=1e-5)
    assert torch.allclose(readings, wanted.readings, atol=1e-5)
    assert (doubt is None) == (config.doubts == 0)
    if doubt is not None:
        assert torch.allclose(doubt, wanted.log_variance, atol=1e-5)


def test_preparing_changes_nothing_of_the_original() -> None:
    net = parser(replace(LIGHT, landmarks=68, readings=102))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    image = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        lean = prepare(net)
        first, again = lean(image), lean(image)  # what works in place must not work on what it is given
    assert all(torch.equal(a, b) for a, b in zip(first[:2], again[:2], strict=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_parser_without_heads_cannot_be_prepared() -> None:
    with pytest.raises(ConfigError, match="landmarks and readings"):
        prepare(small.parser(heads=False))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_onnxruntime_reads_as_torch_does(made: tuple[Models, engine.Read, Path], count: int) -> None:
    own, read, _ = made
    crops = small.crops(count, seed=count)
    found, wanted = read(crops), fitting.read(crops, own)
    assert found.names == wanted.names
    for name in FIELDS:
        a, b = getattr(found, name), getattr(wanted, name)
        assert a.shape == b.shape, name
        assert a.dtype == np.float32, name
        np.testing.assert_allclose(a, b, atol=1e-4, err_msg=name)
    assert np.ptp(found.au) > 0.01


def test_a_batch_equals_its_members(made: tuple[Models, engine.Read, Path]) -> None:
    _, read, _ = made
    crops = small.crops(5)
    together = read(crops)
    for i in range(5):
        np.testing.assert_allclose(read(crops[i : i + 1]).au[0], together.au[i], atol=1e-5)


def test_auto_takes_the_file_that_is_there(made: tuple[Models, engine.Read, Path]) -> None:
    own, _, folder = made
    assert [p.suffix for p in folder.iterdir()] == [".onnx"]
    assert isinstance(engine.choose(own), engine.OnnxReader)
    assert not isinstance(engine.choose(own, "torch"), engine.OnnxReader)


def test_what_is_no_batch_of_square_crops_is_refused(made: tuple[Models, engine.Read, Path]) -> None:
    with pytest.raises(ParameterError, match="expected crops"):
        made[1](np.zeros((3, 16, 16), np.float32))


def test_files_of_other_weights_and_damaged_ones_are_refused(
    made: tuple[Models, engine.Read, Path], tmp_path: Path
) -> None:
    own, _, folder = made
    other = small.models()
    assert engine.fingerprint(other) != engine.fingerprint(own)
    (file,) = folder.iterdir()
    with pytest.raises(ConfigError, match="of others"):
        engine.OnnxReader(file, other)
    broken = tmp_path / "reader.onnx"
    broken.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="damaged"):
        engine.OnnxReader(broken, own)


def test_auto_is_torch_where_no_file_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEUNITS_CACHE", str(tmp_path))
    own = models()
    read = engine.choose(own)
    assert not isinstance(read, engine.OnnxReader)
    assert list(tmp_path.iterdir()) == []
    crops = small.crops(2)
    np.testing.assert_array_equal(read(crops).au, fitting.read(crops, own).au)


def test_what_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEUNITS_CACHE", str(tmp_path))
    own = small.models()
    with pytest.raises(ConfigError, match="expected the engine"):
        engine.choose(own, "tensorrt")
    with pytest.raises(ConfigError, match="device cpu"):
        engine.choose(replace(own, device=torch.device("meta")), "onnx")
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'faceunits\[onnx\]'"):
        engine.choose(own, "onnx")
    assert not isinstance(engine.choose(own), engine.OnnxReader)


def test_the_fingerprint_sees_weights_and_curves() -> None:
    one, other = models(), models()
    assert engine.fingerprint(one) == engine.fingerprint(other)
    other.networks.values[0, 0] += 1e-3
    assert engine.fingerprint(one) != engine.fingerprint(other)
