"""One neutral form for the trees of any boosting library.

A :class:`TreeEnsemble` holds every node of every tree in flat NumPy arrays, tree after tree, each tree in preorder (the
left child follows its parent, so a subtree is one contiguous range). There is one convention: a row goes left where
``x <= threshold``. What the libraries do differently about missing values and categories is data, not code paths:

* ``missing`` says, per node, which values follow ``default_left`` instead of the comparison;
* ``categories_go_left`` says on which side the named categories of a categorical split lie;
* ``float32_input`` says that the library reads its input in single precision.

``x`` is what the teacher's library sees: one float64 column per feature, category columns as the library's own codes,
missing values as NaN.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MISSING_NONE = 0
"""NaN is read as 0.0."""
MISSING_ZERO = 1
"""NaN and every value with ``abs(x) <= ZERO_THRESHOLD`` are missing."""
MISSING_NAN = 2
"""NaN is missing."""

ZERO_THRESHOLD = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold, a single-precision constant: what is not farther than this from zero is zero."""

_INT32_END = 2.0**31
_XGBOOST_CATEGORY_END = 2.0**24
# Rows times trees that are walked at once: 8 MB of node numbers.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class TreeEnsemble:
    """All trees of a fitted booster, in arrays.

    Attributes
    ----------
    n_features : int
    n_outputs : int
        1 for regression and binary classification, the number of classes for multiclass.
    base_score : ndarray of shape (n_outputs,)
        Raw score added to the sum of leaf values.
    tree_start : ndarray of shape (n_trees + 1,), int64
        First node of each tree; its root.
    tree_output : ndarray of shape (n_trees,), int32
        The output each tree adds to.
    feature : ndarray of shape (n_nodes,), int32
        Feature of the split; -1 at leaves.
    threshold : ndarray of shape (n_nodes,)
        Left iff ``x <= threshold``; 0.0 where it has no meaning.
    left, right : ndarray of shape (n_nodes,), int32
        Absolute node numbers of the children; -1 at leaves.
    missing : ndarray of shape (n_nodes,), uint8
        ``MISSING_NONE``, ``MISSING_ZERO`` or ``MISSING_NAN``.
    default_left : ndarray of shape (n_nodes,), bool
        Where missing values go.
    value : ndarray of shape (n_nodes,)
        Raw score of each leaf, with all weights of the tree folded in (learning rate, dropout, averaging); at inner
        nodes the library's own value of that node on the same scale.
    cover : ndarray of shape (n_nodes,)
        Training rows (LightGBM) or sum of second derivatives (XGBoost) in each node.
    gain : ndarray of shape (n_nodes,)
        Gain of the split in the library's own unit; 0 at leaves.
    is_categorical : ndarray of shape (n_nodes,), bool
    category_start : ndarray of shape (n_nodes + 1,), int64
        Offsets into ``category_values``.
    category_values : ndarray of shape (n_named,), int32
        Categories named by each categorical split, sorted within a node.
    categories_go_left : bool
        True: the named categories go left and everything else right (LightGBM). False: the reverse (XGBoost).
    float32_input : bool
        Whether x is rounded to single precision first.
    library_index : ndarray of shape (n_nodes,), int32
        The library's own number of the node in its tree: for LightGBM the leaf number at leaves and the split number at
        inner nodes, for XGBoost the node number. What ``pred_leaf`` speaks of.
    """

    n_features: int
    n_outputs: int
    base_score: NDArray[np.float64]
    tree_start: NDArray[np.int64]
    tree_output: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing: NDArray[np.uint8]
    default_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    cover: NDArray[np.float64]
    gain: NDArray[np.float64]
    is_categorical: NDArray[np.bool_]
    category_start: NDArray[np.int64]
    category_values: NDArray[np.int32]
    categories_go_left: bool
    float32_input: bool
    library_index: NDArray[np.int32]

    @classmethod
    def from_nodes(
        cls,
        *,
        n_features: int,
        n_outputs: int,
        base_score: ArrayLike,
        roots: NDArray[np.int64],
        tree_output: NDArray[np.int32],
        feature: NDArray[np.int32],
        threshold: NDArray[np.float64],
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        missing: NDArray[np.uint8],
        default_left: NDArray[np.bool_],
        value: NDArray[np.float64],
        cover: NDArray[np.float64],
        gain: NDArray[np.float64],
        is_categorical: NDArray[np.bool_],
        category_start: NDArray[np.int64],
        category_values: NDArray[np.int32],
        categories_go_left: bool,
        float32_input: bool,
        library_index: NDArray[np.int32],
    ) -> "TreeEnsemble":
        """Bring the nodes of all trees, given in any order, into preorder.

        Parameters
        ----------
        roots : ndarray of shape (n_trees,)
            Node number of each tree's root.
        left, right : ndarray of shape (n_given,)
            Children as positions in the given arrays; -1 at leaves. Nodes that no root reaches are dropped.

        The other parameters are the attributes of the class, in the given order of nodes.
        """
        position, order, tree_start = _preorder(roots, left, right)
        start, named = _take_ragged(category_start, category_values, order)
        owner = np.repeat(np.arange(len(order)), np.diff(start))
        named = named[np.lexsort((named, owner))]
        is_leaf = left[order] < 0
        return cls(
            n_features=int(n_features),
            n_outputs=int(n_outputs),
            base_score=np.broadcast_to(np.asarray(base_score, dtype=np.float64), (n_outputs,)).copy(),
            tree_start=tree_start,
            tree_output=np.asarray(tree_output, dtype=np.int32),
            feature=np.where(is_leaf, -1, feature[order]).astype(np.int32),
            threshold=np.where(is_leaf | is_categorical[order], 0.0, threshold[order]),
            left=np.where(is_leaf, -1, position[left[order]]).astype(np.int32),
            right=np.where(is_leaf, -1, position[right[order]]).astype(np.int32),
            missing=np.where(is_leaf, MISSING_NONE, missing[order]).astype(np.uint8),
            default_left=default_left[order] & ~is_leaf,
            value=value[order].astype(np.float64),
            cover=cover[order].astype(np.float64),
            gain=np.where(is_leaf, 0.0, gain[order]),
            is_categorical=is_categorical[order] & ~is_leaf,
            category_start=start,
            category_values=named.astype(np.int32),
            categories_go_left=bool(categories_go_left),
            float32_input=bool(float32_input),
            library_index=library_index[order].astype(np.int32),
        )

    @property
    def n_trees(self) -> int:
        """Number of trees over all outputs."""
        return len(self.tree_output)

    @property
    def n_nodes(self) -> int:
        """Number of nodes over all trees."""
        return len(self.feature)

    def used_features(self) -> NDArray[np.bool_]:
        """Tell which features any split uses.

        Returns
        -------
        used : ndarray of shape (n_features,), bool
        """
        used = np.zeros(self.n_features, dtype=bool)
        used[self.feature[self.feature >= 0]] = True
        return used

    def raw_score(self, x: ArrayLike) -> NDArray[np.float64]:
        """Sum base score and leaf values, in the order of the trees.

        Parameters
        ----------
        x : array-like of shape (n_samples, n_features)

        Returns
        -------
        score : ndarray of shape (n_samples, n_outputs)
            Raw score, before any link.
        """
        rows = self._check(x)
        score = np.tile(self.base_score, (len(rows), 1))  # (n_samples, n_outputs)
        for start, stop in self._chunks(len(rows)):
            reached = self.value[self._walk(rows[start:stop])]  # (rows, n_trees)
            # One tree at a time: the sum of a row does not depend on the rows beside it.
            for tree, output in enumerate(self.tree_output):
                score[start:stop, output] += reached[:, tree]
        return score

    def leaves(self, x: ArrayLike) -> NDArray[np.int32]:
        """Find the leaf of each row in each tree.

        Parameters
        ----------
        x : array-like of shape (n_samples, n_features)

        Returns
        -------
        leaf : ndarray of shape (n_samples, n_trees), int32
            Absolute node numbers.
        """
        rows = self._check(x)
        leaf = np.empty((len(rows), self.n_trees), dtype=np.int32)
        for start, stop in self._chunks(len(rows)):
            leaf[start:stop] = self._walk(rows[start:stop])
        return leaf

    def read(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return x as the library reads it: float64, rounded to single precision where it does so.

        Parameters
        ----------
        x : array-like of shape (n_samples, n_features)

        Returns
        -------
        x : ndarray of shape (n_samples, n_features)
        """
        rows = np.asarray(x, dtype=np.float64)
        if self.float32_input:
            with np.errstate(over="ignore"):
                rows = rows.astype(np.float32).astype(np.float64)
        return rows

    def _check(self, x: ArrayLike) -> NDArray[np.float64]:
        rows = self.read(x)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise ValueError(f"x must have shape (n_samples, {self.n_features}), got {rows.shape}.")
        return rows

    def _chunks(self, n_rows: int) -> list[tuple[int, int]]:
        step = max(1, _CHUNK // max(1, self.n_trees))
        return [(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]

    def _walk(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """Send rows that are already read down all trees, one level at a time."""
        n_rows = len(rows)
        node = np.tile(self.tree_start[:-1], n_rows)  # (rows * n_trees,), row-major
        going = np.flatnonzero(self.feature[node] >= 0)
        while going.size:
            at = node[going]
            x = rows[going // self.n_trees, self.feature[at]]
            node[going] = np.where(self.goes_left(at, x), self.left[at], self.right[at])
            going = going[self.feature[node[going]] >= 0]
        return node.reshape(n_rows, self.n_trees)

    def goes_left(self, at: NDArray[np.int64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell whether values go left at splits, one value a split.

        Parameters
        ----------
        at : ndarray of shape (n,), int64
            Split nodes.
        x : ndarray of shape (n,)
            Values of their features, as the library reads them.

        Returns
        -------
        goes_left : ndarray of shape (n,), bool
        """
        is_nan = np.isnan(x)
        kind = self.missing[at]
        goes_left = np.where(is_nan, 0.0, x) <= self.threshold[at]
        is_missing = (is_nan & (kind != MISSING_NONE)) | ((kind == MISSING_ZERO) & (np.abs(x) <= ZERO_THRESHOLD))
        if self.category_values.size:
            categorical = np.flatnonzero(self.is_categorical[at])
            goes_left[categorical] = self._names(at[categorical], x[categorical]) == self.categories_go_left
        return np.where(is_missing, self.default_left[at], goes_left)

    def _names(self, at: NDArray[np.int64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell whether each split names the category of x."""
        category = categories_of(x, self.categories_go_left)
        base = int(self.category_values.max(initial=0)) + 1
        owner = np.repeat(np.arange(self.n_nodes), np.diff(self.category_start))
        keys = owner * base + self.category_values  # sorted: nodes ascend, and so do the categories of one node
        wanted = at * base + category
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return (category >= 0) & (category < base) & (keys[found] == wanted)


def categories_of(x: NDArray[np.float64], categories_go_left: bool) -> NDArray[np.int64]:
    """Read codes as categories, as the library does.

    LightGBM truncates toward zero first, so -0.5 is category 0; XGBoost takes every negative code for invalid.

    Parameters
    ----------
    x : ndarray
        Codes as the library reads them.
    categories_go_left : bool
        As in :class:`TreeEnsemble`: True for LightGBM's reading, False for XGBoost's.

    Returns
    -------
    category : ndarray of the same shape, int64
        -1 where x is no category: missing, negative, infinite or out of range.
    """
    with np.errstate(invalid="ignore"):
        valid = (x > -1.0) & (x < _INT32_END) if categories_go_left else (x >= 0.0) & (x < _XGBOOST_CATEGORY_END)
    return np.where(valid, np.where(valid, x, 0.0).astype(np.int64), -1)


def mean_of_leaves(
    value: NDArray[np.float64],
    weight: NDArray[np.float64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    roots: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Give every inner node the mean of its leaves.

    Parameters
    ----------
    value, weight : ndarray of shape (n_nodes,)
        Read at leaves only.
    left, right : ndarray of shape (n_nodes,)
        Children; -1 at leaves.
    roots : ndarray of shape (n_trees,)

    Returns
    -------
    mean : ndarray of shape (n_nodes,)
        The value itself at leaves. Where the leaves below a node weigh nothing, the plain mean of its two children.
    """
    mean, total = value.astype(np.float64), weight.astype(np.float64)
    for inner in reversed(_splits_by_level(roots, left, right)):
        one, other = left[inner], right[inner]
        total[inner] = total[one] + total[other]
        weighs = total[inner] > 0
        share = np.where(weighs, total[one], 0.5) / np.where(weighs, total[inner], 1.0)
        mean[inner] = share * mean[one] + (1.0 - share) * mean[other]
    return mean


def _splits_by_level(
    roots: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """List the inner nodes of all trees, one entry per depth."""
    level, splits = roots, []
    while level.size:
        inner = level[left[level] >= 0]
        splits.append(inner)
        level = np.concatenate([left[inner], right[inner]])
        assert len(splits) <= len(left), "the children of a tree form a cycle"
    return splits


def _preorder(
    roots: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Number the nodes of all trees in preorder, one level of all trees at a time.

    Returns
    -------
    position : ndarray of shape (n_given,)
        New number of each given node; -1 where no root reaches it.
    order : ndarray of shape (n_nodes,)
        Given number of each new node.
    tree_start : ndarray of shape (n_trees + 1,)
    """
    roots = np.asarray(roots, dtype=np.int64)
    splits = _splits_by_level(roots, left, right)
    size = np.ones(len(left), dtype=np.int64)
    for inner in reversed(splits):
        size[inner] += size[left[inner]] + size[right[inner]]
    tree_start = np.concatenate([[0], np.cumsum(size[roots])]).astype(np.int64)
    position = np.full(len(left), -1, dtype=np.int64)
    position[roots] = tree_start[:-1]
    for inner in splits:
        position[left[inner]] = position[inner] + 1
        position[right[inner]] = position[inner] + 1 + size[left[inner]]
    reached = np.flatnonzero(position >= 0)
    order = np.empty(tree_start[-1], dtype=np.int64)
    order[position[reached]] = reached
    return position, order, tree_start


def _take_ragged(
    start: NDArray[np.int64], values: NDArray[np.int32], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Reorder the rows of a ragged array given by offsets."""
    length = np.diff(start)[order]
    new_start = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    source = np.repeat(start[:-1][order] - new_start[:-1], length) + np.arange(new_start[-1])
    return new_start, values[source]
