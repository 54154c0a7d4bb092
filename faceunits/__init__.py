"""Facial action units from photos without action-unit labels, the fitted face shown beside the photo.

>>> import faceunits as fu
>>> table = fu.estimate("photo.jpg")  # doctest: +SKIP

Names are imported when they are first used: `import faceunits` loads neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faceunits.driving import blendshapes, render, transfer
    from faceunits.editing import EditResult, edit
    from faceunits.errors import FaceunitsError
    from faceunits.estimation import estimate, fit
    from faceunits.io.image import read
    from faceunits.io.readers import read_table
    from faceunits.streaming import stream
    from faceunits.types import Face, FitResult

__version__ = "0.1.0"

_HOME = {
    "estimate": "estimation",
    "fit": "estimation",
    "stream": "streaming",
    "edit": "editing",
    "render": "driving",
    "transfer": "driving",
    "blendshapes": "driving",
    "read": "io.image",
    "read_table": "io.readers",
    "Face": "types",
    "FitResult": "types",
    "EditResult": "editing",
    "FaceunitsError": "errors",
}

__all__ = [
    "estimate",
    "fit",
    "stream",
    "edit",
    "render",
    "transfer",
    "blendshapes",
    "read",
    "read_table",
    "Face",
    "FitResult",
    "EditResult",
    "FaceunitsError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'faceunits' has no attribute {name!r}")
    value = getattr(import_module(f"faceunits.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
