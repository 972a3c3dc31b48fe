"""The scikit-learn face: what a user gets from fit, predict, explain; teachers of every form; reproducibility."""

import pickle
import time
import warnings

import joblib
import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import shap
import torch
import xgboost as xgb
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from xgboost import XGBClassifier, XGBRegressor

from gbdt2nn import Gbdt2NNClassifier, Gbdt2NNRegressor, attribution_fidelity, fidelity, score_fidelity
from gbdt2nn.attributions import ATTRIBUTIONS, tree_shap
from gbdt2nn.students import STUDENTS

SMALL_LGBM = {"n_estimators": 15, "num_leaves": 8, "verbosity": -1, "n_jobs": 1}
SMALL_XGB = {"n_estimators": 15, "max_depth": 3, "n_jobs": 1}


@pytest.fixture(scope="module")
def housing_model(housing, quick):
    X, y = housing
    return Gbdt2NNRegressor(**(quick | {"max_steps": 300, "n_synthetic": 2000})).fit(X, y)


@pytest.fixture(scope="module")
def adult_model(adult, quick):
    X, y = adult
    return Gbdt2NNClassifier(**(quick | {"max_steps": 200, "n_synthetic": 2000})).fit(X, y)


@pytest.fixture(scope="module")
def three_class_model(three_classes, quick):
    return Gbdt2NNClassifier(**quick).fit(*three_classes)


class TestWhatAUserGets:
    def test_the_student_imitates_scores_and_explanations(self, housing_model, housing):
        found = fidelity(housing_model, *housing)
        assert found["score_r2"] > 0.95
        assert found["attribution_r2"] > 0.95
        assert found["n_rows"] == 800
        assert housing_model.fidelity_["n_rows"] == 80

    def test_fidelity_is_a_mapping_with_the_promised_entries(self, housing_model, housing):
        promised = {
            "score_r2", "score_max_error", "score_p999_error", "attribution_r2", "attribution_r2_per_feature",
            "per_feature_r2", "attribution_cosine", "top3_overlap", "completeness_gap", "decision_flip_rate",
            "teacher_metric", "student_metric", "n_rows",
        }  # fmt: skip
        assert promised <= set(housing_model.fidelity_)
        assert set(housing_model.fidelity_["attribution_r2_per_feature"]) == set(housing[0].columns)

    def test_explanations_are_complete_and_in_raw_score(self, housing_model, adult_model, housing, adult):
        for model, (X, _) in ((housing_model, housing), (adult_model, adult)):
            e = model.explain(X)
            raw = model.predict(X) if model is housing_model else model.decision_function(X)
            gap = np.abs(e.base_values + e.values.sum(1) - raw).max()
            assert gap <= 1e-5 * np.abs(raw).max()

    def test_the_teachers_explanation_stands_beside_it(self, housing_model, housing):
        X, _ = housing
        own = housing_model.teacher_.booster_.predict(housing_model.encoder_.to_teacher(X[:50]), pred_contrib=True)
        e = housing_model.explain_teacher(X[:50])
        np.testing.assert_allclose(e.values, own[:, :-1], atol=1e-6 * np.abs(own).max())
        np.testing.assert_allclose(e.base_values, own[:, -1])

    def test_probabilities(self, adult_model, adult):
        X, y = adult
        proba = adult_model.predict_proba(X)
        assert proba.shape == (900, 2)
        np.testing.assert_allclose(proba.sum(1), 1)
        np.testing.assert_array_equal(adult_model.predict(X), adult_model.classes_[proba.argmax(1)])
        np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-adult_model.decision_function(X))))
        assert set(adult_model.classes_) == set(y)
        assert adult_model.score(X, y) > 0.8

    def test_several_classes(self, three_class_model, three_classes):
        X, y = three_classes
        model = three_class_model
        assert model.classes_.tolist() == ["low", "mid", "top"]
        assert model.predict_proba(X).shape == model.decision_function(X).shape == (300, 3)
        np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)
        e = model.explain(X)
        assert e.values.shape == (300, 4, 3)
        assert e.base_values.shape == (300, 3)
        np.testing.assert_allclose(e.base_values + e.values.sum(1), model.decision_function(X), atol=1e-9)
        assert e.output_names == ["low", "mid", "top"]
        assert model.score(X, y) > 0.8

    @pytest.mark.parametrize(
        "plot", ["beeswarm", "bar", "waterfall", "scatter", "heatmap", "violin", "force", "decision"]
    )
    def test_every_plot_of_shap_takes_it(self, housing_model, housing, plot):
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        e = housing_model.explain(housing[0][:60])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of matplotlib and shap among themselves
            if plot == "waterfall":
                shap.plots.waterfall(e[0], show=False)
            elif plot == "scatter":
                shap.plots.scatter(e[:, "median_income"], show=False)
            elif plot == "force":
                shap.plots.force(e[0], matplotlib=True, show=False)
            elif plot == "decision":
                shap.plots.decision(float(e.base_values[0]), e.values, feature_names=e.feature_names, show=False)
            else:
                getattr(shap.plots, plot)(e, show=False)
        plt.close("all")

    def test_history_tells_terms_and_held_out_fidelity(self, housing_model):
        history = housing_model.history_
        assert {"step", "total", "imitation", "explanation"} <= set(history.steps[-1])
        assert {"step", "seconds", "score_r2", "attribution_r2"} <= set(history.validations[-1])
        assert history.steps[-1]["total"] < history.steps[0]["total"]
        assert housing_model.n_steps_ == 300
        assert housing_model.n_synthetic_ == 2000
        assert housing_model.n_explained_ == 640 + 2000
        assert {"teacher", "attributions", "student", "total"} <= set(housing_model.seconds_)

    def test_the_teacher_is_the_librarys_own(self, housing_model, housing):
        """It takes the caller's table itself once strings are categories."""
        X, _ = housing
        table = housing_model.encoder_.to_teacher(X)
        assert isinstance(housing_model.teacher_, LGBMRegressor)
        labels = housing_model.distilled_.teacher_explained(X)
        np.testing.assert_allclose(housing_model.teacher_.predict(table), labels.score[:, 0])


