"""What rivals take and reach on 5000 rows of one core, to plan a run: ``python -m benchmarks.rivals.seconds``.

One line for each data set and method: seconds of the fit by the clock and of the processor, score R² and attribution R².
"""

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks import Lacking, data
from benchmarks.cell import measure, prepare
from benchmarks.methods import METHODS
from benchmarks.rivals import RIVALS

SETTINGS: Mapping[str, Any] = {
    "teacher": {"n_estimators": 300, "learning_rate": 0.05, "num_leaves": 31},
    "patience": 50,
    "student": {"max_steps": 100_000},
    "time_budget": 8.0,
    "clock": "cpu",
    "teacher_apart": True,
    "n_jobs": 1,
    "max_rows": 5000,
    "part": None,
}


def main() -> None:
    """Fit and measure each method on each data set, at seed 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals.seconds", description=__doc__)
    parser.add_argument("--data", nargs="+", default=["california_housing", "adult"], metavar="NAME")
    parser.add_argument("--methods", nargs="+", default=list(RIVALS), metavar="NAME")
    asked = parser.parse_args()
    entries = data.available()
    for name in asked.data:
        shared = prepare(entries[name], SETTINGS, 0)
        for method in asked.methods:
            record: dict[str, Any] = {"method": method, "metrics": {}, "fidelity": None}
            try:
                measure(record, shared, SETTINGS, METHODS[method], 0)
            except Lacking as error:
                print(f"{name} {method}: lacking, {error}", flush=True)
                continue
            print(f"{name} {method}: {_said(record)}", flush=True)


def _said(record: Mapping[str, Any]) -> str:
    seconds, fidelity = record["seconds"], record["fidelity"] or {}
    parts = [f"fit {seconds['student']:.1f} s, of the processor {seconds['student_cpu']:.1f} s"]
    parts += [f"{key} {_number(fidelity.get(key))}" for key in ("score_r2", "attribution_r2")]
    micro = [record[f"{what}_seconds_per_row"] for what in ("predict", "explain")]
    parts += [
        f"{what} {_number(None if s is None else 1e6 * s)} µs a row"
        for what, s in zip(("predict", "explain"), micro, strict=True)
    ]
    return "; ".join(parts)


def _number(value: float | None) -> str:
    return "none" if value is None or value != value else f"{value:.4g}"


if __name__ == "__main__":
    main()
