"""Suites of OpenML from a server of this machine, which answers in the shapes of the real one."""

import hashlib
import io
import json
import pickle
import re
import time

import numpy as np
import pandas as pd
import pytest

from benchmarks import BenchmarkError, records, requests
from benchmarks.__main__ import main
from benchmarks.sources import cache, openml

API = "/api/v1/json"
N_ROWS = 90


@pytest.fixture(scope="module")
def credit():
    """A table in ARFF: a number, a category with a quoted name, an identity, and two classes."""
    rng = np.random.default_rng(0)
    amount = rng.normal(size=N_ROWS).round(3)
    job = rng.choice(["'self employed'", "clerk", "?"], N_ROWS)
    label = np.where(amount + 0.3 * rng.normal(size=N_ROWS) > 0, "good", "bad")
    rows = "\n".join(f"{i},{amount[i]},{job[i]},{label[i]}" for i in range(N_ROWS))
    return (
        "@relation credit\n@attribute id integer\n@attribute 'amount [DM]' real\n"
        f"@attribute job {{'self employed',clerk}}\n@attribute class {{good,bad}}\n@data\n{rows}\n"
    ).encode()


@pytest.fixture(scope="module")
def homes():
    """A table in Parquet: numbers, a truth value, a category of numbers, and a price."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"size": rng.normal(size=N_ROWS), "zone": pd.Categorical(rng.integers(0, 3, N_ROWS))})
    table["garden"] = rng.random(N_ROWS) < 0.5
    table["price"] = table["size"] + table["garden"]
    file = io.BytesIO()
    table.to_parquet(file)
    return table, file.getvalue()


def feature(name, data_type="numeric", values=None, **flags):
    described = {"index": "0", "name": name, "data_type": data_type, "number_of_missing_values": "0"}
    described.update({"is_target": "false", "is_ignore": "false", "is_row_identifier": "false", **flags})
    return described | ({} if values is None else {"nominal_values": json.dumps(values)})


def splits(n_folds=3):
    lines = [
        f"{'TEST' if row % n_folds == fold else 'TRAIN'},{row},0,{fold}"
        for fold in range(n_folds)
        for row in range(N_ROWS)
    ]
    head = "@relation s\n@attribute type {TRAIN,TEST}\n@attribute rowid numeric\n@attribute repeat numeric\n"
    return (head + "@attribute fold numeric\n@data\n" + "\n".join(lines) + "\n").encode()


@pytest.fixture
def suite(server, monkeypatch, credit, homes):
    """Suite 337: a classification in ARFF, a regression in Parquet, a clustering."""
    monkeypatch.setenv("GBDT2NN_OPENML", server.url + API + "/")

    def task(number, data, target, kind="Supervised Classification", kind_id="1"):
        procedure = {
            "id": "1",
            "type": "crossvalidation",
            "data_splits_url": f"{server.url}/api_splits/get/{number}/s.arff",
        }
        procedure["parameter"] = [{"name": "number_repeats", "value": "1"}, {"name": "percentage"}]
        inputs = [
            {"name": "source_data", "data_set": {"data_set_id": data, "target_feature": target}},
            {"name": "estimation_procedure", "estimation_procedure": procedure},
            {"name": "cost_matrix", "cost_matrix": []},
        ]
        described = {"task_id": str(number), "task_type_id": kind_id, "task_type": kind, "input": inputs}
        server.put(f"{API}/task/{number}", {"task": described})
        server.put(f"/api_splits/get/{number}/s.arff", splits())

    def data(number, name, features, **more):
        described = {"id": str(number), "name": name, "version": "1", "format": "ARFF", "licence": "CC BY 4.0", **more}
        server.put(f"{API}/data/{number}", {"data_set_description": described})
        server.put(f"{API}/data/features/{number}", {"data_features": {"feature": features}})

    study = {
        "id": "337",
        "alias": "numbers",
        "main_entity_type": "task",
        "name": "Some",
        "tasks": {"task_id": ["31", "32", "33"]},
    }
    server.put(f"{API}/study/337", {"study": study | {"data": {"data_id": ["1", "2", "3"]}}})
    task(31, "1", "class")
    task(32, "2", "price", "Supervised Regression", "2")
    task(33, "3", "", "Clustering", "5")
    data(
        *(1, "credit-g"),
        [
            feature("id", is_row_identifier="true"),
            feature("amount [DM]"),
            feature("job", "nominal", ["self employed", "clerk"], number_of_missing_values="28"),
            feature("class", "nominal", ["good", "bad"], is_target="true"),
        ],
        url=server.put("/data/v1/download/1/credit-g.arff", credit),
        md5_checksum=hashlib.md5(credit).hexdigest(),
    )
    data(
        *(2, "homes 2"),
        [feature("size"), feature("zone", "nominal", ["0", "1", "2"]), feature("garden", "nominal"), feature("price")],
        parquet_url=server.put("/datasets/0000/0002/dataset_2.pq", homes[1]),
        url=server.url + "/data/v1/download/2/homes.arff",
        md5_checksum="0" * 32,  # of the ARFF file, which is not read
    )
    server.task, server.data = task, data
    return server


def test_tasks_become_data_sets(suite, homes):
    lines = []
    found = openml.entries("337", lines.append)
    assert list(found) == ["credit-g_31", "homes_2_32"]
    assert lines == ["skipped  task 33 of OpenML: Clustering of data set 3 is no task that a teacher is fitted to"]
    entry = found["credit-g_31"]
    assert (entry.task, entry.n_rows, entry.n_features, entry.n_categories) == ("binary", N_ROWS, 2, 1)
    assert (entry.n_missing, entry.licence, entry.n_splits) == (28, "CC BY 4.0", 3)
    table = entry.load()
    assert list(table.X.columns) == ["amount_DM_", "job"]  # names that each library takes; no identity
    assert list(table.X["job"].cat.categories) == ["clerk", "self employed"]
    assert set(table.y) == {"good", "bad"}
    np.testing.assert_array_equal(np.flatnonzero(table.tests[:, 1]), np.arange(1, N_ROWS, 3))
    second = found["homes_2_32"].load()
    assert second.task == "regression"
    assert [second.X[name].dtype.name for name in second.X] == ["float64", "category", "category"]
    np.testing.assert_array_equal(second.y, homes[0]["price"])
    assert second.sha256 == hashlib.sha256(homes[1]).hexdigest()


def test_everything_is_kept_for_times_without_a_network(suite):
    found = openml.entries("337", lambda line: None)
    first = {name: entry.load() for name, entry in found.items()}
    n_asked = len(suite.asked)
    suite.answers.clear()
    again = openml.entries("337", lambda line: None)
    for name, entry in again.items():
        # another process can load it too
        assert pickle.loads(pickle.dumps(entry)).load().X.equals(first[name].X)
    assert len(suite.asked) == n_asked


def test_seeds_take_the_published_folds(suite, tmp_path, capsys, fake):
    """The suite runs under the settings of tabular; a seed beyond the last fold is said to be lacking."""
    arguments = [
        "run",
        "--suite",
        "openml:337",
        "--methods",
        "teacher",
        "--seeds",
        "4",
        "--jobs",
        "0",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "lacking  credit-g_31 for seed 3: its source publishes 3 splits" in shown
    assert "6 made, 0 of them failed" in shown
    record = records.read(tmp_path / "out/openml-337/credit-g_31/teacher-seed1.json")
    assert record["rows"] == {"train": 49, "stop": 11, "test": 30}
    assert record["table"]["origin"] == "OpenML task 31"
    assert record["table"]["published_splits"] == 3
    assert main(arguments) == 0
    assert "0 made, 0 of them failed; 6 kept" in capsys.readouterr().out


def test_a_file_of_another_checksum_is_left_out(suite, credit):
    suite.put("/data/v1/download/1/credit-g.arff", credit + b"%\n")
    lines = []
    assert list(openml.entries("337", lines.append)) == ["homes_2_32"]
    assert lines[0].startswith("lacking  task 31 of OpenML: ")
    assert "credit-g.arff should have md5" in lines[0]


def test_a_named_parquet_file_that_is_not_there_leaves_the_arff_file(suite, credit):
    suite.data(
        *(1, "credit-g"),
        json.loads(suite.answers[f"{API}/data/features/1"][1])["data_features"]["feature"],
        parquet_url=suite.url + "/gone.pq",
        url=suite.url + "/data/v1/download/1/credit-g.arff",
        md5_checksum=hashlib.md5(credit).hexdigest().upper(),
    )
    assert openml.entries("337", lambda line: None)["credit-g_31"].load().X.shape == (N_ROWS, 2)


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        (f"{API}/task/31", (412, b'{"error":{"code":"151","message":"Unknown task"}}'), "answers 412 .*: Unknown task"),
        (f"{API}/task/31", (200, b"<html>"), "should tell of 'task' in JSON, got '<html>'"),
        (f"{API}/task/31", (200, b'{"task": {}}'), "its description lacks 'source_data'"),
        (f"{API}/data/1", (404, b""), "answers 404"),
        ("/data/v1/download/1/credit-g.arff", (404, b""), r"credit-g\.arff answers 404"),
        ("/api_splits/get/31/s.arff", (200, b"<html>"), r"s\.arff is no ARFF table"),
        ("/api_splits/get/31/s.arff", (200, splits().replace(b"TRAIN,0,0,1\n", b"")), "a split that leaves rows out"),
        ("/api_splits/get/31/s.arff", (200, splits().replace(b"TEST", b"TRAIN")), "a split .* has no test rows"),
        ("/datasets/0000/0002/dataset_2.pq", (200, b"PAR1 and no more"), "is no whole Parquet file"),
    ],
)
def test_a_task_that_cannot_be_had_is_said_and_the_rest_goes_on(suite, path, answer, said):
    suite.answers[path] = answer
    lines = []
    assert len(openml.entries("337", lines.append)) == 1
    assert any(line.startswith("lacking") and re.search(said, line) for line in lines), lines


def test_a_server_that_falls_silent_is_not_waited_for_at_each_task(suite):
    def silent(handler):
        time.sleep(0.4)

    for path in list(suite.answers):
        if "/task/" in path:
            suite.put(path, silent)
    lines = []
    with pytest.raises(BenchmarkError, match="suite 337 of OpenML has no task that can be run here"):
        openml.entries("337", lines.append)
    assert "timed out" in lines[0]
    assert "has no copy in" in lines[1]
    assert len([path for path in suite.asked if "/task/" in path]) == 3  # of the first task, three tries


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("openml:337", None, "/study/337 cannot be reached: "),
        (
            "openml:9999",
            (412, b'{"error":{"code":"601","message":"Unknown study"}}'),
            "Precondition Failed: Unknown study",
        ),
        ("openml:337", (200, b'{"study": {"id": "337"}}'), "suite 337 of OpenML has no tasks"),
        ("openml:../etc", (200, b"{}"), "a suite of OpenML is named by its number, as in openml:337"),
    ],
)
def test_a_suite_that_cannot_be_had_is_one_sentence_and_exit_code_2(suite, tmp_path, capsys, name, answer, said):
    if answer is None:
        suite.http.shutdown()
        suite.http.server_close()
        suite.stop = lambda: None
    else:
        suite.answers[f"{API}/study/{name.removeprefix('openml:')}"] = answer
    assert main(["run", "--suite", name, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_table_that_does_not_fit_its_splits_is_refused(suite, homes):
    file = io.BytesIO()
    homes[0].iloc[:50].to_parquet(file)
    suite.put("/datasets/0000/0002/dataset_2.pq", file.getvalue())
    entry = openml.entries("337", lambda line: None)["homes_2_32"]
    with pytest.raises(
        BenchmarkError, match=r"homes_2_32\.parquet should have 90 rows and the described columns, got 50 rows"
    ):
        entry.load()


def test_a_target_of_one_class_is_refused(suite):
    suite.put(f"{API}/data/features/1", {"data_features": {"feature": [feature("class", "nominal", ["good"])]}})
    lines = []
    openml.entries("337", lines.append)
    assert "its target 'class' should name two classes at least, got ['good']" in lines[0]


def test_the_settings_are_those_of_tabular(suite):
    request = requests.of_openml("openml:337", say=lambda line: None)
    assert request.name == "openml-337"
    settings = request.suite.settings("credit-g_31")
    assert settings["published_splits"]
    assert settings["max_rows"] == 2000
    assert (cache.folder() / "openml").is_dir()
