"""What a distillation leaves: a student, its teacher, and what both need to read a table."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.arguments import check_choice
from gbdt2nn.attributions import ATTRIBUTIONS, Explain
from gbdt2nn.batches import LabelledCodes
from gbdt2nn.binning import Binner
from gbdt2nn.compiled_batch import PRECISIONS, CastStudent, CompiledBatch, in_precision
from gbdt2nn.compiled_row import COMPILED, CompiledRow
from gbdt2nn.encoding import Encoder
from gbdt2nn.fidelity_metrics import Fidelity, check_weight, measure
from gbdt2nn.gradients import score_gradient, smooth_score
from gbdt2nn.labelling import Labels, label_rows
from gbdt2nn.options import Options, as_memory, n_threads
from gbdt2nn.post_hoc import EXPLAINERS, explain_student, permutation_shap
from gbdt2nn.rows import Rows
from gbdt2nn.smoothing import Positions, positions_of
from gbdt2nn.student_answers import student_explained, torch_at_work
from gbdt2nn.student_building import StudentOptions
from gbdt2nn.student_fit import update_student_on
from gbdt2nn.students import STUDENTS
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
    background : ndarray of shape (n_rows, n_features), optional
        Codes of some training rows, for explainers that ask for absent features.
    centres : list of ndarray
        The mean of the training rows of each numeric code; see `gbdt2nn.smoothing`.
    n_synthetic : int
        Synthetic rows that the teacher scored.
    n_explained : int
        Training rows, real ones first, that it explained too.
    seconds : dict
        By stage: teacher, attributions, student, total.
    n_updates : int
        How often it has learned online since.
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
    background: NDArray[np.integer] | None = None
    centres: list[Array] = field(default_factory=list)
    history: History = field(default_factory=History)
    fidelity: Fidelity = field(default_factory=lambda: Fidelity({}))
    n_synthetic: int = 0
    n_explained: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    n_updates: int = 0

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the student on the CPU, so that a machine without the GPU it was trained on can load it."""
        state = {name: value for name, value in self.__dict__.items() if name != "_reduced"}
        if next(self.student.parameters()).device.type != "cpu":
            state["student"] = copy.deepcopy(self.student).cpu()
        return state

    @property
    def explains(self) -> bool:
        """Whether the student was taught explanations."""
        return self.options.explanation_weight > 0

    def student_explained(
        self, X: Any, *, explain: bool = True, precision: str = "float64"
    ) -> tuple[Array, Array | None]:
        """The student's raw score (n_samples, n_outputs) and attribution (n_samples, n_outputs, n_features).

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)
        explain : bool, default=True
        precision : {"float64", "float32", "fast"}, default="float64"
            As of the estimators.

        Returns
        -------
        score : ndarray of shape (n_samples, n_outputs), float64
        attribution : ndarray of shape (n_samples, n_outputs, n_features), float64, or None with ``explain=False``
        """
        check_choice("precision", precision, PRECISIONS)
        codes = self.binner.transform(self.numbers(X))
        if precision == "float64":
            return student_explained(self.student, codes, explain=explain)
        return self._in_precision(precision)(codes, explain=explain)

    def network_precision(self, precision: str) -> str:
        """What hidden layers compute in on this machine, asked for this precision: "float64", "float32" or "bfloat16"."""
        check_choice("precision", precision, PRECISIONS)
        return precision if precision == "float64" else self._in_precision(precision).network_precision

    def _in_precision(self, precision: str) -> CastStudent | CompiledBatch:
        """A copy of the student in less than double precision, made anew when the student has changed."""
        ready: dict[str, Any] = self.__dict__.setdefault("_reduced", {})
        student, answers = ready.get(precision, (None, None))
        if student is not self.student or not answers.is_current():
            answers = in_precision(self.student, precision)
            ready[precision] = self.student, answers
        return answers

    def teacher_explained(self, X: Any, *, explain: bool = True) -> Labels:
        """The teacher's raw score, attribution and base value, of the method the student was taught by."""
        attribution = self.options.attribution if explain else None
        x = self.numbers(X)
        ready = explainer_of(self.ensemble, self.binner, attribution, self.options, len(x))
        return ask(self.teacher, self.ensemble, x, attribution, ready, self.options)

    def smooth_score(self, X: Any) -> Array:
        """The student's raw score between codes, shape (n_samples, n_outputs)."""
        return smooth_score(self.student, self._positions(X))

    def gradient(self, X: Any) -> Array:
        """Its gradient in the numbers, shape (n_samples, n_outputs, n_features)."""
        return score_gradient(self.student, self._positions(X))

    def _positions(self, X: Any) -> Positions:
        if not hasattr(self.student, "at_positions"):
            able = [name for name, cls in STUDENTS.items() if hasattr(cls, "at_positions")]
            raise ValueError(f"student must be one of {able} to have a gradient, got {self.options.student!r}")
        x = self.numbers(X)
        return positions_of(x, self.binner.transform(x), self.centres, self.binner)

    def compile_row(self) -> CompiledRow:
        """The student as a compiled function of one row, held against the student itself on some training rows."""
        if self.options.student not in COMPILED:
            raise ValueError(
                f"compile_row needs one of the students {list(COMPILED)}, got student={self.options.student!r}"
            )
        compiled = CompiledRow(
            self.student,
            self.encoder,
            self.binner,
            self.base_value,
            library=self.description.library,
            link=self.description.link,
            classifies=self.description.task in ("binary", "multiclass"),
            explains=self.explains,
        )
        assert self.background is not None
        score, attribution = student_explained(self.student, self.background)
        assert attribution is not None
        compiled.check(self.binner, self.background, score, attribution)
        return compiled

    def numbers(self, X: Any) -> Array:
        """A table as the numbers the teacher's library sees, refused where that library would refuse it."""
        x = self.encoder.transform(X)
        check_infinity(x, self.description.library, self.encoder.feature_names_)
        return x

    def post_hoc(self, X: Any, explainer: str) -> tuple[Array, Array]:
        """The student's attributions (n_samples, n_outputs, n_features) and base value by an explainer of `EXPLAINERS`."""
        check_choice("explainer", explainer, EXPLAINERS)
        codes = self.binner.transform(self.numbers(X))
        assert self.background is not None
        return explain_student(
            self.student,
            lambda c: student_explained(self.student, c, explain=False)[0],
            codes,
            self.background,
            explainer,
        )

    def teacher_post_hoc(self, X: Any) -> tuple[Array, Array]:
        """The teacher's attributions and base value by ``permutation_shap``, as `post_hoc` asks the student."""
        values = [self.binner.representatives(j) for j in range(self.binner.n_features)]

        def score(codes: NDArray[np.integer]) -> Array:
            return self.ensemble.raw_score(np.stack([v[c] for v, c in zip(values, codes.T, strict=True)], axis=1))

        assert self.background is not None
        return permutation_shap(score, self.binner.transform(self.numbers(X)), self.background)

    def measure(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        explainer: str | None = None,
        teacher_explainer: str | None = None,
        precision: str = "float64",
    ) -> Fidelity:
        """Fidelity of the student to the teacher on rows of a table; ``y`` as `encode_labels` gives it."""
        if explainer is None and teacher_explainer is None:
            score, attribution = self.student_explained(X, explain=self.explains, precision=precision)
            labels = self.teacher_explained(X, explain=self.explains)
            return self.measure_labels(labels, score, attribution, y, sample_weight)
        if explainer is None:
            raise ValueError(f"explainer must be named where teacher_explainer is, got {teacher_explainer!r} alone")
        labels = self.teacher_explained(X, explain=teacher_explainer is None)
        if teacher_explainer is not None:
            check_choice("teacher_explainer", teacher_explainer, ["permutation_shap"])
            labels = Labels(labels.score, *self.teacher_post_hoc(X))
        score, _ = self.student_explained(X, explain=False)
        attribution, base_value = self.post_hoc(X, explainer)
        return self.measure_labels(labels, score, attribution, y, sample_weight, base_value)

    def update(
        self, X: Any, target: Array, sample_weight: Any, *, n_epochs: int, batch_size: int, learning_rate: float
    ) -> None:
        """Train the student on new rows with the label loss alone; ``target`` numbers, or numbers of classes."""
        codes = self.binner.transform(self.numbers(X))
        weight = check_weight(sample_weight, len(codes))
        rows = LabelledCodes(codes, np.zeros((len(codes), len(self.base_value))), None, weight, target)
        options = StudentOptions(
            student=self.options.student,
            student_params=dict(self.options.student_params or {}),
            imitation_weight=0.0,
            explanation_weight=0.0,
            explanation_loss=self.options.explanation_loss,
            label_weight=1.0,
            batch_size=batch_size,
            learning_rate=learning_rate,
            max_steps=1,
            time_budget=None,
            seed=self.n_updates,
            device="cpu",
            verbose=0,
        )
        with torch_at_work(n_threads(self.options.n_jobs)):
            update_student_on(
                rows,
                self.student,
                link=self.description.link,
                objective=self.description.objective,
                options=options,
                n_epochs=n_epochs,
            )
        self.n_updates += 1
        self.fidelity["measured_on"] = (
            f"{str(self.fidelity.get('measured_on', 'rows')).split(', before')[0]}, before "
            + (f"{self.n_updates} online update{'s' if self.n_updates > 1 else ''}")
        )

    def measure_labels(
        self,
        labels: Labels,
        score: Array,
        attribution: Array | None,
        y: Any,
        sample_weight: Any,
        base_value: Array | None = None,
    ) -> Fidelity:
        """Fidelity from answers that are there already: the teacher's labels, the student's score and attribution."""
        link = self.description.link
        return measure(
            teacher_score=labels.score,
            student_score=score,
            teacher_attribution=labels.attribution,
            student_attribution=attribution,
            base_value=self.base_value if base_value is None else base_value,
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
