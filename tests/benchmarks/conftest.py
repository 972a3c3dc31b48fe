"""Stand-ins for teacher and student, so that the runner is tested apart from any training."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

# The benchmarks run from a checkout and are no part of the installed package.
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import gbdt2nn
from benchmarks import cell, methods, runner, suites


class FakeStudent:
    """Predicts the mean, and looks like a fitted estimator."""

    n_steps_, n_synthetic_, n_explained_ = 7, 11, 13
    seconds_: ClassVar = {"student": 0.5}
    student_ = SimpleNamespace(parameters=lambda: [torch.zeros(3), torch.zeros(2)])

    def __init__(self, problem, interrupted=False):
        self.history_ = SimpleNamespace(interrupted=interrupted)
        self.problem = problem
        self.classes_ = np.unique(problem.y)

    def get_params(self, deep=True):
        return {"teacher": self.problem.teacher, "max_steps": 7, "random_state": self.problem.seed}

    def predict(self, X):
        return np.full(len(X), self.problem.y.mean())

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.fixture
def fake(monkeypatch):
    """Methods that train nothing, a suite that names them, and the problems that they were given."""
    problems = []

    def mean(problem):
        problems.append(problem)
        return FakeStudent(problem)

    def broken(problem):
        raise ValueError("depth must be positive, got -1")

    def stopped(problem):
        return FakeStudent(problem, interrupted=True)

    monkeypatch.setattr(
        runner, "METHODS", {"teacher": methods.teacher, "mean": mean, "broken": broken, "stopped": stopped}
    )
    monkeypatch.setattr(cell, "warm_up_once", lambda: None)
    # Through the dict: asking the module for its own name would load the estimators.
    monkeypatch.setitem(
        vars(gbdt2nn),
        "fidelity",
        lambda model, X, y: {"score_r2": 0.5 + model.problem.seed / 10, "attribution_r2": np.nan, "n_rows": len(X)},
    )
    suite = suites.Suite(
        summary="for the tests",
        data=("diabetes",),
        methods=("teacher", "mean"),
        n_seeds=1,
        teacher={"n_estimators": 3, "num_leaves": 4},
        patience=2,
        n_jobs=1,
        max_rows=200,
        time_budget=100.0,
        by_data={"wine": {"teacher": {"n_estimators": 2}}},
    )
    monkeypatch.setitem(suites.SUITES, "tiny", suite)
    return problems


@pytest.fixture
def table():
    """Twelve rows: a number with a missing value, a category, a split, an identity and a label that may be missing."""
    return pd.DataFrame(
        {
            "id": range(12),
            "size": [1.5, np.nan, *range(10)],
            "colour": ["red", "blue", None] * 4,
            "part": ["train"] * 8 + ["test"] * 4,
            "price": [np.nan, *range(1, 12)],
        }
    )


OWN = Path(__file__).parent / "own_methods.py"


@pytest.fixture
def own(monkeypatch):
    """The suites and methods of `own_methods.py`, here and in worker processes, as if it were the script that runs."""
    monkeypatch.setattr(cell, "warm_up_once", cell.warm_up_once)
    kept = [(shelf, dict(shelf)) for shelf in (methods.METHODS, suites.SUITES)]
    spec = importlib.util.spec_from_file_location("own_methods", OWN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__spec__ = None  # as a script has none: workers import it by its path
    monkeypatch.setitem(sys.modules, "__main__", module)
    yield module
    for shelf, content in kept:
        shelf.clear()
        shelf.update(content)


class Script:
    """A run of `own_methods.py` in a process of its own."""

    def __init__(self, *arguments):
        command = [sys.executable, str(OWN), "run", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)

    def line(self):
        return self.process.stdout.readline()

    def offspring(self):
        """The processes that it started and that are alive."""
        return [pid for pid in _processes() if _parent(pid) == self.process.pid]

    def end(self, number=None):
        """Send a signal, if any, and return exit code, the rest of the output, and errors."""
        if number is not None:
            self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=900)
        return self.process.returncode, out, errors


def _processes():
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid):
    state, parent = _stat(pid)
    return None if state == "Z" else parent


def _stat(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "Z", 0
    return fields[0], int(fields[1])


def gone(pids, seconds=10.0):
    """Whether all these processes end within some seconds."""
    last = time.monotonic() + seconds
    while any(_stat(pid)[0] != "Z" for pid in pids):
        if time.monotonic() > last:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def script():
    started = []

    def start(*arguments):
        started.append(Script(*arguments))
        return started[-1]

    start.gone = gone
    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def lasting(value):
    """What of a record must be the same in every run: all but dates, seconds, memory and the load of the machine."""
    if isinstance(value, dict):
        passing = ("date", "load_before", "peak_memory", "jobs")
        return {key: lasting(item) for key, item in value.items() if key not in passing and "seconds" not in key}
    return [lasting(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def all_lasting():
    """What must be the same of every record in a folder, by its path."""
    from benchmarks import records

    def read(out):
        return {str(path.relative_to(out)): lasting(records.read(path)) for path in sorted(out.rglob("*.json"))}

    return read
