"""Generator M: parameters to the image that the renderer would draw (GE-Net, section 3.2).

Transposed convolutions, kernel 4 and stride 2, instance norm and ReLU after each but the last,
weights from N(0, 0.02^2). The paper's has eight and 512 px; removing the last layers gives smaller
ones. `Sketch` is its counterpart for geometry: parameters to landmarks and the gap between the lips.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of M; layer i doubles the side, the first makes 4 x 4 from a point."""

    parameters: int = 269
    """Length of y: pose, action units, identity."""
    widths: tuple[int, ...] = (512, 512, 512, 256, 128, 64, 64)
    """Channels after each layer but the last; one layer more gives the image."""
    output: str = "sigmoid"
    """`sigmoid`, or `tanh` rescaled to [0, 1] (the DCGAN choice)."""
    affine: bool = True
    """Instance norm with a scale and shift."""

    @property
    def size(self) -> int:
        """Side of the image in pixels."""
        return int(4 * 2 ** len(self.widths))


PAPER = GeneratorConfig()
SMALL = GeneratorConfig(parameters=101, widths=(256, 256, 256, 128, 64))


class Generator(nn.Module):
    """y `(B, P)` in [0, 1] to an image `(B, 3, S, S)` in [0, 1]."""

    def __init__(self, config: GeneratorConfig = PAPER) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        channels = config.parameters
        for i, width in enumerate(config.widths):
            layers += [
                nn.ConvTranspose2d(channels, width, 4, 2, 0 if i == 0 else 1, bias=False),
                nn.InstanceNorm2d(width, affine=config.affine),
                nn.ReLU(),
            ]
            channels = width
        layers.append(nn.ConvTranspose2d(channels, 3, 4, 2, 1))
        self.layers = nn.Sequential(*layers)
        for module in self.layers:
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, y: Tensor) -> Tensor:
        # parameters are centred: at 0.5 (frontal, mean identity) the input is zero
        out = self.layers((2 * y - 1)[:, :, None, None])
        return torch.sigmoid(out) if self.config.output == "sigmoid" else (torch.tanh(out) + 1) / 2


class Sketch(nn.Module):
    """y `(B, P)` to landmarks `(B, K, 2)` in crop fractions and the lip gap `(B,)` in AU25 units."""

    def __init__(self, parameters: int, landmarks: int = 68, width: int = 384) -> None:
        super().__init__()
        self.landmarks = landmarks
        # geometry is nearly linear in y, so a linear path carries most of it
        self.linear = nn.Linear(parameters, 2 * landmarks + 1)
        self.curve = nn.Sequential(
            nn.Linear(parameters, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 2 * landmarks + 1),
        )  # fmt: skip

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        out = self.linear(2 * y - 1) + self.curve(2 * y - 1)
        return 0.5 + out[:, :-1].unflatten(1, (self.landmarks, 2)), out[:, -1]
