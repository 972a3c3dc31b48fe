"""Scikit-learn's own estimator checks, and life inside pipelines and searches."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from gbdt2nn import Gbdt2NNClassifier, Gbdt2NNRegressor, attribution_fidelity, fidelity, score_fidelity

TINY = {
    "max_steps": 100,
    "n_synthetic": 200,
    "n_jobs": 1,
    "student_params": {"width": 32},
    "batch_size": 256,
    "learning_rate": 1e-2,
}
# a teacher that really splits on the 15 to 30 rows of the checks
SPLITTING = {
    "min_child_samples": 2,
    "n_estimators": 20,
    "num_leaves": 4,
    "verbosity": -1,
    "n_jobs": 1,
    "learning_rate": 0.3,
}

WEIGHTS = (
    "LightGBM itself does not hold it: its histograms and min_child_samples count rows, not weights, and which rows are "
    "held out is drawn by row"
)
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
}


def expected_failures(estimator):
    # the default teacher does not split on these few rows, and a constant holds everything
    return EXPECTED_FAILURES if estimator.teacher is not None else {}


@pytest.mark.filterwarnings(
    "ignore:.*fewer than 60:UserWarning",  # the checks fit on a handful of rows
    "ignore:Found .unknown. in:UserWarning",
)
@parametrize_with_checks(
    [
        Gbdt2NNRegressor(teacher_params={"n_estimators": 60}, **TINY),
        Gbdt2NNClassifier(teacher_params={"n_estimators": 60}, **TINY),
        Gbdt2NNRegressor(LGBMRegressor(**SPLITTING), **TINY),
        Gbdt2NNClassifier(LGBMClassifier(**SPLITTING), **TINY),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def transformers():
    number = make_pipeline(SimpleImputer(), StandardScaler())
    category = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_column_transformer(
        (category, ["ocean_proximity"]), remainder=number, verbose_feature_names_out=False
    ).set_output(transform="pandas")


def test_a_pipeline_behind_transformers_with_named_output(housing, quick):
    X, y = housing
    pipeline = make_pipeline(transformers(), Gbdt2NNRegressor(**(quick | {"max_steps": 200}))).fit(X, y)
    assert pipeline.predict(X).shape == (800,)
    assert set(pipeline[-1].feature_names_in_) == set(X.columns)
    explained = pipeline[-1].explain(pipeline[:-1].transform(X))
    assert set(explained.feature_names) == set(X.columns)
    # fidelity and scorers take the pipeline whole, with the raw table
    assert fidelity(pipeline, X, y)["score_r2"] == pytest.approx(score_fidelity(pipeline, X))
    assert score_fidelity(pipeline, X) > 0.9


def test_grid_search_over_teacher_and_explanation_weight_with_a_cache(housing, quick, tmp_path):
    """The teacher and its attributions are computed once for each fold and teacher, whatever else the grid holds."""
    X, y = housing
    teacher = LGBMRegressor(n_estimators=10, verbosity=-1, n_jobs=1)
    model = Gbdt2NNRegressor(teacher, **(quick | {"memory": str(tmp_path)}))
    grid = {"teacher__num_leaves": [4, 8], "explanation_weight": [0.0, 0.5, 1.0]}
    search = GridSearchCV(model, grid, scoring=score_fidelity, cv=2).fit(X, y)
    assert search.best_score_ > 0.5
    fits = [p for p in tmp_path.rglob("output.pkl") if p.parent.parent.name == "fit"]
    assert len(fits) == 2 * 2 + 1  # each teacher on each fold, and the refit on all rows
    asked = [p for p in tmp_path.rglob("output.pkl") if p.parent.parent.name == "label_rows"]
    # for each of these: stop, check and training rows, once for all positive weights; 0 asks for none
    refitted = int(search.best_params_["explanation_weight"] > 0)
    assert len(asked) == 3 * (2 * 2 + refitted)
    assert search.best_estimator_.teacher_.num_leaves == search.best_params_["teacher__num_leaves"]


def test_a_cache_changes_no_number(numbers, quick, tmp_path):
    X, y = numbers
    plain = Gbdt2NNRegressor(**quick).fit(X, y)
    for _ in range(2):
        cached = Gbdt2NNRegressor(**quick, memory=str(tmp_path)).fit(X, y)
        np.testing.assert_array_equal(cached.predict(X), plain.predict(X))


def test_cross_validation_with_both_scorers(three_classes, quick):
    X, y = three_classes
    model = Gbdt2NNClassifier(LGBMClassifier(n_estimators=10, verbosity=-1, n_jobs=1), **quick)
    for scoring in (None, score_fidelity, attribution_fidelity):
        scores = cross_val_score(model, X, y, cv=2, scoring=scoring, error_score="raise")
        assert (scores > 0.5).all()


def test_sample_weight_is_routed(numbers, quick):
    """Under metadata routing the weights asked for reach fit through a pipeline and a search."""
    X, y = numbers
    weight = np.where(y > 0, 1.0, 0.0)
    with sklearn.config_context(enable_metadata_routing=True):
        model = Gbdt2NNRegressor(LGBMRegressor(n_estimators=5, verbosity=-1, n_jobs=1), **quick)
        model = model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        pipeline.fit(X, y, sample_weight=weight)
        # rows of weight zero, which hold every y <= 0, taught nothing
        assert pipeline.predict(X).min() > -0.05
        search = GridSearchCV(pipeline, {"gbdt2nnregressor__explanation_weight": [1.0]}, cv=2)
        search.fit(X, y, sample_weight=weight)
        assert search.predict(X).min() > -0.05


def test_a_frozen_teacher_survives_a_search(numbers, quick):
    X, y = numbers
    fitted = LGBMRegressor(n_estimators=10, verbosity=-1, n_jobs=1).fit(X, y)
    model = Gbdt2NNRegressor(FrozenEstimator(fitted), **quick)
    search = GridSearchCV(model, {"explanation_weight": [0.5, 1.0]}, scoring=attribution_fidelity, cv=2).fit(X, y)
    np.testing.assert_array_equal(search.best_estimator_.teacher_.predict(X), fitted.predict(X))


def test_named_columns_reach_the_explanation(numbers, quick):
    X, y = numbers
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    model = Gbdt2NNRegressor(**quick).fit(table, y)
    assert model.explain(table[:3]).feature_names == ["a", "b", "c"]
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
