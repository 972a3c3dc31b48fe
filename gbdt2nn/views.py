"""What a fitted estimator answers: views of one forward pass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from gbdt2nn.distilled import Distilled
from gbdt2nn.post_hoc import EXPLAINERS

Array = NDArray[np.float64]


class Views:
    """Scores, explanations and compiled forms of ``distilled_``; a part of both estimators."""

    distilled_: Distilled
    encoder_: Any
    base_value_: Array
    precision: str

    def _check_table(self, X: Any, *, reset: bool) -> Any:
        raise NotImplementedError

    @property
    def network_precision_(self) -> str:
        """What the student's hidden layers compute in when it answers, on this machine and under ``precision`` as it is.

        "float64", "float32" or "bfloat16"; for a student without hidden layers, what its tables are in.
        """
        return self.distilled_.network_precision(self.precision)

    def _explained(self, X: Any, *, explain: bool) -> tuple[Array, Array | None]:
        """The one forward pass: raw score (n_samples, n_outputs) and attribution (n_samples, n_outputs, n_features)."""
        check_is_fitted(self)
        X = self._check_table(X, reset=False)
        return self.distilled_.student_explained(X, explain=explain, precision=self.precision)

    def _response(self, X: Any) -> Array:
        score, _ = self._explained(X, explain=False)
        return self.distilled_.description.link(score)

    def explain(self, X: Any, *, explainer: str | None = None) -> Any:
        """The student's explanation of each row, in one forward pass.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)
        explainer : {"permutation_shap", "gradient_x_input", "integrated_gradients"}, optional
            Explain the student from outside instead: by sampling, for any student, or by its gradient where it has one
            (``student="leaf_embedding"``). Such an explanation has a base value of its own.

        Returns
        -------
        shap.Explanation
            ``values`` of shape (n_samples, n_features), or (n_samples, n_features, n_classes) with several classes:
            attributions of the raw score, before any link. ``base_values`` of shape (n_samples,) or
            (n_samples, n_classes). Every ``shap.plots`` function takes it.

        Raises
        ------
        ValueError
            If the student was fitted with ``explanation_weight=0``, so that nothing has taught it to explain, and no
            explainer is named.
        """
        check_is_fitted(self)
        if explainer is not None:
            return self._explanation(X, *self.distilled_.post_hoc(self._check_table(X, reset=False), explainer))
        self._check_explains("explain")
        _, attribution = self._explained(X, explain=True)
        return self._explanation(X, attribution, self.base_value_)

    def predict_explain(self, X: Any) -> tuple[Array, Array]:
        """Prediction and explanation of each row in one forward pass, as plain arrays.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)

        Returns
        -------
        prediction : ndarray of shape (n_samples,) or (n_samples, n_classes)
            As `predict` of a regressor, and as `predict_proba` of a classifier.
        attribution : ndarray of shape (n_samples, n_features) or (n_samples, n_features, n_classes)
            Raw score, before any link, as the values of `explain`; ``base_value_`` and their sum are the raw score.

        Raises
        ------
        ValueError
            If the student was fitted with ``explanation_weight=0``.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from gbdt2nn import Gbdt2NNRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = Gbdt2NNRegressor(max_steps=50, n_synthetic=500, random_state=0).fit(X, y)
        >>> prediction, attribution = model.set_params(precision="fast").predict_explain(X)
        >>> prediction.shape, attribution.shape
        ((442,), (442, 10))
        """
        check_is_fitted(self)
        self._check_explains("predict_explain")
        score, attribution = self._explained(X, explain=True)
        assert attribution is not None
        response = self.distilled_.description.link(score)
        if self.distilled_.classes is None:
            response = response[:, 0]
        elif response.shape[1] == 1:
            response = np.hstack([1.0 - response, response])
        return response, attribution[:, 0] if attribution.shape[1] == 1 else attribution.transpose(0, 2, 1)

    def _check_explains(self, method: str) -> None:
        if not self.distilled_.explains:
            where = "" if method == "explain" else " to explain"
            raise ValueError(
                f"{method} needs a student that was taught explanations, got explanation_weight=0; fit with a positive "
                f"explanation_weight, or name a post-hoc explainer{where}: explainer must be one of {list(EXPLAINERS)}"
            )

    def compile_row(self) -> Any:
        """The student as a compiled function of one row: prediction and explanation in microseconds, without torch.

        Only with ``student="self_explaining"`` and ``"interaction_tables"``. Compiling takes seconds where it was not done
        before on this machine. The result is in single precision and a copy: later changes do not reach it.

        Returns
        -------
        gbdt2nn.compiled_row.CompiledRow
            ``row -> (prediction, attribution)``: the row an array of numbers, or a mapping from column to value; the
            prediction a float as `predict` gives it, or class probabilities; the attribution as the values of `explain`.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from gbdt2nn import Gbdt2NNRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = Gbdt2NNRegressor(max_steps=50, n_synthetic=500, random_state=0).fit(X, y)
        >>> row = model.compile_row()
        >>> prediction, attribution = row(X[0])
        >>> bool(abs(prediction - model.predict(X[:1])[0]) < 0.01), attribution.shape
        (True, (10,))
        """
        check_is_fitted(self)
        return self.distilled_.compile_row()

    def explain_teacher(self, X: Any) -> Any:
        """The teacher's own explanation of each row, by the method that the student was taught (slow).

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)

        Returns
        -------
        shap.Explanation
            As `explain`.
        """
        check_is_fitted(self)
        labels = self.distilled_.teacher_explained(self._check_table(X, reset=False))
        return self._explanation(X, labels.attribution, labels.base_value)

    def smooth_score(self, X: Any) -> Array:
        """The student's raw score, read smoothly: a function of which `gradient` is the gradient.

        The student's answers, as its teacher's, are a staircase in each number. Here a number stands between the codes of
        its neighbours: the mean of the training rows of a code at the code itself, and linear in between; the networks'
        inputs and the tables are interpolated there. Categories and missing values are read as ever.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)

        Returns
        -------
        score : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Raw score, before any link.

        Raises
        ------
        ValueError
            If the student cannot be read between codes.
        """
        check_is_fitted(self)
        score = self.distilled_.smooth_score(self._check_table(X, reset=False))
        return score[:, 0] if score.shape[1] == 1 else score

    def gradient(self, X: Any) -> Array:
        """The gradient of `smooth_score` in the columns of X.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)

        Returns
        -------
        gradient : ndarray of shape (n_samples, n_features), or (n_samples, n_features, n_classes) with several classes
            Raw score a unit of each column; NaN for categories and missing values, 0 beyond the training rows' range.

        Raises
        ------
        ValueError
            If the student cannot be read between codes.
        """
        check_is_fitted(self)
        gradient = self.distilled_.gradient(self._check_table(X, reset=False)).transpose(0, 2, 1)
        return gradient[:, :, 0] if gradient.shape[2] == 1 else gradient

    def to_onnx(self, path: Any, **options: Any) -> dict[str, float]:
        """Write the student with its preprocessing to an ONNX file that predicts and explains.

        Parameters
        ----------
        path : path-like
        **options
            ``opset``, ``inputs``, ``dtypes`` and ``check`` of `gbdt2nn.to_onnx`.

        Returns
        -------
        differences : dict
            The largest between the file's answers and the student's own, in units of the largest score.
        """
        from gbdt2nn.onnx_export import to_onnx

        check_is_fitted(self)
        return to_onnx(self, path, **options)

    def _explanation(self, X: Any, attribution: Array | None, base_value: Array | None) -> Any:
        import shap

        assert attribution is not None
        assert base_value is not None
        values = attribution.transpose(0, 2, 1)  # (n_samples, n_features, n_outputs), shap's order
        base_values = np.tile(base_value, (len(values), 1))
        if values.shape[2] == 1:
            values, base_values = values[:, :, 0], base_values[:, 0]
        classes = self.distilled_.classes
        names = None if classes is None or values.ndim == 2 else [str(label) for label in classes]
        return shap.Explanation(
            values=values,
            base_values=base_values,
            data=self.encoder_.transform(X),  # numbers, which every plot can draw; categories as codes
            display_data=np.asarray(self.encoder_.to_teacher(X)),
            feature_names=list(self.encoder_.feature_names_),
            output_names=names,
        )
