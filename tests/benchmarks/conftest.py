"""Stand-ins for teacher and student, so that the runner is tested apart from any training."""

import http.server
import importlib.util
import json
import subprocess
import sys
import threading
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


class Server:
    """A web server of the tests: says what it was told to say at each path, and counts how often it was asked."""

    def __init__(self):
        self.answers, self.asked = {}, []
        answers, asked = self.answers, self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                answer = answers.get(self.path, (404, b"no such page"))
                if isinstance(answer, list):  # one after the other; the last stays
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                if callable(answer):
                    return answer(self)
                status, body = answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def put(self, path, body, status=200):
        """Answer a path with bytes, with JSON, or by calling a function with the handler; return its URL."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        self.answers[path] = body if callable(body) or isinstance(body, list) else (status, body)
        return self.url + path

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server on this machine, an empty cache, and no pauses between tries."""
    from benchmarks.sources import cache

    monkeypatch.setenv("GBDT2NN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cache, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(cache, "TIMEOUT", 0.3)
    found = Server()
    yield found
    found.stop()
