"""The detector and the fast reader as ONNX files, for programs that run without torch or Python.

`reader.onnx` is the whole way from aligned crops to `types.Reading`: the network, the curves to the
parameters' scale, and the units. It reads one view of a face, as `estimate` reads frames of a video; of
photos `estimate` gives the mean of four (`fitting.steady`). Beside each file lies a JSON file that says what
goes in and what comes out. Files are written only after onnxruntime, where it is installed, has given
torch's answers.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from faceunits import __version__, engine, weights
from faceunits.alignment.warp import CROP_CM, TEMPLATE, TEMPLATE_VERSION
from faceunits.errors import ConfigError
from faceunits.fitting import curves
from faceunits.fitting.pipeline import confidence
from faceunits.io.files import make_folder, printable, replacing
from faceunits.networks.detector import DetectorConfig, FaceFinder, Landmarker, fuse
from faceunits.rig.shape import POSE_RANGE_DEG
from faceunits.types import FIVE_POINTS

if TYPE_CHECKING:
    from faceunits.fitting import Models

OPSET = 20
"""onnxruntime 1.17 and newer run it."""

TOLERANCE = 1e-4
"""Largest difference between torch and onnxruntime, in units of the larger of 1 and the output's range."""

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Port:
    """An input or output of a file; names in its shape are axes that may have any length."""

    name: str
    shape: Shape
    unit: str
    range: tuple[float, float] | None
    meaning: str


