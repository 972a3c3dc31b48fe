"""The page of one data set: every method with every seed."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.site import pictures
from benchmarks.site.drawing import log_scale, nines_scale, percent_scale, three_digits
from benchmarks.site.results import (
    MEASURES,
    Record,
    Suite,
    error_gained,
    explained_per_second,
    label,
    metrics_of,
    number,
    peak_megabytes,
    student_seconds,
    total_seconds,
)
from gbdt2nn.gate import MEASURES as OF_FIDELITY

# headings of what `gbdt2nn.fidelity` measures, where its own are long
_HEADINGS = {
    "score_r2": "score R²", "score_max_error": "largest error", "score_p999_error": "99.9 % error",
    "attribution_r2": "attribution R²", "per_feature_r2": "R² per feature", "attribution_cosine": "cosine",
    "top3_overlap": "top 3", "completeness_gap": "completeness gap", "decision_flip_rate": "flips",
}  # fmt: skip


def page(suite: Suite) -> dict[str, Any]:
    """Return what the template shows of a suite that holds the records of one data set."""
    numbers = {method: i for i, method in enumerate(suite.methods)}
    good = suite.good[0] if suite.good else None
    return {
        "key": [
            {"number": numbers[m], "name": label(m), "rival": m in suite.rivals, "explains": ""} for m in suite.methods
        ],
        "facts": [] if good is None else _facts(good),
        "pictures": _pictures(suite, numbers),
        "means": _table(suite, means=True),
        "runs": _table(suite, means=False),
        "failures": [r for r in suite.records if r["status"] == "failed"],
        "warnings": _warnings(suite.records),
    }


def _facts(record: Record) -> list[tuple[str, str]]:
    table, rows, teacher = record["table"], record["rows"], record["teacher"]
    classes = f", {table['n_classes']} classes" if table.get("n_classes") else ""
    found = [
        ("Task", f"{table.get('task', 'unknown')}{classes}"),
        ("Rows", ", ".join(f"{n:,} {part}" for part, n in rows.items() if isinstance(n, int))),
        ("Features", f"{table.get('n_features', '–')}, {table.get('n_categories', 0)} of them categories; "
                     f"{table.get('missing_cells', 0):,} cells missing"),
        ("Teacher", f"{teacher.get('library', 'unknown')}, {teacher.get('n_trees', '–')} trees, depth "
                    f"{teacher.get('depth', '–')} (seed {record['seed']})"),
    ]  # fmt: skip
    if table.get("origin"):
        found.append(("Origin", str(table["origin"])))
    if record["settings"].get("time_budget"):
        clock = "of the processor" if record["settings"].get("clock") == "cpu" else "by the wall clock"
        found.append(("Time budget", f"{record['settings']['time_budget']:g} seconds {clock}"))
    return found


def _pictures(suite: Suite, numbers: dict[str, int]) -> list[dict[str, Any]]:
    found = []
    name = suite.data[0]
    for measure in MEASURES[:2]:
        by_method: dict[str, list[tuple[int, float]]] = {}
        for (_, method, seed), value in suite.values(measure.of).items():
            by_method.setdefault(method, []).append((seed, value))
        if by_method:
            drawing = pictures.runs(f"runs-{measure.key}", by_method, numbers, f"{measure.title}, R²",
                                    f"{measure.title} of every run", f"data set {name}", suite.rivals)  # fmt: skip
            found.append(
                {"picture": drawing, "text": "One mark a seed, a stroke at the mean; further right is better."}
            )
    for key, title, (x_name, x_of, x_scale), (y_name, y_of, y_scale), text in (
        ("seconds", "Attribution fidelity and time", ("seconds of the student's fit (log)", student_seconds, log_scale),
         ("Attribution fidelity, R²", MEASURES[1].of, nines_scale), "Means over seeds; small marks are single seeds."),
        ("lost", "Error gained over the teacher, and fidelity", ("Score fidelity, R²", MEASURES[0].of, nines_scale),
         ("label error more than the teacher's", error_gained, percent_scale),
         "In percent more than the teacher's; below zero the student is better than its teacher."),
    ):  # fmt: skip
        across, up = suite.values(x_of), suite.values(y_of)
        both = [k for k in across if k in up]
        if not both:
            continue
        faint = [
            pictures.Point(numbers[method], f"{label(method)}, seed {seed}", across[data, method, seed],
                           up[data, method, seed], method in suite.rivals)
            for data, method, seed in both
        ]  # fmt: skip
        points = []
        for method in dict.fromkeys(k[1] for k in both):
            of = [k for k in both if k[1] == method]
            mean = [statistics.fmean(side[k] for k in of) for side in (across, up)]
            points.append(pictures.Point(numbers[method], label(method), *mean, method in suite.rivals))
        drawn = faint if len(faint) > len(points) else []
        x_axis, y_axis = (
            pictures.Axis(axis, scale([getattr(p, side) for p in (*points, *drawn)]))
            for side, axis, scale in (("x", x_name, x_scale), ("y", y_name, y_scale))
        )
        where = f"data set {name}"
        drawing = pictures.scatter(key, points, x_axis, y_axis, title, where, faint=drawn, zero=key == "lost")
        found.append({"picture": drawing, "text": text})
    return found


def _columns(suite: Suite) -> list[tuple[str, Any]]:
    """Headings, and what of a record stands below them; what no record has is left out."""
    found: list[tuple[str, Any]] = [
        (_HEADINGS[key], lambda r, key=key: number((r["fidelity"] or {}).get(key)))
        for key in OF_FIDELITY
        if key in _HEADINGS
    ]
    metrics = list(dict.fromkeys(name for r in suite.students for name in metrics_of(r, "student")))
    found += [
        (name.replace("_", " "), lambda r, name=name: number(metrics_of(r, "student").get(name))) for name in metrics
    ]
    found += [
        ("fit, s", student_seconds),
        ("with teacher, s", total_seconds),
        ("peak memory, MB", peak_megabytes),
        ("explained rows/s", explained_per_second),
    ]
    return [(heading, of) for heading, of in found if any(of(r) is not None for r in suite.students)]


def _table(suite: Suite, *, means: bool) -> dict[str, Any]:
    columns = _columns(suite)
    rows = []
    for method in suite.methods:
        of_method = sorted((r for r in suite.records if r["method"] == method), key=lambda r: r["seed"])
        good = [r for r in of_method if r in suite.students]
        if means:
            failed = f", {len(of_method) - len(good)} failed" if len(good) < len(of_method) else ""
            rows.append([label(method), f"{len(good)}{failed}", *(_mean([of(r) for r in good]) for _, of in columns)])
            continue
        for r in of_method:
            shown = [_shown(of(r)) for _, of in columns] if r in good else ["–"] * len(columns)
            rows.append([label(method), f"{r['seed']}" if r in good else f"{r['seed']}, failed", *shown])
    teacher = _teacher(suite, columns) if means else []
    return {"head": ["method", "seeds" if means else "seed", *(h for h, _ in columns)], "rows": [*teacher, *rows]}


def _teacher(suite: Suite, columns: Sequence[tuple[str, Any]]) -> list[list[str]]:
    taught = list({r["seed"]: r for r in suite.good if metrics_of(r, "teacher")}.values())
    if not taught:
        return []
    names = {name.replace("_", " "): name for r in taught for name in metrics_of(r, "teacher")}
    cells = [
        _mean([number(metrics_of(r, "teacher").get(names[h])) for r in taught]) if h in names else "–"
        for h, _ in columns
    ]
    return [["teacher", str(len(taught)), *cells]]


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return three_digits(value) if abs(value) >= 100 or (value != 0 and abs(value) < 1e-3) else f"{value:.4f}"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = _shown(statistics.fmean(known))
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.2g}"


def _warnings(records: Sequence[Record]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for record in records:
        for said in record.get("warnings") or []:
            counts[str(said)] = counts.get(str(said), 0) + 1
    return list(counts.items())
