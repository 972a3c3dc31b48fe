"""What a run shows of itself: a line for each record, and on a terminal how far it is, what is at work, what remains."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from benchmarks.plan import Plan
from benchmarks.remaining import Left, Pace, clock, remaining
from benchmarks.results import Event

Key = tuple[str, int, str]  # data set, seed, method


class Watch:
    """Counts what is done, knows what is at work, and reckons what remains.

    Parameters
    ----------
    plan : Plan
    n_workers : int
    now : callable
        Seconds of a clock that never goes back.
    """

    def __init__(self, plan: Plan, n_workers: int, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.lock = threading.RLock()  # a terminal is drawn by a thread of its own
        self.n_workers = max(1, n_workers)
        self.kept = len(plan.kept)
        self.made = self.failed = self.lacking = 0
        self.left: dict[Key, Left] = {
            (task.name, task.seed, method): Left(task, method) for task in plan.tasks for method in task.methods
        }
        self.began: dict[tuple[str, int], tuple[str | None, float]] = {}
        self.pace, self.teachers = Pace(), Pace()
        tasks = {task.name: task for task in plan.tasks}
        for record in plan.kept.values():
            if record["data"] in tasks and record["status"] == "ok":
                self.pace.add_kept(tasks[record["data"]], record)

    def see(self, event: Event) -> None:
        """Take in what has happened."""
        with self.lock:
            self._see(event)

    def _see(self, event: Event) -> None:
        task, cell = event.task, (event.task.name, event.task.seed)
        if event.kind in ("preparing", "started"):
            at, since = self.began.get(cell, ("", 0.0))
            if event.kind == "started" and at is None:
                no_budget = replace(task, settings={**task.settings, "time_budget": None})  # of students alone
                self.teachers.add("teacher", no_budget, self.now() - since)
                for method in task.methods:
                    if (*cell, method) in self.left:
                        self.left[(*cell, method)].prepared = True
            self.began[cell] = (event.method, self.now())
        elif event.kind in ("made", "lacking") and event.method is not None:
            began = self.began.pop(cell, None)
            self.left.pop((*cell, event.method), None)
            if event.kind == "lacking":
                self.lacking += 1
                return
            self.made += 1
            self.failed += event.record is not None and event.record["status"] == "failed"
            if began is not None and began[0] == event.method:
                self.pace.add(event.method, task, self.now() - began[1])

    def remaining(self) -> float | None:
        """Return the seconds that remain; None as long as a method has nothing to go by."""
        now = self.now()
        with self.lock:
            for (name, seed, method), one in self.left.items():
                at, since = self.began.get((name, seed), (None, now))
                one.since = now - since if at == method else None
            return remaining(self.pace, self.left.values(), self.n_workers, self.teachers)

    def lines(self) -> list[str]:
        """Return how far the run is, and a line for each thing at work."""
        with self.lock:
            whole = self.made + len(self.left)
            head = f"{self.made} of {whole} made, {self.failed} failed, {self.kept} kept, {len(self.left)} left"
            now = self.now()
            at = [
                f"  {name}, seed {seed}: {method or 'data and teacher'}, {clock(now - since)}"
                for (name, seed), (method, since) in self.began.items()
            ]
            if not at and not self.made and self.left:
                at = ["  the libraries are loading"]
            return [f"{head}; remaining: {clock(self.remaining())}", *at]


@contextlib.contextmanager
def on_terminal(watch: Watch, console: Any = None) -> Iterator[Callable[[str], None]]:
    """Show a watch below the lines of a run, for as long as the context lasts; yields what prints a line.

    Parameters
    ----------
    watch : Watch
    console : rich.console.Console, optional
    """
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    class Shown:
        def __rich__(self) -> Table:
            shown = Table.grid()
            shown.add_row(ProgressBar(total=max(1, watch.made + len(watch.left)), completed=watch.made, width=60))
            for line in watch.lines():
                shown.add_row(Text(line, no_wrap=True, overflow="ellipsis"))
            return shown

    console = Console() if console is None else console
    # what is printed passes above the bar; refreshed by a thread of its own, as methods run for minutes
    with Live(Shown(), console=console, refresh_per_second=2, transient=True) as live:
        yield lambda line: live.console.print(Text(line), soft_wrap=True)


def can_be_shown() -> bool:
    """Return whether standard output is a terminal and rich is installed."""
    try:
        from rich.console import Console
    except ImportError:
        return False
    return bool(Console().is_terminal)
