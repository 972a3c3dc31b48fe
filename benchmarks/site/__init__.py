"""The report as static pages: no script, nothing from elsewhere, all from records.

``write_site`` makes a front page, a page for each data set, the Markdown tables and one table of all records.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError
from gbdt2nn.files import replaced

Record = Mapping[str, Any]


def write_site(found: Sequence[Record], out: Path) -> list[Path]:
    """Write the pages of records.

    Each file is written whole or not at all, the front page last; other files in the folder stay as they are.

    Parameters
    ----------
    found : sequence of records
        As `benchmarks.records.read_all` gives them.
    out : Path
        A folder, made where there is none.

    Returns
    -------
    paths : list of Path
        What was written.

    Raises
    ------
    BenchmarkError
        If two records hold the same result, jinja2 is not installed, or a file cannot be written.
    """
    try:
        import jinja2  # noqa: F401  (asked for here, so that its absence is one sentence)
    except ImportError as error:
        raise BenchmarkError('--html needs jinja2: pip install "gbdt2nn[report]"') from error
    from benchmarks.site.pages import files

    made = files(found)  # all of it before anything is written
    return [write_file(out / name, text) for name, text in made.items()]


def write_file(path: Path, text: str) -> Path:
    """Write one file atomically, with the folders above it.

    Raises
    ------
    BenchmarkError
        If it cannot be written; what was there before stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        with replaced(path) as unfinished:
            unfinished.write_bytes(text.encode("utf-8"))
            os.chmod(unfinished, 0o644)
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be written: {error.strerror or error}") from error
    return path
