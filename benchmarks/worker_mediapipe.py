"""Reads a clip with MediaPipe's FaceMesh (landmarks only), in an environment of its own.

python worker_mediapipe.py CLIP REFINE      REFINE 1 adds the network around eyes and lips
"""

from __future__ import annotations

import sys

import measure


def main(clip: str, refine: str) -> None:
    watch, found = measure.Stopwatch(), 0
    import av
    import mediapipe

    mesh = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=False, max_num_faces=1, refine_landmarks=refine == "1"
    )
    with av.open(clip) as container, mesh:
        track = container.streams.video[0]
        track.codec_context.thread_type = "SLICE"  # as faceunits decodes
        for frame in container.decode(track):
            result = mesh.process(frame.to_ndarray(format="rgb24"))
            found += bool(result.multi_face_landmarks)
            watch.row()
    watch.report(found=found)


if __name__ == "__main__":
    main(*sys.argv[1:])
