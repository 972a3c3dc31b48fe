"""Records: one JSON file per result, written whole or not at all, and what it tells of machine and versions.

Where results are many and small, one file of lines holds those of a data set: a head, and a line for each.
"""

import json
import math
import os
import platform
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import BenchmarkError

SCHEMA = 1
_PACKAGES = ("gbdt2nn", "numpy", "scipy", "pandas", "scikit-learn", "lightgbm", "shap", "numba", "torch")
# The instruction sets that kernels and matrix products choose between.
_CPU_FLAGS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)


def environment() -> dict[str, Any]:
    """Return date, versions and hardware, as every record states them."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "hardware": hardware(),
    }


def hardware() -> dict[str, Any]:
    """Return the processor's name, its flags of interest (None where they cannot be told) and the cores in use."""
    model, flags = platform.processor() or platform.machine(), None
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.split(":", 1) for line in cpuinfo.read_text(encoding="utf-8").splitlines() if ":" in line]
        values = {key.strip(): value.strip() for key, value in reversed(lines)}
        model = values.get("model name", model)
        present = values.get("flags", values.get("Features"))
        if present is not None:
            flags = [flag for flag in _CPU_FLAGS if flag in present.split()]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cpu_flags": flags,
        "cores": os.cpu_count(),
        "usable_cores": usable,
        # Others at work on the machine lengthen every time in the record.
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str | None:
    """Return the git commit of the checkout, with "+" where files differ from it; None where it cannot be told."""

    def git(*arguments: str) -> str:
        asked = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def describe_error(error: Exception) -> dict[str, str]:
    """Return type, message and place of an error; places are relative, so that no record tells of a home folder."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}" for frame in frames[-3:]]
    return {"type": type(error).__name__, "message": str(error), "where": " > ".join(places)}


def plain(value: Any) -> Any:
    """Return `value` as JSON knows it: arrays become lists, and what is not a finite number becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return repr(value)


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record atomically: a reader sees the whole of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(record), indent=1, allow_nan=False) + "\n"
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """Read one record.

    Raises
    ------
    BenchmarkError
        If the file is no record; the message names it.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} is not a benchmark record: {error}") from error
    _check(record, path)
    return record


def _check(record: Any, path: Path) -> None:
    """Refuse what is no record of this schema, or lacks something that its kind has."""
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise BenchmarkError(f"{path} is not a benchmark record of schema {SCHEMA}: got {found!r}")
    needed = _NEEDED.get(record.get("kind"))
    if needed is None:
        raise BenchmarkError(f"{path} is not a benchmark record: kind must be one of {list(_NEEDED)}")
    if record.get("status") == "ok":
        needed = (*needed, *_NEEDED_OF_GOOD[record["kind"]])
    absent = [name for name in needed if name not in record]
    if absent:
        raise BenchmarkError(f"{path} is not a whole benchmark record: it lacks {absent}")


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add one line to a file of lines (JSON Lines), made with its folder where there is none.

    A line is one write; what an interrupted write has left is cut off before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(line), allow_nan=False, separators=(", ", ": ")) + "\n"
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        if whole < size:
            file.truncate(whole)
        file.seek(0, os.SEEK_END)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path, *, say: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Read a file of lines: a record for each line that is a head, with the fits that stand after it as ``fits``.

    Each fit has the name of the data set as ``data``. The last line may be half written, and is then left out.

    Parameters
    ----------
    path : Path
    say : callable, optional
        Is told, line by line, what cannot be used and is skipped. Where a head may have been lost, the fits up to the next
        one are skipped too: nobody can tell what settings they were made under.

    Raises
    ------
    BenchmarkError
        Without `say`, if the file does not begin with a head, or a line is no JSON.
    """
    found: list[dict[str, Any]] = []
    headless = True
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.split(b"\n")[:-1], 1):
        try:
            value = json.loads(line)
            if isinstance(value, dict) and "schema" in value:
                _check(value, path)
                found.append({**value, "fits": []})
                headless = False
            elif isinstance(value, dict) and not headless:
                found[-1]["fits"].append({"data": found[-1]["data"], **value})
            else:
                raise BenchmarkError(f"line {number} of {path} is not a fit that stands after a head")
        except ValueError as error:  # a BenchmarkError is one
            known = isinstance(error, BenchmarkError)
            trouble = error if known else BenchmarkError(f"line {number} of {path} is no JSON: {error}")
            if say is None:
                raise trouble from (None if known else error)
            say(str(trouble))
            headless = headless or not _is_fit(line)
    if say is not None and len(whole) < len(content):
        say(f"the last line of {path} is half written")
    return found


