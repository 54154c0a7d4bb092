"""Parameters to a 3D face: the linear model of GE-Net eq. 1, with the pack's defects mended.

    X = neutral + sum_k id_k * identity_k + sum_j w_j * expression_j          (GE-Net, eq. 1)

Any linear model will do: a `FaceModel` is arrays, and every size is read from them. Axes: +x the
subject's left, +y up, +z out of the face, centimetres. Left and right are the subject's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceunits.aus import Profile
from faceunits.errors import ParameterError, RigError
from faceunits.rig import blend, muscles, upstream
from faceunits.rig.muscles import Muscles

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

POSE_RANGE_DEG = 28.6
"""Pitch and yaw of parameters 0 and 1 are minus and plus this (GE-Net, section 3.1)."""

POSE = slice(0, 2)
"""Columns of pitch and yaw in `parameters`; 0.5 faces the camera."""

IDENTITY_RANGE = 2.5
"""Identity parameters 0 and 1 are minus and plus this many standard deviations of a mode."""

EYEBALL_RECESS = 0.2
"""Eyeballs move back this far (cm) under a closed lid, or the cornea comes through it."""

LID_CM = 0.3
"""Height of the upper lid's crease above its rim."""

_UNUSED = ("lacrimal", "eye_blend", "eye_occlusion", "eyelashes", "iris")
"""Translucent cards without textures, and the iris mesh that the opaque sclera mesh covers."""


def parameters(shown: Mapping[str, NDArray[np.floating]]) -> F32:
    """`(n, P)` y in [0, 1]: pitch, yaw, action units, identity.

    Args:
        shown: of a shard, a drawn face or a reading: `pose_deg` `(n, 2)` degrees, `au` `(n, A)` and
            `identity` `(n, D)` in [0, 1].
    """
    pose = 0.5 + shown["pose_deg"] / (2 * POSE_RANGE_DEG)
    return np.concatenate([pose, shown["au"], shown["identity"]], 1).astype(np.float32)


@dataclass(frozen=True)
class FaceModel:
    """A linear face: `V` vertices, `N` identity modes, `E` expression shapes, `T` triangles.

    `neutral` `(V, 3)`; `identity` `(N, V, 3)` cm per standard deviation; `expression` `(E, V, 3)`
    named by `expression_names`; `triangles` `(T, 3)` counter-clockwise from outside, with their
    `tri_geometry` `(T,)` into `geometry_names`; `vert_geometry` `(V,)`; `landmarks` `(68,)` iBUG
    order; `mirror` `(V,)` left-right partner; `region` `(V, R)` signed distance (cm, > 0 inside) to
    the painted regions named by `region_names`; `brow` `(V, 2, 2)` along (0 inner .. 1 tail) and
    across (cm, + up) the left and right brow; `eye_radius` `(V,)` 0 at the pupil's centre; `uv`
    `(V, 2)`; `eye_center` `(2, 3)` of the left and the right eyeball.
    """

    neutral: F32
    identity: F32
    expression: F32
    expression_names: tuple[str, ...]
    triangles: I32
    tri_geometry: NDArray[np.uint8]
    vert_geometry: NDArray[np.uint8]
    geometry_names: tuple[str, ...]
    landmarks: I32
    mirror: I32
    region: F32
    region_names: tuple[str, ...]
    brow: F32
    eye_radius: F32
    uv: F32
    eye_center: F32

    @property
    def n_identity(self) -> int:
        return len(self.identity)

    def shape_weights(self, profile: Profile) -> F32:
        """`(A, E)` weights of the model's shapes for each parameter of a profile at 1.

        Raises:
            RigError: the model lacks a shape that the profile needs.
        """
        out = np.zeros((len(profile), len(self.expression_names)), np.float32)
        index = {n: i for i, n in enumerate(self.expression_names)}
        for a, parameter in enumerate(profile.parameters):
            for shape, weight in parameter.shapes:
                if shape not in index:
                    raise RigError(
                        f"the face model has no shape {shape!r}, which {parameter.name} needs; "
                        f"it has {', '.join(self.expression_names)}"
                    )
                out[a, index[shape]] = weight
        return out


