"""Rendered training faces per second: plain and varied, at 128 and 256 px, on one and two processes.

FACEUNITS_FACE_MODEL=DIR python benchmarks/render.py [--faces 100] [--sizes 128 256] [--processes 1 2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import measure

from faceunits.rig import synth


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=100, help="per process and round")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rig = os.environ.get("FACEUNITS_FACE_MODEL")
    if not rig:
        raise SystemExit("expected the face model's folder in FACEUNITS_FACE_MODEL; it is not set; set it")
    text = measure.heading(
        "Renderer", notes=[f"{args.faces} faces per process and round, medians of {args.rounds}"]
    )
    settings = [
        synth.SynthConfig(rig=rig, look=look, size=size, shard=args.faces)
        for look in ("plain", "varied") for size in args.sizes
    ]  # fmt: skip
    rows: list[dict[str, object]] = []
    speed: dict[tuple[str, int], float] = {}
    for processes in args.processes:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for s in settings:  # every process loads the rig and compiles before it is timed
                list(pool.map(_warm, [s] * processes))
            for s in settings:
                spent = []
                for turn in range(args.rounds):
                    start = time.perf_counter()
                    list(pool.map(_draw, [s] * processes, [turn * processes + p for p in range(processes)]))
                    spent.append(time.perf_counter() - start)
                rate = processes * args.faces / statistics.median(spent)
                first = speed.setdefault((s.look, s.size), rate)
                rows.append({"look": s.look, "size px": s.size, "processes": processes, "faces/s": rate,
                             "ms per face": 1e3 / rate, "ratio": rate / first})  # fmt: skip
    print(text + "\n" + measure.table(rows))


def _warm(settings: synth.SynthConfig) -> None:
    synth.stage(settings)
    _draw(synth.SynthConfig(**(vars(settings) | {"shard": 2})), 0)
    time.sleep(0.2)  # so that the next task goes to the next process


def _draw(settings: synth.SynthConfig, index: int) -> int:
    return len(synth.make(settings, index)["image"])


if __name__ == "__main__":
    main()
