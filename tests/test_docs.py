"""The documentation is run: code, shown output, notebooks, docstring examples; and every link leads somewhere."""

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import re
import shutil
import tomllib
from functools import wraps
from pathlib import Path
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

import gbdt2nn
from gbdt2nn import augmentation, distillation, fidelity_metrics, joint_loss, student_fit, students, teachers, training
from gbdt2nn.teachers import habits

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GUIDE = DOCS / "user_guide.md"
PAGES = [page for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))) if page.exists()]
LINKED = [*PAGES, *(page for page in sorted(ROOT.glob("*.md")) if page not in PAGES), *sorted(ROOT.glob("*/README.md"))]
NOTEBOOKS = sorted((DOCS / "examples").glob("*.ipynb"))
MODULES = [path for path in sorted((ROOT / "gbdt2nn").rglob("*.py")) if ">>>" in path.read_text()]

MOST_STEPS = 200
SHELVES = (
    joint_loss.EXPLANATION_LOSSES,
    students.STUDENTS,
    augmentation.SYNTHESES,
    teachers.LIBRARIES,
    habits.HABITS,
)


def name_of(path):
    return str(path.relative_to(ROOT))


# ---------------------------------------------------------------------------------------------------- what a page holds
class Block(NamedTuple):
    """A fenced block: its language, the line of its first line of text, its text, and the output shown right below it."""

    language: str
    line: int
    text: str
    shown: str | None = None


FENCE = re.compile(r"^```(\w*)[^\n`]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


def blocks_of(page):
    """The fenced blocks of a page; a ``text`` block right below a ``python`` block is what that block prints."""
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    blocks = []
    for i, match in enumerate(found):
        below = found[i + 1] if i + 1 < len(found) else None
        is_output = below is not None and below[1] == "text" and not text[match.end() : below.start()].strip()
        shown = below[2] if match[1] == "python" and is_output else None
        blocks.append(Block(match[1], text.count("\n", 0, match.start(2)) + 1, match[2], shown))
    return blocks


def python_of(page):
    return [block for block in blocks_of(page) if block.language == "python"]


def code_cells(notebook):
    return [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]


PAGES_WITH_CODE = [page for page in PAGES if python_of(page)]


# --------------------------------------------------------------------------------------------- every fit is a short one
FITTING = {"Gbdt2NNRegressor", "Gbdt2NNClassifier", "distil", "fit_student"}


def without_steps(sources):
    """Calls that may train for long: such as ask for no ``max_steps``, or for more than `MOST_STEPS`.

    The number stands in the call itself, or in a mapping that an earlier line of the page has named and the call unpacks.
    """
    short: set[str] = set()
    long = []

    def asks(call):
        for keyword in call.keywords:
            value = keyword.value
            if keyword.arg == "max_steps":
                return isinstance(value, ast.Constant) and value.value <= MOST_STEPS
            if keyword.arg is None and short & {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}:
                return True
        return False

    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                entries = {}
                if isinstance(node.value, ast.Dict):
                    keys = [key.value if isinstance(key, ast.Constant) else None for key in node.value.keys]
                    entries = dict(zip(keys, node.value.values, strict=True))
                elif isinstance(node.value, ast.Call) and getattr(node.value.func, "id", None) == "dict":
                    entries = {keyword.arg: keyword.value for keyword in node.value.keywords}
                steps = entries.get("max_steps")
                if isinstance(steps, ast.Constant) and steps.value <= MOST_STEPS:
                    short.add(node.targets[0].id)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "id", getattr(node.func, "attr", None))
                if called in FITTING and not asks(node):
                    long.append(ast.unparse(node))
    return long


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name_of)
def test_no_fit_of_a_page_is_long(page):
    assert without_steps([block.text for block in python_of(page)]) == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_no_fit_of_a_notebook_is_long(notebook):
    assert without_steps([cell.source for cell in code_cells(notebook)]) == []


