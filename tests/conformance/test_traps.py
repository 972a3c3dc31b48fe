"""Numbers that cost an engine its digits, and covers that it must not divide by."""

from dataclasses import replace

import lightgbm
import numpy as np
import pytest
import xgboost
from conformance import editing, references
from conformance.cells import cell, explain
from conformance.models import LIGHTGBM, PLAIN, SCORE, TARGETS, XGBOOST
from conformance.planting import Leaf, Split, plant, plant_chain

from gbdt2nn.teachers import library_of

every_algorithm = pytest.mark.parametrize("algorithm", ["tables", "quadrature"])
LIBRARIES = ["lightgbm", "xgboost"]


def fit(library, y, **params):
    if library == "lightgbm":
        return lightgbm.train({**LIGHTGBM, "objective": "regression", **params}, lightgbm.Dataset(PLAIN, y), 8)
    return xgboost.train({**XGBOOST, **params}, xgboost.DMatrix(PLAIN, y, nthread=1), 8)


# --- sizes ------------------------------------------------------------------------------------------------------------


@every_algorithm
@pytest.mark.parametrize("name", ["lightgbm-multiclass-missing", "xgboost-regression-categories"])
def test_the_base_score_moves_the_base_value_alone(name, algorithm):
    c = cell(name)
    far = replace(c.ensemble, base_score=c.ensemble.base_score + 1e9)
    (attribution, base), (same, moved) = c.found(algorithm), explain(far, c.x, algorithm)
    np.testing.assert_array_equal(same, attribution)
    np.testing.assert_allclose(moved, base + 1e9, rtol=1e-15)


@every_algorithm
@pytest.mark.parametrize("name", ["lightgbm-regression-missing", "lightgbm-multiclass-rf", "lightgbm-poisson-deep"])
def test_a_constant_in_all_leaves_of_a_tree_is_no_feature_s(name, algorithm):
    """LightGBM adds the starting score to the leaves of its first trees: attributions must not drown in it."""
    c = cell(name)
    first = c.ensemble.tree_start[c.ensemble.n_outputs]
    value = np.where(np.arange(c.ensemble.n_nodes) < first, c.ensemble.value + 1e6, c.ensemble.value)
    attribution, base = explain(replace(c.ensemble, value=value), c.x, algorithm)
    np.testing.assert_allclose(attribution, c.reference[0], rtol=0, atol=1e-7)
    np.testing.assert_allclose(base, c.reference[1] + 1e6, rtol=1e-14)


@every_algorithm
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("factor", "offset"), [(1e6, 0.0), (1.0, 1e6), (1e-6, 0.0)], ids=["large", "far", "small"])
def test_targets_of_any_size(library, factor, offset, algorithm):
    params = {"min_split_gain": 0.0} if library == "lightgbm" else {"base_score": offset, "lambda": 0.0}
    model = fit(library, factor * np.round(4 * SCORE) / 4 + offset, **params)
    ensemble = library_of(model).parse(model)
    attribution, base = explain(ensemble, PLAIN, algorithm)
    raw = ensemble.raw_score(PLAIN)
    # LightGBM's leaves hold the offset in double precision; XGBoost adds it to each score in single precision.
    size, spread = np.abs(raw).max(), np.ptp(raw)
    expected, expected_base = references.tree_shap_reference(ensemble, PLAIN)
    np.testing.assert_allclose(attribution, expected, rtol=0, atol=1e-10 * spread + 1e-15 * size)
    np.testing.assert_allclose(base, expected_base, rtol=1e-13)
    native, native_base = library_of(model).native_attributions(model, PLAIN, n_jobs=1)
    share = 1e-9 if library == "lightgbm" else 1e-6
    np.testing.assert_allclose(attribution, native, rtol=0, atol=share * spread + 1e-15 * size)
    np.testing.assert_allclose(base, native_base, rtol=1e-12 if library == "lightgbm" else 1e-6)


# --- what a score is made of ------------------------------------------------------------------------------------------


