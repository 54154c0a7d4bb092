"""Writes files of rendered faces, in one process or several; those that exist are kept, so runs resume."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]


def fill(
    paths: Mapping[int, Path], make: Callable[[int], Arrays], *, workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:  # fmt: skip
    """Makes the files that are missing. Each appears whole or not at all.

    Args:
        paths: files by index.
        make: arrays of a file, given its index; a function that can be sent to other processes.
        workers: processes.
        progress: called with files done and files wanted.
    """
    missing = {i: p for i, p in paths.items() if not p.exists()}
    with ProcessPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        over = pool.map if pool else map
        for done, _ in enumerate(over(partial(_write, make), missing, missing.values()), start=1):
            if progress:
                progress(len(paths) - len(missing) + done, len(paths))


def folder(
    directory: str | Path, stem: str, make: Callable[[int], Arrays], count: int, *, shard: int = 1,
    first: int = 0, workers: int = 1, progress: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Files `{stem}_{index}.npz` of a folder, as many as hold `count`; those that exist are kept.

    Args:
        directory: where they go.
        stem: beginning of their names.
        make: as for `fill`.
        count: how many are wanted, faces or people.
        shard: how many a file holds.
        first: index of the first file.
        workers: processes.
        progress: called with how many are done and how many are wanted, whole files of them.
    """
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    paths = {i: place / f"{stem}_{i:05d}.npz" for i in range(first, first + -(-count // shard))}

    def step(done: int, wanted: int) -> None:
        if progress:
            progress(done * shard, wanted * shard)

    fill(paths, make, workers=workers, progress=step)
    return list(paths.values())


def _write(make: Callable[[int], Arrays], index: int, path: Path) -> None:
    part = f"{path}.part.npz"
    np.savez(part, **make(index))  # type: ignore[arg-type]
    os.replace(part, path)
