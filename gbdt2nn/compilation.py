"""Compilation: numba makes machine code of a plain function when it is first called, and keeps it on disk.

numba itself is imported at that moment, which takes about a third of a second; making the code takes seconds, loading
it from disk milliseconds. Where nothing can be kept on disk (no folder to write to, a full one, a damaged one), every
process makes the code anew, with the same results.

What is kept on disk belongs to the text of the file the function stands in, and to the processor. Values that a function
takes from other files are compiled in: change the function's own file when they change.
"""

from collections.abc import Callable, Sequence
from threading import Event, Lock
from typing import Any, Literal

State = Literal["loaded", "stored", "cold"]

_warm = Event()


class Kernel:
    """A function that is compiled when it is first called.

    Parameters
    ----------
    function : callable
        Written for numba: it calls nothing that is not compiled.
    signatures : sequence of sequences of str
        The types of the arguments, for each way the function is called: ``"int64"``, ``"float64[::1]"`` (contiguous),
        ``"float64[:, :]"`` (any strides). Arrays are read only, and writable ones are accepted, unless ``"out "`` stands
        before the type.
    options : dict, optional
        Further options of ``numba.njit``.

    Examples
    --------
    >>> import numpy as np
    >>> @compiled([("float64[::1]", "out float64[::1]")])
    ... def double(x, result):
    ...     for i in range(x.shape[0]):
    ...         result[i] = 2 * x[i]
    >>> result = np.empty(2)
    >>> double(np.array([1.0, 2.0]), result)
    >>> result
    array([2., 4.])
    """

    def __init__(
        self,
        function: Callable[..., Any],
        signatures: Sequence[Sequence[str]],
        options: dict[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.signatures = tuple(tuple(signature) for signature in signatures)
        self.options = dict(options or {})
        self._lock = Lock()
        self._compiled: Any = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._compiled or self.load())(*arguments)

    def __repr__(self) -> str:
        return f"Kernel({self.function.__module__}.{self.function.__qualname__}, {self.state()})"

    def load(self) -> Any:
        """Compile the function, or load it from disk.

        Returns
        -------
        function : callable
            numba's own, for the given signatures only.
        """
        with self._lock:  # numba compiles one function at a time; so two threads do not compile this one twice
            if self._compiled is None:
                self._compiled = _compile(self.function, self.signatures, self.options)
                _warm.set()
            return self._compiled

    def state(self) -> State:
        """Tell how far away the compiled function is.

        Returns
        -------
        state : {"loaded", "stored", "cold"}
            ``"loaded"``: the next call runs at once. ``"stored"``: it loads the code from disk, in milliseconds.
            ``"cold"``: it compiles, in seconds. Asking imports numba unless the function is loaded; `is_warm` does not.
        """
        if self._compiled is not None:
            return "loaded"
        return "stored" if _is_stored(self.function, self.signatures, self.options) else "cold"


def compiled(signatures: Sequence[Sequence[str]], **options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a kernel of the function that follows; see :class:`Kernel`.

    Parameters
    ----------
    signatures : sequence of sequences of str
    **options : Any
        Further options of ``numba.njit``.

    Returns
    -------
    decorator : callable
        ``function -> Kernel``.
    """
    return lambda function: Kernel(function, signatures, options)


def is_warm() -> bool:
    """Tell whether this process has loaded a kernel.

    Returns
    -------
    warm : bool
        If not, the first kernel takes half a second more, of which most is the import of numba.
    """
    return _warm.is_set()


def _compile(function: Callable[..., Any], signatures: Sequence[Sequence[str]], options: dict[str, Any]) -> Any:
    types = [_types(signature) for signature in signatures]
    try:
        dispatcher = _dispatcher(function, {**options, "cache": True})
    except RuntimeError:  # no folder that numba may write to
        return _compile_all(_dispatcher(function, options), types)
    try:
        return _compile_all(dispatcher, types)
    except Exception:
        # What is kept on disk cannot be read. A fault of the function itself comes again.
        return _compile_all(_dispatcher(function, options), types)


def _dispatcher(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    import numba

    return numba.njit(**{"nogil": True, "error_model": "numpy", **options})(function)


def _compile_all(dispatcher: Any, types: list[tuple[Any, ...]]) -> Any:
    if not hasattr(dispatcher, "compile"):  # NUMBA_DISABLE_JIT leaves the function as it is
        return dispatcher
    for signature in types:
        try:
            dispatcher.compile(signature)
        except OSError:  # compiled, and not written: a full or a lost folder
            if signature not in dispatcher.overloads:
                raise
    dispatcher.disable_compile()
    return dispatcher


def _is_stored(function: Callable[..., Any], signatures: Sequence[Sequence[str]], options: dict[str, Any]) -> bool:
    """Look into numba's index of what it keeps; where it has none that we can read, nothing is kept."""
    try:
        dispatcher = _dispatcher(function, {**options, "cache": True})
        cache, context = dispatcher._cache, dispatcher.targetctx
        context.refresh()
        index = cache._cache_file._load_index()
        return all(cache._index_key(_types(signature), context.codegen()) in index for signature in signatures)
    except Exception:
        return False


def _types(signature: Sequence[str]) -> tuple[Any, ...]:
    return tuple(_type(text) for text in signature)


def _type(text: str) -> Any:
    """Read the type of one argument."""
    from numba import types

    name, bracket, dimensions = text.removeprefix("out ").replace(" ", "").partition("[")
    scalar = getattr(types, name)
    if not bracket:
        return scalar
    axes = dimensions.removesuffix("]").split(",")
    layout = "C" if axes[-1] == "::1" else "F" if axes[0] == "::1" else "A"
    return types.Array(scalar, len(axes), layout, readonly=not text.startswith("out "))
