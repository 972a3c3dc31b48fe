"""A student as it is before it learns: what it is built with from a teacher and labelled rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gbdt2nn.backfitting import main_effects
from gbdt2nn.batches import LabelledCodes
from gbdt2nn.binning import Binner
from gbdt2nn.interactions import table_layout
from gbdt2nn.students import STUDENTS
from gbdt2nn.students.code_encoding import encoding_columns
from gbdt2nn.students.value_encoding import value_columns
from gbdt2nn.tree_arrays import field_bins, trees_of, walk_of
from gbdt2nn.trees import TreeEnsemble

Array = NDArray[np.float64]
ROWS = 8192  # that are looked at together


@dataclass(frozen=True)
class StudentOptions:
    """How a student is built and trained; names and meanings are those of the estimators' parameters."""

    student: str
    student_params: Mapping[str, Any]
    imitation_weight: float
    explanation_weight: float
    explanation_loss: str
    label_weight: float | str  # "auto": chosen on the stop rows
    batch_size: int
    learning_rate: float
    max_steps: int
    time_budget: float | None
    seed: int
    device: str
    verbose: int
    mixed_precision: bool = False
    optimizer: str = "auto"

    @property
    def chooses_label_weight(self) -> bool:
        """Whether the weight of labels is chosen on the stop rows."""
        return isinstance(self.label_weight, str)

    @property
    def learns_labels(self) -> bool:
        """Whether labels may count."""
        return isinstance(self.label_weight, str) or self.label_weight > 0


def build_student(
    train: LabelledCodes,
    ensemble: TreeEnsemble,
    binner: Binner,
    base_value: Array,
    scale: Array,
    options: StudentOptions,
    own: Mapping[str, Any] | None = None,
) -> Any:
    """A fresh student; what the explanations are used for here is left out where their weight is 0.

    ``own`` are arguments that this student takes besides, such as `tree_arguments` gives.
    """
    cls: Any = STUDENTS[options.student]
    n_codes = np.asarray(binner.n_codes)
    columns = [
        encoding_columns(
            int(n_codes[j]),
            is_categorical=bool(binner.is_categorical[j]),
            missing_code=int(binner.missing_code[j]),
            threshold_weight=worth,
            seed=options.seed + j,
        )
        for j, worth in enumerate(threshold_weights(ensemble, binner))
    ]
    explanations: dict[str, Any] = {}
    if not cls.learns_by_gradient or (getattr(cls, "refits_tables", False) and options.explanation_weight > 0):
        explanations["choose_tables"] = partial(
            table_layout,
            ensemble,
            binner,
            threshold_weight=threshold_weights(ensemble, binner),
            code_weight=[
                np.bincount(train.codes[:, j], weights=train.weight, minlength=size).astype(np.float64)
                for j, size in enumerate(n_codes)
            ],
        )
    if cls.learns_by_gradient and options.explanation_weight > 0:
        codes, rest, weight = explained_rows(train)
        n_explained = len(rest)
        if cls.has_tables:
            ordered = np.where(binner.is_categorical, 0, n_codes - (np.asarray(binner.missing_code) >= 0))
            explanations["tables"] = main_effects(codes, rest, weight, n_codes, ordered=ordered)
        mean, deviation = mean_and_deviation(rest, weight, codes, explanations.get("tables", ()))
        # few explained rows are fitted by their tables alone: that must not switch the network off
        least = scale[:, None] / ensemble.n_features**0.5 * min(1.0, 50.0 / n_explained)
        explanations |= {"attribution_mean": mean, "attribution_scale": np.maximum(deviation, least)}
    own = dict(own or {})
    params = dict(options.student_params)
    if options.explanation_weight == 0 and getattr(cls, "has_trees", False):
        params["explanation"] = "none"  # nothing is built or chosen for the sake of an explanation that nobody learns
    with torch.random.fork_rng(devices=[]):  # layers draw once before their own generators do
        return cls(
            own.pop("columns", columns),
            base_value=base_value,
            score_scale=scale,
            used=used_by_output(ensemble),
            seed=options.seed,
            **explanations,
            **own,
            **params,
        )


