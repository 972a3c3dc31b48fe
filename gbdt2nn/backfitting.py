"""Tables of effects by least squares on labelled rows. NumPy only.

An attribution is fitted by a sum of tables: one over the feature's own codes (its main effect), and one over each pair and
each triple of features that it belongs to. They are fitted in turn, each to what the others leave: backfitting
(Friedman and Stuetzle 1981), which converges to the least squares of all of them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.compilation import compiled
from gbdt2nn.interactions import TableLayout


def main_effects(
    codes: NDArray[np.integer],
    attribution: NDArray[np.floating],
    weight: NDArray[np.floating],
    n_codes: Sequence[int] | NDArray[np.integer],
    *,
    ordered: Sequence[int] | NDArray[np.integer],
    smoothing: float = 0.75,
) -> list[NDArray[np.float64]]:
    """For each feature, the mean attribution of each of its codes.

    The weighted mean is the least-squares fit of an attribution by the feature's own code. Along ordered codes it is
    smoothed with a Gaussian kernel, weighted by the rows behind each code; codes that no row has are interpolated.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_features)
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
        Raw score.
    weight : ndarray of shape (n_samples,)
    n_codes : sequence of int, length n_features
    ordered : sequence of int, length n_features
        How many of a feature's first codes are ordered (numeric); 0 for categories. The rest stand alone.
    smoothing : float, default=0.75
        Standard deviation of the kernel in codes; features with at most 12 ordered codes are not smoothed.

    Returns
    -------
    tables : list of ndarray of shape (n_codes[j], n_outputs)

    Examples
    --------
    >>> import numpy as np
    >>> phi = np.array([1.0, 3.0, 5.0]).reshape(3, 1, 1)
    >>> main_effects(np.array([[0], [0], [1]]), phi, np.ones(3), [2], ordered=[2])[0].ravel()
    array([2., 5.])
    """
    n_outputs = attribution.shape[1]
    tables = []
    for j, size in enumerate(n_codes):
        code = codes[:, j].astype(np.int64)
        mass = np.bincount(code, weights=weight, minlength=size)
        total = np.stack(
            [np.bincount(code, weights=weight * attribution[:, k, j], minlength=size) for k in range(n_outputs)], axis=1
        )
        n_ordered = int(ordered[j])
        if n_ordered > 12 and smoothing > 0:
            kernel = np.exp(-0.5 * (np.arange(-3, 4) / smoothing) ** 2)
            mass[:n_ordered] = np.convolve(mass[:n_ordered], kernel, mode="same")
            for k in range(n_outputs):
                total[:n_ordered, k] = np.convolve(total[:n_ordered, k], kernel, mode="same")
        known = mass > 0
        overall = total[known].sum(0) / mass[known].sum() if known.any() else np.zeros(n_outputs)
        table = np.where(known[:, None], total / np.where(known, mass, 1.0)[:, None], overall)
        inside = np.flatnonzero(known[:n_ordered])
        if 0 < len(inside) < n_ordered:
            for k in range(n_outputs):
                table[:n_ordered, k] = np.interp(np.arange(n_ordered), inside, table[inside, k])
        tables.append(table)
    return tables


@dataclass(frozen=True)
class Tables:
    """Values of the tables of a `TableLayout`.

    Attributes
    ----------
    main : list of ndarray of shape (n_codes[j], n_outputs)
        For each code of feature j, a part of its attribution.
    pair : ndarray of shape (n_pair_cells, 2, n_outputs)
        For each cell of each pair, a part of the attribution of its first and of its second feature.
    triple : ndarray of shape (n_triple_cells, 3, n_outputs)
    """

    main: list[NDArray[np.float64]]
    pair: NDArray[np.float64]
    triple: NDArray[np.float64]


def fit_tables(
    codes: NDArray[np.integer],
    attribution: NDArray[np.floating],
    weight: NDArray[np.float64],
    layout: TableLayout,
    *,
    n_sweeps: int = 3,
    ridge: float = 4.0,
    smoothing: float = 0.75,
    overwrite: bool = False,
    n_jobs: int = 1,
) -> Tables:
    """Least squares of attributions, or of what is left of them, by tables.

    The attribution of each feature is a problem of its own: `main_effects`, and then sweeps over its tables, in which each
    takes the ridge-shrunk mean, cell by cell, of what the others leave.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_features)
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
        Raw score, any strides: best where each feature's are contiguous, ``(n_features, n_samples, n_outputs)`` in memory.
    weight : ndarray of shape (n_samples,)
    layout : TableLayout
    n_sweeps : int, default=3
    ridge : float, default=4.0
        Each cell is shrunk towards zero as if it held so many more rows of average weight whose rest is zero.
    smoothing : float, default=0.75
        Of the main effects, see `main_effects`.
    overwrite : bool, default=False
        Leave in ``attribution`` what the tables do not explain.
    n_jobs : int, default=1
        Threads; the result does not depend on them.

    Returns
    -------
    tables : Tables
        Zero where an attribution is zero in every row.

    Notes
    -----
    Beside its arguments it holds codes and bins of all rows, feature by feature, and for each thread one feature's
    attributions in single precision: (6 n_features + 4 n_outputs n_jobs + 8 n_jobs) bytes a row.
    """
    n_samples, n_outputs, n_features = attribution.shape
    rows = _Rows(
        codes=np.ascontiguousarray(codes.T, dtype=np.int32),
        pair_bin=_bins(codes, layout.pair_bin),
        triple_bin=_bins(codes, layout.triple_bin),
        weight=(weight / weight.mean()).astype(np.float32),
    )
    tables = Tables(
        [np.zeros((size, n_outputs)) for size in layout.n_codes],
        np.zeros((int(layout.pair_start[-1]), 2, n_outputs)),
        np.zeros((int(layout.triple_start[-1]), 3, n_outputs)),
    )

    def fit(j: int) -> None:
        rest = np.array(attribution[:, :, j], dtype=np.float32, order="C")  # (n_samples, n_outputs)
        if not rest.any():
            return
        code = rows.codes[j]
        main = main_effects(
            code[:, None], rest[:, :, None], rows.weight, layout.n_codes[j : j + 1],
            ordered=layout.n_ordered[j : j + 1], smoothing=smoothing,
        )[0]  # fmt: skip
        rest -= main[code].astype(np.float32)
        more = np.zeros_like(main)
        own = _tables_of(j, layout)
        biggest = max([len(main), *(own[:, -1])])
        shrink = np.empty(len(main) + int(own[:, -1].sum()))
        sums = np.zeros((2, biggest, n_outputs))
        cells = np.empty((2, n_samples), np.int32)
        for sweep in range(n_sweeps):
            _sweep(
                rest, rows.weight, code, rows.pair_bin, rows.triple_bin, own, layout.pair_sizes, layout.triple_sizes,
                more, tables.pair, tables.triple, cells, sums, shrink, float(ridge), sweep == 0,
            )  # fmt: skip
        tables.main[j][:] = main + more
        if overwrite:
            attribution[:, :, j] = rest

    with ThreadPoolExecutor(n_jobs) as pool:
        list(pool.map(fit, range(n_features)))
    return tables


@dataclass(frozen=True)
class _Rows:
    """Rows feature by feature, as the kernel reads them."""

    codes: NDArray[np.int32]  # (n_features, n_samples)
    pair_bin: NDArray[np.uint8]
    triple_bin: NDArray[np.uint8]
    weight: NDArray[np.float32]  # (n_samples,), mean 1


def _bins(codes: NDArray[np.integer], bins: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    found = np.empty(codes.shape[::-1], np.uint8)
    for j, table in enumerate(bins):
        np.take(table, codes[:, j], out=found[j])
    return found


def _tables_of(j: int, layout: TableLayout) -> NDArray[np.int64]:
    """The tables that feature j belongs to: features a, b, c (-1 in a pair), position of j, first cell, cells."""
    found = []
    for chosen, start in ((layout.pairs, layout.pair_start), (layout.triples, layout.triple_start)):
        for number in np.flatnonzero((chosen == j).any(1)):
            features = chosen[number].tolist()
            first, end = start[number], start[number + 1]
            a, b, c = (*features, -1)[:3]
            found.append((a, b, c, features.index(j), first, end - first))
    return np.array(found, np.int64).reshape(-1, 6)


@compiled(
    [
        (
            "out float32[:, ::1]", "float32[::1]", "int32[::1]", "uint8[:, ::1]", "uint8[:, ::1]", "int64[:, ::1]",
            "int64[::1]", "int64[::1]", "out float64[:, ::1]", "out float64[:, :, ::1]", "out float64[:, :, ::1]",
            "out int32[:, ::1]", "out float64[:, :, ::1]", "out float64[::1]", "float64", "boolean",
        )
    ]
)  # fmt: skip
def _sweep(
    rest, weight, code, pair_bin, triple_bin, own, pair_size, triple_size,
    main, pair, triple, cells, sums, shrink, ridge, is_first,
):  # fmt: skip
    """Fit the tables of one feature, one after the other, to ``rest``, and take what they explain out of it.

    ``own`` is what `_tables_of` gives. ``shrink`` keeps 1 / (rows + ridge) of every cell from the first sweep on. Rows are
    gone through once a table: what the table before explains is taken out, and what is left is summed by this one's cells.
    ``cells`` (2, n_samples) and ``sums`` (2, most cells, n_outputs) are those of the table before and of this one, in turn.
    """
    n_samples, n_outputs = rest.shape
    used = 0
    for number in range(-1, own.shape[0]):  # -1: the main effect
        index, total = cells[number & 1], sums[number & 1]
        last, step = cells[1 - (number & 1)], sums[1 - (number & 1)]
        n_cells = main.shape[0] if number < 0 else own[number, 5]
        if number < 0:
            for n in range(n_samples):
                index[n] = code[n]
        elif own[number, 2] < 0:
            bin_a, bin_b, size = pair_bin[own[number, 0]], pair_bin[own[number, 1]], np.int32(pair_size[own[number, 1]])
            for n in range(n_samples):
                index[n] = np.int32(bin_a[n]) * size + np.int32(bin_b[n])
        else:
            bin_a, bin_b, bin_c = triple_bin[own[number, 0]], triple_bin[own[number, 1]], triple_bin[own[number, 2]]
            size_b, size_c = np.int32(triple_size[own[number, 1]]), np.int32(triple_size[own[number, 2]])
            for n in range(n_samples):
                index[n] = (np.int32(bin_a[n]) * size_b + np.int32(bin_b[n])) * size_c + np.int32(bin_c[n])
        if is_first:
            for cell in range(n_cells):
                shrink[used + cell] = ridge
            for n in range(n_samples):
                shrink[used + index[n]] += weight[n]
            for cell in range(n_cells):
                rows = shrink[used + cell]
                shrink[used + cell] = 1.0 / rows if rows > 0.0 else 0.0

        for cell in range(n_cells):
            for k in range(n_outputs):
                total[cell, k] = 0.0
        if number < 0:
            for n in range(n_samples):
                cell = index[n]
                for k in range(n_outputs):
                    total[cell, k] += weight[n] * rest[n, k]
        elif n_outputs == 1:
            for n in range(n_samples):
                left = rest[n, 0] - np.float32(step[last[n], 0])
                rest[n, 0] = left
                total[index[n], 0] += weight[n] * left
        else:
            for n in range(n_samples):
                cell, before, share = index[n], last[n], weight[n]
                for k in range(n_outputs):
                    left = rest[n, k] - np.float32(step[before, k])
                    rest[n, k] = left
                    total[cell, k] += share * left

        # the step from the values so far to the ridge mean of what the other tables leave
        position = own[number, 3] if number >= 0 else 0
        first = own[number, 4] if number >= 0 else 0
        for cell in range(n_cells):
            for k in range(n_outputs):
                if number < 0:
                    change = (total[cell, k] - ridge * main[cell, k]) * shrink[used + cell]
                    main[cell, k] += change
                elif own[number, 2] < 0:
                    change = (total[cell, k] - ridge * pair[first + cell, position, k]) * shrink[used + cell]
                    pair[first + cell, position, k] += change
                else:
                    change = (total[cell, k] - ridge * triple[first + cell, position, k]) * shrink[used + cell]
                    triple[first + cell, position, k] += change
                total[cell, k] = change
        used += n_cells

    last, step = cells[(own.shape[0] - 1) & 1], sums[(own.shape[0] - 1) & 1]
    for n in range(n_samples):
        cell = last[n]
        for k in range(n_outputs):
            rest[n, k] -= np.float32(step[cell, k])
