"""Every data set that ships has a card that tells the truth about its file."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("pyarrow", reason='reading the data sets needs pyarrow: pip install "gbdt2nn[bench]"')

FOLDER = Path(__file__).resolve().parent.parent / "datasets"
CARDS = sorted(FOLDER.glob("*.toml"))
SHIPPABLE = {"Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "public-domain"}
KEYS = {
    *("name", "title", "file", "sha256", "task", "target", "rows", "features", "categories", "missing"),
    *("licence", "licence_note", "citation", "changes", "notes", "source"),
}
SOMETIMES = {"classes", "split"}

each_card = pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def table(card: dict[str, Any]) -> pd.DataFrame:
    return pd.read_parquet(FOLDER / card["file"])


def test_the_demo_and_the_tests_find_their_data():
    assert {"california_housing", "adult", "letter"} <= {path.stem for path in CARDS}


def test_nothing_unlisted_lies_in_the_folder():
    # A file without a card has no known licence; a package here would shadow Hugging Face's `datasets`.
    listed = {path.name for path in CARDS} | {read(path)["file"] for path in CARDS} | {"README.md"}
    assert {path.name for path in FOLDER.iterdir()} == listed


@each_card
def test_card_is_complete(path):
    card = read(path)
    assert set(card) - SOMETIMES == KEYS
    assert card["name"] == path.stem
    assert card["file"] == f"{path.stem}.parquet"
    assert card["task"] in {"regression", "binary", "multiclass"}
    for key in ("title", "licence_note", "citation"):
        assert card[key].strip()
    # The licences ask for the changes made; a converted file has at least the conversion.
    assert card["changes"]


@each_card
def test_source_can_be_found_again(path):
    sources = read(path)["source"]
    assert sources
    for source in sources:
        assert set(source) == {"repo", "commit", "paths"}
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", source["repo"])
        assert re.fullmatch(r"[0-9a-f]{40}", source["commit"])
        assert source["paths"]


@each_card
def test_licence_allows_shipping(path):
    assert read(path)["licence"] in SHIPPABLE


@each_card
def test_file_is_the_one_on_the_card(path):
    card = read(path)
    content = (FOLDER / card["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert len(content) < 5_000_000, "a repository is no place for large files"


@each_card
def test_table_is_as_described(path):
    card = read(path)
    data = table(card)
    split = [card["split"]["column"]] if "split" in card else []
    features = data.drop(columns=[card["target"], *split])
    assert data.shape == (card["rows"], card["features"] + 1 + len(split))
    assert features.shape[1] == card["features"]
    assert data.columns.is_unique

    categories = [name for name in features if isinstance(features[name].dtype, pd.CategoricalDtype)]
    assert categories == card["categories"]
    numeric = features.drop(columns=categories)
    assert all(pd.api.types.is_numeric_dtype(dtype) for dtype in numeric.dtypes)
    # Text categories stand in alphabetical order, so that codes do not depend on the order of the rows.
    for name in categories:
        values = list(data[name].cat.categories)
        assert values == sorted(values)
        assert set(values) == set(data[name].dropna())

    missing = data.isna().sum()
    assert missing[missing > 0].to_dict() == card["missing"]


@each_card
def test_target_is_as_described(path):
    card = read(path)
    target = table(card)[card["target"]]
    assert not target.isna().any()
    if card["task"] == "regression":
        assert "classes" not in card
        assert pd.api.types.is_float_dtype(target.dtype)
    else:
        assert list(target.cat.categories) == card["classes"]
        assert set(target) == set(card["classes"])
        assert (len(card["classes"]) == 2) == (card["task"] == "binary")


@pytest.mark.parametrize("path", [path for path in CARDS if "split" in read(path)], ids=lambda path: path.stem)
def test_split_is_as_described(path):
    split = read(path)["split"]
    assert table(read(path))[split["column"]].value_counts().to_dict() == split["rows"]


def test_readme_lists_every_card():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in CARDS:
        card = read(path)
        row = next(line for line in readme.splitlines() if f"({path.name})" in line)
        cells = [cell.strip().replace(" ", "") for cell in row.strip("|").split("|")]
        expected = (
            card["task"],
            card["rows"],
            card["features"],
            len(card["categories"]),
            sum(card["missing"].values()),
        )
        assert cells[1:6] == [str(value) for value in expected]
        assert cells[6] == card["licence"].replace("CC-BY-4.0", "CCBY4.0")
