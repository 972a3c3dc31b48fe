"""The references against each other, against the libraries, against shap, and against numbers worked out by hand.

They are what the engine is measured by, so each must be right for its own reasons.
"""

from fractions import Fraction

import numpy as np
import pytest
from conformance import models, references
from conformance.cells import cell
from conformance.models import NAMES
from conformance.planting import Leaf, Split, plant

from gbdt2nn.binning import Binner
from gbdt2nn.trees import MISSING_NAN, MISSING_NONE, MISSING_ZERO

WIDE = [name for name in NAMES if name.endswith("-wide")]  # too many features for all subsets


def test_two_features_that_count_only_together_share_by_halves():
    """Lundberg et al. (2020), figure 1: 80 where both hold; each of four rows in a corner of its own."""
    tree = Split(0, 0.5, Leaf(0.0, 2), Split(1, 0.5, Leaf(0.0, 1), Leaf(80.0, 1)))
    ensemble = plant([tree], n_features=3)
    x = np.array([[1.0, 1.0, 9.0], [1.0, 0.0, 9.0], [0.0, 1.0, 9.0], [0.0, 0.0, 9.0]])
    expected = [[30.0, 30.0, 0.0], [10.0, -30.0, 0.0], [-30.0, 10.0, 0.0], [-10.0, -10.0, 0.0]]
    for reference in (references.shapley_by_definition, references.tree_shap_reference):
        attribution, base = reference(ensemble, x)
        np.testing.assert_allclose(base, [20.0])
        np.testing.assert_allclose(attribution[:, 0], expected, atol=1e-14)


def test_two_splits_on_one_feature_are_one_condition():
    """The row is known to be in the middle third, or nothing is known: there is no step in between."""
    tree = Split(0, 1.0, Leaf(0.0, 1), Split(0, 2.0, Leaf(30.0, 1), Leaf(60.0, 2)))
    ensemble = plant([tree], n_features=1, base_score=5.0)
    for reference in (references.shapley_by_definition, references.tree_shap_reference):
        attribution, base = reference(ensemble, np.array([[0.0], [1.5], [7.0]]))
        np.testing.assert_allclose(base, [42.5])
        np.testing.assert_allclose(attribution[:, 0, 0], [-37.5, -7.5, 22.5])


def test_children_without_cover_weigh_the_same():
    """Of a node that no training row reached, nothing is known but its two children."""
    empty = Split(1, 0.5, Leaf(10.0, 0), Leaf(30.0, 0))
    ensemble = plant([Split(0, 0.5, Leaf(1.0, 4), empty)], n_features=2)
    x = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    for reference in (references.shapley_by_definition, references.tree_shap_reference):
        attribution, base = reference(ensemble, x)
        np.testing.assert_allclose(base, [1.0])  # the empty side has no share in the mean
        np.testing.assert_allclose(attribution[:, 0], [[14.0, -5.0], [24.0, 5.0], [0.0, 0.0]])
    ensemble = plant([empty], n_features=2)
    attribution, base = references.tree_shap_reference(ensemble, x)
    np.testing.assert_allclose(base, [20.0])
    np.testing.assert_allclose(attribution[:, 0], [[0.0, -10.0], [0.0, 10.0], [0.0, -10.0]])


@pytest.mark.parametrize("name", NAMES)
def test_references_agree_with_the_library(name):
    c = cell(name)
    (attribution, base), (expected, expected_base) = c.reference, c.native
    error, kind = c.worst(attribution[c.known], expected, c.known)
    assert error <= c.native_tolerance, f"worst on rows: {kind}"
    np.testing.assert_allclose(base, expected_base, rtol=0, atol=min(c.native_tolerance, 1e-6) * c.scale)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WIDE])
def test_references_agree_with_each_other(name):
    c = cell(name)
    (attribution, base), (expected, expected_base) = c.reference, c.definition
    error, kind = c.worst(attribution[c.some], expected, c.some)
    assert error <= 1e-13, f"worst on rows: {kind}"
    np.testing.assert_array_equal(base, expected_base)


@pytest.mark.parametrize("name", NAMES)
def test_references_are_complete(name):
    c = cell(name)
    attribution, base = c.reference
    score = c.ensemble.raw_score(c.x)
    np.testing.assert_allclose(base + attribution.sum(axis=2), score, rtol=0, atol=1e-13 * c.scale)


