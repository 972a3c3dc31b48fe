"""Losses that only image classifiers need; the core's own are in `gbdt2nn.joint_loss`."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gbdt2nn.joint_loss import Loss


def multi_label_divergence(temperature: float = 1.0) -> Loss:
    """Divergence of every class's own yes and no, summed over classes, times the squared temperature, in nats.

    Multi-label logit distillation as e2KD uses it: the Kullback-Leibler divergence of ``sigmoid(score / temperature)``
    and of its complement, both clamped to [1e-6, 1 - 1e-6].

    Examples
    --------
    >>> import torch
    >>> multi_label_divergence()(torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, 3.0]]))
    tensor([0.])
    """

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        p = (teacher / temperature).sigmoid().clamp(1e-6, 1 - 1e-6)
        q = (student / temperature).sigmoid().clamp(1e-6, 1 - 1e-6)
        divergence = p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())
        return (divergence.sum(1) * temperature**2).clamp_min(0.0)  # rounding may leave -1e-9

    return loss


def multi_label_cross_entropy() -> Loss:
    """Cross-entropy of every class's own yes and no against labels of 0 and 1, summed over classes, in nats.

    Examples
    --------
    >>> import torch
    >>> multi_label_cross_entropy()(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    tensor([1.3863])
    """

    def loss(student: Tensor, label: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(student, label.to(student.dtype), reduction="none").sum(1)

    return loss


def map_distance(*, sum_maps: bool, normalise: bool = True) -> Loss:
    """Mean squared difference of maps.

    Parameters
    ----------
    sum_maps : bool
        Whether the maps of a row are summed (attention transfer, one map a layer) or averaged (CAT-KD, one map a class).
    normalise : bool, default=True
        Whether each map is divided by its norm before.

    Examples
    --------
    >>> import torch
    >>> distance = map_distance(sum_maps=True)
    >>> distance(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]]))
    tensor([1.])
    """

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        a, b = student.flatten(2), teacher.flatten(2)
        if normalise:
            a, b = F.normalize(a, dim=2), F.normalize(b, dim=2)
        per_map = (a - b).square().mean(2)  # (batch, n_maps)
        return per_map.sum(1) if sum_maps else per_map.mean(1)

    return loss


def energy_outside(attribution: Tensor, mask: Tensor) -> Tensor:
    """One minus the energy pointing game: the share of the positive attribution that lies outside a mask.

    ``1 - sum_hw M A+ / sum_hw A+`` (Rao et al. 2023, arXiv 2303.11932). A map without a positive value gives 0: there is
    nothing to move.

    Parameters
    ----------
    attribution : Tensor of shape (batch, height, width)
    mask : Tensor of shape (batch, height, width), from 0 to 1

    Returns
    -------
    Tensor of shape (batch,)

    Examples
    --------
    >>> import torch
    >>> energy_outside(torch.tensor([[[3.0, 1.0, -5.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]]))
    tensor([0.2500])
    """
    positive = attribution.relu()
    energy = positive.flatten(1).sum(1)
    inside = (positive * mask).flatten(1).sum(1)
    return torch.where(energy > 0, 1 - inside / energy.clamp_min(torch.finfo(energy.dtype).tiny), 0 * energy)


def magnitude_outside(attribution: Tensor, mask: Tensor) -> Tensor:
    """Mean squared attribution outside a mask (Ross et al. 2017, right for the right reasons).

    Examples
    --------
    >>> import torch
    >>> magnitude_outside(torch.tensor([[[3.0, 2.0]]]), torch.tensor([[[1.0, 0.0]]]))
    tensor([2.])
    """
    return (attribution * (1 - mask)).square().flatten(1).mean(1)
