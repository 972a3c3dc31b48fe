"""Main effects by least squares."""

import numpy as np

from gbdt2nn.backfitting import main_effects


def test_it_is_the_weighted_mean_of_each_code():
    """Without smoothing the table is the least-squares fit of an attribution by its own code."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 6, (300, 2))
    phi = rng.normal(size=(300, 3, 2))
    weight = rng.random(300)
    tables = main_effects(codes, phi, weight, [6, 6], ordered=[6, 0])
    for j in range(2):
        for code in range(6):
            at = codes[:, j] == code
            np.testing.assert_allclose(tables[j][code], np.average(phi[at][:, :, j], axis=0, weights=weight[at]))


def test_codes_without_rows_are_interpolated_along_an_order_and_else_the_mean():
    codes = np.array([[0, 0], [0, 0], [2, 2]])
    phi = np.array([1.0, 1.0, 4.0])[:, None, None] * np.ones((3, 1, 2))
    ordered, nominal = main_effects(codes, phi, np.ones(3), [4, 4], ordered=[4, 0])
    np.testing.assert_allclose(ordered.ravel(), [1, 2.5, 4, 4])
    np.testing.assert_allclose(nominal.ravel(), [1, 2, 4, 2])


def test_a_missing_code_is_not_smoothed_into_its_neighbour():
    codes = np.repeat(np.arange(21), 10)[:, None]
    phi = np.where(codes == 20, 100.0, 0.0)[:, :, None]
    table = main_effects(codes, phi, np.ones(210), [21], ordered=[20])[0].ravel()
    assert table[20] == 100
    assert (table[:20] == 0).all()


def test_smoothing_keeps_a_constant():
    codes = np.repeat(np.arange(30), np.arange(1, 31))[:, None]
    phi = np.full((len(codes), 1, 1), 3.0)
    np.testing.assert_allclose(main_effects(codes, phi, np.ones(len(codes)), [30], ordered=[30])[0], 3.0)
