"""Do edits show to somebody else? Neutral photos are edited in steps, and MediaPipe's FaceMesh, which took
part in nothing here, says where the points of the face have gone.

    python benchmarks/edits.py PHOTOS... --mediapipe PYTHON

Per series the mean over photos of the rank correlation between what was asked for (0 to 5) and one distance
on the face, and the change of that distance at 5, in eye distances.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import measure
import numpy as np

from faceunits import editing
from faceunits.errors import InputError
from faceunits.evaluation import metrics
from faceunits.io import image

STEPS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
OUTER_EYES = 33, 263

# What a unit does to the points, in eye distances; `down(i)` is how far below the middle of the eyes i lies.
Look = Callable[[Callable[[int], float], Callable[[int, int], float]], float]
DISTANCES: dict[str, Look] = {
    "mouth wider": lambda down, far: far(61, 291),
    "mouth corners up": lambda down, far: 2 * down(0) - down(61) - down(291),
    "left corner up": lambda down, far: down(0) - down(291),
    "right corner up": lambda down, far: down(0) - down(61),
    "inner brows down": lambda down, far: (down(107) + down(336)) / 2,
    "brows up": lambda down, far: -(down(105) + down(334) + down(107) + down(336)) / 4,
    "lips apart": lambda down, far: far(13, 14),
    "chin down": lambda down, far: down(152) - down(1),
    "eyes closed": lambda down, far: -(far(159, 145) + far(386, 374)) / 2,
}
SERIES = {
    "AU12": ("mouth corners up", ("AU12",)), "AU12_L": ("left corner up", ("AU12_L",)),
    "AU12_R": ("right corner up", ("AU12_R",)), "AU04": ("inner brows down", ("AU04",)),
    "AU01+02": ("brows up", ("AU01", "AU02")), "AU25": ("lips apart", ("AU25",)),
    "AU26": ("chin down", ("AU26",)), "AU45": ("eyes closed", ("AU45",)),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+", help="neutral photos with one face, or folders")
    parser.add_argument("--mediapipe", type=Path, required=True, help="python with mediapipe and av")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        used = draw(image.find(args.photos), Path(folder))
        points = Path(folder, "points.npz")
        worker = Path(__file__).with_name("worker_points.py")
        subprocess.run([args.mediapipe, worker, folder, points], check=True, stderr=subprocess.DEVNULL)
        with np.load(points) as pack:
            print(table(used, {k: pack[k] for k in pack.files}))


def draw(photos: list[Path], folder: Path) -> list[str]:
    """Writes every edit of every photo; returns the names of those that could be edited."""
    used = []
    for number, path in enumerate(photos):
        try:
            face = editing.prepare(image.read(path))[0][0]
        except (InputError, IndexError) as error:
            print(f"left out: {path.name} ({error})", file=sys.stderr)
            continue
        used.append(f"{number:04d}")
        for name, (_, units) in SERIES.items():
            for step in STEPS:
                wish = editing.Wish(dict.fromkeys(units, step), {})
                edited = editing.carry_out(face, editing.resolve(wish, face.reading))
                image.write(folder / f"{used[-1]}_{name}_{step:g}.jpg", edited)
        print(f"{len(used)} edited, {len(photos) - number - 1} left", file=sys.stderr)
    return used


def look(points: np.ndarray) -> dict[str, float]:
    """All `DISTANCES` of `(478, 2)` points."""
    a, b = (points[i] for i in OUTER_EYES)
    unit = float(np.linalg.norm(b - a))
    across = (b - a) / unit
    below = np.array([-across[1], across[0]])

    def down(i: int) -> float:
        return float((points[i] - (a + b) / 2) @ below) / unit

    def far(i: int, j: int) -> float:
        return float(np.linalg.norm(points[i] - points[j])) / unit

    return {name: one(down, far) for name, one in DISTANCES.items()}


def table(used: list[str], points: dict[str, np.ndarray]) -> str:
    """Markdown with one row per series."""
    rows = [
        "| asked for | distance | photos | rank correlation, mean; worst | photos below .9 | change at 5 "
        "| lost faces |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (distance, _) in SERIES.items():
        ranks, changes, lost = [], [], 0
        for photo in used:
            keys = [f"{photo}_{name}_{step:g}" for step in STEPS]
            lost += sum(k not in points for k in keys)
            if all(k in points for k in keys):
                seen = np.array([look(points[k])[distance] for k in keys])
                ranks.append(metrics.spearman(np.array(STEPS), seen))
                changes.append(seen[-1] - seen[0])
        rows.append(
            f"| {name} | {distance} | {len(ranks)} | {np.mean(ranks):.3f}; {np.min(ranks):.2f} "
            f"| {np.sum(np.array(ranks) < 0.9)} | {np.mean(changes):+.3f} | {lost} |"
        )
    return "\n".join([measure.heading("Edits, seen by FaceMesh"), *rows])


if __name__ == "__main__":
    main()
