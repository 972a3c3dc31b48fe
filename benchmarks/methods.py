"""Methods as plain functions: each takes a problem and returns the fitted student, or None where it has none.

To add a method, write one function here, list it in `METHODS` and name it in a suite.
"""

import json
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import gbdt2nn
from benchmarks.paper_methods import PAPER_METHODS
from benchmarks.problem import Problem, fit
from benchmarks.rivals import NEEDS, RIVALS


def teacher(problem: Problem) -> None:
    """Return no student: the teacher alone, as the mark that the others are held against."""
    return None


def score_imitation(problem: Problem) -> Any:
    """Fit the self-explaining architecture to the teacher's score alone: plain distillation."""
    return fit(problem, student="self_explaining", explanation_weight=0.0)


def auxiliary_head(problem: Problem) -> Any:
    """Fit a network whose second head learns the teacher's attributions: explanation as an auxiliary task."""
    return fit(problem, student="mlp", student_params=None)


def self_explaining(problem: Problem) -> Any:
    """Fit the student whose score is the base value plus the sum of its attributions."""
    return fit(problem, student="self_explaining", student_params=None)


def interaction_tables(problem: Problem) -> Any:
    """Solve for tables over features, pairs and triples of them: no network."""
    return fit(problem, student="interaction_tables")


def labels_only(problem: Problem) -> Any:
    """Fit the self-explaining architecture to the labels, with neither score nor explanation of the teacher.

    No synthetic rows: they have no labels. The encoding still stands at the teacher's thresholds.
    """
    return fit(
        problem,
        student="self_explaining",
        imitation_weight=0.0,
        explanation_weight=0.0,
        label_weight=1.0,
        n_synthetic=0,
    )


def with_labels(weight: float | str) -> Callable[[Problem], Any]:
    """Return the method that teaches the self-explaining student labels too, with this weight."""

    def method(problem: Problem) -> Any:
        return fit(problem, student="self_explaining", label_weight=weight)

    said = "a weight of labels that stop rows choose" if isinstance(weight, str) else f"labels at weight {weight:g}"
    method.__doc__ = f"Fit the self-explaining student with {said}."
    return method


def trained_by(said: str, **own: Any) -> Callable[[Problem], Any]:
    """Return the method that trains the default student in one other way: ``own`` is that way."""

    def method(problem: Problem) -> Any:
        return fit(problem, student="self_explaining", **own)

    method.__doc__ = f"Fit the default student with {said}."
    return method


METHODS: dict[str, Callable[[Problem], Any]] = {
    "teacher": teacher,
    "score_imitation": score_imitation,
    "auxiliary_head": auxiliary_head,
    "self_explaining": self_explaining,
    "interaction_tables": interaction_tables,
    "labels_only": labels_only,
    "labels_weight_0.1": with_labels(0.1),
    "labels_weight_0.5": with_labels(0.5),
    "labels_weight_2": with_labels(2.0),
    "labels_weight_auto": with_labels("auto"),
    "trained_in_float32": trained_by("every product in float32", training_precision="float32"),
    "trained_by_adamw": trained_by("AdamW for every parameter", optimizer="adamw"),
    "trained_at_half_rate": trained_by("half the learning rate", learning_rate=2e-3),
    "trained_at_double_rate": trained_by("twice the learning rate", learning_rate=8e-3),
    "with_coarse_pairs": trained_by("64 bins in pairs", student_params={"pair_bins": 64}),
    "with_fine_triples": trained_by("28 bins in triples", student_params={"triple_bins": 28}),
    "with_wide_network": trained_by("512 hidden units a layer", student_params={"width": 512}),
    "without_triples": trained_by("no tables over triples", student_params={"n_triples": 0}),
    **PAPER_METHODS,
    **RIVALS,
}

_STUDENTS = (
    "self_explaining",
    "interaction_tables",
    "auxiliary_head",
    "score_imitation",
    "gbdt2nn_head_shap",
    "deepgbm",
)
# what `--methods` takes for several names at once; "all" leaves out variants, which have groups of their own
GROUPS: dict[str, tuple[str, ...]] = {
    "all": ("teacher", *_STUDENTS, "labels_only", *RIVALS),
    "students": _STUDENTS,
    "rivals": tuple(RIVALS),
    "label_weights": tuple(name for name in METHODS if name.startswith("labels_weight_")),
    "papers": tuple(PAPER_METHODS),
}


def needs(name: str) -> str | None:
    """Return the distribution that a method needs beside gbdt2nn; None where it needs none."""
    return NEEDS.get(name)


def warm_up() -> None:
    """Fit a tiny student of each kind, so that no method's seconds hold loading libraries and compiling kernels.

    Rows are enough for the kernels that blocks of rows are labelled by.
    """
    X = np.random.default_rng(0).normal(size=(200, 2))
    for name in ("self_explaining", "mlp", "leaf_embedding"):
        for attribution in ("tree_shap", "tree_path"):
            gbdt2nn.Gbdt2NNRegressor(
                teacher_params={"n_estimators": 2},
                student=name,
                attribution=attribution,
                max_steps=2,
                n_synthetic=10_000,
                n_jobs=1,
                random_state=0,
            ).fit(X, X[:, 0])


