"""The commands on the real estimators, with a few rows and steps."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import data, demo, records, runner, search
from benchmarks.methods import METHODS
from benchmarks.report import report
from benchmarks.suites import SUITES

QUICK = {"max_steps": 20, "n_synthetic": 100, "student_params": {"width": 16}}


@pytest.fixture
def few_rows(monkeypatch):
    """California housing, 240 rows of it."""
    table = data.load("california_housing")
    rows = np.random.default_rng(0).permutation(len(table.X))[:240]
    small = replace(table, X=table.X.iloc[rows].reset_index(drop=True), y=table.y[rows])
    monkeypatch.setattr(data, "load", lambda name: small)
    return small


@pytest.mark.parametrize("name", SUITES["smoke"].data)
def test_every_method_runs_on_the_smoke_suites_data(name, tmp_path, monkeypatch):
    # The loading of libraries is not timed here.
    monkeypatch.setattr(runner, "_warm_up_once", lambda: None)
    monkeypatch.setitem(SUITES, "smoke", replace(SUITES["smoke"], student=QUICK, max_rows=240))
    counts = runner.run("smoke", data_names=[name], out=tmp_path, say=lambda line: None)
    assert (counts.made, counts.failed) == (len(METHODS), 0)
    found = {record["method"]: record for record in records.read_all(tmp_path)}
    # The label-only and the score-only student were shown no explanation, so there is none to measure.
    assert found["labels_only"]["fidelity"]["attribution_r2"] is None
    assert found["score_imitation"]["fidelity"]["attribution_r2"] is None
    complete = found["self_explaining"]["fidelity"]
    assert complete["attribution_r2"] is not None
    assert complete["completeness_gap"] <= 1e-5 * max(1.0, complete["score_max_error"])
    assert {record["student"]["n_steps"] for record in found.values() if "student" in record} == {20}
    assert found["labels_only"]["student"]["n_synthetic"] == 0
    assert "| self explaining | 1 |" in report(list(found.values()))


def test_a_time_budget_includes_the_teacher(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_warm_up_once", lambda: None)
    monkeypatch.setitem(
        SUITES, "smoke", replace(SUITES["smoke"], student={**QUICK, "max_steps": 10**6}, max_rows=240, time_budget=1.0)
    )
    runner.run("smoke", data_names=["wine"], method_names=["self_explaining"], out=tmp_path, say=lambda line: None)
    (record,) = records.read_all(tmp_path)
    assert record["status"] == "ok"
    assert 0 < record["student"]["n_steps"] < 10**6
    assert record["student"]["parameters"]["time_budget"] == pytest.approx(1.0 - record["seconds"]["teacher"])


def test_warming_up_trains_each_student():
    from benchmarks.methods import warm_up

    warm_up()


def test_the_search_is_recorded(few_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "GRID", {"teacher__num_leaves": [4, 8], "explanation_weight": [0.0, 1.0]})
    monkeypatch.setattr(search, "TEACHER", {"n_estimators": 10, "learning_rate": 0.1})
    monkeypatch.setattr(search, "STUDENT", QUICK)
    monkeypatch.setattr(search, "N_JOBS", 1)
    search.search(tmp_path, say=lambda line: None)
    record = records.read(tmp_path / "search" / "california_housing.json")
    assert (record["n_candidates"], record["n_folds"]) == (4, 3)
    assert set(record["best_params"]) == {"teacher__num_leaves", "explanation_weight"}
    assert record["best_score"] == max(candidate["score"] for candidate in record["candidates"])
    assert "california_housing | 4 × 3 |" in report([record])


def test_the_search_has_twelve_candidates():
    assert [len(values) for values in search.GRID.values()] == [3, 4]


def test_the_demo_prints_its_table_and_writes_its_report(few_rows, tmp_path):
    lines = []
    path = tmp_path / "report.html"
    demo.demo(path, say=lines.append, teacher_params={"n_estimators": 10}, n_jobs=1, **QUICK)
    text = "\n".join(lines)
    for row in ("RMSE", "Score R²", "Attribution R²", "Completeness gap", "Time to predict and explain a row"):
        assert row in text
    assert "192 rows to train on, 48 to test on" in text
    assert path.stat().st_size > 10_000
