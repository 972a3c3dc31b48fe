"""Fidelity: against scikit-learn, by hand, and with weights as repeated rows."""

import copy
import pickle

import numpy as np
import pytest
from sklearn import metrics as sk

from gbdt2nn import fidelity_metrics as fm

N, K, D = 60, 3, 5


@pytest.fixture
def sides():
    """Teacher and student: scores (60, 3), attributions (60, 3, 5), base value (3,); the student adds up."""
    rng = np.random.default_rng(0)
    attribution = rng.normal(size=(N, K, D)) * np.array([3.0, 1.0, 0.5, 0.1, 0.0])
    base = np.array([1.0, -2.0, 0.5])
    noisy = attribution + 0.2 * rng.normal(size=attribution.shape)
    return {
        "teacher_score": base + attribution.sum(axis=2),
        "student_score": base + noisy.sum(axis=2),
        "teacher_attribution": attribution,
        "student_attribution": noisy,
        "base_value": base,
        "feature_names": [f"f{j}" for j in range(D)],
        "task": "multiclass",
    }


def softmax(score):
    e = np.exp(score - score.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_r2_of_one_output_is_scikit_learns(sides):
    weight = np.random.default_rng(1).uniform(0.1, 3, N)
    a, b = sides["teacher_score"][:, :1], sides["student_score"][:, :1]
    assert fm.score_r2(a, b) == pytest.approx(sk.r2_score(a, b), rel=1e-12)
    assert fm.score_r2(a, b, weight) == pytest.approx(sk.r2_score(a, b, sample_weight=weight), rel=1e-12)


def test_r2_of_several_outputs_weights_them_by_their_variance(sides):
    """Pooling errors over outputs is scikit-learn's ``variance_weighted``."""
    a, b = sides["teacher_score"], sides["student_score"]
    assert fm.score_r2(a, b) == pytest.approx(sk.r2_score(a, b, multioutput="variance_weighted"), rel=1e-12)
    a, b = sides["teacher_attribution"], sides["student_attribution"]
    # scikit-learn leaves out columns without variance; here errors on them count, so the comparison is without them.
    flat = sk.r2_score(a[:, :, :4].reshape(N, -1), b[:, :, :4].reshape(N, -1), multioutput="variance_weighted")
    assert fm.attribution_r2(a[:, :, :4], b[:, :, :4]) == pytest.approx(flat, rel=1e-12)
    assert fm.attribution_r2(a, b) < flat
    per_feature = fm.attribution_r2_per_feature(a, b)
    for j in range(D - 1):
        expected = sk.r2_score(a[:, :, j], b[:, :, j], multioutput="variance_weighted")
        assert per_feature[j] == pytest.approx(expected, rel=1e-12)
    # The last feature is never credited by the teacher, so there is no variance to share out.
    assert np.isnan(per_feature[4])


def test_equal_sides_are_perfect(sides):
    same = sides | {"student_score": sides["teacher_score"], "student_attribution": sides["teacher_attribution"]}
    found = fm.measure(**same)
    for key in ("score_r2", "attribution_r2", "per_feature_r2", "attribution_cosine", "top3_overlap"):
        assert found[key] == pytest.approx(1.0, abs=1e-12)
    assert found["score_max_error"] == found["score_p999_error"] == found["decision_flip_rate"] == 0
    assert found["completeness_gap"] == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(found["attribution_r2_per_feature"]["f4"])


def test_small_case_by_hand():
    """Two rows, one output, two features."""
    found = fm.measure(
        teacher_score=[[1.0], [3.0]],
        student_score=[[1.0], [-1.0]],
        teacher_attribution=[[[1.0, 0.0]], [[3.0, 0.0]]],
        student_attribution=[[[0.0, 1.0]], [[3.0, 0.0]]],
        base_value=[0.5],
        feature_names=["a", "b"],
        task="binary",
        teacher_response=[[0.75], [0.9]],
        student_response=[[0.75], [0.25]],
        y=[1, 0],
    )
    # Squared error 16 over variance 1 + 1.
    assert found["score_r2"] == pytest.approx(1 - 16 / 2)
    assert found["score_max_error"] == found["score_p999_error"] == 4.0
    assert found["attribution_r2"] == pytest.approx(1 - 2 / 2)
    assert found["attribution_r2_per_feature"]["a"] == pytest.approx(1 - 1 / 2)
    assert np.isnan(found["attribution_r2_per_feature"]["b"])
    assert found["per_feature_r2"] == pytest.approx(0.5)
    # The first row's explanations stand at a right angle, the second's are equal.
    assert found["attribution_cosine"] == pytest.approx(0.5)
    # Both features are among the student's three.
    assert found["top3_overlap"] == 1.0
    # 0.5 + 1 - 1 and 0.5 + 3 + 1.
    assert found["completeness_gap"] == 4.5
    assert found["decision_flip_rate"] == 0.5
    assert found["teacher_metric"] == pytest.approx(-(np.log(0.75) + np.log(0.1)) / 2)
    assert found["student_metric"] == pytest.approx(-(np.log(0.75) + np.log(0.75)) / 2)
    assert (found["metric"], found["teacher_accuracy"], found["student_accuracy"]) == ("log_loss", 0.5, 1.0)
    assert found["n_rows"] == 2


def test_top_overlap_counts_the_teachers_reasons():
    teacher = np.array([[[5.0, -4.0, 3.0, 1.0, 0.0]], [[0.0, 0.0, 2.0, 0.0, 0.0]], [[0.0] * 5]])
    student = np.array([[[5.0, -4.0, 0.0, 1.0, 0.0]], [[3.0, 3.0, 3.0, 1.0, 0.0]], [[1.0] * 5]])
    # Two of three; its only reason is among three; no reason to find.
    assert fm.top_overlap(teacher[:1], student[:1]) == pytest.approx(2 / 3)
    assert fm.top_overlap(teacher[1:], student[1:]) == 1.0
    # Fewer than three features: all of them are compared.
    assert fm.top_overlap(teacher[:1, :, :2], student[:1, :, :2]) == 1.0


def test_cosine_of_rows_without_attribution():
    zero, one = np.zeros((1, 1, 3)), np.ones((1, 1, 3))
    assert fm.attribution_cosine(zero, zero) == 1.0
    assert fm.attribution_cosine(zero, one) == fm.attribution_cosine(one, zero) == 0.0
    assert fm.attribution_cosine(one, -one) == pytest.approx(-1.0)


@pytest.mark.parametrize(("student", "expected"), [(0.1, 1.0), (0.1 + 1e-15, 1.0), (0.1 + 1e-6, 0.0)])
def test_a_teacher_without_variance_is_imitated_or_not(student, expected):
    """0.1 repeated has a mean that is off by rounding, which must not pass for variance."""
    teacher = np.full((1000, 1), 0.1)
    assert fm.score_r2(teacher, np.full_like(teacher, student)) == expected
    attribution = np.full((1000, 1, 2), 0.1)
    found = fm.measure(
        teacher_score=teacher,
        student_score=teacher,
        teacher_attribution=attribution,
        student_attribution=np.full_like(attribution, student),
        feature_names=["a", "b"],
        task="regression",
    )
    assert found["attribution_r2"] == found["per_feature_r2"] == expected
    assert np.isnan(list(found["attribution_r2_per_feature"].values())).all()


def test_weights_are_repeated_rows_and_zero_is_no_row(sides):
    """Every number with integer weights equals the number on rows repeated, also maxima and quantiles."""
    rng = np.random.default_rng(2)
    weight = rng.integers(0, 4, N).astype(float)
    y = rng.integers(0, K, N)
    arrays = ("teacher_score", "student_score", "teacher_attribution", "student_attribution")
    sides |= {
        "y": y,
        "teacher_response": softmax(sides["teacher_score"]),
        "student_response": softmax(sides["student_score"]),
    }
    arrays = (*arrays, "y", "teacher_response", "student_response")
    # A row that does not count may be as wrong as it likes.
    gone = np.flatnonzero(weight == 0)[0]
    sides["student_score"][gone] = 1e6
    sides["student_attribution"][gone] = np.nan
    repeated = fm.measure(**(sides | {name: np.repeat(sides[name], weight.astype(int), axis=0) for name in arrays}))
    weighted = fm.measure(**sides, sample_weight=weight)
    assert weighted.pop("n_rows") == (weight > 0).sum()
    assert repeated.pop("n_rows") == weight.sum()
    assert weighted.pop("metric") == repeated.pop("metric")
    by_feature = weighted.pop("attribution_r2_per_feature"), repeated.pop("attribution_r2_per_feature")
    assert by_feature[0] == pytest.approx(by_feature[1], rel=1e-10, nan_ok=True)
    assert dict(weighted) == pytest.approx(dict(repeated), rel=1e-10, abs=1e-14)


def test_weighted_quantile_of_repeated_rows():
    rng = np.random.default_rng(3)
    values, weight = rng.normal(size=50), rng.integers(0, 5, 50)
    for q in (0.0, 0.1, 0.5, 0.999, 1.0):
        expected = np.quantile(np.repeat(values, weight), q, method="inverted_cdf")
        assert fm.weighted_quantile(values, q, weight) == expected
        # The size of the weights is of no account.
        assert fm.weighted_quantile(values, q, weight * 0.37) == expected


def test_without_attributions_and_labels_those_entries_are_nan(sides):
    found = fm.measure(**(sides | {"student_attribution": None}))
    for key in ("attribution_r2", "per_feature_r2", "attribution_cosine", "top3_overlap", "completeness_gap"):
        assert np.isnan(found[key])
    assert set(found["attribution_r2_per_feature"]) == set(sides["feature_names"])
    assert np.isnan([found["teacher_metric"], found["student_metric"], found["teacher_accuracy"]]).all()
    regression = fm.measure(**(sides | {"task": "regression"}))
    assert np.isnan(regression["decision_flip_rate"])
    assert "teacher_accuracy" not in regression
    assert fm.measure(**(sides | {"task": "ranking"}))["metric"] is None


@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        ("rmse", sk.root_mean_squared_error),
        ("mae", sk.mean_absolute_error),
        ("poisson_deviance", sk.mean_poisson_deviance),
        ("gamma_deviance", sk.mean_gamma_deviance),
    ],
)
def test_regression_metrics_are_scikit_learns(metric, reference):
    rng = np.random.default_rng(4)
    y, response, weight = rng.gamma(2, size=40), rng.gamma(2, size=(40, 1)), rng.uniform(size=40)
    expected = reference(y, response[:, 0], sample_weight=weight)
    assert fm.label_metric(y, response, metric, weight) == pytest.approx(expected, rel=1e-12)
    if metric == "poisson_deviance":
        y[:10] = 0  # a count of zero has a finite deviance
        expected = reference(y, response[:, 0])
        assert fm.label_metric(y, response, metric) == pytest.approx(expected, rel=1e-12)


