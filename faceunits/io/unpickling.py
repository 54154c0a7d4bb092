"""Pickles as data: reads what public checkpoints hold and runs nothing that a file brings along.

A pickle names the functions that build its objects, so an ordinary reader runs whatever a file asks for.
This one knows a short list of names, each with a harmless stand-in of our own (a tensor from its bytes, a
plain record of an object's attributes); any other name ends the reading before anything is called. Source
code stored in a file (NVIDIA's pickles carry their networks' modules as text) is never looked at.
"""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from torch import Tensor

Persistent = Callable[[Any], Any]


class Refused(Exception):
    """A pickle that asks for something that is not on the list; the argument says what."""


@dataclass
class Stored:
    """An object of a foreign class, as its attributes; for a network they include its tensors."""

    name: str
    """Class name, without its module."""
    state: dict[str, Any]


class _Call:
    """One of our functions as a pickle sees it: it can be called, and nothing can be set on it."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused("to change a function")

    def __setstate__(self, state: Any) -> None:
        raise Refused("to change a function")


class _Held:
    """A tensor as a pickle sees it: passed on, never changed."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __setstate__(self, state: Any) -> None:
        raise Refused("to change a tensor")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, persistent: Persistent | None) -> None:
        super().__init__(file, encoding="latin1")  # as NVIDIA's oldest files want
        self.persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CLASSES or module.split(".")[0] == "__torch__":
            return _record(name)
        if module == "torch" and name in _dtypes():
            return _dtypes()[name]
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _dtypes()[_STORAGES[name]]
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        function = _FUNCTIONS.get((module, name)) or _FUNCTIONS.get((module.replace("._core", ".core"), name))
        if function is None:
            raise Refused(f"for {module}.{name}")
        return _Call(function)

    def persistent_load(self, pid: Any) -> Any:
        if self.persistent is None:
            raise Refused("for data outside the file")
        return _Held(self.persistent(pid))


def load(file: BinaryIO, persistent: Persistent | None = None) -> Any:
    """The next pickle of a file: numbers, text, containers, tensors (numpy arrays too), and `Stored` objects.

    Args:
        file: open for reading, at the start of a pickle; left behind its end.
        persistent: gives the flat tensor for a storage that lies outside the pickle.

    Raises:
        Refused: the pickle asks for something that is not on the list. Nothing of the file ran.
        Exception: many kinds, for a damaged one.
    """
    return _plain(_Unpickler(file, persistent).load())


# Torch's older format: a few pickles, then the bytes of all storages.

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def load_legacy(file: BinaryIO) -> Any:
    """What `torch.save` wrote before version 1.6, or within NVIDIA's pickles."""
    import torch

    if load(file) != LEGACY_MAGIC or load(file) != 1001:
        raise Refused("for an unknown version of torch's format")
    load(file)  # sizes of C types on the writer's machine
    storages: dict[str, Tensor] = {}

    def persistent(pid: Any) -> Any:
        kind, dtype, key, _place, count = pid[:5]
        if kind != "storage":
            raise Refused(f"for stored {kind}")
        if key not in storages:
            storages[key] = torch.empty(int(count), dtype=dtype)
        view = pid[5] if len(pid) > 5 else None
        return storages[key] if view is None else storages[key][view[1] : view[1] + view[2]]

    content = load(file, persistent)
    for key in load(file):
        flat = storages[key]
        if int.from_bytes(file.read(8), sys.byteorder) != len(flat):
            raise EOFError("a storage of another length than announced")
        if len(flat):
            flat.copy_(flat_tensor(file.read(len(flat) * flat.element_size()), flat.dtype))
    return content


def flat_tensor(data: bytes, dtype: Any) -> Tensor:
    """Bytes to a tensor `(N,)` that owns its memory."""
    import torch

    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


# What the list offers

