"""Simpler editors with the interface of `networks.editor.Editor`, against which that one is judged.

Each leaves out one idea of AUEditNet, or all of them:

    full      the editor itself
    ridge     one linear direction per action unit, from ridge regression of the labels on w+
    pattern   the same with the regression turned round: w+ on the labels
    single    one branch, w + D(z, l_target - l_source), instead of taking out and putting in
    flat      one module for all levels at once, after ReDirTrans (Jin et al., CVPR 2023)
    no_codec  the full model whose every level gets the same labels

What `Editor` promises holds for all of them, whatever the weights: the same code gives the same latent bit
for bit, zero labels give `Edit.neutral`, levels beyond `EditorConfig.edited` pass through, nothing mixes
across the batch. All learn by gradient with the losses of the full model, but the two linear ones, which
`fit_linear` solves for.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from faceunits.errors import ConfigError, ParameterError
from faceunits.networks.editor import Edit, Editor, EditorConfig
from faceunits.networks.layers import require_shape

NAMES = ("full", "ridge", "pattern", "single", "flat", "no_codec")
"""What `build` makes; the full model first, then the baselines."""

LINEAR = ("ridge", "pattern")
"""Those that `fit_linear` solves for; the others are trained."""

STRENGTHS = tuple(10.0**i for i in range(-4, 3))
"""Ridge penalties that are tried, in units of the mean square of the regressors."""


def build(name: str, config: EditorConfig | None = None) -> Editor:
    """An untrained editor of `NAMES`.

    Args:
        name: which.
        config: sizes of the full model. Where a baseline's code is the labels themselves, its own
            configuration says so (`code` is the number of action units); passing that one again is right too.

    Raises:
        ConfigError: an unknown name.
    """
    config = config or EditorConfig()
    if name == "full":
        return Editor(config)
    if name in LINEAR:
        return LinearEditor(config)
    kinds: dict[str, type[Editor]] = {"single": SingleBranch, "flat": FlatEditor, "no_codec": WithoutCodec}
    if name not in kinds:
        raise ConfigError(f"expected an editor {', '.join(NAMES)}; got {name!r}; choose one of them")
    return kinds[name](config)


class SingleBranch(Editor):
    """One residual for the difference of the codes."""

    def forward(self, w: Tensor, code: Tensor) -> Edit:
        edited = self._edited(w)
        embedding, source = self.embedding(edited), self.label(edited)
        target = edited + self.residual(embedding, code - source)
        neutral = edited + self.residual(embedding, torch.zeros_like(code) - source)
        return Edit(self._joined(target, w), self._joined(neutral, w), source)


class _Repeat(nn.Module):
    """`(B, K)` to the same K numbers for each of E levels, `(B, E K)`."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(1, self.levels)


