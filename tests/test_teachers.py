"""The outside truth of parsing, links and attributions is the teacher's own library."""

import json
import pickle
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

from gbdt2nn.teachers import LIBRARIES, decimals, library_of, lightgbm_text, ubjson  # noqa: E402
from gbdt2nn.teachers import lightgbm as lgb_teacher  # noqa: E402
from gbdt2nn.teachers import xgboost as xgb_teacher  # noqa: E402
from gbdt2nn.teachers.habits import HABITS  # noqa: E402
from gbdt2nn.teachers.links import LINKS, Link  # noqa: E402
from gbdt2nn.trees import ZERO_THRESHOLD  # noqa: E402

N, D, CATEGORY = 300, 5, 3
LGB = {"n_estimators": 6, "num_leaves": 8, "min_child_samples": 5, "verbosity": -1, "n_jobs": 1, "random_state": 0}
XGB = {"n_estimators": 6, "max_depth": 3, "n_jobs": 1, "random_state": 0}
NATIVE = {"num_leaves": 8, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, "seed": 0}
FEATURE_TYPES = ["q", "q", "q", "c", "q"]


def make_rows(missing=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D))
    x[:, 1] = np.round(2 * x[:, 1]) / 2
    x[rng.random(N) < 0.4, 2] = 0.0
    x[:, CATEGORY] = rng.integers(0, 12, N)
    score = x[:, 0] * (x[:, 2] > 0) + x[:, 1] + np.isin(x[:, CATEGORY], [1, 4, 7]) - (x[:, CATEGORY] == 5)
    if missing:
        x[rng.random(x.shape) < 0.15] = np.nan
    return x, score + 0.1 * rng.normal(size=N)


