"""The files of the report, by their names: texts made from records, through templates that escape all they are given."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from benchmarks.report import environments, report
from benchmarks.site import data_page, speed_section, suite_section
from benchmarks.site.drawing import marker
from benchmarks.site.markdown import blocks
from benchmarks.site.names import link_of
from benchmarks.site.results import Record, Suite
from benchmarks.site.table_csv import as_csv

_FOLDER = Path(__file__).parent / "templates"
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_KINDS = {
    "result": "results of students",
    "speed": "speed of explanations",
    "claims": "claims",
    "stream": "drifting streams",
    "search": "searches",
    "training": "training time",
    "deploy": "deployed forms",
    "vision": "pictures",
}


def files(found: Sequence[Record]) -> dict[str, str]:
    """Return the text of every file by its path, the front page last."""
    found = [_clean(record) for record in found]
    pages = _environment()
    made = {}
    results = [record for record in found if record["kind"] == "result"]
    speed = [record for record in found if record["kind"] == "speed"]
    vision = [record for record in found if record["kind"] == "vision"]
    tables = report([record for record in found if record["kind"] != "vision"]) if len(vision) < len(found) else ""
    pictures = report(vision) if vision else ""
    suites = [Suite(name, of) for name, of in _groups(results, "suite").items()]
    suites.sort(key=lambda suite: -len(suite.records))  # the largest first
    for suite in suites:
        of_data = _groups(suite.records, "data")
        for name, records in of_data.items():
            made[link_of(suite.name, name)] = pages.get_template("data.html").render(
                title=f"{name}, suite {suite.name}",
                heading=name,
                suite=suite.name,
                root="../../",
                anchor=suite_section.anchor(suite.name),
                siblings=[(other, link_of(suite.name, other)) for other in of_data],
                **data_page.page(Suite(suite.name, records)),
            )
    for name, about in speed_section.pages(speed).items():
        made[link_of("speed", name)] = pages.get_template("speed.html").render(
            title=f"{name}, suite speed", heading=name, root="../../", **about
        )
    others = [record for record in found if record["kind"] not in ("result", "speed", "vision")]
    more = [text for text in (report(others) if others else "", pictures) if text]
    if more:
        made["more.html"] = pages.get_template("more.html").render(
            title="More records", root="", blocks=[block for text in more for block in blocks(text)]
        )
    made["tables.md"] = "\n".join(text for text in (tables, pictures) if text)
    made["results.csv"] = as_csv(found)
    made["index.html"] = pages.get_template("index.html").render(
        title="Benchmark report",
        root="",
        run=_run(found, suites),
        suites=[suite_section.section(suite) for suite in suites],
        speed=speed_section.section(speed),
        speed_pages=[(name, link_of("speed", name)) for name in speed_section.pages(speed)],
        failures=[record for record in found if record["status"] == "failed"],
        made_on=[line.removeprefix("- ") for line in environments(found)[2:]],
        has_more=bool(more),
    )
    return made


def _clean(value: Any) -> Any:
    """The same without what no page may hold: control characters and halves of characters."""
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return _UNFIT.sub("\ufffd", value) if isinstance(value, str) else value


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["style"] = Markup((_FOLDER / "style.css").read_text(encoding="utf-8"))
    environment.globals["mark"] = _mark
    return environment


def _mark(number: int, hollow: bool) -> Markup:
    """The mark of a method beside its name; the name tells all to a reader of screens."""
    return Markup('<svg viewBox="0 0 16 16" class="key-mark" aria-hidden="true">{}</svg>').format(
        marker(8, 8, number, hollow=hollow)
    )


def _groups(records: Sequence[Record], name: str) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record[name], []).append(record)
    return groups


def _run(found: Sequence[Record], suites: Sequence[Suite]) -> Mapping[str, Any]:
    """What was run: counts and dates."""
    dates = sorted(str(record["date"])[:10] for record in found)
    counts = {kind: sum(record["kind"] == kind for record in found) for kind in _KINDS}
    return {
        "n_records": len(found),
        "n_failed": sum(record["status"] == "failed" for record in found),
        "n_methods": len({method for suite in suites for method in suite.methods}),
        "n_data": len({r["data"] for r in found if r["kind"] == "result"}),
        "dates": dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}",
        "kinds": [(text, counts[kind]) for kind, text in _KINDS.items() if counts[kind]],
        "suites": [
            {
                "name": suite.name,
                "anchor": suite_section.anchor(suite.name),
                "n_data": len(suite.data),
                "n_methods": len(suite.methods),
                "seeds": ", ".join(map(str, sorted({r["seed"] for r in suite.records}))),
                "n_records": len(suite.records),
                "n_failed": len(suite.records) - len(suite.good),
            }
            for suite in suites
        ],
    }
