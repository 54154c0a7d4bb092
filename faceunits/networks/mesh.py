"""The mesh: parameters to where points of the skin and the teeth lie in the crop, for moving pixels.

    X = mean + sum_k id_k * identity_k + sum_j w_j * shape_j      then turned, seen from 60 cm, and carried
    onto the template of the crop by the similarity of its own five points

The three tensors are learned (`training.mesh`); what follows them is the geometry of the renderer, which
needs no learning. Lids close by how wide a face's eyes are, as in `rig.shape.vertices`. Which points make
triangles, where the openings of eyes and mouth are and how motion ends at the outline come with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

SKIN, TEETH_UPPER, TEETH_LOWER, GUMS_UPPER, GUMS_LOWER = range(5)
"""Kinds of points."""

EYE_PAIRS = (((43, 47), (44, 46)), ((37, 41), (38, 40)))
"""iBUG lid pairs of the left and the right eye."""


@dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh and of what comes with it."""

    n_au: int = 39
    """Action-unit parameters."""
    n_identity: int = 60
    """Identity parameters."""
    shapes: int = 48
    """Movements that the action units are made of."""
    points: int = 2400
    """Points of skin, teeth and gums."""
    triangles: int = 4500
    """Triangles over them."""
    jaw: int = 40
    """Points along the jaw, from the subject's right ear to the left one."""
    lids: tuple[int, ...] = (42, 42)
    """Points around the left and the right eye's opening."""
    lips: int = 74
    """Points around the opening of the mouth."""
    distance: float = 60.0
    """From where the face is seen, cm."""
    pose_range_deg: float = 28.6
    """Pitch and yaw of parameters 0 and 1 are minus and plus this."""
    identity_range: float = 2.5
    """Identity parameters 0 and 1 are minus and plus this many standard deviations."""


