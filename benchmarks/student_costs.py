"""What seconds and megabytes buy: students of one table beside each other, from records alone."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

STUDENTS = ("interaction_tables", "self_explaining")
_REMARKS = [
    "Students by seconds of fitting, the teacher being there; means over seeds. Suites differ in what they allow: steps, or",
    "seconds on the wall or of the processor. Megabytes: the student's parameters in single precision. Share left: what is",
    "missing to a fidelity of 1, as a share of what the first line of the table misses.",
]


def sections(found: Sequence[Record]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return heading, remarks and cells of a table for each teacher, on the same rows, of two students or more.

    Parameters
    ----------
    found : sequence of records
        Of kind "result".
    """
    trees = _trees(found)
    taught: dict[tuple[Any, ...], dict[tuple[str, str], list[Record]]] = {}
    for record in found:
        is_student = record["method"] in STUDENTS and record["status"] == "ok"
        if is_student and (record["fidelity"] or {}).get("attribution_r2") is not None:
            same = record["data"], *record["rows"].values(), trees[record["suite"], record["data"]]
            of_data = taught.setdefault(same, {})
            of_data.setdefault((record["suite"], record["method"]), []).append(record)
    tables = []
    for same in sorted(taught):
        if len(taught[same]) > 1:
            tables.append((same[0], [] if tables else _REMARKS, _cells(taught[same])))
    return tables


def _trees(found: Sequence[Record]) -> dict[tuple[str, str], int]:
    """Return how many trees the teacher of the first seed has, by suite and data set: students of others are not compared."""
    runs = sorted((record for record in found if record["status"] == "ok"), key=lambda record: -record["seed"])
    return {(record["suite"], record["data"]): record["teacher"]["n_trees"] for record in runs}


def _cells(of_data: Mapping[tuple[str, str], Sequence[Record]]) -> list[list[str]]:
    heads = [
        "student",
        "suite",
        "seeds",
        "seconds",
        "steps",
        "megabytes",
        "score R²",
        "attribution R²",
        "per-feature R²",
    ]
    cells = [[*heads, "score: share left", "attribution: share left"]]
    lines = sorted(of_data.items(), key=lambda line: _mean(line[1], _seconds))
    first: dict[str, float] = {}
    for (suite, method), runs in lines:
        fidelity = {
            key: _mean(runs, lambda r, key=key: r["fidelity"][key])
            for key in ("score_r2", "attribution_r2", "per_feature_r2")
        }
        first = first or fidelity
        left = [(1 - fidelity[key]) / (1 - first[key]) for key in ("score_r2", "attribution_r2")]
        cells.append(
            [
                method.replace("_", " "),
                suite,
                str(len(runs)),
                f"{_mean(runs, _seconds):.0f}",
                f"{_mean(runs, lambda r: r['student']['n_steps']):.0f}",
                f"{_mean(runs, lambda r: r['student']['n_parameters']) * 4 / 2**20:.1f}",
                *(f"{value:.4f}" for value in fidelity.values()),
                *(f"{value:.2f}" for value in left),
            ]
        )
    return cells


def _seconds(record: Record) -> float:
    seconds = record["seconds"]
    return float(seconds["student_cpu"] if record["settings"].get("clock") == "cpu" else seconds["student"])


def _mean(runs: Sequence[Record], value: Any) -> float:
    return statistics.fmean(value(record) for record in runs)
