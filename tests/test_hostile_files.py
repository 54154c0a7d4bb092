"""Checkpoints that would run something are refused, and nothing runs."""

from __future__ import annotations

import argparse
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from faceunits.errors import WeightsError
from faceunits.io import checkpoints
from faceunits.weights import official


class _Evil:
    """Unpickled by an ordinary reader, it makes a folder."""

    def __init__(self, folder: Path, call=os.mkdir) -> None:
        self.folder, self.call = folder, call

    def __reduce__(self):
        if self.call is os.system:
            return os.system, (f"mkdir {self.folder}",)
        return self.call, (str(self.folder),)


def files_with(evil, folder: Path) -> dict[str, Path]:
    """The same object in every container that holds pickles."""
    out = {}
    for name, protocol in (("proto2", 2), ("proto3", 3), ("proto4", 4), ("proto5", 5)):
        out[name] = folder / f"{name}.pkl"
        out[name].write_bytes(pickle.dumps({"g_ema": evil}, protocol=protocol))
    for name, new in (("zip", True), ("legacy", False)):
        out[name] = folder / f"{name}.pt"
        content = {"g_ema": {"w": torch.ones(2)}, "opts": evil}
        torch.save(content, out[name], _use_new_zipfile_serialization=new)
    out["nested"] = folder / "nested.pkl"  # within the bytes of a storage, as NVIDIA's pickles have them
    inner = io.BytesIO()
    torch.save(evil, inner, _use_new_zipfile_serialization=False)
    out["nested"].write_bytes(pickle.dumps(_Bytes(inner.getvalue())))
    return out


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.data,)


@pytest.mark.parametrize("call", [os.mkdir, os.system])
def test_a_malicious_file_is_refused_and_nothing_ran(tmp_path, call):
    made = tmp_path / "made"
    files = files_with(_Evil(made, call), tmp_path)
    # the object works: an ordinary reader makes the folder
    pickle.loads(files["proto4"].read_bytes())
    assert made.is_dir()
    made.rmdir()
    for name, path in files.items():
        for reader in (checkpoints.read, official.generator, official.encoder, official.identity):
            with pytest.raises(WeightsError, match=r"(posix|nt)\.(mkdir|system).*refused and not run"):
                reader(path)
        assert not made.exists(), name


@pytest.mark.parametrize(
    "text",
    [
        b"cbuiltins\neval\n(S'1'\ntR.", b"cbuiltins\n__import__\n(S'os'\ntR.",
        b"cbuiltins\ngetattr\n(S'a'\nS'b'\ntR.",
        b"ctorch\nload\n(S'x'\ntR.", b"ctorch.jit\nload\n(S'x'\ntR.", b"ctorch.hub\nload\n(S'x'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.", b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
        b"cpickle\nloads\n(S'x'\ntR.",
        b"(S'x'\nios\nsystem\n.", b"(cos\nsystem\nS'x'\no.",
        b"\x80\x04\x8c\x0bcollections\x8c\x22OrderedDict.__init__.__globals__.a\x93.",
        b"cfaceunits.io.unpickling\nload\n(S'x'\ntR.",
    ],
)  # fmt: skip
def test_functions_beyond_the_list_are_refused(tmp_path, text):
    path = tmp_path / "f.pkl"
    path.write_bytes(text if text.startswith(b"\x80") else b"\x80\x02" + text)
    with pytest.raises(WeightsError, match="refused and not run"):
        checkpoints.read(path)


def test_a_pickle_cannot_change_what_reads_the_next_one(tmp_path):
    """Attributes set on a listed function or class must not stay."""
    path = tmp_path / "f.pkl"
    for target in (
        b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"cdnnlib.util\nEasyDict\n",
        b"cbuiltins\nset\n", b"ctorch\nfloat32\n", b"cnumpy\ndtype\n", b"cargparse\nNamespace\n",
    ):  # fmt: skip
        path.write_bytes(b"\x80\x02" + target + b"N}U\x08__call__K\x01s\x86b.")
        with pytest.raises(WeightsError):
            checkpoints.read(path)
    torch.save({"opts": argparse.Namespace(a=1), "state": OrderedDict(x=torch.ones(1))}, tmp_path / "good.pt")
    assert checkpoints.read(tmp_path / "good.pt")["opts"] == {"a": 1}


def test_a_tensor_cannot_reach_outside_its_storage(tmp_path):
    class Wide:
        def __reduce__(self):
            flat = torch.zeros(4).untyped_storage()
            typed = torch.storage.TypedStorage(wrap_storage=flat, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, 2, (100,), (1,), False, OrderedDict())

    for new in (True, False):
        torch.save({"a": Wide()}, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
        with pytest.raises(WeightsError, match="damaged"):
            checkpoints.read(tmp_path / "w.pt")
