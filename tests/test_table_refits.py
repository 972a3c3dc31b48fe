"""Tables beside a network, fitted to what it leaves while it learns."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.frozen import FrozenEstimator

from gbdt2nn import distil, student_fit
from gbdt2nn.backfitting import Tables
from gbdt2nn.batches import Batches, Tensors
from gbdt2nn.clock import budgets_on
from gbdt2nn.interactions import TableLayout
from gbdt2nn.student_building import build_student
from gbdt2nn.students import STUDENTS
from gbdt2nn.students.code_encoding import encoding_columns
from gbdt2nn.table_refits import APART, FIRST, RATIO, TableRefits, refit_steps

N, SIZES = 4000, [6, 5, 3]


def layout(**_):
    bins = tuple(np.arange(size, dtype=np.uint8) for size in SIZES)
    pairs = np.array([[0, 1], [1, 2]])
    return TableLayout(np.array(SIZES), np.array(SIZES), pairs, np.empty((0, 3), np.int64), bins, bins)


def student(**own):
    columns = [encoding_columns(size, is_categorical=False) for size in SIZES]
    return STUDENTS["self_explaining"](
        columns, base_value=[1.0], score_scale=[2.0], choose_tables=layout, width=16, **own
    )


def rows():
    """Attributions that pairs hold wholly, and the score they add up to, less the base."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, size, N) for size in SIZES], axis=1)
    pair = rng.normal(size=(6, 5, 2))
    phi = np.zeros((N, 1, 3))
    phi[:, 0, 0], phi[:, 0, 1] = pair[codes[:, 0], codes[:, 1]].T
    return Tensors(
        torch.as_tensor(codes, dtype=torch.int32),
        torch.as_tensor(1.0 + phi.sum(2), dtype=torch.float32),
        torch.as_tensor(phi, dtype=torch.float32),
        torch.ones(N),
        None,
    )


def test_the_steps_are_the_same_for_a_run_of_any_length():
    steps = list(islice(refit_steps(), 4))
    assert steps[0] == FIRST
    assert steps == [round(FIRST * RATIO**k) for k in range(4)]


def test_tables_take_over_what_they_explain_and_the_targets_lose_it():
    net, data = student(), rows()
    before = data.attribution.clone()
    refits = TableRefits(net, apart=True)
    net.train()
    refits.shift(data)
    refits.refit(data)
    # what the network leaves, which is what tables explain, is now nothing but ridge and noise
    left = data.attribution - net(data.codes).attribution
    assert left.square().mean() < 5e-3 * before.square().mean()
    # an answer outside training is the whole
    net.eval()
    whole = net(data.codes)
    torch.testing.assert_close(before - whole.attribution, left, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole.score, 1.0 + whole.attribution.sum(2), atol=1e-5, rtol=0)


def test_refits_add_up():
    """Tables of several refits are one sum, and so is what the targets lose."""
    net, data = student(), rows()
    start = data.attribution.clone()
    refits = TableRefits(net, apart=True)
    net.train()
    for _ in range(3):
        refits.refit(data)
        with torch.no_grad():
            net.head.bias.add_(0.1)  # the network moves on in between
    net.eval()
    torch.testing.assert_close(start - data.attribution, net.tables(data.codes), atol=1e-5, rtol=0)


