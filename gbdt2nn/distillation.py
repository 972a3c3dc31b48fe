"""The flow from a table and a teacher to a fitted student, as functions; the one room that knows all the others.

X, y -> teacher -> attributions -> codes -> student <-> joint loss -> fitted
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier

from gbdt2nn.arguments import check_choice
from gbdt2nn.attributions import Explain
from gbdt2nn.augmentation import SyntheticRows
from gbdt2nn.batches import Fresh, LabelledCodes
from gbdt2nn.binning import Binner
from gbdt2nn.clock import now
from gbdt2nn.distilled import ABSOLUTE, UNJUDGED, Distilled, ask, check_complete, explainer_of
from gbdt2nn.encoding import Encoder
from gbdt2nn.fidelity_metrics import check_weight
from gbdt2nn.fresh_blocks import FreshBlocks
from gbdt2nn.labelling import Labels, check_completeness
from gbdt2nn.options import Options, Seeds, as_memory, n_threads, resolve_device, trains_in_bfloat16
from gbdt2nn.rows import FEWEST_TO_SPLIT, Rows, split_rows
from gbdt2nn.smoothing import centres_of
from gbdt2nn.student_answers import embedding_r2, student_explained, torch_at_work
from gbdt2nn.student_building import StudentOptions
from gbdt2nn.student_fit import fit_student_on, label_loss
from gbdt2nn.students import STUDENTS
from gbdt2nn.teacher_intake import (
    check_categories,
    check_infinity,
    check_parse,
    check_task,
    encode_labels,
    resolve_teacher,
)
from gbdt2nn.teachers.description import TeacherDescription
from gbdt2nn.teachers.habits import HABITS
from gbdt2nn.tree_arrays import leaf_numbers, refine
from gbdt2nn.trees import TreeEnsemble

Array = NDArray[np.float64]

ATTRIBUTION_SHARE = 0.4  # of a time budget, at most, for the teacher's attributions
PATIENCE = 50  # rounds without improvement on the stop rows after which a default teacher stops
MOST_HELD_OUT = 2000  # rows of stop and check, each, whose attributions are asked for
HELD_OUT_SHARE = 0.15  # of the time for attributions, for each of stop and check
BACKGROUND = 100  # training rows kept for explainers that ask for absent features
SYNTHETIC_BLOCK = 4096  # rows of one numbered block
FRESH_CHECKED = 64  # rows of the fresh blocks made together whose attributions are held against the library's own score
FRESH_BYTES = 2**26  # of attributions of the fresh blocks made together
SYNTHETIC_BOUNDS = (20_000, 50_000)  # "auto": four times the training rows, within these
MOST_EXPLAINED_BYTES = 2**29  # "auto": of attributions; all rows, as long as these hold them
SYNTHETIC_OF_MANY = 160_000  # the same with several outputs
MOST_ROWS = (
    400_000  # that a student learns from at a time; beyond them the oldest synthetic rows give way to fresh ones
)
SYNTHETIC_FOR_TABLES = 300_000  # "auto": for a student that is solved for, as far as memory goes
CHECKED = 4096  # of the rows that the student learns from, how many the teacher's library scores too


def distil(
    teacher: Any,
    X: Any,
    y: Any = None,
    *,
    task: str | None = None,
    sample_weight: Any = None,
    X_unlabeled: Any = None,
    **options: Any,
) -> Distilled:
    """Distil a tree ensemble into a network, without the scikit-learn face.

    Parameters
    ----------
    teacher : None, "lightgbm", "xgboost", estimator, FrozenEstimator or Booster
        As for `Gbdt2NNRegressor`.
    X : array or frame of shape (n_samples, n_features)
    y : array of shape (n_samples,), optional
        Labels; may be left out with a fitted teacher.
    task : {"regression", "classification"}, optional
        By default what the teacher is for; regression where it is given by name.
    sample_weight : array of shape (n_samples,), optional
    X_unlabeled : array or frame of shape (n_unlabeled, n_features), optional
        As for `Gbdt2NNRegressor.fit`.
    **options
        Any of the estimators' other parameters.

    Returns
    -------
    Distilled

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or the teacher cannot be explained; before any training.

    Examples
    --------
    >>> import numpy as np
    >>> from lightgbm import LGBMRegressor
    >>> from sklearn.frozen import FrozenEstimator
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> teacher = LGBMRegressor(n_estimators=10, verbosity=-1).fit(X, X[:, 0] * X[:, 1])
    >>> distilled = distil(FrozenEstimator(teacher), X, max_steps=20, n_synthetic=100, random_state=0)
    >>> score, attribution = distilled.student_explained(X)
    >>> score.shape, attribution.shape
    ((300, 1), (300, 1, 3))
    """
    began = now()
    settings = Options(**options)
    settings.check()
    settings = settings.resolved(has_labels=y is not None)
    if task is not None:
        check_choice("task", task, ["regression", "classification"])
    return _Flow(teacher, settings, task, began).run(X, y, sample_weight, X_unlabeled)


class Counts(NamedTuple):
    """What labelling came to: the attributions' own base value, and how many rows were made and explained."""

    base_value: Array | None
    n_synthetic: int
    n_explained: int


