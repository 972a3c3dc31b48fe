"""The process of one measurement: ``python -m benchmarks.speed.worker JOB RESULT``, two JSON files."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.speed.measurements import MEASUREMENTS, Job
from benchmarks.speed.problems import Problem

# One thread each, set before any library is loaded.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "RAYON_NUM_THREADS"), "1"
)


def main(job_path: Path, result_path: Path) -> int:
    """Measure what the job asks for; write the result, or the error in its place."""
    asked = json.loads(job_path.read_text(encoding="utf-8"))
    measurement = MEASUREMENTS[asked.pop("measurement")]
    result: dict[str, Any]
    try:
        problem = asked.pop("problem")
        problem["table_memory"] = tuple(problem["table_memory"])
        job = Job(problem=Problem(**problem), **asked)
        result = {"result": measurement.function(job, _say)}
    except Exception as error:
        result = {"error": records.describe_error(error)}
    result_path.write_text(json.dumps(records.plain(result)), encoding="utf-8")
    return 0


def _say(line: str) -> None:
    print(f"         {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
