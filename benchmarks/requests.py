"""Suites that no list holds: one of OpenML, or a table of the caller's; and the data sets that they are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import data, records
from benchmarks.sources import openml, own
from benchmarks.suites import SUITES, Suite


@dataclass(frozen=True)
class Request:
    """A suite, the name that its records bear, and the data sets that it may name."""

    name: str
    suite: Suite
    entries: Mapping[str, data.Entry]


def of_openml(name: str, say: Callable[[str], None] = print) -> Request:
    """Return a suite of OpenML, its tables downloaded.

    Parameters
    ----------
    name : str
        ``openml:`` and the number of the suite.
    say : callable
        Is given a line for each task that is left out.

    Raises
    ------
    BenchmarkError
        If there is no such suite, or it cannot be had.
    """
    number = name.removeprefix(openml.PREFIX)
    entries = openml.entries(number, say)
    suite = replace(SUITES["tabular"], summary=f"suite {number} of OpenML", data=tuple(entries), by_data={})
    return Request(f"openml-{number}", suite, entries)  # a colon is no part of a folder's name everywhere


def of_file(path: Path, columns: own.Columns, *, out: Path, say: Callable[[str], None] = print) -> Request:
    """Return the suite of one table of the caller's.

    Parameters
    ----------
    path : Path
        A .parquet, .csv or .csv.gz file.
    columns : Columns
        Which column is the target, and what the others are.
    out : Path
        Where the records go; those of a file of other bytes, or of other columns, are refused.
    say : callable
        Is given a line for each thing that was inferred.

    Raises
    ------
    BenchmarkError
        If the file, a column or a label is not what it must be.
    """
    entry, described = own.entry(path, columns, say)
    own.refuse_others(out / own.NAME / entry.name, described, records.read)
    suite = replace(SUITES[own.NAME], data=(entry.name,), file=described)
    return Request(own.NAME, suite, {entry.name: entry})
