"""Tables of effects by least squares on labelled rows. NumPy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def main_effects(
    codes: NDArray[np.integer],
    attribution: NDArray[np.float64],
    weight: NDArray[np.float64],
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
