"""The gate: records held to bounds of fidelity, for a pipeline that decides by an exit code."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import BenchmarkError
from benchmarks.report import refuse_twins
from gbdt2nn.gate import MEASURES, Bound, checks_of, read_bound, refuse_contradictions, shown

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One bound beside one result, or one result that failed; ``value`` is None where there is no finite number."""

    suite: str
    data: str
    method: str
    seed: int | None  # None: the mean over seeds
    metric: str | None
    value: float | None
    side: str | None
    bound: float | None
    ok: bool
    reason: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What the gate says: every check, how many results they are of, and how many had no student to hold."""

    lines: list[Line]
    n_results: int
    n_teachers: int

    @property
    def failures(self) -> list[Line]:
        """The checks that fail."""
        return [line for line in self.lines if not line.ok]


def bounds_of(minimum: Iterable[str], maximum: Iterable[str]) -> list[Bound]:
    """Read the bounds of the command line, each ``NAME=VALUE``.

    Raises
    ------
    BenchmarkError
        If there is none, or one names no measure of `gbdt2nn.fidelity` or gives no finite number.
    """
    try:
        bounds = [read_bound("min", text, "--min") for text in minimum]
        bounds += [read_bound("max", text, "--max") for text in maximum]
        refuse_contradictions(bounds)
    except ValueError as error:
        raise BenchmarkError(str(error)) from error
    if not bounds:
        raise BenchmarkError(f"the gate needs --min NAME=VALUE or --max NAME=VALUE; names: {', '.join(MEASURES)}")
    return bounds


def gate(
    found: Sequence[Record],
    bounds: Sequence[Bound],
    *,
    suites: Sequence[str] | None = None,
    data_names: Sequence[str] | None = None,
    method_names: Sequence[str] | None = None,
    means: bool = False,
) -> Verdict:
    """Hold results to bounds.

    Parameters
    ----------
    found : sequence of records
        Those of kind "result" are held; a teacher that stands alone has no student and is counted apart.
    bounds : sequence of Bound
    suites, data_names, method_names : sequence of str, optional
        Hold these alone.
    means : bool
        Hold the mean over the seeds of a data set and method, in place of each seed. One seed that failed or was not
        measured fails its mean.

    Returns
    -------
    Verdict

    Raises
    ------
    BenchmarkError
        If no result is left to hold, a name selects nothing, or two records hold the same result.
    """
    results = [record for record in found if record["kind"] == "result"]
    chosen = (("suite", "suite", suites), ("data", "data", data_names), ("methods", "method", method_names))
    for argument, key, names in chosen:
        if names is not None:
            strange = sorted(set(names) - {record[key] for record in results})
            if strange:  # a gate that watches over nothing would stand open
                there = ", ".join(sorted({str(record[key]) for record in results})) or "none"
                raise BenchmarkError(f"--{argument} {strange[0]!r} is in no record; there are: {there}")
            results = [record for record in results if record[key] in names]
    refuse_twins(results)
    held = [record for record in results if not _is_teacher_alone(record)]
    if not held:
        alone = f"; {len(results)} are of teachers alone" if results else ""
        raise BenchmarkError(f"no record of a student matches, so nothing is held to the bounds{alone}")
    lines: list[Line] = []
    if means:
        groups: dict[tuple[str, str, str], list[Record]] = {}
        for record in held:
            groups.setdefault((record["suite"], record["data"], record["method"]), []).append(record)
        for group in groups.values():
            lines += _of_group(group, bounds)
    else:
        for record in held:
            lines += _of_result(record, bounds)
    return Verdict(lines, len(held), len(results) - len(held))


def _is_teacher_alone(record: Record) -> bool:
    """Whether a good record has no student by design."""
    if record["status"] != "ok" or record["fidelity"] is not None:
        return False
    return "student" not in record and "student" not in record["metrics"]


def _of_result(record: Record, bounds: Sequence[Bound]) -> list[Line]:
    where = {name: record[name] for name in ("suite", "data", "method", "seed")}
    failed = _error(record)
    if failed is not None:
        return [Line(**where, metric=None, value=None, side=None, bound=None, ok=False, reason=failed)]
    return [
        Line(
            **where,
            metric=check.bound.name,
            value=check.measured if math.isfinite(check.measured) else None,
            side=check.bound.side,
            bound=check.bound.value,
            ok=check.ok,
            reason=None if math.isfinite(check.measured) else "not measured",
        )
        for check in checks_of(record["fidelity"] or {}, bounds)
    ]


def _of_group(group: Sequence[Record], bounds: Sequence[Bound]) -> list[Line]:
    """Hold the mean over seeds; the lines of single seeds tell what keeps a mean from being."""
    broken = [record for record in group if _error(record) is not None]
    if broken:
        return [line for record in broken for line in _of_result(record, bounds)]
    where = {name: group[0][name] for name in ("suite", "data", "method")}
    lines = []
    for bound in bounds:
        by_seed = [line for record in group for line in _of_result(record, [bound])]
        missing = [line for line in by_seed if line.value is None]
        if missing:
            lines += missing
            continue
        mean = statistics.fmean(line.value for line in by_seed if line.value is not None)
        (check,) = checks_of({bound.name: mean}, [bound])
        lines.append(
            Line(**where, seed=None, metric=bound.name, value=mean, side=bound.side, bound=bound.value, ok=check.ok)
        )
    return lines


def _error(record: Record) -> str | None:
    if record["status"] == "ok":
        return None
    error = record["error"] or {}
    return " ".join(f"failed: {error.get('type', 'unknown')}: {error.get('message', '')}".split())


def as_json(verdict: Verdict, bounds: Sequence[Bound]) -> dict[str, Any]:
    """Return the verdict for machines: ``ok``, ``bounds``, ``n_results``, ``n_checks`` and every failure."""
    return {
        "ok": not verdict.failures,
        "bounds": [asdict(bound) for bound in bounds],
        "n_results": verdict.n_results,
        "n_teachers_left_out": verdict.n_teachers,
        "n_checks": len(verdict.lines),
        "failures": [asdict(line) for line in verdict.failures],
    }


def as_text(verdict: Verdict, bounds: Sequence[Bound]) -> str:
    """Return the verdict for people: a table of what fails, and one line of counts."""
    asked = ", ".join(map(str, bounds))
    lines = []
    if verdict.failures:
        cells = [["suite", "data set", "method", "seed", "metric", "value", "bound"]]
        for line in verdict.failures:
            seed = "mean" if line.seed is None else str(line.seed)
            if line.bound is None:
                cells.append([line.suite, line.data, line.method, seed, "–", line.reason or "", ""])
                continue
            value = line.reason if line.value is None else shown(line.value, line.bound)
            sign = ">=" if line.side == "min" else "<="
            cells.append([line.suite, line.data, line.method, seed, line.metric, value, f"{sign} {line.bound:g}"])
        lines += [*_aligned(cells), ""]
    n_failed = len(verdict.failures)
    lines.append(
        (f"{n_failed} of {len(verdict.lines)} checks fail" if n_failed else f"All {len(verdict.lines)} checks hold")
        + f" on {verdict.n_results} results: {asked}."
        + (f" Teachers alone, which have no student: {verdict.n_teachers} left out." if verdict.n_teachers else "")
    )
    return "\n".join(lines)


def _aligned(cells: Sequence[Sequence[Any]]) -> list[str]:
    # what ends a line is not padded: errors may be long
    rows = [[" ".join(str(cell).split()) for cell in row] for row in cells]
    wide = [max(len(row[i]) for row in rows if i < 5 or row[-1]) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]
