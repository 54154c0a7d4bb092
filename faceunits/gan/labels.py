"""From what is asked for to the editor's label code.

E measures the face, as for the other engine, so that what is asked for and what is measured have one scale,
and values as measured change nothing. The editor reads its own labels from the latent; they move by what
asked and measured differ in. Another face's expression is taken through the code of its latent, without
any estimate (AUEditNet's image condition); neutral is the zero code.

Intensities 0-5 as in tables; labels of the editor are a fifth of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from faceunits import aus
from faceunits.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor

    from faceunits.networks.editor import Editor


def places(names: tuple[str, ...], key: str) -> list[int]:
    """Where in a label the unit stands that is asked for by this name: twice where it has two sides.

    Raises:
        ParameterError: nowhere.
    """
    unit, side = aus.parse(key)
    wanted = [unit + side] if side else [unit, unit + "_L", unit + "_R"]
    found = [names.index(n) for n in wanted if n in names]
    if not found and unit in names:
        raise ParameterError(
            f"expected a unit that this editor knows; it has no sides of {unit}; got {key}; use {unit}, or "
            "the engine motion"
        )
    if not found:
        raise ParameterError(
            f"expected a unit that this editor knows ({', '.join(names)}); got {key}; use one of them, or "
            "the engine motion"
        )
    return found


def code(
    editor: Editor,
    names: tuple[str, ...],
    base: Tensor,
    measured: Mapping[str, float],
    *,
    absolute: Mapping[str, float],
    change: Mapping[str, float],
    force: bool = False,
) -> Tensor:
    """Label code `(1, E, m)` to edit a latent towards.

    Args:
        editor: any.
        names: of its labels.
        base: `(1, E, m)` code that holds where nothing is asked for.
        measured: intensities 0-5 by name that `base` stands for.
        absolute: intensities that units shall have.
        change: what is added to those they have; ends at 0 and 5.
        force: without these ends.
    """
    import torch

    now = editor.decode(base)
    shift = torch.zeros_like(now)
    for wishes, adds in ((absolute, False), (change, True)):
        for key, value in wishes.items():
            for i in places(names, key):
                has = measured.get(names[i], 0.0)
                goal = has + value if adds else value
                if adds and not force:
                    goal = float(np.clip(goal, 0, aus.MAX_INTENSITY))
                shift[:, i] = (goal - has) / aus.MAX_INTENSITY
    # nothing asked for cancels without rounding: the code is `base` bit for bit
    out: Tensor = base + (editor.encode(now + shift) - editor.encode(now))
    return out
