"""Made tables, for what no real one has at every size: the same rows each time, drawn from a fixed seed.

A table is a few smooth and stepped effects of some features, products of pairs of them, and noise; one column in five is
of whole numbers with ties, one in ten has missing values. The other features matter to nothing.
"""

from functools import partial

import numpy as np
import pandas as pd

from benchmarks.sources.tables import DataSet, Entry

N_USED = 8  # features that the labels depend on
# name: task, rows, features, classes
SETS = {
    "made_500k": ("regression", 500_000, 20, None),
    "made_10_features": ("regression", 20_000, 10, None),
    "made_40_features": ("regression", 20_000, 40, None),
    "made_160_features": ("regression", 20_000, 160, None),
    "made_2_classes": ("binary", 20_000, 20, 2),
    "made_5_classes": ("multiclass", 20_000, 20, 5),
    "made_10_classes": ("multiclass", 20_000, 20, 10),
}


def entries() -> list[Entry]:
    """Return the made sets; a table is drawn when it is loaded."""
    return [
        Entry(
            *(name, task, "made", n_rows, partial(_load, name)),
            **{
                "n_features": n_features,
                "n_categories": 0,
                "licence": "Apache-2.0",
                "source": "drawn from a fixed seed",
            },
        )
        for name, (task, n_rows, n_features, _) in SETS.items()
    ]


def _load(name: str) -> DataSet:
    task, n_rows, n_features, n_classes = SETS[name]
    X, scores = make(n_rows, n_features, 1 if n_classes is None else n_classes)
    y = scores[:, 0] if n_classes is None else scores.argmax(axis=1).astype(np.int64)
    columns = pd.DataFrame(X, columns=[f"x{i}" for i in range(n_features)])
    return DataSet(name, task, columns, y, None, "made", None)


def make(n_rows: int, n_features: int, n_outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows and a noisy score for each output.

    Returns
    -------
    X : ndarray of shape (n_rows, n_features)
        With missing values, which count as zero.
    scores : ndarray of shape (n_rows, n_outputs)
    """
    rng = np.random.default_rng([2024, n_features, n_outputs])
    X = rng.normal(size=(n_rows, n_features))
    X[:, 4::5] = np.round(2.0 * X[:, 4::5])
    used = np.arange(min(N_USED, n_features))
    scores = np.empty((n_rows, n_outputs))
    for output in range(n_outputs):
        weight = rng.normal(size=len(used))
        shift = rng.normal(size=len(used))
        score = (weight * np.tanh(X[:, used] - shift)).sum(axis=1)
        score += (rng.normal(size=len(used)) * (X[:, used] > shift)).sum(axis=1)
        for first, second in rng.permutation(used)[: len(used) // 2 * 2].reshape(-1, 2):
            score += 0.7 * X[:, first] * X[:, second]
        scores[:, output] = score + 0.5 * rng.normal(size=n_rows)
    for column in range(9, n_features, 10):
        X[rng.random(n_rows) < 0.1, column] = np.nan
    return X, scores
