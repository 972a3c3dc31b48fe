"""The worker process: it takes one task after another, says what happens, and ends with whoever started it.

Nothing heavy is imported at the top: the watch over the parent stands before the libraries load.
"""

import ctypes
import faulthandler
import os
import signal
import sys
import threading
from multiprocessing import connection, parent_process
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def serve(link: connection.Connection, log: Path) -> None:
    """Run the tasks that come over the link until it says None.

    Parameters
    ----------
    link : Connection
        Takes tasks; gives ``("ready", resident memory)``, once the libraries are loaded and warm, `Event` objects
        of the task, and ``"idle"`` after the last of them.
    log : Path
        Where everything goes that is printed here.
    """
    _end_with_the_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _print_into(log)

    from benchmarks import cell, memory
    from benchmarks.methods import METHODS
    from benchmarks.results import results

    cell.warm_up_once()
    link.send(("ready", memory.resident(os.getpid())))
    while (task := link.recv()) is not None:
        for event in results(task, METHODS):
            link.send(event)
        link.send("idle")


def _end_with_the_parent() -> None:
    """Lead a session of one's own, so that offspring can be ended too, and die when the parent does."""
    if hasattr(os, "setsid"):
        os.setsid()
    if sys.platform == "linux":
        # by the kernel: a thread would wait for compiled code to give the interpreter back
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    # elsewhere, and where the parent had died before the kernel was asked
    threading.Thread(target=watch, daemon=True).start()


def _print_into(log: Path) -> None:
    """Send standard output and error, of compiled code too, into a file; a crash writes where Python was."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()
