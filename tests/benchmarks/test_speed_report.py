import pytest

from benchmarks import BenchmarkError
from benchmarks.report import report


def times(median, low=None, high=None):
    return {"median": median, "min": low or median, "max": high or median, "n": 5}


def runner(times_own, rate=1234.5, error=0.0, clock="thread"):
    return {"times_own": times_own, "rows_per_second": rate, "max_error": error, "clock": [clock]}


def throughput():
    taken = {
        "own": runner(times(1.0), 900.4),
        "predict": runner(times(64.2)),
        "kernel_float64_64mb": runner(times(239.6, 229.0, 251.0), 215_432.0, 2e-14),
        "warm_float64_64mb": runner(times(210.0, 200.0, 220.0), 190_000.0, 2e-14),
        "end_to_end_float64_64mb": runner(times(113.0)),
        "kernel_fast_64mb": runner(times(330.0), 3e5, 2e-6),
        "warm_fast_64mb": runner(times(300.0)),
        "shap_c": runner(times(1.1, 1.0, 1.2)),
        "daal4py": runner(times(1.5), clock="process"),
    }
    absent = {"woodelf": "not installed (No module named 'woodelf')"}
    versions = {"shap_c": "shap 0.51.0", "woodelf": None}
    return {"scale": 2.0, "contestants": taken, "absent": absent, "peer_versions": versions, "plans": {}}


def make(measurement="throughput", results=None, data="lightgbm_300x31", seed=0, **changed):
    spread = {"mean": 6.52, "p90": 9.0, "p99": 13.0, "max": 18.0}
    return {
        "schema": 1,
        "kind": "speed",
        "suite": "speed",
        "data": data,
        "measurement": measurement,
        "seed": seed,
        "status": "ok",
        "error": None,
        "date": "2026-01-01T00:00:00+00:00",
        "versions": {"python": "3.11"},
        "hardware": {
            "cpu": "Some CPU", "cpu_flags": ["avx2"], "cores": 4, "usable_cores": 2, "load_before": 0.5, "system": "Linux",
        },
        "settings": {"problem": {"table_memory": [64]}},
        "table": {"name": "correlated", "n_samples": 50_000, "n_features": 50},
        "model": {
            "library": "lightgbm", "version": "4.7.0", "n_trees": 300, "n_leaves": 9300,
            "leaf_depth": spread, "path_features": {**spread, "mean": 4.8},
        },
        "results": {"result": throughput()} if results is None else results,
        **changed,
    }  # fmt: skip


