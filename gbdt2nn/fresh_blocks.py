"""Numbered blocks of rows, made and labelled ahead while a student trains: as many at a time as there are threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.labelling import Labels

Array = NDArray[np.float64]


class FreshBlocks:
    """Blocks by their number, each the same however many are made together.

    Training waits for its next block. Where there are threads, those that follow it are made beside it: all threads have
    work, and the teacher is asked about all of their rows at once.

    Parameters
    ----------
    make : callable
        ``number -> array of shape (n_samples, n_features)``, called from several threads.
    label : callable
        ``rows -> Labels``; a row's labels do not depend on the others.
    n_together : int
        Blocks at a time: as many as there are threads, or as have room.

    Examples
    --------
    >>> rows = lambda number: np.full((2, 1), float(number))
    >>> blocks = FreshBlocks(rows, lambda x: Labels(10 * x, None, None), n_together=3)
    >>> x, labels = blocks(1)
    >>> x.ravel().tolist(), labels.score.ravel().tolist()
    ([1.0, 1.0], [10.0, 10.0])
    """

    def __init__(self, make: Callable[[int], Array], label: Callable[[Array], Labels], *, n_together: int) -> None:
        self.make, self.label, self.n_together = make, label, n_together
        self.ready: dict[int, tuple[Array, Labels]] = {}

    def __call__(self, number: int) -> tuple[Array, Labels]:
        if number not in self.ready:
            numbers = range(number, number + self.n_together)
            with ThreadPoolExecutor(self.n_together) as pool:
                made = list(pool.map(self.make, numbers))
            score, attribution, base_value = self.label(np.concatenate(made))
            self.ready, start = {}, 0
            for each, x in zip(numbers, made, strict=True):
                own = slice(start, start + len(x))
                part = None if attribution is None else attribution[own]
                self.ready[each] = x, Labels(score[own], part, base_value)
                start += len(x)
        return self.ready.pop(number)
