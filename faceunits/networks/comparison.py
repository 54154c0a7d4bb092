"""The comparison C: a face beside the same person at rest, to action units.

One picture does not say whether brows are raised or lie high; a second one, of the person at rest, does. C
takes what R says of both (`Student.said`: action units, identity, landmarks of each half of the face), so
that a face costs no more than R's pass, and corrects R's reading as R is built: each half from its own side,
and the mean of both. To take one reading from the other is less: R has drawn both towards what is usual.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faceunits.networks.student import Student


@dataclass(frozen=True)
class ComparisonConfig:
    """Sizes of C."""

    said: int = 238
    """Numbers that R says of each half of a face."""
    hidden: int = 512
    """Width of the two layers."""
    dropout: float = 0.5
    """Share of their numbers that is left out in training."""
    au_mirror: tuple[int, ...] = ()
    """For each action-unit parameter the one of the other side."""


class Comparison(nn.Module):
    """What R says of a face and of the same person at rest, to action units and lip gap before the curves;
    what is not trained yet gives R's own reading."""

    said_mean: Tensor
    said_std: Tensor
    mean: Tensor
    std: Tensor
    mirror: Tensor

    def __init__(self, config: ComparisonConfig) -> None:
        super().__init__()
        self.config = config
        inputs, outputs = 2 * config.said, len(config.au_mirror) + 1
        self.bent = nn.Sequential(
            nn.Linear(inputs, config.hidden), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.hidden), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(config.hidden, outputs),
        )  # fmt: skip
        self.straight = nn.Linear(inputs, outputs)
        for last in (self.bent[-1], self.straight):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        # of what R says over training faces, and of the units that R says it in
        self.register_buffer("said_mean", torch.zeros(inputs))
        self.register_buffer("said_std", torch.ones(inputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("std", torch.ones(outputs))
        mirror = torch.tensor([*config.au_mirror, len(config.au_mirror)], dtype=torch.long)
        self.register_buffer("mirror", mirror, persistent=False)

    def forward(self, said: Tensor, calm: Tensor) -> Tensor:
        """`(B, A + 1)` action units and lip gap.

        Args:
            said: `(2B, N)` of `Student.said`: all faces from the right half, then from the left.
            calm: the same of each person at rest.
        """
        x = (beside(said, calm) - self.said_mean) / self.said_std
        answer = said[:, : len(self.mean)] + self.straight(x) + self.bent(x)
        units = answer * self.std + self.mean
        count = len(units) // 2
        out: Tensor = (units[:count] + units[count:, self.mirror]) / 2
        return out


def beside(said: Tensor, calm: Tensor) -> Tensor:
    """`(2B, 2N)` what is said, and what is different at rest."""
    return torch.cat([said, said - calm], 1)


def of(student: Student, *, hidden: int, dropout: float) -> Comparison:
    """A C for an R, which says what that R says."""
    out = len(student.config.au_mirror) + 1
    net = Comparison(ComparisonConfig(student.answer.out_features, hidden, dropout, student.config.au_mirror))
    net.mean.copy_(student.mean[:out])
    net.std.copy_(student.std[:out])
    return net
