"""Arrays in, arrays out: fit crops, draw parameters, transfer an expression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceunits import aus
from faceunits.errors import ParameterError
from faceunits.fitting import loss, optimise
from faceunits.fitting.models import Models
from faceunits.fitting.optimise import Recipe
from faceunits.rig.shape import POSE_RANGE_DEG, parameters
from faceunits.types import LANDMARK_MIRROR, FitResult, Reading

F32 = NDArray[np.float32]


def read(crops: F32, models: Models) -> Reading:
    """Parameters of aligned faces as R reads them, without a fit, on the parameters' scale.

    Both sides are judged alike: R is symmetric by construction; an E that reads in its place looks at the
    crop and at its mirror image.

    Args:
        crops: `(B, 3, S, S)` float32 RGB in [0, 1], aligned to `alignment.warp.TEMPLATE`; best of
            `models.crop_size` pixels, which is also what landmarks are given in.
        models: of `load`.

    Raises:
        ParameterError: something else than a batch of square crops.
        ConfigError: an E without landmarks and readings.
    """
    photo = checked_on(crops, models)
    with torch.inference_mode():
        points, readings, log_variance = models.reader(photo)
        readings = optimise.to_scale(models.networks, readings.float())
    return as_reading(models, points, readings, log_variance)


def as_reading(models: Models, points: Tensor, readings: Tensor, log_variance: Tensor | None) -> Reading:
    """The result of landmarks `(B, 68, 2)`, `(B, R)` readings on the parameters' scale, and the log variance
    `(B, N)` of their errors."""
    n = models.networks.n_au

    def array(t: Tensor) -> F32:
        return t.float().cpu().numpy()

    return Reading(
        names=models.names, au=array(readings[:, :n].clamp(0, 1)),
        pose_deg=array(readings[:, n + 1 : n + 3] * POSE_RANGE_DEG),
        identity=array((0.5 + readings[:, n + 3 :]).clamp(0, 1)), lip_gap=array(readings[:, n].clamp(0, 1)),
        confidence=array(confidence(log_variance, n, len(points))), landmarks=array(points),
    )  # fmt: skip


def confidence(log_variance: Tensor | None, n_au: int, count: int) -> Tensor:
    """`(B,)` in (0, 1]: exp(-(e / 2)^2), e the root mean square error that R expects of its action units,
    0-5: .95 for the usual face, .9 for the worst tenth of renders. Scripts for OpenFace drop below .8."""
    if log_variance is None:
        return torch.ones(count)
    expected = log_variance[:, :n_au].exp().mean(1)
    return torch.exp(-expected * (aus.MAX_INTENSITY / 2) ** 2)


def checked(crops: F32, size: int) -> Tensor:
    """Aligned crops `(B, 3, size, size)` from crops of any size.

    Raises:
        ParameterError: something that is no batch of square crops.
    """
    if crops.ndim != 4 or crops.shape[1] != 3 or crops.shape[2] != crops.shape[3] or 0 in crops.shape:
        raise ParameterError(f"expected crops (B, 3, S, S); got {crops.shape}; use alignment.warp.crop")
    return optimise.reduced(torch.from_numpy(np.ascontiguousarray(crops, np.float32)), size)


def checked_on(crops: F32, models: Models) -> Tensor:
    """The crops as `checked` gives them, where the networks are."""
    return checked(crops, models.crop_size).to(models.device)


def fit(crops: F32, models: Models, recipe: str | Recipe = "default") -> FitResult:
    """Parameters of aligned faces by gradient descent (GE-Net, section 3.4).

    Args:
        crops: `(B, 3, S, S)` float32 RGB in [0, 1], aligned to `alignment.warp.TEMPLATE`; best of
            `models.crop_size` pixels, which is also what landmarks are given in.
        models: of `load`.
        recipe: `default`, `paper`, or settings of your own.

    Raises:
        ParameterError: something else than a batch of square crops.
    """
    photo = checked_on(crops, models)
    settings = optimise.recipe(recipe) if isinstance(recipe, str) else recipe
    networks, place = models.networks, models.device
    mirror = torch.from_numpy(models.profile.mirror()).to(place)
    points = torch.from_numpy(LANDMARK_MIRROR).to(place)
    if not settings.mirror:
        target = optimise.observe(networks, photo, settings, mirror, points)
        y, trace = optimise.descend(networks, target, settings)
        return _result(models, settings, y, trace, target)
    # neither M nor E is quite symmetric: the mirrored photo is fitted too, and both count alike
    target, turned = optimise.observe_both(networks, photo, settings, mirror, points)
    y, trace = optimise.descend(networks, target, settings)
    y = _mean_of_sides(y, optimise.descend(networks, turned, settings)[0], mirror)
    return _result(models, settings, y, trace, target)


def illustrate(reading: Reading, crops: F32, models: Models) -> FitResult:
    """A reading of crops, number for number, with the face that M draws for it as evidence.

    Args:
        reading: of `crops`, by `read` or another engine.
        crops: `(B, 3, S, S)`, as for `read`.
        models: of `load`.

    Raises:
        ParameterError: something else than a batch of square crops.
    """
    photo, networks = checked_on(crops, models), models.networks
    values = np.concatenate(
        [reading.au, reading.lip_gap[:, None], reading.pose_deg / POSE_RANGE_DEG, reading.identity - 0.5], 1
    )
    with torch.no_grad():
        small = optimise.reduced(photo, networks.generator.config.size)
        seen = networks.parser(small, heads=False)
        target = loss.Target(
            loss.masked(seen, networks.beta), seen.logits.float().softmax(1),
            torch.from_numpy(reading.landmarks).to(photo), torch.from_numpy(values).to(photo),
        )  # fmt: skip
    y, trace = optimise.descend(networks, target, optimise.FAST)
    drawn = _result(models, optimise.FAST, y, trace, target)
    return replace(drawn, **{f.name: getattr(reading, f.name) for f in fields(Reading)})


def _mean_of_sides(y: Tensor, turned: Tensor, mirror: Tensor) -> Tensor:
    """Fits of photos and of their mirror images as one; the identity is the photo's own."""
    n = 2 + len(mirror)
    other = torch.cat([turned[:, :1], 1 - turned[:, 1:2], turned[:, 2:n][:, mirror]], 1)
    return torch.cat([(y[:, :n] + other) / 2, y[:, n:]], 1)


