"""Finds the 478 points of MediaPipe's FaceMesh in every picture of a folder, in an environment of its own.

python worker_points.py FOLDER OUT.npz      arrays by file name, (478, 2) pixels; none where no face is found
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(folder: str, out: str) -> None:
    import av
    import mediapipe
    import numpy as np

    found = {}
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True)
    with mesh:
        for path in sorted(Path(folder).glob("*.jpg")):
            with av.open(str(path)) as container:
                picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
            result = mesh.process(picture)
            if result.multi_face_landmarks:
                side = picture.shape[1], picture.shape[0]
                points = [(p.x, p.y) for p in result.multi_face_landmarks[0].landmark]
                found[path.stem] = np.array(points) * side
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
