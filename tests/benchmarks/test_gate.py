import json
import re
from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.__main__ import main


def result(data="sand", method="self_explaining", seed=0, suite="tiny", fidelity=None, **changed):
    return {
        "schema": 1,
        "kind": "result",
        "suite": suite,
        "data": data,
        "method": method,
        "seed": seed,
        "date": "2026-01-01T00:00:00+00:00",
        "versions": {},
        "hardware": {},
        "settings": {},
        "status": "ok",
        "error": None,
        "table": {},
        "rows": {},
        "teacher": {},
        "seconds": {},
        "metrics": {"teacher": {}, "student": {}},
        "fidelity": {"score_r2": 0.995, "attribution_r2": 0.98, "decision_flip_rate": None, **(fidelity or {})},
        **changed,
    }


@pytest.fixture
def filed(tmp_path):
    """A function that files records and gives the folder."""

    def file(*found):
        for i, record in enumerate(found):
            records.write(tmp_path / f"{i}.json", record)
        return str(tmp_path)

    return file


def asked(capsys, *words):
    code = main(["gate", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_bounds_that_are_held_let_through(filed, capsys):
    folder = filed(result(), result(seed=1))
    code, out, _ = asked(capsys, folder, "--min", "score_r2=0.99", "attribution_r2=0.98", "--max", "score_r2=1")
    assert code == 0
    assert out == "All 6 checks hold on 2 results: score_r2 >= 0.99, attribution_r2 >= 0.98, score_r2 <= 1.\n"


def test_each_seed_is_held_by_itself(filed, capsys):
    folder = filed(result(), result(seed=1, fidelity={"score_r2": 0.9}), result(seed=2, fidelity={"score_r2": 0.999}))
    code, out, _ = asked(capsys, folder, "--min", "score_r2=0.95")
    assert code == 1
    head, line, _, said = out.splitlines()
    assert head.split() == ["suite", "data", "set", "method", "seed", "metric", "value", "bound"]
    assert line.split() == ["tiny", "sand", "self_explaining", "1", "score_r2", "0.9", ">=", "0.95"]
    assert said.startswith("1 of 3 checks fail on 3 results")
    assert asked(capsys, folder, "--min", "score_r2=0.95", "--mean")[0] == 0
    code, out, _ = asked(capsys, folder, "--min", "score_r2=0.97", "--mean")
    assert code == 1
    assert out.splitlines()[1].split()[3:] == ["mean", "score_r2", "0.964667", ">=", "0.97"]


@pytest.mark.parametrize("mean", [[], ["--mean"]])
def test_what_was_not_measured_fails_and_is_said(filed, capsys, mean):
    folder = filed(result(fidelity={"decision_flip_rate": 0.0}), result(seed=1))
    code, out, _ = asked(capsys, folder, "--max", "decision_flip_rate=1", *mean)
    assert code == 1
    assert "not measured" in out
    assert "1 of " in out


@pytest.mark.parametrize("mean", [[], ["--mean"]])
def test_a_failed_record_fails_with_its_error(filed, capsys, mean):
    failed = result(seed=1, status="failed", error={"type": "TimeLimit", "message": "60 s\nare over", "where": ""})
    for name in ("fidelity", "metrics", "table"):
        del failed[name]
    code, out, _ = asked(capsys, filed(result(), failed), "--min", "score_r2=0", *mean)
    assert code == 1
    assert "failed: TimeLimit: 60 s are over" in out


def test_a_student_without_any_fidelity_fails(filed, capsys):
    assert asked(capsys, filed(result() | {"fidelity": None}), "--min", "score_r2=0")[0] == 1


def test_a_teacher_alone_is_not_held_and_is_no_match(filed, capsys):
    alone = result(method="teacher") | {"fidelity": None, "metrics": {"teacher": {}}}
    folder = filed(result(), alone)
    code, out, _ = asked(capsys, folder, "--min", "score_r2=0")
    assert code == 0
    assert "Teachers alone, which have no student: 1 left out" in out
    code, _, err = asked(capsys, folder, "--min", "score_r2=0", "--methods", "teacher")
    assert code == 2
    assert "no record of a student matches, so nothing is held to the bounds; 1 are of teachers alone" in err


def test_names_choose_what_is_held(filed, capsys):
    bad = {"score_r2": 0.1}
    folder = filed(
        result(),
        result(data="clay", fidelity=bad),
        result(method="labels_only", fidelity=bad),
        result(suite="huge", fidelity=bad),
    )
    words = ["--min", "score_r2=0.5"]
    assert asked(capsys, folder, *words)[0] == 1
    chosen = ["--suite", "tiny", "--data", "sand", "--methods", "self_explaining"]
    assert asked(capsys, folder, *words, *chosen)[0] == 0
    for left_out in range(3):
        assert asked(capsys, folder, *words, *chosen[: 2 * left_out], *chosen[2 * left_out + 2 :])[0] == 1


def test_machines_are_given_json(filed, capsys):
    folder = filed(result(), result(seed=1, fidelity={"score_r2": None}))
    code, out, _ = asked(capsys, folder, "--min", "score_r2=0.5", "--json")
    found = json.loads(out)
    assert code == 1
    assert (found["ok"], found["n_results"], found["n_checks"]) == (False, 2, 2)
    assert found["bounds"] == [{"side": "min", "name": "score_r2", "value": 0.5}]
    (failure,) = found["failures"]
    assert (failure["seed"], failure["value"], failure["reason"]) == (1, None, "not measured")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the gate needs --min NAME=VALUE or --max NAME=VALUE; names: score_r2"),
        (["--min", "atribution_r2=0.9"], "did you mean 'attribution_r2'"),
        (["--min", "score_r2"], "--min must be NAME=VALUE with a number, got 'score_r2'"),
        (["--max", "score_r2=nan"], "--max must be NAME=VALUE with a number"),
        (["--max", "score_r2=inf"], "finite number"),
        (["--min", "score_r2=1", "--max", "score_r2=0"], "must not be above the largest"),
        (["--min", "score_r2=0", "--data", "moon"], "--data 'moon' is in no record; there are: sand"),
        (["--min", "score_r2=0", "--methods", "self_explaining", "magic"], "--methods 'magic' is in no record"),
        (["--min", "score_r2=0", "--suite", "large"], "--suite 'large' is in no record; there are: tiny"),
    ],
)
def test_what_cannot_be_held_exits_with_two(filed, capsys, words, said):
    code, out, err = asked(capsys, filed(result()), *words)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_no_records_open_no_gate(tmp_path, filed, capsys):
    words = ["--min", "score_r2=0"]
    assert asked(capsys, str(tmp_path / "gone"), *words)[0] == 2
    assert asked(capsys, str(tmp_path), *words)[0] == 2
    search = {name: result()[name] for name in ("schema", "date", "versions", "hardware", "data", "settings")}
    folder = filed(search | {"kind": "search", "status": "failed"})
    code, _, err = asked(capsys, folder, *words)
    assert code == 2
    assert "no record of a student matches" in err


def test_a_record_that_cannot_be_read_closes_the_gate(filed, tmp_path, capsys):
    folder = filed(result())
    (tmp_path / "half.json").write_text('{"schema": 1, "kind"')
    code, _, err = asked(capsys, folder, "--min", "score_r2=0")
    assert code == 2
    assert "half.json is not a benchmark record" in err


def test_two_records_of_one_result_are_refused(filed, capsys):
    code, _, err = asked(capsys, filed(result(), result()), "--min", "score_r2=0")
    assert code == 2
    assert "two records hold suite tiny, data set sand" in err


ROOT = Path(__file__).parents[2]
SHOWN = re.findall(
    r"^\$ python -m benchmarks gate (.+)\n((?:.*\n)*?)```$", (ROOT / "docs" / "ci.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(("words", "shown"), SHOWN)
def test_what_the_docs_show_is_what_the_gate_says(words, shown, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    code, out, _ = asked(capsys, *words.split())
    assert out == shown
    assert code == (0 if shown.startswith("All") else 1)


def test_the_docs_show_the_gate():
    assert len(SHOWN) == 2
