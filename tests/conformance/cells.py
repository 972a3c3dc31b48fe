"""The cells of the matrix: a model, the rows it is asked about, and what is true of them.

Every cell is asked about the same kinds of rows (`probes`). Models, rows and truths are made when a test first asks for
them, and kept.
"""

from functools import cache, cached_property
from types import ModuleType
from typing import Any

import numpy as np
from conformance import references
from conformance.models import CATEGORY, HOLES, LIBRARIES, SINGLES, WIDE, D, with_holes
from numpy.typing import NDArray

from gbdt2nn.attributions.tree_shap import TreeShap
from gbdt2nn.binning import Binner
from gbdt2nn.teachers import library_of
from gbdt2nn.trees import ZERO_THRESHOLD, TreeEnsemble

Array = NDArray[np.float64]

STRANGE_CODES = [99.0, 1e6, 1e10, -1.0, -0.5, -1.5, 3.7, 11.5, 31.0, 32.0, 64.0, 1e-40, 2.0**24, 2.0**31]

# XGBoost computes in single precision. Both libraries divide and subtract along a path (UNWIND), which loses digits on
# long ones: their own attributions of these cells miss their own raw scores by as much.
NATIVE_TOLERANCE = {
    ("lightgbm", ""): 1e-9,
    ("lightgbm", "wide"): 1e-7,
    ("xgboost", ""): 1e-6,
    ("xgboost", "deep"): 2e-5,
    ("xgboost", "wide"): 0.05,
}


