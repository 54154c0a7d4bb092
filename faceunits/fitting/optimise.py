"""Gradient descent on the parameters of a photo's face (GE-Net, eqs. 6 and 7).

    y <- clip(y - lr * dL/dy, 0, 1)

`paper` is the paper's setting: plain steps, for pose and action units the inverse of how much of the
parsing each of them changes. `default` adds what helped (docs/log.md): E's landmarks against M's
sketch, E's own reading as a belief with known errors, rest as the likelier state, Adam.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from faceunits.alignment import warp
from faceunits.errors import ConfigError
from faceunits.fitting import curves, loss, steady
from faceunits.fitting.loss import Target
from faceunits.fitting.prior import Subspace
from faceunits.networks.generator import Generator, Sketch
from faceunits.networks.parser import Features, Parser, turned_back
from faceunits.networks.student import Student


@dataclass(frozen=True)
class Recipe:
    """Settings of a fit; a weight of 0 leaves its term out."""

    iterations: int = 30
    """Steps; about 30 are enough (GE-Net, section 3.4)."""
    optimiser: str = "adam"
    """`adam`, or `descent` (eq. 7)."""
    rate: float = 0.05
    """Adam's first step size, in units of the parameters; falls to a tenth."""
    identity_rate: float = 8.0
    """Step size of the identity under `descent` (GE-Net, section 3.4)."""
    largest_step: float = 0.1
    """Bound of one parameter's change in one step of `descent`."""
    attention: bool = True
    """Mask the features by facial regions (eq. 5); without it this is GENet-O."""
    subspace: bool = True
    """Keep the identity in the subspace of neutral faces (eqs. 8-10)."""
    features: float = 1.0
    """Weight of eq. 6."""
    landmarks: float = 0.0
    """Weight of the squared landmark differences, in (1 % of the crop side)^2."""
    readings: float = 0.0
    """Weight of the reading of the photo: squared differences over their known variances."""
    rest: float = 0.0
    """Weight of the sum of action units: most muscles rest."""
    mirror: bool = False
    """Read and fit the photo and its mirror image, so that both sides are judged alike."""
    curves: bool = False
    """Carry readings to the scale of the parameters (see `curves`)."""
    views: int = 1
    """Of the photo, in which R reads it (see `steady`)."""
    start_at_reading: bool = False
    """Start from the reading instead of the base face."""
    at_rest: bool = False
    """Hold the action units at 0: for the neutral faces that span the identity subspace."""


PAPER = Recipe(optimiser="descent")
DEFAULT = Recipe(
    iterations=15, features=10.0, landmarks=1.0, readings=1.0, mirror=True, curves=True,
    views=steady.VIEWS, start_at_reading=True,
)  # fmt: skip
REFINE = replace(DEFAULT, iterations=5)
FAST = replace(REFINE, iterations=0)
"""The reading as it is, with the face that M draws for it as evidence."""
RECIPES = {"default": DEFAULT, "paper": PAPER, "refine": REFINE, "fast": FAST}


@dataclass(frozen=True)
class Networks:
    """The frozen networks of a fit and what was measured on them once.

    `rates` `(2 + A,)` step sizes of pose and action units under `descent`; `beta` weights of the
    maps; `spread` `(2 + A,)` standard deviations of the readings on unseen renders; `knots` and
    `values` `(A + 1, K)` the curves of action units and lip gap. Readings and landmarks are those of
    the student R; of E where there is none.
    """

    generator: Generator
    sketch: Sketch
    parser: Parser
    n_au: int
    beta: tuple[float, ...]
    rates: Tensor
    spread: Tensor
    knots: Tensor
    values: Tensor
    subspace: Subspace
    student: Student | None = None

    @property
    def crop_size(self) -> int:
        """Side of the crops that are read, and of the pixels that landmarks are given in."""
        return self.generator.config.size if self.student is None else self.student.config.size


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in RECIPES:
        raise ConfigError(f"expected the recipe {' or '.join(RECIPES)}; got {name!r}")
    return RECIPES[name]


def base_face(generator: Generator, n_au: int, count: int) -> Tensor:
    """`(count, P)` the base face: frontal, action units 0, mean identity."""
    place = next(generator.parameters()).device
    y = torch.full((count, generator.config.parameters), 0.5, device=place)
    y[:, 2 : 2 + n_au] = 0
    return y


