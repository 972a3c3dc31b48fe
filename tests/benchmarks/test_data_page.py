"""The commands of docs/benchmark_data.md are run, and print what the page shows."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from benchmarks import cell
from benchmarks.__main__ import main
from benchmarks.suites import SUITES

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "benchmark_data.md").read_text(encoding="utf-8")


def test_what_the_page_shows_is_what_is_printed(tmp_path, monkeypatch, capsys):
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cell, "warm_up_once", lambda: None)
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    steps = [step for block in blocks for step in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]
    assert len(steps) >= 5
    for command, shown in steps:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "benchmarks"]
        main(words[3:])
        printed = capsys.readouterr()
        found = printed.out + printed.err
        assert doctest.OutputChecker().check_output(shown, found, doctest.ELLIPSIS), f"{command} prints:\n{found}"


@pytest.mark.parametrize("name", ["smoke", "tabular", "own", "scale"])
def test_the_suites_of_the_page_are_there(name):
    assert f"| `{name}` |" in PAGE
    assert name in SUITES


def test_the_numbers_of_the_page_are_those_of_the_suite(monkeypatch):
    from benchmarks import data

    monkeypatch.delenv("GBDT2NN_DATA", raising=False)
    entries = data.available()
    here = [name for name in SUITES["tabular"].data if name in entries]
    assert f"on {len(SUITES['tabular'].data)} real sets" in PAGE
    assert len(here) == 11
    assert "Eleven of them ship" in PAGE
    assert f"on {len(SUITES['tabular'].data)} real sets" in SUITES["tabular"].summary
