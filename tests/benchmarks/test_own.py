"""A table of the caller's: what is inferred is said, and what cannot be used is named before any work."""

import gzip
import hashlib
import json
import pickle

import numpy as np
import pandas as pd
import pytest

from benchmarks import BenchmarkError, records
from benchmarks.__main__ import main
from benchmarks.sources import own

N = 120


@pytest.fixture
def homes():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "number": [f"h{i}" for i in range(N)],
            "size [m]": rng.normal(size=N),
            "colour": rng.choice(["red", "blue", None], N),
            "zone": rng.integers(0, 4, N),
            "weight": rng.uniform(0.5, 2.0, N),
        }
    )
    table.loc[3, "size [m]"] = np.nan
    table["price"] = table["zone"] + rng.normal(size=N)
    table["sold"] = np.where(table["price"] > 1.5, "yes", "no")
    return table


@pytest.fixture
def file(homes, tmp_path):
    path = tmp_path / "homes.parquet"
    homes.to_parquet(path)
    return path


@pytest.fixture
def read():
    """Read a file of the caller's; the lines that were said are kept."""

    def read(path, target="price", **columns):
        read.lines = []
        entry, read.described = own.entry(path, own.Columns(target, **columns), read.lines.append)
        return entry.load()

    return read


def test_text_becomes_categories_and_numbers_stay(file, read, homes):
    found = read(file, not_features=["number", "sold"], categories=["zone"], weight="weight")
    assert list(found.X.columns) == ["size_m_", "colour", "zone"]
    assert [found.X[name].dtype.name for name in found.X] == ["float64", "category", "category"]
    assert found.X.isna().sum().tolist() == [1, int(homes["colour"].isna().sum()), 0]
    np.testing.assert_array_equal(found.y, homes["price"])
    np.testing.assert_array_equal(found.weight, homes["weight"])
    assert (found.file, found.origin, found.name) == ("homes.parquet", "own file", "homes")
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert read.described["sha256"] == found.sha256
    assert str(file.parent) not in json.dumps(read.described)  # records tell of no folder


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_every_kind_of_file_gives_the_same_table(file, read, homes, tmp_path, ending):
    expected = read(file, not_features=["sold"])
    path = tmp_path / f"homes{ending}"
    text = homes.to_csv(index=False).encode()
    path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    found = read(path, not_features=["sold"])
    pd.testing.assert_frame_equal(found.X, expected.X)
    np.testing.assert_array_equal(found.y, expected.y)


