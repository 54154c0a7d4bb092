"""The action-unit vocabulary: names, sides, and how each is made from the shapes of the rig.

Two profiles. `default` has a left and a right parameter for every two-sided action unit; `paper23`
is the list of GE-Net's Table 4 (order of that table, one parameter for most pairs). A *parameter* is
what a network or the rig is driven with, in [0, 1]; a *column* is what a table reports, in [0, 5],
and is read from the parameters by `columns`.

Left and right are the subject's. Sources: FACS (Ekman & Friesen 1978); shape weights from a
comparison of the ICT-FaceKit shapes with FACS, one artist's shapes, hence `approximate` below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from faceunits.errors import ParameterError

MAX_INTENSITY = 5.0
"""Tables report 5 x parameter: FACS A..E as 1..5, linear and uncalibrated."""

JAW_DROP_FULL = 0.35
"""AU26 at its maximum is this much of the jaw parameter; beyond it AU27 grows: they share a shape."""

NAMES = {
    1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser",
    6: "cheek raiser", 7: "lid tightener", 9: "nose wrinkler", 10: "upper lip raiser",
    12: "lip corner puller", 14: "dimpler", 15: "lip corner depressor", 16: "lower lip depressor",
    17: "chin raiser", 18: "lip pucker", 20: "lip stretcher", 22: "lip funneler",
    23: "lip tightener", 24: "lip pressor", 25: "lips part", 26: "jaw drop", 27: "mouth stretch",
    28: "lip suck", 30: "jaw sideways", 34: "cheek puff", 45: "blink",
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One driver of the rig: `name` such as `AU12_L`, and the weights of the rig's shapes at 1."""

    name: str
    shapes: tuple[tuple[str, float], ...]

    @property
    def au(self) -> int:
        """FACS number."""
        return int(re.findall(r"\d+", self.name)[0])

    @property
    def side(self) -> str:
        """`L`, `R`, or empty for a movement without sides."""
        return self.name[-1] if self.name[-2:] in ("_L", "_R") else ""


