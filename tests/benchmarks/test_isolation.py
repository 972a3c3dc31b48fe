"""Worker processes: real ones, whose methods stay, grow, crash and leave."""

import os
import signal
import time
from dataclasses import replace

import pytest

from benchmarks import BenchmarkError, data, memory, records
from benchmarks.runner import run

linux = pytest.mark.skipif(not memory.is_told(), reason="needs /proc")


def read(out, method, suite="isolated", data="diabetes", seed=0):
    return records.read(out / suite / data / f"{method}-seed{seed}.json")


@linux
def test_whatever_a_method_does_leaves_a_record_and_no_stop(own, tmp_path):
    lines = []
    names = ["sleeping", "crashing", "raising", "lacking", "holding"]
    counts = run(
        "isolated",
        data_names=["diabetes"],
        method_names=names,
        out=tmp_path,
        jobs=2,
        time_limit=3.0,
        say=lines.append,
        n_seeds=1,
    )
    assert (counts.made, counts.failed, counts.absent) == (4, 3, 1)
    stayed = read(tmp_path, "sleeping")
    assert stayed["error"] == {
        "type": "TimeLimit",
        "message": "still at work after the time limit of 3 s",
        "where": "method",
    }
    crashed = read(tmp_path, "crashing")["error"]
    assert (crashed["type"], crashed["message"]) == ("ProcessDied", "the process ended by SIGSEGV")
    # where Python stood is said, and is not on record: it may name a home folder
    assert any("own_methods.py" in line and "crashing" in line for line in lines)
    # the method after it runs in a fresh process, on the same rows
    raised = read(tmp_path, "raising")
    assert raised["error"]["message"] == "depth must be positive, got -1"
    assert raised["rows"] == {"train": 98, "stop": 22, "test": 30}
    assert "lacking  diabetes, seed 0: lacking: there is no package 'moon'" in lines
    assert not (tmp_path / "isolated/diabetes/lacking-seed0.json").exists()
    held = read(tmp_path, "holding")
    assert held["status"] == "ok"
    assert 190e6 < held["peak_memory"]["growth"] < 260e6
    assert held["peak_memory"]["bytes"] > held["peak_memory"]["growth"]
    assert {path.name for path in tmp_path.rglob(".*")} == set()


@linux
def test_a_method_that_takes_too_much_memory_is_ended(own, tmp_path):
    lines = []
    options = {"data_names": ["wine"], "method_names": ["growing", "printing"], "n_seeds": 1, "out": tmp_path}
    assert run("isolated", **options, jobs=1, memory_limit=0.9, say=lines.append).failed == 2
    record = read(tmp_path, "growing", data="wine")
    assert record["error"]["type"] == "MemoryLimit"
    assert record["error"]["message"].endswith("GiB resident, the memory limit is 0.9 GiB")
    assert 0.9 * 2**30 < record["peak_memory"]["bytes"] < 2 * 2**30
    # what a process said last is told
    assert "note     all the way" in lines
    assert read(tmp_path, "printing", data="wine")["error"]["message"] == "the process ended by exit code 3"


@linux
def test_a_memory_limit_below_the_libraries_is_refused(own, tmp_path):
    with pytest.raises(
        BenchmarkError, match=r"memory limit must be above what the libraries take before any fit, 0\.\d+"
    ):
        run("isolated", out=tmp_path, jobs=1, memory_limit=0.01, say=lambda line: None)
    assert not list(tmp_path.rglob("*.json"))


def test_limits_need_worker_processes(own, tmp_path):
    with pytest.raises(BenchmarkError, match="jobs must be at least 1, got 0"):
        run("isolated", out=tmp_path, time_limit=1.0)


def test_data_that_no_other_process_can_load_are_named(own, tmp_path, monkeypatch):
    entries = data.available()
    entries["wine"] = replace(entries["wine"], load=lambda: None)
    monkeypatch.setattr(data, "available", lambda: entries)
    with pytest.raises(
        BenchmarkError, match="data set 'wine' cannot be handed to a worker process, only be run with --jobs"
    ):
        run("isolated", out=tmp_path, jobs=1, say=lambda line: None)


