"""The speed suite on tiny boosters: what it measures, refuses and records. The figures themselves mean nothing here."""

import json
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import lightgbm
import llvmlite.binding
import numpy as np
import pytest

from benchmarks import BenchmarkError, data, records
from benchmarks.__main__ import main
from benchmarks.speed import clock, compilers, contestants, costs, models, peers, problems, students, throughput
from benchmarks.speed import runner as speed
from benchmarks.speed.clock import Contestant
from benchmarks.speed.job import Job
from benchmarks.speed.marks import MARKS
from benchmarks.speed.measurements import MEASUREMENTS
from benchmarks.speed.problems import PROBLEMS, Problem

TINY = {
    "lightgbm": Problem("tiny", "lightgbm", "diabetes", 4, {"num_leaves": 5}, n_slow_rows=20),
    "xgboost": Problem("tiny", "xgboost", "diabetes", 4, {"max_depth": 3}, n_slow_rows=20),
    "classes": Problem("tiny", "lightgbm", "wine", 2, {"num_leaves": 4}, n_slow_rows=20),
    "categories": Problem("tiny", "lightgbm", "adult", 4, {"num_leaves": 8}, n_slow_rows=20),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("boosters")


@pytest.fixture
def job(cache):
    def job(name, **changed):
        problem = TINY[name]
        _, path = models.load_model(name, problem, problems.load_table(problem.table, 0), 0, cache)
        size = {"n_rows": 100, "n_slow_rows": problem.n_slow_rows, "n_rounds": 2, "n_calls": 25}
        return Job(**{"problem": problem, "seed": 0, "model": str(path), **size, **changed})

    return job


@pytest.fixture
def quick(monkeypatch):
    """The tiny boosters in the place of the suite's own, for what runs in this process."""
    monkeypatch.setattr(speed, "PROBLEMS", TINY)


def silent(line):
    pass


# ---- the clock


def contestant(name, kind="ours", call=lambda n: n, **changed):
    return Contestant(**{"name": name, "kind": kind, "n_rows": 10, "call": call, "prepare": lambda n: n} | changed)


def test_everyone_runs_once_a_round_forwards_and_backwards():
    order = []
    racers = [contestant(name, call=lambda n, name=name: order.append((name, n)), n_warm_up=3) for name in "ab"]
    rounds, errors = clock.interleave(racers, 3, say=silent)
    # A warm-up of a few rows, then rounds that turn: a drift of the machine favours no one.
    assert order == [(name, 3) for name in "ab"] + [(name, 10) for name in "abbaab"]
    assert [len(taken) for taken in rounds.values()] == [3, 3]
    assert not errors


def test_a_slow_peer_runs_once_and_a_failing_peer_is_out():
    def fail(n):
        raise ValueError("no categories")

    racers = [
        contestant("own", "own", n_warm_up=1),
        contestant("slow", "peer", lambda n: time.sleep(0.01), n_warm_up=1),
        contestant("broken", "peer", fail, n_warm_up=1),
    ]
    rounds, errors = clock.interleave(racers, 3, say=silent, patience=0.005)
    assert [s is not None for s in rounds["slow"]] == [True, False, False]
    assert str(errors["broken"]) == "no categories"
    # The booster and gbdt2nn have to run.
    with pytest.raises(ValueError, match="no categories"):
        clock.interleave([contestant("own", "own", fail, n_warm_up=1)], 1, say=silent)


def test_ratios_are_those_of_one_round():
    # Round by round 10, 4 and 2; the ratio of the medians would be 3.
    assert clock.ratios([10.0, 12.0, 2.0, None], [1.0, 3.0, 1.0, 1.0]) == {
        "median": 4.0,
        "min": 2.0,
        "max": 10.0,
        "n": 3,
    }
    assert clock.ratios([None], [1.0]) is None


def test_work_of_other_threads_counts():
    def spin(seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    def elsewhere():
        worker = threading.Thread(target=spin, args=(0.05,))
        worker.start()
        worker.join()

    _, here = clock.spent(lambda: spin(0.02))
    _, there = clock.spent(elsewhere)
    assert here.clock == "thread"
    assert there.clock == "process"
    assert there.cpu >= 0.05


# ---- problems and models


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_names_a_table_and_a_library(problem):
    assert problem.table in problems.MADE or problem.table in data.available()
    assert problem.library in ("lightgbm", "xgboost")


def test_the_made_table_mixes_twelve_factors_by_seed():
    table = problems.load_table("correlated", 0)
    assert table.X.shape == (50_000, 50)
    assert (table.categories, table.n_classes) == ([], None)
    # Twelve directions hold far more of the spread than the other 38, which are noise.
    spread = np.linalg.eigvalsh(np.cov(table.X[:5000].T))[::-1]
    assert spread[11] > 3 * spread[12]
    again, other = problems.load_table("correlated", 0), problems.load_table("correlated", 1)
    assert np.array_equal(table.X, again.X)
    assert np.array_equal(table.y, again.y)
    assert not np.array_equal(table.X, other.X)


def test_categories_become_codes_and_missing_values_stay():
    table = problems.load_table("adult", 0)
    assert len(table.categories) == 8
    assert np.isnan(table.X).any()
    assert set(np.unique(table.y)) == {0.0, 1.0}
    assert all((table.X[:, j][~np.isnan(table.X[:, j])] % 1 == 0).all() for j in table.categories)


def test_a_booster_is_trained_once_and_hashed_by_what_it_depends_on(cache, monkeypatch):
    problem = TINY["lightgbm"]
    table = problems.load_table(problem.table, 0)
    first, path = models.load_model("one", problem, table, 0, cache)
    monkeypatch.setattr(models, "_train", lambda *_: 1 / 0)
    again, _ = models.load_model("one", problem, table, 0, cache)
    assert first.model_to_string() == again.model_to_string()
    other = replace(problem, params={"num_leaves": 6})
    assert models.model_path("one", other, table, 0, cache) != path
    assert models.model_path("one", problem, table, 1, cache) != path
    assert models.model_path("one", problem, replace(table, y=table.y + 1), 0, cache) != path
    monkeypatch.setattr(models, "library_version", lambda library: "99.0")
    assert models.model_path("one", problem, table, 0, cache) != path


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_the_size_of_a_booster(name, job):
    job = job(name)
    described = models.describe_model(job.problem, job.booster(), Path(job.model))
    assert described["n_trees"] == 4
    assert described["n_leaves"] <= 4 * (5 if name == "lightgbm" else 8)
    # A tree of five leaves or of three levels has no deeper path, and no more features on it.
    assert 1 <= described["path_features"]["mean"] <= described["leaf_depth"]["mean"] <= described["leaf_depth"]["max"]
    assert described["leaf_depth"]["max"] <= (4 if name == "lightgbm" else 3)


# ---- measurements


@pytest.mark.parametrize("name", TINY)
def test_throughput_of_everyone(name, job):
    job = job(name)
    result = throughput.throughput(job, silent)
    ours = {f"{s}_{p}_64mb" for s in ("kernel", "warm") for p in ("float64", "fast")} | {"end_to_end_float64_64mb"}
    assert {"own", "predict"} | ours <= set(result["contestants"])
    # Each peer either took part or says why not.
    assert {*peers.PEERS, *compilers.COMPILERS} <= set(result["contestants"]) | set(result["absent"])
    for key, found in result["contestants"].items():
        assert len(found["seconds"]) == found["times_own"]["n"] == 2
        assert found["n_rows"] == (20 if key == "own" or (found["kind"] == "peer" and key != "woodelf") else 100)
        median = found["times_own"]["median"]
        assert found["times_own"]["min"] <= median <= found["times_own"]["max"]
    assert result["contestants"]["own"]["times_own"] == {"median": 1.0, "min": 1.0, "max": 1.0, "n": 2}
    # LightGBM's own are in double precision, XGBoost's in single.
    close = 1e-5 if name == "xgboost" else 1e-10
    assert result["contestants"]["kernel_float64_64mb"]["max_error"] <= close * result["scale"]


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
@pytest.mark.parametrize("compiler", compilers.COMPILERS)
def test_compilers_give_the_boosters_raw_scores(compiler, name, job):
    package = {"onnx_runtime": "onnxmltools"}.get(compiler, compiler)
    pytest.importorskip(package, reason=f"{package} is not installed")
    job = job(name)
    X, booster = job.table(), job.booster()
    if (compiler, name) == ("lleaves", "xgboost"):
        with pytest.raises(peers.UnavailableError, match="LightGBM's models alone"):
            compilers.contestant(compiler, name, booster, X, 1)
        return
    if compiler == "lleaves" and not hasattr(llvmlite.binding, "PassManagerBuilder"):
        pytest.skip("lleaves needs an llvmlite that has the old pass manager")
    found = compilers.contestant(compiler, name, booster, X, 1)
    own = contestants.plain_predict(name, booster, X)
    scores, theirs = (racer.shape(racer.call(racer.prepare(len(X)))) for racer in (found, own))
    # single precision moves rows that lie on a threshold: few of them
    assert np.mean(np.abs(scores - theirs) > 1e-5 * np.abs(theirs).max()) < 0.05


def test_students_beside_booster_and_engine(job, monkeypatch):
    quick = {**students.FIT, "max_steps": 10, "n_synthetic": 100}
    monkeypatch.setattr(students, "FIT", quick | {"student_params": None})
    found = students.students(job("lightgbm"), silent)
    for name in students.STUDENTS:
        assert found["students"][name]["max_error"] < 1e-4
        timed = [f"{name}_{how}" for how in ("one", "compiled", *(f"batch_{p}" for p in students.PRECISIONS))]
        assert set(timed) <= set(found["microseconds"])
        off = found["students"][name]["precisions"]
        assert off["float64"]["score_max"] == off["float64"]["attribution_max"] == 0
        for precision in ("float32", "fast"):
            assert 0 < off[precision]["score_rms"] <= off[precision]["score_max"] < 0.1
            assert off[precision]["completeness_gap"] < 1e-12
    for name in ("predict", "own", "engine"):
        for how in ("batch", "one"):
            taken = found["microseconds"][f"{name}_{how}"]
            assert taken["n"] == 2
            assert 0 < taken["min"] <= taken["median"] <= taken["max"]


def test_ratios_are_per_row(job):
    """The booster explains 20 rows in a round and gbdt2nn 100: their seconds are compared row by row."""
    result = throughput.kernels(job("lightgbm"), silent)
    own, ours = (result["contestants"][name] for name in ("own", "kernel_float64_64mb"))
    by_round = sorted((a / 20) / (b / 100) for a, b in zip(own["seconds"], ours["seconds"], strict=True))
    assert ours["times_own"]["median"] == pytest.approx(sum(by_round) / 2)


def test_shaps_c_code_answers_rather_than_the_booster(job):
    job = job("lightgbm")
    booster, X = job.booster(), job.table()
    expected = booster.predict(X, pred_contrib=True)[:, :-1]
    found = peers.contestant("shap_c", job.problem, booster, X, 100, 1)
    booster.predict = lambda *_, **__: pytest.fail("the booster was asked")
    assert np.allclose(found.shape(found.call(X))[:, 0], expected, rtol=0, atol=1e-9)


def test_a_peer_with_other_numbers_is_out_and_we_must_not_be(job, monkeypatch):
    job = job("lightgbm")

    def build(booster, X):
        return np.zeros_like, lambda n: X[:n]

    def refuse(booster, X):
        raise ModuleNotFoundError("No module named 'moon'")

    monkeypatch.setattr(
        peers, "PEERS", {"zeros": peers.Peer("Zeros", (), build), "moon": peers.Peer("Moon", (), refuse)}
    )
    absent = throughput.throughput(job, silent)["absent"]
    assert absent["zeros"].startswith("gives other numbers (error ")
    assert absent["moon"] == "not installed (No module named 'moon')"
    monkeypatch.setattr(throughput.contestants, "outputs_second", lambda values: np.asarray(values)[:, None] + 1)
    with pytest.raises(
        ValueError, match="kernel_float64_64mb must give the booster's own attributions, got an error of 1"
    ):
        throughput.kernels(job, silent)


@pytest.mark.skipif(records.hardware()["usable_cores"] < 2, reason="needs two cores")
def test_two_threads(job):
    result = costs.threads(job("lightgbm"), silent)
    assert set(result["scaling"]) == {"kernel", "warm"}
    assert {len(seconds) for seconds in result["wall_seconds"].values()} == {2}


def test_two_threads_need_two_cores(job, monkeypatch):
    monkeypatch.setattr(costs, "hardware", lambda: {"usable_cores": 1})
    with pytest.raises(RuntimeError, match="two threads need two cores, got 1"):
        costs.threads(job("lightgbm"), silent)


def test_peak_memory_sees_what_a_call_takes(job, monkeypatch):
    class Greedy:
        def __init__(self, *_, **__):
            self.description = type("Description", (), {"n_outputs": 1})

        def shap_values(self, X):
            np.ones((16, 2**20))  # freed at once: 128 MB for a moment

    monkeypatch.setattr(costs, "explainer_of", Greedy)
    megabytes = costs.memory(job("lightgbm"), silent)["megabytes"]
    assert 120 < megabytes["extra"] < 150
    assert 120 < megabytes["with_loading"] < 150


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_one_row(name, job):
    result = costs.single_row(job(name), silent)
    for found in result["microseconds"].values():
        assert 0 < found["median"] <= found["p99"]
        assert found["n"] >= 20
    assert result["max_error"] < 1e-3


def test_the_first_call_is_timed_in_a_fresh_process_alone(job):
    import numba  # noqa: F401

    with pytest.raises(RuntimeError, match="numba must not be imported before"):
        costs.first_call(job("lightgbm"), silent)


# ---- marks


def test_every_mark_has_a_measurement_that_tells():
    for mark in MARKS:
        named = MEASUREMENTS[mark.measurement].problems
        assert mark.problem in PROBLEMS
        assert named is None or mark.problem in named
    tables = {
        mark.path[2] for mark in MARKS if mark.measurement == "throughput" and mark.problem == "lightgbm_1000x127"
    }
    assert tables == {f"{s}_float64_{m}mb" for s in ("kernel", "warm") for m in (64, 1024)} | {
        "end_to_end_float64_64mb"
    }
    assert PROBLEMS["lightgbm_1000x127"].table_memory == (64, 1024)


def test_marks_of_throughput_find_their_figures(job):
    result = {"result": throughput.throughput(job("lightgbm"), silent)}
    figures = [
        mark.figure(result) for mark in MARKS if mark.problem == "lightgbm_300x31" and mark.measurement == "throughput"
    ]
    assert len(figures) == 3
    assert all(figure is not None for figure in figures)
    assert MARKS[0].figure({"result": {"contestants": {}}}) is None


def test_a_tenth_less_counts_as_met_against_the_librarys_own_call_alone():
    (warm,) = [m for m in MARKS if (m.problem, m.path[-2]) == ("lightgbm_300x31", "kernel_float64_64mb")]
    assert (warm.asked, warm.is_met(216.0), warm.is_met(215.9)) == (240, True, False)
    scaling = next(m for m in MARKS if m.measurement == "threads")
    assert (scaling.is_met(1.7), scaling.is_met(1.69)) == (True, False)
    memory = next(m for m in MARKS if m.measurement == "memory")
    assert (memory.is_met(300.0), memory.is_met(300.1)) == (True, False)
    row = next(m for m in MARKS if m.measurement == "single_row")
    assert row.figure({"result": {"microseconds": {"ours": {"median": 250.0, "p99": 400.0}}}}) == (250.0, None, None)


# ---- runs and records


def start(out, cache, **options):
    return speed.run(**{"out": out, "models": cache, "say": silent, "size": speed.Size(2, 100, None, 25), **options})


def test_a_run_in_a_process_of_its_own_leaves_a_record(quick, cache, tmp_path):
    counts = start(tmp_path, cache, data_names=["lightgbm"], method_names=["memory"])
    assert (counts.made, counts.failed) == (1, 0)
    record = records.read(tmp_path / "speed/lightgbm/memory-seed0.json")
    assert (record["kind"], record["data"], record["measurement"], record["seed"]) == ("speed", "lightgbm", "memory", 0)
    assert record["table"] == {
        "name": "diabetes", "n_samples": 442, "n_features": 10, "n_categories": 0, "n_classes": None,
    }  # fmt: skip
    assert record["versions"]["xgboost"]
    assert record["settings"]["n_slow_rows"] == 20  # the problem's own
    assert record["results"]["result"]["n_rows"] == 100
    # What is there is kept, and not mixed with what is measured otherwise.
    assert start(tmp_path, cache, data_names=["lightgbm"], method_names=["memory"]).kept == 1
    with pytest.raises(
        BenchmarkError, match=r"memory-seed0\.json was made under other settings .*'n_rounds': \(2, 3\)"
    ):
        start(tmp_path, cache, data_names=["lightgbm"], method_names=["memory"], size=speed.Size(3, 100, None, 25))


def test_each_measurement_runs_for_the_problems_it_names(monkeypatch, cache, tmp_path):
    asked = []

    def note(name, method, *_):
        asked.append((name, method))
        return {"status": "ok"}

    monkeypatch.setattr(speed, "_record", note)
    monkeypatch.setattr(records, "write", lambda path, record: None)
    start(tmp_path, cache, data_names=["lightgbm_300x31", "lightgbm_300x7"])
    meant = [name for name, one in MEASUREMENTS.items() if one.problems is None or "lightgbm_300x31" in one.problems]
    assert len(meant) == len(MEASUREMENTS) - 1  # the students have boosters of their own
    assert asked == [*(("lightgbm_300x31", name) for name in meant), ("lightgbm_300x7", "throughput")]
    asked.clear()
    # Named, a measurement runs for whatever booster is asked for.
    start(tmp_path, cache, data_names=["lightgbm_300x7"], method_names=["memory"])
    assert asked == [("lightgbm_300x7", "memory")]


def measure(job, name="memory"):
    asked = {**asdict(job), "measurement": name}
    return speed._measure(MEASUREMENTS[name], asked)


def test_what_fails_in_the_process_comes_back(job, tmp_path):
    with pytest.raises(speed.WorkerError, match="gone") as caught:
        measure(job("lightgbm", model=str(tmp_path / "gone.txt")))
    assert caught.value.described["type"] == "LightGBMError"


def test_a_process_that_dies_is_told_of(job, monkeypatch):
    monkeypatch.setattr(speed.sys, "executable", "/bin/false")
    with pytest.raises(speed.WorkerError, match="the process ended with 1 and left no result"):
        measure(job("lightgbm"))


def test_the_processes_of_a_measurement_share_a_folder(job, monkeypatch):
    """The second finds what the first compiled; every library has one thread."""
    seen = []

    def worker(command, *, env, cwd):
        seen.append(
            (env["NUMBA_CACHE_DIR"], env["OMP_NUM_THREADS"], json.loads(Path(command[3]).read_text())["n_rows"])
        )
        Path(command[4]).write_text('{"result": {}}')

    monkeypatch.setattr(speed.subprocess, "run", worker)
    results = measure(job("lightgbm", n_rows=5000), "first_call")
    assert list(results) == list(MEASUREMENTS["first_call"].runs)
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert seen[0][0] != seen[2][0]
    assert [(n_threads, n_rows) for _, n_threads, n_rows in seen] == [("1", 5000)] * 2 + [("1", 1000)] * 2


def test_a_booster_that_cannot_be_trained_is_a_failed_record(monkeypatch, cache, tmp_path):
    broken = replace(TINY["lightgbm"], params={"num_leaves": -3})
    monkeypatch.setattr(speed, "PROBLEMS", {"broken": broken})
    counts = start(tmp_path, cache, data_names=["broken"], method_names=["memory"])
    assert (counts.made, counts.failed) == (1, 1)
    record = records.read(tmp_path / "speed/broken/memory-seed0.json")
    assert record["error"]["type"] == lightgbm.basic.LightGBMError.__name__


# ---- command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "speed", "--data", "moon"], "unknown problem 'moon'; there are: lightgbm_300x7"),
        (["--suite", "speed", "--methods", "magic"], "unknown measurement 'magic'; there are: throughput, threads"),
        (["--suite", "speed", "--rounds", "0"], "rounds must be at least 1, got 0"),
        (["--suite", "speed", "--slow-rows", "-1"], "slow_rows must be at least 1, got -1"),
        (
            ["--suite", "smoke", "--rows", "9"],
            "--rounds, --rows, --slow-rows and --models are for the suite 'speed' alone",
        ),
    ],
)
def test_what_cannot_be_run_is_named(arguments, said, tmp_path, capsys):
    assert main(["run", *arguments, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_options_reach_the_suite(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(speed, "run", lambda **options: given.update(options) or speed.Counts())
    asked = ["--rounds", "3", "--rows", "50", "--slow-rows", "7", "--models", str(tmp_path), "--seeds", "2"]
    assert main(["run", "--suite", "speed", "--data", "xgboost_300d6", *asked]) == 0
    assert given["size"] == speed.Size(3, 50, 7)
    assert (given["models"], given["n_seeds"], given["data_names"]) == (tmp_path, 2, ["xgboost_300d6"])


def test_the_list_names_boosters_and_measurements(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*PROBLEMS, *MEASUREMENTS))
