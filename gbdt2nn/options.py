"""What a distillation is told, and what the machine makes of it: seeds, threads, cache, device."""

import inspect
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from joblib import Memory

from gbdt2nn.arguments import check_choice, check_mapping, check_number, thread_count
from gbdt2nn.attributions import ATTRIBUTIONS
from gbdt2nn.joint_loss import EXPLANATION_LOSSES
from gbdt2nn.label_choice import FEWEST_STEPS
from gbdt2nn.students import STUDENTS

PRECISIONS = ("auto", "float32", "bfloat16")
OPTIMIZERS = ("auto", "adamw", "muon")


@dataclass(frozen=True)
class Options:
    """What a distillation is told; names, meanings and defaults are those of the estimators' parameters."""

    teacher_params: Mapping[str, Any] | None = None
    student: str = "self_explaining"
    student_params: Mapping[str, Any] | None = None
    attribution: str = "tree_shap"
    imitation_weight: Any = "auto"  # or a number
    explanation_weight: float = 1.0
    explanation_loss: str = "squared_error"
    label_weight: Any = None  # the student's own; or a number, or "auto"
    n_synthetic: int | str = "auto"
    n_explained: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float = 4e-3
    max_steps: int | str = "auto"
    time_budget: float | None = None
    n_jobs: int | None = None
    memory: Any = None
    device: str = "auto"
    training_precision: str = "auto"
    optimizer: str = "auto"
    verbose: int = 0
    random_state: Any = None

    def resolved(self, *, has_labels: bool) -> "Options":
        """The same with the student's own task where none is named: labels for GBDT2NN where there are any, else scores.

        GBDT2NN learns from labels, in small batches and more steps. ``label_weight="auto"`` stays elsewhere, to be chosen.
        """
        cls: Any = STUDENTS[self.student]
        own: dict[str, Any] = {"imitation_weight": 1.0, "label_weight": 0.0, "batch_size": 2048, "max_steps": 1000}
        if hasattr(cls, "own_settings"):
            own |= cls.own_settings(self.student_params or {}, has_labels=has_labels)
        chooses = self.label_weight == "auto" and not getattr(cls, "learns_labels", False)
        unset = [
            name for name in own if getattr(self, name) in (None, "auto") and not (name == "label_weight" and chooses)
        ]
        return replace(self, **{name: own[name] for name in unset})

    def check(self) -> None:
        """Refuse values out of range before any work begins."""
        check_mapping("teacher_params", self.teacher_params)
        check_choice("student", self.student, STUDENTS)
        check_mapping("student_params", self.student_params)
        known = student_options(self.student)
        for name, value in (self.student_params or {}).items():
            if name not in known:
                raise TypeError(
                    f"student_params of student {self.student!r} must be among {sorted(known)}, got {name!r}"
                )
            label = f"student_params[{name!r}]"
            if hasattr(STUDENTS[self.student], "check_options"):
                if isinstance(known[name], int) and not isinstance(known[name], bool):
                    check_number(label, value, low=1, integer=True)
            elif isinstance(value, str):
                check_choice(label, value, [known[name]] if isinstance(known[name], str) else [])
            elif isinstance(known[name], int | str):
                check_number(label, value, low=0 if isinstance(known[name], str) else 1, integer=True)
            elif isinstance(known[name], float):
                check_number(label, value, low=0)
        cls: Any = STUDENTS[self.student]
        if hasattr(cls, "check_options"):
            weight = self.explanation_weight
            cls.check_options(self.student_params or {}, weight if isinstance(weight, int | float) else 0.0)
        if not self.learns_by_gradient:
            self.check_tables()
        check_choice("attribution", self.attribution, ATTRIBUTIONS)
        check_choice("training_precision", self.training_precision, PRECISIONS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.optimizer == "muon" and not getattr(STUDENTS[self.student], "learns_by_muon", False):
            raise ValueError(
                f"optimizer must be 'auto' or 'adamw' with student {self.student!r}, which has no layers for 'muon'"
            )
        check_choice("explanation_loss", self.explanation_loss, EXPLANATION_LOSSES)
        for name in ("imitation_weight", "explanation_weight", "label_weight"):
            if name != "explanation_weight" and getattr(self, name) == "auto":
                continue
            check_number(name, getattr(self, name), low=0, none=name == "label_weight")
        own = self.resolved(has_labels=True)
        if own.label_weight == "auto" and own.imitation_weight == 0:
            raise ValueError("label_weight must be a number where imitation_weight is 0, got 'auto'")
        if own.label_weight == "auto" and isinstance(self.max_steps, int) and self.max_steps < FEWEST_STEPS:
            raise ValueError(
                f"max_steps must be at least {FEWEST_STEPS} where label_weight is 'auto', got {self.max_steps}"
            )
        if own.imitation_weight == own.explanation_weight == own.label_weight == 0:
            raise ValueError(
                "one of imitation_weight, explanation_weight and label_weight must be positive, got 0 for all"
            )
        for name, least in (("n_synthetic", 0), ("n_explained", int(self.explanation_weight > 0))):
            value = getattr(self, name)
            if isinstance(value, str):
                check_choice(name, value, ["auto"])
            else:
                check_number(name, value, low=least, integer=True)
        for name in ("batch_size", "max_steps"):
            if isinstance(getattr(self, name), str):
                check_choice(name, getattr(self, name), ["auto"])
            else:
                check_number(name, getattr(self, name), low=1, integer=True)
        check_number("learning_rate", self.learning_rate, low=0, inclusive=False)
        check_number("time_budget", self.time_budget, low=0, inclusive=False, none=True)
        check_number("n_jobs", self.n_jobs, low=-(2**31), integer=True, none=True)
        if self.n_jobs == 0:
            raise ValueError("n_jobs must be positive, negative (-1 for all cores, -2 for all but one) or None, got 0")
        check_number(
            "verbose", int(self.verbose) if isinstance(self.verbose, bool) else self.verbose, low=0, integer=True
        )
        if not isinstance(self.device, str):
            raise TypeError(f"device must be 'auto' or the name of a torch device, got {self.device!r}")
        if (
            self.memory is not None
            and not isinstance(self.memory, str | os.PathLike)
            and not hasattr(self.memory, "cache")
        ):
            raise TypeError(f"memory must be None, a folder or a joblib.Memory, got {self.memory!r}")

    @property
    def learns_labels(self) -> bool:
        """Whether labels may count, once `resolved`."""
        return self.label_weight == "auto" or self.label_weight > 0

    @property
    def learns_by_gradient(self) -> bool:
        """Whether the student learns in steps of gradient descent; one that does not is solved for."""
        student: Any = STUDENTS[self.student]
        return bool(student.learns_by_gradient)

    def check_tables(self) -> None:
        """Refuse what least squares of attributions cannot take into account."""
        for name, value, wanted in (
            ("label_weight", self.label_weight, self.label_weight in (0, None)),
            ("explanation_weight", self.explanation_weight, self.explanation_weight != 0),
            ("explanation_loss", self.explanation_loss, self.explanation_loss == "squared_error"),
        ):
            if not wanted:
                expected = {"label_weight": "0", "explanation_weight": "positive"}.get(name, "'squared_error'")
                raise ValueError(
                    f"{name} must be {expected} with student {self.student!r}, a least-squares fit of the teacher's "
                    f"attributions, got {value!r}"
                )


def student_options(student: str) -> dict[str, Any]:
    """A student's own options and their defaults: what its constructor takes besides what the flow gives it."""
    given = {"columns", "base_value", "score_scale", "attribution_mean", "attribution_scale", "tables", "used", "seed"}
    given |= {"trees", "code_share", "bins", "walk", "choose_tables"}
    cls: Any = STUDENTS[student]
    parameters = dict(inspect.signature(cls).parameters)
    if hasattr(cls, "inner"):  # it hands on what it does not know
        parameters = {**inspect.signature(cls.inner).parameters, **parameters}
    named = [p for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
    return {parameter.name: parameter.default for parameter in named if parameter.name not in given}


class Seeds:
    """Seeds for every draw, from one ``random_state``; the global generators are not touched."""

    def __init__(self, random_state: Any) -> None:
        if isinstance(random_state, np.random.RandomState):
            drawn = random_state.randint(0, 2**31 - 1, size=4)
        elif isinstance(random_state, np.random.Generator):
            drawn = random_state.integers(0, 2**31 - 1, size=4)
        else:
            if random_state is not None:
                check_number("random_state", random_state, low=0, integer=True)
                random_state = int(random_state)
            drawn = np.random.default_rng(random_state).integers(0, 2**31 - 1, size=4)
        self.teacher, self.split, self.synthesis, self.student = (int(seed) for seed in drawn)


def n_threads(n_jobs: int | None) -> int:
    """Threads to use: all cores by default, one in a worker process; negative numbers count from all cores down."""
    if n_jobs is None:
        return 1 if multiprocessing.parent_process() is not None else thread_count(-1)
    return thread_count(int(n_jobs))


def as_memory(memory: Any) -> Any:
    """A joblib Memory from None, a folder or a Memory, as scikit-learn's ``Pipeline(memory=)`` takes it."""
    if memory is None or isinstance(memory, str | os.PathLike):
        return Memory(location=memory, verbose=0)
    return memory


def trains_in_bfloat16(precision: str, device: str) -> bool:
    """Whether hidden layers train in bfloat16; "auto": where the processor multiplies such numbers itself."""
    if precision != "auto":
        return precision == "bfloat16"
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.device(device).type != "cpu":
        return False
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return any(features.get(name, False) for name in ("avx512bf16", "amx-bf16", "bf16"))


def resolve_device(device: str) -> str:
    """The name of a torch device; "auto" is the first CUDA device where there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(1, dtype=torch.float64, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must name a torch device that is here and holds float64, got {device!r}: {reason}"
        ) from None
    return str(found)
