"""The loop: steps, schedule, phases, time budget, checkpoints, interruption."""

import itertools
import time

import pytest
import torch
from torch import nn

from gbdt2nn.joint_loss import Batch, Explained, JointLoss
from gbdt2nn.training import (
    Checkpoint,
    Phase,
    adamw,
    decay_start,
    fit_student,
    learning_rate_factor,
    steps_from_decay_start,
)


class Linear(nn.Module):
    complete = True

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 3))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, target=None, *, explain=True):
        attribution = inputs * self.weight
        return Explained(self.bias + attribution.sum(1, keepdim=True), attribution.unsqueeze(1))


def batches(n=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    truth = torch.tensor([[1.0, -2.0, 0.5]])
    while True:
        x = torch.randn(n, 3, generator=g)
        attribution = x * truth
        yield Batch(x, Explained(0.3 + attribution.sum(1, keepdim=True), attribution.unsqueeze(1)), None, torch.ones(n))


def fit(student=None, **options):
    student = student or Linear()
    options = {"max_steps": 50, "optimizer": adamw(0.1), **options}
    return student, fit_student(student, batches(), JointLoss(), **options)


def test_it_learns_what_the_teacher_says():
    student, history = fit(max_steps=200)
    torch.testing.assert_close(student.weight.detach(), torch.tensor([[1.0, -2.0, 0.5]]), atol=1e-2, rtol=0)
    assert history.steps[-1]["total"] < 1e-3 < history.steps[0]["total"]
    assert history.n_steps == history.best_step == 200
    assert not student.training


def test_every_length_of_run_has_its_decay_start_and_back():
    for n in range(1, 200):
        start = decay_start(n)
        assert decay_start(steps_from_decay_start(start)) == start


def test_the_learning_rate_is_constant_and_then_falls_over_the_last_fifth():
    factors = [learning_rate_factor(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:80] == [1.0] * 70
    assert all(a > b > 0 for a, b in itertools.pairwise(factors[79:]))
    assert factors[-1] < 0.06


def test_a_timed_run_is_repeated_by_its_number_of_steps():
    """A time budget only picks where the learning rate falls; the steps it took, given as max_steps, repeat it."""
    slow = [lambda progress: time.sleep(0.002)]
    timed, history = fit(max_steps=100_000, time_budget=0.4, callbacks=slow, log_every=1)
    assert 5 < history.n_steps < 100_000
    again, repeated = fit(max_steps=history.n_steps)
    assert repeated.n_steps == history.n_steps
    assert torch.equal(timed.weight, again.weight)


def test_a_budget_that_is_not_reached_changes_nothing():
    a, history = fit(max_steps=40, time_budget=1000)
    b, _ = fit(max_steps=40)
    assert history.n_steps == 40
    assert torch.equal(a.weight, b.weight)


def test_a_budget_keeps_time_for_what_comes_after_the_last_step():
    """The learning rate falls as much earlier as the reserve is a part of the budget."""
    slow = [lambda progress: time.sleep(0.002)]
    many = {"max_steps": 100_000, "callbacks": slow, "log_every": 1}
    _, whole = fit(time_budget=0.8, **many)
    _, part = fit(time_budget=0.8, reserve=lambda: 0.6, **many)
    assert part.n_steps < 0.6 * whole.n_steps
    _, none = fit(time_budget=0.8, reserve=lambda: 2.0, **many)
    assert none.n_steps <= 2  # a step, and its fall


@pytest.mark.parametrize("budget", [None, 0.3])
def test_the_fall_is_told_once_before_its_first_step(budget):
    steps, told = [], []
    _, history = fit(
        max_steps=50 if budget is None else 100_000,
        time_budget=budget,
        log_every=1,
        callbacks=[lambda progress: (time.sleep(0.002), steps.append(progress.step))],
        at_fall=lambda: told.append(len(steps)),
    )
    assert history.n_steps > 5
    assert told == [decay_start(history.n_steps)]


def test_phases_say_which_parameters_learn_under_which_weights():
    ended = []
    phases = [
        Phase(
            parameters=lambda s: [s.bias], weights={"explanation": 0.0}, at_end=lambda s: ended.append(s.weight.clone())
        ),
        Phase(share=3.0, parameters=lambda s: [s.weight]),
    ]
    student, history = fit(max_steps=40, phases=phases, log_every=1)
    assert history.phase_steps == [10, 30]
    assert (ended[0] == 0).all()  # the weight stood still in the first phase
    assert (student.weight != 0).all()
    assert "explanation" not in history.steps[9]
    assert "explanation" in history.steps[10]
    assert all(p.requires_grad for p in student.parameters())


def test_phases_of_a_timed_run_are_repeated_by_their_steps():
    slow = [lambda progress: time.sleep(0.002)]
    phases = [Phase(parameters=lambda s: [s.bias]), Phase()]
    timed, history = fit(max_steps=10_000, time_budget=0.4, phases=phases, callbacks=slow, log_every=1)
    assert min(history.phase_steps) > 1
    counted = [Phase(steps=k, parameters=p.parameters) for k, p in zip(history.phase_steps, phases, strict=True)]
    again, _ = fit(max_steps=history.n_steps, phases=counted)
    assert torch.equal(timed.weight, again.weight)


def test_every_skips_the_explanation_between():
    _, history = fit(max_steps=8, every=4, log_every=1)
    assert [entry["step"] for entry in history.steps if "explanation" in entry] == [1, 5]


def test_validation_is_called_in_eval_mode_and_the_best_is_kept():
    seen = []

    def validate(student):
        assert not student.training
        seen.append(student.weight.detach().clone())
        return {"quality": -float(len(seen) != 2)}  # the second check is the best

    student, history = fit(max_steps=40, validate=validate, validate_every=10, monitor="quality")
    assert [v["step"] for v in history.validations] == [10, 20, 30, 40]
    assert history.best_step == 20
    assert torch.equal(student.weight, seen[1])


def test_an_interrupt_leaves_a_usable_student(recwarn):
    def interrupt(progress):
        if progress.step == 20:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted after 20 steps"):
        student, history = fit(max_steps=100, callbacks=[interrupt])
    assert history.interrupted
    assert history.n_steps == 20
    assert (student.weight != 0).all()


def test_an_interrupt_in_a_worker_is_raised(monkeypatch):
    monkeypatch.setattr("multiprocessing.parent_process", lambda: object())

    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(max_steps=100, callbacks=[interrupt])


class StopError(Exception):
    pass


def stop_at(step):
    def callback(progress):
        if progress.step == step:
            raise StopError

    return callback


def test_a_run_that_was_cut_off_ends_with_the_very_same_weights(tmp_path):
    """Two phases with an optimiser each, validations and a best step: all of it goes on from the file."""

    def double(student):
        """Changes a weight, once, and something that is no weight."""
        with torch.no_grad():
            student.bias.mul_(2.0)
        student.doubled = True

    def run(student, **how):
        phases = [Phase(parameters=lambda s: [s.bias], at_end=double), Phase(share=3.0)]
        validate = lambda s: {"quality": -float((s.weight - 1).square().sum())}  # noqa: E731
        how = {"phases": phases, "validate": validate, "monitor": "quality", "log_every": 5, **how}
        return fit(student, max_steps=40, validate_every=4, **how)

    whole, history = run(Linear())
    for stop in (5, 15, 40):
        checkpoint = Checkpoint(tmp_path / f"{stop}.pt", every=3)
        with pytest.raises(StopError):
            run(Linear(), checkpoint=checkpoint, callbacks=[stop_at(stop)])
        again, found = run(Linear(), checkpoint=checkpoint)
        assert torch.equal(whole.weight, again.weight)
        assert torch.equal(whole.bias, again.bias)
        assert again.doubled
        assert found.phase_steps == history.phase_steps == [10, 30]
        assert found.best_step == history.best_step
        assert found.steps == history.steps
        assert not list(tmp_path.glob("*.part"))


def test_batches_that_keep_their_place_are_not_drawn_again(tmp_path):
    class Kept:
        def __init__(self):
            self.drawn = 0
            self.place = 0

        def __iter__(self):
            while True:
                g = torch.Generator().manual_seed(self.place)
                x = torch.randn(8, 3, generator=g)
                self.place += 1
                self.drawn += 1
                yield Batch(x, Explained(x.sum(1, keepdim=True), x.unsqueeze(1)), None, torch.ones(8))

        def state_dict(self):
            return {"place": self.place}

        def load_state_dict(self, state):
            self.place = state["place"]

    def run(batches, **how):
        student = Linear()
        fit_student(student, batches, JointLoss(), max_steps=12, log_every=1, **how)
        return student

    whole = run(Kept())
    with pytest.raises(StopError):
        run(Kept(), checkpoint=Checkpoint(tmp_path / "c", every=4), callbacks=[stop_at(10)])
    batches = Kept()
    again = run(batches, checkpoint=Checkpoint(tmp_path / "c", every=4))
    assert batches.drawn == 4
    assert torch.equal(whole.weight, again.weight)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "c"
    fit(max_steps=10, checkpoint=Checkpoint(path, tag="a"))
    with pytest.raises(ValueError, match="belongs to another run: its tag is 'a', here it is 'b'"):
        fit(max_steps=10, checkpoint=Checkpoint(path, tag="b"))
    with pytest.raises(ValueError, match="belongs to another run: its plan"):
        fit(max_steps=11, checkpoint=Checkpoint(path, tag="a"))


def test_the_update_may_be_the_callers_own():
    """Half the gradient, by a hook: plain gradient descent with half the learning rate."""

    def halved(total, optimizer):
        (0.5 * total).backward()
        optimizer.step()

    a, _ = fit(update=halved, optimizer=lambda p: torch.optim.SGD(p, lr=0.01))
    b, _ = fit(optimizer=lambda p: torch.optim.SGD(p, lr=0.005))
    torch.testing.assert_close(a.weight, b.weight)


def test_batches_begin_anew_when_they_end():
    student = Linear()
    history = fit_student(student, list(itertools.islice(batches(), 3)), JointLoss(), max_steps=10)
    assert history.n_steps == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": -1}, "max_steps"),
        ({"time_budget": 0}, "time_budget"),
        ({"every": 0}, "every"),
        ({"checkpoint": Checkpoint("nowhere", every=0)}, "checkpoint.every"),
        ({"phases": []}, "phases"),
        ({"phases": [Phase(steps=10), Phase()]}, "mixture"),
        ({"phases": [Phase(steps=10)]}, "add up to max_steps"),
        ({"phases": [Phase(parameters=lambda s: [])]}, "at least one parameter"),
    ],
)
def test_misuse_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)


def test_no_batches_and_a_loss_that_explodes_are_named():
    with pytest.raises(ValueError, match="at least one Batch"):
        fit_student(Linear(), [], JointLoss(), max_steps=3)
    with pytest.raises(FloatingPointError, match="not finite by step"):
        fit_student(
            Linear(), batches(), JointLoss(imitation=lambda a, b: a[:, 0] * float("nan")), max_steps=3, log_every=1
        )
