"""Explainable boosting machines of interpret as shipped, on labels or on the teacher's raw score, with their own shares.

An EBM adds up terms of one or two features. A term of one feature is that feature's attribution; of a pair each of the two
gets half.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.problem import Problem
from benchmarks.rivals.contract import Rival, require
from benchmarks.rivals.teacher_side import TeacherSide

Array = NDArray[np.float64]
OWN: dict[str, Any] = {}  # parameters other than those shipped: none


class AdditiveModel(Rival):
    """One EBM of all outputs, or one for each.

    Parameters
    ----------
    side : TeacherSide
    models : list of fitted EBMs
        Their intercept and terms are in units of the raw score.
    learned : {"labels", "scores"}
    """

    package = "interpret-core"
    explains = "own"

    def __init__(self, side: TeacherSide, models: list[Any], learned: str) -> None:
        super().__init__(side)
        self.models, self.learned = models, learned
        self.up_to_a_shift = learned == "labels"

    def raw_score(self, X: pd.DataFrame) -> Array:
        return np.hstack([_terms(model, X).sum(axis=1) + _intercept(model) for model in self.models])

    def explain(self, X: pd.DataFrame) -> tuple[Array, Array]:
        shares = [_shares(model, X, self.side.n_features) for model in self.models]
        return np.concatenate(shares, axis=1), np.concatenate([_intercept(model) for model in self.models])

    def describe(self) -> dict[str, Any]:
        cells = sum(int(np.size(scores)) for model in self.models for scores in model.term_scores_)
        pairs = sum(len(features) > 1 for model in self.models for features in model.term_features_)
        return {"n_parameters": cells, "learned": self.learned, "n_models": len(self.models), "n_pairs": pairs}


def _terms(model: Any, X: pd.DataFrame) -> Array:
    """What each term adds, shape (n_samples, n_terms, n_outputs)."""
    found = np.asarray(model.eval_terms(X), np.float64)
    return found[:, :, None] if found.ndim == 2 else found


def _intercept(model: Any) -> Array:
    return np.atleast_1d(np.asarray(model.intercept_, np.float64))


def _shares(model: Any, X: pd.DataFrame, n_features: int) -> Array:
    terms = _terms(model, X)
    found = np.zeros((len(terms), terms.shape[2], n_features))
    for number, features in enumerate(model.term_features_):
        for j in features:
            found[:, :, j] += terms[:, number] / len(features)
    return found


def ebm(problem: Problem) -> Rival:
    """EBM of interpret as shipped, on the labels: log loss, squared error, or Poisson deviance of counts."""
    glassbox = require("interpret.glassbox", "interpret-core")
    side = TeacherSide(problem.teacher, problem.X, problem.n_jobs)
    own = {**OWN, **({"objective": "poisson_deviance"} if problem.task == "poisson" else {})}
    kind = glassbox.ExplainableBoostingRegressor if side.classes is None else glassbox.ExplainableBoostingClassifier
    model = _fit(kind(n_jobs=problem.n_jobs, random_state=problem.seed, **own), problem, problem.y)
    if side.classes is not None and list(model.classes_) != list(side.classes):
        raise ValueError(f"the EBM's classes must be the teacher's {list(side.classes)}, got {list(model.classes_)}")
    return AdditiveModel(side, [model], "labels")


def ebm_scores(problem: Problem) -> Rival:
    """EBM of interpret as shipped, a regressor of the teacher's raw score; one for each class."""
    glassbox = require("interpret.glassbox", "interpret-core")
    side = TeacherSide(problem.teacher, problem.X, problem.n_jobs)
    models = [
        _fit(
            glassbox.ExplainableBoostingRegressor(n_jobs=problem.n_jobs, random_state=problem.seed, **OWN),
            problem,
            target,
        )
        for target in side.score(problem.X).T
    ]
    return AdditiveModel(side, models, "scores")


def _fit(model: Any, problem: Problem, target: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows a bin, and of newer pandas
        return model.fit(problem.X, target, sample_weight=problem.weight)
