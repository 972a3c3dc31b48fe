"""XDistillation on table rows: an autoencoder gives the attributions, and what it knows enters the predictor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from gbdt2nn.joint_loss import Explained
from gbdt2nn.students.code_encoding import CodeEncoding, ResidualTrunk, linear
from gbdt2nn.training import Phase

FUSIONS = ("code", "map", "gate", None)


class XDistillation(nn.Module):
    """A predictor, and an autoencoder beside it whose output is the vector of attributions.

    The tabular twin of XDistillation (Alharbi et al. 2021), a reconstruction: in the paper a convolutional autoencoder
    gives a map of the teacher's explanation, and its features are fused into the student's.

    Nothing ties score and attributions together but the fusion; `gbdt2nn.fidelity` reports the gap. The attributions
    imitate the teacher's: how the predictor itself decides is asked by a post-hoc explainer.

    Parameters and shapes are those of `SelfExplaining`, without tables, and besides:

    Parameters
    ----------
    code_width : int, default=32
        Numbers in the autoencoder's code.
    fusion : {"code", "map", "gate", None}, default="code"
        What enters the predictor beside the row: ``"code"``, the autoencoder's code; ``"map"``, the attributions it
        gives; ``"gate"``, the same as factors between 0.5 and 1.5 of the predictor's hidden units; None, nothing.
    stages : {1, 2}, default=1
        1: everything learns together. 2: the autoencoder alone for the first third, then the predictor alone.
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
        code_width: int = 32,
        fusion: str | None = "code",
        stages: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.check_options({"fusion": fusion, "stages": stages}, 0.0)
        base = torch.as_tensor(np.asarray(base_value, np.float64), dtype=torch.float32)
        scale = torch.as_tensor(np.asarray(score_scale, np.float64), dtype=torch.float32)
        self.n_outputs, self.n_features = len(base), len(columns)
        self.fusion, self.stages = fusion, stages
        self.base_value: Tensor
        self.score_scale: Tensor
        self.attribution_mean: Tensor
        self.attribution_scale: Tensor
        self.used: Tensor
        self.register_buffer("base_value", base)
        self.register_buffer("score_scale", scale)
        shape = (self.n_outputs, self.n_features)
        mask = np.ones(shape, bool) if used is None else used
        mean = np.zeros(shape) if attribution_mean is None else np.asarray(attribution_mean)
        unit = np.ones(shape) if attribution_scale is None else np.asarray(attribution_scale)
        self.register_buffer("used", torch.as_tensor(mask, dtype=torch.float32))
        self.register_buffer("attribution_mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("attribution_scale", torch.as_tensor(unit, dtype=torch.float32))

        n_map = self.n_outputs * self.n_features
        # the trunk and its head draw as they would without an autoencoder
        self.trunk = ResidualTrunk(columns, width=width, depth=depth, generator=torch.Generator().manual_seed(2 * seed))
        self.score_head = linear(width, self.n_outputs, torch.Generator().manual_seed(2 * seed + 1), gain=0.1)
        own = torch.Generator().manual_seed(2 * seed + 3)
        self.autoencoder = nn.ModuleDict(
            {
                "first": CodeEncoding(columns, width, own),
                "code": linear(width, code_width, own),
                "second": linear(code_width, width, own),
                "out": linear(width, n_map, own, gain=0.1),
            }
        )
        self.fused: nn.Linear | None = None
        if fusion == "gate":
            self.fused = linear(n_map, width, own, gain=0.1)
        elif fusion is not None:
            self.fused = linear(code_width if fusion == "code" else n_map, self.n_outputs, own, gain=0.1)

    @classmethod
    def check_options(cls, params: Mapping[str, Any], explanation_weight: float) -> None:
        """Refuse options that no training could follow."""
        if params.get("fusion", "code") not in FUSIONS:
            raise ValueError(f"student_params['fusion'] must be one of {list(FUSIONS)}, got {params['fusion']!r}")
        if params.get("stages", 1) not in (1, 2):
            raise ValueError(f"student_params['stages'] must be 1 or 2, got {params['stages']!r}")

    def phases(self, weights: Mapping[str, float], *, steps_per_epoch: float) -> list[Phase]:
        """One phase, or the autoencoder's and then the predictor's; without explanations there is nothing to begin with."""
        if self.stages == 1 or not weights["explanation"]:
            return [Phase()]
        first = {**dict.fromkeys(weights, 0.0), "explanation": weights["explanation"]}
        return [
            Phase(1 / 3, parameters=lambda s: s.autoencoder.parameters(), weights=first),
            Phase(2 / 3, parameters=XDistillation._of_predictor, weights={"explanation": 0.0}),
        ]

    def _of_predictor(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if not name.startswith("autoencoder.")]

    def forward(self, codes: Tensor, target: Tensor | None = None, *, explain: bool = True) -> Explained:
        codes = codes.long()
        hidden = self.trunk(codes)
        score = self.score_head(hidden)
        if explain or self.fusion is not None:
            code, found = self._imitated(codes)
            if self.fusion == "gate":
                assert self.fused is not None
                score = self.score_head(hidden * (0.5 + self.fused(found).sigmoid()))
            elif self.fused is not None:
                score = score + self.fused(code if self.fusion == "code" else found)
        score = self.base_value + self.score_scale * score
        if not explain:
            return Explained(score, None)
        attribution = found.unflatten(1, (self.n_outputs, self.n_features))  # in units of attribution_scale
        attribution = (self.attribution_mean + self.attribution_scale * attribution) * self.used
        if target is not None:
            attribution = attribution[torch.arange(len(target), device=target.device), target].unsqueeze(1)
        return Explained(score, attribution)

    def _imitated(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Code (batch, code_width) and attributions (batch, n_outputs * n_features) of the autoencoder."""
        hidden = nn.functional.silu(self.autoencoder["first"](codes))
        code = nn.functional.silu(self.autoencoder["code"](hidden))
        return code, self.autoencoder["out"](nn.functional.silu(self.autoencoder["second"](code)))
