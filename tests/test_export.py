"""ONNX files: torch's answers for batches and sizes of any length, described well, or not written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_engine
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from faceunits import aus, cli_export, engine, export, fitting, weights
from faceunits.errors import ConfigError, InputError
from faceunits.fitting import curves
from faceunits.types import Reading


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the command writes, with the shipped detector and a small reader."""
    test_engine.need_onnx()
    app = typer.Typer()
    cli_export.add_commands(app)
    path = tmp_path_factory.mktemp("export") / "new"

    content = test_engine.reader_file()  # made by the real function, before it is replaced

    def reader(to: Path, models: fitting.Models) -> None:
        to.write_bytes(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "load", lambda device: test_engine.models())
        patch.setattr(export, "reader", reader)
        done = CliRunner().invoke(app, ["export", "onnx", str(path)])
    assert done.exit_code == 0, done.output
    assert done.output.count("wrote") == 6
    yield path
    shutil.rmtree(path)


def run(path: Path, image: torch.Tensor) -> list[torch.Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(a) for a in session.run(None, {"image": image.numpy()})]


def picture(*shape: int) -> torch.Tensor:
    coarse = torch.rand(
        (*shape[:2], shape[2] // 8, shape[3] // 8), generator=torch.Generator().manual_seed(2)
    )
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 224, 320), (2, 96, 64), (5, 64, 64)])
def test_the_finder_takes_any_picture(folder: Path, batch: int, height: int, width: int) -> None:
    nets, _ = export._detector("detector")
    image = picture(batch, 3, height, width)
    logit, points = run(folder / "finder.onnx", image)
    with torch.inference_mode():
        wanted_logit, wanted = nets["finder"](image)
    assert logit.shape == (batch, height * width * 21 // 1024)
    torch.testing.assert_close(logit, wanted_logit, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(points, wanted, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_landmarker_takes_any_batch(folder: Path, batch: int) -> None:
    nets, sizes = export._detector("detector")
    image = picture(batch, 3, sizes.crop_size, sizes.crop_size)
    found = run(folder / "landmarker.onnx", image)
    with torch.inference_mode():
        wanted = nets["landmarker"](image)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_reader_says_what_torch_reads(folder: Path, batch: int) -> None:
    models = test_engine.models()
    crops = test_engine.small.crops(batch)
    wanted = fitting.read(crops, models)
    description = json.loads((folder / "reader.json").read_text())
    found = run(folder / "reader.onnx", torch.from_numpy(crops))
    for port, a in zip(description["outputs"], found, strict=True):
        b = getattr(wanted, port["name"])
        np.testing.assert_allclose(a.numpy(), b, atol=1e-4, err_msg=port["name"])
        if port["range"]:
            assert a.min() >= port["range"][0]
            assert a.max() <= port["range"][1]


def test_each_file_is_described(folder: Path) -> None:
    import onnx

    for name in ("finder", "landmarker", "reader"):
        path = folder / f"{name}.onnx"
        about = json.loads((folder / f"{name}.json").read_text())
        assert about["sha256"] == weights.sha256(path)
        assert about["template"]["version"] == "ict-base-1"
        model = onnx.load(path)
        onnx.checker.check_model(model)
        assert [o.version for o in model.opset_import if not o.domain] == [about["opset"]]
        for ports, values in ((about["inputs"], model.graph.input), (about["outputs"], model.graph.output)):
            assert [p["name"] for p in ports] == [v.name for v in values]
            for port, value in zip(ports, values, strict=True):
                dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
                assert dims == port["shape"]
                assert port["unit"]
                assert port["meaning"]
    assert tuple(about["action_units"]) == aus.profile().names
    assert {p["name"] for p in about["outputs"]} == set(Reading.__dataclass_fields__) - {"names"}
    assert about["fingerprint"] == engine.fingerprint(test_engine.models())
    assert about["weights"]["student"]["sha256"] == weights.sha256(weights.locate("student"))


def test_curves_without_a_search_are_the_same() -> None:
    rng = torch.Generator().manual_seed(0)
    knots = torch.rand((40, 17), generator=rng).sort(1).values
    knots[:, :6] = knots[:, :1] + torch.arange(6) * 1e-6  # readings at rest crowd together
    values = torch.rand((40, 17), generator=rng).sort(1).values
    values[:, :6] = 0
    readings = torch.rand((500, 40), generator=rng) * 1.6 - 0.3
    readings[:17] = knots.T
    wanted = curves.apply(readings, knots, values)
    torch.testing.assert_close(export.Curves(knots, values)(readings), wanted, atol=1e-6, rtol=0)


def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_engine.need_onnx()
    from onnx import TensorProto, helper

    def mean(*_: object) -> Any:
        node = helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0, noop_with_empty_axes=0)
        made = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["s", 3, 8, 8]),
                helper.make_tensor_value_info("y", TensorProto.FLOAT, [])]  # fmt: skip
        graph = helper.make_graph([node], "mean", made[:1], made[1:])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", export.OPSET)], ir_version=10)

    class Plain(nn.Module):
        def __init__(self, off: float) -> None:
            super().__init__()
            self.off = off

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (image.mean() + self.off,)

    monkeypatch.setattr(export, "_traced", mean)
    ports: Any = (export._image(8, 8, ""),), (export.Port("mean", (), "1", None, ""),)
    with pytest.raises(ConfigError, match=r"mean\.onnx to give torch's answers .* mean differs by 0\.001"):
        export.write(tmp_path / "mean.onnx", Plain(1e-3), *ports)
    assert list(tmp_path.iterdir()) == []
    export.write(tmp_path / "mean.onnx", Plain(0), *ports, inside={"maker": "test"})
    assert run(tmp_path / "mean.onnx", torch.ones(7, 3, 8, 8))[0] == 1


def test_missing_libraries_and_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = test_engine.small.models()
    monkeypatch.setattr(engine, "find_spec", lambda name: name != "onnxscript" or None)
    with pytest.raises(ConfigError, match=r"expected onnxscript, .*pip install 'faceunits\[onnx\]'"):
        export.onnx(tmp_path, models)
    monkeypatch.setattr(engine, "find_spec", lambda name: True)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        export.onnx(tmp_path / "file", models)
