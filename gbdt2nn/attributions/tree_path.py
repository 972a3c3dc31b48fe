"""Path attributions (Saabas 2014): each split credits its feature with the change of the node value along the way.

    attribution_i = sum over trees and over the nodes of the row's path that split on i: value of the child - value
    base value    = base score + sum over trees of the value of the root

Fast, and biased: a feature that splits far from the root is credited less than its Shapley value.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.binning import Binner
from gbdt2nn.compilation import compiled
from gbdt2nn.trees import MISSING_NONE, MISSING_ZERO, ZERO_THRESHOLD, TreeEnsemble, categories_of

Array = NDArray[np.float64]

# Rows that walk one tree after the other: their values and attributions stay in the cache, and so does the tree.
_BLOCK = 256


def prepare(
    ensemble: TreeEnsemble, binner: Binner, *, n_samples: int, n_jobs: int = 1
) -> Callable[[Array], tuple[Array, Array]]:
    """Nothing is built for path attributions: the trees are walked as they are.

    Parameters
    ----------
    ensemble : TreeEnsemble
    binner : Binner
    n_samples, n_jobs : int
        Not used, as the binner: every way takes them.

    Returns
    -------
    explain : callable
        ``x -> (attribution, base_value)``, see `tree_path`.
    """
    return lambda x: tree_path(ensemble, x)


def tree_path(ensemble: TreeEnsemble, x: Array) -> tuple[Array, Array]:
    """Compute path attributions of the raw score.

    Parameters
    ----------
    ensemble : TreeEnsemble
    x : ndarray of shape (n_samples, n_features)

    Returns
    -------
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
    base_value : ndarray of shape (n_outputs,)
        Base score + the values of the roots. It differs from TreeSHAP's where LightGBM's rows have unequal second
        derivatives.
    """
    rows = np.ascontiguousarray(ensemble.read(x))
    if rows.ndim != 2 or rows.shape[1] != ensemble.n_features:
        raise ValueError(f"x must have shape (n_samples, {ensemble.n_features}), got {rows.shape}.")
    attribution = np.zeros((len(rows), ensemble.n_outputs, ensemble.n_features))
    categories = categories_of(rows, ensemble.categories_go_left) if ensemble.category_values.size else None
    _walk(
        rows,
        np.zeros((0, 0), dtype=np.int64) if categories is None else categories,
        ensemble.tree_start,
        ensemble.tree_output,
        ensemble.feature,
        ensemble.threshold,
        ensemble.left,
        ensemble.right,
        ensemble.missing,
        ensemble.default_left,
        ensemble.value,
        ensemble.is_categorical,
        ensemble.category_start,
        ensemble.category_values,
        ensemble.categories_go_left,
        attribution,
    )
    roots = ensemble.value[ensemble.tree_start[:-1]]
    base_value = ensemble.base_score + np.bincount(ensemble.tree_output, weights=roots, minlength=ensemble.n_outputs)
    return attribution, base_value


@compiled(
    [
        (
            "float64[:, ::1]",
            "int64[:, ::1]",
            "int64[::1]",
            "int32[::1]",
            "int32[::1]",
            "float64[::1]",
            "int32[::1]",
            "int32[::1]",
            "uint8[::1]",
            "boolean[::1]",
            "float64[::1]",
            "boolean[::1]",
            "int64[::1]",
            "int32[::1]",
            "boolean",
            "out float64[:, :, ::1]",
        )
    ]
)
def _walk(
    rows: Any,
    categories: Any,
    tree_start: Any,
    tree_output: Any,
    feature: Any,
    threshold: Any,
    left: Any,
    right: Any,
    missing: Any,
    default_left: Any,
    value: Any,
    is_categorical: Any,
    category_start: Any,
    category_values: Any,
    categories_go_left: Any,
    attribution: Any,
) -> None:
    for start in range(0, rows.shape[0], _BLOCK):
        stop = min(start + _BLOCK, rows.shape[0])
        for tree in range(tree_output.shape[0]):
            output = tree_output[tree]
            for i in range(start, stop):
                node = tree_start[tree]
                while feature[node] >= 0:
                    j = feature[node]
                    x = rows[i, j]
                    kind = missing[node]
                    is_nan = np.isnan(x)
                    if (is_nan and kind != MISSING_NONE) or (kind == MISSING_ZERO and abs(x) <= ZERO_THRESHOLD):
                        goes_left = default_left[node]
                    elif is_categorical[node]:
                        low, high = category_start[node], category_start[node + 1]
                        category = categories[i, j]
                        while low < high:  # the first named category that is not smaller
                            middle = (low + high) // 2
                            if category_values[middle] < category:
                                low = middle + 1
                            else:
                                high = middle
                        named = low < category_start[node + 1] and category_values[low] == category
                        goes_left = named == categories_go_left
                    else:
                        goes_left = (0.0 if is_nan else x) <= threshold[node]
                    child = left[node] if goes_left else right[node]
                    attribution[i, output, j] += value[child] - value[node]
                    node = child
