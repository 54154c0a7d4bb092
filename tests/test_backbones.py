"""ResNet, Inception and CLIP against forward passes written out from their state dicts."""

from __future__ import annotations

import math

import pytest
import torch
from test_encoders import randomised
from torch.nn import functional as F

from faceunits.errors import ParameterError
from faceunits.networks import clip, inception, resnet


def by_name(net):
    return dict(net.state_dict())


def norm(s, name, x, eps=1e-5):
    stats = s[f"{name}.running_mean"], s[f"{name}.running_var"]
    return F.batch_norm(x, *stats, s[f"{name}.weight"], s[f"{name}.bias"], eps=eps)


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet(depth):
    torch.manual_seed(0)
    net = randomised(resnet.ResNet(depth, classes=7))
    s, image = by_name(net), torch.rand(2, 3, 40, 40, dtype=torch.double)
    x = torch.stack([(image[:, c] - resnet.MEAN[c]) / resnet.STD[c] for c in range(3)], 1)
    x = F.max_pool2d(norm(s, "bn1", F.conv2d(x, s["conv1.weight"], None, 2, 3)).relu(), 3, 2, 1)
    last = 2 if depth == 18 else 3
    for stage, count in enumerate((2, 2, 2, 2) if depth == 18 else (3, 4, 6, 3), 1):
        for i in range(count):
            name, stride, h = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1, x
            for c in range(1, last + 1):
                w = s[f"{name}.conv{c}.weight"]
                step = stride if c == last - 1 else 1  # the first of two, the second of three
                h = norm(s, f"{name}.bn{c}", F.conv2d(h, w, None, step, w.shape[-1] // 2))
                h = h.relu() if c < last else h
            if f"{name}.downsample.0.weight" in s:
                x = F.conv2d(x, s[f"{name}.downsample.0.weight"], None, stride)
                x = norm(s, f"{name}.downsample.1", x)
            x = (x + h).relu()
    torch.testing.assert_close(net.features(image), x.mean((2, 3)))
    torch.testing.assert_close(net(image), x.mean((2, 3)) @ s["fc.weight"].T + s["fc.bias"])


def test_inception():
    torch.manual_seed(0)
    net = randomised(inception.FidInception())
    s, image = by_name(net), torch.rand(1, 3, 80, 60, dtype=torch.double)

    def conv(name, x, stride=1, pad=None):
        w = s[f"{name}.conv.weight"]
        pad = (w.shape[2] // 2, w.shape[3] // 2) if pad is None else pad
        return norm(s, f"{name}.bn", F.conv2d(x, w, None, stride, pad), eps=1e-3).relu()

    def chain(block, x, *names):
        for name in names:
            x = conv(f"{block}.{name}", x)
        return x

    def mean3(x):
        """Mean of the up to nine pixels around each that lie inside the picture."""
        ones = torch.ones_like(x[:, :1])
        kernel = torch.ones(1, 1, 3, 3, dtype=x.dtype)
        total = F.conv2d(x, kernel.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
        return total / F.conv2d(ones, kernel, padding=1)

    x = F.interpolate(image, (299, 299), mode="bilinear", align_corners=False) * 2 - 1
    x = conv("Conv2d_2b_3x3", conv("Conv2d_2a_3x3", conv("Conv2d_1a_3x3", x, 2, 0), 1, 0))
    x = F.max_pool2d(conv("Conv2d_4a_3x3", conv("Conv2d_3b_1x1", F.max_pool2d(x, 3, 2)), 1, 0), 3, 2)
    for b in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = torch.cat([
            chain(b, x, "branch1x1"), chain(b, x, "branch5x5_1", "branch5x5_2"),
            chain(b, x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            chain(b, mean3(x), "branch_pool"),
        ], 1)  # fmt: skip
    b = "Mixed_6a"
    deep = conv(f"{b}.branch3x3dbl_3", chain(b, x, "branch3x3dbl_1", "branch3x3dbl_2"), 2, 0)
    x = torch.cat([conv(f"{b}.branch3x3", x, 2, 0), deep, F.max_pool2d(x, 3, 2)], 1)
    for b in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = torch.cat([
            chain(b, x, "branch1x1"), chain(b, x, *(f"branch7x7_{i}" for i in (1, 2, 3))),
            chain(b, x, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))), chain(b, mean3(x), "branch_pool"),
        ], 1)  # fmt: skip
    assert x.shape == (1, 768, 17, 17)
    b = "Mixed_7a"
    deep = conv(f"{b}.branch7x7x3_4", chain(b, x, *(f"branch7x7x3_{i}" for i in (1, 2, 3))), 2, 0)
    short = conv(f"{b}.branch3x3_2", chain(b, x, "branch3x3_1"), 2, 0)
    x = torch.cat([short, deep, F.max_pool2d(x, 3, 2)], 1)
    for b in ("Mixed_7b", "Mixed_7c"):
        short = chain(b, x, "branch3x3_1")
        deep = chain(b, x, "branch3x3dbl_1", "branch3x3dbl_2")
        pooled = mean3(x) if b == "Mixed_7b" else F.max_pool2d(x, 3, 1, 1)
        x = torch.cat([
            chain(b, x, "branch1x1"), chain(b, short, "branch3x3_2a"), chain(b, short, "branch3x3_2b"),
            chain(b, deep, "branch3x3dbl_3a"), chain(b, deep, "branch3x3dbl_3b"),
            chain(b, pooled, "branch_pool"),
        ], 1)  # fmt: skip
    torch.testing.assert_close(net(image), x.mean((2, 3)))


CONFIG = {"size": 64, "space": 10, "width": 64, "context": 6, "vocabulary": 20, "text_width": 128}


def attend(q, k, v, heads, mask=None):
    """Softmax attention, head by head."""
    out = []
    for a, b, c in zip(q.chunk(heads, 2), k.chunk(heads, 2), v.chunk(heads, 2), strict=True):
        score = a @ b.transpose(1, 2) / math.sqrt(a.shape[2])
        score = score if mask is None else score + mask
        out.append(score.softmax(2) @ c)
    return torch.cat(out, 2)


def transformer(s, prefix, x, blocks, mask=None):
    for i in range(blocks):
        b = f"{prefix}transformer.resblocks.{i}"
        h = F.layer_norm(x, x.shape[-1:], s[f"{b}.ln_1.weight"], s[f"{b}.ln_1.bias"])
        qkv = h @ s[f"{b}.attn.in_proj_weight"].T + s[f"{b}.attn.in_proj_bias"]
        h = attend(*qkv.chunk(3, 2), x.shape[-1] // 64, mask)
        x = x + h @ s[f"{b}.attn.out_proj.weight"].T + s[f"{b}.attn.out_proj.bias"]
        h = F.layer_norm(x, x.shape[-1:], s[f"{b}.ln_2.weight"], s[f"{b}.ln_2.bias"])
        h = h @ s[f"{b}.mlp.c_fc.weight"].T + s[f"{b}.mlp.c_fc.bias"]
        h = h / (1 + (-1.702 * h).exp())
        x = x + h @ s[f"{b}.mlp.c_proj.weight"].T + s[f"{b}.mlp.c_proj.bias"]
    return x


def tower(patch, blocks):
    torch.manual_seed(0)
    net = randomised(clip.Clip(clip.ClipConfig(patch=patch, blocks=blocks, text_blocks=2, **CONFIG)))
    return net, by_name(net)


def shifted(image):
    return torch.stack([(image[:, c] - clip.MEAN[c]) / clip.STD[c] for c in range(3)], 1)


def test_clip_transformer():
    net, s = tower(32, (2,))
    image = torch.rand(2, 3, 64, 64, dtype=torch.double)
    w = s["visual.conv1.weight"].flatten(1)
    corners = [(r, c) for r in (0, 32) for c in (0, 32)]
    patches = [shifted(image)[:, :, r : r + 32, c : c + 32].flatten(1) @ w.T for r, c in corners]
    x = torch.stack([s["visual.class_embedding"].expand(2, -1), *patches], 1)
    x = x + s["visual.positional_embedding"]
    x = F.layer_norm(x, (64,), s["visual.ln_pre.weight"], s["visual.ln_pre.bias"])
    x = transformer(s, "visual.", x, 2)[:, 0]
    x = F.layer_norm(x, (64,), s["visual.ln_post.weight"], s["visual.ln_post.bias"]) @ s["visual.proj"]
    torch.testing.assert_close(net.embed_image(image), x)


def test_clip_resnet():
    net, s = tower(0, (1, 2, 1, 1))
    image = torch.rand(2, 3, 64, 64, dtype=torch.double)
    x = shifted(image)
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = norm(s, f"visual.bn{i}", F.conv2d(x, s[f"visual.conv{i}.weight"], None, stride, 1)).relu()
    x = F.avg_pool2d(x, 2)
    for stage, count in enumerate((1, 2, 1, 1), 1):
        for i in range(count):
            b, half = f"visual.layer{stage}.{i}", stage > 1 and i == 0
            h = norm(s, f"{b}.bn1", F.conv2d(x, s[f"{b}.conv1.weight"])).relu()
            h = norm(s, f"{b}.bn2", F.conv2d(h, s[f"{b}.conv2.weight"], padding=1)).relu()
            h = F.avg_pool2d(h, 2) if half else h
            h = norm(s, f"{b}.bn3", F.conv2d(h, s[f"{b}.conv3.weight"]))
            if i == 0:
                x = F.avg_pool2d(x, 2) if half else x
                x = norm(s, f"{b}.downsample.1", F.conv2d(x, s[f"{b}.downsample.0.weight"]))
            x = (x + h).relu()
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([x.mean(1, keepdim=True), x], 1) + s["visual.attnpool.positional_embedding"]
    names = [f"visual.attnpool.{n}_proj" for n in "qkv"]
    q, k, v = (x @ s[f"{n}.weight"].T + s[f"{n}.bias"] for n in names)
    out = attend(q[:, :1], k, v, 64 * 32 // 64)[:, 0]
    out = out @ s["visual.attnpool.c_proj.weight"].T + s["visual.attnpool.c_proj.bias"]
    torch.testing.assert_close(net.embed_image(image), out)


def test_clip_texts_and_logits():
    net, s = tower(32, (1,))
    tokens = torch.tensor([[18, 4, 7, 19, 0, 0], [18, 5, 19, 0, 0, 0]])
    x = s["token_embedding.weight"][tokens] + s["positional_embedding"]
    mask = torch.tensor([[0.0 if j <= i else -math.inf for j in range(6)] for i in range(6)]).double()
    x = F.layer_norm(transformer(s, "", x, 2, mask), (128,), s["ln_final.weight"], s["ln_final.bias"])
    text = torch.stack([x[0, 3], x[1, 2]]) @ s["text_projection"]
    torch.testing.assert_close(net.embed_text(tokens), text)
    image = torch.rand(3, 3, 64, 64, dtype=torch.double)
    a, b = net.embed_image(image), text
    cosine = (a @ b.T) / a.norm(dim=1)[:, None] / b.norm(dim=1)
    torch.testing.assert_close(net(image, tokens), cosine * s["logit_scale"].exp())


def test_wrong_shapes_are_refused():
    net, _ = tower(32, (1,))
    with pytest.raises(ParameterError, match="an image"):
        net.embed_image(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ParameterError, match="tokens"):
        net.embed_text(torch.zeros(1, 77, dtype=torch.long))
    with torch.device("meta"), pytest.raises(ParameterError, match="images"):
        inception.FidInception()(torch.zeros(3, 64, 64))