class Curves(nn.Module):
    """`fitting.curves.apply` in operations that ONNX has: there is no search in sorted values.

    The curve is the sum of what its pieces rise up to the reading: f(x) = v_0 + sum_k (v_k+1 - v_k) s_k
    with s_k = clamp((x - x_k) / (x_k+1 - x_k), 0, 1), the share of piece k that lies below x.
    """

    low: Tensor
    width: Tensor
    rise: Tensor
    first: Tensor

    def __init__(self, knots: Tensor, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", knots[:, :-1].clone())
        # knots that coincide make a step, not a division by zero
        self.register_buffer("width", knots.diff(dim=1).clamp_min(1e-30))
        self.register_buffer("rise", values.diff(dim=1))
        self.register_buffer("first", values[:, 0].clone())

    def forward(self, readings: Tensor) -> Tensor:
        """`(B, R)` parameters of readings `(B, R)`."""
        share = ((readings[:, :, None] - self.low) / self.width).clamp(0, 1)
        curve = self.first + (self.rise * share).sum(-1)
        return (1 - curves.KEPT) * curve + curves.KEPT * readings


class FastReader(nn.Module):
    """Crops to the arrays of `types.Reading`, as `fitting.read` gives them."""

    def __init__(self, models: Models) -> None:
        super().__init__()
        networks = models.networks
        self.n_au = networks.n_au
        self.reader = copy.deepcopy(models.reader).cpu()
        self.curves = Curves(networks.knots.cpu(), networks.values.cpu())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`image` `(B, 3, S, S)` RGB in [0, 1]; outputs as `reader_ports` lists them."""
        n = self.n_au
        points, readings, log_variance = self.reader(image)
        straight = self.curves(readings[:, : n + 1]).clamp(0, 1)
        gap = straight[:, n]
        sure = torch.ones_like(gap) if log_variance is None else confidence(log_variance, n, 0)
        pose = readings[:, n + 1 : n + 3] * POSE_RANGE_DEG
        return straight[:, :n], pose, (0.5 + readings[:, n + 3 :]).clamp(0, 1), gap, sure, points


def onnx(
    folder: str | os.PathLike[str],
    models: Models,
    *,
    detector: str | os.PathLike[str] = "detector",
    sources: Mapping[str, str | os.PathLike[str]] = MappingProxyType({}),
    progress: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write `finder.onnx`, `landmarker.onnx`, `reader.onnx` and a `.json` beside each.

    Args:
        folder: made if need be.
        models: of `fitting.load`, for the reader.
        detector: weights of finder and landmarker, by name or path.
        sources: what `models` were loaded from, names or paths of weights, for the JSON file.
        progress: called with every file written.

    Returns:
        The files.

    Raises:
        ConfigError: `onnx` or `onnxscript` is not installed, or onnxruntime differs from torch.
        InputError: a folder that cannot be made or written to.
    """
    engine.require("onnx", "onnxscript")
    make_folder(folder, "name another")
    nets, sizes = _detector(detector)
    of_detector = {"detector": weights.describe(detector)}
    done: list[Path] = []

    def finish(name: str, inputs: tuple[Port, ...], outputs: tuple[Port, ...], about: dict[str, Any]) -> None:
        path = Path(folder, f"{name}.onnx")
        description = path.with_suffix(".json")
        _write_json(description, _describe(path, inputs, outputs) | about)
        for written in (path, description):
            done.append(written)
            if progress:
                progress(written)

    for name, ports in (("finder", finder_ports()), ("landmarker", landmarker_ports(sizes.crop_size))):
        write(Path(folder, f"{name}.onnx"), nets[name], *ports)
        finish(name, *ports, {"points": FIVE_POINTS, "template": _template(), "weights": of_detector})
    reader(Path(folder, "reader.onnx"), models)
    about = {
        "action_units": models.names, "landmarks": "68 iBUG points", "template": _template(),
        "fingerprint": engine.fingerprint(models),
        "weights": {name: weights.describe(source) for name, source in sources.items()},
    }  # fmt: skip
    finish("reader", *reader_ports(models), about)
    return done


def reader(path: str | os.PathLike[str], models: Models) -> None:
    """Write the fast reader alone, with the fingerprint of its weights inside (see `engine`).

    Raises:
        ConfigError: as `onnx`.
        InputError: a place that cannot be written to.
    """
    engine.require("onnx", "onnxscript")
    inside = {"fingerprint": engine.fingerprint(models)}
    write(Path(path), FastReader(models).eval(), *reader_ports(models), inside=inside)


def finder_ports() -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """What `finder.onnx` takes and gives."""
    image = _image("height", "width", "RGB picture, shrunk; height and width multiples of 32")
    return (image,), (
        Port("logit", ("batch", "cells"), "log odds", None,
             "of a face, for the cells of strides 8, 16 and 32, row by row; no suppression yet"),
        Port("points", ("batch", "cells", 5, 2), "pixels of the input", None, "x, y of five rough points"),
    )  # fmt: skip


def landmarker_ports(size: int) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """What `landmarker.onnx` takes and gives."""
    image = _image(size, size, "RGB crop, roughly aligned to the template")
    return (image,), (
        Port("logit", ("batch",), "log odds", None, "of a face"),
        Port("points", ("batch", 5, 2), "pixels of the crop", None, "x, y of five points"),
    )


def reader_ports(models: Models) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """What `reader.onnx` takes and gives; the outputs are the fields of `types.Reading`."""
    size, n = models.crop_size, len(models.names)
    d = models.networks.generator.config.parameters - 2 - n
    image = _image(size, size, "RGB crop, aligned to the template")
    return (image,), (
        Port("au", ("batch", n), "1 = maximum; tables report 5 x this", (0, 1),
             "action units in the order of action_units; left and right are the subject's"),
        Port("pose_deg", ("batch", 2), "degrees", None,
             "pitch + nose down, yaw + towards the subject's left; alignment has removed roll"),
        Port("identity", ("batch", d), "0.5 = mean face", (0, 1), "identity modes"),
        Port("lip_gap", ("batch",), "1 = that of a full AU25", (0, 1), "opening between the lips"),
        Port("confidence", ("batch",), "exp(-e), e the error expected of action units, 0-5", (0, 1),
             "belief"),
        Port("landmarks", ("batch", 68, 2), "pixels of the crop", None, "x, y of 68 points"),
    )  # fmt: skip


def write(
    path: Path,
    net: nn.Module,
    inputs: tuple[Port, ...],
    outputs: tuple[Port, ...],
    *,
    inside: dict[str, str] | None = None,
) -> None:
    """Trace a network, check the result against it, and write it.

    Args:
        path: ends in `.onnx`.
        net: in evaluation mode, on the CPU; one image in, as many tensors out as `outputs`.
        inputs: the image.
        outputs: names and shapes.
        inside: words kept in the file.

    Raises:
        ConfigError: `onnx` or `onnxscript` is not installed, or onnxruntime differs from torch.
        InputError: a place that cannot be written to.
    """
    engine.require("onnx", "onnxscript")
    (image,) = inputs
    # a batch of 3, for lengths of 1 and 2 are easily taken for constants
    example = torch.rand(_sizes(image.shape, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    model = _traced(net, example, image)
    for value, port in zip([*model.graph.input, *model.graph.output], [*inputs, *outputs], strict=True):
        _rename(model.graph, value, port)
    del model.graph.value_info[:]  # inner shapes speak of axes by their old names; runtimes infer them
    for key, word in (inside or {}).items():
        model.metadata_props.add(key=key, value=word)
    content = model.SerializeToString()
    if engine.installed("onnxruntime"):
        other = torch.rand(_sizes(image.shape, 2, 96, 64), generator=torch.Generator().manual_seed(1))
        for trial in (example, other):
            _compare(path, content, net, trial)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _traced(net: nn.Module, example: Tensor, image: Port) -> Any:
    """The network as an ONNX model; batch, and height and width where named, stay open."""
    dims: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    for axis in (2, 3):
        if isinstance(image.shape[axis], str):
            dims[axis] = 32 * torch.export.Dim(f"{image.shape[axis]}32", min=1, max=512)
    with torch.no_grad(), _quiet():
        program = torch.export.export(net, (example,), dynamic_shapes=(dims,))
        made: Any = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    return made.model_proto


def _rename(graph: Any, value: Any, port: Port) -> None:
    """Gives an input or output its name, there and in the nodes, and names its open axes."""
    old, value.name = value.name, port.name
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = port.name
    dims = value.type.tensor_type.shape.dim
    for dim, size in zip(dims, port.shape, strict=True):
        if isinstance(size, str):
            dim.dim_param = size


def _compare(path: Path, content: bytes, net: nn.Module, image: Tensor) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": image.numpy()})
    with torch.inference_mode():
        wanted = net(image)
    for port, a, b in zip(session.get_outputs(), found, wanted, strict=True):
        error = float((torch.from_numpy(a) - b).abs().max() / b.abs().max().clamp_min(1))
        if not error <= TOLERANCE:
            raise ConfigError(
                f"expected {printable(path.name)} to give torch's answers to {TOLERANCE:g}; {port.name} "
                f"differs by {error:.2g}; try other versions of onnx and onnxruntime"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of libraries that it does not find and of its own future: not the user's affair."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _detector(source: str | os.PathLike[str]) -> tuple[nn.ModuleDict, DetectorConfig]:
    state, about = weights.load(source)
    sizes = weights.settings(DetectorConfig, about, source=source)
    nets = nn.ModuleDict({"finder": FaceFinder(sizes), "landmarker": Landmarker(sizes)})
    weights.fill(nets, state, source=source)
    fuse(nets.eval().requires_grad_(False))
    return nets, sizes


def _image(height: int | str, width: int | str, meaning: str) -> Port:
    return Port("image", ("batch", 3, height, width), "1 = full brightness", (0, 1), meaning)


def _sizes(shape: Shape, batch: int, height: int, width: int) -> tuple[int, ...]:
    lengths = {"batch": batch, "height": height, "width": width}
    return tuple(lengths[n] if isinstance(n, str) else n for n in shape)


def _describe(path: Path, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> dict[str, Any]:
    return {
        "file": path.name, "sha256": weights.sha256(path), "faceunits": __version__, "opset": OPSET,
        "type": "float32", "inputs": [asdict(p) for p in inputs], "outputs": [asdict(p) for p in outputs],
        "convention": "points x, y; first pixel centred on (0, 0)",
    }  # fmt: skip


def _template() -> dict[str, Any]:
    return {
        "version": TEMPLATE_VERSION, "order": FIVE_POINTS, "crop_cm": CROP_CM,
        "points": [[round(float(v), 6) for v in p] for p in TEMPLATE],
        "meaning": "x, y in fractions of the crop's side; times side, less 0.5, are its pixels",
    }  # fmt: skip


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
