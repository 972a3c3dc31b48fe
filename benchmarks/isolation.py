"""Tasks in worker processes, with limits: whatever a method does, the run goes on, and it leaves a record.

A worker is spawned, never forked: torch and OpenMP do not survive a fork. It is kept from task to task, since loading
and compiling take longer than a small fit, and takes one task at a time; when it has to be ended, a new one takes the
methods that are left, and fits the teacher anew, by its seed the same.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError, memory, worker
from benchmarks.results import Event, Task, blank

GIB = 1 << 30
LOGS = ".worker-*.log"
_LOOK = 0.1  # seconds between two looks at the workers' memory
_LAST_LINES = 8
_STARTS = 5  # in a row that end before the worker is ready


@dataclass(frozen=True)
class Limits:
    """What a method may take before its worker is ended; the loading of the data with the fit of the teacher likewise.

    Parameters
    ----------
    seconds : float or None
        By the wall clock.
    gibibytes : float or None
        Resident memory of its process and those it starts, libraries included.
    """

    seconds: float | None = None
    gibibytes: float | None = None

    def check(self) -> None:
        """Refuse a limit that cannot be watched here."""
        if self.gibibytes is not None and not memory.is_told():
            raise BenchmarkError(
                "memory limit needs a system that tells the memory of processes under /proc, as Linux does"
            )


class _Worker:
    """The parent's view of one worker process."""

    def __init__(self, log: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, theirs = context.Pipe()
        # no daemon: those may start no processes of their own, as some methods do
        self.process = context.Process(target=worker.serve, args=(theirs, log), daemon=False)
        self.process.start()
        theirs.close()  # or the end of the process would not end the link
        self.log = log
        self.ready = False
        self.task: Task | None = None
        self.left: deque[str] = deque()
        self.method: str | None = None
        self.preparing = False
        self.since = time.monotonic()
        self.before: int | None = None
        self.highest = 0

    @property
    def busy(self) -> bool:
        return self.preparing or self.method is not None

    def give(self, task: Task) -> None:
        self.link.send(task)
        self.task, self.left = task, deque(task.methods)
        self.begin(preparing=True)

    def hear(self) -> Iterator[Any]:
        """Yield what the worker has said so far; nothing more where it has died in the middle of a word."""
        with contextlib.suppress(EOFError, OSError):
            while self.link.poll():
                yield self.link.recv()

    def begin(self, *, preparing: bool = False, method: str | None = None, before: int | None = None) -> None:
        self.preparing, self.method, self.before = preparing, method, before
        self.since, self.highest = time.monotonic(), 0

    def kill(self) -> None:
        """End the process, and those it has started."""
        if self.process.is_alive():
            self.process.kill()
        if self.process.pid is not None:
            with contextlib.suppress(OSError, AttributeError):  # no session of its own yet, none left, or none here
                os.killpg(self.process.pid, signal.SIGKILL)

    def bury(self) -> None:
        self.process.join()
        self.link.close()
        self.log.unlink(missing_ok=True)

    def last_lines(self) -> list[str]:
        """Return what it printed last; of a crash, where Python stood."""
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        crash = [number for number, line in enumerate(lines) if line.startswith("Current thread")]
        lines = lines[crash[-1] :][:_LAST_LINES] if crash else lines[-_LAST_LINES:]
        return [line[:200] for line in lines if line.strip()]


class Pool:
    """Worker processes for a list of tasks; `events` runs them all.

    Parameters
    ----------
    tasks : sequence of Task
    n_workers : int
    limits : Limits
    folder : Path
        For the workers' logs, which are removed with them.
    """

    def __init__(self, tasks: Sequence[Task], n_workers: int, limits: Limits, folder: Path) -> None:
        self.tasks = deque(tasks)
        self.n_workers = n_workers
        self.limits = limits
        self.folder = folder
        self.workers: list[_Worker] = []
        self.failed_starts = 0
        self.tried: set[tuple[str, int, str | None]] = set()
        self.n_started = 0

    def events(self) -> Iterator[Event]:
        """Yield what happens, in whatever order it does; closing the generator ends the workers.

        Raises
        ------
        BenchmarkError
            If a data set cannot be handed to a worker, workers cannot be started, or the memory limit is below what the
            libraries take.
        """
        for task in self.tasks:
            try:
                pickle.dumps(task)
            except Exception as error:  # each kind of object refuses in its own way
                raise BenchmarkError(
                    f"data set {task.name!r} cannot be handed to a worker process, only be run with --jobs 0: {error}"
                ) from error
        try:
            while self.tasks or any(worker.task for worker in self.workers):
                self._hire()
                connection.wait(
                    [one for worker in self.workers for one in (worker.link, worker.process.sentinel)], _LOOK
                )
                for one in list(self.workers):
                    yield from self._heard(one)
                    if one.process.exitcode is not None:
                        yield from self._ended(one, None)
                    elif (over := self._over(one)) is not None:
                        yield from self._ended(one, over)
        finally:
            self.close()

    def close(self) -> None:
        """End every worker."""
        for one in self.workers:  # all of them before any wait: a second Ctrl-C finds nothing left running
            one.kill()
        while self.workers:
            self.workers.pop().bury()

    def _hire(self) -> None:
        """Give tasks to workers that have none, and start workers for those that are left."""
        for one in self.workers:
            if self.tasks and one.ready and one.task is None:
                with contextlib.suppress(OSError):  # it has died; its end is seen to in its place
                    one.give(self.tasks[0])
                    self.tasks.popleft()
        starting = sum(not one.ready for one in self.workers)
        for _ in range(min(self.n_workers - len(self.workers), len(self.tasks) - starting)):
            self.workers.append(_Worker(self.folder / LOGS.replace("*", str(self.n_started))))
            self.n_started += 1

    def _heard(self, one: _Worker) -> Iterator[Event]:
        for said in one.hear():
            if isinstance(said, Event):
                assert one.task is not None
                event = replace(said, task=one.task)
                if event.kind == "preparing":
                    one.begin(preparing=True)
                elif event.kind == "started":
                    one.begin(method=event.method, before=event.resident)
                elif event.kind in ("made", "lacking"):
                    one.begin()
                    one.left.remove(event.method)
                yield event
            elif said == "idle":
                one.begin()
                one.task = None
            else:
                self._is_ready(one, said[1])

    def _is_ready(self, one: _Worker, resident: int | None) -> None:
        one.ready, self.failed_starts = True, 0
        limit = self.limits.gibibytes
        if limit is not None and resident is not None and resident >= limit * GIB:
            raise BenchmarkError(
                f"memory limit must be above what the libraries take before any fit, {resident / GIB:.2f} GiB, "
                f"got {limit:g} GiB"
            )

    def _over(self, one: _Worker) -> dict[str, str] | None:
        """Return the error of a worker that is over a limit."""
        if not one.busy:
            return None
        where = "method" if one.method else "data set and teacher"
        seconds = time.monotonic() - one.since
        if self.limits.seconds is not None and seconds > self.limits.seconds:
            message = f"still at work after the time limit of {self.limits.seconds:g} s"
            return {"type": "TimeLimit", "message": message, "where": where}
        if self.limits.gibibytes is not None and one.process.pid is not None:
            one.highest = max(one.highest, memory.resident_with_offspring(one.process.pid) or 0)
            if one.highest > self.limits.gibibytes * GIB:
                message = f"{one.highest / GIB:.2f} GiB resident, the memory limit is {self.limits.gibibytes:g} GiB"
                return {"type": "MemoryLimit", "message": message, "where": where}
        return None

    def _ended(self, one: _Worker, error: dict[str, str] | None) -> Iterator[Event]:
        """Bury a worker that has died or is over a limit; record what it was at, and put the rest back into the queue."""
        one.kill()
        one.process.join()
        yield from self._heard(one)  # it may have finished in the meantime
        self.workers.remove(one)
        lines = one.last_lines()
        one.bury()
        if not one.ready:
            self._failed_start(one, lines)
        if one.task is None or not one.left:
            return
        task = replace(one.task, methods=tuple(one.left))
        if one.busy:
            error = error or _death(one)
            what = (task.name, task.seed, one.method)
            by_hand = error["type"] == "ProcessDied" and one.process.exitcode == -signal.SIGKILL
            if by_hand and what not in self.tried:
                # A person, or the kernel for want of memory that others took: that is no failure of the method yet.
                self.tried.add(what)
                text = f"{task.name}, seed {task.seed}, {one.method or 'teacher'}: the process was killed; once more"
                yield Event("note", task, one.method, text=text)
            else:
                if error["type"] == "ProcessDied":
                    for line in lines:
                        yield Event("note", task, one.method, text=line)
                failed = [one.method] if one.method else list(one.left)
                for method in failed:
                    one.left.remove(method)
                    yield Event("made", task, method, record=_failure(task, method, error, one))
        if one.left:
            self.tasks.appendleft(replace(task, methods=tuple(one.left)))

    def _failed_start(self, one: _Worker, lines: list[str]) -> None:
        self.failed_starts += 1
        # only a kill from outside may be another's doing
        if one.process.exitcode != -signal.SIGKILL or self.failed_starts >= _STARTS:
            raise BenchmarkError(f"a worker process cannot start: {_death(one)['message']}; {' | '.join(lines)}")


def _death(one: _Worker) -> dict[str, str]:
    code = one.process.exitcode
    how = f"exit code {code}" if code is None or code >= 0 else _signal_name(-code)
    where = "method" if one.method else "data set and teacher"
    return {"type": "ProcessDied", "message": f"the process ended by {how}", "where": where}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _failure(task: Task, method: str, error: dict[str, str], one: _Worker) -> dict[str, Any]:
    record = blank(task, method)
    if one.highest and one.before is not None:
        record["peak_memory"] = {"bytes": one.highest, "growth": max(0, one.highest - one.before)}
    record.update(status="failed", error=error, warnings=[])
    return record
