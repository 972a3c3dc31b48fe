"""What takes the steps: AdamW, and Muon for the square matrices inside a network."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

# Odd polynomials, one a round, whose composition brings [SMALLEST, 1] as near to 1 as three of fifth degree can, each the
# best for what the one before leaves (Amsel et al. 2025, "The Polar Express", arXiv 2505.16932)
ROUNDS = (
    (8.093369, -23.620432, 17.446152),
    (3.636586, -2.721927, 0.536546),
    (2.661300, -1.977155, 0.452616),
)
SMALLEST, REACHED = 0.01, (0.731, 1.269)


def adamw(learning_rate: float = 3e-3, weight_decay: float = 1e-4) -> Optimizer:
    """AdamW; parameters with fewer than two axes, and those marked ``no_decay``, are not decayed."""

    def build(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        decayed = [p for p in parameters if p.ndim > 1 and not getattr(p, "no_decay", False)]
        plain = [p for p in parameters if p.ndim <= 1 or getattr(p, "no_decay", False)]
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=(0.9, 0.99))

    return build


def muon(
    learning_rate: float = 4e-3,
    weight_decay: float = 1e-4,
    momentum: float = 0.95,
    dtype: torch.dtype = torch.float32,
) -> Optimizer:
    """Muon (Jordan et al. 2024) for the square matrices, AdamW for the rest, at one learning rate.

    The step of a matrix is its momentum with all singular values brought near 1, scaled to AdamW's usual size (Liu et al.
    2025, arXiv 2502.16982). Square matrices are those of layers inside a network; the first and the last layer, tables and
    biases have other shapes.

    Notes
    -----
    The matrices of one shape go through the rounds in one batch; ``torch.optim.Muon`` takes them one by one, and five rounds.
    """

    def build(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        square = [
            p for p in parameters if p.ndim == 2 and p.shape[0] == p.shape[1] and not getattr(p, "no_decay", False)
        ]
        chosen = {id(p) for p in square}
        rest = [p for p in parameters if id(p) not in chosen]
        other = adamw(learning_rate, weight_decay)(rest) if rest else None
        return _Muon(square, other, learning_rate, weight_decay, momentum, dtype) if square or other is None else other

    return build


class _Muon(torch.optim.Optimizer):
    """Muon for some parameters, and another optimiser, whose groups it lists among its own, for others."""

    def __init__(
        self,
        parameters: list[nn.Parameter],
        other: torch.optim.Optimizer | None,
        learning_rate: float,
        weight_decay: float,
        momentum: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(parameters, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum})
        self.other, self.dtype = other, dtype
        self.own = list(self.param_groups)
        if other is not None:
            self.param_groups.extend(other.param_groups)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.own:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, members in by_shape.items():
                steps = orthogonal(torch.stack([self._momentum(p, group["momentum"]) for p in members]), self.dtype)
                for parameter, step in zip(members, steps, strict=True):
                    parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                    parameter.add_(step, alpha=-0.2 * shape[0] ** 0.5 * group["lr"])
        if self.other is not None:
            self.other.step()

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        kept = state["momentum"].lerp_(parameter.grad, 1.0 - momentum)
        return parameter.grad.lerp(kept, momentum)  # Nesterov's


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Bring the singular values of square matrices near 1, by rounds of matrix polynomials.

    Parameters
    ----------
    matrices : Tensor of shape (n, size, size)
    dtype : torch.dtype
        Of the rounds.

    Returns
    -------
    orthogonal : Tensor of shape (n, size, size)
        Singular values within `REACHED`, of those that were above `SMALLEST` of the matrix's norm; smaller ones grow up to
        78 times.
    """
    x = matrices.to(dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in ROUNDS:
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)
