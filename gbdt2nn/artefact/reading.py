"""The entries of an artefact to a fitted model, everything checked before it is used."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.artefact.container import (
    BINNER,
    HEADER,
    STUDENT,
    TEACHERS,
    read_arrays,
    read_container,
    read_json,
    sha256,
)
from gbdt2nn.artefact.errors import ArtefactError
from gbdt2nn.artefact.fields import Fields
from gbdt2nn.artefact.parts import check_binner, read_encoder, read_student
from gbdt2nn.artefact.values import decode, decode_labels
from gbdt2nn.artefact.writing import FORMAT, PER_BYTE, SCHEMA, memory_of
from gbdt2nn.binning import Binner
from gbdt2nn.distilled import Distilled
from gbdt2nn.encoding import Encoder
from gbdt2nn.fidelity_metrics import TASKS, Fidelity
from gbdt2nn.options import Options
from gbdt2nn.rows import Rows
from gbdt2nn.student_answers import student_explained
from gbdt2nn.teachers import LIBRARIES
from gbdt2nn.teachers.description import TeacherDescription
from gbdt2nn.teachers.links import LINKS, Link
from gbdt2nn.teachers.stored import StoredTeacher
from gbdt2nn.training import History

ESTIMATORS = ("Gbdt2NNClassifier", "Gbdt2NNRegressor")
KEYS = (
    "format", "schema", "written_by", "estimator", "parameters", "teacher_parameter", "options", "description", "classes",
    "base_value", "feature_names_in", "encoder", "student", "binner", "fidelity", "history", "seconds", "counts",
    "rows_are_split", "teacher", "memory", "entries",
)  # fmt: skip
MOST_FEATURES = 1 << 20
MOST_OUTPUTS = 1 << 16


class Restored(Distilled):
    """What a distillation left, from a file: the teacher and its trees are read when they are first asked for."""

    stored_teacher: StoredTeacher

    def __getattr__(self, name: str) -> Any:
        if name == "teacher":
            self.teacher = self.stored_teacher.model()
            return self.teacher
        if name == "ensemble":
            self.ensemble = LIBRARIES[self.description.library].parse(self.teacher)
            return self.ensemble
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the teacher as its bytes."""
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("teacher", "ensemble")}


class Parts(NamedTuple):
    """A model as it is read: what an estimator is made of."""

    estimator: str
    parameters: dict[str, Any]
    teacher: Any
    feature_names_in: list[str] | None
    n_features: int
    distilled: Distilled


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header alone, its form and its version checked.

    Raises
    ------
    ArtefactError
        If the file is not a whole artefact, or one of a newer major version.
    """
    return _guarded(lambda: _header(read_container(path, only=(HEADER,))))


def read_artefact(path: str | os.PathLike[str]) -> Parts:
    """Read a model.

    Parameters
    ----------
    path : path

    Returns
    -------
    Parts

    Raises
    ------
    ArtefactError
        If the file is anything but an artefact that this version can read; it names what is wrong.
    """
    return _guarded(lambda: _read(path))


def _guarded(read: Callable[[], Any]) -> Any:
    """Whatever a hostile file makes go wrong has one name."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return read()
    except (ArtefactError, OSError):
        raise
    except MemoryError:
        raise ArtefactError("the artefact asks for more memory than there is") from None
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise ArtefactError(
            f"the artefact holds what does not fit together: {said} ({type(error).__name__})"
        ) from error


def _header(entries: Mapping[str, bytes]) -> dict[str, Any]:
    header = read_json(entries[HEADER], HEADER)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ArtefactError(f"{HEADER} must begin with format {FORMAT!r}")
    schema = header.get("schema")
    if not isinstance(schema, list) or len(schema) != 2 or not all(type(n) is int and n >= 0 for n in schema):
        raise ArtefactError(f"{HEADER}: schema must be two whole numbers, got {str(schema)[:60]}")
    if schema[0] != SCHEMA[0]:
        raise ArtefactError(
            f"the artefact is of schema {schema[0]}.{schema[1]}, and this version of gbdt2nn reads {SCHEMA[0]}.x: "
            "install a newer gbdt2nn, or save the model again"
        )
    Fields(header, HEADER, KEYS, more=schema[1] > SCHEMA[1])
    return header


