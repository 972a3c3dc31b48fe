import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import _parser, main
from benchmarks.suites import SUITES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "huge"], "unknown suite 'huge'; there are: smoke, main"),
        (["--suite", "smoke", "--data", "moon", "wine"], "unknown data set 'moon'; there are: abalone, adult"),
        (["--suite", "smoke", "--methods", "magic"], "unknown method 'magic'; there are: teacher, score_imitation"),
        (["--suite", "smok"], "unknown suite 'smok' (near it: 'smoke'); there are: smoke, main"),
        (["--suite", "smoke", "--data", "californa_housing"], "(near it: 'california_housing'); there are: abalone"),
        (["--suite", "smoke", "--methods", "self_explainig"], "(near it: 'self_explaining'"),
        (["--suite", "smoke", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--suite", "smok"], "(near it: 'smoke')"),
        (["--suite", "smoke", "--data", "wines"], "(near it: 'wine'"),
        (["--suite", "smoke", "--methods", "self_explainin", "teacher"], "(near it: 'self_explaining'"),
        (["--suite", "smoke", "--jobs", "-1"], "jobs must be 0 (in this process) or more, got -1"),
        (["--suite", "smoke", "--time-budget", "0"], "time budget must be a positive number of seconds, got 0"),
        (["--suite", "smoke", "--time-budget", "nan"], "time budget must be a positive number of seconds, got nan"),
        (["--suite", "smoke", "--time-limit", "-3"], "time limit must be a positive number of seconds, got -3"),
        (["--suite", "smoke", "--memory-limit", "inf"], "memory limit must be a positive number of GiB, got inf"),
        (["--suite", "smoke", "--jobs", "0", "--time-limit", "9"], "jobs must be at least 1, got 0"),
        (
            ["--suite", "claims", "--jobs", "2"],
            "--jobs, --time-budget, --time-limit, --memory-limit and --repair are not",
        ),
    ],
)
def test_what_cannot_be_run_is_named_with_the_choices(arguments, said, tmp_path, capsys):
    assert main(["run", *arguments, "--out", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_group_of_methods_stands_for_its_methods(fake, tmp_path, monkeypatch):
    from benchmarks import records, runner

    monkeypatch.setattr(runner, "GROUPS", {"all": ("teacher", "mean"), "students": ("mean",)})
    arguments = ["run", "--suite", "tiny", "--jobs", "0", "--methods", "students", "all", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert sorted(record["method"] for record in records.read_all(tmp_path)) == ["mean", "teacher"]


def test_a_time_budget_of_ones_own_is_that_of_every_data_set(fake, tmp_path):
    asked = ["run", "--suite", "tiny", "--jobs", "0", "--out", str(tmp_path)]
    assert main([*asked, "--data", "diabetes", "wine", "--methods", "mean", "--time-budget", "7.5"]) == 0
    assert len(fake) == 2
    assert all(7 < problem.time_budget < 7.5 for problem in fake)  # what the teacher left
    # records of another budget are not mixed with these
    assert main([*asked, "--methods", "mean"]) == 2


RUNNING = Path(__file__).parent.parent.parent / "docs" / "benchmark_running.md"


def test_the_page_about_running_names_every_option():
    text = RUNNING.read_text(encoding="utf-8")
    parser = next(iter(_parser()._subparsers._group_actions)).choices["run"]
    for group in parser._action_groups:
        if group.title in ("options", f"suites {', '.join(SUITES)}"):
            for action in group._group_actions:
                assert action.dest == "help" or f"| `{action.option_strings[0]}" in text, action.option_strings


def test_the_script_of_the_page_brings_its_method(tmp_path):
    script = re.search(r"<<'END'\n(.*?)^END$", RUNNING.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "mine.py").write_text(script)
    asked = [sys.executable, str(tmp_path / "mine.py"), "run", "--suite", "smoke", "--methods", "wide", "--jobs", "-1"]
    environment = {**os.environ, "PYTHONPATH": str(RUNNING.parent.parent)}
    found = subprocess.run(asked, capture_output=True, text=True, env=environment)
    # the method is known, and what is refused comes after that
    assert "jobs must be 0 (in this process) or more, got -1" in found.stderr


def test_a_reader_that_has_gone_ends_a_run_in_a_sentence(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", "from benchmarks.__main__ import _say\nfor i in range(9): _say('x')"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert "standard output cannot be written to: Broken pipe" in errors


def test_a_run_and_its_report(fake, tmp_path, capsys):
    out, page = tmp_path / "results", tmp_path / "pages" / "report.md"
    assert main(["run", "--suite", "tiny", "--jobs", "0", "--out", str(out)]) == 0
    assert "2 made, 0 of them failed; 0 kept" in capsys.readouterr().out
    assert main(["report", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "| mean | 1 | 0.5000 |" in shown
    assert main(["report", str(out), "--markdown", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == shown


def test_a_failure_shows_in_the_exit_code(fake, tmp_path, capsys):
    assert main(["run", "--suite", "tiny", "--jobs", "0", "--methods", "broken", "mean", "--out", str(tmp_path)]) == 1
    assert "broken-seed0.json: ValueError: depth must be positive" in capsys.readouterr().out


def test_a_corrupted_record_is_named(tmp_path, capsys):
    (tmp_path / "half.json").write_text('{"schema": 1, "kind"')
    assert main(["report", str(tmp_path)]) == 2
    assert "half.json is not a benchmark record" in capsys.readouterr().err


def test_a_report_goes_on_without_a_corrupted_record(fake, tmp_path, capsys):
    assert main(["run", "--suite", "tiny", "--jobs", "0", "--out", str(tmp_path)]) == 0
    (tmp_path / "half.json").write_text('{"schema": 1, "kind"')
    assert main(["report", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "## Suite tiny" in out
    assert "half.json is not a benchmark record" in err
    assert "1 file or line that is no record" in err


def test_the_list_names_everything(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in ("smoke", "main", "self_explaining", "labels_only", "california_housing", "diabetes"):
        assert name in shown


def test_the_demo_refuses_a_report_it_cannot_write_before_it_trains(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "gone" / "report.html")]) == 2
    assert "the report must be a file in a folder that exists" in capsys.readouterr().err


def test_no_command_is_an_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
