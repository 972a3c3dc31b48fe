"""Tables from records: Markdown, mean over seeds and spread. No number is typed here."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import BenchmarkError
from benchmarks.claims.tables import sections as sections_of_claims
from benchmarks.deploy.tables import sections as deploy_sections
from benchmarks.methods import METHODS
from benchmarks.speed.tables import sections
from benchmarks.student_costs import sections as cost_sections
from benchmarks.vision.tables import page as vision_page

Record = Mapping[str, Any]

# name in the record, heading, format
_FIDELITY = (
    ("score_r2", "score R²", ".4f"),
    ("attribution_r2", "attribution R²", ".4f"),
    ("per_feature_r2", "per-feature R²", ".4f"),
    ("attribution_cosine", "cosine", ".4f"),
    ("top3_overlap", "top-3", ".3f"),
    ("decision_flip_rate", "flips", ".4f"),
    ("score_p999_error", "p99.9 error", ".3g"),
    ("score_max_error", "max error", ".3g"),
    ("completeness_gap", "completeness gap", ".1e"),
)
_METRICS = (
    ("rmse", "RMSE", ".5g"),
    ("mae", "MAE", ".5g"),
    ("r2", "R² (labels)", ".4f"),
    ("accuracy", "accuracy", ".4f"),
    ("auc", "AUC", ".4f"),
    ("log_loss", "log loss", ".4f"),
)
_COST = (
    ("embedding_r2", "leaf-embedding R²", ".4f"),
    ("n_steps", "steps", ".0f"),
    ("n_synthetic", "synthetic rows", ".0f"),
    ("n_explained", "rows explained", ".0f"),
    ("total", "seconds", ".1f"),
)


def report(found: Sequence[Record]) -> str:
    """Return the Markdown report of records.

    Parameters
    ----------
    found : sequence of records
        As `benchmarks.records.read_all` gives them.

    Returns
    -------
    markdown : str

    Raises
    ------
    BenchmarkError
        If two records hold the same result.
    """
    vision = [record for record in found if record["kind"] == "vision"]
    if vision and len(vision) == len(found):
        return vision_page(vision)
    # pictures have a page of their own
    found = [record for record in found if record["kind"] != "vision"]
    results = [record for record in found if record["kind"] == "result"]
    searches = [record for record in found if record["kind"] == "search"]
    refuse_twins(results)
    lines = ["# Benchmarks", ""]
    if results:
        lines += [
            "Fidelity, metrics and errors on test rows, in raw-score space. Mean over seeds ± sample standard deviation;",
            "one seed has no spread. Seconds are wall-clock, the teacher's included, without the loading of libraries.",
            "– where there is no value.",
            "",
        ]
    for suite, of_suite in _groups(results, lambda record: record["suite"]):
        lines += [f"## Suite {suite}", ""]
        for name, of_data in _groups(of_suite, lambda record: record["data"]):
            lines += _of_data(name, of_data)
    lines += _streams([record for record in found if record["kind"] == "stream"])
    lines += _failures(found)
    lines += _searches(searches)
    lines += _sections("Claims", sections_of_claims([record for record in found if record["kind"] == "claims"]))
    lines += _sections("Speed", sections([record for record in found if record["kind"] == "speed"]))
    lines += _sections("What a second and a megabyte buy", cost_sections(results))
    lines += deploy_sections(found)
    lines += environments(found)
    return "\n".join(lines).rstrip() + "\n"


def _of_data(name: str, group: Sequence[Record]) -> list[str]:
    """Return the table of one data set: the teacher's row first, then one for each method."""
    good = [record for record in group if record["status"] == "ok"]
    if not good:
        return [f"### {name}", "", "No method ran to its end.", ""]
    table, teacher = good[0]["table"], good[0]["teacher"]
    rows = good[0]["rows"]
    task = table["task"] if table["n_classes"] is None else f"{table['task']}, {table['n_classes']} classes"
    lines = [
        f"### {name}",
        "",
        f"Task: {task}. Rows: {rows['train']} train, {rows['stop']} stop, {rows['test']} test. "
        f"Features: {table['n_features']}, {table['n_categories']} of them categories; "
        f"missing cells: {table['missing_cells']}. "
        f"Teacher at seed {good[0]['seed']}: {teacher['library']}, {teacher['n_trees']} trees, depth {teacher['depth']}."
        + (" Seconds are the processor's." if good[0]["settings"].get("clock") == "cpu" else ""),
        "",
    ]
    order = list(METHODS)
    students = _groups([record for record in good if record["fidelity"] is not None], lambda record: record["method"])
    students.sort(key=lambda found: (order.index(found[0]) if found[0] in order else len(order), found[0]))
    fidelity = [column for column in _FIDELITY if _any(good, lambda r, c=column: (r["fidelity"] or {}).get(c[0]))]
    if fidelity:
        cells = [["method", "seeds", *(heading for _, heading, _ in fidelity)]]
        for method, runs in students:
            values = (_cell([r["fidelity"].get(key) for r in runs], style) for key, _, style in fidelity)
            cells.append([method.replace("_", " "), str(len(runs)), *values])
        lines += [*_table(cells), ""]

    lines += _reasons(students)
    metrics = [column for column in _METRICS if _any(good, lambda r, c=column: r["metrics"]["teacher"].get(c[0]))]
    # students of one kind alone have leaf embeddings
    cost = [
        column
        for column in _COST
        if column[0] != "embedding_r2" or _any(good, lambda r, c=column: _cost_of(r).get(c[0]))
    ]
    cells = [["", "seeds", *(heading for _, heading, _ in (*metrics, *cost))]]
    # Methods of one seed share their teacher: one record for each seed tells of it.
    taught = {record["seed"]: record for record in good}.values()
    values = [_cell([r["metrics"]["teacher"].get(key) for r in taught], style) for key, _, style in metrics]
    cells.append(
        [
            "teacher",
            str(len(taught)),
            *values,
            *["–"] * (len(cost) - 1),
            _cell([_seconds(r, "teacher") for r in taught], ".1f"),
        ]
    )
    for method, runs in students:
        values = [
            _cell([(r["metrics"].get("student") or {}).get(key) for r in runs], style) for key, _, style in metrics
        ]
        costs = [_cell([_cost_of(r).get(key) for r in runs], style) for key, _, style in cost]
        cells.append([method.replace("_", " "), str(len(runs)), *values, *costs])
    return [*lines, *_table(cells), ""]