def load(directory: str | Path, *, n_identity: int | None = None) -> FaceModel:
    """The face model of a directory: the packed `ict_facekit.npz`, or a folder of OBJ files.

    The packed file comes first when both are there; `upstream` tells what a folder must hold.

    Args:
        directory: where the model's file is.
        n_identity: keep only the first (largest) modes; all when None.

    Raises:
        RigError: nothing that can be read is there.
    """
    path = Path(directory) / "ict_facekit.npz"
    if not path.exists():
        if any(Path(directory).glob("*.obj")):
            return _from_pack(upstream.read(directory, n_identity=n_identity), n_identity)
        raise RigError(
            f"expected ict_facekit.npz or {upstream.NEUTRAL} in {directory}; name the face model's directory"
        )
    try:
        with np.load(path) as pack:
            return _from_pack({k: pack[k] for k in pack.files}, n_identity)
    except (OSError, ValueError, KeyError) as error:
        raise RigError(f"{path} is damaged or of another layout ({error}); fetch it again") from error


def _from_pack(pack: dict[str, NDArray[np.generic]], n_identity: int | None) -> FaceModel:
    names = tuple(str(n) for n in pack["geometry_name"])
    drawn = [i for i, n in enumerate(names) if not n.startswith(_UNUSED)]
    keep_tri = np.isin(pack["tri_geometry"], drawn)
    tri = pack["tri"][keep_tri].astype(np.int64)
    used = np.unique(np.concatenate([tri.ravel(), pack["landmark68"].astype(np.int64)]))
    renumber = np.full(len(pack["neutral"]), -1, np.int64)
    renumber[used] = np.arange(len(used))
    mirror = renumber[pack["mirror_vert"][used].astype(np.int64)]
    mirror = np.where(mirror < 0, np.arange(len(used)), mirror)

    def per_vertex(key: str) -> F32:
        out: F32 = pack[key][used].astype(np.float32)
        return out

    brow = np.full((len(pack["neutral"]), 2, 2), -9.0, np.float32)
    n_face = len(pack["brow_along"])
    brow[:n_face, :, 0] = pack["brow_along"].astype(np.float32)
    brow[:n_face, :, 1] = pack["brow_across"].astype(np.float32)
    return FaceModel(
        neutral=per_vertex("neutral"),
        identity=np.ascontiguousarray(pack["identity_delta"][:n_identity, used], np.float32),
        expression=np.ascontiguousarray(pack["expression_delta"][:, used], np.float32),
        expression_names=tuple(str(n) for n in pack["expression_name"]),
        triangles=renumber[tri].astype(np.int32),
        tri_geometry=pack["tri_geometry"][keep_tri].astype(np.uint8),
        vert_geometry=pack["vert_geometry"][used].astype(np.uint8),
        geometry_names=names,
        landmarks=renumber[pack["landmark68"].astype(np.int64)].astype(np.int32),
        mirror=mirror.astype(np.int32),
        region=per_vertex("region_field"),
        region_names=tuple(str(n) for n in pack["region_name"]),
        brow=brow[used],
        eye_radius=per_vertex("eye_radius"),
        uv=per_vertex("vert_uv"),
        eye_center=pack["eye_center"].astype(np.float32),
    )


def identity_weights(model: FaceModel, identity: F32) -> F32:
    """`(..., N)` standard deviations from identity parameters `(..., D <= N)` in [0, 1]."""
    if identity.shape[-1] > model.n_identity:
        raise ParameterError(
            f"expected at most {model.n_identity} identity parameters; got {identity.shape[-1]}"
        )
    return ((identity - 0.5) * (2 * IDENTITY_RANGE)).astype(np.float32)


def aperture(vertices: F32, landmarks: I32) -> F32:
    """`(2,)` height of the left and the right eye opening, cm: mean of the two lid pairs."""
    p = vertices[landmarks]
    pairs = (((43, 47), (44, 46)), ((37, 41), (38, 40)))
    gaps = [[np.linalg.norm(p[a] - p[b]) for a, b in eye] for eye in pairs]
    return np.array([np.mean(eye) for eye in gaps], np.float32)


def brow_ends(model: FaceModel) -> F32:
    """`(V, 2)` in [0, 1] how far each vertex goes along where the inner or the outer ends of the brows lie
    higher or lower: brows wholly, the forehead less and less above them, lids less and less down to their
    crease, and nothing of the eyes. Both sides alike."""
    x, y, z = np.abs(model.neutral[:, 0]), model.neutral[:, 1], model.neutral[:, 2]
    marks = model.neutral[model.landmarks]
    brow, lid = marks[22:27], marks[[42, 43, 44, 45]]  # of the left eye, in the order of x
    line = np.interp(x, brow[:, 0], brow[:, 1])
    crease = np.interp(x, lid[:, 0], lid[:, 1]) + LID_CM
    below = np.clip((y - crease) / (line - crease), 0, 1)  # linear: skin that is pushed down never folds over
    above = np.exp(-((np.maximum(y - line, 0) / 2.5) ** 2))
    beside = np.exp(-((np.maximum(x - brow[-1, 0], 0) / 1.2) ** 2))
    behind = np.exp(-((np.maximum(brow[-1, 2] - z, 0) / 1.5) ** 2))
    skin = np.isin(model.vert_geometry, [model.geometry_names.index(n) for n in ("face", "head_neck")])
    along = np.clip((x - brow[0, 0]) / (brow[-1, 0] - brow[0, 0]), 0, 1)
    moved = below * above * beside * behind * skin
    return np.stack([moved * (1 - along), moved * along], 1).astype(np.float32)


