"""Attributions against the libraries' own, against a walk by hand, and against the definition of the Shapley value."""

from itertools import chain, combinations, pairwise
from math import factorial
from typing import Any

import numpy as np
import pytest

from gbdt2nn.attributions import ATTRIBUTIONS
from gbdt2nn.attributions.tree_path import tree_path
from gbdt2nn.binning import Binner
from gbdt2nn.teachers import library_of
from gbdt2nn.teachers import lightgbm as lgb_teacher
from gbdt2nn.teachers import xgboost as xgb_teacher

N, D = 300, 4


def make_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D))
    x[:, 2] = rng.integers(0, 9, N)
    x[rng.random(x.shape) < 0.1] = np.nan
    score = np.nan_to_num(x[:, 0]) * (np.nan_to_num(x[:, 1]) > 0) + np.isin(x[:, 2], [1, 4])
    return x, score


X, SCORE = make_rows()
CLASS = np.digitize(SCORE, [0.1, 0.9])
LGB = {"n_estimators": 6, "num_leaves": 8, "min_child_samples": 5, "cat_smooth": 1, "min_data_per_group": 2}
XGB = {"n_estimators": 6, "max_depth": 3, "feature_types": ["q", "q", "c", "q"], "max_cat_to_onehot": 1}


def lgb(task, y, **params):
    return lambda: lgb_teacher.build(task, params={**LGB, **params}).fit(X, y, categorical_feature=[2])


def xgb(task, y, **params):
    return lambda: xgb_teacher.build(task, params={**XGB, **params}).fit(X, y)


MODELS = {
    "lgb-regression": lgb("regression", SCORE),
    "lgb-offset": lgb("regression", SCORE + 1000),
    "lgb-penalised": lgb("regression", SCORE + 10, reg_lambda=5.0, reg_alpha=0.5),
    "lgb-quantile": lgb("regression", SCORE, objective="quantile", alpha=0.7),
    "lgb-zero-as-missing": lgb("regression", SCORE, zero_as_missing=True),
    "lgb-multiclass": lgb("multiclass", CLASS),
    "lgb-rf": lgb("regression", SCORE, boosting_type="rf", subsample=0.6, subsample_freq=1),
    "lgb-dart": lgb("regression", SCORE, boosting_type="dart", drop_rate=0.5, skip_drop=0.0),
    "lgb-one-leaf": lgb("regression", SCORE, min_child_samples=N),
    "xgb-regression": xgb("regression", SCORE),
    "xgb-binary": xgb("binary", CLASS > 0, base_score=0.3),
    "xgb-multiclass": xgb("multiclass", CLASS),
    "xgb-dart": xgb("regression", SCORE, booster="dart", rate_drop=0.5),
    "xgb-parallel": xgb("regression", SCORE, num_parallel_tree=2, subsample=0.6),
    "xgb-one-leaf": xgb("regression", SCORE, gamma=1e9),
}


@pytest.fixture(scope="module", params=MODELS)
def teacher(request):
    model = MODELS[request.param]()
    return model, library_of(model), library_of(model).parse(model)


def explain_by(attribution, ensemble, n_samples=N):
    return ATTRIBUTIONS[attribution](ensemble, Binner.from_ensemble(ensemble), n_samples=n_samples, n_jobs=1)


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_attributions_are_complete(teacher, attribution):
    model, library, ensemble = teacher
    phi, base = explain_by(attribution, ensemble)(X)
    assert phi.shape == (N, ensemble.n_outputs, D)
    assert base.shape == (ensemble.n_outputs,)
    assert phi.dtype == base.dtype == np.float64
    raw = library.raw_score(model, X, n_jobs=1)
    tolerance = 1e-12 if library is lgb_teacher else 2e-6
    np.testing.assert_allclose(base + phi.sum(axis=2), raw, rtol=0, atol=tolerance * max(1, np.abs(raw).max()))


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_a_feature_no_tree_uses_gets_nothing(teacher, attribution):
    _, _, ensemble = teacher
    phi, _ = explain_by(attribution, ensemble)(X)
    assert not phi[:, :, ~ensemble.used_features()].any()


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_row_order_and_batch_size_change_nothing(teacher, attribution):
    _, _, ensemble = teacher
    explain = explain_by(attribution, ensemble)
    phi, base = explain(X)
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_array_equal(explain(X[order])[0], phi[order])
    one, same = explain(X[:1])
    np.testing.assert_array_equal(one, phi[:1])
    np.testing.assert_allclose(same, base, rtol=1e-6)
    none, _ = explain(X[:0])
    assert none.shape == (0, ensemble.n_outputs, D)


def saabas_by_hand(booster, n_outputs, divisor):
    """Walk LightGBM's dump to the leaf that the library itself reports."""
    phi, base = np.zeros((N, n_outputs, D)), np.zeros(n_outputs)
    leaf = booster.predict(X, pred_leaf=True).reshape(N, -1)
    for t, tree in enumerate(booster.dump_model()["tree_info"]):
        paths = {}
        waiting: list[Any] = [(tree["tree_structure"], [])]
        while waiting:
            node, path = waiting.pop()
            if "split_feature" not in node:
                paths[node.get("leaf_index", 0)] = [*path, (None, node["leaf_value"])]
                continue
            here = [*path, (node["split_feature"], node["internal_value"])]
            waiting += [(node["left_child"], here), (node["right_child"], here)]
        for i in range(N):
            path = paths[leaf[i, t]]
            for (feature, value), (_, child) in pairwise(path):
                phi[i, t % n_outputs, feature] += child - value
        base[t % n_outputs] += path[0][1]
    return phi / divisor, base / divisor


