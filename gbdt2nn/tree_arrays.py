"""What a student of the trees themselves is given: leaves, gains and walks as plain arrays, and codes fine enough for it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.binning import Binner
from gbdt2nn.students.deepgbm import TreeWalk
from gbdt2nn.students.tree_groups import Trees
from gbdt2nn.trees import MISSING_NONE, MISSING_ZERO, ZERO_THRESHOLD, TreeEnsemble, categories_of

Array = NDArray[np.float64]


def trees_of(ensemble: TreeEnsemble, base_value: Array) -> Trees:
    """The ensemble as a student is given it.

    Parameters
    ----------
    ensemble : TreeEnsemble
    base_value : ndarray of shape (n_outputs,)
        Raw score before any feature is credited.

    Returns
    -------
    trees : Trees
    """
    is_leaf = ensemble.feature < 0
    n_before = np.append(0, np.cumsum(is_leaf))
    tree = np.repeat(np.arange(ensemble.n_trees), np.diff(ensemble.tree_start))
    gain = np.zeros((ensemble.n_trees, ensemble.n_features))
    # a split without a gain (a library that keeps none) still counts as one
    np.add.at(gain, (tree[~is_leaf], ensemble.feature[~is_leaf]), np.maximum(ensemble.gain[~is_leaf], 1e-12))
    return Trees(
        leaf_value=ensemble.value[is_leaf],
        first_leaf=n_before[ensemble.tree_start],
        tree_output=ensemble.tree_output,
        gain=gain,
        shift=np.asarray(base_value, np.float64) - ensemble.base_score,
    )


def leaf_numbers(ensemble: TreeEnsemble, x: Array) -> NDArray[np.int32]:
    """The leaf of each row in each tree, by its number over all trees: (n_samples, n_trees)."""
    number = (np.cumsum(ensemble.feature < 0) - 1).astype(np.int32)
    return number[ensemble.leaves(x)]


def walk_of(ensemble: TreeEnsemble, binner: Binner) -> TreeWalk:
    """The ensemble as it is walked in codes: for each split, which codes of its feature go left."""
    inner = ensemble.feature >= 0
    feature = np.where(inner, ensemble.feature, 0).astype(np.int64)
    nodes = np.arange(ensemble.n_nodes)
    tables, start = [np.ones(int(np.max(binner.n_codes)), bool)], np.zeros(ensemble.n_nodes, np.int64)
    filled = len(tables[0])  # leaves share the first entries: they lead to themselves on either side
    values = [binner.representatives(j) for j in range(ensemble.n_features)]
    for node in np.flatnonzero(inner):
        table = _goes_left(ensemble, int(node), values[feature[node]])
        start[node] = filled
        filled += len(table)
        tables.append(table)
    depth = np.zeros(ensemble.n_nodes, np.int64)
    for node in np.flatnonzero(inner):  # preorder: a parent stands before its children
        depth[[ensemble.left[node], ensemble.right[node]]] = depth[node] + 1
    return TreeWalk(
        root=ensemble.tree_start[:-1].astype(np.int64),
        feature=feature,
        left=np.where(inner, ensemble.left, nodes).astype(np.int64),
        right=np.where(inner, ensemble.right, nodes).astype(np.int64),
        start=start,
        goes_left=np.concatenate(tables),
        leaf=np.where(inner, -1, np.cumsum(~inner) - 1).astype(np.int64),
        depth=int(depth.max(initial=0)),
    )


def _goes_left(ensemble: TreeEnsemble, node: int, x: Array) -> NDArray[np.bool_]:
    """Whether values of a split's feature go left."""
    x = ensemble.read(x)
    is_nan = np.isnan(x)
    kind = ensemble.missing[node]
    if ensemble.is_categorical[node]:
        named = ensemble.category_values[ensemble.category_start[node] : ensemble.category_start[node + 1]]
        left = np.isin(categories_of(x, ensemble.categories_go_left), named) == ensemble.categories_go_left
    else:
        left = np.where(is_nan, 0.0, x) <= ensemble.threshold[node]
    is_missing = (is_nan & (kind != MISSING_NONE)) | ((kind == MISSING_ZERO) & (np.abs(x) <= ZERO_THRESHOLD))
    return np.where(is_missing, ensemble.default_left[node], left)


