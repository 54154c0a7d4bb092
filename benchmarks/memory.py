"""Peak memory of a short and a long clip: it must not grow with the length.

    python benchmarks/memory.py [--clip PATH] [--minutes 1 10] [--engine auto]

The clip is looped until it is long enough.
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
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--engine", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        short = args.clip or drawn.write(Path(folder, "clip.mp4"))
        text = measure.heading("Memory", notes=[f"clip: {short.name}, looped; engine {args.engine}"])
        rows: list[dict[str, float]] = []
        for minutes in args.minutes:
            times = max(1, round(60 * minutes / _seconds(short)))
            path = drawn.loop(short, Path(folder, f"{minutes}.mp4"), times)
            figures = measure.worker(sys.executable, "worker_faceunits.py", str(path), args.engine)
            peak = figures["peak_mb"]
            first = rows[0]["peak MB"] if rows else peak
            rows.append(
                {"minutes": minutes, "frames": figures["frames"], "peak MB": peak, "ratio": peak / first}
            )
    print(text + "\n" + measure.table(rows))


def _seconds(path: Path) -> float:
    from faceunits.io import video

    return video.probe(path).duration_s


if __name__ == "__main__":
    main()
