"""LightGBM teachers: read the text of the model, call the library's own predictions.

The text (``model_to_string``) holds thresholds and leaf values with all their digits, and the values of inner nodes
with six (as does ``dump_model``). Six digits would not do where the starting score, which LightGBM adds to the trees of
the first round, is far from zero. Without regularisation an inner value is the mean of the leaves below, weighted by
second derivatives; so the digits that are not written are filled from that mean.
"""

import inspect
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gbdt2nn.teachers.description import TeacherDescription
from gbdt2nn.teachers.links import Link
from gbdt2nn.trees import MISSING_NAN, MISSING_NONE, MISSING_ZERO, ZERO_THRESHOLD, TreeEnsemble, mean_of_leaves

NAME = "lightgbm"

# Objective names of the library with their aliases (LightGBM documentation, "Parameters").
_OBJECTIVES = {
    "regression": ("regression_l2", "l2", "mean_squared_error", "mse", "l2_root", "root_mean_squared_error", "rmse"),
    "regression_l1": ("l1", "mean_absolute_error", "mae"),
    "huber": (),
    "fair": (),
    "poisson": (),
    "quantile": (),
    "mape": ("mean_absolute_percentage_error",),
    "gamma": (),
    "tweedie": (),
    "binary": (),
    "multiclass": ("softmax",),
    "multiclassova": ("multiclass_ova", "ova", "ovr"),
    "cross_entropy": ("xentropy",),
    "cross_entropy_lambda": ("xentlambda",),
    "lambdarank": (),
    "rank_xendcg": ("xendcg", "xe_ndcg", "xe_ndcg_mart", "xendcg_mart"),
}
_CANONICAL = {alias: name for name, aliases in _OBJECTIVES.items() for alias in (name, *aliases)}
_EXPONENTIAL = ("poisson", "gamma", "tweedie")
_RANKING = ("lambdarank", "rank_xendcg")
_CLASSIFIER = ("binary", "multiclass", "multiclassova", "cross_entropy")

# Other names the library knows for what `build` and the checks speak of (LightGBM documentation, "Parameters").
_ALIASES = {
    "n_estimators": (
        "num_iterations",
        "num_iteration",
        "n_iter",
        "num_tree",
        "num_trees",
        "num_round",
        "num_rounds",
        "nrounds",
        "num_boost_round",
        "max_iter",
    ),
    "learning_rate": ("shrinkage_rate", "eta"),
    "num_leaves": ("num_leaf", "max_leaves", "max_leaf", "max_leaf_nodes"),
    "verbosity": ("verbose",),
    "random_state": ("seed", "random_seed"),
    "n_jobs": ("num_threads", "num_thread", "nthread", "nthreads"),
    "objective": ("objective_type", "app", "application", "loss"),
    "linear_tree": ("linear_trees",),
    "early_stopping_round": ("early_stopping_rounds", "early_stopping", "n_iter_no_change"),
}


def owns(model: Any) -> bool:
    """Tell whether a model is LightGBM's, without importing the library.

    Parameters
    ----------
    model : object

    Returns
    -------
    owned : bool
    """
    return any(
        c.__module__.split(".")[0] == NAME and c.__name__ in ("Booster", "LGBMModel") for c in type(model).__mro__
    )


def is_booster(model: Any) -> bool:
    """Tell a bare Booster from a scikit-learn estimator.

    Parameters
    ----------
    model : LGBMModel or Booster

    Returns
    -------
    bare : bool
    """
    return any(c.__module__.split(".")[0] == NAME and c.__name__ == "Booster" for c in type(model).__mro__)


def is_fitted(model: Any) -> bool:
    """Tell whether a model can predict; a Booster always can.

    Parameters
    ----------
    model : LGBMModel or Booster

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
        Parameters that replace the defaults; LightGBM's other names of a parameter are understood.
    random_state : int
    n_jobs : int

    Returns
    -------
    estimator : LGBMRegressor or LGBMClassifier
        Not fitted.
    """
    import lightgbm

    _check_task(task)
    given = {_renamed(name): value for name, value in (params or {}).items()}
    defaults: dict[str, Any] = {
        "n_estimators": 1000,
        "learning_rate": 0.05,
        "num_leaves": 31,
        "verbosity": -1,
        "deterministic": True,
        "random_state": random_state,
        "n_jobs": n_jobs,
    }
    if not {"force_col_wise", "force_row_wise"} & set(given):
        defaults["force_col_wise"] = True  # `deterministic` holds only when the choice is not left to a timing
    estimator = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    return estimator(**(defaults | given))