@pytest.mark.parametrize(
    ("labels", "task", "said"),
    [
        (np.linspace(0, 1, N), "regression", f"has {N} numbers"),
        (np.arange(N), "regression", f"has {N} numbers"),
        (np.arange(N) % 7, "multiclass", "has 7 whole numbers"),
        (np.arange(N) % 7 + 0.0, "multiclass", "has 7 whole numbers"),
        (np.arange(N) % 3 / 2, "regression", "has 3 numbers"),
        (np.arange(N) % 2, "binary", "has two values"),
        (np.arange(N) % 2 == 0, "binary", "has two values"),
        (np.array(["a", "b", "c"] * (N // 3)), "multiclass", "has 3 texts"),
        (pd.Categorical(["x", "y"] * (N // 2)), "binary", "has two values"),
        (pd.array([1, 2] * (N // 2), dtype="Int64"), "binary", "has two values"),
    ],
)
def test_the_task_is_what_the_labels_look_like(homes, tmp_path, read, labels, task, said):
    homes.assign(target=labels).to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", "target")
    assert found.task == task
    assert read.lines[0].startswith(f"target 'target' {said}: the task is {task}; --task names another")
    n_values = len(np.unique(np.asarray(labels).astype(str)))
    assert len(set(found.y.tolist())) == n_values
    if task != "regression" and np.asarray(labels).dtype.kind in "if":
        assert found.y.dtype == np.int64  # a class 1.0 is the class 1


def test_a_named_task_is_taken_and_nothing_is_said(homes, tmp_path, read):
    homes.assign(count=np.arange(N) % 5).to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", "count", task="poisson", not_features=["number"]).task == "poisson"
    assert read.lines == []
    assert read(tmp_path / "t.parquet", "count", task="regression").y.dtype == np.float64


def test_what_looks_odd_is_said(homes, tmp_path, read):
    homes.assign(nothing=np.nan).to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", task="regression")
    assert read.lines == [
        "column 'number' has another text in every row; --not-features leaves it out",
        "column 'nothing' has no value in any row",
    ]
    assert found.X["nothing"].isna().all()


def test_columns_of_every_kind_come_through(homes, tmp_path, read):
    """Whole numbers with holes, truth values, categories, names that are numbers."""
    whole = pd.array([None, *range(1, N)], dtype="Int64")
    flag = pd.array([True, None] * (N // 2), dtype="boolean")
    table = pd.DataFrame(
        {"whole": whole, "flag": flag, "kind": pd.Categorical(homes["zone"].astype(str)), "price": homes["price"]}
    )
    table.insert(0, "7", homes["weight"].astype("float32"))
    table.to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert [found.X[name].dtype.name for name in found.X] == ["float64", "float64", "float64", "category"]
    assert found.X["whole"].isna().sum() == 1
    assert set(found.X["flag"].dropna()) == {1.0}
    assert list(found.X["kind"].cat.categories) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"target": "prise"},
            r"--target: homes\.parquet has no column 'prise' \(near it: 'price'\); there are: number, size",
        ),
        ({"categories": ["colours"]}, r"--categories: .* no column 'colours' \(near it: 'colour'\)"),
        ({"not_features": ["x1"]}, r"--not-features: homes\.parquet has no column 'x1'; there are"),
        ({"weight": "weigth"}, r"--weight: .* no column 'weigth' \(near it: 'weight'\)"),
        ({"categories": ["price"]}, "--categories must not name the target, got 'price'"),
        ({"weight": "colour"}, "--weight: 'colour' must hold positive numbers in every row"),
        ({"weight": "size [m]"}, "--weight: 'size \\[m\\]' must hold positive numbers"),
        ({"task": "ranking"}, "--task must be one of regression, binary, multiclass, poisson, got 'ranking'"),
        ({"task": "binary"}, "target 'price' must have two values for binary, got 120"),
        ({"task": "multiclass"}, "target 'price' must have 3 to 100 values for multiclass, got 120"),
        ({"task": "poisson"}, "target 'price' must not be negative for poisson, got -"),
        ({"target": "colour", "task": "regression"}, "target 'colour' has no label in [0-9]+ rows; leave them out"),
        ({"target": "sold", "task": "regression"}, "target 'sold' must hold numbers for regression, got '(yes|no)'"),
        (
            {"target": "number"},
            r"target 'number' must hold numbers, or 100 classes at most, got 120 texts \(the first: 'h0'\)",
        ),
        ({"not_features": ["number", "size [m]", "colour", "zone", "weight", "sold"]}, "has no column that is left"),
    ],
)
def test_columns_that_cannot_be_used_are_named(file, read, columns, said):
    with pytest.raises(BenchmarkError, match=said):
        read(file, **{"target": "price", **columns})


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.full(N, 3.5), "target 'price' must vary, but is .*3.5.* in every row"),
        (np.r_[np.inf, np.arange(N - 1)], "target 'price' must be finite in every row, got infinite labels"),
        (np.r_[np.nan, np.arange(N - 1)], "target 'price' has no label in 1 row; leave them out of the file"),
        (pd.date_range("2020", periods=N), "target 'price' must hold numbers or classes, got dates"),
    ],
)
def test_labels_that_cannot_be_learned_are_named(homes, tmp_path, read, labels, said):
    homes.assign(price=labels).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(BenchmarkError, match=said):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize("values", [pd.date_range("2020", periods=N), [[1, 2]] * N])
def test_features_that_are_neither_numbers_nor_text_are_named(homes, tmp_path, read, values):
    homes.assign(strange=values).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(BenchmarkError, match=r"column 'strange' of t\.parquet must hold numbers or texts, got"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.xlsx", b"PK", "--data must be a .parquet, .csv or .csv.gz file, got 't.xlsx'"),
        ("homs.parquet", None, r"there is no file '.*homs\.parquet' \(near it: 'homes\.parquet'\)"),
        ("t.csv", b"", r"t\.csv is empty"),
        ("t.parquet", b"PAR1 and no more", r"t\.parquet cannot be read as a table: "),
        ("t.csv.gz", b"no gzip", r"t\.csv\.gz cannot be read as a table: "),
        ("t.csv.gz", gzip.compress(b"a,price\n1,2\n" * 99)[:-9], r"t\.csv\.gz cannot be read as a table: "),
        ("t.csv", b"a,price\n\xff\xfe,2\n", r"t\.csv cannot be read as a table: "),
        ("t.csv", b"a,price\n1,2\n1,2,3\n", r"t\.csv cannot be read as a table: "),
        ("t.csv", b"a,price\n", r"t\.csv has no rows"),
        ("t.csv", b"a,price\n1,2\n3,4\n", r"t\.csv must have 50 rows at least, got 2"),
    ],
)
def test_files_that_cannot_be_read_are_named(file, read, name, content, said):
    path = file.parent / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=said) as refusal:
        read(path)
    assert "\n" not in str(refusal.value)


def test_a_folder_is_no_file(tmp_path, read):
    with pytest.raises(BenchmarkError, match="--data must be a file, got the folder"):
        read(tmp_path)


def test_another_process_loads_the_same_and_a_changed_file_is_refused(file, homes):
    entry, _ = own.entry(file, own.Columns("price", task="regression"), lambda line: None)
    again = pickle.loads(pickle.dumps(entry))
    pd.testing.assert_frame_equal(again.load().X, entry.load().X)
    homes.iloc[1:].to_parquet(file)
    with pytest.raises(BenchmarkError, match=r"homes\.parquet has changed since the run began"):
        again.load()


# ---- the command


@pytest.fixture
def run(file, tmp_path, capsys, fake):
    """Run the command on the table, with a method that trains nothing; return exit code, output and errors."""

    def run(*arguments):
        whole = [
            "run",
            *arguments,
            "--methods",
            "teacher",
            "mean",
            "--seeds",
            "2",
            "--jobs",
            "0",
            "--out",
            str(tmp_path / "out"),
        ]
        code = main(whole)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_own_data_are_a_suite_of_their_own(run, file, homes, tmp_path, monkeypatch):
    import gbdt2nn

    weighted = lambda model, X, y, sample_weight: {"score_r2": 1.0, "n_rows": len(X)}  # noqa: E731
    monkeypatch.setitem(vars(gbdt2nn), "fidelity", weighted)
    chosen = ("--data", str(file), "--target", "price", "--not-features", "number", "--weight", "weight")
    code, shown, _ = run(*chosen)
    assert code == 0
    assert "target 'price' has 120 numbers: the task is regression" in shown
    assert "4 made, 0 of them failed; 0 kept" in shown
    record = records.read(tmp_path / "out/own/homes/mean-seed1.json")
    assert record["settings"]["file"] == {
        **{"name": "homes.parquet", "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "target": "price"},
        **{"task": "regression", "categories": [], "not_features": ["number"], "weight": "weight"},
    }
    assert record["table"]["file"] == "homes.parquet"
    assert record["rows"] == {"train": 78, "stop": 18, "test": 24}
    assert str(tmp_path) not in json.dumps(record)
    # the same again keeps what is there; another content, and another use of the columns, are refused
    assert "0 made, 0 of them failed; 4 kept" in run(*chosen)[1]
    code, _, errors = run(*chosen[:4])
    assert code == 2
    assert "seed0.json was made with not_features ['number'], now []; name another folder with --out" in errors
    homes.iloc[1:].to_parquet(file)
    code, _, errors = run(*chosen)
    assert code == 2
    assert "mean-seed0.json was made from another homes.parquet (sha256 " in errors
    assert "name another folder with --out" in errors


def test_rare_classes_of_own_data_do_not_stop_a_run(run, homes, tmp_path):
    """A class with a single row is in no training row of some seed: its row is then no test row."""
    labels = np.array(["a", "b"] * (N // 2), dtype=object)
    labels[:6] = ["r0", "r1", "r2", "r3", "r4", "r5"]
    path = tmp_path / "rare.csv"
    homes.assign(price=labels).to_csv(path, index=False)
    assert run("--data", str(path), "--target", "price")[0] == 0
    found = [records.read(tmp_path / f"out/own/rare/mean-seed{seed}.json") for seed in (0, 1)]
    left_out = [record["rows"].get("unseen_class", 0) for record in found]
    assert sum(left_out) > 0
    for record, n in zip(found, left_out, strict=True):
        assert sum(record["rows"][part] for part in ("train", "stop", "test")) + n == N
        assert record["table"]["n_classes"] == 8 - n


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "{file}"], "--target must name the column to predict, got none"),
        (["--data", "{file}", "wine", "--target", "price"], "--data takes one file, got "),
        (
            ["--suite", "smoke", "--data", "{file}", "--target", "price"],
            "a file is a suite of its own: leave out --suite",
        ),
        (["--suite", "smoke", "--target", "price"], "--target must go with a file of your own as --data, got none"),
        (["--suite", "own"], "the suite 'own' is of a file: give --data FILE and --target COLUMN"),
        (["--data", "wine"], "--suite must name a suite, or --data a .parquet, .csv or .csv.gz file, got 'wine'"),
        ([], "--suite must name a suite, or --data a .parquet, .csv or .csv.gz file"),
        (["--data", "gone.csv", "--target", "price"], "--data: there is no file 'gone.csv'"),
        (["--data", "{file}", "--target", "prise"], "(near it: 'price')"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(run, file, arguments, said):
    code, _, errors = run(*(argument.format(file=file) for argument in arguments))
    assert code == 2
    assert said in errors
    assert errors.count("\n") == 1
