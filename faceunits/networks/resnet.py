"""ResNet-18 and ResNet-50 with the names of the public ImageNet files.

Source: He et al. 2016, "Deep Residual Learning"; in ResNet-50 the stride sits on the 3 x 3 convolution.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Depth = Literal[18, 50]

_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Block(nn.Module):
    """Convolutions with batch norm, plus the shortcut; ReLU after each and after the sum."""

    def __init__(self, inputs: int, plan: tuple[tuple[int, int, int], ...]) -> None:
        """`plan` holds output channels, kernel and stride of each convolution."""
        super().__init__()
        before, stride = inputs, max(s for _, _, s in plan)
        self.count = len(plan)
        for i, (width, kernel, step) in enumerate(plan, 1):
            setattr(self, f"conv{i}", nn.Conv2d(before, width, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(width))
            before = width
        self.downsample: nn.Sequential | None = None
        if stride > 1 or before != inputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, before, 1, stride, bias=False), nn.BatchNorm2d(before)
            )

    def forward(self, x: Tensor) -> Tensor:
        short = x if self.downsample is None else self.downsample(x)
        for i in range(1, self.count + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            x = F.relu(x) if i < self.count else x
        return F.relu(x + short)


class ResNet(nn.Module):
    """Image `(B, 3, H, W)` in [0, 1] to logits `(B, classes)`; the normalisation is inside."""

    def __init__(self, depth: Depth = 50, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for stage, count in enumerate(_BLOCKS[depth]):
            base, blocks = 64 * 2**stage, []
            for i in range(count):
                stride = 2 if stage and not i else 1
                plan = ((base, 3, stride), (base, 3, 1))
                if depth == 50:
                    plan = ((base, 1, 1), (base, 3, stride), (4 * base, 1, 1))  # type: ignore[assignment]
                blocks.append(_Block(before, plan))
                before = plan[-1][0]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, classes)

    def features(self, image: Tensor) -> Tensor:
        """Means `(B, 512)` or `(B, 2048)` of the last maps."""
        x = (image - image.new_tensor(MEAN).view(1, 3, 1, 1)) / image.new_tensor(STD).view(1, 3, 1, 1)
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x.mean((2, 3))

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.fc(self.features(image))
        return out
