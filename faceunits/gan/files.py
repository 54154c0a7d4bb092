"""The three networks of the GAN engine, from the package's file or from a user's.

One file of ours may hold all three: tensors `generator.`, `encoder.`, `editor.` and `average`, and a header
with their sizes, the framing of the pictures and the units of the labels, which are those of tables / 5.
Users' public checkpoints of generator and encoder go through `weights.official`, with FFHQ's framing; an
editor is always one of ours, since there is no public one, and must have been trained in their latent space.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceunits import aus, weights
from faceunits.errors import ConfigError, ParameterError, WeightsError
from faceunits.gan.frame import ALIGNMENTS
from faceunits.io.files import printable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

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
    from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator

    if not _is_ours(path):
        from faceunits.weights import official

        return official.generator(path)
    state, about = weights.load(path)
    net = StyleGenerator(weights.settings(StyleConfig, _sizes(about, "generator", path), source=path))
    weights.fill(net, _tensors(state, "generator", path), source=path)
    net.average = _average(state, net.config.levels, net.config.latent, path)
    for noise in net.stored_noise():
        noise.zero_()  # ours learn to draw without
    return net


def _encoder(path: str | os.PathLike[str]) -> tuple[E4e | Psp, str]:
    """The encoder and the framing of its pictures."""
    from faceunits.networks.encoders import E4e, EncoderConfig, Psp

    if not _is_ours(path):
        from faceunits.weights import official

        return official.encoder(path), "ffhq"
    state, about = weights.load(path)
    sizes = _sizes(about, "encoder", path)
    kinds: dict[Any, type[E4e | Psp]] = {"e4e": E4e, "psp": Psp}
    kind, alignment = sizes.get("kind"), about.get("alignment")
    if kind not in kinds or alignment not in ALIGNMENTS:
        raise WeightsError(
            f"expected an encoder of kind e4e or psp and the alignment {' or '.join(ALIGNMENTS)} in "
            f"{printable(path)}; got {kind} and {alignment}; use a file of this version"
        )
    net = kinds[kind](weights.settings(EncoderConfig, sizes, source=path))
    weights.fill(net, _tensors(state, "encoder", path), source=path)
    net.average = _average(state, net.config.levels, net.config.latent, path)
    return net, str(alignment)


def _editor(path: str | os.PathLike[str]) -> tuple[Editor, tuple[str, ...]]:
    """The editor, and the names of its labels as tables have them."""
    from faceunits.networks.editor import Editor, EditorConfig

    if not _is_ours(path):
        weights.locate(path)  # says if there is no such file
        raise WeightsError(
            f"expected an editor that faceunits train editor wrote; {printable(path)} is of another kind; "
            "there are no public ones, so train one for your generator"
        )
    state, about = weights.load(path)
    sizes = _sizes(about, "editor", path)
    config, kind = weights.settings(EditorConfig, sizes, source=path), sizes.get("kind", "full")
    if kind == "full":
        net = Editor(config)
    else:
        from faceunits.networks import editor_baselines

        net = editor_baselines.build(str(kind), config)
    weights.fill(net, _tensors(state, "editor", path), source=path)
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


def _sizes(about: dict[str, Any], part: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    sizes = about.get(part)
    if not isinstance(sizes, dict):
        raise WeightsError(
            f"expected the sizes of the {part} in the header of {printable(path)}; it holds "
            f"{about.get('kind', 'another network')}; name a file with a {part}"
        )
    return sizes


def _tensors(state: dict[str, Tensor], part: str, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    prefix = part + "."
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not found:
        raise WeightsError(
            f"expected tensors {prefix}* in {printable(path)}; there are none; name a file with a {part}"
        )
    return found


def _average(state: dict[str, Tensor], levels: int, latent: int, path: str | os.PathLike[str]) -> Tensor:
    """What codes are relative to: `average` of the file, zero where it has none."""
    import torch

    average = state.get("average", torch.zeros(latent))
    if tuple(average.shape) not in ((latent,), (levels, latent)):
        raise WeightsError(
            f"expected an average latent of shape ({latent},) or ({levels}, {latent}) in {printable(path)}; "
            f"got {tuple(average.shape)}; use a file of one training"
        )
    return average.float()
