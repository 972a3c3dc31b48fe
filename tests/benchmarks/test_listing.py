import re

import pytest

from benchmarks import data, listing
from benchmarks.methods import METHODS
from benchmarks.suites import SUITES


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.delenv("GBDT2NN_DATA", raising=False)
    return list(listing.lines())


def test_the_list_fits_a_terminal(lines):
    assert max(len(line) for line in lines) <= 120
    assert not [line for line in lines if line != line.rstrip()]


def test_every_suite_data_set_and_method_is_there(lines):
    names = {line.split()[0] for line in lines if re.match(r" {2}\S", line)}
    assert {*SUITES, *METHODS, *data.available(), "speed", "claims", "openml:NUMBER"} <= names


def test_a_data_set_is_told_with_its_size_and_what_it_needs(lines):
    (line,) = [line for line in lines if line.startswith("  adult ") and "binary" in line]
    assert line.split() == [
        *("adult", "binary", "48", "842", "14", "8", "6", "465", "CC-BY-4.0", "jbrownlee/Datasets", "nothing")
    ]


def test_what_is_not_here_is_named_with_what_would_bring_it(lines):
    text = " ".join(" ".join(lines).split())
    assert "not here, a folder must bring them: ames_housing, boston" in text
    assert "17 that GBDT2NN_DATA must bring: ames_housing" in text


def test_a_method_tells_which_package_it_needs_and_whether_it_is_there(monkeypatch):
    monkeypatch.setattr(listing.methods, "NEEDS", {"teacher": "numpy", "labels_only": "no-such-rival"}, raising=False)
    text = " ".join(" ".join(listing.lines()).split())
    assert re.search(r"held against\. Needs numpy: \d+\.\d+\S* is here", text)
    assert "of the teacher. Needs no-such-rival: not here" in text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("repo: MIT; original: UCI, CC BY 4.0", "MIT / CC BY 4.0"),
        ("CC-BY-4.0", "CC-BY-4.0"),
        ("repo LICENSE: A CC BY-NC 4.0, rest BSD-2 style", "CC BY-NC 4.0 / BSD-2"),
        ("as its authors say", "as its authors say"),
        (None, None),
    ],
)
def test_long_notes_on_licences_are_cut_to_their_names(said, shown):
    assert listing._licences(said) == shown
