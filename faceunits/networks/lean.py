"""E made for reading alone: batch norms folded away, no parsing scores, and the shapes that a CPU likes.

Stands between the trained `parser.Parser` and what runs it (`fitting.models`, `faceunits.export`). The
numbers are those of the original to rounding.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from faceunits.errors import ConfigError
from faceunits.networks.parser import Bottleneck, Parser, turned_back
from faceunits.types import LANDMARK_MIRROR


class Lean(nn.Module):
    """E without what a reading does not need: only `points`, `readings`, `log_variance` of its `Features`."""

    def __init__(self, parser: Parser) -> None:
        super().__init__()
        if parser.pointer is None or parser.reader is None:
            raise ConfigError("expected an E with landmarks and readings; got one without; use another E")
        net = copy.deepcopy(parser).eval().requires_grad_(False)
        net.classifier = nn.Identity()  # type: ignore[assignment]  # nobody asks for the parsing
        fold(net)
        streamline(net)
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """`(B, 68, 2)` crop pixels, `(B, R)` and `(B, N)` or None, from `image` `(B, 3, S, S)` in [0, 1]."""
        seen = self.net(image.contiguous(memory_format=torch.channels_last))
        return seen.points, seen.readings, seen.log_variance


class BothViews(nn.Module):
    """A lean E that looks at a crop and at its mirror image, and takes the mean of what it reads.

    E is not quite symmetric: one view of a photo agrees with the other to an ICC of about .75. Twice the
    time, and nearer to the truth (docs/results.md).
    """

    au_mirror: Tensor
    point_mirror: Tensor

    def __init__(self, lean: Lean, au_mirror: Tensor) -> None:
        super().__init__()
        self.lean = lean
        self.register_buffer("au_mirror", au_mirror)
        self.register_buffer("point_mirror", torch.from_numpy(LANDMARK_MIRROR))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `Lean.forward`; the identity is that of the crop itself."""
        count, known = image.shape[0], len(self.au_mirror) + 3
        points, readings, doubt = self.lean(torch.cat([image, image.flip(-1)]))
        turned = turned_back(
            points[count:], readings[count:], self.au_mirror, self.point_mirror, image.shape[-1]
        )
        mean = (readings[:count] + turned[1])[:, :known] / 2
        if doubt is not None:
            n = len(self.au_mirror)
            other = torch.cat([doubt[count:, :n][:, self.au_mirror], doubt[count:, n:]], 1)
            doubt = (doubt[:count] + other) / 2
        return (points[:count] + turned[0]) / 2, torch.cat([mean, readings[:count, known:]], 1), doubt


def prepare(parser: Parser) -> Lean:
    """E made lean for reading, equal to the original to rounding; a copy, so that `parser` stays as it is.

    Raises:
        ConfigError: an E without landmarks and readings.
    """
    return Lean(parser)


def fold(net: nn.Module) -> None:
    """Puts each batch norm that follows a convolution among a module's children into it, in place."""
    for module in list(net.modules()):
        children = list(module.named_children())
        for (name, conv), (other, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, other, nn.Identity())


class Pointwise(nn.Conv2d):
    """A convolution of 1 x 1 as a product of matrices, which it is where channels come last.

    On one thread torch has no fast kernel for it: those of E take twice the time of the product.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # other runtimes do better with what it says
            return super().forward(x)
        return F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """`to`, changed in place: the product is added to it where it lies, without a pass of its own."""
        if torch.compiler.is_exporting():
            return to + super().forward(x)
        _rows(to).addmm_(_rows(x), self.weight[:, :, 0, 0].T)
        return to


def _rows(x: Tensor) -> Tensor:
    """`(B h w, C)` of a tensor `(B, C, h, w)` whose channels lie last, the same memory."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


class Block(nn.Module):
    """A folded `Bottleneck` that works in place: at E's sizes fresh memory costs as much as arithmetic."""

    bias: Tensor

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = pointwise(block.conv1), block.conv2, pointwise(block.conv3)
        # the last product is added to the shortcut, so its bias, which folding made, goes there
        bias, self.conv3.bias = self.conv3.bias, None
        assert bias is not None
        self.register_buffer("bias", bias[:, None, None])
        self.shortcut = None
        if isinstance(block.downsample, nn.Sequential):
            self.shortcut = block.downsample[0]
            assert isinstance(self.shortcut.bias, Tensor)
            self.shortcut.bias += bias

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` to `(B, C', h', w')`."""
        out = x + self.bias if self.shortcut is None else self.shortcut(x)
        return self.conv3.added(self.conv2(self.conv1(x).relu_()).relu_(), out).relu_()


def pointwise(conv: nn.Conv2d) -> Pointwise:
    """The same convolution, with the same weights, as `Pointwise`."""
    out = Pointwise(conv.in_channels, conv.out_channels, 1)
    out.weight, out.bias = conv.weight, conv.bias
    return out


def streamline(net: nn.Module) -> None:
    """Puts `Block` and `Pointwise` in the places of what they stand for, in place; after `fold`."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Bottleneck):
                setattr(module, name, Block(child))
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Conv2d and child.kernel_size == (1, 1) and child.stride == (1, 1):
                setattr(module, name, pointwise(child))
