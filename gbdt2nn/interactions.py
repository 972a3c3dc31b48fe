"""Which features a teacher's trees bring together, and the tables over pairs and triples of them. NumPy only.

A table over several features has a cell for each combination of their *bins*: neighbouring codes share a bin, so that a
cell holds enough rows to take a mean of.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.arguments import check_number
from gbdt2nn.binning import Binner
from gbdt2nn.compilation import compiled
from gbdt2nn.trees import TreeEnsemble

Array = NDArray[np.float64]

MOST_BINS = 256  # bins are kept in a byte
STRONGEST = {2: 1024, 3: 96}  # features among which pairs and triples are looked for: 8 and 7 MB of sums
WIDE = 16  # used features from which on bins are fewer
# "auto": bins of a feature by the number of features in a table, where trees use few features and where they use many
FEW_FEATURES, MANY_FEATURES = {2: 64, 3: 20}, {2: 24, 3: 12}
MOST_PAIRS = 400
MOST_TRIPLES, MOST_TRIPLES_OF_MANY_OUTPUTS = 600, 300


@dataclass(frozen=True)
class TableLayout:
    """Which tables there are, and how codes reach their cells.

    Parameters
    ----------
    n_codes : ndarray of shape (n_features,), int64
    n_ordered : ndarray of shape (n_features,), int64
        How many of a feature's first codes are ordered; 0 for categories.
    pairs : ndarray of shape (n_pairs, 2), int64
        Two increasing feature numbers a row.
    triples : ndarray of shape (n_triples, 3), int64
    pair_bin, triple_bin : tuple of ndarray of shape (n_codes[j],), uint8
        Bin of each code of each feature in tables over pairs and over triples.

    Notes
    -----
    The cell of a row in the table over features (a, b) is ``bin[a] * n_bins[b] + bin[b]``, counted from
    ``pair_start`` of the pair; a third feature goes on in the same way.
    """

    n_codes: NDArray[np.int64]
    n_ordered: NDArray[np.int64]
    pairs: NDArray[np.int64]
    triples: NDArray[np.int64]
    pair_bin: tuple[NDArray[np.uint8], ...]
    triple_bin: tuple[NDArray[np.uint8], ...]

    @classmethod
    def of_main_effects(cls, n_codes: Sequence[int]) -> "TableLayout":
        """The layout without any pair or triple."""
        sizes = np.asarray(n_codes, np.int64)
        one_bin = tuple(np.zeros(size, np.uint8) for size in sizes)
        return cls(sizes, sizes, np.empty((0, 2), np.int64), np.empty((0, 3), np.int64), one_bin, one_bin)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.n_codes)

    @cached_property
    def pair_sizes(self) -> NDArray[np.int64]:
        """Bins of each feature in tables over pairs, shape (n_features,)."""
        return np.array([int(b.max(initial=0)) + 1 for b in self.pair_bin], np.int64)

    @cached_property
    def triple_sizes(self) -> NDArray[np.int64]:
        """Bins of each feature in tables over triples, shape (n_features,)."""
        return np.array([int(b.max(initial=0)) + 1 for b in self.triple_bin], np.int64)

    @cached_property
    def pair_start(self) -> NDArray[np.int64]:
        """First cell of each pair, and the number of all cells; shape (n_pairs + 1,)."""
        return np.concatenate([[0], np.cumsum(self.pair_sizes[self.pairs].prod(1))]).astype(np.int64)

    @cached_property
    def triple_start(self) -> NDArray[np.int64]:
        """First cell of each triple, and the number of all cells; shape (n_triples + 1,)."""
        return np.concatenate([[0], np.cumsum(self.triple_sizes[self.triples].prod(1))]).astype(np.int64)

    @cached_property
    def pairs_only(self) -> "TableLayout":
        """The same without tables over triples."""
        return replace(self, triples=self.triples[:0])

    @property
    def n_interactions(self) -> int:
        """Number of pairs and triples."""
        return len(self.pairs) + len(self.triples)

    def n_values(self, n_outputs: int) -> int:
        """Numbers that all tables hold: one for each code, two for each cell of a pair, three for one of a triple."""
        return n_outputs * int(self.n_codes.sum() + 2 * self.pair_start[-1] + 3 * self.triple_start[-1])


def table_layout(
    ensemble: TreeEnsemble,
    binner: Binner,
    *,
    n_pairs: int | str = "auto",
    n_triples: int | str = "auto",
    pair_bins: int | str = "auto",
    triple_bins: int | str = "auto",
    threshold_weight: Sequence[Array] | None = None,
    code_weight: Sequence[Array] | None = None,
) -> TableLayout:
    """Choose pairs and triples of features by the teacher's trees, and bins for them.

    Parameters
    ----------
    ensemble : TreeEnsemble
    binner : Binner
        Of this ensemble.
    n_pairs, n_triples : int or "auto"
        How many tables, of those that `interacting_features` ranks first. "auto": all of them up to 400 pairs and 600
        triples, 300 where there are several outputs.
    pair_bins, triple_bins : int or "auto"
        Bins of a feature, at most; a missing value has one more. "auto": 64 in pairs and 20 in triples where the trees use
        fewer than 16 features, else 24 and 12.
    threshold_weight : sequence of ndarray of shape (n_thresholds[j],), optional
        What each threshold is worth: bins have equal shares of it.
    code_weight : sequence of ndarray of shape (n_codes[j],), optional
        Rows behind each code: of many categories the most frequent ones keep bins of their own.

    Returns
    -------
    TableLayout

    Examples
    --------
    >>> import numpy as np
    >>> from lightgbm import LGBMRegressor
    >>> from gbdt2nn.teachers import library_of
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> model = LGBMRegressor(n_estimators=20, verbosity=-1).fit(X, X[:, 0] * X[:, 1])
    >>> ensemble = library_of(model).parse(model)
    >>> layout = table_layout(ensemble, Binner.from_ensemble(ensemble), n_pairs=1, n_triples=0, pair_bins=8)
    >>> layout.pairs.tolist(), layout.pair_start.tolist()
    ([[0, 1]], [0, 64])
    """
    for name, value, low in (
        ("n_pairs", n_pairs, 0), ("n_triples", n_triples, 0), ("pair_bins", pair_bins, 2), ("triple_bins", triple_bins, 2)
    ):  # fmt: skip
        _check_count(name, value, low)
    auto_bins = FEW_FEATURES if ensemble.used_features().sum() < WIDE else MANY_FEATURES
    most_triples = MOST_TRIPLES if ensemble.n_outputs == 1 else MOST_TRIPLES_OF_MANY_OUTPUTS
    pairs, triples = interacting_features(ensemble)
    n_codes = np.asarray(binner.n_codes, np.int64)
    missing = np.asarray(binner.missing_code)

    def bins(most: int) -> tuple[NDArray[np.uint8], ...]:
        return tuple(
            coarse_bins(
                int(n_codes[j]),
                most,
                is_categorical=bool(binner.is_categorical[j]),
                missing_code=int(missing[j]),
                threshold_weight=None if threshold_weight is None else threshold_weight[j],
                code_weight=None if code_weight is None else code_weight[j],
            )
            for j in range(len(n_codes))
        )

    return TableLayout(
        n_codes,
        np.where(binner.is_categorical, 0, n_codes - (missing >= 0)).astype(np.int64),
        pairs[: MOST_PAIRS if isinstance(n_pairs, str) else n_pairs],
        triples[: most_triples if isinstance(n_triples, str) else n_triples],
        bins(auto_bins[2] if isinstance(pair_bins, str) else pair_bins),
        bins(auto_bins[3] if isinstance(triple_bins, str) else triple_bins),
    )


def _check_count(name: str, value: int | str, low: int) -> None:
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"{name} must be 'auto' or a whole number, got {value!r}")
        return
    check_number(name, value, low=low, integer=True)
    if low and value >= MOST_BINS:
        raise ValueError(f"{name} must be below {MOST_BINS}, got {value}")


def interacting_features(ensemble: TreeEnsemble) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank the pairs and triples of features that stand on one path of a tree.

    A path counts with the share of rows that reach its leaf times what the leaf's value is off the tree's mean.

    Parameters
    ----------
    ensemble : TreeEnsemble

    Returns
    -------
    pairs : ndarray of shape (n_pairs, 2), int64
    triples : ndarray of shape (n_triples, 3), int64
        Increasing feature numbers a row, the strongest first. Of very many features the 1024 (for triples 96) with the
        largest gain are looked at.
    """
    inner = ensemble.feature >= 0
    gain = np.bincount(ensemble.feature[inner], weights=ensemble.gain[inner], minlength=ensemble.n_features)
    used = np.flatnonzero(ensemble.used_features())
    strongest = used[np.argsort(-gain[used], kind="stable")]
    local = np.full(ensemble.n_features, max(STRONGEST.values()), np.int64)
    local[strongest] = np.arange(len(strongest))
    pair_sum = np.zeros((min(len(used), STRONGEST[2]),) * 2)
    triple_sum = np.zeros((min(len(used), STRONGEST[3]),) * 3)
    if len(used):
        _sum_over_paths(
            ensemble.tree_start, ensemble.feature, ensemble.left, ensemble.right, ensemble.value, ensemble.cover,
            local, pair_sum, triple_sum,
        )  # fmt: skip
    return _ranked(pair_sum, strongest), _ranked(triple_sum, strongest)


