"""Answers in less than double precision: the student's own to their rounding, and complete whatever the precision."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import gbdt2nn
from gbdt2nn import Gbdt2NNClassifier, Gbdt2NNRegressor, compiled_batch
from gbdt2nn.batch_kernel import activate, activate_bfloat16, enter
from gbdt2nn.options import trains_in_bfloat16

TREES = {"n_estimators": 30, "num_leaves": 15, "min_child_samples": 5, "verbosity": -1, "n_jobs": 1}
REDUCED = ("float32", "fast")
# the largest error against float64 that is let pass, in standard deviations of the score: of raw scores and of attributions
BOUND = {"float32": 5e-6, "bfloat16": 2e-2}
# and its root mean square
MEAN_BOUND = {"float32": 1e-6, "bfloat16": 3e-3}
HAS_BFLOAT16 = trains_in_bfloat16("auto", "cpu")


def table(n=600, seed=0):
    """Numbers with gaps, whole numbers and a column of categories."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 9))
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    X = pd.DataFrame(numbers, columns=[f"n{j}" for j in range(9)])
    X["whole"] = rng.integers(0, 5, n)
    X["colour"] = pd.Categorical(rng.choice(["red", "green", "blue"], n))
    y = X["n0"].fillna(0) * X["n1"].fillna(1) + X["n2"].fillna(0) + X["whole"] + 2 * (X["colour"] == "red")
    return X, y.to_numpy()


def fit(task="regression", student="self_explaining", **options):
    X, y = table()
    params = {"self_explaining": {"width": 40, "depth": 3}, "mlp": {"width": 24, "depth": 2}}.get(student)
    own = {
        "student": student,
        "student_params": params,
        "max_steps": 60,
        "n_synthetic": 500,
        "n_jobs": 1,
        "device": "cpu",
    }
    own |= {"random_state": 0, **options}
    if task == "regression":
        return Gbdt2NNRegressor(LGBMRegressor(**TREES), **own).fit(X, y)
    edges = {"binary": [2.0], "multiclass": [1.0, 2.0, 3.0]}[task]
    return Gbdt2NNClassifier(LGBMClassifier(**TREES), **own).fit(X, np.digitize(y, edges))


@pytest.fixture(scope="module")
def regressor():
    return fit()


@pytest.fixture(scope="module")
def multiclass():
    return fit("multiclass")


@pytest.fixture(scope="module", params=["regression", "binary", "multiclass", "tables", "multiclass tables"])
def model(request, regressor, multiclass):
    ready = {"regression": regressor, "multiclass": multiclass}
    if request.param in ready:
        return ready[request.param]
    if request.param == "binary":
        return fit("binary")
    return fit(request.param.split()[0].replace("tables", "regression"), "interaction_tables")


def answers(model, precision, X=None):
    return model.distilled_.student_explained(table(1500, seed=1)[0] if X is None else X, precision=precision)


class TestAnswers:
    @pytest.mark.parametrize("precision", REDUCED)
    def test_error_against_float64_is_within_the_stated_bound(self, model, precision):
        score, attribution = answers(model, "float64")
        found_score, found = answers(model, precision)
        unit = score.std(0)
        inside = model.set_params(precision=precision).network_precision_
        model.set_params(precision="float64")
        for gap in (np.abs(found_score - score) / unit, np.abs(found - attribution) / unit[:, None]):
            assert gap.max() < BOUND[inside]
            assert np.sqrt((gap**2).mean()) < MEAN_BOUND[inside]
        # and it is another computation: equal numbers would mean that the argument is not heard
        assert np.abs(found - attribution).max() > 0
        assert found.dtype == found_score.dtype == np.float64

    @pytest.mark.parametrize("precision", REDUCED)
    def test_attributions_add_up_to_the_score(self, model, precision):
        score, attribution = answers(model, precision)
        gap = np.abs(model.base_value_ + attribution.sum(2) - score)
        # both sums are in double precision; only their order may differ
        assert gap.max() <= 1e-13 * np.abs(score).max()
        alone, none = model.distilled_.student_explained(table(1500, seed=1)[0], explain=False, precision=precision)
        assert none is None
        np.testing.assert_array_equal(alone, score)

    @pytest.mark.parametrize("precision", REDUCED)
    def test_unused_features_get_exactly_zero(self, model, precision):
        unused = ~(model.student_.tables.used.numpy() > 0)
        assert (answers(model, precision)[1][:, unused] == 0).all()

    @pytest.mark.parametrize("precision", REDUCED)
    def test_a_row_alone_gets_what_it_gets_among_others(self, model, precision):
        X = table(1100, seed=2)[0]  # more rows than a block
        score = answers(model, precision, X)[0]
        inside = "bfloat16" if precision == "fast" and HAS_BFLOAT16 else "float32"
        for rows in (slice(0, 1), slice(5, 8), slice(1020, 1028), slice(1099, 1100)):
            alone = answers(model, precision, X.iloc[rows])[0]
            assert (np.abs(alone - score[rows]) / score.std(0)).max() < BOUND[inside]

    def test_several_threads(self, multiclass):
        X = table(2600, seed=9)[0]  # more than a block of two threads
        score, attribution = answers(multiclass, "fast", X)
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            found, shares = answers(multiclass, "fast", X)
        finally:
            torch.set_num_threads(threads)
        assert np.abs(found - score).max() < BOUND["bfloat16"] * score.std()
        assert np.abs(shares - attribution).max() < BOUND["bfloat16"] * score.std()
        gap = np.abs(multiclass.base_value_ + shares.sum(2) - found)
        assert gap.max() <= 1e-13 * np.abs(found).max()

    def test_views_follow_the_parameter(self, regressor):
        X = table(200, seed=3)[0]
        exact = regressor.predict(X)
        fast = copy.deepcopy(regressor).set_params(precision="fast")
        score, attribution = fast.distilled_.student_explained(X, precision="fast")
        np.testing.assert_array_equal(fast.predict(X), score[:, 0])
        np.testing.assert_array_equal(fast.explain(X).values, attribution[:, 0])
        assert (fast.predict(X) != exact).any()
        np.testing.assert_array_equal(regressor.predict(X), exact)
        # fidelity on rows is of the model as it answers
        assert gbdt2nn.fidelity(fast, X)["score_r2"] != gbdt2nn.fidelity(regressor, X)["score_r2"]

    def test_rows_without_any(self, regressor):
        model = compiled_batch.CompiledBatch(regressor.student_, bfloat16=False)
        score, attribution = model(np.empty((0, 11), np.uint8))
        assert score.shape == (0, 1)
        assert attribution.shape == (0, 1, 11)


