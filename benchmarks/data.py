"""Data sets as tables, by name: the cards of ``datasets/``, a folder of the caller's, scikit-learn's own, made ones.

A set that ships with a card wins over one of the same name in the folder. Files of the caller's and the tasks of OpenML are
suites of their own: see `benchmarks.sources`.
"""

from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError
from benchmarks.sources import cards, made, scikit_learn
from benchmarks.sources.cards import FOLDER_VARIABLE
from benchmarks.sources.tables import TASKS, DataSet, Entry
from benchmarks.wording import near

__all__ = ["CARDS", "FOLDER_VARIABLE", "TASKS", "DataSet", "Entry", "available", "load", "unknown"]

CARDS = Path(__file__).parent.parent / "datasets"


def available() -> dict[str, Entry]:
    """Return every data set that can be loaded here, by name.

    Raises
    ------
    BenchmarkError
        If a card or the manifest of the caller's folder cannot be read.
    """
    found = (*made.entries(), *scikit_learn.entries(), *cards.of_folder(), *cards.of_cards(CARDS))
    entries = {entry.name: entry for entry in found}
    return dict(sorted(entries.items()))


def load(name: str) -> DataSet:
    """Load one data set by name."""
    entries = available()
    if name not in entries:
        raise unknown("data set", [name], entries)
    return entries[name].load()


def unknown(what: str, names: list[str], choices: Any) -> BenchmarkError:
    """Return the error that names what was asked for, what is near it and what there is."""
    asked = ", ".join(repr(name) for name in names)
    return BenchmarkError(f"unknown {what} {asked}{near(names, choices)}; there are: {', '.join(choices)}")
