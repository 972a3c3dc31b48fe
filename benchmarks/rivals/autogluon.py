"""AutoGluon's ``distill`` of the given teacher into its network, as shipped and without synthetic rows."""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.problem import Problem
from benchmarks.rivals.contract import LabelTaught, Rival, RivalCannot, in_order, require
from benchmarks.rivals.teacher_side import TeacherSide

Array = NDArray[np.float64]
LABEL = "label of the row"
STUDENTS: dict[str, dict[str, Any]] = {"NN_TORCH": {}}  # its network, the only one that `distill` takes


class DistilledByAutoGluon(LabelTaught):
    """A predictor of AutoGluon and the network that its ``distill`` made; its folder goes with it."""

    package = "autogluon.tabular"

    def __init__(self, side: TeacherSide, predictor: Any, network: str, described: dict[str, Any]) -> None:
        super().__init__(side)
        self.predictor, self.network, self.described = predictor, network, described

    def __del__(self) -> None:
        shutil.rmtree(Path(self.predictor.path).parent, ignore_errors=True)

    def response(self, X: pd.DataFrame) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.classes_ is None:
                return self.predictor.predict(X, model=self.network).to_numpy(np.float64)[:, None]
            found = self.predictor.predict_proba(X, model=self.network)
        # of two classes it distils the probability as a number, which may leave 0 to 1
        probability = np.clip(found.to_numpy(np.float64), 0.0, 1.0)
        # its labels are the numbers of the teacher's classes
        return in_order(probability, [self.classes_[k] for k in found.columns], self.classes_)

    def describe(self) -> dict[str, Any]:
        return {"n_parameters": None, "learned": "labels and the teacher's predictions", **self.described}


def autogluon_distill(problem: Problem) -> Rival:
    """Distil as shipped: real rows keep their labels, five times as many synthetic ones have the teacher's predictions."""
    return _distil(problem)


def autogluon_distill_plain(problem: Problem) -> Rival:
    """Distil without synthetic rows: the teacher's predictions of the real ones."""
    return _distil(problem, augment_method=None)


def _distil(problem: Problem, **own: Any) -> Rival:
    if problem.task == "poisson":
        raise RivalCannot("distils numbers and probabilities, not rates of counts")
    tabular = require("autogluon.tabular", "autogluon.tabular")
    given_teacher = require("benchmarks.rivals.given_teacher", "autogluon.tabular")
    side = TeacherSide(problem.teacher, problem.X, problem.n_jobs)
    # rows have numbers of their own, by which the teacher finds them again
    rows = problem.X.reset_index(drop=True)
    labels = side.positions(problem.y)
    if side.classes is not None:
        labels = labels.astype(np.int64)
        fewest = int(np.bincount(labels, minlength=len(side.classes)).min())
        if fewest < 10:
            raise RivalCannot(f"drops classes of fewer than ten rows; here one has {fewest}")
    folder = tempfile.mkdtemp(prefix="gbdt2nn-autogluon-")
    kinds = {"regression": "regression", "binary": "binary", "multiclass": "multiclass"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predictor = tabular.TabularPredictor(
                LABEL, problem_type=kinds[problem.task], path=f"{folder}/predictor", verbosity=0
            )
            predictor.fit(
                rows.assign(**{LABEL: labels}),
                hyperparameters={given_teacher.GivenTeacher: {"side": side, "rows": rows}},
                fit_weighted_ensemble=False,
                num_cpus=problem.n_jobs,
                num_gpus=0,
            )
            made = predictor.distill(hyperparameters=STUDENTS, time_limit=problem.time_budget, verbosity=0, **own)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    networks = [name for name in made if name.startswith("NeuralNetTorch")]
    if len(networks) != 1:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"distill must leave one network, got {made}")
    return DistilledByAutoGluon(side, predictor, networks[0], {"synthetic_rows": "augment_method" not in own})
