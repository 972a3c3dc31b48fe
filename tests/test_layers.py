"""The import table: which room may import which. Change it in the same commit as an import, or put the code elsewhere."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gbdt2nn"

# room -> (rooms of the package it may import, libraries it may import at the top of a file, libraries it may import late)
ALLOWED: dict[str, tuple[set[str], set[str], set[str]]] = {
    "joint_loss": (set(), {"torch"}, set()),
    "optimizers": (set(), {"torch"}, set()),
    "clock": (set(), set(), set()),
    "training": ({"clock", "joint_loss", "optimizers"}, {"torch"}, set()),
    "batches": ({"joint_loss", "students"}, {"numpy", "torch"}, set()),
    "table_refits": ({"backfitting", "batches", "clock", "interactions"}, {"numpy", "torch"}, set()),
    "students": (
        {"backfitting", "compilation", "interactions", "joint_loss", "training"}, {"torch", "numpy"}, set(),
    ),
    "compilation": (set(), set(), {"numba"}),
    "trees": (set(), {"numpy"}, set()),
    "tables": (set(), {"numpy", "narwhals"}, {"pandas"}),
    "encoding": ({"tables"}, {"numpy", "sklearn"}, {"pandas"}),
    "binning": ({"arguments", "compilation", "trees"}, {"numpy"}, set()),
    "teachers": (
        {"arguments", "compilation", "trees"},
        {"numpy", "scipy"},
        {"lightgbm", "xgboost", "pandas", "sklearn"},
    ),
    "attributions": ({"trees", "binning", "compilation"}, {"numpy", "numba", "llvmlite"}, set()),
    "augmentation": ({"binning"}, {"numpy"}, {"numba"}),
    "interactions": ({"arguments", "binning", "compilation", "trees"}, {"numpy"}, set()),
    "backfitting": ({"compilation", "interactions"}, {"numpy"}, set()),
    "fidelity_metrics": (set(), {"numpy"}, {"scipy", "sklearn", "html"}),
    "arguments": (set(), {"numpy"}, set()),
    "post_hoc": (set(), {"numpy", "torch"}, set()),
    "smoothing": ({"binning"}, {"numpy"}, set()),
    "gradients": ({"smoothing"}, {"numpy", "torch"}, set()),
    "rows": (set(), {"numpy"}, set()),
    "labelling": ({"attributions", "clock", "trees"}, {"numpy"}, set()),
    "fresh_blocks": ({"labelling"}, {"numpy"}, set()),
    "tree_arrays": ({"binning", "students", "trees"}, {"numpy"}, set()),
    "student_building": (
        {"backfitting", "batches", "binning", "interactions", "students", "tree_arrays", "trees"}, {"numpy", "torch"}, set(),
    ),
    "student_answers": ({"batches", "fidelity_metrics", "students"}, {"numpy", "torch"}, set()),
    "student_fit": (
        {
            "joint_loss", "training", "students", "binning", "trees", "fidelity_metrics", "batches", "label_choice",
            "clock", "optimizers", "student_answers", "student_building", "table_refits",
        },
        {"numpy", "torch"},
        {"tqdm"},
    ),
    "label_choice": ({"training"}, {"numpy"}, set()),
    "options": (
        {"arguments", "attributions", "joint_loss", "label_choice", "students"},
        {"numpy", "torch", "joblib"},
        {"llvmlite"},
    ),
    "teacher_intake": ({"arguments", "options", "teachers", "trees"}, {"numpy", "sklearn"}, set()),
    "row_kernel": ({"compilation"}, {"numpy"}, set()),
    "batch_kernel": ({"compilation"}, {"numpy"}, set()),
    "compiled_batch": ({"batch_kernel", "options", "student_answers", "students"}, {"numpy", "torch"}, set()),
    "compiled_row": ({"binning", "encoding", "interactions", "row_kernel", "teachers"}, {"numpy"}, set()),
    "distilled": (
        {
            "arguments", "attributions", "batches", "binning", "compiled_batch", "compiled_row", "encoding",
            "fidelity_metrics", "gradients", "labelling", "options", "post_hoc", "rows", "smoothing", "students",
            "student_answers", "student_building", "student_fit", "teacher_intake", "teachers", "training", "trees",
        },
        {"numpy"},
        set(),
    ),
    "distillation": (
        {
            "arguments", "attributions", "augmentation", "batches", "binning", "clock", "distilled", "encoding",
            "fidelity_metrics", "fresh_blocks", "labelling", "options", "rows", "smoothing", "student_answers",
            "student_building", "student_fit", "students", "teacher_intake", "teachers", "tree_arrays", "trees",
        },
        {"numpy", "sklearn"},
        set(),
    ),
    "files": (set(), set(), set()),
    "artefact": (
        {
            "binning", "distilled", "encoding", "fidelity_metrics", "files", "interactions", "options", "rows",
            "student_answers", "students", "teachers", "training",
        },
        {"numpy", "torch"},
        set(),
    ),
    "views": ({"distilled", "onnx_export", "post_hoc"}, {"numpy", "sklearn"}, {"shap"}),
    "estimators": (
        {"arguments", "artefact", "compiled_batch", "distillation", "distilled", "students", "views"},
        {"numpy", "sklearn"},
        {"pandas"},
    ),
    "loading": ({"artefact", "estimators"}, {"numpy"}, set()),
    "cli": (
        {"artefact", "estimators", "fidelity_metrics", "files", "gate", "loading", "scoring", "teachers"},
        {"numpy", "pyarrow", "rich", "typer"},
        set(),
    ),
    "scoring": ({"estimators", "fidelity_metrics"}, {"numpy", "sklearn"}, set()),
    "gate": ({"fidelity_metrics", "scoring"}, set(), set()),
    "row_intake": ({"binning", "encoding", "teachers"}, {"numpy"}, set()),
    "small_jobs": ({"trees"}, {"numpy"}, set()),
    "fitted_model": (
        {"arguments", "attributions", "binning", "compilation", "row_intake", "small_jobs", "teachers", "trees"},
        {"numpy"},
        set(),
    ),
    "explainer": ({"arguments", "fitted_model", "row_intake"}, {"numpy"}, {"shap"}),
    "code_reader": ({"binning", "trees"}, {"numpy", "torch"}, set()),
    "compiled_teacher": (
        {"arguments", "attributions", "binning", "code_reader", "compilation", "fitted_model", "joint_loss",
         "row_intake", "trees"},
        {"numpy", "torch", "numba", "llvmlite"},
        set(),
    ),
    "onnx_export": (
        {
            "arguments", "attributions", "binning", "code_reader", "compiled_teacher", "encoding", "fitted_model",
            "row_intake", "student_answers", "tables", "teachers", "trees",
        },
        {"numpy", "torch"},
        {"onnx", "onnxruntime", "onnxscript"},
    ),
    "figures": (set(), {"numpy"}, {"matplotlib", "shap"}),
    "vision": ({"joint_loss", "training"}, {"torch"}, {"numpy", "tqdm"}),
    "reporting": ({"figures", "fidelity_metrics"}, {"numpy"}, {"matplotlib", "jinja2", "shap", "torch", "sklearn"}),
}  # fmt: skip


def rooms() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Imported modules of a file, each with whether it stands at the top level of the file."""
    tree = ast.parse(path.read_text())
    type_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    found = []
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in type_only:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            # `from gbdt2nn import room` imports the room
            names = [f"gbdt2nn.{alias.name}" for alias in node.names] if module == "gbdt2nn" else [module]
            found += [(name, id(node) in top) for name in names]
    return found


