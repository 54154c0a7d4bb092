"""The fast reading by R in torch and in ONNX Runtime, beside the E that read before: CPU milliseconds on one
thread.

python benchmarks/engines.py [--batches 1 8] [--rounds 30]
"""

from __future__ import annotations

import argparse
from functools import partial

import measure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()

    import numpy as np
    import torch

    from faceunits import engine, fitting
    from faceunits.networks.lean import BothViews, prepare

    torch.set_num_threads(1)
    models = fitting.load(device="cpu")
    onnx = engine.choose(models, "onnx")
    whole, lean = models.networks.parser, prepare(models.networks.parser)
    both = BothViews(lean, torch.from_numpy(models.profile.mirror()))
    text = measure.heading(
        "Engines of the fast reading", notes=[f"one thread, {args.rounds} rounds in turns"]
    )
    rows = []
    for batch in args.batches:
        crops = np.random.default_rng(0).random((batch, 3, models.crop_size, models.crop_size), np.float32)
        image = torch.from_numpy(crops)
        with torch.inference_mode():
            spent = measure.race(
                {
                    "E as trained, one view": partial(whole, image),
                    "lean E, one view": partial(lean, image),
                    "lean E, both views": partial(both, image),
                    "torch: R": partial(models.reader, image),
                    "onnxruntime: R": partial(onnx, crops),
                },
                rounds=args.rounds,
            )
        first = spent["torch: R"]
        rows += [
            {"batch": batch, "engine": name, "CPU ms per crop": v / batch, "ratio": v / first}
            for name, v in spent.items()
        ]
    print(text + "\n" + measure.table(rows))


if __name__ == "__main__":
    main()
