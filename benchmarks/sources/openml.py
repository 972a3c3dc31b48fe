"""Suites of OpenML by number: ``run --suite openml:337``, over plain HTTP, everything kept in the cache.

A task says which column is the target and which rows each published split tests on; seed s takes split s. The table is
read from the Parquet file that OpenML offers, and from its ARFF file where it offers none. Only the latter has a checksum
there (MD5), which is verified; a Parquet file is held against the task's splits and the described columns instead.

``GBDT2NN_OPENML`` names another server.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import BenchmarkError
from benchmarks.sources import cache
from benchmarks.sources.arff import read_arff
from benchmarks.sources.tables import DataSet, Entry, as_texts, feature_names, labels, one_line, read_table

PREFIX = "openml:"
SERVER_VARIABLE = "GBDT2NN_OPENML"
SERVER = "https://www.openml.org/api/v1/json"
_TASKS = {"1": "classification", "2": "regression"}  # by OpenML's number of the type of a task
_TYPES = {"Supervised Classification": "1", "Supervised Regression": "2"}


@dataclass(frozen=True)
class _Task:
    """What is known of a task before its table is read; all of it from the cache."""

    number: str
    task: str
    target: str
    data: dict[str, Any]
    features: tuple[dict[str, Any], ...]
    splits_url: str


def entries(number: str, say: Callable[[str], None]) -> dict[str, Entry]:
    """Download what a suite needs, and return its data sets by name.

    Parameters
    ----------
    number : str
        Of the suite, or its alias.
    say : callable
        Is given a line for each task that is left out.

    Returns
    -------
    entries : dict
        Named for data set and task: ``credit-g_31``.

    Raises
    ------
    BenchmarkError
        If there is no such suite, or none of its tasks can be had.
    """
    if not re.fullmatch(r"[\w.-]+", number):
        raise BenchmarkError(f"a suite of OpenML is named by its number, as in openml:337, got {PREFIX + number!r}")
    study = _api(f"study/{number}", "study")
    tasks = study.get("tasks", {})
    numbers = tasks.get("task_id", []) if isinstance(tasks, dict) else []
    numbers = [str(one) for one in (numbers if isinstance(numbers, list) else [numbers])]
    if not numbers:
        raise BenchmarkError(f"suite {number} of OpenML has no tasks")
    found: dict[str, Entry] = {}
    network = True
    for task_number in numbers:
        try:
            known = _entry(task_number, network, say)
        except cache.UnreachableError as error:
            network = False  # what is in the cache can still be had
            say(f"lacking  task {task_number} of OpenML: {error}")
        except BenchmarkError as error:
            say(f"lacking  task {task_number} of OpenML: {error}")
        else:
            found.update({} if known is None else {known.name: known})
    if not found:
        raise BenchmarkError(f"suite {number} of OpenML has no task that can be run here")
    return found


def _entry(number: str, network: bool, say: Callable[[str], None]) -> Entry | None:
    """Download a task and its table; None where it is of a type that we do not have."""
    described = _api(f"task/{number}", "task", network)
    kind = str(described.get("task_type_id") or _TYPES.get(described.get("task_type", ""), ""))
    inputs = {str(one.get("name")): one for one in described.get("input", []) if isinstance(one, dict)}
    try:
        data_number = str(inputs["source_data"]["data_set"]["data_set_id"])
        if kind not in _TASKS:
            said = described.get("task_type") or f"type {kind}"
            say(
                f"skipped  task {number} of OpenML: {said} of data set {data_number} is no task that a teacher is fitted to"
            )
            return None
        target = inputs["source_data"]["data_set"]["target_feature"]
        splits_url = inputs["estimation_procedure"]["estimation_procedure"]["data_splits_url"]
        data = _api(f"data/{data_number}", "data_set_description", network)
        features = _api(f"data/features/{data_number}", "data_features", network)["feature"]
        by_name = {feature["name"]: feature for feature in features}
        if target not in by_name:
            raise BenchmarkError(f"its target {target!r} is no column of data set {data_number}")
        task = "regression" if kind == "2" else _kind_of_classes(by_name[target], target)
        known = _Task(number, task, target, data, tuple(features), splits_url)
        n_rows, n_splits = _tests(known, network).shape
        _file(known, network)
        name = re.sub(r"[^\w.-]+", "_", f"{data['name']}_{number}")
    except (KeyError, TypeError) as error:
        raise BenchmarkError(f"its description lacks {error}") from error
    used = [feature for feature in known.features if _is_feature(feature, target)]
    return Entry(
        *(name, task, f"OpenML task {number}", n_rows, partial(_load, name, known)),
        n_features=len(used),
        n_categories=sum(feature["data_type"] != "numeric" for feature in used),
        n_missing=sum(int(feature.get("number_of_missing_values") or 0) for feature in used),
        licence=data.get("licence"),
        source=f"OpenML {data_number}",
        needs="network, once",
        n_splits=n_splits,
    )


def _kind_of_classes(target: dict[str, Any], name: str) -> str:
    values = target.get("nominal_values")
    values = json.loads(values) if isinstance(values, str) else values
    if target["data_type"] != "nominal" or not isinstance(values, list) or len(values) < 2:
        raise BenchmarkError(f"its target {name!r} should name two classes at least, got {values!r}")
    return "binary" if len(values) == 2 else "multiclass"


def _is_feature(feature: dict[str, Any], target: str) -> bool:
    aside = "true" in (str(feature.get("is_ignore")).lower(), str(feature.get("is_row_identifier")).lower())
    return feature["name"] != target and not aside


def _api(path: str, inside: str, network: bool = True) -> dict[str, Any]:
    """What the server tells about something, without the outermost name."""
    url = f"{os.environ.get(SERVER_VARIABLE, SERVER).rstrip('/')}/{path}"

    def check(content: bytes) -> None:
        try:
            good = isinstance(json.loads(content)[inside], dict)
        except (ValueError, KeyError, TypeError):
            good = False
        if not good:
            raise BenchmarkError(
                f"{url} should tell of {inside!r} in JSON, got {one_line(content[:60].decode(errors='replace'))!r}"
            )

    try:
        content = cache.fetch(url, _kept(url) + ".json", check=check, network=network)
    except cache.RefusedError as error:
        raise BenchmarkError(f"{error}{_reason(error.body)}") from error
    return json.loads(content)[inside]


def _reason(body: bytes) -> str:
    """What the server says of an error: it answers 412 and the reason in JSON where something does not exist."""
    try:
        return f": {one_line(json.loads(body)['error']['message'])}"
    except (ValueError, KeyError, TypeError):
        return ""


def _kept(url: str) -> str:
    """Where the content of a URL is kept: servers apart, and nothing but plain names."""
    name = re.sub(r"[^\w.-]+", "_", url.split("://", 1)[-1])
    return f"openml/{name if len(name) < 150 else hashlib.sha256(url.encode()).hexdigest()}"


def _file(known: _Task, network: bool) -> tuple[bytes, bool]:
    """Bytes of the table, and whether they are Parquet."""
    parquet, arff = known.data.get("parquet_url"), known.data.get("url")
    if parquet:
        try:
            return cache.fetch(parquet, _kept(parquet), check=partial(_check_parquet, parquet), network=network), True
        except cache.RefusedError:  # OpenML names files for some tables that it has not converted
            if not arff:
                raise
    if not arff:
        raise BenchmarkError("its description names no file")
    md5 = known.data.get("md5_checksum")
    return cache.fetch(arff, _kept(arff), md5=md5.lower() if md5 else None, network=network), False


def _check_parquet(url: str, content: bytes) -> None:
    if len(content) < 12 or content[:4] != b"PAR1" or content[-4:] != b"PAR1":
        raise BenchmarkError(f"{url} is no whole Parquet file")


def _tests(known: _Task, network: bool) -> np.ndarray:
    """Test rows of each split, in the order of repeats and folds.

    Returns
    -------
    tests : ndarray of bool, shape (n_samples, n_splits)
    """
    name = known.splits_url.rsplit("/", 1)[-1]
    content = cache.fetch(known.splits_url, _kept(known.splits_url), network=network)
    table = read_arff(content.decode(errors="replace"), name)
    absent = {"type", "rowid", "repeat", "fold"} - set(table.columns)
    if absent or table.empty:
        raise BenchmarkError(f"{name} should tell rows, repeats and folds, but lacks {sorted(absent) or 'rows'}")
    numbers = {
        column: table[column].astype(np.float64).astype(np.int64).to_numpy() for column in ("rowid", "repeat", "fold")
    }
    is_test = (table["type"].astype(str) == "TEST").to_numpy()
    keys, split = np.unique(np.column_stack([numbers["repeat"], numbers["fold"]]), axis=0, return_inverse=True)
    tests = np.zeros((int(numbers["rowid"].max()) + 1, len(keys)), dtype=bool)
    named = tests.copy()
    named[numbers["rowid"], split.reshape(-1)] = True
    tests[numbers["rowid"][is_test], split.reshape(-1)[is_test]] = True
    if not named.all() or not tests.any(axis=0).all() or tests.all(axis=0).any():
        raise BenchmarkError(f"{name} has a split that leaves rows out, or has no test rows, or nothing else")
    return tests


def _load(name: str, known: _Task) -> DataSet:
    content, is_parquet = _file(known, network=True)
    file = f"{name}.parquet" if is_parquet else f"{name}.arff"
    table = read_table(content, file) if is_parquet else read_arff(content.decode(errors="replace"), file)
    absent = [feature["name"] for feature in known.features if feature["name"] not in table]
    tests = _tests(known, network=True)
    if absent or len(table) != len(tests):
        raise BenchmarkError(
            f"{file} should have {len(tests)} rows and the described columns, got {len(table)} rows, without {absent}"
        )
    labelled = table[known.target].notna().to_numpy()
    table, tests = table[labelled].reset_index(drop=True), tests[labelled]
    used = [feature for feature in known.features if _is_feature(feature, known.target)]
    X = pd.DataFrame({feature["name"]: _feature(table[feature["name"]], feature, file) for feature in used})
    X.columns = feature_names(X.columns)
    target = table[known.target]
    y = labels(target if known.task == "regression" else target.astype(object).map(_class), known.task)
    sha256 = hashlib.sha256(content).hexdigest()
    return DataSet(name, known.task, X, y, None, f"OpenML task {known.number}", sha256, None, tests)


def _class(value: Any) -> str:
    """The name of a class: Parquet stores some as numbers or truth values, ARFF all as text."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _feature(column: pd.Series, feature: dict[str, Any], file: str) -> pd.Series:
    if feature["data_type"] != "numeric":
        return as_texts(column)
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise BenchmarkError(f"column {feature['name']!r} of {file} should hold numbers: {one_line(error)}") from error