_CLASSES = {
    ("dnnlib.util", "EasyDict"), ("dnnlib", "EasyDict"), ("dnnlib.tflib.network", "Network"),
    ("argparse", "Namespace"), ("pathlib", "PosixPath"), ("pathlib", "WindowsPath"),
}  # fmt: skip

_STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "LongStorage": "int64",
    "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "BFloat16Storage": "bfloat16", "UntypedStorage": "uint8",
}  # fmt: skip


def _dtypes() -> dict[str, Any]:
    import torch

    names = ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")
    return {n: getattr(torch, n) for n in names}


_PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set, ("__builtin__", "set"): set,
    ("builtins", "frozenset"): frozenset, ("builtins", "bytearray"): bytearray,
    ("numpy", "ndarray"): "ndarray",
}  # fmt: skip
"""Types that build nothing but a container of what they are given, and cannot be changed."""


def _record(name: str) -> type:
    """A class, fresh for every mention, whose instances hold what a pickle gives them."""

    class Record(dict[Any, Any]):
        def __init__(self, *args: Any) -> None:
            super().__init__()
            if args:
                self["args"] = args

        def __setstate__(self, state: Any) -> None:
            for part in state if isinstance(state, tuple) else (state,):
                self.update(part or {})

    Record.__name__ = name
    return Record


def _persistent_object(meta: dict[str, Any]) -> Any:
    out = _record(str(meta["class_name"]))()
    out.update(meta["state"])
    return out


def _tensor(flat: _Held, offset: int, size: Any, stride: Any, *_ignored: Any) -> _Held:
    return _Held(flat.tensor.as_strided(tuple(size), tuple(stride), offset))  # refuses to reach outside


def _parameter(data: _Held, *_ignored: Any) -> _Held:
    return data


def _storage_of_bytes(data: bytes) -> _Held:
    return _Held(load_legacy(BytesIO(data)))


class _Dtype:
    def __init__(self, spec: str, *_ignored: Any) -> None:
        self.spec = spec

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.spec = state[1] + self.spec

    def read(self, data: Any) -> Any:
        import numpy as np

        dtype = np.dtype(self.spec)
        if dtype.kind not in "fiub":
            raise Refused(f"for numbers of kind {self.spec}")
        return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)


class _Array:
    """A numpy array on its way: made empty, then given shape, type and bytes."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, by_column, data = state
        self.value = dtype.read(data).reshape(shape, order="F" if by_column else "C")


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage_of_bytes,
    ("torch", "Size"): lambda values: tuple(values),
    ("torch", "device"): lambda *names: ":".join(map(str, names)),
    ("torch.jit._pickle", "build_intlist"): list,
    ("torch.jit._pickle", "build_doublelist"): list,
    ("torch.jit._pickle", "build_boollist"): list,
    ("torch.jit._pickle", "build_tensorlist"): list,
    ("torch.jit._pickle", "restore_type_tag"): lambda value, _type: value,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_args: _Array(),
    ("numpy.core.multiarray", "scalar"): lambda dtype, data: dtype.read(data)[0].item(),
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): lambda text, coding: text.encode("latin1") if coding == "latin1" else text,
}


def _plain(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """Records as `Stored`, arrays as tensors, everything inside containers too; shared parts stay shared."""
    import torch

    seen = {} if seen is None else seen
    if id(value) in seen:
        return seen[id(value)]
    out = value
    if isinstance(value, _Held):
        out = value.tensor
    elif isinstance(value, _Array):
        out = torch.from_numpy(value.value.astype(value.value.dtype.newbyteorder("="), order="C"))
    elif isinstance(value, dict):
        out = {k: _plain(v, seen) for k, v in value.items()}
        # the attributes of these are all there is to them
        if type(value).__name__ not in ("dict", "OrderedDict", "EasyDict", "Namespace"):
            out = Stored(type(value).__name__, out)
    elif isinstance(value, list | tuple):
        out = type(value)(_plain(v, seen) for v in value)
    seen[id(value)] = out
    return out