def step_sizes(generator: Generator, parser: Parser, n_au: int, *, least: float = 1e-3) -> Tensor:
    """`(2 + A,)` lr_k = 1 / r_k, r_k the share of the parsing that changes when parameter k of the
    base face goes to its maximum (GE-Net, section 3.4); r_k is bounded below by `least`."""
    each = base_face(generator, n_au, 2 + n_au + 1)
    for k in range(2 + n_au):
        each[k + 1, k] = 1
    with torch.no_grad():
        label = parser.scores(parser(generator(each), heads=False).logits).argmax(1)
    changed = (label[1:] != label[:1]).flatten(1).float().mean(1)
    return 1 / changed.clamp_min(least)


def reduced(crops: Tensor, size: int) -> Tensor:
    """Crops `(B, 3, S, S)` at another size, without false detail: R looks at larger ones than E and M."""
    if crops.shape[-1] == size:
        return crops
    return torch.nn.functional.interpolate(crops, size=(size, size), mode="bilinear", antialias=True)


def observe(
    networks: Networks, crops: Tensor, recipe: Recipe, au_mirror: Tensor, point_mirror: Tensor
) -> Target:
    """What is seen in the photos `(B, 3, S, S)`: the maps of E, and the reading of R. Without an R, E reads
    too, their mirror images as well if the recipe says so.

    Raises:
        ConfigError: an E without landmarks and readings, no R, and a recipe that uses them.
    """
    with torch.no_grad():
        if networks.student is not None and _needs_heads(recipe):
            return _read_by_student(networks, networks.student, crops, recipe)
        small = reduced(crops, networks.generator.config.size)
        seen = networks.parser(small)
        mirrored = recipe.mirror and seen.readings is not None
        turned = networks.parser(small.flip(-1)) if mirrored else None
        return _target(networks, seen, turned, recipe, au_mirror, point_mirror)


def observe_both(
    networks: Networks, crops: Tensor, recipe: Recipe, au_mirror: Tensor, point_mirror: Tensor
) -> tuple[Target, Target]:
    """What `observe` says of the photos and, with `recipe.mirror`, of their mirror images: E looks at each
    only once."""
    with torch.no_grad():
        if networks.student is not None and _needs_heads(recipe):
            return (
                observe(networks, crops, recipe, au_mirror, point_mirror),
                observe(networks, crops.flip(-1), recipe, au_mirror, point_mirror),
            )
        small = reduced(crops, networks.generator.config.size)
        seen, turned = networks.parser(small), networks.parser(small.flip(-1))
        straight = _target(networks, seen, turned, recipe, au_mirror, point_mirror)
        return straight, _target(networks, turned, seen, recipe, au_mirror, point_mirror)


def _read_by_student(networks: Networks, student: Student, crops: Tensor, recipe: Recipe) -> Target:
    """R reads both sides by itself."""
    points, readings, _ = student(crops if recipe.views == 1 else steady.shifted(crops))
    seen = networks.parser(reduced(crops, networks.generator.config.size), heads=False)
    if recipe.curves:
        readings = to_scale(networks, readings)
    if recipe.views > 1:
        n = networks.n_au + 1  # clipped as a reading is, so that the mean is that of the method `fast`
        points = steady.mean(points)
        readings = steady.mean(torch.cat([readings[:, :n].clamp(0, 1), readings[:, n:]], 1))
    maps = loss.masked(seen, networks.beta, attention=recipe.attention)
    return Target(maps, seen.logits.float().softmax(1), points, readings)


def _target(
    networks: Networks, seen: Features, turned: Features | None, recipe: Recipe, au_mirror: Tensor,
    point_mirror: Tensor,
) -> Target:  # fmt: skip
    """The target of what E says of crops and, if that counts, of their mirror images."""
    maps = loss.masked(seen, networks.beta, attention=recipe.attention)
    probability = seen.logits.float().softmax(1)
    if seen.readings is None and not _needs_heads(recipe):
        count = len(probability)
        nothing = probability.new_zeros(count, 0)
        return Target(maps, probability, probability.new_zeros(count, 0, 2), nothing)
    points, readings = heard(seen)
    size = networks.generator.config.size
    if turned is not None:
        known = networks.n_au + 3
        other = turned_back(*heard(turned), au_mirror, point_mirror, size)
        points = (points + other[0]) / 2
        readings = torch.cat([(readings + other[1])[:, :known] / 2, readings[:, known:]], 1)
    if recipe.curves:
        readings = to_scale(networks, readings)
    points = warp.resized(points, networks.crop_size / size)
    return Target(maps, probability, points, readings)


def _needs_heads(recipe: Recipe) -> bool:
    return bool(recipe.landmarks or recipe.readings or recipe.start_at_reading)


def heard(seen: Features) -> tuple[Tensor, Tensor]:
    """`(B, K, 2)` landmarks and `(B, R)` readings in full precision.

    Raises:
        ConfigError: an E without these heads.
    """
    if seen.points is None or seen.readings is None:
        raise ConfigError("expected an E with landmarks and readings; use --recipe paper, or another E")
    return seen.points.float(), seen.readings.float()


