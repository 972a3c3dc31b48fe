"""The report: one file that needs nothing else, says what was measured, and shows both sides alike."""

import base64
import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from gbdt2nn import figures, reporting
from gbdt2nn.fidelity_metrics import Fidelity, format_number, measure
from gbdt2nn.reporting import write_report

pytest.importorskip("jinja2")
matplotlib = pytest.importorskip("matplotlib")

NAMES = ["income", "<b>age</b> & co", "price in $ of $100", "年齢", "region", "never used"]
REGIONS = np.array(["coast", "hills", "plain"], dtype=object)


class FittedModel(BaseEstimator):
    """What the report uses of a fitted estimator; both sides are linear in the encoded table, so all is known."""

    student = "self_explaining"
    attribution = "tree_shap"
    explanation_weight = 1.0

    def __init__(self, task="regression", random_state=0):
        self.task = task
        self.random_state = random_state

    def fit(self, X=None, y=None, *, explains=True, gap=0.0):
        k = {"multiclass": 3}.get(self.task, 1)
        self.slopes = np.random.default_rng(1).normal(size=(k, 6)) * [3, 2, 1, 0.5, 1, 0]
        self.gap = gap
        self.base_value_ = np.linspace(0.5, -0.5, k)
        self.classes_ = {"binary": np.array(["no", "yes"]), "multiclass": np.array([3, 5, 9])}.get(self.task)
        self.teacher_, self.seconds_ = BaseEstimator(), {"teacher": 1.25, "total": 4.0}
        self.precision = "float32"
        self.student_ = SimpleNamespace(parameters=lambda: [SimpleNamespace(numel=lambda: 1234)], complete=gap == 0)
        self.encoder_ = SimpleNamespace(feature_names_=NAMES, categories_=[None] * 4 + [REGIONS, None])
        self.n_steps_, self.n_synthetic_ = 40, 1000
        self.fidelity_ = Fidelity(
            score_r2=0.5, n_rows=77, metric="rmse" if k == 1 and self.task != "binary" else "log_loss"
        )
        self.history_ = SimpleNamespace(
            steps=[{"step": s, "learning_rate": 1, "total": 2, "imitation": 1 / s, "explanation": 1 / s} for s in (20, 40)],
            validations=[{"step": s, "seconds": s, "score_r2": 1 - 1 / s, "attribution_r2": 1 - 2 / s} for s in (20, 40)],
        )  # fmt: skip
        self.distilled_ = SimpleNamespace(
            classes=self.classes_,
            explains=explains,
            description=SimpleNamespace(task=self.task, library="lightgbm", link=self._link),
            ensemble=SimpleNamespace(n_trees=12),
            numbers=self._numbers,
            teacher_explained=lambda X, explain: self._labels(X, explain),
            student_explained=self._student_explained,
        )
        return self

    def _link(self, score):
        if self.task == "regression":
            return score
        e = np.exp(score)
        return e / (1 + e) if self.task == "binary" else e / e.sum(axis=1, keepdims=True)

    def _numbers(self, X):
        x = X.copy()
        x["region"] = [
            np.nan if pd.isna(value) else float(np.flatnonzero(value == REGIONS)[0]) for value in x["region"]
        ]
        return x.to_numpy(np.float64)

    def _labels(self, X, explain):
        attribution = np.nan_to_num(self._numbers(X))[:, None, :] * self.slopes
        score = self.base_value_ + attribution.sum(axis=2)
        return SimpleNamespace(
            score=score, attribution=attribution if explain else None, base_value=self.base_value_ if explain else None
        )

    def _student_explained(self, X, explain, precision):
        assert precision == self.precision
        labels = self._labels(X, True)
        attribution = labels.attribution + 0.1 * np.sin(7 * labels.attribution)
        score = self.base_value_ + attribution.sum(axis=2) + self.gap
        return score, attribution if explain else None


