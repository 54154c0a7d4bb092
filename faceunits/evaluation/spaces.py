"""Feature spaces in which a photo and a drawn face can be compared (GE-Net, section 4.4).

Each is a module from images to four maps, so that the fit of `fitting.optimise` runs in it unchanged. The
trained networks of other projects come from files that the user names; without a file they are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceunits import fitting
from faceunits.errors import WeightsError
from faceunits.fitting import loss, optimise
from faceunits.fitting.optimise import Networks, Recipe
from faceunits.io.files import printable
from faceunits.networks.parser import RESNET50, Features, Parser
from faceunits.networks.vgg import Vgg16

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Space:
    """`networks` whose E is this space's network; `attention`: mask its maps by facial regions."""

    name: str
    networks: Networks
    attention: bool = False


UNTRAINED = "E's network, untrained"
"""E's layers with random weights: what the shape of the network alone sees."""


class _Maps(nn.Module):
    """A network without parsing in the place of E: maps only, padded to four with empty ones."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor, *, heads: bool = True) -> Features:
        found = self.inner(image, heads=False) if isinstance(self.inner, Parser) else self.inner(image)
        maps = found.maps if isinstance(found, Features) else found
        nothing = image.new_zeros(len(image), 1, 1, 1)
        four = (*maps, *[nothing] * (4 - len(maps)))
        return Features(four, image.new_zeros(len(image), 11, 1, 1), None, None, None, None)


class _Pixels(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (image,)


def spaces(
    models: fitting.Models,
    *,
    vgg: Path | None = None,
    resnets: Mapping[str, Path] | None = None,
    seed: int = 0,
) -> list[Space]:
    """Raw pixels, VGG-16, ResNet-50 networks, E untrained, E without attention (GENet-O), and E with it.

    Args:
        models: M and E.
        vgg: ImageNet weights in the public layout (`features.N.weight`); left out when None.
        resnets: weights in the public layout of ResNet-50 by name, of ImageNet, or of an expression or
            identity network of that form.
        seed: of the random weights.

    Raises:
        WeightsError: a file that is missing or of another network.
    """
    out = [_space("raw pixels", _Pixels(), models)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if vgg is not None:
            perceptual = Vgg16()
            _fill(perceptual, vgg, optional=())
            out.append(_space("VGG-16", perceptual, models))
        for name, path in (resnets or {}).items():
            # ImageNet's own strides: the paper's ablation is the network as it was trained
            trunk = Parser(
                replace(RESNET50, strides=(1, 2, 2, 2), size=models.networks.generator.config.size)
            )
            _fill(trunk, path, optional=("classifier.",))
            out.append(_space(name, trunk, models))
        out.append(_space(UNTRAINED, Parser(models.networks.parser.config), models))
    out.append(Space("E without attention", models.networks))
    return [*out, Space("E with attention", models.networks, attention=True)]


def left_out(chosen: Sequence[Space]) -> str:
    """The paper's networks that are not among the spaces, since no weights were named; empty when all are."""
    names = {space.name for space in chosen}
    ours = {"raw pixels", "VGG-16", UNTRAINED, "E without attention", "E with attention"}
    return ", ".join(["VGG-16"] * ("VGG-16" not in names) + ["ResNet-50"] * (not names - ours))


def _space(name: str, inner: nn.Module, models: fitting.Models) -> Space:
    """The networks of a fit with another network in the place of E, its maps weighed alike."""
    net = _Maps(inner).to(models.device).eval().requires_grad_(False)
    base = optimise.base_face(models.networks.generator, models.networks.n_au, 1)
    with torch.no_grad():
        scales = loss.scales(net(models.networks.generator(base)))
    used = [bool(m.shape[-1] > 1) for m in net(models.networks.generator(base)).maps]
    beta = tuple(s if keep else 0.0 for s, keep in zip(scales, used, strict=True))
    # it has the one method of E that a fit by features calls
    return Space(name, replace(models.networks, parser=cast(Any, net), beta=beta))


def _fill(net: nn.Module, path: Path, *, optional: Sequence[str]) -> None:
    """Public weights into a network; what the file holds beyond it (its classifier) is passed over.

    Raises:
        WeightsError: no such file, or one that lacks tensors of the network.
    """
    where = printable(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Tensor] = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every library has its own errors for damage
        raise WeightsError(
            f"expected weights as .safetensors or as a state dict of torch; {where} cannot be read "
            f"({' '.join(str(error).split())[:200]}); name another file"
        ) from error
    wanted = net.state_dict()
    chosen = {k: v for k, v in state.items() if k in wanted and wanted[k].shape == v.shape}
    missing = [k for k in wanted if k not in chosen and not k.startswith(tuple(optional))]
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"expected the tensors of {type(net).__name__} in {where}; {len(missing)} are missing or of "
            f"another shape ({missing[0]}); name a file in the public layout"
        )
    net.load_state_dict(chosen, strict=False)


@dataclass(frozen=True)
class Descent:
    """Result of a fit in a space: `au` `(B, A)`, `image` `(B, 3, S, S)`, `trace` `(T, B)`."""

    au: F32
    image: F32
    trace: F32


def descend(space: Space, crops: F32, models: fitting.Models, recipe: Recipe, *, batch: int = 8) -> Descent:
    """The fit of crops `(B, 3, S, S)` by the features of a space alone."""
    settings = replace(recipe, attention=space.attention, landmarks=0, readings=0, start_at_reading=False)
    parts = []
    for i in range(0, len(crops), batch):
        photo = torch.from_numpy(np.ascontiguousarray(crops[i : i + batch])).to(models.device)
        none = torch.zeros(0, dtype=torch.long)  # nothing is mirrored in a fit by features
        target = optimise.observe(space.networks, photo, settings, none, none)
        y, trace = optimise.descend(space.networks, target, settings)
        with torch.no_grad():
            image = space.networks.generator(y)
        n = space.networks.n_au
        parts.append(Descent(*(t.float().cpu().numpy() for t in (y[:, 2 : 2 + n], image, trace))))
    return Descent(
        np.concatenate([p.au for p in parts]), np.concatenate([p.image for p in parts]),
        np.concatenate([p.trace for p in parts], 1),
    )  # fmt: skip


def distances(space: Space, a: F32, b: F32, device: torch.device) -> NDArray[np.float64]:
    """`(n, m)` loss (eq. 6) between every one of images `a` `(n, 3, S, S)` and of `b` `(m, 3, S, S)`."""
    with torch.inference_mode():
        seen = [
            [
                loss.masked(
                    space.networks.parser(torch.from_numpy(x[i : i + 1]).to(device), heads=False),
                    space.networks.beta, attention=space.attention,
                )
                for i in range(len(x))
            ]
            for x in (a, b)
        ]  # fmt: skip
        return np.array([[float(loss.feature_loss(p, q)) for q in seen[1]] for p in seen[0]])
