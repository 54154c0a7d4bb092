"""Colour and parsing label of every sample, from the triangle it shows (deferred shading, numba).

Labels follow the painted regions (`FaceModel.region`), interpolated over the triangle so that their
borders cut through it smoothly; colours use the same fields, so a lip's colour ends where its label
does.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

LABELS = (
    "background", "skin", "brow_L", "brow_R", "eye_L", "eye_R", "nose", "upper_lip", "inner_mouth",
    "lower_lip", "neck", "hair", "ear_L", "ear_R",
)  # fmt: skip
"""The finer classes, sides the subject's."""

HELEN = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 10, 0, 0], np.uint8)
"""Fine class to Helen's eleven: background, skin, brows, eyes, nose, lips, inner mouth, hair."""

HELEN_NAMES = (
    "background", "skin", "brow_L", "brow_R", "eye_L", "eye_R", "nose", "upper_lip", "inner_mouth",
    "lower_lip", "hair",
)  # fmt: skip

HELEN_MIRROR = np.array([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10], np.uint8)
"""Class after a horizontal flip."""

# Kinds of surface, by geometry of the rig.
FACE, HEAD, SOCKET, EYE_SOCKET_L, EYE_SOCKET_R, GUMS, TEETH, BALL_L, BALL_R = range(9)
KIND_OF = {
    "face": FACE, "head_neck": HEAD, "mouth_socket": SOCKET, "eye_socket_L": EYE_SOCKET_L,
    "eye_socket_R": EYE_SOCKET_R, "gums_tongue": GUMS, "teeth": TEETH, "sclera_L": BALL_L, "sclera_R": BALL_R,
}  # fmt: skip


@nb.njit(cache=True, fastmath=True, nogil=True, inline="always")
def _ramp(x: float, width: float) -> float:
    """0 below -width, 1 above +width."""
    t = 0.5 + 0.5 * x / width
    return min(1.0, max(0.0, t))


@nb.njit(cache=True, fastmath=True, nogil=True)
def _texel(image: NDArray[np.generic], x: float, y: float, out: F32) -> None:
    """Bilinear look-up, clamped to the border."""
    height, width = image.shape[0], image.shape[1]
    x = min(max(x, 0.0), width - 1.001)
    y = min(max(y, 0.0), height - 1.001)
    i, j = int(y), int(x)
    fy, fx = y - i, x - j
    for c in range(3):
        top = image[i, j, c] * (1 - fx) + image[i, j + 1, c] * fx
        low = image[i + 1, j, c] * (1 - fx) + image[i + 1, j + 1, c] * fx
        out[c] = top * (1 - fy) + low * fy


