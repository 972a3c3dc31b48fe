"""The public functions: models as users fit them, tables as users have them, and clear words where there is no answer."""

import warnings

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from conformance import editing, references
from conformance.cells import cell
from conformance.models import HOLES, LIGHTGBM, PLAIN, SCORE, TARGETS, D, N
from scipy import sparse

import gbdt2nn
from gbdt2nn.teachers import library_of

LIBRARIES = ["lightgbm", "xgboost"]
LGB = {"n_estimators": 6, "num_leaves": 8, "min_child_samples": 5, "verbosity": -1, "n_jobs": 1, "random_state": 0}
XGB = {"n_estimators": 6, "max_depth": 3, "n_jobs": 1, "random_state": 0}


def in_shap_s_shape(attribution):
    """(n_samples, n_outputs, n_features) as the public functions give it."""
    return attribution[:, 0] if attribution.shape[1] == 1 else attribution.transpose(0, 2, 1)


def regressor(library, x=PLAIN, y=SCORE, **params):
    if library == "lightgbm":
        return lightgbm.LGBMRegressor(**{**LGB, **params}).fit(x, y)
    return xgboost.XGBRegressor(**{**XGB, **params}).fit(x, y)


def native_of(model, x):
    attribution, base = library_of(model).native_attributions(model, x, n_jobs=1)
    return in_shap_s_shape(attribution), base


def assert_same(found, model, x):
    """Compare with the library's own attributions of these numbers."""
    values, base = native_of(model, x)
    tolerance = 1e-9 if library_of(model).NAME == "lightgbm" else 1e-6
    np.testing.assert_allclose(found[0], values, rtol=0, atol=tolerance * max(1.0, np.abs(values).max()))
    np.testing.assert_allclose(np.atleast_1d(found[1]), base, rtol=0, atol=tolerance * max(1.0, np.abs(base).max()))


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", ["plain", "categories", "stopped"])
@pytest.mark.parametrize("objective", TARGETS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_objective_through_the_front_door(library, objective, training):
    c = cell(f"{library}-{objective}-{training}")
    x = c.x[c.known]
    values, base = gbdt2nn.tree_shap(c.model, x)
    several = c.ensemble.n_outputs > 1
    assert values.shape == ((len(x), D, c.ensemble.n_outputs) if several else (len(x), D))
    assert np.shape(base) == ((c.ensemble.n_outputs,) if several else ())
    expected, expected_base = c.reference
    np.testing.assert_allclose(values, in_shap_s_shape(expected[c.known]), rtol=0, atol=1e-10 * c.scale)
    np.testing.assert_allclose(base, expected_base if several else expected_base[0], rtol=0, atol=1e-10 * c.scale)
    explainer = gbdt2nn.TreeExplainer(c.model)
    np.testing.assert_allclose(explainer.shap_values(x), values, rtol=0, atol=1e-12 * c.scale)
    np.testing.assert_allclose(explainer.expected_value, base, rtol=0, atol=1e-12 * c.scale)


# Trees whose paths are long enough to cost the libraries' own algorithm its digits.
@pytest.mark.parametrize("n_rows", [1, 3, 30])
@pytest.mark.parametrize("name", ["lightgbm-regression-wide", "xgboost-regression-wide", "lightgbm-regression-deep"])
def test_few_rows_are_answered_as_exactly_as_many(name, n_rows):
    c = cell(name)
    values, base = gbdt2nn.tree_shap(c.model, c.rows["training"][:n_rows])
    np.testing.assert_allclose(values, c.reference[0][:n_rows, 0], rtol=0, atol=1e-9 * c.scale)
    np.testing.assert_allclose(base, c.reference[1][0], rtol=0, atol=1e-9 * c.scale)


@pytest.mark.parametrize("n_iterations", [1, 3])
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_caller_may_ask_for_other_rounds(library, n_iterations):
    y = TARGETS["multiclass"](SCORE)
    if library == "lightgbm":
        model = lightgbm.LGBMClassifier(**LGB).fit(HOLES, y)
        expected = model.predict(HOLES, pred_contrib=True, num_iteration=n_iterations).reshape(N, 3, D + 1)
    else:
        model = xgboost.XGBClassifier(**XGB).fit(HOLES, y)
        table = xgboost.DMatrix(HOLES, nthread=1)
        expected = model.get_booster().predict(table, pred_contribs=True, iteration_range=(0, n_iterations))
    explainer = gbdt2nn.TreeExplainer(model, n_iterations=n_iterations)
    values = explainer.shap_values(HOLES)
    np.testing.assert_allclose(values, expected[:, :, :-1].transpose(0, 2, 1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(explainer.expected_value, expected[0, :, -1], rtol=0, atol=1e-6)


def test_lightgbm_s_init_score_is_no_part_of_its_score():
    data = lightgbm.Dataset(PLAIN, SCORE, init_score=10 * PLAIN[:, 1])
    model = lightgbm.train({**LIGHTGBM, "objective": "regression"}, data, 6)
    values, base = gbdt2nn.tree_shap(model, PLAIN)
    np.testing.assert_allclose(base + values.sum(axis=1), model.predict(PLAIN), rtol=0, atol=1e-9)
    assert_same((values, base), model, PLAIN)


# --- tables -----------------------------------------------------------------------------------------------------------


def make_frame():
    rng = np.random.default_rng(3)
    names = ["c", "a", "b", "e"]
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=N),
            "kind": pd.Categorical(rng.choice(names, N), categories=names),
            "step": rng.integers(0, 3, N) + 0.5,
            "grade": pd.Categorical(rng.choice([30, 10, 20], N), categories=[30, 10, 20]),
            "level": pd.Categorical([f"v{i % 60}" for i in range(N)]),
            "same": pd.Categorical(["only"] * N),
            "flag": rng.random(N) < 0.5,
        }
    )
    frame.loc[rng.random(N) < 0.1, "kind"] = None
    y = frame["size"] + 2 * frame["kind"].isin(["a", "c"]) + (frame["grade"] == 10) + frame["flag"]
    return frame, y.to_numpy(dtype=float) + np.arange(N) % 60 % 7