def _is_fit(line: bytes) -> bool:
    """Return whether a line that is no JSON begins as the line of a fit does, and not as a head."""
    return line.startswith(b'{"rows"') and b'"schema"' not in line


def is_done(path: Path, settings: Mapping[str, Any], retry_failed: bool) -> bool:
    """Return whether a record is there and stays.

    Parameters
    ----------
    path : Path
    settings : mapping
        What is in force now.
    retry_failed : bool
        A record of a failure does not stay.

    Raises
    ------
    BenchmarkError
        If the record cannot be read, or was made under other settings.
    """
    if not path.exists():
        return False
    record = read(path)
    if record["status"] == "failed" and retry_failed:
        return False
    if record["settings"] != plain(settings):
        now = plain(settings)
        changed = {
            key: (record["settings"].get(key), now[key]) for key in now if record["settings"].get(key) != now[key]
        }
        raise BenchmarkError(f"{path} was made under other settings {changed}; name another folder with --out")
    return True


def read_all(folder: Path, *, say: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Read every record under a folder, in the order of their paths.

    Parameters
    ----------
    folder : Path
    say : callable, optional
        Is told what is no record and is skipped, one line for each, and in the end how many they were.

    Raises
    ------
    BenchmarkError
        If there is no such folder, no record in it, or, without `say`, a file that is no record.
    """
    if not folder.is_dir():
        raise BenchmarkError(f"there is no folder {str(folder)!r} to read records from")
    found, skipped = [], 0

    def skip(line: str) -> None:
        nonlocal skipped
        skipped += 1
        if say is not None:
            say(f"skipped  {line}")

    for path in sorted(folder.rglob("*.json")):
        try:
            found.append(read(path))
        except BenchmarkError as error:
            if say is None:
                raise
            skip(str(error))
    for path in sorted(folder.rglob("*.jsonl")):
        found += read_lines(path, say=None if say is None else skip)
    if say is not None and skipped:
        say(f"skipped  {skipped} {'file or line that is' if skipped == 1 else 'files or lines that are'} no record")
    if not found:
        raise BenchmarkError(f"there are no records in {str(folder)!r}; make some: python -m benchmarks run")
    return found


_COMMON = ("date", "versions", "hardware", "status", "data", "settings")
_NEEDED = {
    "claims": _COMMON,
    "result": (*_COMMON, "suite", "method", "seed", "error"),
    "search": _COMMON,
    "speed": (*_COMMON, "suite", "measurement", "seed", "error"),
    "stream": (*_COMMON, "seed"),
    "training": (*_COMMON, "seed"),
    "deploy": (*_COMMON, "library", "seed"),
    "vision": (*_COMMON, "suite", "method", "seed", "error"),
}
_NEEDED_OF_GOOD = {
    "claims": ("table",),
    "result": ("table", "rows", "teacher", "seconds", "metrics", "fidelity"),
    "search": ("seconds", "best_params", "best_score", "n_candidates", "n_folds"),
    "speed": ("table", "model", "results"),
    "stream": ("seconds", "errors", "metric", "rows"),
    "training": ("seconds", "n_train", "batch_size", "n_steps", "profile"),
    "deploy": ("equality", "latency", "bytes", "n_checked"),
    "vision": ("seconds", "teacher", "metrics", "n_steps"),
}