@pytest.mark.parametrize(
    "name",
    ["lightgbm-regression-missing", "lightgbm-poisson-weights", "lightgbm-regression-deep", "xgboost-binary-exact"],
)
def test_references_agree_with_shap_s_own_code(name):
    """shap asks the libraries themselves where it can; here it gets the trees as arrays, and walks them itself."""
    shap = pytest.importorskip("shap")
    c = cell(name)
    e = c.ensemble
    if c.name.startswith("lightgbm"):  # shap sends NaN by one rule: only rows and splits that keep to it
        rows = c.rows["training"] if "missing" not in name else c.rows["missing"]
    else:
        rows = np.concatenate([c.rows["training"], c.rows["missing"]])
    if not (e.missing[e.feature >= 0] == MISSING_NAN).all():
        rows = rows[~np.isnan(rows).any(axis=1)]
    rows = e.read(rows)
    # shap's own code reads and compares in double precision, and knows one output.
    trees = []
    for first, last in zip(e.tree_start[:-1], e.tree_start[1:], strict=True):
        node = slice(first, last)
        left, right = (np.where(child[node] < 0, -1, child[node] - first) for child in (e.left, e.right))
        trees.append(
            {
                "children_left": left,
                "children_right": right,
                "children_default": np.where(e.default_left[node], left, right),
                "features": np.where(e.feature[node] < 0, -2, e.feature[node]),
                "thresholds": e.threshold[node],
                "values": e.value[node][:, None],
                "node_sample_weight": e.cover[node],
            }
        )
    explainer = shap.TreeExplainer(
        {"trees": trees, "base_offset": e.base_score, "tree_output": "raw_value", "objective": "squared_error"}
        | {"input_dtype": np.float64, "internal_dtype": np.float64},
        feature_perturbation="tree_path_dependent",
    )
    expected = explainer.shap_values(rows, check_additivity=False)
    attribution, _ = references.tree_shap_reference(e, rows)
    # XGBoost's covers add up in single precision only, and shap weighs by the parent's own.
    np.testing.assert_allclose(attribution[:, 0], expected, rtol=0, atol=1e-12 if c.is_lightgbm else 1e-6)


def test_the_reference_keeps_its_digits_on_long_paths():
    """In exact fractions: the chance that a row reaches the end of a path of up to 60 features."""
    rng = np.random.default_rng(0)
    for n_features in (1, 2, 9, 60):
        zero, one = rng.integers(0, 65, n_features) / 64, rng.integers(0, 2, n_features)
        exact = [Fraction(1)]  # by the number of known features: sums over sets of products
        for z, o in zip(map(Fraction, zero), map(int, one), strict=True):
            exact = [o * a + z * b for a, b in zip([Fraction(0), *exact], [*exact, Fraction(0)], strict=True)]
        share, total = Fraction(1, n_features + 1), Fraction(0)  # of all sets of one size
        for known, weight in enumerate(exact):
            total += share * weight
            share *= Fraction(known + 1, max(1, n_features - known))
        path = {j: (z, np.array([o])) for j, (z, o) in enumerate(zip(zero, one, strict=True))}
        found = references._chances_without_each({**path, -1: (0.5, np.ones(1))}, 1)
        assert found[-1][0] == pytest.approx(float(total), rel=1e-13, abs=0.0)


# --- that the cells are what they are called --------------------------------------------------------------------------


def cells_of(training):
    return [name for name in NAMES if name.split("-", 2)[2] == training]


@pytest.mark.parametrize("name", cells_of("deep") + cells_of("wide"))
def test_deep_trees_are_deep(name):
    e = cell(name).ensemble
    depth, path = np.zeros(e.n_nodes, dtype=int), [frozenset()] * e.n_nodes
    for node in np.flatnonzero(e.feature >= 0):
        for child in (e.left[node], e.right[node]):
            depth[child], path[child] = depth[node] + 1, path[node] | {e.feature[node]}
    assert depth.max() > 30
    longest = max(len(path[node]) for node in np.flatnonzero(depth > 30))
    assert longest > 30 if name.endswith("wide") else longest == models.D


@pytest.mark.parametrize("name", cells_of("1023-bins"))
def test_codes_of_many_bins_need_two_bytes(name):
    e = cell(name).ensemble
    assert Binner.from_ensemble(e).dtype == np.uint16


@pytest.mark.parametrize("name", cells_of("categories") + cells_of("one-hot") + cells_of("300-categories"))
def test_categories_are_split_on(name):
    e = cell(name).ensemble
    size = np.diff(e.category_start)[e.is_categorical]
    assert (size.max() > 1) == ("one-hot" not in name)
    assert not e.is_categorical[e.feature != models.CATEGORY].any()
    if "300" in name:
        assert len(np.unique(e.category_values)) > 140


@pytest.mark.parametrize("objective", models.TARGETS)
def test_trainings_differ_as_they_say(objective):
    plain = {library: cell(f"{library}-{objective}-plain").ensemble for library in models.LIBRARIES}
    for library, e in plain.items():
        used = e.used_features()
        assert not used[[models.CONSTANT, models.COPY]].any()
        assert used.sum() >= 4
        for training in models.LIBRARIES[library][1]:
            name = f"{library}-{objective}-{training}"
            if training == "plain" or name not in NAMES:
                continue
            other = cell(name).ensemble
            assert other.n_nodes != e.n_nodes or not np.array_equal(other.value, e.value), name
        assert cell(f"{library}-{objective}-one-tree").ensemble.n_trees == e.n_outputs
        assert cell(f"{library}-{objective}-one-leaf").ensemble.n_nodes % e.n_outputs == 0
        assert not cell(f"{library}-{objective}-one-leaf").ensemble.used_features().any()
        stopped = cell(f"{library}-{objective}-stopped").ensemble
        assert stopped.n_trees < 30 * e.n_outputs
    for training, kind in (("missing", MISSING_NAN), ("zero-as-missing", MISSING_ZERO), ("no-missing", MISSING_NONE)):
        e = cell(f"lightgbm-{objective}-{training}").ensemble
        assert kind in e.missing[e.feature >= 0]