def test_long_fits_are_found():
    assert without_steps(["Gbdt2NNRegressor(random_state=0).fit(X, y)"]) == ["Gbdt2NNRegressor(random_state=0)"]
    assert without_steps(["gbdt2nn.distil(None, X, y, max_steps=1000)"]) == [
        "gbdt2nn.distil(None, X, y, max_steps=1000)"
    ]
    assert without_steps(["short = {'max_steps': 50}", "Gbdt2NNRegressor(**short).fit(X, y)"]) == []
    assert without_steps(["short = dict(max_steps=500)", "distil(None, X, y, **short)"]) != []


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Short fits on one thread, in a folder of their own that holds ``datasets/``; shelves are put back afterwards."""

    @wraps(training.fit_student)
    def short(*args, max_steps, **options):
        assert max_steps <= MOST_STEPS, f"a fit of {max_steps} steps"
        return fit_student(*args, max_steps=max_steps, **options)

    fit_student = training.fit_student
    for room in (training, student_fit):
        monkeypatch.setattr(room, "fit_student", short)
    # on tables as small as these, threads only wait for each other
    monkeypatch.setattr(distillation, "n_threads", lambda n_jobs: 1)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # what LightGBM takes for the number of cores
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    before = [dict(shelf) for shelf in SHELVES]
    matplotlib.use("Agg")
    yield
    plt.close("all")
    for shelf, entries in zip(SHELVES, before, strict=True):
        shelf.clear()
        shelf.update(entries)


# ------------------------------------------------------------------------------------------------------- it is all run
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name_of)
def test_the_code_of_a_page_runs_and_prints_what_is_shown(page):
    """Blocks of one page share their names and run in order; ``...`` in an output stands for anything."""
    names = {"__name__": "page"}
    for block in python_of(page):
        code = compile("\n" * (block.line - 1) + block.text, name_of(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        if block.shown is not None:
            agree = doctest.OutputChecker().check_output(block.shown, printed.getvalue(), doctest.ELLIPSIS)
            assert agree, f"line {block.line} of {name_of(page)} prints:\n{printed.getvalue()}"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_the_examples_of_docstrings_run(module):
    parts = module.relative_to(ROOT).with_suffix("").parts
    found = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for example in doctest.DocTestFinder(exclude_empty=True).find(found):
        runner.run(example, out=report.write)
    assert runner.summarize(verbose=False).failed == 0, report.getvalue()


@pytest.mark.parametrize("name", [name for name in gbdt2nn.__all__ if name != "__version__"])
def test_every_public_name_has_an_example(name):
    assert ">>>" in inspect.getdoc(getattr(gbdt2nn, name))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_runs(notebook, monkeypatch, tmp_path):
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    cells = nbformat.read(notebook, as_version=4)
    NotebookClient(
        cells, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(notebook.parent)}}
    ).execute()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_shown_as_it_ran(notebook):
    """In order, without an error or a warning, without a trace of the machine, and small enough to be looked at."""
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(output.output_type in ("display_data", "execute_result", "stream") for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)
    for output in outputs:
        shown = output.get("text", "") + "".join(
            str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")
        )
        assert not re.search(r"(^|[\s'\"(=])(/\w+/\w+|[A-Z]:\\)", shown), shown[:300]
    assert notebook.stat().st_size < 600_000


# ---------------------------------------------------------------------------------------------- what the pages promise
def test_the_guide_says_what_every_entry_of_a_fidelity_means():
    text = GUIDE.read_text(encoding="utf-8")
    for key, (name, meaning) in fidelity_metrics.DESCRIPTIONS.items():
        row = [f"`{key}`", name.format(metric="label metric"), meaning]
        assert "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" in text
    zeros = [[0.0], [1.0]]
    measured = fidelity_metrics.measure(teacher_score=zeros, student_score=zeros, feature_names=["a"], task="binary")
    for key in {*measured, "measured_on"} - set(fidelity_metrics.DESCRIPTIONS):
        assert f"| `{key}` |" in text


def test_the_guide_speaks_of_every_parameter():
    text = GUIDE.read_text(encoding="utf-8")
    for name in inspect.signature(gbdt2nn.Gbdt2NNRegressor).parameters:
        assert f"`{name}`" in text or f"`{name}=" in text, name


def test_the_guide_names_every_dependency_for_an_install_without_cuda():
    """`pip install --no-deps` brings none, so the command beside it must name them all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]} - {"xgboost"} | {"xgboost-cpu"}
    installs = [block.text for block in blocks_of(GUIDE) if block.language == "bash" and "xgboost-cpu" in block.text]
    assert any(wanted <= set(text.split()) for text in installs)


# -------------------------------------------------------------------------------------------------------------- links
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+(?:\([^()]*\))?)\)")


def anchors_of(page):
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*LINKED, *NOTEBOOKS], ids=name_of)
def test_every_link_leads_somewhere(page):
    if page.suffix == ".ipynb":
        cells = nbformat.read(page, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{name_of(page)} links to {target}"
        if anchor and goal.suffix == ".md":
            assert anchor in anchors_of(goal), f"{name_of(page)} links to {target}"
