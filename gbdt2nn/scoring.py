"""Fidelity of a fitted estimator on rows of the caller's, and scorers for searches."""

from typing import Any

import numpy as np
from sklearn.utils.validation import assert_all_finite, check_consistent_length, check_is_fitted, column_or_1d

from gbdt2nn.estimators import Gbdt2NNClassifier, Gbdt2NNRegressor
from gbdt2nn.fidelity_metrics import Fidelity, check_weight, score_r2


def fidelity(
    model: Any,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    explainer: str | None = None,
    teacher_explainer: str | None = None,
) -> Fidelity:
    """How well a fitted student imitates its teacher on rows: scores, attributions, decisions.

    Parameters
    ----------
    model : Gbdt2NNRegressor, Gbdt2NNClassifier, or a Pipeline that ends in one
    X : array or frame of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), optional
        Labels, for the label metric of teacher and student side by side.
    sample_weight : array-like of shape (n_samples,), optional
    explainer : {"permutation_shap", "gradient_x_input", "integrated_gradients"}, optional
        How the student is explained, in place of what it states: see `Gbdt2NNRegressor.explain`.
    teacher_explainer : {"permutation_shap"}, optional
        How the teacher is explained, in place of the method that was taught. With the same explainer on both sides the
        attributions tell whether both compute their score for the same reasons.

    Returns
    -------
    Fidelity
        A mapping: ``score_r2``, ``score_max_error``, ``score_p999_error``, ``attribution_r2``,
        ``attribution_r2_per_feature``, ``per_feature_r2``, ``attribution_cosine``, ``top3_overlap``,
        ``completeness_gap``, ``decision_flip_rate``, ``metric``, ``teacher_metric``, ``student_metric``, ``n_rows``, ...
        Scores and attributions are raw (before the link).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from gbdt2nn import Gbdt2NNRegressor, fidelity
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = Gbdt2NNRegressor(max_steps=100, n_synthetic=500, random_state=0).fit(X[:300], y[:300])
    >>> found = fidelity(model, X[300:], y[300:])
    >>> found["n_rows"], found["score_r2"] > 0.5
    (142, True)
    """
    model, X = _last_step(model, X)
    distilled = model.distilled_
    target = None
    if y is not None:
        y = column_or_1d(y)
        check_consistent_length(X, y)
        if distilled.classes is None:
            assert_all_finite(y, input_name="y")
            target = y.astype(np.float64)
        else:
            known = distilled.classes.tolist()
            unknown = sorted(set(y.tolist()) - set(known), key=str)
            if unknown:
                raise ValueError(f"y must hold classes of the model, {known[:10]}, got {unknown[:10]}")
            position = {label: i for i, label in enumerate(known)}
            target = np.array([position[label] for label in y.tolist()])
    how = {"explainer": explainer, "teacher_explainer": teacher_explainer, "precision": model.precision}
    return distilled.measure(X, target, sample_weight, **how)


def score_fidelity(model: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
    """Scorer for searches: R² of the student's raw score against its teacher's; labels are not used.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import cross_val_score
    >>> from gbdt2nn import Gbdt2NNRegressor, score_fidelity
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = Gbdt2NNRegressor(max_steps=50, n_synthetic=0, random_state=0)
    >>> cross_val_score(model, X, y, scoring=score_fidelity, cv=2).shape
    (2,)
    """
    model, X = _last_step(model, X)
    labels = model.distilled_.teacher_explained(X, explain=False)
    score, _ = model.distilled_.student_explained(X, explain=False, precision=model.precision)
    return score_r2(labels.score, score, check_weight(sample_weight, len(score)))


def attribution_fidelity(model: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
    """Scorer for searches: R² of the student's attributions against its teacher's; labels are not used.

    Raises
    ------
    ValueError
        If the student was fitted with ``explanation_weight=0``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from gbdt2nn import Gbdt2NNRegressor, attribution_fidelity
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = Gbdt2NNRegressor(max_steps=100, n_synthetic=500, random_state=0).fit(X[:300], y[:300])
    >>> attribution_fidelity(model, X[300:]) > 0.5
    True
    """
    found = fidelity(model, X, sample_weight=sample_weight)["attribution_r2"]
    if np.isnan(found):
        raise ValueError("attribution_fidelity needs a student that was taught explanations, got explanation_weight=0")
    return float(found)


def _last_step(model: Any, X: Any) -> tuple[Any, Any]:
    """The estimator at the end of a pipeline, and the table as it meets it."""
    while hasattr(model, "steps"):
        if len(model.steps) > 1:
            X = model[:-1].transform(X)
        model = model.steps[-1][1]
    if not isinstance(model, Gbdt2NNRegressor | Gbdt2NNClassifier):
        raise TypeError(
            f"model must be a fitted gbdt2nn estimator or a Pipeline that ends in one, got {type(model).__name__}"
        )
    check_is_fitted(model)
    return model, X