@dataclass(frozen=True)
class Profile:
    """An ordered list of parameters; the order is that of every AU tensor's last axis."""

    name: str
    parameters: tuple[Parameter, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def index(self, name: str) -> int:
        """Position of a parameter.

        Raises:
            ParameterError: the profile has no parameter of that name.
        """
        if name not in self.names:
            raise ParameterError(f"expected one of {', '.join(self.names)}; got {name!r}")
        return self.names.index(name)

    def mirror(self) -> NDArray[np.int64]:
        """`(A,)` permutation that swaps the sides; its own inverse."""
        swap = {"_L": "_R", "_R": "_L"}
        swapped = [n[:-2] + swap[n[-2:]] if n[-2:] in swap else n for n in self.names]
        return np.array([self.names.index(n) for n in swapped])

    def expand(self, values: dict[str, float]) -> NDArray[np.float32]:
        """`(A,)` parameters in [0, 1] from intensities 0-5 by name; `AU12` sets both of its sides.

        Raises:
            ParameterError: an unknown name, a side of a movement without sides, or a value outside 0..5.
        """
        out = np.zeros(len(self), np.float32)
        for key, value in values.items():
            name, side = parse(key)
            if not 0 <= value <= MAX_INTENSITY:
                raise ParameterError(f"expected an intensity of 0 to 5 for {key}; got {value:g}")
            if side and name in ("AU25", "AU26", "AU27"):
                raise ParameterError(f"{name} has no sides; got {key!r}, use {name}")
            if name in ("AU25", "AU26", "AU27"):
                self._expand_opening(out, name, value)
                continue
            wanted = [name + side] if side else [name, name + "_L", name + "_R"]
            found = [n for n in wanted if n in self.names]
            if not found:
                raise ParameterError(f"expected one of {', '.join(self.names)}; got {key!r}")
            for n in found:
                out[self.index(n)] = value / MAX_INTENSITY
        return out

    def _expand_opening(self, out: NDArray[np.float32], name: str, value: float) -> None:
        """Lips part and jaw drop are combinations: see `columns` for the way back."""
        share = value / MAX_INTENSITY
        if name == "AU25":
            for n, weight in (("AU16", 0.35), ("AU10", 0.2)):
                for side in ("", "_L", "_R"):
                    if n + side in self.names:
                        i = self.index(n + side)
                        out[i] = max(out[i], weight * share)
        jaw = {"AU25": 0.05 * share, "AU26": JAW_DROP_FULL * share,
               "AU27": JAW_DROP_FULL + (1 - JAW_DROP_FULL) * share if share else 0.0}[name]  # fmt: skip
        i = self.index("AU26")
        out[i] = max(out[i], jaw)


def parse(text: str) -> tuple[str, str]:
    """`("AU12", "_L")` from `AU12_L`, `au12l`, `12L` or `AU12` (no side gives an empty string).

    Raises:
        ParameterError: the text is not an action unit.
    """
    match = re.fullmatch(r"(?:AU)?0*(\d{1,2})_?([LR]?)", text.strip().upper())
    if not match:
        raise ParameterError(f"expected an action unit such as AU12 or AU12_L; got {text!r}")
    number, side = int(match[1]), match[2]
    if number not in NAMES and number != 43:
        raise ParameterError(f"AU{number} is not modelled; known: {', '.join(map(str, NAMES))}")
    number = 45 if number == 43 else number  # closed eyes (43) and blink (45) differ in time only
    return f"AU{number:02d}", "_" + side if side else ""


_TWO_SIDED: dict[str, dict[str, float]] = {
    "AU01": {"browInnerUp": 1}, "AU02": {"browOuterUp": 1}, "AU04": {"browDown": 1},
    "AU05": {"eyeWide": 1}, "AU06": {"cheekRaiser": 1}, "AU07": {"eyeSquint": 1},
    "AU09": {"noseSneer": 1}, "AU10": {"mouthUpperUp": 1}, "AU12": {"mouthSmile": 1},
    "AU14": {"mouthDimple": 1}, "AU15": {"mouthFrown": 1}, "AU16": {"mouthLowerDown": 1},
    "AU20": {"mouthStretch": 1}, "AU34": {"cheekPuff": 1, "mouthPress": 0.5}, "AU45": {"eyeBlink": 1},
}  # fmt: skip
_ONE: dict[str, dict[str, float]] = {
    "AU17": {"mouthShrugLower": 1}, "AU18": {"mouthPucker": 1}, "AU22": {"mouthFunnel": 1},
    "AU23": {"mouthPress_L": 1, "mouthPress_R": 1, "mouthPucker": 0.35},
    "AU24": {"mouthPress_L": 1, "mouthPress_R": 1, "mouthRollUpper": 0.4},
    "AU26": {"jawOpen": 1}, "AU28": {"mouthRollUpper": 1, "mouthRollLower": 1},
    "AU30_L": {"jawLeft": 1}, "AU30_R": {"jawRight": 1},
}  # fmt: skip


def _default() -> Profile:
    out = []
    for au, shapes in _TWO_SIDED.items():
        for side in ("_L", "_R"):
            out.append(Parameter(au + side, tuple((s + side, w) for s, w in shapes.items())))
    out += [Parameter(au, tuple(shapes.items())) for au, shapes in _ONE.items()]
    return Profile("default", tuple(out))


def _paper23() -> Profile:
    """Table 4 of GE-Net, row by row; its "AU3", "45-2", "14-2", 47 and 48 are halves of FACS codes."""

    def both(shape: str) -> dict[str, float]:
        return {shape + "_L": 1.0, shape + "_R": 1.0}

    rows: list[tuple[str, dict[str, float]]] = [
        ("AU45_L", {"eyeBlink_L": 1}), ("AU45_R", {"eyeBlink_R": 1}), ("AU05", both("eyeWide")),
        ("AU06", both("cheekRaiser")), ("AU01", both("browInnerUp")), ("AU02_L", {"browOuterUp_L": 1}),
        ("AU02_R", {"browOuterUp_R": 1}), ("AU04", both("browDown")), ("AU26", {"jawOpen": 1}),
        ("AU09", both("noseSneer")), ("AU10", both("mouthUpperUp")), ("AU16", both("mouthLowerDown")),
        ("AU12", both("mouthSmile")), ("AU14_L", {"mouthDimple_L": 1}), ("AU14_R", {"mouthDimple_R": 1}),
        ("AU18", {"mouthPucker": 1}), ("AU20", both("mouthStretch")),
        ("AU24", both("mouthPress") | {"mouthRollUpper": 0.4}), ("AU17", {"mouthShrugLower": 1}),
        ("AU34", both("cheekPuff")), ("AU15", both("mouthFrown")), ("AU30_L", {"jawLeft": 1}),
        ("AU30_R", {"jawRight": 1}),
    ]  # fmt: skip
    return Profile("paper23", tuple(Parameter(n, tuple(s.items())) for n, s in rows))


@cache
def profile(name: str = "default") -> Profile:
    """A profile by name.

    Raises:
        ParameterError: the name is neither `default` nor `paper23`.
    """
    makers = {"default": _default, "paper23": _paper23}
    if name not in makers:
        raise ParameterError(f"expected the profile default or paper23; got {name!r}")
    return makers[name]()


def columns(
    names: tuple[str, ...], values: NDArray[np.float32], lip_gap: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Table columns 0-5 from fitted parameters.

    Args:
        names: `(A,)` parameter names, the order of `values`.
        values: `(B, A)` in [0, 1].
        lip_gap: `(B,)` in [0, 1]: opening between the lips, 1 = that of a full AU25.

    Returns:
        `AU12_r` (two-sided: the larger side), `AU12_L_r`, `AU12_R_r`, ... each `(B,)` float32 in
        [0, 5], OpenFace's names where it has one. AU26 is the jaw up to `JAW_DROP_FULL` of its
        range, AU27 the rest; AU25 is read from the opening between the lips, because it is an
        appearance that several muscles make.
    """
    by = {n: np.clip(values[:, i], 0, 1) for i, n in enumerate(names)}
    jaw = by.pop("AU26")
    out: dict[str, NDArray[np.float32]] = {}
    for au in sorted({n[:4] for n in by}):
        sides = {n: v for n, v in by.items() if n[:4] == au}
        out[au + "_r"] = np.max(list(sides.values()), axis=0)
        if len(sides) > 1:
            out |= {n + "_r": v for n, v in sorted(sides.items())}
    out["AU25_r"] = np.clip(lip_gap, 0, 1)
    out["AU26_r"] = np.clip(jaw / JAW_DROP_FULL, 0, 1)
    out["AU27_r"] = np.clip((jaw - JAW_DROP_FULL) / (1 - JAW_DROP_FULL), 0, 1)
    return {k: (MAX_INTENSITY * out[k]).astype(np.float32) for k in sorted(out)}
