"""What an editor needs, from weights files: the picture space that it moves in, and the editor itself.

Files as `gan.parts` reads them: of a picture space with encoder and generator, of an editor, or of both.
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
from faceunits.gan import parts
from faceunits.io.files import printable
from faceunits.networks.editor import Editor
from faceunits.networks.encoders import E4e, Psp, pooled
from faceunits.networks.stylegan2 import StyleGenerator


@dataclass(frozen=True)
class Space:
    """Pictures and their latents: `encode` `(B, 3, S, S)` in [0, 1] to `(B, L, D)`, `decode` back."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    levels: int
    latent: int


def space_of(encoder: Psp | E4e, generator: StyleGenerator) -> Space:
    """The picture space of two frozen networks of as many levels; the encoder adds its average."""
    maps = generator.no_noise()

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
        WeightsError: as of `gan.parts`, or pictures that are framed otherwise than E's crops.
    """
    encoder, alignment = parts.encoder(path)
    if alignment != "face":
        raise WeightsError(
            f"expected pictures framed as E's own crops in {printable(path)}; got {alignment} alignment; "
            "name a file that training of the autoencoder wrote"
        )
    generator = parts.generator(path)
    for net in (encoder, generator):
        net.eval().requires_grad_(False).to(device)
    return space_of(encoder, generator)


def save_editor(path: str | Path, name: str, net: Editor, card: dict[str, Any] | None = None) -> None:
    """Write an editor under its name in `editor_baselines.NAMES`, whole or not at all."""
    state = {f"editor.{k}": v for k, v in net.state_dict().items()}
    about = {"kind": "editor", "editor": {**asdict(net.config), "kind": name}}
    weights.save(path, state, about, card or {})


def holds_editor(path: str | Path) -> bool:
    """Whether a weights file has an editor in it."""
    return isinstance(weights.load(path)[1].get("editor"), dict)


def load_editor(path: str | Path, device: torch.device | str = "cpu") -> tuple[str, Editor]:
    """Kind and network of a file that `save_editor` wrote, or of the editor in a file of a whole engine.

    Raises:
        WeightsError: as of `gan.parts`.
    """
    name, net = parts.editor(path)
    return name, net.eval().requires_grad_(False).to(device)
