"""Plain values in place of codes: what the networks of DeepGBM read.

A number enters as its standardised value, a category as what the trees' answers and the rows say of it. Each code has one
row of numbers, so that a network on values still takes codes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


def value_columns(
    values: Array,
    count: Array,
    mean_score: Array,
    *,
    is_categorical: bool,
    missing_code: int = -1,
) -> NDArray[np.float32]:
    """The numbers that stand for each code of one feature.

    A numeric code is its standardised value (Ke et al. 2019, authors' code), and a missing value is the mean with an
    indicator of its own. A category is the mean raw score of its rows, the logarithm of their number, both standardised,
    and the bits of its code.

    NOTE[DIFF]: the authors' code gives a category the running mean of its *labels*. The mean raw score of the teacher is
    the same for every row of a category, in training and afterwards, and holds no label of the row itself.

    Parameters
    ----------
    values : ndarray of shape (n_codes,)
        A value of each code; NaN or anything where it is missing or a category.
    count : ndarray of shape (n_codes,)
        Weight of the training rows of each code.
    mean_score : ndarray of shape (n_codes, n_outputs)
        Mean raw score of these rows; anything where there are none.
    is_categorical : bool
    missing_code : int, default=-1
        -1 where there is none.

    Returns
    -------
    columns : ndarray of shape (n_codes, n_columns), float32

    Examples
    --------
    >>> value_columns(np.array([1.0, 3.0]), np.ones(2), np.zeros((2, 1)), is_categorical=False).round(3)
    array([[-1.],
           [ 1.]], dtype=float32)
    """
    n_codes = len(values)
    seen = count > 0
    if is_categorical:
        overall = count @ np.where(seen[:, None], mean_score, 0.0) / max(count.sum(), 1e-12)
        score = np.where(seen[:, None], mean_score, overall)
        columns = [_standard(score[:, k], count) for k in range(score.shape[1])]
        columns.append(_standard(np.log1p(count), count))
        n_bits = int(n_codes - 1).bit_length()
        columns += [(np.arange(n_codes) >> bit & 1).astype(np.float64) for bit in range(n_bits)]
        return np.stack(columns, axis=1).astype(np.float32)
    present = np.arange(n_codes) != missing_code
    finite = np.where(np.isfinite(values) & present, values, np.nan)
    if (
        np.isnan(finite[present]).any() and not np.isnan(finite[present]).all()
    ):  # an infinite value is the largest known
        low, high, mean = float(np.nanmin(finite)), float(np.nanmax(finite)), float(np.nanmean(finite))
        finite[present] = np.nan_to_num(values[present], nan=mean, posinf=high, neginf=low)
    weight = np.where(present, count, 0.0)
    standard = np.where(present, _standard(np.nan_to_num(finite), weight), 0.0)
    columns = [standard]
    if missing_code >= 0:
        columns.append(np.where(present, 0.0, 1.0))
    return np.stack(columns, axis=1).astype(np.float32)


def _standard(values: Array, weight: Array) -> Array:
    share = weight / weight.sum() if weight.sum() > 0 else np.full(len(values), 1.0 / len(values))
    mean = share @ values
    deviation = np.sqrt(share @ (values - mean) ** 2)
    # a feature with one value says nothing, and must not be rounding noise blown up
    return (values - mean) / deviation if deviation > 1e-9 * max(1e-300, np.abs(values).max()) else 0.0 * values


class Columns(nn.Module):
    """Codes to the columns that stand for them, side by side; fixed, nothing here learns.

    Parameters
    ----------
    columns : sequence of ndarray of shape (n_codes, n_columns)
        One per feature.

    Shape
    -----
    input : (batch, n_features), integer codes
    output : (batch, n_columns of all features)
    """

    def __init__(self, columns: Sequence[NDArray[np.float32]]) -> None:
        super().__init__()
        widths = np.array([table.shape[1] for table in columns])
        order = np.argsort(widths, kind="stable")
        self.widths = np.unique(widths).tolist()
        self.n_columns = int(widths.sum())
        self.feature: Tensor
        # the feature behind each column of the output: features of one width stand together
        self.register_buffer("feature", torch.as_tensor(np.repeat(order, widths[order])))
        for width in self.widths:
            chosen = np.flatnonzero(widths == width).tolist()
            start = np.cumsum([0, *(len(columns[j]) for j in chosen[:-1])])
            table = np.concatenate([columns[j] for j in chosen])
            self.register_buffer(f"features_{width}", torch.as_tensor(chosen))
            self.register_buffer(f"start_{width}", torch.as_tensor(start, dtype=torch.int64))
            self.register_buffer(f"table_{width}", torch.as_tensor(table, dtype=torch.float32))

    def mean(self, code_share: Sequence[ArrayLike]) -> Array:
        """The mean of each column where each code of a feature has the given share of the rows: (n_columns,)."""
        parts = []
        for width in self.widths:
            table = getattr(self, f"table_{width}").numpy().astype(np.float64)
            first = 0
            for j in getattr(self, f"features_{width}").tolist():
                share = np.asarray(code_share[j], np.float64)
                parts.append(share @ table[first : first + len(share)])
                first += len(share)
        return np.concatenate(parts)

    def forward(self, codes: Tensor) -> Tensor:
        parts = []
        for width in self.widths:
            chosen = codes[:, getattr(self, f"features_{width}")] + getattr(self, f"start_{width}")
            parts.append(nn.functional.embedding(chosen, getattr(self, f"table_{width}")).flatten(1))
        return torch.cat(parts, dim=1)  # (batch, n_columns)