class _Mean(nn.Module):
    """`(B, E K)` to the mean over the levels, `(B, K)`."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.levels, -1).mean(1)


class WithoutCodec(Editor):
    """No codec; the code of every level is the labels, and labels are the mean over the levels."""

    def __init__(self, config: EditorConfig | None = None) -> None:
        config = config or EditorConfig()
        super().__init__(replace(config, code=len(config.names)))
        self.encoder, self.decoder = _Repeat(config.edited), _Mean(config.edited)  # type: ignore[assignment]


class FlatEditor(Editor):
    """The two branches on the edited levels as one long vector, with the labels as the only code.

    ReDirTrans reads pseudo labels and an embedding from the flattened latent and adds what a shared
    de-projector makes of it; its rotation by angles becomes, as in the full model, a factor per embedding
    channel, since intensities are not angles. So it is the full model on a single level of length E D.
    The paper flattens all levels: set `edited` to `levels` for that.
    """

    def __init__(self, config: EditorConfig | None = None) -> None:
        config = config or EditorConfig()
        k = len(config.names)
        super().__init__(replace(config, levels=1, edited=1, latent=config.edited * config.latent, code=k))
        self.encoder, self.decoder = _Repeat(1), _Mean(1)  # type: ignore[assignment]
        self.config = replace(config, code=k)

    def encode(self, labels: Tensor) -> Tensor:
        """`(B, K)` to `(B, 1, K)`."""
        require_shape(labels, (None, len(self.config.names)), "labels")
        return labels[:, None]

    def _edited(self, w: Tensor) -> Tensor:
        return super()._edited(w).flatten(1)[:, None]

    def _joined(self, edited: Tensor, w: Tensor) -> Tensor:
        return super()._joined(edited.view(len(w), self.config.edited, self.config.latent), w)


class LinearEditor(Editor):
    """Labels are read by one linear map, and each action unit has one direction to move along.

    A code is labels `(B, 1, K)`. Nothing is trained: the tensors are those of `fit_linear`, zero until then.
    """

    readers: Tensor
    offset: Tensor
    directions: Tensor

    def __init__(self, config: EditorConfig | None = None) -> None:
        nn.Module.__init__(self)  # none of the modules of `Editor` is wanted
        config = config or EditorConfig()
        k, length = len(config.names), config.edited * config.latent
        self.config = replace(config, code=k)
        self.register_buffer("readers", torch.zeros(length, k))
        self.register_buffer("offset", torch.zeros(k))
        self.register_buffer("directions", torch.zeros(k, length))

    def encode(self, labels: Tensor) -> Tensor:
        """`(B, K)` to `(B, 1, K)`."""
        require_shape(labels, (None, len(self.config.names)), "labels")
        return labels[:, None]

    def decode(self, code: Tensor) -> Tensor:
        """`(B, 1, K)` to `(B, K)`."""
        return code[:, 0]

    def read(self, w: Tensor) -> Tensor:
        """Labels `(B, 1, K)` of latents `(B, L, D)`."""
        return (self._edited(w).flatten(1) @ self.readers + self.offset)[:, None]

    def forward(self, w: Tensor, code: Tensor) -> Edit:
        source, edited = self.read(w), self._edited(w)
        target = edited + self._move(code - source)
        neutral = edited + self._move(torch.zeros_like(code) - source)
        return Edit(self._joined(target, w), self._joined(neutral, w), source)

    def _move(self, difference: Tensor) -> Tensor:
        return (difference[:, 0] @ self.directions).view(-1, self.config.edited, self.config.latent)


def fit_linear(
    name: str, config: EditorConfig, w: Tensor, labels: Tensor, person: Tensor, *, folds: int = 3
) -> LinearEditor:
    """The linear editor of some latents and their labels.

    `ridge` moves along the regression's own coefficients, combined so that a step changes the reading of
    its own unit by one and of the others by nothing. `pattern` moves by what w+ itself differs with the
    labels, which is the better guess where the directions of w+ have very different spreads.

    Args:
        name: one of `LINEAR`.
        config: sizes.
        w: `(N, L, D)` latents.
        labels: `(N, K)` in [0, 1].
        person: `(N,)` whose they are; the penalty is the best of `STRENGTHS` for people left out.
        folds: in which the people are divided for that; fewer people make fewer folds.

    Raises:
        ConfigError: another name.
        ParameterError: fewer than two latents, or tables that do not match.
    """
    if name not in LINEAR:
        raise ConfigError(f"expected {' or '.join(LINEAR)}; got {name!r}; train the others")
    if len(w) < 2 or not len(w) == len(labels) == len(person):
        raise ParameterError(
            f"expected as many labels and people as latents, at least 2; got {len(w)} latents, {len(labels)} "
            f"labels and {len(person)} people; pass one of each per picture"
        )
    net = LinearEditor(config)
    x = net._edited(w).flatten(1).double()
    y = labels.double()
    penalty = _best(x, y, person, folds)
    mean_x, mean_y = x.mean(0), y.mean(0)
    readers = _ridge(x - mean_x, y - mean_y, penalty)
    if name == "ridge":
        directions = torch.linalg.pinv(readers)  # (K, E D): directions @ readers is the unit matrix
    else:
        directions = _ridge(y - mean_y, x - mean_x, STRENGTHS[0])
    net.readers.copy_(readers)
    net.offset.copy_(mean_y - mean_x @ readers)
    net.directions.copy_(directions)
    return net


def _ridge(x: Tensor, y: Tensor, strength: float) -> Tensor:
    """Coefficients `(P, K)` of centred `y` `(N, K)` on centred `x` `(N, P)`."""
    n, p = x.shape
    penalty = strength * x.square().sum(0).mean().clamp_min(1e-12)
    eye = penalty * torch.eye(min(n, p), dtype=x.dtype)
    few = n < p  # the same sum by the smaller matrix
    gram = x @ x.T if few else x.T @ x
    solved: Tensor = torch.linalg.solve(gram + eye, y if few else x.T @ y)
    return x.T @ solved if few else solved


def _best(x: Tensor, y: Tensor, person: Tensor, folds: int) -> float:
    """Penalty with the least squared error on people left out; the middle one with a single person."""
    people = torch.unique(person)
    folds = min(folds, len(people))
    if folds < 2:
        return STRENGTHS[len(STRENGTHS) // 2]
    errors = torch.zeros(len(STRENGTHS), dtype=x.dtype)
    for fold in range(folds):
        out = torch.isin(person, people[fold::folds])
        mean_x, mean_y = x[~out].mean(0), y[~out].mean(0)
        for i, strength in enumerate(STRENGTHS):
            coefficients = _ridge(x[~out] - mean_x, y[~out] - mean_y, strength)
            guess = (x[out] - mean_x) @ coefficients + mean_y
            errors[i] += (guess - y[out]).square().sum()
    return STRENGTHS[int(errors.argmin())]
