"""Names of files and anchors that any text of a record may become."""

import hashlib
import re


def slug(text: str) -> str:
    """A name of letters, digits, dots, dashes and underscores; one that had to be changed ends in a checksum.

    Examples
    --------
    >>> slug("adult")
    'adult'
    >>> slug("../adult")
    'adult-65d5ba12'
    """
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:60]
    if kept and kept == text:
        return kept
    return f"{kept or 'x'}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def link_of(suite: str, data: str) -> str:
    """The page of a data set, from the front page."""
    return f"data/{slug(suite)}/{slug(data)}.html"