@pytest.fixture(name="X")
def some_rows():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(70, 6)), columns=NAMES)
    table["region"] = pd.Series(np.resize(REGIONS, 70), dtype=object)
    table.loc[3, "income"] = np.nan
    table.loc[5, "region"] = None
    return table


class Page(HTMLParser):
    """Reads a page as a browser does: text, images, and whether every tag is closed."""

    def __init__(self, path):
        super().__init__()
        self.open, self.images, self.words, self.tags = [], [], [], set()
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def svg(self, alt):
        (source,) = [image["src"] for image in self.images if image["alt"].startswith(alt)]
        head, data = source.split(",")
        assert head == "data:image/svg+xml;base64"
        return base64.b64decode(data).decode()


def labels(model, n):
    return np.linspace(0, 1, n) if model.classes_ is None else np.resize(model.classes_, n)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_page_stands_alone_and_shows_everything(task, X, tmp_path):
    model = FittedModel(task).fit()
    y = labels(model, len(X))
    timings = {"Teacher's own SHAP": 1.5, "Student predicts and explains": 0.003}
    path = write_report(model, X, y, path=tmp_path / "report.html", title="On <trial>", timings=timings)
    page = Page(path)
    # Nothing is fetched and nothing runs: every picture is inside, and there is no link, script or import.
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"url\(|@import|https?://", page.html)
    alts = [image["alt"] for image in page.images]
    assert len(alts) == len(set(alts)) == 8
    for alt in alts:
        root = ElementTree.fromstring(page.svg(alt))
        assert root.tag.endswith("svg")
    # A name from the data is text, in the page and in the pictures.
    assert "On <trial>" in page.text
    bars = page.svg("Importance")
    assert "&lt;b&gt;age&lt;/b&gt;" in bars
    assert "price in $ of $100" in bars
    assert "年齢" in bars
    assert "5e+02" not in page.text
    for text in ("1,234 parameters", "12 trees", "70 rows", "6 features (1 categorical)", "Fit: teacher 1.2 s", "500×"):
        assert text in page.text
    assert ("flipped decisions" in page.text) == (task != "regression")
    assert ("student's RMSE" if task == "regression" else "student's log loss") in page.text


def test_the_numbers_are_those_of_the_fidelity(X, tmp_path):
    model = FittedModel("multiclass").fit()
    y = labels(model, len(X))
    page = Page(write_report(model, X, y, path=tmp_path / "report.html"))
    teacher, (score, attribution) = model._labels(X, True), model._student_explained(X, True, "float32")
    expected = measure(
        teacher_score=teacher.score,
        student_score=score,
        teacher_attribution=teacher.attribution,
        student_attribution=attribution,
        base_value=model.base_value_,
        feature_names=NAMES,
        task="multiclass",
        teacher_response=model._link(teacher.score),
        student_response=model._link(score),
        y=np.resize([0, 1, 2], len(X)),
    )
    for name, value, meaning in expected.rows():
        assert f"{name} {meaning} {value}" in page.text
    # The fit's own numbers stand beside them, with a dash for what was not measured there.
    assert f"is perfect. {format_number(expected['score_r2'])} 0.5000" in page.text
    assert f"pooled. {format_number(expected['attribution_r2'])} –" in page.text
    # The pictures of one output say which.
    most_frequent = model.classes_[np.bincount(teacher.score.argmax(axis=1)).argmax()]
    assert f"Raw score of class {most_frequent}" in page.text
    row = int(re.search(r"Row (\d+) of the table", page.text).group(1))
    assert model.classes_[teacher.score[row].argmax()] == most_frequent


def test_a_student_that_does_not_explain_is_compared_by_its_score(X, tmp_path):
    model = FittedModel().fit(explains=False)
    page = Page(write_report(model, X, path=tmp_path / "report.html"))
    assert "trained without explanations" in page.text
    assert "nan" not in page.text.lower().split()
    assert [image["alt"].split()[0] for image in page.images] == ["Density", "Terms", "One"]


