"""The text of a LightGBM model (``model_to_string``): its header, its trees, and the columns of its categories.

The text holds thresholds and leaf values with all their digits, and the values of inner nodes with six (as does
``dump_model``). Six digits would not do where the starting score, which LightGBM adds to the trees of the first round,
is far from zero. Without regularisation an inner value is the mean of the leaves below, weighted by second derivatives;
so the digits that are not written are filled from that mean.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.teachers.decimals import read_decimals
from gbdt2nn.trees import MISSING_NAN, MISSING_NONE, MISSING_ZERO, ZERO_THRESHOLD, TreeEnsemble, mean_of_leaves

LINEAR = (
    "linear_tree must be False for a teacher that is explained, got True: its leaves are linear models, which have no "
    "tree attributions; fit it with linear_tree=False."
)

Block = dict[str, str]

# Characters of a model whose numbers take plain Python as long as to import numba.
_LONG = 15_000_000

_OF_SPLITS = (
    "split_feature",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "split_gain",
    "internal_value",
    "internal_count",
)
_OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")


def cut(text: str) -> tuple[Block, list[Block]]:
    """Cut a text into its header and one mapping per tree.

    Parameters
    ----------
    text : str

    Returns
    -------
    header : dict
        What stands before each line's ``=``, and what stands after it.
    blocks : list of dict
        The same for each tree.
    """
    trees = text.split("\nend of trees", 1)[0].split("\nTree=")
    return _lines(trees[0]), [_lines(tree) for tree in trees[1:]]


def check_not_linear(blocks: Iterable[Block]) -> None:
    """Refuse trees whose leaves are linear models."""
    if any(block.get("is_linear", "0") == "1" for block in blocks):
        raise ValueError(LINEAR)


def read_trees(texts: Iterable[str], *, n_features: int, n_outputs: int, n_averaged: int = 1) -> TreeEnsemble:
    """Read the trees of a model.

    Parameters
    ----------
    texts : iterable of str
        The text of the model, or texts of some of its rounds each, in order.
    n_features, n_outputs : int
    n_averaged : int, default=1
        The rounds whose average the score is, of a random forest.

    Returns
    -------
    ensemble : TreeEnsemble
        The values of inner nodes agree with the six digits that the library writes of them.
    """
    # One text after the other: a short one is cut and read while it is in the processor's cache.
    sets, pieces, n_characters = [], [], 0
    for text in texts:
        _, blocks = cut(text)
        check_not_linear(blocks)
        n_characters += len(text)
        pieces.append(_read_columns(blocks, is_long=n_characters > _LONG))
        sets += [block for block in blocks if block.get("num_cat", "0") != "0"]
    column = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    n_leaves, n_sets = (column[name].astype(np.int64) for name in ("num_leaves", "num_cat"))
    n_splits = n_leaves - 1
    # Given order: tree after tree, its splits, then its leaves, each by the library's own number.
    offset = np.concatenate([[0], np.cumsum(n_splits + n_leaves)]).astype(np.int64)
    n_nodes = int(offset[-1])
    split_tree, split_number = _within(n_splits)
    leaf_tree, leaf_number = _within(n_leaves)
    splits = offset[split_tree] + split_number
    leaves = offset[leaf_tree] + n_splits[leaf_tree] + leaf_number

    def child(name: str) -> NDArray[np.int64]:
        number = column[name].astype(np.int64)
        to_leaf = offset[split_tree] + n_splits[split_tree] + ~number  # a leaf is written as ~number
        return _at(n_nodes, splits, np.where(number < 0, to_leaf, offset[split_tree] + number), -1)

    decision = column["decision_type"].astype(np.uint8)
    is_categorical = (decision & 1).astype(bool)
    # Categorical splits send missing values with everything they do not name.
    missing = np.where(is_categorical, MISSING_NONE, (decision >> 2) & 3).astype(np.uint8)
    assert missing.max(initial=MISSING_NONE) <= MISSING_NAN, "unknown missing type"

    left, right = child("left_child"), child("right_child")
    value = _at(n_nodes, leaves, column["leaf_value"], 0.0)
    weight = _at(n_nodes, leaves, column["leaf_weight"], 0.0)
    mean = mean_of_leaves(value, weight, left, right, offset[:-1])[splits]
    value[splits] = _nearest_written(column["internal_value"], mean)
    cover = _at(n_nodes, splits, column["internal_count"], 0.0)
    cover[leaves] = column["leaf_count"]
    library_index = _at(n_nodes, splits, split_number.astype(np.int32), 0)
    library_index[leaves] = leaf_number
    first_set = (np.cumsum(n_sets) - n_sets)[split_tree]
    set_of_split = (first_set + np.where(is_categorical, column["threshold"], 0.0).astype(np.int64))[is_categorical]
    start, named = _category_sets(sets, n_nodes, splits[is_categorical], set_of_split)
    return TreeEnsemble.from_nodes(
        n_features=n_features,
        n_outputs=n_outputs,
        base_score=0.0,
        roots=offset[:-1],
        tree_output=(np.arange(len(n_leaves)) % n_outputs).astype(np.int32),
        feature=_at(n_nodes, splits, column["split_feature"].astype(np.int32), -1),
        threshold=_at(n_nodes, splits, _as_read(column["threshold"], missing), 0.0),
        left=left,
        right=right,
        missing=_at(n_nodes, splits, missing, MISSING_NONE),
        default_left=_at(n_nodes, splits, ((decision & 2) > 0) & ~is_categorical, False),
        value=value / n_averaged if n_averaged > 1 else value,
        cover=cover,
        gain=_at(n_nodes, splits, column["split_gain"], 0.0),
        is_categorical=_at(n_nodes, splits, is_categorical, False),
        category_start=start,
        category_values=named,
        categories_go_left=True,
        float32_input=False,
        library_index=library_index,
    )


def columns_of_categories(header: Block, text: str, lists: list[list[Any]]) -> tuple[NDArray[Any] | None, ...]:
    """Find the column of each list of categories that the library keeps.

    The lists stand in the order of the frame's category columns, but the model does not name those columns. Unordered
    ones are categorical features of the model, as are columns of whole numbers that the caller declared; ordered ones
    are numeric features with codes as values.

    Parameters
    ----------
    header : dict
    text : str
        The whole text, of any number of rounds: the caller's parameters stand after the trees.
    lists : list of lists
        ``Booster.pandas_categorical``.

    Returns
    -------
    categories : tuple of length n_features
        None for columns without.
    """
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


def _lines(text: str) -> Block:
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key: value for key, _, value in pairs}


def _read_columns(blocks: list[Block], *, is_long: bool) -> dict[str, NDArray[np.float64]]:
    """Read the numbers of some trees, all of one name at once."""

    def column(words: list[str], n_numbers: int) -> NDArray[np.float64]:
        return read_decimals(" ".join(words), n_numbers, is_long=is_long)

    columns = {
        "num_leaves": column([block["num_leaves"] for block in blocks], len(blocks)),
        "num_cat": column([block.get("num_cat", "0") for block in blocks], len(blocks)),
    }
    n_leaves = int(columns["num_leaves"].sum())
    for name in _OF_SPLITS:
        columns[name] = column([block[name] for block in blocks], n_leaves - len(blocks))
    for name in _OF_LEAVES:
        # A tree of one leaf may leave its line empty.
        columns[name] = column([block.get(name) or "0" for block in blocks], n_leaves)
    return columns


def _may_be_codes(info: str, n_categories: int) -> bool:
    """Tell whether a column with this range or these values may hold the codes of so many categories."""
    if info == "none":
        return True
    values = [float(word) for word in info.strip("[]").split(":")]
    is_category = not info.startswith("[")  # its values include -1 for missing and rare ones
    return all(value.is_integer() and (is_category or value >= 0) and value < n_categories for value in values)


def _as_read(threshold: NDArray[np.float64], missing: NDArray[np.uint8]) -> NDArray[np.float64]:
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
    start = np.cumsum(length) - length
    return row, np.arange(len(row)) - start[row]


def _at(n_nodes: int, places: NDArray[np.int64], values: NDArray[Any], fill: Any) -> NDArray[Any]:
    whole: NDArray[Any] = np.full(n_nodes, fill, dtype=values.dtype)
    whole[places] = values
    return whole


def _category_sets(
    blocks: list[Block], n_nodes: int, nodes: NDArray[np.int64], set_of_node: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Decode the bit sets of the categorical splits, in the order of nodes.

    Parameters
    ----------
    blocks : list of dict
        The trees that have such sets.
    n_nodes : int
        Nodes of all trees.
    nodes, set_of_node : ndarray
        The categorical splits, ascending, and the set of each: all trees' sets one after the other.
    """
    start = np.zeros(n_nodes + 1, dtype=np.int64)
    if not len(nodes):
        return start, np.zeros(0, dtype=np.int32)
    bounds = [np.fromiter(map(int, block["cat_boundaries"].split()), dtype=np.int64) for block in blocks]
    n_words = np.concatenate([np.diff(ends) for ends in bounds])  # one per set
    words = read_decimals(" ".join([block["cat_threshold"] for block in blocks]), int(n_words.sum()))
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").reshape(-1, 32)
    word, bit = np.nonzero(bits)
    set_of_word, place = _within(n_words)
    named = (32 * place[word] + bit).astype(np.int32)  # set after set, ascending
    set_length = np.bincount(set_of_word[word], minlength=len(n_words))
    set_start = np.cumsum(set_length) - set_length
    length = np.zeros(n_nodes, dtype=np.int64)
    length[nodes] = set_length[set_of_node]
    start[1:] = np.cumsum(length)
    row, place = _within(set_length[set_of_node])
    return start, named[set_start[set_of_node][row] + place]
