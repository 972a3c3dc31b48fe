import io

import numpy as np
import pandas as pd
import pytest
from scipy.io import arff as scipy_arff
from sklearn.externals import _arff as liac_arff

from benchmarks import BenchmarkError
from benchmarks.sources.arff import read_arff

TEXT = """% a comment
@RELATION 'bank and more'

@ATTRIBUTE age NUMERIC
@attribute 'kind of job' {admin., 'blue, collar', "it's", 'it\\'s not'}
@attribute income real
@Attribute note string
@attribute when date 'yyyy-MM-dd'
@attribute class {yes,no}

@DATA
31, admin., 1.5e3, 'plain', '2020-01-01', yes
% another
?,'blue, collar',-2,"a \\"quoted\\" word",'2020-01-02',no

40,"it's",?,'back\\\\slash', ?, yes
22 ,'it\\'s not' , 0.0, ?, '2020-01-03' ,no
"""


def test_numbers_names_strings_and_holes():
    table = read_arff(TEXT, "bank.arff")
    assert list(table.columns) == ["age", "kind of job", "income", "note", "when", "class"]
    np.testing.assert_array_equal(table["age"], [31.0, np.nan, 40.0, 22.0])
    assert list(table["kind of job"].cat.categories) == ["admin.", "blue, collar", "it's", "it's not"]
    assert list(table["kind of job"]) == ["admin.", "blue, collar", "it's", "it's not"]
    assert list(table["note"])[:3] == ["plain", 'a "quoted" word', "back\\slash"]
    assert table["note"].isna().tolist() == [False, False, False, True]
    assert list(table["class"]) == ["yes", "no", "yes", "no"]


def test_another_reader_finds_the_same():
    """The table is the one that the reader in scikit-learn finds, missing values as None."""
    text = TEXT.replace("@attribute when date 'yyyy-MM-dd'", "@attribute when string")
    theirs = liac_arff.loads(text.replace("\\'s not", "s not"))  # which knows fewer escapes
    ours = read_arff(text.replace("\\'s not", "s not"), "bank.arff")
    assert [name for name, _ in theirs["attributes"]] == list(ours.columns)
    found = [[None if pd.isna(value) else value for value in row] for row in ours.astype(object).to_numpy()]
    for row, expected in zip(found, theirs["data"], strict=True):
        # theirs keeps a backslash before a quotation mark of the other kind
        assert row == [value.replace("\\\\", "\\") if isinstance(value, str) else value for value in expected]


def test_random_numbers_come_back_to_the_bit():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-20, 20, size=(50, 3))
    rows = "\n".join(",".join(map(repr, row)) for row in values.tolist())
    text = f"@relation r\n@attribute a real\n@attribute b real\n@attribute c numeric\n@data\n{rows}\n"
    found = read_arff(text, "r.arff")
    np.testing.assert_array_equal(found.to_numpy(), values)
    theirs, _ = scipy_arff.loadarff(io.StringIO(text))
    np.testing.assert_array_equal(found["b"], theirs["b"])


HEAD = "@relation r\n@attribute a real\n@attribute b {x,y}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "r.arff is no ARFF table: it has no columns before @data"),
        ("<html>", "r.arff is no ARFF table"),
        (HEAD, "r.arff is no ARFF table"),
        ("@relation r\n@data\n1\n", "r.arff is no ARFF table"),
        (HEAD + "@data\n1\n", "line 5 of r.arff should have 2 values, got 1"),
        (HEAD + "@data\n1,x,y\n", "line 5 of r.arff should have 2 values, got 3"),
        (HEAD + "@data\n1,x\none,y\n", "column 'a' of r.arff should hold numbers: .*'one'"),
        (HEAD + "@data\n1,z\n", "column 'b' of r.arff has 'z', which is none of its values"),
        (HEAD + "@data\n{0 1}\n", "line 5 of r.arff is sparse"),
        (HEAD + "@data\n1,'x\n", "line 5 of r.arff has a quotation that does not end"),
        ("@relation r\n@attribute a\n@data\n", "line 2 of r.arff declares no column"),
        ("@relation r\n@attribute a relational\n@data\n", "line 2 of r.arff declares a column of a kind"),
        (HEAD + "@attribute a real\n@data\n", "line 4 of r.arff declares the column 'a' again"),
    ],
)
def test_what_is_no_table_is_named(text, said):
    with pytest.raises(BenchmarkError, match=said):
        read_arff(text, "r.arff")


def test_a_table_without_rows_keeps_its_columns():
    assert read_arff(HEAD + "@data\n", "r.arff").shape == (0, 2)