def wants_stop_rows(estimator: Any) -> bool:
    """Tell whether the estimator's own parameters ask for early stopping.

    Parameters
    ----------
    estimator : LGBMModel

    Returns
    -------
    wanted : bool
    """
    rounds = _parameter(estimator.get_params(), "early_stopping_round")
    return rounds is not None and int(rounds) > 0


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
    estimator : LGBMModel
    X : ndarray or pandas.DataFrame of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,), optional
    stop : tuple (X, y, sample_weight or None), optional
        Rows that decide when to stop.
    patience : int, optional
        Rounds without progress on the stop rows before training ends. None leaves it to the estimator, which gets the
        stop rows only where its own parameters ask for early stopping.

    Returns
    -------
    estimator : LGBMModel
        The same, fitted.
    """
    import lightgbm

    own = wants_stop_rows(estimator)
    if stop is None:
        if own or patience is not None:
            raise ValueError("stop must be (X, y, sample_weight) for a teacher that stops early, got None.")
        return estimator.fit(X, y, sample_weight=sample_weight)
    if patience is None and not own:
        return estimator.fit(X, y, sample_weight=sample_weight)
    callbacks = [] if patience is None else [lightgbm.early_stopping(patience, verbose=False)]
    stop_X, stop_y, stop_weight = stop
    # LightGBM 4.7 prefers eval_X and eval_y, but its classifier encodes the labels of eval_set alone: text in eval_y
    # raises, and numbers that are not 0, 1, ... stop training at the wrong round without an error.
    old = "eval_set" in inspect.signature(estimator.fit).parameters
    rows: dict[str, Any] = {"eval_set": [(stop_X, stop_y)]} if old else {"eval_X": stop_X, "eval_y": stop_y}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The argument 'eval_set' is deprecated")
        return estimator.fit(
            X,
            y,
            sample_weight=sample_weight,
            **rows,
            eval_sample_weight=None if stop_weight is None else [stop_weight],
            callbacks=callbacks,
        )


def check_explainable(model: Any) -> None:
    """Refuse a teacher whose score cannot be split among its features, or whose link is unknown.

    Parameters
    ----------
    model : LGBMModel or Booster
        Fitted or not.

    Raises
    ------
    ValueError
        One sentence that names the reason and what to do.
    """
    if not is_booster(model):
        params = model.get_params()
        if _parameter(params, "linear_tree"):
            raise ValueError(_LINEAR)
        objective = _parameter(params, "objective")
        if callable(objective):
            raise ValueError(_CUSTOM.format("a function"))
        if objective is not None:
            _canonical(str(objective).split()[0], model)
        if not is_fitted(model):
            if any(c.__name__ == "LGBMRanker" for c in type(model).__mro__):
                raise ValueError(
                    "teacher must be a regressor or a classifier, got an LGBMRanker that is not fitted; fit it on its "
                    "groups first and pass it as FrozenEstimator(ranker)."
                )
            return
    header, first = _split(_booster(model).model_to_string(num_iteration=1))
    _objective(header, model)
    if any(block.get("is_linear", "0") == "1" for block in first):
        raise ValueError(_LINEAR)


def describe(model: Any) -> TeacherDescription:
    """Say what a fitted teacher is.

    Parameters
    ----------
    model : LGBMModel or Booster
        Fitted.

    Returns
    -------
    description : TeacherDescription
    """
    booster = _booster(model)
    text = booster.model_to_string(num_iteration=1)
    header, _ = _split(text)
    objective, link = _objective(header, model)
    n_outputs = booster.num_model_per_iteration()
    names = booster.feature_name()
    is_classifier = hasattr(model, "classes_")
    if objective in _RANKING:
        task = "ranking"
    elif is_classifier or objective in ("binary", "multiclass", "multiclassova"):
        task = "multiclass" if n_outputs > 1 else "binary"
    else:
        task = "regression"
    return TeacherDescription(
        library=NAME,
        task=task,
        objective=objective,
        link=link,
        n_outputs=n_outputs,
        n_features=booster.num_feature(),
        feature_names=None if names == [f"Column_{j}" for j in range(len(names))] else tuple(names),
        classes=np.asarray(model.classes_) if is_classifier else None,
        categories=_categories(booster, header, text),
        n_iterations=_n_iterations(booster),
    )


def parse(model: Any) -> TreeEnsemble:
    """Read the trees that ``predict`` uses.

    The average of a random forest is folded into its leaf values, so that the link of the raw score is what the forest
    predicts. The values of inner nodes agree with the six digits that the library writes of them.

    Parameters
    ----------
    model : LGBMModel or Booster
        Fitted.

    Returns
    -------
    ensemble : TreeEnsemble
    """
    check_explainable(model)
    booster = _booster(model)
    n_iterations = _n_iterations(booster)
    header, blocks = _split(booster.model_to_string(num_iteration=n_iterations))
    n_outputs = int(header["num_tree_per_iteration"])
    averaged = "average_output" in header
    if any(block.get("is_linear", "0") == "1" for block in blocks):
        raise ValueError(_LINEAR)

    n_leaves = np.array([int(block["num_leaves"]) for block in blocks], dtype=np.int64)
    n_splits = n_leaves - 1
    # Given order: tree after tree, its splits, then its leaves, each by the library's own number.
    offset = np.concatenate([[0], np.cumsum(n_splits + n_leaves)]).astype(np.int64)
    n_nodes = int(offset[-1])
    split_tree, split_number = _within(n_splits)
    leaf_tree, leaf_number = _within(n_leaves)
    splits = offset[split_tree] + split_number
    leaves = offset[leaf_tree] + n_splits[leaf_tree] + leaf_number

    def at_splits(key: str, dtype: Any) -> NDArray[Any]:
        return _numbers([block[key] for block in blocks], dtype, len(splits), key)

    def at_leaves(key: str) -> NDArray[np.float64]:
        # A tree of one leaf may leave its line empty.
        return _numbers([block.get(key) or "0" for block in blocks], np.float64, len(leaves), key)

    def child(key: str) -> NDArray[np.int64]:
        number = at_splits(key, np.int64)
        to_leaf = offset[split_tree] + n_splits[split_tree] + ~number  # a leaf is written as ~number
        return _at(n_nodes, splits, np.where(number < 0, to_leaf, offset[split_tree] + number), -1)

    decision = at_splits("decision_type", np.int64)
    is_categorical = (decision & 1).astype(bool)
    # Categorical splits send missing values with everything they do not name.
    missing = np.where(is_categorical, MISSING_NONE, (decision >> 2) & 3)
    assert set(np.unique(missing)) <= {MISSING_NONE, MISSING_ZERO, MISSING_NAN}, "unknown missing type"
    written = at_splits("threshold", np.float64)
    threshold = _as_read(written, missing)

    left, right = child("left_child"), child("right_child")
    value = np.zeros(n_nodes)
    value[leaves] = _numbers([block["leaf_value"] for block in blocks], np.float64, len(leaves), "leaf_value")
    weight = np.zeros(n_nodes)
    weight[leaves] = at_leaves("leaf_weight")
    mean = mean_of_leaves(value, weight, left, right, offset[:-1])[splits]
    value[splits] = _nearest_written(at_splits("internal_value", np.float64), mean)
    if averaged:
        value /= max(1, n_iterations)
    cover = _at(n_nodes, splits, at_splits("internal_count", np.float64), 0.0)
    cover[leaves] = at_leaves("leaf_count")
    library_index = _at(n_nodes, splits, split_number, 0)
    library_index[leaves] = leaf_number
    set_of_split = np.where(is_categorical, written, 0).astype(np.int64)
    start, named = _category_sets(blocks, n_nodes, splits, split_tree, is_categorical, set_of_split)
    return TreeEnsemble.from_nodes(
        n_features=booster.num_feature(),
        n_outputs=n_outputs,
        base_score=0.0,
        roots=offset[:-1],
        tree_output=(np.arange(len(blocks)) % n_outputs).astype(np.int32),
        feature=_at(n_nodes, splits, at_splits("split_feature", np.int32), -1),
        threshold=_at(n_nodes, splits, threshold, 0.0),
        left=left,
        right=right,
        missing=_at(n_nodes, splits, missing.astype(np.uint8), MISSING_NONE),
        default_left=_at(n_nodes, splits, ((decision & 2) > 0) & ~is_categorical, False),
        value=value,
        cover=cover,
        gain=_at(n_nodes, splits, at_splits("split_gain", np.float64), 0.0),
        is_categorical=_at(n_nodes, splits, is_categorical, False),
        category_start=start,
        category_values=named,
        categories_go_left=True,
        float32_input=False,
        library_index=library_index,
    )


def raw_score(model: Any, x: ArrayLike, *, n_jobs: int | None = None) -> NDArray[np.float64]:
    """Compute the library's own raw score.

    A random forest's raw score is the average over its rounds (LightGBM's own ``raw_score=True`` gives the sum, of
    which its link would not be the prediction).

    Parameters
    ----------
    model : LGBMModel or Booster
        Fitted.
    x : array-like of shape (n_samples, n_features)
        Numbers and category codes, NaN where missing.
    n_jobs : int, optional

    Returns
    -------
    score : ndarray of shape (n_samples, n_outputs)
    """
    booster = _booster(model)
    rows = _check_rows(x, booster.num_feature())
    n_outputs = booster.num_model_per_iteration()
    if not len(rows):
        return np.zeros((0, n_outputs))
    n_iterations = _n_iterations(booster)
    score = booster.predict(rows, raw_score=True, num_iteration=n_iterations, **_threads(n_jobs))
    return np.asarray(score, dtype=np.float64).reshape(len(rows), n_outputs) / _divisor(booster, n_iterations)


def native_attributions(
    model: Any, x: ArrayLike, *, n_jobs: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the library's own exact attributions (path-dependent TreeSHAP of the raw score).

    Parameters
    ----------
    model : LGBMModel or Booster
        Fitted.
    x : array-like of shape (n_samples, n_features)
        Numbers and category codes, NaN where missing.
    n_jobs : int, optional

    Returns
    -------
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
    base_value : ndarray of shape (n_outputs,)
        Mean raw score by the covers of the trees. Base value + sum of attributions = raw score.
    """
    booster = _booster(model)
    n_features, n_outputs = booster.num_feature(), booster.num_model_per_iteration()
    rows = _check_rows(x, n_features)
    n_iterations = _n_iterations(booster)
    asked = rows if len(rows) else np.zeros((1, n_features))  # the base value comes with a row
    answer = booster.predict(asked, pred_contrib=True, num_iteration=n_iterations, **_threads(n_jobs))
    answer = np.asarray(answer, dtype=np.float64).reshape(len(asked), n_outputs, n_features + 1)
    answer = answer / _divisor(booster, n_iterations)
    return np.ascontiguousarray(answer[: len(rows), :, :-1]), answer[0, :, -1].copy()


