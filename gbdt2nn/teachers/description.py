"""What the rest of the package knows of a fitted teacher, apart from its trees."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.teachers.links import Link


@dataclass(frozen=True)
class TeacherDescription:
    """A fitted teacher in words and sizes.

    Attributes
    ----------
    library : str
        Name in ``LIBRARIES``.
    task : {"regression", "binary", "multiclass", "ranking"}
    objective : str
        The library's own name of the objective.
    link : Link
        From raw score to what the teacher predicts.
    n_outputs, n_features : int
    feature_names : tuple of str, or None
        None where the model was trained without names.
    classes : ndarray of shape (n_classes,), or None
        Labels of a classifier; None for regression, ranking and for a bare Booster, which keeps no labels.
    categories : tuple of length n_features, or None
        Per column the library's own list of categories (ndarray; position = code), or None where the column has none.
        None altogether where the library keeps no list at all.
    n_iterations : int
        Boosting rounds that ``predict`` uses: the best iteration of an estimator, all that a bare Booster itself uses.
    missing : float
        The value of the caller's numbers that is read as missing beside NaN; NaN by default.
    """

    library: str
    task: str
    objective: str
    link: Link
    n_outputs: int
    n_features: int
    feature_names: tuple[str, ...] | None
    classes: NDArray[Any] | None
    categories: tuple[NDArray[Any] | None, ...] | None
    n_iterations: int
    missing: float = float(np.nan)
