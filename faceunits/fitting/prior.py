"""The identity subspace (GE-Net, eqs. 8-10): identities stay among those of expressionless faces.

    a_hat = (a - m) U,   each component scaled to [0, 1] over the neutral faces,   a = a_hat U^T + m

Without it a fit explains a smile by a wide mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Subspace:
    """`mean` `(D,)`, `basis` `(D, K)` orthonormal, `low` and `high` `(K,)` of the components seen."""

    mean: Tensor
    basis: Tensor
    low: Tensor
    high: Tensor

    def encode(self, identity: Tensor) -> Tensor:
        """`(B, K)` in about [0, 1] from `(B, D)` (eqs. 8 and 9)."""
        return ((identity - self.mean) @ self.basis - self.low) / (self.high - self.low)

    def decode(self, code: Tensor) -> Tensor:
        """`(B, D)` from `(B, K)` (eq. 10)."""
        return (code * (self.high - self.low) + self.low) @ self.basis.T + self.mean


def from_neutral(identities: Tensor, *, variance: float = 0.99) -> Subspace:
    """The subspace of the identity vectors `(N, D)` of fitted neutral faces.

    Keeps the smallest number of components that explain `variance` of the total; how many the paper
    keeps is not given.
    """
    mean = identities.mean(0)
    _, values, vectors = torch.linalg.svd(identities - mean, full_matrices=False)
    share = (values**2).cumsum(0) / (values**2).sum().clamp_min(1e-12)
    keep = int((share < variance).sum()) + 1
    basis = vectors[:keep].T.contiguous()
    codes = (identities - mean) @ basis
    low, high = codes.min(0).values, codes.max(0).values
    return Subspace(mean, basis, low, torch.maximum(high, low + 1e-6))


def whole(size: int) -> Subspace:
    """No restriction: the identity parameters themselves."""
    return Subspace(torch.zeros(size), torch.eye(size), torch.zeros(size), torch.ones(size))
