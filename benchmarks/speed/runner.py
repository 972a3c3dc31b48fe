"""The runner of the speed suite: for each problem one booster, for each measurement its processes and one record."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError, data, records
from benchmarks.runner import Counts
from benchmarks.speed import SUITE
from benchmarks.speed.measurements import MEASUREMENTS, Measurement
from benchmarks.speed.models import describe_model, library_version, load_model
from benchmarks.speed.problems import PROBLEMS, Problem, load_table
from benchmarks.speed.worker import ONE_THREAD

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Parameters
    ----------
    n_rounds : int
        Rounds in which every contestant runs once.
    n_rows : int
        Rows for gbdt2nn and predict, as many as the table has at the most.
    n_slow_rows : int or None
        Rows for the booster's own call and the peers. None: the problem's own number.
    n_calls : int
        Calls of single rows.
    """

    n_rounds: int = 5
    n_rows: int = 50_000
    n_slow_rows: int | None = None
    n_calls: int = 2000


def run(
    *,
    data_names: Sequence[str] | None = None,
    method_names: Sequence[str] | None = None,
    n_seeds: int | None = None,
    out: Path = Path("results"),
    retry_failed: bool = False,
    say: Callable[[str], None] = print,
    size: Size | None = None,
    models: Path | None = None,
) -> Counts:
    """Run the speed suite, or a part of it, and write a record for each measurement that is not there yet.

    Parameters
    ----------
    data_names : sequence of str, optional
        Names in `PROBLEMS`; all by default.
    method_names : sequence of str, optional
        Names in `MEASUREMENTS`, for every problem asked for. By default each measurement for the problems it names.
    n_seeds : int, optional
        Seeds 0 to ``n_seeds - 1``; 1 by default. A seed draws the table and the booster.
    out : Path
        Records go to ``out/speed/<problem>/<measurement>-seed<seed>.json``.
    retry_failed : bool
        Run what an earlier run recorded as failed again.
    say : callable
        Is given one line of progress at a time.
    size : Size, optional
    models : Path, optional
        Folder that boosters are kept in; by default one among the system's temporary files.

    Returns
    -------
    Counts

    Raises
    ------
    BenchmarkError
        Before any training: an unknown name, a number out of range, a record that cannot be read or was made under other
        settings.
    """
    size = Size() if size is None else size
    for name, value in {**asdict(size), "seeds": n_seeds}.items():
        if value is not None and value < 1:
            raise BenchmarkError(f"{name.removeprefix('n_')} must be at least 1, got {value}")
    for what, asked, known in (("problem", data_names, PROBLEMS), ("measurement", method_names, MEASUREMENTS)):
        strange = [name for name in asked or () if name not in known]
        if strange:
            raise data.unknown(what, strange, known)
    models = Path(tempfile.gettempdir()) / "gbdt2nn-speed-models" if models is None else models

    counts = Counts()
    plan = []
    for name in dict.fromkeys(data_names or PROBLEMS):
        for seed in range(n_seeds or 1):
            missing = []
            for method in dict.fromkeys(method_names or MEASUREMENTS):
                problems = MEASUREMENTS[method].problems
                if method_names is None and problems is not None and name not in problems:
                    continue
                path = out / SUITE / name / f"{method}-seed{seed}.json"
                if records.is_done(path, settings(PROBLEMS[name], size), retry_failed):
                    say(f"kept     {path}")
                    counts.kept += 1
                else:
                    missing.append((method, path))
            plan += [(name, seed, missing)] if missing else []

    for name, seed, missing in plan:
        described: dict[str, Any] = {}
        for method, path in missing:
            record = _record(name, method, seed, size, models, described, say)
            records.write(path, record)
            counts.made += 1
            if record["status"] == "failed":
                counts.failed += 1
                say(f"failed   {path}: {record['error']['type']}: {record['error']['message']}")
            else:
                say(f"made     {path}")
    return counts


def settings(problem: Problem, size: Size) -> dict[str, Any]:
    """Return the settings in force for one problem, ready for a record."""
    found = {"problem": asdict(problem), **asdict(size)}
    if size.n_slow_rows is None:
        found["n_slow_rows"] = problem.n_slow_rows
    return found


def _record(
    name: str,
    method: str,
    seed: int,
    size: Size,
    models: Path,
    described: dict[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure, and return the record. `described` holds what the measurements of one booster share."""
    problem = PROBLEMS[name]
    record: dict[str, Any] = {
        "schema": records.SCHEMA,
        "kind": "speed",
        "suite": SUITE,
        "data": name,
        "measurement": method,
        "seed": seed,
        **records.environment(),
        "commit": records.commit(),
        "status": "ok",
        "error": None,
        "settings": settings(problem, size),
    }
    try:
        record["versions"] = {**record["versions"], "xgboost": library_version("xgboost")}
        if not described:
            described.update(_describe(name, problem, seed, models))
        record.update(table=described["table"], model=described["model"])
        asked = record["settings"]
        job = {
            "measurement": method,
            "problem": asked["problem"],
            "seed": seed,
            "model": str(described["path"]),
            **{key: asked[key] for key in ("n_rows", "n_slow_rows", "n_rounds", "n_calls")},
        }
        say(f"measure  {name}: {method}")
        record["results"] = _measure(MEASUREMENTS[method], job)
    except WorkerError as error:
        record.update(status="failed", error=error.described)
    except Exception as error:
        record.update(status="failed", error=records.describe_error(error))
    record["load_after"] = records.hardware()["load_before"]
    return record


def _describe(name: str, problem: Problem, seed: int, models: Path) -> dict[str, Any]:
    """Load or train the booster and describe it and its table."""
    table = load_table(problem.table, seed)
    booster, path = load_model(name, problem, table, seed, models)
    n_samples, n_features = table.X.shape
    return {
        "path": path.resolve(),
        "table": {
            "name": problem.table,
            "n_samples": n_samples,
            "n_features": n_features,
            "n_categories": len(table.categories),
            "n_classes": table.n_classes,
        },
        "model": describe_model(problem, booster, path),
    }


class WorkerError(Exception):
    """What a process of a measurement reported instead of a result."""

    def __init__(self, described: Mapping[str, str]) -> None:
        super().__init__(described["message"])
        self.described = dict(described)


def _measure(measurement: Measurement, job: Mapping[str, Any]) -> dict[str, Any]:
    """Run the processes of one measurement, one after another, and return their results by name."""
    results = {}
    with tempfile.TemporaryDirectory(prefix="gbdt2nn-speed-") as scratch:
        for label, of_run in measurement.runs.items():
            own = {key: value.replace("{scratch}", scratch) for key, value in of_run.environment.items()}
            asked = {**job, "n_rows": min(job["n_rows"], of_run.n_rows or job["n_rows"])}
            job_path, result_path = Path(scratch) / "job.json", Path(scratch) / "result.json"
            job_path.write_text(json.dumps(records.plain(asked)), encoding="utf-8")
            result_path.unlink(missing_ok=True)
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.speed.worker", str(job_path), str(result_path)],
                env={**os.environ, **ONE_THREAD, **own},
                cwd=CHECKOUT,
            )
            if not result_path.exists():
                message = f"the process ended with {done.returncode} and left no result"
                raise WorkerError({"type": "ChildProcessError", "message": message, "where": label})
            found = json.loads(result_path.read_text(encoding="utf-8"))
            if "error" in found:
                raise WorkerError(found["error"])
            results[label] = found["result"]
    return results
