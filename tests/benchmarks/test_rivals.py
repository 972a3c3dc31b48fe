"""Rivals: what they return, how it is held against the teacher, and that each runs to its end where it is installed."""

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

import gbdt2nn
from benchmarks import Lacking, cell, methods
from benchmarks.problem import Problem
from benchmarks.rivals import NEEDS, RIVALS, amortised, contract
from benchmarks.rivals.contract import EPSILON, LabelTaught, Rival, RivalAbsent, RivalCannot
from benchmarks.rivals.tables import Filled, Inputs
from benchmarks.rivals.teacher_side import TeacherSide

N_TEST = 60


def table(task):
    """A small table of each task: numbers, numbers and a category with holes, counts with exposure."""
    if task in ("regression", "poisson"):
        bunch = load_diabetes(as_frame=True)
        X, y = bunch.data.copy(), bunch.target.to_numpy()
        X.loc[::7, "bmi"] = np.nan
        X["sex"] = pd.Categorical(np.where(X["sex"] > 0, "f", "m")).set_categories(["f", "m", "x"])
        X.loc[::11, "sex"] = None
        if task == "poisson":
            return X, np.floor(y / 50), np.linspace(0.5, 1.5, len(y))
        return X, y, None
    bunch = {"binary": load_breast_cancer, "multiclass": load_wine}[task](as_frame=True)
    X = bunch.data.iloc[:, :6].rename(columns=lambda name: name.replace(" ", "_").replace("/", "_"))
    return X, bunch.target_names[bunch.target].astype(object), None


def problem_of(task, **own):
    """A problem, its test rows and their labels; labels of classes are text."""
    X, y, weight = table(task)
    order = np.random.default_rng(0).permutation(len(X))[:300]
    test, rows = order[:N_TEST], order[N_TEST:]
    estimator = LGBMRegressor if task in ("regression", "poisson") else LGBMClassifier
    params = {"objective": "poisson"} if task == "poisson" else {}
    teacher = estimator(n_estimators=15, num_leaves=5, min_child_samples=5, n_jobs=1, verbosity=-1, **params)
    row_weight = None if weight is None else weight[rows]
    teacher.fit(X.iloc[rows], y[rows], sample_weight=row_weight)
    student = {"max_steps": 30, "n_synthetic": 200}
    problem = Problem(task, X.iloc[rows], y[rows], teacher, student, None, 1, 0, weight=row_weight, **own)
    return problem, X.iloc[test], y[test], None if weight is None else weight[test]


TASKS = ("regression", "binary", "multiclass", "poisson")


@pytest.fixture(scope="module", params=TASKS)
def given(request):
    return problem_of(request.param)


@pytest.fixture(scope="module")
def plain_student(given):
    return methods.score_imitation(given[0])


class StudentAsRival(Rival):
    """A student of ours, measured by the way of rivals."""

    explains = "own"

    def __init__(self, side, model):
        super().__init__(side)
        self.model = model

    def raw_score(self, X):
        return self.model.distilled_.student_explained(X)[0]

    def explain(self, X):
        return self.model.distilled_.student_explained(X)[1], self.model.base_value_

    def describe(self):
        return {"n_parameters": 1}


class TeacherAsRival(LabelTaught):
    """The teacher's own predictions, as labels teach them."""

    explains = "own"

    def response(self, X):
        if self.classes_ is None:
            return self.side.teacher.predict(X)[:, None]
        return contract.in_order(self.side.teacher.predict_proba(X), self.side.teacher.classes_, self.classes_)

    def explain(self, X):
        labels = self.side.labels(X)
        # softmax does not see what is added to all classes
        return labels.attribution + (0.5 if self.side.n_outputs > 1 else 0.0), labels.base_value - 2.0

    def describe(self):
        return {"n_parameters": None}


# The way of rivals is no other measure than the public one.
def test_a_student_measured_as_a_rival_has_the_numbers_of_fidelity(given):
    problem, X, y, weight = given
    student = methods.self_explaining(problem)
    expected = gbdt2nn.fidelity(student, X, y, weight)
    side = TeacherSide(problem.teacher, problem.X)
    found = side.fidelity(StudentAsRival(side, student), X, y, weight)
    assert list(found) == list(expected)
    for key, value in expected.items():
        if isinstance(value, dict):
            assert list(found[key]) == list(value)
            assert list(found[key].values()) == pytest.approx(list(value.values()), rel=1e-6, abs=1e-9, nan_ok=True), (
                key
            )
        elif isinstance(value, float):
            assert found[key] == pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True), key
        else:
            assert found[key] == value, key
    assert found["score_r2"] > 0.3


