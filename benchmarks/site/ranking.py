"""Ranks of methods over data sets, and which of them can be told apart (Demšar 2006, JMLR 7, 1-30)."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.site.results import Values

ALPHA = 0.05
_DRAWS = 5000


@dataclass(frozen=True)
class Ranking:
    """Methods from the best on, on the data sets that all of them have.

    Parameters
    ----------
    methods, data : tuple of str
    n_seeds : int
        Runs that a method's ranks stand on, over all data sets.
    mean_ranks : tuple of float
        1 is best; equal values share their ranks.
    intervals : tuple of (float, float), or None
        95 % bootstrap intervals of the mean ranks, data sets drawn with replacement; None for fewer than three.
    p_value : float or None
        Of the hypothesis that all methods are alike: Friedman's test for three methods or more, Wilcoxon's signed ranks
        for two; None where one data set cannot tell.
    critical_difference : float or None
        Nemenyi's at 5 %, in ranks; None where the Friedman test does not reject, or where there are two methods.
    cliques : tuple of (int, int)
        First and last place of methods that cannot be told apart; those within another are left out.
    left_out : dict of str to int
        Methods that lack too many data sets, with how many they have.
    data_left_out : tuple of str
        Data sets that some of the methods lack.
    """

    methods: tuple[str, ...]
    data: tuple[str, ...]
    n_seeds: int
    mean_ranks: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...] | None
    p_value: float | None
    critical_difference: float | None
    cliques: tuple[tuple[int, int], ...]
    left_out: dict[str, int]
    data_left_out: tuple[str, ...]


def common(values: Values) -> tuple[list[str], list[str], dict[str, int]]:
    """Methods and data sets to compare on: every method has every data set, in at least one seed that all have.

    Methods leave, those with the fewest data sets first, until at least half of the data sets are common to the rest.

    Returns
    -------
    methods, data : list of str
    left_out : dict of str to int
        The methods that left, with how many data sets they have.
    """
    seeds: dict[tuple[str, str], set[int]] = {}
    for name, method, seed in values:
        seeds.setdefault((name, method), set()).add(seed)
    data = list(dict.fromkeys(name for name, _ in seeds))
    methods = list(dict.fromkeys(method for _, method in seeds))
    has = {method: sum((name, method) in seeds for name in data) for method in methods}
    left_out: dict[str, int] = {}
    while True:
        shared = [
            name for name in data if methods and set.intersection(*(seeds.get((name, m), set()) for m in methods))
        ]
        if len(methods) < 2 or 2 * len(shared) >= len(data):
            return methods, shared, left_out
        fewest = min(methods, key=lambda m: has[m])  # the last of equals would be as good: names decide nothing
        left_out[fewest] = has[fewest]
        methods.remove(fewest)


def rank(values: Values, *, higher_is_better: bool) -> Ranking | None:
    """Rank methods on each data set by their mean over the seeds that all of them have.

    Parameters
    ----------
    values : mapping of (data set, method, seed) to float
    higher_is_better : bool

    Returns
    -------
    Ranking or None
        None where there are not two methods on one data set.
    """
    methods, data, left_out = common(values)
    if len(methods) < 2 or not data:
        return None
    table = np.empty((len(data), len(methods)))
    n_seeds = 0
    for i, name in enumerate(data):
        seeds = set.intersection(*({s for d, m, s in values if (d, m) == (name, method)} for method in methods))
        n_seeds += len(seeds)
        for j, method in enumerate(methods):
            table[i, j] = np.mean([values[name, method, seed] for seed in sorted(seeds)])
    ranks = stats.rankdata(-table if higher_is_better else table, axis=1)  # (n data sets, n methods)
    mean = ranks.mean(axis=0)
    order = np.argsort(mean, kind="stable")
    ranks, mean, table = ranks[:, order], mean[order], table[:, order]
    p_value = _p_value(table, ranks)
    critical = None
    if p_value is None or p_value >= ALPHA:
        cliques: tuple[tuple[int, int], ...] = ((0, len(methods) - 1),)
    elif len(methods) == 2:
        cliques = ()
    else:
        critical = nemenyi(len(methods), len(data))
        cliques = _cliques(mean, critical)
    everything = {name for name, _, _ in values}
    return Ranking(
        methods=tuple(methods[j] for j in order),
        data=tuple(data),
        n_seeds=n_seeds,
        mean_ranks=tuple(mean.tolist()),
        intervals=_intervals(ranks) if len(data) >= 3 else None,
        p_value=p_value,
        critical_difference=critical,
        cliques=cliques,
        left_out=left_out,
        data_left_out=tuple(name for name in dict.fromkeys(d for d, _, _ in values) if name in everything - set(data)),
    )


@cache
def nemenyi(n_methods: int, n_data: int) -> float:
    """Nemenyi's critical difference of mean ranks at 5 %: Demšar (2006), section 3.2.2."""
    q = stats.studentized_range.ppf(1 - ALPHA, n_methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(n_methods * (n_methods + 1) / (6 * n_data)))


def _p_value(table: NDArray[np.float64], ranks: NDArray[np.float64]) -> float | None:
    if len(table) < 2:
        return None
    if (ranks == ranks[:, :1]).all():
        return 1.0  # all tied everywhere: the tests would divide by zero
    if table.shape[1] == 2:
        with warnings.catch_warnings():  # a sample as small as this, or with ties, is told by the p-value
            warnings.simplefilter("ignore")
            return float(stats.wilcoxon(table[:, 0], table[:, 1], zero_method="zsplit").pvalue)
    return float(stats.friedmanchisquare(*ranks.T).pvalue)


def _intervals(ranks: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    drawn = np.random.default_rng(0).integers(len(ranks), size=(_DRAWS, len(ranks)))
    means = ranks[drawn].mean(axis=1)  # (draws, methods)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


def _cliques(mean: Iterable[float], critical: float) -> tuple[tuple[int, int], ...]:
    """Longest runs of sorted mean ranks that span no more than the critical difference."""
    mean = list(mean)
    found: list[tuple[int, int]] = []
    for first in range(len(mean)):
        last = max(i for i in range(first, len(mean)) if mean[i] - mean[first] <= critical)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
