"""GAN editing: what changes in a generator's picture of the face is done to the photo.

    photo ─ frame ─► square ─ encoder ─► w ─ editor ─► w' ─ G ─► G(w') - G(w) ─► added to the photo's pixels

A generator doesn't hold every face, so its picture never replaces the photo: the photo keeps what G lacks,
r = photo - G(w). Where forms change, r belongs to what is no longer there (the lips that were where now are
teeth) and would shine through; there only its broad part B(r), the colour of light and skin, stays:

    result = photo + m (G(w') - G(w) - a (r - B(r)))

with a from 0 (no form changes) to 1, and m from 0 (outside of the head) to 1. Hence what isn't edited
is the photo's own, bit for bit.

Convention: pictures of the generator are in [-1, 1]; points (x, y) pixels of the photo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceunits import aus
from faceunits.alignment import warp
from faceunits.gan import frame
from faceunits.gan.files import Networks
from faceunits.motion import draw, face, inside
from faceunits.networks.encoders import pooled

if TYPE_CHECKING:
    from torch import Tensor

    from faceunits.motion.engine import Stage

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

LEVELS = 127.5
"""Grey levels of a photo in one unit of the generator."""
QUIET, LOUD = 3.0, 9.0
"""Grey levels: changes up to the first keep the photo's detail, from the second on none of it. Least error
with pictures of 128 px in place of G's, before and after an edit that moved the photo's own pixels."""
NEAR_CM = 0.15
"""A change is judged by its mean within about this distance, less what is as broad as light."""
BROAD_CM = 0.8
"""The photo keeps its own colours in so far as they differ from the generator's over more than this."""
RIM_CM = 1.0
"""Within this distance of the head's outline the change sets in."""
BORDER = 0.06
"""And within this share of the square's side from its border."""


@dataclass(frozen=True)
class Scene:
    """A face of a photo in the latent space of a generator.

    `matrix` `(2, 3)` from the photo to the generator's picture; `w` `(1, L, D)` its latent; `shown`
    `(1, 3, S, S)` G(w); `corner` x, y of the first pixel that `mask` `(h, w)` is about, m above;
    `pixels_per_cm` of the generator's picture, at the face.
    """

    networks: Networks
    matrix: F64
    w: Tensor
    shown: Tensor
    corner: tuple[int, int]
    mask: F32
    pixels_per_cm: float

    def draw(self, picture: U8, code: Tensor, *, share: float = 1.0) -> U8:
        """A photo in which the face shows another label code.

        Args:
            picture: `(H, W, C)` uint8, the photo, or as edits of other faces left it; channels beyond the
                third stay.
            code: `(1, E, m)` of `labels.code`.
            share: of the way from the present code to this one.
        """
        import torch

        nets = self.networks
        with torch.inference_mode():
            aim = nets.editor.between(self.w, code, share)
            target = nets.editor(self.w, aim).target
            if self.mask.size == 0 or torch.equal(target, self.w):
                return picture.copy()
            return self._onto(picture, nets.generator(target).clamp(-1, 1))

    def _onto(self, picture: U8, new: Tensor) -> U8:
        """`picture` with the face of `new` `(1, 3, S, S)`."""
        import torch

        rgb, nets = np.ascontiguousarray(picture[..., :3]), self.networks
        seen = frame.crop(rgb, self.matrix, nets.size, alignment=nets.alignment)
        photo = torch.from_numpy(seen)[None].to(new) * 2 - 1
        change = LEVELS * (new - self.shown)
        matched = LEVELS * (self.shown + broad(photo - self.shown, BROAD_CM * self.pixels_per_cm) + 1)
        sharp = change - broad(change, BROAD_CM * self.pixels_per_cm)
        far = broad(sharp.abs().amax(1, keepdim=True), NEAR_CM * self.pixels_per_cm)
        fade = smooth((far - QUIET) / (LOUD - QUIET))
        (x0, y0), (height, width) = self.corner, self.mask.shape
        drawn = carry(torch.cat([change, matched, fade], 1), self.matrix, (x0, y0, width, height))
        part = rgb[y0 : y0 + height, x0 : x0 + width].astype(np.float32)
        ghost = np.clip(drawn[..., 6:], 0, 1) * (part - drawn[..., 3:6])
        mixed = part + self.mask[..., None] * (drawn[..., :3] - ghost)
        out = picture.copy()
        out[y0 : y0 + height, x0 : x0 + width, :3] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
        return out


def scene(rgb: U8, stage: Stage, points: NDArray[np.floating], landmarks: F64, networks: Networks) -> Scene:
    """A face of a photo made ready for editing.

    Args:
        rgb: `(H, W, 3)` uint8.
        stage: the mesh upon the same face: it knows where the head is.
        points: `(5, 2)` of the detected face, pixels of the photo.
        landmarks: `(68, 2)` of the same face, pixels of the photo.
        networks: of `files.load`.

    Raises:
        AlignmentError: landmarks that coincide or are not finite, for the framing `ffhq`.
    """
    import torch

    size, encoder = networks.size, networks.encoder
    matrix = frame.matrix(networks.alignment, points, landmarks, size)
    seen = frame.crop(rgb, matrix, size, alignment=networks.alignment)
    with torch.inference_mode():
        picture = torch.from_numpy(seen)[None].to(networks.device) * 2 - 1
        w = encoder(pooled(picture, encoder.config.size))
        shown = networks.generator(w).clamp(-1, 1)
    corner, soft = mask(stage, matrix, size)
    return Scene(networks, matrix, w, shown, corner, soft, stage.pixels_per_cm * float(warp.scale(matrix)))


