"""The folder that a run writes into: one run at a time, nothing half-written left, no result lost for want of space."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from benchmarks import BenchmarkError, records
from benchmarks.isolation import LOGS

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextlib.contextmanager
def held(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a folder of results for one run, by a lock that ends with the process, however that ends.

    Raises
    ------
    BenchmarkError
        If another run holds it, or it cannot be written to.
    """
    path = out / LOCK
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = _locked(path, say)
    except OSError as error:
        raise _unusable(out, error) from error
    try:
        try:
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
        except OSError as error:
            raise _unusable(out, error) from error
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for this file finds that it is no longer there
        with contextlib.suppress(OSError):
            file.close()


def _locked(path: Path, say: Callable[[str], None]) -> TextIO:
    while True:
        file = path.open("a+", encoding="utf-8")
        if fcntl is None:
            say("note     this system has no locks of files: see to it yourself that no other run writes here")
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = file.read().strip() or "unknown"
            file.close()
            raise BenchmarkError(
                f"{path.parent} is in use by another run, process {other}; wait for it, or name another folder with --out"
            ) from None
        except OSError as error:
            say(f"note     {path.parent} knows no locks ({error.strerror}): see to it that no other run writes here")
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # the run before has removed the file in between


def tidy(folder: Path) -> int:
    """Remove what a killed run has left half-written under a suite's folder, and return how many files they were."""
    left = [*folder.rglob(".*.json.*.part"), *folder.glob(LOGS)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def check_places(paths: list[Path]) -> None:
    """Refuse, before any work, folders where no record can be written."""
    for folder in dict.fromkeys(path.parent for path in paths):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(folder, error) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BenchmarkError(f"{folder} must be a folder that can be written to: permission denied")


def _unusable(folder: Path, error: OSError) -> BenchmarkError:
    return BenchmarkError(f"{folder} must be a folder that can be written to: {error.strerror or error}")


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record; where that cannot be done, print it to standard error as one line of JSON, so that it is not lost.

    Raises
    ------
    BenchmarkError
        If it cannot be written.
    """
    try:
        records.write(path, record)
    except OSError as error:
        print(json.dumps(records.plain(record), allow_nan=False), file=sys.stderr, flush=True)
        raise BenchmarkError(
            f"{path} cannot be written: {error.strerror or error}; the record is the line of JSON above, and may be saved "
            f"there, or is made anew by the next run"
        ) from error


def set_aside(path: Path) -> Path:
    """Rename a file that is no record, and return its new name: ``NAME.corrupt``, with a number where that is taken."""
    aside, number = path.with_name(f"{path.name}.corrupt"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt{number}")
    path.rename(aside)
    return aside
