import json

import numpy as np
import pytest

from benchmarks import BenchmarkError, data, records
from benchmarks.runner import run
from benchmarks.splits import split


@pytest.fixture
def lines():
    return []


@pytest.fixture
def start(tmp_path, fake, lines):
    def start(**options):
        return run("tiny", **{"out": tmp_path, "say": lines.append, **options})

    return start


def test_a_run_leaves_one_record_for_each_result(start, tmp_path, fake):
    counts = start(data_names=["diabetes", "wine"], n_seeds=2)
    assert (counts.made, counts.failed, counts.kept) == (8, 0, 0)
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert "tiny/wine/mean-seed1.json" in paths
    record = records.read(tmp_path / "tiny/diabetes/mean-seed0.json")
    assert (record["suite"], record["data"], record["method"], record["seed"]) == ("tiny", "diabetes", "mean", 0)
    assert record["rows"] == {"train": 130, "stop": 30, "test": 40}
    assert record["table"]["task"] == "regression"
    assert record["teacher"]["n_trees"] <= 3
    assert 1 <= record["teacher"]["depth"] <= 3  # four leaves
    assert record["student"]["n_steps"] == 7
    assert record["student"]["n_parameters"] == 5
    assert "teacher" not in record["student"]["parameters"]
    assert record["fidelity"] == {"score_r2": 0.5, "attribution_r2": None, "n_rows": 40}
    assert set(record["metrics"]) == {"teacher", "student"}
    assert record["seconds"]["total"] == pytest.approx(record["seconds"]["teacher"] + record["seconds"]["student"])
    alone = records.read(tmp_path / "tiny/diabetes/teacher-seed0.json")
    assert alone["fidelity"] is None
    assert alone["metrics"]["teacher"] == record["metrics"]["teacher"]


def test_multiclass_metrics_and_settings_of_one_data_set(start, tmp_path):
    start(data_names=["wine"])
    record = records.read(tmp_path / "tiny/wine/mean-seed0.json")
    assert record["settings"]["teacher"] == {"n_estimators": 2, "num_leaves": 4}
    assert record["table"]["n_classes"] == 3
    assert record["metrics"]["student"]["log_loss"] == pytest.approx(np.log(3))
    assert record["teacher"]["n_trees"] == 3 * record["teacher"]["n_rounds"]


def test_binary_metrics(start, tmp_path):
    start(data_names=["breast_cancer"])
    record = records.read(tmp_path / "tiny/breast_cancer/mean-seed0.json")
    assert record["metrics"]["student"]["auc"] == pytest.approx(0.5)
    assert record["metrics"]["teacher"]["auc"] > 0.8


def test_methods_see_no_test_row(start, fake):
    start()
    (problem,) = fake
    table = data.load("diabetes")
    order = np.random.default_rng(0).permutation(len(table.X))[:200]
    _, _, test = split(order)
    assert len(problem.X) == 160
    assert not set(problem.X.index) & set(test)
    assert 0 < problem.time_budget < 100  # what the teacher left


def test_the_split_is_65_15_20_and_misses_no_row():
    parts = split(np.arange(1000))
    assert [len(part) for part in parts] == [650, 150, 200]
    assert np.array_equal(np.concatenate(parts), np.arange(1000))


def test_a_method_may_have_parameters_of_its_own(start, fake, monkeypatch):
    from dataclasses import replace

    from benchmarks.suites import SUITES

    own = {"mean": {"batch_size": 7}, "teacher": {"batch_size": 8}}
    monkeypatch.setitem(SUITES, "tiny", replace(SUITES["tiny"], student={"max_steps": 3}, by_method=own))
    start()
    (problem,) = fake
    assert problem.student == {"max_steps": 3, "batch_size": 7}


def test_what_is_there_is_kept(start, tmp_path, lines):
    start()
    path = tmp_path / "tiny/diabetes/mean-seed0.json"
    before = path.read_bytes()
    counts = start(n_seeds=2)
    assert (counts.made, counts.kept) == (2, 2)
    assert path.read_bytes() == before
    assert f"kept     {path}" in lines


def test_a_failing_method_is_a_record_and_no_stop(start, tmp_path):
    counts = start(method_names=["broken", "mean"])
    assert (counts.made, counts.failed) == (2, 1)
    record = records.read(tmp_path / "tiny/diabetes/broken-seed0.json")
    assert record["status"] == "failed"
    assert record["error"]["type"] == "ValueError"
    assert record["error"]["message"] == "depth must be positive, got -1"
    assert str(tmp_path.home()) not in record["error"]["where"]
    assert records.read(tmp_path / "tiny/diabetes/mean-seed0.json")["status"] == "ok"
    # It is kept like any other, and run again on demand.
    assert start(method_names=["broken"]).kept == 1
    assert start(method_names=["broken"], retry_failed=True).made == 1


def test_a_failing_teacher_fails_each_of_its_methods(start, monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.cell.fit_teacher", lambda *_, **__: 1 / 0)
    assert start().failed == 2
    record = records.read(tmp_path / "tiny/diabetes/mean-seed0.json")
    assert record["error"]["type"] == "ZeroDivisionError"


def test_an_interrupted_fit_is_no_result(start, tmp_path):
    # The estimator turns Ctrl-C into a warning and a usable student; a benchmark stops instead.
    with pytest.raises(KeyboardInterrupt):
        start(method_names=["stopped"])
    assert not list(tmp_path.rglob("*.json"))


def test_records_of_other_settings_are_not_mixed(start, monkeypatch, tmp_path):
    start()
    path = tmp_path / "tiny/diabetes/mean-seed0.json"
    record = json.loads(path.read_text())
    record["settings"]["time_budget"] = 5.0
    records.write(path, record)
    with pytest.raises(BenchmarkError, match=r"mean-seed0\.json was made under other settings .*5\.0, 100\.0"):
        start()


def test_a_corrupted_record_stops_before_any_training(start, tmp_path, fake):
    path = tmp_path / "tiny/diabetes/mean-seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"schema": 1')
    with pytest.raises(BenchmarkError, match=r"mean-seed0\.json is not a benchmark record"):
        start()
    assert not fake


def test_what_a_suite_lacks_is_said_and_the_rest_runs(start, monkeypatch, lines):
    entries = data.available()
    del entries["diabetes"]
    monkeypatch.setattr(data, "available", lambda: entries)
    monkeypatch.setattr("benchmarks.runner.SUITES", {"tiny": _with_data("diabetes", "wine")})
    counts = start()
    assert (counts.lacking, counts.made) == (1, 2)
    assert lines[0].startswith("lacking  diabetes")


def _with_data(*names):
    from dataclasses import replace

    from benchmarks.suites import SUITES

    return replace(SUITES["tiny"], data=names)


def test_a_part_that_is_not_there_fails_by_name(start, monkeypatch, tmp_path):
    from dataclasses import replace

    from benchmarks.suites import SUITES

    monkeypatch.setitem(SUITES, "tiny", replace(SUITES["tiny"], part="train"))
    assert start().failed == 2
    message = records.read(tmp_path / "tiny/diabetes/mean-seed0.json")["error"]["message"]
    assert message == "data set 'diabetes' has no rows whose published split is 'train'"


def test_warnings_of_a_run_are_on_record(start, monkeypatch, tmp_path):
    import warnings

    from benchmarks import runner

    def loud(problem):
        warnings.warn("time is short", UserWarning, stacklevel=1)

    monkeypatch.setitem(runner.METHODS, "loud", loud)
    start(method_names=["loud"])
    assert records.read(tmp_path / "tiny/diabetes/loud-seed0.json")["warnings"] == ["UserWarning: time is short"]
