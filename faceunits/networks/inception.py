"""The Inception network of the Frechet inception distance, with the names of its public PyTorch port.

Inception-v3 as TensorFlow's 2015 file has it: average pools leave the padding out of the mean, and the last
block pools by maximum. Source: Szegedy et al. 2016, "Rethinking the Inception Architecture"; Heusel et al.
2017 for the distance.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits.networks.layers import require_shape

Kernel = int | tuple[int, int]


class _Conv(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: Kernel, *, stride: int = 1, same: bool = False
    ) -> None:
        super().__init__()
        h, w = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.conv = nn.Conv2d(inputs, outputs, (h, w), stride, (h // 2, w // 2) if same else 0, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class _Mixed(nn.Module):
    """Convolutions by name, and what the subclasses need to run chains of them."""

    def _add(self, name: str, inputs: int, *steps: tuple[int, Kernel]) -> None:
        """A chain `name_1`, `name_2`, ... that keeps the side, or one layer `name`."""
        for i, (width, kernel) in enumerate(steps, 1):
            label = name if len(steps) == 1 else f"{name}_{i}"
            setattr(self, label, _Conv(inputs, width, kernel, same=True))
            inputs = width

    def _run(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = getattr(self, name)(x)
        return x


class _A(_Mixed):
    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self._add("branch1x1", inputs, (64, 1))
        self._add("branch5x5", inputs, (48, 1), (64, 5))
        self._add("branch3x3dbl", inputs, (64, 1), (96, 3), (96, 3))
        self._add("branch_pool", inputs, (pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([
            self._run(x, "branch1x1"), self._run(x, "branch5x5_1", "branch5x5_2"),
            self._run(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            self._run(_mean_pool(x), "branch_pool"),
        ], 1)  # fmt: skip


class _B(_Mixed):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, same=True)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        deep = self._run(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        return torch.cat([self.branch3x3(x), deep, F.max_pool2d(x, 3, 2)], 1)


class _C(_Mixed):
    def __init__(self, width: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self._add("branch1x1", 768, (192, 1))
        self._add("branch7x7", 768, (width, 1), (width, row), (192, column))
        twice = ((width, column), (width, row), (width, column), (192, row))
        self._add("branch7x7dbl", 768, (width, 1), *twice)
        self._add("branch_pool", 768, (192, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([
            self._run(x, "branch1x1"), self._run(x, *(f"branch7x7_{i}" for i in range(1, 4))),
            self._run(x, *(f"branch7x7dbl_{i}" for i in range(1, 6))),
            self._run(_mean_pool(x), "branch_pool"),
        ], 1)  # fmt: skip


class _D(_Mixed):
    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = _Conv(768, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Conv(768, 192, 1)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7), same=True)
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1), same=True)
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        deep = self._run(x, *(f"branch7x7x3_{i}" for i in range(1, 5)))
        return torch.cat([self._run(x, "branch3x3_1", "branch3x3_2"), deep, F.max_pool2d(x, 3, 2)], 1)


class _E(_Mixed):
    def __init__(self, inputs: int, *, by_maximum: bool) -> None:
        super().__init__()
        self.by_maximum = by_maximum
        self._add("branch1x1", inputs, (320, 1))
        self._add("branch3x3_1", inputs, (384, 1))
        self._add("branch3x3dbl", inputs, (448, 1), (384, 3))
        for name in ("branch3x3_2", "branch3x3dbl_3"):
            self._add(f"{name}a", 384, (384, (1, 3)))
            self._add(f"{name}b", 384, (384, (3, 1)))
        self._add("branch_pool", inputs, (192, 1))

    def forward(self, x: Tensor) -> Tensor:
        short = self._run(x, "branch3x3_1")
        deep = self._run(x, "branch3x3dbl_1", "branch3x3dbl_2")
        pooled = F.max_pool2d(x, 3, 1, 1) if self.by_maximum else _mean_pool(x)
        return torch.cat([
            self._run(x, "branch1x1"), self._run(short, "branch3x3_2a"), self._run(short, "branch3x3_2b"),
            self._run(deep, "branch3x3dbl_3a"), self._run(deep, "branch3x3dbl_3b"),
            self._run(pooled, "branch_pool"),
        ], 1)  # fmt: skip


class FidInception(nn.Module):
    """Image `(B, 3, H, W)` in [0, 1] to the features `(B, 2048)` that the distance compares."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, same=True)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _A(192, 32), _A(256, 64), _A(288, 64)
        self.Mixed_6a = _B(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _C(128), _C(160), _C(160), _C(192)
        self.Mixed_7a = _D()
        self.Mixed_7b, self.Mixed_7c = _E(1280, by_maximum=False), _E(2048, by_maximum=True)
        self.fc = nn.Linear(2048, 1008)  # of the file; the distance does not use it

    def forward(self, image: Tensor) -> Tensor:
        require_shape(image, (None, 3, None, None), "images")
        x = 2 * F.interpolate(image, size=(299, 299), mode="bilinear", align_corners=False) - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = getattr(self, f"Mixed_{name}")(x)
        return x.mean((2, 3))