def fit_frame(library):
    frame, y = make_frame()
    if library == "lightgbm":
        params = {"cat_smooth": 1, "min_data_per_group": 2, "max_cat_to_onehot": 1}
        return lightgbm.LGBMRegressor(**LGB, **params).fit(frame, y), frame
    return xgboost.XGBRegressor(**XGB, enable_categorical=True, max_cat_to_onehot=1).fit(frame, y), frame


def contributions(model, frame):
    """The library's own, of the frame itself."""
    if library_of(model).NAME == "lightgbm":
        return model.predict(frame, pred_contrib=True)
    return model.get_booster().predict(xgboost.DMatrix(frame, enable_categorical=True, nthread=1), pred_contribs=True)


@pytest.mark.parametrize("n_rows", [1, 100, N])
@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_with_categories(library, n_rows):
    model, frame = fit_frame(library)
    assert library_of(model).parse(model).is_categorical.sum() > 5
    frame = frame.iloc[:n_rows]
    values, base = gbdt2nn.tree_shap(model, frame)
    expected = contributions(model, frame)
    np.testing.assert_allclose(values, expected[:, :-1], rtol=0, atol=1e-9 if library == "lightgbm" else 1e-5)
    np.testing.assert_allclose(base, expected[0, -1], rtol=1e-9 if library == "lightgbm" else 1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_categories_are_known_by_name_whatever_their_order(library):
    model, frame = fit_frame(library)
    expected, _ = gbdt2nn.tree_shap(model, frame)
    other = frame.assign(
        kind=frame["kind"].cat.reorder_categories(["e", "b", "a", "c"]),
        grade=frame["grade"].cat.set_categories([20, 30, 10]),
        level=frame["level"].cat.set_categories(sorted(frame["level"].cat.categories, reverse=True)),
    )
    np.testing.assert_array_equal(gbdt2nn.tree_shap(model, other)[0], expected)
    np.testing.assert_allclose(expected, contributions(model, other)[:, :-1], rtol=0, atol=1e-5)


def test_lightgbm_reads_unseen_categories_as_missing():
    model, frame = fit_frame("lightgbm")
    frame = frame.assign(kind=pd.Categorical(["new"] * N), level=pd.Categorical([None] * N, categories=["v1"]))
    values, _ = gbdt2nn.tree_shap(model, frame)
    np.testing.assert_allclose(values, contributions(model, frame)[:, :-1], rtol=0, atol=1e-9)


def test_xgboost_refuses_unseen_categories():
    model, frame = fit_frame("xgboost")
    frame = frame.assign(kind=pd.Categorical(["new"] * N))
    with pytest.raises(ValueError, match="new"):
        gbdt2nn.tree_shap(model, frame)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.int8, bool])
