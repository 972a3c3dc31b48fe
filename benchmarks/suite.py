"""What a suite is: data sets, methods and seeds, and the settings that go with them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

ALL_METHODS = ("teacher", "score_imitation", "auxiliary_head", "self_explaining", "labels_only")


@dataclass(frozen=True)
class Suite:
    """What one suite runs, and under which settings.

    Parameters
    ----------
    summary : str
        One line for ``python -m benchmarks list``.
    data : tuple of str
        Names of data sets.
    methods : tuple of str
        Names of methods.
    n_seeds : int
        A seed draws the rows, the teacher and the student.
    first_seed : int
        The first of ``n_seeds`` seeds in a row.
    teacher : mapping
        Parameters of the LightGBM teacher.
    patience : int
        Early stopping rounds of the teacher on the stop rows.
    student : mapping
        Parameters every student shares. A student's own parameters come from its method.
    time_budget : float or None
        Seconds for one fit, teacher included. None: no limit.
    clock : {"wall", "cpu"}
        What the seconds of the time budget are: those that pass, or those that a processor spends on the process, which
        are the same however crowded the machine is; for the latter ``n_jobs`` is 1.
    teacher_apart : bool
        The time budget is of the student alone.
    n_jobs : int
        Threads of teacher and student.
    max_rows : int or None
        Rows drawn from the data set before the split. None: all.
    part : str or None
        Rows whose published split has this name. None: all.
    ordered : bool
        Whether rows are split in their order, which is that of time: the last ones are the test rows.
    reasons : int
        Test rows of which teacher and student are asked by one explainer for what they compute; 0: not asked.
    source : str or None
        Which data set a name of this suite stands for. None: the one of that name.
    as_codes : bool
        Whether categories become numbers, which the teacher splits as such.
    published_splits : bool
        Whether the test rows are those that the source publishes, where it publishes several splits: a seed takes the split
        of its number.
    file : mapping or None
        Of a table of the caller's: its name, checksum and how it is read. See `benchmarks.sources.own`.
    by_data : mapping
        Settings that differ for one data set, by its name: any of the above. ``teacher`` and ``student`` are merged
        into the suite's own.
    by_method : mapping
        Parameters of the student that differ for one method, by its name.
    leaves_out : mapping
        Methods that are not run on a data set, by its name.
    """

    summary: str
    data: tuple[str, ...]
    methods: tuple[str, ...] = ALL_METHODS
    n_seeds: int = 3
    first_seed: int = 0
    teacher: Mapping[str, Any] = field(default_factory=dict)
    patience: int = 50
    student: Mapping[str, Any] = field(default_factory=dict)
    time_budget: float | None = None
    clock: str = "wall"
    teacher_apart: bool = False
    n_jobs: int = 2
    max_rows: int | None = None
    part: str | None = None
    ordered: bool = False
    reasons: int = 0
    source: str | None = None
    as_codes: bool = False
    published_splits: bool = False
    file: Mapping[str, Any] | None = None
    by_data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_method: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    leaves_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def methods_of(self, data_name: str) -> tuple[str, ...]:
        """Return the methods that are run on one data set."""
        return tuple(name for name in self.methods if name not in self.leaves_out.get(data_name, ()))

    def settings(self, data_name: str) -> dict[str, Any]:
        """Return the settings in force for one data set, ready for a record."""
        own = dict(self.by_data.get(data_name, {}))
        for merged in ("teacher", "student"):  # None takes a parameter away
            whole = {**getattr(self, merged), **own.get(merged, {})}
            own[merged] = {name: value for name, value in whole.items() if value is not None}
        values = asdict(replace(self, **own))
        names = ("teacher", "patience", "student", "time_budget", "n_jobs", "max_rows", "part")
        # what a suite does not use is not in its records
        sometimes = (
            "ordered",
            "reasons",
            "teacher_apart",
            "source",
            "as_codes",
            "published_splits",
            "file",
            "by_method",
        )
        used = tuple(name for name in sometimes if values[name])
        used += ("clock",) if values["clock"] != "wall" else ()
        return {name: values[name] for name in names + used}
