"""Two ways to run the fast reading of E: lean torch, and ONNX Runtime where its file has been made.

`prepare` makes E lean: batch norms folded into convolutions, no parsing scores, channels last. The file of
`export.reader` holds the whole way from crops to `types.Reading`; on the CPU ONNX Runtime needs about two
thirds of torch's time for it (`benchmarks/engines.py`), so `auto` takes it where it is there. Making it
takes a while and two more libraries, so that only `onnx` does that, once for each set of weights.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from faceunits.errors import ConfigError, ParameterError
from faceunits.io.files import printable
from faceunits.networks.parser import Parser, turned_back
from faceunits.types import LANDMARK_MIRROR, Reading

if TYPE_CHECKING:
    from faceunits.fitting import Models

F32 = NDArray[np.float32]
Read = Callable[[F32], Reading]

ENGINES = ("auto", "torch", "onnx")
"""`auto` is `onnx` on the CPU where onnxruntime and the reader's file are there, else `torch`."""


class Lean(nn.Module):
    """E without what a reading does not need: only `points`, `readings`, `log_variance` of its `Features`."""

    def __init__(self, parser: Parser) -> None:
        super().__init__()
        if parser.pointer is None or parser.reader is None:
            raise ConfigError("expected an E with landmarks and readings; got one without; use another E")
        net = copy.deepcopy(parser).eval().requires_grad_(False)
        net.classifier = nn.Identity()  # type: ignore[assignment]  # nobody asks for the parsing
        fold(net)
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """`(B, 68, 2)` crop pixels, `(B, R)` and `(B, N)` or None, from `image` `(B, 3, S, S)` in [0, 1]."""
        seen = self.net(image.contiguous(memory_format=torch.channels_last))
        return seen.points, seen.readings, seen.log_variance


class BothViews(nn.Module):
    """A lean E that looks at a crop and at its mirror image, and takes the mean of what it reads.

    E is not quite symmetric: one view of a photo agrees with the other to an ICC of about .75. Twice the
    time, and nearer to the truth (docs/results.md).
    """

    au_mirror: Tensor
    point_mirror: Tensor

    def __init__(self, lean: Lean, au_mirror: Tensor) -> None:
        super().__init__()
        self.lean = lean
        self.register_buffer("au_mirror", au_mirror)
        self.register_buffer("point_mirror", torch.from_numpy(LANDMARK_MIRROR))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `Lean.forward`; the identity is that of the crop itself."""
        count, known = image.shape[0], len(self.au_mirror) + 3
        points, readings, doubt = self.lean(torch.cat([image, image.flip(-1)]))
        turned = turned_back(
            points[count:], readings[count:], self.au_mirror, self.point_mirror, image.shape[-1]
        )
        mean = (readings[:count] + turned[1])[:, :known] / 2
        if doubt is not None:
            n = len(self.au_mirror)
            other = torch.cat([doubt[count:, :n][:, self.au_mirror], doubt[count:, n:]], 1)
            doubt = (doubt[:count] + other) / 2
        return (points[:count] + turned[0]) / 2, torch.cat([mean, readings[:count, known:]], 1), doubt


def prepare(parser: Parser) -> Lean:
    """E made lean for reading, equal to the original to rounding; a copy, so that `parser` stays as it is.

    Raises:
        ConfigError: an E without landmarks and readings.
    """
    return Lean(parser)


def fold(net: nn.Module) -> None:
    """Puts each batch norm that follows a convolution among a module's children into it, in place."""
    for module in list(net.modules()):
        children = list(module.named_children())
        for (name, conv), (other, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, other, nn.Identity())


def choose(models: Models, engine: str = "auto") -> Read:
    """The function from crops `(B, 3, S, S)` float32 RGB in [0, 1] to their reading.

    Args:
        models: of `fitting.load`.
        engine: one of `ENGINES`.

    Raises:
        ConfigError: an unknown engine; `onnx` on another device than the CPU, or without its libraries.
    """
    if engine not in ENGINES:
        raise ConfigError(f"expected the engine {', '.join(ENGINES)}; got {engine!r}")
    on_cpu = models.device.type == "cpu"
    if engine == "onnx":
        if not on_cpu:
            raise ConfigError(f"expected the device cpu for the engine onnx; got {models.device}; use torch")
        require("onnxruntime")
        path = cached(models)
        if not path.is_file():
            _make(models, path)
        return OnnxReader(path, models)
    if engine == "auto" and on_cpu and installed("onnxruntime") and cached(models).is_file():
        return OnnxReader(cached(models), models)
    from faceunits import fitting

    return lambda crops: fitting.read(crops, models)


class OnnxReader:
    """A reading by ONNX Runtime on the CPU, on as many threads as torch uses.

    Args:
        path: file that `export.reader` made of these models.
        models: for their names, size and fingerprint.

    Raises:
        ConfigError: onnxruntime is not installed, or the file is damaged or was made of other weights.
    """

    def __init__(self, path: Path, models: Models) -> None:
        require("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # threads that spin while they wait would be paid for as if they worked
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        where = printable(path)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own kinds have no common parent
            raise ConfigError(
                f"expected an ONNX file of the reader; {where} is damaged; delete it, or use --engine torch"
            ) from error
        made_of = self._session.get_modelmeta().custom_metadata_map.get("fingerprint")
        if made_of != fingerprint(models):
            raise ConfigError(
                f"expected a reader made of the weights in use; {where} is of others; "
                "export it again, or use --engine torch"
            )
        self._names, self._size = models.names, models.crop_size

    def __call__(self, crops: F32) -> Reading:
        """Parameters of aligned faces; see `fitting.read`.

        Raises:
            ParameterError: crops of another size.
        """
        size = self._size
        if crops.ndim != 4 or crops.shape[1:] != (3, size, size):
            raise ParameterError(
                f"expected crops (B, 3, {size}, {size}); got {crops.shape}; use alignment.warp.crop"
            )
        image = np.ascontiguousarray(crops, np.float32)
        au, pose, identity, gap, confidence, points = self._session.run(None, {"image": image})
        return Reading(self._names, au, pose, identity, gap, confidence, points)


def fingerprint(models: Models) -> str:
    """64 hexadecimal digits that change with anything a reading depends on."""
    networks = models.networks
    tensors = dict(networks.parser.state_dict(), knots=networks.knots, values=networks.values)
    digest = hashlib.sha256(repr((models.names, networks.parser.config)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def cached(models: Models) -> Path:
    """Where the reader's file of these weights lies or would lie, in the user's cache.

    `FACEUNITS_CACHE` names another folder.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("FACEUNITS_CACHE") or Path(home, "faceunits"))
    return folder / f"reader-{fingerprint(models)[:16]}.onnx"


def _make(models: Models, path: Path) -> None:
    from faceunits import export

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the folder {printable(path.parent)} ({error.strerror}); name another in "
            "FACEUNITS_CACHE, or use --engine torch"
        ) from error
    export.reader(path, models)


def installed(*libraries: str) -> bool:
    """Whether all of these can be imported, without doing so."""
    return all(find_spec(name) is not None for name in libraries)


def require(*libraries: str) -> None:
    """Refuses kindly where a library of the extra `onnx` is not there.

    Raises:
        ConfigError: one of them is missing.
    """
    for name in libraries:
        if not installed(name):
            raise ConfigError(f"expected {name}, which is not installed; pip install 'faceunits[onnx]'")
