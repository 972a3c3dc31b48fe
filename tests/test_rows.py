"""Which rows teach, which decide, which measure."""

import numpy as np
import pytest

from gbdt2nn.rows import FEWEST_TO_SPLIT, split_rows


@pytest.mark.parametrize("strata", [None, np.arange(500) % 3])
def test_the_parts_are_disjoint_and_hold_every_row(strata):
    rows = split_rows(500, seed=0, strata=strata)
    assert sorted(np.concatenate(rows[:3]).tolist()) == list(range(500))
    assert len(rows.stop) == pytest.approx(50, abs=3)
    assert len(rows.check) == len(rows.stop)
    assert rows.is_split


def test_every_class_keeps_rows_to_train_on():
    """A teacher fitted without a class would answer with fewer outputs."""
    strata = np.concatenate([np.zeros(200, int), np.repeat(np.arange(1, 20), 2), [20]])
    for seed in range(5):
        rows = split_rows(len(strata), seed=seed, strata=strata)
        assert set(strata[rows.train]) == set(strata)


def test_few_rows_are_not_split():
    rows = split_rows(FEWEST_TO_SPLIT - 1, seed=0)
    assert not rows.is_split
    assert len(rows.train) == len(rows.stop) == len(rows.check) == FEWEST_TO_SPLIT - 1


def test_same_seed_same_rows():
    a, b, c = (split_rows(100, seed=seed) for seed in (1, 1, 2))
    assert (a.train == b.train).all()
    assert not np.array_equal(a.train, c.train)