@every_algorithm
def test_a_random_forest_is_averaged(algorithm):
    c = cell("lightgbm-regression-rf")
    attribution, base = c.found(algorithm)
    np.testing.assert_allclose((base + attribution.sum(axis=2))[:, 0], c.model.predict(c.x), rtol=1e-12)


@every_algorithm
@pytest.mark.parametrize("library", LIBRARIES)
def test_each_class_has_trees_of_its_own(library, algorithm):
    c = cell(f"{library}-multiclass-missing")
    e = c.ensemble
    attribution, base = c.found(algorithm)
    for output in range(e.n_outputs):
        trees = np.flatnonzero(e.tree_output == output)
        value = np.zeros(e.n_nodes)
        for tree in trees:
            nodes = slice(e.tree_start[tree], e.tree_start[tree + 1])
            value[nodes] = e.value[nodes]
        alone, its_base = explain(replace(e, value=value), c.x, algorithm)
        np.testing.assert_allclose(alone[:, output], attribution[:, output], rtol=0, atol=1e-12)
        np.testing.assert_allclose(its_base[output], base[output], rtol=1e-12)
        others = np.delete(np.arange(e.n_outputs), output)
        assert not alone[:, others].any()


@pytest.mark.parametrize("objective", ["binary", "poisson", "tweedie"])
def test_xgboost_s_base_score_goes_through_the_link(objective):
    """It is stored as a response, 0.3; the base value of trees without splits is its link."""
    model = cell(f"xgboost-{objective}-base-score").model
    empty = xgboost.train(
        {
            **XGBOOST,
            "objective": {"binary": "binary:logistic", "poisson": "count:poisson"}.get(objective, "reg:tweedie"),
        }
        | {"base_score": 0.3, "gamma": 1e9, "eta": 1e-30},
        xgboost.DMatrix(PLAIN, TARGETS[objective](SCORE), nthread=1),
        1,
    )
    link = np.log(0.3 / 0.7) if objective == "binary" else np.log(0.3)
    for booster in (model, empty):
        ensemble = library_of(booster).parse(booster)
        np.testing.assert_allclose(ensemble.base_score, link, rtol=1e-6)
    _, base = explain(ensemble, PLAIN[:2])
    np.testing.assert_allclose(base, link, rtol=1e-6)


# --- covers of zero ---------------------------------------------------------------------------------------------------


def ensembles_without_cover():
    lgb, xgb = cell("lightgbm-multiclass-missing"), fit("xgboost", SCORE, max_depth=4)

    def leaf_without_rows(number, tree):
        first = next(node for node, child in enumerate(tree["left_children"]) if child < 0)
        tree["sum_hessian"][first] = 0.0

    def nothing(number, tree):
        tree["sum_hessian"] = [0.0] * len(tree["sum_hessian"])

    return {
        "lightgbm-one-leaf": editing.lightgbm_without_rows(lgb.model, 1, [0]),
        "lightgbm-half": editing.lightgbm_without_rows(lgb.model, 0, range(0, 8, 2)),
        "lightgbm-all": editing.lightgbm_without_rows(lgb.model, 2, range(8)),
        "xgboost-one-leaf": editing.xgboost_with_covers(xgb, leaf_without_rows),
        "xgboost-all": editing.xgboost_with_covers(xgb, nothing),
        "xgboost-refreshed-half": editing.xgboost_refreshed(xgb, PLAIN[:, 0] > 0),
        "xgboost-refreshed-one": editing.xgboost_refreshed(xgb, np.arange(len(PLAIN)) == 7),
    }


EMPTY = [
    "lightgbm-one-leaf", "lightgbm-half", "lightgbm-all",
    "xgboost-one-leaf", "xgboost-all", "xgboost-refreshed-half", "xgboost-refreshed-one",
]  # fmt: skip


@pytest.fixture(scope="module")
def without_cover():
    models = ensembles_without_cover()
    assert list(models) == EMPTY
    return models


