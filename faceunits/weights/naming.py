"""Names of the tensors in public checkpoints: what a file holds, and NVIDIA's names as our generator's.

Our networks carry the names of the usual PyTorch ports. NVIDIA's two families, StyleGAN2-ADA (PyTorch) and
StyleGAN2 (TensorFlow), hold the same numbers under other names, with three differences in TensorFlow: the
modulation's bias lacks 1, weights are stored transposed, and the up-sampling ones flipped.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GENERATOR, ADA_GENERATOR = "a StyleGAN2 generator", "a StyleGAN2-ADA generator"
ENCODER, IDENTITY = "an e4e or pSp encoder", "an IR-SE50 identity network"
HEADS_VGG, HEADS_ALEX = "LPIPS weights for VGG-16", "LPIPS weights for AlexNet"
VGG, ALEX, INCEPTION, CLIP = "VGG-16", "AlexNet", "the Inception network of FID", "CLIP"
RESNET18, RESNET50 = "ResNet-18", "ResNet-50"

_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (GENERATOR, ("conv1.conv.modulation.weight",)),
    (ADA_GENERATOR, ("synthesis.b4.const",)),
    ("a StyleGAN3 generator", ("synthesis.input.freqs",)),
    ("a StyleGAN2 discriminator", ("final_linear.0.weight",)),
    ("a StyleGAN2-ADA discriminator", ("b4.out.weight",)),
    (ENCODER, ("input_layer.0.weight", "styles.0.linear.weight")),
    (ENCODER, ("encoder.input_layer.0.weight", "encoder.styles.0.linear.weight")),
    (IDENTITY, ("input_layer.0.weight", "output_layer.3.weight")),
    (CLIP, ("visual.conv1.weight", "text_projection")),
    (INCEPTION, ("Mixed_7c.branch_pool.conv.weight",)),
    (RESNET50, ("layer1.0.conv3.weight",)),
    (RESNET18, ("layer1.0.conv2.weight",)),
    (VGG, ("features.28.weight",)),
    (ALEX, ("features.10.weight",)),
    (HEADS_VGG, ("lin1.model.1.weight",)),
)
"""Kinds and names that only they have, the more particular first."""


def recognise(state: dict[str, Tensor]) -> str:
    """What a state dict is of, for messages and choices; "tensors of an unknown network" otherwise."""
    for kind, names in _SIGNS:
        if all(n in state for n in names):
            if kind == HEADS_VGG:
                return HEADS_VGG if state[names[0]].shape[1] == 128 else HEADS_ALEX
            return kind
    return "tensors of an unknown network"


def stripped(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the `module.` that data-parallel training leaves before every name."""
    return stripped(state, "module.") if state and all(k.startswith("module.") for k in state) else state


def heads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """LPIPS weights under their first names: some files have `0.1.weight` for `lin0.model.1.weight`."""
    return {re.sub(r"^(\d+)\.1\.weight$", r"lin\1.model.1.weight", k): v for k, v in state.items()}


def from_ada(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
    """StyleGAN2-ADA's tensors under the generator's names, and the average w.

    Names that have no counterpart stay as they are, so that strict filling reports them.
    """
    out: dict[str, Tensor] = {}
    average = None
    for name, value in state.items():
        layer = re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.+)", name)
        mapping = re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name)
        if name == "mapping.w_avg":
            average = value
        elif name == "synthesis.b4.const":
            out["input.input"] = value[None]
        elif mapping:
            out[f"style.{int(mapping[1]) + 1}.{mapping[2]}"] = value
        elif layer:
            new = _layer(int(layer[1]), layer[2], layer[3], value)
            if new is not None:
                out[new[0]] = new[1]
        elif re.fullmatch(r"synthesis\.b(\d+)\.resample_filter", name):
            side = int(name.split(".")[1][1:])
            if side > 4:
                out[f"to_rgbs.{_block(side)}.upsample.kernel"] = 4 * value
        else:
            out[name] = value
    return out, average


def _block(side: int) -> int:
    return int(math.log2(side)) - 3


def _layer(side: int, part: str, rest: str, value: Tensor) -> tuple[str, Tensor] | None:
    """New name and value of a tensor of one layer; None for the filter of a layer that does not filter."""
    i = _block(side)
    if part == "torgb":
        home = "to_rgb1" if side == 4 else f"to_rgbs.{i}"
    else:
        home = "conv1" if side == 4 else f"convs.{2 * i + (part == 'conv1')}"
    noise = 0 if side == 4 else 2 * i + 1 + (part == "conv1")
    if rest == "weight":
        return f"{home}.conv.weight", value[None]
    if rest == "bias":
        if part == "torgb":
            return f"{home}.bias", value.reshape(1, 3, 1, 1)
        return f"{home}.activate.bias", value
    if rest == "noise_strength":
        return f"{home}.noise.weight", value.reshape(1)
    if rest == "noise_const":
        return f"noises.noise_{noise}", value[None, None]
    if rest == "resample_filter":
        return (f"{home}.conv.blur.kernel", 4 * value) if part == "conv0" else None
    return f"{home}.conv.{rest.replace('affine.', 'modulation.')}", value


def from_tensorflow(variables: dict[str, Tensor]) -> dict[str, Tensor]:
    """The variables of a TensorFlow generator under StyleGAN2-ADA's names; its filters are not stored."""
    out: dict[str, Tensor] = {}
    for name, value in variables.items():
        layer = re.fullmatch(r"synthesis/(\d+)x\d+/(Conv|Conv0_up|Conv1|ToRGB)/(\w+)", name)
        dense = re.fullmatch(r"mapping/Dense(\d+)/(weight|bias)", name)
        noise = re.fullmatch(r"synthesis/noise(\d+)", name)
        if name == "dlatent_avg":
            out["mapping.w_avg"] = value
        elif name == "synthesis/4x4/Const/const":
            out["synthesis.b4.const"] = value[0]
        elif dense:
            out[f"mapping.fc{dense[1]}.{dense[2]}"] = value.T if dense[2] == "weight" else value
        elif noise:
            n = int(noise[1])
            part = "conv1" if n % 2 == 0 else "conv0"
            out[f"synthesis.b{2 ** ((n + 5) // 2)}.{part}.noise_const"] = value[0, 0]
        elif layer:
            part = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb"}[layer[2]]
            rest, new = _tensorflow_layer(layer[2], layer[3], value)
            out[f"synthesis.b{layer[1]}.{part}.{rest}"] = new
        elif name.split("/")[-1] != "lod":  # state of progressive growing, without use
            out[name] = value
    return out


def _tensorflow_layer(part: str, name: str, value: Tensor) -> tuple[str, Tensor]:
    if name == "weight":
        value = value.flip(0, 1) if part == "Conv0_up" else value
        return "weight", value.permute(3, 2, 0, 1).contiguous()
    if name == "mod_weight":
        return "affine.weight", value.T.contiguous()
    if name == "mod_bias":
        return "affine.bias", value + 1
    return name, value
