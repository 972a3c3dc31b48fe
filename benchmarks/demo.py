"""The demo: one student of California housing, one table, one report with pictures."""

import statistics
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.model_selection import train_test_split

import gbdt2nn
from benchmarks import BenchmarkError, data, records
from benchmarks.cell import task_metrics

DATA = "california_housing"
REPEATS = 3  # the teacher's own SHAP of all test rows takes seconds
PREDICT, SHAP, STUDENT_PREDICT, STUDENT_EXPLAIN = (
    "Teacher's prediction",
    "Teacher's own SHAP",
    "Student's prediction",
    "Student's prediction and explanation",
)


def demo(path: Path = Path("report.html"), *, say: Callable[[str], None] = print, **options: Any) -> Any:
    """Train the student, print its table and write its report.

    Parameters
    ----------
    path : Path
        Of the report.
    say : callable
        Is given the table, and a line for each stage.
    **options
        Parameters of `Gbdt2NNRegressor` that differ from its defaults.

    Returns
    -------
    model : Gbdt2NNRegressor

    Raises
    ------
    BenchmarkError
        Before any training, if the report cannot be written there, or at all.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise BenchmarkError(f"the report must be a file in a folder that exists, got {str(path)!r}")
    for library in ("jinja2", "matplotlib"):
        if find_spec(library) is None:
            raise BenchmarkError(f'the report needs {library}: pip install ".[report]"')
    table = data.load(DATA)
    X, X_test, y, y_test = train_test_split(table.X, table.y, test_size=0.2, random_state=0)
    say(f"{DATA}: {len(X)} rows to train on, {len(X_test)} to test on. Training teacher and student ...")
    start = time.perf_counter()
    model = gbdt2nn.Gbdt2NNRegressor(**{"random_state": 0, **options}).fit(X, y)
    seconds = time.perf_counter() - start
    stages = ", ".join(f"{name} {value:.1f}" for name, value in model.seconds_.items() if name != "total")
    rows = f"{model.n_synthetic_} synthetic rows besides, {model.n_explained_} rows explained"
    say(f"Trained in {seconds:.1f} s ({stages}); {model.n_steps_} steps, {rows}.")

    X_teacher = model.encoder_.to_teacher(X_test)
    metrics = {
        "teacher": task_metrics("regression", model.teacher_, X_teacher, y_test),
        "student": task_metrics("regression", model, X_test, y_test),
    }
    fidelity = gbdt2nn.fidelity(model, X_test, y_test)
    timings = time_in_turns(model, X_test)
    say("")
    say(summary(metrics, fidelity, timings, len(X_test)))
    gbdt2nn.write_report(model, X_test, y_test, path=path, timings=timings, max_rows=None)
    say(f"\nWrote {path}.")
    return model


def time_in_turns(model: Any, X: pd.DataFrame, *, repeats: int = REPEATS) -> dict[str, float]:
    """Return how long teacher and student take for a table: median over repeats, taken in turns in one run.

    Parameters
    ----------
    model : fitted Gbdt2NNRegressor with a LightGBM teacher
    X : DataFrame of shape (n_samples, n_features)
        All its rows are asked for at once.
    repeats : int

    Returns
    -------
    timings : dict
        Seconds for all rows of the teacher's prediction, its own SHAP (LightGBM's ``pred_contrib``), the student's
        prediction, and the student's ``explain``, which is prediction and attributions in one. Teacher and student use
        the threads they were fitted with; the teacher's table is made ready beforehand.
    """
    X_teacher = model.encoder_.to_teacher(X)
    asked: dict[str, Callable[[int | None], Any]] = {
        PREDICT: lambda n: model.teacher_.predict(X_teacher[:n]),
        SHAP: lambda n: model.teacher_.predict(X_teacher[:n], pred_contrib=True),
        STUDENT_PREDICT: lambda n: model.predict(X[:n]),
        STUDENT_EXPLAIN: lambda n: model.explain(X[:n]),
    }
    for ask in asked.values():  # the first call of each compiles or loads something
        ask(10)
    taken: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(repeats):
        for name, ask in asked.items():
            start = time.perf_counter()
            ask(None)
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def summary(
    metrics: Mapping[str, Mapping[str, float]], fidelity: Mapping[str, Any], timings: Mapping[str, float], n_rows: int
) -> str:
    """Return the demo's one table as text; `timings` are for `n_rows` rows."""
    teacher, student = metrics["teacher"], metrics["student"]
    row = {name: f"{seconds / n_rows * 1e6:,.1f} µs" for name, seconds in timings.items()}
    lines = [
        ("On test rows", "teacher", "student"),
        ("RMSE (US dollars)", f"{teacher['rmse']:,.0f}", f"{student['rmse']:,.0f}"),
        ("MAE (US dollars)", f"{teacher['mae']:,.0f}", f"{student['mae']:,.0f}"),
        ("R² against the labels", f"{teacher['r2']:.4f}", f"{student['r2']:.4f}"),
        ("Score R² against the teacher", "", f"{fidelity['score_r2']:.4f}"),
        ("Attribution R²", "", f"{fidelity['attribution_r2']:.4f}"),
        ("Attribution R², mean over features", "", f"{fidelity['per_feature_r2']:.4f}"),
        ("Top-3 overlap", "", f"{fidelity['top3_overlap']:.3f}"),
        ("Completeness gap (US dollars)", "", f"{fidelity['completeness_gap']:.1e}"),
        ("Time to predict a row", row[PREDICT], row[STUDENT_PREDICT]),
        ("Time to predict and explain a row", row[SHAP], row[STUDENT_EXPLAIN]),
        ("Explained predictions, student to teacher", "", f"{timings[SHAP] / timings[STUDENT_EXPLAIN]:,.0f} x as fast"),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    text = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in lines]
    text.insert(1, "-" * len(text[0]))
    machine = records.hardware()
    text.append(
        f"Times: {n_rows} rows at once, median of {REPEATS} taken in turns, {machine['cpu']}, "
        f"{machine['usable_cores']} cores."
    )
    return "\n".join(text)
