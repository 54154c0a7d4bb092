"""AUEditNet's editing network: moves a w+ latent from its action units to others, level by level.

Two branches share their modules. The source branch finds the part of the latent that carries its present
action units and takes it out, which leaves a pseudo-neutral latent; the target branch adds the part for the
wanted ones:

    w_neutral = w - D(z, l_source)        w_target = w_neutral + D(z, l_target)

with z = e(w) the embedding, l_source = h(w) the present label code, and l_target from `encode` of wanted
labels, or from h of another face. Everything is done per level with that level's own weights; levels beyond
`EditorConfig.edited` (colour and fine texture) pass through. Encoder and generator stay as they are.

Exact, whatever the weights: the same code gives the same latent bit for bit; zero labels give the
pseudo-neutral latent; other levels are untouched; nothing mixes across the batch.

Source: Jin et al. 2024, "AUEditNet"; sizes and the label-conditioned map are our reconstruction.
Convention: labels in [0, 1] per action unit (5 in tables is 1 here); smaller, larger and negative ones are
extrapolation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits.errors import ConfigError
from faceunits.networks.layers import require_shape

DISFA = ("AU1", "AU2", "AU4", "AU5", "AU6", "AU9", "AU12", "AU15", "AU17", "AU20", "AU25", "AU26")

_SLOPE = 0.2


@dataclass(frozen=True)
class EditorConfig:
    """Sizes of the editing network."""

    names: tuple[str, ...] = DISFA
    """Action units of a label, in order."""
    levels: int = 18
    """Codes of a latent, 2 log2(size) - 2."""
    edited: int = 11
    """The first so many levels are edited; `levels` for all. See `edited_levels`."""
    latent: int = 512
    """Length of a code of the latent."""
    code: int = 12
    """Numbers of the label code per level."""
    slot: int = 16
    """Numbers of the embedding per action unit."""
    hidden: int = 256
    """Width of the embedding and residual heads."""
    label_hidden: int = 128
    """Width of the label heads and of the codec."""

    def __post_init__(self) -> None:
        if not self.names or not 1 <= self.edited <= self.levels:
            raise ConfigError(
                f"expected action units and 1 to {self.levels} edited levels; got {len(self.names)} and "
                f"{self.edited}; change names or edited"
            )


def edited_levels(levels: int) -> int:
    """How many levels to edit of so many: coarse and middle, 11 of 18."""
    return round(11 * levels / 18)


@dataclass(frozen=True)
class Edit:
    """What `Editor.forward` gives."""

    target: Tensor
    """`(B, L, D)` latent with the wanted action units."""
    neutral: Tensor
    """`(B, L, D)` pseudo-neutral latent."""
    source_code: Tensor
    """`(B, E, m)` label code read from the latent."""


class LevelLinear(nn.Module):
    """`(B, E, in)` to `(B, E, out)`, each level with its own weights."""

    def __init__(self, levels: int, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(levels, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(levels, 1, outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        # A fresh copy, in one memory layout: products of other layouts round differently, and equal codes
        # must give equal residuals.
        x = x.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        out = torch.bmm(x, self.weight)  # (E, B, out)
        return (out if self.bias is None else out + self.bias).transpose(0, 1)


class _LevelMlp(nn.Sequential):
    def __init__(self, levels: int, inputs: int, hidden: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(
            LevelLinear(levels, inputs, hidden, bias=bias),
            nn.LeakyReLU(_SLOPE),
            LevelLinear(levels, hidden, outputs, bias=bias),
        )


class ZeroedMlp(nn.Module):
    """Three linear layers less what they give for zero: zero in, exactly zero out."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden), nn.LeakyReLU(_SLOPE),
            nn.Linear(hidden, hidden), nn.LeakyReLU(_SLOPE),
            nn.Linear(hidden, outputs, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        # Zeros of the same shape, not one row: matrix products of other shapes round differently.
        out: Tensor = self.layers(x) - self.layers(torch.zeros_like(x))
        return out


class Editor(nn.Module):
    """The level-wise modules and the label codec; E is the number of edited levels, m a code's length."""

    def __init__(self, config: EditorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EditorConfig()
        e, d, k = config.edited, config.latent, len(config.names)
        width = k * config.slot
        self.encoder = ZeroedMlp(k, config.label_hidden, e * config.code)
        self.decoder = ZeroedMlp(e * config.code, config.label_hidden, k)
        self.embedding = _LevelMlp(e, d, config.hidden, width)
        self.label = _LevelMlp(e, d, config.label_hidden, config.code)
        self.modulation = LevelLinear(e, config.code, width, bias=False)
        self.residual_head = _LevelMlp(e, width, config.hidden, d, bias=False)
        self.gate = nn.Parameter(torch.ones(e, 1))
        # training starts from hardly any edit
        nn.init.normal_(self.residual_head[2].weight, std=1e-3)  # type: ignore[arg-type]

    # The four maps

    def encode(self, labels: Tensor) -> Tensor:
        """Label space to code space: `(B, K)` to `(B, E, m)`; zero labels give exactly zero."""
        require_shape(labels, (None, len(self.config.names)), "labels")
        out: Tensor = self.encoder(labels)
        return out.view(-1, self.config.edited, self.config.code)

    def decode(self, code: Tensor) -> Tensor:
        """Code space to labels: `(B, E, m)` to `(B, K)`."""
        out: Tensor = self.decoder(code.flatten(1))
        return out

    def read(self, w: Tensor) -> Tensor:
        """Code `(B, E, m)` of the action units that a latent `(B, L, D)` shows."""
        out: Tensor = self.label(self._edited(w))
        return out

    def residual(self, embedding: Tensor, code: Tensor) -> Tensor:
        """Part `(B, E, D)` of a latent that carries a code; exactly zero for the zero code."""
        out: Tensor = self.residual_head(embedding * self.modulation(code))
        return out * self.gate

    # Editing

    def forward(self, w: Tensor, code: Tensor) -> Edit:
        """Move latents to a code, and to none.

        Args:
            w: `(B, L, D)`.
            code: `(B, E, m)`, from `encode`, `read`, `changed` or `between`.
        """
        edited = self._edited(w)
        embedding, source = self.embedding(edited), self.label(edited)
        away = self.residual(embedding, source)
        # One difference instead of the two steps of the paper, so that equal codes cancel without rounding.
        move = self.residual(embedding, code) - away
        target, neutral = self._joined(edited + move, w), self._joined(edited - away, w)
        return Edit(target, neutral, source)

    def neutral(self, w: Tensor) -> Tensor:
        """Pseudo-neutral latent `(B, L, D)`."""
        edit: Edit = self(w, self.encode(w.new_zeros(len(w), len(self.config.names))))
        return edit.target

    def changed(self, w: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
        """Code `(B, E, m)` in which the chosen action units take new values and the others stay.

        Args:
            w: `(B, L, D)`.
            labels: `(B, K)` wanted values; what stands at places that are not chosen doesn't matter.
            chosen: `(B, K)` or `(K,)` bool. Where nothing is chosen, the code is that of `read` bit for bit.
        """
        source = self.read(w)
        now = self.decode(source)
        return self._moved(source, now, torch.where(chosen, labels, now))

    def shifted(self, w: Tensor, difference: Tensor) -> Tensor:
        """Code `(B, E, m)` in which each action unit is `difference` `(B, K)` more than it is read."""
        source = self.read(w)
        now = self.decode(source)
        return self._moved(source, now, now + difference)

    def between(self, w: Tensor, code: Tensor, t: float) -> Tensor:
        """Code on the way from the present one (t = 0, exactly) to `code` (t = 1, exactly)."""
        return torch.lerp(self.read(w), code, t)

    def _moved(self, source: Tensor, now: Tensor, wanted: Tensor) -> Tensor:
        return source + (self.encode(wanted) - self.encode(now))

    def _edited(self, w: Tensor) -> Tensor:
        require_shape(w, (None, self.config.levels, self.config.latent), "a latent w+")
        return w[:, : self.config.edited]

    def _joined(self, edited: Tensor, w: Tensor) -> Tensor:
        return torch.cat([edited, w[:, self.config.edited :]], 1)


def code_loss(editor: Editor, w: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three label terms of training, each a mean of squares.

    Args:
        editor: any.
        w: `(B, L, D)`.
        labels: `(B, K)`, the truth for these latents.

    Returns:
        Labels read from the latent against the truth; codes read against codes of the truth; labels through
        both halves of the codec against themselves.
    """
    code, truth = editor.read(w), editor.encode(labels)
    return (
        F.mse_loss(editor.decode(code), labels),
        F.mse_loss(code, truth),
        F.mse_loss(editor.decode(truth), labels),
    )
