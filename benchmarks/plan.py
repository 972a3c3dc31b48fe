"""What a run has to do: the request checked, groups of methods resolved, what is there already left out."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError, data, folder, records
from benchmarks.results import Task
from benchmarks.suite import Suite


@dataclass
class Plan:
    """Tasks that are left, records that are there, and data sets that are not.

    Parameters
    ----------
    tasks : list of Task
    kept : dict of Path to record
    lacking : list of str
    """

    tasks: list[Task] = field(default_factory=list)
    kept: dict[Path, dict[str, Any]] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)


def path_of(out: Path, suite: str, name: str, method: str, seed: int) -> Path:
    """Return where the record of a method on a data set and seed stands."""
    return out / suite / name / f"{method}-seed{seed}.json"


def plan(
    suite_name: str,
    suite: Suite,
    entries: Mapping[str, data.Entry],
    *,
    names: Sequence[str],
    methods: Sequence[str] | None,
    n_seeds: int,
    time_budget: float | None,
    out: Path,
    jobs: int,
    retry_failed: bool,
    repair: bool,
    say: Callable[[str], None],
) -> Plan:
    """Hold what is asked for against what is in the folder.

    Raises
    ------
    BenchmarkError
        If a file that should be a record is none, unless ``repair`` sets it aside; if a record was made under other settings.
    """
    found = Plan()
    corrupt: dict[Path, str] = {}
    here = []
    for name in names:
        if suite.settings(name).get("source", name) in entries:
            here.append(name)
        else:
            found.lacking.append(name)
    # seed by seed: what is interrupted holds whole seeds of every data set
    for seed in range(suite.first_seed, suite.first_seed + n_seeds):
        for name in here:
            settings = suite.settings(name)
            entry = entries[settings.get("source", name)]
            if settings.get("published_splits") and entry.n_splits is not None and seed >= entry.n_splits:
                say(f"lacking  {name} for seed {seed}: its source publishes {entry.n_splits} splits")
                continue
            if time_budget is not None:
                settings["time_budget"] = time_budget
            missing = []
            for method in dict.fromkeys(methods or suite.methods_of(name)):
                path = path_of(out, suite_name, name, method, seed)
                try:
                    record = _read(path, data=name, method=method, seed=seed)
                except BenchmarkError as error:
                    corrupt[path] = str(error)
                    record = None
                if record is not None and records.is_done(path, settings, retry_failed):
                    found.kept[path] = record
                else:
                    missing.append(method)
            if missing:
                found.tasks.append(Task(suite_name, name, entry, settings, seed, tuple(missing), jobs))
    if corrupt and not repair:
        which = "it" if len(corrupt) == 1 else "them"
        raise BenchmarkError(
            f"{'; '.join(corrupt.values())}: remove {which} or pass --repair, which sets {which} aside and makes {which} anew"
        )
    for path in corrupt:
        say(f"aside    {path} is no record, and is now {folder.set_aside(path).name}")
    return found


def _read(path: Path, **expected: Any) -> dict[str, Any] | None:
    """Return the record at a path, None where there is no file; refuse the record of something else."""
    if not path.exists():
        return None
    record = records.read(path)
    other = {key: record.get(key) for key, value in expected.items() if record.get(key) != value}
    if record["kind"] != "result" or other:
        raise BenchmarkError(
            f"{path} is not a benchmark record of what its name says: it holds {other or record['kind']}"
        )
    return record


def resolve(asked: Sequence[str], methods: Collection[str], groups: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the methods that are asked for by name or by group, each once.

    Raises
    ------
    BenchmarkError
        If a name is neither.
    """
    strange = [name for name in asked if name not in methods and name not in groups]
    if strange:
        raise data.unknown("method", strange, [*methods, *groups])
    return list(dict.fromkeys(one for name in asked for one in ([name] if name in methods else groups[name])))


def check_numbers(
    *, n_seeds: int, jobs: int, time_budget: float | None, time_limit: float | None, memory_limit: float | None
) -> None:
    """Refuse numbers out of range; each refusal is one sentence that names its option."""
    if n_seeds < 1:
        raise BenchmarkError(f"seeds must be at least 1, got {n_seeds}")
    if jobs < 0:
        raise BenchmarkError(f"jobs must be 0 (in this process) or more, got {jobs}")
    positive = {"time budget": time_budget, "time limit": time_limit, "memory limit": memory_limit}
    for name, value in positive.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            unit = "GiB" if name == "memory limit" else "seconds"
            raise BenchmarkError(f"{name} must be a positive number of {unit}, got {value:g}")
    if jobs == 0 and (time_limit is not None or memory_limit is not None):
        raise BenchmarkError("limits of time and memory are for worker processes: jobs must be at least 1, got 0")
