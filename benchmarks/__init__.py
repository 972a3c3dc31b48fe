"""Benchmarks of gbdt2nn, run from a checkout: ``python -m benchmarks list``.

Everything here goes through the public names of gbdt2nn. A result is one JSON record per data set, method and seed;
tables are made from records.
"""


class BenchmarkError(ValueError):
    """A request, a data file or a record that cannot be used; its message is one sentence for the caller."""


class Lacking(Exception):  # noqa: N818  it is no error of the method
    """A method that cannot be run here: a package is absent, or it has no answer to the task. It gets no record."""
