from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import BenchmarkError, data
from benchmarks.splits import choose

SETTINGS = {"part": None, "max_rows": None}


@pytest.fixture
def table():
    """200 rows, every fifth of them of the first of two published test parts, the next of the second."""
    tests = np.zeros((200, 2), dtype=bool)
    tests[::5, 0], tests[1::5, 1] = True, True
    X = pd.DataFrame({"a": np.arange(200.0)})
    return data.DataSet("made", "regression", X, np.arange(200.0), None, "here", None, None, tests)


def test_published_test_rows_are_taken_by_the_number_of_the_seed(table):
    for seed in (0, 1):
        rows = choose(table, {**SETTINGS, "published_splits": True}, seed)
        np.testing.assert_array_equal(np.sort(rows.test), np.flatnonzero(table.tests[:, seed]))
        # the others train and stop in the shares that the protocol has without a published split
        assert (len(rows.train), len(rows.stop)) == (130, 30)
        np.testing.assert_array_equal(np.sort(rows.all), np.arange(200))


def test_a_suite_that_does_not_ask_for_them_draws_its_own(table):
    rows = choose(table, SETTINGS, 0)
    assert [len(part) for part in rows[:3]] == [130, 30, 40]
    assert set(rows.test) != set(np.flatnonzero(table.tests[:, 0]))


def test_fewer_rows_are_drawn_before_they_are_parted(table):
    rows = choose(table, {**SETTINGS, "published_splits": True, "max_rows": 50}, 1)
    assert len(rows.all) == len(set(rows.all)) == 50
    assert table.tests[rows.test, 1].all()
    assert not table.tests[np.concatenate([rows.train, rows.stop]), 1].any()


def test_a_seed_beyond_the_last_split_is_refused(table):
    with pytest.raises(BenchmarkError, match="'made' has 2 published splits, so there is none for seed 2"):
        choose(table, {**SETTINGS, "published_splits": True}, 2)


def test_without_published_splits_the_seed_draws(table):
    plain = replace(table, tests=None)
    rows = choose(plain, {**SETTINGS, "published_splits": True}, 7)
    np.testing.assert_array_equal(rows.all, choose(plain, SETTINGS, 7).all)


def test_rows_of_a_class_that_no_training_row_has_are_left_out(table):
    y = np.array(["a", "b"] * 100, dtype=object)
    first = choose(replace(table, task="binary", y=y), SETTINGS, 0)
    y[first.test[:3]] = ["c", "d", "d"]
    y[first.stop[0]] = "e"
    rows = choose(replace(table, task="multiclass", y=y), SETTINGS, 0)
    assert rows.n_unseen == 4
    np.testing.assert_array_equal(rows.train, first.train)
    np.testing.assert_array_equal(rows.test, first.test[3:])
    np.testing.assert_array_equal(rows.stop, first.stop[1:])
    assert choose(table, SETTINGS, 0).n_unseen == 0  # numbers are no classes