def refine(binner: Binner, x: Array, is_category: NDArray[np.bool_], *, n_quantiles: int = 64) -> Binner:
    """A binner that also tells apart what no split does: quantiles of numbers, and every category in some rows.

    A student that learns labels beyond the teacher, or meets drifting rows, needs to see more than the teacher's own
    intervals. Every code of the result lies within one code of ``binner``, so that it loses nothing.

    Parameters
    ----------
    binner : Binner
    x : ndarray of shape (n_samples, n_features)
        Training rows: the numbers the teacher's library sees.
    is_category : ndarray of shape (n_features,), bool
    n_quantiles : int, default=64

    Returns
    -------
    binner : Binner
    """
    n_codes, missing_code = binner.n_codes.copy(), binner.missing_code.copy()
    thresholds, categories = list(binner.thresholds), list(binner.categories)
    categorical = binner.is_categorical.copy()
    for j in range(binner.n_features):
        column = x[:, j]
        missing = missing_code[j] >= 0 or (n_codes[j] == 1 and bool(np.isnan(column).any()))
        known = column[~np.isnan(column)]
        if categorical[j] or (n_codes[j] == 1 and is_category[j]):
            categorical[j] = True
            found = np.unique(categories_of(known, binner.categories_go_left))
            categories[j] = np.union1d(categories[j], found[found >= 0]).astype(np.int32)
            n_codes[j] = len(categories[j]) + 1
        else:
            levels = np.unique(known[np.isfinite(known)])
            if binner.float32_input:
                with np.errstate(over="ignore"):
                    levels = np.unique(levels.astype(np.float32).astype(np.float64))
                    levels = levels[np.isfinite(levels)]
            if len(levels) > n_quantiles + 1:
                at = np.linspace(0.0, 1.0, n_quantiles + 2)[1:-1]
                levels = np.append(np.unique(np.quantile(known, at, method="lower")), np.inf)
                if binner.float32_input:
                    levels = np.unique(levels.astype(np.float32).astype(np.float64))
            own = levels[:-1]  # a threshold at the largest value would part nothing
            if binner.zero_is_missing[j]:
                own = own[np.abs(own) > ZERO_THRESHOLD]
            thresholds[j] = np.union1d(thresholds[j], own[np.isfinite(own)])
            n_codes[j] = len(thresholds[j]) + 1
        if missing:
            missing_code[j] = n_codes[j]
            n_codes[j] += 1
    return replace(
        binner,
        n_codes=n_codes,
        missing_code=missing_code,
        thresholds=thresholds,
        categories=categories,
        is_categorical=categorical,
    )


def field_bins(
    codes: NDArray[np.integer],
    n_codes: Sequence[int] | NDArray[np.integer],
    *,
    is_categorical: NDArray[np.bool_],
    missing_code: NDArray[np.int64],
    n_bins: int = 32,
    fewest: int = 10,
) -> list[NDArray[np.int64]]:
    """What CatNN sees in place of each code: intervals of about equal numbers of rows, and categories.

    Categories of ``fewest`` rows or less share one bin, as do those no row has (authors' code of DeepGBM).

    Returns
    -------
    bins : list of ndarray of shape (n_codes[j],), int64
        Numbers from 0 without a gap.

    Examples
    --------
    >>> codes = np.repeat([[0], [1], [2], [3]], 20, axis=0)
    >>> field_bins(codes, [4], is_categorical=np.array([False]), missing_code=np.array([-1]), n_bins=2)[0]
    array([0, 0, 1, 1])
    """
    bins = []
    for j, size in enumerate(n_codes):
        count = np.bincount(codes[:, j].astype(np.int64), minlength=int(size))
        if is_categorical[j]:
            of_code = np.where(count > fewest, np.arange(size) + 1, 0)
        else:
            ordered = count.copy()
            if missing_code[j] >= 0:
                ordered[missing_code[j]] = 0
            middle = np.cumsum(ordered) - 0.5 * ordered
            of_code = np.floor(n_bins * middle / max(1, ordered.sum())).astype(np.int64)
            if missing_code[j] >= 0:
                of_code[missing_code[j]] = n_bins
        bins.append(np.unique(of_code, return_inverse=True)[1].astype(np.int64))
    return bins
