"""What a call costs besides CPU time per row: threads, memory, the latency of one row, the first call of a process."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gbdt2nn
from benchmarks.records import hardware
from benchmarks.speed.clock import interleave, ratios, seconds_per_row, spent
from benchmarks.speed.contestants import explainer_of, kernel, matrix, outputs_second, own, warm
from benchmarks.speed.job import Job

SLOW_CALLS = 20.0  # seconds that the booster's own calls of single rows may take


def threads(job: Job, say: Callable[[str], None]) -> dict[str, Any]:
    """How many times as fast two threads are as one, by the wall clock, on binned and on raw rows."""
    usable = hardware()["usable_cores"]
    if usable < 2:
        raise RuntimeError(f"two threads need two cores, got {usable}")
    X, booster = job.table(), job.booster()
    racers = []
    for n_jobs in (1, 2):
        explainer = explainer_of(booster, precision="float64", megabytes=64, n_jobs=n_jobs)
        racers += [kernel(explainer, X, f"kernel_{n_jobs}"), warm(explainer, X, f"warm_{n_jobs}")]
    rounds, _ = interleave(racers, job.n_rounds, say=say)
    seconds = {
        contestant.name: seconds_per_row(contestant, rounds[contestant.name], wall=True) for contestant in racers
    }
    return {
        "n_rows": len(X),
        "wall_seconds": {name: [s.wall for s in taken if s is not None] for name, taken in rounds.items()},
        "scaling": {stage: ratios(seconds[f"{stage}_1"], seconds[f"{stage}_2"]) for stage in ("kernel", "warm")},
    }


def memory(job: Job, say: Callable[[str], None]) -> dict[str, Any]:
    """Peak memory of an explainer's first call on all rows, above what the process held before; result included."""
    X, booster = job.table(), job.booster()
    megabytes: dict[str, Any] = {}

    def explain() -> None:
        explainer_of(booster, precision="float64", megabytes=64).shap_values(X)

    # The first call of the process loads the compiled kernels as well, and they stay.
    for name in ("with_loading", "extra"):
        before = _reset_peak()
        explain()
        megabytes[name] = (_status("VmHWM") - before) / 2**20
        say(f"{name}: {megabytes[name]:.0f} MB")
    n_outputs = explainer_of(booster, precision="float64", megabytes=64).description.n_outputs
    return {"n_rows": len(X), "megabytes": megabytes, "result_megabytes": X.nbytes * n_outputs / 2**20}


def _reset_peak() -> int:
    """Set the kernel's peak of this process back to what it holds now, and return that in bytes."""
    import ctypes
    import gc

    gc.collect()
    # Freed memory goes back to the system: the next call would use it otherwise, unseen.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """Return one of the sizes that Linux keeps of this process, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"/proc/self/status does not tell {name}")


def single_row(job: Job, say: Callable[[str], None]) -> dict[str, Any]:
    """Wall-clock microseconds of one raw row through a warm explainer and through the booster's own call, in turns."""
    library, X, booster = job.problem.library, job.table(), job.booster()
    rows = [np.ascontiguousarray(X[i % len(X)][None]) for i in range(job.n_calls)]
    made_for_one = explainer_of(booster, precision="float64", megabytes=64).prepare(1)
    made_for_many = explainer_of(booster, precision="float64", megabytes=64)
    made_for_many.shap_values(X)
    calls = {
        # A caller of XGBoost has to make a matrix of the row.
        "own": _own_row(library, booster),
        "ours": made_for_one.shap_values,
        "ours_after_all_rows": made_for_many.shap_values,
    }
    values = {name: [call(row) for row in rows[:20]][-1] for name, call in calls.items()}
    start = time.perf_counter()
    calls["own"](rows[0])
    n_own = int(np.clip(SLOW_CALLS / (time.perf_counter() - start), 20, job.n_calls))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for i, row in enumerate(rows):
        for name, call in calls.items():
            if name != "own" or i < n_own:
                start = time.perf_counter()
                call(row)
                taken[name].append((time.perf_counter() - start) * 1e6)
    reference = own(library, booster, X, 1).shape(values["own"])[0]  # type: ignore[misc]
    return {
        "microseconds": {
            name: {"median": statistics.median(all_), "p99": float(np.percentile(all_, 99)), "n": len(all_)}
            for name, all_ in taken.items()
        },
        "max_error": float(np.abs(outputs_second(values["ours"])[0] - reference).max()),
        "plans": {"ours": repr(made_for_one.plan_), "ours_after_all_rows": repr(made_for_many.plan_)},
    }


def _own_row(library: str, booster: Any) -> Callable[[Any], Any]:
    if library == "lightgbm":
        return lambda row: booster.predict(row, pred_contrib=True, num_threads=1)
    return lambda row: booster.predict(matrix(booster, row), pred_contribs=True)


def first_call(job: Job, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of the first call of a process, import of gbdt2nn included, and of the same call again."""
    X, booster = job.table(), job.booster()
    if "numba" in sys.modules:
        raise RuntimeError("numba must not be imported before the first call is timed")
    # The first use of a name of gbdt2nn loads the room behind it.
    explainer_class, importing = spent(lambda: gbdt2nn.TreeExplainer)

    def explain() -> Any:
        explainer = explainer_class(booster, n_jobs=1)
        explainer.shap_values(X)
        return explainer

    explainer, first = spent(explain)
    _, second = spent(explain)
    return {
        "n_rows": len(X),
        "import_seconds": importing.wall,
        "first_seconds": first.wall,
        "second_seconds": second.wall,
        # The booster's own call, where the explainer holds that to be sooner done.
        "algorithm": getattr(explainer.plan_, "algorithm", "own"),
        "plan": repr(explainer.plan_),
    }
