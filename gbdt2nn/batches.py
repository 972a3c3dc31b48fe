"""Labelled rows as a student meets them: tensors, and endless batches of them, refreshed while it trains."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gbdt2nn.joint_loss import Batch, Explained
from gbdt2nn.students.tree_groups import RowsWithLeaves

Array = NDArray[np.float64]

VISITS = 3  # how often rows are drawn, on average, for each fresh one that joins them;
VISITS_OF_MANY = 6  # where there are several outputs, whose labels cost more


class LabelledCodes(NamedTuple):
    """Rows as the student meets them.

    Attributes
    ----------
    codes : ndarray of shape (n_samples, n_features), integer
    score : ndarray of shape (n_samples, n_outputs), raw score
    attribution : ndarray of shape (n_explained, n_outputs, n_features), raw score, or None
        Of the first rows, which are all or some.
    weight : ndarray of shape (n_samples,)
    y : ndarray of shape (n_samples,) or None
        Label; NaN where a row has none.
    leaves : ndarray of shape (n_samples, n_trees), integer, or None
        The leaf of each tree, as `leaf_numbers` gives it; for students of the trees themselves.
    """

    codes: NDArray[np.integer]
    score: Array
    attribution: Array | None
    weight: Array
    y: Array | None
    leaves: NDArray[np.integer] | None = None


class Fresh(NamedTuple):
    """Rows without end, labelled by the teacher.

    Attributes
    ----------
    block : callable
        ``number -> LabelledCodes`` of `size` rows, all of them explained if any row is; the same for the same number.
    size : int
    first : int
        The row of the training rows from which on fresh rows take the place of others.
    most : int
        Rows, with all others, that there is room for; the oldest are replaced from there on.
    """

    block: Callable[[int], LabelledCodes]
    size: int
    first: int
    most: int


class Tensors(NamedTuple):
    codes: Tensor
    score: Tensor
    attribution: Tensor | None
    weight: Tensor
    y: Tensor | None
    leaves: Tensor | None = None


def tensors_of(part: LabelledCodes, offset: Array, device: str) -> Tensors:
    def real(array: Array) -> Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=device)

    y = part.y
    if y is not None and offset.any():
        y = y - offset[0]
    return Tensors(
        torch.as_tensor(part.codes.astype(np.int32), device=device),
        real(part.score - offset),
        None if part.attribution is None else real(part.attribution),
        real(part.weight / part.weight.mean()),
        None if y is None else real(y),
        None if part.leaves is None else torch.as_tensor(part.leaves, device=device),
    )


class Refits(Protocol):
    """What changes the targets of rows while a student trains."""

    def due(self, step: int) -> bool: ...
    def refit(self, rows: Tensors) -> None: ...
    def before_fall(self, step: int, rows: Tensors) -> None: ...
    def last(self, rows: Tensors) -> None: ...
    def shift(self, rows: Tensors) -> None: ...


class Batches:
    """Endless batches: every row once a round, in an order drawn from a generator of its own.

    Each time that as many rows have been drawn `VISITS` times, a block of fresh rows joins the others, or takes the place of
    the oldest block where there is no more room. With `TableRefits`, tables are fitted again to what the student leaves. Both
    happen at fixed steps, so that the number of steps repeats a run.
    """

    def __init__(self, rows: Tensors, batch_size: int, seed: int) -> None:
        self.room, self.n_rows = rows, len(rows.codes)
        self.size, self.seed = min(batch_size, self.n_rows), seed
        self.fresh: Fresh | None = None
        self.refits: Refits | None = None
        self.refitting, self.step = True, 0
        self.n_fresh = self.n_replaced = 0

    @property
    def rows(self) -> Tensors:
        """The rows that batches are drawn from: those of the room that hold any."""
        return Tensors._make(None if part is None else part[: self.n_rows] for part in self.room)

    def refresh_from(self, fresh: Fresh, convert: Callable[[LabelledCodes], Tensors]) -> None:
        """Let fresh rows join the others from now on, and take the place of the oldest once there is no more room."""
        most = max(fresh.most, self.n_rows)

        def roomy(part: Tensor | None) -> Tensor | None:
            if part is None:
                return None
            whole = part.new_full((most, *part.shape[1:]), float("nan") if part.is_floating_point() else 0)
            whole[: len(part)] = part
            return whole

        self.room = Tensors._make(roomy(part) for part in self.room)
        self.fresh, self.convert = fresh, convert

    def refit_by(self, refits: Refits) -> None:
        """Let tables be fitted to what the student leaves of the rows."""
        refits.shift(self.rows)
        self.refits = refits

    def begin_fall(self) -> None:
        """Leave tables as they are for the rest of a training: its learning rate falls."""
        if self.refits is not None and self.refitting:
            self.refits.before_fall(self.step, self.rows)
        self.refitting = False

    def last_refit(self) -> None:
        """Fit tables to what the student leaves of the rows in the end."""
        if self.refits is not None:
            self.refits.last(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed)
        self.refitting, self.step = True, 0
        while True:
            n = self.n_rows
            order = torch.randperm(n, generator=generator).to(self.room.codes.device)
            for start in range(0, n - self.size + 1, self.size):
                if self.fresh is not None:
                    self._refresh(self.fresh)
                if self.refits is not None and self.refitting and self.refits.due(self.step):
                    self.refits.refit(self.rows)
                self.step += 1
                rows, chosen = self.room, order[start : start + self.size]
                teacher = Explained(rows.score[chosen], self.attribution(chosen))
                label = None if rows.y is None else rows.y[chosen]
                inputs: Any = rows.codes[chosen]
                if rows.leaves is not None:
                    inputs = RowsWithLeaves(inputs, rows.leaves[chosen])
                yield Batch(inputs, teacher, label, rows.weight[chosen])

    def _refresh(self, fresh: Fresh) -> None:
        """Put the next block of fresh rows in its place, if it is time."""
        visits = VISITS if self.room.score.shape[1] == 1 else VISITS_OF_MANY
        every = max(1, visits * fresh.size // self.size)
        if self.step == 0 or self.step % every:
            return
        block = self.convert(fresh.block(self.n_fresh // fresh.size))
        if self.refits is not None:
            self.refits.shift(block)
        start = self.n_rows
        if start + fresh.size > len(self.room.codes):
            n_slots = (self.n_rows - fresh.first) // fresh.size
            start = fresh.first + self.n_replaced % n_slots * fresh.size
            self.n_replaced += 1
        for old, new in zip(self.room, block, strict=True):
            if old is not None and new is not None:
                old[start : start + fresh.size] = new
        self.n_rows = max(self.n_rows, start + fresh.size)
        self.n_fresh += fresh.size

    def attribution(self, chosen: Tensor) -> Tensor | None:
        """The attributions of rows, NaN in those that are scored only."""
        known = self.room.attribution
        if known is None or len(known) == len(self.room.codes):
            return None if known is None else known[chosen]
        explained = chosen < len(known)
        found = known.new_full((len(chosen), *known.shape[1:]), float("nan"))
        found[explained] = known[chosen[explained]]
        return found
