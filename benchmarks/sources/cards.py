"""Cards of ``datasets/``, and the folder that the environment variable ``GBDT2NN_DATA`` names.

A card is ``datasets/<name>.toml``; its table lies beside it or, with ``url`` and ``sha256``, is downloaded once. The folder
holds a ``manifest.json`` that lists its sets.
"""

import hashlib
import io
import json
import os
import re
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import BenchmarkError
from benchmarks.sources import cache
from benchmarks.sources.tables import (
    TASKS,
    DataSet,
    Entry,
    as_texts,
    feature_names,
    is_text,
    labels,
    one_line,
    read_table,
)

FOLDER_VARIABLE = "GBDT2NN_DATA"


def of_cards(folder: Path) -> list[Entry]:
    """Return the sets whose cards lie in a folder.

    Raises
    ------
    BenchmarkError
        If a card cannot be read; the message names it.
    """
    entries = []
    for path in sorted(folder.glob("*.toml")):
        try:
            card = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BenchmarkError(f"the card {path.name} cannot be read: {error}") from error
        entries.append(_entry(card, folder=folder, origin="datasets", where=f"the card {path.name}"))
    return [entry for entry in entries if entry is not None]


def of_folder() -> list[Entry]:
    """Return the sets of the caller's folder; none where the environment names none.

    Raises
    ------
    BenchmarkError
        If the folder has no manifest that can be read.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return []
    path = Path(named) / "manifest.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))["datasets"]
        if not (isinstance(described, list) and all(isinstance(card, dict) for card in described)):
            raise TypeError("'datasets' must be a list of mappings")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(
            f"{FOLDER_VARIABLE} must name a folder whose manifest.json lists data sets, got {named!r}: {error!r}"
        ) from error
    entries = [
        _entry(card, folder=Path(named), origin=FOLDER_VARIABLE, where=f"entry {number} of {path}")
        for number, card in enumerate(described)
    ]
    return [entry for entry in entries if entry is not None]


def _entry(card: dict[str, Any], *, folder: Path, origin: str, where: str) -> Entry | None:
    """Return the entry of one card; None where it is no table with a task of ours (images, rankings)."""
    facts = _facts(card, origin)
    if card.get("name") == "mnist_t10k":  # images so small that each pixel is a column
        facts.update(n_features=784, n_categories=0, n_missing=0)
        load = partial(_pixels, card, folder, origin)
        return Entry("mnist_t10k", "multiclass", origin, card.get("rows"), load, **facts)
    if card.get("kind", "tabular") != "tabular" or card.get("task") not in TASKS:
        return None
    url = card.get("url")
    for needed in ("name", "target", *(("url", "sha256") if url is not None else ("file",))):
        if not isinstance(card.get(needed), str):
            raise BenchmarkError(f"{where} must give {needed!r} as a string, got {card.get(needed)!r}")
    if url is not None:
        if not re.fullmatch(r"[0-9a-f]{64}", card["sha256"]):
            raise BenchmarkError(f"{where} must give 'sha256' as 64 hexadecimal digits, got {card['sha256']!r}")
        facts["needs"] = "network, once"
    return Entry(card["name"], card["task"], origin, card.get("rows"), partial(_read, card, folder, origin), **facts)


def _facts(card: dict[str, Any], origin: str) -> dict[str, Any]:
    """What the list tells of a set; a card and a manifest have other names for some of it."""
    missing = card.get("missing_cells", card.get("missing"))
    sources = card.get("source", card.get("sources"))
    first = sources[0] if isinstance(sources, list) and sources and isinstance(sources[0], dict) else {}
    splits = card.get("published_splits")
    return {
        "needs": FOLDER_VARIABLE if origin == FOLDER_VARIABLE else "",
        "n_features": card.get("features", card.get("n_features")),
        "n_categories": len(_categories(card)),
        "n_missing": sum(missing.values()) if isinstance(missing, dict) else missing,
        "licence": card.get("licence"),
        "source": first.get("repo", card.get("url")),
        "n_splits": splits.get("n") if isinstance(splits, dict) else None,
    }


def _content(card: dict[str, Any], folder: Path, what: dict[str, Any]) -> tuple[bytes, str, str]:
    """Bytes, name and checksum of a file that a card (``what``: or a part of it) names."""
    if what.get("url") is not None:
        name = what.get("file", what["url"].rsplit("/", 1)[-1])
        content = cache.fetch(what["url"], f"cards/{card['name']}/{what['sha256'][:12]}/{name}", sha256=what["sha256"])
        return content, name, what["sha256"]
    path = folder / what["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"data set {card['name']!r}: {path.name} cannot be read: {error.strerror}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if what.get("sha256") not in (None, sha256):
        raise BenchmarkError(
            f"data set {card['name']!r}: {path.name} should have sha256 {what['sha256']}, but has {sha256}"
        )
    return content, path.name, sha256


def _read(card: dict[str, Any], folder: Path, origin: str) -> DataSet:
    content, file_name, sha256 = _content(card, folder, card)
    try:
        table = read_table(content, file_name)
    except BenchmarkError as error:
        raise BenchmarkError(f"data set {card['name']!r}: {error}") from error
    split = _split_column(card)
    exposure = card.get("exposure")
    aside = [*card.get("not_features", []), *(name for name in (split, exposure) if name is not None)]
    named = [card["target"], *_categories(card), *aside]
    absent = [column for column in named if column not in table]
    if absent:
        raise BenchmarkError(f"data set {card['name']!r}: {file_name} lacks the columns {absent} that its card names")
    tests = _published(card, folder, len(table))
    # Rows without a label (a cancelled flight has no delay) are of no use to any method.
    labelled = table[card["target"]].notna().to_numpy()
    table = table[labelled].reset_index(drop=True)
    part = None if split is None else table[split].astype(str).to_numpy(dtype=object)
    X = table.drop(columns=[card["target"], *aside])
    X = X.astype({column: "category" for column in _categories(card) if column in X})
    # what is text and no category of the card would be refused by every method
    X = X.assign(**{column: as_texts(X[column]) for column in X if is_text(X[column])})
    X.columns = feature_names(X.columns)
    y = labels(table[card["target"]], card["task"])
    weight = None if exposure is None else table[exposure].to_numpy(dtype=np.float64)
    if weight is not None:
        y = y / weight
    tests = None if tests is None else tests[labelled]
    return DataSet(card["name"], card["task"], X, y, part, origin, sha256, weight, tests)


def _published(card: dict[str, Any], folder: Path, n_rows: int) -> np.ndarray | None:
    """Test rows of the splits that a manifest's ``published_splits`` tells of: its ``aux_file``, a column for each."""
    if not card.get("published_splits"):
        return None
    described = card.get("aux_file")
    if not isinstance(described, dict) or not isinstance(described.get("file"), str):
        raise BenchmarkError(
            f"data set {card['name']!r}: the file of its published splits must be named, got {described!r}"
        )
    content, name, _ = _content(card, folder, described)
    table = read_table(content, name)
    columns = [f"test_{number}" for number in range(card["published_splits"]["n"])]
    absent = [column for column in columns if column not in table]
    if absent or len(table) != n_rows:
        raise BenchmarkError(
            f"data set {card['name']!r}: {name} should have {n_rows} rows and a column for each split, "
            f"got {len(table)} rows, without {absent}"
        )
    return table[columns].to_numpy(dtype=bool)


def _pixels(card: dict[str, Any], folder: Path, origin: str) -> DataSet:
    content, name, sha256 = _content(card, folder, card)
    try:
        with np.load(io.BytesIO(content)) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (OSError, KeyError, ValueError) as error:
        raise BenchmarkError(f"data set {card['name']!r}: {name} cannot be read: {one_line(error)}") from error
    X = pd.DataFrame(x.reshape(len(x), -1).astype(np.float64))
    X.columns = [f"pixel_{i // x.shape[2]}_{i % x.shape[2]}" for i in range(X.shape[1])]
    return DataSet(card["name"], "multiclass", X, y.astype(np.int64), None, origin, sha256)


def _categories(card: dict[str, Any]) -> list[str]:
    """Return the columns of categories; a card calls them ``categories``, a manifest ``categorical``."""
    return list(card.get("categories", card.get("categorical", [])))


def _split_column(card: dict[str, Any]) -> str | None:
    """Return the column of the published split: a card gives a table with ``column``, a manifest the name itself."""
    split = card.get("split")
    return split["column"] if isinstance(split, dict) else split
