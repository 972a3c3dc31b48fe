"""A run goes on where it was killed: nothing lost, doubled or half-written; one run at a time; what is corrupt is named."""

import errno
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks import BenchmarkError, folder, memory, records
from benchmarks.__main__ import main
from benchmarks.runner import run

linux = pytest.mark.skipif(not memory.is_told(), reason="needs /proc")


def kill(run_, script, generator, *, who):
    """Kill a run, or one of its workers, at a moment that the generator draws."""
    time.sleep(generator.uniform(0.0, 0.6))
    workers = run_.offspring()
    victims = [run_.process.pid] if who == "run" else workers[:1]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    if who == "run":
        run_.process.communicate()
        # workers that went on would write nothing, and hold the machine
        assert script.gone(workers)


def check_whole(out, undisturbed, all_lasting):
    """What is there so far is whole, and each record the same as the undisturbed run's."""
    found = all_lasting(out) if out.exists() else {}  # refuses what is half-written
    assert {path: undisturbed[path] for path in found} == found
    return len(found)


@linux
def test_a_run_that_is_killed_three_times_leaves_what_an_undisturbed_one_does(own, script, tmp_path, all_lasting):
    run("patient", out=tmp_path / "undisturbed", say=lambda line: None)
    undisturbed = all_lasting(tmp_path / "undisturbed")
    assert len(undisturbed) == 24
    generator, out = random.Random(), tmp_path / "killed"
    # once a worker, and then the run that went on without it
    first = script("--suite", "patient", "--out", out)
    assert first.line().startswith("made")
    kill(first, script, generator, who="worker")
    kill(first, script, generator, who="run")
    so_far = check_whole(out, undisturbed, all_lasting)
    assert 1 <= so_far < 24
    second = script("--suite", "patient", "--out", out, "--jobs", 2)
    second.line()
    kill(second, script, generator, who="run")
    assert check_whole(out, undisturbed, all_lasting) >= so_far
    assert script("--suite", "patient", "--out", out, "--retry-failed").end()[0] == 0
    assert all_lasting(out) == undisturbed
    assert not list(out.rglob(".*"))


@linux
@pytest.mark.slow
def test_students_that_are_killed_twenty_times_are_those_of_an_undisturbed_run(own, script, tmp_path, all_lasting):
    run("students", out=tmp_path / "undisturbed", say=lambda line: None)
    undisturbed = all_lasting(tmp_path / "undisturbed")
    generator, out = random.Random(), tmp_path / "killed"
    for number in range(20):
        run_ = script("--suite", "students", "--out", out, "--jobs", 1 + number % 2, "--retry-failed")
        # in the start, among the first records, or later
        for _ in range(generator.choice((0, 1, 1, 2, 4))):
            if "made, " in run_.line():
                break
        if number % 4 == 3 and run_.process.poll() is None:
            kill(run_, script, generator, who="worker")
        if run_.process.poll() is None:
            kill(run_, script, generator, who="run")
        done = check_whole(out, undisturbed, all_lasting)
        if done == len(undisturbed):  # there is more to kill
            for path in generator.sample(sorted(out.rglob("*.json")), 12):
                path.unlink()
    assert script("--suite", "students", "--out", out, "--retry-failed").end()[0] == 0
    assert all_lasting(out) == undisturbed
    assert not list(out.rglob(".*"))


def test_what_a_killed_run_left_half_written_is_removed(fake, tmp_path):
    left = tmp_path / "tiny" / "diabetes" / ".mean-seed0.json.abc123.part"
    left.parent.mkdir(parents=True)
    left.write_text('{"schema": 1')
    (tmp_path / "tiny" / ".worker-0.log").write_text("")
    run("tiny", out=tmp_path, say=lambda line: None)
    assert {path.name for path in tmp_path.rglob("*")} == {
        *("tiny", "diabetes", "mean-seed0.json", "teacher-seed0.json")
    }


def test_two_runs_do_not_share_a_folder(fake, tmp_path):
    with (
        folder.held(tmp_path, print),
        pytest.raises(BenchmarkError, match=rf"is in use by another run, process {os.getpid()}; wait for it"),
    ):
        run("tiny", out=tmp_path, say=lambda line: None)
    # what a killed run leaves of its lock is no lock
    (tmp_path / ".lock").write_text("1")
    assert run("tiny", out=tmp_path, say=lambda line: None).made == 2
    assert not (tmp_path / ".lock").exists()