class TestTeachers:
    @pytest.mark.parametrize(
        ("teacher", "params"),
        [("xgboost", {"early_stopping_rounds": 3}), ("lightgbm", {"early_stopping_round": 3})],
    )
    def test_its_own_patience_goes_before_ours(self, numbers, quick, teacher, params):
        X, y = numbers
        noise = np.random.default_rng(0).normal(size=300)
        model = Gbdt2NNRegressor(teacher, teacher_params=params, **quick).fit(X, y + 3 * noise)
        rounds = model.teacher_.best_iteration_ if teacher == "lightgbm" else model.teacher_.best_iteration
        trained = (
            model.teacher_.booster_.current_iteration()
            if teacher == "lightgbm"
            else model.teacher_.get_booster().num_boosted_rounds()
        )
        assert trained - rounds <= 4

    def test_labels_out_of_a_metrics_domain_cost_no_training(self, numbers, quick):
        """A frozen gamma teacher and a label of zero: the fit stands, without a label metric."""
        X, y = numbers
        fitted = LGBMRegressor(objective="gamma", **SMALL_LGBM).fit(X, np.exp(y))
        with pytest.warns(UserWarning, match="fidelity_ holds no label metric"):
            model = Gbdt2NNRegressor(FrozenEstimator(fitted), **quick).fit(X, np.zeros(300))
        assert model.fidelity_["score_r2"] > 0.7
        assert np.isnan(model.fidelity_["student_metric"])

    def test_few_explained_rows_leave_the_network_on(self, housing, quick):
        X, y = housing
        model = Gbdt2NNRegressor(**(quick | {"max_steps": 200, "n_synthetic": 2000}), n_explained=1).fit(X, y)
        assert model.fidelity_["score_r2"] > 0.7

    @pytest.mark.parametrize("teacher", ["lightgbm", "xgboost"])
    def test_by_name_with_parameters(self, housing, quick, teacher):
        X, y = housing
        model = Gbdt2NNRegressor(teacher, teacher_params={"n_estimators": 7}, **quick).fit(X, y)
        assert model.teacher_.n_estimators == 7
        assert model.fidelity_["score_r2"] > 0.7

    @pytest.mark.parametrize(
        "teacher",
        [LGBMRegressor(**SMALL_LGBM), XGBRegressor(**SMALL_XGB, enable_categorical=True)],
        ids=["lgbm", "xgb"],
    )
    def test_an_estimator_is_cloned(self, housing, quick, teacher):
        X, y = housing
        model = Gbdt2NNRegressor(teacher, **quick).fit(X, y)
        assert model.teacher_ is not teacher
        assert not teacher.__sklearn_is_fitted__()
        assert model.fidelity_["score_r2"] > 0.8

    def test_a_frozen_teacher_is_taken_as_it_is_and_needs_no_labels(self, housing, quick):
        X, y = housing
        table = X.assign(ocean_proximity=X["ocean_proximity"].astype("category"))
        fitted = LGBMRegressor(**SMALL_LGBM).fit(table, y)
        before = fitted.booster_.model_to_string()
        model = Gbdt2NNRegressor(FrozenEstimator(fitted), **quick).fit(table)
        assert model.teacher_ is fitted
        assert "frozen teacher may have seen" in str(model.fidelity_)
        assert fitted.booster_.model_to_string() == before
        assert model.fidelity_["score_r2"] > 0.8
        assert np.isnan(model.fidelity_["teacher_metric"])
        # the same categories as text, in a table of another kind, are the same rows
        np.testing.assert_array_equal(model.predict(table[:50]), model.predict(pl.from_pandas(X[:50])))

    def test_a_bare_booster(self, numbers, quick):
        X, y = numbers
        light = lgb.train({"verbosity": -1, "num_threads": 1}, lgb.Dataset(X, y), 15)
        deep = xgb.train({"max_depth": 3, "nthread": 1}, xgb.DMatrix(X, y), 15)
        for booster in (light, deep):
            model = Gbdt2NNRegressor(booster, **quick).fit(X)
            assert model.teacher_ is booster
            assert model.fidelity_["score_r2"] > 0.8

    def test_a_booster_of_classes_needs_no_labels_or_takes_their_names(self, three_classes, quick):
        X, y = three_classes
        codes = np.unique(y, return_inverse=True)[1]
        params = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
        booster = lgb.train(params, lgb.Dataset(X, codes), 10)
        assert Gbdt2NNClassifier(booster, **quick).fit(X).classes_.tolist() == [0, 1, 2]
        named = Gbdt2NNClassifier(booster, **quick).fit(X, y)
        assert named.classes_.tolist() == ["low", "mid", "top"]
        assert named.score(X, y) > 0.7

    @pytest.mark.parametrize("labels", [[False, True], [2.0, 5.0], ["no", "yes"], [-1, 1]], ids=str)
    @pytest.mark.parametrize("teacher", ["lightgbm", XGBClassifier(**SMALL_XGB)], ids=["lightgbm", "xgb"])
    def test_labels_of_any_kind(self, numbers, quick, labels, teacher):
        X, y = numbers
        y = np.array(labels)[(y > 0).astype(int)]
        model = Gbdt2NNClassifier(teacher, **quick).fit(X, y)
        assert model.classes_.tolist() == sorted(labels)
        assert model.score(X, y) > 0.8

    def test_the_default_teacher_stops_early_on_the_stop_rows(self, numbers, quick):
        X, y = numbers
        noise = np.random.default_rng(1).normal(size=len(y))
        model = Gbdt2NNRegressor(**quick).fit(X, y + 2 * noise)
        assert model.teacher_.best_iteration_ < 1000

    @pytest.mark.parametrize("link", ["poisson", "tweedie", "gamma"])
    def test_predict_applies_the_inverse_link(self, numbers, quick, link):
        X, y = numbers
        count = np.random.default_rng(0).poisson(np.exp(y / 2)) + (link == "gamma")
        model = Gbdt2NNRegressor(LGBMRegressor(objective=link, **SMALL_LGBM), **quick).fit(X, count)
        raw = model.base_value_ + model.explain(X).values.sum(1)
        np.testing.assert_allclose(model.predict(X), np.exp(raw))
        assert (model.predict(X) > 0).all()

    def test_xgboosts_own_missing_value(self, numbers, quick):
        X, y = numbers
        X = X.copy()
        X[::5, 0] = -999.0
        model = Gbdt2NNRegressor(XGBRegressor(missing=-999.0, **SMALL_XGB), **quick).fit(X, y)
        as_nan = np.where(X == -999.0, np.nan, X)
        np.testing.assert_array_equal(model.predict(X), model.predict(as_nan))


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
@pytest.mark.parametrize("student", STUDENTS)
def test_every_student_with_every_attribution(numbers, quick, student, attribution):
    X, y = numbers
    teacher = LGBMRegressor(**SMALL_LGBM)
    if getattr(STUDENTS[student], "has_trees", False):
        # these learn from labels, and from fewer rows
        own = {"student_params": {"hidden": (64,)}, "imitation_weight": 1.0, "label_weight": 0.0}
        quick = quick | {**own, "n_synthetic": 1000, "max_steps": 200, "learning_rate": 1e-2}
    elif not STUDENTS[student].learns_by_gradient:
        quick = quick | {"student_params": None, "n_synthetic": 2000}
    model = Gbdt2NNRegressor(teacher, student=student, attribution=attribution, **quick).fit(X, y)
    assert model.fidelity_["score_r2"] > 0.8
    assert model.fidelity_["attribution_r2"] > 0.7
    gap = model.fidelity_["completeness_gap"]
    assert gap <= 1e-5 if model.student_.complete else gap > 0


