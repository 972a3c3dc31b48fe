"""The one training loop: a student, a stream of batches, a loss; written out once for tables and images.

Everything is counted in steps. The learning rate is constant and then falls linearly to zero over the last 20 % of the
steps; a time budget only picks the step at which that fall begins, so the number of steps that a timed run reports
(`History.n_steps`), given as ``max_steps``, repeats the run. A run with a `Checkpoint` goes on where it was cut off, and
ends with the very weights of a run that was not.
"""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gbdt2nn.clock import now
from gbdt2nn.joint_loss import Batch, JointLoss, Weight
from gbdt2nn.optimizers import Optimizer, adamw

Validate = Callable[[Any], Mapping[str, float]]
Update = Callable[[Tensor, torch.optim.Optimizer], None]


@dataclass(frozen=True)
class Phase:
    """A stretch of training in which some parameters learn under some weights.

    Parameters
    ----------
    share : float, default=1.0
        Length relative to the other phases; under a time budget, the share of the time.
    steps : int, optional
        Length in steps, in place of ``share``; all phases of a run have it or none.
    parameters : callable, optional
        ``student -> iterable of parameters`` that learn in this phase; all of them by default.
    weights : mapping, optional
        Weights of the loss's terms in force during this phase.
    at_end : callable, optional
        ``student -> None``, called after the last step (a refit of tables, say).
    """

    share: float = 1.0
    steps: int | None = None
    parameters: Callable[[Any], Iterable[nn.Parameter]] | None = None
    weights: Mapping[str, Weight] = field(default_factory=dict)
    at_end: Callable[[Any], None] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps its state, so that it can go on after it was cut off.

    What is needed to repeat a step bit for bit is kept: weights, optimiser, history, random numbers and the place in
    the stream of batches. Batches that have ``state_dict()`` and ``load_state_dict(state)`` keep their place
    themselves; of others as many as were used are drawn again, which repeats the run where the stream is the same.

    Parameters
    ----------
    path : str or path
        A file that is replaced whole. A run that finds one goes on from it.
    every : int, default=500
        Steps between two of them; the last step writes one too.
    tag : str, default=""
        What the run is; a file with another tag is refused.
    """

    path: str | os.PathLike[str]
    every: int = 500
    tag: str = ""


class Progress(NamedTuple):
    """What a callback is told: at each log interval and after each validation."""

    step: int
    n_steps: int | None
    seconds: float
    terms: Mapping[str, float]
    validation: Mapping[str, float] | None


@dataclass
class History:
    """What happened in a run of `fit_student`.

    Attributes
    ----------
    steps : list of dict
        ``step``, ``learning_rate``, ``total`` and every term, each averaged over the log interval that ends there.
    validations : list of dict
        ``step``, ``seconds`` and what ``validate`` returned.
    n_steps : int
        Steps taken. Given as ``max_steps`` it repeats a run that was not interrupted.
    phase_steps : list of int
        Length of each phase.
    best_step : int
        The step whose weights were kept: the last one, or the best by ``monitor``.
    n_fresh : int
        Rows that took the place of others while the student trained.
    label_weights : list of dict
        Where the weight of labels was chosen: ``label_weight``, ``label_loss`` and ``score_r2`` on the stop rows, ``chosen``.
    interrupted : bool
        Whether Ctrl-C ended the run early.
    seconds : float
    """

    steps: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)
    n_steps: int = 0
    phase_steps: list[int] = field(default_factory=list)
    best_step: int = 0
    n_fresh: int = 0
    label_weights: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0


def decay_start(n_steps: int) -> int:
    """The step at which the learning rate begins to fall: the last fifth of the steps is the fall."""
    return n_steps - n_steps // 5


def steps_from_decay_start(start: int) -> int:
    """The number of steps of a run whose fall begins at ``start``; the inverse of `decay_start`.

    Examples
    --------
    >>> steps_from_decay_start(80), decay_start(100)
    (100, 80)
    """
    n_steps = start
    while decay_start(n_steps + 1) <= start:
        n_steps += 1
    return n_steps


def learning_rate_factor(step: int, n_steps: int | None, warmup_steps: int) -> float:
    """Share of the full learning rate at a step: a short linear rise, constant, a linear fall to zero."""
    factor = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    if n_steps is not None and step >= decay_start(n_steps):
        factor *= (n_steps - step) / (n_steps // 5 + 1)
    return factor


def fit_student(
    student: Any,
    batches: Iterable[Batch],
    loss: JointLoss,
    *,
    max_steps: int,
    time_budget: float | None = None,
    optimizer: Optimizer | None = None,
    phases: Sequence[Phase] = (Phase(),),
    every: int = 1,
    validate: Validate | None = None,
    validate_every: int | None = None,
    monitor: str | None = None,
    callbacks: Sequence[Callable[[Progress], None]] = (),
    log_every: int = 20,
    warmup_steps: int = 20,
    update: Update | None = None,
    checkpoint: Checkpoint | None = None,
    reserve: Callable[[], float] | None = None,
    at_fall: Callable[[], None] | None = None,
) -> History:
    """Train a student in place.

    Parameters
    ----------
    student : nn.Module
        Where it stands, on its device; see `gbdt2nn.joint_loss.Student`.
    batches : iterable of Batch
        Endless, or begun anew whenever it ends.
    loss : JointLoss
    max_steps : int
        Upper bound on the steps, and their number without a time budget. At 0 the student is only validated, and each
        phase's ``at_end`` called.
    time_budget : float, optional
        Seconds that training, validation included, may take.
    optimizer : callable, optional
        ``list of parameters -> torch.optim.Optimizer``; `adamw` by default. Each phase has an optimiser of its own.
    phases : sequence of Phase
        Run one after the other.
    every : int, default=1
        The explanation term is computed at every so many steps.
    validate : callable, optional
        ``student -> mapping``; called every ``validate_every`` steps and at the end, in eval mode and without gradients.
    validate_every : int, optional
        A tenth of ``max_steps`` by default.
    monitor : str, optional
        Entry of the mapping to maximise: the weights of the best validation are kept. By default the last are.
    callbacks : sequence of callables
        Each is given a `Progress`.
    log_every : int, default=20
    warmup_steps : int, default=20
        The learning rate rises linearly over these.
    update : callable, optional
        ``(total loss, optimiser) -> None``, in place of ``total.backward(); optimizer.step()``: scaled, clipped or
        averaged gradients. What it keeps is in the checkpoint if it has ``state_dict`` and ``load_state_dict``.
    checkpoint : Checkpoint, optional
    reserve : callable, optional
        ``() -> seconds`` of the time budget that the last phase's ``at_end`` will take, and whatever else is to come beside
        the steps, as far as is known by now.
    at_fall : callable, optional
        Called once, before the first step at which the learning rate falls; again where a run that had come so far goes on
        from a checkpoint.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If an argument is out of range, there is no batch, or the checkpoint is of another run.
    FloatingPointError
        If the loss stops being finite.

    Notes
    -----
    Ctrl-C ends training and leaves the student as it is, with a warning. In a worker process it is raised, as is a
    second one.
    """
    if max_steps < 0:
        raise ValueError(f"max_steps must be at least 0, got {max_steps}")
    if time_budget is not None and not time_budget > 0:
        raise ValueError(f"time_budget must be positive or None, got {time_budget}")
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    if checkpoint is not None and checkpoint.every < 1:
        raise ValueError(f"checkpoint.every must be at least 1, got {checkpoint.every}")
    run = _Run(student, loss, optimizer or adamw(), every, log_every, warmup_steps, validate, monitor, callbacks)
    run.update, run.reserve, run.at_fall = update or backward_and_step, reserve, at_fall
    run.plan(phases, max_steps, time_budget)
    validate_every = validate_every or max(1, max_steps // 10)
    student.train()
    began_in, saved = 0, None
    stream = _endless(batches)
    if checkpoint is not None and Path(checkpoint.path).exists():
        saved = run.read(checkpoint)
        began_in = saved["phase"]
        for phase in phases[:began_in]:  # what these changed beside weights holds from here on
            if phase.at_end is not None:
                phase.at_end(student)
        run.restore(saved)
        if hasattr(batches, "load_state_dict"):
            batches.load_state_dict(saved["batches"])
        else:
            for _ in range(run.done):
                next(stream)
        _set_random_state(saved["random"])
    history = run.history
    try:
        for number, phase in enumerate(phases):
            if number < began_in:
                continue
            if max_steps:  # an optimiser of nothing to do would still load what torch's own need, for seconds
                run.enter(phase)
                if number == began_in and saved is not None:
                    run.optimizer.load_state_dict(saved["optimizer"])
            while not run.phase_over(number):
                run.tell_of_fall()
                run.step(next(stream))
                if validate is not None and run.done % validate_every == 0 and not run.over():
                    run.check()
                if checkpoint is not None and (run.done % checkpoint.every == 0 or run.over()):
                    run.save(checkpoint, number, batches)
            history.phase_steps.append(run.done - sum(history.phase_steps))
            if phase.at_end is not None:
                phase.at_end(student)
        if validate is not None:
            run.check()
    except KeyboardInterrupt:
        if multiprocessing.parent_process() is not None:
            raise
        history.interrupted = True
        warnings.warn(
            f"training was interrupted after {run.done} steps; the student is usable but not fully trained",
            UserWarning,
            stacklevel=2,
        )
    finally:
        run.leave()
    run.finish()
    return history


class _Run:
    """The state of one call of `fit_student`."""

    def __init__(
        self,
        student: Any,
        loss: JointLoss,
        optimizer: Optimizer,
        every: int,
        log_every: int,
        warmup_steps: int,
        validate: Validate | None,
        monitor: str | None,
        callbacks: Sequence[Callable[[Progress], None]],
    ) -> None:
        self.student, self.loss, self.build_optimizer = student, loss, optimizer
        self.every, self.log_every, self.warmup_steps = every, log_every, warmup_steps
        self.validate, self.monitor, self.callbacks, self.history = validate, monitor, callbacks, History()
        self.update: Update = backward_and_step
        self.reserve: Callable[[], float] | None = None
        self.at_fall: Callable[[], None] | None = None
        self.done = 0
        self.began = now()
        self.window: dict[str, list[Tensor]] = {}
        self.best: tuple[float, dict[str, Tensor]] | None = None
        self.trainable = [p for p in student.parameters() if p.requires_grad]

    @property
    def seconds(self) -> float:
        return now() - self.began

    # --------------------------------------------------------------------------------------------------- how long it is
    def plan(self, phases: Sequence[Phase], max_steps: int, time_budget: float | None) -> None:
        """Fix the length of each phase in steps, or in shares of the time budget."""
        if not phases:
            raise ValueError("phases must hold at least one Phase, got none")
        counted = [phase.steps is not None for phase in phases]
        if any(counted) and not all(counted):
            raise ValueError("either every phase has steps or none has, got a mixture")
        self.max_steps, self.time_budget = max_steps, time_budget
        self.n_steps: int | None = max_steps if time_budget is None else None
        if all(counted):
            ends, end = [], 0
            for phase in phases:
                assert phase.steps is not None
                end += phase.steps
                ends.append(end)
            if end != max_steps:
                raise ValueError(f"the phases' steps must add up to max_steps, got {end} and {max_steps}")
            self.phase_ends: list[int] | None = ends
            return
        total = sum(phase.share for phase in phases)
        self.shares = []
        passed = 0.0
        for phase in phases:
            passed += phase.share
            self.shares.append(passed / total)
        self.phase_ends = None if time_budget is not None else [round(max_steps * share) for share in self.shares]

    def over(self) -> bool:
        """Whether all steps are done; under a time budget this also fixes where the learning rate falls."""
        if self.n_steps is None and self.time_budget is not None:
            left = self.time_budget - (0.0 if self.reserve is None else self.reserve())
            late = self.seconds >= 0.8 * left
            if (self.done > 0 and late) or self.done >= decay_start(self.max_steps):
                self.n_steps = min(self.max_steps, steps_from_decay_start(self.done))
        return self.n_steps is not None and self.done >= self.n_steps

    def tell_of_fall(self) -> None:
        """Call ``at_fall`` if the step to come is the first, of those here, at which the learning rate falls."""
        if self.at_fall is not None and self.n_steps is not None and self.done >= decay_start(self.n_steps):
            self.at_fall()
            self.at_fall = None

    def phase_over(self, number: int) -> bool:
        if self.over():
            return True
        if self.phase_ends is not None:
            return self.done >= self.phase_ends[number]
        assert self.time_budget is not None
        last = number == len(self.shares) - 1
        return not last and (
            self.seconds >= self.shares[number] * self.time_budget or self.done >= self.shares[number] * self.max_steps
        )

    # -------------------------------------------------------------------------------------------------------- the steps
    def enter(self, phase: Phase) -> None:
        self.phase = phase
        learning = self.trainable if phase.parameters is None else list(phase.parameters(self.student))
        if not learning:
            raise ValueError("a phase must have at least one parameter that learns")
        chosen = {id(p) for p in learning}
        for parameter in self.trainable:
            parameter.requires_grad_(id(parameter) in chosen)
        self.optimizer = self.build_optimizer(learning)
        self.full_rates = [group["lr"] for group in self.optimizer.param_groups]

    def leave(self) -> None:
        for parameter in self.trainable:
            parameter.requires_grad_(True)

    def step(self, batch: Batch) -> None:
        factor = learning_rate_factor(self.done, self.n_steps, self.warmup_steps)
        for group, rate in zip(self.optimizer.param_groups, self.full_rates, strict=True):
            group["lr"] = rate * factor
        weights = dict(self.phase.weights)
        if self.done % self.every:
            weights["explanation"] = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        total, terms = self.loss(self.student, batch, step=self.done, weights=weights)
        self.update(total, self.optimizer)
        self.done += 1
        self.window.setdefault("total", []).append(total.detach())
        for name, value in terms.items():
            self.window.setdefault(name, []).append(value.detach())
        if self.done % self.log_every == 0 or self.done == self.n_steps:
            self.log(self.full_rates[0] * factor)

    def log(self, learning_rate: float) -> None:
        means = {name: float(torch.stack(values).mean()) for name, values in self.window.items()}
        self.window = {}
        if not means["total"] < float("inf"):
            raise FloatingPointError(f"the loss is not finite by step {self.done}: {means}; try a lower learning rate")
        self.history.steps.append({"step": self.done, "learning_rate": learning_rate, **means})
        self.tell(means, None)

    def tell(self, terms: Mapping[str, float], validation: Mapping[str, float] | None) -> None:
        for callback in self.callbacks:
            callback(Progress(self.done, self.n_steps, self.seconds, terms, validation))

    # ------------------------------------------------------------------------------------------------------- checkpoints
    def save(self, checkpoint: Checkpoint, phase: int, batches: Any) -> None:
        """Write all that repeats the next step; the file appears whole or not at all."""
        state = {
            "tag": checkpoint.tag,
            "plan": self.plan_text(),
            "step": self.done,
            "n_steps": self.n_steps,
            "phase": phase,
            "seconds": self.seconds,
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "update": self.update.state_dict() if hasattr(self.update, "state_dict") else None,
            "window": {name: torch.stack(values) for name, values in self.window.items()},
            "best": self.best,
            "history": asdict(self.history),
            "batches": batches.state_dict() if hasattr(batches, "state_dict") else None,
            "random": _random_state(),
        }
        path = Path(checkpoint.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        torch.save(state, part)
        os.replace(part, path)

    def read(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """A saved state, if it belongs to this run."""
        saved: dict[str, Any] = torch.load(checkpoint.path, map_location="cpu", weights_only=True)
        for name, here in (("tag", checkpoint.tag), ("plan", self.plan_text())):
            if saved[name] != here:
                raise ValueError(
                    f"checkpoint {os.fspath(checkpoint.path)!r} belongs to another run: its {name} is {saved[name]!r}, "
                    f"here it is {here!r}; give another path or remove the file"
                )
        return saved

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go back to a saved state; what belongs to a phase and to the batches is left to the caller."""
        self.student.load_state_dict(saved["student"])
        if saved["update"] is not None and hasattr(self.update, "load_state_dict"):
            self.update.load_state_dict(saved["update"])
        self.done, self.n_steps, self.best = saved["step"], saved["n_steps"], saved["best"]
        device = next(self.student.parameters()).device
        self.window = {name: list(values.to(device)) for name, values in saved["window"].items()}
        self.history = History(**saved["history"])
        self.began = now() - saved["seconds"]

    def plan_text(self) -> str:
        """How long the run is to be, for telling runs apart."""
        ends = self.phase_ends if self.phase_ends is not None else self.shares
        return f"max_steps={self.max_steps}, time_budget={self.time_budget}, phases={ends}, every={self.every}"

    # --------------------------------------------------------------------------------------------------- held-out checks
    def check(self) -> None:
        assert self.validate is not None
        self.student.eval()
        with torch.no_grad():
            found = {name: float(value) for name, value in self.validate(self.student).items()}
        self.student.train()
        self.history.validations.append({"step": self.done, "seconds": self.seconds, **found})
        if self.monitor is not None:
            value = found[self.monitor]
            if self.best is None or value > self.best[0]:
                self.best = (value, {k: v.detach().clone() for k, v in self.student.state_dict().items()})
                self.history.best_step = self.done
        self.tell({}, found)

    def finish(self) -> None:
        if self.best is not None:
            self.student.load_state_dict(self.best[1])
        else:
            self.history.best_step = self.done
        self.student.eval()
        self.history.n_steps = self.done
        self.history.seconds = self.seconds


def backward_and_step(total: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """The plain update: the gradient of the loss, and one step of the optimiser."""
    total.backward()
    optimizer.step()


def _random_state() -> dict[str, Any]:
    """The state of torch's random numbers, on all devices that are in use."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _endless(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError("batches must hold at least one Batch, got none")