def _cost_of(record: Record) -> dict[str, Any]:
    return {**record.get("student", {}), **record["seconds"], "total": _seconds(record, "total")}


def _seconds(record: Record, name: str) -> float | None:
    """Seconds on the clock that the suite's budget is read on; None where they were not taken on it."""
    return record["seconds"].get(f"{name}_cpu" if record["settings"].get("clock") == "cpu" else name)


def _reasons(students: Sequence[tuple[str, Sequence[Record]]]) -> list[str]:
    """Return the table of what students state, and of what they compute by an explainer from outside."""
    asked = [(method, [r for r in runs if r.get("reasons")]) for method, runs in students]
    asked = [(method, runs) for method, runs in asked if runs]
    if not asked:
        return []
    explainers = sorted(
        {
            (kind, name)
            for _, runs in asked
            for r in runs
            for kind, of in r["reasons"]["post_hoc"].items()
            for name in of
        }
    )
    said = [f"{name.replace('_', ' ')} against {kind.replace('_', ' ')}" for kind, name in explainers]
    cells = [["method", "states the teacher's", "computes as the teacher", *said]]
    for method, runs in asked:
        stated = _cell([r["fidelity"].get("attribution_r2") for r in runs], ".4f")
        same = _cell([r["reasons"]["same"]["attribution_r2"] for r in runs], ".4f")
        post_hoc = [
            _cell([r["reasons"]["post_hoc"].get(kind, {}).get(name, {}).get("attribution_r2") for r in runs], ".4f")
            for kind, name in explainers
        ]
        cells.append([method.replace("_", " "), stated, same, *post_hoc])
    return [
        "Attribution R². *States*: what the student outputs against the teacher's own explanation, on the test rows.",
        "*Computes*: teacher and student both asked by permutation SHAP on the same orders and background rows, on some",
        "test rows. Elsewhere: an explainer of the student against one of the teacher's own explanations.",
        "",
        *_table(cells),
        "",
    ]


def _failures(found: Sequence[Record]) -> list[str]:
    failed = [record for record in found if record["status"] == "failed"]
    if not failed:
        return []
    cells = [["suite", "data set", "method", "seed", "error"]]
    for record in failed:
        error = record["error"]
        row = [
            record.get("suite", record["kind"]),
            record["data"],
            record.get("method", record.get("measurement", "–")),
            str(record.get("seed", "–")),
        ]
        cells.append([*row, f"{error['type']}: {error['message']}"])
    return ["## Failed", "", *_table(cells), ""]


