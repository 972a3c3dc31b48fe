"""Codes: what an ensemble can tell apart of each feature, as small whole numbers.

Two values of a feature with the same code take the same way at every split of the ensemble. Codes are the one language
of the attribution engine, the synthetic stream and the students.

How a code is found: a feature's range is cut into many narrow cells, by a map that never falls from number to cell. A
table gives for each cell the number of thresholds in the cells before it; those are below every number of the cell. The
thresholds of the cell itself, mostly none or one, are compared one by one. So the code is exact whatever the rounding
of the map, and costs the same wherever the number lies.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gbdt2nn.arguments import check_number
from gbdt2nn.compilation import Kernel
from gbdt2nn.trees import MISSING_NAN, MISSING_ZERO, ZERO_THRESHOLD, TreeEnsemble

_BELOW_ZERO = float(np.nextafter(-ZERO_THRESHOLD, -np.inf))

# What a feature's column needs: nothing, cells of equal width, or cells of equal relative width.
_UNUSED, _EQUAL, _RELATIVE = 0, 1, 2
_CELLS_PER_THRESHOLD = 8
_MIN_CELLS, _MAX_CELLS = 64, 4096
# Up to so many thresholds in one cell are compared one by one; more are halved.
_ONE_BY_ONE = 3
# Rows whose column is in the first-level cache together with the tables of its feature.
_BLOCK = 512
# Fewer rows are not worth a thread.
_ROWS_PER_THREAD = 4096


@dataclass(frozen=True)
class Binner:
    """An ensemble's thresholds and categories, and the codes they give.

    A numeric feature with S thresholds has codes 0, ..., S: the number of thresholds below x. Where splits treat
    missing values apart, one more code at the top holds them. A categorical feature has one code for each category that
    any split names, then one for all others, then one for missing values where the library treats them apart. A feature
    no split uses has one code.

    Attributes
    ----------
    n_codes : ndarray of shape (n_features,), int64
    missing_code : ndarray of shape (n_features,), int64
        -1 where a feature has no own code for missing values.
    thresholds : list of ndarray
        Per feature, ascending; empty where categorical or unused.
    is_categorical : ndarray of shape (n_features,), bool
    categories : list of ndarray
        Per feature, the categories any split names, ascending; empty where numeric.
    zero_is_missing : ndarray of shape (n_features,), bool
        Whether values within ``ZERO_THRESHOLD`` of zero share the missing code.
    categories_go_left, float32_input : bool
        As in :class:`~gbdt2nn.trees.TreeEnsemble`: how the library reads categories and numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from lightgbm import LGBMRegressor
    >>> from gbdt2nn.teachers import lightgbm
    >>> X = np.arange(100.0)[:, None]
    >>> ensemble = lightgbm.parse(LGBMRegressor(n_estimators=2, verbosity=-1).fit(X, X[:, 0]))
    >>> binner = Binner.from_ensemble(ensemble)
    >>> codes = binner.transform(X)
    >>> bool((ensemble.raw_score(X) == ensemble.raw_score(binner.representatives(0)[codes])).all())
    True
    """

    n_codes: NDArray[np.int64]
    missing_code: NDArray[np.int64]
    thresholds: list[NDArray[np.float64]]
    is_categorical: NDArray[np.bool_]
    categories: list[NDArray[np.int32]]
    zero_is_missing: NDArray[np.bool_]
    categories_go_left: bool
    float32_input: bool

    @classmethod
    def from_ensemble(cls, ensemble: TreeEnsemble) -> "Binner":
        """Collect what the splits of an ensemble compare with.

        Parameters
        ----------
        ensemble : TreeEnsemble

        Returns
        -------
        binner : Binner
        """
        d = ensemble.n_features
        n_codes = np.ones(d, dtype=np.int64)
        missing_code = np.full(d, -1, dtype=np.int64)
        thresholds = [np.zeros(0) for _ in range(d)]
        categories = [np.zeros(0, dtype=np.int32) for _ in range(d)]
        is_categorical = np.zeros(d, dtype=bool)
        zero_is_missing = np.zeros(d, dtype=bool)
        splits = np.flatnonzero(ensemble.feature >= 0)
        splits = splits[np.argsort(ensemble.feature[splits], kind="stable")]
        bounds = np.searchsorted(ensemble.feature[splits], np.arange(d + 1))
        owner = np.repeat(ensemble.feature, np.diff(ensemble.category_start))  # feature of each named category
        for j in range(d):
            nodes = splits[bounds[j] : bounds[j + 1]]
            if not nodes.size:
                continue
            kinds = set(ensemble.missing[nodes].tolist())
            categorical = ensemble.is_categorical[nodes]
            is_categorical[j] = categorical.all()
            if categorical.any() and not is_categorical[j]:
                raise ValueError(
                    f"every split of a feature must be of one kind, got numeric and categorical splits of feature {j}; "
                    "fit the teacher anew rather than continue another that read the feature differently."
                )
            if is_categorical[j]:
                categories[j] = np.unique(ensemble.category_values[owner == j])
                n_codes[j] = len(categories[j]) + 1
            else:
                thresholds[j] = np.unique(ensemble.threshold[nodes])
                zero_is_missing[j] = kinds == {MISSING_ZERO}
                if MISSING_ZERO in kinds and not zero_is_missing[j]:
                    # Splits that differ on what zero is (a continued training): zero gets a code of its own.
                    thresholds[j] = np.union1d(thresholds[j], [_BELOW_ZERO, ZERO_THRESHOLD])
                n_codes[j] = len(thresholds[j]) + 1
            if kinds & {MISSING_ZERO, MISSING_NAN}:
                missing_code[j] = n_codes[j]
                n_codes[j] += 1
        return cls(
            n_codes=n_codes,
            missing_code=missing_code,
            thresholds=thresholds,
            is_categorical=is_categorical,
            categories=categories,
            zero_is_missing=zero_is_missing,
            categories_go_left=ensemble.categories_go_left,
            float32_input=ensemble.float32_input,
        )

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.n_codes)

    @property
    def dtype(self) -> np.dtype:
        """Type of the codes: the smallest of uint8 and uint16 that holds them all (uint32 beyond 65 536 codes)."""
        return np.min_scalar_type(int(self.n_codes.max(initial=1)) - 1)

    def transform(
        self,
        x: ArrayLike,
        *,
        order: Literal["C", "F"] = "C",
        n_jobs: int = 1,
        out: NDArray[np.unsignedinteger] | None = None,
    ) -> NDArray[np.unsignedinteger]:
        """Give each value its code.

        Parameters
        ----------
        x : array-like of shape (n_samples, n_features)
            Arrays of float32 and float64 are read in place, whatever their strides; all else is converted.
        order : {"C", "F"}, default="C"
            Memory order of the codes: row after row, or feature after feature.
        n_jobs : int, default=1
            Threads.
        out : ndarray of shape (n_samples, n_features), optional
            Where to write the codes, with any strides; ``order`` then has no say.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features), uint8, uint16 or uint32
            ``out``, or a new array.
        """
        rows = _as_rows(x)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise ValueError(f"x must have shape (n_samples, {self.n_features}), got {rows.shape}.")
        if order not in ("C", "F"):
            raise ValueError(f"order must be 'C' or 'F', got {order!r}.")
        if n_jobs != 1:
            check_number("n_jobs", n_jobs, low=1, integer=True)
        tables = self._tables
        dtype = tables.below.dtype
        if out is None:
            codes = np.empty(rows.shape, dtype=dtype, order=order)
        else:
            codes = out
            if out.shape != rows.shape or out.dtype != dtype or not out.flags.writeable or not out.flags.aligned:
                raise ValueError(
                    f"out must be a writable array of shape {rows.shape} and type {dtype}, got "
                    f"{'a writable' if out.flags.writeable else 'a read-only'} one of shape {out.shape} and type "
                    f"{out.dtype}."
                )
        code = _kernel(rows.itemsize, dtype.itemsize).load()
        n_threads = min(int(n_jobs), len(rows) // _ROWS_PER_THREAD)
        if n_threads <= 1:
            code(rows, codes, *tables)
            return codes
        bounds = np.linspace(0, len(rows), n_threads + 1).astype(int)
        with ThreadPoolExecutor(n_threads) as pool:
            blocks = [slice(start, stop) for start, stop in pairwise(bounds)]
            list(pool.map(lambda block: code(rows[block], codes[block], *tables), blocks))
        return codes

    def kernel(self, dtype: DTypeLike) -> Kernel:
        """Return the compiled function that ``transform`` uses, which knows whether it is loaded yet.

        Parameters
        ----------
        dtype : data-type
            Of the table: float32, or any other, which is read as float64.

        Returns
        -------
        kernel : Kernel
        """
        return _kernel(4 if np.dtype(dtype) == np.float32 else 8, self.dtype.itemsize)

    def representatives(self, j: int) -> NDArray[np.float64]:
        """Give one value of a feature for each of its codes.

        Parameters
        ----------
        j : int
            Feature.

        Returns
        -------
        x : ndarray of shape (n_codes[j],)
            ``transform`` gives value c the code c. NaN stands for the missing code, finite values for all others
            (except above a threshold at the end of the number range).
        """
        if self.is_categorical[j]:
            named = self.categories[j]
            free = np.setdiff1d(np.arange(len(named) + 1), named)[0]  # the smallest category no split names
            known = np.append(named, free).astype(np.float64)
        elif self.thresholds[j].size:
            # A threshold is the largest value of its own code.
            number = np.float32 if self.float32_input else np.float64
            last = number(self.thresholds[j][-1])
            above = float(np.nextafter(last, number(np.inf)))
            known = np.append(self.thresholds[j], above)
        else:
            known = np.ones(int(self.n_codes[j]) - (self.missing_code[j] >= 0))
        return np.append(known, np.nan) if self.missing_code[j] >= 0 else known

    @cached_property
    def _tables(self) -> "_SearchTables":
        return _search_tables(self)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: the fields, without the tables made of them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class _SearchTables(NamedTuple):
    """Arguments of the search after x and codes. One entry per feature, except where a shape says otherwise."""

    kind: NDArray[np.int64]
    is_categorical: NDArray[np.bool_]
    low: NDArray[np.float64]  # equal cells: the smallest threshold,
    cells_per_unit: NDArray[np.float64]
    zero_size: NDArray[np.int64]  # relative cells: the bits of the size up to which a number counts as zero,
    first_key: NDArray[np.int64]  # the keys of the smallest and the largest threshold,
    last_key: NDArray[np.int64]
    key_shift: NDArray[np.int64]  # and the bits of a key that its cell leaves out
    last_cell: NDArray[np.int64]
    most: NDArray[np.int64]  # thresholds in the fullest cell
    below_start: NDArray[np.int64]
    below: NDArray[np.unsignedinteger]  # (n_cells of all features,): thresholds in the cells before
    threshold_start: NDArray[np.int64]
    thresholds: NDArray[np.float64]  # (n_thresholds of all features,), each feature's followed by some infinities
    nan_code: NDArray[np.int64]
    zero_code: NDArray[np.int64]  # -1 where zero is a number as others
    other_code: NDArray[np.int64]  # of a category no split names
    categories_go_left: bool
    float32_input: bool


class _Cells(NamedTuple):
    """The cells of one feature."""

    kind: int
    low: float
    cells_per_unit: float
    zero_size: int
    first_key: int
    last_key: int
    key_shift: int
    below: NDArray[np.int64]
    most: int


def _as_rows(x: ArrayLike) -> NDArray[Any]:
    rows = np.asarray(x)
    if rows.dtype not in (np.float32, np.float64) or not rows.dtype.isnative or not rows.flags.aligned:
        rows = np.require(rows, dtype=np.float64, requirements="A")
    return rows


def _search_tables(binner: Binner) -> _SearchTables:
    unused = _Cells(_UNUSED, 0.0, 0.0, 0, 0, 0, 0, np.zeros(0, dtype=np.int64), 0)
    cells, padded, code_of_zero = [], [], np.zeros(binner.n_features, dtype=np.int64)
    for j in range(binner.n_features):
        if binner.n_codes[j] == 1:
            cells.append(unused)
            padded.append(np.zeros(0))
            continue
        ends = (binner.categories[j] if binner.is_categorical[j] else binner.thresholds[j]).astype(np.float64)
        cells.append(_cut(ends))
        padding = max(_ONE_BY_ONE, 2 ** cells[-1].most.bit_length())
        padded.append(np.append(ends, np.full(padding, np.inf)))
        code_of_zero[j] = np.searchsorted(ends, 0.0)
    n_cells = np.array([len(c.below) for c in cells], dtype=np.int64)
    n_padded = np.array([len(ends) for ends in padded], dtype=np.int64)
    other = np.array([len(named) for named in binner.categories], dtype=np.int64)
    missing = binner.missing_code

    def column(name: str, dtype: DTypeLike) -> NDArray[Any]:
        return np.array([getattr(c, name) for c in cells], dtype=dtype)

    return _SearchTables(
        kind=column("kind", np.int64),
        is_categorical=np.ascontiguousarray(binner.is_categorical, dtype=np.bool_),
        low=column("low", np.float64),
        cells_per_unit=column("cells_per_unit", np.float64),
        zero_size=column("zero_size", np.int64),
        first_key=column("first_key", np.int64),
        last_key=column("last_key", np.int64),
        key_shift=column("key_shift", np.int64),
        last_cell=n_cells - 1,
        most=column("most", np.int64),
        below_start=np.cumsum(n_cells) - n_cells,
        below=np.concatenate([np.zeros(0, dtype=np.int64), *(c.below for c in cells)]).astype(binner.dtype),
        threshold_start=np.cumsum(n_padded) - n_padded,
        thresholds=np.concatenate([np.zeros(0), *padded]),
        # Without a code of its own, NaN is read as 0.0, or as a category that no split names.
        nan_code=np.where(missing >= 0, missing, np.where(binner.is_categorical, other, code_of_zero)),
        zero_code=np.where(binner.zero_is_missing, missing, -1),
        other_code=other,
        categories_go_left=binner.categories_go_left,
        float32_input=binner.float32_input,
    )


def _cut(thresholds: NDArray[np.float64]) -> _Cells:
    """Cut the range of a feature into cells, as fine as keeps at most one threshold in each, within reason."""
    finite = thresholds[np.isfinite(thresholds)] + 0.0
    if not finite.size:
        return _Cells(_EQUAL, 0.0, 0.0, 0, 0, 0, 0, np.zeros(1, dtype=np.int64), len(thresholds))
    wanted = _CELLS_PER_THRESHOLD * len(thresholds)
    n_cells = min(max(_MIN_CELLS, 1 << (wanted - 1).bit_length()), _MAX_CELLS)
    low = float(finite[0])
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        per_unit = float((n_cells - 1) / (finite[-1] - finite[0]))
        per_unit = per_unit if np.isfinite(per_unit) else 0.0  # one cell for all
        place = (thresholds - low) * per_unit
    # The same operations as in `_search`: numbers and thresholds share one map.
    equal = np.minimum(np.where(place > 0.0, place, 0.0), n_cells - 1).astype(np.int64)
    below, most = _count_before(equal, n_cells)
    best = _Cells(_EQUAL, low, per_unit, 0, 0, 0, 0, below, most)
    size = np.sort(np.abs(finite))
    # What is closer to zero than the first or the third threshold shares a cell; else octaves no data reach use up all.
    for nearest in (float(size[0]), float(size[min(2, len(size) - 1)])) if most > 1 else ():
        key = _keys(thresholds, nearest)
        first, last = int(_keys(finite[:1], nearest)[0]), int(_keys(finite[-1:], nearest)[0])
        shift = max(0, (last - first).bit_length() - (n_cells.bit_length() - 1))
        # The difference of two keys may need all 64 bits.
        relative = (np.clip(key, first, last) - np.int64(first)).view(np.uint64) >> np.uint64(shift)
        below, most = _count_before(relative.astype(np.int64), n_cells)
        if most < best.most:
            zero = int(np.float64(nearest).view(np.int64))
            best = _Cells(_RELATIVE, low, per_unit, zero, first, last, shift, below, most)
    return best


def _count_before(cell: NDArray[np.int64], n_cells: int) -> tuple[NDArray[np.int64], int]:
    count = np.bincount(cell, minlength=n_cells)
    return np.cumsum(count) - count, int(count.max())


def _keys(x: NDArray[np.float64], nearest: float) -> NDArray[np.int64]:
    """Turn numbers into whole numbers of the same order, with about equal steps between equal ratios.

    All numbers at most as far from zero as ``nearest`` become 0.
    """
    size = np.maximum(np.abs(x).view(np.int64) - np.float64(nearest).view(np.int64), 0)
    return np.where(x < 0.0, -size, size)


@cache
def _kernel(table_bytes: int, code_bytes: int) -> Kernel:
    """The search of a table of single or double precision for codes of one, two or four bytes."""
    table, codes = f"float{8 * table_bytes}", f"uint{8 * code_bytes}"
    numbers, sizes = "float64[::1]", "int64[::1]"
    tables = [sizes, "boolean[::1]", numbers, numbers, *[sizes] * 7, f"{codes}[::1]", sizes, numbers, *[sizes] * 3]
    return Kernel(_search, [(f"{table}[:, :]", f"out {codes}[:, :]", *tables, "boolean", "boolean")])


def _search(
    x: Any,
    codes: Any,
    kind: Any,
    is_categorical: Any,
    low: Any,
    cells_per_unit: Any,
    zero_size: Any,
    first_key: Any,
    last_key: Any,
    key_shift: Any,
    last_cell: Any,
    most: Any,
    below_start: Any,
    below: Any,
    threshold_start: Any,
    thresholds: Any,
    nan_code: Any,
    zero_code: Any,
    other_code: Any,
    categories_go_left: Any,
    float32_input: Any,
) -> None:
    # Each step is a loop of its own over a block of one column: the compiler makes vector code of most of them.
    n_rows = x.shape[0]
    value = np.empty(_BLOCK, dtype=np.float64)
    bits = value.view(np.int64)
    cell = np.empty(_BLOCK, dtype=np.int32)
    at = np.empty(_BLOCK, dtype=np.uint32)
    for first in range(0, n_rows, _BLOCK):
        n = min(_BLOCK, n_rows - first)
        for j in range(x.shape[1]):
            column = codes[first : first + n, j]
            if kind[j] == _UNUSED:
                column[:] = 0
                continue
            for i in range(n):
                value[i] = x[first + i, j] + 0.0  # -0.0 becomes 0.0
            if float32_input:
                for i in range(n):
                    value[i] = np.float64(np.float32(value[i]))
            if is_categorical[j]:
                # What is no category becomes -1.0, which no split names; NaN stays.
                for i in range(n):
                    v = value[i]
                    is_category = v > -1.0 and v < 2147483648.0 if categories_go_left else v >= 0.0 and v < 16777216.0
                    value[i] = np.trunc(v) + 0.0 if is_category else (v if np.isnan(v) else -1.0)

            if kind[j] == _EQUAL:
                start, per_unit, end = low[j], cells_per_unit[j], np.float64(last_cell[j])
                for i in range(n):
                    place = (value[i] - start) * per_unit
                    place = place if place > 0.0 else 0.0
                    place = place if place < end else end
                    cell[i] = np.int32(place)
            else:
                zero, smallest, largest, shift = zero_size[j], first_key[j], last_key[j], np.uint64(key_shift[j])
                for i in range(n):
                    size = max((bits[i] & 9223372036854775807) - zero, 0)
                    key = -size if bits[i] < 0 else size
                    cell[i] = np.int32((np.uint64(min(max(key, smallest), largest)) - np.uint64(smallest)) >> shift)

            before = below[below_start[j] :]
            t = thresholds[threshold_start[j] :]
            nan = np.uint32(nan_code[j])
            # Unsigned places: numba need not ask whether they count from the end.
            if most[j] == 1:
                for i in range(n):
                    v = value[i]
                    p = np.uint32(before[np.uint32(cell[i])])
                    p += np.uint32(t[p] < v)
                    column[i] = nan if v != v else p
            elif most[j] <= _ONE_BY_ONE:
                for i in range(n):
                    v = value[i]
                    p = np.uint32(before[np.uint32(cell[i])])
                    more = np.uint32(t[p] < v) + np.uint32(t[p + np.uint32(1)] < v) + np.uint32(t[p + np.uint32(2)] < v)
                    column[i] = nan if v != v else p + more
            else:
                for i in range(n):
                    at[i] = before[np.uint32(cell[i])]
                half = np.uint32(1)
                while 2 * half <= most[j]:
                    half *= np.uint32(2)
                while half > 0:
                    for i in range(n):
                        p = at[i]
                        at[i] = p + half if t[p + half - np.uint32(1)] < value[i] else p
                    half = half >> np.uint32(1)
                for i in range(n):
                    column[i] = nan if value[i] != value[i] else at[i]

            if is_categorical[j]:
                other = np.uint32(other_code[j])
                for i in range(n):
                    if value[i] == value[i] and t[np.uint32(column[i])] != value[i]:
                        column[i] = other
            if zero_code[j] >= 0:
                for i in range(n):
                    if abs(value[i]) <= ZERO_THRESHOLD:
                        column[i] = zero_code[j]