def test_an_incomplete_student_shows_what_it_does_not_attribute(X, tmp_path):
    page = Page(write_report(FittedModel().fit(gap=0.7), X, path=tmp_path / "report.html"))
    student, teacher = (page.svg(f"Waterfall of the {side}'s") for side in ("student", "teacher"))
    # Both have the row, so that the two pictures are alike: the teacher's is empty.
    assert "not attributed" in teacher
    assert "+0.7" in student
    assert "not attributed" not in Page(write_report(FittedModel().fit(), X, path=tmp_path / "b.html")).svg(
        "Waterfall of the t"
    )


def test_rows_without_weight_and_rows_beyond_the_limit_are_left_out(X, tmp_path):
    model = FittedModel().fit()
    weight = np.ones(70)
    weight[:20] = 0
    few = Page(write_report(model, X, path=tmp_path / "a.html", sample_weight=weight))
    alone = Page(write_report(model, X[20:], path=tmp_path / "b.html"))
    assert "50 rows of 70 given" in few.text
    for alt in ("Density", "Importance", "Beeswarm of the student", "Waterfall of the student"):
        assert few.svg(alt) == alone.svg(alt)
    drawn = Page(write_report(model, X, path=tmp_path / "c.html", max_rows=10))
    assert "10 rows of 70 given" in drawn.text


def test_the_file_is_replaced_in_one_step(X, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the old page")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(reporting.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(FittedModel().fit(), X, path=path)
    assert path.read_text() == "the old page"
    assert list(tmp_path.iterdir()) == [path], "no unfinished file stays behind"


def test_the_callers_matplotlib_is_left_alone(X, tmp_path):
    settings = [name for name in matplotlib.rcParams if name != "backend"]  # reading that one would choose it
    before = {name: matplotlib.rcParams[name] for name in settings}
    write_report(FittedModel().fit(), X, path=tmp_path / "report.html")
    assert {name: matplotlib.rcParams[name] for name in settings} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "no/such/folder/report.html"}, "path must name a file in an existing folder, got"),
        ({"max_rows": 0}, "max_rows must be a positive integer or None, got 0"),
        ({"timings": {"predict": -1.0}}, "timings must map what was timed to seconds"),
        ({"timings": [1.0]}, "timings must map what was timed to seconds"),
        ({"y": ["no", "perhaps"] * 35}, r"y must hold classes of the model, \['no', 'yes'\], got \['perhaps'\]"),
        ({"y": ["no"]}, r"y must have shape \(70,\), got \(1,\)"),
        ({"sample_weight": np.zeros(70)}, "sample_weight must be positive for some row"),
    ],
)
def test_bad_input_is_named_before_any_work(change, message, X, tmp_path):
    model = FittedModel("binary").fit()
    model.distilled_.teacher_explained = None  # not reached
    with pytest.raises(ValueError, match=message):
        write_report(model, X, **({"path": tmp_path / "report.html"} | change))


def test_an_unfitted_model_is_refused(X, tmp_path):
    with pytest.raises(NotFittedError):
        write_report(FittedModel(), X, path=tmp_path / "report.html")


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_extra_says_what_cures_it(library, X, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r'write_report needs .*pip install "gbdt2nn\[report\]"'):
        write_report(FittedModel().fit(), X, path=tmp_path / "report.html")


def test_a_real_student_behind_a_pipeline(tmp_path):
    """The report's numbers are those of `gbdt2nn.fidelity` on the same rows."""
    from sklearn.datasets import load_iris
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from gbdt2nn import Gbdt2NNClassifier, fidelity

    X, y = load_iris(return_X_y=True, as_frame=True)
    model = Gbdt2NNClassifier(
        teacher_params={"n_estimators": 5}, max_steps=20, n_synthetic=50, n_jobs=1, random_state=0
    )
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), model).fit(X, y)
    weight = np.resize([0.0, 1.0, 2.0], len(X))
    page = Page(write_report(pipeline, X, y, sample_weight=weight, path=tmp_path / "report.html"))
    for name, value, meaning in fidelity(pipeline, X, y, sample_weight=weight).rows():
        if name != "Completeness gap":  # rounding alone
            assert f"{name} {meaning} {value}" in page.text
    assert len(page.images) == 8
    assert "100 rows of 150 given, 4 features, multiclass, 3 classes" in page.text
    assert "LightGBM teacher" in page.text


