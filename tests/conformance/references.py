"""Shapley values of the path-dependent game over a TreeEnsemble, computed in two slow ways that share no step.

The game: the value of a set of features is the expected raw score of a row of which only these features are known. A
tree is walked from its root. At a split on a known feature the row takes its own way; at any other split both ways are
taken, weighted by the covers of the two children.

The weight of a child is its cover over its parent's own cover, as in both libraries. XGBoost's covers are sums in single
precision, so that the weights of two children add up to 1 within about 1e-7; attributions are complete all the same.

Where a node has cover 0, neither library has an answer: LightGBM gives NaN, XGBoost NaN or an error. Here both of its
children weigh 1/2: the limit of covers that are small and equal. A child of cover 0 below a node that has cover weighs 0.
"""

from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.trees import TreeEnsemble

Array = NDArray[np.float64]
# Per feature of a path: the share of the training rows that take all its edges, and of shape (n_samples,) whether the
# row itself does.
Path = dict[int, tuple[float, Array]]


def child_weights(ensemble: TreeEnsemble) -> Array:
    """Give the weight of every node in its parent.

    Parameters
    ----------
    ensemble : TreeEnsemble

    Returns
    -------
    weight : ndarray of shape (n_nodes,)
        1.0 at roots.
    """
    weight = np.ones(ensemble.n_nodes)
    for node in np.flatnonzero(ensemble.feature >= 0):
        cover = ensemble.cover[node]
        for child in (ensemble.left[node], ensemble.right[node]):
            weight[child] = ensemble.cover[child] / cover if cover > 0 else 0.5
    return weight


def shapley_by_definition(ensemble: TreeEnsemble, x: Array) -> tuple[Array, Array]:
    """Compute Shapley values from the values of all sets of the features that any split uses.

    Parameters
    ----------
    ensemble : TreeEnsemble
        With splits on ten features at most.
    x : ndarray of shape (n_samples, n_features)

    Returns
    -------
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
    base_value : ndarray of shape (n_outputs,)
        Value of the empty set.
    """
    rows, weight = ensemble.read(x), child_weights(ensemble)
    players = np.flatnonzero(ensemble.used_features()).tolist()
    assert len(players) <= 10, f"all subsets of {len(players)} features are too many"
    subsets = [frozenset(s) for size in range(len(players) + 1) for s in combinations(players, size)]
    is_known = {j: np.array([j in s for s in subsets])[:, None] for j in players}

    def value(node: int) -> Array:  # (n_subsets, n_samples)
        j = int(ensemble.feature[node])
        if j < 0:
            return np.full((len(subsets), len(rows)), ensemble.value[node])
        left, right = int(ensemble.left[node]), int(ensemble.right[node])
        one, other = value(left), value(right)
        own_way = np.where(_goes_left(ensemble, node, rows), one, other)
        return np.where(is_known[j], own_way, weight[left] * one + weight[right] * other)

    worth = np.zeros((ensemble.n_outputs, len(subsets), len(rows)))
    for root, output in zip(ensemble.tree_start[:-1].tolist(), ensemble.tree_output, strict=True):
        worth[output] += value(root)
    attribution = np.zeros((len(rows), ensemble.n_outputs, ensemble.n_features))
    place = {s: i for i, s in enumerate(subsets)}
    for j in players:
        for without in (s for s in subsets if j not in s):
            chance = factorial(len(without)) * factorial(len(players) - len(without) - 1) / factorial(len(players))
            gain = worth[:, place[without | {j}]] - worth[:, place[without]]  # (n_outputs, n_samples)
            attribution[:, :, j] += chance * gain.T
    return attribution, expected_value(ensemble)


