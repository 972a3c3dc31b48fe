"""Which rows train the teacher, stop it and test it: drawn by the seed, or as the source has published them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks import BenchmarkError
from benchmarks.sources.tables import NUMBERS, DataSet

TRAIN, STOP, TEST = 0.65, 0.15, 0.20  # shares of the rows, drawn at random by the seed


class Rows(NamedTuple):
    """Numbers of rows, and how many were left out because no training row has their class."""

    train: np.ndarray
    stop: np.ndarray
    test: np.ndarray
    n_unseen: int

    @property
    def all(self) -> np.ndarray:
        """Every row in use."""
        return np.concatenate([self.train, self.stop, self.test])


def split(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut shuffled rows into 65 % train, 15 % stop and 20 % test.

    Returns
    -------
    train, stop, test : ndarray of int
    """
    first = round(TRAIN * len(rows))
    second = first + round(STOP * len(rows))
    return rows[:first], rows[first:second], rows[second:]


def choose(table: DataSet, settings: Mapping[str, Any], seed: int) -> Rows:
    """Choose the rows of one data set and seed.

    Parameters
    ----------
    table : DataSet
    settings : mapping
        Of a suite: ``part``, ``max_rows``, ``ordered`` and ``published_splits`` matter here.
    seed : int
        With ``published_splits`` and a source that publishes several, the number of the split whose test rows are taken.

    Returns
    -------
    Rows
        Stop and test rows of a class that no training row has are left out: a teacher cannot know it.

    Raises
    ------
    BenchmarkError
        If the part or the split is not there.
    """
    rows = np.arange(len(table.X))
    if settings["part"] is not None:
        if table.part is None or not (table.part == settings["part"]).any():
            raise BenchmarkError(f"data set {table.name!r} has no rows whose published split is {settings['part']!r}")
        rows = rows[table.part == settings["part"]]
    if settings.get("ordered"):  # the seed draws the models; evenly spaced rows keep the whole span of time
        n_rows = min(len(rows), settings["max_rows"] or len(rows))
        rows = rows[np.linspace(0, len(rows) - 1, n_rows).astype(np.int64)]
    else:
        rows = np.random.default_rng(seed).permutation(rows)[: settings["max_rows"]]
    if settings.get("published_splits") and table.tests is not None:
        train, stop, test = _published(table, rows, seed)
    else:
        train, stop, test = split(rows)
    if table.task in NUMBERS:
        return Rows(train, stop, test, 0)
    seen = np.unique(table.y[train])
    stop_seen, test_seen = (part[np.isin(table.y[part], seen)] for part in (stop, test))
    return Rows(train, stop_seen, test_seen, len(stop) + len(test) - len(stop_seen) - len(test_seen))


def _published(table: DataSet, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Test rows of the split of this number; the others in the shares of train and stop rows."""
    assert table.tests is not None
    n_splits = table.tests.shape[1]
    if seed >= n_splits:
        raise BenchmarkError(
            f"data set {table.name!r} has {n_splits} published splits, so there is none for seed {seed}"
        )
    is_test = table.tests[rows, seed]
    others = rows[~is_test]
    n_train = round(TRAIN / (TRAIN + STOP) * len(others))
    return others[:n_train], others[n_train:], rows[is_test]
