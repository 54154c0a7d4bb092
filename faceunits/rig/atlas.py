"""A portrait turned into an atlas that holds nothing but skin and two whole eyeballs.

What lies outside the face (background, ears, neck, hair) and the eye openings are filled with the
skin around them, so that no texture look-up near a border can bleed; below the photo stand two
square tiles with an eyeball each, completed where lids hide it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.draw import polygon2mask

from faceunits.rig.anchors import resample

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

TILE = 128
"""Side of an eyeball tile, px."""

TILE_RADIUS = 0.34
"""Half a tile in units of `FaceModel.eye_radius`; what is visible between wide lids."""

IRIS_RADIUS = 0.125
"""Radius of the iris in units of `FaceModel.eye_radius`."""

OUTLINE = (
    (111, 125, 126, 127, 128, 129, 130, 131, 132, 133, 114), (114, 188, 113, 187, 112),
    (112, 144, 143, 142, 141, 140, 139, 138, 137, 136, 135, 134, 109), (109, 185, 110, 186, 111),
)  # fmt: skip
EYES = (
    ((18, 19, 20, 21, 22), (22, 30, 29, 28, 18)),
    ((23, 24, 25, 26, 27), (27, 33, 32, 31, 23)),
)
"""Image left, image right: the subject's right eye first."""
IRIS_SIDES = ((4, 8), (12, 16))
BROWS = (((71, 72, 73, 74, 75, 76), (76, 84, 83, 71)), ((77, 78, 79, 80, 81, 82), (82, 86, 85, 77)))
LASH_PX = 8
"""Lashes reach this far above the upper lid's rim at 121 px between the eyes."""
BORDER_PX = 7
"""The outline is drawn on the last skin before hair or background; colours end this far inside it."""


def outline(points: F64, parts: tuple[tuple[int, ...], ...], shape: tuple[int, int]) -> Mask:
    """Pixels inside the closed curve of several smooth polylines of template points."""
    loop = np.concatenate([resample(points[list(p)], 60)[:-1] for p in parts])
    mask: Mask = polygon2mask(shape, loop[:, ::-1])  # type: ignore[no-untyped-call]
    return mask


def spread(image: F64, known: Mask) -> F64:
    """The image with unknown pixels filled from the known ones near them, the smoother the farther."""
    out, settled = np.where(known[..., None], image, 0.0), known.astype(np.float64)
    masked = np.concatenate([image * known[..., None], known[..., None]], -1)
    for sigma, step in ((2.0, 1), (5.0, 1), (12.0, 4), (30.0, 8), (80.0, 16)):
        blurred = _blur(masked, sigma, step)
        weight = blurred[..., -1]
        mean = blurred[..., :-1] / np.maximum(weight, 1e-9)[..., None]
        # a border has weight 1/2; below a tenth the mean is of few pixels and streaks
        share = (1 - settled) * np.clip(weight / 0.1, 0, 1)
        out += share[..., None] * mean
        settled += share
    return np.asarray(out + (1 - settled)[..., None] * image[known].mean(0))


