"""Baselines on the same loop: each learns, each is what its paper says, every method keeps the contract."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from gbdt2nn.vision import (
    CATKD,
    E2KD,
    ActivationAttention,
    AttentionTransfer,
    ClassMaps,
    GradCAM,
    InputGradient,
    LabelsOnly,
    LogitKD,
    TrainingOptions,
)
from gbdt2nn.vision.losses import energy_outside, magnitude_outside, map_distance

FAST = TrainingOptions(learning_rate=2e-2, warmup_steps=2)

METHODS = {
    "labels": lambda t, s: LabelsOnly(s, teacher=t, training=FAST),
    "kd": lambda t, s: LogitKD(t, s, training=FAST),
    "attention": lambda t, s: AttentionTransfer(t, s, layers=("stem", "body"), attention_weight=1.0, training=FAST),
    "cat": lambda t, s: CATKD(t, s, layer="body", class_map_weight=10.0, training=FAST),
    "e2kd_cam": lambda t, s: E2KD(t, s, explainer=GradCAM("body", relu=False), training=FAST),
    "e2kd_gradient": lambda t, s: E2KD(t, s, explainer=InputGradient(), training=FAST),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_and_reports(name, teacher, small, loader, val_loader):
    before = torch.cat([p.flatten() for p in teacher.parameters()]).clone()
    student = small(seed=1)
    method = METHODS[name](teacher, student)
    assert method.fit(loader, val_loader, max_steps=60) is method
    assert method.student is student
    assert not student.training
    assert method.fidelity_["accuracy"] > 0.85
    assert method.fidelity_["agreement"] > 0.85
    assert method.history_.n_steps == 60
    assert torch.equal(before, torch.cat([p.flatten() for p in teacher.parameters()]))


def test_labels_alone_need_no_teacher(small, loader, val_loader):
    method = LabelsOnly(small(), training=FAST).fit(loader, val_loader, max_steps=10)
    assert set(method.fidelity_) == {"accuracy"}


def test_attention_maps_are_the_papers(teacher, small):
    """Mean square over channels, each layer's map divided by its norm, mean squared difference, summed over layers."""
    images = torch.rand(4, 1, 12, 12)
    student = small(seed=1).eval()
    explainer = ActivationAttention(("body",))
    a, b = (explainer(m, images, None, create_graph=False).attribution for m in (student, teacher))
    found = map_distance(sum_maps=True)(a, b)

    def attention(net):
        return F.normalize(net.body(net.stem(images)).pow(2).mean(1).flatten(1))

    torch.testing.assert_close(found, (attention(student) - attention(teacher)).pow(2).mean(1).detach())


def test_class_maps_are_the_papers(teacher, small):
    """The head as a 1 x 1 convolution on the maps, pooled to 2 x 2, normalised for each class, mean squared difference."""
    images = torch.rand(4, 1, 12, 12)
    student = small(seed=1).eval()
    explainer = ClassMaps("body")
    a, b = (explainer(m, images, None, create_graph=False).attribution for m in (student, teacher))
    found = map_distance(sum_maps=False)(a, b).mean()

    def maps(net):
        cam = F.conv2d(net.body(net.stem(images)), net.head.weight[:, :, None, None])
        return F.normalize(F.adaptive_avg_pool2d(cam, (2, 2)).flatten(2), dim=2)

    torch.testing.assert_close(found, F.mse_loss(maps(student), maps(teacher)).detach())


def test_class_maps_may_keep_their_size(teacher, small, loader):
    maps = torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = map_distance(sum_maps=False, normalise=False)(3 * maps, maps)
    torch.testing.assert_close(found, (2 * maps).square().mean((1, 2, 3)))
    students = [small(seed=1), small(seed=1)]
    for student, normalise in zip(students, (True, False), strict=True):
        CATKD(teacher, student, layer="body", normalise=normalise, training=FAST).fit(loader, max_steps=2)
    assert not torch.equal(students[0].head.weight, students[1].head.weight)


def test_maps_teach_every_layer_before_them(teacher, small, loader):
    for method in (
        AttentionTransfer(teacher, small(), layers=("stem", "body"), imitation_weight=0.0),
        CATKD(teacher, small(), layer="body", label_weight=0.0),
    ):
        before = {n: p.detach().clone() for n, p in method.student.named_parameters()}
        method.fit(loader, max_steps=3)
        moved = {n for n, p in method.student.named_parameters() if not torch.equal(p, before[n])}
        head = {"head.bias"} if isinstance(method, CATKD) else {"head.bias", "head.weight"}
        assert moved == set(before) - head, type(method)


@pytest.mark.parametrize("loss", [map_distance(sum_maps=True), map_distance(sum_maps=False)], ids=["sum", "mean"])
def test_map_losses_are_zero_for_equal_maps_and_one_number_a_row(loss):
    maps = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    other = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    assert loss(maps, maps).eq(0).all()
    assert loss(maps, 7 * maps).max() < 1e-12  # scale does not count
    assert loss(maps, other).shape == (5,)
    assert (loss(maps, other) > 0).all()
    torch.testing.assert_close(loss(maps[2:3], other[2:3]), loss(maps, other)[2:3])


def test_energy_outside_a_mask():
    maps = torch.tensor([[[3.0, -9.0], [1.0, 0.0]], [[-1.0, 0.0], [0.0, -2.0]]])
    mask = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]).expand(2, 2, 2)
    assert energy_outside(maps, mask).tolist() == [0.25, 0.0]  # a map without a positive value has nothing to move
    assert magnitude_outside(maps, mask).tolist() == [0.25, 1.0]
