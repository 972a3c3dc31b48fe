"""A fitted teacher as a model of AutoGluon's, so that its ``distill`` teaches from it rather than from one of its own.

AutoGluon's models see tables after its own preparation, in which categories are numbers; the teacher needs its own table.
Each value of a category there is brought back by the rows that both tables have.
"""

from typing import Any

import numpy as np
import pandas as pd
from autogluon.core.models import AbstractModel


class GivenTeacher(AbstractModel):
    """Takes no training: it predicts with the teacher of its hyperparameter ``given``, a `TeacherSide` and its table."""

    def _fit(self, X: pd.DataFrame, **kwargs: Any) -> None:
        params = self._get_model_params()
        self.model = params["side"]
        self.rows: pd.DataFrame = params["rows"]
        original = self.rows.loc[X.index]
        self.known: dict[str, dict[Any, Any]] = {}
        for name, dtype in original.dtypes.items():
            if isinstance(dtype, pd.CategoricalDtype) and name in X:
                pairs = pd.DataFrame({"theirs": X[name].astype(object), "ours": original[name].astype(object)})
                self.known[str(name)] = dict(pairs.dropna().drop_duplicates("theirs").to_numpy().tolist())

    def table(self, X: pd.DataFrame) -> pd.DataFrame:
        """The teacher's own table; a column that AutoGluon dropped is constant, and has the value of the first row."""
        columns: dict[str, Any] = {}
        for name, dtype in self.rows.dtypes.items():
            if name not in X:
                columns[str(name)] = pd.Series([self.rows[name].iloc[0]] * len(X), index=X.index, dtype=dtype)
            elif isinstance(dtype, pd.CategoricalDtype):
                columns[str(name)] = X[name].astype(object).map(self.known[str(name)]).astype(dtype)
            else:
                columns[str(name)] = X[name].astype(np.float64)
        return pd.DataFrame(columns, index=X.index)

    def _predict_proba(self, X: pd.DataFrame, **kwargs: Any) -> np.ndarray:
        found = self.model.link(self.model.score(self.table(X)))
        return found[:, 0] if found.shape[1] == 1 else found