def test_log_loss_is_scikit_learns():
    rng = np.random.default_rng(5)
    y, weight = rng.integers(0, 3, 40), rng.uniform(size=40)
    response = softmax(rng.normal(size=(40, 3)))
    response[0] = np.eye(3)[(y[0] + 1) % 3]  # certain and wrong: large, not infinite
    expected = sk.log_loss(y, response, sample_weight=weight, labels=[0, 1, 2])
    assert fm.label_metric(y, response, "log_loss", weight) == pytest.approx(expected, rel=1e-9)
    # One-vs-all responses do not add up to one: they are compared as shares of their sum.
    assert fm.label_metric(y, 0.5 * response, "log_loss", weight) == pytest.approx(expected, rel=1e-9)
    binary = fm.label_metric(y > 0, 1 - response[:, :1], "log_loss")
    assert binary == pytest.approx(sk.log_loss(y > 0, 1 - response[:, 0]), rel=1e-9)


def test_fidelity_is_a_mapping_that_prints_and_pickles(sides):
    found = fm.measure(**sides)
    assert pickle.loads(pickle.dumps(found))["score_r2"] == copy.deepcopy(found)["score_r2"] == found["score_r2"]
    assert type(pickle.loads(pickle.dumps(found))) is fm.Fidelity
    text = str(found)
    assert text.startswith("Fidelity to the teacher on 60 rows")
    assert f"{found['score_r2']:.4f}" in text
    assert "Least faithful features: f3" in text
    assert "nan" not in text.lower()
    numbers = {len(line.rstrip()) for line in text.splitlines()[1:-1]}
    assert len(numbers) == 1, "numbers of one width stand below each other"
    assert found._repr_html_().count("<tr") == len(found.rows())
    assert str(fm.Fidelity()) == "Fidelity to the teacher"
    labelled = fm.Fidelity(teacher_metric=0.5, metric="log_loss")
    assert "Teacher's log loss  0.5000" in str(labelled)
    assert "Teacher&#x27;s log loss" in labelled._repr_html_()


