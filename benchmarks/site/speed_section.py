"""How fast rows are explained, from the records of the speed suite."""

from collections.abc import Sequence
from typing import Any

from benchmarks.site import pictures
from benchmarks.site.names import link_of, slug
from benchmarks.site.results import Record, number
from benchmarks.speed.peers import PEERS
from benchmarks.speed.tables import sections

# contestant of a throughput record -> what it is called; those of other table sizes are in the tables
_OURS = {
    "kernel_float64_64mb": "gbdt2nn, binned rows",
    "warm_float64_64mb": "gbdt2nn, raw rows",
    "end_to_end_float64_64mb": "gbdt2nn, end to end",
    "warm_fast_64mb": "gbdt2nn, raw rows, fast",
}
_OWN, _OTHERS, _PREDICT = 0, 1, 6  # numbers of colours


def section(found: Sequence[Record]) -> list[dict[str, Any]]:
    """Return a picture for each booster whose throughput was measured."""
    shown = []
    for record in found:
        if record["status"] != "ok" or record["measurement"] != "throughput":
            continue
        rows = _rows(record)
        if rows:
            name = record["data"] if record["seed"] == 0 else f"{record['data']}, seed {record['seed']}"
            title = "rows explained per second, one thread (log)"
            drawing = pictures.bars(f"speed-{slug(name)}", rows, title, name, "explanation throughput")
            shown.append({"picture": drawing, "name": name, "link": link_of("speed", record["data"])})
    return shown


def pages(found: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Return for each booster its tables and its picture."""
    groups: dict[str, list[Record]] = {}
    for record in found:
        groups.setdefault(record["data"], []).append(record)
    return {name: _page(records) for name, records in groups.items()}


def _page(records: Sequence[Record]) -> dict[str, Any]:
    tables = [
        {
            "title": heading,
            "remarks": [line.removeprefix("- ") for line in remarks],
            "head": cells[0],
            "rows": cells[1:],
        }
        for heading, remarks, cells in sections(records)
    ]
    failures = [record for record in records if record["status"] == "failed"]
    return {"tables": tables, "pictures": section(records), "failures": failures}


def _rows(record: Record) -> list[tuple[str, float, int]]:
    taken = record["results"]["result"]["contestants"]
    rows = []
    for name, told in taken.items():
        rate = number(told.get("rows_per_second"))
        if not rate:
            continue
        if name in _OURS:
            rows.append((_OURS[name], rate, _OWN))
        elif name == "own":
            rows.append(("the booster's own exact call", rate, _OTHERS))
        elif name == "predict":
            rows.append(("the booster's prediction alone", rate, _PREDICT))
        elif name in PEERS:
            rows.append((PEERS[name].label, rate, _OTHERS))
    return sorted(rows, key=lambda row: -row[1])
