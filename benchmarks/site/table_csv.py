"""All records as one table: a row each, a column for each number and version."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

_FIRST = ("kind", "suite", "data", "method", "measurement", "seed", "date", "status")
# parts of a record whose numbers and texts become columns, in this order
_PARTS = (
    "error", "fidelity", "metrics", "seconds", "peak_memory", "explains", "explain_seconds_per_row",
    "predict_seconds_per_row", "table", "rows", "teacher", "student", "versions", "hardware", "settings",
)  # fmt: skip
# mappings of one data set's own features, and what is no figure of a result
_LEFT_OUT = ("attribution_r2_per_feature", "parameters", "where", "problem")


def as_csv(found: Sequence[Record]) -> str:
    """Return the table of records as CSV.

    Columns are named as in the records, parts joined by dots (``fidelity.score_r2``); what a record lacks is empty. A
    text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    rows = [_row(record) for record in found]
    present = {name for row in rows for name in row}
    order = {name: place for place, name in enumerate((*_FIRST, *_PARTS))}
    seen = list(dict.fromkeys(name for row in rows for name in row))
    columns = [*(name for name in _FIRST if name in present)]
    columns += sorted((name for name in seen if name not in _FIRST), key=lambda name: order[name.split(".")[0]])
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in _FIRST:
        if name in record:
            row[name] = _cell(record[name])
    for name in _PARTS:
        _flatten(name, record.get(name), row)
    return row


def _flatten(name: str, value: Any, row: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _LEFT_OUT:
                _flatten(f"{name}.{key}", item, row)
    elif isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            row[name] = _cell(" ".join(value))
    elif value is not None:
        row[name] = _cell(value)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        value = value.replace("\r", " ").replace("\0", "")
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t") else value
    return "" if value is None else value
