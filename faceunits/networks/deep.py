"""E's deep stage: more capacity for the reading head, where it is cheap.

E's trunk stays at a quarter of the crop's resolution, as parsing wants it, and has room for few channels
there. The stage looks at the crop anew, joins what it sees with what the trunk knows, and goes on at an
eighth and a sixteenth of the resolution, where a channel costs a quarter and a sixteenth as much. What it
finds is added to the reading that was there before, and is nothing before training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Deep(nn.Module):
    """Crop, the trunk's last maps and a first reading's own values, to values for a better reading."""

    outputs = 384

    def __init__(self, width: int, maps: int, landmarks: int, heard: int, size: int, cells: int) -> None:
        """`width` channels at half the cells of the trunk's `maps` maps of `cells` a side; `heard` values
        come from the first reading; the crop has `size` pixels a side."""
        super().__init__()
        self.size, self.cell = size, size // cells
        self.patches = layer(3 * self.cell**2, width // 2, 3, 1)
        self.join = layer(maps, width // 2, 1, 1)
        self.local = normed(width, width // 4, 1, 1)
        self.middle = nn.Sequential(
            layer(width, width, 3, 2), Residual(width, width // 2), Residual(width, width // 2)
        )
        self.last = nn.Sequential(
            layer(width, 2 * width, 3, 2), *(Residual(2 * width, 3 * width // 4) for _ in range(3)),
            normed(2 * width, 32, 1, 1),
        )  # fmt: skip
        side = -(-cells // 4)
        local = landmarks * (width // 4)
        # thousands of inputs move a unit far in one step: they are centred, and so is what they give
        self.dense = nn.Linear(32 * side * side + local + heard, self.outputs)
        self.norm = nn.LayerNorm(self.outputs)

    def forward(self, image: Tensor, maps: Tensor, points: Tensor, heard: Tensor) -> Tensor:
        """`image` `(B, 3, S, S)` in [0, 1], the trunk's `maps` `(B, C, h, w)`, `points` `(B, K, 2)` crop
        pixels, `heard` `(B, N)`, to `(B, outputs)`, in full precision."""
        # every pixel of a cell is a channel of it: nothing is lost, and no map is large
        patches = self.patches(F.pixel_unshuffle(2 * image - 1, self.cell))
        near = torch.cat([patches, self.join(maps)], 1)
        x = self.middle(near)
        whole = self.last(x).flatten(1)
        local = self.local(near)
        with torch.autocast(image.device.type, enabled=False):
            where = (2 * points + 1) / self.size - 1
            at = F.grid_sample(
                local.float(), where[:, :, None], padding_mode="border", align_corners=False
            ).flatten(1)
            return F.relu(self.norm(self.dense(torch.cat([whole.float(), at, heard], 1))))


class Residual(nn.Module):
    """1x1 to few channels, 3x3 there, 1x1 back, and the input itself, which weighs more at first."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.narrow = layer(channels, inner, 1, 1)
        self.conv = layer(inner, inner, 3, 1)
        self.wide = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.constant_(self.norm.weight, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.wide(self.conv(self.narrow(x)))))


def layer(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution, its batch norm, and what is above zero of it."""
    return nn.Sequential(*normed(inputs, outputs, kernel, stride), nn.ReLU())


def normed(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))
