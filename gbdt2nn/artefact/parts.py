"""What reads a table and what answers, from a header and arrays: encoder, binner, student."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from gbdt2nn.artefact.errors import ArtefactError
from gbdt2nn.artefact.fields import Fields
from gbdt2nn.artefact.values import decode, decode_labels
from gbdt2nn.artefact.writing import ARGUMENT, STATE
from gbdt2nn.binning import Binner
from gbdt2nn.encoding import Encoder
from gbdt2nn.interactions import TableLayout
from gbdt2nn.options import Options
from gbdt2nn.student_answers import settle
from gbdt2nn.students import STUDENTS
from gbdt2nn.students.construction import Answer, rebuilt
from gbdt2nn.students.deepgbm import TreeWalk
from gbdt2nn.students.tree_groups import Trees

Arrays = Mapping[str, NDArray[Any]]

MOST_OPTION = 1 << 20  # of any whole number among a student's options, its seed apart
MOST_GRADIENT_STEPS = 4096


# ---------------------------------------------------------------------------------------------------------- encoder
def read_encoder(found: Any, n_features: int) -> Encoder:
    """The encoder of a header."""
    top = Fields(
        found,
        "encoder",
        ("columns", "has_names", "categories_given", "names_given", "from_array", "unseen", "missing"),
    )
    columns = [
        Fields(column, f"encoder column {j}", ("name", "teacher_name", "categories", "is_integer", "is_ordered"))
        for j, column in enumerate(top.items("columns", dict, n_features))
    ]
    names, teacher_names = ([column.text(name) for column in columns] for name in ("name", "teacher_name"))
    if len(set(names)) < n_features or len(set(teacher_names)) < n_features:
        raise ArtefactError("encoder: names of columns must be distinct")
    categories = [_categories(column) for column in columns]
    missing = decode(found["missing"], "missing")
    if type(missing) not in (int, float):
        raise ArtefactError("encoder: missing must be a number")
    encoder = Encoder(
        categories=list(categories) if top.boolean("categories_given") else None,
        feature_names=list(teacher_names) if top.boolean("names_given") else None,
        unseen=cast(Literal["missing", "raise"], top.text("unseen", ("missing", "raise"))),
        missing=math.nan if math.isnan(missing) else float(missing),
    )
    if top.boolean("has_names"):
        encoder.feature_names_in_ = np.array(names, dtype=object)
    encoder.n_features_in_ = n_features
    encoder.feature_names_, encoder._teacher_names = names, teacher_names
    encoder._from_array = top.boolean("from_array")
    encoder._ordered = [column.boolean("is_ordered") for column in columns]
    encoder.categories_ = categories
    encoder.is_category_ = np.array([labels is not None for labels in categories], dtype=bool)
    encoder.is_integer_ = np.array([column.boolean("is_integer") for column in columns], dtype=bool)
    return encoder


def _categories(column: Fields) -> NDArray[Any] | None:
    found = column.found["categories"]
    if found is None:
        return None
    labels = decode_labels(found, f"{column.what}: categories")
    if labels.dtype.kind == "O" and not all(isinstance(label, str) for label in labels.tolist()):
        raise ArtefactError(f"{column.what}: categories must all be text, or all be numbers")
    if labels.dtype.kind == "U" or len(set(labels.tolist())) < len(labels):
        raise ArtefactError(f"{column.what}: categories must be distinct")
    return labels


# ------------------------------------------------------------------------------------------------------------ binner
_OF_BINNER = {
    "n_codes": np.int64,
    "missing_code": np.int64,
    "is_categorical": np.bool_,
    "zero_is_missing": np.bool_,
    "n_thresholds": np.int64,
    "n_categories": np.int64,
    "thresholds": np.float64,
    "categories": np.int32,
    "n_centres": np.int64,
    "centres": np.float64,
}
_PER_FEATURE = list(_OF_BINNER)[:6]


class Reading(NamedTuple):
    """How values are read: the binner, codes of background rows, and the means of the rows of each numeric code."""

    binner: Binner
    background: NDArray[Any] | None
    centres: list[NDArray[Any]]


def check_binner(arrays: Arrays, flags: Any, encoder: Encoder) -> Reading:
    """The binner and what belongs to it: every code that a value gets must be one that there is."""
    n_features = encoder.n_features_in_
    known = Fields(flags, "binner", ("categories_go_left", "float32_input"))
    if set(arrays) - {"background"} != set(_OF_BINNER):
        raise ArtefactError(f"the binner must hold {list(_OF_BINNER)}, got {sorted(arrays)[:12]}")
    for name, dtype in _OF_BINNER.items():
        if arrays[name].dtype != dtype or arrays[name].ndim != 1:
            raise ArtefactError(f"the binner's {name} must be a row of {np.dtype(dtype)}, got {arrays[name].dtype}")
        if name in _PER_FEATURE and len(arrays[name]) != n_features:
            raise ArtefactError(f"the binner's {name} must have an entry for each of {n_features} features")
    thresholds = _cut(arrays["thresholds"], arrays["n_thresholds"], "thresholds")
    categories = _cut(arrays["categories"], arrays["n_categories"], "categories")
    n_codes, missing, is_categorical = (
        np.array(arrays[name]) for name in ("n_codes", "missing_code", "is_categorical")
    )
    for j in range(n_features):
        ends, others = (categories[j], thresholds[j]) if is_categorical[j] else (thresholds[j], categories[j])
        whole = bool((np.diff(ends) > 0).all()) and not np.isnan(ends).any() and not len(others)
        if is_categorical[j]:
            whole = whole and bool((ends >= 0).all())
        if not whole:
            raise ArtefactError(f"the binner's bounds of feature {j} must be of one kind and rise")
        known_codes = len(ends) + 1
        if (int(n_codes[j]), int(missing[j])) not in ((known_codes, -1), (known_codes + 1, known_codes)):
            raise ArtefactError(f"the binner's codes of feature {j} must be those of its bounds")
    binner = Binner(
        n_codes=n_codes,
        missing_code=missing,
        thresholds=thresholds,
        is_categorical=is_categorical,
        categories=categories,
        zero_is_missing=np.array(arrays["zero_is_missing"]),
        categories_go_left=known.boolean("categories_go_left"),
        float32_input=known.boolean("float32_input"),
    )
    background = arrays.get("background")
    if background is not None:
        if background.ndim != 2 or background.shape[1] != n_features or background.dtype != binner.dtype:
            raise ArtefactError(f"background must hold codes of {n_features} features, got shape {background.shape}")
        if (background >= n_codes).any():
            raise ArtefactError("background must hold codes that there are")
        background = np.array(background)
    if len(arrays["n_centres"]) != n_features:
        raise ArtefactError(f"the binner's n_centres must have an entry for each of {n_features} features")
    centres = _cut(arrays["centres"], arrays["n_centres"], "centres")
    for j, values in enumerate(centres):
        wanted = 0 if is_categorical[j] else int(n_codes[j]) - int(missing[j] >= 0)
        if len(values) != wanted or not (np.diff(values) >= 0).all() or np.isnan(values).any():
            raise ArtefactError(f"the binner's centres of feature {j} must be {wanted} numbers that do not fall")
    return Reading(binner, background, centres)


def _cut(values: NDArray[Any], lengths: NDArray[Any], what: str) -> list[NDArray[Any]]:
    if (lengths < 0).any() or (lengths > len(values)).any() or int(lengths.sum()) != len(values):
        raise ArtefactError(f"the binner's {what} must be as many as it counts")
    return [np.array(part) for part in np.split(values, np.cumsum(lengths)[:-1])]


# ----------------------------------------------------------------------------------------------------------- student
def read_student(
    found: Any, arrays: Arrays, options: Options, binner: Binner, n_outputs: int, *, most_bytes: int
) -> Any:
    """The student, in eval mode and double precision as a fit leaves it."""
    top = Fields(found, "student", ("name", "arguments"))
    name = top.text("name", STUDENTS)
    if name != options.student:
        raise ArtefactError(f"student: name must be that of the options, {options.student!r}, got {name!r}")
    arguments = {
        key: decode(value, f"the student's {key}", arrays)
        for key, value in Fields(found["arguments"], "arguments", (), more=True).found.items()
    }
    n_numbers = sum(array.size for array in arrays.values())
    if n_outputs * binner.n_features > n_numbers:
        raise ArtefactError(f"the student must have numbers for {n_outputs} outputs of {binner.n_features} features")
    for key, value in arguments.items():
        _check_argument(key, value, binner, n_outputs)
    state = {key: torch.as_tensor(np.array(value)) for key, value in _state(arrays).items()}
    student = rebuilt(STUDENTS[name], arguments, state, most_bytes=most_bytes)
    settle(student)
    return student


def _state(arrays: Arrays) -> dict[str, NDArray[Any]]:
    found = {}
    for name, array in arrays.items():
        if name.startswith(STATE):
            found[name.removeprefix(STATE)] = array
        elif not name.startswith(ARGUMENT):
            raise ArtefactError(f"arrays of the student must be of its state or its arguments, got {name[:60]!r}")
    return found


def _check_argument(name: str, value: Any, binner: Binner, n_outputs: int) -> None:
    """Refuse sizes and numbers by which a constructor or an answer would go out of bounds."""
    n_codes, n_features = binner.n_codes, binner.n_features
    if isinstance(value, Answer):
        value = value.said
    if isinstance(value, Trees):
        _check_trees(value, n_features, n_outputs)
    elif isinstance(value, TreeWalk):
        _check_walk(value, n_features)
    elif isinstance(value, TableLayout):
        _check_layout(value, n_codes)
    elif name in ("columns", "bins"):
        n_axes, kinds = (2, "f") if name == "columns" else (1, "iu")
        if not isinstance(value, list) or len(value) != n_features:
            raise ArtefactError(f"the student's {name} must be one array for each of {n_features} features")
        for j, array in enumerate(value):
            fits = isinstance(array, np.ndarray) and array.ndim == n_axes and array.dtype.kind in kinds
            if not fits or len(array) != n_codes[j] or not array.size:
                raise ArtefactError(f"the student's {name} of feature {j} must have a row for each of its codes")
            if name == "bins" and not (array.min() >= 0 and array.max() < max(1, len(array))):
                raise ArtefactError(f"the student's bins of feature {j} must be at most as many as its codes")
    elif name in ("base_value", "score_scale"):
        if not isinstance(value, np.ndarray | list) or np.shape(value) != (n_outputs,):
            raise ArtefactError(f"the student's {name} must have {n_outputs} numbers")
    elif name in ("used", "attribution_mean", "attribution_scale"):
        if not isinstance(value, np.ndarray) or value.shape != (n_outputs, n_features):
            raise ArtefactError(f"the student's {name} must have shape {[n_outputs, n_features]}")
    elif name != "seed":
        for item in value if isinstance(value, list | tuple) else [value]:
            most = MOST_GRADIENT_STEPS if name == "gradient_steps" else MOST_OPTION
            if type(item) is int and abs(item) > most:
                raise ArtefactError(f"the student's {name} must be at most {most:,}, got {item:,}")


def _check_trees(trees: Trees, n_features: int, n_outputs: int) -> None:
    n_trees = np.size(trees.tree_output)
    first = trees.first_leaf
    shapes = (
        np.ndim(trees.leaf_value) == 1
        and np.shape(first) == (n_trees + 1,)
        and np.shape(trees.tree_output) == (n_trees,)
        and np.shape(trees.gain) == (n_trees, n_features)
        and np.shape(trees.shift) == (n_outputs,)
    )
    if not shapes or first[0] != 0 or first[-1] != len(trees.leaf_value) or (np.diff(first) < 1).any():
        raise ArtefactError("the student's trees must hold leaves of each tree, one after the other")
    if n_trees and not (trees.tree_output.min() >= 0 and trees.tree_output.max() < n_outputs):
        raise ArtefactError(f"the student's trees must be of outputs below {n_outputs}")


def _check_walk(walk: TreeWalk, n_features: int) -> None:
    n_nodes = np.size(walk.feature)
    if type(walk.depth) is not int or not 0 <= walk.depth <= n_nodes or np.ndim(walk.root) != 1:
        raise ArtefactError(f"the student's walk must be at most {n_nodes} nodes deep")
    for name in ("feature", "left", "right", "start", "leaf"):
        if np.shape(getattr(walk, name)) != (n_nodes,):
            raise ArtefactError(f"the student's walk must have {name} for each of {n_nodes} nodes")
    if n_nodes and not (walk.feature.min() >= 0 and walk.feature.max() < n_features):
        raise ArtefactError(f"the student's walk must be along features below {n_features}")


def _check_layout(layout: TableLayout, n_codes: NDArray[np.int64]) -> None:
    """A compiled kernel looks tables up by these numbers, and does not check them."""
    n_features = len(n_codes)
    if not np.array_equal(layout.n_codes, n_codes) or np.shape(layout.n_ordered) != (n_features,):
        raise ArtefactError("the student's tables must be over the codes of the binner")
    for chosen, bins, width in ((layout.pairs, layout.pair_bin, 2), (layout.triples, layout.triple_bin, 3)):
        if (
            not isinstance(chosen, np.ndarray)
            or chosen.dtype != np.int64
            or chosen.ndim != 2
            or chosen.shape[1] != width
        ):
            raise ArtefactError(f"the student's tables must be over {width} features each")
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < n_features and (np.diff(chosen) > 0).all()):
            raise ArtefactError(f"the student's tables must be over rising features below {n_features}")
        if not isinstance(bins, tuple) or len(bins) != n_features:
            raise ArtefactError(f"the student's tables must have bins of each of {n_features} features")
        for j, of_code in enumerate(bins):
            if not isinstance(of_code, np.ndarray) or of_code.dtype != np.uint8 or of_code.shape != (n_codes[j],):
                raise ArtefactError(f"the student's bins of feature {j} must be one for each of its codes")
