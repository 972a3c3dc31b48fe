"""One data set and seed: its rows split, its teacher fitted, and what a method makes of them measured."""

import time
from collections.abc import Callable, Mapping, MutableMapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import gbdt2nn
from benchmarks import data
from benchmarks.methods import Problem, describe_teacher, fit_teacher, warm_up
from benchmarks.reasons import reasons
from benchmarks.rivals.contract import Rival, version_of
from benchmarks.row_times import explain_seconds, predict_seconds
from benchmarks.splits import choose
from gbdt2nn.clock import CLOCKS, budgets_on


def prepare(entry: data.Entry, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Load the table, split its rows and fit the teacher."""
    warm_up_once()
    table = entry.load()
    X = _as_codes(table.X) if settings.get("as_codes") else table.X
    rows = choose(table, settings, seed)
    published = settings.get("published_splits") and table.tests is not None

    def part(index: np.ndarray) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
        return X.iloc[index], table.y[index], None if table.weight is None else table.weight[index]

    start = time.process_time()
    teacher, seconds = fit_teacher(
        table.task,
        part(rows.train),
        part(rows.stop),
        params=settings["teacher"],
        patience=settings["patience"],
        n_jobs=settings["n_jobs"],
        seed=seed,
    )
    cpu_seconds = time.process_time() - start
    known = set(X.columns[[isinstance(dtype, pd.CategoricalDtype) for dtype in X.dtypes]])
    return {
        "task": table.task,
        "teacher": teacher,
        "teacher_seconds": {"wall": seconds, "cpu": cpu_seconds},
        "fit": part(np.concatenate([rows.train, rows.stop])),
        "test": part(rows.test),
        "described": {
            "table": {
                "task": table.task,
                "origin": table.origin,
                "sha256": table.sha256,
                "n_features": X.shape[1],
                "n_categories": len(known),
                "missing_cells": int(X.iloc[rows.all].isna().to_numpy().sum()),
                "n_classes": None if table.task in ("regression", "poisson") else len(teacher.classes_),
                **({} if table.file is None else {"file": table.file}),
                **({"published_splits": table.tests.shape[1]} if published else {}),
            },
            "rows": {
                **{"train": len(rows.train), "stop": len(rows.stop), "test": len(rows.test)},
                **({"unseen_class": rows.n_unseen} if rows.n_unseen else {}),
            },
            "teacher": describe_teacher(teacher),
        },
    }


def _as_codes(X: pd.DataFrame) -> pd.DataFrame:
    """Categories as the numbers of their codes, missing ones as NaN: what a model without categories is given."""
    codes = X.select_dtypes("category").apply(
        lambda column: column.cat.codes.where(column.notna(), np.nan).astype(float)
    )
    return X.assign(**codes)


@cache
def warm_up_once() -> None:
    warm_up()


def measure(
    record: dict[str, Any],
    shared: MutableMapping[str, Any],
    settings: Mapping[str, Any],
    method: Callable[[Problem], Any],
    seed: int,
) -> None:
    """Fit one method's student and write what it cost and how good it is into its record."""
    record.update(shared["described"])
    task, teacher, (X_test, y_test, weight) = shared["task"], shared["teacher"], shared["test"]
    clock = settings.get("clock", "wall")
    budget, spent = settings["time_budget"], shared["teacher_seconds"]
    if budget is not None and not settings.get("teacher_apart"):
        budget = budget - spent[clock]
    problem = Problem(
        task=task,
        X=shared["fit"][0],
        y=shared["fit"][1],
        weight=shared["fit"][2],
        teacher=teacher,
        student={**settings["student"], **settings.get("by_method", {}).get(record["method"], {})},
        time_budget=budget,
        n_jobs=settings["n_jobs"],
        seed=seed,
    )
    start, cpu_start = time.perf_counter(), time.process_time()
    with budgets_on(CLOCKS[clock]):
        model = method(problem)
    seconds = 0.0 if model is None else time.perf_counter() - start
    cpu_seconds = 0.0 if model is None else time.process_time() - cpu_start
    record["seconds"] = {
        "teacher": spent["wall"],
        "student": seconds,
        "total": spent["wall"] + seconds,
        "teacher_cpu": spent["cpu"],
        "student_cpu": cpu_seconds,
        "total_cpu": spent["cpu"] + cpu_seconds,
    }
    start, cpu_start = time.perf_counter(), time.process_time()
    record["metrics"]["teacher"] = task_metrics(task, teacher, X_test, y_test, weight)
    if isinstance(model, Rival):
        _measure_rival(record, model, X_test, y_test, weight)
    elif model is not None:
        if model.history_.interrupted:
            # The estimator makes the best of Ctrl-C; a half-trained student is no result.
            raise KeyboardInterrupt
        record["student"] = {
            "n_steps": model.n_steps_,
            "n_synthetic": model.n_synthetic_,
            "n_explained": model.n_explained_,
            "n_parameters": sum(parameter.numel() for parameter in model.student_.parameters()),
            "parameters": {key: value for key, value in model.get_params(deep=False).items() if key != "teacher"},
            "seconds": dict(model.seconds_),
        }
        embedding = getattr(model, "fidelity_", {}).get("embedding_r2")
        if embedding is not None:  # of the first stage by itself, on held-out rows
            record["student"]["embedding_r2"] = embedding
        record["metrics"]["student"] = task_metrics(task, model, X_test, y_test, weight)
        record["fidelity"] = dict(
            gbdt2nn.fidelity(model, X_test, y_test, **({} if weight is None else {"sample_weight": weight}))
        )
        if settings.get("reasons"):
            record["reasons"] = reasons(model.distilled_, X_test.iloc[: settings["reasons"]], shared)
    asked = teacher if model is None else model
    record["explains"], record["explain_seconds_per_row"] = explain_seconds(asked, X_test)
    record["predict_seconds_per_row"] = predict_seconds(asked, X_test, task)
    record["seconds"]["evaluation"] = time.perf_counter() - start
    record["seconds"]["evaluation_cpu"] = time.process_time() - cpu_start


def _measure_rival(
    record: dict[str, Any], rival: Rival, X: pd.DataFrame, y: np.ndarray, weight: np.ndarray | None
) -> None:
    """Write what is known of a rival, and its fidelity, into a record; what only explains has no metrics of its own."""
    described = rival.describe()
    record["student"] = {
        "rival": True,
        "package": rival.package,
        "version": version_of(rival.package),
        "seconds": {},
        **described,
    }
    task = record["table"]["task"]
    record["metrics"]["student"] = task_metrics(task, rival, X, y, weight) if rival.has_score else {}
    record["fidelity"] = rival.side.fidelity(rival, X, y, weight)


def task_metrics(
    task: str, model: Any, X: pd.DataFrame, y: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, float]:
    """Return how well a teacher or a student does the task itself.

    Parameters
    ----------
    task : {"regression", "binary", "multiclass", "poisson"}
    model : fitted estimator
    X : DataFrame of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,), optional

    Returns
    -------
    metrics : dict
        ``rmse`` and ``mae`` in units of y and ``r2``; or ``accuracy``, ``log_loss`` (natural logarithm, per row) and,
        for two classes, ``auc``. Of counts the mean ``poisson_deviance``.
    """
    from sklearn import metrics

    if task == "poisson":
        return {"poisson_deviance": metrics.mean_poisson_deviance(y, model.predict(X), sample_weight=weight)}
    if task == "regression":
        predicted = model.predict(X)
        return {
            "rmse": metrics.root_mean_squared_error(y, predicted, sample_weight=weight),
            "mae": metrics.mean_absolute_error(y, predicted, sample_weight=weight),
            "r2": metrics.r2_score(y, predicted, sample_weight=weight),
        }
    probability = model.predict_proba(X)
    classes = np.asarray(model.classes_)
    found = {
        "accuracy": metrics.accuracy_score(y, classes[probability.argmax(axis=1)], sample_weight=weight),
        "log_loss": metrics.log_loss(y, probability, labels=classes, sample_weight=weight),
    }
    if task == "binary":
        found["auc"] = metrics.roc_auc_score(y == classes[1], probability[:, 1], sample_weight=weight)
    return found
