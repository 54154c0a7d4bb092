"""Muscles that differ between people: symmetric, harmless at strength 0, and never at rest by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import tiny

from faceunits import aus
from faceunits.rig import muscles, shape

PROFILE = aus.profile()
NAMES = tiny().expression_names
FLIP = np.array([-1, 1, 1], np.float32)


def drawn(seed: int, strength: float = 1.0) -> muscles.Muscles:
    return muscles.draw(np.random.default_rng(seed), NAMES, strength=strength)


def weights(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(len(NAMES)).astype(np.float32)


@given(st.integers(0, 1000))
def test_no_strength_leaves_the_rig_as_it_is(seed: int) -> None:
    model, nobody = tiny(), np.zeros(1, np.float32)
    w = weights(seed)
    usual = shape.vertices(model, nobody, w)
    np.testing.assert_allclose(shape.vertices(model, nobody, w, muscles_=drawn(seed, 0.0)), usual, atol=2e-5)
    assert np.abs(shape.vertices(model, nobody, w, muscles_=drawn(seed)) - usual).max() > 0.01


def test_a_seed_gives_the_same_muscles_and_another_others() -> None:
    a, b, c = drawn(1), drawn(1), drawn(2)
    np.testing.assert_array_equal(a.turn, b.turn)
    assert np.abs(a.turn - c.turn).max() > 0.05


@given(st.integers(0, 300))
def test_sides_differ_little(seed: int) -> None:
    """Apart from small differences of gain and rest, the left shape moves as the right one mirrored."""
    model, m = tiny(), drawn(seed)
    left, right = NAMES.index("mouthSmile_L"), NAMES.index("mouthSmile_R")
    alike = muscles.Muscles(np.full_like(m.gain, 1), m.onset, m.turn, m.wave, 0 * m.mix, 0 * m.rest)
    moved = []
    for side in (left, right):
        w = np.zeros(len(NAMES), np.float32)
        w[side] = 0.8
        moved.append(muscles.move(alike, model.expression, model.neutral, w))
    np.testing.assert_allclose(moved[1], FLIP * moved[0][model.mirror], atol=1e-5)
    assert abs(np.log(m.gain[left] / m.gain[right])) < 0.5


def test_company_comes_along_on_its_own_side_and_only_if_asked_for() -> None:
    rng, names = np.random.default_rng(0), ("cheekRaiser_L", "cheekRaiser_R", "eyeSquint_L", "eyeSquint_R",
                                            "mouthPress_L", "mouthPress_R", "mouthShrugLower")  # fmt: skip
    alone = muscles.draw(np.random.default_rng(0), names, strength=0)
    assert not alone.mix.any()
    shares = np.stack([muscles.draw(rng, names, strength=0, company=0.5).mix for _ in range(50)])
    raised, narrowed = 0.5 * muscles.COMPANY["cheekRaiser"]["eyeSquint"], shares[:, 0, 2]
    assert 0 <= narrowed.min() < 0.1 * raised
    assert 0.9 * raised < narrowed.max() <= raised
    np.testing.assert_array_equal(narrowed, shares[:, 1, 3])  # alike on both sides
    assert not shares[:, 0, 3].any()
    # what has no sides is moved by both
    chin = 0.5 * muscles.COMPANY["mouthPress"]["mouthShrugLower"]
    assert 0.9 * chin < shares[:, 4:6, 6].sum(1).max() <= chin


def test_some_people_wrinkle_the_nose_alone() -> None:
    rng, names = np.random.default_rng(0), ("browDown_L", "browDown_R", "mouthShrugUpper", "noseSneer_L",
                                            "noseSneer_R")  # fmt: skip
    shares = np.stack([muscles.draw(rng, names, strength=0, company=1).mix for _ in range(200)])
    lip, brow = shares[:, 3:, 2].sum(1), shares[:, 3, 0]
    assert -1.3 <= lip.min() < -1.2
    assert -0.1 < lip.max() <= 0
    assert -0.8 <= brow.min() < -0.7
    assert 0.3 < brow.max() <= 0.4
    np.testing.assert_array_equal(brow, shares[:, 4, 1])


def test_every_companion_is_a_shape_of_the_rig() -> None:
    stems = {n.removesuffix("_L").removesuffix("_R") for p in PROFILE.parameters for n, _ in p.shapes}
    known = stems | {"mouthRollUpper", "mouthRollLower", "mouthShrugUpper"}
    for table in (muscles.COMPANY, muscles.SOLITUDE):
        assert {s for source, others in table.items() for s in (source, *others)} <= known
    assert set(muscles.SOLITUDE) <= set(muscles.COMPANY)  # the table that is gone through


def test_lids_still_close() -> None:
    m = drawn(3)
    for i, name in enumerate(NAMES):
        if name.startswith(muscles.FIXED):
            assert (m.gain[i], m.onset[i], m.rest[i], m.wave[i, 0]) == (1, 1, 0, 0)
            np.testing.assert_array_equal(m.turn[i], np.eye(3))
            assert not m.mix[:, i].any()


def test_a_resting_face_may_look_active() -> None:
    """Somebody's rest differs from the rig's, though every weight is 0; nobody's by very much."""
    model, nothing = tiny(), np.zeros(len(NAMES), np.float32)
    moved = [muscles.move(drawn(s), model.expression, model.neutral, nothing) for s in range(20)]
    assert np.abs(moved).max() > 0.01
    assert all(np.abs(drawn(s).rest).max() <= 0.25 for s in range(20))
    more = [muscles.draw(np.random.default_rng(s), NAMES, rest=2.0).rest for s in range(20)]
    assert 0.25 < np.abs(more).max() <= 0.5


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_weights_stay_ordered(value: float) -> None:
    m = drawn(5)
    low, high = (muscles.weigh(m, np.full(len(NAMES), v, np.float32)) for v in (value / 2, value))
    assert (high >= low).all()
    assert (high >= 0).all()


@given(st.integers(0, 300))
def test_a_bent_face_stays_symmetric_and_keeps_its_movements(seed: int) -> None:
    """Bends are the same on both sides; they change the face, not what a muscle does to it."""
    model = tiny()
    m = muscles.draw(np.random.default_rng(seed), NAMES, strength=0.0, bend_cm=0.2)
    even = (
        model.neutral + FLIP * model.neutral[model.mirror]
    ) / 2  # the small rig is symmetric but for rounding
    moved = muscles.bent(m, even.astype(np.float32))
    np.testing.assert_allclose(moved, FLIP * moved[model.mirror], atol=1e-4)
    assert 0.01 < np.abs(moved).max() < 0.2 * 4 * muscles.WAVES
    assert not muscles.bent(drawn(seed), model.neutral).any()
    i = NAMES.index("mouthSmile_L")
    w = np.eye(len(NAMES), dtype=np.float32)[i]
    nobody, rest = np.zeros(1, np.float32), np.zeros(len(NAMES), np.float32)
    smile = shape.vertices(model, nobody, w, muscles_=m) - shape.vertices(model, nobody, rest, muscles_=m)
    np.testing.assert_allclose(smile, model.expression[i], atol=1e-4)
