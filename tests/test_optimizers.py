"""Muon for the square matrices, AdamW for the rest."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from torch import nn

from gbdt2nn import Gbdt2NNRegressor
from gbdt2nn.optimizers import REACHED, SMALLEST, adamw, muon, orthogonal


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_come_near_one(dtype):
    matrices = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices, dtype))
    assert values.max() < 1.3
    assert (values > 0.4).float().mean() > 0.95


def test_singular_values_come_where_the_rounds_are_said_to_bring_them():
    """From the smallest share of a matrix's norm that they are made for up to all of it."""
    for share in np.geomspace(SMALLEST, 1.0, 200):
        rest = np.sqrt(1.0 - share**2)  # the matrix has norm 1
        matrix = torch.diag(torch.tensor([share, rest], dtype=torch.float64))[None]
        value = float(orthogonal(matrix, torch.float64)[0, 0, 0])
        assert REACHED[0] - 1e-3 <= value <= REACHED[1] + 1e-3, (share, value)


def test_the_rounds_keep_the_singular_vectors():
    """The step is U V' of the momentum's U S V', as far as the rounds bring S near 1."""
    matrix = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrix[0])
    core = u.T @ orthogonal(matrix, torch.float32)[0] @ v.T
    assert (core - torch.diag(core.diagonal())).abs().max() < 1e-3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 1))


def test_it_learns_faster_than_nothing_and_moves_every_parameter():
    net, x = network(), torch.randn(64, 5, generator=torch.Generator().manual_seed(2))
    y = x[:, :1] * x[:, 1:2]
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = muon(1e-2)(list(net.parameters()))
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_only_square_matrices_take_its_steps():
    """The other parameters move exactly as AdamW alone moves them."""
    one, two = network(), network()
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    for net, build in ((one, muon(1e-2)), (two, adamw(1e-2))):
        optimizer = build(list(net.parameters()))
        net(x).sum().backward()
        optimizer.step()
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert same == [True, True, False, True, True, True]


def test_its_groups_have_a_rate_that_a_schedule_can_set():
    net = network()
    optimizer = muon(1e-2)(list(net.parameters()))
    before = [p.detach().clone() for p in net.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    net(torch.ones(4, 5)).sum().backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_without_square_matrices_it_is_adamw():
    assert isinstance(muon(1e-2)([nn.Parameter(torch.zeros(3))]), torch.optim.AdamW)


@pytest.mark.parametrize("student", ["self_explaining", "mlp", "xdistillation"])
def test_the_optimizer_that_is_asked_for_takes_the_steps(student):
    X, y = load_diabetes(return_X_y=True)

    def scores(optimizer):
        model = Gbdt2NNRegressor(
            teacher_params={"n_estimators": 5},
            student=student,
            student_params={"width": 16},
            optimizer=optimizer,
            max_steps=3,
            n_synthetic=0,
            random_state=0,
        )
        return model.fit(X, y).predict(X)

    by_name = {name: scores(name) for name in ("auto", "adamw", "muon")}
    np.testing.assert_array_equal(by_name["auto"], by_name["muon"])
    assert (by_name["adamw"] != by_name["muon"]).any()


def test_an_unknown_optimizer_is_refused_by_name():
    with pytest.raises(ValueError, match=r"optimizer must be one of .*'adamw'.*got 'sgd'"):
        Gbdt2NNRegressor(optimizer="sgd").fit(np.zeros((20, 2)), np.zeros(20))
    with pytest.raises(ValueError, match="optimizer must be 'auto' or 'adamw' with student 'leaf_embedding'"):
        Gbdt2NNRegressor(student="leaf_embedding", optimizer="muon").fit(np.zeros((20, 2)), np.zeros(20))