class TestInteractionTables:
    """The student without a network."""

    @pytest.fixture
    def tables(self, quick):
        return quick | {"student": "interaction_tables", "student_params": {"n_sweeps": 2}, "n_synthetic": 5000}

    @pytest.mark.parametrize("name", ["housing", "adult", "three_classes"])
    def test_numbers_categories_missing_values_and_classes(self, request, tables, name):
        X, y = request.getfixturevalue(name)
        teacher, of = (LGBMRegressor, Gbdt2NNRegressor) if name == "housing" else (LGBMClassifier, Gbdt2NNClassifier)
        model = of(teacher(**SMALL_LGBM), **tables).fit(X, y)
        assert model.n_steps_ == 0
        assert len(model.history_.validations) == 1
        found = fidelity(model, X, y)
        assert found["score_r2"] > 0.95
        assert found["attribution_r2"] > 0.97
        assert found["completeness_gap"] < 1e-9
        assert model.student_.tables.triple.numel() > 0

    def test_with_trees_of_an_xgboost_teacher(self, housing, tables):
        X, y = housing
        numeric = X.select_dtypes("number")
        model = Gbdt2NNRegressor(XGBRegressor(**SMALL_XGB), **tables).fit(numeric, y)
        assert fidelity(model, numeric, y)["attribution_r2"] > 0.97

    def test_a_feature_no_tree_uses_gets_exactly_zero(self, numbers, tables):
        X, y = numbers
        X = np.column_stack([X, np.zeros(len(X))])
        explanation = Gbdt2NNRegressor(LGBMRegressor(**SMALL_LGBM), **tables).fit(X, y).explain(X)
        assert (explanation.values[:, 3] == 0).all()

    def test_the_same_again_from_a_pickle_and_on_other_threads(self, numbers, tables):
        X, y = numbers
        a, b = (Gbdt2NNRegressor(LGBMRegressor(**SMALL_LGBM), **tables | {"n_jobs": n}).fit(X, y) for n in (1, 2))
        np.testing.assert_array_equal(a.predict(X), b.predict(X))
        np.testing.assert_array_equal(a.predict(X), pickle.loads(pickle.dumps(a)).predict(X))
        np.testing.assert_array_equal(a.predict(X)[:7], np.concatenate([a.predict(X[i : i + 1]) for i in range(7)]))

    def test_weighted_rows(self, numbers, tables):
        """What is not weighed is not there: a model of half the rows answers like one of all with half at weight 0."""
        X, y = numbers
        model = Gbdt2NNRegressor(LGBMRegressor(**SMALL_LGBM), **tables)
        weight = np.where(np.arange(300) < 200, 2.0, 0.0)
        assert clone(model).fit(X, y, sample_weight=weight).fidelity_["score_r2"] > 0.8

    def test_synthetic_rows_are_many_within_memory(self, numbers, tables, monkeypatch):
        X, y = numbers
        monkeypatch.setattr("gbdt2nn.distillation.SYNTHETIC_FOR_TABLES", 9000)
        model = Gbdt2NNRegressor(LGBMRegressor(**SMALL_LGBM), **tables | {"n_synthetic": "auto"})
        assert clone(model).fit(X, y).n_synthetic_ == 9000
        monkeypatch.setattr("gbdt2nn.distillation.MOST_EXPLAINED_BYTES", 4 * 3 * 1000)
        found = clone(model).fit(X, y)
        assert found.n_explained_ == 1000

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"label_weight": 0.5}, "label_weight must be 0 with student 'interaction_tables'"),
            ({"explanation_weight": 0.0}, "explanation_weight must be positive with student"),
            ({"explanation_loss": "cosine_distance"}, "explanation_loss must be 'squared_error' with student"),
            ({"student_params": {"n_pairs": "all"}}, "n_pairs"),
            ({"student_params": {"n_triples": -1}}, "n_triples"),
            ({"student_params": {"n_sweeps": 0}}, "n_sweeps"),
            ({"student_params": {"ridge": -1.0}}, "ridge"),
        ],
    )
    def test_what_least_squares_cannot_take_into_account_is_refused_before_any_work(
        self, numbers, tables, options, message
    ):
        with pytest.raises(ValueError, match=message):
            Gbdt2NNRegressor("no such teacher is looked for", **tables | options).fit(*numbers)


