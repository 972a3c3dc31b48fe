import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "huge"], "unknown suite 'huge'; there are: smoke, main"),
        (["--suite", "smoke", "--data", "moon", "wine"], "unknown data set 'moon'; there are: adult, bike_sharing"),
        (["--suite", "smoke", "--methods", "magic"], "unknown method 'magic'; there are: teacher, score_imitation"),
        (["--suite", "smoke", "--seeds", "0"], "seeds must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_run_is_named_with_the_choices(arguments, said, tmp_path, capsys):
    assert main(["run", *arguments, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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