class _Flow:
    """One distillation: the steps in order, and what each leaves for the next."""

    def __init__(self, teacher: Any, options: Options, task: str | None, began: float) -> None:
        self.options, self.began = options, began
        self.threads = n_threads(options.n_jobs)
        self.memory = as_memory(options.memory)
        self.device = resolve_device(options.device)
        self.seeds = Seeds(options.random_state)
        self.library, self.model, self.is_frozen, self.is_default = resolve_teacher(
            teacher, options, task, seed=self.seeds.teacher, threads=self.threads
        )
        self.habits = HABITS[self.library.NAME]
        self.task = task

    @property
    def elapsed(self) -> float:
        return now() - self.began

    def run(self, X: Any, y: Any, sample_weight: Any, X_unlabeled: Any = None) -> Distilled:
        options = self.options
        description = self.library.describe(self.model) if self.is_frozen else None
        if description is not None:
            check_task(description, self.task)
        elif y is None:
            raise ValueError(
                "y may be left out only where the teacher is already fitted (a FrozenEstimator or a Booster)"
            )
        if y is None and options.learns_labels:
            raise ValueError(f"label_weight must be 0 where y is left out, got {options.label_weight}")
        if options.learns_labels:
            check_label_objective(self.model, description)
        encoder = self.encode(X, description)
        x = encoder.transform(X)
        check_infinity(x, self.library.NAME, encoder.feature_names_)
        unlabelled = x[:0] if X_unlabeled is None else self.encode_unlabelled(X_unlabeled, encoder)
        weight = check_weight(sample_weight, len(x))
        if y is not None and len(y) != len(x):
            raise ValueError(f"y must have one entry for each of the {len(x)} rows of X, got {len(y)}")
        classification = self.classifies(description)
        classes, codes = encode_labels(y, description) if classification else (None, None)
        target = codes if classification else (None if y is None else np.asarray(y, np.float64))

        if target is not None and not np.isfinite(target).all():
            raise ValueError("y must hold finite numbers, got NaN or infinity")
        live = np.flatnonzero(weight > 0)  # a row of weight zero is as good as absent
        if codes is not None and classes is not None and description is None:
            absent = np.setdiff1d(np.arange(len(classes)), codes[live])
            if len(absent) or len(classes) < 2:
                raise ValueError(
                    "y must hold rows of positive weight of every class, and at least two classes, "
                    f"got none of class {classes[absent[:5]].tolist()} among {classes[:10].tolist()}"
                )
        rows = self.split(live, codes)
        seconds = {"teacher": 0.0}
        if description is None:
            check_categories(self.model, encoder.is_category_, encoder.feature_names_)
            start = now()
            self.model = self.fit_teacher(encoder.to_teacher(X), y, codes, weight, rows)
            seconds["teacher"] = now() - start
            description = self.library.describe(self.model)
            check_task(description, self.task)
        if options.learns_labels:
            label_loss(description.link, description.objective, np.ones(1))
        ensemble = self.library.parse(self.model)
        check_parse(self.library, self.model, ensemble, x[:256], self.threads)
        binner = Binner.from_ensemble(ensemble)
        if getattr(STUDENTS[options.student], "refines", False):
            binner = refine(binner, x[rows.train], encoder.is_category_)

        start = now()
        stop, check, taught, counts, fresh = self.label(x, unlabelled, weight, target, rows, ensemble, binner, encoder)
        seconds["attributions"] = now() - start
        base_value = counts.base_value
        if base_value is None:  # without explanations the mean raw score, which needs none
            base_value = np.average(taught.score, axis=0, weights=taught.weight)

        start = now()
        with torch_at_work(self.threads):
            student, history = fit_student_on(
                taught,
                stop,
                ensemble=ensemble,
                binner=binner,
                base_value=base_value,
                link=description.link,
                objective=description.objective,
                options=self.student_options(),
                fresh=fresh,
            )
        seconds["student"] = now() - start
        distilled = Distilled(
            self.model, student, encoder, ensemble, binner, description, classes, base_value, options, rows,
            background=taught.codes[:BACKGROUND],
            centres=centres_of(
                x[rows.train], binner.transform(x[rows.train], n_jobs=self.threads), weight[rows.train], binner
            ),
            history=history, n_synthetic=counts.n_synthetic + history.n_fresh, n_explained=counts.n_explained,
            seconds=seconds,
        )  # fmt: skip
        checked, labels = check
        score, attribution = student_explained(student, checked.codes, explain=distilled.explains)
        try:
            distilled.fidelity = distilled.measure_labels(labels, score, attribution, checked.y, checked.weight)
        except ValueError as error:  # labels outside the domain of the metric: what is trained is not lost over it
            warnings.warn(f"fidelity_ holds no label metric: {error}", UserWarning, stacklevel=4)
            distilled.fidelity = distilled.measure_labels(labels, score, attribution, None, checked.weight)
        if checked.leaves is not None:
            distilled.fidelity["embedding_r2"] = embedding_r2(student, checked)
        distilled.fidelity["measured_on"] = (
            "rows that it was trained on"
            if not rows.is_split
            else "held-out rows" + (", which the frozen teacher may have seen" if self.is_frozen else "")
        )
        if student.complete and distilled.explains:
            check_complete(distilled.fidelity, labels)
        seconds["total"] = self.elapsed
        return distilled

    # ------------------------------------------------------------------------------------------------------- the steps
    def classifies(self, description: TeacherDescription | None) -> bool:
        """Whether the labels are classes: what the caller says, or else what the teacher is for."""
        if self.task is not None:
            return self.task == "classification"
        return is_classifier(self.model) if description is None else description.task in ("binary", "multiclass")

    def encode(self, X: Any, description: TeacherDescription | None) -> Encoder:
        if description is None:
            missing = getattr(self.model, "missing", None)  # XGBoost's estimators have one
            return Encoder(unseen=self.habits.unseen_category, missing=np.nan if missing is None else missing).fit(X)
        encoder = Encoder(
            categories=description.categories,
            feature_names=description.feature_names,
            unseen=self.habits.unseen_category,
            missing=description.missing,
        )
        width = X.shape[1] if len(getattr(X, "shape", ())) == 2 else description.n_features
        if width != description.n_features:
            raise ValueError(
                f"X must have the {description.n_features} features the frozen teacher was trained with, got {width}"
            )
        return encoder.fit(X)

    def encode_unlabelled(self, X: Any, encoder: Encoder) -> Array:
        """Rows without labels as the numbers of the others, refused by their own name."""
        try:
            x = encoder.transform(X)
            check_infinity(x, self.library.NAME, encoder.feature_names_)
        except (TypeError, ValueError) as error:
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"X_unlabeled: {error}") from None
        return x

    def split(self, live: NDArray[np.int64], codes: NDArray[np.int64] | None) -> Rows:
        parts = split_rows(len(live), seed=self.seeds.split, strata=None if codes is None else codes[live])
        if not parts.is_split:
            warnings.warn(
                f"{len(live)} rows are fewer than {FEWEST_TO_SPLIT} or too few of each class: the student trains on all of "
                "them, and fidelity_ is measured on rows it has seen",
                UserWarning,
                stacklevel=5,
            )
        return Rows(live[parts.train], live[parts.stop], live[parts.check], parts.is_split)

    def fit_teacher(self, table: Any, y: Any, codes: NDArray[np.int64] | None, weight: Array, rows: Rows) -> Any:
        target = np.asarray(y) if codes is None or self.habits.encodes_labels else codes
        weighted = bool((weight[rows.train] != weight[rows.train[0]]).any())

        def part(index: NDArray[np.int64]) -> tuple[Any, Any, Array | None]:
            chosen = table.iloc[index] if hasattr(table, "iloc") else table[index]
            return chosen, target[index], weight[index] if weighted else None

        asks = self.library.wants_stop_rows(self.model)  # its own parameters go before our patience
        wants_stop = (self.is_default and rows.is_split) or asks
        fit = self.memory.cache(self.library.fit)
        taught, labels, row_weight = part(rows.train)
        return fit(
            self.model,
            taught,
            labels,
            sample_weight=row_weight,
            stop=part(rows.stop) if wants_stop else None,
            patience=PATIENCE if self.is_default and rows.is_split and not asks else None,
        )

    def label(
        self,
        x: Array,
        unlabelled: Array,
        weight: Array,
        target: NDArray[Any] | None,
        rows: Rows,
        ensemble: TreeEnsemble,
        binner: Binner,
        encoder: Encoder,
    ) -> tuple[LabelledCodes, tuple[LabelledCodes, Labels], LabelledCodes, Counts, Fresh | None]:
        """Let the teacher label held-out rows, training rows, real rows without labels and synthetic ones, in that order.

        A row without a label weighs what a training row weighs on average, and is a parent of synthetic rows like them.
        """
        options = self.options
        budget = options.time_budget
        attribution = options.attribution if options.explanation_weight > 0 else None
        start = now()
        deadline = None if budget is None else start + ATTRIBUTION_SHARE * budget

        n_real = len(rows.train) + len(unlabelled)
        n_synthetic = self.n_synthetic(n_real, ensemble)
        n_held_out = min(MOST_HELD_OUT, len(rows.stop)) + min(MOST_HELD_OUT, len(rows.check))
        n_asked = self.n_explained(len(rows.train), n_real + n_synthetic, ensemble)
        explain = explainer_of(ensemble, binner, attribution, options, n_held_out + n_asked)

        def teach(block: Array, until: float | None, **how: Any) -> Labels:
            return ask(self.model, ensemble, block, attribution, explain, options, until, **how)

        def coded(index: NDArray[np.int64], labels: Labels) -> LabelledCodes:
            index = index[: len(labels.score)]
            y = None if target is None else target[index].astype(np.float64)
            leaves = self.leaves(ensemble, x[index])
            return LabelledCodes(binner.transform(x[index]), labels.score, labels.attribution, weight[index], y, leaves)

        held_out = []
        for number, index in enumerate((rows.stop, rows.check)):
            chosen = np.random.default_rng(self.seeds.split + 1).permutation(index)[:MOST_HELD_OUT]
            until = None
            if budget is not None:
                until = start + (number + 1) * HELD_OUT_SHARE * ATTRIBUTION_SHARE * budget
            held_out.append((chosen, teach(x[chosen], until)))
        stop = coded(*held_out[0])
        checked = coded(*held_out[1])
        check = (checked, held_out[1][1])

        # real rows first: whatever the clock allows, they are explained before synthetic ones
        rng = np.random.default_rng(self.seeds.split + 2)
        shuffled = rng.permutation(rows.train)
        mean_weight = float(weight[rows.train].mean())
        parents = np.concatenate([x[rows.train], unlabelled])
        parent_weight = np.concatenate([weight[rows.train], np.full(len(unlabelled), mean_weight)])
        stream = self.synthetic_rows(parents, parent_weight, encoder, binner)
        sizes = [min(SYNTHETIC_BLOCK, n_synthetic - start) for start in range(0, n_synthetic, SYNTHETIC_BLOCK)]
        with ThreadPoolExecutor(self.threads) as pool:  # a block is the same whoever makes it
            synthetic = np.concatenate([x[:0], *pool.map(stream.block, range(len(sizes)), sizes)])
        taught = np.concatenate([x[shuffled], rng.permutation(unlabelled), synthetic])
        explained = teach(taught[:n_asked], deadline, n_checked=CHECKED, dtype=np.float32)
        n_explained = len(explained.score) if attribution is not None else 0
        if attribution is not None and budget is not None and n_explained < len(shuffled):
            warnings.warn(
                f"time_budget={budget} left time for the attributions of {n_explained} of {len(shuffled)} training "
                "rows; the student learns from these, and from the scores of all",
                UserWarning,
                stacklevel=6,
            )
        rest = self.library.raw_score(self.model, taught[len(explained.score) :], n_jobs=self.threads)
        n_more = len(unlabelled) + n_synthetic  # synthetic rows weigh the same each: their parents are drawn by weight
        train = LabelledCodes(
            binner.transform(taught),
            np.concatenate([explained.score, rest]),
            explained.attribution,
            np.concatenate([weight[shuffled], np.full(n_more, mean_weight)]),
            None if target is None else np.concatenate([target[shuffled], np.full(n_more, np.nan)]),
            self.leaves(ensemble, taught),
        )
        fresh = None
        if isinstance(options.n_synthetic, str) and n_synthetic >= SYNTHETIC_BLOCK and options.learns_by_gradient:
            labelled = FreshBlocks(
                lambda number: stream.block(len(sizes) + number, SYNTHETIC_BLOCK),
                lambda rows: self.label_fresh(rows, attribution, explain),
                n_together=min(
                    self.threads, max(1, FRESH_BYTES // (8 * SYNTHETIC_BLOCK * ensemble.n_outputs * x.shape[1]))
                ),
            )

            def block(number: int) -> LabelledCodes:
                made, labels = labelled(number)
                weights = np.full(SYNTHETIC_BLOCK, mean_weight)
                y = None if target is None else np.full(SYNTHETIC_BLOCK, np.nan)
                leaves = self.leaves(ensemble, made)
                return LabelledCodes(binner.transform(made), labels.score, labels.attribution, weights, y, leaves)

            # beside labels the room does not grow: the rows that have them would be met ever less often
            most = len(train.codes) if self.is_of_labels else min(MOST_ROWS, self.most_explained(ensemble))
            fresh = Fresh(block, SYNTHETIC_BLOCK, n_real, most)
        return stop, check, train, Counts(explained.base_value, n_synthetic, n_explained), fresh

    @property
    def is_of_labels(self) -> bool:
        """Whether the student is one that learns labels first, and the teacher's score beside them."""
        return bool(getattr(STUDENTS[self.options.student], "learns_labels", False)) and self.options.learns_labels

    def leaves(self, ensemble: TreeEnsemble, x: Array) -> NDArray[np.int32] | None:
        """Leaves of rows, for a student of the trees themselves."""
        return leaf_numbers(ensemble, x) if getattr(STUDENTS[self.options.student], "has_trees", False) else None

    def label_fresh(self, x: Array, attribution: str | None, explain: Explain | None) -> Labels:
        """Score and explain fresh rows; where they are explained, their sums are the scores, and some are checked."""
        if attribution is None or explain is None:
            return Labels(self.library.raw_score(self.model, x, n_jobs=self.threads), None, None)
        phi, base_value = explain(x)
        some = slice(None, None, max(1, len(x) // FRESH_CHECKED))  # of every block among them
        score = self.library.raw_score(self.model, x[some], n_jobs=self.threads)
        check_completeness(Labels(score, phi[some], base_value), attribution)
        return Labels(base_value + phi.sum(2), phi, base_value)

    def n_synthetic(self, n_real: int, ensemble: TreeEnsemble) -> int:
        """How many synthetic rows to make."""
        wanted = self.options.n_synthetic
        if not isinstance(wanted, str):
            return int(wanted)
        if self.options.learns_by_gradient:
            if ensemble.n_outputs > 1 and not self.is_of_labels:  # its tables are fitted to them before the first step
                return int(np.clip(self.most_explained(ensemble) - n_real, SYNTHETIC_BOUNDS[0], SYNTHETIC_OF_MANY))
            return int(np.clip(4 * n_real, *SYNTHETIC_BOUNDS))
        return int(np.clip(self.most_explained(ensemble) - n_real, 0, SYNTHETIC_FOR_TABLES))

    def synthetic_rows(self, x: Array, weight: Array, encoder: Encoder, binner: Binner) -> SyntheticRows:
        """The stream of synthetic rows of a training table."""
        return SyntheticRows(
            x,
            weight,
            is_category=encoder.is_category_ | binner.is_categorical,
            is_integer=encoder.is_integer_,
            seed=self.seeds.synthesis,
        )

    def n_explained(self, n_real: int, n_taught: int, ensemble: TreeEnsemble) -> int:
        """How many training rows to explain; under a time budget the clock decides within this bound."""
        wanted = self.options.n_explained
        if not isinstance(wanted, str):
            return min(int(wanted), n_taught)
        return min(n_taught, max(n_real, self.most_explained(ensemble)))

    def most_explained(self, ensemble: TreeEnsemble) -> int:
        """How many rows' attributions fit the memory set aside for them."""
        return MOST_EXPLAINED_BYTES // (4 * ensemble.n_outputs * ensemble.n_features)

    def student_options(self) -> StudentOptions:
        options = self.options
        left = None
        if options.time_budget is not None:
            left = options.time_budget - self.elapsed
            least = 0.1 * options.time_budget
            if left < least:
                warnings.warn(
                    f"time_budget={options.time_budget} was nearly spent before training ({self.elapsed:.1f} s): the student "
                    f"trains for {least:.1f} s all the same",
                    UserWarning,
                    stacklevel=6,
                )
                left = least
        return StudentOptions(
            student=options.student,
            student_params=dict(options.student_params or {}),
            imitation_weight=float(options.imitation_weight),
            explanation_weight=float(options.explanation_weight),
            explanation_loss=options.explanation_loss,
            label_weight=options.label_weight if options.label_weight == "auto" else float(options.label_weight),
            batch_size=int(options.batch_size),
            learning_rate=float(options.learning_rate),
            max_steps=int(options.max_steps),
            time_budget=left,
            seed=self.seeds.student,
            device=self.device,
            mixed_precision=trains_in_bfloat16(options.training_precision, self.device),
            optimizer=options.optimizer,
            verbose=int(options.verbose),
        )


def check_label_objective(model: Any, description: TeacherDescription | None) -> None:
    """Refuse a label term before any training where the objective, as far as it is known by then, has no label loss."""
    if description is not None:
        label_loss(description.link, description.objective, np.ones(1))
        return
    objective = model.get_params().get("objective")
    if isinstance(objective, str) and objective.split()[0].startswith((*UNJUDGED, *ABSOLUTE)):
        raise ValueError(
            f"label_weight must be 0 with a teacher whose objective is {objective!r}: it has no label loss here"
        )
