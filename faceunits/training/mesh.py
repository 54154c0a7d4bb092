"""Learns the mesh from faces of the rig: which points it has, and how they move (`networks.mesh`).

The points are those of the rig's face in front of the ears and above the neck, and what can be seen of its
teeth. Their movement is learned from random faces by least squares: places are linear in the weights of
identity and movements, and everything after that is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from faceunits import aus, weights
from faceunits.alignment import warp
from faceunits.errors import ConfigError
from faceunits.networks.mesh import GUMS_LOWER, GUMS_UPPER, SKIN, TEETH_LOWER, TEETH_UPPER, Mesh, MeshConfig
from faceunits.rig import sample, shape
from faceunits.rig.shape import FaceModel
from faceunits.training.shards import FIRST_TEST_SEED

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Ints = NDArray[np.int64]

TOP_CM = 7.2
"""The mesh ends this far above the eyes, at the hair line."""

FADE_CM = 3.0
"""Movement ends within this distance of the outline."""


@dataclass(frozen=True)
class MeshTraining:
    """Data and sizes."""

    rig: str = ""
    """Directory of the face model."""
    out: str = ""
    """Folder of `mesh.safetensors`."""
    profile: str = "default"
    """Action-unit profile."""
    n_identity: int = 60
    """Identity modes."""
    faces: int = 1200
    """Faces that teach; as many points as there are parameters would do, more even out."""
    test_faces: int = 400
    """Faces that test, of other seeds."""
    seed: int = 0
    """Of the faces that teach."""


@dataclass(frozen=True)
class Layout:
    """Vertices of the rig that are points of the mesh `(K,)`, and the tensors of `Mesh` that say how they
    belong together, in numbers of these points."""

    vertices: Ints
    parts: dict[str, NDArray[Any]] = field(default_factory=dict)


def train(config: MeshTraining) -> Mesh:
    """Chooses the points, learns their movement, and writes `mesh.safetensors` into the output folder."""
    if not config.rig or not config.out:
        raise ConfigError("expected the settings rig and out; name the face model and a folder to write to")
    model = shape.load(config.rig, n_identity=config.n_identity)
    layout = choose(model)
    net = learn(model, layout, config)
    errors = measure(net, model, layout, config)
    card = {"mean_error_px_of_128": errors["mean"], "p99_error_px_of_128": errors["p99"]}
    about = {**net.config.__dict__, "kind": "mesh", "profile": config.profile}
    Path(config.out).mkdir(parents=True, exist_ok=True)
    weights.save(Path(config.out) / "mesh.safetensors", weights.halved(net.state_dict()), about, card)
    print(f"{len(layout.vertices)} points; on {config.test_faces} unseen faces they err by "
          f"{errors['mean']:.4f} px of 128 (99 %: {errors['p99']:.4f})")  # fmt: skip
    return net


def learn(model: FaceModel, layout: Layout, config: MeshTraining) -> Mesh:
    """The mesh with its tensors solved from random faces of the rig."""
    profile = aus.profile(config.profile)
    drive = model.shape_weights(profile)
    used = np.flatnonzero(drive.any(0))
    names = [model.expression_names[i] for i in used]
    parts, count = layout.parts, len(layout.vertices)
    net = Mesh(MeshConfig(
        n_au=len(profile), n_identity=config.n_identity, shapes=len(used), points=count,
        triangles=len(parts["triangles"]), jaw=len(parts["jaw"]),
        lids=(len(parts["lid_L"]), len(parts["lid_R"])), lips=len(parts["lip"]),
    ))  # fmt: skip
    values = parts | {
        "mix": drive[:, used], "template": warp.TEMPLATE,
        "pivot": np.stack([model.eye_center.mean(0), shape.PIVOT]),
        "blink": [names.index("eyeBlink_L"), names.index("eyeBlink_R")],
    }  # fmt: skip
    for name, value in values.items():
        buffer = net.get_buffer(name)
        buffer.copy_(torch.from_numpy(np.asarray(value)).to(buffer.dtype))
    size = 1 + config.n_identity + len(used)
    gram, moment = 1e-6 * np.eye(size), np.zeros((size, 3 * count))
    for y, points in faces(model, layout, config, seed=config.seed, count=config.faces):
        rest = shape.identity_weights(model, y[2 + len(profile) :])
        base = shape.vertices(model, rest, np.zeros(drive.shape[1], np.float32))
        wide = shape.aperture(base, model.landmarks) / shape.aperture(model.neutral, model.landmarks)
        moving = np.clip(y[2 : 2 + len(profile)] @ drive[:, used], 0, 1)
        moving[values["blink"]] *= wide
        row = np.concatenate([[1.0], rest, moving])
        gram += np.outer(row, row)
        moment += np.outer(row, points)
    solved = torch.from_numpy(np.linalg.solve(gram, moment).reshape(size, count, 3)).float()
    with torch.no_grad():
        net.mean.copy_(solved[0])
        net.identity.copy_(solved[1 : 1 + config.n_identity])
        net.shape.copy_(solved[1 + config.n_identity :])
    # what is shipped is measured: large tensors are stored in half precision
    state = {k: v.to(net.state_dict()[k].dtype) for k, v in weights.halved(net.state_dict()).items()}
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def faces(
    model: FaceModel, layout: Layout, config: MeshTraining, *, seed: int, count: int
) -> Iterator[tuple[F32, F32]]:
    """Random parameters `(P,)` and the chosen points `(K, 3)` of the rig's face, cm, in the head's frame."""
    profile = aus.profile(config.profile)
    drive, rng = model.shape_weights(profile), np.random.default_rng(seed)
    for i in range(count):
        draw = (sample.natural, sample.dense, sample.uniform)[i % 3]
        face = draw(rng, profile, config.n_identity)
        pose = 0.5 + np.array([face.pitch_deg, face.yaw_deg]) / (2 * shape.POSE_RANGE_DEG)
        y = np.concatenate([pose, face.au, face.identity]).astype(np.float32)
        points = shape.vertices(model, shape.identity_weights(model, face.identity), face.au @ drive)
        yield y, points[layout.vertices]


def measure(net: Mesh, model: FaceModel, layout: Layout, config: MeshTraining) -> dict[str, float]:
    """Error of the points in the crop on faces of unseen parameters, pixels of 128: `mean` and `p99`."""
    found, seed = [], FIRST_TEST_SEED + config.seed
    for y, points in faces(model, layout, config, seed=seed, count=config.test_faces):
        pitch, yaw = (y[:2] - 0.5) * 2 * shape.POSE_RANGE_DEG
        screen = shape.project(model, points, shape.rotation(float(pitch), float(yaw)))[:, :2]
        five = shape.five_points(screen[layout.parts["landmarks"]])
        truth = warp.apply(warp.similarity(five[None], 128)[0], screen)
        with torch.no_grad():
            got = net(torch.from_numpy(y)[None])[0][0].numpy() * 128 - 0.5
        found.append(np.linalg.norm(got - truth, axis=1))
    errors = np.concatenate(found)
    return {"mean": float(errors.mean()), "p99": float(np.percentile(errors, 99))}


def choose(model: FaceModel) -> Layout:
    """Points of the skin and the teeth, their triangles and borders."""
    rest = _apart(model)
    skin, parts = _skin(model, rest)
    inside, triangles, kinds = _teeth(model)
    vertices, count = np.concatenate([skin, inside]), len(skin)
    parts["triangles"] = np.concatenate([parts["triangles"], triangles + count])
    parts["kind"] = np.concatenate([np.full(count, SKIN), kinds])
    parts["fade"] = np.concatenate([parts["fade"], np.ones(len(inside))])
    parts["roll"] = np.concatenate([parts["roll"], count + np.arange(len(inside))])
    parts["rest"] = rest[vertices]
    for name in ("foot", "top"):
        parts[name] = np.concatenate([parts[name], np.full(len(inside), -1)])
    return Layout(vertices, parts)


def _apart(model: FaceModel) -> F32:
    """`(V, 3)` the mean face with lips and jaw apart, in which no two places of the skin touch."""
    value = np.zeros(len(model.expression_names), np.float32)
    for name, weight in (("jawOpen", 0.5), ("mouthUpperUp", 0.6), ("mouthLowerDown", 0.6), ("eyeWide", 0.5)):
        for i, own in enumerate(model.expression_names):
            if own.split("_")[0] == name:
                value[i] = weight
    return shape.vertices(model, np.zeros(1, np.float32), value)


LID_ROW, LID_END, LIP_ROW, LAST_ROW = 2, 13, 8, 4
"""Rows of vertices from the rim of the socket outwards: the lids' edge, the upper end of the upper lid, the
line where lips meet, and the last row inside the lips that is kept."""


def _skin(model: FaceModel, rest: F32) -> tuple[Ints, dict[str, NDArray[Any]]]:
    """Vertices of the face without ears, neck and scalp; what hides behind lids and lips is left out."""
    region = {n: model.region[:, i] for i, n in enumerate(model.region_names)}
    at, tri = model.neutral, model.triangles.astype(np.int64)
    keep = model.vert_geometry == model.geometry_names.index("face")
    keep &= (region["ear_L"] < -0.15) & (region["ear_R"] < -0.15) & (region["neck"] < 0.05)
    keep &= (at[:, 1] < model.eye_center[0, 1] + TOP_CM) & (at[:, 2] > 1.0)
    face = tri[model.tri_geometry == model.geometry_names.index("face")]
    loops, rows = {}, {}
    for name, other, last in (
        ("lid_L", "eye_socket_L", LID_ROW), ("lid_R", "eye_socket_R", LID_ROW),
        ("lip", "mouth_socket", LAST_ROW),
    ):  # fmt: skip
        socket = tri[model.tri_geometry == model.geometry_names.index(other)]
        row = _rows(face, np.intersect1d(face, socket), len(at))
        keep &= row >= last
        ring = np.flatnonzero(row == last)
        away = rest[ring] - rest[ring].mean(0)
        loops[name], rows[name] = ring[np.argsort(np.arctan2(away[:, 1], away[:, 0]))], row
    face = face[keep[face].all(1)]
    skin = np.unique(face)
    number = np.full(len(at), -1)
    number[skin] = np.arange(len(skin))
    parts: dict[str, NDArray[Any]] = {k: number[v] for k, v in loops.items()}
    jaw, fade = _outline(at[skin], number[face], list(parts.values()), region["neck"][skin])
    parts |= {"triangles": number[face], "jaw": jaw, "fade": fade, "landmarks": number[model.landmarks]}
    parts["roll"] = _roll(model.uv[skin], rows["lip"][skin])
    parts["foot"], parts["top"] = np.full(len(skin), -1), np.full(len(skin), -1)
    for name in ("lid_L", "lid_R"):
        _columns(at[skin], rows[name][skin], parts["foot"], parts["top"])
    return skin, parts


def _rows(triangles: Ints, rim: Ints, count: int) -> Ints:
    """`(V,)` how many edges a vertex is away from the rim, at most 20."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    row = np.full(count, 20)
    row[rim] = 0
    for k in range(19):
        near = edges[(row[edges] == k).any(1)].ravel()
        row[near[row[near] > k + 1]] = k + 1
    return row


