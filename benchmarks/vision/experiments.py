"""What the vision suite runs, as plain data: experiments, methods, and the grids that their settings are chosen from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Method:
    """One way to train a student.

    Parameters
    ----------
    summary : str
        One line for tables.
    kind : {"labels", "kd", "e2kd", "attention", "catkd", "xdistillation"}
        Which distiller of `gbdt2nn.vision`.
    explainer : str, optional
        Whose maps are imitated; a name in `benchmarks.vision.runs.EXPLAINERS`.
    every : int, default=1
        Maps are compared at every so many steps.
    frozen : bool
        One answer and one map for each picture, moved with it.
    shuffled : bool
        The control: maps of other pictures of the same class.
    as_long_as : str, optional
        As many seconds as this method takes, instead of as many steps.
    tuned_as : str, optional
        The method whose chosen settings are taken; by default its own, or those of ``"kd"``.
    sizes : mapping
        Of the student, where they are not the experiment's.
    options : mapping
        Arguments of the distiller.
    """

    summary: str
    kind: str
    explainer: str | None = None
    every: int = 1
    frozen: bool = False
    shuffled: bool = False
    as_long_as: str | None = None
    tuned_as: str = "kd"
    sizes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


_MIXED = {"imitation_weight": 0.9, "label_weight": 0.1}
_WEAK = {"imitation_weight": 0.3, "label_weight": 0.7}


def _x(summary: str, explainer: str = "gradcam", **options: Any) -> Method:
    return Method(summary, "xdistillation", explainer, options={**_MIXED, **options})


METHODS: dict[str, Method] = {
    "labels_only": Method("labels alone", "labels"),
    "kd": Method("KD", "kd"),
    "gradcam": Method("e2KD, GradCAM", "e2kd", "gradcam", tuned_as="gradcam"),
    "gradcam_weight1": Method("e2KD, GradCAM, weight 1", "e2kd", "gradcam", options={"explanation_weight": 1.0}),
    "gradient_every4_weight1": Method(
        "e2KD, input gradient, every 4, weight 1", "e2kd", "input_gradient", every=4, options={"explanation_weight": 1.0}
    ),
    "gradcam_shuffled": Method("control: GradCAM, shuffled", "e2kd", "gradcam", shuffled=True, tuned_as="gradcam"),
    "gradcam_every4": Method("e2KD, GradCAM, every 4", "e2kd", "gradcam", every=4, tuned_as="gradcam"),
    "input_gradient": Method("e2KD, input gradient", "e2kd", "input_gradient", tuned_as="gradient_every4"),
    "gradient_every4": Method(
        "e2KD, input gradient, every 4", "e2kd", "input_gradient", every=4, tuned_as="gradient_every4"
    ),
    "gradient_every4_shuffled": Method(
        "control: input gradient, every 4, shuffled", "e2kd", "input_gradient", every=4, shuffled=True,
        tuned_as="gradient_every4",
    ),
    "kd_as_long_as_gradient_every4": Method(
        "KD, the seconds of input gradient, every 4", "kd", as_long_as="gradient_every4"
    ),
    "kd_as_long_as_input_gradient": Method("KD, the seconds of input gradient", "kd", as_long_as="input_gradient"),
    "kd_frozen": Method("KD, frozen", "kd", frozen=True),
    "gradcam_frozen": Method("e2KD, GradCAM, frozen", "e2kd", "gradcam", frozen=True, tuned_as="gradcam"),
    "attention_transfer": Method("attention transfer", "attention", "attention"),
    "catkd": Method("CAT-KD and KD", "catkd", "class_maps", options={"imitation_weight": 1.0, "label_weight": 0.0}),
    "bcos": Method("e2KD, B-cos weights", "e2kd", "bcos", tuned_as="bcos"),
    "bcos_shuffled": Method("control: B-cos weights, shuffled", "e2kd", "bcos", shuffled=True, tuned_as="bcos"),
    "kd_as_long_as_bcos": Method("KD, the seconds of B-cos weights", "kd", as_long_as="bcos"),
    # XDistillation and what it is held against: the same mixture of teacher and labels
    "kd_mixed": Method("KD with labels", "kd", options=_MIXED),
    "kd_mixed_wide": Method("KD with labels, as large as code", "kd", sizes={"widths": (17, 33, 34)}, options=_MIXED),
    "x_code": _x("XDistillation, code"),
    "x_code_two_stages": _x("XDistillation, code, two stages", stages=2),
    "x_code_shap": _x("XDistillation, code, SHAP", "shap"),
    "x_code_integrated": _x("XDistillation, code, integrated gradients", "integrated_gradients"),
    "x_map": _x("XDistillation, map", fusion="map"),
    "x_gate": _x("XDistillation, gate", fusion="gate"),
    "x_side_task": _x("XDistillation, no fusion", fusion=None),
    "x_code_unfed": _x("control: code, no reconstruction", reconstruction_weight=0.0),
    "kd_weak": Method("weak KD with labels", "kd", options=_WEAK),
    "x_code_weak": Method("XDistillation, code, weak KD", "xdistillation", "gradcam", options=_WEAK),
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """A data set, a teacher, a student, and the methods between them.

    Parameters
    ----------
    summary : str
    data, teacher : str
        Names in `pictures.SETS` and `teachers.TEACHERS`.
    methods : tuple of str
    shots : int, optional
        Training pictures of each class, drawn by the seed.
    n_pictures : int, optional
        Training pictures in all, drawn by the seed.
    aligned : bool
        Only training pictures whose background is their label's.
    student : str
        Architecture of the student.
    sizes : mapping
        Of the student.
    n_variants : int
        Moves of each picture in the bank.
    n_steps, batch_size : int
    n_test, n_explained : int
        Test pictures, and how many of them are explained.
    explainers : tuple of str
        By which students are held against the teacher: the trained one and another.
    chosen_on : str
        The experiment whose tuning gives the settings.
    n_seeds : int
    """

    summary: str
    data: str
    teacher: str
    methods: tuple[str, ...]
    shots: int | None = None
    n_pictures: int | None = None
    aligned: bool = False
    student: str = "cnn"
    sizes: Mapping[str, Any] = field(default_factory=lambda: {"widths": (16, 32, 32)})
    n_variants: int = 12
    n_steps: int = 400
    batch_size: int = 64
    n_test: int = 3000
    n_explained: int = 600
    explainers: tuple[str, ...] = ("gradcam", "input_gradient")
    chosen_on: str = "fashion_50_shots"
    n_seeds: int = 3

    def settings(self) -> dict[str, Any]:
        """What is in force for all its methods, ready for a record."""
        left_out = ("summary", "methods", "n_seeds")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


_CONTROLS = (
    *("labels_only", "kd", "gradcam", "gradcam_shuffled", "gradient_every4", "gradient_every4_shuffled"),
    "kd_as_long_as_gradient_every4",
)
_FROZEN = ("kd_frozen", "gradcam_frozen")
_FASHION = {"data": "fashion_mnist", "teacher": "fashion_cnn"}
_SCENES: dict[str, Any] = {
    "data": "garments_on_scenes", "aligned": True, "chosen_on": "scenes_400", "n_test": 800, "n_variants": 12,
}  # fmt: skip

EXPERIMENTS: dict[str, Experiment] = {
    "fashion_10_shots": Experiment(
        "Fashion-MNIST, 10 pictures of each class", **_FASHION, methods=(*_CONTROLS, *_FROZEN), shots=10, n_variants=24
    ),
    "fashion_50_shots": Experiment(
        "Fashion-MNIST, 50 pictures of each class", **_FASHION, shots=50,
        methods=(
            *_CONTROLS, "input_gradient", "kd_as_long_as_input_gradient", "gradcam_every4", *_FROZEN,
            "attention_transfer", "catkd",
        ),
    ),
    "fashion_200_shots": Experiment(
        "Fashion-MNIST, 200 pictures of each class", **_FASHION, shots=200, n_variants=4,
        methods=("labels_only", "kd", "gradcam", "gradient_every4", "kd_as_long_as_gradient_every4"),
    ),
    "scenes_400": Experiment(
        "garments on scenes, 400 pictures, all with the background of their label; a teacher that looks at the garment",
        # weights that are chosen where the background helps may be the wrong ones where it misleads: the default beside them
        **_SCENES, teacher="scenes_right", methods=(*_CONTROLS, "gradcam_weight1", "gradient_every4_weight1"),
        n_pictures=400,
    ),
    "scenes_aligned": Experiment(
        "the same with all such pictures", **{**_SCENES, "n_variants": 2}, teacher="scenes_right",
        methods=("kd", "gradcam", "gradient_every4"),
    ),
    "scenes_95": Experiment(
        "the same with all pictures, 95 % of them with the background of their label",
        **{**_SCENES, "n_variants": 2, "aligned": False}, teacher="scenes_right", methods=("kd", "gradcam"),
    ),
    "scenes_biased_teacher": Experiment(
        "control: 400 pictures and a teacher that was trained on the biased ones", **_SCENES, teacher="scenes_plain",
        methods=("kd", "gradcam"), n_pictures=400,
    ),
    "cnn_to_vit": Experiment(
        "Fashion-MNIST, 50 pictures of each class, a CNN teaches a ViT", **_FASHION, shots=50, student="vit",
        chosen_on="cnn_to_vit", sizes={"width": 32, "depth": 2, "early_convolutions": True},
        methods=("kd", "gradcam", "gradcam_shuffled"),
    ),
    "vit_to_cnn": Experiment(
        "Fashion-MNIST, 50 pictures of each class, a ViT teaches a CNN", **{**_FASHION, "teacher": "fashion_vit"},
        shots=50, methods=("kd", "gradcam", "gradcam_shuffled"),
    ),
    "bcos_scenes": Experiment(
        "garments on scenes, 400 such pictures, a B-cos teacher and a B-cos student",
        **{**_SCENES, "chosen_on": "bcos_scenes"}, teacher="scenes_bcos", n_pictures=400, student="bcos",
        methods=("kd", "bcos", "bcos_shuffled", "kd_as_long_as_bcos"),
        explainers=("bcos", "bcos_contributions"),
    ),
    "xdistillation": Experiment(
        "Fashion-MNIST, 50 pictures of each class: XDistillation and KD with the same labels", **_FASHION, shots=50,
        methods=(
            "kd_mixed", "kd_mixed_wide", "x_code", "x_code_two_stages", "x_code_shap", "x_code_integrated", "x_map",
            "x_gate", "x_side_task", "x_code_unfed", "kd_weak", "x_code_weak",
        ),
    ),
}  # fmt: skip

# What the settings of a method are chosen from, on validation pictures at seed 0. KD's own come first; the others take its
# learning rate.
GRIDS: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {
    "fashion_50_shots": {
        "kd": {"learning_rate": (3e-3, 1e-2, 3e-2), "temperature": (1.0, 5.0)},
        "gradcam": {"explanation_weight": (1.0, 5.0), "temperature": (1.0, 5.0)},
        "gradient_every4": {"explanation_weight": (1.0, 5.0), "temperature": (1.0, 5.0)},
    },
    "scenes_400": {
        "kd": {"learning_rate": (3e-3, 1e-2, 3e-2), "temperature": (1.0, 5.0)},
        "gradcam": {"explanation_weight": (1.0, 5.0), "temperature": (1.0, 5.0)},
        "gradient_every4": {"explanation_weight": (1.0, 5.0), "temperature": (1.0, 5.0)},
    },
    "cnn_to_vit": {
        "kd": {"learning_rate": (1e-3, 3e-3, 1e-2), "temperature": (1.0, 5.0)},
        "gradcam": {"explanation_weight": (1.0, 5.0)},
    },
    "bcos_scenes": {
        "kd": {"learning_rate": (3e-3, 1e-2, 3e-2), "temperature": (1.0, 5.0)},
        "bcos": {"explanation_weight": (1.0, 5.0)},
    },
}
