"""What a source yields: a table with labels and what is known of it, and how files become tables."""

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import BenchmarkError

TASKS = ("regression", "binary", "multiclass", "poisson")
NUMBERS = ("regression", "poisson")  # tasks whose labels are numbers
SUFFIXES = (".parquet", ".csv", ".csv.gz")


@dataclass(frozen=True)
class DataSet:
    """A table, its labels and what is known about them.

    Parameters
    ----------
    name : str
    task : {"regression", "binary", "multiclass", "poisson"}
        "poisson": counts, or rates where the card names an exposure.
    X : DataFrame of shape (n_samples, n_features)
        Numbers and pandas categories, with missing values where the source has them.
    y : ndarray of shape (n_samples,)
        float64 for regression; strings or integers for classes.
    part : ndarray of str, shape (n_samples,), or None
        The published split each row belongs to, where there is one.
    origin : str
        Where the table comes from: "datasets", "GBDT2NN_DATA", "scikit-learn", "made", "own file" or a task of OpenML.
    sha256 : str or None
        Of the file it was read from.
    weight : ndarray of shape (n_samples,) or None
        Exposure of each row, where the card names one: y is then the count by unit of it. Or the caller's weights.
    tests : ndarray of bool, shape (n_samples, n_splits), or None
        The test rows of each published split, where there are several.
    file : str or None
        Name of the caller's file, without its folder.
    """

    name: str
    task: str
    X: pd.DataFrame
    y: np.ndarray
    part: np.ndarray | None
    origin: str
    sha256: str | None
    weight: np.ndarray | None = None
    tests: np.ndarray | None = None
    file: str | None = None


@dataclass(frozen=True)
class Entry:
    """A data set that can be loaded, and what is known of it before: None where it is not.

    Parameters
    ----------
    name : str
    task : str
    origin : str
    n_rows : int or None
    load : callable
        Takes nothing and returns the `DataSet`. It can be pickled, so that another process may call it.
    n_features, n_categories, n_missing : int, optional
        ``n_missing`` counts cells.
    licence, source : str, optional
        Under which licence the data stand, and whom they are from.
    needs : str
        What it takes beside a checkout: "" for nothing.
    n_splits : int, optional
        How many splits the source publishes, where ``published_splits`` of a suite would take them.
    """

    name: str
    task: str
    origin: str
    n_rows: int | None
    load: Callable[[], DataSet]
    n_features: int | None = None
    n_categories: int | None = None
    n_missing: int | None = None
    licence: str | None = None
    source: str | None = None
    needs: str = ""
    n_splits: int | None = None


def is_table(name: str) -> bool:
    """Return whether a file of this name is one that can be read."""
    return name.endswith(SUFFIXES)


def read_table(content: bytes, name: str) -> pd.DataFrame:
    """Read the bytes of a .parquet, .csv or .csv.gz file.

    Raises
    ------
    BenchmarkError
        If the name ends otherwise, or the bytes are no such table.
    """
    if not is_table(name):
        raise BenchmarkError(f"{name} must be {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    try:
        if name.endswith(".parquet"):
            return pd.read_parquet(io.BytesIO(content))
        compression = "gzip" if name.endswith(".gz") else None
        return pd.read_csv(io.BytesIO(content), compression=compression, low_memory=False)
    except ImportError as error:
        raise BenchmarkError(f'{name} needs pyarrow: pip install "gbdt2nn[bench]"') from error
    except Exception as error:  # readers raise what they like: of pyarrow, pandas, gzip, zlib, codecs
        raise BenchmarkError(f"{name} cannot be read as a table: {one_line(error)}") from error


def one_line(error: object) -> str:
    """Return an error's message without its line breaks, cut where it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def labels(column: pd.Series, task: str) -> np.ndarray:
    """Return a column as labels: float64 where the task is about numbers, else int64 or strings."""
    if task in NUMBERS:
        return column.to_numpy(dtype=np.float64)
    if pd.api.types.is_integer_dtype(column):
        return column.to_numpy(dtype=np.int64)
    return column.astype(str).to_numpy(dtype=object)


def is_text(column: pd.Series) -> bool:
    """Return whether a column holds texts (or other objects) rather than numbers or categories."""
    return pd.api.types.is_object_dtype(column) or isinstance(column.dtype, pd.StringDtype)


def as_texts(column: pd.Series) -> pd.Series:
    """Return a column as categories of text, in alphabetical order, missing where it is missing."""
    return column.astype(object).map(str, na_action="ignore").astype("category")


def feature_names(columns: Iterable[Any]) -> list[str]:
    """Return names that each library takes: no blanks, brackets, quotes, commas or colons, and no name twice.

    Examples
    --------
    >>> feature_names(["a b", "a_b", "size [m]"])
    ['a_b', 'a_b_2', 'size_m_']
    """
    found: dict[str, None] = {}
    for column in columns:
        name = plain = re.sub(r"[\s\[\]{}<>\":,'\\/]+", "_", str(column)) or "_"
        number = 2
        while name in found:
            name, number = f"{plain}_{number}", number + 1
        found[name] = None
    return list(found)