class TestReproducibility:
    def test_same_seed_same_numbers(self, numbers, quick):
        X, y = numbers
        a, b = (Gbdt2NNRegressor(**quick).fit(X, y) for _ in range(2))
        c = Gbdt2NNRegressor(**(quick | {"random_state": 1})).fit(X, y)
        np.testing.assert_array_equal(a.predict(X), b.predict(X))
        assert not np.allclose(a.predict(X), c.predict(X))
        assert a.history_.steps == b.history_.steps

    @pytest.mark.parametrize("random_state", [0, None])
    def test_the_callers_generators_are_left_alone(self, numbers, quick, random_state):
        X, y = numbers
        np.random.seed(5)  # noqa: NPY002
        torch.manual_seed(5)
        before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        threads = torch.get_num_threads()
        Gbdt2NNRegressor(**(quick | {"random_state": random_state})).fit(X, y)
        np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), before[1])
        assert torch.get_num_threads() == threads

    def test_a_timed_run_is_repeated_without_a_clock(self, numbers, quick):
        X, y = numbers
        teacher = LGBMRegressor(**SMALL_LGBM)
        timed = Gbdt2NNRegressor(teacher, **(quick | {"time_budget": 2.0, "max_steps": 100_000, "n_synthetic": 3000}))
        timed.fit(X, y)
        assert timed.n_steps_ < 100_000
        again = Gbdt2NNRegressor(
            teacher, **(quick | {"max_steps": timed.n_steps_, "n_synthetic": 3000, "n_explained": timed.n_explained_})
        ).fit(X, y)
        np.testing.assert_array_equal(timed.predict(X), again.predict(X))

    def test_no_answer_depends_on_batch_size_or_row_order(self, housing_model, housing):
        X, _ = housing
        whole = housing_model.explain(X).values
        order = np.random.default_rng(0).permutation(len(X))
        scale = np.abs(whole).max()
        np.testing.assert_allclose(housing_model.explain(X.iloc[order]).values, whole[order], atol=1e-12 * scale)
        one = np.concatenate([housing_model.explain(X.iloc[i : i + 1]).values for i in range(20)])
        np.testing.assert_allclose(one, whole[:20], atol=1e-12 * scale)

    @pytest.mark.parametrize("store", [pickle, joblib], ids=["pickle", "joblib"])
    def test_round_trips(self, adult_model, adult, tmp_path, store):
        X, y = adult
        with open(tmp_path / "model", "wb") as file:
            store.dump(adult_model, file)
        with open(tmp_path / "model", "rb") as file:
            again = store.load(file)
        np.testing.assert_array_equal(again.predict_proba(X), adult_model.predict_proba(X))
        np.testing.assert_array_equal(again.explain(X).values, adult_model.explain(X).values)
        assert fidelity(again, X, y)["score_r2"] == pytest.approx(fidelity(adult_model, X, y)["score_r2"])

    def test_a_clone_keeps_a_booster_as_it_is(self, numbers, quick):
        """LightGBM's deep copy forgets the best iteration: a search would distil another teacher than fit does."""
        X, y = numbers
        rows = lgb.Dataset(X, y + np.random.default_rng(0).normal(size=300))
        booster = lgb.train({"verbosity": -1, "num_threads": 1}, rows, 10, keep_training_booster=True)
        booster.best_iteration = 4
        copy = clone(Gbdt2NNRegressor(booster, **quick))
        assert copy.teacher is booster
        np.testing.assert_allclose(copy.fit(X).distilled_.teacher_explained(X).score[:, 0], booster.predict(X))

    def test_what_torch_is_set_to_does_not_matter(self, numbers, quick):
        X, y = numbers
        plain = Gbdt2NNRegressor(**quick).fit(X, y)
        torch.set_default_dtype(torch.float64)
        try:
            with torch.inference_mode():
                other = Gbdt2NNRegressor(**quick).fit(X, y)
            assert torch.get_default_dtype() == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)
        np.testing.assert_allclose(other.predict(X), plain.predict(X), atol=1e-9)

    def test_clone_is_unfitted_and_equal(self, adult_model):
        copy = clone(adult_model)
        assert not hasattr(copy, "teacher_")
        assert copy.get_params() == adult_model.get_params()


