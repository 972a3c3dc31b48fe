"""Resident memory of processes, as Linux tells it; elsewhere it is not known, and that is what is said."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path

_PROC = Path("/proc")
_SLACK = 1 << 26  # the kernel counts pages in lots for each thread


def is_told() -> bool:
    """Return whether this system tells the resident memory of a process."""
    return resident(os.getpid()) is not None


def resident(pid: int) -> int | None:
    """Return the resident memory of a process in bytes; None where it cannot be told or the process is gone."""
    return _of_status(pid, "VmRSS")


def resident_with_offspring(pid: int) -> int | None:
    """Return the resident memory of a process that leads a session and of those it started there, in bytes.

    Of the others only their own share of the pages they have in common counts, so that a fork costs what it writes.
    """
    own = resident(pid)
    if own is None:
        return None
    return own + sum(_proportional(other) for other in _session(pid) if other != pid)


class Peak:
    """The highest resident memory of this process since the object was made, and how much above what was there.

    What earlier work has freed is given back to the system first, or the next fit would seem to need nothing. Only the
    process itself is measured, and none that it starts.
    """

    def __init__(self) -> None:
        gc.collect()
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)  # of the GNU C library
        self.before = resident(os.getpid())
        try:
            (_PROC / "self" / "clear_refs").write_text("5")
        except OSError:
            self.before = None
        highest = _of_status(os.getpid(), "VmHWM")
        # some sandboxes take the request and keep the old mark
        if self.before is not None and (highest is None or highest > self.before + _SLACK):
            self.before = None

    def read(self) -> dict[str, int] | None:
        """Return ``bytes``, the highest, and ``growth``, how much above the beginning; None where they cannot be told."""
        highest = _of_status(os.getpid(), "VmHWM")
        if self.before is None or highest is None:
            return None
        return {"bytes": highest, "growth": max(0, highest - self.before)}


def _of_status(pid: int, name: str) -> int | None:
    return _kilobytes(_PROC / str(pid) / "status", name)


def _proportional(pid: int) -> int:
    return _kilobytes(_PROC / str(pid) / "smaps_rollup", "Pss") or 0


def _kilobytes(path: Path, name: str) -> int | None:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:  # the process has ended, or this is no Linux
        return None
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None  # a process that has ended and waits to be asked for its code has no memory


def _session(leader: int) -> list[int]:
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # the name in brackets may hold blanks; after it: state, parent, group, session
                fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == leader:
                    found.append(int(folder.name))
    return found
