"""Downloads that are kept: each file once, whole, with its checksum, in a folder that the user may name.

The folder is ``GBDT2NN_CACHE``, or ``gbdt2nn`` in the platform's own folder for caches. What is there is used without a
network; a file whose checksum has changed on disk is downloaded again.
"""

import hashlib
import http.client
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks import BenchmarkError
from benchmarks.sources.tables import one_line

FOLDER_VARIABLE = "GBDT2NN_CACHE"
TIMEOUT = 30.0  # seconds without a byte
LONGEST = 1800.0  # seconds for one file
PAUSES = (1.0, 3.0)  # seconds before the second and the third try
_CHUNK = 1 << 20
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that another try may better


class UnreachableError(BenchmarkError):
    """The server did not answer, or not with the whole of what was asked for."""


class RefusedError(BenchmarkError):
    """The server answered that it does not give this; ``status`` and ``body`` are its answer."""

    def __init__(self, message: str, status: int, body: bytes) -> None:
        super().__init__(message)
        self.status, self.body = status, body


def folder() -> Path:
    """Return the folder of the cache; it need not exist."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    if sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "gbdt2nn"


def fetch(
    url: str,
    name: str,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    check: Callable[[bytes], None] | None = None,
    network: bool = True,
) -> bytes:
    """Return what a URL holds: from the cache, or downloaded into it.

    Parameters
    ----------
    url : str
        http or https.
    name : str
        Where it is kept, below the folder of the cache.
    sha256, md5 : str, optional
        Checksum that its source publishes.
    check : callable, optional
        Is given the bytes, and raises `BenchmarkError` where they are not what they should be: such are not kept.
    network : bool
        False: only from the cache.

    Raises
    ------
    UnreachableError
        If the server does not answer, or cuts its answer short, three times; or there is no copy and no network.
    RefusedError
        If the server says that there is no such thing.
    BenchmarkError
        If the checksum is another, `check` objects, or the cache cannot be written.
    """
    path = folder() / name
    content = _kept(path, sha256, md5)
    if content is not None:
        return content
    if not network:
        raise UnreachableError(f"{url} has no copy in {folder()}, and cannot be reached")
    content = _download(url)
    _verify(content, url, sha256, md5)
    if check is not None:
        check(content)
    _write(path.with_name(path.name + ".sha256"), hashlib.sha256(content).hexdigest().encode())
    _write(path, content)
    return content


def _kept(path: Path, sha256: str | None, md5: str | None) -> bytes | None:
    """The copy in the cache, if it is what was once written and what its source says it is."""
    try:
        content = path.read_bytes()
        written = path.with_name(path.name + ".sha256").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    found = hashlib.sha256(content).hexdigest()
    if found != written or sha256 not in (None, found) or (md5 is not None and _md5(content) != md5):
        return None
    return content


def _verify(content: bytes, url: str, sha256: str | None, md5: str | None) -> None:
    for kind, expected, found in (
        ("sha256", sha256, hashlib.sha256(content).hexdigest()),
        ("md5", md5, None if md5 is None else _md5(content)),
    ):
        if expected is not None and expected != found:
            raise BenchmarkError(f"{url} should have {kind} {expected}, but has {found}: it is not kept")


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _download(url: str) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise BenchmarkError(f"a URL to download must begin with https:// or http://, got {url!r}")
    for pause in (*PAUSES, None):
        try:
            return _read(url)
        except urllib.error.HTTPError as error:
            with error:
                body = error.read(_CHUNK) if error.code not in _PASSING or pause is None else b""
            if error.code not in _PASSING:
                raise RefusedError(f"{url} answers {error.code} {error.reason}", error.code, body) from error
            reason: object = f"it answers {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:  # URLError, time-outs and resets are of the first kind
            reason = getattr(error, "reason", error)
        except ValueError as error:  # a URL that is none
            raise BenchmarkError(f"{url!r} is no URL that can be read: {one_line(error)}") from error
        if pause is not None:
            time.sleep(pause)
    raise UnreachableError(f"{url} cannot be reached: {one_line(reason)}")


def _read(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "gbdt2nn-benchmarks"})
    end = time.monotonic() + LONGEST
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        parts = []
        while part := answer.read(_CHUNK):
            parts.append(part)
            if time.monotonic() > end:
                raise TimeoutError(f"not done after {LONGEST:g} s")
        expected = answer.headers.get("Content-Length")
    content = b"".join(parts)
    if expected is not None and len(content) != int(expected):
        raise http.client.IncompleteRead(content, int(expected) - len(content))
    return content


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BenchmarkError(
            f"the cache {str(folder())!r} cannot be written ({error.strerror}); name another folder with {FOLDER_VARIABLE}"
        ) from error