def _blur(image: F64, sigma: float, step: int) -> F64:
    """Gaussian blur, wide ones at a `step`th of the resolution (a sixth of the time)."""
    height, width = image.shape[:2]
    small = image[: height // step * step, : width // step * step]
    small = small.reshape(height // step, step, width // step, step, -1).mean((1, 3))
    small = ndimage.gaussian_filter(small, (sigma / step, sigma / step, 0), truncate=3)
    if step == 1:
        return np.asarray(small)
    y, x = ((np.arange(n) + 0.5) / step - 0.5 for n in (height, width))
    grid = np.meshgrid(y, x, indexing="ij")
    return np.stack([ndimage.map_coordinates(small[..., c], grid, order=1, mode="nearest")
                     for c in range(small.shape[-1])], -1)  # fmt: skip


def skin_pixels(photo: U8, points: F64) -> Mask:
    """Pixels of the face that show it: not the eye openings, nor hair over forehead and temples.

    Hair is what is darker than the skin of the cheeks and far from it in colour; it is looked for
    above the brows and, down to the mouth, near the outline.
    """
    shape = photo.shape[:2]
    face = outline(points, OUTLINE, shape)
    inside = ndimage.distance_transform_edt(face)
    lab = ndimage.uniform_filter(rgb2lab(photo), (3, 3, 0))
    cheeks = np.zeros(shape, bool)
    for (x, y), side in zip(points[[61, 66]], (-25, 25), strict=True):
        cheeks[int(y) - 25 : int(y) + 10, int(x + side) - 14 : int(x + side) + 14] = True
    tone = np.median(lab[cheeks], 0)
    off = np.linalg.norm((lab - tone) * np.array([0.8, 1.5, 1.5]), axis=2)
    dark = (off > max(14.0, 0.5 * tone[0])) & (lab[..., 0] < tone[0] - 5)
    rows = np.arange(shape[0])[:, None]
    suspect = (inside < 45) & (rows < points[[87, 93], 1].mean())
    suspect |= rows < points[[73, 74, 79, 80], 1].min() - 8
    suspect &= ~_brows(points, shape, 6)
    hair = ndimage.binary_dilation(dark & suspect, iterations=3) & suspect
    for eye in EYES:
        face &= ~outline(points, eye, shape)
    return np.asarray(face & ~hair & (inside > BORDER_PX))


def _brows(points: F64, shape: tuple[int, int], margin: int) -> Mask:
    out = np.zeros(shape, bool)
    for brow in BROWS:
        out |= outline(points, brow, shape)
    return np.asarray(ndimage.binary_dilation(out, iterations=margin))


def _rims(points: F64, shape: tuple[int, int]) -> Mask:
    openings = outline(points, EYES[0], shape) | outline(points, EYES[1], shape)
    return np.asarray(ndimage.binary_dilation(openings, iterations=5))


def _lashes(points: F64, shape: tuple[int, int]) -> Mask:
    """Where lashes stand before the lids: above and below the openings, without the lids' rims.

    Stretched over a closing lid they would be stripes; the rims stay, as the dark line of the lashes.
    """
    out = np.zeros(shape, bool)
    for eye in EYES:
        opening = outline(points, eye, shape)
        around = ndimage.binary_dilation(opening, np.ones((1, 5)))
        for _ in range(LASH_PX):
            around[:-1] |= around[1:]
        for _ in range(LASH_PX // 2):
            around[1:] |= around[:-1]
        out |= around & ~ndimage.binary_dilation(opening, iterations=1)
    return out


def eyeball(photo: U8, points: F64, side: int) -> U8:
    """`(TILE, TILE, 3)` a whole eyeball, its pupil in the middle; `side` 0 is image left.

    Hidden parts of the iris come from its mirror image below, then from its mean at that radius;
    hidden white from the visible white.
    """
    opening = ndimage.binary_erosion(outline(points, EYES[side], photo.shape[:2]), iterations=2)
    a, b = points[list(IRIS_SIDES[side])]
    radius = np.linalg.norm(b - a) / 2
    middle = np.array([(a[0] + b[0]) / 2, points[side, 1]])
    axis = (np.arange(TILE) - (TILE - 1) / 2) / ((TILE - 1) / 2) * TILE_RADIUS
    dx, dy = np.meshgrid(axis, axis)
    distance = np.hypot(dx, dy)

    def read(sign: int) -> tuple[F64, Mask]:
        step = radius / IRIS_RADIUS
        at = np.stack([middle[1] + sign * dy * step, middle[0] + dx * step])
        planes = np.moveaxis(photo.astype(np.float64), -1, 0)
        color = np.stack([ndimage.map_coordinates(p, at, order=1, mode="nearest") for p in planes], -1)
        return color, ndimage.map_coordinates(opening.astype(np.float64), at, order=1) > 0.9

    color, known = read(1)
    mirrored, mirror_known = read(-1)
    iris = distance < 1.15 * IRIS_RADIUS
    use = iris & ~known & mirror_known
    color[use], known = mirrored[use], known | use
    rings = np.minimum((distance / 0.008).astype(int), 60)
    for ring in range(int(1.15 * IRIS_RADIUS / 0.008) + 1):
        here = rings == ring
        if (here & known).any():
            color[here & ~known] = np.median(color[here & known], 0)
        elif ring:
            color[here] = color[rings == ring - 1].mean(0)
    white = known & (distance > 1.2 * IRIS_RADIUS)
    if white.sum() > 20:
        filled = spread(color, white)
        share = np.clip((distance / IRIS_RADIUS - 1.05) / 0.15, 0, 1)
        share = np.where(known, 0.0, share)[..., None]
        color = color * (1 - share) + filled * share
    return np.clip(color + 0.5, 0, 255).astype(np.uint8)


def build(photo: U8, points: F64) -> U8:
    """`(H + TILE, W, 3)`: the photo with only skin, then the tiles of the image-left and -right eye."""
    shape = photo.shape[:2]
    keep = skin_pixels(photo, points) & ~(_lashes(points, shape) & ~_brows(points, shape, 1))
    # brows and the dark rims of the lids stay, but nothing is filled from them
    source = keep & ~_brows(points, shape, 3) & ~_rims(points, shape)
    filled = spread(photo.astype(np.float64), source)
    filled[keep] = photo[keep]
    out = np.zeros((shape[0] + TILE, *photo.shape[1:]), np.uint8)
    out[: shape[0]] = np.clip(filled + 0.5, 0, 255).astype(np.uint8)
    for side in range(2):
        out[shape[0] :, side * TILE : (side + 1) * TILE] = eyeball(photo, points, side)
    return out