def _ranked(total: Array, features: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.argwhere(total > 0)
    found = found[np.argsort(-total[tuple(found.T)], kind="stable")]
    return np.sort(features[found], axis=1).reshape(-1, total.ndim).astype(np.int64)


@compiled(
    [
        (
            "int64[::1]", "int32[::1]", "int32[::1]", "int32[::1]", "float64[::1]", "float64[::1]",
            "int64[::1]", "out float64[:, ::1]", "out float64[:, :, ::1]",
        )
    ]
)  # fmt: skip
def _sum_over_paths(tree_start, feature, left, right, value, cover, local, pair_sum, triple_sum):
    """Add every leaf's weight to the pairs and triples of local feature numbers on its path (upper triangle)."""
    most_pairs, most_triples = pair_sum.shape[0], triple_sum.shape[0]
    for tree in range(tree_start.shape[0] - 1):
        first, end = tree_start[tree], tree_start[tree + 1]
        total, mean = 0.0, 0.0
        for node in range(first, end):
            if feature[node] < 0:
                total += cover[node]
                mean += cover[node] * value[node]
        if total <= 0.0:
            continue
        mean /= total
        parent = [-1] * (end - first)
        for node in range(first, end):
            if feature[node] >= 0:
                parent[left[node] - first] = node - first
                parent[right[node] - first] = node - first
                continue
            weight = cover[node] / total * abs(value[node] - mean)
            if not weight > 0.0:
                continue
            path = [0] * 0
            at = parent[node - first]
            while at >= 0:
                number = local[feature[first + at]]
                if number < most_pairs and number not in path:
                    path.append(number)
                at = parent[at]
            path.sort()
            for a in range(len(path)):
                for b in range(a + 1, len(path)):
                    pair_sum[path[a], path[b]] += weight
                    if path[b] >= most_triples:
                        continue
                    for c in range(b + 1, len(path)):
                        if path[c] < most_triples:
                            triple_sum[path[a], path[b], path[c]] += weight


def coarse_bins(
    n_codes: int,
    n_bins: int,
    *,
    is_categorical: bool = False,
    missing_code: int = -1,
    threshold_weight: Array | None = None,
    code_weight: Array | None = None,
) -> NDArray[np.uint8]:
    """Give each code of a feature a bin.

    Parameters
    ----------
    n_codes : int
    n_bins : int
        At most, a missing value's own bin not counted.
    is_categorical : bool, default=False
        Categories keep bins of their own, or, where they are more than bins, the heaviest of them do and the others share
        the last one.
    missing_code : int, default=-1
        The code of a missing value, -1 where there is none; it has a bin of its own, the last.
    threshold_weight : ndarray of shape (n_thresholds,), optional
        Between ordered codes: bins have equal shares of it, save that no threshold counts for more than a whole bin.
    code_weight : ndarray of shape (n_codes,), optional
        Of categories.

    Returns
    -------
    bins : ndarray of shape (n_codes,), uint8

    Examples
    --------
    >>> coarse_bins(7, 3, missing_code=6).tolist()
    [0, 0, 1, 1, 2, 2, 3]
    >>> coarse_bins(5, 3, is_categorical=True, code_weight=np.array([9.0, 1, 2, 8, 1])).tolist()
    [0, 2, 2, 1, 2]
    """
    known = np.arange(n_codes) != missing_code
    n_known = int(known.sum())
    if n_known <= n_bins:
        bins = np.arange(n_known)
    elif is_categorical:
        weight = np.ones(n_known) if code_weight is None else np.asarray(code_weight, np.float64)[known]
        heaviest = np.sort(np.argsort(-weight, kind="stable")[: n_bins - 1])
        bins = np.full(n_known, n_bins - 1)
        bins[heaviest] = np.arange(n_bins - 1)
    else:
        weight = np.ones(n_known - 1) if threshold_weight is None else np.asarray(threshold_weight, np.float64) + 1e-12
        for _ in range(30):  # a weight above the mean of the bins takes a cut for itself; the mean then falls
            weight = np.minimum(weight, weight.sum() / (n_bins - 1))
        mass = np.cumsum(weight)
        wanted = (np.arange(1, n_bins) - 0.5) / (n_bins - 1) * mass[-1]
        cuts = np.unique(np.minimum(np.searchsorted(mass, wanted), n_known - 2))
        bins = np.searchsorted(cuts, np.arange(n_known), side="left")
    result = np.zeros(n_codes, np.uint8)
    result[known] = bins
    if missing_code >= 0:
        result[missing_code] = bins.max(initial=-1) + 1
    return result
