"""The three networks of the GAN engine, from the package's file or from a user's.

One file of ours may hold all three (`gan.parts`); labels of its editor are intensities of tables / 5. Users'
public checkpoints of generator and encoder go through `weights.official`, with FFHQ's framing; an
editor is always one of ours, since there is no public one, and must have been trained in their latent space.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from faceunits import aus, weights
from faceunits.errors import ConfigError, ParameterError, WeightsError
from faceunits.gan import parts
from faceunits.io.files import printable

if TYPE_CHECKING:
    import torch

    from faceunits.networks.editor import Editor
    from faceunits.networks.encoders import E4e, Psp
    from faceunits.networks.stylegan2 import StyleGenerator

SHIPPED = Path(weights.__file__).parent / "gan.safetensors"
"""The file that comes with the package, where it comes with one."""


@dataclass(frozen=True)
class Files:
    """Where the networks are. None for the package's own, except that a file of the encoder may hold the
    generator and, if it is one of ours, the editor."""

    generator: str | os.PathLike[str] | None = None
    encoder: str | os.PathLike[str] | None = None
    editor: str | os.PathLike[str] | None = None

    @property
    def given(self) -> bool:
        """Whether any is named."""
        return any(f is not None for f in (self.generator, self.encoder, self.editor))


@dataclass(frozen=True)
class Networks:
    """In evaluation mode on one device. `names` of the editor's labels, as in tables (`AU12`, `AU12_L`);
    `alignment` one of `frame.ALIGNMENTS`; `size` of the generator's picture in pixels."""

    generator: StyleGenerator
    encoder: E4e | Psp
    editor: Editor
    names: tuple[str, ...]
    alignment: str

    @property
    def size(self) -> int:
        return self.generator.config.size

    @property
    def device(self) -> torch.device:
        return self.generator.input.input.device


def require(files: Files) -> None:
    """Refuses, before any work, what cannot be a whole engine.

    Raises:
        ConfigError: files are missing.
    """
    lacking = None
    if files.generator is not None and files.encoder is None:
        lacking = "--encoder, an e4e or pSp file"
    elif files.encoder is not None and files.editor is None and not _is_ours(files.encoder):
        lacking = "--editor, a file that faceunits train editor made for this generator"
    if lacking:
        raise ConfigError(
            f"expected generator, encoder and editor of one latent space; {lacking}, is missing; give it too"
        )
    if files.encoder is None and not SHIPPED.is_file():
        raise ConfigError(
            "expected networks for the engine gan; this installation comes without a generator of faces; "
            "give --generator, --encoder and --editor, or use the engine motion"
        )


@cache
def load(files: Files, device: str = "cpu") -> Networks:
    """The networks, loaded once per device.

    Args:
        files: of the user, or none for the package's own.
        device: as torch names it.

    Raises:
        ConfigError: files are missing, or do not belong together.
        WeightsError: a file that is missing, damaged, of another network or of another size.
    """
    require(files)
    generator = _generator(files.generator or files.encoder or SHIPPED)
    encoder, alignment = _encoder(files.encoder or SHIPPED)
    editor, names = _editor(files.editor or files.encoder or SHIPPED)
    spaces = {
        "the generator": (generator.config.levels, generator.config.latent),
        "the encoder": (encoder.config.levels, encoder.config.latent),
        "the editor": (editor.config.levels, editor.config.latent),
    }
    if len(set(spaces.values())) > 1:
        told = ", ".join(f"{levels} x {width} in {name}" for name, (levels, width) in spaces.items())
        raise ConfigError(
            f"expected generator, encoder and editor of one latent space; got {told}; use files that belong "
            "together"
        )
    for net in (generator, encoder, editor):
        net.eval().requires_grad_(False).to(device)
    return Networks(generator, encoder, editor, names, alignment)


def _generator(path: str | os.PathLike[str]) -> StyleGenerator:
    if _is_ours(path):
        return parts.generator(path)
    from faceunits.weights import official

    return official.generator(path)


def _encoder(path: str | os.PathLike[str]) -> tuple[E4e | Psp, str]:
    """The encoder and the framing of its pictures."""
    if _is_ours(path):
        return parts.encoder(path)
    from faceunits.weights import official

    return official.encoder(path), "ffhq"


def _editor(path: str | os.PathLike[str]) -> tuple[Editor, tuple[str, ...]]:
    """The editor, and the names of its labels as tables have them."""
    if not _is_ours(path):
        weights.locate(path)  # says if there is no such file
        raise WeightsError(
            f"expected an editor that faceunits train editor wrote; {printable(path)} is of another kind; "
            "there are no public ones, so train one for your generator"
        )
    _, net = parts.editor(path)
    try:
        return net, tuple("".join(aus.parse(name)) for name in net.config.names)
    except ParameterError as error:
        raise WeightsError(
            f"expected labels that are action units in {printable(path)}; {error}; use a file of this version"
        ) from error


def _is_ours(path: str | os.PathLike[str]) -> bool:
    """Whether `weights.save` wrote the file; public safetensors files have no configuration."""
    from safetensors import safe_open

    try:
        with safe_open(Path(path), framework="pt") as file:
            return "config" in dict(file.metadata() or {})
    except Exception:  # no safetensors file, or none at all: whoever reads it next says so
        return False
