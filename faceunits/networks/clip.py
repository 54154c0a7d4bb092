"""CLIP: pictures and texts to one space, with the names of the public files.

Both picture towers: the vision transformer (ViT-B/32, B/16) and the ResNet with attention pooling (RN50).
All sizes are read from a file's shapes by `ClipConfig.of`. Source: Radford et al. 2021, "Learning
Transferable Visual Models From Natural Language Supervision".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits.networks.layers import require_shape

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of both towers; the defaults are ViT-B/32."""

    size: int = 224
    """Side of the picture in pixels."""
    space: int = 512
    """Length of an embedding."""
    width: int = 768
    """Width of the picture tower: of the transformer, or of the ResNet's stem."""
    patch: int = 32
    """Side of a patch in pixels; 0 for the ResNet."""
    blocks: tuple[int, ...] = (12,)
    """Blocks of the transformer, or of the ResNet's four stages."""
    context: int = 77
    """Tokens of a text."""
    vocabulary: int = 49408
    text_width: int = 512
    text_blocks: int = 12

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> ClipConfig:
        """Sizes that belong to the shapes of a state dict.

        Raises:
            KeyError: not the names of CLIP.
        """
        stem = shapes["visual.conv1.weight"]
        if "visual.proj" in shapes:
            grid = round((shapes["visual.positional_embedding"][0] - 1) ** 0.5)
            patch, size = stem[3], grid * stem[3]
            blocks: tuple[int, ...] = (_count(shapes, "visual.transformer.resblocks."),)
        else:
            grid = round((shapes["visual.attnpool.positional_embedding"][0] - 1) ** 0.5)
            patch, size = 0, grid * 32
            blocks = tuple(_count(shapes, f"visual.layer{i}.") for i in range(1, 5))
        return cls(
            size=size,
            space=shapes["text_projection"][1],
            width=stem[0] * (1 if patch else 2),
            patch=patch,
            blocks=blocks,
            context=shapes["positional_embedding"][0],
            vocabulary=shapes["token_embedding.weight"][0],
            text_width=shapes["ln_final.weight"][0],
            text_blocks=_count(shapes, "transformer.resblocks."),
        )


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    return len({k[len(prefix) :].split(".")[0] for k in shapes if k.startswith(prefix)})


class _QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _AttentionBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", _QuickGelu())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False, attn_mask=mask)[0]
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class _Transformer(nn.Module):
    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_AttentionBlock(width) for _ in range(blocks))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class _VisionTransformer(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width, tokens = config.width, (config.size // config.patch) ** 2 + 1
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.proj = nn.Parameter(torch.randn(width, config.space) * width**-0.5)
        self.conv1 = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _Transformer(width, config.blocks[0])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)  # (B, patches, width)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        out: Tensor = self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj
        return out


class _Bottleneck(nn.Module):
    """Residual block that halves the side by averaging, before the last convolution and in the shortcut."""

    def __init__(self, inputs: int, base: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1, self.bn1 = nn.Conv2d(inputs, base, 1, bias=False), nn.BatchNorm2d(base)
        self.conv2, self.bn2 = nn.Conv2d(base, base, 3, padding=1, bias=False), nn.BatchNorm2d(base)
        self.conv3, self.bn3 = nn.Conv2d(base, 4 * base, 1, bias=False), nn.BatchNorm2d(4 * base)
        self.downsample: nn.ModuleDict | None = None
        if stride > 1 or inputs != 4 * base:
            self.downsample = nn.ModuleDict(
                {"0": nn.Conv2d(inputs, 4 * base, 1, bias=False), "1": nn.BatchNorm2d(4 * base)}
            )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        h = self.bn3(self.conv3(self._half(h)))
        if self.downsample is not None:
            x = self.downsample["1"](self.downsample["0"](self._half(x)))
        return F.relu(x + h)

    def _half(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.stride) if self.stride > 1 else x


class _AttentionPool(nn.Module):
    """The mean of a map asks all its pixels, in heads of 64."""

    def __init__(self, side: int, width: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) * width**-0.5)
        self.k_proj, self.q_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)  # (B, pixels, width)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positional_embedding
        q, k, v = (
            p(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for p, y in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        out: Tensor = self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))
        return out


class _VisionResNet(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width = config.width
        plan = ((3, width // 2, 2), (width // 2, width // 2, 1), (width // 2, width, 1))
        for i, (before, after, stride) in enumerate(plan, 1):
            setattr(self, f"conv{i}", nn.Conv2d(before, after, 3, stride, 1, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(after))
        before = width
        for stage, count in enumerate(config.blocks):
            base = width * 2**stage
            blocks = [_Bottleneck(before, base, 2 if stage else 1)]
            blocks += [_Bottleneck(4 * base, base, 1) for _ in range(count - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            before = 4 * base
        self.attnpool = _AttentionPool(config.size // 32, before, before // 64, config.space)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 4):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        x = F.avg_pool2d(x, 2)
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        out: Tensor = self.attnpool(x)
        return out


class Clip(nn.Module):
    """Two towers into one space; `logit_scale` is the logarithm of the factor on their inner products."""

    def __init__(self, config: ClipConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ClipConfig()
        width = config.text_width
        self.positional_embedding = nn.Parameter(torch.randn(config.context, width) * 0.01)
        self.text_projection = nn.Parameter(torch.randn(width, config.space) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))  # log(1 / 0.07), where its training starts
        self.visual = _VisionTransformer(config) if config.patch else _VisionResNet(config)
        self.transformer = _Transformer(width, config.text_blocks)
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.ln_final = nn.LayerNorm(width)

    def embed_image(self, image: Tensor) -> Tensor:
        """Image `(B, 3, S, S)` in [0, 1] to `(B, D)`, not normalised; resizing is the caller's."""
        require_shape(image, (None, 3, self.config.size, self.config.size), "an image")
        mean, std = image.new_tensor(MEAN).view(1, 3, 1, 1), image.new_tensor(STD).view(1, 3, 1, 1)
        out: Tensor = self.visual((image - mean) / std)
        return out

    def embed_text(self, tokens: Tensor) -> Tensor:
        """Token numbers `(B, 77)`, zeros behind the end token (the largest number), to `(B, D)`."""
        require_shape(tokens, (None, self.config.context), "tokens")
        n = self.config.context
        mask = torch.full((n, n), float("-inf"), device=tokens.device).triu(1)
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.ln_final(self.transformer(x, mask.to(x.dtype)))
        out: Tensor = x[torch.arange(len(x)), tokens.argmax(1)] @ self.text_projection
        return out

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """Logits `(images, texts)`."""
        a, b = F.normalize(self.embed_image(image), dim=1), F.normalize(self.embed_text(tokens), dim=1)
        return self.logit_scale.exp() * a @ b.T
