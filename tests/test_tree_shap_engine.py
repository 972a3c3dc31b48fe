"""The engine from inside: cases that its plan, its buffers and its codes could get wrong."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import lightgbm as lgb
import numpy as np
import pytest

from gbdt2nn.attributions.tree_shap.engine import FEW, TreeShap
from gbdt2nn.binning import Binner
from gbdt2nn.teachers import lightgbm as lgb_teacher
from gbdt2nn.trees import MISSING_NONE, TreeEnsemble

SMALL = {"verbosity": -1, "n_jobs": 1, "random_state": 0}


def stumps(thresholds, values):
    """One tree of one split for each threshold of a single feature, without missing values."""
    n = len(thresholds)
    nodes = 3 * np.arange(n)
    leaf = np.tile([False, True, True], n)
    value = np.zeros(3 * n)
    value[leaf] = np.repeat(values, 2) * np.tile([-1.0, 2.0], n)
    child = np.where(leaf, -1, np.arange(3 * n))
    return TreeEnsemble.from_nodes(
        n_features=1,
        n_outputs=1,
        base_score=0.5,
        roots=nodes,
        tree_output=np.zeros(n, np.int32),
        feature=np.where(leaf, -1, 0).astype(np.int32),
        threshold=np.where(leaf, 0.0, np.repeat(thresholds, 3)),
        left=np.where(leaf, -1, child + 1),
        right=np.where(leaf, -1, child + 2),
        missing=np.full(3 * n, MISSING_NONE, np.uint8),
        default_left=~leaf,  # has no meaning where nothing is missing
        value=value,
        cover=np.tile([3.0, 2.0, 1.0], n),
        gain=np.zeros(3 * n),
        is_categorical=np.zeros(3 * n, bool),
        category_start=np.zeros(3 * n + 1, np.int64),
        category_values=np.zeros(0, np.int32),
        categories_go_left=True,
        float32_input=False,
        library_index=np.zeros(3 * n, np.int32),
    )


@pytest.mark.parametrize("n_thresholds", [255, 65535])
def test_the_largest_code_of_a_type_is_not_taken_for_missing(n_thresholds):
    """Without a code for missing values, -1 stands in its place; its low bits are those of the largest code."""
    thresholds = np.arange(n_thresholds, dtype=float)
    ensemble = stumps(thresholds, np.full(n_thresholds, 1.0 / n_thresholds))
    binner = Binner.from_ensemble(ensemble)
    x = np.array([[-1.0], [n_thresholds / 2], [n_thresholds + 1.0]])
    codes = binner.transform(x, order="F")
    assert codes[-1, 0] == np.iinfo(codes.dtype).max
    engine = TreeShap(ensemble, binner, algorithm="quadrature")
    total = engine.base_value + engine.attributions(codes).sum(2)
    np.testing.assert_allclose(total, ensemble.raw_score(x), rtol=0, atol=1e-11)


def deep_model(seed, n_rounds=40):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1500, 20))
    y = x @ rng.normal(size=20) + np.sin(3 * x[:, 0]) * x[:, 1]
    return lgb.LGBMRegressor(n_estimators=n_rounds, num_leaves=100, min_child_samples=3, **SMALL).fit(x, y), x


def test_every_program_has_buffers_of_its_own_size():
    """Where tables do not fit, large and small jobs walk different leaves, to different depths, with different nodes."""
    found = 0
    for seed in range(4):
        model, x = deep_model(seed)
        ensemble = lgb_teacher.parse(model)
        binner = Binner.from_ensemble(ensemble)
        engine = TreeShap(ensemble, binner, table_memory=2**18)
        codes = binner.transform(np.tile(x, (3, 1)), order="F")
        engine.prepare(10_000)
        many = engine.attributions(codes)
        few = engine.attributions(codes[:1500])
        np.testing.assert_allclose(few, many[:1500], rtol=0, atol=1e-11)
        for program in (engine._bulk, engine._kept):
            assert program is not None
            for space in program.spare:
                if space.walk is not None:  # later chunks of tables come without a walk
                    assert len(space.walk.left_of) >= program.walk.deepest + 2
                    assert len(space.walk.products) >= (program.walk.deepest + 1) * program.walk.most_nodes * 16
        found += engine._bulk.walk is not None and engine._kept.walk.deepest != engine._bulk.walk.deepest
    assert found  # some of them differ


def test_jobs_of_any_size_at_once_give_the_same():
    """A plan may change between two blocks of another thread."""
    model, x = deep_model(0, n_rounds=10)
    ensemble = lgb_teacher.parse(model)
    binner = Binner.from_ensemble(ensemble)
    codes = binner.transform(x, order="F")
    expected = TreeShap(ensemble, binner).attributions(codes)
    engine = TreeShap(ensemble, binner)

    def job(n):
        np.testing.assert_allclose(engine.attributions(codes[:n]), expected[:n], rtol=0, atol=1e-11)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(job, [1, 700, 3, FEW, 1500, 16, 17, 129, 1, 1500]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(engine)).base_value, engine.base_value)


@pytest.mark.parametrize("algorithm", ["tables", "quadrature"])
def test_a_target_far_from_zero_costs_no_digits(algorithm):
    """LightGBM adds the mean to the leaves of the first round; explained is what differs between leaves."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 5))
    y = x[:, 0] * (x[:, 1] > 0) + x[:, 2]
    model = lgb.LGBMRegressor(n_estimators=20, **SMALL).fit(x, y + 1e6)
    for precision, tolerance in (("float64", 1e-9), ("fast", 5e-6)):
        ensemble = lgb_teacher.parse(model)
        binner = Binner.from_ensemble(ensemble)
        engine = TreeShap(ensemble, binner, algorithm=algorithm)
        codes = binner.transform(x, order="F")
        exact = TreeShap(ensemble, binner, algorithm="tables").attributions(codes)
        found = engine.attributions(codes, precision=precision)
        np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance)
    assert np.abs(exact).max() > 0.1


def test_covers_that_are_not_finite_are_refused():
    ensemble = stumps(np.array([0.0]), np.array([1.0]))
    ensemble.cover[:] = np.inf
    with pytest.raises(ValueError, match="must have finite covers at its splits"):
        TreeShap(ensemble, Binner.from_ensemble(ensemble))
