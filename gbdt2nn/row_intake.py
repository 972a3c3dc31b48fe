"""The rows of a caller's table as a fitted model reads them: numbers, in blocks, and codes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.binning import Binner
from gbdt2nn.encoding import Encoder
from gbdt2nn.teachers import LIBRARIES
from gbdt2nn.teachers.description import TeacherDescription
from gbdt2nn.teachers.habits import HABITS

Array = NDArray[np.float64]

BLOCK = 1 << 22  # numbers of a table that are held as float64 at once: 32 MB
FLOATS = (np.dtype(np.float64), np.dtype(np.float32))
ABSENT = {"lightgbm": 0.0, "xgboost": np.nan}  # what a library reads where a sparse matrix has no entry


@dataclass(frozen=True, eq=False)
class Codes:
    """Rows that are read and binned already, for the explainer that made them and its copies.

    A type of its own, so that it cannot be taken for a table of small integers.

    Attributes
    ----------
    array : ndarray of shape (n_samples, n_features), uint8, uint16 or uint32
        Feature after feature in memory.
    digest : str
        Of the thresholds and categories that the codes speak of.

    Examples
    --------
    >>> import numpy as np
    >>> from lightgbm import LGBMRegressor
    >>> from gbdt2nn import TreeExplainer
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> explainer = TreeExplainer(LGBMRegressor(n_estimators=5, verbosity=-1).fit(X, X[:, 0] * X[:, 1]))
    >>> codes = explainer.transform(X)
    >>> codes.array.dtype, codes[:100].shape
    (dtype('uint8'), (100, 3))
    """

    array: NDArray[np.unsignedinteger]
    digest: str

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        n_samples, n_features = self.array.shape
        return n_samples, n_features

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.array.nbytes

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> "Codes":
        """Some of the rows: a slice, a mask, or an array of row numbers."""
        chosen = self.array[rows]
        if chosen.ndim != 2:
            raise TypeError(f"rows must be a slice, a mask or an array of row numbers, got {rows!r}")
        return Codes(chosen, self.digest)

    def __repr__(self) -> str:
        return f"Codes(shape={self.shape}, dtype={self.array.dtype}, digest={self.digest[:8]!r})"


def digest_of(binner: Binner) -> str:
    """What tells the codes of one binner from those of another."""
    found = blake2b(digest_size=16)
    for part in (binner.n_codes, binner.missing_code, binner.zero_is_missing, *binner.thresholds, *binner.categories):
        found.update(np.ascontiguousarray(part).data)
    found.update(bytes([binner.categories_go_left, binner.float32_input]))
    return found.hexdigest()


def check_codes(codes: Codes, binner: Binner, digest: str) -> None:
    """Refuse codes of another model, and codes that no row has."""
    if codes.digest != digest:
        raise ValueError("X must hold codes of this explainer's model, got codes of another; transform the table anew")
    array = codes.array
    if array.ndim != 2 or array.shape[1] != binner.n_features or array.dtype != binner.dtype:
        raise ValueError(
            f"X must hold codes of shape (n_samples, {binner.n_features}) and type {binner.dtype}, got shape "
            f"{array.shape} and type {array.dtype}"
        )
    if len(array) and (array.max(axis=0) >= binner.n_codes).any():
        j = int(np.flatnonzero(array.max(axis=0) >= binner.n_codes)[0])
        raise ValueError(
            f"X must hold codes below {binner.n_codes[j]} of feature {j}, got {array[:, j].max()}; transform the table anew"
        )


def rows_of(codes: NDArray[np.unsignedinteger], binner: Binner) -> Array:
    """Numbers that have these codes, and so take the same way through every tree."""
    x = np.empty(codes.shape)
    for j in range(binner.n_features):
        x[:, j] = binner.representatives(j)[codes[:, j]]
    return x


class RowReader:
    """Read tables of any kind as a fitted model's library does.

    Parameters
    ----------
    description : TeacherDescription
    """

    def __init__(self, description: TeacherDescription) -> None:
        self.description = description
        self.unseen = HABITS[description.library].unseen_category
        has_categories = any(labels is not None for labels in description.categories or ())
        # XGBoost's own value for missing, and codes that it does not know, are looked for in a copy.
        self._copies = not np.isnan(description.missing) or (has_categories and self.unseen == "raise")

    @cached_property
    def encoder(self) -> Encoder:
        """Of the model's columns and categories."""
        encoder = Encoder(
            categories=self.description.categories,
            feature_names=self.description.feature_names,
            unseen=self.unseen,
            missing=self.description.missing,
        )
        return encoder.fit(np.full((1, self.description.n_features), np.nan))

    def is_direct(self, X: Any) -> bool:
        """Whether the binner may read the table where it lies."""
        kind = type(X)
        return (kind is np.ndarray or kind is np.memmap) and X.dtype in FLOATS and X.ndim == 2 and not self._copies

    def is_kept(self, X: Any) -> bool:
        """Whether an explanation shows the table as it is: an array of numbers, or a sparse matrix."""
        return (isinstance(X, np.ndarray) and X.dtype.kind in "biuf") or hasattr(X, "tocsr")

    def names(self, X: Any) -> list[str] | None:
        """A table's own names of its columns."""
        names = getattr(X, "column_names", getattr(X, "columns", None))
        return None if names is None else [str(name) for name in names]

    def trained_names(self) -> list[str] | None:
        """The names that the model was trained with."""
        return None if self.description.feature_names is None else list(self.description.feature_names)

    def shown(self, X: Any) -> NDArray[Any] | None:
        """A frame with categories as they are written, rather than as codes; None of other tables."""
        if self.names(X) is None or not self.encoder.is_category_.any():
            return None
        return np.asarray(self.encoder.to_teacher(X))

    def n_samples(self, X: Any) -> int | None:
        """Rows of a table with the model's number of features; None of what must be read to be counted.

        Raises
        ------
        TypeError, ValueError
            If it has another number of features, or is a boosting library's own.
        """
        shape = getattr(X, "shape", None)
        if type(X).__module__.split(".")[0] in LIBRARIES:
            raise TypeError(
                f"X must be the array or frame itself, got a {type(X).__module__.split('.')[0]}.{type(X).__name__}, "
                "which cannot be read back; pass the table that it was made from"
            )
        if not isinstance(shape, tuple) or len(shape) != 2 or not all(isinstance(size, int) for size in shape):
            return None
        if shape[1] != self.description.n_features:
            raise ValueError(
                f"X must have the {self.description.n_features} features that the model was trained with, got {shape[1]}"
            )
        return int(shape[0])

    def numbers(self, X: Any, rows: slice = slice(None)) -> Array:
        """Rows as the numbers that the model's library sees.

        Parameters
        ----------
        X : array, frame or sparse matrix of shape (n_samples, n_features)
        rows : slice, optional

        Returns
        -------
        x : ndarray of shape (n_rows, n_features)
            float64; X itself where it is that already.
        """
        if self.is_direct(X):
            return np.asarray(X[rows], dtype=np.float64)
        if hasattr(X, "tocsr") and len(X.shape) == 2:
            return self._encoded(_dense(X.tocsr()[rows], ABSENT[self.description.library]))
        if self.n_samples(X) is None:
            return self._encoded(X)[rows]
        return self._encoded(_taken(X, rows))

    def codes(self, X: Any, binner: Binner, *, n_jobs: int) -> NDArray[np.unsignedinteger]:
        """Rows as codes, feature after feature in memory; a table that must be copied is copied in blocks.

        Parameters
        ----------
        X : array, frame or sparse matrix of shape (n_samples, n_features)
        binner : Binner
        n_jobs : int

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features)
        """
        n_samples = self.n_samples(X)
        if self.is_direct(X):
            return binner.transform(X, order="F", n_jobs=n_jobs)
        if n_samples is None:
            return binner.transform(self._encoded(X), order="F", n_jobs=n_jobs)
        if hasattr(X, "tocsr"):
            X = X.tocsr()  # rows of a matrix in another form are slow to take
        codes = np.empty((n_samples, binner.n_features), dtype=binner.dtype, order="F")
        for rows in blocks(n_samples, binner.n_features):
            binner.transform(self.numbers(X, rows), n_jobs=n_jobs, out=codes[rows])
        return codes

    def _encoded(self, table: Any) -> Array:
        if getattr(table, "shape", (1,))[0] == 0:
            return np.zeros((0, self.description.n_features))
        with _naming_x():
            x = self.encoder.transform(table)
        return x


def blocks(n_samples: int, n_features: int) -> Iterator[slice]:
    """Slices of rows, each of at most `BLOCK` numbers."""
    step = max(1, BLOCK // max(1, n_features))
    return (slice(start, min(start + step, n_samples)) for start in range(0, n_samples, step))


def _taken(X: Any, rows: slice) -> Any:
    if rows == slice(None):
        return X
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _dense(matrix: Any, absent: float) -> Array:
    """A sparse matrix with a number where it has no entry."""
    if absent == 0.0:
        dense: Array = matrix.toarray().astype(np.float64)
        return dense
    entries = matrix.tocoo()
    dense = np.full(matrix.shape, absent)
    dense[entries.row, entries.col] = entries.data
    return dense


@contextmanager
def _naming_x() -> Iterator[None]:
    """The encoder's refusals speak of columns; here they name the argument too."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        text = str(error).replace("the teacher's", "the model's").replace("teacher", "model")
        raise kind(text if "X " in text else f"X: {text}") from None
