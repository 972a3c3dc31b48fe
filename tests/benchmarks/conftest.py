"""Stand-ins for teacher and student, so that the runner is tested apart from any training."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

# The benchmarks run from a checkout and are no part of the installed package.
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import gbdt2nn
from benchmarks import cell, methods, runner, suites


class FakeStudent:
    """Predicts the mean, and looks like a fitted estimator."""

    n_steps_, n_synthetic_, n_explained_ = 7, 11, 13
    seconds_: ClassVar = {"student": 0.5}
    student_ = SimpleNamespace(parameters=lambda: [torch.zeros(3), torch.zeros(2)])

    def __init__(self, problem, interrupted=False):
        self.history_ = SimpleNamespace(interrupted=interrupted)
        self.problem = problem
        self.classes_ = np.unique(problem.y)

    def get_params(self, deep=True):
        return {"teacher": self.problem.teacher, "max_steps": 7, "random_state": self.problem.seed}

    def predict(self, X):
        return np.full(len(X), self.problem.y.mean())

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.fixture
def fake(monkeypatch):
    """Methods that train nothing, a suite that names them, and the problems that they were given."""
    problems = []

    def mean(problem):
        problems.append(problem)
        return FakeStudent(problem)

    def broken(problem):
        raise ValueError("depth must be positive, got -1")

    def stopped(problem):
        return FakeStudent(problem, interrupted=True)

    monkeypatch.setattr(
        runner, "METHODS", {"teacher": methods.teacher, "mean": mean, "broken": broken, "stopped": stopped}
    )
    monkeypatch.setattr(cell, "warm_up_once", lambda: None)
    # Through the dict: asking the module for its own name would load the estimators.
    monkeypatch.setitem(
        vars(gbdt2nn),
        "fidelity",
        lambda model, X, y: {"score_r2": 0.5 + model.problem.seed / 10, "attribution_r2": np.nan, "n_rows": len(X)},
    )
    suite = suites.Suite(
        summary="for the tests",
        data=("diabetes",),
        methods=("teacher", "mean"),
        n_seeds=1,
        teacher={"n_estimators": 3, "num_leaves": 4},
        patience=2,
        n_jobs=1,
        max_rows=200,
        time_budget=100.0,
        by_data={"wine": {"teacher": {"n_estimators": 2}}},
    )
    monkeypatch.setitem(suites.SUITES, "tiny", suite)
    return problems


@pytest.fixture
def table():
    """Twelve rows: a number with a missing value, a category, a split, an identity and a label that may be missing."""
    return pd.DataFrame(
        {
            "id": range(12),
            "size": [1.5, np.nan, *range(10)],
            "colour": ["red", "blue", None] * 4,
            "part": ["train"] * 8 + ["test"] * 4,
            "price": [np.nan, *range(1, 12)],
        }
    )
