"""An explainer from outside, asked of a student that was taught the score alone."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.problem import Problem, fit
from benchmarks.rivals.contract import Rival
from benchmarks.rivals.teacher_side import TeacherSide

Array = NDArray[np.float64]
MOST_EXPLAINED = 200  # test rows: an explainer from outside asks the student hundreds of times for each


class ExplainedFromOutside(Rival):
    """A fitted student of gbdt2nn and an explainer of `gbdt2nn.post_hoc`."""

    most_explained = MOST_EXPLAINED

    def __init__(self, side: TeacherSide, student: Any, explainer: str) -> None:
        super().__init__(side)
        self.student, self.explains = student, explainer

    def raw_score(self, X: pd.DataFrame) -> Array:
        return self.student.distilled_.student_explained(X, explain=False)[0]

    def explain(self, X: pd.DataFrame) -> tuple[Array, Array]:
        assert self.explains is not None
        return self.student.distilled_.post_hoc(X, self.explains)

    def describe(self) -> dict[str, Any]:
        return {
            "n_parameters": sum(parameter.numel() for parameter in self.student.student_.parameters()),
            "learned": "scores",
            "seconds": dict(self.student.seconds_),
            "n_steps": self.student.n_steps_,
        }


def score_imitation_permutation(problem: Problem) -> Rival:
    """Explain the student of `score_imitation` by permutation SHAP, on the first 200 test rows."""
    student = fit(problem, student="self_explaining", explanation_weight=0.0)
    if student.history_.interrupted:
        raise KeyboardInterrupt
    return ExplainedFromOutside(TeacherSide(problem.teacher, problem.X, problem.n_jobs), student, "permutation_shap")