def _outline(at: F32, triangles: Ints, loops: list[Ints], neck: F32) -> tuple[Ints, F64]:
    """The border along the jaw from the subject's right to left, and 0 at the other border .. 1 inside."""
    edges = np.concatenate([triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    edges, times = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    border = np.setdiff1d(edges[times == 1].ravel(), np.concatenate(loops))
    low = (neck[border] > -1.0) & (at[border, 1] < at[:, 1].mean())
    jaw, other = border[low], border[~low]
    jaw = jaw[np.argsort(np.arctan2(at[jaw, 0], -at[jaw, 1]))]  # by angle about the middle of the face
    gap = cKDTree(at[other]).query(at)[0]
    share = np.clip(gap / FADE_CM, 0, 1)
    return jaw, share * share * (3 - 2 * share)


def _roll(uv: F32, row: Ints) -> Ints:
    """For points of the lips' inside the point as far outside the line where they meet; else themselves."""
    out = np.arange(len(uv))
    around = uv - uv[row == LAST_ROW].mean(0)
    angle = np.arctan2(around[:, 1], around[:, 0])
    for v in np.flatnonzero(row < LIP_ROW):
        outer = np.flatnonzero(row == 2 * LIP_ROW - row[v])
        apart = np.abs((angle[outer] - angle[v] + np.pi) % (2 * np.pi) - np.pi)
        out[v] = outer[np.argmin(apart)]
    return out


def _columns(at: F32, row: Ints, foot: Ints, top: Ints) -> None:
    """Fills in, for the points of one upper lid, the point of its edge below and the one at its upper end."""
    edge, end = np.flatnonzero(row == LID_ROW), np.flatnonzero(row == LID_END)
    corners = at[edge[[at[edge, 0].argmin(), at[edge, 0].argmax()]]]
    middle = corners.mean(0)
    half = (corners[1, 0] - corners[0, 0]) / 2
    slope = (corners[1, 1] - corners[0, 1]) / (2 * half)

    def above(v: Ints) -> Any:
        return at[v, 1] - middle[1] - slope * (at[v, 0] - middle[0]) > 0

    edge = edge[above(edge) | np.isin(edge, edge[[at[edge, 0].argmin(), at[edge, 0].argmax()]])]
    end = end[above(end)]
    lid = np.flatnonzero((row >= LID_ROW) & (row < LID_END))
    lid = lid[above(lid) & (np.abs(at[lid, 0] - middle[0]) < 1.1 * half)]

    def nearest(v: Ints, among: Ints) -> Any:
        return among[np.argmin(np.abs(at[among, 0][None] - at[v, 0][:, None]), 1)]

    foot[lid], top[lid] = nearest(lid, edge), nearest(lid, end)
    foot[edge], top[edge] = edge, nearest(edge, end)


def _teeth(model: FaceModel) -> tuple[Ints, Ints, Ints]:
    """Vertices of the teeth and gums that can be seen from the front, triangles over them, and kinds."""
    names = model.geometry_names
    at, tri = model.neutral, model.triangles.astype(np.int64)
    a, b, c = (at[tri[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    middle = (a + b + c) / 3
    lips = at[model.landmarks[[62, 66]]].mean(0)
    jaw = np.linalg.norm(model.expression[model.expression_names.index("jawOpen")], axis=1) > 0.3
    # outer faces of the teeth and the gums in front of them
    outward = normal[:, 2] + 0.6 * normal[:, 0] * np.sign(middle[:, 0])
    facing = outward > 0.25 * np.linalg.norm(normal, axis=1)
    teeth = (model.tri_geometry == names.index("teeth")) & facing & (middle[:, 2] > lips[2] - 4.0)
    gums = (model.tri_geometry == names.index("gums_tongue")) & facing & (middle[:, 2] > lips[2] - 2.6)
    keep = teeth | gums
    used = np.unique(tri[keep])
    number = np.full(len(at), -1)
    number[used] = np.arange(len(used))
    is_tooth = model.vert_geometry[used] == names.index("teeth")
    lower = jaw[used]
    teeth_kind, gums_kind = np.where(lower, TEETH_LOWER, TEETH_UPPER), np.where(lower, GUMS_LOWER, GUMS_UPPER)
    kinds = np.where(is_tooth, teeth_kind, gums_kind)
    return used, number[tri[keep]], kinds
