"""The vocabulary: sides swap and come back, ranges hold, names parse in every spelling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from faceunits import aus
from faceunits.errors import ParameterError

PROFILES = ("default", "paper23")
DEFAULT = aus.profile()

profiles = st.sampled_from(PROFILES).map(aus.profile)


def rows(profile: aus.Profile, low: float = 0, high: float = 1) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float32, (3, len(profile)), elements=st.floats(low, high, width=32))


def gaps() -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float32, (3,), elements=st.floats(0, 1, width=32))


def test_paper23_has_the_table_of_the_paper() -> None:
    profile = aus.profile("paper23")
    assert len(profile) == 23
    assert profile.names[:3] == ("AU45_L", "AU45_R", "AU05")  # the upper-lid raiser is third, says the paper


def test_the_default_has_both_sides_of_every_two_sided_unit() -> None:
    sided = {n[:-2] for n in DEFAULT.names if n.endswith("_L")}
    assert sided == {n[:-2] for n in DEFAULT.names if n.endswith("_R")}
    assert {"AU01", "AU06", "AU07", "AU12", "AU16", "AU45"} <= sided
    assert {"AU23", "AU26", "AU28"} <= set(DEFAULT.names)
    assert len(set(DEFAULT.names)) == len(DEFAULT)


@pytest.mark.parametrize("name", PROFILES)
def test_every_unit_has_a_name(name: str) -> None:
    assert all(p.au in aus.NAMES for p in aus.profile(name).parameters)


@pytest.mark.parametrize("name", PROFILES)
def test_mirror_is_its_own_inverse_and_swaps_sides(name: str) -> None:
    profile = aus.profile(name)
    mirror = profile.mirror()
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(profile)))
    for i, j in enumerate(mirror):
        a, b = profile.parameters[i], profile.parameters[j]
        assert (a.au, {"L": "R", "R": "L", "": ""}[a.side]) == (b.au, b.side)


@given(data=st.data(), profile=profiles)
def test_columns_lie_in_their_range(data: st.DataObject, profile: aus.Profile) -> None:
    columns = aus.columns(profile.names, data.draw(rows(profile, -2, 3)), data.draw(gaps()))
    for values in columns.values():
        assert values.dtype == np.float32
        assert values.shape == (3,)
        assert (values >= 0).all()
        assert (values <= 5).all()


@given(data=st.data(), profile=profiles)
def test_the_column_without_a_side_is_the_larger_side(data: st.DataObject, profile: aus.Profile) -> None:
    columns = aus.columns(profile.names, data.draw(rows(profile)), data.draw(gaps()))
    for name in columns:
        if name.endswith("_L_r"):
            stem = name.removesuffix("_L_r")
            larger = np.maximum(columns[name], columns[stem + "_R_r"])
            np.testing.assert_array_equal(columns[stem + "_r"], larger)


@given(data=st.data(), profile=profiles)
def test_mirrored_parameters_give_mirrored_columns(data: st.DataObject, profile: aus.Profile) -> None:
    values, gap = data.draw(rows(profile)), data.draw(gaps())
    there = aus.columns(profile.names, values, gap)
    back = aus.columns(profile.names, values[:, profile.mirror()], gap)
    swap = {"_L_r": "_R_r", "_R_r": "_L_r"}
    for name, column in there.items():
        other = name[:-4] + swap[name[-4:]] if name[-4:] in swap else name
        np.testing.assert_array_equal(column, back[other])


@given(data=st.data(), profile=profiles)
def test_a_batch_equals_its_members(data: st.DataObject, profile: aus.Profile) -> None:
    values, gap = data.draw(rows(profile)), data.draw(gaps())
    whole = aus.columns(profile.names, values, gap)
    for i in range(3):
        single = aus.columns(profile.names, values[i : i + 1], gap[i : i + 1])
        assert {n: float(c[0]) for n, c in single.items()} == {n: float(c[i]) for n, c in whole.items()}


def test_column_names_are_those_of_openface_where_it_has_one() -> None:
    columns = aus.columns(DEFAULT.names, np.zeros((1, len(DEFAULT)), np.float32), np.zeros(1, np.float32))
    openface = "01 02 04 05 06 07 09 10 12 14 15 17 20 23 25 26 45".split()
    assert {f"AU{n}_r" for n in openface} <= columns.keys()
    assert list(columns) == sorted(columns)


@given(au=st.sampled_from([p for p in DEFAULT.names if p != "AU26"]), value=st.floats(0, 5))
def test_expand_then_columns_comes_back(au: str, value: float) -> None:
    values = DEFAULT.expand({au: value})
    assert np.count_nonzero(values) == (np.float32(value / 5) > 0)  # the least are rounded up or down
    columns = aus.columns(DEFAULT.names, values[None], np.zeros(1, np.float32))
    assert columns[au + "_r"][0] == pytest.approx(value, abs=1e-5)


@given(value=st.floats(0.01, 5))
def test_a_name_without_a_side_sets_both(value: float) -> None:
    values = DEFAULT.expand({"AU12": value})
    assert values[DEFAULT.index("AU12_L")] == values[DEFAULT.index("AU12_R")] == pytest.approx(value / 5)


@given(value=st.floats(0, 5))
def test_jaw_drop_and_mouth_stretch_share_the_jaw(value: float) -> None:
    def read(name: str) -> float:
        columns = aus.columns(DEFAULT.names, DEFAULT.expand({name: value})[None], np.zeros(1, np.float32))
        return float(columns[name + "_r"][0])

    assert read("AU26") == pytest.approx(value, abs=1e-4)
    assert read("AU27") == pytest.approx(value, abs=1e-4)


@given(number=st.sampled_from(sorted(aus.NAMES)), side=st.sampled_from(["", "L", "R"]), zero=st.booleans(),
       prefix=st.sampled_from(["", "AU", "au", " Au"]), line=st.booleans())  # fmt: skip
def test_every_spelling_parses(number: int, side: str, zero: bool, prefix: str, line: bool) -> None:
    text = prefix + (f"{number:02d}" if zero else str(number)) + ("_" if side and line else "") + side
    assert aus.parse(text) == (f"AU{number:02d}", "_" + side if side else "")


def test_closed_eyes_are_a_blink() -> None:
    assert aus.parse("AU43") == ("AU45", "")


@pytest.mark.parametrize("text", ["", "AU", "AU99", "smile", "AU12_X", "AU12=4", "AU-1", "AU123"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        aus.parse(text)


@given(text=st.text(max_size=8))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        name, side = aus.parse(text)
    except ParameterError:
        return
    assert int(name[2:]) in aus.NAMES
    assert side in ("", "_L", "_R")


@pytest.mark.parametrize("value", [-0.1, 5.1, float("nan"), float("inf")])
def test_intensities_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(ParameterError, match="0 to 5"):
        DEFAULT.expand({"AU12": value})


def test_a_side_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ParameterError):
        DEFAULT.expand({"AU17_L": 1})


def test_unknown_profiles_and_names_are_refused() -> None:
    with pytest.raises(ParameterError, match="default or paper23"):
        aus.profile("other")
    with pytest.raises(ParameterError, match="AU12_L"):
        DEFAULT.index("AU12")
