"""One run: a bank, a student, a distiller of `gbdt2nn.vision`, and what came of it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.vision.bank import Bank, make_bank, shuffled
from benchmarks.vision.experiments import Experiment, Method
from benchmarks.vision.pictures import SETS, Pictures, PictureSet
from benchmarks.vision.scoring import Reference
from benchmarks.vision.teachers import build, teacher
from gbdt2nn import vision
from gbdt2nn.training import adamw
from gbdt2nn.vision.frozen import FrozenItem

# Maps are compared at the size of the layer, batch norms explain with the batch's own statistics; both are cheaper.
EXPLAINERS: dict[str, Any] = {
    "gradcam": vision.GradCAM("blocks", resize=False, batch_norm="batch"),
    "input_gradient": vision.InputGradient(batch_norm="batch"),
    "attention": vision.ActivationAttention(("blocks",)),
    "class_maps": vision.ClassMaps("blocks"),
    "bcos": vision.BCos(input_layer="inverse"),
    "bcos_contributions": vision.BCos(contributions=True, input_layer="inverse"),
    "integrated_gradients": vision.IntegratedGradients(n_steps=16),
    "shap": vision.PatchShap(patch=4, n_orders=2),
}
MOVED = ("integrated_gradients", "shap")  # too dear for each move of a picture: once for each picture, moved with it


class BankLoader:
    """Batches of a bank, as `gbdt2nn.vision` takes frozen explanations; each pass in a new order that the seed draws."""

    def __init__(self, bank: Bank, explainer: str | None, *, batch_size: int, seed: int) -> None:
        self.bank, self.explainer, self.batch_size = bank, explainer, batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return max(1, len(self.bank.images) // self.batch_size)

    def __iter__(self) -> Iterator[FrozenItem]:
        bank, n = self.bank, len(self.bank.images)
        order = torch.randperm(n, generator=self.generator)
        for rows in order[: len(self) * self.batch_size].split(self.batch_size):
            maps = torch.empty(0) if self.explainer is None else bank.maps[self.explainer][rows]
            yield FrozenItem(bank.images[rows], bank.labels[rows], bank.score[rows], maps)


class Setting:
    """What the methods of one experiment share at one seed: pictures, teacher, banks, references.

    Parameters
    ----------
    experiment : Experiment
    methods : mapping from name to Method
        Those that will run: only their explainers are asked.
    seed : int
    models : Path
        Where teachers are kept.
    """

    def __init__(
        self,
        experiment: Experiment,
        methods: Mapping[str, Method],
        seed: int,
        models: Path,
    ) -> None:
        self.experiment, self.methods, self.seed = experiment, methods, seed
        self.teacher, self.teacher_described = teacher(experiment.teacher, models)
        self.pictures: PictureSet = SETS[experiment.data]()  # type: ignore[operator]
        self.train = drawn(self.pictures.train, experiment, seed)
        self._banks: dict[tuple[bool, bool], Bank] = {}

    def bank(self, method: Method) -> Bank:
        """The bank that a method learns from."""
        key = (method.frozen, method.shuffled)
        if key not in self._banks:
            if method.shuffled:
                plain = self.bank(replace(method, shuffled=False))
                self._banks[key] = shuffled(plain, within_class=True, seed=self.seed)
            else:
                asked = {m.explainer for m in self.methods.values() if m.explainer and m.frozen == method.frozen}
                self._banks[key] = make_bank(
                    self.train,
                    self.teacher,
                    {name: EXPLAINERS[name] for name in sorted(asked)},
                    n_variants=self.experiment.n_variants,
                    frozen=method.frozen,
                    moved_maps=MOVED,
                    seed=self.seed,
                )
        return self._banks[key]

    def _reference(self, pictures: Pictures, n: int) -> Reference:
        own = {name: (EXPLAINERS[name], EXPLAINERS[name]) for name in self.experiment.explainers}
        return Reference(pictures[:n], self.teacher, own, n_explained=self.experiment.n_explained)

    @cached_property
    def test(self) -> Reference:
        """The test pictures, and the teacher's answers."""
        return self._reference(self.pictures.test, self.experiment.n_test)

    @cached_property
    def validation(self) -> Reference:
        """The validation pictures, and the teacher's answers."""
        return self._reference(self.pictures.validation, self.experiment.n_test)


