"""What must hold of any ensemble: random small ones, of every kind of split that either library can write."""

import numpy as np
import pytest
from conformance import references
from conformance.cells import explain
from conformance.planting import Leaf, Split, plant
from hypothesis import given, settings
from hypothesis import strategies as st

from gbdt2nn.attributions.tree_shap import TreeShap
from gbdt2nn.binning import Binner
from gbdt2nn.trees import MISSING_NAN, MISSING_NONE, MISSING_ZERO, ZERO_THRESHOLD

THRESHOLDS = [-1.5, -0.5, 0.0, 0.25, 0.5, 2.0]
BELOW_ZERO = float(np.nextafter(-ZERO_THRESHOLD, -np.inf))  # where LightGBM's own thresholds of zero are read as
COVERS = [0.0, 0.0, 0.125, 1.0, 1.0, 2.0, 7.0, 1e6]
NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-36, -1e-36, 2e-35, -2e-35, 3.0, -7.0, *THRESHOLDS]
NUMBERS += [float(np.nextafter(np.float32(t), np.float32(side))) for t in THRESHOLDS for side in (-np.inf, np.inf)]
NUMBERS += [float(np.nextafter(t, side)) for t in THRESHOLDS for side in (-np.inf, np.inf)]
CODES = [np.nan, -1.0, -0.5, 0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 31.0, 32.0, 40.0, 99.0, np.inf, -np.inf]

ALGORITHMS = ["tables", "quadrature"]
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@st.composite
def trees(draw, kinds, is_lightgbm, depth=4):
    """Draw a tree; features come again along a path more often than not."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return Leaf(draw(st.floats(-10, 10, width=32)), draw(st.sampled_from(COVERS)))
    feature = draw(st.integers(0, len(kinds) - 1))
    named, at, missing = None, 0.0, MISSING_NAN
    if kinds[feature] == "codes":
        named = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 31, 32, 40]), min_size=1, max_size=4, unique=True)))
        missing = MISSING_NONE
    else:
        missing = draw(st.sampled_from([MISSING_NONE, MISSING_ZERO, MISSING_NAN]))
        at = draw(st.sampled_from(THRESHOLDS + [BELOW_ZERO] * is_lightgbm))
    left, right = (draw(trees(kinds, is_lightgbm, depth - 1)) for _ in range(2))
    return Split(feature, at, left, right, missing, draw(st.booleans()), named)


@st.composite
def problems(draw):
    """Draw an ensemble whose last feature no tree uses, and 40 rows."""
    is_lightgbm = draw(st.booleans())
    kinds = draw(st.lists(st.sampled_from(["numbers", "numbers", "codes"]), min_size=1, max_size=5))
    n_outputs = draw(st.integers(1, 3))
    forest = draw(st.lists(trees(kinds, is_lightgbm), min_size=1, max_size=5))
    outputs = draw(st.lists(st.integers(0, n_outputs - 1), min_size=len(forest), max_size=len(forest)))
    base_score = draw(st.sampled_from([0.0, -3.5, 1e3]))
    ensemble = plant(
        forest,
        n_features=len(kinds) + 1,
        outputs=outputs,
        n_outputs=n_outputs,
        base_score=base_score,
        is_lightgbm=is_lightgbm,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns = [rng.choice(CODES if kind == "codes" else NUMBERS, 40) for kind in [*kinds, "numbers"]]
    return ensemble, np.column_stack(columns)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(problem=problems())
@quick
def test_attributions_are_shapley_values(problem, algorithm):
    ensemble, x = problem
    attribution, base = explain(ensemble, x, algorithm)
    expected, expected_base = references.shapley_by_definition(ensemble, x)
    np.testing.assert_allclose(attribution, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(base, expected_base, rtol=1e-13, atol=1e-12)
    other, _ = references.tree_shap_reference(ensemble, x)
    np.testing.assert_allclose(other, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(problem=problems())
@quick
def test_attributions_are_complete_and_leave_out_what_is_unused(problem, algorithm):
    ensemble, x = problem
    attribution, base = explain(ensemble, x, algorithm)
    np.testing.assert_allclose(base + attribution.sum(axis=2), ensemble.raw_score(x), rtol=0, atol=1e-10)
    # Exactly: not for the whole ensemble, and not for a single output.
    assert (attribution[:, :, ~ensemble.used_features()] == 0.0).all()
    for output in range(ensemble.n_outputs):
        used = np.zeros(ensemble.n_features, dtype=bool)
        for tree in np.flatnonzero(ensemble.tree_output == output):
            feature = ensemble.feature[ensemble.tree_start[tree] : ensemble.tree_start[tree + 1]]
            used[feature[feature >= 0]] = True
        assert (attribution[:, output, ~used] == 0.0).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
@quick
def test_row_order_and_batch_size_change_nothing(problem, seed, algorithm):
    ensemble, x = problem
    binner = Binner.from_ensemble(ensemble)
    engine = TreeShap(ensemble, binner, algorithm=algorithm)
    engine.prepare(len(x))
    codes = binner.transform(x, order="F")
    whole = engine.attributions(codes)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    np.testing.assert_array_equal(engine.attributions(np.asfortranarray(codes[order])), whole[order])
    start, stop = np.sort(rng.integers(0, len(x) + 1, 2))
    np.testing.assert_array_equal(engine.attributions(codes[start:stop]), whole[start:stop])


@given(problem=problems())
@quick
def test_both_algorithms_agree(problem):
    ensemble, x = problem
    (one, base), (other, same) = (explain(ensemble, x, algorithm) for algorithm in ALGORITHMS)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(base, same)
