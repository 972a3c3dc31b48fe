import hashlib
import json
import tomllib

import numpy as np
import pandas as pd
import pytest

from benchmarks import BenchmarkError, data


@pytest.fixture
def folder(tmp_path, table, monkeypatch):
    """A caller's folder with one table, an image set and a ranking."""
    table.to_parquet(tmp_path / "paint.parquet")
    paint = {
        "name": "paint",
        "file": "paint.parquet",
        "kind": "tabular",
        "task": "regression",
        "target": "price",
        "rows": 12,
        "categorical": ["colour"],
        "not_features": ["id"],
        "split": "part",
        "sha256": hashlib.sha256((tmp_path / "paint.parquet").read_bytes()).hexdigest(),
    }
    pictures = {"name": "pictures", "file": "pictures.npz", "kind": "vision", "task": "multiclass"}
    ranking = {"name": "pages", "file": "pages.parquet", "kind": "tabular", "task": "ranking", "target": "label"}
    described = {"schema": 1, "datasets": [paint, pictures, ranking]}

    def write(**changed):
        paint.update(changed)
        (tmp_path / "manifest.json").write_text(json.dumps(described))
        return tmp_path

    write()
    monkeypatch.setenv("GBDT2NN_DATA", str(tmp_path))
    return write


@pytest.mark.parametrize("path", sorted(data.CARDS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_card_loads_as_it_says(path, monkeypatch):
    monkeypatch.delenv("GBDT2NN_DATA", raising=False)
    card = tomllib.loads(path.read_text(encoding="utf-8"))
    found = data.load(card["name"])
    assert found.task == card["task"]
    assert found.X.shape == (card["rows"], card["features"])
    assert found.y.shape == (card["rows"],)
    # Categories go to the teacher as categories, and nothing else does.
    categories = [name for name in found.X if isinstance(found.X[name].dtype, pd.CategoricalDtype)]
    assert categories == card["categories"]
    assert int(found.X.isna().sum().sum()) == sum(card["missing"].values())
    assert found.sha256 == card["sha256"]
    if "classes" in card:
        assert sorted(set(found.y)) == card["classes"]
    if "split" in card:
        assert {part: int((found.part == part).sum()) for part in card["split"]["rows"]} == card["split"]["rows"]


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer", "digits", "wine"])
def test_scikit_learns_own_sets_load(name):
    entry = data.available()[name]
    found = entry.load()
    assert (found.task, len(found.X), len(found.y)) == (entry.task, entry.n_rows, entry.n_rows)
    # LightGBM warns about blanks in names.
    assert not any(" " in column for column in found.X.columns)


def test_a_folder_of_the_callers_is_read(folder):
    found = data.load("paint")
    assert list(found.X.columns) == ["size", "colour"]
    assert isinstance(found.X["colour"].dtype, pd.CategoricalDtype)
    # A row without a label is of no use, and its split goes with it.
    assert len(found.X) == len(found.y) == len(found.part) == 11
    assert np.array_equal(found.y, np.arange(1.0, 12.0))
    assert found.X["size"].isna().sum() == 1
    assert found.origin == "GBDT2NN_DATA"


def test_what_is_no_table_is_left_out(folder):
    assert not {"pictures", "pages"} & set(data.available())


def test_a_set_with_a_card_wins_over_the_folders(folder):
    folder(name="california_housing")
    assert data.available()["california_housing"].origin == "datasets"


def test_another_file_than_described_is_refused(folder):
    folder(sha256="0" * 64)
    with pytest.raises(BenchmarkError, match=r"paint\.parquet should have sha256 000"):
        data.load("paint")


def test_columns_that_are_not_there_are_named(folder):
    folder(categorical=["colour", "smell"])
    with pytest.raises(BenchmarkError, match=r"lacks the columns \['smell'\]"):
        data.load("paint")


def test_a_missing_file_is_named(folder):
    folder(file="gone.parquet", sha256=None)
    with pytest.raises(BenchmarkError, match=r"'paint': gone\.parquet cannot be read"):
        data.load("paint")


def test_a_card_without_a_target_is_refused(folder):
    folder(target=None)
    with pytest.raises(BenchmarkError, match=r"entry 0 of .* must give 'target' as a string, got None"):
        data.available()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"datasets": 3}'])
def test_a_folder_without_a_good_manifest_is_named(tmp_path, monkeypatch, content):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    monkeypatch.setenv("GBDT2NN_DATA", str(tmp_path))
    with pytest.raises(BenchmarkError, match=r"GBDT2NN_DATA must name a folder whose manifest\.json lists data sets"):
        data.available()


def test_a_broken_card_is_named(tmp_path, monkeypatch):
    (tmp_path / "sand.toml").write_text("name = ")
    monkeypatch.setattr(data, "CARDS", tmp_path)
    with pytest.raises(BenchmarkError, match=r"the card sand\.toml cannot be read"):
        data.available()


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(BenchmarkError, match=r"unknown data set 'moon'; there are: .*california_housing"):
        data.load("moon")


def test_what_is_near_an_unknown_name_is_said_first():
    with pytest.raises(
        BenchmarkError, match=r"unknown data set 'Diabetis' \(near it: 'diabetes'\); there are: abalone"
    ):
        data.load("Diabetis")


def test_a_made_set_never_stands_for_a_real_one(folder):
    folder(name="made_500k")
    assert data.available()["made_500k"].origin == "GBDT2NN_DATA"


@pytest.fixture
def published(folder, tmp_path):
    """The folder's table with two published splits of its twelve rows."""

    def write(splits, **changed):
        splits.to_parquet(tmp_path / "paint__splits.parquet")
        sha256 = hashlib.sha256((tmp_path / "paint__splits.parquet").read_bytes()).hexdigest()
        described = {"n": 2, "columns": "test_0, test_1"}
        folder(
            **{
                "aux_file": {"file": "paint__splits.parquet", "sha256": sha256},
                "published_splits": described,
                **changed,
            }
        )

    return write


def test_published_splits_follow_their_rows(published):
    rows = np.arange(12)
    published(pd.DataFrame({"test_0": rows < 3, "test_1": rows >= 10}))
    assert data.available()["paint"].n_splits == 2
    found = data.load("paint")
    # the first row has no label, and is gone from the splits too
    assert found.tests.shape == (11, 2)
    assert np.flatnonzero(found.tests[:, 0]).tolist() == [0, 1]
    assert np.flatnonzero(found.tests[:, 1]).tolist() == [9, 10]


@pytest.mark.parametrize(
    ("splits", "changed", "said"),
    [
        (
            pd.DataFrame({"test_0": [True] * 12}),
            {},
            r"should have 12 rows and a column for each split, got 12 rows, without \['test_1'",
        ),
        (pd.DataFrame({"test_0": [True], "test_1": [False]}), {}, "got 1 rows"),
        (
            pd.DataFrame({"test_0": [True] * 12}),
            {"aux_file": None},
            "the file of its published splits must be named, got None",
        ),
    ],
)
def test_splits_that_do_not_fit_are_refused(published, splits, changed, said):
    published(splits, **changed)
    with pytest.raises(BenchmarkError, match=said):
        data.load("paint")


def test_text_that_no_card_names_is_a_category_too(folder):
    folder(categorical=[])
    assert data.load("paint").X["colour"].dtype.name == "category"
