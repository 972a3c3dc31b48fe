"""The records that the repository holds, and the page that is made from them."""

import statistics
from pathlib import Path

import pytest

from benchmarks import papers, records
from benchmarks.report import report
from benchmarks.site import write_site
from benchmarks.site.results import Suite, by_cell, error_gained, fidelity_of, student_seconds
from benchmarks.speed.marks import MARKS
from benchmarks.suites import SUITES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found():
    return records.read_all(ROOT / "benchmarks" / "records")


def test_the_page_is_made_from_the_records(found):
    """Tables are made from records, never typed: `python -m benchmarks report` with --markdown writes the page anew."""
    assert (ROOT / "docs" / "benchmarks.md").read_text() == report(found)


def test_the_page_of_the_papers_is_made_from_the_records(found):
    """`python -m benchmarks papers benchmarks/records --markdown docs/papers_results.md` writes it anew."""
    assert (ROOT / "docs" / "papers_results.md").read_text() == papers.page(found)


def test_the_pages_of_the_suite_tabular_are_made_from_its_records(tmp_path):
    """`python -m benchmarks report benchmarks/records/tabular --html docs/tabular` writes them anew."""
    made = write_site(records.read_all(ROOT / "benchmarks" / "records" / "tabular"), tmp_path)
    there = {path.relative_to(ROOT / "docs" / "tabular") for path in (ROOT / "docs" / "tabular").rglob("*.*")}
    assert {path.relative_to(tmp_path) for path in made} == there
    for name in there:
        assert (tmp_path / name).read_bytes() == (ROOT / "docs" / "tabular" / name).read_bytes(), name


def test_the_papers_students_had_equal_seconds(found):
    """Of the processor, whatever else the machine did: a quarter more at most, which the last check may take."""
    runs = [r for r in found if r.get("suite") == papers.SUITE and r["status"] == "ok"]
    for r in runs:
        if r["method"] != "gbdt2nn_default":
            assert r["settings"]["clock"] == "cpu"
            assert r["seconds"]["student_cpu"] <= 1.25 * r["settings"]["time_budget"], (r["data"], r["method"])


def test_the_marks_hold(found):
    """What the README and the guide say of the protocol is what its records say, in the mean over three seeds."""
    marks = {"california_housing": 0.985, "adult": 0.99}
    for name, mark in marks.items():
        runs = [r for r in found if r.get("suite") == "main" and r["data"] == name and r["method"] == "self_explaining"]
        assert sorted(r["seed"] for r in runs) == [0, 1, 2]
        for key in ("score_r2", "attribution_r2"):
            assert sum(r["fidelity"][key] for r in runs) / 3 >= mark
        assert all(r["seconds"]["total"] <= 150 and r["hardware"]["usable_cores"] == 2 for r in runs)
    letter = [
        r for r in found if r.get("suite") == "main" and r["data"] == "letter" and r["method"] == "self_explaining"
    ]
    assert len(letter) == 3
    lost = [r["metrics"]["teacher"]["accuracy"] - r["metrics"]["student"]["accuracy"] for r in letter]
    assert sum(lost) / 3 <= 0.015


def test_every_complete_student_adds_up(found):
    """Base value + attributions = raw score to 1e-5 of the size of the scores, on every data set."""
    runs = [r for r in found if r.get("method") == "self_explaining" and r["status"] == "ok"]
    assert len({r["data"] for r in runs}) >= 3
    for r in runs:
        assert r["fidelity"]["completeness_gap"] <= 1e-5 * r["fidelity"]["score_max_error"]


def test_the_search_is_in_time(found):
    (search,) = [r for r in found if r["kind"] == "search"]
    assert search["n_candidates"] * search["n_folds"] == 36
    assert search["seconds"]["total"] <= 600


# what was aimed at (score R², attribution R², mean per-feature R²) and is reached, or None where it is not
MINUTE = {
    "adult_codes": (0.9990, 0.9990, 0.980),
    "adult": (0.9980, 0.9980, 0.980),
    "california_housing": (0.9965, 0.9975, 0.987),
    "higgs_lightgbm": (None, 0.988, None),
    "protein": (None, None, None),
    "housing_xgboost": (0.992, 0.995, 0.975),
    "covertype_10k": (None, 0.995, 0.900),
    "letter": (None, 0.985, 0.920),
    "bike_sharing": (0.99, 0.99, 0.95),
    "diamonds": (0.99, 0.99, 0.95),
    "electricity": (0.99, 0.99, 0.95),
    "fremtpl2_freq": (0.99, 0.99, 0.95),
}
METRIC = {"regression": ("rmse", ",.5g"), "poisson": ("poisson_deviance", ".4f")}


def readme_row(name, runs):
    """A row of the README's table of what a minute buys: means over seeds."""
    mean = [sum(r["fidelity"][key] for r in runs) / 3 for key in ("score_r2", "attribution_r2", "per_feature_r2")]
    metric, form = METRIC.get(runs[0]["table"]["task"], ("accuracy", ".4f"))
    sides = [sum(r["metrics"][side][metric] for r in runs) / 3 for side in ("teacher", "student")]
    figures = [*(f"{value:.4f}" for value in mean), *(format(value, form) for value in sides)]
    return f"| {name} | {' | '.join(figures)} ({metric}) |", mean


