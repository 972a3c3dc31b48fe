"""One cell of the experiment: rows drawn by a seed, one teacher of them, and a student by each method."""

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator

import gbdt2nn
from benchmarks import BenchmarkError
from benchmarks.claims.controls import on_the_shelf
from benchmarks.claims.methods import METHODS, parameters
from benchmarks.claims.reasons import Reasons
from benchmarks.data import DataSet
from gbdt2nn.student_answers import student_explained

MEASURES = ("score_r2", "attribution_r2", "per_feature_r2", "attribution_cosine", "top3_overlap", "decision_flip_rate")


class Cell:
    """A table cut down to ``n_rows`` rows to learn from and the test rows, with its teacher.

    Parameters
    ----------
    table : DataSet
    n_rows : int
        Rows that teacher and student learn from; those of a smaller number are among those of a larger one.
    seed : int
        Draws the rows, the teacher and the students.
    settings : mapping
        As `benchmarks.claims.methods.SETTINGS`.
    memory : Path
        Where the methods of one cell find each other's labels.
    """

    def __init__(self, table: DataSet, n_rows: int, seed: int, settings: Mapping[str, Any], memory: Path) -> None:
        order = np.random.default_rng(seed).permutation(len(table.X))
        if len(order) < n_rows + settings["n_test"]:
            raise BenchmarkError(
                f"data set {table.name!r} must have {n_rows + settings['n_test']} rows, got {len(order)}"
            )
        self.table, self.seed, self.settings, self.memory = table, seed, settings, memory
        self.rows, self.test = order[:n_rows], order[-settings["n_test"] :]
        self.teacher = self._fit_teacher()
        self.labels: Any = None
        self.reasons: Reasons | None = None

    def part(self, index: np.ndarray) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
        """Table, labels and weights of some rows."""
        weight = self.table.weight
        return self.table.X.iloc[index], self.table.y[index], None if weight is None else weight[index]

    def _fit_teacher(self) -> Any:
        import lightgbm

        n_stop = round(self.settings["stop_share"] * len(self.rows))
        X, y, weight = self.part(self.rows[n_stop:])
        X_stop, y_stop, weight_stop = self.part(self.rows[:n_stop])
        classifies = self.table.task in ("binary", "multiclass")
        estimator = lightgbm.LGBMClassifier if classifies else lightgbm.LGBMRegressor
        objective = {"objective": "poisson"} if self.table.task == "poisson" else {}
        model = estimator(
            random_state=self.seed, n_jobs=1, deterministic=True, force_row_wise=True, verbosity=-1,
            **objective, **self.settings["teacher"],
        )  # fmt: skip
        with warnings.catch_warnings():
            # LightGBM 4.7 wants `eval_X` and `eval_y` instead, but hands a classifier's labels on unencoded when given them.
            warnings.filterwarnings("ignore", message="The argument 'eval_set' is deprecated")
            model.fit(
                X,
                y,
                sample_weight=weight,
                eval_set=[(X_stop, y_stop)],
                eval_sample_weight=None if weight_stop is None else [weight_stop],
                callbacks=[lightgbm.early_stopping(self.settings["patience"], verbose=False)],
            )
        return model

    def fit(self, name: str, stream: bool) -> dict[str, Any]:
        """Fit one method's student and measure it on the test rows.

        Returns
        -------
        found : dict
            The measures of `gbdt2nn.fidelity`, the label metric of teacher and student, steps, rows, and CPU seconds.
            ``attribution_r2`` and its like are None for a method that states no attributions.
        """
        method = METHODS[name]
        estimator = gbdt2nn.Gbdt2NNRegressor
        if self.table.task in ("binary", "multiclass"):
            estimator = gbdt2nn.Gbdt2NNClassifier
        X, y, weight = self.part(self.rows)
        start = time.process_time()
        with on_the_shelf():
            model = estimator(
                FrozenEstimator(self.teacher),
                n_jobs=1,
                memory=str(self.memory),
                device="cpu",
                random_state=self.seed,
                **parameters(method, stream, self.settings),
            ).fit(X, y, sample_weight=weight)
        seconds = time.process_time() - start
        if model.history_.interrupted:
            raise KeyboardInterrupt

        X, y, weight = self.part(self.test)
        distilled = model.distilled_
        if self.labels is None:
            self.labels = distilled.teacher_explained(X)
        score, attribution = distilled.student_explained(X, explain=method.states)
        target = y if distilled.classes is None else np.searchsorted(distilled.classes, y)
        found = distilled.measure_labels(self.labels, score, attribution, target, weight)
        kept = {key: found[key] for key in ("metric", "teacher_metric", "student_metric", *MEASURES)}
        return {
            **kept,
            # of what does not vary nothing can be imitated
            "teacher_varies": bool(np.ptp(self.labels.score) > 0),
            "n_trees": int(distilled.ensemble.n_trees),
            "n_steps": model.n_steps_,
            "n_synthetic": model.n_synthetic_,
            "cpu_seconds": round(seconds, 2),
            **self._reasons(name, stream, len(self.rows), distilled),
        }

    def _reasons(self, name: str, stream: bool, n_rows: int, distilled: Any) -> dict[str, Any]:
        asked = self.settings["reasons"]
        wanted = self.table.name in asked["data"] and name in asked["methods"] and n_rows == asked["size"]
        if not wanted:
            return {}
        X = self.part(self.test[: asked["n_rows"]])[0]
        codes = distilled.binner.transform(distilled.numbers(X))
        if self.reasons is None:
            values = [distilled.binner.representatives(j) for j in range(codes.shape[1])]

            def teacher_score(codes: np.ndarray) -> np.ndarray:
                x = np.stack([v[c] for v, c in zip(values, codes.T, strict=True)], axis=1)
                return distilled.ensemble.raw_score(x)

            self.reasons = Reasons(
                codes,
                distilled.background,
                teacher_score,
                self.labels.attribution[: len(codes)],
                n_permutations=asked["n_permutations"],
                n_background=asked["n_background"],
                seed=self.seed,
            )
        stated = distilled.student_explained(X, explain=METHODS[name].states)[1]

        def student_score(codes: np.ndarray) -> np.ndarray:
            return student_explained(distilled.student, codes, explain=False)[0]

        return {"reasons": dict(self.reasons.ask(student_score, stated))}
