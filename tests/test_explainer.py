"""The public door to attributions: agreement with shap and the libraries, tables of all kinds, refusals, small jobs."""

import copy
import pickle
import subprocess
import sys
import tracemalloc
import warnings

import lightgbm
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import shap
import xgboost
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from xgboost import XGBClassifier, XGBRegressor

import gbdt2nn
from gbdt2nn import fitted_model, row_intake
from gbdt2nn.attributions.tree_shap import TreeShap
from gbdt2nn.explainer import TreeExplainer, tree_path, tree_shap
from gbdt2nn.row_intake import Codes
from gbdt2nn.small_jobs import LibraryCall

NAMES = ["a", "b", "c", "d"]
LIGHTGBM = {"n_estimators": 12, "num_leaves": 8, "verbosity": -1, "n_jobs": 1, "random_state": 0}
XGBOOST = {"n_estimators": 12, "max_depth": 3, "n_jobs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    """300 rows of four numbers, some of them missing, and a number to predict."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = X[:, 0] * X[:, 1] + X[:, 2]
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, y


def fitted(kind, rows):
    X, y = rows
    classes = np.array(["low", "mid", "top"])[np.digitize(y, [-0.5, 0.5])]
    return {
        "lightgbm": lambda: LGBMRegressor(**LIGHTGBM).fit(X, y),
        "lightgbm binary": lambda: LGBMClassifier(**LIGHTGBM).fit(X, y > 0),
        "lightgbm multiclass": lambda: LGBMClassifier(**LIGHTGBM).fit(X, classes),
        "lightgbm forest": lambda: LGBMRegressor(**LIGHTGBM, boosting_type="rf", subsample=0.7, subsample_freq=1).fit(
            X, y
        ),
        "lightgbm ranker": lambda: LGBMRanker(**LIGHTGBM).fit(X, (y > 0).astype(int), group=[30] * 10),
        "xgboost": lambda: XGBRegressor(**XGBOOST).fit(X, y),
        "xgboost binary": lambda: XGBClassifier(**XGBOOST).fit(X, y > 0),
        "xgboost multiclass": lambda: XGBClassifier(**XGBOOST).fit(X, np.digitize(y, [-0.5, 0.5])),
        "xgboost dart": lambda: XGBRegressor(**XGBOOST, booster="dart", rate_drop=0.2).fit(X, y),
    }[kind]()


KINDS = [
    "lightgbm", "lightgbm binary", "lightgbm multiclass", "xgboost", "xgboost binary", "xgboost multiclass",
    "xgboost dart",
]  # fmt: skip
MULTICLASS = ["lightgbm multiclass", "xgboost multiclass"]


@pytest.fixture(scope="module")
def models(rows):
    made = {}
    return lambda kind: made[kind] if kind in made else made.setdefault(kind, fitted(kind, rows))


def ready(model, **options):
    """An explainer whose engine answers, also where the library would be quicker."""
    return TreeExplainer(model, **options).prepare(1)


def tolerance(model):
    """XGBoost's own attributions are in single precision."""
    return 1e-10 if "lightgbm" in type(model).__module__ else 2e-6


def same(found, expected):
    """Equal up to rounding: the engine may take another way for another number of rows."""
    return np.allclose(found, expected, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------------ as shap has it
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_shap(models, rows, kind):
    X, _ = rows
    model = models(kind)
    ours, theirs = ready(model), shap.TreeExplainer(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LightGBM binary classifier")
        expected = theirs.shap_values(X)
        explanation = theirs(X)
    values = ours.shap_values(X)
    assert values.shape == expected.shape
    assert values.dtype == np.float64
    assert np.allclose(values, expected, rtol=0, atol=tolerance(model))
    assert np.allclose(ours.expected_value, theirs.expected_value, rtol=0, atol=tolerance(model))
    assert isinstance(ours.expected_value, float) == (values.ndim == 2)
    found = ours(X)
    assert isinstance(found, shap.Explanation)
    assert same(found.values, values)
    assert found.base_values.shape == explanation.base_values.shape
    assert np.allclose(found.base_values, explanation.base_values, rtol=0, atol=tolerance(model))
    assert found.data is X or np.array_equal(found.data, X, equal_nan=True)
    assert found.display_data is None
    assert found.feature_names == [f"Feature {j}" for j in range(X.shape[1])]


@pytest.mark.parametrize("kind", ["lightgbm", "lightgbm forest", "lightgbm ranker", "xgboost", "xgboost multiclass"])
def test_what_it_gives_adds_up_to_the_raw_score(models, rows, kind):
    X, _ = rows
    model = models(kind)
    values, base_value = tree_shap(model, X)
    path, path_base = tree_path(model, X)
    if "lightgbm" in kind:
        score = model.predict(X, raw_score=True) / (12 if "forest" in kind else 1)  # the library gives a forest's sum
    else:
        score = model.predict(X, output_margin=True)
    for found, base in ((values, base_value), (path, path_base)):
        assert np.allclose(base + found.sum(axis=1), score, rtol=0, atol=tolerance(model))
    assert path.shape == values.shape
    assert not np.allclose(path, values, atol=1e-3)


def test_explanations_name_features_and_classes(models, rows):
    X, _ = rows
    model = models("lightgbm multiclass")
    assert ready(model)(X[:3]).output_names == ["low", "mid", "top"]
    assert ready(model)(pd.DataFrame(X[:3], columns=NAMES)).feature_names == NAMES
    assert ready(model, feature_names=NAMES)(X[:3]).feature_names == NAMES
    named = LGBMRegressor(**LIGHTGBM).fit(pd.DataFrame(X, columns=NAMES), X[:, 2] > 0)
    assert ready(named)(X[:3]).feature_names == NAMES


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_categories(adult, kind):
    """Frames are encoded as the model's own library encodes them; explanations show codes, and categories beside them."""
    table, income = adult
    table = table.astype({name: "category" for name in table.select_dtypes(exclude="number")})
    y = income == income[0]
    if kind == "lightgbm":
        model = LGBMClassifier(**LIGHTGBM).fit(table, y)
        own = model.booster_.predict(table, pred_contrib=True)
    else:
        model = XGBClassifier(**XGBOOST, enable_categorical=True).fit(table, y)
        own = model.get_booster().predict(xgboost.DMatrix(table, enable_categorical=True), pred_contribs=True)
    explainer = ready(model)
    explanation = explainer(table)
    assert np.allclose(explanation.values, own[:, :-1], rtol=0, atol=tolerance(model))
    assert explanation.data.dtype == np.float64
    column = list(table.columns).index("sex")
    assert set(explanation.display_data[:, column]) == set(table["sex"])
    assert same(explainer.shap_values(pl.from_pandas(table)), explanation.values)
    assert same(explainer.shap_values(explanation.data), explanation.values)  # an array holds codes
    shap.plots.waterfall(explanation[0], show=False)
    shap.plots.beeswarm(explanation, show=False)
    plt.close("all")


# ------------------------------------------------------------------------------------------------------- tables of all kinds
TABLES = {
    "float64": lambda X: X,
    "Fortran order": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "reversed": lambda X: X[:, ::-1].copy()[:, ::-1],
    "read-only": lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
    "big-endian": lambda X: X.astype(">f8"),
    "objects": lambda X: X.astype(object),
    "masked": np.ma.masked_invalid,
    "lists": lambda X: X.tolist(),
    "pandas": lambda X: pd.DataFrame(X, columns=NAMES),
    "pandas nullable": lambda X: pd.DataFrame(X, columns=NAMES).astype("Float64"),
    "pandas index": lambda X: pd.DataFrame(X, columns=NAMES, index=np.arange(len(X))[::-1] / 2),
    "polars": lambda X: pl.DataFrame(X, schema=NAMES),
    "polars nulls": lambda X: pl.DataFrame(X, schema=NAMES).fill_nan(None),
    "pyarrow": lambda X: pa.table(pd.DataFrame(X, columns=NAMES)),
}


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost multiclass"])
@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_any_kind_gives_the_same(models, rows, kind, table, monkeypatch):
    monkeypatch.setattr(row_intake, "BLOCK", 4 * 77)  # several blocks
    X, _ = rows
    explainer = ready(models(kind))
    expected = explainer.shap_values(X)
    assert same(explainer.shap_values(TABLES[table](X)), expected)
    assert same(explainer(TABLES[table](X)).values, expected)
    assert same(explainer.shap_values(explainer.transform(TABLES[table](X))), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, bool, np.float32, np.float16])
@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_numbers_of_other_types(models, rows, kind, dtype):
    X = np.abs(np.nan_to_num(rows[0])).astype(dtype)
    explainer = ready(models(kind))
    assert same(explainer.shap_values(X), explainer.shap_values(X.astype(np.float64)))


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_array])
@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_where_a_sparse_matrix_has_no_entry(models, rows, kind, form, monkeypatch):
    """LightGBM reads zero there, XGBoost a missing value; both read a zero that is stored as zero."""
    monkeypatch.setattr(row_intake, "BLOCK", 4 * 77)
    X, _ = rows
    dense = np.where(np.abs(np.nan_to_num(X)) < 0.5, 0.0, np.nan_to_num(X))
    stored = scipy.sparse.csr_matrix(np.where(np.arange(len(X))[:, None] < 9, dense + 1.0, dense))
    stored.data[stored.data == 1.0] = 0.0
    meant = stored.toarray()
    if kind == "xgboost":
        meant[meant == 0.0] = np.nan
        meant[:9][dense[:9] == 0.0] = 0.0
    model = models(kind)
    explainer = ready(model)
    assert same(explainer.shap_values(form(stored)), explainer.shap_values(meant))
    assert np.allclose(model.predict(stored), model.predict(meant))
    assert explainer(form(stored)).values.shape == X.shape


