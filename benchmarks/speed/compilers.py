"""Other libraries that only predict: compilers and runtimes of tree ensembles, on one thread, where they can be imported.

None of them explains. They are held against the booster's own plain predict, in raw scores.
"""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.clock import Contestant
from benchmarks.speed.peers import UnavailableError, reason

Array = NDArray[np.float64]
Built = tuple[Callable[[Any], Any], Callable[[int], Any]]
_FEW = 100  # rows of a warm-up


@dataclass(frozen=True)
class Compiler:
    """A library that predicts what a booster predicts.

    Parameters
    ----------
    label : str
        For tables.
    packages : tuple of str
        Distributions that bring it.
    build : callable
        ``(library, booster, X) -> (call, prepare)``; the call gives raw scores.
    """

    label: str
    packages: tuple[str, ...]
    build: Callable[[str, Any, Array], Built]


def _treelite_model(library: str, booster: Any) -> Any:
    import treelite

    return getattr(treelite.frontend, f"from_{library}")(booster)


def _gtil(library: str, booster: Any, X: Array) -> Built:
    import treelite

    model = _treelite_model(library, booster)
    rows = _table(library, X)
    return lambda block: treelite.gtil.predict(model, block, nthread=1, pred_margin=True), lambda n: rows[:n]


def _tl2cgen(library: str, booster: Any, X: Array) -> Built:
    import tl2cgen

    # The predictor has the library loaded: its file may go.
    with tempfile.TemporaryDirectory(prefix="gbdt2nn-tl2cgen-") as folder:
        path = Path(folder) / "model.so"
        tl2cgen.export_lib(
            _treelite_model(library, booster), toolchain="gcc", libpath=path, params={"parallel_comp": 8}, nthread=1
        )
        predictor = tl2cgen.Predictor(path, nthread=1)
    rows = _table(library, X)
    return lambda block: predictor.predict(block, pred_margin=True), lambda n: tl2cgen.DMatrix(rows[:n])


def _lleaves(library: str, booster: Any, X: Array) -> Built:
    import lleaves

    if library != "lightgbm":
        raise TypeError("reads LightGBM's models alone")
    with tempfile.TemporaryDirectory(prefix="gbdt2nn-lleaves-") as folder:
        path = str(Path(folder) / "model.txt")
        booster.save_model(path)
        model = lleaves.Model(model_file=path)
        model.compile(raw_score=True)
    return lambda block: model.predict(block, n_jobs=1), lambda n: X[:n]


def _onnx_runtime(library: str, booster: Any, X: Array) -> Built:
    import onnxruntime
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    objective = _objective(library, booster)
    if objective not in ("regression", "reg:squarederror", "regression_l2"):
        raise TypeError(f"its converter gives predictions, not raw scores, of the objective {objective!r}")
    convert = convert_lightgbm if library == "lightgbm" else convert_xgboost
    converted = convert(booster, initial_types=[("rows", FloatTensorType([None, X.shape[1]]))])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(converted.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = X.astype(np.float32)
    return lambda block: session.run(None, {"rows": block})[0], lambda n: rows[:n]


def _objective(library: str, booster: Any) -> str:
    if library == "lightgbm":
        return str(booster.params.get("objective") or booster.dump_model()["objective"]).split()[0]
    import json

    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def _table(library: str, X: Array) -> NDArray[Any]:
    """Rows as Treelite wants them: in the precision of the library's thresholds."""
    return X.astype(np.float32) if library == "xgboost" else np.ascontiguousarray(X, np.float64)


COMPILERS: dict[str, Compiler] = {
    "treelite": Compiler("Treelite, its own predict", ("treelite",), _gtil),
    "tl2cgen": Compiler("Treelite, compiled", ("tl2cgen",), _tl2cgen),
    "lleaves": Compiler("lleaves", ("lleaves",), _lleaves),
    "onnx_runtime": Compiler("ONNX Runtime", ("onnxruntime",), _onnx_runtime),
}


def contestant(name: str, library: str, booster: Any, X: Array, n_outputs: int) -> Contestant:
    """Return a compiler as a contestant on all rows.

    Raises
    ------
    UnavailableError
        With the reason, where it cannot be imported or does not take the booster.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say of newer NumPy and onnx
            call, prepare = COMPILERS[name].build(library, booster, X)
    except Exception as error:
        raise UnavailableError(reason(error)) from error

    def scores(found: Any) -> NDArray[Any]:
        return np.asarray(found, np.float64).reshape(-1, n_outputs, 1)

    return Contestant(name, "compiler", len(X), call, prepare, min(_FEW, len(X)), scores)
