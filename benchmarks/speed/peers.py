"""Other libraries' exact path-dependent TreeSHAP on one thread, where they can be imported.

Each function returns what is timed: the explainer is set up before. A peer that is not installed, or that refuses the
booster, is told of in the record with its reason.
"""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.speed.clock import Contestant
from benchmarks.speed.contestants import outputs_second
from benchmarks.speed.problems import Problem

Array = NDArray[np.float64]
_FEW = 10


class UnavailableError(Exception):
    """Why a peer takes no part."""


@dataclass(frozen=True)
class Peer:
    """Another library.

    Parameters
    ----------
    label : str
        For tables.
    packages : tuple of str
        Distributions that bring it; the first that is installed is on record.
    build : callable
        ``(booster, X) -> (call, prepare)``.
    is_bulk : bool
        Whether most of its time does not depend on the number of rows: it is given all of them.
    several_outputs : bool
        Whether it is asked to explain a Booster of several classes.
    """

    label: str
    packages: tuple[str, ...]
    build: Callable[[Any, Array], tuple[Callable[[Any], Any], Callable[[int], Any]]]
    is_bulk: bool = False
    several_outputs: bool = False


def _shap(booster: Any, X: Array) -> tuple[Callable[[Any], Any], Callable[[int], Any]]:
    import shap

    explainer = shap.TreeExplainer(booster)
    # Of a model it takes for one of its own, shap does not ask the booster but its C code.
    explainer.model.model_type = "internal"
    return lambda rows: explainer.shap_values(rows, check_additivity=False), lambda n: X[:n]


def _fasttreeshap(algorithm: str, booster: Any, X: Array) -> tuple[Callable[[Any], Any], Callable[[int], Any]]:
    try:
        # The fork runs on NumPy 2; the original does not.
        module = import_module("fasttreeshap_fixed")
    except ModuleNotFoundError:
        module = import_module("fasttreeshap")
    explainer = module.TreeExplainer(booster, algorithm=algorithm, n_jobs=1)
    return lambda rows: explainer.shap_values(rows, check_additivity=False), lambda n: X[:n]


def _woodelf(booster: Any, X: Array) -> tuple[Callable[[Any], Any], Callable[[int], Any]]:
    from woodelf import WoodelfExplainer

    explainer = WoodelfExplainer(booster, feature_perturbation="tree_path_dependent")
    names = booster.feature_name() if hasattr(booster, "feature_name") else booster.feature_names
    table = pd.DataFrame(X, columns=names or None)
    return lambda rows: explainer.shap_values(rows, verbose=False), lambda n: table.iloc[:n]


def _daal4py(booster: Any, X: Array) -> tuple[Callable[[Any], Any], Callable[[int], Any]]:
    import daal4py
    import daal4py.mb

    daal4py.daalinit(1)
    model = daal4py.mb.convert_model(booster)
    # The base value stands last.
    return lambda rows: model.predict(rows, pred_contribs=True)[:, :-1], lambda n: X[:n]


def _treeshap(booster: Any, X: Array) -> tuple[Callable[[Any], Any], Callable[[int], Any]]:
    from treeshap import ShapExplainer, TreeEnsemble

    # It reads models from files alone: LightGBM's text, XGBoost's JSON.
    library, suffix = ("xgboost", "json") if hasattr(booster, "inplace_predict") else ("lightgbm", "txt")
    with tempfile.TemporaryDirectory(prefix="gbdt2nn-treeshap-") as folder:
        path = str(Path(folder) / f"model.{suffix}")
        booster.save_model(path)
        explainer = ShapExplainer(TreeEnsemble.from_file(path, library))
    return lambda rows: explainer.explain(rows).shap_values, lambda n: X[:n]


PEERS: dict[str, Peer] = {
    "shap_c": Peer("shap, its C code", ("shap",), _shap),
    "fasttreeshap_v1": Peer(
        "FastTreeSHAP v1", ("fasttreeshap-fixed", "fasttreeshap"), lambda b, X: _fasttreeshap("v1", b, X)
    ),
    "fasttreeshap_v2": Peer(
        "FastTreeSHAP v2", ("fasttreeshap-fixed", "fasttreeshap"), lambda b, X: _fasttreeshap("v2", b, X)
    ),
    "woodelf": Peer("WOODELF", ("woodelf_explainer",), _woodelf, is_bulk=True),
    "daal4py": Peer("daal4py", ("scikit-learn-intelex", "daal4py"), _daal4py, several_outputs=True),
    "treeshap": Peer("treeshap (Rust)", ("treeshap",), _treeshap, several_outputs=True),
}


def contestant(name: str, problem: Problem, booster: Any, X: Array, n_rows: int, n_outputs: int) -> Contestant:
    """Return a peer as a contestant.

    Raises
    ------
    UnavailableError
        With the reason, where it cannot be imported or does not take the booster.
    """
    peer = PEERS[name]
    if n_outputs > 1 and not peer.several_outputs:
        raise UnavailableError("takes a bare Booster of several classes for one of a single output")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say of newer NumPy and pandas
            call, prepare = peer.build(booster, X)
    except Exception as error:
        raise UnavailableError(reason(error)) from error
    n_rows = len(X) if peer.is_bulk else min(n_rows, len(X))

    def quiet(rows: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(rows)

    return Contestant(name, "peer", n_rows, quiet, prepare, min(_FEW, n_rows), outputs_second)


def reason(error: Exception) -> str:
    """Return an error as a record states it: one line, without places on this machine."""
    if isinstance(error, ModuleNotFoundError):
        return f"not installed ({error})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def installed_version(peer: Peer) -> str | None:
    """Return name and version of the distribution that brings a peer, None where none is installed."""
    for package in peer.packages:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return None
