"""Explained predictions by students, against the booster's own calls and the exact engine: batches, and one row at a time."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gbdt2nn
from benchmarks.speed import clock
from benchmarks.speed.clock import Contestant
from benchmarks.speed.contestants import explainer_of, matrix
from benchmarks.speed.job import Job

# the default, the same with smaller tables, and tables alone
STUDENTS: dict[str, dict[str, Any]] = {
    "self_explaining": {"student": "self_explaining"},
    "small_self_explaining": {"student": "self_explaining", "student_params": {"n_triples": 0, "pair_bins": 64}},
    "interaction_tables": {"student": "interaction_tables"},
}
PRECISIONS = ("float64", "float32", "fast")
BATCH = 1024
N_BATCHES = 16  # of a turn: what the turn before left in the caches is soon forgotten
SINGLE = 500  # rows of a round of single rows
FEW = 20  # the same, of a call that takes milliseconds
N_COMPARED = 10_000  # rows on which precisions are compared
FIT = {"n_jobs": 1, "device": "cpu", "random_state": 0}


def students(job: Job, say: Callable[[str], None]) -> dict[str, Any]:
    """CPU microseconds per row, raw float64 rows in: prediction and explanation by students, by the engine, by the booster.

    All in turns, one thread: batches of 1024 rows, and one row a call. Students answer by `predict_explain`, batches in each
    precision. Explanation by the booster or the engine does not give the prediction beside it; their sum does.
    """
    import torch

    torch.set_num_threads(1)
    X, booster = np.ascontiguousarray(job.table()), job.booster()
    is_number = gbdt2nn.TreeExplainer(booster).description.task == "regression"
    estimator = gbdt2nn.Gbdt2NNRegressor if is_number else gbdt2nn.Gbdt2NNClassifier
    batches = np.array_split(X[: N_BATCHES * BATCH], max(1, min(len(X), N_BATCHES * BATCH) // BATCH))
    rows = [X[i % len(X)] for i in range(min(SINGLE, job.n_calls))]
    engine, of_one = (explainer_of(booster, precision="float64", megabytes=64) for _ in range(2))
    of_one.prepare(1)
    predict, own = _booster_calls(job.problem.library, booster)
    racers = [
        _turn("predict_batch", "predict", batches, predict),
        _turn("own_batch", "own", [batches[0][: job.n_slow_rows]], own),
        _turn("engine_batch", "ours", batches, engine.shap_values),
        _turn("predict_one", "predict", [row[None] for row in rows], predict),
        _turn("own_one", "own", [row[None] for row in rows[:FEW]], own),
        _turn("engine_one", "ours", [row[None] for row in rows], of_one.shap_values),
    ]
    described = {}
    for name, own in STUDENTS.items():
        model = estimator(booster, **{**FIT, **own}).fit(X)
        say(f"{name}: fitted in {model.seconds_['total']:.0f} s")
        compiled = model.compile_row()
        in_precision = {p: copy.copy(model).set_params(precision=p) for p in PRECISIONS}
        racers += [
            *(
                _turn(f"{name}_batch_{precision}", "ours", batches, answers.predict_explain)
                for precision, answers in in_precision.items()
            ),
            _turn(f"{name}_one", "ours", [row[None] for row in rows], model.predict_explain),
            _turn(f"{name}_compiled", "ours", rows, compiled),
        ]
        described[name] = {
            "n_steps": model.n_steps_,
            "seconds": model.seconds_["total"],
            "megabytes": compiled.nbytes / 2**20,
            "fidelity": {key: model.fidelity_[key] for key in ("score_r2", "attribution_r2", "per_feature_r2")},
            "max_error": _largest_difference(model, compiled, X[:1000]),
            "precisions": {p: _errors(model, answers, X[:N_COMPARED]) for p, answers in in_precision.items()},
        }
    rounds, _ = clock.interleave(racers, job.n_rounds, say=say)
    return {
        "students": described,
        "batch": BATCH,
        "microseconds": {
            racer.name: clock.summary(
                [1e6 * s for s in clock.seconds_per_row(racer, rounds[racer.name]) if s is not None]
            )
            for racer in racers
        },
    }


def _turn(name: str, kind: str, parts: Sequence[NDArray[Any]], call: Callable[[Any], Any]) -> Contestant:
    """Return the contestant that is asked for each part in turn: batches, or single rows."""

    def calls(parts: Sequence[NDArray[Any]]) -> None:
        for part in parts:
            call(part)

    n_rows = sum(1 if part.ndim == 1 else len(part) for part in parts)
    return Contestant(name, kind, n_rows, calls, lambda _: parts, n_rows)


def _booster_calls(library: str, booster: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the booster's own raw scores and exact attributions, one thread."""
    if library == "lightgbm":
        return (
            lambda block: booster.predict(block, raw_score=True, num_threads=1),
            lambda block: booster.predict(block, pred_contrib=True, num_threads=1),
        )
    return (
        lambda block: booster.inplace_predict(block, predict_type="margin"),
        lambda block: booster.predict(matrix(booster, block), pred_contribs=True),
    )


def _errors(exact: Any, answers: Any, rows: NDArray[np.float64]) -> dict[str, Any]:
    """Return how far a student's answers in one precision are from those in float64, in standard deviations of the score.

    The gap is between the score and the base value plus the attributions, in the same unit.
    """
    score, attribution = exact.distilled_.student_explained(rows)
    found, shares = answers.distilled_.student_explained(rows, precision=answers.precision)
    unit = score.std(0)
    off = {"score": (found - score) / unit, "attribution": (shares - attribution) / unit[:, None]}
    return {
        "network": answers.network_precision_,
        **{f"{name}_rms": float(np.sqrt(np.mean(gap**2))) for name, gap in off.items()},
        **{f"{name}_max": float(np.abs(gap).max()) for name, gap in off.items()},
        "completeness_gap": float(np.abs((answers.base_value_ + shares.sum(2) - found) / unit).max()),
    }


def _largest_difference(model: Any, compiled: Any, rows: NDArray[np.float64]) -> float:
    """Return the largest difference of an attribution of the compiled row to the student's own, by the scores' range."""
    score, attribution = model.distilled_.student_explained(rows)
    found = np.stack([compiled(row).attribution for row in rows]).reshape(len(rows), rows.shape[1], -1)
    return float(np.abs(found.transpose(0, 2, 1) - attribution).max() / np.ptp(score))
