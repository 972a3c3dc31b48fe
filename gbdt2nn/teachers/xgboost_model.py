"""What XGBoost stores of a model (``save_raw("ubj")``): its learner, its trees, the categories of its columns.

Inner nodes keep the weight before the learning rate, which is on another scale than the leaves; as the library does for
its own approximate attributions, the value of an inner node is the mean of its leaves, weighted by their sums of second
derivatives.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.teachers.ubjson import decode
from gbdt2nn.trees import MISSING_NAN, TreeEnsemble, mean_of_leaves

Learner = dict[str, Any]


def read_learner(stored: bytes | bytearray) -> Learner:
    """Decode a stored model.

    Parameters
    ----------
    stored : bytes

    Returns
    -------
    learner : dict
        Long lists of numbers are arrays.
    """
    learner: Learner = decode(bytes(stored))["learner"]
    return learner


def has_vector_leaves(learner: Learner) -> bool:
    """Tell whether leaves hold several outputs each."""
    return any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in _forest(learner)["trees"])


def count_outputs(learner: Learner) -> int:
    """Count the outputs of a model."""
    sizes = learner["learner_model_param"]
    return max(1, int(sizes["num_class"]), int(sizes["num_target"]))


def read_base_score(learner: Learner) -> NDArray[np.float64]:
    """Read the base score as it is stored: a response, not a raw score.

    Returns
    -------
    response : ndarray of shape (1,) or (n_outputs,)
    """
    text = learner["learner_model_param"]["base_score"].strip("[]")
    return np.array([float(word) for word in text.split(",")]).astype(np.float32).astype(np.float64)


def read_trees(learner: Learner, n_iterations: int, base_score: NDArray[np.float64]) -> TreeEnsemble:
    """Read the trees of the first rounds.

    Parameters
    ----------
    learner : dict
    n_iterations : int
    base_score : ndarray of shape (n_outputs,)
        On the scale of raw scores.

    Returns
    -------
    ensemble : TreeEnsemble
    """
    forest = _forest(learner)
    indptr = forest["iteration_indptr"]
    n_trees = int(indptr[min(n_iterations, len(indptr) - 1)])
    trees = forest["trees"][:n_trees]
    dropout = learner["gradient_booster"].get("weight_drop", [1.0] * n_trees)[:n_trees]

    length = np.array([len(tree["left_children"]) for tree in trees], dtype=np.int64)
    offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    n_nodes = int(offset[-1])
    number = np.arange(n_nodes) - np.repeat(offset[:-1], length)
    first = np.repeat(offset[:-1], length)

    def column(key: str, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, dtype), *[tree[key] for tree in trees]], dtype=dtype, casting="unsafe")

    left, right = column("left_children", np.int64), column("right_children", np.int64)
    is_leaf = left < 0
    left, right = (np.where(is_leaf, -1, child + first) for child in (left, right))
    condition = column("split_conditions", np.float32)  # the leaf's value at leaves
    cover = column("sum_hessian", np.float64)
    weight = np.repeat(np.asarray(dropout, dtype=np.float64), length)
    leaf_value = np.where(is_leaf, condition.astype(np.float64) * weight, 0.0)
    start, named = _category_sets(trees, offset)
    return TreeEnsemble.from_nodes(
        n_features=int(learner["learner_model_param"]["num_feature"]),
        n_outputs=count_outputs(learner),
        base_score=base_score,
        roots=offset[:-1],
        tree_output=np.asarray(forest["tree_info"][:n_trees], dtype=np.int32),
        feature=column("split_indices", np.int32),
        # x < t in single precision is x <= the single-precision number below t.
        threshold=np.nextafter(condition, np.float32(-np.inf)).astype(np.float64),
        left=left,
        right=right,
        missing=np.full(n_nodes, MISSING_NAN, dtype=np.uint8),
        default_left=column("default_left", np.uint8).astype(bool),
        value=mean_of_leaves(leaf_value, cover, left, right, offset[:-1]),
        cover=cover,
        gain=column("loss_changes", np.float64),
        is_categorical=(column("split_type", np.uint8) == 1) & ~is_leaf,
        category_start=start,
        category_values=named,
        categories_go_left=False,
        float32_input=True,
        library_index=number.astype(np.int32),
    )


def read_category_lists(stored: bytes | bytearray, *, is_dart: bool) -> list[dict[str, Any]]:
    """Read the categories of each column as they are stored, without reading the trees.

    Parameters
    ----------
    stored : bytes
        The whole model: the library leaves categories out of a slice.
    is_dart : bool
        Whether the booster is dart, whose model stands one level deeper.

    Returns
    -------
    lists : list of dict
        Empty where the library keeps none.
    """
    path = ("learner", "gradient_booster", *(["gbtree"] if is_dart else []), "model", "cats", "enc")
    lists: list[dict[str, Any]] = decode(bytes(stored), *path)
    return lists


def as_categories(lists: list[dict[str, Any]], n_features: int) -> tuple[NDArray[Any] | None, ...] | None:
    """Give each column its categories.

    Parameters
    ----------
    lists : list of dict
    n_features : int

    Returns
    -------
    categories : tuple of length n_features, or None
        None for columns without, and for those whose names are cut short; None altogether where no column has a list.
    """
    cut_short = columns_cut_short(lists)
    result: list[NDArray[Any] | None] = [None] * n_features
    for j, stored in enumerate(lists):
        values = np.asarray(stored["values"])
        if "offsets" not in stored:
            result[j] = values.astype(values.dtype.newbyteorder("=")) if len(values) else None
        elif len(stored["offsets"]) > 1 and j not in cut_short:
            text = values.astype(np.uint8).tobytes().decode("ascii")
            result[j] = np.array([text[a:b] for a, b in pairwise(stored["offsets"])], dtype=object)
    return None if all(names is None for names in result) else tuple(result)


def columns_cut_short(lists: list[dict[str, Any]]) -> list[int]:
    """Find the columns whose category names XGBoost has cut: it counts characters where it stores bytes (3.2.0)."""
    return [
        j
        for j, stored in enumerate(lists)
        if "offsets" in stored and any(not 0 <= int(byte) < 128 for byte in stored["values"])
    ]


def _forest(learner: Learner) -> dict[str, Any]:
    booster = learner["gradient_booster"]
    forest: dict[str, Any] = (booster["gbtree"] if booster["name"] == "dart" else booster)["model"]
    return forest


def _category_sets(
    trees: list[dict[str, Any]], offset: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Collect the categories of categorical splits, in the order of nodes."""
    length = np.zeros(int(offset[-1]), dtype=np.int64)
    named = [np.zeros(0, dtype=np.int32)]
    for first, tree in zip(offset[:-1], trees, strict=True):
        if not len(tree["categories_nodes"]):
            continue
        nodes, begins, sizes = (np.asarray(tree[f"categories_{of}"]) for of in ("nodes", "segments", "sizes"))
        length[first + nodes] = sizes
        values = np.asarray(tree["categories"], dtype=np.int32)
        named += [values[begins[k] : begins[k] + sizes[k]] for k in np.argsort(nodes)]
    return np.concatenate([[0], np.cumsum(length)]).astype(np.int64), np.concatenate(named)
