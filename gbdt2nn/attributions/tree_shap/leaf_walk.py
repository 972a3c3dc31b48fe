"""The leaves of a plan that quadrature serves, listed once and walked for every block of rows."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.attributions.tree_shap.forest import Forest
from gbdt2nn.attributions.tree_shap.quadrature import LANES, WALK, basis_errors, mark, nodes_and_weights, trace

_MOST_NODES = 48


class WalkSpace:
    """What one thread needs to walk: running products and sums of every depth."""

    def __init__(self, deepest: int, most_nodes: int, precision: str) -> None:
        number = np.float64 if precision == "float64" else np.float32
        self.products = np.zeros((deepest + 2) * most_nodes * LANES, number)
        self.sums = np.zeros((deepest + 2) * most_nodes * LANES, number)
        self.left_of, self.met_at, self.open_edge = (np.zeros(deepest + 2, np.int64) for _ in range(3))


@dataclass
class LeafWalk:
    """Some leaves of a forest as a list of edges with their factors.

    Attributes
    ----------
    forest : Forest
    deepest : int
        Depth of the deepest leaf.
    edges : tuple of ndarray
        Start of each tree's edges; node, depth, inner edges that end after it, depth of the edge before on the same
        feature, and column of total of each edge; nodes of the quadrature of each tree; start of each edge's factors.
    factors : ndarray
    """

    forest: Forest
    deepest: int
    edges: tuple[NDArray[np.int64], ...]
    factors: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.most_nodes = int(self.edges[6].max(initial=1))
        self._rounded: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, forest: Forest, leaves: NDArray[np.uint8]) -> "LeafWalk":
        """List the edges that lead to the marked leaves.

        Parameters
        ----------
        forest : Forest
        leaves : ndarray of shape (n_nodes,), uint8
            1 at the leaves that are wanted.

        Returns
        -------
        walk : LeafWalk
        """
        marked = np.zeros(len(forest.feature), np.uint8)
        n_edges, deepest = mark(leaves, forest.feature, forest.parent, marked)
        n_trees = len(forest.tree_output)
        edges = (
            np.zeros(n_trees + 1, np.int64), *(np.zeros(n_edges, np.int64) for _ in range(5)),
            np.zeros(n_trees, np.int64), np.zeros(n_edges, np.int64),
        )  # fmt: skip
        x, _, errors = _rules()

        def list_edges(factors: NDArray[np.float64], fill: bool) -> int:
            n_factors = trace(
                marked, deepest, _MOST_NODES, x, errors, forest.feature, forest.parent, forest.tree_start,
                forest.tree_output, forest.ratio, forest.value, len(forest.used), *edges, factors, fill,
            )  # fmt: skip
            return int(n_factors)

        factors = np.zeros(list_edges(np.zeros(1), False))
        list_edges(factors, True)
        return cls(forest, int(deepest), edges, factors)

    def add(
        self,
        codes: NDArray[np.unsignedinteger],
        n_rows: int,
        total: NDArray[np.float64],
        space: WalkSpace,
    ) -> None:
        """Add the attributions of rows of codes (feature by feature) to the columns of total."""
        forest = self.forest
        number = space.products.dtype
        factors = self.factors if number == np.float64 else self.rounded()
        _, weight, _ = _rules()
        WALK[codes.dtype, number](
            codes, n_rows, *self.edges, factors, weight, forest.feature, forest.parent, forest.last_left,
            forest.missing_left, forest.left_row, forest.left_codes, forest.missing_code,
            space.products, space.sums, space.left_of, space.met_at, space.open_edge, total,
        )  # fmt: skip

    def rounded(self) -> NDArray[np.float32]:
        """The factors in single precision."""
        if self._rounded is None:
            self._rounded = self.factors.astype(np.float32)
        return self._rounded


@cache
def _rules() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    x, weight = nodes_and_weights(_MOST_NODES)
    return x, weight, basis_errors(x, weight)
