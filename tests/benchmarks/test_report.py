import pytest

from benchmarks import BenchmarkError
from benchmarks.report import report


def make(method="self_explaining", seed=0, score_r2=0.9, **changed):
    return {
        "schema": 1,
        "kind": "result",
        "suite": "main",
        "data": "sand",
        "method": method,
        "seed": seed,
        "status": "ok",
        "error": None,
        "date": f"2026-01-0{seed + 1}T00:00:00+00:00",
        "versions": {"python": "3.11", "torch": "2.6", "shap": None},
        "hardware": {
            "cpu": "Some CPU",
            "cpu_flags": ["avx2"],
            "cores": 4,
            "usable_cores": 2,
            "load_before": 0.5,
            "system": "Linux x86_64",
        },
        "settings": {},
        "table": {"task": "regression", "n_classes": None, "n_features": 3, "n_categories": 1, "missing_cells": 4},
        "rows": {"train": 65, "stop": 15, "test": 20},
        "teacher": {"library": "lightgbm", "n_trees": 12, "depth": 5},
        "seconds": {"teacher": 1.0, "student": 9.0, "total": 10.0},
        "student": {"n_steps": 100, "n_synthetic": 50, "n_explained": 30},
        "metrics": {"teacher": {"rmse": 2.0 + seed}, "student": {"rmse": 2.5}},
        "fidelity": {"score_r2": score_r2, "attribution_r2": None, "completeness_gap": 1.234e-9},
        **changed,
    }


def rows_of(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_mean_and_spread_over_seeds():
    markdown = report([make(seed=0, score_r2=0.9), make(seed=1, score_r2=0.92)])
    heads, cells = rows_of(markdown)[:2]
    assert heads == ["method", "seeds", "score R²", "completeness gap"]  # no column without a value
    assert cells[:3] == ["self explaining", "2", "0.9100 ± 0.0141"]
    assert cells[3] == "1.2e-09 ± 0.0e+00"


def test_the_teacher_counts_once_for_each_seed():
    found = [make(method=method, seed=seed) for method in ("self_explaining", "labels_only") for seed in (0, 1)]
    found += [make(method="teacher", seed=seed, fidelity=None) for seed in (0, 1)]
    rows = rows_of(report(found))
    assert ["teacher", "2", "2.5 ± 0.71", "–", "–", "–", "1.0 ± 0.0"] in rows
    # Methods stand in the order in which they are listed, whatever the order of the records.
    assert [row[0] for row in rows[:3]] == ["method", "self explaining", "labels only"]


def test_one_seed_has_no_spread():
    assert "±" not in report([make()]).split("## Suite")[1]


def test_a_failure_is_shown_and_does_not_count():
    failed = make(
        method="labels_only", status="failed", error={"type": "ValueError", "message": "a | b\nc", "where": ""}
    )
    for name in ("table", "rows", "teacher", "metrics"):
        del failed[name]
    markdown = report([make(), failed])
    assert r"| main | sand | labels_only | 0 | ValueError: a \| b c |" in markdown
    assert "labels only" not in markdown
    assert "No method ran to its end." in report([failed])


def test_two_records_of_one_result_are_refused():
    with pytest.raises(
        BenchmarkError, match="two records hold suite main, data set sand, method self_explaining, seed 0"
    ):
        report([make(), make()])


def test_every_machine_and_version_is_named():
    other = make(seed=1, versions={"python": "3.12", "torch": "2.6"})
    made_on = report([make(), other]).split("## Made on")[1]
    assert "- 1 records, 2026-01-01: Some CPU, 2 of 4 cores, Linux x86_64 (avx2)" in made_on
    assert "python 3.11, torch 2.6." in made_on
    assert "python 3.12, torch 2.6." in made_on


def test_a_search_has_its_own_table():
    search = {
        **{name: make()[name] for name in ("schema", "date", "versions", "hardware", "status", "settings")},
        "kind": "search",
        "data": "sand",
        "seconds": {"total": 123.4},
        "best_params": {"explanation_weight": 0.3, "teacher__num_leaves": 31},
        "best_score": 0.98765,
        "n_candidates": 12,
        "n_folds": 3,
    }
    markdown = report([search])
    assert "| sand | 12 × 3 | 123 | explanation_weight = 0.3, teacher__num_leaves = 31 | 0.9877 | 2 |" in markdown
    assert "Suite" not in markdown
