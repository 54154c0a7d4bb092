"""Public checkpoints as plain values: `.pt` and `.pth`, safetensors, TorchScript archives, NVIDIA's `.pkl`.

Reading runs no code from the file, whatever its kind: safetensors hold none, and everything else goes
through `io.unpickling`. What comes back are dicts, lists, numbers, text, tensors and `Stored` objects;
`weights.official` makes networks of them.
"""

from __future__ import annotations

import os
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from faceunits.errors import WeightsError
from faceunits.io import unpickling
from faceunits.io.files import printable
from faceunits.io.unpickling import Stored

if TYPE_CHECKING:
    from torch import Tensor

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of a file that torch before 1.6 wrote: its magic number as a pickle."""

_CODE_FREE = "tensors and plain values"


def read(path: str | os.PathLike[str]) -> Any:
    """What a checkpoint holds; the kind is told by its bytes, not by its name.

    Args:
        path: a file of `torch.save` (either format) or `torch.jit.save`, a safetensors file, or a pickle of
            StyleGAN2 or StyleGAN2-ADA.

    Returns:
        Tensors on the CPU, in the containers and under the names of the file.

    Raises:
        WeightsError: no such file, another kind, a damaged one, or a pickle that asks for anything but data;
            of such a one nothing was run.
    """
    source = Path(path)
    where = printable(source)
    if not source.is_file():
        raise WeightsError(f"expected a checkpoint; {where} does not exist or is a folder; check the name")
    try:
        with source.open("rb") as file:
            return _read(file, source)
    except WeightsError:
        raise
    except unpickling.Refused as error:
        raise WeightsError(
            f"expected {_CODE_FREE} in {where}; it asks {error}, which was refused and not run; get the file "
            "from a source that you trust, or as safetensors"
        ) from error
    except (Exception, RecursionError) as error:  # a damaged pickle raises whatever it likes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(
            f"expected a checkpoint of {_CODE_FREE}; {where} is damaged or of another kind ({reason}); "
            "copy it again or name another"
        ) from error


def _read(file: BinaryIO, source: Path) -> Any:
    head = file.read(16)
    file.seek(0)
    if head.startswith(b"PK"):
        return _zip(source)
    if head.startswith(_LEGACY):
        return unpickling.load_legacy(file)
    if head.startswith(b"\x80"):
        return unpickling.load(file)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < source.stat().st_size:
        from safetensors.torch import load_file

        return load_file(source)
    if tarfile.is_tarfile(source):
        raise WeightsError(
            f"expected a checkpoint of torch 0.4 or newer; {printable(source)} is of the older tar format; "
            "load it with torch and save its state dict again"
        )
    raise WeightsError(
        f"expected a .pt, .pth, .pkl or .safetensors file; {printable(source)} is none of these; name another"
    )


def _zip(source: Path) -> Any:
    """An archive of torch: one pickle, and a file of bytes per storage."""
    with zipfile.ZipFile(source) as archive:
        names = archive.namelist()
        roots = [n[: -len("data.pkl")] for n in names if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise WeightsError(
                f"expected an archive of torch; {printable(source)} is another zip file; name a checkpoint"
            )
        root = roots[0]
        order = archive.read(f"{root}byteorder").decode() if f"{root}byteorder" in names else "little"
        if order != sys.byteorder:
            raise WeightsError(
                f"expected {sys.byteorder}-endian numbers; {printable(source)} is {order}-endian; "
                "save it again on a machine like this one"
            )
        storages: dict[str, Tensor] = {}

        def persistent(pid: Any) -> Tensor:
            kind, dtype, key, _place, count = pid[:5]
            name = f"{root}data/{key}"
            if kind != "storage" or archive.getinfo(name).file_size != int(count) * dtype.itemsize:
                raise EOFError(f"storage {key} of another length than announced")
            if name not in storages:
                storages[name] = unpickling.flat_tensor(archive.read(name), dtype)
            return storages[name]

        with archive.open(f"{root}data.pkl") as file:
            return unpickling.load(file, persistent)  # type: ignore[arg-type]


def tensors(content: Any) -> dict[str, Tensor]:
    """State dict of what `read` gave, or of a part: the tensors of a flat dict, or of a stored network.

    Entries of a dict that are no tensors are passed over; a network gives its parameters and the buffers
    that belong to its state, under the names that torch would give them.
    """
    from torch import Tensor

    if isinstance(content, Stored):
        return dict(_of_network(content, ""))
    if isinstance(content, dict):
        return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    return {}


def _of_network(network: Stored, prefix: str) -> list[tuple[str, Tensor]]:
    from torch import Tensor

    state = network.state
    hidden = state.get("_non_persistent_buffers_set", ())
    own = {**state.get("_parameters", {}), **state.get("_buffers", {})}
    if "_parameters" not in state:  # an archive of TorchScript: tensors and children are plain attributes
        own = state
    out = [(prefix + k, v) for k, v in own.items() if isinstance(v, Tensor) and k not in hidden]
    for name, child in state.get("_modules", state).items():
        if isinstance(child, Stored):
            out += _of_network(child, f"{prefix}{name}.")
    return out


def variables(network: Stored) -> dict[str, Tensor]:
    """Tensors of a network of NVIDIA's TensorFlow pickles, such as `synthesis/4x4/Const/const`."""
    out = {str(name): value for name, value in network.state["variables"]}
    for name, part in network.state.get("components", {}).items():
        out |= {f"{name}/{k}": v for k, v in variables(part).items()}
    return out
