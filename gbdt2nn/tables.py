"""A caller's table of any kind, read column by column: numbers, or codes into labels.

Nothing is learned here; what the columns mean to a teacher is the encoder's business.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.stable.v2 import dependencies as frames
from numpy.typing import NDArray

SHOWN = 5  # how many names or values a message lists before it says "and more"


@dataclass(frozen=True)
class Column:
    """One column as it arrived: numbers, or codes into labels.

    Parameters
    ----------
    name : str
        The column's name for messages.
    dtype : str
        The column's type as its own library calls it, for messages.
    values : ndarray of shape (n_samples,) or None
        The numbers of a numeric column in a real dtype, NaN where missing.
    codes : ndarray of shape (n_samples,) or None
        Positions in `labels`, -1 where missing, of a column that holds categories or text.
    labels : ndarray of shape (n_labels,) or None
        What the codes stand for: an object array of str, or an array of numbers.
    ordered : bool
        Whether the column's categories have an order that the teacher may use.
    """

    name: str
    dtype: str
    values: NDArray[Any] | None = None
    codes: NDArray[np.integer] | None = None
    labels: NDArray[Any] | None = None
    ordered: bool = False


class Table:
    """A caller's table behind one face: its size, its names, and its columns one by one."""

    def __init__(self, X: Any) -> None:
        self.array: NDArray[np.float64] | None = None
        self.index: Any = None
        self.names: list[str] | None = None
        self._frame: Any = None
        X = nw.to_native(X, pass_through=True)
        if frames.is_pyarrow_table(X):
            _check_unique(list(X.column_names))
            X = X.to_pandas(ignore_metadata=True)  # which could turn a column into the index
        if frames.is_pandas_dataframe(X):
            self._frame = X
            self.index = X.index
            names = list(X.columns)
        elif not isinstance(X, np.ndarray):
            if frames.is_pandas_series(X) or frames.is_polars_series(X):
                raise TypeError("X must be a table with rows and columns, got a single column (a Series).")
            if hasattr(X, "tocsr"):
                raise TypeError("X must be dense, got a sparse matrix: use X.toarray().")
            frame = nw.from_native(X, pass_through=True)
            if isinstance(frame, nw.LazyFrame):
                raise TypeError(f"X must hold its rows in memory, got a lazy {type(X).__name__}: collect it first.")
            if isinstance(frame, nw.DataFrame):
                self._frame = frame
                names = list(frame.columns)
        if self._frame is None:
            self.array = _numbers(X)
            self.n_samples, self.n_features = self.array.shape
        else:
            _check_unique(names)
            text = [isinstance(name, str) for name in names]
            if any(text) and not all(text):
                kinds = sorted({type(name).__name__ for name in names})
                raise TypeError(
                    f"Column names must be strings, or none of them may be: got names of type {', '.join(kinds)}; "
                    f"X.columns = X.columns.astype(str) makes them strings."
                )
            self.names = names if text and all(text) else None
            self._shown = [str(name) for name in names]
            self.n_samples, self.n_features = self._frame.shape
        # The words are scikit-learn's, which its estimator checks look for.
        if self.n_features == 0:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={(self.n_samples, 0)}) while a minimum of 1 is required."
            )
        if self.n_samples == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={(0, self.n_features)}) while a minimum of 1 is required."
            )

    def columns(self) -> Iterator[Column]:
        """Yield the columns of a frame; an array has none to tell apart."""
        if self.array is not None:
            return
        for j, name in enumerate(self._shown):
            if isinstance(self._frame, nw.DataFrame):
                yield _narwhals_column(self._frame[:, j], name)
            else:
                yield _pandas_column(self._frame.iloc[:, j], name)


