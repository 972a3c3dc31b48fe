"""What a student is built with."""

import numpy as np

from gbdt2nn.student_building import ROWS, mean_and_deviation


def test_mean_and_deviation_of_what_tables_leave_are_those_of_all_rows_at_once():
    """Rows are looked at in blocks, the last of which is short; means that are large beside what deviates drown nothing."""
    rng = np.random.default_rng(0)
    n = 2 * ROWS + 100
    attribution = rng.normal(size=(n, 2, 3)) * [0.1, 1.0, 10.0] + [0.0, 1e6, -5.0]
    weight = rng.uniform(0.1, 3.0, n)
    codes = rng.integers(0, 4, (n, 3))
    tables = [rng.normal(size=(4, 2)) for _ in range(3)]
    left = attribution - np.stack([table[codes[:, j]] for j, table in enumerate(tables)], axis=2)
    for found, rest in (
        (mean_and_deviation(attribution, weight), attribution),
        (mean_and_deviation(attribution, weight, codes, tables), left),
    ):
        mean = np.average(rest, axis=0, weights=weight)
        np.testing.assert_allclose(found[0], mean, rtol=1e-12)
        np.testing.assert_allclose(found[1], np.sqrt(np.average((rest - mean) ** 2, axis=0, weights=weight)), rtol=1e-8)


def test_what_does_not_deviate_has_no_deviation():
    attribution = np.full((ROWS + 1, 1, 2), 0.1)
    mean, deviation = mean_and_deviation(attribution, np.ones(ROWS + 1))
    np.testing.assert_allclose(mean, 0.1, rtol=1e-14)
    assert deviation.max() < 1e-15
