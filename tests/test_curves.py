"""The curves that carry E's readings to the scale of the parameters."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faceunits.fitting import curves


def sparse(count: int, seed: int) -> torch.Tensor:
    """Parameters as faces have them: nine of ten at rest."""
    chance = torch.Generator().manual_seed(seed)
    active = torch.rand(count, 3, generator=chance) < 0.1
    return active * torch.rand(count, 3, generator=chance)


def test_weak_readings_of_faces_at_rest_fall_and_strong_ones_rise() -> None:
    truth = sparse(4000, 0)
    readings = 0.1 + 0.4 * truth  # what squared error does to sparse values
    out = curves.apply(readings, *curves.matching(readings, truth))
    at_rest = truth == 0
    assert float(out[at_rest].max()) <= 0.1 * curves.KEPT + 1e-3
    strong = truth > 0.5
    expected = (1 - curves.KEPT) * truth + curves.KEPT * readings
    assert torch.allclose(out[strong], expected[strong], atol=0.05)


def test_readings_that_are_right_stay_so() -> None:
    truth = torch.rand(4000, 2, generator=torch.Generator().manual_seed(1))
    out = curves.apply(truth, *curves.matching(truth, truth))
    assert torch.allclose(out, truth, atol=0.01)


@settings(deadline=None)
@given(st.floats(-1, 2), st.floats(-1, 2))
def test_a_stronger_reading_never_gives_a_weaker_parameter(a: float, b: float) -> None:
    truth = sparse(500, 2)
    knots, values = curves.matching(0.05 + 0.5 * truth, truth)
    low, high = sorted((a, b))
    out = curves.apply(torch.tensor([[low] * 3, [high] * 3]), knots, values)
    assert bool((out[1] >= out[0] - 1e-6).all())


def test_each_face_is_carried_alone() -> None:
    truth = sparse(300, 3)
    knots, values = curves.matching(truth + 0.1, truth)
    batch = torch.rand(5, 3, generator=torch.Generator().manual_seed(4))
    together = curves.apply(batch, knots, values)
    for k in range(5):
        assert torch.equal(curves.apply(batch[k : k + 1], knots, values)[0], together[k])