class TestExplanationWeightZero:
    def test_no_explanation_is_computed_or_used(self, numbers, quick, monkeypatch):
        from gbdt2nn import student_building
        from gbdt2nn.teachers import lightgbm

        def refuse(*args, **kwargs):
            pytest.fail("an explanation was computed")

        monkeypatch.setattr(lightgbm, "native_attributions", refuse)
        monkeypatch.setattr(student_building, "main_effects", refuse)
        X, y = numbers
        model = Gbdt2NNRegressor(explanation_weight=0, **quick).fit(X, y)
        assert np.isnan(model.fidelity_["attribution_r2"])
        assert model.fidelity_["score_r2"] > 0.7
        assert "explanation" not in model.history_.steps[-1]
        with pytest.raises(ValueError, match="explain needs a student that was taught explanations"):
            model.explain(X)
        with pytest.raises(ValueError, match="attribution_fidelity needs a student"):
            attribution_fidelity(model, X)

    def test_batches_and_initial_trunk_are_the_same(self, numbers, quick):
        """The baseline differs by its weight alone."""
        from gbdt2nn import student_fit

        seen = []
        original = student_fit.JointLoss.__call__

        def watched(self, student, batch, **options):
            seen.append((batch.inputs.clone(), student.trunk.encoding.linear.weight.detach().clone()))
            return original(self, student, batch, **options)

        X, y = numbers
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(student_fit.JointLoss, "__call__", watched)
            for weight in (0, 1):
                Gbdt2NNRegressor(student="mlp", explanation_weight=weight, **(quick | {"max_steps": 3})).fit(X, y)
        without, with_explanation = seen[:3], seen[3:]
        assert torch.equal(without[0][1], with_explanation[0][1])
        for (a, _), (b, _) in zip(without, with_explanation, strict=True):
            assert torch.equal(a, b)


