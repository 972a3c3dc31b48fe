"""A fitted model behind one face: its trees, its own answers, and the attributions of rows by the quicker of two ways."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.arguments import thread_count
from gbdt2nn.attributions.tree_path import tree_path
from gbdt2nn.binning import Binner
from gbdt2nn.compilation import is_warm
from gbdt2nn.row_intake import FLOATS, Codes, RowReader, blocks, check_codes, digest_of, rows_of
from gbdt2nn.small_jobs import EXACT_LIBRARIES, FEW_ROWS, SECONDS_TO_WARM, LibraryCall, LibraryCost
from gbdt2nn.teachers import LIBRARIES, library_of
from gbdt2nn.trees import TreeEnsemble

if TYPE_CHECKING:
    from gbdt2nn.attributions.tree_shap.engine import TreeShap

Array = NDArray[np.float64]

CHECKED = 256  # rows of the first call whose attributions are held against the model's own raw score
TABLE_MEMORY = 64 * 2**20  # bytes of the engine's tables that are held at once
MANY = 1 << 16  # rows in all that a prepared explainer is asked for, at the least: what is built pays over its calls
TOLERANCE = 1e-4  # of the scores' size: XGBoost's own are in single precision
EXACT = 1e-12  # the same, of LightGBM's own attributions, which are in double precision


class Trees(NamedTuple):
    """A model's trees as they are read, what bins for them, and what tells its codes from others."""

    ensemble: TreeEnsemble
    binner: Binner
    digest: str


