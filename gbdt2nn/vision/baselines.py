"""What explanation-enhanced distillation is compared with, on the same loss and loop."""

from typing import Any

from torch import Tensor, nn

from gbdt2nn.joint_loss import Explained, JointLoss
from gbdt2nn.vision.distiller import Distiller
from gbdt2nn.vision.explainers.activations import ActivationAttention, ClassMaps
from gbdt2nn.vision.explainers.protocol import Explainer
from gbdt2nn.vision.losses import map_distance
from gbdt2nn.vision.training_options import TrainingOptions


class LabelsOnly(Distiller):
    """The student alone: cross-entropy with the labels. A teacher, if given, serves to measure agreement.

    Parameters
    ----------
    student : nn.Module
    teacher : nn.Module, optional
    multi_label : bool, default=False
    training : TrainingOptions, optional
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        teacher: nn.Module | None = None,
        multi_label: bool = False,
        training: TrainingOptions | None = None,
    ) -> None:
        super().__init__(
            teacher, student, imitation_weight=0.0, label_weight=1.0, multi_label=multi_label, training=training
        )

    def _teach(self, images: Tensor, label: Tensor | None, *, explain: bool) -> tuple[Explained, Tensor | None]:
        """While the student trains nobody asks the teacher."""
        if self.teacher is None or self.student.training:
            return Explained(images.new_zeros(len(images), 0), None), None
        return super()._teach(images, label, explain=explain)


class LogitKD(Distiller):
    """Knowledge distillation by the softened scores (Hinton et al. 2015): e2KD at explanation weight 0.

    Parameters
    ----------
    teacher, student : nn.Module
    temperature : float, default=1.0
    imitation_weight : float, default=1.0
    label_weight : float, default=0.0
    multi_label : bool, default=False
    training : TrainingOptions, optional
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        temperature: float = 1.0,
        imitation_weight: float = 1.0,
        label_weight: float = 0.0,
        multi_label: bool = False,
        training: TrainingOptions | None = None,
    ) -> None:
        super().__init__(
            teacher,
            student,
            temperature=temperature,
            imitation_weight=imitation_weight,
            label_weight=label_weight,
            multi_label=multi_label,
            training=training,
        )


class _MapBaseline(Distiller):
    """A method that compares what layers show, with a loss of its own."""

    sum_maps: bool
    normalise = True

    def _pair(self) -> tuple[Explainer, Explainer]:
        raise NotImplementedError

    def _explainers(self) -> tuple[Explainer | None, Explainer | None]:
        return self._pair()

    def _loss(self) -> JointLoss:
        return JointLoss(
            imitation=self._imitation_loss(),
            explanation=map_distance(sum_maps=self.sum_maps, normalise=self.normalise),
            label=self._label_loss(),
            weights=self._weights(),
        )


class AttentionTransfer(_MapBaseline):
    """Attention transfer (Zagoruyko & Komodakis 2017): layers of the student are active where the teacher's are.

    The mean squared difference of the layers' normalised attention maps, summed over layers, beside the softened scores.

    Parameters
    ----------
    teacher, student : nn.Module
    layers : tuple of str
        Layers to compare.
    student_layers : tuple of str, optional
        Their names in the student, one for each.
    attention_weight : float, default=1000.0
        Of the mean squared difference, as in the authors' code; the paper sets 1000, and halves it in its equation 2.
    temperature, imitation_weight, label_weight, multi_label, training
        As in `LogitKD`.
    """

    sum_maps = True

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        layers: tuple[str, ...],
        student_layers: tuple[str, ...] | None = None,
        attention_weight: float = 1000.0,
        temperature: float = 1.0,
        imitation_weight: float = 1.0,
        label_weight: float = 0.0,
        multi_label: bool = False,
        training: TrainingOptions | None = None,
    ) -> None:
        super().__init__(
            teacher,
            student,
            temperature=temperature,
            imitation_weight=imitation_weight,
            explanation_weight=attention_weight,
            label_weight=label_weight,
            multi_label=multi_label,
            training=training,
        )
        self.layers, self.student_layers, self.attention_weight = layers, student_layers, attention_weight

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if self.student_layers is not None and len(self.student_layers) != len(self.layers):
            raise ValueError(
                f"student_layers must name one layer for each of the {len(self.layers)} layers, got "
                f"{len(self.student_layers)}"
            )

    def _pair(self) -> tuple[Any, Any]:
        student = self.layers if self.student_layers is None else self.student_layers
        return ActivationAttention(tuple(self.layers)), ActivationAttention(tuple(student))


class CATKD(_MapBaseline):
    """Class attention transfer (Guo et al. 2023): class activation maps of all classes, pooled and normalised.

    Both heads must be a global average pool and one linear layer.

    Parameters
    ----------
    teacher, student : nn.Module
    layer : str
        The maps that the global average pool takes.
    student_layer : str, optional
        Its name in the student.
    size : (height, width), default=(2, 2)
        Of the pooled maps.
    class_map_weight : float, default=15.0
        The authors choose it for each pair of networks: 0.5 to 50 in their configurations, 15 in several.
    normalise : bool, default=True
        Whether each map is divided by its norm, as the paper writes it; their configurations do so for some pairs only.
    temperature, imitation_weight, label_weight, training
        As in `LogitKD`; the authors use labels and class maps alone: ``imitation_weight=0, label_weight=1``.
    """

    sum_maps = False

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        *,
        layer: str,
        student_layer: str | None = None,
        size: tuple[int, int] = (2, 2),
        class_map_weight: float = 15.0,
        normalise: bool = True,
        temperature: float = 1.0,
        imitation_weight: float = 0.0,
        label_weight: float = 1.0,
        training: TrainingOptions | None = None,
    ) -> None:
        super().__init__(
            teacher,
            student,
            temperature=temperature,
            imitation_weight=imitation_weight,
            explanation_weight=class_map_weight,
            label_weight=label_weight,
            training=training,
        )
        self.layer, self.student_layer, self.size = layer, student_layer, size
        self.class_map_weight, self.normalise = class_map_weight, normalise

    def _pair(self) -> tuple[Any, Any]:
        return ClassMaps(self.layer, self.size), ClassMaps(self.student_layer or self.layer, self.size)
