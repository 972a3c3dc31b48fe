"""The public door to attributions: exact TreeSHAP of any fitted LightGBM or XGBoost model, and path attributions."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.arguments import check_choice, check_number
from gbdt2nn.fitted_model import TABLE_MEMORY, FittedModel
from gbdt2nn.row_intake import FLOATS, Codes

Array = NDArray[np.float64]


class TreeExplainer:
    """Exact path-dependent TreeSHAP of a fitted model, in the manner of ``shap.TreeExplainer``.

    Parameters
    ----------
    model : LGBMRegressor, LGBMClassifier, LGBMRanker, XGBRegressor, XGBClassifier, XGBRanker or Booster
        Fitted; a Booster of either library. An estimator that is fitted again later is not followed.
    data, model_output, feature_perturbation
        There for those who come from shap: only ``None``, ``"raw"``, and ``"auto"`` or ``"tree_path_dependent"``.
    feature_names : sequence of str, optional
        Names for explanations of tables that have none; by default those that the model was trained with.
    n_iterations : int, optional
        Boosting rounds to explain. By default those that the model's own ``predict`` uses: the best iteration of an
        estimator, and of a bare Booster what the Booster itself uses.
    n_jobs : int, default=1
        Threads; -1 for all cores, -2 for all but one.
    precision : {"float64", "fast"}, default="float64"
        ``"fast"`` computes in single precision and adds up in double: within 5e-6 of the scores' size.
    table_memory : int, default=67108864
        Most bytes of tables that are held at once; where a model's take more, each call builds them in turns.

    Attributes
    ----------
    expected_value : float, or ndarray of shape (n_outputs,) where there are several
        Mean raw score by the covers of the trees: ``expected_value`` + sum over features of the values = raw score.
    plan_ : Plan, LibraryCall or None
        How the last call was done; None before the first.
    description : TeacherDescription
        What the model is.

    Notes
    -----
    Values are shares of the raw score, before any link. The first call holds them against the model's own raw score, and
    raises where they do not add up to it. Very small jobs of LightGBM models are left to the library's own call, which is
    as exact; `prepare` puts an end to that. An explainer can be pickled and copied; compiled code and tables are no part
    of it, and are made again where they are needed.

    Examples
    --------
    >>> import numpy as np
    >>> from lightgbm import LGBMRegressor
    >>> from gbdt2nn import TreeExplainer
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> model = LGBMRegressor(n_estimators=10, verbosity=-1).fit(X, X[:, 0] * X[:, 1])
    >>> explainer = TreeExplainer(model)
    >>> values = explainer.shap_values(X)
    >>> values.shape, np.allclose(explainer.expected_value + values.sum(axis=1), model.predict(X))
    ((300, 3), True)
    >>> explainer(X[:5]).values.shape  # a shap.Explanation, for shap's plots
    (5, 3)

    A table larger than memory goes block by block, into an array of yours, which may be a ``np.memmap``:

    >>> out = np.zeros(X.shape, dtype=np.float32)
    >>> for start in range(0, len(X), 100):
    ...     _ = explainer.shap_values(X[start : start + 100], out=out[start : start + 100])
    >>> np.allclose(out, values, atol=1e-6)
    True
    """

    def __init__(
        self,
        model: Any,
        data: Any = None,
        model_output: str = "raw",
        feature_perturbation: str = "auto",
        feature_names: Sequence[str] | None = None,
        *,
        n_iterations: int | None = None,
        n_jobs: int = 1,
        precision: str = "float64",
        table_memory: int = TABLE_MEMORY,
    ) -> None:
        if data is not None or feature_perturbation == "interventional":
            raise NotImplementedError(
                "data must be None and feature_perturbation 'tree_path_dependent': attributions against background rows "
                "(interventional) are not computed here; use shap.TreeExplainer for them"
            )
        check_choice("feature_perturbation", feature_perturbation, ["auto", "tree_path_dependent"])
        if model_output != "raw":
            raise NotImplementedError(
                f"model_output must be 'raw', got {model_output!r}: only the raw score is a sum over trees"
            )
        check_number("n_iterations", n_iterations, low=1, integer=True, none=True)
        check_number("n_jobs", n_jobs, low=-(2**31), integer=True)
        if n_jobs == 0:
            raise ValueError("n_jobs must be positive, or negative (-1 for all cores, -2 for all but one), got 0")
        check_choice("precision", precision, ["float64", "fast"])
        check_number("table_memory", table_memory, low=1, integer=True)
        self._fitted = FittedModel(
            model, n_iterations=n_iterations, n_jobs=int(n_jobs), precision=precision, table_memory=int(table_memory)
        )
        self.description = self._fitted.description
        if feature_names is not None and len(feature_names) != self.description.n_features:
            raise ValueError(
                f"feature_names must hold a name for each of the {self.description.n_features} features of the model, "
                f"got {len(feature_names)}"
            )
        self.feature_names = None if feature_names is None else [str(name) for name in feature_names]

    # ------------------------------------------------------------------------------------------------ what shap users call
    @property
    def expected_value(self) -> Any:
        """Mean raw score by the covers of the trees, a number for one output."""
        return _scalar_of_one(self._fitted.base_value)

    @property
    def plan_(self) -> Any:
        """How the last call was done; None before the first."""
        return self._fitted.plan

    def shap_values(
        self,
        X: Any,
        y: Any = None,
        tree_limit: Any = None,
        approximate: bool = False,
        check_additivity: bool | None = None,
        *,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Exact Shapley values of the raw score.

        Parameters
        ----------
        X : array, frame, sparse matrix or Codes of shape (n_samples, n_features)
            NumPy, pandas, polars, pyarrow and whatever else narwhals reads; what the model's ``predict`` would take. In
            arrays, columns of categories hold the model's own codes.
        y, tree_limit, approximate
            There for those who come from shap: only their defaults.
        check_additivity : bool, optional
            Whether to hold the values against the model's own raw score: on all rows (True), on none (False), or on the
            first rows of the explainer's first call (None).
        out : ndarray of the shape of the result, float64 or float32, optional
            Where to write; of any memory layout, a memory map too.

        Returns
        -------
        values : ndarray of shape (n_samples, n_features), or (n_samples, n_features, n_outputs) where there are several
            ``out`` where given, else float64.

        Raises
        ------
        ValueError, TypeError
            If X does not fit the model, or the values do not add up to its raw score.
        """
        if y is not None or tree_limit is not None or approximate:
            _refuse(y=y, tree_limit=tree_limit, approximate=approximate)
        return self._values(X, check_additivity, out)

    def __call__(
        self,
        X: Any,
        y: Any = None,
        interactions: bool = False,
        check_additivity: bool | None = None,
        approximate: bool = False,
    ) -> Any:
        """Explain rows.

        Parameters
        ----------
        X, check_additivity
            As in `shap_values`.
        y, interactions, approximate
            There for those who come from shap: only their defaults.

        Returns
        -------
        shap.Explanation
            ``values`` as `shap_values` gives them, ``base_values`` of shape (n_samples,) or (n_samples, n_outputs),
            ``data``: an array as it is, other tables as the numbers that the model's library sees. Where these are codes
            of categories, ``display_data`` holds the categories.
        """
        import shap

        if y is not None or interactions or approximate:
            _refuse(y=y, interactions=interactions, approximate=approximate)
        start = time.perf_counter()
        reader = self._fitted.reader
        data = None if isinstance(X, Codes) else X if reader.is_kept(X) else reader.numbers(X)
        values = self._values(X if data is None else data, check_additivity, None)
        seconds = time.perf_counter() - start
        base_value, classes = self._fitted.base_value, self.description.classes
        numbered = [f"Feature {j}" for j in range(self.description.n_features)]  # plots ask for names
        return shap.Explanation(
            values=values,
            base_values=np.tile(base_value, (len(values), 1))
            if values.ndim == 3
            else np.repeat(base_value, len(values)),
            data=data,
            display_data=reader.shown(X),
            feature_names=reader.names(X) or self.feature_names or reader.trained_names() or numbered,
            output_names=None if classes is None or values.ndim == 2 else [str(label) for label in classes],
            compute_time=seconds,
        )

    def shap_interaction_values(self, X: Any, y: Any = None, tree_limit: Any = None) -> Any:
        """Not computed here: raises NotImplementedError."""
        _refuse(interactions=True)

    # ------------------------------------------------------------------------------------------------- what is ours beside
    def transform(self, X: Any) -> Codes:
        """Read and bin rows, once for many calls: an eighth of the memory of float64, or a quarter.

        Parameters
        ----------
        X : array, frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        codes : Codes
            What `shap_values` takes instead of the table.
        """
        return X if isinstance(X, Codes) else Codes(self._fitted.codes(X), self._fitted.trees().digest)

    def prepare(self, n_samples: int = 1) -> "TreeExplainer":
        """Read the trees, compile, plan and build now, rather than in the first calls, and keep to this plan.

        Parameters
        ----------
        n_samples : int, default=1
            Rows that calls will have, or have together.

        Returns
        -------
        self : TreeExplainer
        """
        check_number("n_samples", n_samples, low=1, integer=True)
        self._fitted.prepare(int(n_samples))
        return self

    def __repr__(self) -> str:
        described, fitted = self.description, self._fitted
        trees = f"{fitted.n_iterations} rounds" if fitted.n_trees is None else f"{fitted.n_trees} trees"
        outputs = f"{described.n_outputs} output{'s' if described.n_outputs > 1 else ''}"
        return (
            f"{type(self).__name__}({described.library} {described.objective}: {trees}, {described.n_features} features, "
            f"{outputs}; n_jobs={fitted.n_threads}, precision={fitted.precision!r}, plan={self.plan_!r})"
        )

    def _values(self, X: Any, check: bool | None, out: Any) -> NDArray[Any]:
        """Values in shap's shape."""
        n_samples = self._fitted.n_samples(X)
        if n_samples is None:
            X = self._fitted.numbers(X)
            n_samples = len(X)
        values = self._result(X, n_samples, out)
        # the engine's shape: (n_samples, n_outputs, n_features)
        self._fitted.explain(X, values[:, None] if values.ndim == 2 else values.transpose(0, 2, 1), check)
        return values

    def _result(self, X: Any, n_samples: int, out: Any) -> NDArray[Any]:
        """Where the values go, in shap's shape."""
        described = self.description
        shape: tuple[int, ...] = (n_samples, described.n_features)
        if described.n_outputs > 1:
            shape = (*shape, described.n_outputs)
        if out is None:
            return np.empty(shape)
        if not isinstance(out, np.ndarray) or out.dtype not in FLOATS:
            given = f"of {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
            raise TypeError(f"out must be an array of float64 or float32, got {given}")
        if out.shape != shape or not out.flags.writeable:
            raise ValueError(
                f"out must be writeable and have shape {shape}, got shape {out.shape}"
                + ("" if out.flags.writeable else ", which is read-only")
            )
        if isinstance(X, np.ndarray) and np.may_share_memory(out, X):
            raise ValueError("out must not share memory with X, got a view of it")
        return out


