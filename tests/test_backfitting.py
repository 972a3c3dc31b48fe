"""Tables of effects by least squares."""

import numpy as np
import pytest

from gbdt2nn.backfitting import fit_tables, main_effects
from gbdt2nn.interactions import TableLayout


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


# --------------------------------------------------------------------------------------------------------- interactions
N_CODES = [7, 5, 6, 3]


def layout_of(pairs=((0, 1), (1, 2)), triples=((0, 1, 2),), n_codes=N_CODES):
    def chosen(rows, size):
        return np.array(rows, np.int64).reshape(-1, size)

    sizes = np.array(n_codes)
    fine = tuple(np.arange(n, dtype=np.uint8) for n in n_codes)
    coarse = tuple((np.arange(n) // 2).astype(np.uint8) for n in n_codes)
    return TableLayout(sizes, np.zeros_like(sizes), chosen(pairs, 2), chosen(triples, 3), fine, coarse)


def rows_of(n=400, n_outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, n) for size in N_CODES], axis=1).astype(np.uint8)
    return codes, rng.normal(size=(n, n_outputs, len(N_CODES))), rng.random(n) + 0.1


def cells_of(codes, layout):
    """The cell of each row in each table, one column a table: main effects, pairs, triples."""
    pair_bin = np.stack([table[codes[:, j]] for j, table in enumerate(layout.pair_bin)], axis=1).astype(int)
    triple_bin = np.stack([table[codes[:, j]] for j, table in enumerate(layout.triple_bin)], axis=1).astype(int)
    pairs = [pair_bin[:, a] * layout.pair_sizes[b] + pair_bin[:, b] for a, b in layout.pairs]
    size = layout.triple_sizes
    triples = [
        (triple_bin[:, a] * size[b] + triple_bin[:, b]) * size[c] + triple_bin[:, c] for a, b, c in layout.triples
    ]
    return pairs, triples


def answer(codes, layout, tables):
    """What tables say of rows, in plain NumPy."""
    found = np.stack([table[codes[:, j]] for j, table in enumerate(tables.main)], axis=2)
    pairs, triples = cells_of(codes, layout)
    for chosen, cells, start, values in (
        (layout.pairs, pairs, layout.pair_start, tables.pair),
        (layout.triples, triples, layout.triple_start, tables.triple),
    ):
        for number, features in enumerate(chosen):
            for position, j in enumerate(features):
                found[:, :, j] += values[start[number] + cells[number], position]
    return found


