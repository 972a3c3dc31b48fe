"""gbdt2nn and the boosters' own calls as contestants; the peers have a room of their own."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gbdt2nn
from benchmarks.speed.clock import Contestant
from benchmarks.speed.models import read_model

_FEW = 100  # rows of a warm-up where the number of rows does not matter


def own(library: str, booster: Any, X: NDArray[np.float64], n_rows: int) -> Contestant:
    """Return the booster's own exact attributions, one thread.

    XGBoost's matrix is made outside the time, anew for every call: it keeps the answers it gave.
    """
    n_rows = min(n_rows, len(X))

    def shape(found: Any) -> NDArray[Any]:
        # The base value stands last.
        return np.asarray(found).reshape(len(found), -1, X.shape[1] + 1)[..., :-1]

    if library == "lightgbm":
        call = partial(booster.predict, pred_contrib=True, num_threads=1)
        return Contestant("own", "own", n_rows, call, lambda n: X[:n], min(_FEW, n_rows), shape)
    call = partial(booster.predict, pred_contribs=True)
    return Contestant("own", "own", n_rows, call, lambda n: matrix(booster, X[:n]), min(_FEW, n_rows), shape)


def plain_predict(library: str, booster: Any, X: NDArray[np.float64]) -> Contestant:
    """Return the booster's plain predict, in raw scores, on all rows and one thread."""
    if library == "lightgbm":
        call = partial(booster.predict, raw_score=True, num_threads=1)
    else:
        call = partial(booster.inplace_predict, predict_type="margin")

    def scores(found: Any) -> NDArray[Any]:
        return np.asarray(found, np.float64).reshape(len(X), -1, 1)

    return Contestant("predict", "predict", len(X), call, lambda n: X[:n], min(_FEW, len(X)), scores)


def explainer_of(booster: Any, *, precision: str, megabytes: int, n_jobs: int = 1) -> Any:
    """Return gbdt2nn's explainer of a booster, as the suite sets it up."""
    return gbdt2nn.TreeExplainer(booster, n_jobs=n_jobs, precision=precision, table_memory=megabytes * 2**20)


def kernel(explainer: Any, X: NDArray[np.float64], name: str) -> Contestant:
    """Return gbdt2nn on rows that are binned already, by an explainer that has explained them before."""
    codes = explainer.transform(X)
    return _ours(name, X, explainer.shap_values, lambda _: codes)


def warm(explainer: Any, X: NDArray[np.float64], name: str) -> Contestant:
    """Return gbdt2nn on raw rows, by an explainer that has explained them before."""
    return _ours(name, X, explainer.shap_values, lambda _: X)


def end_to_end(
    library: str, path: Path, X: NDArray[np.float64], name: str, *, precision: str, megabytes: int
) -> Contestant:
    """Return gbdt2nn from a booster it has not seen: trees read, planned and built, rows binned and explained.

    The booster is read from its file anew, outside the time; the compiled kernels are loaded already.
    """

    def call(booster: Any) -> Any:
        return explainer_of(booster, precision=precision, megabytes=megabytes).shap_values(X)

    return _ours(name, X, call, lambda _: read_model(library, path))


def name_of(stage: str, precision: str, megabytes: int) -> str:
    """Return the name of one of our contestants, as records and marks use it."""
    return f"{stage}_{precision}_{megabytes}mb"


def _ours(name: str, X: NDArray[np.float64], call: Any, prepare: Any) -> Contestant:
    # All rows in the warm-up: the plan depends on their number.
    return Contestant(name, "ours", len(X), call, prepare, len(X), outputs_second)


def outputs_second(values: Any) -> NDArray[Any]:
    """Bring attributions of shape (n, d) or (n, d, k) into (n, k, d)."""
    values = np.asarray(values)
    return values[:, None, :] if values.ndim == 2 else values.transpose(0, 2, 1)


def matrix(booster: Any, X: NDArray[np.float64]) -> Any:
    """Return rows as XGBoost's matrix."""
    import xgboost

    return xgboost.DMatrix(X, feature_types=booster.feature_types, enable_categorical=True, nthread=1)
