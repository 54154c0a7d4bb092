"""What pictures of edited faces are judged by: readings of the package, E's features, identity, distances.

The reader took no part in making the editors; E taught those that are trained with pictures. Distances that
need weights which the package has no right to ship (ArcFace, LPIPS, Inception) are measured where the user
names the files; what stands in for them carries a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from faceunits.alignment import people, warp
from faceunits.evaluation import crops
from faceunits.evaluation.crops import Tool
from faceunits.evaluation.editor_sets import columns_of
from faceunits.fitting.optimise import reduced
from faceunits.networks.encoders import pooled
from faceunits.networks.inception import FidInception
from faceunits.networks.irse50 import INPUT_SIZE, IRSE50
from faceunits.networks.lpips import Lpips

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Judges:
    """Networks of a user's files; None where there is no file."""

    arcface: IRSE50 | None = None
    lpips: Lpips | None = None
    inception: FidInception | None = None


@dataclass(frozen=True)
class Seen:
    """What was measured of `N` pictures: `units` `(N, K)` 0-5; `identity` `(N, D)` identity parameters as
    read, about their mean; `look` `(N, 192 + D)` of `alignment.people`; `features` `(N, C)` E's last map,
    averaged; `arcface` `(N, 512)` and `inception` `(N, 2048)`, of no columns without those networks."""

    units: F64
    identity: F64
    look: F64
    features: F64
    arcface: F64
    inception: F64

    def rows(self, rows: NDArray[np.integer]) -> Seen:
        """Some pictures."""
        return Seen(*(getattr(self, f.name)[rows] for f in fields(self)))


def see(
    batches: Iterable[Tensor], names: Sequence[str], on: Tool, judges: Judges | None = None, *,
    briefly: bool = False,
) -> Seen:  # fmt: skip
    """Measures pictures.

    Args:
        batches: `(B, 3, S, S)` in [0, 1], framed as E's crops; another size is brought to E's.
        names: units.
        on: what measures.
        judges: further networks.
        briefly: leave out what takes another pass and is of use for whole sets only, features and Inception.
    """
    judges = judges or Judges()
    return joined([_see(image, names, on, judges, briefly) for image in batches])


def joined(parts: Sequence[Seen]) -> Seen:
    """Measurements one after the other."""
    return Seen(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Seen)))


def _see(image: Tensor, names: Sequence[str], on: Tool, judges: Judges, briefly: bool) -> Seen:
    size = on.models.crop_size
    image = image if image.shape[-1] == size else pooled(image, size)
    array = image.float().cpu().numpy()
    reading = crops.read(array, on, batch=len(array))
    identity = reading.identity.astype(np.float64) - 0.5
    with torch.inference_mode():
        features = face = kind = torch.zeros(len(image), 0)
        if judges.arcface is not None:
            face = judges.arcface(arcface_view(image))
        if not briefly:
            parser = on.models.networks.parser
            small = reduced(image.to(on.models.device), parser.config.size)
            features = parser(small, heads=False).maps[-1].mean((2, 3))
        if judges.inception is not None and not briefly:
            kind = judges.inception(image)
    return Seen(
        units=columns_of(names, reading.names, reading.au, reading.lip_gap).astype(np.float64),
        identity=identity,
        look=np.stack([people.look(c, i) for c, i in zip(array, reading.identity, strict=True)]),
        features=_array(features), arcface=_array(face), inception=_array(kind),
    )  # fmt: skip


def _array(t: Tensor) -> F64:
    return t.double().cpu().numpy()


def arcface_view(image: Tensor) -> Tensor:
    """The part `(B, 3, 112, 112)`, in [-1, 1], of E's crops that IR-SE50 was trained on.

    ArcFace's public weights look at rows 35 to 223 and columns 32 to 220 of a 256 px FFHQ crop. Where that
    lies in E's crop follows from both alignments, on the template face: FFHQ's square has its middle a tenth
    of the way from eyes to mouth and half a side of 1.8 times that way. It begins above E's crop, whose first
    row is repeated there.
    """
    eyes, mouth = warp.TEMPLATE[:2].mean(0), warp.TEMPLATE[3:].mean(0)
    way = float(np.linalg.norm(mouth - eyes))
    span = float(np.linalg.norm(warp.TEMPLATE[1] - warp.TEMPLATE[0]))
    half = max(2 * span, 1.8 * way)  # in sides of E's crop, as all below
    corner = eyes + 0.1 * (mouth - eyes) - half
    low = corner + np.array([32, 35]) / 256 * 2 * half
    high = corner + np.array([220, 223]) / 256 * 2 * half
    scale, middle = high - low, low + high - 1  # grid_sample counts from -1 to 1
    theta = torch.tensor([[scale[0], 0, middle[0]], [0, scale[1], middle[1]]], dtype=image.dtype)
    if image.shape[-1] > 2 * INPUT_SIZE:  # bilinear sampling alone would alias
        image = F.adaptive_avg_pool2d(image, 128)
    grid = F.affine_grid(
        theta.to(image.device).expand(len(image), 2, 3), [len(image), 3, INPUT_SIZE, INPUT_SIZE],
        align_corners=False,
    )  # fmt: skip
    return 2 * F.grid_sample(image, grid, padding_mode="border", align_corners=False) - 1


def likeness(a: F64, b: F64) -> F64:
    """`(N,)` cosines of two identities, 1 for the same."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    out: F64 = (a * b).sum(1) / np.maximum(lengths, 1e-12)
    return out


def apart(a: F64, b: F64) -> F64:
    """`(N,)` distances of looks; below `people.SAME` they are one person's."""
    pairs = zip(a.astype(np.float32), b.astype(np.float32), strict=True)
    return np.array([people.unlike(x, [y]) for x, y in pairs])


def multi_scale_l1(a: Tensor, b: Tensor, *, scales: int = 4) -> F64:
    """`(B,)` mean absolute differences of pictures in [0, 1], averaged over full, half, quarter, ... size.

    The coarse scales forgive a shift of some pixels, the full one does not. It is no perceptual distance.
    """
    total = torch.zeros(len(a), dtype=torch.float64)
    for i in range(scales):
        if i:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        total += (a - b).abs().mean((1, 2, 3)).double().cpu()
    return (total / scales).numpy()


def frechet(a: F64, b: F64) -> float:
    """Frechet distance of the normal distributions that fit two sets of features `(N, C)`, `(M, C)`.

    Biased upwards for few pictures, hence compare only sets of equal size. NaN with fewer than two pictures.

    Source: Heusel et al. 2017, eq. 6; the trace of the root from the eigenvalues of a symmetric product.
    """
    if len(a) < 2 or len(b) < 2:
        return float("nan")
    cov_a, cov_b = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    gap = a.mean(0) - b.mean(0)
    return float(max(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross, 0.0))
