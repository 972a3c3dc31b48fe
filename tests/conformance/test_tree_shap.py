"""The matrix: every objective and every way of training of either library, by both algorithms of the engine.

Each cell is asked about the rows that `cells.probes` makes: training rows, NaN, zeros of both signs, numbers on and
beside thresholds in double and single precision, infinities, strange category codes. Errors are in units of the cell's
scale: the size of its raw scores, at least 1.
"""

import numpy as np
import pytest
from conformance.cells import cell, explain
from conformance.models import NAMES

from gbdt2nn.attributions.tree_shap import TreeShap
from gbdt2nn.binning import Binner

ALGORITHMS = ["tables", "quadrature"]
EXACT = 1e-10  # against references in double precision

every_cell = pytest.mark.parametrize("name", NAMES)
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@every_algorithm
@every_cell
def test_attributions_are_the_library_s_own(name, algorithm):
    c = cell(name)
    attribution, base = c.found(algorithm)
    expected, expected_base = c.native
    error, kind = c.worst(attribution[c.known], expected, c.known)
    assert error <= c.native_tolerance, f"worst on rows: {kind}"
    np.testing.assert_allclose(base, expected_base, rtol=0, atol=min(c.native_tolerance, 1e-6) * c.scale)


@every_algorithm
@every_cell
def test_attributions_are_those_of_the_polynomial_algorithm(name, algorithm):
    c = cell(name)
    attribution, base = c.found(algorithm)
    error, kind = c.worst(attribution, c.reference[0])
    assert error <= EXACT, f"worst on rows: {kind}"
    np.testing.assert_allclose(base, c.reference[1], rtol=0, atol=1e-12 * c.scale)


@every_algorithm
@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("-wide")])
def test_attributions_are_shapley_values_by_definition(name, algorithm):
    c = cell(name)
    error, kind = c.worst(c.found(algorithm)[0][c.some], c.definition[0], c.some)
    assert error <= EXACT, f"worst on rows: {kind}"


@every_algorithm
@every_cell
def test_attributions_are_complete_and_leave_out_what_is_unused(name, algorithm):
    c = cell(name)
    attribution, base = c.found(algorithm)
    e = c.ensemble
    assert attribution.shape == (len(c.x), e.n_outputs, e.n_features)
    assert base.shape == (e.n_outputs,)
    assert attribution.dtype == base.dtype == np.float64
    gap = np.abs(base + attribution.sum(axis=2) - e.raw_score(c.x)).max(axis=1) / c.scale
    assert gap.max() <= EXACT, f"worst on rows: {c.kind[gap.argmax()]}"
    assert (attribution[:, :, ~e.used_features()] == 0.0).all()


# --- how the engine is asked ------------------------------------------------------------------------------------------

ASKED = [
    f"{library}-{objective}-{training}"
    for library in ("lightgbm", "xgboost")
    for objective, training in [
        ("regression", "1023-bins"),
        ("multiclass", "categories"),
        ("poisson", "deep"),
        ("ranking", "missing"),
        ("regression", "wide"),
    ]
]
asked_cells = pytest.mark.parametrize("name", ASKED)


def engine_of(c, algorithm):
    binner = Binner.from_ensemble(c.ensemble)
    return TreeShap(c.ensemble, binner, algorithm=algorithm), binner


@every_algorithm
@asked_cells
def test_row_order_and_batch_size_change_nothing(name, algorithm):
    c = cell(name)
    engine, binner = engine_of(c, algorithm)
    engine.prepare(len(c.x))
    codes = binner.transform(c.x, order="F")
    whole = engine.attributions(codes)
    order = np.random.default_rng(0).permutation(len(codes))
    np.testing.assert_array_equal(engine.attributions(np.asfortranarray(codes[order])), whole[order])
    for start, stop in [(0, 1), (3, 4), (5, 12), (7, 24), (1, 66), (len(codes) - 17, len(codes))]:
        np.testing.assert_array_equal(engine.attributions(codes[start:stop]), whole[start:stop])
    none = engine.attributions(codes[:0])
    assert none.shape == (0, *whole.shape[1:])


@every_algorithm
@asked_cells
def test_memory_order_and_threads_change_nothing(name, algorithm):
    c = cell(name)
    engine, binner = engine_of(c, algorithm)
    engine.prepare(len(c.x))
    whole = engine.attributions(binner.transform(c.x, order="F"))
    codes = binner.transform(c.x, order="C")
    np.testing.assert_array_equal(engine.attributions(codes), whole)
    np.testing.assert_array_equal(engine.attributions(codes[::2]), whole[::2])
    np.testing.assert_array_equal(engine.attributions(np.asfortranarray(codes), n_jobs=2), whole)


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "auto"])
@asked_cells
def test_many_rows_are_answered_as_few(name, algorithm):
    """More rows than any block holds: each copy of the table comes out as the first, to the bit."""
    c = cell(name)
    engine, binner = engine_of(c, algorithm)
    codes = binner.transform(c.x[::4], order="F")
    copies = 9001 // len(codes) + 1
    many = np.asfortranarray(np.tile(codes, (copies, 1)))
    engine.prepare(len(many))
    attribution = engine.attributions(many)
    one = attribution[: len(codes)]
    np.testing.assert_array_equal(attribution.reshape(copies, *one.shape), np.broadcast_to(one, (copies, *one.shape)))
    np.testing.assert_allclose(one, c.reference[0][::4], rtol=0, atol=EXACT * c.scale)
    np.testing.assert_array_equal(engine.attributions(many, n_jobs=2), attribution)