class TestFitTables:
    def test_sweeps_converge_to_the_ridge_solution(self):
        """Against the normal equations of one feature's tables, after its smoothed main effect."""
        layout = layout_of()
        codes, phi, weight = rows_of()
        tables = fit_tables(codes, phi, weight, layout, n_sweeps=300, ridge=4.0, smoothing=0.0)
        scaled = weight / weight.mean()
        pairs, triples = cells_of(codes, layout)
        for j, own in ((0, [pairs[0], triples[0]]), (1, [*pairs, triples[0]]), (3, [])):
            rest = (
                phi[:, :, j]
                - main_effects(codes[:, [j]], phi[:, :, [j]], scaled, [N_CODES[j]], ordered=[0])[0][codes[:, j]]
            )
            columns = [np.eye(cells.max() + 1)[cells] for cells in (codes[:, j], *own)]
            design = np.concatenate(columns, axis=1)
            left = design.T @ (design * scaled[:, None]) + 4.0 * np.eye(design.shape[1])
            left_out = rest - design @ np.linalg.solve(left, design.T @ (rest * scaled[:, None]))
            np.testing.assert_allclose(phi[:, :, j] - answer(codes, layout, tables)[:, :, j], left_out, atol=1e-5)

    def test_one_sweep_of_one_table_is_a_shrunk_mean(self):
        codes, phi, _ = rows_of(n_outputs=1)
        layout = layout_of(pairs=[(0, 1)], triples=[])
        found = fit_tables(codes, phi, np.ones(400), layout, n_sweeps=1, ridge=3.0).pair
        rest = phi[:, 0, 1] - np.array([phi[codes[:, 1] == c, 0, 1].mean() for c in range(5)])[codes[:, 1]]
        at = (codes[:, 0] == 2) & (codes[:, 1] == 3)
        # the increment of the main effect is zero: it was fitted before
        assert found[2 * 5 + 3, 1, 0] == pytest.approx(rest[at].sum() / (at.sum() + 3.0), abs=1e-6)

    def test_a_product_of_two_features_is_fitted_by_their_pair(self):
        codes, phi, weight = rows_of(4000, n_outputs=1)
        phi[:] = 0.0
        phi[:, 0, 0] = phi[:, 0, 1] = 0.5 * (codes[:, 0] - 3.0) * (codes[:, 1] - 2.0)
        tables = fit_tables(codes, phi, weight, layout_of(pairs=[(0, 1)], triples=[]), ridge=0.1)
        gap = answer(codes, layout_of(pairs=[(0, 1)], triples=[]), tables) - phi
        assert np.square(gap).mean() < 1e-4 * np.square(phi).mean()
        assert not answer(codes, layout_of(), fit_tables(codes, phi, weight, layout_of()))[:, :, 2:].any()

    def test_outputs_are_fitted_each_for_itself(self):
        codes, phi, weight = rows_of(n_outputs=3)
        both = fit_tables(codes, phi, weight, layout_of())
        for k in range(3):
            one = fit_tables(codes, phi[:, [k]], weight, layout_of())
            np.testing.assert_allclose(both.pair[:, :, k], one.pair[:, :, 0], atol=1e-7)
            np.testing.assert_allclose(both.triple[:, :, k], one.triple[:, :, 0], atol=1e-7)

    def test_a_weight_of_two_is_a_row_twice(self):
        codes, phi, _ = rows_of()
        twice = np.r_[np.arange(400), np.arange(100)]
        weight = np.where(np.arange(400) < 100, 2.0, 1.0)
        layout = layout_of()
        a = fit_tables(codes, phi, weight, layout, ridge=0.0)
        b = fit_tables(codes[twice], phi[twice], np.ones(500), layout, ridge=0.0)
        np.testing.assert_allclose(a.pair, b.pair, atol=1e-5)
        np.testing.assert_allclose(a.triple, b.triple, atol=1e-5)

    def test_cells_without_rows_and_features_without_attributions_stay_zero(self):
        codes, phi, weight = rows_of()
        codes[codes[:, 0] == 6, 0] = 0
        phi[:, :, 1] = 0.0
        tables = fit_tables(codes, phi, weight, layout_of(pairs=[(0, 1)], triples=[]), ridge=0.0)
        assert not tables.pair[6 * 5 :].any()
        assert not tables.pair[:, 1].any()
        assert not tables.main[1].any()
        assert np.isfinite(tables.pair).all()

    def test_threads_change_nothing_and_the_order_of_rows_only_rounding(self):
        codes, phi, weight = rows_of()
        a, b = (fit_tables(codes, phi, weight, layout_of(), n_jobs=n) for n in (1, 3))
        assert np.array_equal(a.pair, b.pair)
        assert np.array_equal(a.triple, b.triple)
        order = np.random.default_rng(1).permutation(400)
        c = fit_tables(codes[order], phi[order], weight[order], layout_of())
        np.testing.assert_allclose(a.triple, c.triple, atol=1e-5)

    def test_the_rest_is_left_in_place_on_demand(self):
        codes, phi, weight = rows_of()
        kept, rest = phi.copy(), np.empty((4, 400, 2), np.float32).transpose(1, 2, 0)
        rest[:] = phi
        tables = fit_tables(codes, rest, weight, layout_of(), overwrite=True)
        np.testing.assert_allclose(rest, kept - answer(codes, layout_of(), tables), atol=1e-5)
        fit_tables(codes, phi, weight, layout_of())
        assert np.array_equal(phi, kept)

    def test_increments_on_what_is_left_take_the_fit_further(self):
        codes, phi, weight = rows_of()
        layout = layout_of()
        tables = fit_tables(codes, phi, weight, layout, n_sweeps=1)
        rest = phi - answer(codes, layout, tables)
        more = fit_tables(codes, rest, weight, layout, n_sweeps=1, ridge=0.0)
        after = rest - answer(codes, layout, more)
        assert np.average(after**2, axis=0, weights=weight).sum() < np.average(rest**2, axis=0, weights=weight).sum()
