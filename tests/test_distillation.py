"""The flow as functions: `distil` without the scikit-learn face, and what it leaves behind."""

import numpy as np
import pytest
import torch
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.frozen import FrozenEstimator

from gbdt2nn import distil
from gbdt2nn.batches import VISITS, Batches, Fresh, LabelledCodes, tensors_of
from gbdt2nn.distilled import Distilled
from gbdt2nn.options import Seeds, n_threads, resolve_device
from gbdt2nn.students.self_explaining import SelfExplaining

SMALL = {"n_estimators": 10, "num_leaves": 8, "verbosity": -1, "n_jobs": 1}


@pytest.mark.parametrize("frozen", [False, True])
def test_the_task_is_the_teachers(numbers, three_classes, quick, frozen):
    """Without the estimators' word for it, labels are classes where the teacher classifies."""
    for (X, y), teacher, k in ((numbers, LGBMRegressor(**SMALL), 1), (three_classes, LGBMClassifier(**SMALL), 3)):
        if frozen:
            teacher = FrozenEstimator(teacher.fit(X, y))
        distilled = distil(teacher, X, y, **quick)
        assert isinstance(distilled, Distilled)
        score, attribution = distilled.student_explained(X)
        assert score.shape == (300, k)
        np.testing.assert_allclose(distilled.base_value + attribution.sum(2), score)
        assert (distilled.classes is None) == (k == 1)
        assert distilled.measure(X)["score_r2"] == pytest.approx(distilled.fidelity["score_r2"], abs=0.2)


def test_the_teacher_answers_by_the_method_it_taught(numbers, quick):
    X, y = numbers
    a = distil(LGBMRegressor(**SMALL), X, y, attribution="tree_shap", **quick).teacher_explained(X)
    b = distil(LGBMRegressor(**SMALL), X, y, attribution="tree_path", **quick).teacher_explained(X)
    np.testing.assert_array_equal(a.score, b.score)
    assert np.abs(a.attribution - b.attribution).max() > 1e-3
    for labels in (a, b):
        np.testing.assert_allclose(labels.base_value + labels.attribution.sum(2), labels.score, atol=1e-9)


def test_attributions_that_do_not_add_up_are_refused(numbers, quick, monkeypatch):
    """They would teach wrong numbers without an error."""
    from gbdt2nn.attributions import ATTRIBUTIONS, tree_shap

    def wrong(*args, **kwargs):
        explain = tree_shap.prepare(*args, **kwargs)
        return lambda x: (explain(x)[0] * 1.01, explain(x)[1])

    monkeypatch.setitem(ATTRIBUTIONS, "tree_shap", wrong)
    with pytest.raises(
        ValueError, match=r"attribution='tree_shap' must add up to the teacher's own raw score, got a gap of"
    ):
        distil(LGBMRegressor(**SMALL), *numbers, **quick)


def test_trees_that_are_read_wrong_are_refused(numbers, quick, monkeypatch):
    from gbdt2nn.teachers import lightgbm

    original = lightgbm.raw_score
    monkeypatch.setattr(lightgbm, "raw_score", lambda *args, **kwargs: original(*args, **kwargs) + 0.1)
    with pytest.raises(ValueError, match=r"the trees as read give raw scores 0\.1 away"):
        distil(LGBMRegressor(**SMALL), *numbers, **quick)


def test_seeds_come_from_any_random_state():
    assert vars(Seeds(3)) == vars(Seeds(np.int64(3)))
    assert vars(Seeds(3)) != vars(Seeds(4))
    assert vars(Seeds(None)) != vars(Seeds(None))
    assert vars(Seeds(np.random.RandomState(0))) == vars(Seeds(np.random.RandomState(0)))
    assert vars(Seeds(np.random.default_rng(0))) == vars(Seeds(np.random.default_rng(0)))


def test_threads_and_device(monkeypatch):
    assert n_threads(3) == 3
    assert n_threads(-1) == n_threads(None) >= 1
    monkeypatch.setattr("multiprocessing.parent_process", lambda: object())
    assert n_threads(None) == 1
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")


def fresh_rows(first=40, size=20, most=100):
    """Numbered blocks whose score is their number."""

    def block(number):
        score = np.full((size, 1), 1000.0 + number)
        return LabelledCodes(
            np.full((size, 2), number), score, np.repeat(score[:, None], 2, axis=2), np.ones(size), None
        )

    return Fresh(block, size, first, most)


