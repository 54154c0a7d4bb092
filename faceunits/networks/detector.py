"""The two small networks of the face detector.

`FaceFinder` looks at the whole picture, shrunk, and proposes faces with five rough points;
`Landmarker` looks at the aligned crop of one proposal, says whether it is a face, and places the five
points. The second look is what makes the points exact and false alarms rare at little cost: it sees
only a few crops per picture.

Convention: images `(B, 3, H, W)` RGB in [0, 1]; points (x, y) pixels, first pixel centred on (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class DetectorConfig:
    """Sizes of both networks."""

    finder_widths: tuple[int, ...] = (16, 32, 64, 96, 128)
    """Channels of the finder at strides 2, 4, 8, 16, 32."""
    neck: int = 48
    """Channels of the finder's heads."""
    crop_size: int = 96
    """Side of the landmarker's crop in pixels."""
    landmarker_widths: tuple[int, ...] = (24, 48, 96, 128)
    """Channels of the landmarker at strides 2, 4, 8, 16."""


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, and a rectifier unless `act` is false."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, act: bool = True):
        layers: list[nn.Module] = [
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(c_out),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if act else []))


def fuse(net: nn.Module) -> None:
    """Puts each batch norm of a trained network into its convolution, in place: a fifth less time."""
    for block in [m for m in net.modules() if isinstance(m, ConvNorm)]:
        convolution, norm = block[0], block[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            block[0] = fuse_conv_bn_eval(convolution, norm)
            block[1] = nn.Identity()


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity (He et al. 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(ConvNorm(channels, channels), ConvNorm(channels, channels, act=False))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class FaceFinder(nn.Module):
    """Proposals over the whole picture: per cell of three grids a score and five points.

    A face belongs to the grid whose cells suit its size (`level_sizes`), so one head need not span more
    than about an octave and a half.
    """

    level_sizes = ((0.0, 44.0), (32.0, 104.0), (76.0, 1e9))
    """Face sizes (pixels, see `training.detector`) of the three grids; they overlap."""

    def __init__(self, config: DetectorConfig = DetectorConfig()):
        super().__init__()
        w = config.finder_widths
        self.stem = nn.Sequential(ConvNorm(3, w[0], stride=2), ConvNorm(w[0], w[1], stride=2))
        self.down8 = nn.Sequential(Residual(w[1]), ConvNorm(w[1], w[2], stride=2), Residual(w[2]))
        self.down16 = nn.Sequential(ConvNorm(w[2], w[3], stride=2), Residual(w[3]))
        self.down32 = nn.Sequential(ConvNorm(w[3], w[4], stride=2), Residual(w[4]))
        self.lateral = nn.ModuleList(ConvNorm(c, config.neck, 1) for c in w[2:])
        self.mix = nn.ModuleList(ConvNorm(config.neck, config.neck) for _ in STRIDES)
        self.head = nn.ModuleList(nn.Conv2d(config.neck, 11, 1) for _ in STRIDES)
        for head in self.head:
            # Faces are rare among cells: start from a belief of 1 % (Lin et al. 2017, section 4.1).
            nn.init.constant_(head.bias[:1], -4.6)  # type: ignore[index]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Args:
            image: `(B, 3, H, W)`, H and W multiples of 32.

        Returns:
            Logits `(B, N)` and points `(B, N, 5, 2)` in pixels of `image`, over the N cells of all grids,
            fine to coarse, row by row; `cells` gives their centres.
        """
        x = self.down8(self.stem((image - 0.45) * 4))
        levels = [x, self.down16(x)]
        levels.append(self.down32(levels[1]))
        merged = [lateral(f) for lateral, f in zip(self.lateral, levels, strict=True)]
        for i in (1, 0):
            merged[i] = merged[i] + F.interpolate(merged[i + 1], scale_factor=2.0, mode="nearest")
        logits, points = [], []
        for mix, head, stride, f in zip(self.mix, self.head, STRIDES, merged, strict=True):
            out = head(mix(f)).float().flatten(2).transpose(1, 2)  # (B, cells, 11)
            centre = cells(f.shape[2], f.shape[3], stride, device=image.device)
            logits.append(out[..., 0])
            offsets = out[..., 1:].unflatten(-1, (5, 2)) * (2 * stride)
            points.append(centre[None, :, None] + offsets)
        return torch.cat(logits, 1), torch.cat(points, 1)


def cells(rows: int, columns: int, stride: int, *, device: torch.device | None = None) -> Tensor:
    """`(rows * columns, 2)` centres of a grid's cells in pixels of the input."""
    y = (torch.arange(rows, device=device) + 0.5) * stride - 0.5
    x = (torch.arange(columns, device=device) + 0.5) * stride - 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)


class Landmarker(nn.Module):
    """Five points and a face score from one roughly aligned crop.

    Each point is the mean of the cells' guesses weighted by a softmax over the cells (integral
    regression, Sun et al. 2018): finer than the grid, and tied to what is seen near the point.
    """

    def __init__(self, config: DetectorConfig = DetectorConfig()):
        super().__init__()
        w = config.landmarker_widths
        self.size = config.crop_size
        self.stem = nn.Sequential(ConvNorm(3, w[0], stride=2), ConvNorm(w[0], w[1], stride=2), Residual(w[1]))
        self.down8 = nn.Sequential(ConvNorm(w[1], w[2], stride=2), Residual(w[2]))
        self.down16 = nn.Sequential(ConvNorm(w[2], w[3], stride=2), Residual(w[3]))
        self.context = ConvNorm(w[3], w[2], 1)
        self.mix = Residual(w[2])
        self.place = nn.Conv2d(w[2], 15, 1)  # per point: a weight and an offset (x, y)
        self.belief = nn.Sequential(nn.Linear(2 * w[3], 64), nn.ReLU(inplace=True), nn.Linear(64, 1))

    def forward(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        """Args:
            crop: `(B, 3, S, S)`, S = `crop_size`.

        Returns:
            Logits `(B,)` and points `(B, 5, 2)` in pixels of the crop.
        """
        # Each crop is brought to the same brightness and contrast: dark rooms look like light ones.
        mean = crop.mean((1, 2, 3), keepdim=True)
        std = crop.std((1, 2, 3), keepdim=True)
        x = self.down8(self.stem((crop - mean) / (std + 0.03)))
        deep = self.down16(x)
        pooled = torch.cat([deep.mean((2, 3)), deep.amax((2, 3))], 1)
        x = self.mix(x + F.interpolate(self.context(deep), scale_factor=2.0, mode="nearest"))
        out = self.place(x).float().flatten(2).unflatten(1, (5, 3))  # (B, 5, 3, cells)
        weight = out[:, :, 0].softmax(-1)
        centre = cells(x.shape[2], x.shape[3], 8, device=crop.device).T  # (2, cells)
        guess = centre + out[:, :, 1:] * 8
        return self.belief(pooled).float().squeeze(-1), (guess * weight[:, :, None]).sum(-1)
