"""What is true of a library before any model of it is fitted."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Habits:
    """How a library treats what is out of the ordinary.

    Attributes
    ----------
    accepts_infinity : bool
        Whether infinite values are read, or refused.
    unseen_category : {"missing", "raise"}
        What happens at prediction with a category that training did not see.
    encodes_labels : bool
        Whether a classifier takes labels of any kind; otherwise it wants 0, 1, ..., n_classes - 1.
    """

    accepts_infinity: bool
    unseen_category: Literal["missing", "raise"]
    encodes_labels: bool


HABITS = {
    "lightgbm": Habits(accepts_infinity=True, unseen_category="missing", encodes_labels=True),
    "xgboost": Habits(accepts_infinity=False, unseen_category="raise", encodes_labels=False),
}
