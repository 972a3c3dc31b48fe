"""XGBoost teachers: read the JSON of the model, call the library's own predictions.

XGBoost reads its input and adds its leaves in single precision. Its inner nodes keep the weight before the learning
rate, which is on another scale than the leaves; as the library does for its own approximate attributions, the value of
an inner node is the mean of its leaves, weighted by their sums of second derivatives.
"""

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gbdt2nn.teachers.description import TeacherDescription
from gbdt2nn.teachers.links import Link
from gbdt2nn.trees import MISSING_NAN, TreeEnsemble, mean_of_leaves

NAME = "xgboost"

_LINKS = {
    "reg:squarederror": "identity",
    "reg:linear": "identity",
    "reg:squaredlogerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:absoluteerror": "identity",
    "reg:quantileerror": "identity",
    "reg:logistic": "logistic",
    "reg:gamma": "exponential",
    "reg:tweedie": "exponential",
    "count:poisson": "exponential",
    "survival:cox": "exponential",
    "survival:aft": "exponential",
    "binary:logistic": "logistic",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "rank:pairwise": "identity",
    "rank:ndcg": "identity",
    "rank:map": "identity",
}
_CLASSIFIER = ("binary:logistic", "multi:softprob", "multi:softmax")
_USE_LOGISTIC = ("binary:hinge", "binary:logitraw")


def owns(model: Any) -> bool:
    """Tell whether a model is XGBoost's, without importing the library.

    Parameters
    ----------
    model : object

    Returns
    -------
    owned : bool
    """
    return _descends(model, "Booster") or _descends(model, "XGBModel")


def is_booster(model: Any) -> bool:
    """Tell a bare Booster from a scikit-learn estimator.

    Parameters
    ----------
    model : XGBModel or Booster

    Returns
    -------
    bare : bool
    """
    return _descends(model, "Booster")


def is_fitted(model: Any) -> bool:
    """Tell whether a model can predict; a Booster always can.

    Parameters
    ----------
    model : XGBModel or Booster

    Returns
    -------
    fitted : bool
    """
    return is_booster(model) or bool(model.__sklearn_is_fitted__())


def build(task: str, *, params: dict[str, Any] | None = None, random_state: int = 0, n_jobs: int = 1) -> Any:
    """Make the default estimator of a task.

    Parameters
    ----------
    task : {"regression", "binary", "multiclass"}
    params : dict, optional
        Parameters that replace the defaults.
    random_state : int
    n_jobs : int

    Returns
    -------
    estimator : XGBRegressor or XGBClassifier
        Not fitted.
    """
    import xgboost

    if task not in ("regression", "binary", "multiclass"):
        raise ValueError(f"task must be 'regression', 'binary' or 'multiclass', got {task!r}.")
    defaults: dict[str, Any] = {
        "n_estimators": 1000,
        "learning_rate": 0.05,
        "max_depth": 6,
        "tree_method": "hist",
        "enable_categorical": True,
        "verbosity": 0,
        "random_state": random_state,
        "n_jobs": n_jobs,
    }
    aliases = {"eta": "learning_rate", "seed": "random_state", "nthread": "n_jobs", "num_boost_round": "n_estimators"}
    given = {aliases.get(name, name): value for name, value in (params or {}).items()}
    estimator = xgboost.XGBRegressor if task == "regression" else xgboost.XGBClassifier
    return estimator(**(defaults | given))


def wants_stop_rows(estimator: Any) -> bool:
    """Tell whether the estimator's own parameters ask for early stopping.

    Parameters
    ----------
    estimator : XGBModel

    Returns
    -------
    wanted : bool
    """
    callbacks = estimator.callbacks or []
    return bool(estimator.early_stopping_rounds) or any(type(c).__name__ == "EarlyStopping" for c in callbacks)


def fit(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: ArrayLike | None = None,
    stop: tuple[Any, Any, ArrayLike | None] | None = None,
    patience: int | None = None,
) -> Any:
    """Fit an estimator in place.

    Parameters
    ----------
    estimator : XGBModel
    X : ndarray or pandas.DataFrame of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,), optional
    stop : tuple (X, y, sample_weight or None), optional
        Rows that decide when to stop.
    patience : int, optional
        Rounds without progress on the stop rows before training ends; it becomes the estimator's
        ``early_stopping_rounds``. None leaves it to the estimator, which gets the stop rows only where its own
        parameters ask for early stopping.

    Returns
    -------
    estimator : XGBModel
        The same, fitted.
    """
    own = wants_stop_rows(estimator)
    if stop is None:
        if own or patience is not None:
            raise ValueError("stop must be (X, y, sample_weight) for a teacher that stops early, got None.")
        return estimator.fit(X, y, sample_weight=sample_weight, verbose=False)
    if patience is None and not own:
        return estimator.fit(X, y, sample_weight=sample_weight, verbose=False)
    if patience is not None:
        estimator.set_params(early_stopping_rounds=patience)
    stop_X, stop_y, stop_weight = stop
    return estimator.fit(
        X,
        y,
        sample_weight=sample_weight,
        eval_set=[(stop_X, stop_y)],
        sample_weight_eval_set=None if stop_weight is None else [stop_weight],
        verbose=False,
    )


