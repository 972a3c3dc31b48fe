"""Ways to split a teacher's raw score among its features; one file or folder per way.

Each is a function ``(ensemble, binner, *, n_samples, n_jobs) -> explain`` that reads the trees once and returns a function
``explain(x) -> (attribution, base_value)`` with arrays of shapes (n_samples, n_outputs, n_features) and (n_outputs,): base
value + sum of attributions = raw score. The base values of two ways differ: an attribution belongs with its own.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.attributions import tree_path, tree_shap

Explain = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]

ATTRIBUTIONS: dict[str, Callable[..., Explain]] = {"tree_shap": tree_shap.prepare, "tree_path": tree_path.prepare}
