"""The runner: for each data set and seed one teacher, for each method one student, one record each."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, folder, progress, records
from benchmarks.isolation import Limits, Pool
from benchmarks.methods import GROUPS, METHODS
from benchmarks.plan import Plan, check_numbers, path_of, plan, resolve
from benchmarks.requests import Request
from benchmarks.results import results
from benchmarks.suites import SUITES


@dataclass
class Counts:
    """How many records a run made and found, and how many data sets and results it lacked what they need for."""

    made: int = 0
    failed: int = 0
    kept: int = 0
    lacking: int = 0
    absent: int = 0


def run(
    suite_name: str,
    *,
    request: Request | None = None,
    data_names: Sequence[str] | None = None,
    method_names: Sequence[str] | None = None,
    n_seeds: int | None = None,
    time_budget: float | None = None,
    out: Path = Path("results"),
    retry_failed: bool = False,
    repair: bool = False,
    jobs: int = 0,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    say: Callable[[str], None] = print,
    live: bool = False,
) -> Counts:
    """Run a suite, or a part of it, and write a record for each result that is not there yet.

    Parameters
    ----------
    suite_name : str
        A name in `SUITES`.
    request : Request, optional
        A suite and its data sets instead of one in `SUITES`: of OpenML, or a table of the caller's.
    data_names, method_names : sequence of str, optional
        Take these instead of the suite's own; methods by name or by group.
    n_seeds : int, optional
        So many seeds, from the suite's first on, instead of the suite's own number.
    time_budget : float, optional
        Seconds, instead of the suite's own for every data set.
    out : Path
        Records go to ``out/<suite>/<data set>/<method>-seed<seed>.json``.
    retry_failed : bool
        Run what an earlier run recorded as failed again.
    repair : bool
        Set files aside that should be records and are none, and make those anew.
    jobs : int
        Worker processes, each at one data set and seed; 0: none, all happens in this process, without limits.
    time_limit : float, optional
        Wall-clock seconds after which a method is ended and recorded as failed.
    memory_limit : float, optional
        GiB of resident memory, libraries included, above which a method is ended and recorded as failed.
    say : callable
        Is given one line of progress at a time.
    live : bool
        Show progress on the terminal instead, with the time that remains; this needs rich.

    Returns
    -------
    Counts

    Raises
    ------
    BenchmarkError
        Before any training: an unknown suite, method or data set, a number out of range, a folder that cannot be written to
        or is in use, a record that cannot be read or was made under other settings. Later: a record cannot be written.
    KeyboardInterrupt
        By Ctrl-C or SIGTERM. Whole records remain, and workers do not.
    """
    if request is not None:
        suite_name, suite, entries = request.name, request.suite, dict(request.entries)
    elif suite_name in SUITES:
        suite, entries = SUITES[suite_name], data.available()
    else:
        raise data.unknown("suite", [suite_name], SUITES)
    chosen = None if method_names is None else resolve(method_names, METHODS, GROUPS)
    if chosen is None:
        resolve(suite.methods, METHODS, {})
    strange = [name for name in data_names or () if name not in {*entries, *suite.by_data}]
    if strange:
        raise data.unknown("data set", strange, entries)
    n_seeds = suite.n_seeds if n_seeds is None else n_seeds
    check_numbers(n_seeds=n_seeds, jobs=jobs, time_budget=time_budget, time_limit=time_limit, memory_limit=memory_limit)
    limits = Limits(time_limit, memory_limit)
    limits.check()
    with _stoppable(), folder.held(out, say):
        found = plan(
            suite_name,
            suite,
            entries,
            names=list(dict.fromkeys(data_names or suite.data)),
            methods=chosen,
            n_seeds=n_seeds,
            time_budget=time_budget,
            out=out,
            jobs=jobs,
            retry_failed=retry_failed,
            repair=repair,
            say=say,
        )
        for name in found.lacking:
            say(f"lacking  {name}: no card in datasets/, and none in the folder that {data.FOLDER_VARIABLE} names")
        for path in found.kept:
            say(f"kept     {path}")
        counts = Counts(kept=len(found.kept), lacking=len(found.lacking))
        if found.tasks:
            _note_crowd(found, jobs, say)
            folder.check_places(
                [
                    path_of(out, task.suite, task.name, method, task.seed)
                    for task in found.tasks
                    for method in task.methods
                ]
            )
            folder.tidy(out / suite_name)
            _work(found, counts, out=out, jobs=jobs, limits=limits, say=say, live=live)
    return counts


def _note_crowd(found: Plan, jobs: int, say: Callable[[str], None]) -> None:
    """Say beforehand that workers will take the processors from each other."""
    threads = max(task.settings["n_jobs"] for task in found.tasks)
    cores = records.hardware()["usable_cores"] or 1
    if jobs > 1 and jobs * threads > cores:
        say(
            f"note     {jobs} workers of {threads} threads on {cores} cores: seconds, and what a time budget is enough for, "
            f"are those of a crowded machine"
        )


def _work(
    found: Plan, counts: Counts, *, out: Path, jobs: int, limits: Limits, say: Callable[[str], None], live: bool
) -> None:
    """Make the records that are missing."""
    watch = progress.Watch(found, jobs)
    with contextlib.ExitStack() as stack:
        if live:
            say = stack.enter_context(progress.on_terminal(watch))
        if jobs:
            events = Pool(found.tasks, jobs, limits, out / found.tasks[0].suite).events()
        else:
            events = (event for task in found.tasks for event in results(task, METHODS))
        stack.enter_context(contextlib.closing(events))  # whatever ends the run ends the workers
        for event in events:
            watch.see(event)
            if event.kind == "made":
                path = path_of(out, event.task.suite, event.task.name, event.record["method"], event.task.seed)
                folder.write(path, event.record)
                counts.made += 1
                counts.failed += event.record["status"] == "failed"
                say(_line(path, event.record))
            elif event.kind == "lacking":
                counts.absent += 1
                say(f"lacking  {event.task.name}, seed {event.task.seed}: {event.method}: {event.text}")
            elif event.kind == "note":
                say(f"note     {event.text}")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _line(path: Path, record: Mapping[str, Any]) -> str:
    if record["status"] == "failed":
        return f"failed   {path}: {record['error']['type']}: {record['error']['message']}"
    return f"made     {path}: {_summary(record)}"


def _summary(record: Mapping[str, Any]) -> str:
    found = record["fidelity"] or {}
    parts = [f"{found[name]:.4f} {name}" for name in ("score_r2", "attribution_r2") if _is_number(found.get(name))]
    return ", ".join([*parts, f"{record['seconds']['total']:.1f} s"])


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))