def _streams(streams: Sequence[Record]) -> list[str]:
    """Return the tables of drifting streams: a row for each model, a column for each batch it was tested on."""
    good = [record for record in streams if record["status"] == "ok"]
    if not good:
        return []
    lines = ["## Drifting streams", ""]
    lines += [
        "Error on each batch of rows in the order of time; the first taught, each was met before it was learned.",
        "",
    ]
    for name, runs in _groups(good, lambda record: record["data"]):
        n_batches = len(next(iter(runs[0]["errors"].values())))
        metric = "RMSE" if runs[0]["metric"] == "rmse" else "log loss"
        lines += [f"### {name}", "", f"{metric} by batch. Seeds: {len(runs)}.", ""]
        cells = [["model", *(f"batch {i + 2}" for i in range(n_batches)), "mean"]]
        for model in runs[0]["errors"]:
            errors = [r["errors"][model] for r in runs]
            batches = [_cell([e[i] for e in errors], ".4g") for i in range(n_batches)]
            cells.append([model.replace("_", " "), *batches, _cell([statistics.fmean(e) for e in errors], ".4g")])
        lines += [*_table(cells), ""]
    return lines


def _searches(searches: Sequence[Record]) -> list[str]:
    good = [record for record in searches if record["status"] == "ok"]
    if not good:
        return []
    cells = [["data set", "candidates × folds", "seconds", "best parameters", "best score fidelity", "cores"]]
    for record in good:
        best = ", ".join(f"{key} = {value:g}" for key, value in record["best_params"].items())
        size = f"{record['n_candidates']} × {record['n_folds']}"
        seconds, score = f"{record['seconds']['total']:.0f}", f"{record['best_score']:.4f}"
        cells.append([record["data"], size, seconds, best, score, str(record["hardware"]["usable_cores"])])
    return ["## Searches", "", *_table(cells), ""]


def _sections(title: str, found: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]) -> list[str]:
    lines = []
    for heading, remarks, cells in found:
        lines += [f"### {heading}", "", *([*remarks, ""] if remarks else []), *_table(cells), ""]
    return [f"## {title}", "", *lines] if lines else []


def environments(found: Sequence[Record]) -> list[str]:
    """Return where the records were made: one line for each machine and set of versions."""
    lines = ["## Made on", ""]
    for (hardware, versions), group in _groups(found, lambda r: (_hardware(r["hardware"]), _versions(r["versions"]))):
        dates = sorted(record["date"][:10] for record in group)
        loads = [record["hardware"]["load_before"] for record in group]
        load = "" if None in loads else f"; load before a run {min(loads):g} to {max(loads):g}"
        days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        lines.append(f"- {len(group)} records, {days}: {hardware}{load}. {versions}.")
    return lines


def _hardware(hardware: Mapping[str, Any]) -> str:
    flags = "flags unknown" if hardware["cpu_flags"] is None else " ".join(hardware["cpu_flags"])
    return f"{hardware['cpu']}, {hardware['usable_cores']} of {hardware['cores']} cores, {hardware['system']} ({flags})"


def _versions(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)


def refuse_twins(results: Iterable[Record]) -> None:
    """Refuse two records of one suite, data set, method and seed: a mean would count one of them twice."""
    seen = set()
    for record in results:
        key = tuple(record[name] for name in ("suite", "data", "method", "seed"))
        if key in seen:
            raise BenchmarkError(f"two records hold suite {key[0]}, data set {key[1]}, method {key[2]}, seed {key[3]}")
        seen.add(key)


def _groups(found: Iterable[Record], key: Callable[[Record], Any]) -> list[tuple[Any, list[Record]]]:
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in found:
        groups[key(record)].append(record)
    return list(groups.items())


def _any(group: Iterable[Record], value: Callable[..., Any]) -> bool:
    return any(value(record) is not None for record in group)


def _cell(values: Sequence[float | None], style: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = format(statistics.fmean(known), style)
    return mean if len(known) == 1 else f"{mean} ± {format(statistics.stdev(known), _spread(style))}"


def _spread(style: str) -> str:
    # Two digits of a spread are enough where the mean has a number of significant digits.
    return ".2g" if style.endswith("g") else style


def _table(cells: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in cells]
    head, *body = ["| " + " | ".join(row) + " |" for row in escaped]
    return [head, "|" + "---|" * len(cells[0]), *body]