def test_the_figures_of_the_readme_are_those_of_the_records(found):
    """Each row of its table, worked out anew; within 0.0005 what was aimed at counts as reached."""
    readme = (ROOT / "README.md").read_text()
    for name, marks in MINUTE.items():
        runs = [r for r in found if r.get("suite") == "minute" and r["data"] == name]
        assert sorted(r["seed"] for r in runs) == [0, 1, 2]
        row, mean = readme_row(name, runs)
        assert row in readme, row
        for value, mark in zip(mean, marks, strict=True):
            assert mark is None or value >= mark - 0.0005, (name, value, mark)
        for r in runs:  # seconds of one processor, after the teacher
            assert r["settings"]["clock"] == "cpu"
            assert r["seconds"]["student_cpu"] <= 1.2 * r["settings"]["time_budget"]


def test_the_figures_of_the_tables_in_the_readme_are_those_of_the_records(found):
    """The student without a network: fidelity and seconds, worked out anew; and the marks for it hold."""
    readme = (ROOT / "README.md").read_text()
    marks = {"california_housing": (0.985, 0.99, 5.0), "adult": (0.997, 0.997, 5.0), "letter": (0.98, 0.98, 60.0)}
    for name, (score, attribution, limit) in marks.items():
        runs = [
            r for r in found if r.get("suite") == "main" and r["data"] == name and r["method"] == "interaction_tables"
        ]
        assert sorted(r["seed"] for r in runs) == [0, 1, 2]
        mean = [sum(r["fidelity"][key] for r in runs) / 3 for key in ("score_r2", "attribution_r2", "per_feature_r2")]
        seconds = sum(r["seconds"]["total"] for r in runs) / 3
        assert f"| {name} | " + " | ".join(f"{value:.4f}" for value in mean) + f" | {seconds:.1f} |" in readme
        assert mean[0] >= score
        assert mean[1] >= attribution
        assert seconds <= limit


SPEED_ROWS = {
    "LightGBM, 300 × 31 leaves": "lightgbm_300x31",
    "LightGBM, 500 × 63 leaves": "lightgbm_500x63",
    "LightGBM, 1000 × 127 leaves": "lightgbm_1000x127",
    "XGBoost, 300 × depth 6": "xgboost_300d6",
    "XGBoost, 300 × depth 8": "xgboost_300d8",
}


def test_the_speed_in_the_readme_is_that_of_the_records(found):
    """Each row of its table, worked out anew: rows a second, and how often the booster's own call."""
    readme = (ROOT / "README.md").read_text()
    throughput = {
        r["data"]: r["results"]["result"]["contestants"] for r in found if r.get("measurement") == "throughput"
    }
    for label, name in SPEED_ROWS.items():
        own, kernel, whole = (throughput[name][c] for c in ("own", "kernel_float64_64mb", "end_to_end_float64_64mb"))
        rates = [f"{float(format(c['rows_per_second'], '.3g')):,.0f} rows/s" for c in (own, kernel)]
        times = [f"{c['times_own']['median']:.0f}" for c in (kernel, whole)]
        assert f"| {label} | {rates[0]} | {rates[1]} | {times[0]} | {times[1]} |" in readme, label


TABULAR_ROWS = {
    "interaction_tables": "interaction tables",
    "self_explaining": "self explaining (the default)",
    "auxiliary_head": "auxiliary head",
    "score_imitation": "score imitation",
    "gbdt2nn_head_shap": "GBDT2NN with a head",
    "ebm": "EBM",
    "tabm": "TabM",
    "realmlp": "RealMLP",
    "sklearn_mlp": "scikit-learn's network",
    "labels_only": "labels only",
}


def tabular_row(method, suite):
    """A row of the medians in docs/tabular.md: over data sets, of the means over seeds."""

    def means(of):
        return [value for (_, name), value in by_cell(suite.values(of)).items() if name == method]

    def figure(key):
        found = means(fidelity_of(key))
        return f"{statistics.median(found):.4f}" if found else "–"

    gained = means(error_gained)
    median = f"{statistics.median(gained):+.1f} %".replace("-", "−")
    better = f"{sum(value < 0 for value in gained)} of {len(gained)}"
    return f"| {TABULAR_ROWS[method]} | {figure('score_r2')} | {figure('attribution_r2')} | {median} | {better} |"


def seconds_row(method, suite):
    """A row of the seconds in docs/tabular.md: median over data sets of the means over seeds, the least and the most."""
    found = [value for (_, name), value in by_cell(suite.values(student_seconds)).items() if name == method]
    n_fits = sum(record["method"] == method for record in suite.students)
    return f"| {TABULAR_ROWS[method]} | {n_fits} | {statistics.median(found):.0f} | {min(found):.0f}–{max(found):.0f} |"


