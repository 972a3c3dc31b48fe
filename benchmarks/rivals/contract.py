"""What a rival is: it predicts, it has a raw score in the teacher's space, and perhaps it explains.

A method of a rival takes a `Problem` as any other method and returns a `Rival`, which `benchmarks.cell.measure` holds
against the teacher with the functions that stand behind `gbdt2nn.fidelity`.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import Lacking

if TYPE_CHECKING:
    from benchmarks.rivals.teacher_side import TeacherSide

Array = NDArray[np.float64]
EPSILON = 1e-7  # probabilities are kept this far from 0 and 1: float32, which networks compute in, tells no less from 1


class RivalAbsent(Lacking):
    """The package of a rival is not installed."""


class RivalCannot(Lacking):
    """A rival as shipped has no answer to the task."""


class Rival(ABC):
    """A fitted rival.

    Parameters
    ----------
    side : TeacherSide
        The teacher, whose link and classes the rival's answers are brought to.

    Attributes
    ----------
    package : str or None
        The distribution that brings it; None where it is written here.
    explains : str or None
        ``"own"`` where it explains itself, the name of an explainer where that is asked, None where it explains nothing.
    has_score : bool
        Whether it predicts; otherwise it only explains the teacher.
    up_to_a_shift : bool
        Whether its raw scores of several classes are log probabilities, which softmax knows only up to a number added to
        all classes of a row. They are then shifted to the mean of the teacher's, and attributions likewise, feature by
        feature, before they are compared.
    most_explained : int or None
        So many test rows, the first ones, are explained; None: all.
    """

    package: str | None = None
    explains: str | None = None
    has_score: bool = True
    up_to_a_shift: bool = False
    most_explained: int | None = None

    def __init__(self, side: "TeacherSide") -> None:
        self.side = side

    @property
    def classes_(self) -> NDArray[Any] | None:
        """Class labels in the order of the teacher's outputs; None where the labels are numbers."""
        return self.side.classes

    @abstractmethod
    def raw_score(self, X: Any) -> Array:
        """Raw score (n_samples, n_outputs): the value, the log rate, the log odds or one score a class."""

    def response(self, X: Any) -> Array:
        """What is predicted (n_samples, n_outputs): by default the raw score through the teacher's link."""
        return self.side.link(self.raw_score(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Numbers, or the labels of classes."""
        if self.classes_ is None:
            return self.response(X)[:, 0]
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n_samples, n_classes)."""
        found = self.response(X)
        return np.hstack([1.0 - found, found]) if found.shape[1] == 1 else found

    def explain(self, X: Any) -> tuple[Array, Array]:
        """Attributions (n_samples, n_outputs, n_features) in units of the raw score, and base values (n_outputs,)."""
        raise NotImplementedError(f"{type(self).__name__} explains nothing")

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a record says of it: ``n_parameters`` (None where none are known), ``seconds`` and what else there is."""


class LabelTaught(Rival):
    """A rival that learned from labels: it has predictions, and its raw score is what the inverse link makes of them."""

    up_to_a_shift = True

    @abstractmethod
    def response(self, X: Any) -> Array:
        """Values, rates, probabilities of the second class, or of every class (n_samples, n_outputs)."""

    def raw_score(self, X: Any) -> Array:
        """The inverse link of `response`; probabilities within `EPSILON` of 0 and 1 stand at that distance."""
        return raw_of_response(self.response(X), self.side.link.name, self.side.link.slope)


def raw_of_response(response: Array, link: str, slope: float = 1.0) -> Array:
    """Return the raw scores (n_samples, n_outputs) that a link makes these predictions of.

    Parameters
    ----------
    response : ndarray of shape (n_samples, n_outputs)
    link : {"identity", "exponential", "logistic", "softmax"}
        Name of the teacher's link.
    slope : float
        Of the logistic.

    Examples
    --------
    >>> raw_of_response(np.array([[0.5], [1.0]]), "logistic").round(3)
    array([[ 0.   ],
           [16.118]])
    """
    response = np.asarray(response, np.float64)
    if link == "identity":
        return response
    if link == "exponential":  # a rate of zero has no logarithm
        return np.log(np.maximum(response, EPSILON))
    kept = np.clip(response, EPSILON, 1.0 - EPSILON)
    if link == "logistic":
        return (np.log(kept) - np.log1p(-kept)) / slope
    if link == "softmax":
        return np.log(kept)
    raise RivalCannot(f"the inverse of the link {link!r} is not known to the rivals")


def in_order(probability: Array, own: Sequence[Any], classes: NDArray[Any]) -> Array:
    """Return the response of a classifier: its columns in the order of the teacher's classes, of two the second alone.

    Parameters
    ----------
    probability : ndarray of shape (n_samples, n_own_classes)
    own : sequence of length n_own_classes
        Labels of the columns; a class that the rival did not see gets probability 0.
    classes : ndarray of shape (n_classes,)
    """
    position = {label: number for number, label in enumerate(np.asarray(own).tolist())}
    found = np.zeros((len(probability), len(classes)))
    for column, label in enumerate(classes.tolist()):
        if label in position:
            found[:, column] = probability[:, position[label]]
    found /= found.sum(axis=1, keepdims=True)  # of float32 the sum is 1 to seven digits
    return found[:, 1:] if len(classes) == 2 else found


def require(module: str, package: str) -> Any:
    """Import a module, or say which package brings it.

    Raises
    ------
    RivalAbsent
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of newer libraries
            return import_module(module)
    except ModuleNotFoundError as error:
        raise RivalAbsent(f"needs {package}, which is not installed: pip install {package}") from error


def version_of(package: str | None) -> str | None:
    """Return the version of a distribution; None where it is not installed."""
    if package is None:
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        return None
