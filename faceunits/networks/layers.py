"""Layers that StyleGAN2, its discriminator and the e4e and pSp encoders share.

Equalised learning rate (weights stored at unit variance and scaled when used), the leaky ReLU with gain
sqrt 2, and the FIR resampling `upfirdn2d`. Plain PyTorch, so that second derivatives (R1, path length)
work on every device. Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits.errors import ParameterError

SLOPE = 0.2
GAIN = math.sqrt(2)
"""Keeps the variance of a unit normal input through the leaky ReLU."""

FIR = (1.0, 3.0, 3.0, 1.0)


def fir_kernel(gain: float = 1.0) -> Tensor:
    """`(4, 4)` outer product of 1 3 3 1, summing to `gain`; 4 where every second row and column is zero."""
    taps = torch.tensor(FIR)
    kernel = torch.outer(taps, taps)
    return kernel * (gain / kernel.sum())


def upfirdn2d(
    x: Tensor, kernel: Tensor, *, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)
) -> Tensor:
    """Insert zeros, pad, convolve, and keep every `down`-th pixel.

    Args:
        x: `(B, C, H, W)`.
        kernel: `(k, k)`, the same for all channels; convolved, that is flipped relative to correlation.
        up: each pixel is followed by `up - 1` zeros, to the right and below.
        down: stride after filtering.
        pad: zeros before (left, top) and after (right, bottom).

    Returns:
        `(B, C, (H up + sum(pad) - k) // down + 1, ...)`.
    """
    b, c, h, w = x.shape
    if up > 1:
        spread = x.new_zeros(b, c, h, up, w, up)
        spread[:, :, :, 0, :, 0] = x
        x = spread.reshape(b, c, h * up, w * up)
    x = F.pad(x, (pad[0], pad[1], pad[0], pad[1]))
    # One group per channel: 50 times faster on a CPU than channels folded into the batch.
    weight = kernel.to(x.dtype).flip(0, 1).expand(c, 1, *kernel.shape)
    return F.conv2d(x, weight, stride=down, groups=c)


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU 0.2 times sqrt 2."""
    return F.leaky_relu(x, SLOPE) * GAIN


class EqualLinear(nn.Module):
    """`(..., in)` to `(..., out)`; the stored weight has unit variance over `lr`.

    Effective weight `weight * lr / sqrt(in)`, effective bias `bias * lr`.
    """

    def __init__(self, inputs: int, outputs: int, *, lr: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.lr = lr
        self.scale = lr / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.lr)


class ActiveLinear(EqualLinear):
    """`EqualLinear` followed by `leaky`."""

    def forward(self, x: Tensor) -> Tensor:
        return leaky(super().forward(x))


class EqualConv(nn.Module):
    """Convolution without bias whose weight is divided by the root of its fan-in when used."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.padding)


class Activation(nn.Module):
    """Bias per channel of `(B, C, H, W)`, then `leaky`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return leaky(x + self.bias[:, None, None])


class Fir(nn.Module):
    """`upfirdn2d` with a stored kernel, under the name that the public files give it."""

    kernel: Tensor

    def __init__(self, *, up: int = 1, pad: tuple[int, int] = (0, 0), gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain))
        self.up, self.pad = up, pad

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn2d(x, self.kernel, up=self.up, pad=self.pad)


def require_shape(x: Tensor, wanted: tuple[int | None, ...], what: str) -> None:
    """Refuse a tensor of another shape.

    Args:
        x: any tensor.
        wanted: its shape; None where any length will do.
        what: what the tensor is, for the message.

    Raises:
        ParameterError: another number of axes, or another length.
    """
    if x.ndim != len(wanted) or any(w is not None and w != n for w, n in zip(wanted, x.shape, strict=True)):
        shown = ", ".join("any" if w is None else str(w) for w in wanted)
        raise ParameterError(f"expected {what} of shape ({shown}); got {tuple(x.shape)}; change its shape")
