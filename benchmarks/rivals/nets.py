"""TabM and RealMLP of pytabkit as shipped, on labels or on the teacher's raw score, and scikit-learn's network."""

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.problem import Problem
from benchmarks.rivals.contract import LabelTaught, Rival, RivalCannot, in_order, require
from benchmarks.rivals.tables import Filled
from benchmarks.rivals.teacher_side import TeacherSide

Array = NDArray[np.float64]


class NetOnLabels(LabelTaught):
    """A fitted estimator of scikit-learn's manner that learned the labels.

    Parameters
    ----------
    side : TeacherSide
    model : fitted estimator
    package : str
    transform : callable
        What is done to a frame before the estimator sees it.
    n_parameters : int or None
    """

    def __init__(
        self,
        side: TeacherSide,
        model: Any,
        package: str,
        transform: Callable[[pd.DataFrame], Any],
        n_parameters: int | None,
    ) -> None:
        super().__init__(side)
        self.model, self.package, self.transform, self.n_parameters = model, package, transform, n_parameters

    def response(self, X: pd.DataFrame) -> Array:
        table = self.transform(X)
        with _quiet():
            if self.classes_ is None:
                return np.asarray(self.model.predict(table), np.float64).reshape(-1, 1)
            return in_order(self.model.predict_proba(table), self.model.classes_, self.classes_)

    def describe(self) -> dict[str, Any]:
        return {"n_parameters": self.n_parameters, "learned": "labels"}


class NetsOnScores(Rival):
    """Fitted regressors that learned the teacher's raw score: one for all outputs, or one for each."""

    def __init__(
        self,
        side: TeacherSide,
        models: list[Any],
        package: str,
        transform: Callable[[pd.DataFrame], Any],
        n_parameters: int | None,
    ) -> None:
        super().__init__(side)
        self.models, self.package, self.transform, self.n_parameters = models, package, transform, n_parameters

    def raw_score(self, X: pd.DataFrame) -> Array:
        table = self.transform(X)
        with _quiet():
            found = [np.asarray(model.predict(table), np.float64).reshape(len(X), -1) for model in self.models]
        return np.hstack(found)

    def describe(self) -> dict[str, Any]:
        return {"n_parameters": self.n_parameters, "learned": "scores", "n_networks": len(self.models)}


# ------------------------------------------------------------------------------------------------------------ pytabkit

PYTABKIT = {"tabm": "TabM_D", "realmlp": "RealMLP_TD"}


def on_labels(name: str) -> Callable[[Problem], Rival]:
    """Return the method that fits TabM or RealMLP to the labels."""

    def method(problem: Problem) -> Rival:
        if problem.task == "poisson":
            raise RivalCannot("has no loss for counts, and takes no weights")
        if problem.weight is not None:
            raise RivalCannot("takes no weights")
        pytabkit = require("pytabkit", "pytabkit")
        side = TeacherSide(problem.teacher, problem.X, problem.n_jobs)
        kind = "Regressor" if problem.task == "regression" else "Classifier"
        filled = Filled(problem.X)
        model = _estimator(pytabkit, f"{PYTABKIT[name]}_{kind}", problem)
        with _seeds_kept():
            model.fit(filled.transform(problem.X), problem.y)
        return NetOnLabels(side, model, "pytabkit", filled.transform, _parameters(model))

    method.__doc__ = f"{PYTABKIT[name]} of pytabkit as shipped, on the labels."
    return method


def on_scores(name: str) -> Callable[[Problem], Rival]:
    """Return the method that fits TabM or RealMLP to the teacher's raw score; TabM takes one network a class."""

    def method(problem: Problem) -> Rival:
        pytabkit = require("pytabkit", "pytabkit")
        side = TeacherSide(problem.teacher, problem.X, problem.n_jobs)
        filled, target = Filled(problem.X), side.score(problem.X)
        table, models = filled.transform(problem.X), []
        for columns in [target] if name == "realmlp" else list(target.T):
            model = _estimator(pytabkit, f"{PYTABKIT[name]}_Regressor", problem)
            with _seeds_kept():
                model.fit(table, columns[:, 0] if columns.ndim == 2 and columns.shape[1] == 1 else columns)
            models.append(model)
        found = [_parameters(model) for model in models]
        n_parameters = None if any(n is None for n in found) else sum(n for n in found if n is not None)
        return NetsOnScores(side, models, "pytabkit", filled.transform, n_parameters)

    method.__doc__ = f"{PYTABKIT[name]} of pytabkit as shipped, on the teacher's raw score: plain distillation."
    return method


def _estimator(pytabkit: Any, name: str, problem: Problem) -> Any:
    return getattr(pytabkit, name)(device="cpu", n_threads=problem.n_jobs, random_state=problem.seed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning and torch say of their own insides."""
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _seeds_kept() -> Iterator[None]:
    """With torch's and NumPy's global seeds put back, which pytabkit sets."""
    import torch

    drawn = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(), _quiet():
            yield
    finally:
        np.random.set_state(drawn)  # noqa: NPY002


def _parameters(model: Any) -> int | None:
    """Count the numbers that a pytabkit network learned; None where its insides are not as we know them."""
    import torch

    found: dict[int, int] = {}
    seen: set[int] = set()
    waiting: list[Any] = [model.alg_interface_]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.nn.Module):
            found.update({id(p): p.numel() for p in thing.parameters()})
        elif isinstance(thing, list | tuple):
            waiting += thing
        elif isinstance(thing, dict):
            waiting += thing.values()
        elif type(thing).__module__.startswith("pytabkit"):
            waiting += vars(thing).values() if hasattr(thing, "__dict__") else []
    return sum(found.values()) or None


# -------------------------------------------------------------------------------------------------------- scikit-learn


def sklearn_mlp(problem: Problem) -> Rival:
    """Fit scikit-learn's network on the labels: standardised numbers, one-hot categories, its own defaults."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    side = TeacherSide(problem.teacher, problem.X, problem.n_jobs)
    filled = Filled(problem.X)
    table = filled.transform(problem.X)
    texts = [name for name in table if table[name].dtype == object]
    numbers = [name for name in table if table[name].dtype != object]
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), numbers),
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=10), texts),
        ]
    )
    network: Any
    estimator = MLPClassifier if side.classes is not None else MLPRegressor
    given = inspect.signature(estimator.fit).parameters
    if problem.weight is not None and "sample_weight" not in given:
        raise RivalCannot("takes no weights before scikit-learn 1.7")
    if problem.task == "poisson":
        if "loss" not in inspect.signature(MLPRegressor).parameters:
            raise RivalCannot("has no loss for counts before scikit-learn 1.7")
        network = MLPRegressor(loss="poisson", random_state=problem.seed)
    else:
        network = estimator(random_state=problem.seed)
    if problem.task == "regression":  # its own solver is slow to find the level and scale of y
        network = TransformedTargetRegressor(network, transformer=StandardScaler())
    weights = {} if problem.weight is None else {"sample_weight": problem.weight}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations", category=UserWarning)
        network.fit(columns.fit_transform(table), problem.y, **weights)
    model = getattr(network, "regressor_", network)
    n_parameters = sum(part.size for part in (*model.coefs_, *model.intercepts_))
    return NetOnLabels(
        side, network, "scikit-learn", lambda X: columns.transform(filled.transform(X)), int(n_parameters)
    )
