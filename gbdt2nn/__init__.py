"""Distil gradient-boosted trees into neural networks that predict and explain like their teacher; explain the trees.

Every public name is loaded when it is first used, so that ``import gbdt2nn`` stays light.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> the room it lives in
_PUBLIC = {
    "Gbdt2NNRegressor": "gbdt2nn.estimators",
    "Gbdt2NNClassifier": "gbdt2nn.estimators",
    "fidelity": "gbdt2nn.scoring",
    "score_fidelity": "gbdt2nn.scoring",
    "attribution_fidelity": "gbdt2nn.scoring",
    "check_fidelity": "gbdt2nn.gate",
    "FidelityError": "gbdt2nn.gate",
    "load": "gbdt2nn.loading",
    "ArtefactError": "gbdt2nn.artefact",
    "distil": "gbdt2nn.distillation",
    "write_report": "gbdt2nn.reporting",
    "TreeExplainer": "gbdt2nn.explainer",
    "tree_shap": "gbdt2nn.explainer",
    "tree_path": "gbdt2nn.explainer",
    "compile": "gbdt2nn.compiled_teacher",
    "to_onnx": "gbdt2nn.onnx_export",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'gbdt2nn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