@pytest.mark.parametrize("teacher", [name for name in MODELS if name.startswith("lgb")], indirect=True)
def test_tree_path_is_the_walk_over_lightgbm_s_dump(teacher):
    """To the six digits that LightGBM writes of the values of inner nodes."""
    model, _, ensemble = teacher
    booster = model.booster_
    divisor = booster.current_iteration() if model.boosting_type == "rf" else 1
    expected, expected_base = saabas_by_hand(booster, ensemble.n_outputs, divisor)
    phi, base = tree_path(ensemble, X)
    # Of six digits, the last half is open on both sides of a step: a share of 1e-5 of the value at most.
    digits = 1.5e-5 * max(0.1, np.abs(ensemble.value).max())
    np.testing.assert_allclose(phi, expected, rtol=0, atol=digits)
    np.testing.assert_allclose(base, expected_base, rtol=0, atol=digits)


@pytest.mark.parametrize("teacher", [name for name in MODELS if name.startswith("xgb")], indirect=True)
def test_tree_path_is_xgboost_s_approximate_contribution(teacher):
    import xgboost

    model, _, ensemble = teacher
    booster = model.get_booster()
    table = xgboost.DMatrix(X, feature_types=booster.feature_types, missing=np.nan, nthread=1)
    expected = booster.predict(table, pred_contribs=True, approx_contribs=True, strict_shape=True)
    phi, base = tree_path(ensemble, X)
    np.testing.assert_allclose(phi, expected[:, :, :-1], rtol=0, atol=2e-6)
    np.testing.assert_allclose(base, expected[0, :, -1], rtol=0, atol=2e-6)


def test_starting_scores_far_from_zero_leave_tree_path_as_it_is():
    """LightGBM writes six digits of an inner value, which the starting score would fill."""
    y = np.round(4 * SCORE)  # labels have single precision in LightGBM
    numeric, results = X[:, [0, 1, 3]], []  # splits on categories are regularised: no means of their leaves
    for offset in (0.0, 1e6):
        model = lgb_teacher.build("regression", params=LGB).fit(numeric, y + offset)
        results.append(tree_path(lgb_teacher.parse(model), numeric)[0])
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-3)


def expected_value(ensemble, node, row, known):
    """Mean raw score of a subtree where only some features are known, by the covers of the nodes."""
    if ensemble.feature[node] < 0:
        return ensemble.value[node]
    left, right = ensemble.left[node], ensemble.right[node]
    if ensemble.feature[node] in known:
        way = np.array([node]), row[ensemble.feature[node], None]
        return expected_value(ensemble, left if ensemble.goes_left(*way)[0] else right, row, known)
    share = ensemble.cover[left] / (ensemble.cover[left] + ensemble.cover[right])
    values = (expected_value(ensemble, child, row, known) for child in (left, right))
    return share * next(values) + (1 - share) * next(values)


@pytest.mark.parametrize(
    "name", ["lgb-regression", "lgb-rf", "lgb-multiclass", "xgb-regression", "xgb-dart", "xgb-binary"]
)
def test_tree_shap_is_the_shapley_value_over_the_parsed_trees(name):
    """By the definition, over all subsets of features: the covers we parse are those the library weighs with."""
    model = MODELS[name]()
    ensemble = library_of(model).parse(model)
    x = ensemble.read(X[:5])
    phi, base = explain_by("tree_shap", ensemble)(x)
    expected, expected_base = np.zeros_like(phi), ensemble.base_score.copy()
    for root, output in zip(ensemble.tree_start[:-1], ensemble.tree_output, strict=True):
        expected_base[output] += expected_value(ensemble, root, x[0], ())
        for i, row in enumerate(x):
            subsets = chain.from_iterable(combinations(range(D), size) for size in range(D + 1))
            value = {known: expected_value(ensemble, root, row, known) for known in subsets}
            for known in value:
                for j in set(range(D)) - set(known):
                    weight = factorial(len(known)) * factorial(D - len(known) - 1) / factorial(D)
                    with_j = tuple(sorted((*known, j)))
                    expected[i, output, j] += weight * (value[with_j] - value[known])
    tolerance = 1e-12 if name.startswith("lgb") else 2e-6
    np.testing.assert_allclose(phi, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(base, expected_base, rtol=0, atol=tolerance)


def test_tree_path_reads_tables_of_any_layout():
    ensemble = lgb_teacher.parse(lgb("regression", SCORE)())
    single = X.astype(np.float32)
    expected, base = tree_path(ensemble, single.astype(np.float64))
    fixed = single.copy()
    fixed.flags.writeable = False
    for x in (fixed, np.asfortranarray(single), np.repeat(single, 2, axis=1)[:, ::2]):
        phi, same = tree_path(ensemble, x)
        np.testing.assert_array_equal(phi, expected)
        np.testing.assert_array_equal(same, base)


def test_tree_path_takes_no_other_shape():
    ensemble = lgb_teacher.parse(lgb("regression", SCORE)())
    with pytest.raises(ValueError, match=r"x must have shape \(n_samples, 4\), got \(2, 3\)"):
        tree_path(ensemble, np.zeros((2, 3)))
