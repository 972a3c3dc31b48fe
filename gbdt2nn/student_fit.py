"""A student from labelled codes: its scales, its tables, its batches and its training. The border to torch."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gbdt2nn.batches import Batches, Fresh, LabelledCodes, Tensors, tensors_of
from gbdt2nn.binning import Binner
from gbdt2nn.clock import now
from gbdt2nn.fidelity_metrics import attribution_r2, score_r2
from gbdt2nn.joint_loss import (
    EXPLANATION_LOSSES,
    Batch,
    JointLoss,
    Loss,
    binary_cross_entropy,
    cross_entropy,
    label_squared_error,
    poisson_deviance,
    squared_error,
)
from gbdt2nn.label_choice import Judged, fit_and_choose
from gbdt2nn.optimizers import Optimizer, adamw, muon
from gbdt2nn.student_answers import settle, student_explained
from gbdt2nn.student_building import (
    StudentOptions,
    build_student,
    explained_rows,
    mean_and_deviation,
    tree_arguments,
)
from gbdt2nn.students import STUDENTS
from gbdt2nn.students.code_encoding import ResidualTrunk
from gbdt2nn.table_refits import TableRefits
from gbdt2nn.training import History, Phase, Progress, fit_student
from gbdt2nn.trees import TreeEnsemble

Array = NDArray[np.float64]


def fit_student_on(
    train: LabelledCodes,
    stop: LabelledCodes,
    *,
    ensemble: TreeEnsemble,
    binner: Binner,
    base_value: Array,
    link: Any,
    objective: str,
    options: StudentOptions,
    fresh: Fresh | None = None,
) -> tuple[Any, History]:
    """Build a student for an ensemble and train it on labelled codes.

    Parameters
    ----------
    train, stop : LabelledCodes
        ``stop`` rows are for what is watched during training.
    ensemble : TreeEnsemble
        Gives the encoding its knots: what its thresholds are worth, and which features it uses.
    binner : Binner
    base_value : ndarray of shape (n_outputs,)
        Raw score before any feature is credited.
    link : Link
    objective : str
        Of the teacher; the label term needs both.
    options : StudentOptions
    fresh : Fresh, optional
        Rows that take the place of the last of ``train``, block after block, while the student trains.

    Returns
    -------
    student : nn.Module
        In eval mode and float64, so that no answer depends on the size of the batch it is asked in.
    history : History
    """
    began, explained = now(), options.explanation_weight > 0
    cls: Any = STUDENTS[options.student]
    if hasattr(cls, "change_rows"):  # the control of an experiment: it is taught something else
        if fresh is not None:
            raise ValueError(f"n_synthetic must be a number with student {options.student!r}, got 'auto'")
        train = cls.change_rows(train, options.seed)
    scale = _weighted_std(train.score, train.weight)
    # below rounding of the scores themselves a spread is none
    scale = np.where(scale > 1e-12 * np.abs(train.score).max(0), scale, 1.0)
    # Where the score is the label's own unit it can be large beside its spread (a price in cents): train on the
    # difference from the base value, which float32 holds, and put the base back in float64.
    offset = base_value if link.name == "identity" else np.zeros_like(base_value)
    own = tree_arguments(train, ensemble, binner, base_value, options)
    student = build_student(train, ensemble, binner, base_value - offset, scale, options, own).to(options.device)
    loss, max_steps = JointLoss(), 0
    batches: Iterable[Batch] = ()
    rows: Batches | None = None
    last_refit: Callable[[], None] | None = None
    reserve: Callable[[], float] | None = None
    if student.learns_by_gradient:
        loss, max_steps = _joint_loss(train, scale, link, objective, options), options.max_steps
        batches = rows = Batches(tensors_of(train, offset, options.device), options.batch_size, options.seed)
        if fresh is not None:
            rows.refresh_from(fresh, lambda part: tensors_of(part, offset, options.device))
        if explained and getattr(student, "refits_tables", False) and student.tables.layout.n_interactions:
            refits = TableRefits(student, apart=not options.learns_labels)
            rows.refit_by(refits)
            if not options.learns_labels:  # what a student has learned of labels would be lost by it
                last_refit = rows.last_refit

            def reserve() -> float:
                seconds = refits.seconds_of_next(rows.step, rows.n_rows)
                return seconds + (0.0 if options.learns_labels else refits.seconds_of_last(rows.n_rows))
    else:
        student.fit_tables(*explained_rows(train), n_jobs=torch.get_num_threads())
    stop_tensors = tensors_of(stop, offset, options.device)
    bar = _ProgressBar(options) if options.verbose else None
    # a student of the labels can overfit them: the weights of the best validation are kept
    keeps_best = getattr(student, "learns_labels", False) and options.learns_labels

    time_budget = options.time_budget
    if time_budget is not None:  # some of it went into building the student, which is to learn all the same
        time_budget = max(0.5 * time_budget, time_budget - (now() - began))

    def train_on(max_steps: int, time_budget: float | None, label_weight: float | None = None) -> History:
        phases = _phases(student, train, options)
        if last_refit is not None:
            phases[-1] = replace(phases[-1], at_end=lambda _: last_refit())
        if label_weight is not None:
            phases = [replace(phase, weights={**phase.weights, "label": label_weight}) for phase in phases]
        return fit_student(
            student,
            batches,
            loss,
            max_steps=max_steps,
            time_budget=time_budget,
            optimizer=_optimizer(student, options),
            phases=phases,
            validate=lambda s: _held_out_fidelity(s, stop_tensors, explained, loss),
            monitor="negative_label_loss" if keeps_best else None,
            validate_every=max(1, min(max_steps // 10, 50 if keeps_best else 200)),
            callbacks=[bar] if bar else [],
            reserve=reserve,
            at_fall=None if rows is None else rows.begin_fall,
        )

    try:
        if options.chooses_label_weight:
            history = fit_and_choose(
                student,
                train_on,
                lambda s: _judged(s, stop_tensors, loss),
                stop.weight,
                max_steps=max_steps,
                time_budget=time_budget,
            )
            if rows is not None and any(
                found["chosen"] and not found["label_weight"] for found in history.label_weights
            ):
                rows.last_refit()  # without labels after all
        else:
            history = train_on(max_steps, time_budget)
    finally:
        if bar:
            bar.close()
    history.n_fresh = 0 if rows is None else rows.n_fresh
    _settle(student, base_value)
    return student, history


def _optimizer(student: Any, options: StudentOptions) -> Optimizer:
    """The one that is asked for; else Muon for a residual trunk, whose layers may train in bfloat16, or AdamW."""
    trunk = getattr(student, "trunk", None)
    chosen, mixed = "adamw", False
    if isinstance(trunk, ResidualTrunk):
        chosen, mixed = "muon", options.mixed_precision
        trunk.mixed_precision = mixed
    if options.optimizer != "auto":
        chosen = options.optimizer
    if chosen == "adamw":
        return adamw(options.learning_rate)
    return muon(options.learning_rate, dtype=torch.bfloat16 if mixed else torch.float32)


def _settle(student: Any, base_value: Array) -> None:
    """Done learning: float64, the exact base value, eval mode."""
    student.double()
    with torch.no_grad():
        student.base_value.copy_(torch.as_tensor(base_value))
    settle(student)


def update_student_on(
    rows: LabelledCodes,
    student: Any,
    *,
    link: Any,
    objective: str,
    options: StudentOptions,
    n_epochs: int = 1,
) -> History:
    """Go on training a student in place on new rows with the label loss alone (Ke et al. 2019, eq. 15).

    Neither the trees nor their leaf embeddings are asked; an explanation that the student was taught stays as it was.

    Parameters
    ----------
    rows : LabelledCodes
        Of which codes, weights and labels are used.
    student : nn.Module
        As `fit_student_on` leaves it.
    link : Link
    objective : str
    options : StudentOptions
        Batch size, learning rate and seed.
    n_epochs : int, default=1

    Returns
    -------
    history : History
    """
    base_value = student.base_value.cpu().numpy().copy()
    scale = student.score_scale.cpu().numpy()
    offset = base_value if link.name == "identity" else np.zeros_like(base_value)
    student.float().requires_grad_(True)
    with torch.no_grad():
        student.base_value.copy_(torch.as_tensor(base_value - offset))
    tensors = tensors_of(rows._replace(attribution=None, leaves=None), offset, str(student.base_value.device))
    batches = Batches(tensors, options.batch_size, options.seed)
    steps = n_epochs * max(1, len(rows.codes) // batches.size)
    only = JointLoss(
        label=label_loss(link, objective, scale), weights={"imitation": 0.0, "explanation": 0.0, "label": 1.0}
    )
    history = fit_student(
        student,
        batches,
        only,
        max_steps=steps,
        optimizer=adamw(options.learning_rate),
        phases=[Phase(parameters=student.online_parameters)],
        warmup_steps=0,
    )
    _settle(student, base_value)
    return history


def _phases(student: Any, train: LabelledCodes, options: StudentOptions) -> list[Phase]:
    """The phases that a student asks for; one in which everything learns by default.

    An epoch is one of the rows with labels, however many others are learned from beside them.
    """
    if not hasattr(student, "phases"):
        return [Phase()]
    weights = {
        "imitation": options.imitation_weight,
        "explanation": options.explanation_weight,
        "label": options.label_weight,
    }
    n_rows = len(train.codes) if train.y is None else int(np.isfinite(train.y).sum())
    return student.phases(weights, steps_per_epoch=n_rows / min(options.batch_size, len(train.codes)))


def explanation_feature_weight(attribution: Array, weight: Array) -> Array:
    """Weight of each (output, feature) in the squared explanation loss.

    Proportional to variance^-1/2, between one common unit (where weak features count nothing) and a unit for each
    feature (where their noise counts most), and scaled so that a student that always answers the mean has loss 1.
    """
    variance = mean_and_deviation(attribution, weight)[1] ** 2
    total = variance.sum(1, keepdims=True)
    floor = np.maximum(1e-6 * total, np.finfo(np.float64).tiny)
    weights = np.maximum(variance, floor) ** -0.5
    unit = (weights * variance).sum(1, keepdims=True)
    # an output without any variance has one unit for all its features
    return np.where(unit > 0, weights / np.where(unit > 0, unit, 1.0), 1.0) / len(attribution[0])


# objectives that estimate the mean of y under an identity and under a log link
_SQUARED = ("regression", "reg:squarederror", "reg:linear")
_DEVIANCE = ("poisson", "gamma", "tweedie", "count:poisson", "reg:gamma", "reg:tweedie")


def label_loss(link: Any, objective: str, scale: Array) -> Loss:
    """A loss of raw scores on labels that estimates what the objective does; ValueError where none is known."""
    if link.name == "identity" and objective in _SQUARED:
        return label_squared_error(float(scale[0]))
    if link.name in ("logistic", "one_vs_all"):
        return binary_cross_entropy(link.slope)
    if link.name == "softmax":
        return cross_entropy()
    if link.name == "exponential" and objective in _DEVIANCE:
        return poisson_deviance()
    raise ValueError(
        f"label_weight must be 0 with a teacher whose objective is {objective!r}: it has no label loss here"
    )


def _joint_loss(train: LabelledCodes, scale: Array, link: Any, objective: str, options: StudentOptions) -> JointLoss:
    device = options.device
    score_weight = torch.as_tensor(1.0 / (scale**2 * len(scale)), dtype=torch.float64, device=device)
    explanation: Loss = squared_error()
    if options.explanation_weight > 0:
        assert train.attribution is not None
        feature_weight = explanation_feature_weight(train.attribution, train.weight[: len(train.attribution)])
        tensor = torch.as_tensor(feature_weight, dtype=torch.float64, device=device)
        explanation = EXPLANATION_LOSSES[options.explanation_loss](feature_weight=tensor)
    return JointLoss(
        imitation=squared_error(score_weight),
        explanation=explanation,
        label=label_loss(link, objective, scale) if options.learns_labels else None,
        weights={
            "imitation": options.imitation_weight,
            "explanation": options.explanation_weight,
            "label": 0.0 if isinstance(options.label_weight, str) else options.label_weight,
        },
    )


def _held_out_fidelity(student: Any, rows: Tensors, explained: bool, loss: JointLoss) -> dict[str, float]:
    score, attribution = student_explained(student, rows.codes.cpu().numpy(), explain=explained)
    weight = rows.weight.cpu().numpy().astype(np.float64)
    found = {"score_r2": score_r2(rows.score.cpu().numpy(), score, weight)}
    if explained:
        assert attribution is not None
        assert rows.attribution is not None
        found["attribution_r2"] = attribution_r2(rows.attribution.cpu().numpy(), attribution, weight)
    if loss.label is not None and rows.y is not None:
        per_row = loss.label(torch.as_tensor(score), rows.y.cpu().double()).numpy()
        # before the second stage the networks have learned nothing: none of their weights are to be kept
        early = getattr(student, "in_first_stage", False)
        found["negative_label_loss"] = -np.inf if early else -float(np.average(per_row, weights=weight))
    return found


def _judged(student: Any, rows: Tensors, loss: JointLoss) -> Judged:
    """Label loss of each held-out row, and the fidelity of the score."""
    assert loss.label is not None
    assert rows.y is not None
    student.eval()
    score, _ = student_explained(student, rows.codes.cpu().numpy(), explain=False)
    per_row = loss.label(torch.as_tensor(score), rows.y.cpu().double()).numpy()
    return Judged(per_row, score_r2(rows.score.cpu().numpy(), score, rows.weight.cpu().numpy().astype(np.float64)))


class _ProgressBar:
    """A bar with the terms and the held-out fidelity."""

    def __init__(self, options: StudentOptions) -> None:
        from tqdm.auto import tqdm

        with warnings.catch_warnings():  # tqdm.auto speaks of a missing notebook widget
            warnings.simplefilter("ignore")
            self.bar = tqdm(total=options.max_steps, desc="student", unit="step")
        self.shown: dict[str, str] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.n_steps is not None:
            self.bar.total = progress.n_steps
        self.bar.update(progress.step - self.bar.n)
        for found in (progress.terms, progress.validation or {}):
            self.shown |= {name: f"{value:.4g}" for name, value in found.items()}
        self.bar.set_postfix(self.shown)

    def close(self) -> None:
        self.bar.close()


def _weighted_std(values: Array, weight: Array) -> Array:
    share = weight / weight.sum()
    mean = share @ values
    return np.sqrt(share @ (values - mean) ** 2)