@pytest.mark.parametrize("path", rooms(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_what_the_table_allows(path):
    room = room_of(path)
    assert room in ALLOWED, f"{room} is not in the import table"
    inside, top, late = ALLOWED[room]
    for name, at_top in imports(path):
        head = name.split(".")[0]
        if head in sys.stdlib_module_names:
            continue
        if head == "gbdt2nn":
            other = name.split(".")[1] if "." in name else ""
            assert other == room or other in inside, f"{path.name} must not import {name}"
        else:
            own_library = room == "teachers" and head == path.stem
            assert head in top or (not at_top and (head in late)), f"{path.name} must not import {name} here"
            if head in {"lightgbm", "xgboost"}:
                assert own_library, "a booster library is imported only in the file that bears its name"


def test_every_room_of_the_table_exists():
    assert set(ALLOWED) == {room_of(p) for p in rooms()}


def test_the_table_has_no_cycle():
    order: list[str] = []

    def visit(room: str, path: tuple[str, ...]) -> None:
        assert room not in path, f"cycle: {' -> '.join((*path, room))}"
        for other in ALLOWED[room][0]:
            visit(other, (*path, room))
        order.append(room)

    for room in ALLOWED:
        visit(room, ())


def test_importing_the_package_loads_no_heavy_library():
    """Boosters, shap, matplotlib, numba and pandas load when first used, not with the estimators."""
    code = (
        "import sys, torch, sklearn; before = set(sys.modules); import gbdt2nn; gbdt2nn.Gbdt2NNRegressor; gbdt2nn.fidelity;"
        "heavy = {'lightgbm', 'xgboost', 'shap', 'matplotlib', 'numba', 'jinja2', 'pandas'} & (set(sys.modules) - before);"
        "print(sorted(heavy))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
