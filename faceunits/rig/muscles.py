"""How one person's muscles differ from the rig's: the same action unit looks different on everyone.

The rig holds one artist's shape for each action unit. A network that has seen only those learns the
artist's smile. Here every shape is changed a little per person: how far it goes, how early it starts,
in which direction, where on the face most, and what else moves with it; and a face at rest may look
as if a muscle were active. Left and right differ little, as in people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

FIXED = ("eyeBlink", "eyeLook", "jawOpen")
"""Shapes that keep their form: lids must meet, and the jaw is a hinge."""

AREAS = ("brow", "eye", "cheek", "nose", "mouth", "jaw")
"""A shape may take others of its area along."""


@dataclass(frozen=True)
class Muscles:
    """Changes of the `E` expression shapes of a rig, for one person.

    `gain` and `onset` `(E,)`: weight w becomes gain * w ** onset. `turn` `(E, 3, 3)`: linear change of
    the displacements. `wave` `(E, 5)`: the displacement of a vertex at x is scaled by
    1 + wave[0] * cos(wave[1:4] . x + wave[4]), x in cm. `mix` `(E, E)`: share of other shapes that move
    along. `rest` `(E,)`: weights of the face at rest, of either sign.
    """

    gain: F32
    onset: F32
    turn: F32
    wave: F32
    mix: F32
    rest: F32


def draw(rng: np.random.Generator, names: tuple[str, ...], *, strength: float = 1.0) -> Muscles:
    """One person's muscles.

    Args:
        rng: source of chance.
        names: of the rig's shapes; `_L` and `_R` end the names of the two sides.
        strength: 1 for the usual spread, 0 for the rig's own shapes.
    """
    count = len(names)
    gain, onset = np.ones(count), np.ones(count)
    turn = np.tile(np.eye(3), (count, 1, 1))
    wave, mix, rest = np.zeros((count, 5)), np.zeros((count, count)), np.zeros(count)
    stems = [n[:-2] if n.endswith(("_L", "_R")) else n for n in names]
    mirrored = np.diag([-1.0, 1.0, 1.0])
    for stem in dict.fromkeys(stems):
        sides = [i for i, s in enumerate(stems) if s == stem]
        own_gain = np.exp(strength * rng.normal(0, 0.2))
        own_onset = np.exp(strength * rng.normal(0, 0.2))
        own_turn = np.eye(3) + strength * rng.normal(0, 0.12, (3, 3))
        own_wave = np.array([strength * rng.uniform(0, 0.35), *rng.normal(0, 0.6, 3), rng.uniform(0, 6.3)])
        area = next((a for a in AREAS if stem.startswith(a)), "")
        others = sorted({s for s in stems if area and s.startswith(area) and s != stem})
        others = [s for s in others if not s.startswith(FIXED)]
        friend = others[int(rng.integers(len(others)))] if others else ""
        share = strength * rng.normal(0, 0.12)
        at_rest = strength * rng.normal(0, 0.1) * (rng.random() < 0.35)
        if stem.startswith(FIXED):
            continue
        for i in sides:
            right = names[i].endswith("_R")
            gain[i] = np.clip(own_gain * np.exp(strength * rng.normal(0, 0.05)), 0.6, 1.5)
            onset[i] = own_onset
            turn[i] = mirrored @ own_turn @ mirrored if right else own_turn
            wave[i] = own_wave
            wave[i, 1] *= -1 if right else 1
            rest[i] = np.clip(at_rest + strength * rng.normal(0, 0.02), -0.25, 0.25)
            for j, other in enumerate(stems):
                same_side = names[j][-2:] == names[i][-2:] or not names[j].endswith(("_L", "_R"))
                if friend and other == friend and same_side:
                    mix[i, j] = share
    return Muscles(*(a.astype(np.float32) for a in (gain, onset, turn, wave, mix, rest)))


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
    for k in np.flatnonzero(active):
        wave = muscles.wave[k]
        swell = 1 + wave[0] * np.cos(neutral @ wave[1:4] + wave[4])
        out += (active[k] * swell)[:, None] * (expression[k] @ muscles.turn[k].T)
    for k in np.flatnonzero(along):
        out += along[k] * expression[k]
    return out
