"""Interaction tables beside a network, fitted again and again, while it learns, to what it leaves."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch

from gbdt2nn.backfitting import fit_tables
from gbdt2nn.batches import Tensors
from gbdt2nn.clock import now
from gbdt2nn.interactions import TableLayout

FIRST = 150  # the step of the first refit
RATIO = (
    2.5  # each refit is at so many times the step of the one before: a run of any length meets them at about the same
)
MANY_FIRST, MANY_RATIO = 500, 3.0  # with several outputs tables carry more, and cost more: they begin at step 0
APART = 50  # steps, at least, between a refit and the one before the learning rate falls
FIRST_SWEEPS, SWEEPS, LAST_SWEEPS = 2, 1, 3
RIDGE = 4.0
ROWS = 8192  # that the student is asked about at once
SECONDS_A_ROW, SECONDS_A_LOOK = 6e-6, 2e-9  # what a time budget expects of a refit until it has seen one


def refit_steps(n_outputs: int = 1) -> Iterator[int]:
    """The steps before which tables are fitted again."""
    if n_outputs == 1:
        return (round(FIRST * RATIO**number) for number in count())
    return (round(MANY_FIRST * MANY_RATIO**number) if number >= 0 else 0 for number in count(-1))


class TableRefits:
    """Least squares of what a network leaves of the attributions, by a student's tables, at fixed steps.

    The tables are not part of the training steps: what they explain is taken out of the targets, once for each row and refit,
    and the network learns what is left.

    Parameters
    ----------
    student : nn.Module
        With ``tables``, a `TableSum`, and a switch ``tables_apart``: whether, in training mode, its answers leave them out.
    apart : bool
        Take what tables explain out of the targets. It must not be where labels are learned too: the label term needs the
        whole score.
    """

    def __init__(self, student: Any, *, apart: bool) -> None:
        self.student, self.apart = student, apart
        student.tables_apart = apart
        self.steps = refit_steps(student.n_outputs)
        self.n_refits, self.pace, self.last_step = 0, 1.0, -APART
        self.next_step = next(self.steps)

    def due(self, step: int) -> bool:
        """Whether tables are to be fitted before this step; asked at every step."""
        if step < self.next_step:
            return False
        self.next_step, self.last_step = next(self.steps), step
        return True

    def before_fall(self, step: int, rows: Tensors) -> None:
        """The last refit where there are several outputs: the network settles on it while its learning rate falls."""
        if self.student.n_outputs > 1 and self.apart and step - self.last_step >= APART:
            self.refit(rows)

    def last(self, rows: Tensors) -> None:
        """The refit after the last step, of every table, where there is one output."""
        if self.student.n_outputs == 1:
            self.refit(rows, whole=True)

    def seconds_of_last(self, n_rows: int) -> float:
        """About how many seconds the refit that ends them will take on so many rows, by what the refit before it took."""
        if self.student.n_outputs > 1 and not self.apart:
            return 0.0
        whole = self.student.n_outputs == 1
        return self.pace * self._work(n_rows, self._n_sweeps(whole=whole), self._layout(whole=whole))

    def seconds_of_next(self, step: int, n_rows: int) -> float:
        """About how many seconds the refit will take that is due before this step; 0 where none is."""
        if step < self.next_step:
            return 0.0
        return self.pace * self._work(n_rows, self._n_sweeps(whole=False), self._layout(whole=False))

    def _n_sweeps(self, *, whole: bool) -> int:
        return LAST_SWEEPS if whole else SWEEPS if self.n_refits else FIRST_SWEEPS

    def _layout(self, *, whole: bool) -> TableLayout:
        layout: TableLayout = self.student.tables.layout
        return layout if whole or self.student.n_outputs > 1 else layout.pairs_only

    def _work(self, n_rows: int, n_sweeps: int, layout: TableLayout) -> float:
        """Seconds of a refit on a processor of some speed: the student is asked once, each table looked at in each sweep."""
        looks = self.student.n_outputs * (layout.n_features + layout.pairs.size + layout.triples.size)
        return n_rows * (SECONDS_A_ROW + SECONDS_A_LOOK * n_sweeps * looks) / torch.get_num_threads()

    def refit(self, rows: Tensors, *, whole: bool = False) -> None:
        """Fit increments of the tables to what the student leaves of the rows' attributions, and shift the targets.

        Tables over triples are left to the last refit where there is one output: a network learns what they would say, and
        better while they do not say it; in the end they take what it did not learn.
        """
        assert rows.attribution is not None
        began, tables = now(), self.student.tables
        layout, n_sweeps = self._layout(whole=whole), self._n_sweeps(whole=whole)
        known = torch.isfinite(rows.attribution[:, 0, 0]).cpu().numpy()
        codes = rows.codes[: len(known)]
        parts = zip(codes.split(ROWS), rows.attribution.split(ROWS), strict=True)
        rest = np.concatenate([self._rest(*part) for part in parts])[known]
        weight = rows.weight[: len(known)].cpu().numpy().astype(np.float64)
        explained = torch.as_tensor(np.flatnonzero(known), device=rows.score.device)
        if self.apart:
            self._add(rows, explained, rest, -1.0)
        more = fit_tables(
            codes.cpu().numpy()[known],
            rest,
            weight[known],
            layout,
            n_sweeps=n_sweeps,
            ridge=RIDGE,
            overwrite=True,
            n_jobs=torch.get_num_threads(),
        )
        tables.add_tables(more)
        self.n_refits += 1
        if self.apart:
            self._add(rows, explained, rest, 1.0)  # what is left of it
            other = torch.ones(len(rows.score), dtype=torch.bool)
            other[explained.cpu()] = False
            if other.any():
                scored = other.nonzero().flatten().to(rows.score.device)
                part = tables.of(more)(rows.codes[scored]).sum(2)
                rows.score.index_add_(0, scored, part, alpha=-1)
        self.pace = (now() - began) / self._work(len(rows.codes), n_sweeps, layout)

    def shift(self, rows: Tensors) -> None:
        """Take what the tables, as they are, explain out of the targets of new rows."""
        if not self.apart:
            return
        n_explained = 0 if rows.attribution is None else len(rows.attribution)
        # before the first refit there is nothing in tables over several features: with many outputs a look at them takes long
        tables = self.student.tables if self.n_refits else self.student.tables.main_effects()
        with torch.no_grad():
            for start in range(0, len(rows.codes), ROWS):
                share = tables(rows.codes[start : start + ROWS])
                rows.score[start : start + ROWS] -= share.sum(2)
                if start < n_explained and rows.attribution is not None:
                    end = min(start + ROWS, n_explained)
                    rows.attribution[start:end] -= share[: end - start]

    def _add(self, rows: Tensors, chosen: torch.Tensor, rest: np.ndarray, sign: float) -> None:
        assert rows.attribution is not None
        more = torch.as_tensor(rest, device=rows.score.device)
        rows.attribution.index_add_(0, chosen, more, alpha=sign)
        rows.score.index_add_(0, chosen, more.sum(2), alpha=sign)

    def _rest(self, codes: torch.Tensor, attribution: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return (attribution - self.student(codes).attribution).cpu().numpy()
