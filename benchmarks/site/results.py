"""What the results of a suite say, by data set, method and seed."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from benchmarks.methods import METHODS

Record = Mapping[str, Any]
Values = dict[tuple[str, str, int], float]  # (data set, method, seed) -> value

TEACHER = "teacher"
# label metrics that are errors, the first that a teacher has is its data set's
_ERRORS = ("rmse", "log_loss", "poisson_deviance", "mae")


def number(value: Any) -> float | None:
    """Return a finite number as a float; None for all else, as records of other hands may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def label(name: str) -> str:
    """A name of a method as one writes it."""
    return str(name).replace("_", " ")


@dataclass(frozen=True)
class Suite:
    """The results of one suite; values are of good records alone."""

    name: str
    records: Sequence[Record]

    @cached_property
    def good(self) -> list[Record]:
        """Records that hold a result."""
        return [record for record in self.records if record["status"] == "ok"]

    @cached_property
    def students(self) -> list[Record]:
        """Good records of a student, or of what explains the teacher and predicts nothing itself."""
        return [record for record in self.good if record["fidelity"] is not None or record["metrics"].get("student")]

    @cached_property
    def data(self) -> list[str]:
        """Names of data sets, in the order of the records."""
        return list(dict.fromkeys(record["data"] for record in self.records))

    @cached_property
    def methods(self) -> list[str]:
        """Names of methods with a student, in the order in which methods are listed; failed ones are among them."""
        alone = {r["method"] for r in self.good} - {r["method"] for r in self.students}
        names = dict.fromkeys(r["method"] for r in self.records if r["method"] not in alone)
        order = {name: place for place, name in enumerate(METHODS)}
        return sorted(names, key=lambda name: (order.get(name, len(order)), name))

    @cached_property
    def rivals(self) -> set[str]:
        """Methods of other projects."""
        return {r["method"] for r in self.students if (r.get("student") or {}).get("rival")}

    def values(self, of: Callable[[Record], float | None], *, teachers: bool = False) -> Values:
        """What a function says of each student, and perhaps of teachers alone, where it says anything."""
        told = [r for r in self.good if r["method"] == TEACHER] if teachers else []
        found = ((r["data"], r["method"], r["seed"], of(r)) for r in (*self.students, *told))
        return {(data, method, seed): value for data, method, seed, value in found if value is not None}

    def teacher_errors(self) -> Values:
        """The teachers' label metric, under the method's name `TEACHER`."""
        found = {}
        for record in self.good:
            name = error_name(record)
            value = None if name is None else number(metrics_of(record, "teacher").get(name))
            if value is not None:
                found[record["data"], TEACHER, record["seed"]] = value
        return found


def fidelity_of(key: str) -> Callable[[Record], float | None]:
    """The function that reads one measure of fidelity from a record."""
    return lambda record: number((record["fidelity"] or {}).get(key))


def error_name(record: Record) -> str | None:
    """Name of the label metric of a record's task: lower is better."""
    return next((name for name in _ERRORS if name in metrics_of(record, "teacher")), None)


def metrics_of(record: Record, side: str) -> Mapping[str, Any]:
    """Label metrics of "teacher" or "student"; empty for what predicts nothing."""
    return record["metrics"].get(side) or {}


def student_error(record: Record) -> float | None:
    """The student's label metric."""
    name = error_name(record)
    return None if name is None else number(metrics_of(record, "student").get(name))


def error_gained(record: Record) -> float | None:
    """How much larger the student's label metric is than its teacher's, in percent of the latter."""
    name = error_name(record)
    ours = student_error(record)
    theirs = None if name is None else number(metrics_of(record, "teacher").get(name))
    return None if ours is None or not theirs else 100.0 * (ours / theirs - 1.0)


def student_seconds(record: Record) -> float | None:
    """Seconds that the student's fit took, without its teacher's, on the clock of its suite."""
    seconds = record["seconds"]
    name = "student_cpu" if record["settings"].get("clock") == "cpu" and "student_cpu" in seconds else "student"
    found = number(seconds.get(name))
    return found if found else None  # what took no time has no place on a log axis


def total_seconds(record: Record) -> float | None:
    """Seconds of teacher and student together, on the clock of the suite."""
    seconds = record["seconds"]
    name = "total_cpu" if record["settings"].get("clock") == "cpu" and "total_cpu" in seconds else "total"
    return number(seconds.get(name))


def explained_per_second(record: Record) -> float | None:
    """Rows that are predicted and explained in a second, where it was measured."""
    seconds = number(record.get("explain_seconds_per_row"))
    return 1.0 / seconds if seconds else None


def peak_megabytes(record: Record) -> float | None:
    """Highest resident memory in units of 2**20 bytes, where it was measured."""
    found = number((record.get("peak_memory") or {}).get("bytes"))
    return None if found is None else found / 2**20


def by_cell(values: Values) -> dict[tuple[str, str], float]:
    """Mean over seeds of each data set and method."""
    groups: dict[tuple[str, str], list[float]] = {}
    for (data, method, _), value in values.items():
        groups.setdefault((data, method), []).append(value)
    return {key: statistics.fmean(found) for key, found in groups.items()}


def medians(values: Values, methods: Iterable[str], data: Iterable[str]) -> dict[str, float]:
    """Median over data sets of each method's mean over seeds; of methods alone that have all of the data sets."""
    cells, data = by_cell(values), list(data)
    return {
        method: statistics.median(cells[name, method] for name in data)
        for method in methods
        if data and all((name, method) in cells for name in data)
    }


@dataclass(frozen=True)
class Measure:
    """Something that methods are ranked by."""

    key: str
    title: str
    higher_is_better: bool
    of: Callable[[Record], float | None] = field(repr=False)


MEASURES = (
    Measure("score_r2", "Score fidelity", True, fidelity_of("score_r2")),
    Measure("attribution_r2", "Attribution fidelity", True, fidelity_of("attribution_r2")),
    Measure("error", "Error against the labels", False, student_error),
)