class TestPredictExplain:
    @pytest.mark.parametrize("precision", compiled_batch.PRECISIONS)
    def test_is_prediction_and_explanation(self, model, precision):
        X = table(50, seed=4)[0]
        model.set_params(precision=precision)
        prediction, attribution = model.predict_explain(X)
        expected = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
        np.testing.assert_allclose(prediction, expected, rtol=1e-12)
        np.testing.assert_array_equal(attribution, model.explain(X).values)
        model.set_params(precision="float64")

    def test_refuses(self):
        with pytest.raises(NotFittedError):
            Gbdt2NNRegressor().predict_explain(np.zeros((2, 2)))
        with pytest.raises(ValueError, match="predict_explain needs a student that was taught explanations"):
            fit(explanation_weight=0.0, max_steps=5).predict_explain(table(5)[0])


class TestPrecisionIsSaid:
    def test_by_an_attribute(self, regressor):
        model = copy.deepcopy(regressor)
        said = {name: model.set_params(precision=name).network_precision_ for name in compiled_batch.PRECISIONS}
        assert said == {"float64": "float64", "float32": "float32", "fast": "bfloat16" if HAS_BFLOAT16 else "float32"}

    def test_without_bfloat16(self, regressor, monkeypatch):
        """A processor that multiplies no such numbers: "fast" is "float32", and says so."""
        monkeypatch.setattr(compiled_batch, "trains_in_bfloat16", lambda precision, device: False)
        model = copy.deepcopy(regressor).set_params(precision="fast")
        X = table(100, seed=5)[0]
        assert model.network_precision_ == "float32"
        np.testing.assert_array_equal(model.predict(X), copy.deepcopy(model).set_params(precision="float32").predict(X))

    def test_bfloat16_is_a_computation_of_its_own(self, regressor):
        """Emulated where the processor has none: torch multiplies either way."""
        codes = regressor.distilled_.background
        single, half = (compiled_batch.CompiledBatch(regressor.student_, bfloat16=b)(codes)[0] for b in (False, True))
        assert (single != half).any()
        assert np.abs(single - half).max() < BOUND["bfloat16"] * single.std()

    @pytest.mark.parametrize("student", ["mlp", "leaf_embedding"])
    def test_other_students_are_cast(self, student):
        model = fit(student=student, max_steps=10, n_synthetic=0)
        score, attribution = answers(model, "float64")
        for precision in REDUCED:
            found, shares = answers(model, precision)
            assert model.set_params(precision=precision).network_precision_ == "float32"
            assert 0 < (np.abs(found - score) / score.std(0)).max() < BOUND["float32"]
            if attribution is not None:
                assert (np.abs(shares - attribution) / score.std()).max() < BOUND["float32"]

    @pytest.mark.parametrize("value", ["float16", "Fast", None, 32])
    def test_unknown_ones_are_refused_before_and_after_the_fit(self, regressor, value):
        with pytest.raises((ValueError, TypeError), match="precision must be"):
            Gbdt2NNRegressor(precision=value).fit(*table(50))
        model = copy.deepcopy(regressor).set_params(precision=value)
        with pytest.raises((ValueError, TypeError), match="precision must be"):
            model.predict(table(5)[0])


