"""The built-in face detector: a picture to its faces, best first.

Two looks (`networks.detector`): over the whole picture, shrunk, for proposals; then at the aligned crop
of each proposal, at full resolution, twice, for the belief that it is a face, and at what is left once
more, from both sides, for exact points.

Convention: points (x, y) pixels of the picture, first pixel centred on (0, 0); left and right are the
subject's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from faceunits import weights
from faceunits.alignment.warp import TEMPLATE_VERSION, apply, crop, face_box, invert, similarity
from faceunits.errors import ConfigError, InputError, WeightsError
from faceunits.networks.detector import DetectorConfig, FaceFinder, Landmarker, fuse
from faceunits.types import FIVE_MIRROR, Face

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

PRIOR = -3.0
"""Log odds of a proposal being a face before either look is heard. Set by hand between faces (sum of both
looks' log odds above 5) and the worst textures (up to 3), on the pictures that also test the detector: its
recall and false-alarm figures are that much too kind."""


class FaceSource(Protocol):
    """Anything that finds faces: this detector, an adapter, or the caller's own."""

    def __call__(self, image: U8) -> list[Face]:
        """Faces of a picture `(H, W, 3)` uint8, best first."""
        ...


@dataclass(frozen=True)
class DetectorOptions:
    """How hard to look."""

    long_side: int = 320
    """The whole picture is shrunk to this many pixels; faces below 5 % of it are not found."""
    threshold: float = 0.7
    """Least belief of a face that is returned. On 828 pasted scenes of people who train, faces had .988 or
    more; .5 let a texture pass in 2.9 % of the scenes, .7 in .8 %."""
    proposal_threshold: float = 0.35
    """Least belief of the first look for a second one; the least of 552 faces in hard scenes, of people who
    train, was .49."""
    most: int = 64
    """Proposals that get a second look; bounds the time on a picture of a crowd."""
    overlap: float = 0.4
    """Faces whose boxes overlap more (intersection over union) are one face."""


class Detector:
    """Finds faces and their five points.

    Args:
        source: weights by name or path; the ones in the package by default.
        options: thresholds and sizes.
        device: where the networks run.

    Example:
        faces = Detector()(image)

    Raises:
        WeightsError: a file that is missing, damaged or of another network.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] = "detector",
        *,
        options: DetectorOptions = DetectorOptions(),
        device: str | torch.device = "cpu",
    ):
        if options.long_side < 64 or not 0 <= options.threshold <= 1:
            raise ConfigError(
                f"expected long_side >= 64 and a threshold in [0, 1]; got {options.long_side} and "
                f"{options.threshold}"
            )
        state, config = weights.load(source)
        if config.get("network") != "detector" or config.get("template") != TEMPLATE_VERSION:
            raise WeightsError(
                f"expected detector weights for template {TEMPLATE_VERSION}; got "
                f"{config.get('network')} for {config.get('template')}; use the ones in the package"
            )
        sizes = DetectorConfig(
            finder_widths=tuple(config["finder_widths"]),
            neck=config["neck"],
            crop_size=config["crop_size"],
            landmarker_widths=tuple(config["landmarker_widths"]),
        )
        nets = nn.ModuleDict({"finder": FaceFinder(sizes), "landmarker": Landmarker(sizes)})
        weights.fill(nets, state, source=source)
        self.options, self.device, self.crop_size = options, torch.device(device), sizes.crop_size
        fuse(nets.eval())
        self._nets = nets.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, image: U8) -> list[Face]:
        """Faces of a picture, best first.

        Args:
            image: `(H, W, 3)` uint8 of any size.

        Raises:
            InputError: an array of another layout.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise InputError(f"expected a uint8 picture (H, W, 3); got {image.dtype} {image.shape}")
        first, points = self._propose(image)
        for last in (False, True):
            if not len(points):
                return []
            second, points = self._look(image, points)
            # Two witnesses, one of the whole scene and one of the face alone: their log odds add.
            belief = sigmoid(first + second + PRIOR)
            # The first of the two crops may be crooked by 20 degrees and more, which looks unlike a face:
            # it only drops the hopeless, the straight one judges.
            keep = belief > (self.options.threshold if last else 0.005 * self.options.threshold)
            first, belief, points = first[keep], belief[keep], points[keep]
            kept = suppress(face_box(points), belief, self.options.overlap)
            first, belief, points = first[kept], belief[kept], points[kept]
        if len(points):
            points = self._exact(image, points)
        boxes = face_box(points)
        return [Face(b, p, float(s)) for b, p, s in zip(boxes, points, belief, strict=True)]

    def refine(self, image: U8, faces: list[Face]) -> list[Face]:
        """The same faces with exact points, from rough points or boxes (`adapters.from_boxes`).

        Nothing is dropped: the caller said that they are faces. The score becomes the network's belief.

        Args:
            image: `(H, W, 3)` uint8.
            faces: in pixels of the picture.
        """
        if not faces:
            return []
        points = np.stack([f.points for f in faces])
        for _ in range(2):
            second, points = self._look(image, points)
        points = self._exact(image, points)
        belief, boxes = sigmoid(second), face_box(points)
        return [Face(b, p, float(s)) for b, p, s in zip(boxes, points, belief, strict=True)]

    def _propose(self, image: U8) -> tuple[F32, F32]:
        """First look: log odds `(N,)` and rough points `(N, 5, 2)` in pixels of the picture."""
        long_side = self.options.long_side
        full = min(1.0, long_side / max(image.shape[:2]))
        # A face that fills the picture is known by its surroundings: seen small, with a margin.
        looks = [self._find(image, full, 0), self._find(image, full * 0.4, long_side // 10)]
        score = np.concatenate([s for s, _ in looks])
        points = np.concatenate([p for _, p in looks])
        kept = suppress(face_box(points), score, self.options.overlap)[: self.options.most]
        return score[kept], points[kept]

    def _find(self, image: U8, scale: float, margin: int) -> tuple[F32, F32]:
        """The finder at one scale, with an empty margin (pixels) around the shrunk picture."""
        height, width = (max(1, round(n * scale)) for n in image.shape[:2])
        small = shrink(image, width, height)
        rows, columns = (-(-(n + 2 * margin) // 32) * 32 for n in (height, width))
        padded = np.zeros((rows, columns, 3), np.uint8)
        padded[margin : margin + height, margin : margin + width] = small
        x = torch.from_numpy(padded).to(self.device).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            logits, points = self._nets["finder"](x.contiguous(memory_format=torch.channels_last))
            best = torch.argsort(logits[0], descending=True)[: 8 * self.options.most]
            best = best[logits[0, best].sigmoid() > self.options.proposal_threshold]
            score, found = logits[0, best].cpu().numpy(), points[0, best].cpu().numpy()
        factor = np.array([image.shape[1] / width, image.shape[0] / height])
        at = (found - margin + 0.5) * factor - 0.5
        # Five points on one spot are no face, and no crop can be made from them.
        sound = np.ptp(at, 1).max(-1) > 2
        return score[sound], at[sound].astype(np.float32)

    def _look(self, image: U8, points: F32) -> tuple[F32, F32]:
        """Second look: log odds `(N,)` and better points `(N, 5, 2)`."""
        matrices, crops = self._crops(image, points)
        second, marks = self._landmarks(crops)
        return second, apply(invert(matrices), marks).astype(np.float32)

    def _exact(self, image: U8, points: F32) -> F32:
        """Points `(N, 5, 2)` seen once more, in the crop and in its mirror image: on blurred and noisy faces
        their mean errs by a twentieth to a tenth less (docs/log.md)."""
        matrices, crops = self._crops(image, points)
        marks, turned = np.split(self._landmarks(np.concatenate([crops, crops[..., ::-1]]))[1], 2)
        turned = turned[:, FIVE_MIRROR]
        turned[..., 0] = self.crop_size - 1 - turned[..., 0]
        return apply(invert(matrices), (marks + turned) / 2).astype(np.float32)

    def _crops(self, image: U8, points: F32) -> tuple[NDArray[np.float64], F32]:
        """Matrices `(N, 2, 3)` and crops `(N, 3, S, S)` of faces."""
        matrices = similarity(points, self.crop_size)
        return matrices, np.stack([crop(image, m, self.crop_size) for m in matrices])

    def _landmarks(self, crops: F32) -> tuple[F32, F32]:
        """Log odds `(N,)` and points `(N, 5, 2)` in crops `(N, 3, S, S)`."""
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
            logits, marks = self._nets["landmarker"](x.contiguous(memory_format=torch.channels_last))
            return logits.cpu().numpy(), marks.cpu().numpy()


def sigmoid(log_odds: F32) -> F32:
    """`(N,)` probabilities."""
    probability = 1 / (1 + np.exp(-np.clip(log_odds, -30, 30)))
    return probability.astype(np.float32)


def shrink(image: U8, width: int, height: int) -> U8:
    """The picture at another size, every pixel counted (a huge photo does not alias)."""
    if (height, width) == image.shape[:2]:
        return image
    picture = Image.fromarray(image)
    size = (width, height)
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def suppress(boxes: F32, score: F32, overlap: float) -> NDArray[np.intp]:
    """Indices of the boxes that stay, best first; a box that overlaps a better one goes.

    Also goes a box that lies almost wholly inside a better one, or around it: part of a face, or a face
    with its surroundings, found as a second face.

    Args:
        boxes: `(N, 4)` x, y, width, height.
        score: `(N,)`.
        overlap: greatest intersection over union that two faces may have.
    """
    order = np.argsort(-score, kind="stable")
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    area = boxes[:, 2] * boxes[:, 3]
    kept: list[int] = []
    for i in order:
        if kept:
            shared = np.minimum(high[i], high[kept]) - np.maximum(low[i], low[kept])
            inside = np.clip(shared, 0, None).prod(1)
            union = area[i] + area[kept] - inside
            smaller = np.minimum(area[i], area[kept])
            if np.any((inside > overlap * union) | (inside > 0.75 * smaller)):
                continue
        kept.append(int(i))
    return np.array(kept, np.intp)