class Mesh(nn.Module):
    """y `(B, P)` in [0, 1] (pitch, yaw, action units, identity) to points of the face.

    Buffers beside the learned tensors: `mix` `(A, E)` movements of each action unit; `blink` `(2,)` those
    that close the left and the right eye; `landmarks` `(68,)` points that are iBUG's; `triangles` `(T, 3)`
    counter-clockwise from outside; `kind` `(K,)`; `rest` `(K, 3)` cm, a face with lips and lids apart, for
    distances along the skin; `fade` `(K,)` 0 at the outline .. 1 inside; `roll` `(K,)` point of the lips'
    outside whose colour the inside takes, or itself; `foot` and `top` `(K,)` for points of an upper lid the
    point of its edge below and the one under the brow above, or -1; ordered borders `jaw`,
    `lid_L`, `lid_R`, `lip`.
    """

    mean: Tensor
    identity: Tensor
    shape: Tensor
    mix: Tensor
    blink: Tensor
    landmarks: Tensor
    template: Tensor
    pivot: Tensor

    def __init__(self, config: MeshConfig) -> None:
        super().__init__()
        self.config = config
        k, c = config.points, config
        self.mean = nn.Parameter(torch.zeros(k, 3))
        self.identity = nn.Parameter(torch.zeros(c.n_identity, k, 3))
        self.shape = nn.Parameter(torch.zeros(c.shapes, k, 3))
        floats: dict[str, tuple[int, ...]] = {
            "mix": (c.n_au, c.shapes),
            "template": (5, 2),
            "pivot": (2, 3),
            "rest": (k, 3),
        }
        floats |= {"fade": (k,)}
        ints = {
            "blink": (2,), "landmarks": (68,), "triangles": (c.triangles, 3), "kind": (k,), "roll": (k,),
            "foot": (k,), "top": (k,), "jaw": (c.jaw,),
            "lid_L": (c.lids[0],), "lid_R": (c.lids[1],), "lip": (c.lips,),
        }  # fmt: skip
        for name, size in floats.items():
            self.register_buffer(name, torch.zeros(size))
        for name, whole in ints.items():
            self.register_buffer(name, torch.zeros(whole, dtype=torch.int32))

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Places `(B, K, 2)` in fractions of the crop's side, and `(B, K, 3)` cm in front of the viewer
        (x right, y up, z nearer)."""
        turned = self.turn(self.solid(y), y)
        return self.place(turned), turned

    def solid(self, y: Tensor) -> Tensor:
        """`(B, K, 3)` cm: the head in its own frame, +x the subject's left, +y up, +z out of the face."""
        n = 2 + self.config.n_au
        identity = (y[:, n:] - 0.5) * (2 * self.config.identity_range)
        person = self.mean + torch.einsum("bd,dkc->bkc", identity, self.identity)
        return person + torch.einsum("be,ekc->bkc", self.weights(y[:, 2:n], person), self.shape)

    def weights(self, au: Tensor, person: Tensor) -> Tensor:
        """`(B, E)` of the movements: those that action units share do not overshoot; action units beyond
        [0, 1] extrapolate."""
        out = (au @ self.mix).clamp(min(0.0, float(au.min())), max(1.0, float(au.max())))
        wide = self.aperture(person) / self.aperture(self.mean[None])
        scale = torch.ones_like(out).index_copy(1, self.blink.long(), wide)
        moved: Tensor = out * scale
        return moved

    def aperture(self, points: Tensor) -> Tensor:
        """`(B, 2)` cm: height of the left and the right eye opening, mean of its two lid pairs."""
        at = points[:, self.landmarks.long()]
        gaps = [[(at[:, a] - at[:, b]).norm(dim=-1) for a, b in eye] for eye in EYE_PAIRS]
        return torch.stack([(eye[0] + eye[1]) / 2 for eye in gaps], 1)

    def turn(self, points: Tensor, y: Tensor) -> Tensor:
        """`(B, K, 3)` turned by the head's pitch, then its yaw, about `pivot`."""
        p, w = (torch.deg2rad((y[:, i] - 0.5) * (2 * self.config.pose_range_deg)) for i in (0, 1))
        o, one = torch.zeros_like(p), torch.ones_like(p)
        rx = torch.stack([one, o, o, o, p.cos(), -p.sin(), o, p.sin(), p.cos()], -1).view(-1, 3, 3)
        ry = torch.stack([w.cos(), o, w.sin(), o, one, o, -w.sin(), o, w.cos()], -1).view(-1, 3, 3)
        origin, pivot = self.pivot
        turned: Tensor = (points - origin - pivot) @ (ry @ rx).transpose(1, 2) + pivot
        return turned

    def place(self, turned: Tensor, by: Tensor | None = None) -> Tensor:
        """`(B, K, 2)` fractions of the crop: perspective, then the similarity of the own five points, or of
        those of `by` `(B, K, 3)`: a face that moves in front of a crop that does not."""
        flat = self._flat(turned)
        marks = (flat if by is None else self._flat(by))[:, self.landmarks.long()]
        five = torch.stack(
            [
                (marks[:, 36] + marks[:, 39]) / 2, (marks[:, 42] + marks[:, 45]) / 2,
                marks[:, 30], marks[:, 48], marks[:, 54],
            ], 1,
        )  # fmt: skip
        middle, goal = five.mean(1, keepdim=True), self.template.mean(0)
        source, target = five - middle, self.template - goal
        # rotation and scale in closed form (Umeyama 1991), as in alignment.warp.similarity
        spread = source.square().sum((1, 2))
        a = ((source * target).sum((1, 2)) / spread)[:, None]
        b = ((source[..., 0] * target[:, 1] - source[..., 1] * target[:, 0]).sum(1) / spread)[:, None]
        x, y = (flat - middle).unbind(-1)
        return torch.stack([a * x - b * y, b * x + a * y], -1) + goal

    def _flat(self, turned: Tensor) -> Tensor:
        """`(B, K, 2)` cm in the plane of the eyes' middle, y down."""
        scale = self.config.distance / (self.config.distance - turned[..., 2:])
        return turned[..., :2] * scale * turned.new_tensor([1.0, -1.0])