def test_the_medians_of_the_suite_tabular_are_those_of_the_records(found):
    suite = Suite("tabular", [r for r in found if r.get("suite") == "tabular"])
    page = (ROOT / "docs/tabular.md").read_text()
    assert set(suite.methods) == set(TABULAR_ROWS)
    for method in suite.methods:
        for row in (tabular_row(method, suite), seconds_row(method, suite)):
            assert row in page, row


TRAINED = {
    "self_explaining": "the default",
    "trained_in_float32": "every product in float32",
    "trained_by_adamw": "AdamW for every parameter",
    "trained_at_half_rate": "half the learning rate",
    "trained_at_double_rate": "twice the learning rate",
    "with_coarse_pairs": "64 bins in pairs",
    "without_triples": "no tables over triples",
}


@pytest.mark.parametrize(("suite", "seeds"), [("training", [0, 1, 2]), ("training_minute", [0])])
def test_how_the_default_is_trained_is_what_the_records_say(found, suite, seeds):
    """Each row of the tables in docs/decisions: score R² and attribution R², means over seeds."""
    page = (ROOT / "docs" / "decisions" / "default_student.md").read_text()
    runs = [r for r in found if r.get("suite") == suite and r["kind"] == "result"]
    for method in SUITES[suite].methods:
        cells = []
        for name in SUITES[suite].data:
            own = [r for r in runs if (r["method"], r["data"]) == (method, name)]
            assert sorted(r["seed"] for r in own) == seeds
            means = (statistics.mean(r["fidelity"][key] for r in own) for key in ("score_r2", "attribution_r2"))
            cells.append(" / ".join(f"{mean:.4f}" for mean in means))
        assert f"| {TRAINED[method]} | {' | '.join(cells)} |" in page, (suite, method, cells)


def test_what_bounds_a_minute_is_what_the_records_say(found):
    """Each row of the table in docs/decisions: the same seed with 75 and with 300 seconds."""
    page = (ROOT / "docs" / "decisions" / "default_student.md").read_text()
    limits = [r for r in found if r.get("suite") == "limits" and r["kind"] == "result"]
    assert {r["data"] for r in limits} == set(SUITES["limits"].data)
    minute = [r for r in found if r.get("suite") == "minute" and r["kind"] == "result"]
    for r in limits:
        before = [m for m in minute if (m["data"], m["seed"]) == (r["data"], r["seed"])] * (
            r["method"] == "self_explaining"
        )
        for one in (*before, r):
            figures = " / ".join(
                f"{one['fidelity'][key]:.4f}" for key in ("score_r2", "attribution_r2", "per_feature_r2")
            )
            assert f"{figures}, {one['student']['n_steps']:,} steps" in page, (one["data"], one["method"], figures)


LABEL_ROWS = {
    "teacher": "the teacher",
    "self_explaining": "0, the default",
    "labels_weight_0.1": "0.1",
    "labels_weight_0.5": "0.5",
    "labels_weight_2": "2",
    "labels_weight_auto": '`"auto"`',
    "labels_only": "labels alone",
}
LABEL_METRICS = {"california_housing": ("rmse", ",.0f"), "adult": ("accuracy", ".4f"), "kin8nm": ("rmse", ".4f")}


def label_row(method, runs):
    """A row of the guide's table of the weights of labels: score R² and label metric, means over seeds."""
    cells = []
    for name, (metric, form) in LABEL_METRICS.items():
        own = [r for r in runs if r["data"] == name and r["method"] == method]
        assert sorted(r["seed"] for r in own) == [0, 1, 2]
        side = "teacher" if method == "teacher" else "student"
        cells.append(format(sum(r["metrics"][side][metric] for r in own) / 3, form))
        fidelity = [r["fidelity"]["score_r2"] for r in own] if side == "student" and method != "labels_only" else []
        cells.append(f"{sum(fidelity) / 3:.4f}" if fidelity else "–")
    return f"| {LABEL_ROWS[method]} | {' | '.join(cells)} |"


def test_the_weights_of_labels_in_the_guide_are_those_of_the_records(found):
    guide = (ROOT / "docs" / "user_guide.md").read_text()
    runs = [r for r in found if r.get("suite") == "labels" and r["kind"] == "result"]
    assert set(LABEL_ROWS) == set(SUITES["labels"].methods)
    for method in LABEL_ROWS:
        row = label_row(method, runs)
        assert row in guide, row


def test_the_speed_marks_against_the_librarys_own_call_hold(found):
    """Warm and end to end, a tenth less than the mark counting as met."""
    results = {(r["data"], r["measurement"]): r["results"] for r in found if r["kind"] == "speed"}
    judged = 0
    for mark in MARKS:
        if mark.measurement == "throughput" and (mark.problem, mark.measurement) in results:
            figure = mark.figure(results[mark.problem, mark.measurement])
            assert figure is not None
            assert mark.is_met(figure[0]), (mark, figure)
            judged += 1
    assert judged >= 15