def test_the_teachers_own_predictions_are_perfect(given):
    problem, X, y, weight = given
    side = TeacherSide(problem.teacher, problem.X)
    found = side.fidelity(TeacherAsRival(side), X, y, weight)
    assert found["score_r2"] == pytest.approx(1.0, abs=1e-8)
    assert found["attribution_r2"] == pytest.approx(1.0, abs=1e-8)
    assert found["student_metric"] == pytest.approx(found["teacher_metric"], rel=1e-6)
    if side.n_outputs > 1:  # the number added to all classes is taken away, feature by feature
        assert found["completeness_gap"] < 1e-6
    else:
        assert found["completeness_gap"] == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("link", ["identity", "exponential", "logistic", "softmax"])
def test_raw_scores_of_predictions_are_the_inverse_of_the_link(link):
    from gbdt2nn.teachers.links import Link

    raw = np.random.default_rng(0).normal(size=(20, 3 if link == "softmax" else 1))
    back = contract.raw_of_response(Link(link)(raw), link)
    shift = (raw - back).mean(axis=1, keepdims=True) if link == "softmax" else 0.0
    np.testing.assert_allclose(back + shift, raw, rtol=1e-9)


def test_certain_probabilities_stand_at_epsilon():
    found = contract.raw_of_response(np.array([[0.0], [1.0]]), "logistic")
    assert found[:, 0] == pytest.approx([np.log(EPSILON), -np.log(EPSILON)], rel=1e-6)
    assert contract.raw_of_response(np.array([[0.0, 1.0]]), "softmax")[0, 0] == pytest.approx(np.log(EPSILON))
    assert contract.raw_of_response(np.array([[0.0]]), "exponential")[0, 0] == pytest.approx(np.log(EPSILON))
    with pytest.raises(RivalCannot, match="softplus"):
        contract.raw_of_response(np.ones((1, 1)), "softplus")


def test_columns_of_classes_come_in_the_teachers_order():
    probability = np.array([[0.2, 0.8]])
    assert contract.in_order(probability, ["b", "a"], np.array(["a", "b", "c"], object)).tolist() == [[0.8, 0.2, 0.0]]
    assert contract.in_order(probability, ["b", "a"], np.array(["a", "b"], object)).tolist() == [[0.2]]


def measured(method, given):
    """The record of one method, as the runner's cell fills it."""
    problem, X, y, weight = given
    shared = {
        "task": problem.task, "teacher": problem.teacher, "teacher_seconds": {"wall": 0.0, "cpu": 0.0},
        "fit": (problem.X, problem.y, problem.weight), "test": (X, y, weight),
        "described": {"table": {"task": problem.task}},
    }  # fmt: skip
    settings = {"time_budget": None, "student": problem.student, "n_jobs": 1}
    record = {"method": "any", "metrics": {}, "fidelity": None}
    cell.measure(record, shared, settings, method, 0)
    return record


def check(record, given, *, explains, has_score=True):
    """What every record of a rival must hold."""
    problem, X, y, weight = given
    fidelity, student = record["fidelity"], record["student"]
    # the keys of `gbdt2nn.fidelity`, as another test here shows
    side = TeacherSide(problem.teacher, problem.X)
    assert set(side.fidelity(TeacherAsRival(side), X, y, weight)) <= set(fidelity)
    assert student["rival"] is True
    assert record["explains"] == explains
    assert (record["explain_seconds_per_row"] is None) == (explains is None)
    assert np.isfinite(fidelity["attribution_r2"]) == (explains is not None)
    if has_score:
        assert np.isfinite(fidelity["score_r2"])
        assert record["predict_seconds_per_row"] > 0
        assert np.isfinite(list(record["metrics"]["student"].values())).all()
    else:
        assert fidelity["score_r2"] is None
        assert record["predict_seconds_per_row"] is None
        assert record["metrics"]["student"] == {}


def test_the_teacher_and_students_have_their_seconds_a_row():
    given = problem_of("binary")
    for method, explains in (("teacher", "own"), ("self_explaining", "own"), ("score_imitation", None)):
        record = measured(methods.METHODS[method], given)
        assert record["predict_seconds_per_row"] > 0
        assert record["explains"] == explains
        assert (record["explain_seconds_per_row"] is None) == (explains is None)


def test_scikit_learns_network(given):
    record = measured(methods.METHODS["sklearn_mlp"], given)
    check(record, given, explains=None)
    assert record["student"]["n_parameters"] > 100
    assert record["metrics"]["student"].get("accuracy", 1.0) > 0.8


