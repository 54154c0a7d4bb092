"""Trained networks as files: safetensors, with the network's configuration in the header.

No pickle: a weights file cannot run code. The networks that come with the package lie in this folder,
each with a model card (`*.md`) that says what it was trained on, under which licence, and how well it
does. `load` gives tensors and configuration; `fill` puts them into a module and insists on every name.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from faceunits.errors import WeightsError
from faceunits.io.files import printable, replacing

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")

NAMES = ("detector", "student", "comparison", "parser", "generator", "fitting", "mesh")
"""What measuring and the engine `motion` have files of: networks, and what `fitting` measured on the parser
and the generator. The file of the engine `gan`, which no measurement reads, is `gan.files.SHIPPED`."""

_FOLDER = Path(__file__).parent


def shipped() -> dict[str, Path]:
    """Path by name of the weights files that came with the package."""
    paths = {name: _FOLDER / f"{name}.safetensors" for name in NAMES}
    return {name: path for name, path in paths.items() if path.is_file()}


def locate(name_or_path: str | os.PathLike[str]) -> Path:
    """The file that a shipped name or a path stands for.

    Raises:
        WeightsError: neither.
    """
    if isinstance(name_or_path, str) and name_or_path in NAMES:
        path = _FOLDER / f"{name_or_path}.safetensors"
        if not path.is_file():
            raise WeightsError(
                f"expected weights of the {name_or_path} in the package; {printable(path)} is missing; "
                "install the package again"
            )
        return path
    path = Path(name_or_path)
    if not path.is_file():
        raise WeightsError(
            f"expected a weights file or one of {', '.join(NAMES)}; {printable(path)} does not exist; "
            "check the name"
        )
    return path


def save(
    path: str | os.PathLike[str],
    module_state: dict[str, Tensor],
    config: dict[str, Any],
    card: dict[str, Any],
) -> None:
    """Write a network, whole or not at all.

    Args:
        path: ends in `.safetensors`.
        module_state: `module.state_dict()`; moved to the CPU, kept in its number format.
        config: what `load` returns; JSON values only.
        card: origin of the weights (data, licence, command, figures); JSON values only.

    Raises:
        InputError: a place that cannot be written to.
    """
    from safetensors.torch import save as to_bytes

    # clone: safetensors refuses tensors that share memory, and tied or sliced ones do
    tensors = {k: v.detach().to("cpu").contiguous().clone() for k, v in module_state.items()}
    metadata = {"format": "pt", "config": json.dumps(config), "card": json.dumps(card)}
    with replacing(path) as temporary:
        # not save_file: its files are readable by their owner only, and installed ones are for all
        temporary.write_bytes(to_bytes(tensors, metadata=metadata))


def load(name_or_path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, on the CPU, and the configuration of the network they belong to.

    Args:
        name_or_path: one of `NAMES`, or a file that `save` wrote.

    Raises:
        WeightsError: no such file, a damaged one, or one that `save` did not write.
    """
    from safetensors.torch import load_file

    path = locate(name_or_path)
    metadata = _metadata(path)
    if "config" not in metadata:
        raise WeightsError(
            f"expected a weights file of faceunits; {printable(path)} has no configuration in its header; "
            "use one that a faceunits train command wrote"
        )
    try:
        return load_file(path), json.loads(metadata["config"])
    except Exception as error:  # safetensors has its own error, json another
        raise _damaged(path, error) from error


def card(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """Where the weights come from, as `save` was told.

    Raises:
        WeightsError: as `load`.
    """
    path = locate(name_or_path)
    values: dict[str, Any] = json.loads(_metadata(path).get("card", "{}"))
    return values


def fill(module: nn.Module, state: dict[str, Tensor], *, source: str | os.PathLike[str]) -> None:
    """Copy tensors into a module; every name and every shape must agree.

    Args:
        module: changed in place.
        state: from `load`.
        source: file or name, for the message.

    Raises:
        WeightsError: a tensor that is missing, left over or of another shape.
    """
    wanted = module.state_dict()
    where = printable(source)
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or extra:
        example = f"{missing[0]} is missing" if missing else f"{extra[0]} has no place"
        raise WeightsError(
            f"expected weights of a {type(module).__name__} in {where}; {len(missing)} tensors missing, "
            f"{len(extra)} left over ({example}); use a file of this network"
        )
    for name, tensor in wanted.items():
        if tensor.shape != state[name].shape:
            raise WeightsError(
                f"expected {name} of shape {tuple(tensor.shape)} in {where}; got {tuple(state[name].shape)}; "
                "use a file of the same network and size"
            )
    module.load_state_dict(state)


def halved(state: dict[str, Tensor], *, least: int = 4096) -> dict[str, Tensor]:
    """Large matrices in half precision, which halves the file; norms and small tensors stay as they are.

    `fill` brings them back to the module's own precision; figures are measured on what a file holds.
    """
    return {
        k: v.half() if v.is_floating_point() and v.ndim > 1 and v.numel() >= least else v
        for k, v in state.items()
    }


def settings(kind: type[T], config: dict[str, Any], *, source: str | os.PathLike[str]) -> T:
    """The configuration of a network as its dataclass; what else the header holds is passed over.

    Args:
        kind: a dataclass of sizes; JSON lists become the tuples that it wants.
        config: from `load`.
        source: file or name, for the message.

    Raises:
        WeightsError: a setting that is missing: the file is of another network.
    """
    # A part that is off by default was off before there was a setting for it.
    off = {f.name: f.default for f in fields(kind) if f.default is False or f.default == 0}  # type: ignore[arg-type]
    names = [f.name for f in fields(kind) if f.name in config or f.name not in off]  # type: ignore[arg-type]
    missing = [n for n in names if n not in config]
    if missing:
        raise WeightsError(
            f"expected weights of another network than those in {printable(source)}: their header has no "
            f"{missing[0]} for {kind.__name__}; use a file of this network"
        )
    return kind(**{n: tuple(config[n]) if isinstance(config[n], list) else config[n] for n in names})


def sha256(path: str | os.PathLike[str]) -> str:
    """Checksum of a file, 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _described(path: Path, _changed_ns: int) -> dict[str, str]:
    return {"file": printable(path.name), "sha256": sha256(path)}


def describe(name_or_path: str | os.PathLike[str]) -> dict[str, str]:
    """File name and checksum, for the description beside a table."""
    path = locate(name_or_path)
    return dict(_described(path, path.stat().st_mtime_ns))


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except Exception as error:  # as in load
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> WeightsError:
    return WeightsError(
        f"expected a safetensors file; {printable(path)} is of another kind or damaged "
        f"({' '.join(str(error).split())}); copy it again or name another"
    )
