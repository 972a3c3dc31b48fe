"""The core contract: losses per row, named terms, weights and schedules, extra terms, targets."""

import pytest
import torch
from torch import nn

from gbdt2nn.joint_loss import (
    EXPLANATION_LOSSES,
    Batch,
    Explained,
    JointLoss,
    binary_cross_entropy,
    cross_entropy,
    kl_divergence,
    label_squared_error,
    poisson_deviance,
    squared_error,
)


class TinyStudent(nn.Module):
    """Two outputs, three inputs; counts how often it is asked to explain."""

    complete = False

    def __init__(self, extra=None):
        super().__init__()
        self.score = nn.Linear(3, 2)
        self.attribution = nn.Linear(3, 6)
        self.asked = []
        if extra is not None:
            self.extra_terms = extra

    def forward(self, inputs, target=None, *, explain=True):
        self.asked.append(explain)
        attribution = None
        if explain:
            attribution = self.attribution(inputs).unflatten(1, (2, 3))
            if target is not None:
                attribution = attribution[torch.arange(len(target)), target].unsqueeze(1)
        return Explained(self.score(inputs), attribution)


def tiny_batch(n=5, *, label=None, weight=None, target=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    attribution = torch.randn(n, 2 if target is None else 1, 3, generator=g)
    teacher = Explained(torch.randn(n, 2, generator=g), attribution)
    weight = torch.ones(n) if weight is None else weight
    return Batch(torch.randn(n, 3, generator=g), teacher, label, weight, target)


@pytest.mark.parametrize("name", EXPLANATION_LOSSES)
@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3), (4, 1, 8, 8)])
def test_explanation_losses_are_per_row_zero_when_equal_and_never_negative(name, shape):
    """The contract of a loss; the joint loss relies on it for weights and on nothing else."""
    loss = EXPLANATION_LOSSES[name]()
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
    assert loss(a, b).shape == (4,)
    assert (loss(a, b) > 0).all()
    torch.testing.assert_close(loss(a, a), torch.zeros(4), atol=1e-6, rtol=0)  # float32 rounding
    # a row's loss does not depend on the other rows
    torch.testing.assert_close(loss(a[:1], b[:1])[0], loss(a, b)[0])


def test_kl_is_zero_when_equal_and_matches_torch():
    s, t = torch.randn(6, 4), torch.randn(6, 4)
    assert (kl_divergence(3.0)(t, t) == 0).all()
    expected = nn.functional.kl_div((s / 3).log_softmax(1), (t / 3).softmax(1), reduction="none").sum(1) * 9
    torch.testing.assert_close(kl_divergence(3.0)(s, t), expected)


def test_cosine_flattens_a_map_and_handles_zero_maps():
    """Along one axis the cosine would compare columns of a map; zero maps give 0 or 1, not NaN."""
    loss = EXPLANATION_LOSSES["cosine_distance"]()
    a, b = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    expected = 1 - nn.functional.cosine_similarity(a.reshape(2, -1), b.reshape(2, -1))
    torch.testing.assert_close(loss(a, b), expected)
    zero = torch.zeros_like(a)
    assert loss(zero, zero).tolist() == [0, 0]
    assert loss(zero, b).tolist() == [1, 1]


def test_feature_weight_scales_each_feature():
    weight = torch.tensor([[1.0, 0.0, 4.0]])
    a, b = torch.zeros(1, 1, 3), torch.tensor([[[1.0, 5.0, 2.0]]])
    assert squared_error(weight)(a, b).item() == 1 + 16


def test_terms_are_weighted_means_and_the_total_their_weighted_sum():
    student = TinyStudent()
    batch = tiny_batch(weight=torch.tensor([1.0, 0, 2, 0, 1]), label=torch.tensor([0, 1, 1, 0, 1]))
    loss = JointLoss(label=cross_entropy(), weights={"imitation": 2.0, "explanation": 0.5, "label": 3.0})
    total, terms = loss(student, batch)
    answer = student(batch.inputs)
    expected = ((answer.score - batch.teacher.score) ** 2).sum(1) @ batch.weight / 4
    torch.testing.assert_close(terms["imitation"], expected)
    torch.testing.assert_close(total, 2 * terms["imitation"] + 0.5 * terms["explanation"] + 3 * terms["label"])


def test_a_row_of_weight_zero_is_as_good_as_absent():
    student = TinyStudent()
    full = tiny_batch(6)
    weight = torch.tensor([1.0, 2, 1, 0, 1, 0])
    kept = weight > 0
    teacher = Explained(full.teacher.score[kept], full.teacher.attribution[kept])
    some = Batch(full.inputs[kept], teacher, None, weight[kept])
    torch.testing.assert_close(JointLoss()(student, full._replace(weight=weight))[0], JointLoss()(student, some)[0])


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_scaling_every_weight_changes_nothing(scale):
    student, batch = TinyStudent(), tiny_batch(weight=torch.rand(5))
    a, _ = JointLoss()(student, batch)
    b, _ = JointLoss()(student, batch._replace(weight=scale * batch.weight))
    torch.testing.assert_close(a, b)


def test_at_weight_zero_a_term_is_never_computed():
    """Plain distillation is the baseline: no explanation is computed by the student or asked of the teacher."""
    student = TinyStudent(extra=lambda inputs, batch: {"own": lambda: pytest.fail("computed at weight 0")})
    batch = tiny_batch()
    batch = batch._replace(teacher=Explained(batch.teacher.score, None))
    _, terms = JointLoss(weights={"explanation": 0.0, "own": 0.0})(student, batch)
    assert set(terms) == {"imitation"}
    assert student.asked == [False]