def test_more_threads_than_cores_are_said_beforehand(own, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(records, "hardware", lambda: {"usable_cores": 2})
    options = {"data_names": ["wine"], "method_names": ["raising"], "n_seeds": 1, "out": tmp_path, "say": lines.append}
    run("isolated", **options, jobs=3)
    assert lines[0].startswith("note     3 workers of 1 threads on 2 cores: seconds")


def test_a_teacher_beyond_the_limit_fails_each_method_once(own, tmp_path):
    # a limit below anything: loading the table takes longer
    lines = []
    counts = run("isolated", data_names=["wine"], n_seeds=1, out=tmp_path, jobs=1, time_limit=1e-6, say=lines.append)
    assert (counts.made, counts.failed) == (2, 2)
    for method in ("teacher", "self_explaining"):
        error = read(tmp_path, method, data="wine")["error"]
        assert (error["type"], error["where"]) == ("TimeLimit", "data set and teacher")


def check_any_number_of_processes(suite, out, all_lasting):
    for jobs in (0, 1, 2):
        assert run(suite, out=out / str(jobs), jobs=jobs, say=lambda line: None).failed == 0
    here, one, two = (all_lasting(out / str(jobs)) for jobs in (0, 1, 2))
    assert one == here
    assert two == here
    return here


def test_records_are_the_same_from_any_number_of_processes(own, tmp_path, all_lasting):
    """Rows, teacher, student, metrics and fidelity come from the seed, not from the process or what it ran before."""
    found = check_any_number_of_processes("imitating", tmp_path, all_lasting)
    assert len(found) == 4
    assert found["imitating/wine/score_imitation-seed1.json"]["fidelity"]["score_r2"] is not None


@pytest.mark.slow
def test_records_of_every_student_are_the_same_from_any_number_of_processes(own, tmp_path, all_lasting):
    found = check_any_number_of_processes("students", tmp_path, all_lasting)
    assert len(found) == 27
    assert found["students/wine/self_explaining-seed1.json"]["fidelity"]["attribution_r2"] > 0.9


def test_a_second_death_by_a_kill_is_the_methods_own(own, tmp_path, script):
    run_ = script("--suite", "isolated", "--data", "wine", "--methods", "sleeping", "--seeds", 1, "--out", tmp_path)
    killed = set()
    for _ in range(2):
        pid = worker_at_work(run_, killed)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    code, out, _ = run_.end()
    assert code == 1
    assert "note     wine, seed 0, sleeping: the process was killed; once more" in out
    error = read(tmp_path, "sleeping", data="wine")["error"]
    assert (error["type"], error["message"]) == ("ProcessDied", "the process ended by SIGKILL")


def worker_at_work(run_, other=()):
    """The worker of a run once its method sleeps: when it has loaded all, it uses no processor any more."""
    last = time.monotonic() + 60
    while time.monotonic() < last:
        for pid in set(run_.offspring()) - set(other):
            if (memory.resident(pid) or 0) > 100e6:
                before = ticks(pid)
                time.sleep(0.5)
                if before == ticks(pid) != 0:
                    return pid
        time.sleep(0.02)
    raise AssertionError("no worker came to work")


def ticks(pid):
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_whole_records_and_no_process(number, script, tmp_path):
    run_ = script("--suite", "patient", "--out", tmp_path)
    assert run_.line().startswith("made")
    workers = run_.offspring()
    assert workers
    code, _, errors = run_.end(number)
    assert code == 130
    assert errors.splitlines() == ["python -m benchmarks: stopped; the same command goes on from here"]
    assert script.gone(workers)
    assert 1 <= len(records.read_all(tmp_path)) < 24
    assert not [path for path in tmp_path.rglob(".*")]
