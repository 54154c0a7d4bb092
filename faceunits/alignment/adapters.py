"""Other sources of faces: MediaPipe, and the caller's own points or boxes.

Each gives the same `Face` as the built-in detector, so that everything behind it is blind to the source.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from faceunits.alignment.warp import TEMPLATE, face_box
from faceunits.errors import AlignmentError, ConfigError
from faceunits.types import Face

U8 = NDArray[np.uint8]

_MESH_POINTS = ((33, 133), (362, 263), (4,), (61,), (291,))
"""MediaPipe's face-mesh indices whose means are the five points."""


def from_points(points: NDArray[np.floating], *, score: float = 1.0) -> list[Face]:
    """Faces from the caller's five points.

    Args:
        points: `(B, 5, 2)` pixels, in the order of `types.FIVE_POINTS`.
        score: belief given to all of them.

    Raises:
        AlignmentError: an array of another shape.
    """
    p = np.asarray(points, np.float32)
    if p.ndim != 3 or p.shape[1:] != (5, 2):
        raise AlignmentError(f"expected points (B, 5, 2); got {p.shape}; add the axis of the faces")
    return [Face(b, q, score) for b, q in zip(face_box(p), p, strict=True)]


def from_boxes(boxes: NDArray[np.floating], *, score: float = 1.0) -> list[Face]:
    """Faces from boxes alone: the points lie where the template has them, upright.

    Rough: give such faces to `Detector.refine` for exact points.

    Args:
        boxes: `(B, 4)` x, y, width, height, hairline to chin.
        score: belief given to all of them.

    Raises:
        AlignmentError: an array of another shape, or a box without area.
    """
    b = np.asarray(boxes, np.float64)
    if b.ndim != 2 or b.shape[1] != 4 or not np.all(b[:, 2:] > 0):
        raise AlignmentError(f"expected boxes (B, 4) x, y, width, height > 0; got {b.shape}")
    own = face_box(TEMPLATE).astype(np.float64)
    # The template's points at the same place in the given box as in their own; one scale for both axes.
    scale = np.sqrt((b[:, 2] * b[:, 3]) / (own[2] * own[3]))
    middle = b[:, :2] + b[:, 2:] / 2
    relative = TEMPLATE - (own[:2] + own[2:] / 2)
    points = (middle[:, None] + relative * scale[:, None, None]).astype(np.float32)
    return [Face(x, p, score) for x, p in zip(b.astype(np.float32), points, strict=True)]


class Given:
    """A source that always answers with the caller's faces, for one picture after the other.

    Args:
        faces: per picture, in the order in which the pictures will come.
    """

    def __init__(self, faces: Sequence[list[Face]]):
        self._left = list(faces)

    def __call__(self, image: U8) -> list[Face]:
        """The next picture's faces.

        Raises:
            AlignmentError: more pictures than faces were given for.
        """
        if not self._left:
            raise AlignmentError("expected as many pictures as were given faces; got one more")
        return self._left.pop(0)


class MediaPipe:
    """MediaPipe's face mesh as a source (extra `mediapipe`).

    More exact than it is sturdy: blind to faces below about 60 pixels in a 640-pixel picture.

    Args:
        most: faces looked for per picture.
        threshold: its least detection confidence.

    Raises:
        ConfigError: mediapipe is not installed.
    """

    def __init__(self, *, most: int = 8, threshold: float = 0.5):
        try:
            from mediapipe.python.solutions.face_mesh import FaceMesh
        except ImportError as error:
            raise ConfigError(
                "expected mediapipe with its face-mesh solution; it is not installed; "
                "pip install 'faceunits[mediapipe]'"
            ) from error
        self._mesh = FaceMesh(static_image_mode=True, max_num_faces=most, min_detection_confidence=threshold)

    def __call__(self, image: U8) -> list[Face]:
        """Faces of a picture `(H, W, 3)` uint8, in MediaPipe's order; its score is not given out, so 1."""
        height, width = image.shape[:2]
        found = self._mesh.process(image).multi_face_landmarks or []
        meshes = [[(p.x * width - 0.5, p.y * height - 0.5) for p in f.landmark] for f in found]
        five = [[np.mean([m[i] for i in group], 0) for group in _MESH_POINTS] for m in meshes]
        return from_points(np.array(five, np.float32).reshape(-1, 5, 2))
