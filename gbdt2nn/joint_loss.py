"""The core: what a teacher and a student yield, and the joint loss that compares two of them.

Everything here is written for one word, :class:`Explained`: a raw score and the share of each input in it. The loss
never asks what the trailing axes mean, so table rows and images go through the same code.

The joint loss of a batch is

    L = w_imitation L_imitation + w_explanation L_explanation + w_label L_label + sum_t w_t L_t

with one named term for each loss and one for each of the student's own (`extra_terms`). Imitating the explanation is an
auxiliary task (Huang et al. 2020, arXiv 2005.11638; Parchami-Araghi et al. 2024, arXiv 2402.03119): at weight 0 a term
is never computed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Weight = float | Callable[[int], float]
Loss = Callable[[Tensor, Tensor], Tensor]
TERMS = ("imitation", "explanation", "label")


class Explained(NamedTuple):
    """A raw score and the share of each input in it.

    Attributes
    ----------
    score : Tensor of shape (batch, n_outputs)
        Raw score, before any link.
    attribution : Tensor of shape (batch, n_explained, *inputs) or None
        ``n_explained`` is ``n_outputs``, or 1 where only a target output is explained. None where no explanation was
        asked for.
    """

    score: Tensor
    attribution: Tensor | None


class Batch(NamedTuple):
    """What one step of training sees.

    Attributes
    ----------
    inputs : Any
        What the student's ``forward`` takes: codes of table rows, images, ...
    teacher : Explained
        The teacher's answer on the same rows. Its attribution may be None where the explanation term is off, and NaN in
        rows that the teacher has scored but not explained.
    label : Tensor of shape (batch,) or (batch, n_outputs), or None
        True labels. A floating-point label that is NaN marks a row without one (synthetic rows have none).
    weight : Tensor of shape (batch,)
        Weight of each row in every term.
    target : Tensor of shape (batch,), int64, or None
        Which output to explain, where only one is (e2KD: the teacher's argmax).
    """

    inputs: Any
    teacher: Explained
    label: Tensor | None
    weight: Tensor
    target: Tensor | None = None


class Student(Protocol):
    """What the loss and the loop ask of a student, an ``nn.Module``.

    ``student(inputs, target=None, explain=True)`` returns an `Explained`; with ``explain=False`` its attribution may be
    None. ``complete`` says that score = base value + sum of attributions by construction. A student with terms of its
    own also has ``extra_terms(inputs, batch)``: a mapping from a name to a tensor of shape (batch,), or to a function
    without arguments that returns one and is called only where the term's weight is not 0.
    """

    complete: bool

    def __call__(self, inputs: Any, target: Tensor | None = None, *, explain: bool = True) -> Explained: ...


# ---------------------------------------------------------------------------------------------------------------- losses
# A loss takes the student's tensor and the teacher's (or the label) and returns one number per row, shape (batch,):
# zero when they are equal, never negative. Factories bind the options.


def squared_error(feature_weight: Tensor | float = 1.0) -> Loss:
    """Weighted squared error, summed over everything but the rows.

    Parameters
    ----------
    feature_weight : Tensor broadcastable to the compared tensors, or float, default=1.0
        Weight of each entry; 1 / variance makes the loss a share of unexplained variance.

    Examples
    --------
    >>> import torch
    >>> squared_error(0.25)(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
    tensor([1.])
    """

    root = torch.as_tensor(
        feature_weight, dtype=torch.float64
    ).sqrt()  # before squaring: 1 / variance may be out of range

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        return ((student - teacher) * root.to(student)).square().flatten(1).sum(1)

    return loss


def absolute_error(feature_weight: Tensor | float = 1.0) -> Loss:
    """Weighted absolute error, summed over everything but the rows.

    ``feature_weight`` has the unit of `squared_error`'s, so its square root enters.

    Examples
    --------
    >>> import torch
    >>> absolute_error()(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
    tensor([2.])
    """
    root = torch.as_tensor(feature_weight, dtype=torch.float64).sqrt()

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        return ((student - teacher).abs() * root.to(student)).flatten(1).sum(1)

    return loss


def cosine_distance(feature_weight: Tensor | float = 1.0) -> Loss:
    """One minus the cosine of the two tensors, each flattened to one vector a row.

    Flattening matters: a cosine along one axis of a map compares columns, not maps. Two zero vectors are equal (0); a
    zero vector against another is at distance 1 and gives the other no gradient.

    Examples
    --------
    >>> import torch
    >>> cosine_distance()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor([1.])
    """
    root = torch.as_tensor(feature_weight, dtype=torch.float64).sqrt()

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        a, b = (student * root.to(student)).flatten(1), (teacher * root.to(teacher)).flatten(1)
        both_zero = (a == 0).all(1) & (b == 0).all(1)
        distance = (1.0 - F.cosine_similarity(a, b, dim=1)).clamp_min(0.0)
        return torch.where(both_zero, torch.zeros_like(distance), distance)

    return loss


def kl_divergence(temperature: float = 1.0) -> Loss:
    """Kullback-Leibler divergence of softened class probabilities, times the squared temperature, in nats.

    ``temperature^2 * KL(softmax(teacher / temperature) || softmax(student / temperature))``, Hinton et al. (2015).

    Examples
    --------
    >>> import torch
    >>> kl_divergence(4.0)(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]))
    tensor([0.])
    """

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        log_p = F.log_softmax(student / temperature, dim=1)
        log_q = F.log_softmax(teacher / temperature, dim=1)
        divergence = (log_q.exp() * (log_q - log_p)).sum(1) * temperature**2
        return divergence.clamp_min(0.0)  # rounding may leave -1e-9

    return loss


def cross_entropy() -> Loss:
    """Cross-entropy of raw class scores against integer class labels, in nats."""

    def loss(student: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(student, label.long(), reduction="none")

    return loss


def binary_cross_entropy(slope: float = 1.0) -> Loss:
    """Cross-entropy of ``sigmoid(slope * raw score)``, in nats, summed over outputs.

    Labels are 0 or 1 for one output, and class indices where there are several outputs (one against the rest).
    """

    def loss(student: Tensor, label: Tensor) -> Tensor:
        if student.shape[1] == 1:
            truth = label.reshape(-1, 1).to(student.dtype)
        else:
            truth = F.one_hot(label.long(), student.shape[1]).to(student.dtype)
        return F.binary_cross_entropy_with_logits(slope * student, truth, reduction="none").sum(1)

    return loss


def poisson_deviance() -> Loss:
    """Half the Poisson deviance of ``exp(raw score)`` against a non-negative label."""

    def loss(student: Tensor, label: Tensor) -> Tensor:
        truth = label.reshape(-1, 1).to(student.dtype)
        return (student.exp() - truth - truth * student + torch.xlogy(truth, truth)).clamp_min(0.0).sum(1)

    return loss


def label_squared_error(scale: float = 1.0) -> Loss:
    """Squared error of the raw score against the label, in units of ``scale`` squared."""

    def loss(student: Tensor, label: Tensor) -> Tensor:
        return ((student - label.reshape(len(label), -1).to(student.dtype)) / scale).square().sum(1)

    return loss


EXPLANATION_LOSSES: dict[str, Callable[..., Loss]] = {
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "cosine_distance": cosine_distance,
}


# ----------------------------------------------------------------------------------------------------------- joint loss
@dataclass(frozen=True)
class JointLoss:
    """The weighted sum of named terms over a batch.

    Parameters
    ----------
    imitation : Loss, default=squared_error()
        Compares scores.
    explanation : Loss, default=squared_error()
        Compares attributions.
    label : Loss, optional
        Compares the student's score with the label.
    weights : mapping from term to float or function of the step
        Weights of ``"imitation"`` (default 1), ``"explanation"`` (1), ``"label"`` (0) and of the student's own terms (1).

    Examples
    --------
    >>> loss = JointLoss(weights={"explanation": lambda step: 0.5 if step < 100 else 1.0})
    >>> loss.weight_of("explanation", step=3), loss.weight_of("label", step=3)
    (0.5, 0.0)
    """

    imitation: Loss = field(default_factory=squared_error)
    explanation: Loss = field(default_factory=squared_error)
    label: Loss | None = None
    weights: Mapping[str, Weight] = field(default_factory=dict)

    def weight_of(self, term: str, step: int, override: Mapping[str, Weight] | None = None) -> float:
        """Weight of a term at a step; ``override`` (a phase's weights) goes before the loss's own."""
        default = 0.0 if term == "label" else 1.0
        weight = (override or {}).get(term, self.weights.get(term, default))
        value = float(weight(step)) if callable(weight) else float(weight)
        if not 0.0 <= value < float("inf"):
            raise ValueError(f"the weight of term {term!r} must be finite and non-negative, got {value} at step {step}")
        return value

    def __call__(
        self, student: Any, batch: Batch, *, step: int = 0, weights: Mapping[str, Weight] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss of a batch, and every term that was computed, unweighted.

        Parameters
        ----------
        student : Student
        batch : Batch
        step : int, default=0
            Where weights that are functions stand.
        weights : mapping, optional
            Weights that hold for this call before the loss's own.

        Returns
        -------
        total : Tensor, scalar
        terms : dict from name to scalar Tensor

        Raises
        ------
        ValueError
            If a weight names a term that neither the loss nor the student has, if a needed attribution or label is
            missing, or if every weight is 0.
        """
        on = {term: self.weight_of(term, step, weights) for term in TERMS}
        explain = on["explanation"] > 0.0
        answer = student(batch.inputs, batch.target, explain=explain)
        total = answer.score.new_zeros(())
        terms: dict[str, Tensor] = {}

        def add(name: str, weight: float, per_row: Tensor, row_weight: Tensor) -> None:
            nonlocal total
            if per_row.shape != row_weight.shape:
                raise ValueError(
                    f"term {name!r} must give one number per row, shape {tuple(row_weight.shape)}, "
                    f"got {tuple(per_row.shape)}"
                )
            tiny = torch.finfo(row_weight.dtype).tiny
            terms[name] = (per_row * row_weight).sum() / row_weight.sum().clamp_min(tiny)
            total = total + weight * terms[name]

        if on["imitation"] > 0.0:
            add("imitation", on["imitation"], self.imitation(answer.score, batch.teacher.score), batch.weight)
        if explain:
            if answer.attribution is None or batch.teacher.attribution is None:
                side = "student" if answer.attribution is None else "teacher"
                raise ValueError(
                    f"the explanation term has weight {on['explanation']} but the {side} gives no attribution"
                )
            if answer.attribution.shape != batch.teacher.attribution.shape:
                raise ValueError(
                    "student and teacher must explain the same outputs and inputs, got attributions of shape "
                    f"{tuple(answer.attribution.shape)} and {tuple(batch.teacher.attribution.shape)}"
                )
            add("explanation", on["explanation"], *self._explained_rows(answer, batch))
        if on["label"] > 0.0:
            if self.label is None or batch.label is None:
                raise ValueError(f"the label term has weight {on['label']} but there is no label loss or no label")
            add("label", on["label"], *self._label_rows(answer.score, batch.label, batch.weight))

        known = set(TERMS)
        if hasattr(student, "extra_terms"):
            extra = student.extra_terms(batch.inputs, batch)
            taken = known & set(extra)
            if taken:
                raise ValueError(f"extra terms must not be called {sorted(taken)}: the joint loss has these names")
            known |= set(extra)
            for name, value in extra.items():
                weight = self.weight_of(name, step, weights)
                if weight > 0.0:
                    add(name, weight, value() if callable(value) else value, batch.weight)
        unknown = (set(self.weights) | set(weights or {})) - known
        if unknown:
            raise ValueError(f"weights name unknown terms {sorted(unknown)}; this student has {sorted(known)}")
        if not terms:
            raise ValueError(f"every term has weight 0 at step {step}: there is nothing to learn")
        return total, terms

    def _explained_rows(self, answer: Explained, batch: Batch) -> tuple[Tensor, Tensor]:
        """Explanation loss per row and its row weights: a row that the teacher has not explained (NaN) counts nothing."""
        assert answer.attribution is not None
        assert batch.teacher.attribution is not None
        missing = batch.teacher.attribution.flatten(1).isnan().any(1)
        if not missing.any():
            return self.explanation(answer.attribution, batch.teacher.attribution), batch.weight
        stand_in = missing.view(-1, *[1] * (answer.attribution.ndim - 1))
        teacher = torch.where(stand_in, torch.zeros_like(batch.teacher.attribution), batch.teacher.attribution)
        per_row = self.explanation(answer.attribution, teacher)
        return per_row, torch.where(missing, torch.zeros_like(batch.weight), batch.weight)

    def _label_rows(self, score: Tensor, label: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Label loss per row and its row weights: a row without a label (NaN) counts nothing."""
        assert self.label is not None
        if not label.is_floating_point():
            return self.label(score, label), weight
        missing = label.isnan()
        rows_missing = missing if label.ndim == 1 else missing.any(1)
        per_row = self.label(score, torch.where(missing, torch.zeros_like(label), label))
        return per_row, torch.where(rows_missing, torch.zeros_like(weight), weight)


def has_gradient(parameters: Any) -> bool:
    """Whether any of the parameters holds a gradient that is not zero: the guard against a silently inert term."""
    return any(p.grad is not None and bool((p.grad != 0).any()) for p in parameters if isinstance(p, nn.Parameter))
