"""The runner: for each data set and seed one teacher, for each method one student, one record each."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import BenchmarkError, data, records
from benchmarks.cell import measure, prepare
from benchmarks.methods import METHODS
from benchmarks.requests import Request
from benchmarks.suites import SUITES


@dataclass
class Counts:
    """How many records a run made, found and lacked the data for."""

    made: int = 0
    failed: int = 0
    kept: int = 0
    lacking: int = 0


def run(
    suite_name: str,
    *,
    request: Request | None = None,
    data_names: Sequence[str] | None = None,
    method_names: Sequence[str] | None = None,
    n_seeds: int | None = None,
    out: Path = Path("results"),
    retry_failed: bool = False,
    say: Callable[[str], None] = print,
) -> Counts:
    """Run a suite, or a part of it, and write a record for each result that is not there yet.

    Parameters
    ----------
    suite_name : str
        A name in `SUITES`.
    request : Request, optional
        A suite and its data sets instead of one in `SUITES`: of OpenML, or a table of the caller's.
    data_names, method_names : sequence of str, optional
        Take these instead of the suite's own.
    n_seeds : int, optional
        So many seeds, from the suite's first on, instead of the suite's own number.
    out : Path
        Records go to ``out/<suite>/<data set>/<method>-seed<seed>.json``.
    retry_failed : bool
        Run what an earlier run recorded as failed again.
    say : callable
        Is given one line of progress at a time.

    Returns
    -------
    Counts

    Raises
    ------
    BenchmarkError
        Before any training: an unknown suite, method or data set, a record that cannot be read or was made under
        other settings.
    """
    if request is not None:
        suite_name, suite, entries = request.name, request.suite, dict(request.entries)
    elif suite_name in SUITES:
        suite, entries = SUITES[suite_name], data.available()
    else:
        raise data.unknown("suite", [suite_name], SUITES)
    strange = [name for name in method_names or suite.methods if name not in METHODS]
    if strange:
        raise data.unknown("method", strange, METHODS)
    strange = [name for name in data_names or () if name not in {*entries, *suite.by_data}]
    if strange:
        raise data.unknown("data set", strange, entries)
    n_seeds = suite.n_seeds if n_seeds is None else n_seeds
    if n_seeds < 1:
        raise BenchmarkError(f"seeds must be at least 1, got {n_seeds}")

    counts = Counts()
    plan = []
    names = list(dict.fromkeys(data_names or suite.data))
    for name in names:
        if suite.settings(name).get("source", name) not in entries:
            say(f"lacking  {name}: no card in datasets/, and none in the folder that {data.FOLDER_VARIABLE} names")
            counts.lacking += 1
    # seed by seed: what is interrupted holds whole seeds of every data set
    for seed in range(suite.first_seed, suite.first_seed + n_seeds):
        for name in names:
            settings = suite.settings(name)
            entry = entries.get(settings.get("source", name))
            if entry is None:
                continue
            if settings.get("published_splits") and entry.n_splits is not None and seed >= entry.n_splits:
                say(f"lacking  {name} for seed {seed}: its source publishes {entry.n_splits} splits")
                continue
            missing = []
            for method in dict.fromkeys(method_names or suite.methods_of(name)):
                path = out / suite_name / name / f"{method}-seed{seed}.json"
                if records.is_done(path, settings, retry_failed):
                    say(f"kept     {path}")
                    counts.kept += 1
                else:
                    missing.append((method, path))
            plan += [(name, settings, seed, missing)] if missing else []

    for name, settings, seed, missing in plan:
        entry = entries[settings.get("source", name)]
        for path, record in _results(suite_name, name, entry, settings, seed, missing):
            records.write(path, record)
            counts.made += 1
            if record["status"] == "failed":
                counts.failed += 1
                say(f"failed   {path}: {record['error']['type']}: {record['error']['message']}")
            else:
                say(f"made     {path}: {_summary(record)}")
    return counts


def _results(
    suite_name: str,
    name: str,
    entry: data.Entry,
    settings: dict[str, Any],
    seed: int,
    missing: list[tuple[str, Path]],
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield path and record of each method on one data set and seed; they share one teacher."""
    shared: dict[str, Any] = {}
    for method, path in missing:
        record = {
            "schema": records.SCHEMA,
            "kind": "result",
            "suite": suite_name,
            "data": name,
            "method": method,
            "seed": seed,
            **records.environment(),
            "status": "ok",
            "error": None,
            "settings": settings,
            "seconds": {},
            "metrics": {},
            "fidelity": None,
        }
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                if "teacher" not in shared:
                    shared.update(prepare(entry, settings, seed))
                measure(record, shared, settings, METHODS[method], seed)
            except Exception as error:
                record.update(status="failed", error=records.describe_error(error))
        record["warnings"] = sorted({f"{item.category.__name__}: {item.message}" for item in caught})
        yield path, record


def _summary(record: Mapping[str, Any]) -> str:
    found = record["fidelity"] or {}
    parts = [f"{found[name]:.4f} {name}" for name in ("score_r2", "attribution_r2") if _is_number(found.get(name))]
    return ", ".join([*parts, f"{record['seconds']['total']:.1f} s"])


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))
