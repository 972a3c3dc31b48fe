"""Seconds of several contestants, taken turn by turn in one process, and the ratios of one round's seconds."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A peer whose call takes longer than this runs in the first round alone.
PATIENCE = 60.0
# Work beside the calling thread: threads of a pool that look for work for a moment are none.
OTHERS = ("peer", "compiler")  # kinds that may fail
_STRAY_SHARE, _STRAY_SECONDS = 0.05, 0.005


@dataclass(frozen=True)
class Contestant:
    """One way to do the job.

    Parameters
    ----------
    name : str
    kind : {"own", "predict", "ours", "peer", "compiler"}
        The booster's own exact call, its plain predict, gbdt2nn, another library that explains, one that only predicts.
    n_rows : int
        Rows of one call; seconds are compared per row.
    call : callable
        What is timed; is given what `prepare` returned.
    prepare : callable
        Untimed, before every call: brings the first rows of the table into the form that `call` takes, anew each time.
    n_warm_up : int
        Rows of the untimed call before the first round.
    shape : callable or None
        Brings what `call` returned into an array of shape (n_samples, n_outputs, n_features), raw scores into one of
        (n_samples, n_outputs, 1). None: what it returned is not looked at.
    """

    name: str
    kind: str
    n_rows: int
    call: Callable[[Any], Any]
    prepare: Callable[[int], Any]
    n_warm_up: int
    shape: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Spent:
    """Seconds of one call.

    Parameters
    ----------
    cpu : float
        CPU seconds of the calling thread, or of all threads where others worked for the call as well.
    wall : float
    clock : {"thread", "process"}
        Whose CPU seconds they are.
    """

    cpu: float
    wall: float
    clock: str


def spent(call: Callable[[], Any]) -> tuple[Any, Spent]:
    """Call, and return the result and the seconds."""
    wall, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
    result = call()
    thread, process, wall = time.thread_time() - thread, time.process_time() - process, time.perf_counter() - wall
    if process > (1 + _STRAY_SHARE) * thread + _STRAY_SECONDS:
        return result, Spent(process, wall, "process")
    return result, Spent(thread, wall, "thread")


def interleave(
    contestants: Sequence[Contestant],
    n_rounds: int,
    *,
    say: Callable[[str], None],
    patience: float = PATIENCE,
    keep: Callable[[Contestant, Any], None] | None = None,
) -> tuple[dict[str, list[Spent | None]], dict[str, Exception]]:
    """Run every contestant once in each round.

    Parameters
    ----------
    contestants : sequence of Contestant
    n_rounds : int
    say : callable
        Is given one line for each round.
    patience : float
        Wall-clock seconds of a call, above which a peer runs in the first round alone.
    keep : callable, optional
        Is given each contestant and its result of the first round.

    Returns
    -------
    rounds : dict
        By contestant, seconds of each round; None where it did not run.
    errors : dict
        What peers raised; they are out of the other rounds. An error of any other contestant is raised.
    """
    errors: dict[str, Exception] = {}

    def attempt(contestant: Contestant, n_rows: int) -> tuple[Any, Spent] | None:
        try:
            prepared = contestant.prepare(n_rows)
            return spent(lambda: contestant.call(prepared))
        except Exception as error:
            if contestant.kind not in OTHERS:
                raise
            errors[contestant.name] = error
            return None

    for contestant in contestants:
        attempt(contestant, contestant.n_warm_up)
    rounds: dict[str, list[Spent | None]] = {contestant.name: [] for contestant in contestants}
    for number in range(n_rounds):
        # Backwards every other time: a drift of the machine favours no one.
        for contestant in contestants[:: -1 if number % 2 else 1]:
            taken = rounds[contestant.name]
            is_slow = contestant.kind in OTHERS and bool(taken) and taken[0] is not None and taken[0].wall > patience
            found = None if contestant.name in errors or is_slow else attempt(contestant, contestant.n_rows)
            taken.append(None if found is None else found[1])
            if found is not None and number == 0 and keep is not None:
                keep(contestant, found[0])
        say(f"round {number + 1} of {n_rounds}")
    return rounds, errors


def ratios(slow: Sequence[float | None], fast: Sequence[float | None]) -> dict[str, float | int] | None:
    """Return median, least and greatest of slow / fast over the rounds that have both; None where none has."""
    found = [a / b for a, b in zip(slow, fast, strict=True) if a is not None and b is not None]
    return summary(found) if found else None


def summary(values: Sequence[float]) -> dict[str, float | int]:
    """Return median, least and greatest of values and their number."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def seconds_per_row(contestant: Contestant, taken: Sequence[Spent | None], *, wall: bool = False) -> list[float | None]:
    """Return seconds per row of each round."""
    return [None if s is None else (s.wall if wall else s.cpu) / contestant.n_rows for s in taken]


def of_contestant(contestant: Contestant, taken: Sequence[Spent | None]) -> Mapping[str, Any]:
    """Return what a record says of one contestant's time."""
    known = [s for s in taken if s is not None]
    return {
        "kind": contestant.kind,
        "n_rows": contestant.n_rows,
        "seconds": [s.cpu for s in known],
        "wall_seconds": [s.wall for s in known],
        "clock": sorted({s.clock for s in known}),
        "rows_per_second": contestant.n_rows / statistics.median(s.cpu for s in known),
    }