# ---------------------------------------------------------------------------------------------------- corrupt records


@pytest.mark.parametrize("content", ['{"schema": 1', "", "other"])
def test_a_corrupt_record_is_named_and_repaired_on_demand(fake, tmp_path, capsys, content):
    asked = ["run", "--suite", "tiny", "--jobs", "0", "--out", str(tmp_path)]
    assert main(asked) == 0
    path = tmp_path / "tiny" / "diabetes" / "mean-seed0.json"
    if content == "other":  # a record, of another method: it would count twice
        content = (tmp_path / "tiny" / "diabetes" / "teacher-seed0.json").read_text()
    path.write_text(content)
    capsys.readouterr()
    assert main(asked) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{path} is not a benchmark record" in said
    assert "remove it or pass --repair" in said
    assert path.read_text() == content
    assert main([*asked, "--repair"]) == 0
    assert records.read(path)["method"] == "mean"
    assert path.with_name("mean-seed0.json.corrupt").read_text() == content
    assert "aside" in capsys.readouterr().out
    # what was set aside is never overwritten
    path.write_text("once more")
    assert main([*asked, "--repair"]) == 0
    assert path.with_name("mean-seed0.json.corrupt2").read_text() == "once more"


# ---------------------------------------------------------------------------------------------------- no room, no right


def check_full_disk(code, errors, out):
    """One sentence names the file; the record that was computed is the line before it; nothing is half-written."""
    assert code == 2
    line, said = errors.splitlines()
    record = json.loads(line)
    path = out / "tiny" / record["data"] / f"{record['method']}-seed{record['seed']}.json"
    assert said.startswith(f"python -m benchmarks: {path} cannot be written: No space left on device")
    assert not path.exists()
    assert not list(out.rglob("*.part"))
    records._check(record, path)


def test_a_full_disk_loses_no_result(fake, tmp_path, capsys, monkeypatch):
    calls = []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    asked = ["run", "--suite", "tiny", "--jobs", "0", "--out", str(tmp_path)]
    check_full_disk(main(asked), capsys.readouterr().err, tmp_path)
    assert len(records.read_all(tmp_path)) == 1
    assert main(asked) == 0
    assert len(records.read_all(tmp_path)) == 2


def test_a_really_full_disk(fake, tmp_path, capsys):
    out = tmp_path / "disk"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(out)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        block = out / "block"
        (out / "tiny" / "diabetes").mkdir(parents=True)
        with pytest.raises(OSError, match="No space left"):
            block.write_bytes(b"x" * 100_000)
        with block.open("r+b") as file:
            file.truncate(16 * 4096 - 4096)  # one page: room for the lock, and for no record
        code = main(["run", "--suite", "tiny", "--jobs", "0", "--out", str(out)])
        check_full_disk(code, capsys.readouterr().err, out)
        block.unlink()
        assert main(["run", "--suite", "tiny", "--jobs", "0", "--out", str(out)]) == 0
        assert len(records.read_all(out)) == 2
    finally:
        subprocess.run(["umount", str(out)], check=True)


@pytest.mark.parametrize("part", [".", "tiny", "tiny/diabetes"])
def test_a_place_that_is_a_file_is_refused_before_any_work(fake, tmp_path, capsys, part):
    out = tmp_path / "results"
    place = out / part
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("mine")
    assert main(["run", "--suite", "tiny", "--jobs", "0", "--out", str(out)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "must be a folder that can be written to: " in said
    assert said.endswith(("File exists", "Not a directory"))
    assert not fake
    assert place.read_text() == "mine"


def test_a_folder_without_the_right_to_write_is_refused_before_any_work(fake, tmp_path, capsys, monkeypatch):
    # the superuser may write anywhere, so the answer of the system is put in its place
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "diabetes")
    assert main(["run", "--suite", "tiny", "--jobs", "0", "--out", str(tmp_path)]) == 2
    assert "diabetes must be a folder that can be written to: permission denied" in capsys.readouterr().err
    assert not fake
