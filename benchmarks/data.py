"""Data sets as tables, by name: the cards of ``datasets/``, a folder of the caller's, scikit-learn's own, made ones.

A set that ships with a card wins over one of the same name in the folder. Files of the caller's and the tasks of OpenML are
suites of their own: see `benchmarks.sources`.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError
from benchmarks.sources import cards, made, scikit_learn
from benchmarks.sources.cards import FOLDER_VARIABLE
from benchmarks.sources.tables import TASKS, DataSet, Entry

__all__ = ["CARDS", "FOLDER_VARIABLE", "TASKS", "DataSet", "Entry", "available", "load", "near", "unknown"]

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


def near(names: Iterable[str], choices: Iterable[Any]) -> str:
    """Return the choices that look like the names, as a part of a sentence; "" where none does.

    Examples
    --------
    >>> near(["prise"], ["price", "size"])
    " (near it: 'price')"
    """
    choices = [str(choice) for choice in choices]
    lower = {choice.lower(): choice for choice in choices}
    found = [lower[hit] for name in names for hit in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)]
    return f" (near it: {', '.join(repr(choice) for choice in dict.fromkeys(found))})" if found else ""


def unknown(what: str, names: list[str], choices: Any) -> BenchmarkError:
    """Return the error that names what was asked for, what is near it and what there is."""
    asked = ", ".join(repr(name) for name in names)
    return BenchmarkError(f"unknown {what} {asked}{near(names, choices)}; there are: {', '.join(choices)}")