def probes(ensemble: TreeEnsemble, x: Array) -> dict[str, Array]:
    """Make rows of every kind that a table may hold.

    Parameters
    ----------
    ensemble : TreeEnsemble
    x : ndarray of shape (n_samples, n_features)
        Training rows.

    Returns
    -------
    rows : dict of str to ndarray of shape (n_rows, n_features)
    """
    rng = np.random.default_rng(3)
    numeric = (ensemble.feature >= 0) & ~ensemble.is_categorical
    columns = np.flatnonzero(ensemble.used_features())[:8].tolist()

    def vary(values: dict[int, Any]) -> Array:
        """Training rows with the given values of one feature after the other."""
        rows = [np.zeros((0, x.shape[1]))]
        for j, new in values.items():
            block = x[rng.integers(0, len(x), len(new))]
            block[:, j] = new
            rows.append(block)
        return np.concatenate(rows)

    at = {j: np.unique(ensemble.threshold[numeric & (ensemble.feature == j)]) for j in columns}
    at = {j: rng.permutation(t)[:3] for j, t in at.items()}
    single = {j: t.astype(np.float32) for j, t in at.items()}
    tiny = [0.0, -0.0, 1e-36, -1e-36, ZERO_THRESHOLD, -ZERO_THRESHOLD, 1e-34, -1e-34]
    sides, sides32 = (-np.inf, np.inf), (np.float32(-np.inf), np.float32(np.inf))
    codes = STRANGE_CODES if x.shape[1] == D else []
    return {
        "training": x[:: max(1, len(x) // 30)],
        "missing": with_holes(x, 0.3)[:: max(1, len(x) // 30)],
        "all missing": np.full((1, x.shape[1]), np.nan),
        "zeros": np.concatenate([np.zeros((1, x.shape[1])), vary({j: tiny for j in columns})]),
        "on thresholds": vary(at),
        "beside thresholds": vary({j: np.concatenate([np.nextafter(t, s) for s in sides]) for j, t in at.items()}),
        "single precision": vary(
            {j: np.concatenate([t, *(np.nextafter(t, s) for s in sides32)]) for j, t in single.items()}
        ),
        # The middle of two numbers of single precision, and what lies beside it.
        "between singles": vary(
            {
                j: np.concatenate([t.astype(float) + s * np.spacing(t) for s in (-0.5, 0.49, 0.51)])
                for j, t in single.items()
            }
        ),
        "large": vary({j: [1e30, -1e30] for j in columns}),
        "infinite": vary({j: [np.inf, -np.inf, 1e300, -1e300] for j in columns}),
        "strange categories": vary({CATEGORY: codes}) if codes else x[:0],
    }


class Cell:
    """One model, the rows it is asked about, and what is true of them.

    Attributes
    ----------
    name : str
        Library, objective and training.
    model : Booster or estimator
    ensemble : TreeEnsemble
    rows : dict of str to ndarray of shape (n_rows, n_features)
        Rows by their kind.
    x : ndarray of shape (n_samples, n_features)
        All of them.
    some : ndarray of shape (n_some,), int64
        The few of them that `definition` speaks of.
    scale : float
        Size of the raw scores, at least 1: what errors are measured by.
    native_tolerance : float
        How far, in units of `scale`, the library's own attributions may be from the truth.
    """

    def __init__(self, name: str):
        self.name = name
        library, objective, training = name.split("-", 2)
        self.is_lightgbm = library == "lightgbm"
        if name in SINGLES:
            self.model = SINGLES[name]()
            x = WIDE if training == "wide" else HOLES
        else:
            train, trainings = LIBRARIES[library]
            self.model = train(objective, trainings[training])
            x = trainings[training].x
        self.native_tolerance = NATIVE_TOLERANCE.get((library, training)) or NATIVE_TOLERANCE[library, ""]
        self.library: ModuleType = library_of(self.model)
        self.ensemble: TreeEnsemble = self.library.parse(self.model)
        self.rows = probes(self.ensemble, x)
        self.x = np.concatenate(list(self.rows.values()))
        self.kind = np.repeat(list(self.rows), [len(rows) for rows in self.rows.values()])
        self.scale = max(1.0, float(np.abs(self.ensemble.raw_score(self.x)).max()))
        self.some = np.arange(0, len(self.x), 11)
        self._found: dict[str, tuple[Array, Array]] = {}

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Rows that the library itself takes: XGBoost refuses what is infinite in single precision."""
        with np.errstate(over="ignore"):
            return np.full(len(self.x), True) if self.is_lightgbm else ~np.isinf(self.x.astype(np.float32)).any(axis=1)

    @cached_property
    def native(self) -> tuple[Array, Array]:
        """The library's own attributions of the rows it takes, and its base value."""
        return self.library.native_attributions(self.model, self.x[self.known], n_jobs=1)

    @cached_property
    def definition(self) -> tuple[Array, Array]:
        """Attributions of the rows `some`, from all subsets of features."""
        return references.shapley_by_definition(self.ensemble, self.x[self.some])

    @cached_property
    def reference(self) -> tuple[Array, Array]:
        """Attributions of all rows in double precision."""
        return references.tree_shap_reference(self.ensemble, self.x)

    def found(self, algorithm: str) -> tuple[Array, Array]:
        """What the engine says of all rows."""
        if algorithm not in self._found:
            self._found[algorithm] = explain(self.ensemble, self.x, algorithm)
        return self._found[algorithm]

    def worst(self, found: Array, expected: Array, which: Any = slice(None)) -> tuple[float, str]:
        """Say how far apart two attributions are, by the scale of the raw scores, and on which kind of row most."""
        error = np.abs(found - expected).max(axis=(1, 2), initial=0.0) / self.scale
        error = np.where(np.isnan(error), np.inf, error)
        return (float(error.max()), str(self.kind[which][error.argmax()])) if len(error) else (0.0, "none")


def explain(ensemble: TreeEnsemble, x: Array, algorithm: str = "auto", **options: Any) -> tuple[Array, Array]:
    """Run the engine from rows to attributions."""
    binner = Binner.from_ensemble(ensemble)
    engine = TreeShap(ensemble, binner, algorithm=algorithm)
    return engine.attributions(binner.transform(x, order="F"), **options), engine.base_value


@cache
def cell(name: str) -> Cell:
    """Make a cell, once."""
    return Cell(name)
