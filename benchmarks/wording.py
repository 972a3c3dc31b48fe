"""Parts of sentences that several messages share."""

import difflib
from collections.abc import Iterable
from typing import Any


def near(names: Iterable[str], choices: Iterable[Any], cutoff: float = 0.6) -> str:
    """Return the choices that look like the names, as a part of a sentence; "" where none does.

    Examples
    --------
    >>> near(["prise"], ["price", "size"])
    " (near it: 'price')"
    """
    lower = {str(choice).lower(): str(choice) for choice in choices}
    found = [lower[hit] for name in names for hit in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=cutoff)]
    return f" (near it: {', '.join(repr(choice) for choice in dict.fromkeys(found))})" if found else ""


def number_of(count: int, what: str) -> str:
    """Return a count with its noun, which takes an s where there are several.

    Examples
    --------
    >>> number_of(1, "row"), number_of(3, "row")
    ('1 row', '3 rows')
    """
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
