"""The records of one task: a data set and a seed, whose methods share one teacher."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks import Lacking, cell, data, records
from benchmarks.memory import Peak
from benchmarks.problem import Problem

Method = Callable[[Problem], Any]


@dataclass(frozen=True)
class Task:
    """What is to be made of one data set and seed.

    Parameters
    ----------
    suite, name : str
        Of the suite, and of the data set in it.
    entry : Entry
        How the data set is loaded; it can be pickled, so that a worker loads it.
    settings : mapping
        Those in force, as they stand in the records.
    seed : int
    methods : tuple of str
        Those that have no record yet.
    jobs : int
        Worker processes of the run.
    """

    suite: str
    name: str
    entry: data.Entry
    settings: Mapping[str, Any]
    seed: int
    methods: tuple[str, ...]
    jobs: int = 0


@dataclass(frozen=True)
class Event:
    """What happens to a task: what begins, and what has become of it.

    Parameters
    ----------
    kind : str
        ``"preparing"``: the data set is loaded and its teacher fitted; ``"started"``: a method begins; ``"made"``: it has
        a record; ``"lacking"``: it cannot be run here, and has none; ``"note"``: a line for the reader.
    task : Task
    method : str or None
    record : mapping or None
    text : str
    resident : int or None
        Bytes of resident memory when the method began.
    """

    kind: Literal["preparing", "started", "made", "lacking", "note"]
    task: Task
    method: str | None = None
    record: Mapping[str, Any] | None = None
    text: str = ""
    resident: int | None = None


def blank(task: Task, method: str) -> dict[str, Any]:
    """Return the record of a method before anything is known of it."""
    return {
        "schema": records.SCHEMA,
        "kind": "result",
        "suite": task.suite,
        "data": task.name,
        "method": method,
        "seed": task.seed,
        **records.environment(),
        "jobs": task.jobs,
        "status": "ok",
        "error": None,
        "settings": task.settings,
        "seconds": {},
        "metrics": {},
        "fidelity": None,
        "peak_memory": None,
    }


def results(task: Task, methods: Mapping[str, Method]) -> Iterator[Event]:
    """Prepare a task's data and teacher, run its methods one after another, and yield what happens.

    An error of a method is in its record; an error of the data or the teacher is in the record of each.
    """
    yield Event("preparing", task)
    cell.warm_up_once()  # whatever it has to say is no matter of this task
    shared: dict[str, Any] = {}
    trouble = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            shared.update(cell.prepare(task.entry, task.settings, task.seed))
        except Exception as error:
            trouble = records.describe_error(error)
    for method in task.methods:
        record = blank(task, method)
        peak = Peak()
        yield Event("started", task, method, resident=peak.before)
        absent = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if trouble is None:
                try:
                    with _threads(task.settings["n_jobs"]):
                        cell.measure(record, shared, task.settings, methods[method], task.seed)
                except Lacking as error:
                    absent = str(error)
                except Exception as error:
                    record.update(status="failed", error=records.describe_error(error))
            else:
                record.update(status="failed", error=trouble)
        record["peak_memory"] = peak.read()
        record["warnings"] = sorted({f"{item.category.__name__}: {item.message}" for item in (*said, *caught)})
        if absent is None:
            yield Event("made", task, method, record=records.plain(record))
        else:
            yield Event("lacking", task, method, text=absent)


@contextlib.contextmanager
def _threads(n_jobs: int) -> Iterator[None]:
    """Let predictions and metrics take as many of torch's threads as the suite gives the fit."""
    torch = sys.modules.get("torch")  # loaded in the warm-up; nothing to set where a test has left that out
    if torch is None or n_jobs < 1:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(n_jobs)
    try:
        yield
    finally:
        torch.set_num_threads(before)
