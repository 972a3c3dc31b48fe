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
    names = ("papers-tabular", "labels", "minute", "limits", "scale", "training", "training_minute")
    apart = tuple(SUITES[name] for name in names)
    if suite is SUITES["tabular"]:
        assert len(suite.data) - len(lacking) >= 11
    else:
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


def test_tabular_is_of_every_kind():
    """At least 15 real sets that need nothing but the folder of the project's data, and of each kind one that ships."""
    tabular = SUITES["tabular"]
    assert len(set(tabular.data)) == len(tabular.data) >= 15
    entries = data.available()
    here = [entries[name] for name in tabular.data if name in entries]
    assert {entry.task for entry in here} >= {"regression", "binary", "multiclass"}
    assert any(entry.n_categories for entry in here)
    assert any(entry.n_missing for entry in here)
    settings = tabular.settings("yacht")
    assert settings["published_splits"]
    assert (settings["max_rows"], settings["time_budget"], settings["clock"], settings["n_jobs"]) == (
        2000,
        5.0,
        "cpu",
        1,
    )
    assert settings["teacher_apart"]
    assert settings["teacher"] == {"n_estimators": 300, "learning_rate": 0.05, "num_leaves": 31}


def test_scale_lets_one_thing_grow_at_a_time():
    scale = SUITES["scale"]
    usual = {**scale.settings("leaves_31"), "max_rows": None}
    for name in scale.data:
        settings = scale.settings(name)
        differs = {key for key in settings if settings[key] != usual[key]} - {"max_rows", "source"}
        assert differs <= ({"teacher"} if name.startswith(("trees", "leaves", "classes")) else set())
        assert settings["time_budget"] is None
    sizes = {scale.settings(name)["max_rows"] for name in scale.data if name.startswith("rows_")}
    assert sizes == {2_000, 10_000, 50_000, 200_000, 500_000}


def test_made_tables_are_the_same_each_time():
    entry = data.available()["made_5_classes"]
    first, again = entry.load(), entry.load()
    assert first.X.equals(again.X)
    assert (first.y == again.y).all()
    assert set(first.y) == set(range(5))
    assert first.X.shape == (entry.n_rows, entry.n_features)
    # missing values stand where they are said to stand
    assert list(first.X.columns[first.X.isna().any()]) == ["x9", "x19"]


def test_every_method_is_a_described_function():
    for method in METHODS.values():
        assert list(inspect.signature(method).parameters) == ["problem"]
        assert method.__doc__