def mask(stage: Stage, matrix: F64, size: int) -> tuple[tuple[int, int], F32]:
    """Where the photo may change: x, y of the first pixel, and `(h, w)` from 0 to 1 within the head.

    0 outside the face and where its chin may go, at their outline, and at the border of the generator's
    square.
    """
    x0, y0, side = stage.square
    n = draw.SAMPLES
    wide = stage.laid.y.copy()
    wide[2 + aus.profile().index("AU26")] = 1
    # a rim lower, where the chin may go, so that it is not faint there
    lower = stage.back[:, 1] / np.linalg.norm(stage.back[:, 1]) * RIM_CM * stage.pixels_per_cm
    cover = inside.openings(stage)
    for shape, shift in ((stage.laid.shape, 0 * lower), (face.reshape(stage.laid, wide), lower)):
        points, depth = stage.photo_points(shape) + shift, stage.depth(shape)
        cover |= draw.visible(points, depth, stage.triangles[: stage.firm], (x0, y0), side)[0] >= 0
    cover &= stage.covered
    whole = _closed(np.asarray(cover.reshape(side, n, side, n).any((1, 3)), np.bool_))
    blurred = draw.blur(whole, RIM_CM * stage.pixels_per_cm / 2)
    soft = np.clip(2 * blurred - 1, 0, 1) * whole  # a half is the outline
    left, top = max(x0, 0), max(y0, 0)
    right, bottom = min(x0 + side, stage.picture.shape[1]), min(y0 + side, stage.picture.shape[0])
    if right <= left or bottom <= top:
        return (0, 0), np.zeros((0, 0), np.float32)
    soft = soft[top - y0 : bottom - y0, left - x0 : right - x0]
    at = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), -1)
    place = (warp.apply(matrix, at) + 0.5) / size
    border = face.smooth(np.minimum(place, 1 - place).min(-1) / BORDER)
    return (left, top), np.asarray(face.smooth(soft) * border, np.float32)


def _closed(cover: NDArray[np.bool_]) -> F32:
    """The same without slits, such as those along the lids' rims, and a pixel narrower at the outline."""
    from PIL import Image, ImageFilter

    plane = Image.fromarray(cover.astype(np.uint8))
    return np.asarray(plane.filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.MinFilter(7)), np.float32)


def carry(image: Tensor, matrix: F64, box: tuple[int, int, int, int]) -> F32:
    """Part of the photo `(h, w, C)` with the values of a picture of the generator.

    Cubic between its pixels, which are averaged first where the photo's are larger.

    Args:
        image: `(1, C, S, S)`.
        matrix: `(2, 3)` from the photo to that picture.
        box: x, y, width and height of the part.
    """
    import torch
    from torch.nn import functional as F

    x0, y0, width, height = box
    size = image.shape[-1]
    factor = 2 ** max(0, int(math.log2(max(float(warp.scale(matrix)), 1.0))))
    image = F.avg_pool2d(image, factor)
    there = frame.resized(matrix, size, size // factor)
    # the middle of the pixels is their place: no corner on the border
    there[:, 2] += 0.5
    there *= 2 * factor / size
    columns, rows = np.arange(x0, x0 + width), np.arange(y0, y0 + height)
    x = there[0, 0] * columns[None, :] + there[0, 1] * rows[:, None] + there[0, 2] - 1
    y = there[1, 0] * columns[None, :] + there[1, 1] * rows[:, None] + there[1, 2] - 1
    grid = torch.from_numpy(np.stack([x, y], -1).astype(np.float32))[None].to(image.device)
    out = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return np.ascontiguousarray(out[0].permute(1, 2, 0).cpu().numpy())


def broad(image: Tensor, radius: float) -> Tensor:
    """`(1, C, S, S)` Gaussian blur, radius in pixels, of a smaller copy if that is wide; borders repeat."""
    import torch
    from torch.nn import functional as F

    factor = 2 ** max(0, int(math.log2(max(radius / 3, 1.0))))
    small = F.avg_pool2d(image, factor) if factor > 1 else image
    radius = radius / factor
    reach = max(1, math.ceil(3 * radius))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=image.device) / max(radius, 1e-3)) ** 2)
    taps = (taps / taps.sum()).to(image.dtype)
    channels = image.shape[1]
    padded = F.pad(small, (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    out = F.conv2d(across, taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    if factor > 1:
        out = F.interpolate(out, size=image.shape[-2:], mode="bilinear", align_corners=False)
    return out


def smooth(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, with level ends."""
    t = x.clamp(0, 1)
    return t * t * (3 - 2 * t)
