"""The teacher's side of a comparison without a student: its raw score, attributions, link and classes, and fidelity to it."""

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbdt2nn.binning import Binner
from gbdt2nn.distilled import Distilled
from gbdt2nn.encoding import Encoder
from gbdt2nn.fidelity_metrics import Fidelity
from gbdt2nn.labelling import Labels
from gbdt2nn.options import Options
from gbdt2nn.rows import Rows
from gbdt2nn.teachers import library_of
from gbdt2nn.teachers.habits import HABITS
from gbdt2nn.teachers.links import Link

Array = NDArray[np.float64]
NOT_OF_A_SCORE = ("score_r2", "score_max_error", "score_p999_error", "decision_flip_rate")


class TeacherSide:
    """A fitted teacher as students see it: through a `Distilled` that has no student.

    Parameters
    ----------
    teacher : fitted estimator of LightGBM or XGBoost
    X : DataFrame of shape (n_samples, n_features)
        Rows whose columns say how tables are read.
    n_jobs : int

    Examples
    --------
    >>> from lightgbm import LGBMRegressor
    >>> X = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=["a", "b", "c"])
    >>> teacher = LGBMRegressor(n_estimators=5, verbosity=-1).fit(X, X["a"])
    >>> TeacherSide(teacher, X).labels(X).attribution.shape
    (300, 1, 3)
    """

    def __init__(self, teacher: Any, X: pd.DataFrame, n_jobs: int = 1) -> None:
        self.teacher, self.n_jobs, self._columns = teacher, n_jobs, X.iloc[:1]
        library = library_of(teacher)
        description = library.describe(teacher)
        encoder = Encoder(
            categories=description.categories,
            feature_names=description.feature_names,
            unseen=HABITS[library.NAME].unseen_category,
            missing=description.missing,
        ).fit(X)
        ensemble = library.parse(teacher)
        none = np.zeros(0, np.int64)
        self._distilled = Distilled(
            teacher,
            None,
            encoder,
            ensemble,
            Binner.from_ensemble(ensemble),
            description,
            classes=description.classes,
            base_value=np.zeros(description.n_outputs),
            options=Options(n_jobs=n_jobs),
            rows=Rows(none, none, none, False),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made of: AutoGluon pickles the models it is given."""
        return TeacherSide, (self.teacher, self._columns, self.n_jobs)

    @property
    def link(self) -> Link:
        """From raw score to response."""
        return self._distilled.description.link

    @property
    def classes(self) -> NDArray[Any] | None:
        """Labels of the classes in the order of the outputs; None for numbers."""
        return self._distilled.classes

    @property
    def n_outputs(self) -> int:
        """Raw scores of a row."""
        return self._distilled.description.n_outputs

    @cached_property
    def n_features(self) -> int:
        """Columns of the table."""
        return self._distilled.description.n_features

    @property
    def categories(self) -> list[NDArray[Any] | None]:
        """Of each column the list of categories, or None."""
        return self._distilled.encoder.categories_

    def numbers(self, X: Any) -> Array:
        """A table as the numbers that the teacher's library sees, shape (n_samples, n_features)."""
        return self._distilled.numbers(X)

    def labels(self, X: Any, *, explain: bool = True) -> Labels:
        """The teacher's raw score and, by exact TreeSHAP, its attributions and base value."""
        return self._distilled.teacher_explained(X, explain=explain)

    def score(self, X: Any) -> Array:
        """The teacher's raw score, shape (n_samples, n_outputs)."""
        return self.labels(X, explain=False).score

    def score_of_numbers(self, x: Array) -> Array:
        """The same of rows that are numbers already."""
        return library_of(self.teacher).raw_score(self.teacher, x, n_jobs=self.n_jobs)

    def positions(self, y: Any) -> Array:
        """Labels as a fidelity wants them: numbers as they are, classes as the number of their output."""
        y = np.asarray(y)
        if self.classes is None:
            return y.astype(np.float64)
        position = {label: number for number, label in enumerate(self.classes.tolist())}
        return np.array([position[label] for label in y.tolist()])

    def fidelity(self, rival: Any, X: pd.DataFrame, y: Any, weight: Array | None) -> dict[str, Any]:
        """Fidelity of a rival on rows: the keys of `gbdt2nn.fidelity`, None where the rival gives no answer.

        Parameters
        ----------
        rival : Rival
        X : DataFrame of shape (n_samples, n_features)
        y : ndarray of shape (n_samples,)
        weight : ndarray of shape (n_samples,) or None

        Returns
        -------
        fidelity : dict
            With ``n_explained_rows`` where the rival explains the first rows alone.
        """
        explains = rival.explains is not None
        labels = self.labels(X, explain=explains)
        score = rival.raw_score(X) if rival.has_score else labels.score
        attribution = base_value = None
        explained = len(X)
        if explains:
            explained = min(explained, rival.most_explained or explained)
            attribution, base_value = rival.explain(X.iloc[:explained])
        if rival.up_to_a_shift and self.n_outputs > 1:
            score = score + (labels.score - score).mean(axis=1, keepdims=True)
            if attribution is not None and base_value is not None:
                attribution = attribution + (labels.attribution[:explained] - attribution).mean(axis=1, keepdims=True)
                base_value = base_value + (labels.base_value - base_value).mean()
        target = self.positions(y)
        if explained == len(X):
            found = self._measured(labels, score, attribution, target, weight, base_value)
        else:
            found = self._measured(Labels(labels.score, None, None), score, None, target, weight, None)
            first = None if weight is None else weight[:explained]
            few = self._measured(
                Labels(*(part[:explained] for part in labels[:2]), labels.base_value),
                score[:explained],
                attribution,
                None,
                first,
                base_value,
            )
            found.update({name: few[name] for name in few if "attribution" in name or name in _OF_EXPLANATIONS})
            found["n_explained_rows"] = explained
        if not rival.has_score:
            found.update(dict.fromkeys([*NOT_OF_A_SCORE, *(name for name in found if name.startswith("student_"))]))
        return dict(found)

    def _measured(
        self, labels: Labels, score: Array, attribution: Array | None, y: Any, weight: Any, base_value: Array | None
    ) -> Fidelity:
        return self._distilled.measure_labels(labels, score, attribution, y, weight, base_value)


_OF_EXPLANATIONS = ("per_feature_r2", "top3_overlap", "completeness_gap")
