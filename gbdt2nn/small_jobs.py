"""Small jobs: when LightGBM's own call is done sooner than the engine has read, compiled and built.

Only LightGBM's, whose attributions are in double precision as the engine's are; XGBoost adds its own in single precision.
"""

from dataclasses import dataclass

import numpy as np

from gbdt2nn.trees import TreeEnsemble

EXACT_LIBRARIES = ("lightgbm",)
FEW_ROWS = 4  # are explained by the library before the trees of any model are read

# One thread of a 2.6 GHz core.
SECONDS_PER_STEP = 1.2e-8  # the library's call: for each row, and each unit of the sum over leaves of depth ** 1.5
SECONDS_PER_LEAF = 4e-6  # reading the trees
SECONDS_TO_WARM = 0.4  # loading what is compiled, once in a process; at the least


@dataclass(frozen=True)
class LibraryCall:
    """What stands in the place of a plan where the model's own library was asked.

    Attributes
    ----------
    library : str
    n_samples : int
    """

    library: str
    n_samples: int


@dataclass(frozen=True)
class LibraryCost:
    """What a model costs its library, and the engine before it can begin; estimated.

    Attributes
    ----------
    seconds_per_row : float
        The library's own exact attributions.
    seconds_to_read : float
        The trees, for the engine.
    """

    seconds_per_row: float
    seconds_to_read: float

    @classmethod
    def of(cls, ensemble: TreeEnsemble, *, times: int = 1) -> "LibraryCost":
        """Estimate from the depths of leaves.

        Parameters
        ----------
        ensemble : TreeEnsemble
            All trees of a model, or those of its first round, which are quick to read.
        times : int, default=1
            How many times as many trees the model has.

        Returns
        -------
        cost : LibraryCost
        """
        n_leaves, steps, depth = 0, 0.0, 0
        nodes = ensemble.tree_start[:-1]
        while len(nodes):  # one level of all trees after another
            is_leaf = ensemble.feature[nodes] < 0
            n_leaves += int(is_leaf.sum())
            steps += int(is_leaf.sum()) * depth**1.5
            inner = nodes[~is_leaf]
            nodes = np.concatenate([ensemble.left[inner], ensemble.right[inner]])
            depth += 1
        return cls(SECONDS_PER_STEP * steps * times, SECONDS_PER_LEAF * n_leaves * times)