class FittedModel:
    """A model that can be explained.

    Parameters
    ----------
    model : estimator or Booster
        Fitted. An estimator that is fitted again later is not followed.
    n_iterations : int or None
        Boosting rounds; None for those that the model's own ``predict`` uses.
    n_jobs : int
    precision : str
    table_memory : int

    Attributes
    ----------
    description : TeacherDescription
    n_iterations : int
    reader : RowReader
    plan : Plan, LibraryCall or None
        How the last rows were explained.
    """

    def __init__(
        self,
        model: Any,
        *,
        n_iterations: int | None = None,
        n_jobs: int = 1,
        precision: str = "float64",
        table_memory: int = TABLE_MEMORY,
    ) -> None:
        with _naming_the_model():
            library = library_of(model)
            if not library.is_fitted(model):
                raise ValueError(f"model must be fitted, got a {type(model).__name__} that is not")
            library.check_explainable(model)
            self.description = library.describe(model)
        # a fit of the caller's estimator gives it another Booster; a shallow copy keeps this one
        self.model = model if library.is_booster(model) else copy.copy(model)
        self.n_iterations = self.description.n_iterations if n_iterations is None else int(n_iterations)
        self.n_threads = thread_count(n_jobs)
        self.precision = precision
        self.table_memory = table_memory
        self.reader = RowReader(self.description)
        self.plan: Any = None
        self._trees: Trees | None = None
        self._engine: TreeShap | None = None
        self._base_value: Array | None = None
        self._first_cost: LibraryCost | None = None
        self._cost: LibraryCost | None = None
        self._is_library_exact = library.NAME in EXACT_LIBRARIES
        self._n_asked = 0  # rows that the library was asked to explain
        self._has_begun = False  # whether the engine has
        self._is_checked = False
        if n_iterations is not None:
            self.trees()  # refuses more rounds than there are

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: the model and its trees, without compiled code and tables."""
        return self.__dict__ | {"_engine": None, "_has_begun": False, "_is_checked": False}

    def __deepcopy__(self, memo: dict[int, Any]) -> "FittedModel":
        # The model is shared: nothing here changes it, and a deep copy of LightGBM's Booster is another model.
        return copy.copy(self)

    @property
    def library(self) -> ModuleType:
        """The room that reads this model."""
        return LIBRARIES[self.description.library]

    @property
    def n_trees(self) -> int | None:
        """Trees over all outputs, once they are read."""
        return None if self._trees is None else self._trees.ensemble.n_trees

    @property
    def base_value(self) -> Array:
        """Mean raw score by covers, of shape (n_outputs,): one and the same for good."""
        if self._base_value is None:
            self._base_value = np.array(self.engine().base_value)
        return self._base_value

    def trees(self) -> Trees:
        """The trees, read once."""
        if self._trees is None:
            with _naming_the_model():
                ensemble = self.library.parse(self.model, n_iterations=self.n_iterations)
            binner = Binner.from_ensemble(ensemble)
            self._trees = Trees(ensemble, binner, digest_of(binner))
        return self._trees

    def engine(self) -> "TreeShap":
        """The engine, not compiled or built before it is asked."""
        if self._engine is None:
            from gbdt2nn.attributions.tree_shap.engine import TreeShap  # imports numba, which takes a while

            ensemble, binner, _ = self.trees()
            with _naming_the_model():
                self._engine = TreeShap(ensemble, binner, table_memory=self.table_memory)
        return self._engine

    def prepare(self, n_samples: int) -> None:
        """Compile and build for many calls of so many rows; from now on the engine explains, and keeps to this plan."""
        engine = self.engine()
        engine.prepare(max(n_samples, MANY), n_jobs=self.n_threads)
        _, binner, _ = self.trees()
        codes = np.zeros((1, binner.n_features), dtype=binner.dtype)
        engine.attributions(codes, precision=self.precision)  # loads what only a row needs
        for dtype in FLOATS:
            binner.kernel(dtype).load()
        self._has_begun = True

    def n_samples(self, X: Any) -> int | None:
        """Rows of a table or of codes; None of what must be read to be counted."""
        return len(X) if isinstance(X, Codes) else self.reader.n_samples(X)

    def codes(self, X: Any) -> NDArray[np.unsignedinteger]:
        """Rows as codes of shape (n_samples, n_features)."""
        _, binner, digest = self.trees()
        if isinstance(X, Codes):
            check_codes(X, binner, digest)
            return X.array
        return self.reader.codes(X, binner, n_jobs=self.n_threads)

    def numbers(self, X: Any, rows: slice = slice(None)) -> Array:
        """Rows as numbers that the library reads as it would the table; of codes, numbers that have these codes."""
        if isinstance(X, Codes):
            _, binner, digest = self.trees()
            check_codes(X, binner, digest)
            return rows_of(X.array[rows], binner)
        return self.reader.numbers(X, rows)

    def explain(self, X: Any, attribution: NDArray[Any], check: bool | None) -> None:
        """Write exact attributions of rows.

        Parameters
        ----------
        X : table or Codes of shape (n_samples, n_features)
        attribution : ndarray of shape (n_samples, n_outputs, n_features)
            Where to.
        check : bool or None
            Whether to hold them against the model's own raw score; None for the first rows of the engine's first call.
            What the library itself says is always held against it.
        """
        n_samples = len(attribution)
        if not isinstance(X, Codes) and self._library_is_sooner(n_samples) and self._library_explains(X, attribution):
            self.plan = LibraryCall(self.description.library, n_samples)
            return
        codes = self.codes(X)
        engine = self.engine()
        if n_samples:
            engine.attributions(codes, n_jobs=self.n_threads, precision=self.precision, out=attribution)
            self._has_begun = True
        self.plan = engine.plan
        if n_samples and (check or (check is None and not self._is_checked)):
            self.check_sums(X, attribution, self.base_value, n_samples if check else min(n_samples, CHECKED))
            self._is_checked = True

    def path_attributions(self, X: Any) -> tuple[Array, Array]:
        """Path attributions of shape (n_samples, n_outputs, n_features), and their base value."""
        self.n_samples(X)
        x = self.numbers(X)
        attribution, base_value = tree_path(self.trees().ensemble, x)
        if len(x):
            self.check_sums(x, attribution, base_value, min(len(x), CHECKED))
        return attribution, base_value

    def check_sums(self, X: Any, attribution: NDArray[Any], base_value: Array, n_checked: int) -> None:
        """Refuse attributions that do not add up to the model's own raw score."""
        for rows in blocks(n_checked, self.description.n_features):
            score = self._ask("raw_score", self.numbers(X, rows))
            gap, scale = _gap(attribution[rows], base_value, score)
            if not gap <= TOLERANCE * scale:
                raise ValueError(
                    f"attributions must add up to the model's own raw score, got a gap of {gap:.3g} where scores are of "
                    f"size {scale:.3g}; this model cannot be explained faithfully"
                )

    def _ask(self, question: str, x: Array) -> Any:
        """What the library itself answers of rows."""
        return getattr(self.library, question)(self.model, x, n_jobs=self.n_threads, n_iterations=self.n_iterations)

    def _library_explains(self, X: Any, attribution: NDArray[Any]) -> bool:
        """Write the library's own attributions, and tell whether they are exact: deep trees cost its algorithm digits."""
        x = self.numbers(X)
        found, base_value = self._ask("native_attributions", x)
        self._n_asked += len(x)
        if len(x):
            gap, scale = _gap(found, base_value, self._ask("raw_score", x))
            self._is_library_exact = gap <= EXACT * scale
        if self._is_library_exact:
            attribution[...] = found
            if self._base_value is None:
                self._base_value = base_value
        return self._is_library_exact

    def _library_is_sooner(self, n_samples: int) -> bool:
        """Whether the library can explain these rows, and those it was asked before, ere the engine would be done."""
        if self._has_begun or not self._is_library_exact:
            return False
        n_samples += self._n_asked
        if self._trees is None and n_samples <= FEW_ROWS:
            return True
        warming = 0.0 if is_warm() else SECONDS_TO_WARM
        if self._trees is None:  # the first round is quick to read, and tells what the engine takes at the least
            if self._first_cost is None:
                with _naming_the_model():
                    first = self.library.parse(self.model, n_iterations=1)
                self._first_cost = LibraryCost.of(first, times=self.n_iterations)
            if self._first_cost.seconds_per_row * n_samples < self._first_cost.seconds_to_read + warming:
                return True
        if self._cost is None:
            self._cost = LibraryCost.of(self.trees().ensemble)
        seconds = self._cost.seconds_per_row * n_samples
        return seconds < warming or seconds < self.engine().seconds_to_start(n_samples)


def _gap(attribution: NDArray[Any], base_value: Array, score: Array) -> tuple[float, float]:
    """How far attributions are from adding up to scores, and the size of what is added up."""
    total = base_value + attribution.sum(axis=2, dtype=np.float64)
    size = np.abs(base_value) + np.abs(attribution).sum(axis=2, dtype=np.float64)
    return float(np.abs(total - score).max()), float(max(1e-12, np.abs(score).max(), size.max()))


@contextmanager
def _naming_the_model() -> Iterator[None]:
    """The readers of models speak of teachers; here the argument is the model."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(str(error).replace("teacher", "model")) from None
