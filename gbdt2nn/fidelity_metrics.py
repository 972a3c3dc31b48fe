"""How well a student imitates its teacher: pure functions of arrays, and the mapping that holds their results.

Shapes: raw scores (n_samples, n_outputs), attributions (n_samples, n_outputs, n_features), weights (n_samples,). A row
of weight zero counts nowhere, not even in a maximum; a row of weight two counts as two equal rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

TASKS = ("regression", "binary", "multiclass", "ranking")
_ROUNDING = 1e-12  # of the teacher's largest value: smaller differences are rounding

# key of a Fidelity -> (name in a table, what it says in plain words), in the order of the table
DESCRIPTIONS: dict[str, tuple[str, str]] = {
    "score_r2": ("Score R²", "Share of the variance of the teacher's raw score that the student reproduces; 1 is perfect."),
    "score_max_error": ("Largest score error", "Largest absolute difference between the two raw scores on any row."),
    "score_p999_error": ("99.9 % score error", "Of a thousand raw scores, 999 are closer to the teacher's than this."),
    "embedding_r2": ("Leaf-embedding R²", "Score R² of the first stage of GBDT2NN by itself: of the leaf embeddings."),
    "attribution_r2": ("Attribution R²", "As the score R², for the share of every feature in every raw score, pooled."),
    "per_feature_r2": ("Mean R² per feature", "Attribution R² of each feature by itself, averaged; small ones count fully."),
    "attribution_cosine": ("Attribution cosine", "Mean cosine between both explanations of a row; 1 is the same direction."),
    "top3_overlap": ("Top-3 overlap", "Share of the teacher's three strongest reasons that are among the student's three."),
    "completeness_gap": ("Completeness gap", "Largest |base value + attributions − raw score| of the student; 0: complete."),
    "decision_flip_rate": ("Flipped decisions", "Share of rows on which student and teacher decide for different classes."),
    "teacher_metric": ("Teacher's {metric}", "Error of the teacher's predictions against the labels; lower is better."),
    "student_metric": ("Student's {metric}", "Error of the student's predictions against the labels; lower is better."),
    "teacher_accuracy": ("Teacher's accuracy", "Share of rows that the teacher classifies as labelled."),
    "student_accuracy": ("Student's accuracy", "Share of rows that the student classifies as labelled."),
}  # fmt: skip


class Fidelity(dict[str, Any]):
    """Fidelity of a student to its teacher: a mapping that prints as a table.

    Keys and their meaning stand in `DESCRIPTIONS`; besides those, ``attribution_r2_per_feature`` (mapping of feature to
    R²), ``metric`` (name of the label metric, or None), ``n_rows`` (rows of positive weight) and, where it is known,
    ``measured_on`` (which rows they are).

    Examples
    --------
    >>> print(Fidelity(score_r2=0.99, n_rows=200))
    Fidelity to the teacher on 200 rows
      Score R²  0.9900
    """

    def rows(self) -> list[tuple[str, str, str]]:
        """Each number as (name, formatted value, what it says), in a fixed order; what was not measured is left out."""
        return [
            (name.format(metric=metric_name(self.get("metric"))), format_number(self[key]), meaning)
            for key, (name, meaning) in DESCRIPTIONS.items()
            if key in self and not np.isnan(self[key])
        ]

    def _title(self) -> str:
        rows = f" on {self['n_rows']:,} {self.get('measured_on', 'rows')}" if "n_rows" in self else ""
        return "Fidelity to the teacher" + rows

    def __str__(self) -> str:
        rows = self.rows()
        wide = max((len(name) for name, _, _ in rows), default=0)
        lines = [self._title(), *(f"  {name:<{wide}}  {value}" for name, value, _ in rows)]
        by_feature = {k: v for k, v in self.get("attribution_r2_per_feature", {}).items() if not np.isnan(v)}
        if len(by_feature) > 1:
            lowest = sorted(by_feature.items(), key=lambda item: item[1])[:3]
            lines.append(
                "  Least faithful features: " + ", ".join(f"{name} {format_number(r2)}" for name, r2 in lowest)
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        cells = "".join(
            f"<tr title='{escape(meaning, quote=True)}'><td style='text-align:left'>{escape(name)}</td>"
            f"<td style='text-align:right'>{escape(value)}</td></tr>"
            for name, value, meaning in self.rows()
        )
        return f"<table><caption>{escape(self._title())}</caption><tbody>{cells}</tbody></table>"


def metric_name(metric: str | None) -> str:
    """A label metric as one writes it in a sentence."""
    return {None: "error", "rmse": "RMSE", "mae": "MAE"}.get(metric) or str(metric).replace("_", " ")


def format_number(value: float) -> str:
    """With about four digits that matter; as a power of ten where it is very small or very large."""
    size = abs(value)
    if value != 0 and (size < 1e-3 or size >= 1e9):
        return f"{value:.2e}"
    return f"{value:.4f}" if size < 100 else f"{value:.2f}" if size < 1e4 else f"{value:,.0f}"


# ------------------------------------------------------------------------------------------------- weights, means, R²


def check_weight(sample_weight: ArrayLike | None, n_samples: int) -> Array:
    """Weights as float64 of shape (n_samples,): finite, none negative, not all zero; ones where None is given."""
    if sample_weight is None:
        return np.ones(n_samples)
    weight = np.asarray(sample_weight, np.float64)
    if weight.ndim == 0:
        weight = np.full(n_samples, weight)
    if weight.shape != (n_samples,):
        # the first words are scikit-learn's, which its estimator checks look for
        raise ValueError(
            f"Sample weights must be 1D array or scalar: sample_weight must have shape ({n_samples},), got {weight.shape}"
        )
    if not np.isfinite(weight).all():
        at = int(np.flatnonzero(~np.isfinite(weight))[0])
        raise ValueError(f"sample_weight must be finite, got {weight[at]} at row {at}")
    if (weight < 0).any():
        raise ValueError(f"sample_weight must be non-negative, got {weight.min()} at row {int(weight.argmin())}")
    if not weight.any():
        raise ValueError(f"sample_weight must be positive for some row, got zero for all {n_samples}")
    return weight


def _kept(sample_weight: ArrayLike | None, *arrays: ArrayLike) -> tuple[Array, ...]:
    """Weight and arrays, as float64, without the rows of weight zero."""
    floats = [np.asarray(a, np.float64) for a in arrays]
    if any(a.shape != floats[0].shape for a in floats):
        raise ValueError(f"teacher and student must have the same shape, got {[a.shape for a in floats]}")
    if len(floats[0]) == 0:
        raise ValueError("fidelity needs at least one row, got none")
    weight = check_weight(sample_weight, len(floats[0]))
    if (weight == 0).any():
        keep = weight > 0
        weight, floats = weight[keep], [a[keep] for a in floats]
    return weight, *floats


def _mean(values: Array, weight: Array) -> float:
    return float(np.average(values, weights=weight))


def weighted_quantile(values: ArrayLike, q: float, sample_weight: ArrayLike | None = None) -> float:
    """Smallest value that at least the share ``q`` of the weight does not exceed (no interpolation).

    Examples
    --------
    >>> weighted_quantile([1.0, 2.0, 3.0], 0.5, [1, 1, 5])
    3.0
    """
    weight, values = _kept(sample_weight, values)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    position = np.searchsorted(reached, q * reached[-1] * (1 - _ROUNDING))
    return float(values[order][min(position, len(values) - 1)])


def _sums(teacher: Array, student: Array, weight: Array) -> tuple[Array, Array]:
    """Mean squared error and variance of each column: two arrays of the shape of one row."""
    share = weight / weight.sum()
    error, spread = student - teacher, teacher - np.tensordot(share, teacher, axes=1)
    return np.einsum("n,n...,n...->...", share, error, error), np.einsum("n,n...,n...->...", share, spread, spread)


def _r2(error: float, variance: float, scale: float) -> float:
    """``1 - error / variance``; where the teacher has no variance, 1 for a student that equals it, else 0."""
    negligible = (_ROUNDING * scale) ** 2
    if variance <= negligible:
        return 1.0 if error <= negligible else 0.0
    return float(1.0 - error / variance)


# -------------------------------------------------------------------------------------------------------- the measures


def score_r2(teacher: ArrayLike, student: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """R² of raw scores (n_samples, n_outputs): squared errors over squared distances to each output's mean, pooled.

    A teacher without variance gives 1.0 where the student equals it (to 1e-12 of its size), else 0.0.

    Examples
    --------
    >>> score_r2([[0.0], [2.0]], [[0.0], [1.0]])
    0.5
    """
    weight, teacher, student = _kept(sample_weight, teacher, student)
    error, variance = _sums(teacher, student, weight)
    return _r2(error.sum(), variance.sum(), np.abs(teacher).max(initial=0.0))


def attribution_r2(teacher: ArrayLike, student: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """R² of attributions (n_samples, n_outputs, n_features), pooled; the mean is per output and feature. See `score_r2`."""
    return score_r2(teacher, student, sample_weight)


def attribution_r2_per_feature(
    teacher: ArrayLike, student: ArrayLike, sample_weight: ArrayLike | None = None
) -> NDArray[np.float64]:
    """R² of the attribution of each feature, pooled over outputs.

    Returns
    -------
    ndarray of shape (n_features,)
        NaN where the teacher's attribution has no variance (beyond 1e-12 of its largest attribution).
    """
    weight, teacher, student = _kept(sample_weight, teacher, student)
    error, variance = (sums.sum(axis=0) for sums in _sums(teacher, student, weight))
    varies = variance > (_ROUNDING * np.abs(teacher).max(initial=0.0)) ** 2
    return np.where(varies, 1.0 - error / np.where(varies, variance, 1.0), np.nan)


def attribution_cosine(teacher: ArrayLike, student: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean cosine between the attributions of a row, per output; 1 where both are zero, 0 where one is."""
    weight, teacher, student = _kept(sample_weight, teacher, student)
    sizes = [np.linalg.norm(side, axis=-1) for side in (teacher, student)]
    zero = [size <= _ROUNDING * max(s.max(initial=0.0) for s in sizes) for size in sizes]
    product = np.einsum("...d,...d->...", teacher, student)
    none = zero[0] | zero[1]
    cosine = np.where(none, zero[0] & zero[1], product / np.where(none, 1.0, sizes[0] * sizes[1]))
    return _mean(cosine.mean(axis=1), weight)


