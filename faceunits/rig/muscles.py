"""How one person's muscles differ from the rig's: the same action unit looks different on everyone.

The rig holds one artist's shape for each action unit. A network that has seen only those learns the
artist's smile. Here every shape is changed a little per person: how far it goes, how early it starts,
in which direction, where on the face most, and what else moves with it; and a face at rest may look
as if a muscle were active. Left and right differ little, as in people. The face below the muscles may
bend too, beyond the identities that the rig knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from faceunits.rig import blend

F32 = NDArray[np.float32]

FIXED = ("eyeBlink", "eyeLook", "jawOpen")
"""Shapes that keep their form: lids must meet, and the jaw is a hinge."""

AREAS = ("brow", "eye", "cheek", "nose", "mouth", "jaw")
"""A shape may take others of its area along."""

COMPANY: dict[str, dict[str, float]] = {
    "cheekRaiser": {"eyeSquint": 0.6, "browDown": 0.15},
    "mouthSmile": {"cheekRaiser": 0.45, "eyeSquint": 0.25, "mouthUpperUp": 0.35, "mouthLowerDown": 0.3,
                   "mouthDimple": 0.15, "noseSneer": 0.25},
    "mouthUpperUp": {"noseSneer": 0.25, "cheekRaiser": 0.15},
    "noseSneer": {"mouthUpperUp": 0.25, "browDown": 0.4, "eyeSquint": 0.25},
    "browInnerUp": {"browOuterUp": 0.3},
    "browOuterUp": {"browInnerUp": 0.3, "eyeWide": 0.15},
    "browDown": {"eyeSquint": 0.2},
    "eyeWide": {"browOuterUp": 0.2},
    "eyeSquint": {"cheekRaiser": 0.35, "browDown": 0.1},
    "mouthFrown": {"mouthShrugLower": 0.3, "mouthStretch": 0.15},
    "mouthStretch": {"mouthLowerDown": 0.2, "mouthDimple": 0.2},
    "mouthShrugLower": {"mouthPress": 0.2, "mouthFrown": 0.15},
    "mouthPress": {"mouthShrugLower": 0.2, "mouthDimple": 0.2, "mouthRollUpper": 0.2},
    "mouthDimple": {"mouthPress": 0.25, "mouthSmile": 0.15},
    "mouthLowerDown": {"mouthStretch": 0.15},
    "mouthPucker": {"mouthFunnel": 0.3},
    "mouthFunnel": {"mouthPucker": 0.3},
}  # fmt: skip
"""At most so much of other shapes is seen with a movement in some people, though its action unit alone is
at work: a raised cheek narrows the eye, a wide smile raises the cheek and bares teeth, a wrinkled nose
pulls brows down. After what the FACS manual lists as changes of an action unit's appearance; the shares
are ours."""

SOLITUDE: dict[str, dict[str, float]] = {"noseSneer": {"mouthShrugUpper": 1.3, "browDown": 0.8}}
"""At most so much of what a shape of the rig brings along is missing in some people. The rig wrinkles no nose
without raising the upper lip as far as AU10 does, so that the mouth opens by .6 cm, and lowering the brows
as far as AU4; most people can do it with the mouth closed."""

WAVES = 4
"""Waves that bend a face."""


@dataclass(frozen=True)
class Muscles:
    """Changes of the `E` expression shapes of a rig, for one person.

    `gain` and `onset` `(E,)`: weight w becomes gain * w ** onset. `turn` `(E, 3, 3)`: linear change of
    the displacements. `wave` `(E, 5)`: the displacement of a vertex at x is scaled by
    1 + wave[0] * cos(wave[1:4] . x + wave[4]), x in cm. `mix` `(E, E)`: share of other shapes that move
    along. `rest` `(E,)`: weights of the face at rest, of either sign. `bend` `(W, 7)`: waves that the
    face itself follows, see `bent`; none for the rig's own faces.
    """

    gain: F32
    onset: F32
    turn: F32
    wave: F32
    mix: F32
    rest: F32
    bend: F32 = field(default_factory=lambda: np.zeros((0, 7), np.float32))


@dataclass(frozen=True)
class _Part:
    """A shape of both sides: indices of its sides, and those of the shapes of its area it may take along."""

    sides: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]
    fixed: bool


def stem(name: str) -> str:
    """The name of a shape without its side."""
    return name[:-2] if name.endswith(("_L", "_R")) else name


@cache
def _parts(names: tuple[str, ...]) -> list[_Part]:
    stems = [stem(n) for n in names]
    sides = {s: tuple(i for i, other in enumerate(stems) if other == s) for s in stems}
    out = []
    for own in dict.fromkeys(stems):
        area = next((a for a in AREAS if own.startswith(a)), "")
        others = sorted({s for s in stems if area and s.startswith(area) and s != own})
        friends = tuple(sides[s] for s in others if not s.startswith(FIXED))
        out.append(_Part(sides[own], friends, own.startswith(FIXED)))
    return out


def draw(
    rng: np.random.Generator, names: tuple[str, ...], *, strength: float = 1.0, bend_cm: float = 0.0,
    company: float = 0.0, rest: float = 1.0,
) -> Muscles:  # fmt: skip
    """One person's muscles.

    Args:
        rng: source of chance.
        names: of the rig's shapes; `_L` and `_R` end the names of the two sides.
        strength: 1 for the usual spread, 0 for the rig's own shapes.
        bend_cm: spread of each wave of the face itself; 0 for the rig's own faces.
        company: share of `COMPANY` that may come along and of `SOLITUDE` that may be missing; 0 for none.
        rest: how much a face at rest may look active, as a factor.
    """
    count = len(names)
    gain, onset = np.ones(count), np.ones(count)
    turn = np.tile(np.eye(3), (count, 1, 1))
    wave, mix, quiet = np.zeros((count, 5)), np.zeros((count, count)), np.zeros(count)
    mirrored = np.diag([-1.0, 1.0, 1.0])
    for part in _parts(names):
        own_gain = np.exp(strength * rng.normal(0, 0.2))
        own_onset = np.exp(strength * rng.normal(0, 0.2))
        own_turn = np.eye(3) + strength * rng.normal(0, 0.12, (3, 3))
        own_wave = np.array([strength * rng.uniform(0, 0.35), *rng.normal(0, 0.6, 3), rng.uniform(0, 6.3)])
        friend = part.others[int(rng.integers(len(part.others)))] if part.others else ()
        share = strength * rng.normal(0, 0.12)
        at_rest = rest * strength * rng.normal(0, 0.1) * (rng.random() < 0.35)
        if part.fixed:
            continue
        for i in part.sides:
            right = names[i].endswith("_R")
            gain[i] = np.clip(own_gain * np.exp(strength * rng.normal(0, 0.05)), 0.4, 1.5)
            onset[i] = own_onset
            turn[i] = mirrored @ own_turn @ mirrored if right else own_turn
            wave[i] = own_wave
            wave[i, 1] *= -1 if right else 1
            limit = 0.25 * max(1.0, rest)
            quiet[i] = np.clip(at_rest + strength * rng.normal(0, 0.02), -limit, limit)
            for j in friend:
                if names[j][-2:] == names[i][-2:] or not names[j].endswith(("_L", "_R")):
                    mix[i, j] = share
    bend = np.zeros((0, 7))
    if bend_cm > 0:  # drawn only where asked for: the shards of earlier seeds stay what they were
        sizes, periods = rng.normal(0, bend_cm, (WAVES, 3)), rng.normal(0, 0.4, (WAVES, 3))
        bend = np.concatenate([sizes, periods, rng.uniform(0, 6.3, (WAVES, 1))], 1)
    if company > 0:
        mix += _company(rng, names, company)
    return Muscles(*(a.astype(np.float32) for a in (gain, onset, turn, wave, mix, quiet, bend)))


def _company(rng: np.random.Generator, names: tuple[str, ...], most: float) -> NDArray[np.float64]:
    """`(E, E)` shares of other shapes that come along with each, or are missing from it, for one person; the
    same on both sides."""
    sides = {stem(names[part.sides[0]]): part.sides for part in _parts(names)}
    out = np.zeros((len(names), len(names)))
    for source, more in COMPANY.items():
        less = SOLITUDE.get(source, {})
        for other in more | less:
            low, high = less.get(other, 0.0), more.get(other, 0.0)
            share = most * (rng.uniform() * (low + high) - low)
            for i in sides.get(source, ()):
                for j in sides.get(other, ()):
                    sided = [names[k][-2:] if names[k].endswith(("_L", "_R")) else "" for k in (i, j)]
                    if "" in sided:  # what has no sides is moved by both
                        out[i, j] = share / len(sides[source])
                    elif sided[0] == sided[1]:
                        out[i, j] = share
    return out


def bent(muscles: Muscles, points: F32) -> F32:
    """`(V, 3)` displacement of the face itself at `points` `(V, 3)`, cm: the same on both sides, smooth, so
    that it changes how a face is built and not what it does.

    A wave of sizes s, periods k (per cm) and start p moves x by (s0 sin(k0 x0), s1 cos(k0 x0), s2 cos(k0 x0))
    cos(k1 x1 + k2 x2 + p).
    """
    out = np.zeros_like(points)
    for *size, k0, k1, k2, start in muscles.bend:
        along = np.cos(points[:, 1:] @ np.array([k1, k2], np.float32) + start)
        sideways, other = np.sin(k0 * points[:, 0]) * along, np.cos(k0 * points[:, 0]) * along
        out += np.stack([size[0] * sideways, size[1] * other, size[2] * other], 1)
    return out


def weigh(muscles: Muscles, weights: F32) -> F32:
    """`(E,)` weights as these muscles carry them out, before what is mixed in: `weights` in [0, 1]."""
    out: F32 = (muscles.gain * weights**muscles.onset).astype(np.float32)
    return out


def move(muscles: Muscles, expression: F32, neutral: F32, weights: F32) -> F32:
    """`(V, 3)` displacement of the face.

    Args:
        muscles: of `draw`.
        expression: `(E, V, 3)` the rig's shapes.
        neutral: `(V, 3)` where the waves are placed, cm.
        weights: `(E,)` in [0, 1].
    """
    active = weigh(muscles, weights)
    along = active @ muscles.mix + muscles.rest  # others move unchanged: their own changes are theirs
    out = np.zeros_like(neutral)
    blend.add(out, along.astype(np.float32), expression)
    for k in np.flatnonzero(active):
        wave = muscles.wave[k]
        swell = 1 + wave[0] * np.cos(neutral @ wave[1:4] + wave[4])
        out += (active[k] * swell)[:, None] * (expression[k] @ muscles.turn[k].T)
    return out