def test_permutation_shap_of_a_plain_student(given, plain_student, monkeypatch):
    from benchmarks.rivals.post_hoc import ExplainedFromOutside

    monkeypatch.setattr(ExplainedFromOutside, "most_explained", 25)
    record = measured(methods.METHODS["score_imitation_permutation"], given)
    check(record, given, explains="permutation_shap")
    student, (_, X, y, weight) = plain_student, given
    # the score is measured on all rows, the explanation on the first ones
    plain = gbdt2nn.fidelity(student, X, y, weight)
    first = gbdt2nn.fidelity(
        student, X.iloc[:25], sample_weight=None if weight is None else weight[:25], explainer="permutation_shap"
    )
    assert record["fidelity"]["score_r2"] == pytest.approx(plain["score_r2"])
    assert record["fidelity"]["attribution_r2"] == pytest.approx(first["attribution_r2"])
    assert (record["fidelity"]["n_rows"], record["fidelity"]["n_explained_rows"]) == (N_TEST, 25)


def test_a_network_after_fastshap(given, monkeypatch):
    monkeypatch.setattr(amortised, "MOST_EPOCHS", 20)
    record = measured(methods.METHODS["fastshap_like"], given)
    check(record, given, explains="own", has_score=False)
    # its shares are made to add up to the teacher's own score
    assert record["fidelity"]["completeness_gap"] < 1e-4 * max(
        1.0, abs(given[2].max()) if given[0].task == "regression" else 1.0
    )
    assert record["fidelity"]["attribution_r2"] > 0.2


def test_a_network_after_viashap(given, monkeypatch):
    monkeypatch.setattr(amortised, "MOST_EPOCHS", 20)
    record = measured(methods.METHODS["viashap_like"], given)
    check(record, given, explains="own")
    assert record["metrics"]["student"].get("accuracy", 1.0) > 0.6
    assert record["fidelity"]["completeness_gap"] < 1e-6 * max(
        1.0, np.abs(given[0].teacher.predict(given[1], raw_score=True)).max()
    )


# A budget ends the training of what is written here.
def test_amortised_explainers_keep_to_a_time_budget():
    import time
    from dataclasses import replace

    problem = replace(problem_of("regression")[0], time_budget=0.3)
    for name in ("fastshap_like", "viashap_like"):
        start = time.perf_counter()
        assert RIVALS[name](problem).describe()["n_epochs"] < amortised.MOST_EPOCHS
        assert time.perf_counter() - start < 5.0


def test_coalitions_are_pairs_with_their_complement():
    present = amortised.coalitions(200, 5, np.random.default_rng(0))
    assert present.shape == (200, amortised.COALITIONS, 5)
    half = amortised.COALITIONS // 2
    assert (present[:, :half] == ~present[:, half:]).all()
    sizes = present.sum(axis=2)
    assert sizes.min() == 1
    assert sizes.max() == 4
    # chance in proportion to 1 / (s (5 - s)): 1/4 against 1/6
    assert np.mean((sizes == 1) | (sizes == 4)) == pytest.approx(0.6, abs=0.03)


# Of a sum, the Shapley values against rows of the background are known: FastSHAP's least squares must find them.
def test_the_least_squares_of_fastshap_find_the_values_of_a_sum():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(1500, 3)), columns=["a", "b", "c"])
    teacher = LGBMRegressor(n_estimators=60, num_leaves=4, max_depth=1, learning_rate=0.2, n_jobs=1, verbosity=-1)
    teacher.fit(X, 3 * X["a"] + X["b"])
    found = RIVALS["fastshap_like"](Problem("regression", X, X["a"].to_numpy(), teacher, {}, None, 1, 0))
    # trees of one split are a sum, where interventional and path-dependent values differ by a constant alone
    labels = TeacherSide(teacher, X).labels(X)
    ours, theirs = (part - part.mean(axis=0) for part in (found.explain(X)[0], labels.attribution))
    assert 1 - ((ours - theirs) ** 2).sum() / (theirs**2).sum() > 0.97


