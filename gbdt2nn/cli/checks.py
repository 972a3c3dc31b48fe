"""``verify``, ``report``, ``export`` and ``info``: what a student is worth, on paper and for a machine that decides."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from gbdt2nn.artefact import read_header
from gbdt2nn.artefact.values import decode
from gbdt2nn.cli.answers import Drop, Json, Model, Rows, columns_of, csv_types, table_of
from gbdt2nn.cli.distil import columns_of_teacher, labels_of, read_model
from gbdt2nn.cli.output import say, waiting
from gbdt2nn.cli.tables import TableFile, to_pandas
from gbdt2nn.fidelity_metrics import Fidelity
from gbdt2nn.files import check_place
from gbdt2nn.gate import NEED_LABELS, Bound, checks_of, read_bound, refuse_contradictions, shown
from gbdt2nn.loading import load
from gbdt2nn.scoring import fidelity
from gbdt2nn.teachers import library_of

Target = Annotated[str | None, typer.Option("--target", help="Column of labels, for measures against them.")]
Teacher = Annotated[Path | None, typer.Option("--teacher", help="Model file of the teacher, where it is not stored.")]
Bounds = list[str] | None


def verify(
    student: Model,
    table: Rows,
    minimum: Annotated[
        Bounds, typer.Option("--min", metavar="NAME=VALUE", help="Least value; may be repeated.")
    ] = None,
    maximum: Annotated[
        Bounds, typer.Option("--max", metavar="NAME=VALUE", help="Largest value; may be repeated.")
    ] = None,
    target: Target = None,
    teacher: Teacher = None,
    drop: Drop = None,
    json: Json = False,
) -> int:
    """Hold a student to bounds of its fidelity on a table: exit code 0 if it keeps them all, 1 if not.

    Names are those of gbdt2nn.fidelity: attribution_r2, score_r2, decision_flip_rate, ... The table is held in memory.
    """
    bounds = [*_bounds("min", minimum, target), *_bounds("max", maximum, target)]
    if not bounds:
        raise ValueError("verify needs a bound: --min NAME=VALUE or --max NAME=VALUE")
    refuse_contradictions(bounds)
    model = load(student)
    if teacher is not None:
        _give_teacher(model, teacher)
    with waiting("Measuring", as_json=json):
        X, y = _read(model, table, target, drop)
        found = fidelity(model, X, y)
    held = checks_of(found, bounds)
    checks = [{"name": c.bound.name, c.bound.side: c.bound.value, "measured": c.measured, "ok": c.ok} for c in held]
    ok = all(check.ok for check in held)
    rows = [
        (
            f"{'ok  ' if c.ok else 'FAIL'} {c.bound.name}",
            f"{shown(c.measured, c.bound.value)}  ({c.bound.side} {c.bound.value:g})",
        )
        for c in held
    ]
    say({"ok": ok, "checks": checks, "fidelity": dict(found)}, as_json=json, rows=rows,
        title=f"{found['n_rows']:,} rows of {table}")  # fmt: skip
    return 0 if ok else 1


def report(
    student: Model,
    table: Rows,
    html: Annotated[Path, typer.Option("--html", help="Page to write.")],
    target: Target = None,
    teacher: Teacher = None,
    title: Annotated[str | None, typer.Option("--title")] = None,
    max_rows: Annotated[int, typer.Option("--max-rows", help="Rows to draw at random.")] = 2000,
    drop: Drop = None,
    json: Json = False,
) -> int:
    """Write a page of student beside teacher on a table. The table is held in memory."""
    check_place("--html", html)
    write_report = import_module("gbdt2nn.reporting").write_report
    model = load(student)
    if teacher is not None:
        _give_teacher(model, teacher)
    with waiting("Writing", as_json=json):
        X, y = _read(model, table, target, drop)
        write_report(model, X, y, path=html, title=title, max_rows=max_rows)
    say({"html": str(html), "n_rows": min(len(X), max_rows)}, as_json=json, rows=[("wrote", str(html))])
    return 0


def export(
    student: Model,
    onnx: Annotated[Path, typer.Argument(metavar="ONNX", help="ONNX file to write.")],
    check: Annotated[
        Path | None, typer.Option("--check", help="Table on which the file must answer like the model.")
    ] = None,
    drop: Drop = None,
    json: Json = False,
) -> int:
    """Write the student, with its explanations and all that reads a table, as ONNX."""
    to_onnx = getattr(import_module("gbdt2nn"), "to_onnx", None)
    if to_onnx is None:
        raise ImportError("this version of gbdt2nn writes no ONNX")
    check_place("ONNX", onnx)
    model = load(student)
    X = None if check is None else _read(model, check, None, drop)[0]
    with waiting("Exporting", as_json=json):
        gaps = to_onnx(model, onnx, check=X)
    gaps = dict(gaps or {})
    found = {"onnx": str(onnx), "bytes": onnx.stat().st_size, "largest_differences": gaps}
    rows = [("wrote", f"{onnx} ({onnx.stat().st_size:,} bytes)")]
    rows += [(f"largest difference of {name}", f"{gap:.3g}") for name, gap in gaps.items()]
    say(found, as_json=json, rows=rows)
    return 0


def info(student: Model, json: Json = False) -> int:
    """Say what an artefact holds; its header alone is read."""
    header = read_header(student)
    columns = header["encoder"]["columns"]
    found = {
        "estimator": header["estimator"],
        "student": header["student"]["name"],
        "teacher": header["description"]["library"] if header["teacher"] else None,
        "objective": header["description"]["objective"],
        "schema": ".".join(str(number) for number in header["schema"]),
        "written_by": header["written_by"],
        "parameters": {name: decode(value, name) for name, value in header["parameters"].items()},
        "columns": [c["name"] for c in columns],
        "categories": {c["name"]: len(c["categories"]["values"]) for c in columns if c["categories"] is not None},
        "classes": None if header["classes"] is None else header["classes"]["values"],
        "fidelity": decode(header["fidelity"], "fidelity"),
        "seconds": decode(header["seconds"], "seconds"),
        "memory": header["memory"],
        "entries": {name: entry["size"] for name, entry in header["entries"].items()},
    }
    rows = [
        ("estimator", f"{found['estimator']}, student {found['student']}"),
        (
            "teacher",
            f"{found['objective']}" + (f", stored ({found['teacher']})" if found["teacher"] else ", not stored"),
        ),
        ("columns", f"{len(columns)}: {', '.join(found['columns'][:8])}{' ...' if len(columns) > 8 else ''}"),
        *([("classes", ", ".join(map(str, found["classes"][:8])))] if found["classes"] else []),
        ("written by", ", ".join(f"{name} {version}" for name, version in found["written_by"].items())),
        ("schema", found["schema"]),
        *((name, f"{size:,} bytes") for name, size in found["entries"].items()),
        *((name, value) for name, value, _ in Fidelity(found["fidelity"]).rows()),
    ]
    say(found, as_json=json, rows=rows, title=str(student))
    return 0


def _bounds(side: str, texts: list[str] | None, target: str | None) -> list[Bound]:
    option = f"--{side}"
    found = [read_bound(side, text, option) for text in texts or []]
    for bound in found:
        if bound.name in NEED_LABELS and target is None:
            raise ValueError(f"{option} {bound.name} needs labels: name their column by --target")
    return found


def _read(model: Any, path: Path, target: str | None, drop: list[str] | None) -> tuple[Any, Any]:
    """A table and its labels, as the model takes them."""
    source = TableFile(path)
    more = [target] if target else []
    names = columns_of(model, source, [*(drop or []), *more])
    found = source.whole([*names, *(name for name in more if name not in names)], csv_types(model, source, names))
    y = None
    if target is not None:
        y = labels_of(to_pandas(found.select([target]))[target])
    return table_of(model, found.select(names)), y


def _give_teacher(model: Any, path: Path) -> None:
    """Let another file stand in for the stored teacher, if it reads the same columns in the same way."""
    booster = read_model(path)
    library = library_of(booster)
    told, own = library.describe(booster), model.distilled_.description
    for name in ("library", "objective", "n_features", "n_outputs"):
        if getattr(told, name) != getattr(own, name):
            raise ValueError(f"--teacher must be of the same {name} as the student's, {getattr(own, name)!r}, got "
                             f"{getattr(told, name)!r}")  # fmt: skip
    names = model.encoder_.feature_names_
    if told.feature_names is not None and columns_of_teacher(told.feature_names, names, own.n_features) != names:
        raise ValueError(f"--teacher must know the columns {names[:5]} in this order, got {told.feature_names[:5]}")
    for name, theirs, ours in zip(
        model.encoder_.feature_names_,
        told.categories or [None] * own.n_features,
        model.encoder_.categories_,
        strict=True,
    ):
        if theirs is not None and (ours is None or theirs.tolist() != ours.tolist()):
            raise ValueError(f"--teacher must have the categories of column {name!r} in the student's order")
    model.distilled_.teacher = booster
    model.distilled_.ensemble = library.parse(booster)
