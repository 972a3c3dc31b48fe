"""A search over teacher and student on California housing, with the teachers and their attributions cached."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gbdt2nn
from benchmarks import data, records

DATA = "california_housing"
N_FOLDS = 3
GRID: dict[str, list[Any]] = {
    "teacher__num_leaves": [15, 31, 63],
    "explanation_weight": [0.0, 0.3, 1.0, 3.0],
}
TEACHER = {"n_estimators": 100, "learning_rate": 0.1}
STUDENT = {"max_steps": 300, "n_synthetic": 5000}
N_JOBS = 2


def search(
    out: Path = Path("results"), *, max_rows: int | None = None, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run the search and write its record to ``out/search/california_housing.json``.

    Parameters
    ----------
    out : Path
    max_rows : int, optional
        Rows of the table to take; all by default.
    say : callable

    Returns
    -------
    record : dict
        With ``seconds["total"]``, wall-clock with the final refit, ``best_params`` and ``best_score``, the mean score
        R² against the teacher on held-out folds.
    """
    import lightgbm
    import numpy as np
    from sklearn.model_selection import GridSearchCV, KFold

    table = data.load(DATA)
    rows = np.random.default_rng(0).permutation(len(table.X))[:max_rows]
    record: dict[str, Any] = {
        "schema": records.SCHEMA,
        "kind": "search",
        "data": DATA,
        **records.environment(),
        "status": "ok",
        "settings": {"grid": GRID, "teacher": TEACHER, "student": STUDENT, "n_jobs": N_JOBS, "max_rows": max_rows},
        "n_candidates": int(np.prod([len(values) for values in GRID.values()])),
        "n_folds": N_FOLDS,
        "n_rows": len(rows),
    }
    with tempfile.TemporaryDirectory(prefix="gbdt2nn-search-") as memory:
        model = gbdt2nn.Gbdt2NNRegressor(
            lightgbm.LGBMRegressor(n_jobs=N_JOBS, random_state=0, verbosity=-1, **TEACHER),
            memory=memory,
            n_jobs=N_JOBS,
            random_state=0,
            **STUDENT,
        )
        searching = GridSearchCV(
            model,
            GRID,
            scoring=gbdt2nn.score_fidelity,
            cv=KFold(N_FOLDS, shuffle=True, random_state=0),
            error_score="raise",
        )
        start = time.perf_counter()
        searching.fit(table.X.iloc[rows], table.y[rows])
        seconds = time.perf_counter() - start
    found = searching.cv_results_
    record["seconds"] = {"total": seconds, "refit": searching.refit_time_}
    record["best_params"] = searching.best_params_
    record["best_score"] = searching.best_score_
    record["candidates"] = [
        {"params": params, "score": score, "fit_seconds": fit_seconds}
        for params, score, fit_seconds in zip(
            found["params"], found["mean_test_score"], found["mean_fit_time"], strict=True
        )
    ]
    path = out / "search" / f"{DATA}.json"
    records.write(path, record)
    say(f"made     {path}: {record['n_candidates']} × {N_FOLDS} fits and a refit in {seconds:.0f} s")
    say(f"best     {searching.best_params_}: score fidelity {searching.best_score_:.4f}")
    return record
