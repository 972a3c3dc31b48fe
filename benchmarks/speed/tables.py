"""Tables of the speed suite: Markdown, from records alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import BenchmarkError
from benchmarks.speed.compilers import COMPILERS
from benchmarks.speed.marks import MARKS
from benchmarks.speed.peers import PEERS
from benchmarks.speed.problems import PROBLEMS

Record = Mapping[str, Any]
Table = list[list[str]]

_INTRODUCTION = [
    "Exact path-dependent TreeSHAP, in raw-score space. CPU time of one thread; everyone runs in turns in one process.",
    "Figures with × say how many times as fast per row as the booster's own exact call in the same round: median",
    "[least–greatest] over the rounds. Binned rows: rows that the explainer has turned into codes before; raw rows: float64;",
    "end to end: the trees read, planned and built as well, the compiled kernels being loaded. Errors are the largest",
    "against the booster's own attributions, as a share of the largest attribution; XGBoost's own are in single precision.",
]


def sections(found: Sequence[Record]) -> list[tuple[str, list[str], Table]]:
    """Return heading, remarks and cells of every table that the records fill.

    Parameters
    ----------
    found : sequence of records
        Of kind "speed"; failed ones are left out.

    Raises
    ------
    BenchmarkError
        If two records hold the same measurement.
    """
    by_key: dict[tuple[str, str, int], Record] = {}
    for record in found:
        key = (record["data"], record["measurement"], record["seed"])
        if key in by_key:
            raise BenchmarkError(f"two records hold booster {key[0]}, measurement {key[1]}, seed {key[2]}")
        by_key[key] = record
    order = {name: place for place, name in enumerate(PROBLEMS)}
    good = sorted(
        (record for record in found if record["status"] == "ok"),
        key=lambda record: (order.get(record["data"], len(order)), record["data"], record["seed"]),
    )
    if not good:
        return []
    tables = [
        ("Marks", _mark_remarks(), _marks(good)),
        ("Boosters", [], _boosters(good)),
        ("Rows per second", _INTRODUCTION, _throughput(_of(good, "throughput"))),
        ("Other libraries", _peer_remarks(_of(good, "throughput")), _peers(_of(good, "throughput"))),
        *_compiled(_of(good, "throughput")),
        ("Kernels for a processor of the oldest kind", [], _generic(_of(good, "generic"))),
        ("Two threads", ["By the wall clock."], _threads(_of(good, "threads"))),
        ("Memory", _MEMORY, _memory(_of(good, "memory"))),
        ("One row", _ONE_ROW, _single_row(_of(good, "single_row"))),
        ("Students", _STUDENTS, _students(_of(good, "students"))),
        ("Precision of students", _PRECISIONS, _precisions(_of(good, "students"))),
        ("First call of a process", _FIRST_CALL, _first_call(_of(good, "first_call"))),
    ]
    return [(heading, remarks, cells) for heading, remarks, cells in tables if len(cells) > 1]


_MEMORY = [
    "Peak of a new explainer's call on all rows above what the process held before, result included, tables in 64 MB;",
    "the first call of the process loads the compiled kernels as well.",
]
_ONE_ROW = [
    "Wall-clock time of one float64 row through an explainer that is prepared for single rows, through one that has",
    "explained the whole table before, and through the booster's own exact call: median (99th percentile).",
]
_STUDENTS = [
    "CPU microseconds of one thread per row, raw float64 rows in, everyone in turns: median [least–greatest] of the rounds.",
    "Students give prediction and explanation together. Batches are of 1024 rows, in the precision that is named; the small",
    "student is the default without triples and with 64 bins in pairs;",
    "compiled: `compile_row()`, one row a call. Fit: seconds on the wall, one thread, the teacher being there.",
    "Error: the compiled row's largest against the student itself, by the range of its scores.",
]
_PRECISIONS = [
    "Errors against the same student in float64: root mean square and largest, in standard deviations of the raw score. The",
    "gap is the largest between a score and the base value plus the attributions that are returned with it, in that unit.",
]
_FIRST_CALL = [
    "Wall-clock seconds of a new explainer's call, in a process that has loaded the booster and its rows: the first, and",
    "the same again. The import is that of gbdt2nn. A small job of LightGBM is left to its own call where that is done",
    "before the engine has started.",
]


def _of(good: Sequence[Record], measurement: str) -> list[Record]:
    return [record for record in good if record["measurement"] == measurement]


def _mark_remarks() -> list[str]:
    return ["Against the library's own exact call a tenth less than the mark counts as met."]


def _marks(good: Sequence[Record]) -> Table:
    cells = [["booster", "mark", "asked", "measured", "met"]]
    for mark in MARKS:
        for record in good:
            if (record["data"], record["measurement"]) != (mark.problem, mark.measurement):
                continue
            figure = mark.figure(record["results"])
            if figure is None:
                continue
            median, low, high = figure
            asked = f"{'≤' if mark.is_limit else '≥'} {mark.asked:g}{mark.unit}"
            measured = f"{_number(median)}{mark.unit}{_range(low, high)}"
            cells.append([_name(record), mark.label, asked, measured, "yes" if mark.is_met(median) else "no"])
    return cells


def _boosters(good: Sequence[Record]) -> Table:
    heads = ["booster", "library", "table", "trees", "leaves", "splits above a leaf", "different features on a path"]
    cells = [heads]
    seen = set()
    for record in good:
        key = (record["data"], record["seed"])
        if key in seen:
            continue
        seen.add(key)
        model, table = record["model"], record["table"]
        rows = f"{table['name']}, {table['n_samples']} × {table['n_features']}"
        spread = [
            f"{model[what]['mean']:.1f} mean, {model[what]['p99']:.0f} p99, {model[what]['max']:.0f} most"
            for what in ("leaf_depth", "path_features")
        ]
        library = f"{model['library']} {model['version']}"
        cells.append([_name(record), library, rows, str(model["n_trees"]), str(model["n_leaves"]), *spread])
    return cells


def _throughput(found: Sequence[Record]) -> Table:
    heads = ["booster", "tables", "own rows/s", "predict", "binned rows/s", "binned", "raw", "end to end"]
    cells = [[*heads, "error", "fast: binned rows/s", "fast: binned", "fast: raw", "fast: error"]]
    for record in found:
        result = record["results"]["result"]
        taken = result["contestants"]
        for megabytes in record["settings"]["problem"]["table_memory"]:
            exact, fast = (f"_{precision}_{megabytes}mb" for precision in ("float64", "fast"))
            row = [_name(record), f"{megabytes} MB", _rate(taken.get("own")), _times(taken.get("predict"))]
            for end in (exact, fast):
                kernel = taken.get(f"kernel{end}")
                row += [_rate(kernel), _times(kernel), _times(taken.get(f"warm{end}"))]
                row += [_times(taken.get(f"end_to_end{end}"))] if end == exact else []
                row += [_error(kernel, result["scale"])]
            cells.append(row)
    return cells


def _peers(found: Sequence[Record]) -> Table:
    cells = [["booster", "gbdt2nn, raw", "end to end", *(peer.label for peer in PEERS.values())]]
    for record in found:
        taken = record["results"]["result"]["contestants"]
        ours = [_times(taken.get(f"{stage}_float64_64mb")) for stage in ("warm", "end_to_end")]
        cells.append([_name(record), *ours, *(_times(taken.get(name)) for name in PEERS)])
    return cells


_LABELS = {name: other.label for name, other in (PEERS | COMPILERS).items()}


def _compiled(found: Sequence[Record]) -> list[tuple[str, list[str], Table]]:
    """Return the section of what only predicts; none where no record tells of it."""
    known = [r for r in found if {*COMPILERS} & {*_result(r)["contestants"], *_result(r)["absent"]}]
    cells = [["booster", "own predict rows/s", *(f"{compiler.label}, rows/s" for compiler in COMPILERS.values())]]
    for record in known:
        taken = _result(record)["contestants"]
        cells.append([_name(record), _rate(taken.get("predict")), *(_rate(taken.get(name)) for name in COMPILERS)])
    remark = "- None of these explains. Raw scores, all rows; what compiles does so outside the time."
    return [("Libraries that only predict", [remark], cells)] if known else []


def _result(record: Record) -> Mapping[str, Any]:
    return record["results"]["result"]


def _peer_remarks(found: Sequence[Record]) -> list[str]:
    """Return which versions took part, how many rows they had, and why others did not."""
    lines = [
        "Times the booster's own exact call, tables of gbdt2nn in 64 MB. The peers' explainers are set up outside the time."
    ]
    versions = sorted(
        {version for record in found for version in record["results"]["result"]["peer_versions"].values() if version}
    )
    if versions:
        lines.append(f"Versions: {', '.join(versions)}.")
    bulk = [peer.label for peer in PEERS.values() if peer.is_bulk]
    lines.append(f"Rows: as many as the booster's own call; {', '.join(bulk)}: all, as it has a large fixed cost.")
    others = sorted(
        {
            _LABELS.get(name, name)
            for record in found
            for name, taken in record["results"]["result"]["contestants"].items()
            if "process" in taken["clock"]
        }
    )
    if others:
        lines.append(
            f"CPU time of all threads instead of one, as others than the calling one worked: {', '.join(others)}."
        )
    reasons: dict[tuple[str, str], list[str]] = {}
    for record in found:
        for name, reason in record["results"]["result"]["absent"].items():
            reasons.setdefault((_LABELS.get(name, name), reason), []).append(_name(record))
    for (label, reason), names in reasons.items():
        lines.append(f"{label} took no part: {reason} ({'all' if len(names) == len(found) else ', '.join(names)}).")
    # Each remark is an item of a list, so that the lines stay apart.
    return [f"- {line}" for line in lines]


def _generic(found: Sequence[Record]) -> Table:
    cells = [["booster", "own rows/s", "binned rows/s", "binned", "raw", "error", "fast: binned", "fast: raw"]]
    for record in found:
        result = record["results"]["result"]
        taken = result["contestants"]
        kernel = taken.get("kernel_float64_64mb")
        row = [_name(record), _rate(taken.get("own")), _rate(kernel), _times(kernel)]
        row += [_times(taken.get("warm_float64_64mb")), _error(kernel, result["scale"])]
        cells.append([*row, *(_times(taken.get(f"{stage}_fast_64mb")) for stage in ("kernel", "warm"))])
    return cells


def _threads(found: Sequence[Record]) -> Table:
    cells = [["booster", "binned rows", "raw rows"]]
    for record in found:
        scaling = record["results"]["result"]["scaling"]
        cells.append([_name(record), *(_times({"times_own": scaling[stage]}) for stage in ("kernel", "warm"))])
    return cells


def _memory(found: Sequence[Record]) -> Table:
    cells = [["booster", "rows", "extra", "first call of the process", "of it the result"]]
    for record in found:
        result = record["results"]["result"]
        megabytes = [*(result["megabytes"][name] for name in ("extra", "with_loading")), result["result_megabytes"]]
        cells.append([_name(record), str(result["n_rows"]), *(f"{value:.0f} MB" for value in megabytes)])
    return cells


def _single_row(found: Sequence[Record]) -> Table:
    cells = [["booster", "prepared for single rows", "after the whole table", "own"]]
    for record in found:
        taken = record["results"]["result"]["microseconds"]
        row = [f"{taken[name]['median']:.0f} µs ({taken[name]['p99']:.0f})" for name in ("ours", "ours_after_all_rows")]
        cells.append([_name(record), *row, f"{taken['own']['median']:.0f} µs ({taken['own']['p99']:.0f})"])
    return cells


def _students(found: Sequence[Record]) -> Table:
    batches = ("float64", "float32", "fast")
    heads = ["booster", "who", *(f"batch, {precision}" for precision in batches), "one row", "compiled row", "fit"]
    cells = [[*heads, "megabytes", "score R²", "attribution R²", "error"]]
    for record in found:
        result = record["results"]["result"]
        taken = result["microseconds"]
        for name, label in (
            ("predict", "booster, score alone"),
            ("own", "booster, attributions"),
            ("engine", "exact engine"),
        ):
            batch, one = (_spent(taken[f"{name}_{how}"]) for how in ("batch", "one"))
            cells.append([_name(record), label, batch, "–", "–", one, *["–"] * 6])
        for name, about in result["students"].items():
            spent = (_spent(taken[f"{name}_{how}"]) for how in (*(f"batch_{p}" for p in batches), "one", "compiled"))
            fidelity = (f"{about['fidelity'][key]:.4f}" for key in ("score_r2", "attribution_r2"))
            cost, error = (f"{about['seconds']:.0f} s", f"{about['megabytes']:.1f}"), f"{about['max_error']:.0e}"
            cells.append([_name(record), name.replace("_", " "), *spent, *cost, *fidelity, error])
    return cells


def _precisions(found: Sequence[Record]) -> Table:
    heads = ["booster", "student", "precision", "hidden layers", "score, rms", "score, largest"]
    cells = [[*heads, "attribution, rms", "attribution, largest", "gap"]]
    for record in found:
        for name, about in record["results"]["result"]["students"].items():
            for precision, off in about["precisions"].items():
                if precision == "float64":
                    continue
                hidden = "none" if name == "interaction_tables" else off["network"]
                parts = (f"{part}_{how}" for part in ("score", "attribution") for how in ("rms", "max"))
                errors = (f"{off[key]:.0e}" for key in (*parts, "completeness_gap"))
                cells.append([_name(record), name.replace("_", " "), precision, hidden, *errors])
    return cells


def _spent(taken: Mapping[str, float]) -> str:
    return f"{_number(taken['median'])}{_range(taken['min'], taken['max'])}"


def _first_call(found: Sequence[Record]) -> Table:
    cells = [["booster", "process", "rows", "first by", "import", "first", "second"]]
    for record in found:
        for label, result in record["results"].items():
            seconds = [result[f"{name}_seconds"] for name in ("import", "first", "second")]
            shown = (f"{value:.2f} s" for value in seconds)
            cells.append([_name(record), label, str(result["n_rows"]), result["algorithm"], *shown])
    return cells


def _name(record: Record) -> str:
    return record["data"] if record["seed"] == 0 else f"{record['data']}, seed {record['seed']}"


def _rate(contestant: Mapping[str, Any] | None) -> str:
    # Three digits: more would be noise.
    return "–" if contestant is None else f"{float(format(contestant['rows_per_second'], '.3g')):,.0f}"


def _times(contestant: Mapping[str, Any] | None) -> str:
    """Return "median× [least–greatest]"; without the range where there is one round."""
    if contestant is None or contestant["times_own"] is None:
        return "–"
    found = contestant["times_own"]
    spread = _range(found["min"], found["max"]) if found["n"] > 1 else ""
    return f"{_number(found['median'])}×{spread}"


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{_number(low)}–{_number(high)}]"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _error(contestant: Mapping[str, Any] | None, scale: float) -> str:
    return "–" if contestant is None or not scale else f"{contestant['max_error'] / scale:.0e}"
