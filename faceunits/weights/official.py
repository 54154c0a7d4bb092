"""Public checkpoints that a user holds, as networks: StyleGAN2, e4e and pSp, IR-SE50, LPIPS, Inception, CLIP.

The project ships none of these files. Each function reads one (`io.checkpoints`, which runs nothing of it),
sees what it is, takes all sizes from its shapes, and insists on every name and shape. Networks come in
evaluation mode with their weights frozen, in single precision, on the CPU.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from faceunits.errors import WeightsError
from faceunits.io import checkpoints
from faceunits.io.files import printable
from faceunits.io.unpickling import Stored
from faceunits.weights import naming

if TYPE_CHECKING:
    from torch import Tensor, nn

    from faceunits.networks.clip import Clip
    from faceunits.networks.encoders import E4e, Psp
    from faceunits.networks.inception import FidInception
    from faceunits.networks.irse50 import IRSE50
    from faceunits.networks.lpips import Lpips
    from faceunits.networks.resnet import ResNet
    from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator

N = TypeVar("N", bound="nn.Module")
Path = str | os.PathLike[str]

_SHOWN = 4
"""Names per kind of fault in a message."""


def generator(path: Path) -> StyleGenerator:
    """StyleGAN2 generator of any size, with its average w.

    Args:
        path: the PyTorch ports' file (`g_ema`, `latent_avg`), a bare state dict, an e4e or pSp file (its
            decoder), or NVIDIA's pickle, StyleGAN2-ADA or the older TensorFlow one.

    Raises:
        WeightsError: a file of another kind, class-conditional, or with wrong, missing or further tensors.
    """
    from faceunits.networks.stylegan2 import StyleGenerator

    content = checkpoints.read(path)
    state, average, clamp = _generator_state(content, path)
    config = _style_config(state, clamp, path)
    net = build(lambda: StyleGenerator(config), state, path, naming.GENERATOR)
    if average is None:
        warnings.warn(f"{printable(path)} has no latent_avg; taking the mean of 4096 samples", stacklevel=2)
        average = net.mean_w()
    average = average.float()
    if average.ndim == 2 and (average == average[0]).all():
        average = average[0]
    _require_average(average, config.latent, config.levels, path)
    net.average = average.clone()
    return net


def _generator_state(content: Any, path: Path) -> tuple[dict[str, Tensor], Tensor | None, float]:
    """Tensors under the generator's names, average w, and the bound on outputs (0: none)."""
    import torch

    average = content.get("latent_avg") if isinstance(content, dict) else None
    clamp = 0.0
    if isinstance(content, tuple) and len(content) == 3 and all(isinstance(n, Stored) for n in content):
        ema = content[2]
        options = ema.state.get("static_kwargs", {})
        clamp = float(options.get("conv_clamp") or 0)
        state = naming.from_tensorflow(checkpoints.variables(ema))
        if "synthesis.b4.const" in state:
            fir = torch.tensor([1.0, 3, 3, 1])
            sides = {k.split(".")[1] for k in state if k.startswith("synthesis.b")}
            for b in sides:
                state[f"synthesis.{b}.resample_filter"] = torch.outer(fir, fir) / 64
                if b != "b4":
                    state[f"synthesis.{b}.conv0.resample_filter"] = torch.outer(fir, fir) / 64
    else:
        part = _part(content)
        if isinstance(part, Stored):
            clamp = _clamp(part)
        state = naming.unwrapped(checkpoints.tensors(part))
        for prefix in ("decoder.", "g_ema."):
            if any(k.startswith(prefix) for k in state):
                state = naming.stripped(state, prefix)
        state = {k: v for k, v in state.items() if k != "latent_avg"}
    kind = naming.recognise(state)
    if "mapping.embed.weight" in state:
        raise WeightsError(
            f"expected a generator without classes; {printable(path)} is class-conditional, which is not "
            "supported; use an unconditional one"
        )
    if kind == naming.ADA_GENERATOR:
        state, found = naming.from_ada(state)
        average = found if average is None else average
    elif kind != naming.GENERATOR:
        raise _other_kind(naming.GENERATOR, kind, path)
    return state, average, clamp


def _part(content: Any) -> Any:
    """The weights in a file that holds other things beside them."""
    for key in ("g_ema", "G_ema", "state_dict"):
        if isinstance(content, dict) and key in content:
            return content[key]
    return content


def _clamp(network: Stored) -> float:
    """The bound that a StyleGAN2-ADA network puts on its layers."""
    for name in ("synthesis", "b4", "conv1"):
        child = network.state.get("_modules", {}).get(name)
        if not isinstance(child, Stored):
            return 0.0
        network = child
    return float(network.state.get("conv_clamp") or 0)