_LINEAR = (
    "linear_tree must be False for a teacher that is explained, got True: its leaves are linear models, which have no "
    "tree attributions; fit it with linear_tree=False."
)
_CUSTOM = (
    "objective must be one of LightGBM's own for a teacher, got {}: the link from raw score to prediction is unknown; "
    "fit the teacher with a built-in objective."
)


def _check_task(task: str) -> None:
    if task not in ("regression", "binary", "multiclass"):
        raise ValueError(f"task must be 'regression', 'binary' or 'multiclass', got {task!r}.")


def _renamed(name: str) -> str:
    return next((own for own, aliases in _ALIASES.items() if name in aliases and own != "early_stopping_round"), name)


def _parameter(params: dict[str, Any], name: str) -> Any:
    for alias in (*_ALIASES[name], name):
        if params.get(alias) is not None:
            return params[alias]
    return None


def _canonical(name: str, model: Any) -> str:
    if name not in _CANONICAL:
        raise ValueError(_CUSTOM.format(repr(name)))
    objective = _CANONICAL[name]
    if any(c.__name__ == "LGBMClassifier" for c in type(model).__mro__) and objective not in _CLASSIFIER:
        raise ValueError(
            f"objective must be one of {', '.join(_CLASSIFIER)} for a LightGBM classifier, got {name!r}: it predicts "
            "no probabilities; use one of these or a regressor."
        )
    return objective


