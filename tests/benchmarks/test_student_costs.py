"""The table of what seconds and megabytes buy: which records are compared, and its arithmetic."""

from benchmarks.report import report
from benchmarks.student_costs import sections


def record(suite="minute", method="self_explaining", seed=0, *, r2=0.99, seconds=70.0, n_trees=100, **changes):
    return {
        "kind": "result",
        "suite": suite,
        "data": "adult",
        "method": method,
        "seed": seed,
        "status": "ok",
        "date": "2026-01-01T00:00:00+00:00",
        "versions": {"python": "3.11"},
        "hardware": {
            "cpu": "Some CPU", "cpu_flags": None, "cores": 2, "usable_cores": 2, "load_before": 0.5, "system": "Linux",
        },
        "settings": {"clock": "cpu"},
        "seconds": {f"{part}{clock}": 1.0 for part in ("teacher", "total") for clock in ("", "_cpu")}
        | {"student": 99.0, "student_cpu": seconds},
        "table": {"task": "binary", "n_classes": 2, "n_features": 4, "n_categories": 1, "missing_cells": 0},
        "rows": {"train": 10, "stop": 5, "test": 5},
        "teacher": {"library": "lightgbm", "n_trees": n_trees, "depth": 5},
        "metrics": {"teacher": {}, "student": {}},
        "fidelity": {"score_r2": r2, "attribution_r2": 0.98, "per_feature_r2": 0.9},
        "student": {"n_steps": 1000, "n_parameters": 2**19},
        **changes,
    }  # fmt: skip


def test_students_of_one_teacher_stand_beside_each_other():
    tables = record(
        "main", "interaction_tables", r2=0.98, seconds=3.0, settings={}, student={"n_steps": 0, "n_parameters": 2**20}
    )
    runs = [record(seconds=60.0), record(seed=1, seconds=80.0, r2=0.992, n_trees=120)]
    [(name, remarks, cells)] = sections([*runs, tables])
    assert name == "adult"
    assert remarks
    # by seconds: of the processor where the suite's budget is, on the wall elsewhere; means over seeds
    assert [row[:6] for row in cells[1:]] == [
        ["self explaining", "minute", "2", "70", "1000", "2.0"],
        ["interaction tables", "main", "1", "99", "0", "4.0"],
    ]
    assert cells[1][6:] == ["0.9910", "0.9800", "0.9000", "1.00", "1.00"]
    assert cells[2][6] == "0.9800"
    assert cells[2][-2:] == ["2.22", "1.00"]  # 0.02 over 0.009
    assert "## What a second and a megabyte buy" in report([*runs, tables])


def test_students_of_other_teachers_rows_or_kinds_are_not_compared():
    other_teacher = record("main", n_trees=101)
    other_rows = record("main", rows={"train": 11, "stop": 5, "test": 5})
    unexplained = record("main", fidelity={"score_r2": 0.9, "attribution_r2": None})
    failed = {**record("main"), "status": "failed", "error": {"type": "E", "message": "m"}}
    for other in (other_teacher, other_rows, unexplained, failed, record("main", "score_imitation")):
        assert sections([record(), other]) == []
    assert len(sections([record(), record("main")])) == 1
