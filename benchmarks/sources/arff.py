"""Tables in ARFF, the text format of Weka: what OpenML states its splits in, and the tables that it has in no other form.

Dense tables of numbers, named values, strings and dates (as text); sparse rows and relations are refused.
"""

import re

import numpy as np
import pandas as pd

from benchmarks import BenchmarkError

_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|\S+)\s+(.+)", re.IGNORECASE)
_VALUE = re.compile(rf"\s*({_QUOTED}|(?!['\"])[^,]*?)\s*(,|$)")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_NUMBERS = ("numeric", "real", "integer")


def read_arff(text: str, name: str) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    text : str
    name : str
        For messages.

    Returns
    -------
    table : DataFrame
        float64 for numbers, categories in the order of the file for named values, objects for strings; missing where the
        file has a question mark.

    Raises
    ------
    BenchmarkError
        If the text is no such table; the message names the line.

    Examples
    --------
    >>> read_arff("@relation r\\n@attribute a real\\n@attribute b {x,'y z'}\\n@data\\n1.5,'y z'\\n?,x\\n", "r.arff")
         a    b
    0  1.5  y z
    1  NaN    x
    """
    lines = text.splitlines()
    kinds, first = _header(lines, name)
    rows = []
    for number, line in enumerate(lines[first:], first + 1):
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        if line.startswith("{"):
            raise BenchmarkError(f"line {number} of {name} is sparse: only dense tables can be read")
        values = _values(line, f"line {number} of {name}")
        if len(values) != len(kinds):
            raise BenchmarkError(f"line {number} of {name} should have {len(kinds)} values, got {len(values)}")
        rows.append(values)
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return pd.DataFrame(
        {
            title: _column(values, kind, title, name)
            for (title, kind), values in zip(kinds.items(), columns, strict=True)
        }
    )


def _header(lines: list[str], name: str) -> tuple[dict[str, str | list[str]], int]:
    """What each column holds, by its name, and the number of lines before the rows."""
    kinds: dict[str, str | list[str]] = {}
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if line.lower().startswith("@data"):
            if not kinds:
                break
            return kinds, number
        if not line.lower().startswith("@attribute"):
            continue
        where = f"line {number} of {name}"
        found = _ATTRIBUTE.match(line)
        if found is None:
            raise BenchmarkError(f"{where} declares no column: {line[:80]!r}")
        title, kind = _plain(found[1]), found[2].strip()
        if title in kinds:
            raise BenchmarkError(f"{where} declares the column {title!r} again")
        if kind.startswith("{") and kind.endswith("}"):
            kinds[title] = [value for value in _values(kind[1:-1].strip(), where) if value is not None]
            continue
        word = kind.split()[0].lower()
        if word not in (*_NUMBERS, "string", "date"):
            raise BenchmarkError(f"{where} declares a column of a kind that cannot be read: {kind[:80]!r}")
        kinds[title] = "number" if word in _NUMBERS else "string"
    raise BenchmarkError(f"{name} is no ARFF table: it has no columns before @data")


def _values(line: str, where: str) -> list[str | None]:
    """Values of one row; None where one is missing."""
    if "'" not in line and '"' not in line and "\\" not in line:
        return [None if value == "?" else value for value in map(str.strip, line.split(","))]
    found: list[str | None] = []
    position = 0
    while True:
        match = _VALUE.match(line, position)
        if match is None:
            raise BenchmarkError(f"{where} has a quotation that does not end, or text after one")
        found.append(None if match[1] == "?" else _plain(match[1]))
        if not match[2]:
            return found
        position = match.end()


def _plain(value: str) -> str:
    """A value without its quotation marks and escapes."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), value)


def _column(values: tuple[str | None, ...], kind: str | list[str], title: str, name: str) -> pd.Series:
    if kind == "number":
        try:
            return pd.Series(
                np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
            )
        except ValueError as error:
            raise BenchmarkError(f"column {title!r} of {name} should hold numbers: {error}") from error
    if kind == "string":
        return pd.Series(list(values), dtype=object)
    strange = set(values) - {None, *kind}
    if strange:
        raise BenchmarkError(
            f"column {title!r} of {name} has {sorted(map(str, strange))[0]!r}, which is none of its values"
        )
    return pd.Series(pd.Categorical(list(values), categories=list(dict.fromkeys(kind))))
