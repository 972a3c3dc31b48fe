"""A stream that drifts: train on one batch of rows in the order of time, test on the next, and learn from it or not.

The protocol is that of DeepGBM's online experiment (Ke et al. 2019): models that cannot be updated stay as they are after
the first batch.
"""

import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import gbdt2nn
from benchmarks import BenchmarkError, data, records
from benchmarks.cell import task_metrics
from benchmarks.methods import fit_teacher

N_BATCHES = 6
TEACHER = {"n_estimators": 100, "learning_rate": 0.1, "num_leaves": 64}
PATIENCE = 20
# networks of the size of the suite `papers-tabular`
STUDENT = {
    "max_steps": 800,
    "n_synthetic": 20_000,
    "explanation_weight": 0.0,
    "student_params": {"n_groups": 5, "hidden": (64, 64)},
}
# `--data` names sets whose rows stand in the order of time
STUDENTS = {"gbdt2nn": "leaf_embedding", "deepgbm": "deepgbm"}


def stream(
    name: str,
    *,
    seed: int = 0,
    out: Path = Path("results"),
    max_rows: int | None = None,
    student: Mapping[str, Any] = STUDENT,
    n_jobs: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run one data set's stream and write its record to ``out/stream/<name>-seed<seed>.json``.

    Parameters
    ----------
    name : str
        A data set whose rows stand in the order of time.
    seed : int
    out : Path
    max_rows : int, optional
        Evenly spaced rows of the table; all by default.
    student : mapping
        Parameters of the students.
    n_jobs : int
    say : callable

    Returns
    -------
    record : dict
        ``errors``: for each model one number for each batch after the first, RMSE or log loss: the teacher as it was after
        the first batch, the teacher fitted anew on each last batch and on all rows so far, and each student as it was and
        updated.
    """
    from sklearn.frozen import FrozenEstimator

    table = data.load(name)
    n_rows = min(len(table.X), max_rows or len(table.X))
    rows = np.linspace(0, len(table.X) - 1, n_rows).astype(np.int64)
    batches = np.array_split(rows, N_BATCHES)
    if min(len(batch) for batch in batches) < 50:
        raise BenchmarkError(f"a stream needs {50 * N_BATCHES} rows at least, got {n_rows} of {name!r}")
    regression = table.task == "regression"
    metric = "rmse" if regression else "log_loss"
    if not regression and any(len(np.unique(table.y[batch])) < len(np.unique(table.y)) for batch in batches):
        raise BenchmarkError(f"every batch of a stream must hold every class, which those of {name!r} do not")

    def taught(index: np.ndarray) -> Any:
        """A teacher of rows in the order of time, stopped early on the last seventh of them."""
        cut = len(index) - len(index) // 7

        def part(some: np.ndarray) -> tuple[Any, np.ndarray]:
            return table.X.iloc[some], table.y[some]

        parts = part(index[:cut]), part(index[cut:])
        return fit_teacher(table.task, *parts, params=TEACHER, patience=PATIENCE, n_jobs=n_jobs, seed=seed)[0]

    def error(model: Any, index: np.ndarray) -> float:
        return float(task_metrics(table.task, model, table.X.iloc[index], table.y[index])[metric])

    start, cpu_start = time.perf_counter(), time.process_time()
    frozen = taught(batches[0])
    estimator = gbdt2nn.Gbdt2NNRegressor if regression else gbdt2nn.Gbdt2NNClassifier
    students: dict[str, Any] = {}
    for label, kind in STUDENTS.items():
        model = estimator(
            FrozenEstimator(frozen),
            student=kind,
            n_jobs=n_jobs,
            random_state=seed,
            **{**student, "student_params": {"explanation": "none", **(student.get("student_params") or {})}},
        )
        students[f"{label}_frozen"] = model.fit(table.X.iloc[batches[0]], table.y[batches[0]])
        students[f"{label}_updated"] = copy.deepcopy(model)
    names = ("gbdt_frozen", "gbdt_refitted_on_last", "gbdt_refitted_on_all", *students)
    errors: dict[str, list[float]] = {model: [] for model in names}
    on_last = on_all = frozen
    for number in range(1, N_BATCHES):
        met = batches[number]
        now = {"gbdt_frozen": frozen, "gbdt_refitted_on_last": on_last, "gbdt_refitted_on_all": on_all, **students}
        for model in names:
            errors[model].append(error(now[model], met))
        if number < N_BATCHES - 1:
            on_last, on_all = taught(met), taught(np.concatenate(batches[: number + 1]))
            for model, fitted in students.items():
                if model.endswith("updated"):
                    fitted.partial_fit(table.X.iloc[met], table.y[met])
    record = {
        "schema": records.SCHEMA,
        "kind": "stream",
        "data": name,
        "seed": seed,
        **records.environment(),
        "status": "ok",
        "settings": {"teacher": TEACHER, "student": dict(student), "n_batches": N_BATCHES, "max_rows": max_rows},
        "rows": [len(batch) for batch in batches],
        "metric": metric,
        "errors": errors,
        "seconds": {"total": time.perf_counter() - start, "total_cpu": time.process_time() - cpu_start},
    }
    path = out / "stream" / f"{name}-seed{seed}.json"
    records.write(path, record)
    say(f"made     {path}: " + ", ".join(f"{model} {np.mean(found):.4g}" for model, found in errors.items()))
    return record
