"""A clip from file to rows: faceunits (all action units) beside MediaPipe's FaceMesh (landmarks only).

    python benchmarks/video.py [--clip PATH] [--mediapipe PYTHON] [--rounds 5] [--engines torch onnx]

Each tool is a process of its own; the tools take turns, and medians over the rounds are shown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import clip as drawn
import measure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, help="video with one face; else one is drawn")
    parser.add_argument("--seconds", type=float, default=10, help="length of the drawn clip")
    parser.add_argument("--mediapipe", type=Path, default=Path(".venv-mediapipe/bin/python"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", nargs="+", default=["auto"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = args.clip or drawn.write(Path(folder, "clip.mp4"), args.seconds)
        print(compare(clip, args.engines, args.mediapipe, args.rounds))


def compare(clip: Path, engines: list[str], mediapipe: Path, rounds: int) -> str:
    """Markdown: the tools on one clip."""
    tools = {f"faceunits, engine {e}": (sys.executable, "worker_faceunits.py", str(clip), e) for e in engines}
    notes = [
        f"clip: {clip.name}; {rounds} rounds in turns, medians; user CPU of all threads, after the first row"
    ]
    if mediapipe.exists():
        for refine, name in (("0", "FaceMesh"), ("1", "FaceMesh, refined")):
            tools[name] = (str(mediapipe), "worker_mediapipe.py", str(clip), refine)
    else:
        notes.append(f"without MediaPipe: {mediapipe} does not exist (make bench makes it)")
    text = measure.heading("Video, end to end", notes=notes)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in tools}
    for _ in range(rounds):
        for name, (python, script, *words) in tools.items():
            runs[name].append(measure.worker(python, script, *words))
    middle = {name: measure.medians(r) for name, r in runs.items()}
    base = middle.get("FaceMesh") or next(iter(middle.values()))
    ratio = "CPU against FaceMesh" if "FaceMesh" in middle else "CPU ratio"
    return text + "\n" + measure.table([
        {
            "tool": name, "frames": int(m["frames"]), "with a face": int(m["found"]),
            "CPU ms per frame": m["cpu_ms"], "frames/s": m["fps"], "peak MB": m["peak_mb"],
            "first row after s": m["start_s"], ratio: m["cpu_ms"] / base["cpu_ms"],
        }
        for name, m in middle.items()
    ])  # fmt: skip


if __name__ == "__main__":
    main()
