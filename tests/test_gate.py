"""Bounds on fidelity: what holds, what fails, and what is refused before anything is measured."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import gbdt2nn
from gbdt2nn import FidelityError, check_fidelity, gate
from gbdt2nn.fidelity_metrics import DESCRIPTIONS, Fidelity, measure

FOUND = {"score_r2": 0.97, "attribution_r2": 0.95, "completeness_gap": 0.25, "n_rows": 1200}


@pytest.fixture(scope="module")
def fitted():
    X, y = load_diabetes(return_X_y=True)
    options = {"max_steps": 10, "n_synthetic": 0, "n_jobs": 1, "random_state": 0}
    model = gbdt2nn.Gbdt2NNRegressor(teacher_params={"n_estimators": 5}, **options).fit(X[:200], y[:200])
    return model, X[200:], y[200:]


def test_measures_are_those_of_fidelity():
    scores = [[0.0], [1.0]]
    explained = [[[0.0]], [[1.0]]]
    found = measure(
        teacher_score=scores,
        student_score=scores,
        teacher_attribution=explained,
        student_attribution=explained,
        base_value=[0.0],
        feature_names=["a"],
        task="binary",
    )
    assert set(gate.MEASURES) == {name for name in found if name in DESCRIPTIONS}


def test_what_is_held_returns_all_that_was_measured():
    found = check_fidelity(FOUND, minimum={"score_r2": 0.97}, maximum={"completeness_gap": 0.25})  # equal is held
    assert isinstance(found, Fidelity)
    assert found == FOUND


def test_every_bound_that_is_not_held_is_listed():
    with pytest.raises(FidelityError) as caught:
        check_fidelity(FOUND, minimum={"score_r2": 0.9, "attribution_r2": 0.99}, maximum={"completeness_gap": 1e-6})
    assert str(caught.value) == (
        "2 of 3 bounds of fidelity are not held on 1,200 rows:\n"
        "  attribution_r2 is 0.95, must be at least 0.99\n"
        "  completeness_gap is 0.25, must be at most 1e-06"
    )
    assert isinstance(caught.value, AssertionError)
    assert [check.ok for check in caught.value.checks] == [True, False, False]
    assert caught.value.fidelity["attribution_r2"] == 0.95


def test_a_value_a_hair_below_is_not_shown_as_the_bound():
    with pytest.raises(FidelityError, match=r"score_r2 is 0\.98999999999, must be at least 0\.99"):
        check_fidelity({"score_r2": 0.98999999999}, minimum={"score_r2": 0.99})


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -float("inf"), "high", True])
@pytest.mark.parametrize("side", ["minimum", "maximum"])
def test_what_is_no_finite_number_holds_no_bound(value, side):
    bound = {"minimum": -1e9, "maximum": 1e9}[side]
    with pytest.raises(FidelityError):
        check_fidelity({"score_r2": value}, **{side: {"score_r2": bound}})


def test_what_is_absent_was_not_measured():
    with pytest.raises(FidelityError, match="decision_flip_rate was not measured, must be at most 1"):
        check_fidelity(FOUND, maximum={"decision_flip_rate": 1})


def test_numbers_of_numpy_count():
    assert check_fidelity({"score_r2": np.float64(0.5)}, minimum={"score_r2": np.float32(0.25)})


def test_the_error_survives_pickling():
    """Test runners send errors between processes."""
    with pytest.raises(FidelityError) as caught:
        check_fidelity(FOUND, minimum={"score_r2": 1})
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == str(caught.value)
    assert error.checks == caught.value.checks


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "minimum or maximum must hold a bound, got neither"),
        ({"minimum": {}}, "got neither"),
        ({"minimum": 0.9}, "minimum must map measures to bounds, got 0.9"),
        ({"minimum": {"atribution_r2": 0.9}}, "minimum must name a measure .* did you mean 'attribution_r2'"),
        ({"maximum": {"embedding_r2": 0.9}}, "maximum must name a measure"),
        ({"maximum": {3: 0.9}}, "maximum must name a measure"),
        ({"minimum": {"score_r2": float("nan")}}, "minimum must give score_r2 a finite number, got nan"),
        ({"minimum": {"score_r2": float("inf")}}, "finite number, got inf"),
        ({"minimum": {"score_r2": "0.9"}}, "finite number, got '0.9'"),
        ({"minimum": {"score_r2": True}}, "finite number, got True"),
        ({"minimum": {"score_r2": None}}, "finite number, got None"),
        ({"minimum": {"score_r2": 0.9}, "maximum": {"score_r2": 0.8}}, "least score_r2 must not be above the largest"),
    ],
)
def test_bad_bounds_are_refused_before_the_work(bounds, message):
    with pytest.raises(ValueError, match=message):
        check_fidelity(None, None, **bounds)  # no model: the bounds come first


class TestOfAModel:
    def test_its_fidelity_is_measured(self, fitted):
        model, X, y = fitted
        found = check_fidelity(model, X, y, minimum={"score_r2": -10}, maximum={"student_metric": 1e9})
        expected = gbdt2nn.fidelity(model, X, y)
        assert {name: found[name] for name in gate.MEASURES if name in found} == pytest.approx(
            {name: expected[name] for name in gate.MEASURES if name in expected}, nan_ok=True
        )

    def test_weights_count(self, fitted):
        model, X, _ = fitted
        weight = np.arange(len(X)) < 20
        found = check_fidelity(model, X, sample_weight=weight, minimum={"score_r2": -10})
        assert found["n_rows"] == 20

    def test_it_fails_where_it_should(self, fitted):
        model, X, _ = fitted
        with pytest.raises(FidelityError, match=r"decision_flip_rate was not measured"):
            check_fidelity(model, X, maximum={"decision_flip_rate": 0.5})  # a regressor decides nothing

    @pytest.mark.parametrize("name", gate.NEED_LABELS)
    def test_bounds_against_labels_need_labels(self, fitted, name):
        model, X, _ = fitted
        with pytest.raises(ValueError, match=f"y must hold labels for a bound on {name}"):
            check_fidelity(model, X, maximum={name: 1})

    def test_rows_are_needed(self, fitted):
        with pytest.raises(ValueError, match="X must hold the rows"):
            check_fidelity(fitted[0], minimum={"score_r2": 0})

    def test_rows_beside_a_mapping_are_refused(self, fitted):
        with pytest.raises(ValueError, match="X must not be given where student is a mapping"):
            check_fidelity(FOUND, fitted[1], minimum={"score_r2": 0})

    def test_what_is_no_model_is_refused(self, fitted):
        with pytest.raises(TypeError, match="fitted gbdt2nn estimator"):
            check_fidelity(object(), fitted[1], minimum={"score_r2": 0})
