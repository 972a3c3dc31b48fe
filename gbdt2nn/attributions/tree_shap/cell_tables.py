"""The tables of a plan: where each begins, filled in chunks that keep within a bound of memory."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.attributions.tree_shap.forest import Forest
from gbdt2nn.attributions.tree_shap.lookup import LOOK_UP
from gbdt2nn.attributions.tree_shap.quadrature import nodes_and_weights
from gbdt2nn.attributions.tree_shap.tabulation import MOST_FEATURES, MOST_REPRESENTATIVES, fill, width_of

_LINE = 8  # doubles of a cache line: every table begins at one


@dataclass(frozen=True)
class Tabulated:
    """The subtrees that a plan tabulates, in the order of the trees.

    Attributes
    ----------
    root, joint, width, steps, looked_up : ndarray of shape (n_tables,), int64
        Root node, joint cells, features, steps, and features that are looked up by code.
    output : ndarray of shape (n_tables,), int64
    """

    root: NDArray[np.int64]
    joint: NDArray[np.int64]
    width: NDArray[np.int64]
    steps: NDArray[np.int64]
    looked_up: NDArray[np.int64]
    output: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.root)

    def __getitem__(self, part: slice) -> "Tabulated":
        return Tabulated(
            self.root[part], self.joint[part], self.width[part], self.steps[part], self.looked_up[part],
            self.output[part],
        )  # fmt: skip

    def sizes(self) -> NDArray[np.int64]:
        """Doubles of each table, whole cache lines."""
        widths = np.array([width_of(n) for n in range(MOST_FEATURES + 1)], dtype=np.int64)
        return -(-self.joint * widths[self.width] // _LINE) * _LINE

    def chunks(self, table_memory: int) -> list["Tabulated"]:
        """Cut into runs of tables that each keep within so many bytes; a table larger than that stands alone."""
        if not len(self):
            return []
        n_bytes = 8 * self.sizes()
        cuts, held = [0], 0
        for g, more in enumerate(n_bytes.tolist()):
            if held and held + more > table_memory:
                cuts.append(g)
                held = 0
            held += more
        return [self[start:stop] for start, stop in zip(cuts, [*cuts[1:], len(self)], strict=True)]


@dataclass
class FilledTables:
    """Tables of one chunk, ready to be read."""

    tables: NDArray[np.float64]
    table_start: NDArray[np.int64]
    joint: NDArray[np.int64]
    base: NDArray[np.int64]
    column_start: NDArray[np.int64]
    column: NDArray[np.int64]
    step_start: NDArray[np.int64]
    step_column: NDArray[np.int64]
    step_last: NDArray[np.unsignedinteger]
    step_delta: NDArray[np.int16]
    look_up_start: NDArray[np.int64]
    look_up_column: NDArray[np.int64]
    look_up_row: NDArray[np.int64]
    looked_up: NDArray[np.uint16]
    _rounded: NDArray[np.float32] | None = field(default=None, repr=False)

    def add(
        self,
        codes: NDArray[np.unsignedinteger],
        n_rows: int,
        total: NDArray[np.float64],
        cells: NDArray[np.uint16],
        precision: str,
    ) -> None:
        """Add the attributions of rows of codes (feature by feature) to the columns of total."""
        tables = self.tables if precision == "float64" else self.rounded()
        LOOK_UP[codes.dtype, tables.dtype](
            codes, n_rows, tables, self.table_start, self.joint, self.base, self.column_start, self.column,
            self.step_start, self.step_column, self.step_last, self.step_delta,
            self.look_up_start, self.look_up_column, self.look_up_row, self.looked_up, cells, total,
        )  # fmt: skip

    def rounded(self) -> NDArray[np.float32]:
        """The tables in single precision."""
        if self._rounded is None:
            self._rounded = self.tables.astype(np.float32)
        return self._rounded


def table_room(chunks: list[Tabulated]) -> NDArray[np.float64]:
    """Make a buffer that holds the tables of any one of the chunks, beginning at a cache line."""
    longest = max((int(chunk.sizes().sum()) for chunk in chunks), default=0)
    room = np.empty(longest + _LINE)
    return room[(-room.ctypes.data // 8) % _LINE :]


def fill_tables(
    forest: Forest, chunk: Tabulated, room: NDArray[np.float64], code_type: np.dtype, *, n_jobs: int = 1
) -> FilledTables:
    """Build the tables of one chunk.

    Parameters
    ----------
    forest : Forest
    chunk : Tabulated
    room : ndarray
        From `table_room`; the tables are views of it.
    code_type : dtype
        Of the codes that will be read.
    n_jobs : int
        Threads.

    Returns
    -------
    filled : FilledTables
    """
    n = len(chunk)
    table_start = _offsets(chunk.sizes())
    tables = room[: table_start[-1]]
    column_start, step_start = _offsets(chunk.width), _offsets(chunk.steps)
    look_up_start = _offsets(chunk.looked_up)
    column, base = np.zeros(column_start[-1], np.int64), np.zeros(n, np.int64)
    step_column, step_last, step_delta = (np.zeros(step_start[-1], np.int64) for _ in range(3))
    look_up_column = np.zeros(look_up_start[-1], np.int64)
    few = (forest.by_rows > 0) & (forest.n_codes <= MOST_REPRESENTATIVES)  # no table has more
    row = int(forest.n_codes[few].max(initial=0))
    look_up_row = np.arange(look_up_start[-1]) * row
    looked_up = np.zeros(max(1, look_up_start[-1] * row), np.uint16)
    x, weight = _nodes()

    def work(first: int, last: int) -> None:
        fill(
            first, last, chunk.root, chunk.joint, tables, table_start, column, column_start, base,
            step_column, step_last, step_delta, step_start, look_up_column, look_up_row, look_up_start, looked_up,
            x, weight, forest.feature, forest.last_left, forest.missing_left, forest.left_row, forest.left_codes,
            forest.parent, forest.end, forest.n_codes, forest.missing_code, forest.by_rows, forest.ratio, forest.value,
        )  # fmt: skip

    if n_jobs > 1 and n > 64:
        bounds = np.linspace(0, n, 8 * n_jobs + 1).astype(int).tolist()
        with ThreadPoolExecutor(n_jobs) as pool:
            list(pool.map(work, bounds[:-1], bounds[1:]))
    else:
        work(0, n)
    column += np.repeat(chunk.output, chunk.width) * len(forest.used)
    return FilledTables(
        tables, table_start, chunk.joint, base, column_start, column, step_start, step_column,
        step_last.astype(code_type), step_delta.astype(np.int16), look_up_start, look_up_column, look_up_row, looked_up,
    )  # fmt: skip


@cache
def _nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return nodes_and_weights(MOST_FEATURES // 2)


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
