"""What a run shows: counts, what is at work, and a remaining time that is unknown until there is something to go by."""

import io

import pytest

from benchmarks import data, memory, progress
from benchmarks.plan import Plan
from benchmarks.remaining import Left, Pace, clock, remaining, rows_of
from benchmarks.results import Event, Task

LOADING = "  the libraries are loading"


def task(name="wine", seed=0, methods=("a", "b"), n_rows=100, **settings):
    entry = data.Entry(name, "regression", "here", n_rows, load=None)
    return Task("tiny", name, entry, {"time_budget": None, "max_rows": None, **settings}, seed, methods)


def left(*tasks):
    return [Left(one, method) for one in tasks for method in one.methods]


def test_nothing_is_known_before_anything_was_measured():
    assert remaining(Pace(), left(task()), 1) is None
    assert clock(None) == "unknown"


def test_what_a_method_took_on_the_same_data_goes_first():
    pace = Pace()
    pace.add("a", task(), 4.0)
    pace.add("a", task(seed=1), 6.0)
    pace.add("a", task("other", n_rows=100), 99.0)
    assert pace.expected("a", task(seed=2)) == 5.0


def test_other_data_count_by_their_rows_unless_a_budget_sets_the_time():
    pace = Pace()
    pace.add("a", task("small", n_rows=100), 1.0)
    pace.add("a", task("large", n_rows=10_000), 30.0)
    assert pace.expected("a", task("new", n_rows=20_000)) == 60.0
    assert pace.expected("a", task("new", n_rows=20_000, max_rows=50)) == 0.5
    assert pace.expected("a", task("new", n_rows=20_000, time_budget=9.0)) == 30.0
    # how many rows there are is not always known beforehand
    assert pace.expected("a", task("new", n_rows=None)) == 15.5
    assert rows_of(task(n_rows=None, max_rows=70)) == 70


def test_a_method_that_is_new_takes_its_budget_or_what_the_others_took():
    pace = Pace()
    pace.add("a", task(), 4.0)
    assert pace.expected("b", task(time_budget=9.0)) == 9.0
    assert pace.expected("b", task()) == 4.0
    assert Pace().expected("b", task(time_budget=9.0)) == 9.0


def test_tasks_share_the_workers_and_methods_of_a_task_do_not():
    pace = Pace()
    for method in ("a", "b"):
        pace.add(method, task(), 10.0)
    two = left(task(), task(seed=1))
    assert remaining(pace, two, 1) == 40.0
    assert remaining(pace, two, 2) == 20.0
    assert remaining(pace, two, 8) == 20.0  # no more workers than tasks
    two[0].since = 8.0
    assert remaining(pace, two, 1) == 32.0
    two[0].since = 50.0  # longer than expected: nobody knows how much longer, but not less than nothing
    assert remaining(pace, two, 1) == 30.0


def test_a_watch_counts_and_measures():
    now = [0.0]
    one, two = task(), task(seed=1)
    watch = progress.Watch(Plan(tasks=[one, two]), 1, now=lambda: now[0])
    assert watch.lines() == [
        "0 of 4 made, 0 failed, 0 kept, 4 left; remaining: unknown",
        LOADING,
    ]
    watch.see(Event("preparing", one))
    now[0] = 2.0
    assert watch.lines()[1] == "  wine, seed 0: data and teacher, 2 s"
    watch.see(Event("started", one, "a"))
    now[0] = 12.0
    assert watch.lines()[1] == "  wine, seed 0: a, 10 s"
    watch.see(Event("made", one, "a", record={"status": "ok"}))
    # three methods are left, each like the one that was measured, and a teacher of two seconds
    assert watch.lines() == ["1 of 4 made, 0 failed, 0 kept, 3 left; remaining: 32 s"]
    watch.see(Event("started", one, "b"))
    watch.see(Event("lacking", one, "b"))
    watch.see(Event("started", two, "a"))
    now[0] = 16.0
    watch.see(Event("made", two, "a", record={"status": "failed"}))
    assert watch.lines() == ["2 of 3 made, 1 failed, 0 kept, 1 left; remaining: 9 s"]


def test_records_that_are_kept_are_something_to_go_by(tmp_path):
    record = {"data": "wine", "method": "a", "status": "ok", "seconds": {"student": 3.0, "evaluation": 1.0}}
    watch = progress.Watch(Plan(tasks=[task(seed=1, methods=("a",))], kept={tmp_path: record}), 1)
    assert watch.lines() == ["0 of 1 made, 0 failed, 1 kept, 1 left; remaining: 4 s", LOADING]


def test_seconds_are_said_as_people_do():
    said = ["0 s", "99 s", "2 min", "98 min", "1 h 40 min", "3 h 05 min"]
    assert [clock(value) for value in (0.4, 99, 100, 5_900, 5_990, 11_100)] == said


def test_a_terminal_shows_lines_and_what_remains():
    rich = pytest.importorskip("rich.console")
    file = io.StringIO()
    console = rich.Console(file=file, force_terminal=True, width=100)
    watch = progress.Watch(Plan(tasks=[task()]), 1)
    with progress.on_terminal(watch, console) as say:
        watch.see(Event("started", task(), "a"))
        say("made     [wine]: 0.99 score_r2")  # brackets are no markup
    shown = file.getvalue()
    assert "made     [wine]: 0.99 score_r2" in shown
    assert "0 of 2 made" in shown
    assert "remaining: unknown" in shown
    assert "wine, seed 0: a" in shown


@pytest.mark.skipif(not memory.is_told(), reason="needs /proc")
def test_memory_is_that_of_the_process_and_what_it_starts():
    peak = memory.Peak()
    block = b"x" * 100_000_000
    assert len(block) == 100_000_000
    del block
    found = peak.read()
    assert 95e6 < found["growth"] < 160e6
    assert memory.Peak().read()["growth"] < 50e6  # what is freed counts no more
    assert memory.resident(2**22 + 1) is None


@pytest.mark.skipif(not memory.is_told(), reason="needs /proc")
def test_what_a_worker_starts_counts_for_its_own_pages():
    import subprocess
    import sys

    # a process that leads a session, and one that it starts, which holds 150 MB
    child = "x = b'x' * 150_000_000; print('held', flush=True); input()"
    leader = f"import os, subprocess, sys; os.setsid(); subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", leader], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        own, both = memory.resident(process.pid), memory.resident_with_offspring(process.pid)
        process.stdin.close()
    assert both - own > 150e6


def test_where_memory_is_not_told_there_is_no_figure(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    assert not memory.is_told()
    assert memory.Peak().read() is None