def test_filled_tables_have_no_holes_and_keep_unseen_categories():
    X = pd.DataFrame({"n": [1.0, np.nan, 5.0, 3.0], "c": pd.Categorical(["u", None, "v", "u"])})
    filled = Filled(X.iloc[:2])
    found = filled.transform(X)
    assert not found.isna().any().any()
    assert found["n"].tolist() == [1.0, 1.0, 5.0, 3.0]
    assert found["c"].tolist() == ["u", "(missing)", "v", "u"]
    assert found["n is missing"].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_inputs_are_zero_at_the_mean_and_mark_what_is_missing():
    x = np.array([[1.0, 0.0, np.nan], [3.0, 1.0, np.nan], [np.nan, np.nan, np.nan], [2.0, 1.0, np.nan]])
    inputs = Inputs(x, [False, True, True])
    assert inputs.feature.tolist() == [0, 0, 1, 1, 1, 2]
    found = inputs.transform(np.array([[2.0, 1.0, np.nan], [np.inf, 7.0, 3.0]]))
    assert found[0].tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]
    assert found[1].tolist() == [10.0, 1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_an_absent_package_is_named_with_its_cure(name, monkeypatch):
    def absent(module):
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(contract, "import_module", absent)
    with pytest.raises(RivalAbsent, match=f"pip install {NEEDS[name]}") as lacking:
        RIVALS[name](problem_of("binary")[0])
    assert isinstance(lacking.value, Lacking)


def test_every_method_of_a_group_exists():
    for name, group in methods.GROUPS.items():
        assert group, name
        assert set(group) <= set(methods.METHODS)
    assert set(methods.GROUPS["students"]) <= set(methods.GROUPS["all"])
    assert methods.needs("tabm") == "pytabkit"
    assert methods.needs("self_explaining") is None


# ------------------------------------------------------------------------------------------ where they are installed


@pytest.fixture
def pytabkit_in_short(monkeypatch):
    """TabM and RealMLP with few epochs; what they are is not touched."""
    if find_spec("pytabkit") is None:
        pytest.skip("pytabkit is not installed")
    from benchmarks.rivals import nets

    whole = nets._estimator
    small = {
        "TabM": {"n_epochs": 25, "tabm_k": 4, "d_block": 32, "n_blocks": 1, "batch_size": 64, "lr": 0.01},
        "RealMLP": {"n_epochs": 25},
    }

    def estimator(module, name, problem):
        return whole(module, name, problem).set_params(**small[name.split("_")[0]])

    monkeypatch.setattr(nets, "_estimator", estimator)


@pytest.mark.parametrize("name", ["tabm", "realmlp"])
def test_nets_of_pytabkit_on_labels(name, given, pytabkit_in_short):
    if given[0].task == "poisson":
        with pytest.raises(RivalCannot, match="counts"):
            measured(methods.METHODS[name], given)
        return
    record = measured(methods.METHODS[name], given)
    check(record, given, explains=None)
    assert record["student"]["version"]
    assert record["student"]["n_parameters"] > 500
    assert record["metrics"]["student"].get("accuracy", 1.0) > 0.6


@pytest.mark.parametrize("name", ["tabm_scores", "realmlp_scores"])
def test_nets_of_pytabkit_on_scores(name, given, pytabkit_in_short):
    record = measured(methods.METHODS[name], given)
    check(record, given, explains=None)
    assert record["fidelity"]["score_r2"] > 0.2


@pytest.mark.parametrize("name", ["ebm", "ebm_scores"])
def test_explainable_boosting_machines(name, given, monkeypatch):
    pytest.importorskip("interpret.glassbox", reason="interpret-core is not installed")
    monkeypatch.setattr("benchmarks.rivals.ebm.OWN", {"outer_bags": 2, "max_rounds": 100, "interactions": 2})
    record = measured(methods.METHODS[name], given)
    check(record, given, explains="own")
    # its shares add up to its score
    assert record["fidelity"]["completeness_gap"] < 1e-6 * max(
        1.0, np.abs(given[2]).max() if given[0].task == "regression" else 10.0
    )
    # what learned labels may be surer of them than so small a teacher: its direction tells, its size does not
    assert record["fidelity"]["attribution_cosine"] > 0.5
    assert name == "ebm" or record["fidelity"]["score_r2"] > 0.6


@pytest.mark.parametrize("name", ["autogluon_distill", "autogluon_distill_plain"])
def test_autogluon_distils_the_given_teacher(name, given, monkeypatch):
    if given[0].task == "poisson":
        with pytest.raises(RivalCannot, match="counts"):
            measured(methods.METHODS[name], given)
        return
    pytest.importorskip("autogluon.tabular", reason="autogluon.tabular is not installed")
    monkeypatch.setattr("benchmarks.rivals.autogluon.STUDENTS", {"NN_TORCH": {"num_epochs": 10, "learning_rate": 0.01}})
    record = measured(methods.METHODS[name], given)
    check(record, given, explains=None)
    assert record["fidelity"]["score_r2"] > (0.5 if name.endswith("plain") else 0.0)