Part = tuple[Any, ...]  # rows, labels and, where there are any, weights


def fit_teacher(
    task: str,
    train: Part,
    stop: Part,
    *,
    params: Mapping[str, Any],
    patience: int,
    n_jobs: int,
    seed: int,
) -> tuple[Any, float]:
    """Fit the teacher of the protocol, stopped early on the stop rows.

    Parameters
    ----------
    task : {"regression", "binary", "multiclass", "poisson"}
    train, stop : tuple of rows, labels and, optionally, weights
    params : mapping
        Of a LightGBM estimator; with ``library="xgboost"`` of one of XGBoost.
    patience : int
    n_jobs : int
    seed : int

    Returns
    -------
    teacher : fitted estimator
    seconds : float
        Wall-clock seconds of its fit.
    """
    params = dict(params)
    library = params.pop("library", "lightgbm")
    fit = {"lightgbm": _fit_lightgbm, "xgboost": _fit_xgboost}[library]
    train, stop = ((*part, None)[:3] for part in (train, stop))
    start = time.perf_counter()
    model = fit(task, train, stop, params, patience, n_jobs, seed)
    return model, time.perf_counter() - start


def _fit_lightgbm(
    task: str, train: Part, stop: Part, params: dict[str, Any], patience: int, n_jobs: int, seed: int
) -> Any:
    import lightgbm

    estimator = lightgbm.LGBMRegressor if task in ("regression", "poisson") else lightgbm.LGBMClassifier
    if task == "poisson":
        params = {"objective": "poisson", **params}
    model = estimator(random_state=seed, n_jobs=n_jobs, deterministic=True, force_row_wise=True, verbosity=-1, **params)
    X, y, weight = train
    with warnings.catch_warnings():
        # LightGBM 4.7 wants `eval_X` and `eval_y` instead, but hands a classifier's labels on unencoded when given them.
        warnings.filterwarnings("ignore", message="The argument 'eval_set' is deprecated")
        model.fit(
            X,
            y,
            sample_weight=weight,
            eval_set=[stop[:2]],
            eval_sample_weight=None if stop[2] is None else [stop[2]],
            callbacks=[lightgbm.early_stopping(patience, verbose=False)],
        )
    return model


def _fit_xgboost(
    task: str, train: Part, stop: Part, params: dict[str, Any], patience: int, n_jobs: int, seed: int
) -> Any:
    import xgboost

    estimator = xgboost.XGBRegressor if task in ("regression", "poisson") else xgboost.XGBClassifier
    if task == "poisson":
        params = {"objective": "count:poisson", **params}
    model = estimator(
        random_state=seed, n_jobs=n_jobs, early_stopping_rounds=patience, enable_categorical=True, **params
    )
    weights = {} if stop[2] is None else {"sample_weight_eval_set": [stop[2]]}
    return model.fit(train[0], train[1], sample_weight=train[2], eval_set=[stop[:2]], verbose=False, **weights)


def describe_teacher(model: Any) -> dict[str, Any]:
    """Return the rounds, trees and depth that a fitted LightGBM or XGBoost estimator predicts with.

    Returns
    -------
    description : dict
        ``depth`` counts the splits on the longest path, over the trees that predict.
    """
    if type(model).__module__.startswith("xgboost"):
        rounds = model.best_iteration + 1
        trees = [json.loads(tree) for tree in model.get_booster()[:rounds].get_dump(dump_format="json")]
        leaves = [_leaves(tree) for tree in trees]
        return {
            "library": "xgboost",
            "n_rounds": int(rounds),
            "n_trees": len(trees),
            "depth": max(max(depths) for depths in leaves),
            "n_leaves_mean": float(np.mean([len(depths) for depths in leaves])),
        }
    rounds = model.best_iteration_ or model.booster_.current_iteration()
    trees = model.booster_.dump_model(num_iteration=rounds)["tree_info"]
    return {
        "library": "lightgbm",
        "n_rounds": int(rounds),
        "n_trees": len(trees),
        "depth": max(_depth(tree["tree_structure"]) for tree in trees),
        "n_leaves_mean": float(np.mean([tree["num_leaves"] for tree in trees])),
    }


def _leaves(tree: dict[str, Any]) -> list[int]:
    """Depth of each leaf of a tree that XGBoost dumped."""
    found, nodes = [], [(tree, 0)]
    while nodes:
        node, depth = nodes.pop()
        nodes += [(child, depth + 1) for child in node.get("children", ())]
        if "leaf" in node:
            found.append(depth)
    return found


def _depth(node: dict[str, Any]) -> int:
    deepest, nodes = 0, [(node, 0)]
    while nodes:
        node, depth = nodes.pop()
        deepest = max(deepest, depth)
        nodes += [(node[side], depth + 1) for side in ("left_child", "right_child") if side in node]
    return deepest
