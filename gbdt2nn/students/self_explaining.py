"""A network whose score is its base value plus the sum of its attributions."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from gbdt2nn.interactions import WIDE, TableLayout
from gbdt2nn.joint_loss import Explained
from gbdt2nn.students.code_encoding import ResidualTrunk, linear
from gbdt2nn.students.table_sum import TableSum

PAIR_BINS = 128  # twice those of tables alone: refit after refit, ever more rows stand behind a cell


class SelfExplaining(nn.Module):
    """Score = base value + sum of attributions, by construction.

    The attribution of feature j is what a table says of its code alone (the wide part: the main effect), plus what the
    network says of the whole row. Each attribution depends on all inputs, so this is not an additive model in the sense
    of a GAM; it is of the family of Alkhatib et al. (2025, arXiv 2505.04775), taught by a tree ensemble.

    Parameters
    ----------
    columns : sequence of ndarray of shape (n_codes, n_columns)
        What stands for the codes of each feature, from `encoding_columns`.
    base_value : array-like of shape (n_outputs,)
        Raw score before any feature is credited.
    score_scale : array-like of shape (n_outputs,)
        Unit of the raw score: its standard deviation over the training rows.
    attribution_mean, attribution_scale : array-like of shape (n_outputs, n_features), optional
        Where the network's part of the attributions starts and its unit, raw score. Without them (no explanation is
        used) the start is 0 and the unit the score's, shared evenly.
    tables : sequence of ndarray of shape (n_codes, n_outputs), optional
        Initial main effects, raw score; zero by default. They go on learning.
    choose_tables : callable, optional
        ``(n_pairs=, n_triples=, pair_bins=, triple_bins=) -> TableLayout``, such as
        `gbdt2nn.interactions.table_layout` of a teacher. Without it there are main effects only.
    used : ndarray of bool of shape (n_outputs, n_features), optional
        Features that the teacher's trees use; all others get exactly 0.
    n_pairs, n_triples : int or "auto", default="auto"
        How many tables over two and over three features.
    pair_bins, triple_bins : int or "auto", default="auto"
        Bins of a feature in those tables, at most. "auto": 128 in pairs where there is one output of fewer than 16
        features.
    width, depth : int, default=256, 3
    seed : int, default=0
        Of the initial weights; the trunk and the head draw from generators of their own.

    Shape
    -----
    input : (batch, n_features), integer codes
    score : (batch, n_outputs)
    attribution : (batch, n_outputs, n_features), or (batch, 1, n_features) of the target output
    """

    complete = True
    has_tables = True
    learns_by_gradient = True
    learns_by_muon = True
    refits_tables = True

    def __init__(
        self,
        columns: Sequence[NDArray[np.float32]],
        *,
        base_value: ArrayLike,
        score_scale: ArrayLike,
        attribution_mean: ArrayLike | None = None,
        attribution_scale: ArrayLike | None = None,
        tables: Sequence[NDArray[np.float64]] | None = None,
        choose_tables: Callable[..., TableLayout] | None = None,
        used: NDArray[np.bool_] | None = None,
        n_pairs: int | str = "auto",
        n_triples: int | str = "auto",
        pair_bins: int | str = "auto",
        triple_bins: int | str = "auto",
        width: int = 256,
        depth: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        base = torch.as_tensor(np.asarray(base_value, np.float64), dtype=torch.float32)
        scale = torch.as_tensor(np.asarray(score_scale, np.float64), dtype=torch.float32)
        self.n_outputs, self.n_features = len(base), len(columns)
        sizes = [len(table) for table in columns]
        self.base_value: Tensor
        self.score_scale: Tensor
        self.attribution_scale: Tensor
        self.register_buffer("base_value", base)
        self.register_buffer("score_scale", scale)
        shape = (self.n_outputs, self.n_features)
        mask = np.ones(shape, bool) if used is None else used
        self.used: Tensor
        self.register_buffer("used", torch.as_tensor(mask, dtype=torch.float32))
        even = np.full(shape, 1.0 / max(1, self.n_features) ** 0.5)
        relative = even if attribution_scale is None else np.asarray(attribution_scale) / scale.numpy()[:, None]
        self.register_buffer("attribution_scale", torch.as_tensor(relative, dtype=torch.float32))
        self.trunk = ResidualTrunk(columns, width=width, depth=depth, generator=torch.Generator().manual_seed(2 * seed))
        head = torch.Generator().manual_seed(2 * seed + 1)
        self.head = linear(width, self.n_outputs * self.n_features, head, gain=0.1)
        if attribution_mean is not None:
            start = np.asarray(attribution_mean) / scale.numpy()[:, None] / np.where(relative > 0, relative, 1.0)
            with torch.no_grad():
                self.head.bias.copy_(torch.as_tensor(start, dtype=torch.float32).flatten())
        if choose_tables is None:
            layout = TableLayout.of_main_effects(sizes)
        else:
            if pair_bins == "auto" and self.n_outputs == 1 and mask.any(0).sum() < WIDE:
                pair_bins = PAIR_BINS
            layout = choose_tables(n_pairs=n_pairs, n_triples=n_triples, pair_bins=pair_bins, triple_bins=triple_bins)
        self.tables = TableSum(layout, scale.numpy(), used=mask)
        if layout.n_interactions:  # least squares fits them again and again; main effects alone learn by gradient
            self.tables.requires_grad_(False)
        self.tables_apart = False
        if tables is not None:
            with torch.no_grad():
                self.tables.main.copy_(torch.as_tensor(np.concatenate(tables)) / scale)

    def at_positions(self, positions: Tensor) -> Explained:
        """Score and attributions of rows that stand between codes: the student with a gradient in its numbers.

        Shape
        -----
        input : (batch, n_features), real
        """
        network = self.head(self.trunk.at_positions(positions)).unflatten(1, (self.n_outputs, self.n_features))
        unit = self.attribution_scale * self.used * self.score_scale[:, None]
        attribution = network * unit + self.tables.at_positions(positions)
        return Explained(self.base_value + attribution.sum(2), attribution)

    def forward(self, codes: Tensor, target: Tensor | None = None, *, explain: bool = True) -> Explained:
        network = self.head(self.trunk(codes)).unflatten(1, (self.n_outputs, self.n_features))
        attribution = network * (self.attribution_scale * self.used * self.score_scale[:, None])
        if not (self.training and self.tables_apart):
            attribution = attribution + self.tables(codes)  # (batch, n_outputs, n_features), raw score
        score = self.base_value + attribution.sum(2)
        if target is not None:
            attribution = attribution[torch.arange(len(target), device=target.device), target].unsqueeze(1)
        return Explained(score, attribution)
