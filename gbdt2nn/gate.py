"""Bounds on the fidelity of a student: what a test suite, the command line and the benchmarks hold it to."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from gbdt2nn.fidelity_metrics import DESCRIPTIONS, Fidelity

# what `gbdt2nn.fidelity` measures; the leaf embeddings are measured at the fit alone
MEASURES = tuple(name for name in DESCRIPTIONS if name != "embedding_r2")
NEED_LABELS = ("teacher_metric", "student_metric", "teacher_accuracy", "student_accuracy")


@dataclass(frozen=True)
class Bound:
    """A least ("min") or largest ("max") value of one measure."""

    side: str
    name: str
    value: float

    def __post_init__(self) -> None:
        if self.name not in MEASURES:
            near = difflib.get_close_matches(str(self.name), MEASURES, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(
                f"must name a measure of gbdt2nn.fidelity, one of {list(MEASURES)}, got {self.name!r}{hint}"
            )
        if isinstance(self.value, bool) or not isinstance(self.value, Real) or not math.isfinite(self.value):
            raise ValueError(f"must give {self.name} a finite number, got {self.value!r}")

    def __str__(self) -> str:
        return f"{self.name} {'>=' if self.side == 'min' else '<='} {self.value:g}"


@dataclass(frozen=True)
class Check:
    """A bound beside what was measured; ``measured`` is NaN where nothing was."""

    bound: Bound
    measured: float

    @property
    def ok(self) -> bool:
        """Whether the bound is held; what was not measured, or is no finite number, holds none."""
        if not math.isfinite(self.measured):
            return False
        return self.measured >= self.bound.value if self.bound.side == "min" else self.measured <= self.bound.value

    def __str__(self) -> str:
        asked = f"must be {'at least' if self.bound.side == 'min' else 'at most'} {self.bound.value:g}"
        if math.isnan(self.measured):
            return f"{self.bound.name} was not measured, {asked}"
        return f"{self.bound.name} is {shown(self.measured, self.bound.value)}, {asked}"


def shown(measured: float, bound: float) -> str:
    """A number to six digits, or to all it has where six would make it look like the bound it misses."""
    short = f"{measured:.6g}"
    return short if float(short) != bound else repr(float(measured))


def read_bound(side: str, text: str, argument: str) -> Bound:
    """Read ``NAME=VALUE`` of a command line.

    Raises
    ------
    ValueError
        If it names no measure or gives no number; the message begins with ``argument``.
    """
    name, _, value = text.partition("=")
    try:
        number = float(value) if name in MEASURES else 0.0  # a wrong name is told first
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"{argument} must be NAME=VALUE with a number, got {text!r}")
    return _bound(side, name, number, argument)


def bounds_of(minimum: Mapping[str, float] | None, maximum: Mapping[str, float] | None) -> list[Bound]:
    """The bounds of two mappings, least values first.

    Raises
    ------
    ValueError
        If there is none, a name is no measure, a value no finite number, or a least value above the largest.
    """
    found = []
    for side, argument, asked in (("min", "minimum", minimum), ("max", "maximum", maximum)):
        if asked is not None and not isinstance(asked, Mapping):
            raise ValueError(f"{argument} must map measures to bounds, got {asked!r}")
        found += [_bound(side, name, value, argument) for name, value in (asked or {}).items()]
    if not found:
        raise ValueError("minimum or maximum must hold a bound, got neither")
    refuse_contradictions(found)
    return found


def refuse_contradictions(bounds: Iterable[Bound]) -> None:
    """Refuse bounds that no value can hold: a gate that never opens is a slip of the pen."""
    bounds = list(bounds)
    for least in bounds:
        for most in bounds:
            if (least.side, most.side) == ("min", "max") and least.name == most.name and least.value > most.value:
                raise ValueError(
                    f"the least {least.name} must not be above the largest, got {least.value:g} and {most.value:g}"
                )


def checks_of(measured: Mapping[str, Any], bounds: Sequence[Bound]) -> list[Check]:
    """Hold measured values to bounds; a name that is absent, None or no number counts as not measured."""
    return [Check(bound, _number(measured.get(bound.name))) for bound in bounds]


class FidelityError(AssertionError):
    """Bounds that a student does not hold; ``checks`` has each of them, ``fidelity`` all that was measured.

    Examples
    --------
    >>> from gbdt2nn import FidelityError, check_fidelity
    >>> try:
    ...     check_fidelity({"score_r2": 0.97, "n_rows": 200}, minimum={"score_r2": 0.99})
    ... except FidelityError as error:
    ...     print(error)
    1 of 1 bounds of fidelity is not held on 200 rows:
      score_r2 is 0.97, must be at least 0.99
    """

    def __init__(self, message: str, checks: Sequence[Check] = (), fidelity: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.checks = tuple(checks)
        self.fidelity = fidelity


def check_fidelity(
    student: Any,
    X: Any = None,
    y: Any = None,
    *,
    sample_weight: Any = None,
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
) -> Fidelity:
    """Hold a student to bounds of its fidelity to the teacher; made for the tests of a project that deploys one.

    Parameters
    ----------
    student : Gbdt2NNRegressor, Gbdt2NNClassifier, a Pipeline that ends in one, or a mapping
        A fitted model, measured on ``X``; or what `fidelity` has returned (then without ``X``, ``y``, ``sample_weight``).
    X : array or frame of shape (n_samples, n_features), optional
    y : array-like of shape (n_samples,), optional
        Labels, which bounds on ``student_metric``, ``student_accuracy`` and the teacher's need.
    sample_weight : array-like of shape (n_samples,), optional
    minimum, maximum : mapping of str to float, optional
        Least and largest value by the name of a measure of `fidelity`: ``score_r2``, ``attribution_r2``,
        ``decision_flip_rate``, ... What was not measured (NaN, None, absent) holds no bound.

    Returns
    -------
    Fidelity
        All that was measured, where every bound is held.

    Raises
    ------
    FidelityError
        An AssertionError that lists every bound that is not held, with the value and the bound.
    ValueError
        Before anything is measured: an unknown measure, a bound that is no finite number, no bound at all, a least
        value above the largest, rows or labels that are missing.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from gbdt2nn import Gbdt2NNRegressor, check_fidelity
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = Gbdt2NNRegressor(student="interaction_tables", n_synthetic=500, random_state=0).fit(X[:300], y[:300])
    >>> found = check_fidelity(model, X[300:], minimum={"score_r2": 0.5}, maximum={"completeness_gap": 1e-3})
    >>> found["n_rows"]
    142
    """
    bounds = bounds_of(minimum, maximum)
    if isinstance(student, Mapping):
        given = [n for n, value in (("X", X), ("y", y), ("sample_weight", sample_weight)) if value is not None]
        if given:
            raise ValueError(f"{given[0]} must not be given where student is a mapping that was measured before")
        found = student if isinstance(student, Fidelity) else Fidelity(student)
    else:
        if X is None:
            raise ValueError("X must hold the rows on which the student is measured, got None")
        for bound in bounds:
            if bound.name in NEED_LABELS and y is None:
                raise ValueError(f"y must hold labels for a bound on {bound.name}, got None")
        from gbdt2nn.scoring import fidelity  # late: bounds on records need no estimator

        found = fidelity(student, X, y, sample_weight)
    checks = checks_of(found, bounds)
    failures = [check for check in checks if not check.ok]
    if failures:
        rows = f" on {found['n_rows']:,} rows" if isinstance(found.get("n_rows"), int) else ""
        verb = "is" if len(failures) == 1 else "are"
        lines = [f"{len(failures)} of {len(bounds)} bounds of fidelity {verb} not held{rows}:"]
        raise FidelityError("\n  ".join([*lines, *map(str, failures)]), checks, found)
    return found


def _bound(side: str, name: str, value: float, argument: str) -> Bound:
    try:
        return Bound(side, name, value)
    except ValueError as error:
        raise ValueError(f"{argument} {error}") from None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
