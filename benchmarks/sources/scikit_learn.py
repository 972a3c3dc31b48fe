"""The tables that scikit-learn carries."""

from functools import partial

import pandas as pd

from benchmarks.sources.tables import DataSet, Entry, feature_names, labels

# name: task, rows, features
SETS = {
    "diabetes": ("regression", 442, 10),
    "breast_cancer": ("binary", 569, 30),
    "digits": ("multiclass", 1797, 64),
    "wine": ("multiclass", 178, 13),
}


def entries() -> list[Entry]:
    """Return the sets that need no network."""
    return [
        Entry(
            *(name, task, "scikit-learn", n_rows, partial(_load, name, task)),
            **{"n_features": n_features, "n_categories": 0, "n_missing": 0},
            licence="BSD-3-Clause",  # of the library that ships them
            source="scikit-learn",
        )
        for name, (task, n_rows, n_features) in SETS.items()
    ]


def _load(name: str, task: str) -> DataSet:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    X = pd.DataFrame(bunch.data, columns=feature_names(bunch.feature_names))
    return DataSet(name, task, X, labels(pd.Series(bunch.target), task), None, "scikit-learn", None)
