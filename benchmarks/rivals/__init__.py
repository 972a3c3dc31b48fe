"""Rivals as shipped: methods of other libraries, and of other papers, that are held against the same teacher.

A method whose package is absent raises `RivalAbsent`, one that has no answer to a task `RivalCannot`; neither leaves a
record. What each is stands in `docs/rivals.md`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.problem import Problem

Method = Callable[[Problem], Any]


def _late(room: str, name: str, made_by: str | None, doc: str) -> Method:
    """A method that imports its room when it is first called: torch and other libraries are not loaded for a list."""

    def method(problem: Problem) -> Any:
        found = import_module(f"benchmarks.rivals.{room}")
        call = getattr(found, name) if made_by is None else getattr(found, made_by)(name)
        return call(problem)

    method.__name__ = name
    method.__doc__ = doc
    return method


# name -> (method, distribution that brings it; None where it needs nothing beyond gbdt2nn)
_ALL: dict[str, tuple[Method, str | None]] = {
    "sklearn_mlp": (
        _late("nets", "sklearn_mlp", None, "scikit-learn's network as shipped, on the labels."),
        None,
    ),
    "tabm": (_late("nets", "tabm", "on_labels", "TabM (pytabkit) as shipped, on the labels."), "pytabkit"),
    "realmlp": (_late("nets", "realmlp", "on_labels", "RealMLP (pytabkit) as shipped, on the labels."), "pytabkit"),
    "tabm_scores": (
        _late("nets", "tabm", "on_scores", "TabM (pytabkit) as shipped, on the teacher's raw score."),
        "pytabkit",
    ),
    "realmlp_scores": (
        _late("nets", "realmlp", "on_scores", "RealMLP (pytabkit) as shipped, on the teacher's raw score."),
        "pytabkit",
    ),
    "ebm": (
        _late("ebm", "ebm", None, "Explainable boosting machine (interpret) as shipped, on the labels."),
        "interpret-core",
    ),
    "ebm_scores": (
        _late("ebm", "ebm_scores", None, "Explainable boosting machine (interpret), on the teacher's raw score."),
        "interpret-core",
    ),
    "autogluon_distill": (
        _late("autogluon", "autogluon_distill", None, "AutoGluon's distill of the teacher, as shipped."),
        "autogluon.tabular",
    ),
    "autogluon_distill_plain": (
        _late(
            "autogluon", "autogluon_distill_plain", None, "AutoGluon's distill of the teacher, without synthetic rows."
        ),
        "autogluon.tabular",
    ),
    "fastshap_like": (
        _late(
            "amortised",
            "fastshap_like",
            None,
            "A network after FastSHAP that explains the teacher; it does not predict.",
        ),
        None,
    ),
    "viashap_like": (
        _late(
            "amortised", "viashap_like", None, "A network after ViaSHAP, on the labels, that is its own explanation."
        ),
        None,
    ),
    "score_imitation_permutation": (
        _late(
            "post_hoc",
            "score_imitation_permutation",
            None,
            "The student of score_imitation, explained from outside by permutation SHAP.",
        ),
        None,
    ),
}

RIVALS: dict[str, Method] = {name: method for name, (method, _) in _ALL.items()}
NEEDS: dict[str, str] = {name: package for name, (_, package) in _ALL.items() if package is not None}
