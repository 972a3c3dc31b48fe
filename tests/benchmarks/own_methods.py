"""A user's script around the command line: a suite and methods of its own, some of which misbehave.

``python own_methods.py run --suite isolated …``; a worker process imports this file too, and so knows the methods.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import lightgbm  # noqa: F401  loaded here, so that no time limit holds it
import sklearn.datasets
import sklearn.metrics  # noqa: F401

from benchmarks import Lacking, cell, suites
from benchmarks.methods import METHODS

cell.warm_up_once = lambda: None  # the loading of libraries is not timed here

HELD = []


def sleeping(problem):
    time.sleep(600)


def growing(problem):
    for _ in range(600):
        HELD.append(b"x" * (64 << 20))
        time.sleep(0.05)


def crashing(problem):
    os.kill(os.getpid(), signal.SIGSEGV)


def leaving(problem):
    os._exit(7)


def raising(problem):
    raise ValueError("depth must be positive, got -1")


def waiting(problem):
    """Teach nothing, and take a while over it: the teacher's own metrics are the result."""
    time.sleep(0.1)


def printing(problem):
    print("all the way", flush=True)
    os._exit(3)


def lacking(problem):
    raise Lacking("there is no package 'moon'")


def holding(problem):
    """Hold 200 MB for a moment: how much a record says that a method took."""
    assert len(b"x" * 200_000_000) == 200_000_000


_ALL = (sleeping, growing, crashing, leaving, raising, waiting, printing, lacking, holding)
METHODS |= {one.__name__: one for one in _ALL} | {f"waiting_{letter}": waiting for letter in "abcde"}
_ISOLATED = suites.Suite(
    summary="for the tests of worker processes",
    data=("diabetes", "wine"),
    methods=("teacher", "self_explaining"),
    n_seeds=2,
    teacher={"n_estimators": 5, "num_leaves": 4},
    patience=2,
    student={"max_steps": 10, "n_synthetic": 100, "student_params": {"width": 16}},
    n_jobs=1,
    max_rows=150,
)
suites.SUITES |= {
    "isolated": _ISOLATED,
    "patient": replace(_ISOLATED, methods=("teacher", *(f"waiting_{letter}" for letter in "abcde"))),
    "imitating": replace(_ISOLATED, data=("wine",), methods=("teacher", "score_imitation")),
    "students": replace(
        _ISOLATED,
        data=("diabetes", "wine", "breast_cancer"),
        methods=("teacher", "score_imitation", "self_explaining"),
        n_seeds=3,
    ),
}

if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main())
