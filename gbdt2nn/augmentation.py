"""Synthetic rows for the teacher to label: numbered blocks, made from the real rows, seeded.

Rows are made in the numbers that the teacher's library sees. Numeric values move along their column's empirical
distribution (in rank space), whole numbers stay whole, categories are only ever exchanged for categories that occur, and a
missing value stays missing or is exchanged together with its column's other values. What every synthesis returns is a
plausible value for each single column; the joint distribution is only kept in part, which is the point: the student sees
the teacher's answers beyond the training rows.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


class Columns:
    """The empirical distribution of each column, and the way between values and ranks."""

    def __init__(self, x: Rows, *, is_category: NDArray[np.bool_], is_integer: NDArray[np.bool_]) -> None:
        self.x = x
        self.sorted = [np.sort(column[~np.isnan(column)]) for column in x.T]
        # a finite grid: interpolation between an infinite value and its neighbour would give NaN
        n_unique = np.array([len(np.unique(values)) for values in self.sorted])
        infinite = np.array([bool(np.isinf(values).any()) for values in self.sorted])
        self.nominal = np.asarray(is_category, bool) | (n_unique <= 20)
        self.stepped = np.asarray(is_integer, bool) | infinite

    def rank(self, j: int, values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Position of values in their column, in [0, 1]; ties are spread at random."""
        column = self.sorted[j]
        low = np.searchsorted(column, values, "left")
        high = np.searchsorted(column, values, "right")
        return (low + rng.random(len(values)) * np.maximum(high - low, 1)) / max(len(column), 1)

    def value(self, j: int, rank: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value at a position, in [0, 1]: interpolated, or the nearest that occurs where values are stepped."""
        column = self.sorted[j]
        position = rank * len(column) - 0.5
        if self.stepped[j]:
            return column[np.clip(np.round(position).astype(np.int64), 0, len(column) - 1)]
        return np.interp(position, np.arange(len(column)), column)


Synthesis = Callable[[Columns, Rows, Rows, np.random.Generator], Rows]


def jitter(columns: Columns, parents: Rows, others: Rows, rng: np.random.Generator, *, spread: float = 0.03) -> Rows:
    """Move numeric values by a normal step in rank space, reflected at the ends; exchange a tenth of the nominal ones."""
    rows = parents.copy()
    for j in range(rows.shape[1]):
        if columns.nominal[j]:
            exchanged = rng.random(len(rows)) < 0.1
            rows[exchanged, j] = others[exchanged, j]
            continue
        known = ~np.isnan(rows[:, j])
        rank = columns.rank(j, rows[known, j], rng) + rng.normal(0.0, spread, known.sum())
        rank = np.abs(rank)
        rank = np.where(rank > 1.0, 2.0 - rank, rank)
        rows[known, j] = columns.value(j, np.clip(rank, 0.0, 1.0))
    return rows


def mixup(columns: Columns, parents: Rows, others: Rows, rng: np.random.Generator) -> Rows:
    """Mix two rows in rank space with a Beta(1/2, 1/2) share (Zhang et al. 2018); nominal or missing: one row's value."""
    rows = parents.copy()
    share = rng.beta(0.5, 0.5, len(rows))
    for j in range(rows.shape[1]):
        both = ~np.isnan(rows[:, j]) & ~np.isnan(others[:, j])
        if columns.nominal[j]:
            both[:] = False
        mine = share[both]
        if not len(mine):
            exchanged = rng.random(len(rows)) >= share
            rows[exchanged, j] = others[exchanged, j]
            continue
        rank = mine * columns.rank(j, rows[both, j], rng) + (1 - mine) * columns.rank(j, others[both, j], rng)
        mixed = columns.value(j, rank)
        exchanged = ~both & (rng.random(len(rows)) >= share)
        rows[both, j] = mixed
        rows[exchanged, j] = others[exchanged, j]
    return rows


def swap(columns: Columns, parents: Rows, others: Rows, rng: np.random.Generator, *, probability: float = 0.3) -> Rows:
    """Exchange each value with some probability for that of a random row, drawn anew for each column."""
    rows = parents.copy()
    for j in range(rows.shape[1]):
        exchanged = rng.random(len(rows)) < probability
        rows[exchanged, j] = rng.permutation(others[:, j])[exchanged]
    return rows


SYNTHESES: dict[str, Synthesis] = {"jitter": jitter, "mixup": mixup, "swap": swap}


class SyntheticRows:
    """A numbered, seeded stream of synthetic rows.

    Parameters
    ----------
    x : ndarray of shape (n_samples, n_features)
        Real rows: the numbers the teacher's library sees; NaN is missing.
    weight : ndarray of shape (n_samples,)
        Parents are drawn by weight; a row of weight 0 is never one.
    is_category, is_integer : ndarray of bool, shape (n_features,)
    seed : int
    mix : sequence of (name, share), optional
        Names from `SYNTHESES`. By default half jitter, and the rest mixup and swap; more swap in wide tables.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(40.0).reshape(20, 2)
    >>> rows = SyntheticRows(x, np.ones(20), is_category=np.array([False, True]), is_integer=np.ones(2, bool), seed=0)
    >>> rows.block(3, 100).shape, bool(np.isin(rows.block(3, 100)[:, 1], x[:, 1]).all())
    ((100, 2), True)
    """

    def __init__(
        self,
        x: Rows,
        weight: NDArray[np.float64],
        *,
        is_category: NDArray[np.bool_],
        is_integer: NDArray[np.bool_],
        seed: int,
        mix: Sequence[tuple[str, float]] | None = None,
    ) -> None:
        live = weight > 0
        self.columns = Columns(x[live], is_category=is_category, is_integer=is_integer)
        self.probability = weight[live] / weight[live].sum()
        self.seed = seed
        if mix is None:
            wide = x.shape[1] > 20
            mix = (
                [("jitter", 0.4), ("mixup", 0.1), ("swap", 0.5)]
                if wide
                else [("jitter", 0.5), ("mixup", 0.25), ("swap", 0.25)]
            )
        self.mix = mix

    def block(self, number: int, n_rows: int) -> Rows:
        """Rows of block ``number``; the same number, size and seed always give the same rows.

        Returns
        -------
        x : ndarray of shape (n_rows, n_features)
        """
        rng = np.random.default_rng([self.seed, number])
        x = self.columns.x
        parents = x[rng.choice(len(x), n_rows, p=self.probability)]
        others = x[rng.choice(len(x), n_rows, p=self.probability)]
        shares = np.array([share for _, share in self.mix], float)
        kind = rng.choice(len(shares), n_rows, p=shares / shares.sum())
        rows = np.empty_like(parents)
        for number_of_kind, (name, _) in enumerate(self.mix):
            chosen = kind == number_of_kind
            rows[chosen] = SYNTHESES[name](self.columns, parents[chosen], others[chosen], rng)
        return rows
