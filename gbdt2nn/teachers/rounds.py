"""How many boosting rounds of a model to use."""

from typing import Any

from gbdt2nn.arguments import check_number


def check_iterations(n_iterations: Any, total: int) -> int:
    """Check a number of boosting rounds against what the model has.

    Parameters
    ----------
    n_iterations : int
        The first so many rounds.
    total : int
        Rounds of the model.

    Returns
    -------
    n_iterations : int
    """
    check_number("n_iterations", n_iterations, low=1, integer=True)
    if n_iterations > total:
        raise ValueError(f"n_iterations must be at most the {total} rounds of the model, got {n_iterations}.")
    return int(n_iterations)
