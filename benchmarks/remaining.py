"""How long a run will still take: from what its methods took so far, on how many rows, and from their budgets."""

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.results import Task


@dataclass
class Pace:
    """Seconds measured so far, by method, data set and number of rows.

    Parameters
    ----------
    measured : dict of method to dict of data set to list of (rows, seconds)
        Rows are None where a data set does not say beforehand how many it has.
    """

    measured: dict[str, dict[str, list[tuple[int | None, float]]]] = field(default_factory=dict)

    def add(self, method: str, task: Task, seconds: float) -> None:
        """Take a measurement in."""
        self.measured.setdefault(method, {}).setdefault(task.name, []).append((rows_of(task), seconds))

    def add_kept(self, task: Task, record: Mapping[str, Any]) -> None:
        """Take the seconds of a record in that an earlier run has made."""
        seconds = record["seconds"]
        if "student" in seconds:
            self.add(record["method"], task, seconds["student"] + seconds.get("evaluation", 0.0))

    def expected(self, method: str, task: Task) -> float | None:
        """Return the seconds that a method is expected to take; None where there is nothing to go by.

        What it took on the same data set goes first, then what it took where the rows are nearest in number, in proportion
        to them unless a time budget is what it takes; then the budget; then what the other methods took on average.
        """
        budget = task.settings.get("time_budget")
        by_data = self.measured.get(method, {})
        if task.name in by_data:
            return _mean(seconds for _, seconds in by_data[task.name])
        rows = rows_of(task)
        others = [(theirs, seconds) for found in by_data.values() for theirs, seconds in found]
        known = [(abs(math.log(theirs / rows)), theirs, seconds) for theirs, seconds in others if theirs and rows]
        if known:
            _, theirs, seconds = min(known)
            return seconds if budget is not None or rows is None else seconds * rows / theirs
        if others:
            return _mean(seconds for _, seconds in others)
        if budget is not None:
            return float(budget)
        return _mean(seconds for found in self.measured.values() for sets in found.values() for _, seconds in sets)


def rows_of(task: Task) -> int | None:
    """Return how many rows of a task's data set are drawn; None where it does not say how many it has."""
    most, rows = task.settings.get("max_rows"), task.entry.n_rows
    return rows if most is None else most if rows is None else min(rows, most)


@dataclass
class Left:
    """A method that has no record yet, the seconds since it began, if it has, and whether its teacher is fitted."""

    task: Task
    method: str
    since: float | None = None
    prepared: bool = False


def remaining(pace: Pace, left: Iterable[Left], n_workers: int, teachers: Pace | None = None) -> float | None:
    """Return the seconds until all is done; None where a method has nothing to go by.

    Methods of one data set and seed run one after another, and each goes to the worker that is free first.

    Parameters
    ----------
    pace : Pace
    left : iterable of Left
    n_workers : int
    teachers : Pace, optional
        What the data and the teacher of a task took, under the name "teacher".
    """
    by_task: dict[tuple[str, int], float] = {}
    tasks: dict[tuple[str, int], Task] = {}
    running: set[tuple[str, int]] = set()
    prepared: set[tuple[str, int]] = set()
    for one in left:
        seconds = pace.expected(one.method, one.task)
        if seconds is None:
            return None
        key = (one.task.name, one.task.seed)
        tasks[key] = one.task
        by_task[key] = by_task.get(key, 0.0) + max(0.0, seconds - (one.since or 0.0))
        if one.since is not None:
            running.add(key)
        if one.prepared:
            prepared.add(key)
    for key in by_task.keys() - prepared:
        by_task[key] += 0.0 if teachers is None else teachers.expected("teacher", tasks[key]) or 0.0
    free = [0.0] * max(1, n_workers)
    for key in sorted(by_task, key=lambda key: key not in running):
        heapq.heappush(free, heapq.heappop(free) + by_task[key])
    return max(free)


def clock(seconds: float | None) -> str:
    """Return seconds as people say them: ``unknown``, ``40 s``, ``12 min``, ``3 h 05 min``.

    Examples
    --------
    >>> clock(None), clock(39.6), clock(700), clock(11_100)
    ('unknown', '40 s', '12 min', '3 h 05 min')
    """
    if seconds is None:
        return "unknown"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