def test_a_part_of_the_rows_explained_teaches_explanations_too(housing, quick):
    """The rest teaches scores: NaN marks rows without an explanation, and none of it leaks."""
    X, y = housing
    model = Gbdt2NNRegressor(**(quick | {"max_steps": 300, "n_synthetic": 2000}), n_explained=200).fit(X, y)
    assert model.n_explained_ == 200
    assert model.fidelity_["attribution_r2"] > 0.85
    assert model.fidelity_["score_r2"] > 0.9


class TestWeights:
    def test_a_row_of_weight_zero_is_as_good_as_absent(self, numbers, quick):
        X, y = numbers
        weight = np.ones(300)
        weight[::3] = 0
        wild = np.where(weight > 0, y, 1e6)
        a = Gbdt2NNRegressor(**quick).fit(X, wild, sample_weight=weight)
        b = Gbdt2NNRegressor(**quick).fit(X[weight > 0], y[weight > 0])
        np.testing.assert_allclose(a.predict(X), b.predict(X), atol=1e-3)

    def test_weights_steer_teacher_and_student(self, numbers, quick):
        X, _ = numbers
        y = np.where(np.arange(300) % 2, 1.0, 0.0)
        weight = np.where(y == 1, 9.0, 1.0)
        model = Gbdt2NNRegressor(LGBMRegressor(**SMALL_LGBM), **quick).fit(X, y, sample_weight=weight)
        assert model.predict(X).mean() == pytest.approx(0.9, abs=0.06)

    def test_weights_reach_the_metrics(self, housing_model, housing):
        X, y = housing
        first = np.arange(len(X)) < 100
        a = fidelity(housing_model, X, y, sample_weight=first.astype(float))
        b = fidelity(housing_model, X[first], y[first])
        for name in (
            "score_r2",
            "attribution_r2",
            "per_feature_r2",
            "student_metric",
            "score_max_error",
            "top3_overlap",
        ):
            assert a[name] == pytest.approx(b[name]), name


