"""The weights of a loss that moves from imitation to the task (Ke et al. 2019, eq. 14)."""

from collections.abc import Callable


class Decay:
    """``max(floor, factor ** (steps passed // every))``: 1 at the first step that asks, then less.

    Parameters
    ----------
    factor : float
        What the weight is multiplied by.
    every : int
        Steps between two of these.
    floor : float, default=0.0
        The weight falls no further: 0 in the paper, 0.3 in the authors' code.

    Examples
    --------
    >>> beta = Decay(0.5, every=10, floor=0.2)
    >>> [beta(step) for step in (100, 109, 110, 120, 130)]
    [1.0, 1.0, 0.5, 0.25, 0.2]
    >>> beta.rest(2.0)(110)
    1.0
    """

    def __init__(self, factor: float, *, every: int, floor: float = 0.0) -> None:
        self.factor, self.every, self.floor = factor, every, floor
        self.start: int | None = None

    def __call__(self, step: int) -> float:
        if self.start is None:  # under a time budget nobody knows beforehand when the second stage begins
            self.start = step
        return max(self.floor, self.factor ** ((step - self.start) // self.every))

    def rest(self, weight: float) -> Callable[[int], float]:
        """The weight of the task: ``weight * (1 - decay)``, which is alpha where ``weight`` is 1."""
        return lambda step: weight * (1.0 - self(step))
