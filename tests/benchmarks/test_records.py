import json
import os
import platform

import numpy as np
import pytest

from benchmarks import BenchmarkError, records


@pytest.fixture
def record():
    return {
        "schema": 1,
        "kind": "result",
        "suite": "tiny",
        "data": "diabetes",
        "method": "mean",
        "seed": 0,
        "status": "failed",
        "error": {"type": "ValueError", "message": "no", "where": "here"},
        "settings": {},
        **records.environment(),
    }


def test_a_record_comes_back_as_it_went(tmp_path, record):
    record["values"] = np.array([1.5, 2.0])
    record["count"] = np.int64(3)
    record["by_feature"] = {"age": np.float64(0.25), "sex": np.nan, "far": np.inf}
    path = tmp_path / "deep" / "record.json"
    records.write(path, record)
    found = records.read(path)
    assert found["values"] == [1.5, 2.0]
    assert found["count"] == 3
    # JSON knows no NaN and no infinity: what is not a finite number is null.
    assert found["by_feature"] == {"age": 0.25, "sex": None, "far": None}
    assert found["hardware"] == record["hardware"]


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path, record, monkeypatch):
    path = tmp_path / "record.json"
    records.write(path, record)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        records.write(path, {**record, "seed": 1})
    assert records.read(path)["seed"] == 0
    assert [found.name for found in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"schema": 1, "ki', "is not a benchmark record"),
        ("[1, 2]", "of schema 1: got 'list'"),
        ('{"schema": 99}', "of schema 1: got 99"),
        ('{"schema": 1, "kind": "poem"}', "kind must be one of"),
        ('{"schema": 1, "kind": "search", "status": "ok"}', "it lacks .*'best_params'"),
        (b"\xff\xfe", "is not a benchmark record"),
    ],
)
def test_a_corrupted_record_is_named(tmp_path, content, reason):
    path = tmp_path / "broken.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BenchmarkError, match=rf"broken\.json .*{reason}"):
        records.read(path)


def test_the_environment_tells_versions_and_hardware_and_no_more():
    found = records.environment()
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["gbdt2nn"]
    assert found["hardware"]["usable_cores"] >= 1
    text = json.dumps(found)
    # A record may be published: it names neither the machine nor a folder on it.
    assert platform.node() not in text
    assert os.getcwd() not in text


def test_no_records_is_said(tmp_path):
    with pytest.raises(BenchmarkError, match="there are no records in"):
        records.read_all(tmp_path)
    with pytest.raises(BenchmarkError, match="there is no folder"):
        records.read_all(tmp_path / "gone")
