"""IR-SE50: the trunk of the e4e and pSp encoders, and with its output layer the ArcFace identity network.

State-dict names and shapes are those of the public `model_ir_se50.pth`. Fifty layers in 24 residual units
with squeeze and excitation. Source: Deng et al. 2019, "ArcFace", section 3.2; Hu et al. 2018.

Convention: input in [-1, 1], RGB.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits.networks.layers import require_shape

WIDTHS = (64, 64, 128, 256, 512)
"""Channels of the stem and of the four stages."""
UNITS = (3, 4, 14, 3)
"""Residual units per stage; the first of each halves the side."""

INPUT_SIZE = 112
_FACE = (slice(35, 223), slice(32, 220))
"""Rows and columns of a 256 px FFHQ-aligned picture that the identity network looks at."""


class Excitation(nn.Module):
    """Scales each channel by a factor in (0, 1) computed from the means of all channels."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(mean))))


class Unit(nn.Module):
    """Residual unit: norm, convolution, PReLU, convolution with the stride, norm, excitation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            Excitation(outputs),
        )
        self.shortcut_layer: nn.Sequential | None = None
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut_layer is not None:
            short: Tensor = self.shortcut_layer(x)
        else:  # every stride-th pixel, which is what the original's 1 x 1 max-pool gives
            short = x[:, :, :: self.stride, :: self.stride]
        out: Tensor = self.res_layer(x) + short
        return out


def stem(width: int) -> nn.Sequential:
    """First convolution, norm and PReLU: picture to `width` maps of the same side."""
    return nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))


def body(widths: tuple[int, ...] = WIDTHS, units: tuple[int, ...] = UNITS) -> nn.Sequential:
    """The residual units of all stages, one after the other."""
    out: list[nn.Module] = []
    for before, width, count in zip(widths[:-1], widths[1:], units, strict=True):
        out += [Unit(before if i == 0 else width, width, 2 if i == 0 else 1) for i in range(count)]
    return nn.Sequential(*out)


class IRSE50(nn.Module):
    """Aligned face `(B, 3, 112, 112)` in [-1, 1] to an identity `(B, 512)` of length 1.

    Identities are compared by their inner product: 1 for the same picture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = stem(WIDTHS[0])
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512),
        )
        self.body = body()

    def forward(self, face: Tensor) -> Tensor:
        require_shape(face, (None, 3, INPUT_SIZE, INPUT_SIZE), "an aligned face")
        x: Tensor = self.output_layer(self.body(self.input_layer(face)))
        return F.normalize(x, dim=1)


def face_of(image: Tensor) -> Tensor:
    """The part `(B, 3, 112, 112)` of an FFHQ-aligned picture that IR-SE50 was trained on.

    Args:
        image: `(B, 3, S, S)`; brought to 256 px by averaging when larger or smaller.
    """
    if image.shape[-2:] != (256, 256):
        image = F.adaptive_avg_pool2d(image, 256)
    return F.adaptive_avg_pool2d(image[:, :, _FACE[0], _FACE[1]], INPUT_SIZE)
