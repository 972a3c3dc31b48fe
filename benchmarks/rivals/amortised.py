"""Networks that give Shapley values in one pass, after FastSHAP and ViaSHAP; both written here, after the papers.

Their Shapley values are interventional: an absent feature takes its value from other rows, whatever the present ones are.
The teacher's TreeSHAP, which all attributions here are held against, is path-dependent: another definition, which even a
perfect explainer of this kind does not meet.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.problem import Problem
from benchmarks.rivals.contract import Rival
from benchmarks.rivals.tables import Inputs
from benchmarks.rivals.teacher_side import TeacherSide
from gbdt2nn.clock import now
from gbdt2nn.student_answers import torch_at_work

Array = NDArray[np.float64]

COALITIONS = 32  # of a row, in pairs of one and its complement: the number of both papers
BATCH = 64
MOST_EPOCHS = 300
PATIENCE = 20  # epochs without a better loss of the stop rows
STOP = 0.15  # share of the rows that decide when training ends
MOST_ASKED = 400_000  # rows with absent features that the teacher is asked for
LABELLING_SHARE = 0.4  # of a time budget, at most
BACKGROUND = 100  # rows that absent values are taken from


def coalitions(n_rows: int, n_features: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw coalitions by the Shapley kernel, in pairs of one and its complement.

    Returns
    -------
    present : ndarray of shape (n_rows, COALITIONS, n_features), bool
        Neither empty nor full; of size s with a chance in proportion to 1 / (s (d - s)).
    """
    sizes = np.arange(1, n_features)
    chance = 1.0 / (sizes * (n_features - sizes))
    half = rng.choice(sizes, size=(n_rows, COALITIONS // 2, 1), p=chance / chance.sum())
    rank = rng.random((n_rows, COALITIONS // 2, n_features)).argsort(axis=2).argsort(axis=2)
    present = rank < half
    return np.concatenate([present, ~present], axis=1)


def network(n_inputs: int, hidden: tuple[int, ...], n_values: int) -> nn.Sequential:
    """Return a plain network with ReLU."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_inputs, width), nn.ReLU()]
        n_inputs = width
    return nn.Sequential(*layers, nn.Linear(n_inputs, n_values))


def train(
    model: nn.Module, loss: Callable[[NDArray[np.int64]], Tensor], parts: tuple[NDArray[np.int64], NDArray[np.int64]],
    *, learning_rate: float, deadline: float | None, rng: np.random.Generator,
) -> int:  # fmt: skip
    """Train with Adam until the stop rows, the epochs or the time say stop, and keep the best weights; return the epochs."""
    train_rows, stop_rows = parts
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    halve = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=PATIENCE // 4)
    best, best_state, since, epochs = np.inf, _copy(model), 0, 0
    while since < PATIENCE and epochs < MOST_EPOCHS and not (deadline is not None and now() >= deadline):
        for batch in _batches(train_rows, rng):
            if deadline is not None and now() >= deadline:
                break
            optimizer.zero_grad()
            loss(batch).mean().backward()
            optimizer.step()
        epochs += 1
        with torch.no_grad():
            reached = float(
                torch.cat([loss(rows) for rows in np.array_split(stop_rows, 1 + len(stop_rows) // 1024)]).mean()
            )
        halve.step(reached)
        if reached < best:
            best, best_state, since = reached, _copy(model), 0
        else:
            since += 1
    model.load_state_dict(best_state)
    return epochs


def _batches(rows: NDArray[np.int64], rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    rows = rng.permutation(rows)
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _split(n_rows: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows = rng.permutation(n_rows)
    n_stop = max(1, round(STOP * n_rows))
    return rows[n_stop:], rows[:n_stop]


class Amortised(Rival):
    """A network whose outputs are Shapley values, in units of the raw score.

    Parameters
    ----------
    side : TeacherSide
    inputs : Inputs
    model : nn.Module
        From inputs to (n_samples, n_outputs * n_features).
    base_value : ndarray of shape (n_outputs,)
    scale : float
        Units of the raw score in one of the network's.
    described : dict
    """

    explains = "own"

    def __init__(
        self,
        side: TeacherSide,
        inputs: Inputs,
        model: nn.Module,
        base_value: Array,
        scale: float,
        described: dict[str, Any],
    ) -> None:
        super().__init__(side)
        self.inputs, self.model, self.base_value, self.scale, self.described = (
            inputs,
            model,
            base_value,
            scale,
            described,
        )

    def values(self, x: Array) -> Array:
        """What the network gives for the teacher's numbers, shape (n_samples, n_outputs, n_features)."""
        with torch_at_work(self.side.n_jobs), torch.no_grad():
            found = self.model(torch.from_numpy(self.inputs.transform(x)))
        return self.scale * found.double().numpy().reshape(len(x), self.side.n_outputs, self.side.n_features)

    def raw_score(self, X: pd.DataFrame) -> Array:
        attribution, base_value = self.explain(X)
        return base_value + attribution.sum(axis=2)

    def explain(self, X: pd.DataFrame) -> tuple[Array, Array]:
        return self.values(self.side.numbers(X)), self.base_value

    def describe(self) -> dict[str, Any]:
        return {"n_parameters": sum(parameter.numel() for parameter in self.model.parameters()), **self.described}


class FastShap(Amortised):
    """An explainer of the teacher: it explains, and its score is the teacher's own."""

    has_score = False

    def raw_score(self, X: pd.DataFrame) -> Array:
        return self.side.score(X)

    def explain(self, X: pd.DataFrame) -> tuple[Array, Array]:
        # additive efficient normalisation: what is missing of the teacher's score is shared out equally
        x = self.side.numbers(X)
        values = self.values(x)
        gap = self.side.score_of_numbers(x) - self.base_value - values.sum(axis=2)
        return values + gap[:, :, None] / values.shape[2], self.base_value


def fastshap_like(problem: Problem) -> Rival:
    """An explainer network of the teacher after FastSHAP: weighted least squares on coalitions, marginal value function."""
    side, x, inputs, rng = _ready(problem)
    background = x[rng.choice(len(x), min(BACKGROUND, len(x)), replace=False)]
    base_value = side.score_of_numbers(background).mean(axis=0)
    deadline = None if problem.time_budget is None else now() + problem.time_budget
    start = now()
    taught = rng.permutation(len(x))[: max(1, MOST_ASKED // COALITIONS)]
    asked, present, value = [], [], []
    for rows in np.array_split(taught, 1 + len(taught) // 256):
        if asked and problem.time_budget is not None and now() - start > LABELLING_SHARE * problem.time_budget:
            break
        drawn = coalitions(len(rows), side.n_features, rng) if side.n_features > 1 else _full(len(rows))
        mixed = np.where(drawn, x[rows][:, None], background[rng.integers(len(background), size=drawn.shape[:2])])
        score = side.score_of_numbers(mixed.reshape(-1, side.n_features))
        asked.append(rows)
        present.append(drawn)
        value.append(score.reshape(*drawn.shape[:2], side.n_outputs) - base_value)  # (n_rows, COALITIONS, n_outputs)
    labelling = now() - start
    rows = np.concatenate(asked)
    spread = float(np.concatenate(value).std()) or 1.0
    inputs_of = torch.from_numpy(inputs.transform(x[rows]))
    held = torch.from_numpy(np.concatenate(present)).float()
    target = torch.from_numpy(np.concatenate(value) / spread).float()
    full = torch.from_numpy((side.score_of_numbers(x[rows]) - base_value) / spread).float()
    weight = torch.from_numpy(_weight(problem)[rows]).float()
    shape = (side.n_outputs, side.n_features)

    with torch_at_work(side.n_jobs), torch.random.fork_rng():
        torch.manual_seed(problem.seed)
        model = network(len(inputs.columns), (128, 128), side.n_outputs * side.n_features)

        def loss(at: NDArray[np.int64]) -> Tensor:
            values = model(inputs_of[at]).unflatten(1, shape)
            values = values + ((full[at] - values.sum(2)) / side.n_features)[:, :, None]
            gap = torch.einsum("nsd,nkd->nsk", held[at], values) - target[at]
            return weight[at] * gap.square().mean(dim=(1, 2)) * side.n_features

        epochs = train(model, loss, _split(len(rows), rng), learning_rate=1e-3, deadline=deadline, rng=rng)
    described = {
        "learned": "values of coalitions",
        "n_epochs": epochs,
        "n_asked": len(rows) * COALITIONS,
        "seconds": {"labelling": labelling, "student": now() - start - labelling},
    }
    return FastShap(side, inputs, model, base_value, spread, described)


def viashap_like(problem: Problem) -> Rival:
    """A network after ViaSHAP, on labels: its outputs add up to the raw score and are its own Shapley values."""
    side, x, inputs, rng = _ready(problem)
    deadline = None if problem.time_budget is None else now() + problem.time_budget
    start = now()
    row_weight = _weight(problem)
    target = side.positions(problem.y)
    base_value, scale = _level(problem.task, target, row_weight, side.n_outputs)
    inputs_of = torch.from_numpy(inputs.transform(x))
    feature = torch.from_numpy(inputs.feature)
    label = torch.from_numpy(target).long() if side.classes is not None else torch.from_numpy(target).float()
    weight = torch.from_numpy(row_weight).float()
    base = torch.from_numpy(base_value).float()
    shape = (side.n_outputs, side.n_features)

    with torch_at_work(side.n_jobs), torch.random.fork_rng():
        torch.manual_seed(problem.seed)
        model = network(len(inputs.columns), (64, 128, 64), side.n_outputs * side.n_features)

        def loss(at: NDArray[np.int64]) -> Tensor:
            given = inputs_of[at]
            values = model(given).unflatten(1, shape)  # (batch, n_outputs, n_features), in units of the scale
            wrong = _wrong(problem.task, base + scale * values.sum(2), label[at], scale)
            if side.n_features == 1:
                return weight[at] * wrong
            drawn = coalitions(len(at), side.n_features, rng)[:, [0, COALITIONS // 2]]  # a pair for each row and step
            held = torch.from_numpy(drawn).float()
            masked = (given[:, None] * held[:, :, feature]).flatten(0, 1)
            alone = model(masked).unflatten(1, shape).sum(2).unflatten(0, held.shape[:2])  # (batch, 2, n_outputs)
            empty = model(torch.zeros_like(given[:1])).unflatten(1, shape).sum(2)
            gap = alone - empty - torch.einsum("nsd,nkd->nsk", held, values)
            return weight[at] * (wrong + SHAPLEY_WEIGHT * gap.square().mean(dim=(1, 2)))

        epochs = train(model, loss, _split(len(x), rng), learning_rate=1e-3, deadline=deadline, rng=rng)
    described = {"learned": "labels", "n_epochs": epochs, "seconds": {"student": now() - start}}
    found = Amortised(side, inputs, model, base_value, scale, described)
    found.up_to_a_shift = True
    return found


SHAPLEY_WEIGHT = 10.0  # beta of the paper, where the prediction loss weighs 1


def _wrong(task: str, score: Tensor, label: Tensor, scale: float) -> Tensor:
    """Prediction loss of each row, in units of the scale for numbers."""
    if task == "regression":
        return ((score[:, 0] - label) / scale).square()
    if task == "poisson":
        return score[:, 0].exp() - label * score[:, 0]
    if task == "binary":
        return nn.functional.binary_cross_entropy_with_logits(score[:, 0], label.float(), reduction="none")
    return nn.functional.cross_entropy(score, label, reduction="none")


def _level(task: str, target: Array, weight: Array, n_outputs: int) -> tuple[Array, float]:
    """Raw score without features, and the unit of the network: the spread of numbers, else 1."""
    mean = float(np.average(target, weights=weight))
    if task == "regression":
        return np.array([mean]), float(np.sqrt(np.average((target - mean) ** 2, weights=weight))) or 1.0
    if task == "poisson":
        return np.array([np.log(max(mean, 1e-7))]), 1.0
    if task == "binary":
        mean = min(max(mean, 1e-7), 1 - 1e-7)
        return np.array([np.log(mean) - np.log1p(-mean)]), 1.0
    share = np.bincount(target.astype(np.int64), weights=weight, minlength=n_outputs) / weight.sum()
    return np.log(np.maximum(share, 1e-7)), 1.0


def _ready(problem: Problem) -> tuple[TeacherSide, Array, Inputs, np.random.Generator]:
    if problem.time_budget is not None and problem.time_budget <= 0:
        raise RuntimeError(f"the teacher used up the time budget: {problem.time_budget:.1f} s remain")
    side = TeacherSide(problem.teacher, problem.X, problem.n_jobs)
    x = side.numbers(problem.X)
    return side, x, Inputs(x, [known is not None for known in side.categories]), np.random.default_rng(problem.seed)


def _weight(problem: Problem) -> Array:
    weight = np.ones(len(problem.X)) if problem.weight is None else np.asarray(problem.weight, np.float64)
    return weight / weight.mean()


def _full(n_rows: int) -> NDArray[np.bool_]:
    """Of a single feature there is no coalition in between: it is present."""
    return np.ones((n_rows, COALITIONS, 1), bool)
