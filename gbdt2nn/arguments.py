"""Arguments: checks whose errors name the argument, what is expected and what came; and what `n_jobs` means."""

import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np


def check_number(
    name: str, value: Any, *, low: float, inclusive: bool = True, integer: bool = False, none: bool = False
) -> None:
    """Refuse what is not a finite number of at least (or more than) ``low``."""
    if none and value is None:
        return
    kind = Integral if integer else Real
    bound = f"{'at least' if inclusive else 'more than'} {low:g}"
    expected = f"{name} must be {'an integer' if integer else 'a number'} of {bound}{' or None' if none else ''}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        raise TypeError(f"{expected}, got {value!r} of type {type(value).__name__}")
    if not np.isfinite(float(value)) or value < low or (not inclusive and value == low):
        raise ValueError(f"{expected}, got {value!r}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse what is not one of the names."""
    listed = sorted(choices)
    if not isinstance(value, str) or value not in listed:
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"{name} must be one of {listed}, got {value!r}")


def check_mapping(name: str, value: Any) -> None:
    """Refuse what is neither None nor a mapping with names as keys."""
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a mapping from names to values or None, got {value!r}")


def thread_count(n_jobs: int) -> int:
    """Threads that a number of jobs means: negative numbers count from all usable cores down."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)
