"""What the front page says of one suite: ranks, time, lost accuracy, throughput, and every data set beside every method."""

from collections.abc import Mapping
from typing import Any

from benchmarks.site import pictures
from benchmarks.site.drawing import Drawing, log_scale, nines_scale, percent_scale
from benchmarks.site.names import link_of, slug
from benchmarks.site.ranking import ALPHA, Ranking, common, rank
from benchmarks.site.results import (
    MEASURES,
    TEACHER,
    Measure,
    Suite,
    Values,
    by_cell,
    error_gained,
    explained_per_second,
    fidelity_of,
    label,
    medians,
    student_seconds,
)


def anchor(name: str) -> str:
    """Where the front page speaks of a suite."""
    return f"suite-{slug(name)}"


def section(suite: Suite) -> dict[str, Any]:
    """Return what the template shows of a suite."""
    numbers = {method: i for i, method in enumerate(suite.methods)}
    numbers.setdefault(TEACHER, len(numbers))
    rankings = [_ranking(suite, measure, numbers) for measure in MEASURES]
    ranked = [found for found in rankings if found is not None]
    return {
        "name": suite.name,
        "anchor": anchor(suite.name),
        "key": [
            {"number": numbers[m], "name": label(m), "rival": m in suite.rivals, "explains": _explains(suite, m)}
            for m in suite.methods
        ],
        "teacher_number": numbers[TEACHER],
        "ranked": ranked,
        "n_methods": len(suite.methods),
        "n_data": len(suite.data),
        "pictures": _scatters(suite, numbers),
        "tables": [_matrix(suite, measure) for measure in MEASURES],
        "unexplained": _unexplained(suite),
        "lacking": _lacking(suite),
    }


def _explains(suite: Suite, method: str) -> str:
    """By which explainer from outside a method is explained; empty where it states its own attributions."""
    said = {
        str(r["explains"]) for r in suite.students if r["method"] == method and r.get("explains") not in (None, "own")
    }
    return ", ".join(sorted(said))


def _unexplained(suite: Suite) -> list[str]:
    stated = {method for _, method, _ in suite.values(fidelity_of("attribution_r2"))}
    return [label(m) for m in suite.methods if m not in stated and any(r["method"] == m for r in suite.students)]


def _ranking(suite: Suite, measure: Measure, numbers: Mapping[str, int]) -> dict[str, Any] | None:
    """Ranks by one measure; the teachers have theirs where labels are the measure."""
    values = suite.values(measure.of)
    if measure.key == "error":
        values |= suite.teacher_errors()
    found = rank(values, higher_is_better=measure.higher_is_better)
    if found is None:
        return None
    key = f"ranks-{slug(suite.name)}-{measure.key}"
    title, where = f"{measure.title}: mean ranks", f"suite {suite.name}"
    drawing = pictures.ranks(key, found, numbers, title, where, suite.rivals)
    return {"title": measure.title, "picture": drawing, "text": _said(found, measure, suite)}


def _said(found: Ranking, measure: Measure, suite: Suite) -> list[str]:
    n = len(found.data)
    lines = [
        f"{len(found.methods)} methods on {n} data set{'s' * (n != 1)}, in the seeds that all of them have: "
        f"{found.n_seeds} runs each."
    ]
    test = "Wilcoxon's signed-rank test" if len(found.methods) == 2 else "Friedman's test"
    if found.p_value is None:
        lines.append("One data set tells no methods apart.")
    else:
        p = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
        verdict = "the methods differ" if found.p_value < ALPHA else "no difference is shown, so one bar joins all"
        lines.append(f"{test}: {p}, {verdict}.")
    if n < 6:
        lines.append("So few data sets can hardly tell methods apart.")
    if found.intervals is None:
        lines.append("No intervals: they need three data sets.")
    if found.left_out:
        said = ", ".join(f"{label(m)} ({k} of {n + len(found.data_left_out)})" for m, k in found.left_out.items())
        lines.append(f"Not ranked, as they lack data sets: {said}.")
    if found.data_left_out:
        lines.append(f"Left out, as not every ranked method has them: {', '.join(found.data_left_out)}.")
    if measure.key == "attribution_r2" and _unexplained(suite):
        lines.append(f"Not ranked, as they state no explanation: {', '.join(_unexplained(suite))}.")
    return lines


