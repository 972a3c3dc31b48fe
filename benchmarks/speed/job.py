"""What the process of one measurement is given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.models import read_model
from benchmarks.speed.problems import Problem, load_table


@dataclass(frozen=True)
class Job:
    """One measurement of one booster.

    Parameters
    ----------
    problem : Problem
    seed : int
    model : str
        Path of the booster's file.
    n_rows : int
        Rows that gbdt2nn and predict are given; fewer where the table has fewer.
    n_slow_rows : int
        Rows that the booster's own call and the peers are given.
    n_rounds : int
    n_calls : int
        Calls of single rows.
    """

    problem: Problem
    seed: int
    model: str
    n_rows: int
    n_slow_rows: int
    n_rounds: int
    n_calls: int

    def table(self) -> NDArray[np.float64]:
        """Return the rows to explain."""
        return load_table(self.problem.table, self.seed).X[: self.n_rows]

    def booster(self) -> Any:
        """Read the booster."""
        return read_model(self.problem.library, Path(self.model))
