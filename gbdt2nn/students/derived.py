"""Explanations that are derived from a network: by its gradient, and differentiable themselves.

Training through one of these is double back-propagation (Drucker and Le Cun 1992). Without the graph of the first pass the
term would raise no error and teach nothing, so the graph is kept wherever gradients are recorded.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]


def gradient_x_input(
    score: Score, x: Tensor, baseline: Tensor, *, n_steps: int = 1, target: Tensor | None = None
) -> Tensor:
    """Gradient of each output by each input, times the distance of the input from a baseline.

    Parameters
    ----------
    score : callable
        (batch, n_inputs) -> (batch, n_outputs); no row depends on another.
    x : Tensor of shape (batch, n_inputs)
    baseline : Tensor of shape (n_inputs,)
    n_steps : int
        Not used; there so that both methods are called alike.
    target : Tensor of shape (batch,), int64, optional
        The one output to explain in each row.

    Returns
    -------
    attribution : Tensor of shape (batch, n_outputs, n_inputs), or (batch, 1, n_inputs)

    Examples
    --------
    >>> import torch
    >>> gradient_x_input(lambda x: (x * x).sum(1, keepdim=True), torch.tensor([[1.0, 2.0]]), torch.zeros(2)).detach()
    tensor([[[2., 8.]]])
    """
    return _gradients(score, x, target) * (x - baseline).unsqueeze(1)


def integrated_gradients(
    score: Score, x: Tensor, baseline: Tensor, *, n_steps: int = 8, target: Tensor | None = None
) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) along the straight way from the baseline.

    The integral is the midpoint rule of ``n_steps`` points; attributions then add up to
    ``score(x) - score(baseline)`` as closely as the rule does. Parameters and shapes are those of `gradient_x_input`.

    Examples
    --------
    >>> import torch
    >>> integrated_gradients(lambda x: (x * x).sum(1, keepdim=True), torch.tensor([[1.0, 2.0]]), torch.zeros(2)).detach()
    tensor([[[1., 4.]]])
    """
    way = x - baseline
    share = ((torch.arange(n_steps, device=x.device) + 0.5) / n_steps).to(x)
    points = baseline + share[:, None, None] * way  # (n_steps, batch, n_inputs)
    repeated = None if target is None else target.repeat(n_steps)
    gradients = _gradients(score, points.flatten(0, 1), repeated)  # (n_steps * batch, n_outputs, n_inputs)
    return gradients.unflatten(0, (n_steps, len(x))).mean(0) * way.unsqueeze(1)


def _gradients(score: Score, x: Tensor, target: Tensor | None) -> Tensor:
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out = score(x)  # (batch, n_outputs)
        if target is not None:
            out = out.gather(1, target[:, None])
        parts = [
            torch.autograd.grad(out[:, k].sum(), x, create_graph=keep, retain_graph=True)[0]
            for k in range(out.shape[1])
        ]
    return torch.stack(parts, dim=1)  # (batch, n_outputs, n_inputs)
