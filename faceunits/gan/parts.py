"""Generator, encoder and editor out of a weights file of ours, which may hold one, two or all of them.

Tensors `generator.*`, `encoder.*`, `editor.*` and `average`, which codes are relative to (none means zero);
a header with the sizes of each network, and, beside an encoder, the framing of its pictures.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from faceunits import weights
from faceunits.errors import WeightsError
from faceunits.gan.frame import ALIGNMENTS
from faceunits.io.files import printable

if TYPE_CHECKING:
    from torch import Tensor

    from faceunits.networks.editor import Editor
    from faceunits.networks.encoders import E4e, Psp
    from faceunits.networks.stylegan2 import StyleGenerator


def generator(path: str | os.PathLike[str]) -> StyleGenerator:
    """The generator, whose own noise is zero: ours learn to draw without.

    Raises:
        WeightsError: a file that is missing, damaged, of another network or of other sizes.
    """
    from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator

    state, about = weights.load(path)
    net = StyleGenerator(weights.settings(StyleConfig, _sizes(about, "generator", path), source=path))
    weights.fill(net, _tensors(state, "generator", path), source=path)
    net.average = _average(state, net.config.levels, net.config.latent, path)
    for noise in net.stored_noise():
        noise.zero_()
    return net


def encoder(path: str | os.PathLike[str]) -> tuple[E4e | Psp, str]:
    """The encoder, and which of `frame.ALIGNMENTS` its pictures have.

    Raises:
        WeightsError: as of `generator`, or a kind or framing that this version doesn't know.
    """
    from faceunits.networks.encoders import E4e, EncoderConfig, Psp

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


def editor(path: str | os.PathLike[str]) -> tuple[str, Editor]:
    """Which of `editor_baselines.NAMES` the editor is, and the editor.

    Raises:
        WeightsError: as of `generator`, or a kind that this version doesn't know.
    """
    from faceunits.networks import editor_baselines
    from faceunits.networks.editor import EditorConfig

    state, about = weights.load(path)
    sizes = _sizes(about, "editor", path)
    kind = str(sizes.get("kind", "full"))
    if kind not in editor_baselines.NAMES:
        raise WeightsError(
            f"expected an editor {', '.join(editor_baselines.NAMES)} in {printable(path)}; got {kind}; use a "
            "file of this version"
        )
    net = editor_baselines.build(kind, weights.settings(EditorConfig, sizes, source=path))
    weights.fill(net, _tensors(state, "editor", path), source=path)
    return kind, net


def _sizes(about: dict[str, Any], part: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    sizes = about.get(part)
    if not isinstance(sizes, dict):
        raise WeightsError(
            f"expected the sizes of the {part} in the header of {printable(path)}; it holds "
            f"{about.get('kind', 'another network')}; name a file with {_one(part)}"
        )
    return sizes


def _tensors(state: dict[str, Tensor], part: str, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    prefix = part + "."
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not found:
        raise WeightsError(
            f"expected tensors {prefix}* in {printable(path)}; there are none; name a file with {_one(part)}"
        )
    return found


def _one(part: str) -> str:
    return f"{'an' if part[0] in 'aeiou' else 'a'} {part}"


def _average(state: dict[str, Tensor], levels: int, latent: int, path: str | os.PathLike[str]) -> Tensor:
    import torch

    average = state.get("average", torch.zeros(latent))
    if tuple(average.shape) not in ((latent,), (levels, latent)):
        raise WeightsError(
            f"expected an average latent of shape ({latent},) or ({levels}, {latent}) in {printable(path)}; "
            f"got {tuple(average.shape)}; use a file of one training"
        )
    return average.float()