def _read(path: str | os.PathLike[str]) -> Parts:
    first = read_container(path, only=(HEADER,))
    header = _header(first)
    top = Fields(header, HEADER, KEYS, more=True)
    estimator = top.text("estimator", ESTIMATORS)
    description, names, encoder = _columns(top)
    n_features, n_outputs = description.n_features, description.n_outputs
    entry = TEACHERS[description.library]
    wanted = (STUDENT, BINNER, *((entry,) if header["teacher"] is not None else ()))
    promised = top.integer("memory", high=1 << 40)
    entries = _entries(path, header["entries"], wanted, promised, n_features)
    student_arrays = read_arrays(entries[STUDENT], STUDENT)
    needed = memory_of(student_arrays, entries, n_features) + PER_BYTE * len(first[HEADER])
    if needed != promised:
        raise ArtefactError(f"the model takes {needed:,} bytes of memory, and the header promises {promised:,}")
    binner, background, centres = check_binner(read_arrays(entries[BINNER], BINNER), header["binner"], encoder)

    options = _options(header["options"])
    base_value = np.array(top.items("base_value", float, n_outputs), np.float64)
    classes = None if header["classes"] is None else decode_labels(header["classes"], "classes_")
    _check_task(estimator, description, classes)
    student = read_student(
        header["student"], student_arrays, options, binner, n_outputs, most_bytes=2 * promised + (1 << 24)
    )
    if not np.array_equal(student.base_value.numpy(), base_value):
        raise ArtefactError("base_value must be that of the student")
    counts = Fields(header["counts"], "counts", COUNTS)
    stored = _teacher(header["teacher"], entries.get(entry), description.library)
    restored = Restored(
        None, student, encoder, None, binner, description, classes, base_value, options,  # type: ignore[arg-type]
        Rows(*(np.zeros(0, np.int64),) * 3, top.boolean("rows_are_split")),
        background=background,
        centres=centres,
        history=_history(header["history"]),
        fidelity=Fidelity(_numbers(header["fidelity"], "fidelity")),
        seconds=_numbers(header["seconds"], "seconds"),
        n_synthetic=counts.integer("n_synthetic"),
        n_explained=counts.integer("n_explained"),
        n_updates=counts.integer("n_updates"),
    )  # fmt: skip
    del restored.teacher, restored.ensemble  # from now on they are read when they are asked for
    restored.stored_teacher = stored
    _probe(restored, n_outputs)
    parameters = {name: decode(value, name) for name, value in Fields(header["parameters"], "parameters", (),
                                                                      more=True).found.items()}  # fmt: skip
    return Parts(
        estimator, parameters, _teacher_parameter(header["teacher_parameter"], stored), names, n_features, restored
    )


COUNTS = ("n_synthetic", "n_explained", "n_updates")


def _entries(
    path: str | os.PathLike[str], said: Any, wanted: tuple[str, ...], promised: int, n_features: int
) -> dict[str, bytes]:
    """Read the entries, none of which is larger than promised nor other than hashed."""
    listed = Fields(said, "entries", wanted).found
    sizes = {}
    for name in wanted:
        one = Fields(listed[name], name, ("sha256", "size"))
        sizes[name] = one.integer("size")
        one.text("sha256")
    if memory_of({}, sizes, n_features) > promised:
        raise ArtefactError(f"the entries are larger than the {promised:,} bytes of memory that the header promises")
    entries = read_container(path, sizes={HEADER: None, **sizes})
    for name in wanted:
        if sha256(entries[name]) != listed[name]["sha256"]:
            raise ArtefactError(f"{name} is not what the header says: its hash differs")
    return {name: entries[name] for name in wanted}


def _columns(top: Fields) -> tuple[TeacherDescription, list[str] | None, Encoder]:
    """The teacher in words, the names of the estimator's columns, and what reads a table."""
    found = Fields(
        top.found["description"],
        "description",
        ("library", "task", "objective", "link", "n_outputs", "n_features", "has_names", "classes", "n_iterations"),
    )
    n_features = found.integer("n_features", 1, MOST_FEATURES)
    encoder = read_encoder(top.found["encoder"], n_features)
    names = top.found["feature_names_in"]
    if names is not None and top.items("feature_names_in", str, n_features) != encoder.feature_names_:
        raise ArtefactError("feature_names_in must be the names of the encoder's columns")
    link = Fields(found.found["link"], "link", ("name", "slope"))
    slope = link.number("slope")
    if slope <= 0:
        raise ArtefactError(f"link: slope must be positive, got {slope}")
    classes = found.found["classes"]
    has_categories = encoder.is_category_.any()
    description = TeacherDescription(
        library=found.text("library", LIBRARIES),
        task=found.text("task", TASKS),
        objective=found.text("objective"),
        link=Link(link.text("name", LINKS), slope),
        n_outputs=found.integer("n_outputs", 1, MOST_OUTPUTS),
        n_features=n_features,
        feature_names=tuple(encoder._teacher_names) if found.boolean("has_names") else None,
        classes=None if classes is None else decode_labels(classes, "the teacher's classes"),
        categories=tuple(encoder.categories_) if has_categories else None,
        n_iterations=found.integer("n_iterations"),
        missing=encoder.missing,
    )
    return description, names, encoder


