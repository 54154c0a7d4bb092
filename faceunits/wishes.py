"""What is asked for, and what that means for one face.

Intensities are 0-5, as in tables, by names that `aus.parse` knows; a name without a side means both. The
engine that moves pixels is driven by the parameters of `Target`; the one with a generator by labels of its
own, which it makes from the `Wish` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceunits import aus
from faceunits.errors import ParameterError
from faceunits.types import Reading

if TYPE_CHECKING:
    from torch import Tensor

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Wish:
    """What is asked for, intensities 0-5 by name.

    `absolute` values that units shall have; `change` is added to those they have. `like` a face
    whose units all units take first; `neutral` sets all units to 0 first. `strength` scales the whole
    change; `force` allows values beyond 0-5. `latent` `(1, L, D)` is that of the face `like` and needed by
    the engine `gan` only.
    """

    absolute: Mapping[str, float]
    change: Mapping[str, float]
    like: Reading | None = None
    neutral: bool = False
    strength: float = 1.0
    force: bool = False
    latent: Tensor | None = None


@dataclass(frozen=True)
class Target:
    """`au` `(A,)` parameters wanted; `lips` what is added to the opening between the lips, in that of a full
    AU25, or, negative, which share of it goes; None if it follows from the parameters. `wish` is what both
    come from: labels of the engine `gan` are other than the parameters."""

    au: F32
    lips: float | None
    wish: Wish


def check(units: Mapping[str, float], relative: Mapping[str, float], *, force: bool = False) -> None:
    """Refuses names that do not exist and values out of range, before anything is read.

    Raises:
        ParameterError: such a name or value, or a unit that is asked for twice.
    """
    seen: dict[str, str] = {}
    for key, value in [*units.items(), *relative.items()]:
        names = parameters(key)
        for name in names:
            if name in seen:
                raise ParameterError(
                    f"expected each action unit once; got {seen[name]} and {key}; leave one out"
                )
            seen[name] = key
        if not np.isfinite(value):
            raise ParameterError(f"expected a number for {key}; got {value}")
        top, low = aus.MAX_INTENSITY, -aus.MAX_INTENSITY if key in relative else 0.0
        if not low <= value <= top and not force:
            kind = f"a change of {low:+g} to {top:+g}" if key in relative else f"an intensity of 0 to {top:g}"
            raise ParameterError(f"expected {kind} for {key}; got {value:g}; --force extrapolates")


OPENINGS = ("AU25", "AU26", "AU27")
"""Units that are read from the lips and the jaw together, see `aus.columns`."""


def parameters(key: str) -> tuple[str, ...]:
    """The parameters that a name stands for: `AU12` for both of its sides.

    Raises:
        ParameterError: there are none.
    """
    name, side = aus.parse(key)
    if name in OPENINGS:
        if side:
            raise ParameterError(f"{name} has no sides; got {key!r}, use {name}")
        return (name,)
    names = aus.profile().names
    found = tuple(n for n in ([name + side] if side else [name, name + "_L", name + "_R"]) if n in names)
    if not found:
        raise ParameterError(f"{name} has no sides; got {key!r}, use {name}")
    return found


def resolve(wish: Wish, reading: Reading) -> Target:
    """The parameters that one face shall have.

    Args:
        wish: what is asked for.
        reading: of that face alone.
    """
    au, start = reading.au[0].astype(np.float32).copy(), reading.au[0]
    names = reading.names
    columns = aus.columns(names, reading.au, reading.lip_gap)
    lips: float | None = None
    if wish.neutral:
        au[:] = 0
        lips = -1.0
    if wish.like is not None:
        au = wish.like.au[0].astype(np.float32).copy()
        lips = _parting(float(reading.lip_gap[0]), float(wish.like.lip_gap[0]))
    opening: dict[str, float] = {}
    for key, value in wish.absolute.items():
        for name in parameters(key):
            if name in OPENINGS:
                opening[name] = value
            else:
                au[names.index(name)] = value / aus.MAX_INTENSITY
    for key, value in wish.change.items():
        for name in parameters(key):
            if name in OPENINGS:
                opening[name] = _limit(float(columns[name + "_r"][0]) + value, wish.force)
            else:
                i = names.index(name)
                au[i] = _limit(aus.MAX_INTENSITY * au[i] + value, wish.force) / aus.MAX_INTENSITY
    if opening:
        lips = _open(au, names, opening, float(columns["AU25_r"][0]), lips)
    share = wish.strength
    lips = None if lips is None else share * lips
    return Target((start + np.float32(share) * (au - start)).astype(np.float32), lips, wish)


def _limit(value: float, force: bool) -> float:
    return value if force else float(np.clip(value, 0, aus.MAX_INTENSITY))


def _open(
    au: F32, names: tuple[str, ...], opening: Mapping[str, float], now: float, lips: float | None
) -> float | None:
    """Sets jaw and lips for AU25, AU26 and AU27; returns what is added to the opening, as in `Target`.

    Args:
        au: `(A,)` changed in place.
        names: of the parameters.
        opening: intensities 0-5 of these units.
        now: AU25 of the face as it is.
        lips: what was to be added before these units were heard.
    """
    jaw, full = names.index("AU26"), aus.JAW_DROP_FULL
    if "AU26" in opening:
        au[jaw] = full * opening["AU26"] / aus.MAX_INTENSITY
        lips = None
    if "AU27" in opening:
        wide = opening["AU27"] / aus.MAX_INTENSITY
        au[jaw] = full + (1 - full) * wide if wide > 0 else min(float(au[jaw]), full)
        lips = None
    if "AU25" not in opening:
        return lips
    more = (opening["AU25"] - now) / aus.MAX_INTENSITY
    # the muscles that part lips, as in `aus.Profile.expand`; how far they part is set directly
    for name, weight in (("AU16", 0.35), ("AU10", 0.2)):
        for side in ("_L", "_R"):
            i = names.index(name + side)
            au[i] = max(float(au[i]) + weight * more, 0.0)
    if "AU26" not in opening and "AU27" not in opening:
        au[jaw] = max(float(au[jaw]) + 0.05 * more, 0.0)
    return _parting(now / aus.MAX_INTENSITY, opening["AU25"] / aus.MAX_INTENSITY)


def _parting(now: float, wanted: float) -> float:
    """From one opening between the lips to another, both in that of a full AU25, as `Target.lips`."""
    return wanted - now if wanted >= now else wanted / now - 1


def asked(wish: Wish, reading: Reading, goal: Target) -> dict[str, float]:
    """Intensities 0-5 by name, of the units that were asked for, as one face shall have them."""
    before = aus.columns(reading.names, reading.au, reading.lip_gap)
    columns = aus.columns(reading.names, goal.au[None], reading.lip_gap)
    named: dict[str, float] = {}
    if wish.neutral or wish.like is not None:
        named = {
            n.removesuffix("_r"): float(v[0]) for n, v in columns.items()
            if n.count("_") == 1 and abs(float(v[0] - before[n][0])) >= 0.1
        }  # fmt: skip
        if wish.neutral and before["AU25_r"][0] >= 0.1:
            named["AU25"] = 0.0
    for key in [*wish.absolute, *wish.change]:
        name, side = aus.parse(key)
        named[name + side] = float(wish.absolute.get(key, np.nan))
        if key in wish.change:
            # how far lips part is no parameter, so AU25 of the goal cannot be read off its columns
            source, extra = (before, wish.change[key]) if name == "AU25" else (columns, 0.0)
            named[name + side] = _limit(float(source[name + side + "_r"][0]) + extra, wish.force)
    return {k: round(v, 2) for k, v in named.items()}