def check_explainable(model: Any) -> None:
    """Refuse a teacher whose score cannot be split among its features, or whose link is unknown.

    Parameters
    ----------
    model : XGBModel or Booster
        Fitted or not. A bare Booster trained with an objective of the caller's own cannot be told from others: the
        library stores its default objective, and predicts by it.

    Raises
    ------
    ValueError
        One sentence that names the reason and what to do.
    """
    if not is_booster(model):
        params = model.get_params()
        if params.get("booster") == "gblinear":
            raise ValueError(_LINEAR)
        if params.get("multi_strategy") == "multi_output_tree":
            raise ValueError(_VECTOR)
        objective = params.get("objective")
        if callable(objective):
            raise ValueError(_CUSTOM.format("a function"))
        if objective is not None:
            _check_objective(objective, model)
        if not is_fitted(model):
            if _descends(model, "XGBRanker"):
                raise ValueError(
                    "teacher must be a regressor or a classifier, got an XGBRanker that is not fitted; fit it on its "
                    "groups first and pass it as FrozenEstimator(ranker)."
                )
            return
    learner = _learner(model)
    for j in _cut_short(learner):
        names = _booster(model).feature_names
        raise ValueError(
            "categories of a fitted XGBoost teacher must have ASCII names, got others in column "
            f"{names[j] if names else j!r}: XGBoost stores such names cut short, so that codes cannot be told apart; "
            "rename the categories and fit the teacher again."
        )


def describe(model: Any) -> TeacherDescription:
    """Say what a fitted teacher is.

    Parameters
    ----------
    model : XGBModel or Booster
        Fitted.

    Returns
    -------
    description : TeacherDescription
    """
    learner = _learner(model)
    booster = _booster(model)
    objective = learner["objective"]["name"]
    n_outputs = _n_outputs(learner)
    names = booster.feature_names
    is_classifier = _descends(model, "XGBClassifier")
    if objective.startswith("rank:"):
        task = "ranking"
    elif is_classifier or objective in _CLASSIFIER:
        task = "multiclass" if n_outputs > 1 else "binary"
    else:
        task = "regression"
    return TeacherDescription(
        library=NAME,
        task=task,
        objective=objective,
        link=Link(_LINKS[objective]),
        n_outputs=n_outputs,
        n_features=booster.num_features(),
        feature_names=None if names is None else tuple(names),
        classes=np.asarray(model.classes_) if is_classifier else None,
        categories=_categories(learner, booster.num_features()),
        n_iterations=_n_iterations(model),
        missing=float(np.nan) if is_booster(model) or model.missing is None else float(model.missing),
    )


def parse(model: Any) -> TreeEnsemble:
    """Read the trees that ``predict`` uses.

    Parameters
    ----------
    model : XGBModel or Booster
        Fitted.

    Returns
    -------
    ensemble : TreeEnsemble
    """
    learner = _learner(model)
    booster = learner["gradient_booster"]
    n_outputs = _n_outputs(learner)
    forest = _forest(booster)
    indptr = forest["iteration_indptr"]
    n_trees = indptr[min(_n_iterations(model), len(indptr) - 1)]
    trees = forest["trees"][:n_trees]
    dropout = booster.get("weight_drop", [1.0] * n_trees)[:n_trees]

    length = np.array([len(tree["left_children"]) for tree in trees], dtype=np.int64)
    offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    n_nodes = int(offset[-1])
    owner = np.repeat(np.arange(n_trees), length)

    def column(key: str, dtype: Any) -> NDArray[Any]:
        return _flat((tree[key] for tree in trees), dtype, n_nodes)

    left, right = column("left_children", np.int64), column("right_children", np.int64)
    left, right = (np.where(child < 0, -1, child + offset[owner]) for child in (left, right))
    is_leaf = left < 0
    condition = column("split_conditions", np.float32)  # the leaf's value at leaves
    is_categorical = (column("split_type", np.uint8) == 1) & ~is_leaf
    cover = column("sum_hessian", np.float64)
    weight = np.asarray(dropout, dtype=np.float64)[owner]
    leaf_value = np.where(is_leaf, condition.astype(np.float64) * weight, 0.0)
    value = mean_of_leaves(leaf_value, cover, left, right, offset[:-1])
    start, named = _category_sets(trees, offset)
    return TreeEnsemble.from_nodes(
        n_features=int(learner["learner_model_param"]["num_feature"]),
        n_outputs=n_outputs,
        base_score=_base_score(learner, n_outputs),
        roots=offset[:-1],
        tree_output=np.asarray(forest["tree_info"][:n_trees], dtype=np.int32),
        feature=column("split_indices", np.int32),
        # x < t in single precision is x <= the single-precision number below t.
        threshold=np.nextafter(condition, np.float32(-np.inf)).astype(np.float64),
        left=left,
        right=right,
        missing=np.full(n_nodes, MISSING_NAN, dtype=np.uint8),
        default_left=column("default_left", np.uint8).astype(bool),
        value=value,
        cover=cover,
        gain=column("loss_changes", np.float64),
        is_categorical=is_categorical,
        category_start=start,
        category_values=named,
        categories_go_left=False,
        float32_input=True,
        library_index=np.arange(n_nodes) - offset[owner],
    )


