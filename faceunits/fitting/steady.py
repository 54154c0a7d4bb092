"""A face read in four views, and the mean of what is read: steadier than one view.

R looks at every third pixel of a crop (`StudentConfig.stride`), so that its answer depends a little on where
the pixels happen to lie. The views are shifted by half of such a step in each direction, which shows it the
places between. On unseen renders that gains as much as two long trainings of R did (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from faceunits.errors import ConfigError
from faceunits.types import Reading

F32 = NDArray[np.float32]
Read = Callable[[F32], Reading]

VIEWS = 4
"""Of each face; the only number but 1, since one view to each corner is what cancels."""

SHIFT = 1.5 / 192
"""Of a crop's side, to the right or left, and down or up."""


def check(views: int) -> None:
    """Refuses another number of views than 1 and 4.

    Raises:
        ConfigError: it is another.
    """
    if views not in (1, VIEWS):
        raise ConfigError(f"expected 1 view of a face, or {VIEWS}; got {views}")


def shifted(crops: Tensor) -> Tensor:
    """`(4B, 3, S, S)` the views of crops `(B, 3, S, S)`, those of one face together. The mean of their
    landmarks needs no putting back, as the shifts cancel."""
    corners = torch.tensor([[x, y] for y in (-1, 1) for x in (-1, 1)], dtype=crops.dtype, device=crops.device)
    # affine_grid counts from -1 to 1 over the crop
    map_back = torch.cat([torch.eye(2).to(corners).expand(VIEWS, 2, 2), 2 * SHIFT * corners[:, :, None]], 2)
    grid = F.affine_grid(map_back, [VIEWS, *crops.shape[1:]], align_corners=False)
    return F.grid_sample(
        crops.repeat_interleave(VIEWS, 0), grid.repeat(len(crops), 1, 1, 1), padding_mode="border",
        align_corners=False,
    )  # fmt: skip


def mean(values: Tensor) -> Tensor:
    """`(B, ...)` of the numbers `(4B, ...)` of views as `shifted` orders them."""
    out: Tensor = values.reshape(-1, VIEWS, *values.shape[1:]).mean(1)
    return out


def steadily(read: Read) -> Read:
    """The function from crops `(B, 3, S, S)` to the mean of what `read` says of their views."""

    def of_views(crops: F32) -> Reading:
        seen = read(shifted(torch.from_numpy(np.ascontiguousarray(crops, np.float32))).numpy())
        arrays = (torch.from_numpy(getattr(seen, f.name)) for f in fields(Reading) if f.name != "names")
        return Reading(seen.names, *(mean(values).numpy() for values in arrays))

    return of_views
