"""The Markdown of our own tables as blocks for a page: headings, paragraphs, lists and tables, nothing else."""

import re
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup


def blocks(text: str) -> Iterator[dict[str, Any]]:
    """Yield ``{"kind": "heading", "level", "text"}``, ``"paragraph"``, ``"list"`` (``items``) or ``"table"`` (``rows``)."""
    lines = [*text.splitlines(), ""]
    gathered: list[str] = []
    for line in lines:
        kind, before = _kind(line), _kind(gathered[0]) if gathered else ""
        if gathered and (kind != before or kind == "heading"):
            yield _block(before, gathered)
            gathered = []
        if kind:
            gathered.append(line)


def _kind(line: str) -> str:
    if not line.strip():
        return ""
    for start, kind in (("#", "heading"), ("|", "table"), ("- ", "list"), ("* ", "list")):
        if line.startswith(start):
            return kind
    return "paragraph"


def _block(kind: str, lines: list[str]) -> dict[str, Any]:
    if kind == "heading":
        marks, _, text = lines[0].partition(" ")
        return {"kind": kind, "level": len(marks), "text": inline(text)}
    if kind == "list":
        return {"kind": kind, "items": [inline(line[2:]) for line in lines]}
    if kind == "table":
        rows = [
            [inline(cell.replace("\\|", "|").strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines
        ]
        return {"kind": kind, "head": rows[0], "rows": rows[2:]}
    return {"kind": kind, "text": inline(" ".join(lines))}


def inline(text: str) -> Markup:
    """Escape a text; what stands between backticks is code, between asterisks emphasis."""
    parts = [Markup("<code>{}</code>").format(p) if i % 2 else _emphasis(p) for i, p in enumerate(text.split("`"))]
    return Markup("").join(parts)


def _emphasis(text: str) -> Markup:
    parts = re.split(r"\*{1,2}(\w[^*]*\w)\*{1,2}", text)
    return Markup("").join(Markup("<em>{}</em>").format(p) if i % 2 else p for i, p in enumerate(parts))