def raw_score(model: Any, x: ArrayLike, *, n_jobs: int | None = None) -> NDArray[np.float64]:
    """Compute the library's own raw score (margin), which has single precision.

    Parameters
    ----------
    model : XGBModel or Booster
        Fitted.
    x : array-like of shape (n_samples, n_features)
        Numbers and category codes; only NaN is missing, whatever the estimator's own ``missing``.
    n_jobs : int, optional

    Returns
    -------
    score : ndarray of shape (n_samples, n_outputs)
    """
    booster = _booster(model)
    rows = _check_rows(x, booster.num_features())
    n_outputs = _n_outputs_of(booster)
    if not len(rows):
        return np.zeros((0, n_outputs))
    with _threads(n_jobs):
        score = booster.inplace_predict(
            rows,
            iteration_range=(0, _n_iterations(model)),
            predict_type="margin",
            missing=np.nan,
            validate_features=False,
        )
    return np.asarray(score, dtype=np.float64).reshape(len(rows), n_outputs)


def native_attributions(
    model: Any, x: ArrayLike, *, n_jobs: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the library's own exact attributions (path-dependent TreeSHAP of the raw score) in single precision.

    Parameters
    ----------
    model : XGBModel or Booster
        Fitted.
    x : array-like of shape (n_samples, n_features)
        Numbers and category codes; only NaN is missing.
    n_jobs : int, optional

    Returns
    -------
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
    base_value : ndarray of shape (n_outputs,)
        Mean raw score by the covers of the trees. Base value + sum of attributions = raw score.
    """
    import xgboost

    booster = _booster(model)
    n_features = booster.num_features()
    rows = _check_rows(x, n_features)
    asked = rows if len(rows) else np.zeros((1, n_features))  # the base value comes with a row
    with _threads(n_jobs):
        table = xgboost.DMatrix(
            asked,
            missing=np.nan,
            feature_names=booster.feature_names,
            feature_types=booster.feature_types,
            nthread=None if n_jobs is None else max(0, n_jobs),
        )
        answer = booster.predict(
            table, pred_contribs=True, strict_shape=True, iteration_range=(0, _n_iterations(model))
        ).astype(np.float64)  # (n_samples, n_outputs, n_features + 1)
    return np.ascontiguousarray(answer[: len(rows), :, :-1]), answer[0, :, -1].copy()


_LINEAR = (
    "booster must be 'gbtree' or 'dart' for a teacher, got 'gblinear': it has no trees; fit the teacher with "
    "booster='gbtree'."
)
_VECTOR = (
    "multi_strategy must be 'one_output_per_tree' for a teacher that is explained, got 'multi_output_tree', whose "
    "trees have no attributions in XGBoost; fit it with multi_strategy='one_output_per_tree'."
)
_CUSTOM = (
    "objective must be one of XGBoost's own for a teacher, got {}: the link from raw score to prediction is unknown; "
    "fit the teacher with a built-in objective."
)


def _descends(model: Any, name: str) -> bool:
    return any(c.__module__.split(".")[0] == NAME and c.__name__ == name for c in type(model).__mro__)


def _check_objective(objective: str, model: Any) -> None:
    if objective in _USE_LOGISTIC:
        raise ValueError(
            f"objective must have a link to a probability, got {objective!r}; fit the teacher with objective="
            "'binary:logistic'."
        )
    if objective not in _LINKS:
        raise ValueError(_CUSTOM.format(repr(objective)))
    # The classifier replaces a binary objective by a multiclass one where there are several classes.
    if _descends(model, "XGBClassifier") and objective not in (*_CLASSIFIER, "reg:logistic"):
        raise ValueError(
            f"objective must be one of {', '.join(_CLASSIFIER)} for an XGBoost classifier, got {objective!r}: it "
            "predicts no probabilities; use one of these or a regressor."
        )


def _booster(model: Any) -> Any:
    return model if is_booster(model) else model.get_booster()


def _learner(model: Any) -> dict[str, Any]:
    """Read the model's JSON, and refuse what cannot be explained."""
    learner = json.loads(_booster(model).save_raw("json"))["learner"]
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        raise ValueError(_LINEAR)
    if any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in _forest(booster)["trees"]):
        raise ValueError(_VECTOR)
    _check_objective(learner["objective"]["name"], model)
    return learner