PLAIN, SCORE = make_rows()
MISSING, _ = make_rows(missing=True)
LABEL = (SCORE > 0.5).astype(int)
CLASS = np.digitize(SCORE, [-0.5, 1.0])
POSITIVE = np.exp(0.3 * SCORE)
COUNT = np.floor(2 * POSITIVE)
SHARE = 1 / (1 + np.exp(-SCORE))
GROUPS = np.full(N // 10, 10)


def lgb(estimator, y, x=PLAIN, fit=None, **params):
    return lambda: estimator(**{**LGB, **params}).fit(x, y, **(fit or {}))


def xgb(estimator, y, x=PLAIN, fit=None, **params):
    return lambda: estimator(**{**XGB, **params}).fit(x, y, **(fit or {}))


def lgb_categories(**params):
    fit = {"categorical_feature": [CATEGORY]}
    return lgb(lightgbm.LGBMRegressor, SCORE, MISSING, fit, **{"cat_smooth": 1, "min_data_per_group": 2, **params})


def lgb_many_categories():
    x = PLAIN.copy()
    x[:, CATEGORY] = np.arange(N) // 3 * 7  # bit sets of more than one word
    params = {"cat_smooth": 1, "min_data_per_group": 1, "max_cat_threshold": 200, "min_child_samples": 3}
    y = np.sin(x[:, CATEGORY]) + 0.1 * SCORE
    return lightgbm.LGBMRegressor(**{**LGB, **params}).fit(x, y, categorical_feature=[CATEGORY])


def lgb_continued():
    """Trees that differ on what is missing: zero and NaN, NaN alone, nothing."""
    booster = None
    for extra in ({"zero_as_missing": True}, {}, {"use_missing": False}):
        data = lightgbm.Dataset(MISSING, SCORE, params={**NATIVE, **extra}, free_raw_data=False)
        booster = lightgbm.train({**NATIVE, **extra, "objective": "regression"}, data, 3, init_model=booster)
    return booster


NOISY = SCORE + 2 * np.random.default_rng(1).normal(size=N)  # a few rounds are best


def lgb_stopped():
    model = lightgbm.LGBMRegressor(**{**LGB, "n_estimators": 20, "learning_rate": 0.6})
    lgb_teacher.fit(model, PLAIN[:200], NOISY[:200], stop=(PLAIN[200:], NOISY[200:], None), patience=4)
    assert 1 < model.best_iteration_ < 20
    return model


def lgb_stopped_booster():
    """A Booster that keeps the rounds after its best, which its own predict leaves out."""
    data = lightgbm.Dataset(PLAIN[:200], NOISY[:200])
    booster = lightgbm.train(
        {**NATIVE, "objective": "regression", "learning_rate": 0.6},
        data,
        20,
        valid_sets=[lightgbm.Dataset(PLAIN[200:], NOISY[200:], reference=data)],
        callbacks=[lightgbm.early_stopping(4, verbose=False)],
        keep_training_booster=True,
    )
    assert 1 < booster.best_iteration < booster.current_iteration()
    return booster


def xgb_stopped():
    model = xgboost.XGBRegressor(**{**XGB, "n_estimators": 20, "learning_rate": 0.6})
    xgb_teacher.fit(model, PLAIN[:200], NOISY[:200], stop=(PLAIN[200:], NOISY[200:], None), patience=4)
    assert 1 < model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    return model


def lgb_booster(x=PLAIN, y=SCORE, rounds=6, **params):
    return lambda: lightgbm.train({**NATIVE, "objective": "regression", **params}, lightgbm.Dataset(x, y), rounds)


def xgb_booster(x=PLAIN, y=SCORE, rounds=6, **params):
    return lambda: xgboost.train({"max_depth": 3, "nthread": 1, **params}, xgboost.DMatrix(x, y), rounds)


def one_hot(max_cat_to_onehot):
    params = {"feature_types": FEATURE_TYPES, "max_cat_to_onehot": max_cat_to_onehot, "enable_categorical": True}
    return xgb(xgboost.XGBRegressor, SCORE, MISSING, max_depth=4, **params)


R, C = lightgbm.LGBMRegressor, lightgbm.LGBMClassifier
XR, XC = xgboost.XGBRegressor, xgboost.XGBClassifier
CASES = {
    "lgb-regression": lgb(R, SCORE),
    "lgb-offset": lgb(R, SCORE + 1e6),
    "lgb-missing": lgb(R, SCORE, MISSING),
    "lgb-zero-as-missing": lgb(R, SCORE, MISSING, zero_as_missing=True),
    "lgb-no-missing": lgb(R, SCORE, MISSING, use_missing=False),
    "lgb-l1": lgb(R, SCORE, objective="l1"),
    "lgb-huber": lgb(R, SCORE, objective="huber"),
    "lgb-fair": lgb(R, SCORE, objective="fair"),
    "lgb-quantile": lgb(R, SCORE, objective="quantile", alpha=0.8),
    "lgb-mape": lgb(R, POSITIVE, objective="mape"),
    "lgb-sqrt": lgb(R, SCORE, reg_sqrt=True),
    "lgb-poisson": lgb(R, COUNT, objective="poisson"),
    "lgb-gamma": lgb(R, POSITIVE, objective="gamma"),
    "lgb-tweedie": lgb(R, COUNT, objective="tweedie", tweedie_variance_power=1.3),
    "lgb-cross-entropy": lgb(R, SHARE, objective="cross_entropy"),
    "lgb-cross-entropy-lambda": lgb(R, SHARE, objective="cross_entropy_lambda"),
    "lgb-binary": lgb(C, LABEL),
    "lgb-unbalance": lgb(C, LABEL, is_unbalance=True),
    "lgb-sigmoid": lgb(C, LABEL, sigmoid=0.7),
    "lgb-multiclass": lgb(C, CLASS),
    "lgb-one-vs-all": lgb(C, CLASS, objective="multiclassova", sigmoid=1.5),
    "lgb-dart": lgb(R, SCORE, boosting_type="dart", drop_rate=0.5, skip_drop=0.0),
    "lgb-rf": lgb(R, SCORE + 10, boosting_type="rf", subsample=0.6, subsample_freq=1),
    "lgb-rf-binary": lgb(C, LABEL, boosting_type="rf", subsample=0.6, subsample_freq=1),
    "lgb-goss": lgb(R, SCORE, data_sample_strategy="goss"),
    "lgb-bagging": lgb(R, SCORE, subsample=0.7, subsample_freq=1, colsample_bytree=0.6),
    "lgb-many-bins": lgb(R, SCORE, max_bin=1023, min_data_in_bin=1),
    "lgb-one-leaf": lgb(R, SCORE, min_child_samples=N),
    "lgb-stopped": lgb_stopped,
    "lgb-stopped-booster": lgb_stopped_booster,
    "lgb-booster": lgb_booster(),
    "lgb-booster-multiclass": lgb_booster(y=CLASS, objective="multiclass", num_class=3),
    "lgb-reloaded": lambda: lightgbm.Booster(model_str=lgb_booster(MISSING)().model_to_string()),
    "lgb-continued": lgb_continued,
    "lgb-categories": lgb_categories(),
    "lgb-categories-one-hot": lgb_categories(max_cat_to_onehot=20),
    "lgb-categories-many": lgb_many_categories,
    "lgb-ranker": lgb(lightgbm.LGBMRanker, CLASS, fit={"group": GROUPS}),
    "xgb-regression": xgb(XR, SCORE),
    "xgb-missing": xgb(XR, SCORE, MISSING),
    "xgb-exact-pruned": xgb(XR, SCORE, MISSING, tree_method="exact", gamma=2.0),
    "xgb-lossguide": xgb(XR, SCORE, grow_policy="lossguide", max_leaves=9, max_depth=0),
    "xgb-absolute": xgb(XR, SCORE, objective="reg:absoluteerror"),
    "xgb-pseudohuber": xgb(XR, SCORE, objective="reg:pseudohubererror"),
    "xgb-log": xgb(XR, POSITIVE, objective="reg:squaredlogerror"),
    "xgb-quantile": xgb(XR, SCORE, objective="reg:quantileerror", quantile_alpha=0.8),
    "xgb-quantiles": xgb(XR, SCORE, objective="reg:quantileerror", quantile_alpha=np.array([0.2, 0.8])),
    "xgb-targets": xgb(XR, np.column_stack([SCORE, 2 * SCORE + 30])),
    "xgb-logistic-regression": xgb(XR, SHARE, objective="reg:logistic"),
    "xgb-poisson": xgb(XR, COUNT, objective="count:poisson"),
    "xgb-gamma": xgb(XR, POSITIVE, objective="reg:gamma"),
    "xgb-tweedie": xgb(XR, COUNT, objective="reg:tweedie", tweedie_variance_power=1.3),
    "xgb-cox": xgb(XR, np.where(LABEL, POSITIVE, -POSITIVE), objective="survival:cox"),
    "xgb-binary": xgb(XC, LABEL),
    "xgb-base-score": xgb(XC, LABEL, base_score=0.2, scale_pos_weight=3.0),
    "xgb-multiclass": xgb(XC, CLASS),
    "xgb-softmax": xgb(XC, CLASS, objective="multi:softmax"),
    "xgb-dart": xgb(XR, SCORE, booster="dart", rate_drop=0.5),
    "xgb-rf": xgb(xgboost.XGBRFRegressor, SCORE),
    "xgb-parallel-multiclass": xgb(XC, CLASS, num_parallel_tree=2, subsample=0.7),
    "xgb-sampled": xgb(XR, SCORE, subsample=0.7, colsample_bynode=0.6),
    "xgb-one-leaf": xgb(XR, SCORE, gamma=1e9),
    "xgb-stopped": xgb_stopped,
    "xgb-stopped-booster": lambda: xgb_stopped().get_booster(),
    "xgb-booster": xgb_booster(),
    "xgb-booster-slice": lambda: xgb_booster()()[:3],
    "xgb-booster-multiclass": xgb_booster(y=CLASS, objective="multi:softprob", num_class=3),
    "xgb-categories": one_hot(1),
    "xgb-categories-one-hot": one_hot(100),
    "xgb-ranker": xgb(xgboost.XGBRanker, CLASS, fit={"group": GROUPS}),
}

BINARY = ("lgb-binary", "lgb-unbalance", "lgb-sigmoid", "lgb-rf-binary", "xgb-binary", "xgb-base-score")
MULTICLASS = (
    "lgb-multiclass",
    "lgb-one-vs-all",
    "lgb-booster-multiclass",
    "xgb-multiclass",
    "xgb-softmax",
    "xgb-parallel-multiclass",
    "xgb-booster-multiclass",
)
TASKS = dict.fromkeys(BINARY, "binary") | dict.fromkeys(MULTICLASS, "multiclass")


def probes(ensemble, infinite):
    """Rows that try the reading of numbers: training rows, NaN, zeros, thresholds, their neighbours, strange codes."""
    rng = np.random.default_rng(2)
    x = [PLAIN[:60], MISSING[:60], np.full((1, D), np.nan), np.zeros((1, D)), -np.zeros((1, D))]
    numeric = (ensemble.feature >= 0) & ~ensemble.is_categorical
    for j in range(D):
        t = np.unique(ensemble.threshold[numeric & (ensemble.feature == j)])[:40]
        t32 = t.astype(np.float32)
        beside = [np.nextafter(t, side) for side in (-np.inf, np.inf)]
        beside32 = [np.nextafter(t32, np.float32(side)).astype(float) for side in (-np.inf, np.inf)]
        middle = [t32.astype(float) + share * np.spacing(t32) for share in (-0.5, 0.49, 0.5, 0.51)]
        values: list[Any] = [np.concatenate([t, t32, *beside, *beside32, *middle])]
        values.append([1e300, -1e300, np.inf, -np.inf] if infinite else [1e30, -1e30])
        values.append([ZERO_THRESHOLD, -ZERO_THRESHOLD, 1e-36, -1e-36, 1e-34, -1e-34])
        if j == CATEGORY:
            values.append([99.0, 1e6, 1e10, -1.0, -0.5, -1.5, 3.7, 11.5, 31.0, 32.0, 64.0, 1e-40])
        rows = MISSING[rng.integers(0, N, sum(map(len, values)))].copy()
        rows[:, j] = np.concatenate(values)
        x.append(rows)
    return np.concatenate(x)


def xgb_table(booster, x):
    names, types = booster.feature_names, booster.feature_types
    return xgboost.DMatrix(x, feature_names=names, feature_types=types, missing=np.nan, nthread=1)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    model = CASES[request.param]()
    library = library_of(model)
    ensemble = library.parse(model)
    c = SimpleNamespace(name=request.param, model=model, library=library, ensemble=ensemble)
    c.description = library.describe(model)
    c.x = probes(ensemble, infinite=library is lgb_teacher)
    c.n, c.rounds = len(c.x), c.description.n_iterations
    if library is lgb_teacher:
        booster = c.model if library.is_booster(model) else model.booster_
        # Called as a user does, so that the library itself chooses the rounds.
        c.raw = booster.predict(c.x, raw_score=True).reshape(c.n, -1)
        if "rf" in c.name:
            c.raw /= c.rounds
        c.response = booster.predict(c.x).reshape(c.n, -1)
        c.leaf = booster.predict(c.x, pred_leaf=True)
        c.tolerance = 1e-12
    else:
        booster = c.model if library.is_booster(model) else model.get_booster()
        table, used = xgb_table(booster, c.x), {"iteration_range": (0, c.rounds)}
        c.raw = booster.predict(table, output_margin=True, **used).reshape(c.n, -1)
        if c.name == "xgb-softmax":  # its booster predicts labels
            c.response = model.predict_proba(c.x)
        else:
            c.response = booster.predict(table, **used).reshape(c.n, -1)
        leaf = booster.predict(table, pred_leaf=True, strict_shape=True, **used)
        c.leaf = leaf.reshape(c.n, -1)
        c.tolerance = 2e-6
    c.scale = max(1.0, np.abs(c.raw).max())
    return c


def test_parsed_trees_give_the_library_s_raw_score(case):
    score = case.ensemble.raw_score(case.x)
    assert score.shape == case.raw.shape
    np.testing.assert_allclose(score, case.raw, rtol=0, atol=case.tolerance * case.scale)


def test_parsed_trees_lead_to_the_library_s_leaves(case):
    """Exactly: no threshold, missing value or category may go another way."""
    ensemble = case.ensemble
    leaf = ensemble.library_index[ensemble.leaves(case.x)]
    np.testing.assert_array_equal(leaf, case.leaf.astype(int))


def test_raw_score_is_the_library_s(case):
    score = case.library.raw_score(case.model, case.x, n_jobs=1)
    assert score.dtype == np.float64
    np.testing.assert_allclose(score, case.raw, rtol=0, atol=case.tolerance * case.scale)
    np.testing.assert_array_equal(case.library.raw_score(case.model, case.x[:1]), score[:1])
    assert case.library.raw_score(case.model, case.x[:0]).shape == (0, case.ensemble.n_outputs)


def test_link_gives_the_library_s_prediction(case):
    response = case.description.link(case.library.raw_score(case.model, case.x))
    np.testing.assert_allclose(response, case.response, rtol=20 * case.tolerance, atol=20 * case.tolerance)


def test_native_attributions_are_complete(case):
    x = case.x[np.isfinite(case.x).all(axis=1) | np.isnan(case.x).any(axis=1)]
    x = x[~np.isinf(x).any(axis=1)]
    attribution, base = case.library.native_attributions(case.model, x, n_jobs=1)
    assert attribution.shape == (len(x), case.ensemble.n_outputs, D)
    assert attribution.dtype == base.dtype == np.float64
    raw = case.library.raw_score(case.model, x)
    np.testing.assert_allclose(base + attribution.sum(axis=2), raw, rtol=0, atol=10 * case.tolerance * case.scale)
    # A feature no tree uses gets nothing.
    assert not attribution[:, :, ~case.ensemble.used_features()].any()
    empty, same = case.library.native_attributions(case.model, x[:0])
    assert empty.shape == (0, case.ensemble.n_outputs, D)
    np.testing.assert_allclose(same, base, rtol=1e-6)


def test_description_agrees_with_the_trees(case):
    d, e = case.description, case.ensemble
    assert d.library == case.library.NAME
    assert LIBRARIES[d.library] is case.library
    assert (d.n_features, d.n_outputs) == (D, case.raw.shape[1]) == (e.n_features, e.n_outputs)
    assert d.feature_names is None
    assert d.categories is None
    assert d.task == TASKS.get(case.name, "ranking" if "ranker" in case.name else "regression")
    is_classifier = type(case.model).__name__.endswith("Classifier")
    assert (d.classes is not None) == is_classifier
    assert e.n_trees == case.leaf.shape[1]


def library_rounds(case, rounds):
    """Raw scores of the first rounds by the library's own call."""
    booster = case.model if case.library.is_booster(case.model) else None
    if case.library is lgb_teacher:
        score = (booster or case.model.booster_).predict(case.x, raw_score=True, num_iteration=rounds)
        return score.reshape(case.n, -1) / (rounds if "rf" in case.name else 1)
    booster = booster or case.model.get_booster()
    table = xgb_table(booster, case.x)
    return booster.predict(table, output_margin=True, iteration_range=(0, rounds)).reshape(case.n, -1)


def test_the_first_rounds_are_the_library_s(case):
    booster = case.model if case.library.is_booster(case.model) else case.library._booster(case.model)
    total = booster.current_iteration() if case.library is lgb_teacher else booster.num_boosted_rounds()
    finite = ~np.isinf(case.x).any(axis=1)
    for rounds in sorted({1, (total + 1) // 2, total}):
        expected = library_rounds(case, rounds)
        tolerance = {"rtol": 0, "atol": case.tolerance * max(1.0, np.abs(expected).max())}
        ensemble = case.library.parse(case.model, n_iterations=rounds)
        np.testing.assert_allclose(ensemble.raw_score(case.x), expected, **tolerance)
        score = case.library.raw_score(case.model, case.x, n_iterations=rounds)
        np.testing.assert_allclose(score, expected, **tolerance)
        tolerance["atol"] *= 10
        phi, base = case.library.native_attributions(case.model, case.x[finite][:20], n_iterations=rounds)
        np.testing.assert_allclose(base + phi.sum(axis=2), expected[finite][:20], **tolerance)
        assert not phi[:, :, ~ensemble.used_features()].any()
    # Without a number, the rounds are those that predict uses.
    same = case.library.parse(case.model, n_iterations=case.rounds)
    np.testing.assert_array_equal(same.value, case.ensemble.value)
    for call in (case.library.parse, lambda m, **k: case.library.raw_score(m, case.x, **k)):
        with pytest.raises(ValueError, match=f"n_iterations must be at most the {total} rounds of the model, got"):
            call(case.model, n_iterations=total + 1)
        with pytest.raises(ValueError, match="n_iterations must be an integer of at least 1, got 0"):
            call(case.model, n_iterations=0)
        with pytest.raises(TypeError, match=r"n_iterations must be an integer of at least 1, got 1\.5"):
            call(case.model, n_iterations=1.5)


def test_parsed_trees_are_in_preorder(case):
    e = case.ensemble
    inner = np.flatnonzero(e.feature >= 0)
    np.testing.assert_array_equal(e.left[inner], inner + 1)
    assert (e.right[inner] > e.left[inner]).all()
    assert (e.left[e.feature < 0] == -1).all()
    assert (e.right[e.feature < 0] == -1).all()
    # The rows of a node are those of its children; hessians are sums in single precision.
    np.testing.assert_allclose(e.cover[e.left[inner]] + e.cover[e.right[inner]], e.cover[inner], rtol=1e-5)
    assert (e.cover > 0).all()
    assert (e.gain[inner] >= 0).all()


def test_models_survive_a_pickle(case):
    again = case.library.parse(pickle.loads(pickle.dumps(case.model)))
    np.testing.assert_array_equal(again.raw_score(case.x[:50]), case.ensemble.raw_score(case.x[:50]))


# --- frames with categories ---------------------------------------------------------------------------------------


def make_frame(ordered=False, names=("c", "a", "b", "ä")):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=N),
            "kind": pd.Categorical(rng.choice(names, N), categories=names),
            "step": rng.integers(0, 3, N),
            "grade": pd.Categorical(rng.choice([30, 10, 20], N), categories=[30, 10, 20], ordered=ordered),
            "same": pd.Categorical(["only"] * N),
        }
    )
    frame.loc[rng.random(N) < 0.1, "kind"] = None
    y = frame["size"] + 2 * frame["kind"].isin(["a", "c"]) + (frame["grade"] == 10) + frame["step"] % 2
    return frame, y.to_numpy(dtype=float)


