"""VGG-16 feature maps for the perceptual term of M (GE-Net, eq. 3); weights come from the user.

State-dict names are those of the public ImageNet file (`features.N.weight`), of which only the part
up to relu4_3 is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits.networks.parser import IMAGENET_MEAN, IMAGENET_STD

_PLAN = ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256),
         (17, 256, 512), (19, 512, 512), (21, 512, 512))  # fmt: skip
_POOL_BEFORE = (5, 10, 17)
_TAPS = (7, 14, 21)


class Vgg16(nn.Module):
    """Image `(B, 3, H, W)` in [0, 1] to its relu2_2, relu3_3 and relu4_3 maps."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict({str(i): nn.Conv2d(a, b, 3, 1, 1) for i, a, b in _PLAN})
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = (image - self.mean) / self.std
        out = []
        for index, _, _ in _PLAN:
            if index in _POOL_BEFORE:
                x = F.max_pool2d(x, 2)
            x = F.relu(self.features[str(index)](x))
            if index in _TAPS:
                out.append(x)
        return tuple(out)