def top_overlap(teacher: ArrayLike, student: ArrayLike, sample_weight: ArrayLike | None = None, n: int = 3) -> float:
    """Share of the teacher's ``n`` largest attributions (in size, zeros left out) that are among the student's ``n``.

    Per row and output, then averaged; 1 where the teacher credits no feature. Ties go to the first column.
    """
    weight, teacher, student = _kept(sample_weight, teacher, student)
    n = min(n, teacher.shape[2])
    theirs, ours = _largest(teacher, n) & (teacher != 0), _largest(student, n)
    named = theirs.sum(axis=2)
    shared = np.where(named > 0, (theirs & ours).sum(axis=2) / np.maximum(named, 1), 1.0)  # (n_samples, n_outputs)
    return _mean(shared.mean(axis=1), weight)


def _largest(attribution: Array, n: int) -> NDArray[np.bool_]:
    """True at the ``n`` features of largest size in each row and output."""
    size = np.abs(attribution)
    chosen = np.zeros(size.shape, bool)
    for _ in range(n):
        first = size.argmax(axis=-1)[..., None]
        np.put_along_axis(chosen, first, True, axis=-1)
        np.put_along_axis(size, first, -1.0, axis=-1)
    return chosen


def completeness_gap(
    score: ArrayLike, attribution: ArrayLike, base_value: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Largest ``|base value + sum of attributions - raw score|`` over rows and outputs; base_value is (n_outputs,)."""
    total = np.asarray(base_value, np.float64) + np.asarray(attribution, np.float64).sum(axis=2)
    _, total, score = _kept(sample_weight, total, score)
    return float(np.abs(total - score).max(initial=0.0))


def decisions(score: ArrayLike) -> NDArray[np.int64]:
    """Number of the class chosen for each row: the sign of a single raw score, the largest of several."""
    score = np.asarray(score)
    return (score[:, 0] > 0).astype(np.int64) if score.shape[1] == 1 else score.argmax(axis=1)


# ------------------------------------------------------------------------------------------------------- label metrics


def _log_loss(y: Array, response: Array) -> Array:
    if response.shape[1] == 1:
        response = np.hstack([1.0 - response, response])
    chosen = response[np.arange(len(y)), y[:, 0].astype(np.int64)] / response.sum(
        axis=1
    )  # one-vs-all does not sum to 1
    epsilon = np.finfo(np.float64).eps
    return -np.log(np.clip(chosen, epsilon, 1 - epsilon))


def _poisson(y: Array, response: Array) -> Array:
    from scipy.special import xlogy

    return (2 * (xlogy(y, y / response) - y + response)).mean(axis=1)


# name -> function (y (n, 1), response (n, n_outputs)) -> loss of each row; weighted and averaged by `label_metric`
METRICS: dict[str, Callable[[Array, Array], Array]] = {
    "rmse": lambda y, response: ((y - response) ** 2).mean(axis=1),
    "mae": lambda y, response: np.abs(y - response).mean(axis=1),
    "log_loss": _log_loss,
    "poisson_deviance": _poisson,
    "gamma_deviance": lambda y, response: (2 * (np.log(response / y) + y / response - 1)).mean(axis=1),
}


def label_metric(y: ArrayLike, response: ArrayLike, metric: str, sample_weight: ArrayLike | None = None) -> float:
    """Error of predictions against labels, in the natural logarithm.

    Parameters
    ----------
    y : array of shape (n_samples,)
        Targets; for ``log_loss`` the number of each row's class.
    response : array of shape (n_samples, n_outputs)
        Predictions after the link: probabilities for ``log_loss``.
    metric : str
        One of `METRICS`.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {sorted(METRICS)}, got {metric!r}")
    predicted, label = np.asarray(response, np.float64), np.asarray(y, np.float64)
    if label.shape != (len(predicted),):
        raise ValueError(f"y must have shape ({len(predicted)},), got {label.shape}")
    weight = check_weight(sample_weight, len(label))
    keep = weight > 0
    weight, label, predicted = weight[keep], label[keep], predicted[keep]
    n_classes = max(2, predicted.shape[1])
    if metric == "log_loss" and not np.isin(label, np.arange(n_classes)).all():
        raise ValueError(f"y must hold class numbers below {n_classes} for log_loss, got up to {label.max():g}")
    if metric.endswith("_deviance"):
        if (label < 0).any() or (metric == "gamma_deviance" and (label == 0).any()):
            raise ValueError(f"y must not be negative for {metric} (nor zero for gamma_deviance), got {label.min():g}")
        predicted = np.maximum(predicted, np.finfo(np.float64).tiny)
    value = _mean(METRICS[metric](label[:, None], predicted), weight)
    return float(np.sqrt(value)) if metric == "rmse" else value


# ------------------------------------------------------------------------------------------------------ all in one call


def measure(
    *,
    teacher_score: ArrayLike,
    student_score: ArrayLike,
    teacher_attribution: ArrayLike | None = None,
    student_attribution: ArrayLike | None = None,
    base_value: ArrayLike | None = None,
    feature_names: Sequence[str],
    task: str,
    teacher_response: ArrayLike | None = None,
    student_response: ArrayLike | None = None,
    y: ArrayLike | None = None,
    metric: str | None = None,
    sample_weight: ArrayLike | None = None,
) -> Fidelity:
    """Everything that is said about the fidelity of a student, on the rows given.

    Parameters
    ----------
    teacher_score, student_score : array of shape (n_samples, n_outputs)
        Raw scores, before the link.
    teacher_attribution, student_attribution : array of shape (n_samples, n_outputs, n_features), optional
        What compares them is NaN where either is missing.
    base_value : array of shape (n_outputs,), optional
        The student's.
    feature_names : sequence of str, of length n_features
    task : {"regression", "binary", "multiclass", "ranking"}
    teacher_response, student_response : array of shape (n_samples, n_outputs), optional
        Predictions after the link; needed with ``y``.
    y : array of shape (n_samples,), optional
        Labels; for classification the number of each row's class.
    metric : str, optional
        One of `METRICS`. By default ``rmse`` for regression, ``log_loss`` for classification, and none for ranking.
    sample_weight : array of shape (n_samples,), optional

    Returns
    -------
    Fidelity

    Examples
    --------
    >>> score = [[0.0], [1.0], [5.0]]
    >>> found = measure(teacher_score=score, student_score=score, feature_names=["age"], task="regression")
    >>> found["score_r2"], found["n_rows"]
    (1.0, 3)
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {list(TASKS)}, got {task!r}")
    classifies = task in ("binary", "multiclass")
    if metric is None and task != "ranking":
        metric = "log_loss" if classifies else "rmse"
    weight, theirs, ours = _kept(sample_weight, teacher_score, student_score)
    error = np.abs(theirs - ours)
    found = Fidelity(
        score_r2=score_r2(theirs, ours, weight),
        score_max_error=float(error.max(initial=0.0)),
        score_p999_error=weighted_quantile(error.ravel(), 0.999, np.repeat(weight, error.shape[1])),
        **_attribution_measures(teacher_attribution, student_attribution, feature_names, sample_weight),
        completeness_gap=float("nan")
        if student_attribution is None or base_value is None
        else completeness_gap(student_score, student_attribution, base_value, sample_weight),
        decision_flip_rate=_mean(decisions(theirs) != decisions(ours), weight) if classifies else float("nan"),
        metric=metric,
    )
    for side, response, score in (
        ("teacher", teacher_response, teacher_score),
        ("student", student_response, student_score),
    ):
        found[f"{side}_metric"] = float("nan")
        if classifies:
            found[f"{side}_accuracy"] = float("nan")
        if y is None or metric is None:
            continue
        if response is None:
            raise ValueError(f"{side}_response must be given with y, got None")
        found[f"{side}_metric"] = label_metric(y, response, metric, sample_weight)
        if classifies:
            right = decisions(score) == np.asarray(y)
            found[f"{side}_accuracy"] = _mean(right, check_weight(sample_weight, len(right)))
    found["n_rows"] = len(weight)
    return found


def _attribution_measures(
    teacher: ArrayLike | None, student: ArrayLike | None, feature_names: Sequence[str], sample_weight: ArrayLike | None
) -> dict[str, Any]:
    nan = float("nan")
    if teacher is None or student is None:
        names = ("attribution_r2", "per_feature_r2", "attribution_cosine", "top3_overlap")
        return {**dict.fromkeys(names, nan), "attribution_r2_per_feature": dict.fromkeys(feature_names, nan)}
    weight, teacher, student = _kept(sample_weight, teacher, student)
    if teacher.ndim != 3 or teacher.shape[2] != len(feature_names):
        raise ValueError(
            f"attributions must have shape (n_samples, n_outputs, {len(feature_names)}), one column a feature name, "
            f"got {teacher.shape}"
        )
    pooled = attribution_r2(teacher, student, weight)
    by_feature = attribution_r2_per_feature(teacher, student, weight)
    return {
        "attribution_r2": pooled,
        "attribution_r2_per_feature": dict(zip(feature_names, by_feature.tolist(), strict=True)),
        # Where no feature varies, the pooled value already says whether the student equals the teacher.
        "per_feature_r2": pooled if np.isnan(by_feature).all() else float(np.nanmean(by_feature)),
        "attribution_cosine": attribution_cosine(teacher, student, weight),
        "top3_overlap": top_overlap(teacher, student, weight),
    }
