"""Boosting libraries a teacher may come from; one file per library, which alone imports it."""

from types import ModuleType
from typing import Any

from gbdt2nn.teachers import lightgbm, xgboost

LIBRARIES: dict[str, ModuleType] = {lightgbm.NAME: lightgbm, xgboost.NAME: xgboost}


def library_of(model: Any) -> ModuleType:
    """Find the library a model belongs to, without importing any.

    Parameters
    ----------
    model : estimator or Booster
        Fitted or not.

    Returns
    -------
    library : module
        The entry of ``LIBRARIES`` that reads this model.

    Raises
    ------
    TypeError
        If the model belongs to none of them.

    Examples
    --------
    >>> from lightgbm import LGBMRegressor
    >>> library_of(LGBMRegressor()).NAME
    'lightgbm'
    """
    for library in LIBRARIES.values():
        if library.owns(model):
            return library
    raise TypeError(
        "teacher must be an estimator of LightGBM (LGBMRegressor, LGBMClassifier) or XGBoost (XGBRegressor, "
        "XGBClassifier), or a lightgbm.Booster or xgboost.Booster, got "
        f"{type(model).__module__}.{type(model).__name__}."
    )