def _forest(booster: dict[str, Any]) -> dict[str, Any]:
    return booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]


def _n_outputs(learner: dict[str, Any]) -> int:
    sizes = learner["learner_model_param"]
    return max(1, int(sizes["num_class"]), int(sizes["num_target"]))


def _n_outputs_of(booster: Any) -> int:
    return _n_outputs({"learner_model_param": json.loads(booster.save_config())["learner"]["learner_model_param"]})


def _n_iterations(model: Any) -> int:
    total = int(_booster(model).num_boosted_rounds())
    if is_booster(model):
        return total
    try:
        return min(total, int(model.best_iteration) + 1)
    except AttributeError:  # XGBoost has no best iteration without early stopping
        return total


def _base_score(learner: dict[str, Any], n_outputs: int) -> NDArray[np.float64]:
    """Bring the stored base score, which is a response, to the scale of raw scores."""
    text = learner["learner_model_param"]["base_score"].strip("[]")
    stored = np.array([float(word) for word in text.split(",")]).astype(np.float32).astype(np.float64)
    link = _LINKS[learner["objective"]["name"]]
    if link == "logistic":
        stored = np.log(stored) - np.log1p(-stored)
    elif link == "exponential":
        stored = np.log(stored)
    return np.broadcast_to(stored, (n_outputs,))


def _categories(learner: dict[str, Any], n_features: int) -> tuple[NDArray[Any] | None, ...] | None:
    lists = _forest(learner["gradient_booster"]).get("cats", {}).get("enc", [])
    cut_short = _cut_short(learner)
    result: list[NDArray[Any] | None] = [None] * n_features
    for j, stored in enumerate(lists):
        if "offsets" not in stored:
            result[j] = np.asarray(stored["values"]) if stored["values"] else None
        elif len(stored["offsets"]) > 1 and j not in cut_short:
            text = bytes(stored["values"]).decode("ascii")
            result[j] = np.array([text[a:b] for a, b in pairwise(stored["offsets"])], dtype=object)
    return None if all(names is None for names in result) else tuple(result)


def _cut_short(learner: dict[str, Any]) -> list[int]:
    """Find the columns whose category names XGBoost has cut: it counts characters where it stores bytes (3.2.0)."""
    lists = _forest(learner["gradient_booster"]).get("cats", {}).get("enc", [])
    return [
        j for j, stored in enumerate(lists) if "offsets" in stored and any(not 0 <= b < 128 for b in stored["values"])
    ]


def _threads(n_jobs: int | None) -> AbstractContextManager[Any]:
    import xgboost

    # Without the setting (older releases), a Booster uses the threads it was trained with.
    if n_jobs is None or "nthread" not in xgboost.get_config():
        return xgboost.config_context(verbosity=0)
    return xgboost.config_context(verbosity=0, nthread=max(0, n_jobs))


def _check_rows(x: ArrayLike, n_features: int) -> NDArray[np.float64]:
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != n_features:
        raise ValueError(f"x must have shape (n_samples, {n_features}), got {rows.shape}.")
    return rows


def _flat(lists: Iterable[list[Any]], dtype: Any, count: int) -> NDArray[Any]:
    return np.fromiter(chain.from_iterable(lists), dtype=dtype, count=count)


def _category_sets(
    trees: list[dict[str, Any]], offset: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Collect the categories of categorical splits, in the order of nodes."""
    length = np.zeros(int(offset[-1]), dtype=np.int64)
    named: list[int] = []
    for first, tree in zip(offset[:-1], trees, strict=True):
        sets = sorted(zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True))
        for node, begin, size in sets:
            length[first + node] = size
            named += tree["categories"][begin : begin + size]
    return np.concatenate([[0], np.cumsum(length)]).astype(np.int64), np.array(named, dtype=np.int32)