def test_missing_of_an_xgboost_estimator(rows):
    X, y = rows
    coded = np.where(np.isnan(X), -9.0, X)
    model = XGBRegressor(**XGBOOST, missing=-9.0).fit(coded, y)
    explainer = ready(model)
    own = shap.TreeExplainer(model).shap_values(coded)
    for table in (coded, coded.astype(np.float32), pd.DataFrame(coded)):
        assert np.allclose(explainer.shap_values(table), own, rtol=0, atol=2e-6)
    assert np.allclose(explainer(coded).values, own, rtol=0, atol=2e-6)


def test_rows_come_one_by_one_or_together(models, rows):
    X, _ = rows
    explainer = ready(models("xgboost multiclass"))
    values = explainer.shap_values(X)
    assert same(np.concatenate([explainer.shap_values(X[i : i + 1]) for i in range(50)]), values[:50])
    assert explainer.shap_values(X[:0]).shape == (0, 4, 3)
    assert explainer.shap_values(pd.DataFrame(X[:0])).shape == (0, 4, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_read_where_it_lies(models, dtype, order):
    """No float64 copy of the table: what is allocated beside the codes is a fraction of it."""
    X = np.random.default_rng(0).normal(size=(60_000, 4)).astype(dtype, order=order)
    explainer = ready(models("lightgbm"))
    explainer.transform(X[:10])
    tracemalloc.start()
    explainer.transform(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.size * 8 / 2


# ------------------------------------------------------------------------------------------------------------ pre-binned rows
def test_codes_stand_for_the_table(models, rows):
    X, _ = rows
    explainer = ready(models("lightgbm"))
    codes = explainer.transform(X)
    assert isinstance(codes, Codes)
    assert codes.array.dtype.itemsize == 1
    assert codes.array.flags.f_contiguous
    assert (len(codes), codes.shape, codes.nbytes) == (300, (300, 4), 1200)
    values = explainer.shap_values(X)
    assert same(explainer.shap_values(codes, check_additivity=True), values)
    assert same(explainer(codes).values, values)
    chosen = np.array([5, 3, 200])
    for part in (slice(10, 90), X[:, 0] > 0, chosen):
        assert same(explainer.shap_values(codes[part]), values[part])
    assert explainer.transform(codes) is codes
    again = pickle.loads(pickle.dumps(codes))
    assert same(pickle.loads(pickle.dumps(explainer)).shap_values(again), values)
    # the numbers themselves are a table like any other
    assert not np.allclose(explainer.shap_values(codes.array), values)
    with pytest.raises(TypeError, match="rows must be a slice"):
        codes[3]


def test_codes_of_another_model_are_refused(models, rows):
    X, y = rows
    explainer = ready(models("lightgbm"))
    codes = explainer.transform(X)
    with pytest.raises(ValueError, match="X must hold codes of this explainer's model, got codes of another"):
        ready(LGBMRegressor(**LIGHTGBM).fit(X, -(y**2))).shap_values(codes)
    wild = Codes(np.full((2, 4), 255, np.uint8), codes.digest)
    with pytest.raises(ValueError, match="X must hold codes below"):
        explainer.shap_values(wild)
    for bad in (np.zeros((2, 3), np.uint8), np.zeros((2, 4), np.int64)):
        with pytest.raises(ValueError, match="X must hold codes of shape"):
            explainer.shap_values(Codes(bad, codes.digest))


# -------------------------------------------------------------------------------------------------------------------- results
@pytest.mark.parametrize("kind", ["lightgbm", *MULTICLASS])
def test_out(models, rows, kind, tmp_path):
    X, _ = rows
    explainer = ready(models(kind))
    values = explainer.shap_values(X)
    for out in (
        np.full(values.shape, np.nan),
        np.full(values.shape, np.nan, order="F"),
        np.full((2, *values.shape), np.nan)[1],
        np.full((600, *values.shape[1:]), np.nan)[::2],
    ):
        assert explainer.shap_values(X, out=out) is out
        assert same(out, values)
    on_disk = np.memmap(tmp_path / "values", dtype=np.float32, mode="w+", shape=values.shape)
    for start in range(0, 300, 90):
        explainer.shap_values(X[start : start + 90], out=on_disk[start : start + 90])
    assert np.allclose(on_disk, values, atol=1e-6)
    on_disk.flush()


def test_bad_out_is_refused(models, rows):
    X, _ = rows
    explainer = ready(models("lightgbm"))
    with pytest.raises(TypeError, match="out must be an array of float64 or float32, got of int64"):
        explainer.shap_values(X, out=np.zeros(X.shape, int))
    with pytest.raises(TypeError, match="out must be an array of float64 or float32, got list"):
        explainer.shap_values(X, out=[])
    with pytest.raises(ValueError, match=r"out must be writeable and have shape \(300, 4\), got shape \(4, 300\)"):
        explainer.shap_values(X, out=np.zeros(X.T.shape))
    locked = np.zeros(X.shape)
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="which is read-only"):
        explainer.shap_values(X, out=locked)


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost multiclass"])
def test_precision_and_threads(models, rows, kind):
    X, _ = rows
    values = ready(models(kind)).shap_values(X)
    assert np.allclose(ready(models(kind), precision="fast").shap_values(X), values, rtol=0, atol=1e-5)
    for n_jobs in (2, -1):
        assert np.allclose(ready(models(kind), n_jobs=n_jobs).shap_values(X), values, rtol=0, atol=1e-13)
    assert np.allclose(ready(models(kind), table_memory=1).shap_values(X), values, rtol=0, atol=1e-13)


# -------------------------------------------------------------------------------------------------------------- which rounds
def test_n_iterations(models, rows):
    X, _ = rows
    model = models("lightgbm")
    few = ready(model, n_iterations=3)
    expected = model.booster_.predict(X, pred_contrib=True, num_iteration=3)
    assert np.allclose(few.shap_values(X, check_additivity=True), expected[:, :-1], rtol=0, atol=1e-12)
    assert np.allclose(tree_shap(model, X[:2], n_iterations=3)[0], expected[:2, :-1], rtol=0, atol=1e-12)
    xgb = models("xgboost multiclass")
    expected = xgb.get_booster().predict(xgboost.DMatrix(X), pred_contribs=True, iteration_range=(0, 3))
    found, base_value = tree_shap(xgb, X, n_iterations=3)
    assert np.allclose(found, expected[:, :, :-1].transpose(0, 2, 1), rtol=0, atol=2e-6)
    assert np.allclose(base_value, expected[0, :, -1], rtol=0, atol=2e-6)
    path, base_value = tree_path(xgb, X, n_iterations=3)
    margin = xgb.predict(X, output_margin=True, iteration_range=(0, 3))
    assert np.allclose(base_value + path.sum(axis=1), margin, rtol=0, atol=2e-6)


def test_best_iteration(rows):
    """An estimator stops at its best iteration; a bare Booster explains what its own predict uses."""
    X, y = rows
    noise = np.random.default_rng(1).normal(size=60)
    model = XGBRegressor(**{**XGBOOST, "n_estimators": 40}, early_stopping_rounds=3)
    model.fit(X, y, eval_set=[(X[:60], noise)], verbose=False)
    booster = model.get_booster()
    assert model.best_iteration + 1 < booster.num_boosted_rounds()
    for asked, score in ((model, model.predict(X)), (booster, booster.predict(xgboost.DMatrix(X)))):
        values, base_value = tree_shap(asked, X)
        assert np.allclose(base_value + values.sum(axis=1), score, rtol=0, atol=2e-6)

    data = lightgbm.Dataset(X, y, free_raw_data=False)
    booster = lightgbm.train(
        {**LIGHTGBM, "n_estimators": 40},
        data,
        valid_sets=[lightgbm.Dataset(X[:60], noise, reference=data)],
        callbacks=[lightgbm.early_stopping(3, verbose=False)],
        keep_training_booster=True,
    )
    assert booster.best_iteration < booster.current_iteration()
    explainer = ready(booster)
    values = explainer.shap_values(X)
    assert np.allclose(explainer.expected_value + values.sum(axis=1), booster.predict(X))
    # LightGBM's own deep copy forgets the best iteration
    assert np.allclose(copy.deepcopy(explainer).shap_values(X), values)


# --------------------------------------------------------------------------------------------------------------- completeness
@pytest.fixture
def broken(monkeypatch):
    """An engine whose attributions of the first feature are off by 0.01."""
    attributions = TreeShap.attributions

    def off(self, codes, **options):
        found = attributions(self, codes, **options)
        found[:, :, 0] += 0.01
        return found

    monkeypatch.setattr(TreeShap, "attributions", off)


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost multiclass"])
@pytest.mark.usefixtures("broken")
def test_what_does_not_add_up_is_refused(models, rows, kind):
    X, _ = rows
    for table in (X, X[:1], ready(models(kind)).transform(X)):
        with pytest.raises(ValueError, match="must add up to the model's own raw score, got a gap of"):
            ready(models(kind)).shap_values(table)
    explainer = ready(models(kind))
    assert explainer.shap_values(X, check_additivity=False).shape[:2] == X.shape
    with pytest.raises(ValueError, match="must add up"):
        explainer.shap_values(X)


def test_only_the_first_call_is_checked_unless_asked(models, rows, monkeypatch):
    X, _ = rows
    explainer = ready(models("xgboost"))
    library = explainer._fitted.library
    asked = []
    raw_score = library.raw_score
    monkeypatch.setattr(library, "raw_score", lambda model, x, **o: asked.append(len(x)) or raw_score(model, x, **o))
    for _ in range(3):
        explainer.shap_values(X)
    assert asked == [fitted_model.CHECKED]
    explainer.shap_values(X, check_additivity=True)
    assert asked == [fitted_model.CHECKED, len(X)]


def test_a_row_whose_score_is_near_zero_passes():
    """What counts as a gap is measured by the size of what is summed, not by a score that happens to vanish."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    model = XGBRegressor(**XGBOOST).fit(X, 1000 * np.sign(X[:, 0]) - 1000 * np.sign(X[:, 1]))
    nearest = X[[np.abs(model.predict(X)).argmin()]]
    ready(model).shap_values(nearest)


# ----------------------------------------------------------------------------------------------------------------- small jobs
def test_a_small_job_of_lightgbm_is_the_librarys_own(models, rows):
    X, _ = rows
    model = models("lightgbm multiclass")
    explainer = TreeExplainer(model)
    assert explainer.plan_ is None
    own = model.booster_.predict(X[:2], pred_contrib=True).reshape(2, 3, 5)
    assert np.array_equal(explainer.shap_values(X[:2]), own[:, :, :-1].transpose(0, 2, 1))
    assert explainer.plan_ == LibraryCall("lightgbm", 2)
    assert np.array_equal(explainer.expected_value, own[0, :, -1])
    assert np.array_equal(explainer(pd.DataFrame(X[:1])).values, own[:1, :, :-1].transpose(0, 2, 1))
    explainer.prepare()
    assert np.allclose(explainer.shap_values(X[:2]), own[:, :, :-1].transpose(0, 2, 1), rtol=0, atol=1e-12)
    assert not isinstance(explainer.plan_, LibraryCall)
    assert np.array_equal(explainer.expected_value, own[0, :, -1])  # it never changes


@pytest.mark.parametrize("wrong", [1e-9, np.nan])
def test_what_the_library_says_inexactly_is_not_passed_on(models, rows, monkeypatch, wrong):
    """Its algorithm loses digits on long paths, and says NaN where covers are zero; the engine does neither."""
    X, _ = rows
    exact = ready(models("lightgbm"))
    explainer = TreeExplainer(models("lightgbm"))
    library = explainer._fitted.library
    native = library.native_attributions
    monkeypatch.setattr(library, "native_attributions", lambda *a, **o: (native(*a, **o)[0] + wrong, np.full(1, wrong)))
    assert same(explainer.shap_values(X[:2]), exact.shap_values(X[:2]))
    assert not isinstance(explainer.plan_, LibraryCall)
    assert np.isclose(explainer.expected_value, exact.expected_value, rtol=1e-12)
    monkeypatch.undo()
    explainer.shap_values(X[:1])
    assert not isinstance(explainer.plan_, LibraryCall)  # the library is not asked again


def test_many_small_jobs_wake_the_engine(models, rows):
    """What the library has been asked already counts, so that a loop over rows is not left to it for ever."""
    X, _ = rows
    explainer = TreeExplainer(models("lightgbm"))
    explainer._fitted._n_asked = 10**7
    explainer.shap_values(X[:1])
    assert not isinstance(explainer.plan_, LibraryCall)


def test_a_large_job_is_the_engines(models, rows, monkeypatch):
    X, _ = rows
    monkeypatch.setattr(TreeShap, "seconds_to_start", lambda self, n_samples: 0.0)
    monkeypatch.setattr(fitted_model, "is_warm", lambda: True)
    explainer = TreeExplainer(models("lightgbm"))
    explainer.shap_values(np.repeat(X, 20, axis=0))
    assert not isinstance(explainer.plan_, LibraryCall)
    monkeypatch.setattr(TreeShap, "seconds_to_start", lambda self, n_samples: 1e9)
    explainer = TreeExplainer(models("lightgbm"))
    explainer.shap_values(np.repeat(X, 20, axis=0))
    assert isinstance(explainer.plan_, LibraryCall)


def test_xgboost_and_codes_are_always_the_engines(models, rows):
    """XGBoost's own attributions are in single precision, and codes are the engine's language."""
    X, _ = rows
    explainer = TreeExplainer(models("xgboost"))
    explainer.shap_values(X[:1])
    assert not isinstance(explainer.plan_, LibraryCall)
    explainer = TreeExplainer(models("lightgbm"))
    explainer.shap_values(explainer.transform(X[:1]))
    assert not isinstance(explainer.plan_, LibraryCall)


# ----------------------------------------------------------------------------------------------------------- one and the same
@pytest.mark.parametrize("kind", ["lightgbm", "xgboost multiclass"])
def test_pickles_and_copies(rows, kind):
    X, y = rows
    model = fitted(kind, rows)
    explainer = ready(model)
    values = explainer.shap_values(X)
    for twin in (pickle.loads(pickle.dumps(explainer)), copy.copy(explainer), copy.deepcopy(explainer)):
        assert np.allclose(twin.shap_values(X), values, rtol=0, atol=1e-12)
        assert np.array_equal(twin.expected_value, explainer.expected_value)
        assert same(twin.prepare().shap_values(X), values)
    late = TreeExplainer(model)
    model.fit(X, np.digitize(-(y**2), [-1, -0.1]) if "multiclass" in kind else -(y**2))
    assert np.allclose(late.prepare().shap_values(X), values, rtol=0, atol=1e-12)  # a later fit is not followed


def test_repr(models, rows):
    X, _ = rows
    explainer = TreeExplainer(models("lightgbm multiclass"), n_jobs=2)
    assert repr(explainer) == (
        "TreeExplainer(lightgbm multiclass: 12 rounds, 4 features, 3 outputs; n_jobs=2, precision='float64', plan=None)"
    )
    explainer.prepare().shap_values(X)
    assert repr(explainer).startswith("TreeExplainer(lightgbm multiclass: 36 trees, 4 features, 3 outputs; n_jobs=2,")
    assert repr(explainer.plan_) in repr(explainer)
    codes = explainer.transform(X)
    assert repr(codes) == f"Codes(shape=(300, 4), dtype=uint8, digest={codes.digest[:8]!r})"


def test_the_trees_are_read_once(models, rows, monkeypatch):
    X, _ = rows
    model = models("xgboost")
    explainer = TreeExplainer(model)
    library = explainer._fitted.library
    parsed = []
    parse = library.parse
    monkeypatch.setattr(library, "parse", lambda model, **options: parsed.append(1) or parse(model, **options))
    explainer.shap_values(X)
    explainer.shap_values(pd.DataFrame(X))
    explainer.transform(X)
    assert explainer.expected_value
    assert len(parsed) == 1


def test_the_public_names_and_a_few_rows_load_no_heavy_library():
    """The door needs neither torch, nor numba, shap or a booster before it is used; a few rows of LightGBM need no numba."""
    code = (
        "import sys, sklearn.base, gbdt2nn; gbdt2nn.TreeExplainer, gbdt2nn.tree_shap, gbdt2nn.tree_path;"
        "print(sorted({'torch', 'numba', 'shap', 'lightgbm', 'xgboost'} & set(sys.modules)));"
        "import lightgbm, numpy as np; X = np.random.default_rng(0).normal(size=(200, 3));"
        "booster = lightgbm.train({'verbosity': -1, 'num_threads': 1}, lightgbm.Dataset(X, X[:, 0]), 5);"
        "gbdt2nn.tree_shap(booster, X[:20]);"
        "print(sorted({'torch', 'numba', 'shap', 'xgboost'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["[]", "[]"]
    assert gbdt2nn.TreeExplainer is TreeExplainer


# ------------------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": np.zeros((5, 4))}, NotImplementedError, "data must be None.*use shap.TreeExplainer"),
        ({"feature_perturbation": "interventional"}, NotImplementedError, "feature_perturbation 'tree_path_dependent'"),
        ({"feature_perturbation": "other"}, ValueError, "feature_perturbation must be one of"),
        ({"model_output": "probability"}, NotImplementedError, "model_output must be 'raw', got 'probability'"),
        ({"feature_names": ["a"]}, ValueError, "feature_names must hold a name for each of the 4 features"),
        ({"n_iterations": 0}, ValueError, "n_iterations must be an integer of at least 1 or None, got 0"),
        ({"n_iterations": 2.5}, TypeError, "n_iterations must be an integer"),
        ({"n_iterations": 13}, ValueError, "n_iterations"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be positive, or negative"),
        ({"n_jobs": None}, TypeError, "n_jobs must be an integer"),
        ({"precision": "float32"}, ValueError, "precision must be one of"),
        ({"table_memory": 0}, ValueError, "table_memory must be an integer of at least 1"),
    ],
)
@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_bad_options_are_refused_at_construction(models, kind, options, error, message):
    with pytest.raises(error, match=message):
        TreeExplainer(models(kind), **options)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (LGBMRegressor(), ValueError, "model must be fitted, got a LGBMRegressor that is not"),
        (XGBRegressor(), ValueError, "model must be fitted, got a XGBRegressor that is not"),
        ("lightgbm", TypeError, "model must be an estimator of LightGBM"),
        (np.zeros(3), TypeError, "model must be an estimator of LightGBM"),
    ],
)
def test_what_is_no_fitted_model_is_refused(model, error, message):
    for ask in (TreeExplainer, lambda m: tree_shap(m, np.zeros((1, 1))), lambda m: tree_path(m, np.zeros((1, 1)))):
        with pytest.raises(error, match=message):
            ask(model)


def test_models_that_have_no_tree_attributions_are_refused(rows):
    X, y = rows
    X = np.nan_to_num(X)
    linear = LGBMRegressor(**LIGHTGBM, linear_tree=True).fit(X, y)
    with pytest.raises(ValueError, match="linear_tree must be False for a model"):
        TreeExplainer(linear)
    with pytest.raises(ValueError, match="booster must be 'gbtree' or 'dart' for a model"):
        TreeExplainer(XGBRegressor(booster="gblinear", n_estimators=2).fit(X, y))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"approximate": True}, r"approximate must be left at its default, got True: gbdt2nn.tree_path\(model, X\)"),
        ({"tree_limit": 3}, "tree_limit must be left at its default, got 3: say n_iterations"),
        ({"y": [1.0]}, "y must be left at its default"),
    ],
)
def test_what_shap_does_beside_is_refused_by_name(models, rows, arguments, message):
    X, _ = rows
    explainer = TreeExplainer(models("lightgbm"))
    with pytest.raises(NotImplementedError, match=message):
        explainer.shap_values(X, **arguments)
    with pytest.raises(NotImplementedError, match="interactions must be left at its default"):
        explainer(X, interactions=True)
    with pytest.raises(NotImplementedError, match="interactions must be left at its default"):
        explainer.shap_interaction_values(X)


BAD_TABLES = {
    "too narrow": (lambda X: X[:, :3], ValueError, "X must have the 4 features that the model was trained with, got 3"),
    "too wide": (lambda X: pd.DataFrame(np.hstack([X, X])), ValueError, "X must have the 4 features .* got 8"),
    "narrow lists": (lambda X: X[:, :3].tolist(), ValueError, "X has 3 features"),
    "one row": (lambda X: X[0], ValueError, "X must have shape"),
    "three axes": (lambda X: X[None], ValueError, "X must have shape"),
    "a Series": (lambda X: pd.Series(X[:, 0]), TypeError, "X must be a table"),
    "a scalar": (lambda X: 3.0, ValueError, "X must have shape"),
    "None": (lambda X: None, (ValueError, TypeError), "X must"),
    "ragged": (lambda X: [[1.0, 2.0], [3.0]], ValueError, "X: "),
    "complex": (lambda X: X.astype(complex), ValueError, "X must hold real numbers"),
    "text": (lambda X: X.astype(str), ValueError, "X must hold numbers when X is an array, got text"),
    "text in a list": (lambda X: [["1", "2", "3", "4"]], ValueError, "X must hold numbers"),
    "text in a frame": (
        lambda X: pd.DataFrame(X, columns=NAMES).assign(b="red"), TypeError, "X: Column 'b' must hold numbers",
    ),
    "dates": (
        lambda X: pd.DataFrame(X, columns=NAMES).assign(b=pd.Timestamp("2020-01-01")), TypeError, "X: Column 'b'",
    ),
    "other order": (lambda X: pd.DataFrame(X, columns=NAMES[::-1]), ValueError, "X: The feature names should match"),
    "other names": (lambda X: pl.DataFrame(X, schema=list("abcz")), ValueError, "X: The feature names should match"),
    "DMatrix": (lambda X: xgboost.DMatrix(X), TypeError, "X must be the array or frame itself, got a xgboost.DMatrix"),
    "Dataset": (lambda X: lightgbm.Dataset(X), TypeError, "X must be the array or frame itself, got a lightgbm.Dataset"),
    "lazy": (lambda X: pl.LazyFrame(X, schema=NAMES), TypeError, "X must hold its rows in memory"),
    "records": (lambda X: np.zeros(3, dtype=[("a", float)]), TypeError, "X must be a plain array"),
}  # fmt: skip


@pytest.mark.parametrize("table", BAD_TABLES)
@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_a_table_that_does_not_fit_is_refused_and_named(rows, table, library):
    X, y = rows
    make, error, message = BAD_TABLES[table]
    frame = pd.DataFrame(X, columns=NAMES)
    model = LGBMRegressor(**LIGHTGBM).fit(frame, y) if library == "lightgbm" else XGBRegressor(**XGBOOST).fit(frame, y)
    explainer = TreeExplainer(model)
    for ask in (explainer.shap_values, explainer, explainer.transform, lambda X: tree_path(model, X)):
        with pytest.raises(error, match=message):
            ask(make(X))


def test_an_xgboost_category_that_training_did_not_see_is_refused(rows):
    X, y = rows
    table = pd.DataFrame(X, columns=NAMES).assign(d=pd.Categorical.from_codes(np.arange(300) % 3, ["x", "y", "z"]))
    explainer = ready(XGBRegressor(**XGBOOST, enable_categorical=True).fit(table, y))
    with pytest.raises(ValueError, match="X: Column 'd' must hold the categories known from training, got 'w'"):
        explainer.shap_values(table.assign(d="w"))
    with pytest.raises(ValueError, match="X: Column 'd' must hold category codes from 0 to 2, got 5"):
        explainer.shap_values(np.full((2, 4), 5.0))


def test_infinity(models, rows):
    """Both libraries' estimators predict on it, so it is explained."""
    X = rows[0][:8].copy()
    X[0, 0], X[1, 1], X[2, 2] = np.inf, -np.inf, 1e300
    for kind in ("lightgbm", "xgboost"):
        model = models(kind)
        explainer = ready(model)
        with np.errstate(over="ignore"):
            values = explainer.shap_values(X, check_additivity=True)
            assert np.allclose(explainer.expected_value + values.sum(axis=1), model.predict(X), atol=tolerance(model))
