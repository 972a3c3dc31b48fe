"""The ensemble as the kernels read it: splits that compare codes, and the share of the rows that each edge carries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.binning import Binner
from gbdt2nn.trees import MISSING_NONE, TreeEnsemble


@dataclass(frozen=True)
class Forest:
    """All trees in preorder, on codes.

    A subtree is the range of nodes ``v, ..., end[v] - 1``. A split on codes sends a row left iff ``code <= last_left``;
    the missing code goes left iff ``missing_left``. A split that no such rule describes (categories) has a row in
    ``left_codes``, one entry per code of its feature.

    Attributes
    ----------
    n_outputs : int
    used : ndarray of shape (n_used,), int64
        The features that any split uses. All that speaks of features here counts these alone.
    tree_start : ndarray of shape (n_trees + 1,), int64
    tree_output : ndarray of shape (n_trees,), int32
    feature : ndarray of shape (n_nodes,), int32
        -1 at leaves.
    last_left : ndarray of shape (n_nodes,), int32
    missing_left : ndarray of shape (n_nodes,), uint8
    left_row : ndarray of shape (n_nodes,), int64
        Where the split's row of ``left_codes`` begins; -1 where it has none.
    left_codes : ndarray, uint8
    right, parent : ndarray of shape (n_nodes,), int32
        -1 at leaves and at roots. The left child of v is v + 1.
    end : ndarray of shape (n_nodes,), int32
    ratio : ndarray of shape (n_nodes,)
        Cover of the node by the cover of its parent; 1 at roots.
    value : ndarray of shape (n_nodes,)
        Raw score of each leaf, less the mean of its tree.
    n_codes, missing_code : ndarray of shape (n_used,), int32
    by_rows : ndarray of shape (n_used,), uint8
        Whether any split of the feature has a row of ``left_codes``.
    base_value : ndarray of shape (n_outputs,)
        Base score + mean of each tree by the ratios.
    """

    n_outputs: int
    used: NDArray[np.int64]
    tree_start: NDArray[np.int64]
    tree_output: NDArray[np.int32]
    feature: NDArray[np.int32]
    last_left: NDArray[np.int32]
    missing_left: NDArray[np.uint8]
    left_row: NDArray[np.int64]
    left_codes: NDArray[np.uint8]
    right: NDArray[np.int32]
    parent: NDArray[np.int32]
    end: NDArray[np.int32]
    ratio: NDArray[np.float64]
    value: NDArray[np.float64]
    n_codes: NDArray[np.int32]
    missing_code: NDArray[np.int32]
    by_rows: NDArray[np.uint8]
    base_value: NDArray[np.float64]

    @classmethod
    def from_ensemble(cls, ensemble: TreeEnsemble, binner: Binner) -> "Forest":
        """Put the splits of an ensemble in terms of its codes.

        Parameters
        ----------
        ensemble : TreeEnsemble
        binner : Binner
            Of this ensemble.

        Returns
        -------
        forest : Forest
        """
        feature = ensemble.feature
        n_nodes = len(feature)
        splits = np.flatnonzero(feature >= 0)
        last_left = np.zeros(n_nodes, dtype=np.int32)
        missing_left = np.zeros(n_nodes, dtype=np.uint8)
        left_row = np.full(n_nodes, -1, dtype=np.int64)
        by_rows = np.zeros(ensemble.n_features, dtype=np.uint8)
        rows: list[NDArray[np.uint8]] = []
        n_entries = 0
        splits = splits[np.argsort(feature[splits], kind="stable")]
        bounds = np.searchsorted(feature[splits], np.arange(ensemble.n_features + 1))
        for j in range(ensemble.n_features):
            nodes = splits[bounds[j] : bounds[j + 1]]
            if not nodes.size:
                continue
            if binner.is_categorical[j] or _is_mixed(ensemble.missing[nodes]):
                by_rows[j] = 1
                left_codes = _category_codes if binner.is_categorical[j] else _left_codes
                codes = left_codes(ensemble, nodes, binner, j)
                left_row[nodes] = n_entries + np.arange(len(nodes)) * codes.shape[1]
                rows.append(codes.reshape(-1))
                n_entries += codes.size
            else:
                last_left[nodes] = np.searchsorted(binner.thresholds[j], ensemble.threshold[nodes])
                # without a missing code of its own, no code is missing, the top one neither
                missing_left[nodes] = ensemble.default_left[nodes] & bool(binner.missing_code[j] >= 0)
        used = np.flatnonzero(ensemble.used_features())
        place = np.full(ensemble.n_features, -1, dtype=np.int64)
        place[used] = np.arange(len(used))
        ratio, parent, end, mean, excess = _links(ensemble)
        # Without its mean, which the base value keeps, a tree's leaves are of the size of what they explain: a target
        # far from zero then costs no digits. Shares that do not add up to one (XGBoost's sums) forbid it.
        shift = np.where(excess < 1e-14, mean, 0.0)
        value = ensemble.value - np.repeat(shift, np.diff(ensemble.tree_start))
        return cls(
            n_outputs=ensemble.n_outputs,
            used=used,
            tree_start=ensemble.tree_start,
            tree_output=ensemble.tree_output,
            feature=np.where(feature >= 0, place[feature], -1).astype(np.int32),
            last_left=last_left,
            missing_left=missing_left,
            left_row=left_row,
            left_codes=np.concatenate(rows) if rows else np.zeros(1, dtype=np.uint8),
            right=ensemble.right,
            parent=parent,
            end=end,
            ratio=ratio,
            value=value,
            n_codes=binner.n_codes[used].astype(np.int32),
            missing_code=binner.missing_code[used].astype(np.int32),
            by_rows=by_rows[used],
            base_value=ensemble.base_score
            + np.bincount(ensemble.tree_output, weights=mean, minlength=ensemble.n_outputs),
        )

    def output_of(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the output that the tree of each node adds to.

        Parameters
        ----------
        nodes : ndarray of shape (n,), int64

        Returns
        -------
        output : ndarray of shape (n,), int64
        """
        return self.tree_output[np.searchsorted(self.tree_start, nodes, side="right") - 1].astype(np.int64)