# ------------------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 1e12])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_every_picture_can_be_drawn_of_any_numbers(n, scale):
    """One row, no variance, tiny and huge values: a picture, no warning."""
    values = scale * np.random.default_rng(0).normal(size=(n, 2))
    x = np.array([[np.nan, 1.0]] * n)
    shares = [figures.Share("a = 1", values[0, 0]), figures.Share("a long name = a long value of it", -scale)]
    wide = figures.waterfall_limits([[0.0, scale]])
    for draw, arguments in [
        (figures.scores, (values[:, 0], values[:, 1])),
        (figures.scores, (values[:, 0], values[:, 0])),
        (
            figures.features,
            (["a", "b"], {"teacher": abs(values[0]), "student": values[0] * 0}, np.array([-1.5, np.nan])),
        ),
        (figures.beeswarm, (["a", "b"], values, x, figures.limits(values))),
        (figures.waterfall, (0.0, shares, scale, wide)),
        (figures.loss_curves, ([{"step": 1, "learning_rate": 1, "total": scale, "imitation": scale}] * n,)),
        (figures.held_out_curves, ([{"step": 1, "score_r2": 1 - scale, "attribution_r2": np.nan}] * n,)),
    ]:
        assert figures.image(draw, *arguments).startswith("data:image/svg+xml")


def test_points_of_a_beeswarm_stay_in_their_row_and_apart():
    values = np.repeat([0.0, 1.0], [30, 1])
    offset = figures._spread(values, figures.limits(values))
    assert np.abs(offset).max() <= 0.4
    assert len(np.unique(offset[:30])) == 30
    assert offset[30] == 0, "a lone point stands on its line"


def test_colours_run_from_the_low_to_the_high_values_of_a_column():
    relative = figures._relative(np.array([np.nan, 0.0, 5.0, 10.0]))
    assert np.isnan(relative[0])
    assert list(relative[[1, 3]]) == [0, 1]
    assert figures._relative(np.array([2.0, 2.0])).tolist() == [0.5, 0.5]
    assert np.isnan(figures._relative(np.array([np.nan]))).all()


def test_numbers_in_pictures_are_short():
    values = (0.0, -0.012345, 61534.0, 207512.3, 1.5e12)
    assert [figures._number(v) for v in values] == ["0", "−0.0123", "61,500", "208,000", "1.5e+12"]


def test_the_shares_of_a_waterfall_lead_to_the_score():
    """Base value and shares, with those put together and what is not attributed, add up to the raw score."""
    for gap in (0.0, 0.3):
        attribution = np.random.default_rng(0).normal(size=(4, 1, 12))
        sides = reporting.Sides(
            score={side: 1.0 + attribution.sum(axis=2) + gap for side in ("teacher", "student")},
            attribution=dict.fromkeys(("teacher", "student"), attribution),
            base_value=dict.fromkeys(("teacher", "student"), np.ones(1)),
            x=np.zeros((4, 12)),
            rows=np.arange(4),
            weight=np.ones(4),
            names=[f"f{j}" for j in range(12)],
            categories=[None] * 12,
            output=0,
            output_name=None,
        )
        shares = reporting._shares(sides, "student", 2, np.arange(12))
        assert len(shares) == reporting.MOST_SHARES + (gap > 0)
        assert 1.0 + sum(share.value for share in shares) == pytest.approx(sides.score["student"][2, 0])
        assert shares[7].label == "5 other features"