def test_rows_that_are_scored_only_lose_it_from_their_score():
    net, data = student(), rows()
    refits = TableRefits(net, apart=True)
    data = data._replace(attribution=data.attribution[: N // 2].clone())
    score = data.score.clone()
    net.train()
    refits.refit(data)
    net.eval()
    torch.testing.assert_close(score - data.score, net.tables(data.codes).sum(2), atol=1e-5, rtol=0)


def test_unknown_attributions_are_left_out_of_the_fit():
    net, other, data, plain = student(), student(), rows(), rows()
    data.attribution[N // 2 :] = torch.nan
    half = Tensors(*(None if part is None else part[: N // 2] for part in plain))
    for each, own in ((net, data), (other, half)):
        each.train()
        TableRefits(each, apart=True).refit(own)
    torch.testing.assert_close(net.tables.pair, other.tables.pair)
    assert torch.isfinite(net.tables.main).all()


def test_beside_labels_the_targets_stay_and_the_answers_are_whole():
    net, data = student(), rows()
    before = data.attribution.clone()
    refits = TableRefits(net, apart=False)
    net.train()
    refits.refit(data)
    assert torch.equal(data.attribution, before)
    left = data.attribution - net(data.codes).attribution
    assert left.square().mean() < 5e-3 * before.square().mean()


def refitted_batches():
    net = student().train()
    batches = Batches(rows(), 100, seed=0)
    batches.refit_by(TableRefits(net, apart=True))
    return net, batches


def test_batches_refit_at_their_steps():
    net, batches = refitted_batches()
    stream = iter(batches)
    for _ in range(FIRST):
        next(stream)
    assert not net.tables.pair.any()
    next(stream)
    assert net.tables.pair.any()


def test_batches_whose_refits_have_ended_refit_no_more_until_they_begin_anew():
    net, batches = refitted_batches()
    stream = iter(batches)
    next(stream)
    batches.begin_fall()
    for _ in range(FIRST):
        next(stream)
    assert not net.tables.pair.any()
    stream = iter(batches)
    for _ in range(FIRST + 1):
        next(stream)
    assert net.tables.pair.any()


def with_a_triple(n_outputs=1):
    columns = [encoding_columns(size, is_categorical=False) for size in SIZES]
    whole = replace(layout(), triples=np.array([[0, 1, 2]]))
    net = STUDENTS["self_explaining"](
        columns, base_value=[1.0] * n_outputs, score_scale=[2.0] * n_outputs, choose_tables=lambda **_: whole, width=16
    )
    return net.train()


def rows_of_a_triple(n_outputs=1):
    data, rng = rows(), np.random.default_rng(3)
    codes = data.codes.numpy()
    table = torch.as_tensor(rng.normal(size=SIZES)[tuple(codes.T)], dtype=torch.float32)
    phi = table[:, None, None].repeat(1, n_outputs, 3)
    return data._replace(attribution=phi, score=1.0 + phi.sum(2))


def test_triples_wait_for_the_last_refit():
    net, data = with_a_triple(), rows_of_a_triple()
    before = data.attribution.clone()
    refits = TableRefits(net, apart=True)
    refits.refit(data)
    assert net.tables.pair.any()
    assert not net.tables.triple.any()
    refits.last(data)
    assert net.tables.triple.any()
    left = data.attribution - net(data.codes).attribution
    assert left.square().mean() < 1e-2 * before.square().mean()  # some 40 rows a cell, shrunk as by 4
    net.eval()
    torch.testing.assert_close(before - net(data.codes).attribution, left, atol=1e-5, rtol=0)


def test_with_several_outputs_triples_are_there_from_the_first():
    """Tables carry more there than the network."""
    net, data = with_a_triple(2), rows_of_a_triple(2)
    refits = TableRefits(net, apart=True)
    refits.refit(data)
    assert net.tables.triple.any()
    before = net.tables.triple.clone()
    refits.last(data)  # and there is nothing left to do in the end
    assert torch.equal(net.tables.triple, before)
    assert refits.n_refits == 1


@pytest.mark.parametrize(
    ("n_outputs", "apart", "since", "expected"),
    [(2, True, APART, 2), (2, True, APART - 1, 1), (2, False, APART, 1), (1, True, APART, 1)],
)
def test_with_several_outputs_the_last_refit_is_before_the_learning_rate_falls(n_outputs, apart, since, expected):
    """Not where labels are learned, nor soon after another; with one output it is after the last step."""
    net, data = with_a_triple(n_outputs), rows_of_a_triple(n_outputs)
    refits = TableRefits(net, apart=apart)
    step = next(refit_steps(n_outputs))
    assert refits.due(step)
    refits.refit(data)
    refits.before_fall(step + since, data)
    assert refits.n_refits == expected
    assert (refits.seconds_of_last(1000) > 0) == (n_outputs == 1 or apart)


def test_the_last_refit_is_expected_to_take_what_the_one_before_took():
    """Work in proportion to rows and tables, at the pace that was seen."""
    net, data = with_a_triple(), rows_of_a_triple()
    refits = TableRefits(net, apart=True)
    guessed = refits.seconds_of_last(1000)
    assert refits.seconds_of_last(3000) == pytest.approx(3 * guessed)
    refits.refit(data)
    assert refits.pace != 1.0
    assert refits.seconds_of_last(1000) == pytest.approx(refits.pace * guessed)


def test_a_refit_is_expected_when_it_is_due():
    net, data = with_a_triple(), rows_of_a_triple()
    refits = TableRefits(net, apart=True)
    assert refits.seconds_of_next(FIRST - 1, 1000) == 0.0
    guessed = refits.seconds_of_next(FIRST, 1000)
    assert 0 < guessed < refits.seconds_of_last(1000)  # more tables are in the last
    assert refits.due(FIRST)
    refits.refit(data)
    assert refits.seconds_of_next(FIRST + 1, 1000) == 0.0
    assert refits.seconds_of_next(round(FIRST * RATIO), 1000) < refits.pace * guessed  # it has fewer sweeps


def explained_fit(label_weight, y, max_steps=3):
    x = np.random.default_rng(4).normal(size=(400, 3))
    teacher = LGBMRegressor(n_estimators=20, num_leaves=8, min_child_samples=5, n_jobs=1, verbosity=-1)
    teacher.fit(x, x[:, 0] * x[:, 1])
    return distil(
        FrozenEstimator(teacher),
        x,
        y,
        label_weight=label_weight,
        n_synthetic=500,
        max_steps=max_steps,
        batch_size=64,
        student_params={"width": 16},
        n_jobs=1,
        random_state=0,
    )


def test_a_fit_ends_in_a_refit():
    """Whatever the number of its steps: three are fewer than the first of the fixed ones."""
    fitted = explained_fit(0.0, None)
    assert fitted.student.tables.pair.any()
    assert fitted.student.tables.triple.any()
    without = explained_fit(1.0, np.zeros(400))
    assert not without.student.tables.pair.any()


def test_there_is_no_refit_while_the_learning_rate_falls():
    """What a network has to settle is not changed any more; a short time budget is not spent on it either."""
    y = np.zeros(400)
    assert not explained_fit(1.0, y, FIRST + 30).student.tables.pair.any()
    assert explained_fit(1.0, y, FIRST + 50).student.tables.pair.any()


class Ticking:
    """A clock that goes on by as much each time it is read."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        self.time += 0.01
        return self.time


def of_three_classes(**own):
    x = np.random.default_rng(5).normal(size=(400, 3))
    teacher = LGBMClassifier(n_estimators=10, num_leaves=8, min_child_samples=5, n_jobs=1, verbosity=-1)
    teacher.fit(x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5))
    settings = {"n_synthetic": 500, "batch_size": 64, "student_params": {"width": 16}, "n_jobs": 1, "random_state": 0}
    return distil(FrozenEstimator(teacher), x, **settings, **own)


def test_a_timed_run_of_several_outputs_is_repeated_by_its_steps():
    """The refit before the learning rate falls stands at the same step."""
    with budgets_on(Ticking()):
        timed = of_three_classes(time_budget=4.0, max_steps=100_000)
    assert 2 * APART < timed.history.n_steps < 1000
    again = of_three_classes(max_steps=timed.history.n_steps)
    for one, other in zip(timed.student.parameters(), again.student.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_it_takes_to_build_a_student_counts(monkeypatch):
    clock = Ticking()
    with budgets_on(clock):
        at_once = of_three_classes(time_budget=4.0, max_steps=100_000)

    def slowly(*args):
        clock.time += 2.0
        return build_student(*args)

    monkeypatch.setattr(student_fit, "build_student", slowly)
    clock.time = 0.0
    with budgets_on(clock):
        later = of_three_classes(time_budget=4.0, max_steps=100_000)
    assert 0 < later.history.n_steps < 0.9 * at_once.history.n_steps


def test_tables_of_other_values_are_a_copy():
    net = student()
    other = net.tables.of(Tables([np.ones((size, 1)) for size in SIZES], np.zeros((45, 2, 1)), np.zeros((0, 3, 1))))
    assert not net.tables.main.any()
    torch.testing.assert_close(other(torch.zeros(1, 3, dtype=torch.int32)), torch.ones(1, 1, 3))