def _pandas_column(series: Any, name: str) -> Column:
    """Read one pandas column."""
    import pandas as pd

    dtype = series.dtype
    shown = str(dtype)
    if isinstance(dtype, pd.ArrowDtype):
        # pyarrow knows best how its own types look as NumPy numbers, objects or categories.
        return _pandas_column(series.array.__arrow_array__().to_pandas(), name)
    if isinstance(dtype, pd.SparseDtype):
        return _pandas_column(pd.Series(np.asarray(series.array)), name)
    if isinstance(dtype, pd.CategoricalDtype):
        labels = checked_labels(dtype.categories, f"categories of column {name!r}")
        return Column(name, shown, codes=series.cat.codes.to_numpy(), labels=labels, ordered=bool(dtype.ordered))
    if isinstance(dtype, pd.StringDtype):
        return _text_column(series.array, name, shown)
    if isinstance(dtype, np.dtype):
        if dtype.kind in "biuf":
            return Column(name, shown, values=series.to_numpy())
        if dtype.kind == "O":
            return _object_column(series.to_numpy(), name, shown)
    elif pd.api.types.is_numeric_dtype(dtype):  # nullable integers, floats, booleans
        values = series.to_numpy(dtype=np.float64, na_value=np.nan) if series.hasnans else series.to_numpy()
        return Column(name, shown, values=values)
    raise _unsupported(name, shown)


def _narwhals_column(series: Any, name: str) -> Column:
    """Read one column of any other frame, through narwhals."""
    dtype = series.dtype
    shown = str(dtype)
    if dtype.is_integer() and series.null_count() == 0:
        return Column(name, shown, values=series.to_numpy())
    if dtype.is_numeric() or dtype == nw.Boolean:
        return Column(name, shown, values=series.cast(nw.Float64).to_numpy())
    if isinstance(dtype, nw.Enum):
        import pandas as pd

        labels = checked_labels(dtype.categories, f"categories of column {name!r}")
        codes = pd.Index(labels).get_indexer(pd.Index(_as_object(series.cast(nw.String).to_numpy())))
        return Column(name, shown, codes=codes, labels=labels)
    if dtype in (nw.String, nw.Categorical):
        # The physical order of polars' categories hangs on what the process has read before, so it is not used.
        text = series.cast(nw.String) if dtype == nw.Categorical else series
        return _text_column(_as_object(text.to_numpy()), name, shown)
    if series.null_count() == len(series):
        return Column(name, shown, values=np.full(len(series), np.nan))
    if dtype == nw.Object:
        return _object_column(np.fromiter(series.to_list(), dtype=object, count=len(series)), name, shown)
    raise _unsupported(name, shown)


def _object_column(values: NDArray[np.object_], name: str, dtype: str) -> Column:
    """Read a column of Python objects, all of them text or all of them numbers where they are not missing."""
    import pandas as pd

    missing = pd.isna(values)
    present = values[~missing]
    kinds = set(map(type, present))
    if all(issubclass(kind, str) for kind in kinds) and kinds:
        text = values.copy()
        text[missing] = None
        return _text_column(text, name, dtype)
    if all(issubclass(kind, (numbers.Real, Decimal, np.bool_)) for kind in kinds):
        floats = np.full(len(values), np.nan)
        floats[~missing] = present.astype(np.float64)
        return Column(name, dtype, values=floats)
    held = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise _unsupported(name, f"{dtype}, holding {held}")


def _text_column(values: Any, name: str, dtype: str) -> Column:
    """Read a column of text (missing where pandas says so): its sorted distinct values are the labels."""
    import pandas as pd

    codes, uniques = pd.factorize(values)
    labels = checked_labels(uniques, f"text of column {name!r}")
    order = np.argsort(labels)
    rank = np.empty(len(labels) + 1, dtype=np.int64)
    rank[order] = np.arange(len(labels))
    rank[-1] = -1
    return Column(name, dtype, codes=rank[codes], labels=labels[order])