class TestLabels:
    def test_the_label_term_pulls_towards_the_labels(self, numbers, quick):
        """A teacher of one constant tree knows nothing: only labels can teach the student more."""
        X, y = numbers
        teacher = LGBMRegressor(n_estimators=2, verbosity=-1, learning_rate=0.01, n_jobs=1)
        options = quick | {"max_steps": 300, "n_synthetic": 0}
        alone = Gbdt2NNRegressor(teacher, **options).fit(X, y)
        labelled = Gbdt2NNRegressor(teacher, imitation_weight=0, explanation_weight=0, label_weight=1, **options).fit(
            X, y
        )
        assert alone.score(X, y) < 0.2
        assert labelled.score(X, y) > alone.score(X, y) + 0.02

    @pytest.mark.parametrize("objective", ["regression", "poisson", "binary", "multiclass", "multiclassova"])
    def test_every_link_has_its_label_loss(self, numbers, quick, objective):
        X, y = numbers
        options = quick | {"label_weight": 0.5, "max_steps": 20}
        if objective in ("regression", "poisson"):
            target = np.round(np.exp(y / 2)) if objective == "poisson" else y
            model = Gbdt2NNRegressor(LGBMRegressor(objective=objective, **SMALL_LGBM), **options).fit(X, target)
        else:
            target = np.digitize(y, [0.0] if objective == "binary" else [-0.5, 0.5])
            model = Gbdt2NNClassifier(LGBMClassifier(objective=objective, **SMALL_LGBM), **options).fit(X, target)
        assert model.history_.steps[-1]["label"] >= 0


class TestTables:
    @pytest.mark.parametrize("kind", ["pandas", "nullable", "polars", "pyarrow"])
    def test_every_kind_of_table_gives_the_same_student(self, housing, housing_model, kind):
        X, _ = housing
        tables = {
            "pandas": lambda: X.assign(ocean_proximity=X["ocean_proximity"].astype("category")),
            "nullable": lambda: X.convert_dtypes(),
            "polars": lambda: pl.from_pandas(X),
            "pyarrow": lambda: pl.from_pandas(X).to_arrow(),
        }
        np.testing.assert_array_equal(housing_model.predict(tables[kind]()), housing_model.predict(X))
        assert housing_model.explain(tables[kind]()).values.shape == X.shape

    @pytest.mark.parametrize("dtype", [np.int64, np.float32, object, bool])
    def test_arrays_of_any_number(self, numbers, quick, dtype):
        X, y = numbers
        X = np.round(3 * X).astype(dtype)
        model = Gbdt2NNRegressor(**quick).fit(X, y)
        np.testing.assert_array_equal(model.predict(X), model.predict(X.astype(float)))

    def test_unseen_categories_follow_the_library(self, housing, quick):
        X, y = housing
        strange = X[:5].assign(ocean_proximity="MOON")
        missing = X[:5].assign(ocean_proximity=None)
        light = Gbdt2NNRegressor(LGBMRegressor(**SMALL_LGBM), **quick).fit(X, y)
        np.testing.assert_array_equal(light.predict(strange), light.predict(missing))
        deep = Gbdt2NNRegressor(XGBRegressor(enable_categorical=True, **SMALL_XGB), **quick).fit(X, y)
        with pytest.raises(ValueError, match=r"ocean_proximity.*MOON"):
            deep.predict(strange)

    def test_a_large_offset_costs_no_precision(self, numbers, quick):
        """Scores of a million with a spread of one: float32 alone would lose them."""
        X, y = numbers
        teacher = LGBMRegressor(**SMALL_LGBM)
        options = quick | {"max_steps": 200}
        near = Gbdt2NNRegressor(teacher, **options).fit(X, y).fidelity_
        far = Gbdt2NNRegressor(teacher, **options).fit(X, y + 1e6).fidelity_
        assert far["score_r2"] > near["score_r2"] - 0.02

    def test_infinity(self, numbers, quick):
        X, y = numbers
        X = X.copy()
        X[3, 1], X[7, 0] = np.inf, -np.inf
        assert np.isfinite(Gbdt2NNRegressor(LGBMRegressor(**SMALL_LGBM), **quick).fit(X, y).predict(X)).all()
        with pytest.raises(ValueError, match=r"infinity in column 'x[01]'"):
            Gbdt2NNRegressor("xgboost", **quick).fit(X, y)

    @pytest.mark.parametrize("value", [3.0, 1e-4, 0.0, -1e6])
    def test_constant_columns_and_a_constant_label(self, quick, value):
        X = np.ones((100, 2))
        model = Gbdt2NNRegressor(**quick).fit(X, np.full(100, value))
        np.testing.assert_allclose(model.predict(X), value, rtol=1e-6)
        assert (model.explain(X).values == 0).all()
        assert model.fidelity_["score_r2"] == 1.0

    @pytest.mark.parametrize("unit", [1e-12, 1e12])
    def test_the_unit_of_the_label_does_not_matter(self, numbers, quick, unit):
        X, y = numbers
        teacher = LGBMRegressor(**SMALL_LGBM)
        found = Gbdt2NNRegressor(teacher, **quick).fit(X, y * unit).fidelity_
        assert found["score_r2"] == pytest.approx(
            Gbdt2NNRegressor(teacher, **quick).fit(X, y).fidelity_["score_r2"], abs=0.02
        )

    def test_one_row_at_predict(self, housing_model, housing):
        X, _ = housing
        assert housing_model.predict(X[:1]).shape == (1,)
        assert housing_model.explain(X[:1]).values.shape == (1, 9)