def test_fresh_rows_take_the_place_of_the_oldest_at_fixed_steps():
    """The real rows stay; blocks come in turn, each after its rows were drawn a few times; twice the same."""
    start = LabelledCodes(np.zeros((100, 2), int), np.arange(100.0)[:, None], np.zeros((60, 1, 2)), np.ones(100), None)

    def run():
        batches = Batches(tensors_of(start, np.zeros(1), "cpu"), 10, seed=0)
        batches.refresh_from(fresh_rows(), lambda part: tensors_of(part, np.zeros(1), "cpu"))
        drawn = [next(each) for each in [iter(batches)] for _ in range(45)]
        return batches, drawn

    batches, drawn = run()
    every = VISITS * 20 // 10
    assert batches.n_fresh == (44 // every) * 20
    kept = batches.rows.score[:40, 0].numpy()
    np.testing.assert_array_equal(kept, np.arange(40.0))
    newest = {1000.0 + number for number in range(44 // every)[-3:]}  # as many as there is room for
    assert newest == set(batches.rows.score[40:, 0].tolist())
    assert batches.rows.attribution is not None
    assert len(batches.rows.attribution) == 100  # what was scored only now has room for an explanation
    again = run()[1]
    assert all(bool((one.teacher.score == other.teacher.score).all()) for one, other in zip(drawn, again, strict=True))


def test_fresh_rows_join_the_others_while_there_is_room():
    start = LabelledCodes(np.zeros((100, 2), int), np.arange(100.0)[:, None], np.zeros((60, 1, 2)), np.ones(100), None)
    batches = Batches(tensors_of(start, np.zeros(1), "cpu"), 10, seed=0)
    batches.refresh_from(fresh_rows(most=145), lambda part: tensors_of(part, np.zeros(1), "cpu"))
    assert len(batches.rows.codes) == 100
    every = VISITS * 20 // 10
    stream = iter(batches)
    for _ in range(3 * every + 1):
        next(stream)
    # two blocks found room, the third took the place of the oldest synthetic rows
    score = batches.rows.score[:, 0]
    assert len(score) == 140
    assert set(score[100:].tolist()) == {1000.0, 1001.0}
    assert set(score[40:60].tolist()) == {1002.0}
    np.testing.assert_array_equal(score[60:100].numpy(), np.arange(60.0, 100.0))
    assert batches.rows.attribution.shape == (140, 1, 2)
    assert torch.isnan(batches.rows.attribution[60:100]).all()


def test_a_fit_with_fresh_rows_is_repeated_by_its_seed(numbers, quick):
    """The stream is numbered and comes at fixed steps, whatever the clock does."""
    options = quick | {"n_synthetic": "auto", "max_steps": 45, "batch_size": 1024}
    one, other = (distil(LGBMRegressor(**SMALL), *numbers, **options) for _ in range(2))
    assert one.history.n_fresh == other.history.n_fresh == 3 * 4096
    assert one.n_synthetic == 20_000 + 3 * 4096
    x = one.numbers(numbers[0])
    np.testing.assert_array_equal(
        one.student_explained(x, explain=False)[0], other.student_explained(x, explain=False)[0]
    )


@pytest.mark.parametrize(("student", "grows"), [("leaf_embedding", False), ("self_explaining", True)])
@pytest.mark.parametrize("data", ["numbers", "three_classes"])
def test_fresh_rows_do_not_crowd_out_labels(request, monkeypatch, quick, student, grows, data):
    """A student of labels meets those that have one as often in the last step as in the first."""
    X, y = request.getfixturevalue(data)
    teacher = (LGBMRegressor if data == "numbers" else LGBMClassifier)(**SMALL)
    seen = {}

    def remember(batches, fresh, convert):
        seen.update(before=batches.n_rows, most=fresh.most)
        return refresh_from(batches, fresh, convert)

    refresh_from = Batches.refresh_from
    monkeypatch.setattr(Batches, "refresh_from", remember)
    options = quick | {"n_synthetic": "auto", "max_steps": 2}
    own = {"student_params": {"hidden": (8,), "n_groups": 2}, "student": student} if not grows else {"student": student}
    distil(teacher, X, y, **options | own)
    assert (seen["most"] > seen["before"]) == grows
    if not grows:
        assert 20_000 <= seen["before"] <= 20_300


def test_a_student_stands_on_its_device_before_its_tables_are_asked(monkeypatch, numbers, quick):
    """Rows are on the device by then, and tables are looked up on it."""
    moved, seen, to = [], [], SelfExplaining.to
    monkeypatch.setattr(SelfExplaining, "to", lambda self, *where: (moved.append(where), to(self, *where))[1])
    monkeypatch.setattr(Batches, "refit_by", lambda *_: seen.extend(moved))
    distil(LGBMRegressor(**SMALL), *numbers, **quick, device="cpu")
    assert ("cpu",) in seen
