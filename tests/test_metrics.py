"""Agreement between intensities, against tables from print and against slow counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from faceunits.evaluation import metrics

SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
"""Six targets, four judges: Shrout & Fleiss 1979, table 2."""

values = hnp.arrays(np.float64, st.integers(2, 12), elements=st.integers(0, 5))
pairs = hnp.arrays(np.float64, st.tuples(st.integers(3, 20), st.just(2)), elements=st.floats(0, 5, width=32))


def test_the_published_table_has_the_published_icc():
    assert metrics.icc31(SHROUT_FLEISS) == pytest.approx(0.715, abs=5e-4)


@given(pairs)
def test_icc_of_two_raters_is_their_covariance_over_their_mean_variance(table):
    a, b = table.T
    below = a.var() + b.var()
    if below < 1e-6:
        return
    assert metrics.icc31(table) == pytest.approx(
        2 * np.mean((a - a.mean()) * (b - b.mean())) / below, abs=1e-6
    )


@given(pairs, st.floats(-3, 3))
def test_icc_ignores_a_constant_difference(table, shift):
    before, after = metrics.icc31(table), metrics.icc31(table + np.array([0, shift]))
    if table.var(0).sum() > 1e-3:
        assert after == pytest.approx(before, abs=1e-6)


def test_icc_at_its_edges():
    rising = np.arange(5.0)
    assert metrics.icc31(np.stack([rising, rising], 1)) == pytest.approx(1)
    assert metrics.icc31(np.stack([rising, -rising], 1)) == pytest.approx(-1)
    assert metrics.icc31(np.stack([rising, np.ones(5)], 1)) == pytest.approx(0)
    assert np.isnan(metrics.icc31(np.ones((5, 2))))
    assert np.isnan(metrics.icc31(np.ones((1, 2))))
    truth = np.stack([rising, np.zeros(5)], 1)
    np.testing.assert_allclose(metrics.icc_columns(truth, truth), [1, np.nan])


tables = hnp.arrays(
    np.float64, st.tuples(st.integers(4, 24), st.just(2)),
    elements=st.one_of(st.floats(0, 5, width=32), st.just(np.nan)),
)  # fmt: skip


@given(tables, st.integers(1, 4))
def test_sums_give_the_scores_of_the_pairs_that_are_whole(table, groups):
    t, p = table.T
    group = np.arange(len(t)) % groups
    parts = metrics.sums(t[:, None], p[:, None], group, groups)
    got = {k: v[0] for k, v in metrics.agreement(parts.sum(0)).items()}
    whole = ~np.isnan(table).any(1)
    a, b = table[whole].T
    assert parts[..., 0].sum() == len(a)
    if not len(a):
        assert all(np.isnan(v) for v in got.values())
        return
    assert got["mae"] == pytest.approx(np.mean([abs(x - y) for x, y in zip(a, b, strict=True)]), abs=1e-9)
    assert got["mse"] == pytest.approx(np.mean([(x - y) ** 2 for x, y in zip(a, b, strict=True)]), abs=1e-9)
    if a.var() > 1e-6 and b.var() > 1e-6:
        assert got["icc"] == pytest.approx(metrics.icc31(table[whole]), abs=1e-6)
        assert got["r"] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)
    for g in range(groups):  # a group's sums are those of the group alone, but for where they are centred
        mine = whole & (group == g)
        alone = metrics.agreement(metrics.sums(t[mine, None], p[mine, None], group[mine] * 0, 1).sum(0))
        if mine.any() and t[mine].var() > 1e-6:
            assert metrics.agreement(parts[g])["icc"][0] == pytest.approx(alone["icc"][0], abs=1e-6)


def test_scores_at_their_edges():
    rising, flat = np.arange(5.0), np.full(5, 0.3)
    together = np.stack([rising, flat, rising], 1), np.stack([flat, flat, rising], 1)
    got = metrics.with_mean(metrics.agreement(metrics.sums(*together, np.zeros(5, int), 1).sum(0)))
    np.testing.assert_allclose(got["icc"], [0, np.nan, 1, 0.5], atol=1e-12)  # the mean is of those defined
    np.testing.assert_allclose(got["r"], [np.nan, np.nan, 1, 1], atol=1e-12)
    one = metrics.agreement(metrics.sums(rising[:1, None], rising[:1, None], np.zeros(1, int), 1).sum(0))
    assert np.isnan(one["icc"]).all()
    assert one["mae"] == 0


def test_intervals_by_group_are_those_of_the_slow_draws():
    rng = np.random.default_rng(5)
    group = rng.integers(0, 6, 80)
    truth, predicted = rng.random((80, 2)), rng.random((80, 2))
    got = metrics.intervals(metrics.sums(truth, predicted, group, 6), rounds=60)

    def statistic(chosen):
        rows = np.concatenate([np.flatnonzero(group == g) for g in chosen])
        return float(np.mean(metrics.icc_columns(truth[rows], predicted[rows])))

    np.testing.assert_allclose(got["icc"][:, -1], metrics.interval(6, statistic, rounds=60), atol=1e-9)
    alone = metrics.intervals(metrics.sums(truth, predicted, group * 0, 1))
    assert all(np.isnan(v).all() for v in alone.values())


@given(values, values)
def test_auc_is_the_share_of_pairs_in_order(yes, no):
    slow = np.mean([1.0 if p > n else 0.5 if p == n else 0.0 for p in yes for n in no])
    assert metrics.auc(yes, no) == pytest.approx(slow)
    assert metrics.auc(no, yes) == pytest.approx(1 - slow)


def test_auc_without_one_side_is_unknown():
    assert np.isnan(metrics.auc(np.zeros(0), np.ones(3)))
    assert np.isnan(metrics.auc(np.ones(3), np.zeros(0)))


def test_ranks_share_ties():
    np.testing.assert_array_equal(metrics.ranks(np.array([30.0, 10, 20, 20])), [4, 1, 2.5, 2.5])


@given(hnp.arrays(np.float64, st.tuples(st.integers(2, 15), st.just(2)), elements=st.integers(0, 5)))
def test_spearman_is_that_of_scipy(table):
    stats = pytest.importorskip("scipy.stats")
    a, b = table.T
    got = metrics.spearman(a, b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(got)
    else:
        assert got == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)


def test_the_interval_of_a_mean_is_that_of_the_central_limit():
    x = np.random.default_rng(3).normal(0, 1, 400)
    low, high = metrics.interval(len(x), lambda rows: float(x[rows].mean()))
    half = 1.96 * x.std() / 20
    assert low == pytest.approx(x.mean() - half, abs=0.25 * half)
    assert high == pytest.approx(x.mean() + half, abs=0.25 * half)
    assert metrics.interval(len(x), lambda rows: float(x[rows].mean())) == (low, high)
    assert all(np.isnan(metrics.interval(3, lambda rows: float("nan"), rounds=5)))


def test_f1_counts_pixels_of_a_group_together():
    a = np.array([[2, 3, 0, 6]], np.uint8)
    b = np.array([[2, 2, 0, 0]], np.uint8)
    f1 = metrics.f1_classes(a, b, {"brows": (2, 3), "nose": (6,), "hair": (10,)})
    assert f1["brows"] == 1  # sides of one group are not told apart
    assert f1["nose"] == 0
    assert np.isnan(f1["hair"])
    mask = np.array([[True, True, True, False]])
    assert np.isnan(metrics.f1_classes(a, b, {"nose": (6,)}, mask)["nose"])