def codes_of(frame):
    columns = {c: frame[c].cat.codes if isinstance(frame[c].dtype, pd.CategoricalDtype) else frame[c] for c in frame}
    x = pd.DataFrame(columns).to_numpy(dtype=float)
    x[:, [1, 3, 4]] = np.where(x[:, [1, 3, 4]] < 0, np.nan, x[:, [1, 3, 4]])
    return x


@pytest.mark.parametrize("ordered", [False, True])
def test_lightgbm_keeps_the_categories_of_its_frame(ordered):
    frame, y = make_frame(ordered)
    frame["step"] += 0.5  # no codes of a category
    model = R(**LGB, cat_smooth=1, min_data_per_group=2).fit(frame, y)
    description, x = lgb_teacher.describe(model), codes_of(frame)
    assert description.feature_names == tuple(frame.columns)
    assert description.categories is not None
    names = [None if c is None else c.tolist() for c in description.categories]
    assert names == [None, ["c", "a", "b", "ä"], None, [30, 10, 20], ["only"]]
    ensemble = lgb_teacher.parse(model)
    np.testing.assert_allclose(ensemble.raw_score(x)[:, 0], model.predict(frame), rtol=1e-12)
    # LightGBM reads an unseen category as missing.
    frame["kind"] = pd.Categorical(["new"] * N)
    x[:, 1] = np.nan
    np.testing.assert_allclose(ensemble.raw_score(x)[:, 0], model.predict(frame), rtol=1e-12)
    assert HABITS["lightgbm"].unseen_category == "missing"


