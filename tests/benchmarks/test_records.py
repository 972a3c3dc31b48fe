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


def test_what_is_no_record_is_named_skipped_and_counted_on_demand(tmp_path, record):
    records.write(tmp_path / "a" / "whole.json", record)
    (tmp_path / "a" / "half.json").write_text('{"schema": 1, "ki')
    (tmp_path / "z.json").write_text("[]")
    with pytest.raises(BenchmarkError, match=r"half\.json is not a benchmark record"):
        records.read_all(tmp_path)
    lines = []
    (found,) = records.read_all(tmp_path, say=lines.append)
    assert found["method"] == "mean"
    assert [line.split(" is ")[0] for line in lines[:2]] == [
        f"skipped  {tmp_path / 'a' / 'half.json'}",
        f"skipped  {tmp_path / 'z.json'}",
    ]
    assert lines[2:] == ["skipped  2 files or lines that are no record"]
    (tmp_path / "a" / "whole.json").unlink()
    with pytest.raises(BenchmarkError, match="there are no records in"):
        records.read_all(tmp_path, say=lines.append)


def head(record, name):
    return json.dumps({**records.plain(record), "kind": "claims", "table": {}, "status": "ok", "data": name}) + "\n"


@pytest.mark.parametrize(
    ("broken", "kept", "skipped"),
    [
        # a fit: the fits after it stand under the same head
        (b'{"rows": 200, "se\n', [100, 300], 1),
        (b'{"rows": 200, \xff\xfe}\n', [100, 300], 1),
        # what may have been a head: nobody can tell whose the fits after it are
        (b'{"schema": 1, "kind": "cla\n', [100], 2),
        (b'ows": 200}\n', [100], 2),
        (b'{"schema": 99}\n', [100], 2),
        (b"[1]\n", [100], 2),
    ],
)
def test_a_corrupt_line_is_named_and_skipped_on_demand(tmp_path, record, broken, kept, skipped):
    path = tmp_path / "claims.jsonl"
    fits = [f'{{"rows": {rows}, "seed": 0}}\n'.encode() for rows in (100, 300, 400)]
    content = [head(record, "x").encode(), fits[0], broken, fits[1], head(record, "y").encode(), fits[2]]
    path.write_bytes(b"".join(content))
    with pytest.raises(BenchmarkError, match=r"claims\.jsonl"):
        records.read_all(tmp_path)
    lines = []
    first, second = records.read_all(tmp_path, say=lines.append)
    assert [fit["rows"] for fit in first["fits"]] == kept
    assert [(fit["rows"], fit["data"]) for fit in second["fits"]] == [(400, "y")]
    assert len(lines) == skipped + 1
    assert all("claims.jsonl" in line for line in lines[:-1])
    assert lines[-1].startswith(f"skipped  {skipped} ")


def test_a_last_line_that_is_half_written_is_said_on_demand(tmp_path, record):
    path = tmp_path / "claims.jsonl"
    path.write_text(head(record, "x") + '{"rows": 100}\n{"rows": 2')
    assert [fit["rows"] for fit in records.read_lines(path)[0]["fits"]] == [100]
    lines = []
    assert records.read_all(tmp_path, say=lines.append)[0]["fits"][0]["rows"] == 100
    assert lines == [
        f"skipped  the last line of {path} is half written",
        "skipped  1 file or line that is no record",
    ]
