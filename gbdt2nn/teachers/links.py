"""Links: from the additive raw score to what the teacher predicts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _logistic(raw: Array, slope: float) -> Array:
    return np.exp(-np.logaddexp(0.0, -slope * raw))  # no overflow on either side


def _softmax(raw: Array, slope: float) -> Array:
    share = np.exp(raw - raw.max(axis=1, keepdims=True))
    return share / share.sum(axis=1, keepdims=True)


# name -> response of (raw score (n_samples, n_outputs), slope)
LINKS: dict[str, Callable[[Array, float], Array]] = {
    "identity": lambda raw, slope: raw.copy(),
    "logistic": _logistic,
    "one_vs_all": _logistic,
    "softmax": _softmax,
    "exponential": lambda raw, slope: np.exp(raw),
    "softplus": lambda raw, slope: np.logaddexp(0.0, raw),
    "signed_square": lambda raw, slope: np.sign(raw) * raw**2,
}


@dataclass(frozen=True)
class Link:
    """The inverse link of an objective: raw score to response.

    Parameters
    ----------
    name : {"identity", "logistic", "one_vs_all", "softmax", "exponential", "softplus", "signed_square"}
        ``logistic`` is the probability of the second of two classes, ``one_vs_all`` a probability per class that need
        not sum to one, ``softplus`` is ``log(1 + exp(raw))``, ``signed_square`` is ``sign(raw) * raw**2``.
    slope : float, default=1.0
        Factor of the raw score in ``logistic`` and ``one_vs_all``.

    Examples
    --------
    >>> import numpy as np
    >>> Link("logistic", slope=2.0)(np.array([[0.0]]))
    array([[0.5]])
    """

    name: str
    slope: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in LINKS:
            raise ValueError(f"name must be one of {', '.join(LINKS)}, got {self.name!r}.")

    def __call__(self, raw: Array) -> Array:
        """Apply the inverse link.

        Parameters
        ----------
        raw : ndarray of shape (n_samples, n_outputs)
            Raw score.

        Returns
        -------
        response : ndarray of shape (n_samples, n_outputs)
            What the teacher predicts: expected value, probability or quantile.
        """
        return LINKS[self.name](np.asarray(raw, dtype=np.float64), self.slope)