@pytest.mark.parametrize("library", LIBRARIES)
def test_arrays_of_other_types(library, dtype):
    model = regressor(library)
    x = PLAIN.astype(dtype) if dtype is np.float32 else np.round(2 * PLAIN).astype(dtype)
    found = gbdt2nn.tree_shap(model, x)
    assert_same(found, model, x.astype(np.float64))
    for same in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], pd.DataFrame(x)):
        np.testing.assert_array_equal(gbdt2nn.tree_shap(model, same)[0], found[0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix])
@pytest.mark.parametrize("library", LIBRARIES)
def test_sparse_tables_are_read_as_the_library_reads_them(library, kind, dtype):
    """What a sparse table does not hold is 0 to LightGBM, and missing to XGBoost."""
    model = regressor(library, HOLES)
    x = kind(np.where(PLAIN == 0.0, 0.0, np.round(PLAIN, 2)).astype(dtype))
    values, base = gbdt2nn.tree_shap(model, x)
    if library == "lightgbm":
        expected = model.predict(x.toarray(), pred_contrib=True)
    else:
        expected = model.get_booster().predict(xgboost.DMatrix(sparse.csr_matrix(x), nthread=1), pred_contribs=True)
    np.testing.assert_allclose(values, expected[:, :-1], rtol=0, atol=1e-9 if library == "lightgbm" else 1e-6)
    np.testing.assert_allclose(base, expected[0, -1], rtol=1e-9 if library == "lightgbm" else 1e-6)


@pytest.mark.parametrize("missing", [0.0, -999.0])
def test_xgboost_estimators_say_what_they_read_as_missing(missing):
    x = np.where(np.isnan(HOLES), missing, HOLES)
    model = regressor("xgboost", x, missing=missing)
    assert_same(gbdt2nn.tree_shap(model, x), model, np.where(x == missing, np.nan, x))


@pytest.mark.parametrize("library", LIBRARIES)
def test_rows_of_nothing_and_of_nan(library):
    model = regressor(library, HOLES)
    values, base = gbdt2nn.tree_shap(model, HOLES[:0])
    assert values.shape == (0, D)
    found = gbdt2nn.tree_shap(model, np.full((2, D), np.nan))
    np.testing.assert_allclose(found[1], base, rtol=1e-12)
    assert_same(found, model, np.full((2, D), np.nan))


# --- refusals ---------------------------------------------------------------------------------------------------------


def linear_trees():
    return regressor("lightgbm", linear_tree=True)


def vector_trees():
    return regressor("xgboost", y=np.column_stack([SCORE, -SCORE]), multi_strategy="multi_output_tree")


def no_trees():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gblinear.*")  # XGBoost says that it is deprecated
        return regressor("xgboost", booster="gblinear", max_depth=None)


REFUSED = {
    "linear": (linear_trees, "linear_tree"),
    "linear-booster": (lambda: linear_trees().booster_, "linear_tree"),
    "vector": (vector_trees, "multi_output_tree"),
    "vector-booster": (lambda: vector_trees().get_booster(), "multi_output_tree"),
    "gblinear": (no_trees, "gblinear"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_without_attributions_are_refused_by_name(name):
    make, word = REFUSED[name]
    model = make()
    for door in (gbdt2nn.TreeExplainer, lambda m: gbdt2nn.tree_shap(m, PLAIN)):
        with pytest.raises(ValueError, match=word) as refusal:
            door(model)
        assert "\n" not in str(refusal.value)


# --- covers of zero ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 50])
@pytest.mark.parametrize("library", LIBRARIES)
def test_leaves_that_no_training_row_reached_are_no_nan(library, n_rows):
    """The libraries' own answers are NaN, or an error."""
    c = cell(f"{library}-regression-plain")
    if library == "lightgbm":
        model = editing.lightgbm_without_rows(c.model, 1, [0, 3, 5])
    else:
        model = editing.xgboost_refreshed(c.model, np.arange(N) == 7)
    values, base = gbdt2nn.tree_shap(model, PLAIN[:n_rows])
    expected, expected_base = references.tree_shap_reference(library_of(model).parse(model), PLAIN[:n_rows])
    np.testing.assert_allclose(values, expected[:, 0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(base, expected_base[0], rtol=1e-12)