def _result(models: Models, recipe: Recipe, y: Tensor, trace: Tensor, target: loss.Target) -> FitResult:
    networks, n = models.networks, models.networks.n_au
    with torch.no_grad():
        image = networks.generator(y)
        seen = networks.parser(image, heads=False)
        _, gap = networks.sketch(y)
        if recipe.readings:  # seen directly in the photo, rather than through three muscles
            gap = target.readings[:, n]
        maps = loss.masked(seen, networks.beta, attention=recipe.attention)
        rest = loss.residual(maps, target.maps)[:, None]
        rest = torch.nn.functional.interpolate(rest, size=image.shape[-2:], mode="bilinear")[:, 0]
        fitted = networks.parser.scores(seen.logits).argmax(1)
        photo = networks.parser.scores(target.probability.clamp_min(1e-6).log()).argmax(1)

    def array(t: Tensor) -> F32:
        return t.detach().float().cpu().numpy()

    return FitResult(
        names=models.names, au=array(y[:, 2 : 2 + n]), pose_deg=array((y[:, :2] - 0.5) * 2 * POSE_RANGE_DEG),
        identity=array(y[:, 2 + n :]), lip_gap=array(gap.clamp(0, 1)),
        confidence=array(agreement(photo, fitted)),
        image=array(image), parsing=photo.cpu().numpy().astype(np.uint8),
        parsing_fitted=fitted.cpu().numpy().astype(np.uint8), residual=array(rest),
        landmarks=array(target.points), trace=array(trace),
    )  # fmt: skip


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """`(B,)` in [0, 1]: mean F1 of brows, eyes, nose and lips between two label maps `(B, S, S)`.

    Inner mouth is left out: closed mouths have none.
    """
    scores = []
    for name in (2, 3, 4, 5, 6, 7, 9):
        x, y = a == name, b == name
        both = (x & y).flatten(1).sum(1).float()
        scores.append(2 * both / (x.flatten(1).sum(1) + y.flatten(1).sum(1)).clamp_min(1))
    return torch.stack(scores).mean(0)


def render(
    models: Models, au: Mapping[str, float], *, pitch_deg: float = 0.0, yaw_deg: float = 0.0,
    identity_seed: int | None = None,
) -> NDArray[np.uint8]:  # fmt: skip
    """`(S, S, 3)` uint8: the face M draws for intensities 0-5 by name.

    Args:
        models: of `load`.
        au: such as `{"AU12": 3}`.
        pitch_deg: + nose down, within +-28.6.
        yaw_deg: + towards the subject's left, within +-28.6.
        identity_seed: of a random identity; the mean face when None.

    Raises:
        ParameterError: an unknown name or a value out of range.
    """
    for name, angle in (("pitch", pitch_deg), ("yaw", yaw_deg)):
        if abs(angle) > POSE_RANGE_DEG:
            raise ParameterError(f"expected a {name} within {POSE_RANGE_DEG} degrees of 0; got {angle:g}")
    n = len(models.profile)
    y = optimise.base_face(models.networks.generator, n, 1).cpu()
    y[0, :2] = 0.5 + torch.tensor([pitch_deg, yaw_deg]) / (2 * POSE_RANGE_DEG)
    y[0, 2 : 2 + n] = torch.from_numpy(models.profile.expand(dict(au)))
    if identity_seed is not None:
        rng = np.random.default_rng(identity_seed)
        modes = np.clip(0.5 + 0.8 * rng.normal(0, 1, y.shape[1] - 2 - n) / 5, 0, 1)
        y[0, 2 + n :] = torch.from_numpy(modes.astype(np.float32))
    return _draw(models, y)


def transfer(a: FitResult, b: FitResult, models: Models) -> NDArray[np.uint8]:
    """`(S, S, 3)` uint8: the identity of `a` with pose and action units of `b` (first faces)."""
    shown = {"pose_deg": b.pose_deg[:1], "au": b.au[:1], "identity": a.identity[:1]}
    return _draw(models, torch.from_numpy(parameters(shown)))


def _draw(models: Models, y: Tensor) -> NDArray[np.uint8]:
    with torch.no_grad():
        image = models.networks.generator(y.to(models.device))[0]
    picture: NDArray[np.uint8] = (255 * image.permute(1, 2, 0) + 0.5).clamp(0, 255).byte().cpu().numpy()
    return picture
