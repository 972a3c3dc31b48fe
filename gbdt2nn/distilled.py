"""What a distillation leaves: a student, its teacher, and what both need to read a table."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.attributions import ATTRIBUTIONS, Explain
from gbdt2nn.binning import Binner
from gbdt2nn.encoding import Encoder
from gbdt2nn.fidelity_metrics import Fidelity, measure
from gbdt2nn.labelling import Labels, label_rows
from gbdt2nn.options import Options, as_memory, n_threads
from gbdt2nn.rows import Rows
from gbdt2nn.student_fit import student_explained
from gbdt2nn.teacher_intake import check_infinity
from gbdt2nn.teachers import library_of
from gbdt2nn.teachers.description import TeacherDescription
from gbdt2nn.training import History
from gbdt2nn.trees import TreeEnsemble

Array = NDArray[np.float64]

ABSOLUTE = ("regression_l1", "mape", "huber", "fair", "reg:absoluteerror", "reg:pseudohubererror")
# what an objective is judged by, where it is not root mean squared error or log loss
LABEL_METRICS = {
    **dict.fromkeys(("poisson", "count:poisson", "tweedie", "reg:tweedie"), "poisson_deviance"),
    **dict.fromkeys(("gamma", "reg:gamma"), "gamma_deviance"),
    **dict.fromkeys(ABSOLUTE, "mae"),
}


# objectives that estimate no mean, no median and no class: no label metric here judges them
UNJUDGED = ("quantile", "reg:quantileerror", "survival:", "rank")


@dataclass
class Distilled:
    """A student, its teacher, and what both need to read a table.

    Attributes
    ----------
    teacher : estimator or Booster
        The library's own model.
    student : nn.Module
        Takes codes; in eval mode, float64.
    encoder : Encoder
    ensemble : TreeEnsemble
    binner : Binner
    description : TeacherDescription
    classes : ndarray or None
        Class labels, in the order of the outputs.
    base_value : ndarray of shape (n_outputs,)
        Raw score before any feature is credited.
    history : History
    fidelity : Fidelity
        On the check rows.
    rows : Rows
    n_synthetic : int
        Synthetic rows that the teacher scored.
    n_explained : int
        Training rows, real ones first, that it explained too.
    seconds : dict
        By stage: teacher, attributions, student, total.
    """

    teacher: Any
    student: Any
    encoder: Encoder
    ensemble: TreeEnsemble
    binner: Binner
    description: TeacherDescription
    classes: NDArray[Any] | None
    base_value: Array
    options: Options
    rows: Rows
    history: History = field(default_factory=History)
    fidelity: Fidelity = field(default_factory=lambda: Fidelity({}))
    n_synthetic: int = 0
    n_explained: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the student on the CPU, so that a machine without the GPU it was trained on can load it."""
        state = dict(self.__dict__)
        if next(self.student.parameters()).device.type != "cpu":
            state["student"] = copy.deepcopy(self.student).cpu()
        return state

    @property
    def explains(self) -> bool:
        """Whether the student was taught explanations."""
        return self.options.explanation_weight > 0

    def student_explained(self, X: Any, *, explain: bool = True) -> tuple[Array, Array | None]:
        """The student's raw score (n_samples, n_outputs) and attribution (n_samples, n_outputs, n_features)."""
        return student_explained(self.student, self.binner.transform(self.numbers(X)), explain=explain)

    def teacher_explained(self, X: Any, *, explain: bool = True) -> Labels:
        """The teacher's raw score, attribution and base value, of the method the student was taught by."""
        attribution = self.options.attribution if explain else None
        x = self.numbers(X)
        ready = explainer_of(self.ensemble, self.binner, attribution, self.options, len(x))
        return ask(self.teacher, self.ensemble, x, attribution, ready, self.options)

    def numbers(self, X: Any) -> Array:
        """A table as the numbers the teacher's library sees, refused where that library would refuse it."""
        x = self.encoder.transform(X)
        check_infinity(x, self.description.library, self.encoder.feature_names_)
        return x

    def measure(self, X: Any, y: Any = None, sample_weight: Any = None) -> Fidelity:
        """Fidelity of the student to the teacher on rows of a table; ``y`` as `encode_labels` gives it."""
        score, attribution = self.student_explained(X, explain=self.explains)
        return self.measure_labels(
            self.teacher_explained(X, explain=self.explains), score, attribution, y, sample_weight
        )

    def measure_labels(
        self, labels: Labels, score: Array, attribution: Array | None, y: Any, sample_weight: Any
    ) -> Fidelity:
        """Fidelity from answers that are there already: the teacher's labels, the student's score and attribution."""
        link = self.description.link
        return measure(
            teacher_score=labels.score,
            student_score=score,
            teacher_attribution=labels.attribution,
            student_attribution=attribution,
            base_value=self.base_value,
            feature_names=self.encoder.feature_names_,
            task=self.description.task,
            teacher_response=link(labels.score),
            student_response=link(score),
            y=None if self.description.objective.startswith(UNJUDGED) else y,
            metric=LABEL_METRICS.get(self.description.objective),
            sample_weight=sample_weight,
        )


def check_complete(fidelity: Mapping[str, Any], labels: Labels) -> None:
    """A complete student is held to it: 1e-5 of the size of the scores."""
    scale = max(1e-12, float(np.abs(labels.score).max()))
    if not fidelity["completeness_gap"] <= 1e-5 * scale:
        raise ValueError(
            "the student's attributions must add up to its score, "
            f"got a gap of {fidelity['completeness_gap']:.3g} where scores are of size {scale:.3g}"
        )


def explainer_of(
    ensemble: TreeEnsemble, binner: Binner, attribution: str | None, options: Options, n_samples: int
) -> Explain | None:
    """What explains rows by this attribution, made ready when the first rows come; None where none is asked for."""
    if attribution is None:
        return None
    ready: list[Explain] = []

    def explain(x: Array) -> tuple[Array, Array]:
        if not ready:
            threads = n_threads(options.n_jobs)
            ready.append(ATTRIBUTIONS[attribution](ensemble, binner, n_samples=n_samples, n_jobs=threads))
        return ready[0](x)

    return explain


def ask(
    model: Any,
    ensemble: TreeEnsemble,
    x: Array,
    attribution: str | None,
    explain: Explain | None,
    options: Options,
    deadline: float | None = None,
    **how: Any,
) -> Labels:
    """Labels of rows, from the cache where there is one and no clock is running."""
    library = library_of(model)
    threads = n_threads(options.n_jobs)
    label = label_rows
    if deadline is None and attribution is not None:
        label = as_memory(options.memory).cache(label_rows, ignore=["raw_score", "explain", "deadline"])
    return label(
        ensemble,
        x,
        attribution=attribution,
        raw_score=lambda block: library.raw_score(model, block, n_jobs=threads),
        explain=explain,
        deadline=deadline,
        **how,
    )