def _is_mixed(missing: NDArray[np.uint8]) -> bool:
    """Tell whether the splits of one feature differ on what is missing; then no single rule on codes holds."""
    return len(np.unique(missing)) > 1


def _category_codes(ensemble: TreeEnsemble, nodes: NDArray[np.int64], binner: Binner, j: int) -> NDArray[np.uint8]:
    """Which codes each split of categories sends left: (n_splits, n_codes)."""
    named_left = ensemble.categories_go_left
    left = np.full((len(nodes), int(binner.n_codes[j])), not named_left, dtype=np.uint8)
    start, stop = ensemble.category_start[nodes], ensemble.category_start[nodes + 1]
    for i in range(len(nodes)):
        named = ensemble.category_values[start[i] : stop[i]]
        left[i, np.searchsorted(binner.categories[j], named)] = named_left
    if binner.missing_code[j] >= 0:
        apart = ensemble.missing[nodes] != MISSING_NONE
        left[apart, binner.missing_code[j]] = ensemble.default_left[nodes][apart]
    return left


def _left_codes(ensemble: TreeEnsemble, nodes: NDArray[np.int64], binner: Binner, j: int) -> NDArray[np.uint8]:
    """Send one value of each code through each split: (n_splits, n_codes)."""
    representatives = binner.representatives(j)
    n_codes = len(representatives)
    at = np.repeat(nodes, n_codes)
    x = np.tile(representatives, len(nodes))
    return ensemble.goes_left(at, x).reshape(len(nodes), n_codes).astype(np.uint8)


def _links(
    ensemble: TreeEnsemble,
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Give each node its share of its parent's cover, its parent and the end of its subtree; each tree its mean, and
    the most by which the shares of two siblings miss one."""
    n_nodes = ensemble.n_nodes
    inner = np.flatnonzero(ensemble.feature >= 0)
    left, right = ensemble.left, ensemble.right
    parent = np.full(n_nodes, -1, dtype=np.int32)
    parent[left[inner]] = inner
    parent[right[inner]] = inner
    ratio = np.ones(n_nodes)
    if not (np.isfinite(ensemble.cover[inner]).all() and np.isfinite(ensemble.cover[right[inner]]).all()):
        raise ValueError(
            "teacher must have finite covers at its splits, got infinite ones or NaN: its sums of second derivatives "
            "overflowed, and TreeSHAP weighs with them; path attributions (tree_path) do not need them"
        )
    total = ensemble.cover[inner]
    weighs = total > 0
    for child in (left[inner], right[inner]):
        ratio[child] = np.where(weighs, ensemble.cover[child], 0.5) / np.where(weighs, total, 1.0)
    depth = np.zeros(n_nodes, dtype=np.int32)
    level = ensemble.tree_start[:-1]
    levels = []
    while level.size:
        going = level[ensemble.feature[level] >= 0]
        levels.append(going)
        level = np.concatenate([left[going], right[going]])
        depth[level] = len(levels)
    end = np.arange(1, n_nodes + 1, dtype=np.int32)
    mean, excess = ensemble.value.copy(), np.zeros(n_nodes)
    excess[inner] = np.abs(ratio[left[inner]] + ratio[right[inner]] - 1.0)
    for going in reversed(levels):
        end[going] = end[right[going]]
        mean[going] = ratio[left[going]] * mean[left[going]] + ratio[right[going]] * mean[right[going]]
        for child in (left[going], right[going]):
            excess[going] = np.maximum(excess[going], excess[child])
    roots = ensemble.tree_start[:-1]
    return ratio, parent, end, mean[roots], excess[roots]
