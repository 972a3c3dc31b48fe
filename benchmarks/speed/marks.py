"""The marks of the speed suite: what was set out to be reached, beside what records say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOLERANCE = 0.9  # a tenth less than a mark against the library's own call counts as met


@dataclass(frozen=True)
class Mark:
    """One figure that was asked for.

    Parameters
    ----------
    problem, measurement : str
        The record that tells.
    label : str
    path : tuple of str
        Where in the results the figure stands: a number, or a mapping with "median", "min" and "max".
    asked : float
    unit : str
        Follows the figure.
    is_limit : bool
        The figure must be no more than what was asked, rather than no less.
    is_tolerant : bool
        Whether a tenth less counts as met.
    """

    problem: str
    measurement: str
    label: str
    path: tuple[str, ...]
    asked: float
    unit: str = "×"
    is_limit: bool = False
    is_tolerant: bool = True

    def figure(self, results: Mapping[str, Any]) -> tuple[float, float | None, float | None] | None:
        """Return median, least and greatest, the latter None where there is one figure; None where there is none."""
        found: Any = results
        for name in self.path:
            if not isinstance(found, Mapping) or found.get(name) is None:
                return None
            found = found[name]
        if isinstance(found, Mapping):
            return found["median"], found.get("min"), found.get("max")
        return found, None, None

    def is_met(self, figure: float) -> bool:
        """Return whether a figure meets the mark."""
        if self.is_limit:
            return figure <= self.asked
        return figure >= self.asked * (TOLERANCE if self.is_tolerant else 1.0)


def _against_own(problem: str, *, warm: Mapping[int, float], end_to_end: float) -> tuple[Mark, ...]:
    """Return the marks of one booster against its own exact call: warm by megabytes of tables, and end to end."""

    def path(stage: str, megabytes: int) -> tuple[str, ...]:
        return "result", "contestants", f"{stage}_float64_{megabytes}mb", "times_own"

    found = []
    for megabytes, asked in warm.items():
        tables = "1 GB" if megabytes == 1024 else f"{megabytes} MB"
        for stage, rows in (("kernel", "binned rows"), ("warm", "raw rows")):
            label = f"warm, {rows}, tables in {tables}"
            found.append(Mark(problem, "throughput", label, path(stage, megabytes), asked))
    return *found, Mark(problem, "throughput", "end to end", path("end_to_end", 64), end_to_end)


MARKS: tuple[Mark, ...] = (
    *_against_own("lightgbm_300x31", warm={64: 240}, end_to_end=110),
    *_against_own("lightgbm_500x63", warm={64: 130}, end_to_end=90),
    *_against_own("lightgbm_1000x127", warm={1024: 130, 64: 100}, end_to_end=80),
    *_against_own("xgboost_300d6", warm={64: 250}, end_to_end=130),
    *_against_own("xgboost_300d8", warm={64: 250}, end_to_end=130),
    *(
        Mark(
            problem,
            "threads",
            f"two threads, {rows}",
            ("result", "scaling", stage),
            1.7,
            is_tolerant=False,
        )
        for problem in ("lightgbm_300x31", "lightgbm_500x63", "xgboost_300d6")
        for stage, rows in (("kernel", "binned rows"), ("warm", "raw rows"))
    ),
    *(
        Mark(problem, "memory", "peak extra memory", ("result", "megabytes", "extra"), 300, " MB", is_limit=True)
        for problem in ("lightgbm_300x31", "lightgbm_500x63", "lightgbm_1000x127", "xgboost_300d6")
    ),
    *(
        Mark(
            "housing_lightgbm_900x31",
            "students",
            label,
            ("result", "microseconds", name, "median"),
            asked,
            " µs",
            is_limit=True,
        )
        for name, label, asked in (
            ("self_explaining_batch_float32", "explained prediction by the student, batch of 1024, float32", 4),
            ("self_explaining_batch_fast", 'explained prediction by the student, batch of 1024, precision="fast"', 2.5),
            ("self_explaining_compiled", "explained prediction by the student, one compiled row", 25),
        )
    ),
    Mark("lightgbm_300x31", "single_row", "one row", ("result", "microseconds", "ours"), 300, " µs", is_limit=True),
)
