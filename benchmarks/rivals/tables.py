"""Tables as rivals want them that take no missing values, or no categories."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
MISSING = "(missing)"
MOST_CATEGORIES = 50  # that have an input of their own, the most frequent ones


class Filled:
    """A frame without holes: medians in place of missing numbers and a column that says where they were; text categories.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
        The rows to learn medians and categories from.

    Examples
    --------
    >>> X = pd.DataFrame({"size": [1.0, np.nan, 3.0], "colour": pd.Categorical(["red", None, "red"])})
    >>> Filled(X).transform(X).to_dict("list")
    {'size': [1.0, 2.0, 3.0], 'colour': ['red', '(missing)', 'red'], 'size is missing': [0.0, 1.0, 0.0]}
    """

    def __init__(self, X: pd.DataFrame) -> None:
        self.is_category = [isinstance(dtype, pd.CategoricalDtype) for dtype in X.dtypes]
        self.medians: dict[str, float] = {}
        self.with_holes: list[str] = []
        for name, category in zip(X.columns, self.is_category, strict=True):
            if not category:
                values = X[name].to_numpy(dtype=np.float64)
                known = values[~np.isnan(values)]
                self.medians[name] = float(np.median(known)) if len(known) else 0.0
                if len(known) < len(values):
                    self.with_holes.append(name)

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return a frame of float64 and object columns with the index of X."""
        columns: dict[str, Any] = {}
        for name, category in zip(X.columns, self.is_category, strict=True):
            if category:
                text = [
                    MISSING if missing else str(value) for value, missing in zip(X[name], X[name].isna(), strict=True)
                ]
                columns[name] = pd.Series(text, index=X.index, dtype=object)
            else:
                columns[name] = X[name].astype(np.float64).fillna(self.medians[name])
        for name in self.with_holes:
            columns[f"{name} is missing"] = X[name].isna().astype(np.float64)
        return pd.DataFrame(columns, index=X.index)


class Inputs:
    """The teacher's numbers as inputs of a network, and which inputs belong to which feature.

    Numbers are standardised, missing ones 0 and marked by an input of their own; categories are one-hot, of many the
    most frequent. An input of 0 is thus the mean, or no category.

    Parameters
    ----------
    x : ndarray of shape (n_samples, n_features)
        Numbers as the teacher's library sees them, NaN where missing.
    is_category : sequence of bool
    weight : ndarray of shape (n_samples,), optional

    Attributes
    ----------
    feature : ndarray of shape (n_inputs,)
        The feature of each input.
    """

    def __init__(self, x: Array, is_category: list[bool]) -> None:
        self.columns: list[tuple[int, str, tuple[float, ...]]] = []
        for j, category in enumerate(is_category):
            known = x[np.isfinite(x[:, j]), j]
            if category:
                codes, counts = np.unique(known, return_counts=True)
                kept = np.sort(codes[np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]])
                self.columns += [(j, "category", (float(code),)) for code in kept]
            else:
                mean, spread = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
                self.columns.append((j, "number", (float(mean), float(spread) or 1.0)))
            if len(known) < len(x) or not self.columns or self.columns[-1][0] != j:
                self.columns.append((j, "missing", ()))
        self.feature = np.array([j for j, _, _ in self.columns])

    def transform(self, x: Array) -> NDArray[np.float32]:
        """Inputs (n_samples, n_inputs)."""
        found = np.empty((len(x), len(self.columns)), np.float32)
        for column, (j, kind, params) in enumerate(self.columns):
            values = x[:, j]
            if kind == "category":
                found[:, column] = values == params[0]
            elif kind == "missing":
                found[:, column] = ~np.isfinite(values)
            else:
                scaled = (np.nan_to_num(values, nan=params[0], posinf=np.inf, neginf=-np.inf) - params[0]) / params[1]
                found[:, column] = np.clip(scaled, -10.0, 10.0)  # far out, and infinite
        return found
