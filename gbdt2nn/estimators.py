"""The scikit-learn face: checks, parameters, and views of one forward pass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from gbdt2nn.arguments import check_choice, check_number
from gbdt2nn.compiled_batch import PRECISIONS
from gbdt2nn.distillation import distil
from gbdt2nn.distilled import Distilled
from gbdt2nn.students import STUDENTS
from gbdt2nn.views import Views

Array = NDArray[np.float64]


def _updates_online(model: Any) -> bool:
    student = STUDENTS.get(model.student) if isinstance(model.student, str) else None
    if not getattr(student, "updates", False):
        raise AttributeError(f"partial_fit needs student='leaf_embedding' or 'deepgbm', got {model.student!r}")
    return True


class _Gbdt2NN(Views, BaseEstimator):
    """What the two estimators share."""

    _task: str

    def __init__(
        self,
        teacher: Any = None,
        *,
        teacher_params: Any = None,
        student: str = "self_explaining",
        student_params: Any = None,
        attribution: str = "tree_shap",
        imitation_weight: float | str = "auto",
        explanation_weight: float = 1.0,
        explanation_loss: str = "squared_error",
        label_weight: float | str | None = None,
        n_synthetic: int | str = "auto",
        n_explained: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float = 4e-3,
        max_steps: int | str = "auto",
        time_budget: float | None = None,
        n_jobs: int | None = None,
        memory: Any = None,
        device: str = "auto",
        training_precision: str = "auto",
        optimizer: str = "auto",
        precision: str = "float64",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.teacher = teacher
        self.teacher_params = teacher_params
        self.student = student
        self.student_params = student_params
        self.attribution = attribution
        self.imitation_weight = imitation_weight
        self.explanation_weight = explanation_weight
        self.explanation_loss = explanation_loss
        self.label_weight = label_weight
        self.n_synthetic = n_synthetic
        self.n_explained = n_explained
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_steps = max_steps
        self.time_budget = time_budget
        self.n_jobs = n_jobs
        self.memory = memory
        self.device = device
        self.training_precision = training_precision
        self.optimizer = optimizer
        self.precision = precision
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, X_unlabeled: Any = None) -> Any:
        """Train or take the teacher, let it label rows, and fit the student.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)
            NumPy, pandas, polars, or any frame that narwhals reads. NaN is missing; columns of categories or strings are
            categories.
        y : array-like of shape (n_samples,), optional
            May be left out where the teacher is already fitted.
        sample_weight : array-like of shape (n_samples,), optional
            Non-negative. Reaches the teacher, the parents of synthetic rows, every term of the loss and every metric.
        X_unlabeled : array or frame of shape (n_unlabeled, n_features), optional
            Real rows without labels, of the columns of X. They teach the student what the teacher says of them, beside the
            training rows, and are parents of synthetic rows; each weighs what a training row weighs on average. Neither the
            teacher, nor any choice, nor ``fidelity_`` sees them.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an argument is out of range, the data do not fit the teacher, or the teacher cannot be explained.

        Warns
        -----
        UserWarning
            If there are too few rows to hold some out, a time budget is too short, or training was interrupted.
        """
        X = self._check_table(X, reset=True)
        if y is None and self._teacher_needs_y():
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None; y may be left "
                "out only where the teacher is fitted already (a FrozenEstimator or a Booster)"
            )
        if y is not None:
            y = self._check_labels(y)
            check_consistent_length(X, y)
        if X_unlabeled is not None:
            try:
                X_unlabeled = self._check_table(X_unlabeled, reset=False)
            except (TypeError, ValueError) as error:
                raise (TypeError if isinstance(error, TypeError) else ValueError)(f"X_unlabeled: {error}") from None
        check_choice("precision", self.precision, PRECISIONS)
        own = ("teacher", "precision")
        options = {name: value for name, value in self.get_params(deep=False).items() if name not in own}
        self._keep(
            distil(self.teacher, X, y, task=self._task, sample_weight=sample_weight, X_unlabeled=X_unlabeled, **options)
        )
        return self

    @available_if(_updates_online)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        n_epochs: int = 1,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
    ) -> Any:
        """Let the fitted student learn from new rows, by their labels alone; the first call is `fit`.

        This is the online update of DeepGBM (Ke et al. 2019, eq. 15): the teacher and its leaf embeddings are left as they
        are and not asked. An explanation that the student was taught is one of the teacher, and grows stale;
        `explain` with an explainer's name tells of the student as it is. Only with ``student="leaf_embedding"`` and
        ``"deepgbm"``.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Classes must be among those of `fit`.
        sample_weight : array-like of shape (n_samples,), optional
        n_epochs : int, default=1
        batch_size : int, default=128
        learning_rate : float, default=1e-3

        Returns
        -------
        self
        """
        if not hasattr(self, "distilled_"):
            return self.fit(X, y, sample_weight)
        for name, value in (("n_epochs", n_epochs), ("batch_size", batch_size)):
            check_number(name, value, low=1, integer=True)
        check_number("learning_rate", learning_rate, low=0, inclusive=False)
        X = self._check_table(X, reset=False)
        y = self._known_labels(self._check_labels(y))
        check_consistent_length(X, y)
        self.distilled_.update(
            X, y, sample_weight, n_epochs=n_epochs, batch_size=batch_size, learning_rate=learning_rate
        )
        return self

    def _known_labels(self, y: NDArray[Any]) -> Array:
        """Labels as numbers: of the classes that the model knows, where it classifies."""
        classes = self.distilled_.classes
        if classes is None:
            return y.astype(np.float64)
        position = {label: i for i, label in enumerate(classes.tolist())}
        unknown = sorted(set(y.tolist()) - set(position), key=str)
        if unknown:
            raise ValueError(f"y must hold classes of the model, {classes.tolist()[:10]}, got {unknown[:10]}")
        return np.array([position[label] for label in y.tolist()], np.float64)

    @property
    def student_(self) -> Any:
        """The network: takes codes of rows, returns raw score and attribution."""
        return self.distilled_.student

    @property
    def teacher_(self) -> Any:
        """The library's own model; of a model that was loaded, what its library makes of the stored format."""
        return self.distilled_.teacher

    def save(self, path: Any, *, include_teacher: bool = True) -> None:
        """Write the fitted model to one file, which `gbdt2nn.load` reads: no pickle, no code.

        Parameters
        ----------
        path : path
            Replaced in one step if it exists; its folder must exist.
        include_teacher : bool, default=True
            Whether the teacher goes along, in its library's own format. Without it the student predicts and explains as
            before; what asks the teacher (``teacher_``, `explain_teacher`, `gbdt2nn.fidelity`, reports) raises.

        Raises
        ------
        ArtefactError
            If a parameter, a class label or a category cannot be given back as it is; a ``ValueError`` that names it.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import gbdt2nn
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = gbdt2nn.Gbdt2NNRegressor(max_steps=50, n_synthetic=0, random_state=0).fit(X, y)
        >>> path = Path(tempfile.mkdtemp()) / "student.gbdt2nn"
        >>> model.save(path)
        >>> bool((gbdt2nn.load(path).predict(X) == model.predict(X)).all())
        True
        """
        from gbdt2nn.artefact import write_artefact

        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        write_artefact(
            path,
            self.distilled_,
            estimator=type(self).__name__,
            parameters=self.get_params(deep=False),
            teacher=self.teacher,
            feature_names_in=None if names is None else list(names),
            include_teacher=include_teacher,
        )

    def set_params(self, **params: Any) -> Any:
        """Set parameters of the estimator, or of the teacher it holds as ``teacher__<name>``.

        Raises
        ------
        ValueError
            If ``teacher__<name>`` meets a teacher that has no parameters: a name, None, or a Booster.
        """
        teacher = params.get("teacher", self.teacher)
        nested = [name for name in params if name.startswith("teacher__")]
        if nested and not hasattr(teacher, "set_params"):
            raise ValueError(
                f"{nested[0]} needs a teacher that is an estimator, such as LGBMRegressor(), got teacher={teacher!r}; give "
                "the parameters of a teacher by name as teacher_params"
            )
        return super().set_params(**params)

    def __sklearn_clone__(self) -> Any:
        copy = super().__sklearn_clone__()
        if not hasattr(self.teacher, "get_params"):
            # a deep copy of a Booster forgets its best iteration, and would be another teacher
            copy.teacher = self.teacher
        return copy

    def _keep(self, distilled: Distilled) -> None:
        self.distilled_ = distilled
        self.encoder_ = distilled.encoder
        self.history_ = distilled.history
        self.fidelity_ = distilled.fidelity
        self.base_value_ = distilled.base_value
        self.n_steps_ = distilled.history.n_steps
        self.n_synthetic_ = distilled.n_synthetic
        self.n_explained_ = distilled.n_explained
        self.seconds_ = distilled.seconds

    # ---------------------------------------------------------------------------------------------------------- checks
    def _check_table(self, X: Any, *, reset: bool) -> Any:
        is_plain = type(X) is np.ndarray and X.dtype == np.float64 and X.ndim == 2 and len(X) > 0
        if is_plain and not reset and not hasattr(self, "feature_names_in_") and X.shape[1] == self.n_features_in_:
            return X  # nothing to say of it: the checks below would be a tenth of a fast answer to a thousand rows
        if hasattr(X, "columns") or hasattr(X, "column_names"):  # a frame: its columns are the encoder's to read
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        return validate_data(
            self, X, reset=reset, dtype=np.float64, ensure_all_finite=False, ensure_min_samples=2 if reset else 1
        )

    def _teacher_needs_y(self) -> bool:
        from sklearn.frozen import FrozenEstimator

        return (
            self.teacher is None
            or isinstance(self.teacher, str)
            or not (
                isinstance(self.teacher, FrozenEstimator) or type(self.teacher).__name__ in ("Booster", "StoredTeacher")
            )
        )

    def _check_labels(self, y: Any) -> NDArray[Any]:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.non_deterministic = self.time_budget is not None
        return tags


