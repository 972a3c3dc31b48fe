"""Rows per second: gbdt2nn, the booster's own calls and the peers, turn by turn, and errors against the booster's own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import clock, compilers, contestants, peers
from benchmarks.speed.clock import Contestant
from benchmarks.speed.job import Job

# Of the size of the attributions: whoever misses the booster's own by more computes something else.
OTHER_NUMBERS = 1e-3


def throughput(job: Job, say: Callable[[str], None]) -> dict[str, Any]:
    """Rows per second of everyone, turn by turn, and errors against the booster's own attributions."""
    library, path, X, booster = job.problem.library, Path(job.model), job.table(), job.booster()
    own = contestants.own(library, booster, X, job.n_slow_rows)
    racers, plans = [own, contestants.plain_predict(library, booster, X)], {}
    for megabytes in job.problem.table_memory:
        for precision in ("float64", "fast"):
            explainer = contestants.explainer_of(booster, precision=precision, megabytes=megabytes)
            name = contestants.name_of("kernel", precision, megabytes)
            plans[name] = explainer
            racers.append(contestants.kernel(explainer, X, name))
            racers.append(contestants.warm(explainer, X, contestants.name_of("warm", precision, megabytes)))
        name = contestants.name_of("end_to_end", "float64", megabytes)
        racers.append(contestants.end_to_end(library, path, X, name, precision="float64", megabytes=megabytes))
    n_outputs = contestants.explainer_of(booster, precision="float64", megabytes=64).description.n_outputs
    absent = {}
    for name in peers.PEERS:
        try:
            racers.append(peers.contestant(name, job.problem, booster, X, job.n_slow_rows, n_outputs))
        except peers.UnavailableError as reason:
            absent[name] = str(reason)
    for name in compilers.COMPILERS:
        try:
            racers.append(compilers.contestant(name, library, booster, X, n_outputs))
        except peers.UnavailableError as reason:
            absent[name] = str(reason)
    result = _race(racers, job, say)
    result["plans"] = {name: repr(explainer.plan_) for name, explainer in plans.items()}
    result["absent"] = absent | result["absent"]
    result["peer_versions"] = {
        name: peers.installed_version(other) for name, other in (peers.PEERS | compilers.COMPILERS).items()
    }
    return result


def kernels(job: Job, say: Callable[[str], None]) -> dict[str, Any]:
    """Rows per second of the booster's own call and of gbdt2nn on binned and raw rows alone."""
    X, booster = job.table(), job.booster()
    racers = [contestants.own(job.problem.library, booster, X, job.n_slow_rows)]
    for precision in ("float64", "fast"):
        explainer = contestants.explainer_of(booster, precision=precision, megabytes=64)
        racers.append(contestants.kernel(explainer, X, contestants.name_of("kernel", precision, 64)))
        racers.append(contestants.warm(explainer, X, contestants.name_of("warm", precision, 64)))
    return _race(racers, job, say)


def _race(racers: Sequence[Contestant], job: Job, say: Callable[[str], None]) -> dict[str, Any]:
    """Run contestants turn by turn; the first is the booster's own call, which all others are held against."""
    own = racers[0]
    kept: dict[str, NDArray[Any]] = {}

    def keep(contestant: Contestant, found: Any) -> None:
        if contestant.shape is not None:
            kept[contestant.name] = np.array(contestant.shape(found)[: own.n_rows], dtype=np.float64)

    rounds, errors = clock.interleave(racers, job.n_rounds, say=say, keep=keep)
    reference = kept[own.name]
    scale = float(np.abs(reference).max())
    own_seconds = clock.seconds_per_row(own, rounds[own.name])
    result: dict[str, Any] = {"scale": scale, "contestants": {}, "absent": {}}
    for contestant in racers:
        name, taken = contestant.name, rounds[contestant.name]
        if name in errors:
            result["absent"][name] = peers.reason(errors[name])
            continue
        found = dict(clock.of_contestant(contestant, taken))
        found["times_own"] = clock.ratios(own_seconds, clock.seconds_per_row(contestant, taken))
        if name in kept and contestant.kind != "predict":
            predicts = contestant.kind == "compiler"
            theirs = kept["predict"] if predicts else reference
            size, what = float(np.abs(theirs).max()), "raw score" if predicts else "attribution"
            found["max_error"] = _max_error(kept[name], theirs)
            if not (found["max_error"] is not None and found["max_error"] <= OTHER_NUMBERS * size):
                if contestant.kind not in clock.OTHERS:
                    raise ValueError(
                        f"{name} must give the booster's own attributions, got an error of {found['max_error']} where the "
                        f"largest is {size:.3g}"
                    )
                error = "of another shape" if found["max_error"] is None else f"error {found['max_error']:.2g}"
                result["absent"][name] = f"gives other numbers ({error}, largest {what} {size:.2g})"
                continue
        result["contestants"][name] = found
    return result


def _max_error(found: NDArray[np.float64], reference: NDArray[np.float64]) -> float | None:
    """Return the largest absolute error; None where shapes differ."""
    n = min(len(found), len(reference))
    if found.shape[1:] != reference.shape[1:]:
        return None
    return float(np.abs(found[:n] - reference[:n]).max())
