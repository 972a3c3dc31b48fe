"""Explainers from outside: exact where the answer is known, complete, and the same question for every model."""

import numpy as np
import pytest

from gbdt2nn.post_hoc import explain_student, permutation_shap

RNG = np.random.default_rng(0)
CODES, BACKGROUND = RNG.integers(0, 5, (20, 3)), RNG.integers(0, 5, (30, 3))


def additive(codes):
    return np.stack([codes @ [1.0, 2.0, 0.0], codes[:, 0] ** 2.0], axis=1)


def product(codes):
    return (codes[:, :1] * codes[:, 1:2]).astype(float)


def test_of_an_additive_score_every_order_gives_the_same():
    """Effects of the codes, each from the mean of the background rows that were drawn; a feature without effect gets zero."""
    phi, base = permutation_shap(additive, CODES, BACKGROUND[:1])
    reference = BACKGROUND[0]
    np.testing.assert_allclose(phi[:, 0], (CODES - reference) * [1.0, 2.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(phi[:, 1, 0], CODES[:, 0] ** 2.0 - reference[0] ** 2.0)
    np.testing.assert_allclose(base, additive(reference[None])[0])


def test_a_product_is_shared_evenly_from_one_background_row():
    """Both directions of an order are walked, which for two features is every order: exact Shapley values."""
    zero = np.zeros((1, 2), int)
    phi, _ = permutation_shap(product, CODES[:, :2], zero)
    np.testing.assert_allclose(phi[:, 0], np.repeat(product(CODES) / 2, 2, axis=1))


@pytest.mark.parametrize("score", [additive, product])
def test_it_is_complete_and_repeats(score):
    phi, base = permutation_shap(score, CODES, BACKGROUND)
    np.testing.assert_allclose(base + phi.sum(2), score(CODES), atol=1e-9)
    np.testing.assert_array_equal(permutation_shap(score, CODES, BACKGROUND)[0], phi)
    # every row meets the same orders and background rows, whatever stands beside it
    np.testing.assert_allclose(permutation_shap(score, CODES[:3], BACKGROUND)[0], phi[:3])


def test_a_student_without_a_gradient_is_told_so():
    with pytest.raises(ValueError, match="explainer must be 'permutation_shap' for a object student"):
        explain_student(object(), additive, CODES, BACKGROUND, "gradient_x_input")
