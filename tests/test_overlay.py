"""The overlay: its parts are where they are said to be, in the colours they are said to have."""

from __future__ import annotations

import numpy as np
import pytest
import stand_ins

from faceunits.types import Face
from faceunits.viz import colours, overlay


@pytest.fixture
def face() -> Face:
    return stand_ins.detect(stand_ins.picture((30, 40, 60, 220)))[0]


@pytest.mark.parametrize("size", [(200, 300), (900, 120), (40, 1600)])
def test_a_sheet_has_one_size_whatever_the_photo(face: Face, size: tuple[int, int]) -> None:
    crop = np.full((3, 64, 64), 0.8, np.float32)
    result = stand_ins.fit(np.stack([crop] * 2), stand_ins.StandInModels())
    photo = np.zeros((*size, 3), np.uint8)
    out = overlay.sheet(photo, face, crop, result, 1, roll_deg=-4, title="someone.jpg")
    assert out.dtype == np.uint8
    assert out.shape[2] == 3
    assert out.shape[1] > 3 * overlay.PANEL
    assert 2 * overlay.PANEL < out.shape[0] < 900


def test_undefined_numbers_are_drawn_as_such(face: Face) -> None:
    crop = np.full((3, 64, 64), np.nan, np.float32)
    result = stand_ins.fit(np.zeros((1, 3, 64, 64), np.float32), stand_ins.StandInModels())
    result.landmarks[:] = np.nan
    result.residual[:] = np.nan
    overlay.sheet(np.zeros((50, 50, 3), np.uint8), face, crop, result, 0)
    overlay.bar_chart({"AU12_r": float("nan"), "AU12_L_r": float("nan"), "AU12_R_r": 1.0})


def test_sheets_are_stacked() -> None:
    a, b = np.zeros((10, 20, 3), np.uint8), np.full((5, 15, 3), 9, np.uint8)
    out = overlay.stack([a, b])
    assert out.shape == (15, 20, 3)
    assert (out[10:, :15] == 9).all()
    assert (out[10:, 15:] == 255).all()


def test_bars_grow_with_their_value_and_keep_their_side() -> None:
    def coloured(values: dict[str, float], colour: tuple[int, int, int]) -> int:
        return int((overlay.bar_chart(values)[30:] == colour).all(axis=2).sum())

    def both(right: float, left: float) -> dict[str, float]:
        return {"AU12_r": max(right, left), "AU12_R_r": right, "AU12_L_r": left}

    counts = [coloured(both(v, 1), overlay._RIGHT) for v in (0, 1, 2.5, 5)]
    assert counts[0] == 0
    assert counts == sorted(set(counts))
    assert coloured(both(5, 0), overlay._LEFT) == 0
    assert coloured(both(0, 5), overlay._LEFT) == counts[-1]
    assert overlay.bar_chart(both(1, 2)).shape == overlay.bar_chart(both(5, 5)).shape


def test_every_class_has_its_own_colour() -> None:
    assert len({tuple(c) for c in colours.palette()[:40].tolist()}) == 40
    classes = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert colours.parsing(classes).shape == (2, 3, 3)
    np.testing.assert_array_equal(colours.parsing(classes)[1, 2], colours.palette()[5])


def test_heat_is_darker_where_it_is_less() -> None:
    out = colours.heat(np.array([[0, 0.5, 1, 2, np.nan]], np.float32), top=1).sum(axis=-1)[0].tolist()
    assert out[0] == 0 == out[4]
    assert out[0] < out[1] < out[2] == out[3]
    assert (colours.heat(np.zeros((2, 2), np.float32)) == 0).all()