def tree_shap(
    model: Any, X: Any, *, n_iterations: int | None = None, n_jobs: int = 1, precision: str = "float64"
) -> tuple[NDArray[np.float64], Any]:
    """Exact path-dependent TreeSHAP of a fitted model's raw score.

    Parameters
    ----------
    model, n_iterations, n_jobs, precision
        As of `TreeExplainer`, which serves several tables better.
    X : array, frame or sparse matrix of shape (n_samples, n_features)

    Returns
    -------
    values : ndarray of shape (n_samples, n_features), or (n_samples, n_features, n_outputs) where there are several
    base_value : float, or ndarray of shape (n_outputs,)
        Mean raw score by the covers of the trees.

    Examples
    --------
    >>> import numpy as np
    >>> from xgboost import XGBRegressor
    >>> from gbdt2nn import tree_shap
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> model = XGBRegressor(n_estimators=10).fit(X, X[:, 0] * X[:, 1])
    >>> values, base_value = tree_shap(model, X)
    >>> values.shape, np.allclose(base_value + values.sum(axis=1), model.predict(X), atol=1e-5)
    ((300, 3), True)
    """
    explainer = TreeExplainer(model, n_iterations=n_iterations, n_jobs=n_jobs, precision=precision)
    return explainer.shap_values(X), explainer.expected_value


