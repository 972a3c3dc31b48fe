"""The weight of labels, chosen: deterministic, replayable, guarded, and never for the worse on the rows it is chosen on."""

import numpy as np
import pytest
from lightgbm import LGBMRegressor
from sklearn.frozen import FrozenEstimator

from gbdt2nn import Gbdt2NNClassifier, Gbdt2NNRegressor
from gbdt2nn.label_choice import WEIGHTS, Judged, best, continued_steps, first_steps

QUICK = {
    "max_steps": 200,
    "n_synthetic": 0,
    "batch_size": 64,
    "n_jobs": 1,
    "random_state": 0,
    "student_params": {"width": 32},
}


@pytest.mark.parametrize("n", [10, 11, 57, 1000, 4321])
def test_the_steps_fit_and_repeat(n):
    first = first_steps(n)
    together = first + len(WEIGHTS) * continued_steps(first)
    assert n - 5 <= together <= n
    assert first_steps(together) == first  # a run is repeated from the number of its steps


def test_a_gain_that_may_be_chance_is_none():
    rng = np.random.default_rng(0)
    loss = rng.uniform(1, 2, 400)
    noise = loss + rng.normal(0, 1, 400)
    assert best([Judged(loss, 0.99), Judged(noise - noise.mean() + loss.mean() - 0.01, 0.99)], np.ones(400)) == 0
    assert best([Judged(loss, 0.99), Judged(loss - 0.01, 0.99), Judged(loss - 0.02, 0.99)], np.ones(400)) == 2


def test_the_teachers_score_is_guarded():
    loss = np.array([1.0, 2.0, 3.0])
    better = loss - 0.5
    assert best([Judged(loss, 0.98), Judged(better, 0.961)], np.ones(3)) == 1
    assert best([Judged(loss, 0.98), Judged(better, 0.959)], np.ones(3)) == 0
    assert best([Judged(loss, 0.9999), Judged(better, 0.991)], np.ones(3)) == 1  # a hundredth is always allowed
    # a row of weight 0 has no say
    assert best([Judged(loss, 0.99), Judged(np.array([0.5, 1.5, 99.0]), 0.99)], np.array([1.0, 1.0, 0.0])) == 1


@pytest.fixture(scope="module")
def coarse():
    """A smooth target, and a teacher of a few steps: what a network can do better with labels."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(1500, 2))
    y = np.sin(2 * X[:, 0]) + X[:, 1]
    return LGBMRegressor(n_estimators=8, learning_rate=0.3, num_leaves=6, verbosity=-1), X, y


def test_labels_are_learned_where_they_help_and_the_score_is_kept(coarse):
    teacher, X, y = coarse
    frozen = FrozenEstimator(teacher.fit(X, y))
    model = Gbdt2NNRegressor(frozen, label_weight="auto", **QUICK).fit(X, y)
    tried = model.history_.label_weights
    assert [one["label_weight"] for one in tried] == list(WEIGHTS)
    chosen = next(one for one in tried if one["chosen"])
    assert chosen["label_loss"] <= tried[0]["label_loss"]
    assert 1 - chosen["score_r2"] <= max(2 * (1 - tried[0]["score_r2"]), 0.01)
    assert model.history_.validations[-1]["negative_label_loss"] == pytest.approx(-chosen["label_loss"], rel=1e-3)
    assert model.n_steps_ == 200
    assert [entry["step"] for entry in model.history_.steps] == sorted({e["step"] for e in model.history_.steps})

    again = Gbdt2NNRegressor(frozen, label_weight="auto", **QUICK).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_labels_of_noise_are_left(coarse):
    """Labels that the teacher has nothing to learn from the student cannot use either: weight 0 is what stays."""
    teacher, X, _ = coarse
    frozen = FrozenEstimator(teacher)
    y = np.random.default_rng(1).normal(size=len(X)) * 100
    model = Gbdt2NNRegressor(frozen, label_weight="auto", **QUICK).fit(X, y)
    assert [one["label_weight"] for one in model.history_.label_weights if one["chosen"]] == [0.0]
    assert model.student_.tables.pair.any()  # and it ends in the refit that a student without labels ends in
    assert model.fidelity_["completeness_gap"] < 1e-9 * np.abs(y).max()


def test_a_run_under_a_clock_is_repeated_from_its_steps(coarse):
    teacher, X, y = coarse
    options = {**QUICK, "label_weight": "auto", "n_synthetic": 100, "max_steps": 100_000}
    timed = Gbdt2NNRegressor(FrozenEstimator(teacher), time_budget=1.5, **options).fit(X, y)
    assert timed.n_steps_ < 100_000
    options |= {"max_steps": timed.n_steps_, "n_explained": timed.n_explained_}
    again = Gbdt2NNRegressor(FrozenEstimator(teacher), **options).fit(X, y)
    assert again.n_steps_ == timed.n_steps_
    np.testing.assert_array_equal(again.predict(X), timed.predict(X))


def test_other_students_and_classes(coarse):
    _, X, y = coarse
    model = Gbdt2NNClassifier(
        teacher_params={"n_estimators": 5}, student="mlp", label_weight="auto", **{**QUICK, "max_steps": 20}
    )
    model.fit(X, y > 0)
    assert len(model.history_.label_weights) == len(WEIGHTS)
    # the weight that GBDT2NN learns labels with is its own: there is nothing to choose
    own = {**QUICK, "max_steps": 20, "student": "leaf_embedding", "student_params": {}}
    model = Gbdt2NNClassifier(teacher_params={"n_estimators": 5}, label_weight="auto", **own).fit(X, y > 0)
    assert model.history_.label_weights == []
    assert model.distilled_.options.label_weight == 1.0


def test_by_default_labels_do_not_count(coarse):
    teacher, X, y = coarse
    model = Gbdt2NNRegressor(FrozenEstimator(teacher), **{**QUICK, "max_steps": 20}).fit(X, y)
    assert model.label_weight is None
    assert set(model.history_.steps[-1]) == {"step", "learning_rate", "total", "imitation", "explanation"}


def test_labels_must_be_there(coarse):
    teacher, X, _ = coarse
    with pytest.raises(ValueError, match="label_weight must be 0 where y is left out, got auto"):
        Gbdt2NNRegressor(FrozenEstimator(teacher), label_weight="auto", **QUICK).fit(X)
