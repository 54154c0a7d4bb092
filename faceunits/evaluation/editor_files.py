"""What an editor needs, from weights files: the picture space that it moves in, and the editor itself.

A file of a picture space holds encoder and generator (`encoder.*`, `generator.*`) with their sizes; a file
of an editor holds `editor.*`, one of `networks.editor_baselines`, with its kind and sizes. One file may hold
both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceunits import weights
from faceunits.errors import WeightsError
from faceunits.io.files import printable
from faceunits.networks import editor_baselines
from faceunits.networks.editor import Editor, EditorConfig
from faceunits.networks.encoders import E4e, EncoderConfig, Psp, pooled
from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator


@dataclass(frozen=True)
class Space:
    """Pictures and their latents: `encode` `(B, 3, S, S)` in [0, 1] to `(B, L, D)`, `decode` back."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    levels: int
    latent: int


def space_of(encoder: Psp | E4e, generator: StyleGenerator, *, noise: bool = False) -> Space:
    """The picture space of two frozen networks.

    Args:
        encoder: gives w+ with the average in it.
        generator: of as many levels.
        noise: draw with the generator's stored noise instead of none.
    """
    maps = generator.stored_noise() if noise else generator.no_noise()

    def encode(image: Tensor) -> Tensor:
        w: Tensor = encoder(pooled(2 * image - 1, encoder.config.size))
        return w

    def decode(w: Tensor) -> Tensor:
        image: Tensor = generator(w, maps)
        return ((image + 1) / 2).clamp(0, 1)

    return Space(encode, decode, generator.config.levels, generator.config.latent)


def load_space(path: str | Path, device: torch.device | str = "cpu") -> Space:
    """Encoder and generator of one file, drawing without noise as they were trained.

    Args:
        path: tensors `encoder.*`, `generator.*` and `average`; what else it holds is passed over.
        device: where they run.

    Raises:
        WeightsError: another kind of file, or pictures that are framed otherwise than E's crops.
    """
    state, about = weights.load(path)
    if about.get("alignment") != "face" or not {"encoder", "generator"} <= about.keys():
        raise WeightsError(
            f"expected an encoder and a generator of E's own crops in {printable(path)}; it holds "
            f"{about.get('kind', 'something else')} of {about.get('alignment', 'unknown')} alignment; name a "
            "file that training of the autoencoder wrote"
        )
    sizes = weights.settings(EncoderConfig, about["encoder"], source=path)
    encoder: Psp | E4e = Psp(sizes) if about["encoder"]["kind"] == "psp" else E4e(sizes)
    generator = StyleGenerator(weights.settings(StyleConfig, about["generator"], source=path))
    weights.fill(encoder, _below(state, "encoder."), source=path)
    weights.fill(generator, _below(state, "generator."), source=path)
    if "average" in state:  # codes are relative to it; none means zero
        encoder.average = state["average"].float()
    for net in (encoder, generator):
        net.eval().requires_grad_(False).to(device)
    return space_of(encoder, generator)


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def save_editor(path: str | Path, name: str, net: Editor, card: dict[str, Any] | None = None) -> None:
    """Write an editor of `editor_baselines.NAMES`, whole or not at all."""
    state = {f"editor.{k}": v for k, v in net.state_dict().items()}
    about = {"kind": "editor", "editor": {**asdict(net.config), "kind": name}}
    weights.save(path, state, about, card or {})


def holds_editor(path: str | Path) -> bool:
    """Whether a weights file has an editor in it."""
    return isinstance(weights.load(path)[1].get("editor"), dict)


def load_editor(path: str | Path, device: torch.device | str = "cpu") -> tuple[str, Editor]:
    """Kind and network of a file that `save_editor` wrote, or of the editor in a file of a whole engine.

    Raises:
        WeightsError: another kind of file, or one of other sizes.
    """
    state, about = weights.load(path)
    sizes = about.get("editor")
    if not isinstance(sizes, dict):
        raise WeightsError(
            f"expected an editor in {printable(path)}; it holds {about.get('kind', 'something else')}; name "
            "another file"
        )
    name = str(sizes.get("kind", "full"))
    if name not in editor_baselines.NAMES:
        raise WeightsError(
            f"expected an editor {', '.join(editor_baselines.NAMES)} in {printable(path)}; got {name}; use a "
            "file of this version"
        )
    net = editor_baselines.build(name, weights.settings(EditorConfig, sizes, source=path))
    weights.fill(net, _below(state, "editor."), source=path)
    return name, net.eval().requires_grad_(False).to(device)