def _style_config(state: dict[str, Tensor], clamp: float, path: Path) -> StyleConfig:
    from faceunits.networks.stylegan2 import StyleConfig

    try:
        blocks = len({k.split(".")[1] for k in state if k.startswith("to_rgbs.")})
        mapping = len({k.split(".")[1] for k in state if k.startswith("style.")})
        widths = [state["conv1.conv.weight"].shape[1]]
        widths += [state[f"convs.{2 * i}.conv.weight"].shape[1] for i in range(blocks)]
        latent = state["style.1.weight"].shape[1]
    except (KeyError, IndexError) as error:
        raise WeightsError(
            f"expected {naming.GENERATOR} in {printable(path)}; {error.args[0]} is missing or malformed; "
            "use a whole file"
        ) from error
    size = 4 * 2**blocks
    if not 16 <= size <= 1024:
        raise WeightsError(
            f"expected a generator of 16 to 1024 px in {printable(path)}; its {blocks} to_rgbs make "
            f"{size} px; use a whole file"
        )
    public = StyleConfig(size=size, latent=latent, mapping_layers=mapping, clamp=clamp)
    if tuple(widths) == public.channels:
        return public
    return StyleConfig(public.size, latent, mapping, tuple(widths), clamp)


def encoder(path: Path, kind: Literal["e4e", "psp"] | None = None) -> E4e | Psp:
    """The encoder of an e4e or pSp file, with the average that its codes are relative to.

    Args:
        path: a file with `state_dict`, `latent_avg` and `opts`, or a safetensors file with the same names.
        kind: which of the two, where the file does not say: their tensors have the same names.

    Raises:
        WeightsError: another kind, a setting that is not supported, or tensors that do not fit.
    """
    from faceunits.networks.encoders import E4e, EncoderConfig, Psp

    content = checkpoints.read(path)
    content = content if isinstance(content, dict) else {"state_dict": content}
    state = naming.unwrapped(checkpoints.tensors(_part(content)))
    if any(k.startswith("encoder.") for k in state):
        state = naming.stripped(state, "encoder.")
    average = content.get("latent_avg")
    state = {k: v for k, v in state.items() if k != "latent_avg"}
    if naming.recognise(state) != naming.ENCODER:
        raise _other_kind(naming.ENCODER, naming.recognise(state), path)
    options = content.get("opts") or {}
    is_e4e = _encoder_kind(options, kind, path) == "e4e"
    levels = len({k.split(".")[1] for k in state if k.startswith("styles.")})
    config = EncoderConfig(levels=levels)
    net: E4e | Psp = build(lambda: E4e(config) if is_e4e else Psp(config), state, path, naming.ENCODER)
    if not options.get("start_from_latent_avg", True):
        net.average = state["styles.0.linear.bias"].new_zeros(config.latent)
        return net
    if average is None:
        raise WeightsError(
            f"expected latent_avg beside the encoder in {printable(path)}; it is missing, and codes mean "
            "nothing without it; use a whole file"
        )
    _require_average(average, config.latent, levels, path)
    net.average = average.float().clone()
    return net


_ENCODERS = {"Encoder4Editing": "e4e", "GradualStyleEncoder": "psp"}


def _encoder_kind(options: dict[str, Any], kind: str | None, path: Path) -> str:
    where = printable(path)
    if options.get("learn_in_w"):
        raise WeightsError(f"expected an encoder to w+; that of {where} gives one w; use one trained for w+")
    named = options.get("encoder_type")
    if named is not None and named not in _ENCODERS:
        raise WeightsError(
            f"expected an encoder of type {' or '.join(_ENCODERS)}; {where} says {named}; use another file"
        )
    found = _ENCODERS[named] if named else kind
    if found is None or (kind is not None and kind != found):
        raise WeightsError(
            f"expected {kind or 'a file that says whether it is e4e or pSp'}; {where} "
            f"{'is ' + found if found else 'does not say'}; {'drop' if found else 'give'} the kind"
        )
    return found


def _require_average(average: Tensor, latent: int, levels: int, path: Path) -> None:
    if tuple(average.shape) not in ((latent,), (levels, latent)):
        raise WeightsError(
            f"expected latent_avg of shape ({latent},) or ({levels}, {latent}) in {printable(path)}; got "
            f"{tuple(average.shape)}; use a file of the same size"
        )


def identity(path: Path) -> IRSE50:
    """The ArcFace identity network; the trunks within e4e and pSp files are another and are refused."""
    from faceunits.networks.irse50 import IRSE50

    return _flat(path, IRSE50, naming.IDENTITY)