def mean_and_deviation(
    attribution: Array, weight: Array, codes: NDArray[np.integer] | None = None, tables: Sequence[Array] = ()
) -> tuple[Array, Array]:
    """Weighted mean and standard deviation over rows of attributions, less what tables of main effects say of ``codes``.

    In blocks of rows: of many outputs a copy is gigabytes.

    Parameters
    ----------
    attribution : ndarray of shape (n_samples, n_outputs, n_features)
    weight : ndarray of shape (n_samples,)
    codes : ndarray of shape (n_samples, n_features), optional
    tables : sequence of ndarray of shape (n_codes, n_outputs), optional
        One a feature.

    Returns
    -------
    mean, deviation : ndarray of shape (n_outputs, n_features)
    """
    shift: Array | float = 0.0  # near the mean, so that squares do not drown what deviates
    total, squares = np.zeros((2, *attribution.shape[1:]))
    share = weight / weight.sum()
    for start in range(0, len(attribution), ROWS):
        own = slice(start, start + ROWS)
        rest = attribution[own] - shift
        if codes is not None:
            for j, table in enumerate(tables):
                rest[:, :, j] -= table[codes[own, j]]
        if start == 0:
            shift = rest.mean(0)
            rest -= shift
        total += np.tensordot(share[own], rest, 1)
        squares += np.tensordot(share[own], np.square(rest, out=rest), 1)
    return total + shift, np.sqrt(np.maximum(squares - total**2, 0.0))


def tree_arguments(
    train: LabelledCodes, ensemble: TreeEnsemble, binner: Binner, base_value: Array, options: StudentOptions
) -> dict[str, Any]:
    """What a student of the trees themselves is built with besides; nothing for the others."""
    cls: Any = STUDENTS[options.student]
    if not getattr(cls, "has_trees", False):
        return {}
    share = train.weight / train.weight.sum()
    n_codes = np.asarray(binner.n_codes)
    found: dict[str, Any] = {
        "trees": trees_of(ensemble, base_value),
        "code_share": [np.bincount(c, weights=share, minlength=n) for c, n in zip(train.codes.T, n_codes, strict=True)],
    }
    if cls.reads_values(options.student_params):
        found["columns"] = []
        for j, (codes, count) in enumerate(zip(train.codes.T, found["code_share"], strict=True)):
            total = [np.bincount(codes, weights=share * s, minlength=int(n_codes[j])) for s in train.score.T]
            mean = np.stack(total, axis=1) / np.where(count > 0, count, 1.0)[:, None]
            columns = value_columns(
                binner.representatives(j),
                count * len(train.codes),
                mean,
                is_categorical=bool(binner.is_categorical[j]),
                missing_code=int(binner.missing_code[j]),
            )
            found["columns"].append(columns)
    if hasattr(cls, "walks_trees"):
        found["bins"] = field_bins(
            train.codes, n_codes, is_categorical=binner.is_categorical, missing_code=binner.missing_code
        )
        found["walk"] = walk_of(ensemble, binner) if cls.walks_trees(options.student_params) else None
    return found


def explained_rows(rows: LabelledCodes) -> tuple[NDArray[np.integer], Array, Array]:
    """Codes, attributions and weights of the rows that have attributions."""
    assert rows.attribution is not None
    n_explained = len(rows.attribution)
    return rows.codes[:n_explained], rows.attribution, rows.weight[:n_explained]


def used_by_output(ensemble: TreeEnsemble) -> NDArray[np.bool_]:
    """Which features the trees of each output split on, shape (n_outputs, n_features)."""
    used = np.zeros((ensemble.n_outputs, ensemble.n_features), bool)
    output = np.repeat(ensemble.tree_output, np.diff(ensemble.tree_start))
    inner = ensemble.feature >= 0
    used[output[inner], ensemble.feature[inner]] = True
    return used


def threshold_weights(ensemble: TreeEnsemble, binner: Binner) -> list[Array]:
    """What each threshold of each feature is worth: the sum of the square roots of its splits' gains."""
    weights = []
    numeric = (ensemble.feature >= 0) & ~ensemble.is_categorical
    for j, thresholds in enumerate(binner.thresholds):
        chosen = numeric & (ensemble.feature == j)
        at = np.searchsorted(thresholds, ensemble.threshold[chosen])
        gain = np.sqrt(np.maximum(ensemble.gain[chosen], 0.0))
        inside = at < len(thresholds)
        weights.append(np.bincount(at[inside], weights=gain[inside], minlength=len(thresholds)).astype(np.float64))
    return weights
