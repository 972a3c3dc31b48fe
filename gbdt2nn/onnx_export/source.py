"""What is exported: a fitted student or a booster, behind one face."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.attributions.tree_shap.engine import TreeShap
from gbdt2nn.binning import Binner
from gbdt2nn.code_reader import CodeReader
from gbdt2nn.compiled_teacher import CompiledTeacher, compile
from gbdt2nn.encoding import Encoder
from gbdt2nn.fitted_model import FittedModel
from gbdt2nn.onnx_export.network import student_nodes
from gbdt2nn.onnx_export.nodes import Nodes
from gbdt2nn.onnx_export.tables import teacher_nodes
from gbdt2nn.student_answers import student_explained
from gbdt2nn.teachers.description import TeacherDescription
from gbdt2nn.teachers.habits import HABITS

Array = NDArray[np.float64]


@dataclass
class Source:
    """What is exported.

    Attributes
    ----------
    kind : {"student", "teacher"}
    name : str
        Of the student on the shelf, or of the teacher's library.
    description : TeacherDescription
    encoder : Encoder
    binner : Binner
    classes : ndarray or None
    base_value : ndarray of shape (n_outputs,)
    explains : bool
    fidelity : dict
        Of a student to its teacher, the numbers alone.
    net : module
        The student, or the compiled teacher.
    engine : TreeShap or None
    ensemble : TreeEnsemble
    """

    kind: str
    name: str
    description: TeacherDescription
    encoder: Encoder
    binner: Binner
    classes: NDArray[Any] | None
    base_value: Array
    explains: bool
    fidelity: dict[str, float]
    net: Any
    ensemble: Any
    engine: TreeShap | None = None

    @property
    def accepts_infinity(self) -> bool:
        """Whether the teacher's library reads infinite values."""
        return HABITS[self.description.library].accepts_infinity

    def nodes(self, graph: Nodes, codes: str, opset: int) -> tuple[str, str | None]:
        """Write down how codes become raw score and attribution."""
        if self.kind == "teacher":
            return teacher_nodes(graph, codes, self.net)
        found = student_nodes(
            graph, codes, self.net, n_features=self.binner.n_features, explains=self.explains, opset=opset
        )
        return found[0], found[1] if self.explains else None

    def reader(self) -> CodeReader:
        """What turns numbers into codes."""
        return self.net.reader if isinstance(self.net, CompiledTeacher) else CodeReader(self.binner)

    def answer(self, x: Array) -> tuple[Array, Array | None]:
        """What the model itself says of numbers: raw score and attribution, in double precision where it has it."""
        codes = self.binner.transform(x, order="F")
        if self.engine is not None:
            return self.ensemble.raw_score(x), self.engine.attributions(codes)
        return student_explained(self.net, codes, explain=self.explains)


def source_of(model: Any, *, n_iterations: int | None, table_memory: int) -> Source:
    """Find out what a model is.

    Parameters
    ----------
    model : fitted estimator of gbdt2nn, fitted estimator or Booster of a boosting library
    n_iterations : int or None
    table_memory : int

    Returns
    -------
    source : Source
    """
    distilled = getattr(model, "distilled_", None)
    if distilled is not None:
        if n_iterations is not None:
            raise ValueError(f"n_iterations is for boosters alone, got {n_iterations} with a {type(model).__name__}")
        explains = bool(distilled.explains and getattr(distilled.student, "explanation", "head") != "none")
        fidelity = {
            name: float(value) for name, value in distilled.fidelity.items()
            if isinstance(value, int | float | np.number) and not isinstance(value, bool)
        }  # fmt: skip
        return Source(
            kind="student",
            name=distilled.options.student,
            description=distilled.description,
            encoder=distilled.encoder,
            binner=distilled.binner,
            classes=distilled.classes,
            base_value=np.asarray(distilled.base_value),
            explains=explains,
            fidelity=fidelity,
            net=distilled.student,
            ensemble=distilled.ensemble,
        )
    if hasattr(model, "get_params") and type(model).__module__.startswith("gbdt2nn."):
        raise ValueError(f"model must be fitted, got a {type(model).__name__} that is not")
    fitted = FittedModel(model, n_iterations=n_iterations)
    net = compile(model, n_iterations=n_iterations, table_memory=table_memory)
    trees = fitted.trees()
    engine = fitted.engine()
    classifies = fitted.description.task in ("binary", "multiclass")
    return Source(
        kind="teacher",
        name=fitted.description.library,
        description=fitted.description,
        encoder=fitted.reader.encoder,
        binner=trees.binner,
        classes=fitted.description.classes if classifies else None,
        base_value=np.array(engine.base_value),
        explains=True,
        fidelity={},
        net=net,
        ensemble=trees.ensemble,
        engine=engine,
    )
