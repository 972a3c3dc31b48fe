"""Which rows teach, which decide, and which only measure."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


class Rows(NamedTuple):
    """Row numbers: ``train`` teaches, ``stop`` is for every choice made in training, ``check`` for fidelity alone.

    With fewer rows than `FEWEST_TO_SPLIT` all three hold every row and ``is_split`` is False.
    """

    train: Index
    stop: Index
    check: Index
    is_split: bool


FEWEST_TO_SPLIT = 60


def split_rows(n_samples: int, *, seed: int, strata: NDArray[np.integer] | None = None, share: float = 0.1) -> Rows:
    """Split rows at random, a tenth to ``stop`` and a tenth to ``check``.

    Parameters
    ----------
    n_samples : int
    seed : int
    strata : ndarray of shape (n_samples,), optional
        Class of each row: every class gives its share, and each keeps rows to train on.
    share : float, default=0.1

    Examples
    --------
    >>> rows = split_rows(100, seed=0)
    >>> len(rows.train), len(rows.stop), len(rows.check)
    (80, 10, 10)
    """
    everything = np.arange(n_samples)
    if n_samples < FEWEST_TO_SPLIT:
        return Rows(everything, everything, everything, False)
    rng = np.random.default_rng(seed)
    strata = np.zeros(n_samples, np.int64) if strata is None else strata
    parts: tuple[list[Index], list[Index], list[Index]] = ([], [], [])
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        # random rounding: small classes give their share on average, and never their last rows
        size = min(int(len(members) * share + rng.random()), (len(members) - 1) // 2)
        if len(np.unique(strata)) == 1:
            size = round(len(members) * share)
        for part, chosen in zip(parts, np.split(members, [len(members) - 2 * size, len(members) - size]), strict=True):
            part.append(chosen)
    train, stop, check = (np.sort(np.concatenate(part)) for part in parts)
    if len(stop) == 0 or len(check) == 0:  # many tiny classes: nothing can be spared
        return Rows(everything, everything, everything, False)
    return Rows(train, stop, check, True)