@pytest.mark.filterwarnings("ignore:time_budget=.* was nearly spent:UserWarning")  # on a busy machine
def test_a_short_time_budget_labels_what_it_can_and_says_so(housing, quick, monkeypatch):
    """Attributions end at their share of the budget; the student learns from the rows that were labelled."""

    def slowly(*args, **kwargs):
        explain = tree_shap.prepare(*args, **kwargs)

        def wait(x):
            time.sleep(0.5)  # a teacher so large that a block of rows takes long
            return explain(x)

        return wait

    monkeypatch.setitem(ATTRIBUTIONS, "tree_shap", slowly)
    X, y = housing
    X, y = pd.concat([X] * 16, ignore_index=True), np.tile(y, 16)
    teacher = LGBMRegressor(n_estimators=100, verbosity=-1, n_jobs=1).fit(
        X.assign(ocean_proximity=X["ocean_proximity"].astype("category")), y
    )
    model = Gbdt2NNRegressor(FrozenEstimator(teacher), **(quick | {"time_budget": 2.0}))
    with pytest.warns(UserWarning, match=r"left time for the attributions of \d+ of 10240 training rows"):
        model.fit(X, y)
    assert 0 < model.n_explained_ < 10240
    assert model.n_synthetic_ == 300
    assert np.isfinite(model.predict(X)).all()


def test_few_rows_train_without_a_split_and_say_so(numbers, quick):
    X, y = numbers
    with pytest.warns(UserWarning, match="40 rows are fewer than 60"):
        model = Gbdt2NNRegressor(LGBMRegressor(min_child_samples=2, **SMALL_LGBM), **quick).fit(X[:40], y[:40])
    assert model.fidelity_["n_rows"] == 40
    assert model.fidelity_["measured_on"] == "rows that it was trained on"


def test_scorers(housing_model, housing):
    X, y = housing
    found = fidelity(housing_model, X, y)
    assert score_fidelity(housing_model, X, y) == pytest.approx(found["score_r2"])
    assert attribution_fidelity(housing_model, X, y) == pytest.approx(found["attribution_r2"])


def test_an_interrupt_leaves_a_fitted_estimator(numbers, quick, monkeypatch):
    from gbdt2nn import training

    original = training._Run.log

    def interrupted(self, rate):
        original(self, rate)
        if self.done >= 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._Run, "log", interrupted)
    X, y = numbers
    with pytest.warns(UserWarning, match="interrupted after 40 steps"):
        model = Gbdt2NNRegressor(**quick).fit(X, y)
    assert model.n_steps_ == 40
    assert model.history_.interrupted
    assert np.isfinite(model.predict(X)).all()
    assert model.fidelity_["n_rows"] == 30


def test_verbose_shows_terms_and_fidelity(numbers, quick, capsys):
    Gbdt2NNRegressor(verbose=1, **quick).fit(*numbers)
    shown = capsys.readouterr().err
    for word in ("student", "imitation", "explanation", "score_r2", "60/60"):
        assert word in shown


def test_not_fitted():
    for call in ("predict", "explain", "explain_teacher"):
        with pytest.raises(NotFittedError):
            getattr(Gbdt2NNRegressor(), call)(np.ones((2, 2)))
    with pytest.raises(NotFittedError):
        fidelity(Gbdt2NNRegressor(), np.ones((2, 2)))
