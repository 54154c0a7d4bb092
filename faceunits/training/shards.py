"""Which rendered shards a training may see: those whose seed is not kept for testing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faceunits.errors import ConfigError

FIRST_TEST_SEED = 900_000
"""Seeds from this one on train nothing."""


def kept_for_testing(path: Path) -> bool:
    """Whether the seed in the name `{look}_{seed}_{index}.npz` is one for testing; a name is not."""
    seed = path.stem.split("_")[1]
    return seed.isdigit() and int(seed) >= FIRST_TEST_SEED


def find(folders: Sequence[str], look: str = "*", *, testing: bool = False) -> list[Path]:
    """Finished shards of folders that may train, or only those for testing, in the order of the folders.

    Raises:
        ConfigError: there are none.
    """
    found = [p for d in folders for p in sorted(Path(d).glob(f"{look}_*_*.npz")) if ".part" not in p.name]
    found = [p for p in found if kept_for_testing(p) == testing]
    if not found:
        what = "testing" if testing else "training"
        raise ConfigError(
            f"expected shards {look}_*.npz of {what} seeds in {', '.join(folders) or 'no folder'}; "
            "run `faceunits synthesize`"
        )
    return found
