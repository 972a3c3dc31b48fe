"""Synthetic rows: what a column may hold, seeds, weights."""

import numpy as np
import pytest

from gbdt2nn.augmentation import SYNTHESES, Columns, SyntheticRows

IS_CATEGORY = np.array([False, False, True, False, False, False])
IS_INTEGER = np.array([False, True, False, False, False, False])


@pytest.fixture(scope="module")
def x():
    """A skewed number, a whole number, a category code, a number with NaN, a constant, and one with infinities."""
    rng = np.random.default_rng(0)
    rows = np.stack(
        [
            np.exp(rng.normal(size=400)),
            rng.poisson(30, 400).astype(float),
            rng.integers(0, 5, 400).astype(float),
            rng.normal(size=400),
            np.full(400, 7.0),
            rng.normal(size=400),
        ],
        axis=1,
    )
    rows[::7, 3] = np.nan
    rows[::11, 2] = np.nan
    rows[:3, 5] = [np.inf, -np.inf, np.inf]
    return rows


def stream(x, weight=None, **options):
    weight = np.ones(len(x)) if weight is None else weight
    return SyntheticRows(x, weight, is_category=IS_CATEGORY, is_integer=IS_INTEGER, seed=1, **options)


@pytest.mark.parametrize("kind", SYNTHESES)
def test_each_column_stays_what_it_is(x, kind):
    """Categories occur, whole numbers stay whole, numbers stay in range, NaN stays NaN, nothing becomes NaN."""
    rows = stream(x, mix=[(kind, 1.0)]).block(0, 2000)
    assert np.isin(rows[:, 1], x[:, 1]).all()
    assert np.isin(rows[~np.isnan(rows[:, 2]), 2], x[:, 2]).all()
    for j in range(6):
        assert np.nanmin(rows[:, j]) >= np.nanmin(x[:, j])
        assert np.nanmax(rows[:, j]) <= np.nanmax(x[:, j])
    assert np.isnan(rows).mean(0)[[0, 1, 4, 5]].tolist() == [0, 0, 0, 0]
    assert np.isnan(rows[:, 3]).mean() == pytest.approx(np.isnan(x[:, 3]).mean(), abs=0.06)
    assert (rows[:, 4] == 7.0).all()


@pytest.mark.parametrize("kind", SYNTHESES)
def test_rows_are_new(x, kind):
    rows = stream(x, mix=[(kind, 1.0)]).block(0, 500)
    real = {row.tobytes() for row in np.nan_to_num(x, nan=-99)}
    assert np.mean([row.tobytes() in real for row in np.nan_to_num(rows, nan=-99)]) < 0.3


def test_marginals_are_kept(x):
    """Each column's distribution is that of the real rows: quantiles agree."""
    rows = stream(x).block(0, 20_000)
    for j in (0, 1, 3):
        real, synthetic = (np.nanquantile(part[:, j], [0.1, 0.5, 0.9]) for part in (x, rows))
        spread = np.nanstd(x[:, j])
        np.testing.assert_allclose(synthetic, real, atol=0.25 * spread)


def test_blocks_are_numbered_and_seeded(x):
    a, b = stream(x), stream(x)
    np.testing.assert_array_equal(a.block(5, 100), b.block(5, 100))
    assert not np.array_equal(a.block(5, 100), a.block(6, 100), equal_nan=True)


def test_a_row_of_weight_zero_is_no_parent(x):
    weight = np.ones(len(x))
    weight[x[:, 0] > 1] = 0.0
    rows = stream(x, weight).block(0, 1000)
    assert rows[:, 0].max() <= 1


def test_parents_are_drawn_by_weight(x):
    weight = np.where(x[:, 2] == 3, 50.0, 1.0)
    rows = stream(x, weight, mix=[("swap", 1.0)]).block(0, 1000)
    assert (rows[:, 2] == 3).mean() > 0.8


def test_ranks_and_values_are_inverse(x):
    columns = Columns(x, is_category=IS_CATEGORY, is_integer=IS_INTEGER)
    rng = np.random.default_rng(0)
    values = np.sort(x[:, 1])
    np.testing.assert_array_equal(columns.value(1, columns.rank(1, values, rng)), values)


def test_one_row_and_one_column():
    rows = SyntheticRows(
        np.array([[3.0]]), np.ones(1), is_category=np.array([False]), is_integer=np.array([True]), seed=0
    )
    assert (rows.block(0, 10) == 3.0).all()


def test_a_column_without_any_value_stays_missing():
    x = np.stack([np.arange(50.0), np.full(50, np.nan)], axis=1)
    both = np.zeros(2, bool)
    assert np.isnan(SyntheticRows(x, np.ones(50), is_category=both, is_integer=both, seed=0).block(0, 40)[:, 1]).all()