def lpips(trunk: Path, heads: Path) -> Lpips:
    """The perceptual distance, from an ImageNet file of AlexNet or VGG-16 and the LPIPS weights for it."""
    from faceunits.networks.lpips import Heads, Kind, Lpips, Trunk

    body = _tensors(trunk)
    found = naming.recognise(body)
    if found not in (naming.VGG, naming.ALEX):
        raise _other_kind("AlexNet or VGG-16", found, trunk)
    kind: Kind = "vgg" if found == naming.VGG else "alex"
    body = {k: v for k, v in body.items() if not k.startswith("classifier.")}
    weights = naming.heads(_tensors(heads))
    wanted = naming.HEADS_VGG if kind == "vgg" else naming.HEADS_ALEX
    if naming.recognise(weights) != wanted:
        raise _other_kind(wanted, naming.recognise(weights), heads)
    net = build(lambda: Lpips(kind), None, trunk, found)
    net.trunk = build(lambda: Trunk(kind), body, trunk, found)
    net.heads = build(lambda: Heads(kind), weights, heads, wanted)
    return net.eval()


def inception(path: Path) -> FidInception:
    """The feature network of the Frechet inception distance."""
    from faceunits.networks.inception import FidInception

    return _flat(path, FidInception, naming.INCEPTION)


def resnet(path: Path) -> ResNet:
    """ResNet-18 or ResNet-50 of the ImageNet files."""
    from faceunits.networks.resnet import ResNet

    state = _tensors(path)
    found = naming.recognise(state)
    if found not in (naming.RESNET18, naming.RESNET50):
        raise _other_kind("ResNet-18 or ResNet-50", found, path)
    return build(lambda: ResNet(18 if found == naming.RESNET18 else 50), state, path, found)


def clip(path: Path) -> Clip:
    """CLIP from OpenAI's archives or a state dict."""
    from faceunits.networks.clip import Clip, ClipConfig

    state = _tensors(path)
    if naming.recognise(state) != naming.CLIP:
        raise _other_kind(naming.CLIP, naming.recognise(state), path)
    beside = ("input_resolution", "context_length", "vocab_size")
    state = {k: v for k, v in state.items() if k not in beside and not k.endswith("attn_mask")}
    try:
        config = ClipConfig.of({k: tuple(v.shape) for k, v in state.items()})
    except (KeyError, IndexError) as error:
        raise WeightsError(
            f"expected CLIP in {printable(path)}; {error.args[0]} is missing or malformed; use a whole file"
        ) from error
    return build(lambda: Clip(config), state, path, naming.CLIP)


def _flat(path: Path, make: Callable[[], N], kind: str) -> N:
    state = _tensors(path)
    if naming.recognise(state) != kind:
        raise _other_kind(kind, naming.recognise(state), path)
    return build(make, state, path, kind)


def _tensors(path: Path) -> dict[str, Tensor]:
    return naming.unwrapped(checkpoints.tensors(_part(checkpoints.read(path))))


def _other_kind(wanted: str, found: str, path: Path) -> WeightsError:
    return WeightsError(f"expected {wanted}; {printable(path)} holds {found}; name another file")


def build(make: Callable[[], N], state: dict[str, Tensor] | None, path: Path, kind: str) -> N:
    """A network that holds exactly these tensors, in evaluation mode and frozen.

    Args:
        make: builds the network; called without memory for its weights.
        state: all its tensors by name; None leaves it without. Counters of batch norms may be missing.
        path: the file, for messages.
        kind: what it should hold, for messages.

    Raises:
        WeightsError: missing, further, or wrongly shaped tensors, by name.
    """
    import torch

    with torch.device("meta"):
        net = make()
    net.eval().requires_grad_(False)
    if state is None:
        return net
    wanted = net.state_dict()
    counters = {k: torch.tensor(0) for k in wanted if k.endswith(".num_batches_tracked") and k not in state}
    state = {**state, **counters}
    faults = {
        "missing": [k for k in wanted if k not in state],
        "without a place": [k for k in state if k not in wanted],
        "of another shape": [
            f"{k} {tuple(state[k].shape)} for {tuple(v.shape)}"
            for k, v in wanted.items()
            if k in state and state[k].shape != v.shape
        ],
    }
    if any(faults.values()):
        said = [
            f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
            for what, names in faults.items()
            if names
        ]
        raise WeightsError(
            f"expected the {len(wanted)} tensors of {kind} in {printable(path)}; got {', '.join(said)}; "
            "use a file of this network and size"
        )
    net.load_state_dict({k: state[k].to(v.dtype) for k, v in wanted.items()}, strict=True, assign=True)
    return net
