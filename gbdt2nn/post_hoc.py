"""Explainers of a student that was not taught to explain, or that is asked how it computes: named by whoever asks.

What a student *states* (an output that was taught) and how it *computes* its score (an explanation derived from the
student itself) are two claims. These explainers are for the second.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.integer]
Score = Callable[[Codes], Array]

PERMUTATIONS = 8  # random orders of the features, each of which is walked in both directions
BLOCK = 512  # rows whose gradients are asked for at once


def permutation_shap(
    score: Score, codes: Codes, background: Codes, *, n_permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[Array, Array]:
    """Shapley values of any score by sampling orders of the features (Štrumbelj and Kononenko 2014).

    Absent features have the values of a random background row. All rows meet the same orders and background rows, so
    that two models asked with one seed differ by what they are alone; each order is walked in both directions.

    Parameters
    ----------
    score : callable
        Codes (n_rows, n_features) -> raw score (n_rows, n_outputs).
    codes : ndarray of shape (n_samples, n_features)
    background : ndarray of shape (n_rows, n_features)
    n_permutations : int, default=8
    seed : int, default=0

    Returns
    -------
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
        Complete: with the base value it adds up to the score.
    base_value : ndarray of shape (n_outputs,)
        Mean score of the background rows that were drawn.

    Examples
    --------
    >>> import numpy as np
    >>> add = lambda codes: codes @ np.array([[1.0], [10.0]])
    >>> permutation_shap(add, np.array([[1, 1]]), np.zeros((1, 2), int))
    (array([[[ 1., 10.]]]), array([0.]))
    """
    rng = np.random.default_rng(seed)
    n_samples, n_features = codes.shape
    attribution: Any = 0.0
    base: Any = 0.0
    for _ in range(n_permutations):
        order = rng.permutation(n_features)
        row = background[rng.integers(len(background))]
        for way in (order, order[::-1]):
            current = np.tile(row, (n_samples, 1))
            before = np.repeat(score(current[:1]), n_samples, axis=0)  # (n_samples, n_outputs)
            part = np.zeros((*before.shape, n_features))
            base = base + before[0]
            for j in way:
                current[:, j] = codes[:, j]
                after = score(current)
                part[:, :, j] = after - before
                before = after
            attribution = attribution + part
    n_walks = 2 * n_permutations
    return np.asarray(attribution) / n_walks, np.asarray(base) / n_walks


def derived(method: str) -> Callable[..., tuple[Array, Array]]:
    """An explainer by the gradient of a student that has one: ``gradient_x_input`` or ``integrated_gradients``."""

    def explain(student: Any, codes: Codes) -> tuple[Array, Array]:
        device = student.base_value.device
        parts = []
        with torch.no_grad():
            for start in range(0, len(codes), BLOCK):
                block = torch.as_tensor(codes[start : start + BLOCK].astype(np.int64), device=device)
                answer = student.derived_attribution(student.columns(block), None, method=method)
                parts.append(answer.cpu().numpy().astype(np.float64))
            base = student.score(student.networks(student.baseline[None])[0])[0]
        return np.concatenate(parts), base.cpu().numpy().astype(np.float64)

    return explain


DERIVED = {name: derived(name) for name in ("gradient_x_input", "integrated_gradients")}
EXPLAINERS = ("permutation_shap", *DERIVED)


def explain_student(student: Any, score: Score, codes: Codes, background: Codes, explainer: str) -> tuple[Array, Array]:
    """Attributions and base value of a student by the explainer of a name in `EXPLAINERS`.

    Raises
    ------
    ValueError
        If the explainer needs a gradient that the student does not have.
    """
    if explainer == "permutation_shap":
        return permutation_shap(score, codes, background)
    if not hasattr(student, "derived_attribution"):
        raise ValueError(
            f"explainer must be 'permutation_shap' for a {type(student).__name__} student, which has no gradient by its "
            f"inputs, got {explainer!r}"
        )
    return DERIVED[explainer](student, codes)
