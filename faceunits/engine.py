"""Two ways to run the fast reading: lean torch, and ONNX Runtime where its file has been made.

torch runs the network with batch norms folded, channels last. The file of
`export.reader` holds the whole way from crops to `types.Reading`; on the CPU ONNX Runtime needs about two
thirds of torch's time for it (`benchmarks/engines.py`), so `auto` takes it where it is there. Making it
takes a while and two more libraries, so that only `onnx` does that, once for each set of weights.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceunits import fitting
from faceunits.errors import ConfigError
from faceunits.io.files import printable
from faceunits.types import Reading

F32 = NDArray[np.float32]
Read = Callable[[F32], Reading]

ENGINES = ("auto", "torch", "onnx")
"""`auto` is `onnx` on the CPU where onnxruntime and the reader's file are there, else `torch`."""


def choose(models: fitting.Models, engine: str = "auto") -> Read:
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
    return lambda crops: fitting.read(crops, models)


class OnnxReader:
    """A reading by ONNX Runtime on the CPU, on as many threads as torch uses.

    Args:
        path: file that `export.reader` made of these models.
        models: for their names, size and fingerprint.

    Raises:
        ConfigError: onnxruntime is not installed, or the file is damaged or was made of other weights.
    """

    def __init__(self, path: Path, models: fitting.Models) -> None:
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
            ParameterError: something else than a batch of square crops.
        """
        image = fitting.checked(crops, self._size).numpy()
        au, pose, identity, gap, confidence, points = self._session.run(None, {"image": image})
        return Reading(self._names, au, pose, identity, gap, confidence, points)


def fingerprint(models: fitting.Models) -> str:
    """64 hexadecimal digits that change with anything a reading depends on."""
    networks = models.networks
    reads = networks.parser if networks.student is None else networks.student
    tensors = dict(reads.state_dict(), knots=networks.knots, values=networks.values)
    digest = hashlib.sha256(repr((models.names, reads.config)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def cached(models: fitting.Models) -> Path:
    """Where the reader's file of these weights lies or would lie, in the user's cache.

    `FACEUNITS_CACHE` names another folder.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("FACEUNITS_CACHE") or Path(home, "faceunits"))
    return folder / f"reader-{fingerprint(models)[:16]}.onnx"


def _make(models: fitting.Models, path: Path) -> None:
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