@pytest.mark.parametrize("table_memory", [1, 1 << 12, 1 << 16])
@asked_cells
def test_little_memory_changes_no_digit_that_counts(name, table_memory):
    """Where the tables do not fit, a small batch may be computed otherwise than a large one: equal to rounding."""
    c = cell(name)
    binner = Binner.from_ensemble(c.ensemble)
    codes = binner.transform(c.x, order="F")
    for algorithm in ("tables", "auto"):
        engine = TreeShap(c.ensemble, binner, table_memory=table_memory, algorithm=algorithm)
        engine.prepare(len(codes))
        attribution = engine.attributions(codes)
        np.testing.assert_allclose(attribution, c.reference[0], rtol=0, atol=EXACT * c.scale)
        np.testing.assert_allclose(engine.attributions(codes[7:11]), attribution[7:11], rtol=0, atol=1e-12 * c.scale)
        order = np.random.default_rng(0).permutation(len(codes))
        np.testing.assert_array_equal(engine.attributions(np.asfortranarray(codes[order])), attribution[order])


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "auto"])
@asked_cells
def test_one_row_is_answered_as_among_many(name, algorithm):
    """An engine that plans for one row may choose otherwise than for many, and must come to the same."""
    c = cell(name)
    for row in (0, len(c.x) // 2):
        attribution, base = explain(c.ensemble, c.x[row : row + 1], algorithm)
        np.testing.assert_allclose(attribution, c.reference[0][row : row + 1], rtol=0, atol=EXACT * c.scale)
        np.testing.assert_allclose(base, c.reference[1], rtol=0, atol=1e-12 * c.scale)


@asked_cells
def test_the_automatic_choice_is_exact(name):
    c = cell(name)
    error, kind = c.worst(explain(c.ensemble, c.x, "auto")[0], c.reference[0])
    assert error <= EXACT, f"worst on rows: {kind}"


@every_algorithm
@asked_cells
def test_fast_precision_is_single_precision(name, algorithm):
    c = cell(name)
    attribution, _ = explain(c.ensemble, c.x, algorithm, precision="fast")
    error, kind = c.worst(attribution, c.reference[0])
    assert error <= 1e-5, f"worst on rows: {kind}"


@every_algorithm
@asked_cells
def test_results_go_where_the_caller_says(name, algorithm):
    c = cell(name)
    expected = c.found(algorithm)[0]
    n, k, d = expected.shape
    for dtype, tolerance in ((np.float64, EXACT), (np.float32, 1e-6)):
        for out in (
            np.full((n, k, d), np.nan, dtype),
            np.full((n, d, k), np.nan, dtype).transpose(0, 2, 1),
            np.full((k, d, n), np.nan, dtype).transpose(2, 0, 1),
            np.full((2 * n, k, d + 1), np.nan, dtype)[::2, :, :-1],
        ):
            attribution, _ = explain(c.ensemble, c.x, algorithm, out=out)
            assert attribution is out
            np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance * c.scale)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", ASKED + [f"{library}-regression-zero-as-missing" for library in ["lightgbm"]])
def test_numbers_of_other_types_are_read_as_what_they_are(name, order):
    """What the library gets as numbers of single precision or whole numbers, it reads as the same number."""
    c = cell(name)
    binner = Binner.from_ensemble(c.ensemble)
    with np.errstate(over="ignore"):
        single = np.array(c.x, dtype=np.float32, order=order)
    np.testing.assert_array_equal(binner.transform(single, order=order), binner.transform(single.astype(float)))
    whole = np.round(np.clip(np.nan_to_num(c.x), -60, 60))
    for dtype in (np.int8, np.int32, np.int64):
        codes = binner.transform(np.array(whole, dtype=dtype, order=order), order=order)
        np.testing.assert_array_equal(codes, binner.transform(whole))
    truth = np.array(whole > 0, order=order)
    np.testing.assert_array_equal(binner.transform(truth, order=order), binner.transform(truth.astype(float)))
    strided = np.repeat(np.repeat(c.x, 2, axis=0), 2, axis=1)[::2, ::2]
    np.testing.assert_array_equal(binner.transform(strided, order=order), binner.transform(c.x))