@pytest.mark.parametrize("name", EMPTY)
def test_the_reference_agrees_with_libraries_on_nodes_without_cover_where_they_answer(without_cover, name):
    model = without_cover[name]
    ensemble = library_of(model).parse(model)
    assert (ensemble.cover[ensemble.feature < 0] == 0).any()
    expected, base = references.tree_shap_reference(ensemble, PLAIN)
    assert np.isfinite(expected).all()
    assert np.isfinite(base).all()
    try:
        native, _ = library_of(model).native_attributions(model, PLAIN, n_jobs=1)
    except xgboost.core.XGBoostError:  # some versions check that no weight is NaN
        native = np.full_like(expected, np.nan)
    answered = np.isfinite(native).all(axis=2)  # (n_samples, n_outputs)
    if name.endswith("one-leaf"):
        assert answered.any(axis=0).all()
    np.testing.assert_allclose(expected[answered], native[answered], rtol=0, atol=1e-6)


@every_algorithm
@pytest.mark.parametrize("name", EMPTY)
def test_nodes_without_cover_are_no_division_by_zero(without_cover, name, algorithm):
    model = without_cover[name]
    ensemble = library_of(model).parse(model)
    attribution, base = explain(ensemble, PLAIN, algorithm)
    expected, expected_base = references.shapley_by_definition(ensemble, PLAIN)
    np.testing.assert_allclose(attribution, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(base, expected_base, rtol=1e-12)
    np.testing.assert_allclose(base + attribution.sum(axis=2), ensemble.raw_score(PLAIN), rtol=0, atol=1e-12)


@every_algorithm
def test_a_condition_that_no_row_can_meet_is_met_with_chance_zero(algorithm):
    """Twice the same split: the second has an empty side, on the path of a row that goes there."""
    empty = Split(1, 0.5, Leaf(7.0, 0), Leaf(9.0, 0))
    tree = Split(0, 0.0, Split(0, 1.0, Leaf(1.0, 3), empty), Split(0, -1.0, empty, Leaf(2.0, 5)))
    ensemble = plant([tree, Leaf(0.25, 0)], n_features=2, base_score=100.0)
    x = np.array([[a, b] for a in (-2.0, -1.0, 0.0, 0.5, 2.0, np.nan) for b in (0.0, 1.0)])
    attribution, base = explain(ensemble, x, algorithm)
    np.testing.assert_allclose(base, [100.25 + (3 * 1 + 5 * 2) / 8], rtol=1e-15)
    np.testing.assert_allclose(attribution, references.shapley_by_definition(ensemble, x)[0], rtol=0, atol=1e-14)


# --- long paths -------------------------------------------------------------------------------------------------------


@every_algorithm
@pytest.mark.parametrize(
    ("n_features", "depth"), [(3, 40), (9, 33), (16, 16), (17, 17), (24, 24), (33, 40), (50, 50)], ids=str
)
def test_long_paths_of_any_shares_keep_their_digits(n_features, depth, algorithm):
    """The chance of a path of d features is a polynomial of degree d - 1: no fixed number of points integrates it."""
    rng = np.random.default_rng(n_features)
    ensemble = plant_chain(rng, n_features=n_features, depth=depth, n_outputs=2)
    x = rng.integers(-3, 4, (24, n_features)).astype(float)
    x[0] = -9.0
    x[1] = 9.0
    # Rows that stay on the long path, and rows that leave it at its very end.
    for i, tree in enumerate(ensemble.tree_start[:-1]):
        node = tree
        while ensemble.feature[node] >= 0:
            left = ensemble.left[node]
            stays_left = ensemble.feature[left] >= 0
            j, t = ensemble.feature[node], ensemble.threshold[node]
            x[2 + i, j] = min(x[2 + i, j], t) if stays_left else max(x[2 + i, j], t + 1)
            node = left if stays_left else ensemble.right[node]
    attribution, base = explain(ensemble, x, algorithm)
    expected, expected_base = references.tree_shap_reference(ensemble, x)
    scale = max(1.0, np.abs(ensemble.value).max())
    np.testing.assert_allclose(attribution, expected, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(base, expected_base, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(base + attribution.sum(axis=2), ensemble.raw_score(x), rtol=0, atol=1e-10 * scale)