def tree_path(model: Any, X: Any, *, n_iterations: int | None = None) -> tuple[NDArray[np.float64], Any]:
    """Path attributions (Saabas 2014) of a fitted model's raw score: what ``approximate=True`` means in shap.

    Parameters
    ----------
    model, n_iterations
        As of `TreeExplainer`.
    X : array, frame or sparse matrix of shape (n_samples, n_features)

    Returns
    -------
    values : ndarray of shape (n_samples, n_features), or (n_samples, n_features, n_outputs) where there are several
    base_value : float, or ndarray of shape (n_outputs,)
        Base score + the values of the roots; not in general that of `tree_shap`.

    Examples
    --------
    >>> import numpy as np
    >>> from lightgbm import LGBMRegressor
    >>> from gbdt2nn import tree_path
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> model = LGBMRegressor(n_estimators=10, verbosity=-1).fit(X, X[:, 0] * X[:, 1])
    >>> values, base_value = tree_path(model, X)
    >>> values.shape, np.allclose(base_value + values.sum(axis=1), model.predict(X))
    ((300, 3), True)
    """
    check_number("n_iterations", n_iterations, low=1, integer=True, none=True)
    fitted = FittedModel(model, n_iterations=n_iterations)
    attribution, base_value = fitted.path_attributions(X)
    values = attribution[:, 0] if len(base_value) == 1 else np.ascontiguousarray(attribution.transpose(0, 2, 1))
    return values, _scalar_of_one(base_value)


def _scalar_of_one(base_value: Array) -> Any:
    return float(base_value[0]) if len(base_value) == 1 else base_value.copy()


def _refuse(**given: Any) -> None:
    """Say of an argument of shap's that is not at its default what to do instead."""
    name = next(name for name, value in given.items() if value is not None and value is not False)
    raise NotImplementedError(f"{name} must be left at its default, got {given[name]!r}: {_INSTEAD[name]}")


_INSTEAD = {
    "y": "only the raw score is explained, not a loss of labels",
    "tree_limit": "say n_iterations when the explainer is made",
    "approximate": "gbdt2nn.tree_path(model, X) gives path attributions, and exact ones are no slower on most models",
    "interactions": "interaction values are not computed here; shap.TreeExplainer(model).shap_interaction_values(X) does",
}