def test_lightgbm_categories_that_fit_several_columns_are_refused():
    """Two ordered categories and a whole-number column: the model does not say which two of them have the lists."""
    frame, y = make_frame(ordered=True)
    model = R(**LGB).fit(frame.drop(columns="kind"), y)
    with pytest.raises(ValueError, match="do not fit in exactly one way"):
        lgb_teacher.describe(model)


@pytest.mark.parametrize("max_cat_to_onehot", [1, 10])
def test_xgboost_keeps_the_categories_of_its_frame(max_cat_to_onehot):
    frame, y = make_frame(names=("c", "a", "b", "e"))
    model = XR(**XGB, enable_categorical=True, max_cat_to_onehot=max_cat_to_onehot).fit(frame, y)
    description, x = xgb_teacher.describe(model), codes_of(frame)
    assert description.feature_names == tuple(frame.columns)
    assert description.categories is not None
    names = [None if c is None else c.tolist() for c in description.categories]
    assert names == [None, ["c", "a", "b", "e"], None, [30, 10, 20], ["only"]]
    ensemble = xgb_teacher.parse(model)
    np.testing.assert_allclose(ensemble.raw_score(x)[:, 0], model.predict(frame), rtol=1e-5, atol=1e-5)
    attribution, base = xgb_teacher.native_attributions(model, x)
    np.testing.assert_allclose(base + attribution.sum(axis=2)[:, 0], model.predict(frame), rtol=1e-5, atol=1e-5)
    assert HABITS["xgboost"].unseen_category == "raise"