class TestCopies:
    def test_a_changed_student_answers_anew(self, regressor):
        model = copy.deepcopy(regressor)
        before = answers(model, "float32")[0]
        with torch.no_grad():
            model.student_.tables.main.add_(1.0)
        after = answers(model, "float32")[0]
        np.testing.assert_allclose(after, answers(model, "float64")[0], atol=BOUND["float32"] * after.std() * 10)
        assert (after != before).all()
        model.distilled_.student = copy.deepcopy(regressor.student_)
        np.testing.assert_array_equal(answers(model, "float32")[0], before)

    def test_online_updates_reach_the_answers(self):
        model = fit(student="leaf_embedding", max_steps=10, n_synthetic=0, precision="float32")
        X, y = table(100, seed=6)
        before = model.predict(X)
        model.partial_fit(X, y, learning_rate=0.05)
        assert (model.predict(X) != before).any()
        exact = model.distilled_.student_explained(X, explain=False)[0][:, 0]
        np.testing.assert_allclose(model.predict(X), exact, atol=1e-4)

    def test_pickled_saved_and_cloned(self, multiclass, tmp_path):
        precision = "fast"
        model = copy.deepcopy(multiclass).set_params(precision=precision)
        X = table(80, seed=7)[0]
        expected = model.predict_proba(X)  # the copy in this precision is made now, and goes nowhere
        size = len(pickle.dumps(model))
        assert size == len(pickle.dumps(copy.deepcopy(multiclass).set_params(precision=precision)))
        model.save(tmp_path / "student.gbdt2nn")
        for other in (pickle.loads(pickle.dumps(model)), gbdt2nn.load(tmp_path / "student.gbdt2nn")):
            assert other.precision == precision
            np.testing.assert_array_equal(other.predict_proba(X), expected)
        assert clone(model).precision == precision

    def test_precision_is_no_part_of_the_fit(self):
        X = table(60, seed=8)[0]
        plain, fast = fit(max_steps=10), fit(max_steps=10, precision="fast")
        np.testing.assert_array_equal(plain.predict(X), fast.set_params(precision="float64").predict(X))
        assert plain.fidelity_["score_r2"] == fast.fidelity_["score_r2"]


class TestKernels:
    """Against torch, where vectors end in the middle and numbers are extreme."""

    rng = np.random.default_rng(0)

    @pytest.mark.parametrize("width", [1, 16, 37])
    @pytest.mark.parametrize("n_features", [1, 4, 8, 9, 15])
    def test_first_layer(self, width, n_features):
        rows = np.full(n_features, 6)
        start = np.cumsum(rows) - rows
        table = self.rng.normal(size=(rows.sum(), width)).astype(np.float32)
        codes = self.rng.integers(0, 6, size=(19, n_features)).astype(np.int32)
        hidden, half = np.empty((19, width), np.float32), np.empty((19, width), np.uint16)
        enter(codes, start, table, hidden, half)
        before = torch.from_numpy(table[codes + start].astype(np.float64).sum(1))
        np.testing.assert_allclose(hidden, torch.nn.functional.silu(before).numpy(), rtol=2e-6, atol=2e-6)
        rounded = torch.from_numpy(hidden).bfloat16().view(torch.uint16).numpy()
        np.testing.assert_array_equal(half, rounded)
        again = np.empty_like(hidden)
        enter(codes, start, table, again, half[:0])
        np.testing.assert_array_equal(again, hidden)

    @pytest.mark.parametrize("width", [1, 16, 37])
    def test_residual_layer(self, width):
        product = self.rng.normal(size=(23, width)).astype(np.float32) * 5
        product[0], product[1], product[2] = 200.0, -200.0, 0.0  # exp of these is no normal number
        bias = self.rng.normal(size=width).astype(np.float32)
        start = self.rng.normal(size=(23, width)).astype(np.float32)
        hidden = start.copy()
        activate(product, bias, hidden)
        expected = start + torch.nn.functional.silu(torch.from_numpy(product.astype(np.float64) + bias)).numpy()
        np.testing.assert_allclose(hidden, expected, rtol=1e-6, atol=1e-5)

        rough = torch.from_numpy(product).bfloat16()
        hidden, half = start.copy(), np.empty((23, width), np.uint16)
        activate_bfloat16(rough.view(torch.uint16).numpy(), bias, hidden, half)
        expected = start + torch.nn.functional.silu(rough.double() + torch.from_numpy(bias)).numpy()
        np.testing.assert_allclose(hidden, expected, rtol=2e-4, atol=2e-4)
        np.testing.assert_array_equal(half, torch.from_numpy(hidden).bfloat16().view(torch.uint16).numpy())
