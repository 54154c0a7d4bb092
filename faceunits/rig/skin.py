"""A real person's colours for the rig, and the file they are kept in.

A `Skin` lets the renderer draw a person's skin, brows, lips and eyes with other expressions, poses,
identities and lights. Skins are made from portraits by `portrait.collect`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits.errors import InputError

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Skin:
    """One person's colours for the vertices of a rig.

    `name`: identifier. `photo` `(H, W, 3)` uint8: an atlas, see `atlas.build`. `identity` `(N,)`
    standard deviations. `coords` `(V, 2)` x, y in `photo`, first pixel centred on (0, 0). `visible`
    `(V,)` in [0, 1]: 0 where the renderer paints (hair, teeth), 1 where the photo's colour holds. `color` and
    `hair_color` `(3,)` means in [0, 1]. `gender`, `ethnicity`: self-reported or empty.
    """

    name: str
    photo: NDArray[np.uint8]
    identity: F32
    coords: F32
    visible: F32
    color: F32
    hair_color: F32
    gender: str = ""
    ethnicity: str = ""


def save(path: str | Path, skins: list[Skin]) -> None:
    """Write skins of one rig and one photo size, one stacked array per field."""
    fields = Skin.__dataclass_fields__
    np.savez_compressed(path, **{f: np.stack([np.asarray(getattr(s, f)) for s in skins]) for f in fields})  # type: ignore[arg-type]


def load(path: str | Path) -> list[Skin]:
    """The skins of a file of `save`.

    Raises:
        InputError: no such file.
    """
    if not Path(path).exists():
        raise InputError(f"expected a file of skins; {path} does not exist; make it with portrait.collect")
    with np.load(path) as pack:
        arrays: dict[str, Any] = {f: pack[f] for f in Skin.__dataclass_fields__}
    for field in ("name", "gender", "ethnicity"):
        arrays[field] = [str(t) for t in arrays[field]]
    return [Skin(**{f: a[i] for f, a in arrays.items()}) for i in range(len(arrays["name"]))]