def _scatters(suite: Suite, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    seconds, gained = suite.values(student_seconds), suite.values(error_gained)
    shown = []
    for measure in MEASURES[:2]:
        fidelity = suite.values(measure.of)
        shown.append((
            _scatter(suite, numbers, f"seconds-{measure.key}", f"{measure.title} and time", seconds, fidelity,
                     ("seconds of the student's fit (log)", log_scale), (f"{measure.title}, R²", nines_scale)),
            "Median over data sets of the mean over seeds; small marks are single data sets. Up and to the left is better.",
        ))  # fmt: skip
    fidelity = suite.values(MEASURES[0].of)
    shown.append((
        _scatter(suite, numbers, "lost", "Error gained over the teacher, and fidelity", fidelity, gained,
                 ("Score fidelity, R²", nines_scale), ("label error more than the teacher's", percent_scale), zero=True),
        "RMSE, log loss or deviance of the student, in percent more than its teacher's; below zero the student is better "
        "than its teacher.",
    ))  # fmt: skip
    found = [{"picture": picture, "text": text} for picture, text in shown if picture is not None]
    rate = suite.values(explained_per_second, teachers=True)
    _, data, _ = common(rate)
    middle = sorted(medians(rate, [*suite.methods, TEACHER], data).items(), key=lambda item: -item[1])
    if middle:
        drawing = pictures.bars(
            f"throughput-{slug(suite.name)}",
            [(f"{numbers[method] + 1}  {label(method)}", value, numbers[method]) for method, value in middle],
            "rows predicted and explained per second (log)",
            "Explanation throughput",
            f"suite {suite.name}",
        )
        found.append(
            {"picture": drawing, "text": "Median over data sets. Bars begin at a power of ten: read their ends."}
        )
    return found


def _scatter(
    suite: Suite, numbers: Mapping[str, int], key: str, title: str, across: Values, up: Values,
    x: tuple[str, Any], y: tuple[str, Any], zero: bool = False,
) -> Drawing | None:  # fmt: skip
    """One point a method, over the data sets that most methods have; and a small one for each data set."""
    both = {k: (across[k], up[k]) for k in across if k in up}
    if not both:
        return None
    cells_x, cells_y = by_cell({k: v[0] for k, v in both.items()}), by_cell({k: v[1] for k, v in both.items()})
    faint = [
        pictures.Point(numbers[m], f"{label(m)} on {d}", cells_x[d, m], cells_y[d, m], m in suite.rivals)
        for d, m in cells_x
    ]
    _, data, _ = common({k: v[0] for k, v in both.items()})
    middle_x = medians({k: v[0] for k, v in both.items()}, suite.methods, data)
    middle_y = medians({k: v[1] for k, v in both.items()}, suite.methods, data)
    points = [pictures.Point(numbers[m], label(m), middle_x[m], middle_y[m], m in suite.rivals) for m in middle_x]
    if not points:
        return None
    drawn = faint if len(data) > 1 else []
    axes = [
        pictures.Axis(name, scale([getattr(p, side) for p in (*points, *drawn)]))
        for side, (name, scale) in (("x", x), ("y", y))
    ]
    name = f"{key}-{slug(suite.name)}"
    return pictures.scatter(name, points, *axes, title, f"suite {suite.name}", faint=drawn, zero=zero)


def _matrix(suite: Suite, measure: Measure) -> dict[str, Any]:
    """Every data set beside every method: mean over seeds, how many seeds, and which is best."""
    values = suite.values(measure.of)
    cells = by_cell(values)
    teachers = by_cell(suite.teacher_errors()) if measure.key == "error" else {}
    counts: dict[tuple[str, str], int] = {}
    for data, method, _ in values:
        counts[data, method] = counts.get((data, method), 0) + 1
    methods = [m for m in suite.methods if any(method == m for _, method in cells)]
    failed = {(r["data"], r["method"]) for r in suite.records if r["status"] == "failed"}
    rows = []
    for data in suite.data:
        of_row = {m: cells[data, m] for m in methods if (data, m) in cells}
        best = (max if measure.higher_is_better else min)(of_row.values(), default=None)
        most = max((counts[data, m] for m in of_row), default=0)
        row = []
        for m in methods:
            if m not in of_row:
                row.append({"text": "failed" if (data, m) in failed else "absent", "style": "absent"})
                continue
            text = f"{of_row[m]:.4f}" if measure.higher_is_better else f"{of_row[m]:.5g}"
            short = f" ({counts[data, m]} of {most})" if counts[data, m] < most else ""
            row.append({"text": text + short, "style": "best" if of_row[m] == best and len(of_row) > 1 else ""})
        teacher = teachers.get((data, TEACHER))
        rows.append({
            "data": data, "link": link_of(suite.name, data), "cells": row,
            "teacher": None if teacher is None else f"{teacher:.5g}",
        })  # fmt: skip
    return {
        "title": measure.title,
        "has_teacher": bool(teachers),
        "methods": [label(m) for m in methods],
        "rows": rows if methods else [],
        "note": "Lower is better: RMSE, log loss (natural logarithm) or Poisson deviance."
        if teachers
        else "R²; 1 is best.",
    }


def _lacking(suite: Suite) -> list[str]:
    """Which methods have no result on which data sets, and which seeds are absent."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for record in suite.students:
        seeds.setdefault((record["data"], record["method"]), set()).add(record["seed"])
    of_data: dict[str, set[int]] = {}
    for (data, _), found in seeds.items():
        of_data.setdefault(data, set()).update(found)
    lines = []
    for method in suite.methods:
        absent = [data for data in suite.data if (data, method) not in seeds]
        partial = [
            f"{data} (seed {', '.join(map(str, sorted(of_data[data] - seeds[data, method])))})"
            for data in suite.data
            if (data, method) in seeds and seeds[data, method] < of_data[data]
        ]
        if absent or partial:
            lines.append(f"{label(method)}: {', '.join([*absent, *partial])}")
    return lines