def _check_task(estimator: str, description: TeacherDescription, classes: NDArray[Any] | None) -> None:
    classifies = estimator == "Gbdt2NNClassifier"
    if classifies != (description.task in ("binary", "multiclass")) or classifies != (classes is not None):
        raise ArtefactError(f"an artefact of a {estimator} must be of its task, got {description.task!r}")
    if classes is None and description.n_outputs != 1:
        raise ArtefactError(f"a regressor must have one output, got {description.n_outputs}")
    if classes is not None and len(classes) != max(2, description.n_outputs):
        raise ArtefactError(f"{description.n_outputs} outputs do not tell {len(classes)} classes apart")
    several = ("softmax", "one_vs_all")
    if (description.n_outputs > 1) != (description.link.name in several) or (description.task == "multiclass") != (
        description.n_outputs > 1
    ):
        raise ArtefactError(f"link {description.link.name!r} is not one of {description.n_outputs} outputs")


def _options(found: Any) -> Options:
    known = [field.name for field in fields(Options) if field.name != "memory"]
    unknown = sorted(set(Fields(found, "options", (), more=True).found) - set(known))
    if unknown:
        raise ArtefactError(f"options holds what this version does not know: {str(unknown[:3])[:200]}")
    options = Options(**{name: decode(value, name) for name, value in found.items()})
    options.check()
    if any(isinstance(getattr(options, f"{name}_weight"), str) for name in ("imitation", "explanation", "label")):
        raise ArtefactError("options must hold weights that are numbers")
    return options


def _numbers(found: Any, what: str) -> dict[str, Any]:
    """Names to numbers, text, or names to numbers."""
    values = decode(found, what)
    if not isinstance(values, dict):
        raise ArtefactError(f"{what} must be a mapping")
    for name, value in values.items():
        inner = value.values() if isinstance(value, dict) else [value]
        if not all(item is None or isinstance(item, bool | int | float | str) for item in inner):
            raise ArtefactError(f"{what}: {name[:60]!r} must be a number, text, or a mapping of these")
    return values


def _history(found: Any) -> History:
    values = decode(found, "history")
    known = {field.name for field in fields(History)}
    if not isinstance(values, dict) or not set(values) <= known:
        raise ArtefactError(f"history must hold {sorted(known)}")
    history = History(**values)
    for name in ("steps", "validations"):
        rows = getattr(history, name)
        if not isinstance(rows, list) or not all(
            isinstance(row, dict) and all(isinstance(v, int | float) for v in row.values()) for row in rows
        ):
            raise ArtefactError(f"history: {name} must be a list of mappings of names to numbers")
    for name in ("n_steps", "best_step", "n_fresh"):
        if type(getattr(history, name)) is not int:
            raise ArtefactError(f"history: {name} must be a whole number")
    return history


def _teacher(found: Any, data: bytes | None, library: str) -> StoredTeacher:
    if found is None:
        return StoredTeacher(library, None, "Booster", {})
    one = Fields(found, "teacher", ("form", "parameters"))
    form = one.text("form", ("Booster", *LIBRARIES[library].ESTIMATORS))
    return StoredTeacher(library, data, form, _plain(found["parameters"], "the teacher's parameters"))


def _teacher_parameter(found: Any, stored: StoredTeacher) -> Any:
    kind = Fields(found, "teacher_parameter", ("kind",), more=True).text("kind", ("name", "stored", "estimator"))
    if kind == "stored":
        Fields(found, "teacher_parameter", ("kind",))
        return stored
    if kind == "name":
        one = Fields(found, "teacher_parameter", ("kind", "name"))
        return None if found["name"] is None else one.text("name", LIBRARIES)
    one = Fields(found, "teacher_parameter", ("kind", "library", "name", "parameters"))
    library = LIBRARIES[one.text("library", LIBRARIES)]
    return library.estimator(
        one.text("name", library.ESTIMATORS), _plain(found["parameters"], "the parameters of teacher")
    )


def _plain(found: Any, what: str) -> dict[str, Any]:
    values = decode(found, what)
    if not isinstance(values, dict):
        raise ArtefactError(f"{what} must be a mapping")
    return values


def _probe(distilled: Distilled, n_outputs: int) -> None:
    """Ask the student about two rows, so that what does not fit is found now and not by the caller."""
    binner: Binner = distilled.binner
    codes = np.stack([np.zeros(binner.n_features, np.int64), np.asarray(binner.n_codes) - 1])
    score, attribution = student_explained(distilled.student, codes, explain=distilled.explains)
    if score.shape != (2, n_outputs) or (
        attribution is not None and attribution.shape != (2, n_outputs, binner.n_features)
    ):
        raise ArtefactError(
            f"the student must give {n_outputs} scores and attributions of {binner.n_features} features"
        )