def checked_labels(values: Any, what: str) -> NDArray[Any]:
    """Return category labels as an object array of str, or as an array of booleans, integers or floats."""
    labels = np.asarray(values)
    if labels.ndim != 1:
        raise TypeError(f"The {what} must be a list of strings or numbers, got shape {labels.shape}.")
    if labels.dtype.kind in "OUT":
        items = labels.tolist()
        if all(isinstance(item, str) for item in items):
            return _as_object([str(item) for item in items])
        if not all(isinstance(item, (numbers.Real, np.bool_)) for item in items):
            held = ", ".join(sorted({type(item).__name__ for item in items}))
            raise TypeError(
                f"The {what} must be all strings or all numbers, got {held}; "
                f".astype(str).astype('category') makes them strings."
            )
        labels = np.array(items)
    if labels.dtype.kind in "biu":
        return labels if labels.dtype.kind == "b" or labels.dtype == np.uint64 else labels.astype(np.int64)
    if labels.dtype.kind == "f":
        # Whole numbers become floats in a table as soon as one of them is missing; they are integers all the same.
        whole = np.all(np.floor(labels) == labels) and np.all(np.abs(labels) <= 2.0**53)
        return labels.astype(np.int64 if whole else np.float64)
    raise TypeError(
        f"The {what} must be strings or numbers, got dtype {labels.dtype}; "
        f".astype(str).astype('category') makes them strings."
    )


def _numbers(X: Any) -> NDArray[np.float64]:
    """Return a new float64 array of shape (n_samples, n_features) from an array or nested sequence of numbers."""
    if isinstance(X, np.ma.MaskedArray):
        X = np.ma.filled(X.astype(np.float64), np.nan)  # np.asarray would show what lies under the mask
    array = np.asarray(X)
    if array.dtype.names is not None:
        raise TypeError(
            "X must be a plain array or a frame, got a structured array: pandas.DataFrame(X) makes a frame."
        )
    if array.ndim != 2:
        # The words are scikit-learn's, which its estimator checks look for.
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead: X must have shape (n_samples, n_features), "
            f"got {array.shape}. Reshape your data either using array.reshape(-1, 1) if your data has a single feature "
            f"or array.reshape(1, -1) if it contains a single sample."
        )
    if array.dtype.kind in "biuf":
        return np.array(array, dtype=np.float64, order="C")
    if array.dtype.kind == "O":
        columns = [_array_column(array[:, j], j) for j in range(array.shape[1])]
        return np.column_stack(columns) if columns else np.empty(array.shape)
    if array.dtype.kind in "SUT":
        raise _no_text("X", array.dtype)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: X must hold real numbers, got dtype {array.dtype}.")
    raise TypeError(f"X must hold numbers, got an array of dtype {array.dtype}.")


def _array_column(values: NDArray[np.object_], j: int) -> NDArray[np.float64]:
    """Return column j of an object array as numbers."""
    if not values.size:
        return np.empty(0)
    column = _object_column(values, f"x{j}", "object")
    if column.values is None:
        raise _no_text(f"Column {j} of X", values.dtype)
    return column.values


def _no_text(what: str, dtype: Any) -> ValueError:
    return ValueError(
        f"{what} must hold numbers when X is an array, got text (dtype {dtype}): "
        f"use a frame (pandas, polars, …) with category or string columns instead."
    )


def _unsupported(name: str, dtype: str) -> TypeError:
    return TypeError(
        f"Column {name!r} must hold numbers, booleans, text or categories, got dtype {dtype}: "
        f"turn it into one of these, or leave it out."
    )


def _check_unique(names: list[Any]) -> None:
    if len(set(names)) < len(names):
        repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise ValueError(f"Column names must be unique, got more than one {listed(repeated)}.")


def listed(values: Any, noun: str = "") -> str:
    """Return the first few values for a message, quoted, with the noun in front where one is given."""
    values = list(values)
    shown = ", ".join(repr(value) for value in values[:SHOWN]) + (" and more" if len(values) > SHOWN else "")
    return f"{noun}{'s' if len(values) > 1 else ''} {shown}" if noun else shown


def _as_object(values: Any) -> NDArray[np.object_]:
    """Return a one-dimensional object array, also of strings."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
