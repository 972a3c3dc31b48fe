"""Blocks are the same however many are made together."""

import numpy as np
import pytest

from gbdt2nn import Gbdt2NNRegressor
from gbdt2nn.fresh_blocks import FreshBlocks
from gbdt2nn.labelling import Labels


def made(number):
    return np.random.default_rng(number).normal(size=(5, 2))


def labelled(rows):
    return Labels(rows.sum(1, keepdims=True), rows[:, None, :] ** 2, np.array([0.5]))


@pytest.mark.parametrize("n_together", [1, 2, 3])
@pytest.mark.parametrize("explained", [True, False])
def test_a_block_has_its_own_rows_and_labels(n_together, explained):
    def label(rows):
        return labelled(rows) if explained else Labels(rows.sum(1, keepdims=True), None, None)

    blocks = FreshBlocks(made, label, n_together=n_together)
    for number in [*range(7), 20, 3]:
        x, labels = blocks(number)
        np.testing.assert_array_equal(x, made(number))
        np.testing.assert_array_equal(labels.score, x.sum(1, keepdims=True))
        if explained:
            np.testing.assert_array_equal(labels.attribution, x[:, None, :] ** 2)
        else:
            assert labels.attribution is None


def test_as_many_are_made_together_as_are_asked_for():
    asked = []

    def label(rows):
        asked.append(len(rows))
        return labelled(rows)

    blocks = FreshBlocks(made, label, n_together=3)
    for number in range(6):
        blocks(number)
    assert asked == [15, 15]


def test_blocks_of_many_attributions_are_not_all_made_together(monkeypatch, numbers, quick):
    """Sixteen threads make so many blocks at a time as their attributions have room for."""
    X, y = numbers
    asked = []
    monkeypatch.setattr(FreshBlocks, "__init__", lambda self, make, label, *, n_together: asked.append(n_together))
    monkeypatch.setattr("gbdt2nn.distillation.n_threads", lambda n_jobs: 16)
    options = quick | {"n_synthetic": "auto", "max_steps": 1}
    Gbdt2NNRegressor(**options).fit(X, y)
    monkeypatch.setattr("gbdt2nn.distillation.FRESH_BYTES", 8 * 4096 * X.shape[1] * 5)
    Gbdt2NNRegressor(**options).fit(X, y)
    monkeypatch.setattr("gbdt2nn.distillation.FRESH_BYTES", 1)
    Gbdt2NNRegressor(**options).fit(X, y)
    assert asked == [16, 5, 1]


def test_a_fit_has_the_same_fresh_rows_on_one_thread_and_on_two(monkeypatch, numbers, quick):
    """Students of one and of two threads differ by torch's sums alone; what they learn from is the same."""
    X, y = numbers
    seen = {}
    for n_jobs in (1, 2):
        kept = []

        def remember(blocks, number, kept=kept, call=FreshBlocks.__call__):
            found = call(blocks, number)
            kept.append((number, found[0], found[1].score))
            return found

        monkeypatch.setattr(FreshBlocks, "__call__", remember)
        Gbdt2NNRegressor(**quick | {"n_synthetic": "auto", "max_steps": 60, "n_jobs": n_jobs}).fit(X, y)
        monkeypatch.undo()
        seen[n_jobs] = kept
    assert len(seen[1]) == len(seen[2]) > 2
    for one, two in zip(seen[1], seen[2], strict=True):
        assert one[0] == two[0]
        np.testing.assert_array_equal(one[1], two[1])
        np.testing.assert_array_equal(one[2], two[2])