@nb.njit(cache=True, fastmath=True, nogil=True)
def shade(
    index: I32, bary: F32, triangles: I32, kind: NDArray[np.uint8],
    position: F32, normal: F32, region: F32, brow: F32, eye_radius: F32, uv: F32, rim: F32, tint: F32,
    crease: F32, photo: NDArray[np.uint8], gain: F32, coords: F32, visible: F32, noise: F32,
    palette: F32, scalars: F32, ambient: F32, directions: F32, lamps: F32, shadow_map: F32, shadow_frame: F32,
) -> tuple[F32, NDArray[np.uint8]]:  # fmt: skip
    """`(S, S, 3)` colour and `(S, S)` fine label of every sample of a visibility pass.

    `photo` `(h, w, 3)` uint8 times `gain` `(3,)` is a real skin's colour. `palette` rows: skin, lip,
    brow, hair, iris, sclera, teeth, mouth, pupil. `scalars`: brow density, brow shift, hair shift,
    lash, noise, pupil, specular, gloss, shadow, real skin (0/1), real eyes (0/1), beard, depth of the
    lips (z), light inside the mouth. `shadow_frame` `(4, 3)`: right, up, forward of the first lamp and
    (offset x, offset y, samples per cm) of its `shadow_map`.
    """
    size = index.shape[0]
    color = np.zeros((size, size, 3), np.float32)
    label = np.zeros((size, size), np.uint8)
    density, brow_shift, hair_shift, lash = scalars[0], scalars[1], scalars[2], scalars[3]
    grain, pupil, specular, gloss, shade_share = scalars[4], scalars[5], scalars[6], scalars[7], scalars[8]
    real, real_eyes, beard, lips_z = scalars[9], scalars[10], scalars[11], scalars[12]
    n_map = noise.shape[0]
    texel, speck, albedo = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    field_ = np.zeros(region.shape[1], np.float32)
    nv, pv = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for y in range(size):
        for x in range(size):
            t = index[y, x]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            v, w = bary[y, x, 0], bary[y, x, 1]
            u = 1 - v - w
            g = kind[t]
            for k in range(3):
                nv[k] = u * normal[a, k] + v * normal[b, k] + w * normal[c, k]
                pv[k] = u * position[a, k] + v * position[b, k] + w * position[c, k]
            length = np.sqrt(nv[0] ** 2 + nv[1] ** 2 + nv[2] ** 2) + 1e-9
            nv /= length
            tx = u * uv[a, 0] + v * uv[b, 0] + w * uv[c, 0]
            ty = u * uv[a, 1] + v * uv[b, 1] + w * uv[c, 1]
            sx = (tx * 3.0 * n_map) % (n_map - 2)
            sy = (ty * 3.0 * n_map) % (n_map - 2)
            _texel(noise, sx, sy, speck)
            occlusion, shine = 1.0, specular
            if g == FACE or g == HEAD:
                for k in range(field_.shape[0]):
                    field_[k] = u * region[a, k] + v * region[b, k] + w * region[c, k]
                name = 1
                if field_[8] > 0:
                    name = 10
                hair = field_[9] + hair_shift
                if hair + 0.25 * speck[0] > 0:
                    name = 11
                if field_[6] > 0:
                    name = 12
                if field_[7] > 0:
                    name = 13
                if field_[2] > 0:
                    name = 6
                brow_l = field_[0] + brow_shift
                brow_r = field_[1] + brow_shift
                if brow_l > 0:
                    name = 2
                if brow_r > 0:
                    name = 3
                lips = max(field_[3], field_[4])
                if lips > 0:
                    name = 7 if field_[3] > field_[4] else 9
                if field_[5] > 0:
                    name = 8
                label[y, x] = name
                share = 0.0
                if real > 0.5 and name != 8 and name != 11:
                    share = u * visible[a] + v * visible[b] + w * visible[c]
                if share < 1.0:
                    for k in range(3):
                        albedo[k] = palette[0, k] * (u * tint[a, k] + v * tint[b, k] + w * tint[c, k])
                        albedo[k] *= 1 + grain * (0.8 * speck[0] + 0.3 * speck[k])
                    stubble = (
                        beard * (u * tint[a, 3] + v * tint[b, 3] + w * tint[c, 3]) * (0.7 + 0.6 * speck[1])
                    )
                    blend(albedo, palette[3], min(0.92, max(0.0, stubble)))
                    if lips > -0.1:
                        blend(albedo, palette[1], _ramp(lips, 0.06))
                    side = 0 if brow_l > brow_r else 1
                    inside = max(brow_l, brow_r)
                    if inside > -0.1:
                        along = u * brow[a, 0, side] + v * brow[b, 0, side] + w * brow[c, 0, side]
                        across = u * brow[a, 1, side] + v * brow[b, 1, side] + w * brow[c, 1, side]
                        stroke = 0.75 + 0.35 * np.sin(along * 70 + across * 9 + 3 * speck[2])
                        blend(albedo, palette[2], min(1.0, _ramp(inside, 0.07) * density * stroke))
                    if hair > -0.2 and name == 11:
                        for k in range(3):
                            albedo[k] = palette[3, k] * (1 + 0.5 * speck[0])
                        shine = 0.6 * specular
                    near = u * rim[a] + v * rim[b] + w * rim[c]
                    if near < 0.16:
                        dark = lash * (1 - near / 0.16)
                        for k in range(3):
                            albedo[k] *= 1 - 0.85 * dark
                if share > 0:
                    _texel(photo, u * coords[a, 0] + v * coords[b, 0] + w * coords[c, 0],
                           u * coords[a, 1] + v * coords[b, 1] + w * coords[c, 1], texel)  # fmt: skip
                    for k in range(3):
                        texel[k] *= gain[k]
                    blend(albedo, texel, share)
                fold = u * crease[a] + v * crease[b] + w * crease[c]
                if fold > 0:
                    for k in range(3):
                        albedo[k] *= 1 - min(0.6, fold)
                if name == 8:
                    for k in range(3):
                        albedo[k] = palette[7, k] * 0.6
            elif g == BALL_L or g == BALL_R:
                label[y, x] = 4 if g == BALL_L else 5
                radius = u * eye_radius[a] + v * eye_radius[b] + w * eye_radius[c]
                for k in range(3):
                    albedo[k] = palette[5, k]
                # the limbus is a dark ring; the pupil black
                blend(albedo, palette[4], _ramp(0.125 - radius, 0.008))
                ring = max(0.0, 1 - abs(radius - 0.118) / 0.015)
                for k in range(3):
                    albedo[k] *= (1 - 0.5 * ring) * (1 + 0.25 * speck[k] * grain)
                blend(albedo, palette[8], _ramp(pupil - radius, 0.006))
                if real_eyes > 0.5:
                    _texel(photo, u * coords[a, 0] + v * coords[b, 0] + w * coords[c, 0],
                           u * coords[a, 1] + v * coords[b, 1] + w * coords[c, 1], texel)  # fmt: skip
                    for k in range(3):
                        texel[k] *= gain[k]
                    blend(albedo, texel, 1.0)
                else:
                    shine = 0.6
                    occlusion = 0.85
            elif g == EYE_SOCKET_L or g == EYE_SOCKET_R:
                label[y, x] = 4 if g == EYE_SOCKET_L else 5
                for k in range(3):
                    albedo[k] = palette[0, k] * 0.55
                albedo[0] *= 1.2
            else:
                label[y, x] = 8
                row = 6 if g == TEETH else 7
                deep = max(0.0, lips_z - pv[2] - 0.6)
                # little light gets in between lips that are nearly closed
                occlusion = max(0.08, 1 - (0.22 if g == TEETH else 0.38) * deep) * scalars[13]
                for k in range(3):
                    albedo[k] = palette[row, k]
                if g == GUMS:
                    for k in range(3):
                        albedo[k] = min(1.0, albedo[k] * 1.5 + 0.08)
            lit = 1.0
            if shade_share > 0:
                mx = pv[0] * shadow_frame[0, 0] + pv[1] * shadow_frame[0, 1] + pv[2] * shadow_frame[0, 2]
                my = pv[0] * shadow_frame[1, 0] + pv[1] * shadow_frame[1, 1] + pv[2] * shadow_frame[1, 2]
                mz = pv[0] * shadow_frame[2, 0] + pv[1] * shadow_frame[2, 1] + pv[2] * shadow_frame[2, 2]
                i = int((shadow_frame[3, 1] - my) * shadow_frame[3, 2] + 0.5)
                j = int((mx - shadow_frame[3, 0]) * shadow_frame[3, 2] + 0.5)
                hit, seen = 0, 0
                for di in range(-1, 2):
                    for dj in range(-1, 2):
                        if 0 <= i + di < shadow_map.shape[0] and 0 <= j + dj < shadow_map.shape[1]:
                            seen += 1
                            if shadow_map[i + di, j + dj] > mz + 0.5:
                                hit += 1
                if seen > 0:
                    lit = 1 - shade_share * hit / seen
            for k in range(3):
                color[y, x, k] = albedo[k] * ambient[k]
            for lamp in range(directions.shape[0]):
                d = directions[lamp]
                cosine = nv[0] * d[0] + nv[1] * d[1] + nv[2] * d[2]
                # skin scatters light round the terminator: a wrapped cosine
                diffuse = max(0.0, (cosine + 0.25) / 1.25)
                hz = np.sqrt(d[0] ** 2 + d[1] ** 2 + (d[2] + 1) ** 2) + 1e-6
                half = max(0.0, (nv[0] * d[0] + nv[1] * d[1] + nv[2] * (d[2] + 1)) / hz)
                glint = shine * half**gloss
                through = lit if lamp == 0 else 1.0
                for k in range(3):
                    color[y, x, k] += through * lamps[lamp, k] * (albedo[k] * diffuse + glint)
            for k in range(3):
                color[y, x, k] *= occlusion
    return color, label


@nb.njit(cache=True, fastmath=True, nogil=True, inline="always")
def blend(albedo: F32, other: F32, share: float) -> None:
    for k in range(3):
        albedo[k] += share * (other[k] - albedo[k])


@nb.njit(cache=True, nogil=True)
def downsample(
    color: F32, label: NDArray[np.uint8], backdrop: F32, factor: int
) -> tuple[F32, NDArray[np.uint8]]:
    """Mean colour over the backdrop and the commonest label of each block of samples."""
    size = color.shape[0] // factor
    image = np.zeros((size, size, 3), np.float32)
    out = np.zeros((size, size), np.uint8)
    votes = np.zeros(16, np.int32)
    for y in range(size):
        for x in range(size):
            votes[:] = 0
            for i in range(factor):
                for j in range(factor):
                    name = label[y * factor + i, x * factor + j]
                    votes[name] += 1
                    for k in range(3):
                        if name > 0:
                            image[y, x, k] += color[y * factor + i, x * factor + j, k]
                        else:
                            image[y, x, k] += backdrop[y, x, k]
            for k in range(3):
                image[y, x, k] = min(1.0, max(0.0, image[y, x, k] / (factor * factor)))
            out[y, x] = np.argmax(votes)
    return image, out