def tree_shap_reference(ensemble: TreeEnsemble, x: Array) -> tuple[Array, Array]:
    """Compute Shapley values leaf by leaf, in polynomial time (Lundberg et al. 2020, algorithm 2).

    NOTE[DIFF]: The algorithm extends the path by each of its features and then unwinds one feature at a time, by
    division and subtraction, which costs all digits on paths of some dozens of features. Here the path without the one
    feature is extended by all others: sums of non-negative products only.

    Parameters
    ----------
    ensemble : TreeEnsemble
    x : ndarray of shape (n_samples, n_features)

    Returns
    -------
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
    base_value : ndarray of shape (n_outputs,)
    """
    rows, weight = ensemble.read(x), child_weights(ensemble)
    attribution = np.zeros((len(rows), ensemble.n_outputs, ensemble.n_features))
    nothing: Path = {}
    for root, output in zip(ensemble.tree_start[:-1].tolist(), ensemble.tree_output, strict=True):
        waiting = [(root, nothing)]
        while waiting:
            node, path = waiting.pop()
            j = int(ensemble.feature[node])
            if j < 0:
                _credit_leaf(attribution[:, output], path, ensemble.value[node])
                continue
            goes_left = _goes_left(ensemble, node, rows)
            for child, takes in ((int(ensemble.left[node]), goes_left), (int(ensemble.right[node]), ~goes_left)):
                zero, one = path.get(j, (1.0, np.ones(len(rows))))
                waiting.append((child, {**path, j: (zero * weight[child], one * takes)}))
    return attribution, expected_value(ensemble)


def expected_value(ensemble: TreeEnsemble) -> Array:
    """Compute the mean raw score by the covers of the trees, base score included.

    Parameters
    ----------
    ensemble : TreeEnsemble

    Returns
    -------
    base_value : ndarray of shape (n_outputs,)
    """
    weight, mean = child_weights(ensemble), ensemble.value.copy()
    for node in np.flatnonzero(ensemble.feature >= 0)[::-1]:  # preorder: children come after their parent
        children = [ensemble.left[node], ensemble.right[node]]
        mean[node] = weight[children] @ mean[children]
    roots = mean[ensemble.tree_start[:-1]]
    return ensemble.base_score + np.bincount(ensemble.tree_output, weights=roots, minlength=ensemble.n_outputs)


def _goes_left(ensemble: TreeEnsemble, node: int, rows: Array) -> NDArray[np.bool_]:
    x = rows[:, ensemble.feature[node]]
    return ensemble.goes_left(np.full(len(rows), node), x)


def _credit_leaf(attribution: Array, path: Path, value: float) -> None:
    """Share the value of a leaf among the features of its path, in place: (n_samples, n_features)."""
    for j, chance in _chances_without_each(path, len(attribution)).items():
        zero, one = path[j]
        attribution[:, j] += chance * (one - zero) * value


def _chances_without_each(path: Path, n_rows: int) -> dict[int, Array]:
    """Leave out each feature in turn: the chance to reach the leaf when a random number of the others is known."""
    chances: dict[int, Array] = {}

    def leave_out_one(of: list[int], by_size: Array) -> None:
        if len(of) == 1:
            chances[of[0]] = by_size.sum(axis=0)
            return
        half = len(of) // 2
        for kept, taken in ((of[:half], of[half:]), (of[half:], of[:half])):
            longer = by_size
            for j in taken:
                longer = _extend(longer, *path[j])
            leave_out_one(kept, longer)

    if path:
        leave_out_one(list(path), np.ones((1, n_rows)))
    return chances


def _extend(by_size: Array, zero: float, one: Array) -> Array:
    """Put one more feature on a path: the EXTEND of the paper, for many rows.

    Parameters
    ----------
    by_size : ndarray of shape (n_path + 1, n_samples)
        How much of the chance falls on sets of 0, 1, ... known features.
    zero : float
        The chance that a row goes along the path where the feature is not known.
    one : ndarray of shape (n_samples,)
        1.0 where the row itself does.

    Returns
    -------
    by_size : ndarray of shape (n_path + 2, n_samples)
    """
    length, n_rows = by_size.shape
    size = np.arange(length)[:, None]
    longer = np.zeros((length + 1, n_rows))
    longer[1:] += one * by_size * (size + 1) / (length + 1)
    longer[:-1] += zero * by_size * (length - size) / (length + 1)
    return longer
