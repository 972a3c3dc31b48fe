"""A table of the caller's as a suite of its own: ``run --data my.parquet --target price``.

Everything about the file and its columns is checked before any work; what is not said is inferred, and the inference said.
Text becomes categories; numbers stay numbers unless they are named as categories.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import BenchmarkError
from benchmarks.sources.tables import (
    NUMBERS,
    TASKS,
    DataSet,
    Entry,
    as_texts,
    feature_names,
    is_table,
    is_text,
    labels,
    read_table,
)
from benchmarks.wording import near, number_of

NAME = "own"  # of the suite
FEWEST_ROWS = 50
MOST_CLASSES = 100
FEW = 20  # so many whole numbers are taken for classes, more for a quantity


@dataclass(frozen=True)
class Columns:
    """How the columns of a table are used.

    Parameters
    ----------
    target : str
    task : {"regression", "binary", "multiclass", "poisson"} or None
        None: inferred from the labels.
    categories : sequence of str
        Columns of numbers that are categories. Those of text are ones anyhow.
    not_features : sequence of str
        Columns that are left out.
    weight : str or None
        Column of the rows' weights: positive numbers.
    """

    target: str
    task: str | None = None
    categories: Sequence[str] = field(default=())
    not_features: Sequence[str] = field(default=())
    weight: str | None = None


def entry(path: Path, columns: Columns, say: Callable[[str], None]) -> tuple[Entry, dict[str, Any]]:
    """Check a file and return its entry, and what a record tells of it.

    Parameters
    ----------
    path : Path
    columns : Columns
    say : callable
        Is given a line for each thing that was inferred.

    Raises
    ------
    BenchmarkError
        If the file, a column or a label is not what it must be.
    """
    content = _content(path)
    sha256 = hashlib.sha256(content).hexdigest()
    table = _table(content, path.name)
    _check_columns(table, columns, path.name)
    task = _task(table[columns.target], columns, say)
    columns = Columns(columns.target, task, tuple(columns.categories), tuple(columns.not_features), columns.weight)
    name = re.sub(r"[^\w.-]+", "_", path.name.split(".")[0]) or "table"
    found = _data_set(name, path.name, sha256, table, columns, say)
    load = partial(_load, name, path.resolve(), sha256, columns)
    described = {
        **{"name": path.name, "sha256": sha256, "target": columns.target, "task": task},
        **{"categories": list(columns.categories), "not_features": list(columns.not_features)},
        "weight": columns.weight,
    }
    known = Entry(
        *(name, task, "own file", len(found.X), load),
        n_features=found.X.shape[1],
        n_categories=sum(isinstance(dtype, pd.CategoricalDtype) for dtype in found.X.dtypes),
        n_missing=int(found.X.isna().to_numpy().sum()),
    )
    return known, described


def is_own(name: str) -> bool:
    """Return whether what was given as ``--data`` names a file rather than a data set."""
    return is_table(name) or "/" in name or "\\" in name or Path(name).is_file()


def refuse_others(folder: Path, described: Mapping[str, Any], read: Callable[[Path], dict[str, Any]]) -> None:
    """Refuse to go on with records that were made from a file of other bytes, or from other columns of it.

    Parameters
    ----------
    folder : Path
        Of the records of this data set; it need not exist.
    described : mapping
        What `entry` returned.
    read : callable
        Reads one record.

    Raises
    ------
    BenchmarkError
        If a record was made from something else. Files that are no records are left for the runner to name.
    """
    for path in sorted(folder.glob("*.json")):
        try:
            made = read(path)["settings"].get("file") or {}
        except BenchmarkError:
            continue
        if made.get("sha256") != described["sha256"]:
            raise BenchmarkError(
                f"{path} was made from another {made.get('name')} (sha256 {str(made.get('sha256'))[:12]}…, now "
                f"{described['sha256'][:12]}…); name another folder with --out"
            )
        for key, value in described.items():
            if made.get(key) != value:
                raise BenchmarkError(
                    f"{path} was made with {key} {made.get(key)!r}, now {value!r}; name another folder with --out"
                )


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise BenchmarkError(f"--data must be a file, got the folder {str(path)!r}")
    if not is_table(path.name):
        raise BenchmarkError(f"--data must be a .parquet, .csv or .csv.gz file, got {path.name!r}")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        others = path.parent.iterdir() if path.parent.is_dir() else ()
        hint = near([path.name], (other.name for other in others if is_table(other.name)), cutoff=0.8)
        raise BenchmarkError(f"--data: there is no file {str(path)!r}{hint}") from error
    except OSError as error:
        raise BenchmarkError(f"--data: {str(path)!r} cannot be read: {error.strerror}") from error
    if not content:
        raise BenchmarkError(f"--data: {path.name} is empty")
    return content


def _table(content: bytes, name: str) -> pd.DataFrame:
    table = read_table(content, name)
    table.columns = [str(column) for column in table.columns]
    if not table.columns.is_unique:
        twice = sorted(set(table.columns[table.columns.duplicated()]))
        raise BenchmarkError(f"{name} has columns of the same name: {', '.join(map(repr, twice))}")
    if table.empty:
        raise BenchmarkError(f"{name} has no rows")
    return table


def _check_columns(table: pd.DataFrame, columns: Columns, name: str) -> None:
    asked = {
        "--target": [columns.target],
        "--categories": columns.categories,
        "--not-features": columns.not_features,
        "--weight": [] if columns.weight is None else [columns.weight],
    }
    for option, wanted in asked.items():
        absent = [column for column in wanted if column not in table]
        if absent:
            many = len(table.columns) > 20
            there = ", ".join(table.columns[:20]) + (f" and {len(table.columns) - 20} more" if many else "")
            hint = near(absent, table.columns)
            raise BenchmarkError(
                f"{option}: {name} has no column {', '.join(map(repr, absent))}{hint}; there are: {there}"
            )
        if option != "--target" and columns.target in wanted:
            raise BenchmarkError(f"{option} must not name the target, got {columns.target!r}")
    if len(table) < FEWEST_ROWS:
        raise BenchmarkError(f"{name} must have {FEWEST_ROWS} rows at least, got {len(table)}")
    if columns.weight is not None:
        weight = table[columns.weight]
        good = pd.api.types.is_numeric_dtype(weight) and bool((np.isfinite(weight.astype(float)) & (weight > 0)).all())
        if not good:
            raise BenchmarkError(f"--weight: {columns.weight!r} must hold positive numbers in every row")


# ---- the task


def _task(target: pd.Series, columns: Columns, say: Callable[[str], None]) -> str:
    """Return the task: the one asked for, if the labels are for it, or the one that they look like."""
    said = f"target {columns.target!r}"
    n_absent = int(target.isna().sum())
    if n_absent:
        raise BenchmarkError(f"{said} has no label in {number_of(n_absent, 'row')}; leave them out of the file")
    is_number = pd.api.types.is_numeric_dtype(target) and not pd.api.types.is_bool_dtype(target)
    if pd.api.types.is_datetime64_any_dtype(target):
        raise BenchmarkError(f"{said} must hold numbers or classes, got dates")
    if is_number and not np.isfinite(target.to_numpy(dtype=np.float64)).all():
        raise BenchmarkError(f"{said} must be finite in every row, got infinite labels")
    n_values = target.nunique()
    if n_values == 1:
        raise BenchmarkError(f"{said} must vary, but is {target.iloc[0]!r} in every row")
    if columns.task is not None:
        return _asked_task(target, columns.task, is_number, n_values, said)
    is_whole = is_number and bool((target % 1 == 0).all())
    if n_values == 2:
        task, why = "binary", "two values"
    elif is_whole and n_values <= FEW:
        task, why = "multiclass", f"{n_values} whole numbers"
    elif is_number:
        task, why = "regression", f"{n_values} numbers"
    elif n_values <= MOST_CLASSES:
        task, why = "multiclass", f"{n_values} texts"
    else:
        raise BenchmarkError(
            f"{said} must hold numbers, or {MOST_CLASSES} classes at most, got {n_values} texts (the first: "
            f"{str(target.iloc[0])!r})"
        )
    say(f"{said} has {why}: the task is {task}; --task names another")
    return task


def _asked_task(target: pd.Series, task: str, is_number: bool, n_values: int, said: str) -> str:
    if task not in TASKS:
        raise BenchmarkError(f"--task must be one of {', '.join(TASKS)}, got {task!r}{near([task], TASKS)}")
    if task in NUMBERS and not is_number:
        raise BenchmarkError(f"{said} must hold numbers for {task}, got {str(target.iloc[0])!r}")
    if task == "poisson" and bool((target < 0).any()):
        raise BenchmarkError(f"{said} must not be negative for poisson, got {target.min()}")
    if task == "binary" and n_values != 2:
        raise BenchmarkError(f"{said} must have two values for binary, got {n_values}")
    if task == "multiclass" and not 3 <= n_values <= MOST_CLASSES:
        raise BenchmarkError(f"{said} must have 3 to {MOST_CLASSES} values for multiclass, got {n_values}")
    return task


# ---- the table


def _load(name: str, path: Path, sha256: str, columns: Columns) -> DataSet:
    content = _content(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BenchmarkError(f"{path.name} has changed since the run began")
    return _data_set(name, path.name, sha256, _table(content, path.name), columns, lambda line: None)


def _data_set(
    name: str, file: str, sha256: str, table: pd.DataFrame, columns: Columns, say: Callable[[str], None]
) -> DataSet:
    assert columns.task is not None
    aside = [columns.target, *columns.not_features, *([] if columns.weight is None else [columns.weight])]
    X = table.drop(columns=list(dict.fromkeys(aside)))
    if X.shape[1] == 0:
        raise BenchmarkError(f"{file} has no column that is left as a feature")
    X = pd.DataFrame({column: _feature(X[column], columns, file, say) for column in X})
    X.columns = feature_names(X.columns)
    target = table[columns.target]
    if columns.task in NUMBERS:
        y = labels(target, columns.task)
    elif pd.api.types.is_float_dtype(target) and bool((target % 1 == 0).all()):
        y = target.to_numpy(dtype=np.int64)  # whole numbers that were stored as others: 1.0 is the class 1
    else:
        y = labels(target, columns.task)
    weight = None if columns.weight is None else table[columns.weight].to_numpy(dtype=np.float64)
    return DataSet(name, columns.task, X, y, None, "own file", sha256, weight, file=file)


def _feature(column: pd.Series, columns: Columns, file: str, say: Callable[[str], None]) -> pd.Series:
    """Return a column as numbers or as categories."""
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise BenchmarkError(
            f"column {column.name!r} of {file} must hold numbers or texts, got dates: leave it out with --not-features"
        )
    if column.isna().all():
        say(f"column {column.name!r} has no value in any row")
        return pd.Series(np.nan, index=column.index)
    if is_text(column) and (strange := [value for value in column.dropna() if not _is_plain(value)]):
        raise BenchmarkError(
            f"column {column.name!r} of {file} must hold numbers or texts, got {type(strange[0]).__name__}: "
            f"leave it out with --not-features"
        )
    if is_text(column) or isinstance(column.dtype, pd.CategoricalDtype) or column.name in columns.categories:
        if column.name not in columns.categories and column.nunique() == len(column):
            say(f"column {column.name!r} has another text in every row; --not-features leaves it out")
        return as_texts(column)
    return column.astype(np.float64)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bytes | bool | int | float | np.generic)