def test_weights_may_be_functions_of_the_step_and_a_phase_may_override_them():
    student, batch = TinyStudent(), tiny_batch()
    loss = JointLoss(weights={"explanation": lambda step: 0.0 if step < 10 else 1.0})
    assert set(loss(student, batch, step=9)[1]) == {"imitation"}
    assert set(loss(student, batch, step=10)[1]) == {"imitation", "explanation"}
    assert set(loss(student, batch, step=10, weights={"imitation": 0.0})[1]) == {"explanation"}


def test_a_student_adds_terms_of_its_own():
    student = TinyStudent(
        extra=lambda inputs, batch: {"embedding": inputs.square().sum(1), "late": lambda: batch.weight}
    )
    batch = tiny_batch()
    total, terms = JointLoss(weights={"embedding": 0.25})(student, batch)
    torch.testing.assert_close(terms["embedding"], batch.inputs.square().sum(1).mean())
    expected = terms["imitation"] + terms["explanation"] + 0.25 * terms["embedding"] + terms["late"]
    torch.testing.assert_close(total, expected)


def test_only_the_target_output_is_explained():
    student, target = TinyStudent(), torch.tensor([0, 1, 1, 0, 1])
    batch = tiny_batch(target=target)
    _, terms = JointLoss()(student, batch)
    full = student(batch.inputs).attribution
    chosen = torch.stack([full[i, k] for i, k in enumerate(target)]).unsqueeze(1)
    torch.testing.assert_close(terms["explanation"], squared_error()(chosen, batch.teacher.attribution).mean())


def test_rows_that_are_only_scored_count_nothing_in_the_explanation_term():
    """NaN marks them, as it does a missing label; the other rows teach as if these were absent."""
    student, batch = TinyStudent(), tiny_batch(weight=torch.tensor([1.0, 2, 1, 3, 1]))
    scored_only = torch.tensor([False, True, False, False, True])
    attribution = batch.teacher.attribution.clone()
    attribution[scored_only] = float("nan")
    total, terms = JointLoss()(student, batch._replace(teacher=Explained(batch.teacher.score, attribution)))
    kept = ~scored_only
    teacher = Explained(batch.teacher.score[kept], batch.teacher.attribution[kept])
    _, expected = JointLoss()(student, Batch(batch.inputs[kept], teacher, None, batch.weight[kept]))
    torch.testing.assert_close(terms["explanation"], expected["explanation"])
    torch.testing.assert_close(terms["imitation"], JointLoss()(student, batch)[1]["imitation"])
    total.backward()  # no NaN leaks into the gradient
    assert all(p.grad.isfinite().all() for p in student.parameters())


def test_rows_without_a_label_count_nothing_in_the_label_term():
    student = TinyStudent()
    label = torch.tensor([0.0, float("nan"), 1.0, float("nan"), 1.0])
    loss = JointLoss(label=cross_entropy(), weights={"label": 1.0})
    batch = tiny_batch(label=label)
    _, terms = loss(student, batch)
    known = ~label.isnan()
    expected = nn.functional.cross_entropy(student(batch.inputs).score[known], label[known].long())
    torch.testing.assert_close(terms["label"], expected)
    total, _ = loss(student, batch._replace(label=torch.full((5,), float("nan"))))
    total.backward()  # no NaN leaks into the gradient
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def test_label_losses_by_hand():
    raw = torch.tensor([[0.0], [2.0]])
    label = torch.tensor([1.0, 0.0])
    expected = torch.log1p(torch.exp(torch.tensor([0.0, 4.0])))
    torch.testing.assert_close(binary_cross_entropy(2.0)(raw, label), expected)
    torch.testing.assert_close(
        poisson_deviance()(torch.log(torch.tensor([[3.0]])), torch.tensor([3.0])), torch.zeros(1)
    )
    assert label_squared_error(2.0)(torch.tensor([[4.0]]), torch.tensor([0.0])).item() == 4.0
    several = binary_cross_entropy()(torch.zeros(1, 3), torch.tensor([2.0]))
    torch.testing.assert_close(several, 3 * torch.log(torch.tensor([2.0])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s, b: JointLoss(weights={"explanaton": 1.0})(s, b), "unknown terms"),
        (lambda s, b: JointLoss(weights={"imitation": -1.0})(s, b), "non-negative"),
        (lambda s, b: JointLoss(weights={"imitation": 0.0, "explanation": 0.0})(s, b), "nothing to learn"),
        (lambda s, b: JointLoss(weights={"label": 1.0})(s, b), "no label"),
        (lambda s, b: JointLoss(imitation=lambda a, t: (a - t).mean())(s, b), "one number per row"),
        (lambda s, b: JointLoss()(s, b._replace(teacher=Explained(b.teacher.score, None))), "teacher gives no"),
        (
            lambda s, b: JointLoss()(s, b._replace(teacher=Explained(b.teacher.score, b.teacher.attribution[:, :1]))),
            "same outputs and inputs",
        ),
    ],
)
def test_misuse_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(TinyStudent(), tiny_batch())


def test_an_extra_term_cannot_take_a_name_of_the_loss():
    student = TinyStudent(extra=lambda inputs, batch: {"label": batch.weight})
    with pytest.raises(ValueError, match="must not be called"):
        JointLoss()(student, tiny_batch())
