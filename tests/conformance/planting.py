"""Ensembles written by hand or drawn at random, as nested trees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gbdt2nn.trees import MISSING_NAN, MISSING_NONE, TreeEnsemble


@dataclass(frozen=True)
class Leaf:
    """A leaf: its value and the training rows in it."""

    value: float
    cover: float = 1.0


@dataclass(frozen=True)
class Split:
    """A split: left where ``x <= at``, or by the named categories."""

    feature: int
    at: float
    left: "Split | Leaf"
    right: "Split | Leaf"
    missing: int = MISSING_NONE
    default_left: bool = False
    named: tuple[int, ...] | None = None

    @property
    def cover(self) -> float:
        """Training rows below."""
        return self.left.cover + self.right.cover


def plant(
    trees: Sequence[Split | Leaf],
    *,
    n_features: int,
    outputs: Sequence[int] | None = None,
    n_outputs: int = 1,
    base_score: ArrayLike = 0.0,
    is_lightgbm: bool = True,
) -> TreeEnsemble:
    """Make an ensemble of nested trees.

    Parameters
    ----------
    trees : sequence of Split or Leaf
    n_features, n_outputs : int
    outputs : sequence of int, optional
        The output of each tree; 0 by default.
    base_score : float or array-like of shape (n_outputs,)
    is_lightgbm : bool
        Whether numbers and categories are read as LightGBM reads them, or as XGBoost does, which has missing values
        apart at every split.

    Returns
    -------
    ensemble : TreeEnsemble
    """
    nodes: list[Split | Leaf] = []
    children: list[tuple[int, int]] = []
    roots = []
    for tree in trees:
        roots.append(len(nodes))
        nodes.append(tree)
        children.append((-1, -1))
        at = roots[-1]
        while at < len(nodes):
            node = nodes[at]
            if isinstance(node, Split):
                children[at] = (len(nodes), len(nodes) + 1)
                nodes += [node.left, node.right]
                children += [(-1, -1), (-1, -1)]
            at += 1

    def column(name: str, other: Any, dtype: Any) -> Any:
        return np.array([getattr(node, name, other) for node in nodes], dtype=dtype)

    named = [getattr(node, "named", None) or () for node in nodes]
    is_split = np.array([isinstance(node, Split) for node in nodes])
    missing = column("missing", MISSING_NONE, np.uint8) if is_lightgbm else np.full(len(nodes), MISSING_NAN, np.uint8)
    return TreeEnsemble.from_nodes(
        n_features=n_features,
        n_outputs=n_outputs,
        base_score=base_score,
        roots=np.array(roots, dtype=np.int64),
        tree_output=np.array([0] * len(trees) if outputs is None else outputs, dtype=np.int32),
        feature=column("feature", -1, np.int32),
        threshold=column("at", 0.0, float),
        left=np.array(children, dtype=np.int64)[:, 0],
        right=np.array(children, dtype=np.int64)[:, 1],
        missing=missing,
        default_left=column("default_left", False, bool),
        value=column("value", 0.0, float),
        cover=column("cover", 0.0, float),
        gain=is_split.astype(float),
        is_categorical=column("named", None, object) != np.array(None),
        category_start=np.cumsum([0, *map(len, named)]).astype(np.int64),
        category_values=np.array([c for names in named for c in names], dtype=np.int32),
        categories_go_left=is_lightgbm,
        float32_input=not is_lightgbm,
        library_index=np.arange(len(nodes), dtype=np.int32),
    )


def plant_chain(rng: np.random.Generator, *, n_features: int, depth: int, n_outputs: int = 1) -> TreeEnsemble:
    """Make one tree per output that is a single long path: a leaf leaves it at every level.

    Covers run from 0 over parts of a row to a million, so that the shares along a path are anything.
    """
    trees = []
    for _ in range(n_outputs):
        order = np.concatenate([rng.permutation(n_features) for _ in range(-(-depth // n_features))])[:depth]
        tree: Split | Leaf = Leaf(float(rng.normal()), float(rng.integers(0, 3)))
        for feature in order.tolist():
            cover = float(rng.choice([0.0, 0.25, 1.0, 3.0, 50.0, 1e6], p=[0.1, 0.1, 0.3, 0.2, 0.2, 0.1]))
            leaf = Leaf(float(rng.normal()), cover * max(1.0, tree.cover) if rng.random() < 0.5 else cover)
            at = float(rng.integers(-2, 3))
            tree = Split(feature, at, tree, leaf) if rng.random() < 0.5 else Split(feature, at, leaf, tree)
        trees.append(tree)
    return plant(trees, n_features=n_features, outputs=range(n_outputs), n_outputs=n_outputs)
