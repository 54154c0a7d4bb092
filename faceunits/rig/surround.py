"""What stands behind and before the rendered head, and what a camera does to the picture.

Backgrounds, long hair, fringes, glasses, hands; then blur, noise, compression and tone. All are
drawn at random for the varied look; labels follow where something hides the face.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from faceunits.rig.look import Look

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

BACKGROUND, HAIR = 0, 11


def backdrop(rng: np.random.Generator, size: int, look: Look, patches: U8 | None = None) -> F32:
    """`(S, S, 3)` picture behind the head: plain, gradient, shapes or a given `(P, h, w, 3)` patch,
    often with long hair in front of it."""
    kind = rng.random()
    if patches is not None and kind < 0.4:
        patch = patches[int(rng.integers(len(patches)))]
        picture = Image.fromarray(patch).resize((size, size), Image.Resampling.BILINEAR)
    else:
        corners = (
            rng.integers(0, 256, (2, 2, 3)) if kind < 0.7 else np.tile(rng.integers(0, 256, 3), (2, 2, 1))
        )
        picture = Image.fromarray(corners.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(0, 7))):
            x0, y0, x1, y1 = rng.uniform(-0.3, 1.3, 4) * size
            box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
            pen.rectangle(box, _color(rng)) if rng.random() < 0.5 else pen.ellipse(box, _color(rng))
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 3) * size / 128))
    if rng.random() < 0.55:
        _long_hair(rng, picture, look)
    out = np.asarray(picture, np.float32) / 255
    grain = rng.normal(0, rng.uniform(0, 0.04), (size, size, 1))
    return np.clip(out + grain, 0, 1).astype(np.float32)


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    r, g, b = rng.integers(0, 256, 3)
    return int(r), int(g), int(b)


def _shade(rng: np.random.Generator, color: F32, spread: float = 0.25) -> tuple[int, int, int]:
    r, g, b = np.clip(255 * color * rng.uniform(1 - spread, 1 + spread), 0, 255).astype(int)
    return int(r), int(g), int(b)


def _long_hair(rng: np.random.Generator, picture: Image.Image, look: Look) -> None:
    """A mass of strands around where the head will be."""
    size = picture.width
    pen = ImageDraw.Draw(picture)
    half, top, bottom = rng.uniform(0.36, 0.55), rng.uniform(-0.2, 0.0), rng.uniform(0.55, 1.3)
    pen.ellipse(((0.5 - half) * size, top * size, (0.5 + half) * size, bottom * size), _shade(rng, look.hair))
    for _ in range(60):
        x = 0.5 + rng.uniform(-half, half)
        sway = rng.normal(0, 0.08)
        pen.line((x * size, rng.uniform(0, 0.4) * size, (x + sway) * size, bottom * size),
                 _shade(rng, look.hair, 0.5), width=max(1, size // 64))  # fmt: skip


def cover(
    rng: np.random.Generator, image: F32, label: U8, landmarks: F32, look: Look, *, things: bool = True
) -> tuple[F32, U8]:
    """Fringe, glasses and things held before the face; hidden places get the label of what hides them.

    Args:
        rng: source of chance.
        image: `(S, S, 3)` in [0, 1].
        label: `(S, S)` fine classes.
        landmarks: `(68, 2)` crop pixels.
        look: for the colours of hair and hands.
        things: whether anything may be held before the face.
    """
    size = len(image)
    if rng.random() < 0.2:
        image, label = _paint(image, label, _fringe(rng, landmarks, look, size), HAIR)
    if rng.random() < 0.22:
        image, label = _glasses(rng, image, label, landmarks)
    if things and rng.random() < 0.12:
        image, label = _paint(image, label, _thing(rng, landmarks, look, size), BACKGROUND)
    return image, label


def _paint(image: F32, label: U8, layer: Image.Image, name: int) -> tuple[F32, U8]:
    over = np.asarray(layer, np.float32) / 255
    alpha = over[..., 3:]
    hidden = np.where(alpha[..., 0] > 0.5, name, label).astype(np.uint8)
    return (image * (1 - alpha) + over[..., :3] * alpha).astype(np.float32), hidden


def _fringe(rng: np.random.Generator, landmarks: F32, look: Look, size: int) -> Image.Image:
    """Strands from the top edge towards the brows, parted at random."""
    layer = Image.new("RGBA", (size, size))
    pen = ImageDraw.Draw(layer)
    left, right = landmarks[0, 0], landmarks[16, 0]
    brows = landmarks[17:27, 1].min()
    reach, part = rng.uniform(-0.12, 0.08) * size, rng.uniform(left, right)
    for _ in range(int(rng.integers(60, 200))):
        x = rng.uniform(left - 4, right + 4)
        end = brows + reach * (1 - 0.6 * np.exp(-((x - part) ** 2) / 200)) + rng.normal(0, 2)
        pen.line(
            (x + rng.normal(0, 6), -4, x, end), (*_shade(rng, look.hair, 0.4), 255), width=max(1, size // 42)
        )
    return layer.filter(ImageFilter.GaussianBlur(0.5))


def _glasses(rng: np.random.Generator, image: F32, label: U8, landmarks: F32) -> tuple[F32, U8]:
    size = len(image)
    layer, tint = Image.new("RGBA", (size, size)), Image.new("RGBA", (size, size))
    pen, lens = ImageDraw.Draw(layer), ImageDraw.Draw(tint)
    eyes = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    gap = float(np.linalg.norm(eyes[1] - eyes[0]))
    half_w, half_h = gap * rng.uniform(0.30, 0.43), gap * rng.uniform(0.2, 0.38)
    rim = (*_color(rng), int(rng.uniform(140, 256))) if rng.random() < 0.4 else (20, 18, 18, 240)
    width = max(1, round(rng.uniform(0.5, 3.2) * size / 128))
    opaque = rng.random() < 0.12
    alpha = int(rng.uniform(200, 256)) if opaque else int(rng.uniform(0, 60))
    glass = (*(_color(rng) if not opaque else (15, 15, 20)), alpha)
    square = rng.random() < 0.5
    for x, y in eyes:
        y += 0.05 * gap
        box = (x - half_w, y - half_h, x + half_w, y + half_h)
        if square:
            pen.rounded_rectangle(box, radius=half_h * 0.4, outline=rim, width=width)
            lens.rounded_rectangle(box, radius=half_h * 0.4, fill=glass)
        else:
            pen.ellipse(box, outline=rim, width=width)
            lens.ellipse(box, fill=glass)
        if rng.random() < 0.3:  # a window's reflection
            gx, gy = x + rng.uniform(-0.6, 0.3) * half_w, y + rng.uniform(-0.6, 0.2) * half_h
            lens.polygon([(gx, gy), (gx + half_w * 0.4, gy), (gx + half_w * 0.2, gy + half_h * 0.5)],
                         fill=(255, 255, 255, int(rng.uniform(30, 130))))  # fmt: skip
    (x0, y0), (x1, y1) = eyes
    pen.line((x0 + half_w, y0, x1 - half_w, y1), rim, width)
    pen.line((x0 - half_w, y0, landmarks[0, 0], landmarks[0, 1] - 0.1 * gap), rim, width)
    pen.line((x1 + half_w, y1, landmarks[16, 0], landmarks[16, 1] - 0.1 * gap), rim, width)
    kept = label
    image, hidden = _paint(image, label, tint.filter(ImageFilter.GaussianBlur(0.4)), BACKGROUND)
    image, _ = _paint(image, label, layer.filter(ImageFilter.GaussianBlur(0.4)), BACKGROUND)
    return image, hidden if opaque else kept  # behind clear lenses the eyes keep their labels


def _thing(rng: np.random.Generator, landmarks: F32, look: Look, size: int) -> Image.Image:
    """A hand (a few fingers in the skin's colour), a cup or a bar, from one side of the crop."""
    layer = Image.new("RGBA", (size, size))
    pen = ImageDraw.Draw(layer)
    target = landmarks[int(rng.integers(68))] + rng.normal(0, 0.05 * size, 2)
    side = rng.random() < 0.5
    color = look.skin * 0.9 if rng.random() < 0.6 else rng.random(3).astype(np.float32)
    width = int(size * rng.uniform(0.06, 0.16))
    start = np.array([-10 if side else size + 10, rng.uniform(0.5, 1.2) * size])
    for k in range(int(rng.integers(1, 5))):
        shift = np.array([0, 0.8 * width * k])
        end = target + shift + rng.normal(0, 0.03 * size, 2)
        fill = (*_shade(rng, color, 0.15), 255)
        pen.line((*(start + shift), *end), fill, width)
        pen.ellipse((end[0] - width / 2, end[1] - width / 2, end[0] + width / 2, end[1] + width / 2), fill)
    return layer.filter(ImageFilter.GaussianBlur(0.6 * size / 128))


def degrade(rng: np.random.Generator, image: F32) -> U8:
    """`(S, S, 3)` uint8 as a camera would give it: tone, blur, low resolution, noise, compression."""
    size = len(image)
    if rng.random() < 0.7:
        image = np.clip(image, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.22)))
        image = (image - 0.5) * rng.uniform(0.75, 1.25) + 0.5 + rng.uniform(-0.08, 0.08)
    if rng.random() < 0.12:
        grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
        image = image + rng.uniform(0.6, 1) * (grey[..., None] - image)
    picture = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    kind = rng.random()
    if kind < 0.35:
        picture = picture.filter(ImageFilter.GaussianBlur(abs(rng.normal(0, 0.9)) * size / 128))
    elif kind < 0.5:
        small = max(24, int(size * rng.uniform(0.3, 0.9)))
        picture = picture.resize((small, small), Image.Resampling.BOX).resize(
            (size, size), Image.Resampling.BICUBIC
        )
    elif kind < 0.6:
        picture = picture.filter(ImageFilter.UnsharpMask(2, int(rng.uniform(30, 150)), 0))
    if rng.random() < 0.5:
        noisy = np.asarray(picture, np.float32) + rng.normal(
            0, abs(rng.normal(0, 7)), (size, size, 1 if rng.random() < 0.5 else 3)
        )
        picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    if rng.random() < 0.35:
        store = io.BytesIO()
        picture.save(store, "JPEG", quality=int(rng.uniform(25, 95)))
        picture = Image.open(store)
    return np.asarray(picture.convert("RGB"))