def rows_of(markdown, heading):
    section = markdown.split(f"### {heading}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_marks_stand_beside_figures():
    rows = rows_of(report([make()]), "Marks")
    assert rows[1:] == [
        ["lightgbm_300x31", "warm, binned rows, tables in 64 MB", "≥ 240×", "240× [229–251]", "yes"],
        ["lightgbm_300x31", "warm, raw rows, tables in 64 MB", "≥ 240×", "210× [200–220]", "no"],
        ["lightgbm_300x31", "end to end", "≥ 110×", "113× [113–113]", "yes"],
    ]


def test_throughput_and_peers():
    markdown = report([make()])
    (row,) = rows_of(markdown, "Rows per second")[1:]
    assert row[:6] == ["lightgbm_300x31", "64 MB", "900", "64.2× [64.2–64.2]", "215,000", "240× [229–251]"]
    assert (row[8], row[12]) == ("1e-14", "1e-06")
    (row,) = rows_of(markdown, "Other libraries")[1:]
    assert row[3] == "1.1× [1–1.2]"
    assert row[6] == "–"
    assert "WOODELF took no part: not installed (No module named 'woodelf') (all)." in markdown
    assert "Versions: shap 0.51.0." in markdown
    assert "CPU time of all threads instead of one, as others than the calling one worked: daal4py." in markdown


def test_each_table_of_memory_has_a_row():
    record = make(settings={"problem": {"table_memory": [64, 1024]}})
    record["results"]["result"]["contestants"]["kernel_float64_1024mb"] = runner(times(300.0))
    rows = rows_of(report([record]), "Rows per second")
    assert [row[1] for row in rows[1:]] == ["64 MB", "1024 MB"]
    assert rows[2][5] == "300× [300–300]"


def test_the_other_measurements():
    latency = {name: {"median": 250.4, "p99": 900.0, "n": 9} for name in ("ours", "ours_after_all_rows", "own")}
    call = {"n_rows": 50_000, "import_seconds": 0.5, "first_seconds": 9.26, "second_seconds": 1.0, "algorithm": "own"}
    scaling = {"kernel": times(1.85), "warm": times(1.6)}
    megabytes = {"extra": 301.0, "with_loading": 350.0}
    markdown = report(
        [
            make("threads", {"result": {"scaling": scaling}}),
            make("memory", {"result": {"n_rows": 50_000, "megabytes": megabytes, "result_megabytes": 19.1}}),
            make("single_row", {"result": {"microseconds": latency}}),
            make("first_call", {"nothing compiled": call, "compiled before": call}),
            make("generic"),
        ]
    )
    assert rows_of(markdown, "One row")[1] == ["lightgbm_300x31", *["250 µs (900)"] * 3]
    assert rows_of(markdown, "Memory")[1] == ["lightgbm_300x31", "50000", "301 MB", "350 MB", "19 MB"]
    assert rows_of(markdown, "First call of a process")[2][1:6] == [
        "compiled before",
        "50000",
        "own",
        "0.50 s",
        "9.26 s",
    ]
    assert rows_of(markdown, "Kernels for a processor of the oldest kind")[1][3] == "240× [229–251]"
    assert [row[1:] for row in rows_of(markdown, "Marks")[1:]] == [
        ["two threads, binned rows", "≥ 1.7×", "1.85× [1.85–1.85]", "yes"],
        ["two threads, raw rows", "≥ 1.7×", "1.6× [1.6–1.6]", "no"],
        ["peak extra memory", "≤ 300 MB", "301 MB", "no"],
        ["one row", "≤ 300 µs", "250 µs", "yes"],
    ]
    # The booster is described once.
    assert len(rows_of(markdown, "Boosters")) == 2
    assert "### Rows per second" not in markdown


def test_students_are_shown_beside_booster_and_engine():
    taken = {"median": 9.96, "min": 9.0, "max": 12.0, "n": 5}
    names = [f"{who}_{how}" for who in ("predict", "own", "engine") for how in ("batch", "one")]
    names += [f"self_explaining_{how}" for how in ("one", "compiled", "batch_float64", "batch_float32")]
    fidelity = {"score_r2": 0.9912, "attribution_r2": 0.99, "per_feature_r2": 0.9}
    off = {f"{part}_{how}": 2e-3 for part in ("score", "attribution") for how in ("rms", "max")}
    off |= {"network": "bfloat16", "completeness_gap": 3e-16}
    precisions = {"float64": off | {"network": "float64"}, "fast": off}
    student = {
        "n_steps": 9,
        "seconds": 41.7,
        "megabytes": 2.4,
        "fidelity": fidelity,
        "max_error": 3.6e-7,
        "precisions": precisions,
    }
    result = {
        "microseconds": {**dict.fromkeys(names, taken), "self_explaining_batch_fast": {**taken, "median": 2.34}},
        "students": {"self_explaining": student},
    }
    markdown = report([make("students", {"result": result}, data="housing_lightgbm_900x31")])
    rows = rows_of(markdown, "Students")
    assert [row[1] for row in rows[1:]] == [
        "booster, score alone",
        "booster, attributions",
        "exact engine",
        "self explaining",
    ]
    shown = "9.96 [9–12]"
    assert rows[0][6:9] == ["compiled row", "fit", "megabytes"]
    assert {len(row) for row in rows} == {12}
    assert rows[3][2:6] == [shown, "–", "–", shown]
    assert rows[4][2:] == [shown, shown, "2.34 [9–12]", shown, shown, "42 s", "2.4", "0.9912", "0.9900", "4e-07"]
    assert [row[-1] for row in rows_of(markdown, "Marks")[1:]] == ["no", "yes", "yes"]
    precise = rows_of(markdown, "Precision of students")[1:]
    assert [row[1:] for row in precise] == [["self explaining", "fast", "bfloat16", *["2e-03"] * 4, "3e-16"]]


def test_a_failure_is_shown_and_does_not_count():
    failed = make("memory", status="failed", error={"type": "RuntimeError", "message": "no /proc", "where": ""})
    for name in ("table", "model", "results"):
        del failed[name]
    markdown = report([make(), failed])
    assert "| speed | lightgbm_300x31 | memory | 0 | RuntimeError: no /proc |" in markdown
    assert "### Memory" not in markdown
    assert "## Speed" not in report([failed])


def test_two_records_of_one_measurement_are_refused():
    with pytest.raises(
        BenchmarkError, match="two records hold booster lightgbm_300x31, measurement throughput, seed 0"
    ):
        report([make(), make()])