def _booster(model: Any) -> Any:
    return model if is_booster(model) else model.booster_


def _n_iterations(booster: Any) -> int:
    # What Booster.predict uses by default; the estimators call it.
    return int(booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration())


def _divisor(booster: Any, n_iterations: int) -> float:
    header, _ = _split(booster.model_to_string(num_iteration=1))
    return float(max(1, n_iterations)) if "average_output" in header else 1.0


def _threads(n_jobs: int | None) -> dict[str, int]:
    return {} if n_jobs is None else {"num_threads": max(0, n_jobs)}


def _check_rows(x: ArrayLike, n_features: int) -> NDArray[np.float64]:
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != n_features:
        raise ValueError(f"x must have shape (n_samples, {n_features}), got {rows.shape}.")
    return rows


def _split(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Cut the text of a model into its header and one mapping per tree."""
    trees = text.split("\nend of trees", 1)[0].split("\nTree=")
    return _lines(trees[0]), [_lines(tree) for tree in trees[1:]]


def _lines(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key: value for key, _, value in pairs}


def _objective(header: dict[str, str], model: Any) -> tuple[str, Link]:
    words = header.get("objective", "").split()
    if not words:
        raise ValueError(_CUSTOM.format("a custom one"))
    name = _canonical(words[0], model)
    options = dict(word.split(":", 1) for word in words[1:] if ":" in word)
    slope = float(options.get("sigmoid", 1.0))
    if name == "binary":
        return name, Link("logistic", slope)
    if name == "multiclass":
        return name, Link("softmax")
    if name == "multiclassova":
        return name, Link("one_vs_all", slope)
    if name == "cross_entropy":
        return name, Link("logistic")
    if name == "cross_entropy_lambda":
        return name, Link("softplus")
    if name in _EXPONENTIAL:
        return name, Link("exponential")
    return name, Link("signed_square" if "sqrt" in words[1:] else "identity")


def _categories(booster: Any, header: dict[str, str], text: str) -> tuple[NDArray[Any] | None, ...] | None:
    """Find the column of each list of categories that the library keeps.

    The lists stand in the order of the frame's category columns, but the model does not name those columns. Unordered
    ones are categorical features of the model, as are columns of whole numbers that the caller declared; ordered ones
    are numeric features with codes as values.
    """
    lists = booster.pandas_categorical
    if not lists:
        return None
    infos = header["feature_infos"].split(" ")
    line = next((line for line in text.split("\n") if line.startswith("[categorical_feature: ")), "")
    written = line.removeprefix("[categorical_feature: ").removesuffix("]")
    declared = {int(j) for j in written.split(",") if j.strip().isdigit()}
    declared |= {j for j, info in enumerate(infos) if not info.startswith("[") and info != "none"}
    columns = [j for j in range(len(infos)) if j in declared or len(lists) > len(declared)]
    # Walk the columns from the last to the first: ways[i] are the (at most two) ways to place lists i, i + 1, ...
    ways: list[list[tuple[int, ...]]] = [[] for _ in lists] + [[()]]
    for j in reversed(columns):
        for i in range(len(ways)):
            taken = ways[i + 1] if i < len(lists) and _may_be_codes(infos[j], len(lists[i])) else []
            # Where there are more lists than categorical features, each of these has a list.
            passed = ways[i] if j not in declared or len(lists) < len(declared) else []
            ways[i] = ([(j, *way) for way in taken] + passed)[:2]
    if len(ways[0]) != 1:
        raise ValueError(
            f"teacher must tell which of its columns are categories, got a LightGBM model with {len(lists)} lists of "
            f"categories and {len(declared)} categorical features, which do not fit in exactly one way; fit it on a "
            "frame whose category columns are all unordered, and leave categorical_feature at 'auto'."
        )
    result: list[NDArray[Any] | None] = [None] * len(infos)
    for names, j in zip(lists, ways[0][0], strict=True):
        kinds = {type(name) for name in names}
        is_number = kinds <= {bool} or kinds <= {int, float}
        result[j] = np.asarray(names) if is_number else np.array(names, dtype=object)
    return tuple(result)


def _may_be_codes(info: str, n_categories: int) -> bool:
    """Tell whether a column with this range or these values may hold the codes of so many categories."""
    if info == "none":
        return True
    values = [float(word) for word in info.strip("[]").split(":")]
    is_category = not info.startswith("[")  # its values include -1 for missing and rare ones
    return all(value.is_integer() and (is_category or value >= 0) and value < n_categories for value in values)


def _as_read(threshold: NDArray[np.float64], missing: NDArray[np.int64]) -> NDArray[np.float64]:
    """Say a threshold in terms of the number as it stands.

    LightGBM reads every value within ZERO_THRESHOLD of zero as 0.0. The comparison of 0.0 with a threshold in that band
    is the comparison of the value itself with the band's upper end, or with the number below its lower end. Where the
    band is missing, both say the same, and one of them is enough.
    """
    below = float(np.nextafter(-ZERO_THRESHOLD, -np.inf))
    in_band = np.abs(threshold) <= ZERO_THRESHOLD
    return np.where(in_band, np.where((threshold >= 0.0) & (missing != MISSING_ZERO), ZERO_THRESHOLD, below), threshold)


def _nearest_written(written: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find the value nearest to the mean of the leaves that LightGBM would write as this number of six digits."""
    with np.errstate(divide="ignore"):
        half = np.where(written == 0.0, 0.0, 0.5 * 10.0 ** (np.floor(np.log10(np.abs(written))) - 5.0))
    return np.clip(mean, written - half, written + half)


def _within(length: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the row and the place in it of each entry of a ragged array."""
    row = np.repeat(np.arange(len(length)), length)
    start = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    return row, np.arange(start[-1]) - start[row]


def _numbers(texts: list[str], dtype: Any, expected: int, key: str) -> NDArray[Any]:
    words = " ".join(texts).split()
    numbers = np.fromiter(map(int if np.issubdtype(dtype, np.integer) else float, words), dtype=dtype, count=len(words))
    assert len(numbers) == expected, f"the model's text has {len(numbers)} numbers of {key}, expected {expected}"
    return numbers


def _at(n_nodes: int, places: NDArray[np.int64], values: NDArray[Any], fill: Any) -> NDArray[Any]:
    whole: NDArray[Any] = np.full(n_nodes, fill, dtype=values.dtype)
    whole[places] = values
    return whole


def _category_sets(
    blocks: list[dict[str, str]],
    n_nodes: int,
    splits: NDArray[np.int64],
    split_tree: NDArray[np.int64],
    is_categorical: NDArray[np.bool_],
    set_of_split: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Decode the bit sets of categorical splits, in the order of nodes."""
    start = np.zeros(n_nodes + 1, dtype=np.int64)
    if not is_categorical.any():
        return start, np.zeros(0, dtype=np.int32)
    n_sets = np.array([int(block.get("num_cat", "0")) for block in blocks], dtype=np.int64)
    with_sets = [block for block, n in zip(blocks, n_sets, strict=True) if n]
    bounds = _numbers(
        [block["cat_boundaries"] for block in with_sets], np.int64, int((n_sets + (n_sets > 0)).sum()), "cat_boundaries"
    )
    n_words = np.diff(bounds)
    n_words = n_words[np.delete(np.arange(len(n_words)), np.cumsum(n_sets[n_sets > 0] + 1)[:-1] - 1)]  # one per set
    words = np.fromiter(map(int, " ".join(block["cat_threshold"] for block in with_sets).split()), dtype=np.uint32)
    assert n_words.sum() == len(words), "the bit sets of the model's text do not add up"
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").reshape(-1, 32)
    word, bit = np.nonzero(bits)
    set_of_word, place = _within(n_words)
    named = (32 * place[word] + bit).astype(np.int32)  # set after set, ascending
    set_start = np.concatenate([[0], np.cumsum(np.bincount(set_of_word[word], minlength=len(n_words)))]).astype(
        np.int64
    )
    first_set = np.concatenate([[0], np.cumsum(n_sets)])
    nodes = splits[is_categorical]
    sets = (first_set[split_tree] + set_of_split)[is_categorical]
    length = np.zeros(n_nodes, dtype=np.int64)
    length[nodes] = np.diff(set_start)[sets]
    start[1:] = np.cumsum(length)
    entries = [named[set_start[s] : set_start[s + 1]] for s in sets]  # nodes ascend with the splits
    return start, np.concatenate(entries).astype(np.int32)
