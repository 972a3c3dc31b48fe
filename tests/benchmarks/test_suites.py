import inspect

import pytest
from lightgbm import LGBMRegressor
from xgboost import XGBRegressor

from benchmarks import data
from benchmarks.methods import METHODS
from benchmarks.suites import SUITES, Suite

each_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


@each_suite
def test_a_suite_names_what_there_is(suite, monkeypatch):
    monkeypatch.delenv("GBDT2NN_DATA", raising=False)
    # The shipped suites run from a bare checkout; this one says what it lacks there, and half of it is there.
    lacking = {name for name in suite.data if suite.settings(name).get("source", name) not in data.available()}
    apart = (SUITES["papers-tabular"], SUITES["labels"], SUITES["minute"], SUITES["training"])
    assert len(lacking) <= (len(suite.data) // 2 if suite in apart else 0)
    assert set(suite.methods) <= set(METHODS)
    assert set(suite.by_data) <= set(suite.data)


@each_suite
def test_teachers_parameters_exist(suite):
    libraries = {"lightgbm": LGBMRegressor, "xgboost": XGBRegressor}
    for name in suite.data:
        teacher = dict(suite.settings(name)["teacher"])
        known = libraries[teacher.pop("library", "lightgbm")]().get_params()
        assert set(teacher) <= set(known)


def test_settings_of_one_data_set_are_merged():
    suite = Suite(
        "", ("a", "b"), teacher={"n_estimators": 9, "num_leaves": 3}, by_data={"b": {"teacher": {"n_estimators": 2}}}
    )
    assert suite.settings("a")["teacher"] == {"n_estimators": 9, "num_leaves": 3}
    assert suite.settings("b")["teacher"] == {"n_estimators": 2, "num_leaves": 3}


def test_the_protocol_stands():
    main = SUITES["main"]
    assert main.settings("california_housing")["teacher"] == {
        "n_estimators": 1000,
        "learning_rate": 0.05,
        "num_leaves": 31,
    }
    assert (main.patience, main.n_jobs, main.n_seeds) == (50, 2, 3)
    assert main.time_budget <= 150
    assert main.settings("letter")["teacher"]["n_estimators"] == 60
    assert main.settings("adult")["part"] == "train"


def test_every_method_is_a_described_function():
    for method in METHODS.values():
        assert list(inspect.signature(method).parameters) == ["problem"]
        assert method.__doc__