class Gbdt2NNRegressor(RegressorMixin, _Gbdt2NN):
    """A neural student that predicts and explains like its boosted-tree teacher.

    Parameters
    ----------
    teacher : None, "lightgbm", "xgboost", estimator, FrozenEstimator or Booster, default=None
        Who teaches. None is LightGBM with 31 leaves, learning rate 0.05, and up to 1000 rounds that stop early on held-out
        rows. An estimator (``LGBMRegressor``, ``XGBRegressor``) is cloned and fitted. A ``FrozenEstimator`` of a fitted
        one, a ``lightgbm.Booster`` or an ``xgboost.Booster`` is taken as it is.
    teacher_params : mapping, optional
        Parameters of a teacher given by name or as None.
    student : {"self_explaining", "interaction_tables", "mlp", "leaf_embedding", "deepgbm"}, default="self_explaining"
        ``"self_explaining"``: score = base value + sum of attributions, by construction. ``"interaction_tables"``: the same
        without a network, by tables over features, pairs and triples of them. ``"mlp"``: a score head and a separate
        attribution head. ``"leaf_embedding"``: GBDT2NN (Ke et al. 2019), networks that learn the leaf embeddings of groups of
        trees. ``"deepgbm"``: GBDT2NN and a network for sparse categories.
    student_params : mapping, optional
        Options of the student. ``"self_explaining"`` and ``"mlp"``: ``width`` (default 256) and ``depth`` (3). Tables:
        ``n_pairs``, ``n_triples``, ``pair_bins`` and ``triple_bins`` ("auto"), ``n_sweeps`` (3) and ``ridge`` (4.0). Those of
        the others stand at `gbdt2nn.students.GBDT2NN` and `gbdt2nn.students.DeepGBM`.
    attribution : {"tree_shap", "tree_path"}, default="tree_shap"
        What the teacher's explanation is: path-dependent TreeSHAP (Lundberg et al. 2020) or Saabas. Their base values
        differ.
    imitation_weight : float or "auto", default="auto"
        Weight of the teacher's raw score in the joint loss. "auto" is 1, and 0 for GBDT2NN
        and DeepGBM as in their paper (``variant="paper"`` or ``"code"``).
    explanation_weight : float, default=1.0
        Weight of the teacher's attributions in the joint loss. At 0 no explanation is computed or used anywhere: plain
        distillation.
    explanation_loss : {"squared_error", "absolute_error", "cosine_distance"}, default="squared_error"
    label_weight : float, "auto" or None, default=None
        Weight of a loss on the labels themselves: the knob between fidelity and accuracy. None is the student's own: 0, and 1
        for GBDT2NN and DeepGBM where there are labels, from which their papers learn. "auto" chooses among 0, 0.1, 0.5 and 2
        by the label loss on held-out rows, as long as the teacher's score is kept: six tenths of the steps are without
        labels, and a tenth for each weight goes on from there. ``history_.label_weights`` tells what each came to.
    n_synthetic : int or "auto", default="auto"
        Synthetic rows that the teacher scores besides the training rows. "auto": four times the training rows, between
        20,000 and 50,000 (160,000 with several outputs), and fresh ones that join them while the student learns; for
        ``"interaction_tables"`` 300,000, as far as the attributions of all rows fit in 512 MB; none for the papers' own
        variants of GBDT2NN and DeepGBM.
    n_explained : int or "auto", default="auto"
        How many of the training rows the teacher explains too: real rows first, then synthetic ones. "auto": all real
        rows, and all synthetic ones as long as the attributions fit in 512 MB; under a time budget as many as 40 % of it
        allow.
    batch_size : int or "auto", default="auto"
        Rows of a step. "auto": 2048; 256 for ``"leaf_embedding"`` and ``"deepgbm"``.
    learning_rate : float, default=4e-3
    max_steps : int or "auto", default="auto"
        Of gradient descent; ``"interaction_tables"`` takes none. "auto": 1000; 2000 for ``"leaf_embedding"`` and
        ``"deepgbm"``.
    time_budget : float, optional
        Seconds for everything, the teacher included; the steps done may then be fewer than ``max_steps``. ``n_steps_``
        and ``n_explained_``, given as ``max_steps`` and ``n_explained``, repeat the run without a clock.
    n_jobs : int, optional
        Threads of the teacher and of the student's training; all cores by default (one in a worker process). An estimator
        with an ``n_jobs`` of its own keeps it, and predictions use torch's own number.
    memory : str or joblib.Memory, optional
        Cache of fitted teachers and their attributions, for searches. Attributions under a time budget are not cached.
    device : str, default="auto"
        A torch device; "auto" takes CUDA where it is.
    training_precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the layers inside a network while it learns; "auto": bfloat16 where the processor multiplies such numbers itself.
        How a fitted student answers is `precision`'s to say.
    optimizer : {"auto", "adamw", "muon"}, default="auto"
        "muon" takes the steps of square matrices, those of layers inside a network, and leaves the rest to AdamW. "auto":
        Muon for ``"self_explaining"``, ``"mlp"`` and ``"xdistillation"``, AdamW for the others. Learning rate and decay
        are the same for both.
    precision : {"float64", "float32", "fast"}, default="float64"
        In which a fitted student answers; no part of the fit, so ``set_params`` changes it at any time. "float64": an answer
        does not depend on the rows beside it. "float32": the same to single precision. "fast": hidden layers in bfloat16
        where the processor multiplies such numbers itself (AMX, AVX512_BF16), with sums, first and last layer and tables in
        single precision; on other processors, on a GPU, and of students other than ``"self_explaining"``, what "float32" is:
        ``network_precision_`` tells. Arrays are float64 throughout, and a complete student's score is the base value plus
        the attributions as they are returned. Post-hoc explainers, gradients and ``fidelity_`` are of the student in float64.
    verbose : int, default=0
        1 shows a progress bar with the terms of the loss and the fidelity on held-out rows.
    random_state : int, RandomState, Generator or None, default=None
        Governs every draw. NumPy's and torch's global generators are left as they are.

    Attributes
    ----------
    teacher_ : estimator or Booster
        The library's own model; what it takes is ``encoder_.to_teacher(X)``.
    student_ : torch.nn.Module
        Takes codes of rows; returns raw score and attribution.
    encoder_ : Encoder
    base_value_ : ndarray of shape (n_outputs,)
        Raw score before any feature is credited.
    fidelity_ : Fidelity
        Agreement with the teacher on held-out rows that had no part in training (a frozen teacher may have seen them).
    history_ : History
        Terms of the loss and held-out fidelity by step.
    n_steps_, n_synthetic_, n_explained_ : int
    seconds_ : dict
        By stage: ``teacher``, ``attributions``, ``student``, ``total``.
    network_precision_ : {"float64", "float32", "bfloat16"}
        What hidden layers compute in when the student answers on this machine, under ``precision`` as it is.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where X has names.

    See Also
    --------
    Gbdt2NNClassifier : The same for classes.
    gbdt2nn.fidelity : Measure fidelity on any rows.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from gbdt2nn import Gbdt2NNRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = Gbdt2NNRegressor(max_steps=100, n_synthetic=500, random_state=0).fit(X, y)
    >>> model.predict(X[:2]).shape, model.explain(X[:2]).values.shape
    ((2,), (2, 10))
    """

    _task = "regression"

    def predict(self, X: Any) -> Array:
        """The student's prediction, on the scale of y (after the link of the teacher's objective).

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._response(X)[:, 0]

    def _check_labels(self, y: Any) -> NDArray[Any]:
        y = column_or_1d(y, warn=True)
        try:
            y = np.asarray(y, np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"y must hold numbers for a regressor, got dtype {np.asarray(y).dtype}") from None
        assert_all_finite(y, input_name="y")
        return y


class Gbdt2NNClassifier(ClassifierMixin, _Gbdt2NN):
    _task = "classification"

    def _keep(self, distilled: Distilled) -> None:
        super()._keep(distilled)
        self.classes_ = distilled.classes

    def decision_function(self, X: Any) -> Array:
        """The student's raw score: log-odds of the second class, or one score a class.

        Returns
        -------
        ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
        """
        score, _ = self._explained(X, explain=False)
        return score[:, 0] if score.shape[1] == 1 else score

    def predict_proba(self, X: Any) -> Array:
        """The student's class probabilities.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        response = self._response(X)
        return np.hstack([1.0 - response, response]) if response.shape[1] == 1 else response

    def predict(self, X: Any) -> NDArray[Any]:
        """The student's most probable class.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        proba = self.predict_proba(X)
        assert self.classes_ is not None
        return self.classes_[proba.argmax(1)]

    def _check_labels(self, y: Any) -> NDArray[Any]:
        y = column_or_1d(y, warn=True)
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        elif y.dtype.kind == "O":
            import pandas as pd

            if pd.isna(y).any():
                raise ValueError("y must not hold missing labels, got None or NaN")
        check_classification_targets(y)
        found = np.unique(y)
        if len(found) < 2 and self._teacher_needs_y():
            raise ValueError(f"y must hold at least two classes for a classifier, got one class: {found.tolist()}")
        return y


Gbdt2NNClassifier.__doc__ = (Gbdt2NNRegressor.__doc__ or "").split("    See Also")[0].replace(
    "``LGBMRegressor``, ``XGBRegressor``", "``LGBMClassifier``, ``XGBClassifier``"
).replace(
    "feature_names_in_ : ndarray of str",
    "classes_ : ndarray of shape (n_classes,)\n    feature_names_in_ : ndarray of str",
) + (
    """    See Also
    --------
    Gbdt2NNRegressor : The same for numbers.
    gbdt2nn.fidelity : Measure fidelity on any rows.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from gbdt2nn import Gbdt2NNClassifier
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = Gbdt2NNClassifier(max_steps=100, n_synthetic=500, random_state=0).fit(X, y)
    >>> model.predict_proba(X[:2]).shape, model.explain(X[:2]).values.shape
    ((2, 2), (2, 30))
    """
)
