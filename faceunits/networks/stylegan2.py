"""StyleGAN2: mapping, synthesis and discriminator, for pictures of 16 to 1024 px.

State-dict names and shapes are those of the widely used PyTorch port (`style.1.weight`, `conv1.conv.weight`,
`to_rgbs.0.upsample.kernel`, ...), so public files load as they are; `weights.official` brings NVIDIA's own
names to these. Three latent spaces: w `(B, D)`; w+ `(B, L, D)`, one code per level; and style space, the
list of factors per input channel that `styles` makes of w+.

Convention: images are in [-1, 1], not clamped, as in the public files, so that latents and losses of the
literature carry over; `(image + 1) / 2` is the package's own range.
Source: Karras et al. 2020, sections 2 to 4 and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits.errors import ConfigError, ParameterError
from faceunits.networks.layers import Activation, ActiveLinear, EqualConv, EqualLinear, Fir, require_shape

_PUBLIC_WIDTHS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
_MAPPING_LR = 0.01


@dataclass(frozen=True)
class StyleConfig:
    """Sizes of generator and discriminator."""

    size: int = 1024
    """Side of the picture in pixels: a power of two, 16 to 1024."""
    latent: int = 512
    """Length of z and w."""
    mapping_layers: int = 8
    """Fully connected layers from z to w."""
    widths: tuple[int, ...] = ()
    """Channels at 4, 8, ... `size` px; empty: those of the public files (config F)."""
    clamp: float = 0.0
    """Bound on every layer's output, which networks trained in half precision carry (256); 0: none."""

    def __post_init__(self) -> None:
        if self.size not in (16, 32, 64, 128, 256, 512, 1024):
            raise ConfigError(f"expected a size of 16, 32, ... 1024; got {self.size}; choose a power of two")
        if self.widths and len(self.widths) != len(self.resolutions):
            raise ConfigError(
                f"expected {len(self.resolutions)} widths for {self.size} px; got {len(self.widths)}; "
                "give one for each of 4, 8, ... px"
            )

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, ... `size`."""
        return tuple(2**i for i in range(2, int(math.log2(self.size)) + 1))

    @property
    def channels(self) -> tuple[int, ...]:
        """Width at each of `resolutions`."""
        return self.widths or tuple(_PUBLIC_WIDTHS[r] for r in self.resolutions)

    @property
    def levels(self) -> int:
        """Codes of a w+ latent, 2 log2(size) - 2."""
        return 2 * len(self.resolutions)


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style, normalised so that outputs keep unit variance.

    The original multiplies the weights of each picture and convolves in groups. Scaling the input by the
    style and the output by the norm is the same sum in another order, shares one weight in the batch, and
    needs no copy of the weights per picture.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        latent: int,
        *,
        up: bool = False,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        self.modulation = EqualLinear(latent, inputs, bias=1.0)
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.demodulate = demodulate
        # zeros between the pixels quarter the energy, hence the gain of 4
        self.blur = Fir(pad=(1, 1), gain=4.0) if up else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map and style to the next map.

        Args:
            x: `(B, in, H, W)`.
            style: `(B, in)`, from `modulation`.

        Returns:
            `(B, out, H, W)`, or twice the side.
        """
        weight = self.weight[0] * self.scale
        if weight.shape[-1] == 1:  # a sum per pixel: as a matrix product three times as fast on a CPU
            out: Tensor = ((weight[:, :, 0, 0] * style[:, None]) @ x.flatten(2)).view(
                len(x), -1, *x.shape[2:]
            )
        elif self.blur is not None:
            x = x * style[:, :, None, None]
            out = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            out = F.conv2d(x * style[:, :, None, None], weight, padding=weight.shape[-1] // 2)
        if self.demodulate:
            power = style.square() @ weight.square().sum((2, 3)).T  # (B, out)
            out = out * torch.rsqrt(power + 1e-8)[:, :, None, None]
        return out


class Noise(nn.Module):
    """Adds one map of noise to all channels, with a learned strength."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return x + self.weight * noise


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, latent: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, latent, up=up)
        self.noise = Noise()
        self.activate = Activation(outputs)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        out: Tensor = self.activate(self.noise(self.conv(x, style), noise))
        return out


class ToRgb(nn.Module):
    """Modulated 1 x 1 convolution to RGB, without the norm, added to the up-sampled sum so far."""

    def __init__(self, inputs: int, latent: int, *, up: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Fir(up=2, pad=(2, 1), gain=4.0) if up else None
        self.conv = ModulatedConv(inputs, 3, 1, latent, demodulate=False)

    def forward(self, x: Tensor, style: Tensor, *, limit: float) -> Tensor:
        return _bounded(self.conv(x, style) + self.bias, limit)


def _bounded(x: Tensor, limit: float) -> Tensor:
    return x.clamp(-limit, limit) if limit else x


class PixelNorm(nn.Module):
    """`(B, D)` to unit mean square per row."""

    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)


class _Constant(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class StyleGenerator(nn.Module):
    """z to w to w+ to styles to an image; each step is a method, `forward` does the last two.

    `average` is the mean w, `(D,)` (or `(L, D)` where a file gives one per level); it is not part of the
    state dict, as in the public files, where it lies beside it under `latent_avg`.
    """

    average: Tensor

    def __init__(self, config: StyleConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StyleConfig()
        d, widths = config.latent, config.channels
        mapping = [ActiveLinear(d, d, lr=_MAPPING_LR) for _ in range(config.mapping_layers)]
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = _Constant(widths[0])
        self.conv1 = StyledConv(widths[0], widths[0], d)
        self.to_rgb1 = ToRgb(widths[0], d, up=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        for before, width in zip(widths[:-1], widths[1:], strict=True):
            self.convs.append(StyledConv(before, width, d, up=True))
            self.convs.append(StyledConv(width, width, d))
            self.to_rgbs.append(ToRgb(width, d))
        for i in range(config.levels - 1):
            side = 2 ** ((i + 5) // 2)
            self.noises.register_buffer(f"noise_{i}", torch.randn(1, 1, side, side))
        self.register_buffer("average", torch.zeros(d), persistent=False)

    # Latents

    def map(self, z: Tensor) -> Tensor:
        """Normal noise `(B, D)` to w `(B, D)`."""
        require_shape(z, (None, self.config.latent), "noise z")
        w: Tensor = self.style(z)
        return w

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Codes drawn towards the average: `average + psi (w - average)`; w or w+.

        With an average per level, w becomes w+.
        """
        if self.average.ndim == 2:
            w = self.spread(w)
        return self.average + psi * (w - self.average)

    @torch.no_grad()
    def mean_w(self, count: int = 4096, *, seed: int = 0) -> Tensor:
        """Mean `(D,)` of `count` mapped samples; the same seed gives the same mean."""
        source = torch.Generator().manual_seed(seed)
        z = torch.randn(count, self.config.latent, generator=source)
        return self.map(z.to(self.input.input)).mean(0)

    def spread(self, w: Tensor) -> Tensor:
        """One code `(B, D)` to the same code at every level, `(B, L, D)`; w+ passes through.

        Raises:
            ParameterError: another number of levels or another length.
        """
        levels, d = self.config.levels, self.config.latent
        if w.ndim == 2:
            w = w[:, None].expand(-1, levels, -1)
        require_shape(w, (None, levels, d), "a latent w+")
        return w

    def mix(self, w: Tensor, other: Tensor, level: int) -> Tensor:
        """w+ `(B, L, D)` that is `w` below `level` and `other` from there on (style mixing)."""
        return torch.cat([self.spread(w)[:, :level], self.spread(other)[:, level:]], 1)

    def styles(self, w: Tensor) -> list[Tensor]:
        """Style space of w or w+: `(B, C)` for conv1, to_rgb1, convs.0, convs.1, to_rgbs.0, convs.2, ..."""
        w = self.spread(w)
        return [conv.modulation(w[:, level]) for level, conv in self._modulated()]

    def _modulated(self) -> list[tuple[int, ModulatedConv]]:
        """Level of w+ and convolution, in order; a to-RGB layer shares its level with the next block."""
        out: list[tuple[int, ModulatedConv]] = [(0, self.conv1.conv), (1, self.to_rgb1.conv)]
        for i, rgb in enumerate(self.to_rgbs):
            pair = self.convs[2 * i], self.convs[2 * i + 1]
            out += [(2 * i + 1, pair[0].conv), (2 * i + 2, pair[1].conv), (2 * i + 3, rgb.conv)]  # type: ignore[list-item]
        return out

    # Noise

    def stored_noise(self) -> list[Tensor]:
        """The maps `(1, 1, r, r)` of the state dict, one per styled convolution."""
        return [getattr(self.noises, f"noise_{i}") for i in range(self.config.levels - 1)]

    def random_noise(self, batch: int, source: torch.Generator) -> list[Tensor]:
        """Fresh maps `(B, 1, r, r)`; the generator must be on the network's device."""
        return [
            torch.randn(batch, 1, *n.shape[2:], generator=source, device=n.device, dtype=n.dtype)
            for n in self.stored_noise()
        ]

    def no_noise(self) -> list[Tensor]:
        """Zeros, for an image that depends on the latent alone."""
        return [torch.zeros_like(n) for n in self.stored_noise()]

    # Image

    def synthesize(
        self, styles: Sequence[Tensor], noise: Sequence[Tensor] | None = None, *, side: int | None = None
    ) -> Tensor:
        """Style space to an image `(B, 3, S, S)`, nominally in [-1, 1]; the stored noise unless given.

        With `side` the sum so far at that many pixels, which is a coarser picture and needs no finer layer.

        Raises:
            ParameterError: another number of styles or noise maps.
        """
        noise = self.stored_noise() if noise is None else noise
        wanted = 3 * len(self.to_rgbs) + 2, 2 * len(self.to_rgbs) + 1
        if (len(styles), len(noise)) != wanted:
            raise ParameterError(
                f"expected {wanted[0]} styles and {wanted[1]} noise maps for {self.config.size} px; got "
                f"{len(styles)} and {len(noise)}; take them from styles() and stored_noise()"
            )
        limit = self.config.clamp
        x = self.input.input.expand(len(styles[0]), -1, -1, -1)
        x = _bounded(self.conv1(x, styles[0], noise[0]), limit)
        image: Tensor = self.to_rgb1(x, styles[1], limit=limit)
        for i, rgb in enumerate(self.to_rgbs):
            if image.shape[-1] == side:
                break
            first, second, third = styles[3 * i + 2 : 3 * i + 5]
            x = _bounded(self.convs[2 * i](x, first, noise[2 * i + 1]), limit)
            x = _bounded(self.convs[2 * i + 1](x, second, noise[2 * i + 2]), limit)
            image = rgb.upsample(image) + rgb(x, third, limit=limit)  # type: ignore[operator]
        return image

    def forward(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Image `(B, 3, S, S)`, nominally in [-1, 1], of w `(B, D)` or w+ `(B, L, D)`."""
        return self.synthesize(self.styles(w), noise)


# Discriminator


def _down(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    """Low-pass, then convolution with stride 2: half the side."""
    pad = 2 + (kernel - 1)
    return [Fir(pad=((pad + 1) // 2, pad // 2)), EqualConv(inputs, outputs, kernel, stride=2)]


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(EqualConv(inputs, inputs, 3, padding=1), Activation(inputs))
        self.conv2 = nn.Sequential(*_down(inputs, outputs, 3), Activation(outputs))
        self.skip = nn.Sequential(*_down(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)
        return out


def batch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """`x` with one channel more: the mean standard deviation over groups of the batch.

    Group g holds the pictures g, g + B/n, g + 2 B/n, ... for n = `group`, or the largest smaller number
    that divides the batch (the public code stops where 4 does not).
    """
    b, _, h, w = x.shape
    n = next(n for n in range(min(b, group), 0, -1) if b % n == 0)
    spread = x.reshape(n, b // n, -1).var(0, unbiased=False)  # (B/n, C H W)
    value = torch.sqrt(spread + 1e-8).mean(1)
    return torch.cat([x, value.repeat(n).view(b, 1, 1, 1).expand(-1, -1, h, w)], 1)


class StyleDiscriminator(nn.Module):
    """Image `(B, 3, S, S)` in [-1, 1] to logits `(B, 1)`, higher for real: residual blocks, then two layers.

    Looks at the whole batch (`batch_deviation`), so its value depends on who shares it.
    """

    def __init__(self, config: StyleConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StyleConfig()
        widths = config.channels[::-1]
        blocks = [_Residual(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        self.convs = nn.Sequential(nn.Sequential(EqualConv(3, widths[0], 1), Activation(widths[0])), *blocks)
        last = widths[-1]
        self.final_conv = nn.Sequential(EqualConv(last + 1, last, 3, padding=1), Activation(last))
        self.final_linear = nn.Sequential(ActiveLinear(last * 16, last), EqualLinear(last, 1))

    def forward(self, image: Tensor) -> Tensor:
        require_shape(image, (None, 3, self.config.size, self.config.size), "an image")
        x = self.final_conv(batch_deviation(self.convs(image)))
        out: Tensor = self.final_linear(x.flatten(1))
        return out