def to_scale(networks: Networks, readings: Tensor) -> Tensor:
    """Readings `(B, R)` with action units and lip gap on the parameters' scale (see `curves`)."""
    n = networks.n_au + 1
    straight = curves.apply(readings[:, :n].contiguous(), networks.knots, networks.values)
    return torch.cat([straight, readings[:, n:]], 1)


def start(networks: Networks, target: Target, recipe: Recipe) -> Tensor:
    """`(B, P)` where the descent begins."""
    y = base_face(networks.generator, networks.n_au, len(target.readings))
    if recipe.start_at_reading:
        n = networks.n_au
        read = target.readings
        y[:, 0] = 0.5 + read[:, n + 1] / 2
        y[:, 1] = 0.5 + read[:, n + 2] / 2
        y[:, 2 : 2 + n] = read[:, :n]
        y[:, 2 + n :] = 0.5 + read[:, n + 3 :]
    return y.clamp(0, 1)


def objective(networks: Networks, y: Tensor, target: Target, recipe: Recipe) -> Tensor:
    """`(B,)` the loss of each face; never mixes faces, so a batch equals its members."""
    total = torch.zeros(len(y), device=y.device)
    n = networks.n_au
    if recipe.features:
        seen = networks.parser(networks.generator(y), heads=False)
        maps = loss.masked(seen, networks.beta, attention=recipe.attention)
        total = total + recipe.features * loss.feature_loss(maps, target.maps)
    if recipe.landmarks:
        points, _ = networks.sketch(y)
        gap = 100 * (points - (target.points + 0.5) / networks.crop_size)
        # a covered landmark may be anywhere, so far errors count linearly
        total = total + recipe.landmarks * torch.nn.functional.smooth_l1_loss(
            gap, torch.zeros_like(gap), beta=2.0, reduction="none"
        ).mean((1, 2))
    if recipe.readings:
        read = torch.cat([0.5 + target.readings[:, n + 1 : n + 3] / 2, target.readings[:, :n]], 1)
        wrong = ((y[:, : 2 + n] - read) / networks.spread).square().mean(1)
        identity = (y[:, 2 + n :] - 0.5 - target.readings[:, n + 3 :]).square().mean(1) / 0.15**2
        total = total + recipe.readings * (wrong + identity)
    if recipe.rest:
        total = total + recipe.rest * y[:, 2 : 2 + n].clamp_min(0).sum(1)
    return total


def descend(networks: Networks, target: Target, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Fitted parameters `(B, P)` and the loss `(T, B)` before every step.

    Clipping happens after the step and outside the gradient, so a unit at 0 that should rise does.
    """
    y = start(networks, target, recipe)
    n = 2 + networks.n_au
    space = networks.subspace if recipe.subspace else None
    face = y[:, :n].clone().requires_grad_(True)
    code = (y[:, n:] if space is None else space.encode(y[:, n:])).clamp(0, 1).clone().requires_grad_(True)
    moments = [(torch.zeros_like(v), torch.zeros_like(v)) for v in (face, code)]
    trace = []
    for step in range(recipe.iterations):
        identity = code if space is None else space.decode(code)
        value = objective(networks, torch.cat([face, identity], 1), target, recipe)
        trace.append(value.detach())
        gradients = torch.autograd.grad(value.sum(), (face, code))
        with torch.no_grad():
            if recipe.optimiser == "descent":
                sizes = (networks.rates, torch.tensor(recipe.identity_rate, device=y.device))
                for v, g, size in zip((face, code), gradients, sizes, strict=True):
                    v -= (size * g).clamp(-recipe.largest_step, recipe.largest_step)
            elif recipe.optimiser == "adam":
                rate = recipe.rate * (1 - 0.9 * step / recipe.iterations)
                for v, g, (first, second) in zip((face, code), gradients, moments, strict=True):
                    first.mul_(0.8).add_(0.2 * g)
                    second.mul_(0.95).add_(0.05 * g * g)
                    unbiased = first / (1 - 0.8 ** (step + 1))
                    scale = (second / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8
                    v -= rate * unbiased / scale
            else:
                raise ConfigError(f"expected the optimiser adam or descent; got {recipe.optimiser!r}")
            if recipe.at_rest:
                face[:, 2:] = 0
            face.clamp_(0, 1)
            code.clamp_(0, 1)
    with torch.no_grad():
        identity = code if space is None else space.decode(code)
        history = torch.stack(trace) if trace else y.new_zeros(0, len(y))
        return torch.cat([face, identity.clamp(0, 1)], 1).detach(), history