def test_xgboost_names_beyond_ascii_are_refused_where_they_are_needed():
    """XGBoost stores them cut short; the trees speak of codes and stay right."""
    frame, y = make_frame()
    model = XR(**XGB, enable_categorical=True).fit(frame, y)
    with pytest.raises(ValueError, match="ASCII names, got others in column 'kind'"):
        xgb_teacher.check_explainable(model)
    description = xgb_teacher.describe(model)
    assert description.categories is not None
    assert description.categories[1] is None
    score = xgb_teacher.parse(model).raw_score(codes_of(frame))
    np.testing.assert_allclose(score[:, 0], model.predict(frame), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("missing", [0.0, -999.0])
def test_xgboost_estimators_say_what_they_read_as_missing(missing):
    x = MISSING.copy()
    x[:, 2] = np.where(np.isnan(x[:, 2]), missing, x[:, 2])
    model = XR(**XGB, missing=missing).fit(x, SCORE)
    assert xgb_teacher.describe(model).missing == missing
    as_nan = np.where(x == missing, np.nan, x)
    expected = model.predict(x)
    np.testing.assert_allclose(xgb_teacher.parse(model).raw_score(as_nan)[:, 0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(xgb_teacher.raw_score(model, as_nan)[:, 0], expected, rtol=1e-6)
    attribution, base = xgb_teacher.native_attributions(model, as_nan)
    np.testing.assert_allclose(base + attribution.sum(axis=2)[:, 0], expected, rtol=1e-5, atol=1e-5)
    # Below this door only NaN is missing, in the library's answer as in the parsed trees.
    np.testing.assert_allclose(xgb_teacher.raw_score(model, x), xgb_teacher.parse(model).raw_score(x), atol=1e-5)


def test_labels_of_any_kind_stay_with_the_teacher():
    model = C(**LGB).fit(PLAIN, np.array(["no", "yes"])[LABEL])
    description = lgb_teacher.describe(model)
    assert description.classes is not None
    assert description.classes.tolist() == ["no", "yes"]
    assert HABITS["lightgbm"].encodes_labels
    classes = xgb_teacher.describe(XC(**XGB).fit(PLAIN, CLASS)).classes
    assert classes is not None
    assert classes.tolist() == [0, 1, 2]


# --- reading what the libraries write ------------------------------------------------------------------------------


def words_of_numbers():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=3000) * 10.0 ** rng.integers(-30, 30, 3000)
    any_double = rng.integers(0, 2**64, 3000, dtype=np.uint64).view(np.float64)
    ties = [2**53 + 2 * k + 1 for k in rng.integers(0, 2**52, 500).tolist()]  # half way between two doubles
    words = [f"{v:{form}}" for form in (".17g", ".6g", "r", ".25e", "f") for v in normal.tolist() if form != "r"]
    words += [repr(v) for v in (*normal.tolist(), *any_double.tolist())]
    words += [str(v) for v in (*ties, *rng.integers(-(2**31), 2**31, 500).tolist(), 2**64 - 1, 2**64, 10**19)]
    words += [f"{k}.5" for k in rng.integers(2**52, 2**53, 500).tolist()]
    words += [
        "36893488147419103232",
        "184467440737095516160",
        "18446744073709551616.0",
        "nan",
        "-nan",
        "inf",
        "-inf",
        "1e400",
        "1e-400",
        "-0",
        "0.0",
        "-0.0e5",
        "5e-324",
        "1e22",
        "1e23",
        "+1",
    ]
    words += [".5", "5.", "1E5", "1e+05", "00012.5", "0." + 40 * "0" + "1234567890123456789", "9999999999999999999e-5"]
    return words


@pytest.mark.parametrize("compiled", [True, False])
def test_decimals_are_read_to_the_last_bit(compiled, monkeypatch):
    monkeypatch.setattr(decimals, "is_warm", lambda: compiled)
    words = words_of_numbers()
    expected = np.array([float(word) for word in words])
    numbers = decimals.read_decimals("  ".join(words) + "\n", len(words))
    np.testing.assert_array_equal(
        numbers.view(np.int64)[~np.isnan(numbers)], expected.view(np.int64)[~np.isnan(expected)]
    )
    np.testing.assert_array_equal(np.isnan(numbers), np.isnan(expected))
    assert decimals.read_decimals("", 0).shape == (0,)


@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_no_list_of_decimals_is_refused(compiled, monkeypatch):
    monkeypatch.setattr(decimals, "is_warm", lambda: compiled)
    for text in ("1 x", "1 2.3.4", "1 -", "1 1e", "1 1e+", "é 1", "1 0x2", "1 2,5"):
        with pytest.raises(ValueError, match="could not convert"):
            decimals.read_decimals(text, 2)
    for text, got in (("1", "1"), ("1 2 3", "more"), ("", "0")):
        with pytest.raises(ValueError, match=f"must have 2 numbers, got {got}"):
            decimals.read_decimals(text, 2)


def test_a_large_text_is_read_in_pieces(monkeypatch):
    """The same trees, whatever the sizes of the pieces; none of them is written twice by the library."""
    booster = lgb_many_categories().booster_
    whole = lgb_teacher.parse(booster)
    asked = []
    write = lightgbm.Booster.model_to_string

    def counted(self, num_iteration=None, start_iteration=0, **options):
        asked.append((start_iteration, num_iteration))
        return write(self, num_iteration, start_iteration, **options)

    monkeypatch.setattr(lightgbm.Booster, "model_to_string", counted)
    for size in (1, 9_000, 12_000, 10**6):
        asked.clear()
        monkeypatch.setattr(lgb_teacher, "_TEXT_SIZE", size)
        ensemble = lgb_teacher.parse(booster)
        for name, value in vars(whole).items():
            np.testing.assert_array_equal(getattr(ensemble, name), value)
        pieces = [entry for entry in asked if entry[0] > 0 or entry[1] > 1]
        assert sum(rounds for _, rounds in pieces) + 1 == booster.current_iteration()
    # What a description needs is in the first round.
    asked.clear()
    lgb_teacher.describe(booster)
    lgb_teacher.check_explainable(booster)
    assert set(asked) == {(0, 1)}


def test_only_parsing_reads_all_trees_of_xgboost(monkeypatch):
    booster = xgb_booster(rounds=50)()
    sizes = []
    write = xgboost.Booster.save_raw

    def measured(self, *args, **kwargs):
        stored = write(self, *args, **kwargs)
        sizes.append(len(stored))
        return stored

    monkeypatch.setattr(xgboost.Booster, "save_raw", measured)
    xgb_teacher.check_explainable(booster)
    xgb_teacher.describe(booster)
    xgb_teacher.parse(booster)
    assert max(sizes[:-1]) < sizes[-1] / 10


@pytest.mark.parametrize("name", ["xgb-regression", "xgb-dart", "xgb-categories", "xgb-parallel-multiclass"])
def test_binary_json_says_what_the_json_says(name):
    booster = CASES[name]().get_booster()

    def compare(decoded, expected):
        if isinstance(expected, dict):
            assert decoded.keys() == expected.keys()
            for key in expected:
                compare(decoded[key], expected[key])
        elif isinstance(expected, list):
            assert len(decoded) == len(expected)
            if isinstance(decoded, np.ndarray):
                np.testing.assert_array_equal(decoded, np.array(expected).astype(decoded.dtype))
            else:
                for one, other in zip(decoded, expected, strict=True):
                    compare(one, other)
        else:
            assert decoded == expected or np.float32(decoded) == np.float32(expected)

    stored = bytes(booster.save_raw("ubj"))
    compare(ubjson.decode(stored), json.loads(booster.save_raw("json")))
    assert ubjson.decode(stored, "learner", "gradient_booster", "name") in ("gbtree", "dart")


def test_binary_json_of_every_type():
    data = b"{U\x01a[TFZi\xffU\xffI\xff\xfel\xff\xff\xff\xfdL" + (5).to_bytes(8, "big") + b"]U\x01b"
    data += b"[$d#U\x01\x3f\x80\x00\x00U\x01c[#U\x02SU\x02\xc3\xa4D\x3f\xf8" + 6 * b"\x00" + b"U\x00{}}"
    decoded = ubjson.decode(data)
    assert decoded.pop("b").tolist() == [1.0]
    assert decoded == {"a": [True, False, None, -1, 255, -2, -3, 5], "c": ["ä", 1.5], "": {}}


BROKEN = [b"", b"{", b"[$", b"[$U#L", b"[$U#U\x05\x01", b"[$UU\x05", b"x", b"S", b"SU\x05ab", b"SU\x01\xff", b"Si\xffa"]


@pytest.mark.parametrize("data", BROKEN, ids=repr)
def test_what_is_no_binary_json_is_refused(data):
    with pytest.raises(ValueError, match="data must be Universal Binary JSON"):
        ubjson.decode(data)


def test_binary_json_is_one_value():
    with pytest.raises(ValueError, match="got 1 bytes after it"):
        ubjson.decode(b"{}}")
    with pytest.raises(ValueError, match="with the members a, b"):
        ubjson.decode(b"{U\x01a{}}", "a", "b")


def test_a_long_text_is_worth_compiling(monkeypatch):
    """What is read in plain Python and compiled is the same; which of them it is depends on how much there is."""
    booster = lgb_many_categories().booster_
    whole = lgb_teacher.parse(booster)
    monkeypatch.setattr(decimals, "is_warm", lambda: False)
    long = []
    read = decimals.read_decimals
    monkeypatch.setattr(lightgbm_text, "read_decimals", lambda *a, is_long=False: (long.append(is_long), read(*a))[1])
    for size, is_long in ((10**6, False), (10, True)):
        long.clear()
        monkeypatch.setattr(lightgbm_text, "_LONG", size)
        ensemble = lgb_teacher.parse(booster)
        assert long[0] is is_long
        for name, value in vars(whole).items():
            np.testing.assert_array_equal(getattr(ensemble, name), value)


# --- building and fitting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_default_teachers_fit_with_early_stopping(library, task):
    y = {"regression": SCORE, "binary": LABEL, "multiclass": CLASS}[task]
    model = library.build(task, params={"n_estimators": 20, "learning_rate": 0.9}, random_state=1, n_jobs=1)
    assert not library.is_fitted(model)
    library.check_explainable(model)
    weight = np.ones(200)
    stop = (PLAIN[200:], np.random.default_rng(0).permutation(y[200:]), np.ones(100))  # no use: it stops at once
    same = library.fit(model, PLAIN[:200], y[:200], sample_weight=weight, stop=stop, patience=3)
    assert same is model
    assert library.is_fitted(model)
    description = library.describe(model)
    assert description.task == task
    assert description.n_iterations < 17
    assert library.parse(model).n_trees == description.n_iterations * description.n_outputs


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_sample_weights_reach_the_teacher(library):
    model = library.build("regression", params={"n_estimators": 3}, n_jobs=1)
    weight = np.where(np.arange(N) < 150, 1.0, 0.0)
    library.fit(model, PLAIN, SCORE, sample_weight=weight)
    other = library.build("regression", params={"n_estimators": 3}, n_jobs=1)
    library.fit(other, PLAIN, SCORE)
    assert not np.allclose(library.raw_score(model, PLAIN), library.raw_score(other, PLAIN))


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_an_estimator_s_own_early_stopping_gets_the_stop_rows(library):
    noise = np.random.default_rng(1).normal(size=N)
    own = {"n_estimators": 20, "early_stopping_rounds": 3}
    model = library.build("regression", params=own, n_jobs=1)
    assert library.wants_stop_rows(model)
    with pytest.raises(ValueError, match="stop must be"):
        library.fit(model, PLAIN, noise)
    library.fit(model, PLAIN[:200], noise[:200], stop=(PLAIN[200:], noise[200:], None))
    assert library.describe(model).n_iterations < 20
    # Without its own wish, stop rows without patience are left alone.
    plain = library.build("regression", params={"n_estimators": 5}, n_jobs=1)
    assert not library.wants_stop_rows(plain)
    library.fit(plain, PLAIN[:200], noise[:200], stop=(PLAIN[200:], noise[200:], None))
    assert library.describe(plain).n_iterations == 5


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_same_seed_same_default_teacher(library):
    params = {"n_estimators": 5, "colsample_bytree": 0.5}
    one, two, three = (library.build("regression", params=params, random_state=s, n_jobs=1) for s in (0, 0, 1))
    scores = [library.raw_score(library.fit(m, PLAIN, SCORE), PLAIN) for m in (one, two, three)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_other_names_of_a_parameter_replace_the_defaults():
    model = lgb_teacher.build("binary", params={"num_iterations": 3, "eta": 0.3, "max_leaves": 4, "verbose": -1})
    assert (model.n_estimators, model.learning_rate, model.num_leaves) == (3, 0.3, 4)
    assert not {"num_iterations", "eta", "max_leaves", "verbose"} & set(model.get_params())
    assert "force_col_wise" not in lgb_teacher.build("binary", params={"force_row_wise": True}).get_params()
    assert xgb_teacher.build("binary", params={"eta": 0.3}).learning_rate == 0.3


def test_the_values_of_the_first_round_keep_a_large_starting_score():
    """LightGBM writes inner values with six digits, too few where the mean of the target is far from zero."""
    y = np.round(SCORE)  # labels have single precision in LightGBM
    near, far = (lgb_teacher.parse(R(**LGB).fit(PLAIN, y + offset)) for offset in (0.0, 1e6))
    tree = slice(near.tree_start[0], near.tree_start[1])
    np.testing.assert_array_equal(near.feature[tree], far.feature[tree])
    np.testing.assert_allclose(far.value[tree] - 1e6, near.value[tree], atol=1e-2)


# --- refusals -----------------------------------------------------------------------------------------------------


def squared(y, score):
    return score - y, np.ones_like(y)


def lgb_linear():
    return lightgbm.LGBMRegressor(**LGB, linear_tree=True)


def xgb_vector():
    y = np.column_stack([SCORE, -SCORE])
    return XR(**XGB, multi_strategy="multi_output_tree").fit(PLAIN, y)


REFUSALS = {
    "lgb-linear": (lgb_linear, "linear_tree must be False"),
    "lgb-linear-alias": (lambda: R(linear_trees=True), "linear_tree must be False"),
    "lgb-linear-fitted": (lambda: lgb_linear().fit(PLAIN, SCORE), "linear_tree must be False"),
    "lgb-linear-booster": (lambda: lgb_linear().fit(PLAIN, SCORE).booster_, "linear_tree must be False"),
    "lgb-function": (lambda: R(objective=squared), "objective must be one of LightGBM's own .* got a function"),
    "lgb-function-fitted": (lgb(R, SCORE, objective=squared), "objective must be .* got a function"),
    "lgb-function-booster": (
        lambda: lgb(R, SCORE, objective=squared)().booster_,
        "objective must be .* got a custom one",
    ),
    "lgb-unknown": (lambda: R(objective="mystery"), "objective must be .* got 'mystery'"),
    "lgb-alias": (lambda: R(application="none"), "objective must be .* got 'none'"),
    "lgb-classifier": (lambda: C(objective="poisson"), "for a LightGBM classifier, got 'poisson'"),
    "lgb-ranker": (lightgbm.LGBMRanker, "got an LGBMRanker that is not fitted"),
    "xgb-linear": (lambda: XR(booster="gblinear"), "got 'gblinear'"),
    "xgb-linear-booster": (
        lambda: xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(PLAIN, SCORE), 1),
        "got 'gblinear'",
    ),
    "xgb-vector": (lambda: XR(multi_strategy="multi_output_tree"), "got 'multi_output_tree'"),
    "xgb-vector-fitted": (xgb_vector, "got 'multi_output_tree'"),
    "xgb-vector-booster": (lambda: xgb_vector().get_booster(), "got 'multi_output_tree'"),
    "xgb-function": (lambda: XR(objective=squared), "objective must be one of XGBoost's own .* got a function"),
    "xgb-hinge": (lambda: XC(objective="binary:hinge"), "got 'binary:hinge'.*binary:logistic"),
    "xgb-hinge-booster": (xgb_booster(y=LABEL, objective="binary:hinge"), "got 'binary:hinge'"),
    "xgb-raw": (lambda: XC(objective="binary:logitraw"), "got 'binary:logitraw'"),
    "xgb-unknown": (lambda: XR(objective="mystery"), "objective must be .* got 'mystery'"),
    "xgb-classifier": (lambda: XC(objective="reg:gamma"), "for an XGBoost classifier, got 'reg:gamma'"),
    "xgb-ranker": (xgboost.XGBRanker, "got an XGBRanker that is not fitted"),
}


@pytest.mark.filterwarnings("ignore:.*gblinear.*:UserWarning")  # XGBoost says that it is deprecated
@pytest.mark.parametrize("name", REFUSALS)
def test_teachers_that_cannot_be_explained_are_refused(name):
    make, message = REFUSALS[name]
    model = make()
    with pytest.raises(ValueError, match=message) as refusal:
        library_of(model).check_explainable(model)
    assert "\n" not in str(refusal.value)
    if library_of(model).is_fitted(model) and name != "xgb-function-fitted":
        with pytest.raises(ValueError, match=message):
            library_of(model).parse(model)


@pytest.mark.parametrize("model", [object(), "lightgbm", None, R, np.zeros(3)], ids=lambda m: type(m).__name__)
def test_models_of_no_library_are_refused(model):
    with pytest.raises(TypeError, match=r"teacher must be an estimator of LightGBM .* got"):
        library_of(model)


def test_wrong_sizes_and_tasks_are_refused(case):
    with pytest.raises(ValueError, match=r"x must have shape \(n_samples, 5\), got \(2, 4\)"):
        case.library.raw_score(case.model, np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"x must have shape \(n_samples, 5\), got \(5,\)"):
        case.library.native_attributions(case.model, np.zeros(5))
    with pytest.raises(ValueError, match="task must be"):
        case.library.build("survival")


# --- links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINKS)
def test_links_hold_far_from_zero(name):
    raw = np.array([[-800.0, 0.0, 3.0], [30.0, 700.0, -30.0]])
    response = Link(name)(raw)
    assert response.shape == raw.shape
    assert np.isfinite(response).all()
    if name == "softmax":
        np.testing.assert_allclose(response.sum(axis=1), 1.0)
    if name in ("logistic", "one_vs_all"):
        assert response.min() >= 0
        assert response.max() <= 1


def test_unknown_links_are_refused():
    with pytest.raises(ValueError, match=r"name must be one of identity, .* got 'probit'"):
        Link("probit")


def test_libraries_are_imported_when_first_used():
    code = (
        "import sys; from gbdt2nn.teachers import library_of\n"
        "import gbdt2nn.attributions, gbdt2nn.binning\n"
        "print(sorted({'lightgbm', 'xgboost', 'shap', 'numba', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
