"""The three methods at batch sizes 1 to 32: CPU milliseconds per face, all threads.

python benchmarks/fit.py [--methods fast refine fit] [--batches 1 2 4 8 16 32] [--rounds 3]
"""

from __future__ import annotations

import argparse
from functools import partial

import measure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=["fast", "refine", "fit"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    import numpy as np

    from faceunits import driving, estimation

    models = estimation.models("cpu")
    faces = [
        driving.render({"AU12": 3.0}, identity_seed=seed, device="cpu") for seed in range(max(args.batches))
    ]
    crops = np.stack(faces).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    text = measure.heading("Methods by batch size", notes=[f"{args.rounds} rounds in turns, medians"])
    rows = []
    for method in args.methods:
        run = estimation.measurer(method)
        spent = measure.race(
            {str(b): partial(run, crops[:b], models) for b in args.batches},
            rounds=args.rounds,
            warm=1,
        )
        per_face = {b: spent[str(b)] / b for b in args.batches}
        first = per_face[args.batches[0]]
        rows += [
            {"method": method, "batch": b, "CPU ms per face": v, "ratio": v / first}
            for b, v in per_face.items()
        ]
    print(text + "\n" + measure.table(rows))


if __name__ == "__main__":
    main()
