"""What ``python -m benchmarks list`` shows: suites, data sets and methods, with sizes and what each needs."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from benchmarks import data, methods
from benchmarks.claims import SUITE as CLAIMS
from benchmarks.claims.methods import DATA as CLAIMS_DATA
from benchmarks.claims.methods import METHODS as CLAIMS_METHODS
from benchmarks.speed import SUITE as SPEED
from benchmarks.suites import SUITES, Suite
from benchmarks.vision import SUITES as VISION

WIDTH = 120  # columns of the terminal
_NAME = 20
_LICENCE = re.compile(r"CC[ -]BY(?:-NC|-SA)?[ -]\d\.\d|CC0|Apache-2\.0|MIT|GPL-2|BSD-\d(?:-Clause)?|public domain")


def lines() -> Iterator[str]:
    """Yield the list, a line at a time, none longer than `WIDTH`."""
    entries = data.available()
    yield "Suites"
    for name, suite in SUITES.items():
        yield from _suite(name, suite, entries)
    yield from _entry("openml:NUMBER", "a suite of OpenML, under the settings of tabular; needs a network, once")
    yield from _other_suites()
    yield ""
    yield from _data_sets(entries)
    yield ""
    yield from _methods()


def _suite(name: str, suite: Suite, entries: Mapping[str, data.Entry]) -> Iterator[str]:
    yield from _entry(name, suite.summary)
    lacking = [one for one in suite.data if suite.settings(one).get("source", one) not in entries]
    if suite.data:
        here = [one for one in suite.data if one not in lacking]
        yield from _under(f"{len(here)} data sets: {', '.join(here)}")
    if lacking:
        yield from _under(f"{len(lacking)} that {data.FOLDER_VARIABLE} must bring: {', '.join(lacking)}")
    yield from _under(f"methods: {', '.join(suite.methods)}")


def _other_suites() -> Iterator[str]:
    from benchmarks.speed.measurements import MEASUREMENTS
    from benchmarks.speed.problems import PROBLEMS
    from benchmarks.vision.experiments import EXPERIMENTS

    yield from _entry(SPEED, "how fast rows are explained; its data sets are boosters, its methods measurements:")
    yield from _pairs({name: f"{problem.summary} of {problem.table}" for name, problem in PROBLEMS.items()})
    yield from _pairs({name: measurement.summary for name, measurement in MEASUREMENTS.items()})
    said = f"whether and why it helps to imitate explanations, on {', '.join(CLAIMS_DATA)}; its methods:"
    yield from _entry(CLAIMS, said)
    yield from _pairs({name: method.summary for name, method in CLAIMS_METHODS.items()})
    yield from _entry(VISION[0], "e2KD and XDistillation on pictures; its data sets are experiments:")
    yield from _pairs({name: experiment.summary for name, experiment in EXPERIMENTS.items()})
    yield from _entry(VISION[1], f"how the settings of {VISION[0]} are chosen, on validation pictures")


def _data_sets(entries: Mapping[str, data.Entry]) -> Iterator[str]:
    """A table of the data sets that are here, and the names of those that suites know and are not."""
    head = ("Data sets", "task", "rows", "feat.", "cat.", "missing", "licence", "from", "needs")
    rows = [
        (
            *(
                f"  {entry.name}",
                entry.task,
                _count(entry.n_rows),
                _count(entry.n_features),
                _count(entry.n_categories),
            ),
            *(
                _count(entry.n_missing),
                _short(_licences(entry.licence), 24),
                _short(entry.source or entry.origin, 18),
                _needs(entry),
            ),
        )
        for entry in entries.values()
    ]
    yield from _table(head, rows, numbers=(2, 3, 4, 5))
    yield from _under(
        f"folder: the one that {data.FOLDER_VARIABLE} names; missing: cells; cat.: features of categories", "  "
    )
    wanted = {suite.settings(name).get("source", name) for suite in SUITES.values() for name in suite.data}
    lacking = sorted(wanted - set(entries))
    if lacking:
        yield from _under(f"not here, a folder must bring them: {', '.join(lacking)}", "  ")


def _methods() -> Iterator[str]:
    needs: Mapping[str, str] = methods.NEEDS
    yield "Methods"
    for name, method in methods.METHODS.items():
        package = needs.get(name)
        note = "" if package is None else f" Needs {package}: {_there(package)}."
        yield from _entry(name, (method.__doc__ or "").strip().splitlines()[0] + note, 28)


def _there(package: str) -> str:
    try:
        return f"{version(package)} is here"
    except PackageNotFoundError:
        return "not here"


# ---- layout


def _entry(name: str, text: str, width: int = _NAME) -> Iterator[str]:
    """A name and what is said of it, further lines indented as far as the first."""
    indent = " " * (width + 3)
    yield from textwrap.wrap(f"  {name:<{width}} {text}", WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _under(text: str, indent: str = " " * (_NAME + 3)) -> Iterator[str]:
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
    )


def _pairs(said: Mapping[str, str]) -> Iterator[str]:
    for name, text in said.items():
        yield from textwrap.wrap(f"    {name:<26} {text}", WIDTH, subsequent_indent=" " * 31, break_on_hyphens=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    right = set(numbers)
    for row in (head, *rows):
        cells = [cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)]
        yield "  ".join(cells).rstrip()


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}".replace(",", " ")


def _short(text: str | None, most: int) -> str:
    if text is None:
        return "–"
    text = " ".join(text.removeprefix("repo: ").split())
    return text if len(text) <= most else text[: most - 1].rstrip(" ,;:") + "…"


def _needs(entry: data.Entry) -> str:
    return "folder" if entry.needs == data.FOLDER_VARIABLE else entry.needs or "nothing"


def _licences(text: str | None) -> str | None:
    """The licences that a text names, the repository's before the data's; the text itself where it names none."""
    named = list(dict.fromkeys(_LICENCE.findall(text or "")))
    return " / ".join(named) if named else text