def drawn(pictures: Pictures, experiment: Experiment, seed: int) -> Pictures:
    """The training pictures of an experiment: aligned ones, some of each class, or some."""
    generator = torch.Generator().manual_seed(seed)
    if experiment.aligned:
        pictures = pictures[pictures.places == pictures.labels]  # type: ignore[index]
    order = torch.randperm(len(pictures), generator=generator)
    if experiment.shots is not None:
        labels = pictures.labels[order]
        chosen = [order[labels == label][: experiment.shots] for label in labels.unique()]
        return pictures[torch.cat(chosen)]
    return pictures if experiment.n_pictures is None else pictures[order[: experiment.n_pictures]]


def distiller(setting: Setting, method: Method, student: nn.Module, *, choice: Mapping[str, float]) -> vision.LogitKD:
    """A method's distiller, as a user would build it."""
    training = vision.TrainingOptions(
        optimizer=adamw(choice["learning_rate"], 1e-3), random_state=setting.seed, log_every=50
    )
    common = {"training": training, "temperature": choice["temperature"], **method.options}
    if method.kind == "labels":
        return vision.LabelsOnly(student, teacher=setting.teacher, training=training)
    if method.kind == "kd":
        return vision.LogitKD(setting.teacher, student, **common)
    if method.kind == "e2kd":
        weight = {} if "explanation_weight" in method.options else {"explanation_weight": choice["explanation_weight"]}
        common |= {**weight, "every": method.every}
        return vision.E2KD(setting.teacher, student, explainer=EXPLAINERS[method.explainer or ""], **common)
    if method.kind == "attention":
        return vision.AttentionTransfer(setting.teacher, student, layers=("blocks",), **common)
    if method.kind == "catkd":
        return vision.CATKD(setting.teacher, student, layer="blocks", **common)
    return vision.XDistillation(
        setting.teacher, student, explainer=EXPLAINERS[method.explainer or ""], layer="blocks", **common
    )


def train(
    setting: Setting, method: Method, *, choice: Mapping[str, float], n_steps: int
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained student, and what its training took.

    Returns
    -------
    student : nn.Module
        In eval mode.
    described : dict
        ``seconds`` (wall clock and processor, without the bank), ``n_steps``, the last ``loss`` terms, ``zero_maps`` seen.
    """
    experiment = setting.experiment
    sizes = {**experiment.sizes, **method.sizes}
    student = build(experiment.student, setting.pictures, sizes, seed=setting.seed + 1)
    own = distiller(setting, method, student, choice=choice)
    loader = BankLoader(setting.bank(method), method.explainer, batch_size=experiment.batch_size, seed=setting.seed)
    wall, processor = time.perf_counter(), time.process_time()
    own.fit(loader, max_steps=n_steps)
    seconds = {"training": time.perf_counter() - wall, "training_processor": time.process_time() - processor}
    described = {
        "seconds": seconds,
        "n_steps": own.history_.n_steps,
        "loss": own.history_.steps[-1],
        "zero_maps": own.zero_map_share_,
    }
    return own.student.eval(), described


def ablated_accuracy(student: Any, pictures: Pictures) -> float:
    """Accuracy of a fused student whose autoencoder says the same of every picture."""
    student.ablated = True
    try:
        with torch.no_grad():
            score: Tensor = torch.cat([student(part) for part in pictures.images.split(500)])
    finally:
        student.ablated = False
    return float((score.argmax(1) == pictures.labels).double().mean())
