"""A plain network with a score head and a separate attribution head: explanation as a literal auxiliary task."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from gbdt2nn.joint_loss import Explained
from gbdt2nn.students.code_encoding import ResidualTrunk, linear


class MLP(nn.Module):
    """Two heads on one trunk: the score, and the attributions beside it.

    Nothing ties the two together, so base value + sum of attributions misses the score by a gap that
    `gbdt2nn.fidelity` reports. The heads draw their initial weights from generators of their own: with
    ``explanation_weight=0`` the score's training is the same to the bit as that of a network without the second head.

    Parameters and shapes are those of `SelfExplaining`; it has no tables, and takes none.
    """

    complete = False
    has_tables = False
    learns_by_gradient = True
    learns_by_muon = True

    def __init__(
        self,
        columns: Sequence[NDArray[np.float32]],
        *,
        base_value: ArrayLike,
        score_scale: ArrayLike,
        attribution_mean: ArrayLike | None = None,
        attribution_scale: ArrayLike | None = None,
        tables: Sequence[NDArray[np.float64]] | None = None,
        used: NDArray[np.bool_] | None = None,
        width: int = 256,
        depth: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        base = torch.as_tensor(np.asarray(base_value, np.float64), dtype=torch.float32)
        scale = torch.as_tensor(np.asarray(score_scale, np.float64), dtype=torch.float32)
        self.n_outputs, self.n_features = len(base), len(columns)
        self.base_value: Tensor
        self.score_scale: Tensor
        self.attribution_mean: Tensor
        self.attribution_scale: Tensor
        self.register_buffer("base_value", base)
        self.register_buffer("score_scale", scale)
        shape = (self.n_outputs, self.n_features)
        mask = np.ones(shape, bool) if used is None else used
        self.used: Tensor
        self.register_buffer("used", torch.as_tensor(mask, dtype=torch.float32))
        mean = np.zeros(shape) if attribution_mean is None else np.asarray(attribution_mean)
        unit = np.ones(shape) if attribution_scale is None else np.asarray(attribution_scale)
        self.register_buffer("attribution_mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("attribution_scale", torch.as_tensor(unit, dtype=torch.float32))
        self.trunk = ResidualTrunk(columns, width=width, depth=depth, generator=torch.Generator().manual_seed(2 * seed))
        self.score_head = linear(width, self.n_outputs, torch.Generator().manual_seed(2 * seed + 1), gain=0.1)
        attributions = torch.Generator().manual_seed(2 * seed + 3)
        self.attribution_head = linear(width, self.n_outputs * self.n_features, attributions, gain=0.1)

    def at_positions(self, positions: Tensor) -> Explained:
        """Score and attributions of rows that stand between codes, shape (batch, n_features)."""
        return self._answer(self.trunk.at_positions(positions), None, True)

    def forward(self, codes: Tensor, target: Tensor | None = None, *, explain: bool = True) -> Explained:
        return self._answer(self.trunk(codes), target, explain)

    def _answer(self, hidden: Tensor, target: Tensor | None, explain: bool) -> Explained:
        score = self.base_value + self.score_scale * self.score_head(hidden)
        if not explain:
            return Explained(score, None)
        attribution = self.attribution_head(hidden).unflatten(1, (self.n_outputs, self.n_features))
        attribution = (self.attribution_mean + self.attribution_scale * attribution) * self.used
        if target is not None:
            attribution = attribution[torch.arange(len(target), device=target.device), target].unsqueeze(1)
        return Explained(score, attribution)
