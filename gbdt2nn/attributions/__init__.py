"""Ways to split a teacher's raw score among its features; one file per way.

Each is a function ``(ensemble, x, *, native) -> (attribution, base_value)`` with arrays of shapes
(n_samples, n_outputs, n_features) and (n_outputs,): base value + sum of attributions = raw score. ``native`` is a
callable that gives the booster's own exact attributions of x in the same form. The base values of two ways differ: an
attribution belongs with its own.
"""

from collections.abc import Callable
from typing import Any

from gbdt2nn.attributions.tree_path import tree_path
from gbdt2nn.attributions.tree_shap import tree_shap

ATTRIBUTIONS: dict[str, Callable[..., Any]] = {"tree_shap": tree_shap, "tree_path": tree_path}