def test_numbers_are_shown_with_their_digits():
    values = (0.0, 0.98765, 1.2e-9, 123.456, 123456.0, 2e12)
    assert [fm.format_number(v) for v in values] == ["0.0000", "0.9877", "1.20e-09", "123.46", "123,456", "2.00e+12"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "clustering"}, "task must be one of"),
        ({"metric": "auc", "y": np.zeros(N), "teacher_response": np.ones((N, K))}, "metric must be one of"),
        ({"y": np.zeros(N)}, "teacher_response must be given with y, got None"),
        ({"y": np.zeros(3), "teacher_response": np.ones((N, K))}, r"y must have shape \(60,\), got \(3,\)"),
        ({"y": np.full(N, 3), "teacher_response": np.ones((N, K))}, "class numbers below 3"),
        ({"sample_weight": np.zeros(N)}, "positive for some row"),
        ({"sample_weight": -np.ones(N)}, "non-negative"),
        ({"sample_weight": np.ones(3)}, r"sample_weight must have shape \(60,\), got \(3,\)"),
        ({"student_score": np.zeros((N, 1))}, "must have the same shape"),
        ({"feature_names": ["a"]}, "one column a feature name"),
        ({"metric": "poisson_deviance", "y": -np.ones(N), "teacher_response": np.ones((N, K))}, "must not be negative"),
    ],
)
def test_bad_input_is_named(sides, change, message):
    with pytest.raises(ValueError, match=message):
        fm.measure(**(sides | change))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        fm.score_r2(np.zeros((0, 1)), np.zeros((0, 1)))
