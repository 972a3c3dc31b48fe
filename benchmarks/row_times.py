"""Seconds a row of predicting and of explaining, on one thread, in one call of a batch of test rows.

They are the processor's, which on one thread are those that pass on a quiet machine.
"""

import time
from collections.abc import Callable
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.rivals.contract import Rival

MOST_ROWS = 1000
MOST_SLOW_ROWS = 200  # for the teacher's own attributions and explainers from outside
FEW = 10  # rows of a first call, in which libraries load and kernels compile
REPEATS = 3
LONG = 1.0  # seconds: what takes as long is not asked again


def predict_seconds(model: Any, X: pd.DataFrame, task: str) -> float | None:
    """Return the seconds a row of predictions: numbers, or probabilities of classes.

    Parameters
    ----------
    model : fitted teacher, student or rival
    X : DataFrame of shape (n_samples, n_features)
        Test rows, of which the first 1000 are asked for.
    task : {"regression", "binary", "multiclass", "poisson"}

    Returns
    -------
    seconds : float or None
        None for what only explains.
    """
    if isinstance(model, Rival) and not model.has_score:
        return None
    call = model.predict if task in ("regression", "poisson") else model.predict_proba
    options: dict[str, Any] = {}
    if _is_teacher(model, "lightgbm"):
        options = {"num_threads": 1}
    elif _is_teacher(model, "xgboost"):
        booster = _one_thread(model)
        return _least(lambda rows: _xgboost(model, booster, rows, pred_contribs=False), X.iloc[:MOST_ROWS])
    return _least(lambda rows: call(rows, **options), X.iloc[:MOST_ROWS])


def explain_seconds(model: Any, X: pd.DataFrame) -> tuple[str | None, float | None]:
    """Return what explains a model, and the seconds a row of it; None and None for a model that explains nothing.

    Of the teacher it is its library's own call for TreeSHAP, on the first 200 rows.

    Parameters
    ----------
    model : fitted teacher, student or rival
    X : DataFrame of shape (n_samples, n_features)

    Returns
    -------
    explains : "own", name of an explainer from outside, or None
    seconds : float or None
    """
    if isinstance(model, Rival):
        if model.explains is None:
            return None, None
        return model.explains, _least(model.explain, X.iloc[: min(MOST_ROWS, model.most_explained or MOST_ROWS)])
    few = X.iloc[:MOST_SLOW_ROWS]
    if _is_teacher(model, "lightgbm"):
        return "own", _least(lambda rows: model.predict(rows, pred_contrib=True, num_threads=1), few)
    if _is_teacher(model, "xgboost"):
        booster = _one_thread(model)
        return "own", _least(lambda rows: _xgboost(model, booster, rows, pred_contribs=True), few)
    distilled = getattr(model, "distilled_", None)
    if distilled is None or not distilled.explains:
        return None, None
    return "own", _least(model.explain, X.iloc[:MOST_ROWS])


def _is_teacher(model: Any, library: str) -> bool:
    return type(model).__module__.split(".")[0] == library


def _one_thread(model: Any) -> Any:
    booster = model.get_booster().copy()
    booster.set_param({"nthread": 1})
    return booster


def _xgboost(model: Any, booster: Any, rows: pd.DataFrame, *, pred_contribs: bool) -> Any:
    import xgboost

    table = xgboost.DMatrix(rows, enable_categorical=True, nthread=1)
    return booster.predict(table, pred_contribs=pred_contribs, iteration_range=(0, model.best_iteration + 1))


def _least(call: Callable[[pd.DataFrame], Any], X: pd.DataFrame) -> float:
    """The least seconds a row of some calls, of a single one where it takes long; few rows warm up before."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken: list[float] = []
    try:
        with threadpool_limits(limits=1):
            call(X.iloc[:FEW])
            while len(taken) < REPEATS and max(taken, default=0.0) < LONG:
                start = time.process_time()
                call(X)
                taken.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return min(taken) / len(X)
