"""Exact path-dependent TreeSHAP (Lundberg et al. 2020, "From local explanations to global understanding")."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.trees import TreeEnsemble

Array = NDArray[np.float64]


def tree_shap(
    ensemble: TreeEnsemble, x: Array, *, native: Callable[[Array], tuple[Array, Array]]
) -> tuple[Array, Array]:
    """Compute Shapley values of the raw score by the booster's own exact call.

    Parameters
    ----------
    ensemble : TreeEnsemble
    x : ndarray of shape (n_samples, n_features)
    native : callable
        ``x -> (attribution, base_value)``, the library's own.

    Returns
    -------
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
    base_value : ndarray of shape (n_outputs,)
        Mean raw score by the covers of the trees.
    """
    attribution, base_value = native(x)
    expected = (len(x), ensemble.n_outputs, ensemble.n_features)
    if attribution.shape != expected or base_value.shape != expected[1:2]:
        raise ValueError(
            f"native must return arrays of shapes {expected} and {expected[1:2]}, got {attribution.shape} and "
            f"{base_value.shape}."
        )
    return attribution, base_value
