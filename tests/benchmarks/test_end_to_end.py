"""The commands on the real estimators, with a few rows and steps."""

from dataclasses import replace

import numpy as np
import pytest
from lightgbm import LGBMRegressor
from sklearn.frozen import FrozenEstimator

import gbdt2nn
from benchmarks import BenchmarkError, cell, data, demo, records, runner, search, stream, training_time
from benchmarks.reasons import reasons
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
    monkeypatch.setattr(cell, "warm_up_once", lambda: None)
    monkeypatch.setitem(SUITES, "smoke", replace(SUITES["smoke"], student=QUICK, max_rows=240))
    counts = runner.run("smoke", data_names=[name], out=tmp_path, say=lambda line: None)
    assert (counts.made, counts.failed) == (len(SUITES["smoke"].methods), 0)
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


def test_every_row_of_the_papers_tables_can_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(cell, "warm_up_once", lambda: None)
    few = {"max_steps": 4, "n_synthetic": 0, "student_params": {"hidden": (8,), "n_groups": 2}}
    monkeypatch.setitem(SUITES, "papers-smoke", replace(SUITES["papers-smoke"], student=few, max_rows=150, reasons=3))
    names = [name for name in SUITES["papers-smoke"].methods if name not in ("auxiliary_head", "self_explaining")]
    names += ["deepgbm_d2", "gbdt2nn_integrated_shap"]
    counts = runner.run("papers-smoke", data_names=["wine"], method_names=names, out=tmp_path, say=lambda line: None)
    assert (counts.made, counts.failed) == (len(names), 0)
    found = {record["method"]: record for record in records.read_all(tmp_path)}
    assert found["gbdt2nn_head_shap"]["fidelity"]["attribution_r2"] is not None
    post_hoc = found["gbdt2nn"]["reasons"]["post_hoc"]
    assert set(post_hoc) == {"tree_shap", "tree_path"}
    assert set(post_hoc["tree_path"]) == {"permutation_shap", "gradient_x_input", "integrated_gradients"}
    assert post_hoc["tree_path"] != post_hoc["tree_shap"]  # one student, held against two explanations of the teacher
    assert found["gbdt2nn"]["fidelity"]["attribution_r2"] is None
    # D2 is GBDT2NN: the same steps give the same student
    assert found["deepgbm_d2"]["metrics"]["student"] == pytest.approx(found["gbdt2nn"]["metrics"]["student"])
    assert found["gbdt2nn"]["student"]["embedding_r2"] > 0.99
    assert found["gbdt2nn"]["seconds"]["student_cpu"] > 0
    text = report(list(found.values()))
    assert "| gbdt2nn | – |" in text
    assert "Seconds are the processor's." in text
    assert "computes as the teacher" in text


def test_a_stream_is_recorded(tmp_path):
    quick = {"max_steps": 10, "n_synthetic": 0, "explanation_weight": 0.0, "student_params": {"hidden": (8,)}}
    record = stream.stream("bike_sharing", out=tmp_path, max_rows=600, student=quick, n_jobs=1, say=lambda line: None)
    assert record["rows"] == [100] * 6
    assert {len(errors) for errors in record["errors"].values()} == {5}
    assert record["errors"]["gbdt2nn_frozen"][0] == record["errors"]["gbdt2nn_updated"][0]  # nothing learned yet
    assert record["errors"]["gbdt2nn_frozen"][1] != record["errors"]["gbdt2nn_updated"][1]
    text = report(records.read_all(tmp_path))
    assert "## Drifting streams" in text
    assert "| gbdt2nn updated |" in text
    with pytest.raises(BenchmarkError, match="a stream needs 300 rows at least, got 299"):
        stream.stream("bike_sharing", out=tmp_path, max_rows=299, say=lambda line: None)


def test_a_time_budget_includes_the_teacher(tmp_path, monkeypatch):
    monkeypatch.setattr(cell, "warm_up_once", lambda: None)
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


def test_training_time_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(training_time, "warm_up", lambda: None)
    own = {**training_time.OWN, "n_groups": 2, "hidden": (8,)}
    record = training_time.training_time(
        out=tmp_path, n_rows=1000, n_epochs=2, n_profiled=3, own=own, say=lambda line: None
    )
    assert (record["n_train"], record["batch_size"], record["n_steps"]) == (800, 256, 6)  # 2 * 800 / 256
    assert record["settings"]["n_features"] == 58
    assert record["seconds"]["total_cpu"] > 0.0
    shares = [one["share"] for one in record["profile"]]
    assert shares == sorted(shares, reverse=True)
    assert 0.0 < sum(shares) <= 1.0
    assert [one["kind"] for one in records.read_all(tmp_path)] == ["training"]


def test_the_teachers_reasons_are_the_same_whichever_student_asks(numbers):
    """They are asked once for all methods of a seed: the same rows, orders and background, whatever the student's codes."""
    X, y = numbers
    teacher = FrozenEstimator(LGBMRegressor(n_estimators=10, num_leaves=6, verbosity=-1, n_jobs=1).fit(X, y))
    answers = []
    for student in ("leaf_embedding", "mlp"):
        options = {"student": student, "max_steps": 2, "n_synthetic": 50, "n_jobs": 1, "random_state": 0}
        shared = {}
        found = reasons(gbdt2nn.Gbdt2NNRegressor(teacher, **options).fit(X, y).distilled_, X[:6], shared)
        assert found["n_rows"] == 6
        assert found["post_hoc"] == {}  # it states an explanation of its own
        answers.append(shared["teacher_reasons"])
    np.testing.assert_allclose(answers[0].attribution, answers[1].attribution, atol=1e-12)
    np.testing.assert_allclose(answers[0].base_value, answers[1].base_value, atol=1e-12)