def built(model: FaceModel, identity: F32, muscles_: Muscles | None = None) -> F32:
    """`(V, 3)` the face before any muscle moves, cm; arguments as for `vertices`."""
    out = model.neutral.copy()
    blend.add(out, identity.astype(np.float32), model.identity)
    if muscles_ is not None:
        out += muscles.bent(muscles_, model.neutral)
    return out


def vertices(
    model: FaceModel, identity: F32, weights: F32, *, gaze_deg: tuple[float, float] = (0.0, 0.0),
    muscles_: Muscles | None = None, face: F32 | None = None,
) -> F32:  # fmt: skip
    """`(V, 3)` positions in cm.

    Args:
        model: the face model.
        identity: `(D,)` standard deviations, D <= N; the remaining modes are 0.
        weights: `(E,)` of the expression shapes, clipped to [0, 1]: two action units that share a
            shape must not overshoot it.
        gaze_deg: up and to the subject's left; turns the eyeballs, the lids follow the shapes.
        muscles_: how this person's muscles differ from the rig's; the rig's own when None.
        face: `built` of the same arguments, for callers that have it.

    Blink is scaled by how wide this identity's eyes are, and the eyeballs recede under the lids;
    without both, wide eyes stay open at full blink.
    """
    out = built(model, identity, muscles_) if face is None else face.copy()
    weights = np.clip(weights, 0, 1).astype(np.float32)
    gain = aperture(out, model.landmarks) / aperture(model.neutral, model.landmarks)
    blink = [model.expression_names.index("eyeBlink" + s) for s in ("_L", "_R")]
    closing = weights[blink]
    weights[blink] *= gain
    if muscles_ is not None:
        out += muscles.move(muscles_, model.expression, model.neutral, weights)
    else:
        blend.add(out, weights, model.expression)
    for side, name in enumerate(("sclera_L", "sclera_R")):
        ball = model.vert_geometry == model.geometry_names.index(name)
        center = model.eye_center[side] + (out[ball] - model.neutral[ball]).mean(0)
        turned = (out[ball] - center) @ rotation(-gaze_deg[0], gaze_deg[1]).T
        out[ball] = center + turned - np.array([0, 0, EYEBALL_RECESS * closing[side]], np.float32)
    return out.astype(np.float32)


def rotation(pitch_deg: float, yaw_deg: float, roll_deg: float = 0.0) -> F32:
    """`(3, 3)` head rotation, yaw after pitch: pitch + is nose down, yaw + is towards the subject's
    left (image right), roll + is clockwise in the image."""
    p, y, r = np.radians([pitch_deg, yaw_deg, roll_deg])
    rx = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(r), np.sin(r), 0], [-np.sin(r), np.cos(r), 0], [0, 0, 1]])
    out: F32 = (rz @ ry @ rx).astype(np.float32)
    return out


PIVOT = np.array([0.0, 0.0, -9.0], np.float32)
"""Turning point of the head, cm behind the middle of the eyes (about the ear canals)."""


def project(model: FaceModel, points: F32, rotate: F32, *, distance: float = 60.0) -> F32:
    """`(V, 3)` image x (right), y (down) in cm at the face's plane, and depth (larger = nearer).

    Perspective from `distance` cm; the origin is the middle of the neutral eyes.
    """
    origin = model.eye_center.mean(0)
    turned = (points - origin - PIVOT) @ rotate.T + PIVOT
    scale = distance / (distance - turned[:, 2])
    return np.stack([turned[:, 0] * scale, -turned[:, 1] * scale, turned[:, 2]], 1).astype(np.float32)


def five_points(landmarks68: F32) -> F32:
    """`(..., 5, 2)` eye centres (middle of the two corners), nose tip, mouth corners from iBUG-68.

    Corners, not the pupil or the lids' mean: neither gaze nor blink moves them.
    """
    p = landmarks68[..., :2]
    eye_r = (p[..., 36, :] + p[..., 39, :]) / 2
    eye_l = (p[..., 42, :] + p[..., 45, :]) / 2
    return np.stack([eye_r, eye_l, p[..., 30, :], p[..., 48, :], p[..., 54, :]], -2)
