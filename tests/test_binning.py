"""Codes must say all that an ensemble can tell: the same code, the same way at every split."""

from typing import Any

import numpy as np
import pytest

from gbdt2nn.binning import Binner
from gbdt2nn.teachers import lightgbm as lgb_teacher
from gbdt2nn.teachers import xgboost as xgb_teacher
from gbdt2nn.trees import MISSING_NAN, MISSING_NONE, MISSING_ZERO, ZERO_THRESHOLD, TreeEnsemble

BELOW_ZERO = np.nextafter(-ZERO_THRESHOLD, -np.inf)
THRESHOLDS = [-1.5, BELOW_ZERO, ZERO_THRESHOLD, 0.1, 0.30000001192092896, 2.0, 1e30]
STRANGE = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1e-36,
    -1e-36,
    -ZERO_THRESHOLD,
    -0.5,
    -1.0,
    0.5,
    3.7,
    1e10,
    1e300,
    -1e300,
]


def random_ensemble(kinds, *, categories_go_left=True, float32_input=False, n_trees=6, seed=0):
    """Trees of one or two splits; feature j has numeric splits of the given missing types, or "named" categories."""
    rng = np.random.default_rng(seed)
    t = 5 * np.arange(n_trees)  # root, left child (split), its two leaves, right leaf
    n = 5 * n_trees
    left, right, feature = np.full(n, -1), np.full(n, -1), np.full(n, -1)
    left[t], right[t], left[t + 1], right[t + 1] = t + 1, t + 4, t + 2, t + 3
    splits = np.concatenate([t, t + 1])
    feature[splits] = rng.integers(0, len(kinds), len(splits))
    categorical = np.array([j >= 0 and kinds[j] == "named" for j in feature], dtype=bool)
    missing = np.array([MISSING_NONE if j < 0 or kinds[j] == "named" else rng.choice(kinds[j]) for j in feature])
    if not categories_go_left:
        missing = np.full(n, MISSING_NAN)
    threshold = rng.choice(THRESHOLDS, n)
    if float32_input:
        threshold = threshold.astype(np.float32).astype(float)
    elif (missing == MISSING_ZERO).any():  # as LightGBM's parser writes them
        threshold = np.where((missing == MISSING_ZERO) & (threshold == ZERO_THRESHOLD), BELOW_ZERO, threshold)
    named: list[Any] = [rng.choice(40, 3, replace=False) if c else [] for c in categorical]
    return TreeEnsemble.from_nodes(
        n_features=len(kinds) + 1,
        n_outputs=1,
        base_score=0.0,
        roots=t,
        tree_output=np.zeros(n_trees, dtype=np.int32),
        feature=feature,
        threshold=threshold,
        left=left,
        right=right,
        missing=missing,
        default_left=rng.random(n) < 0.5,
        value=rng.normal(size=n),
        cover=np.ones(n),
        gain=np.ones(n),
        is_categorical=categorical,
        category_start=np.cumsum([0, *map(len, named)]),
        category_values=np.concatenate([[], *named]).astype(np.int32),
        categories_go_left=categories_go_left,
        float32_input=float32_input,
        library_index=np.zeros(n, dtype=np.int32),
    )


def probes(binner):
    rng = np.random.default_rng(1)
    columns = []
    for j in range(binner.n_features):
        t = np.concatenate([binner.thresholds[j], binner.categories[j]])
        with np.errstate(over="ignore"):
            t32 = t.astype(np.float32)
            beside = [np.nextafter(t32, np.float32(side)).astype(float) for side in (-np.inf, np.inf)]
        beside += [np.nextafter(t, side) for side in (-np.inf, np.inf)]
        columns.append(rng.choice(np.concatenate([STRANGE, t, t, *beside, rng.normal(size=5)]), 800))
    return np.column_stack(columns)


def assert_codes_say_all(ensemble):
    binner = Binner.from_ensemble(ensemble)
    x = probes(binner)
    codes = binner.transform(x)
    assert codes.dtype == binner.dtype
    assert (codes < binner.n_codes).all()
    values = np.column_stack([binner.representatives(j)[codes[:, j]] for j in range(binner.n_features)])
    np.testing.assert_array_equal(ensemble.leaves(values), ensemble.leaves(x))
    np.testing.assert_array_equal(ensemble.raw_score(values), ensemble.raw_score(x))
    for j in range(binner.n_features):
        value = binner.representatives(j)
        assert value.shape == (binner.n_codes[j],)
        assert np.isnan(value).nonzero()[0].tolist() == [c for c in [binner.missing_code[j]] if c >= 0]
        # Each value stands for its own code.
        rows = np.zeros((len(value), binner.n_features))
        rows[:, j] = value
        np.testing.assert_array_equal(binner.transform(rows)[:, j], np.arange(len(value)))
    return binner


NONE, ZERO, NAN = MISSING_NONE, MISSING_ZERO, MISSING_NAN


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "kinds",
    [
        [[NONE], [NAN], [ZERO], "named"],
        [[NONE, NAN], [NONE, ZERO], [ZERO, NAN], [NONE, ZERO, NAN]],  # a training that went on with other options
    ],
    ids=["plain", "mixed"],
)
def test_codes_say_all_that_lightgbm_s_trees_tell(kinds, seed):
    assert_codes_say_all(random_ensemble(kinds, seed=seed, n_trees=12))


@pytest.mark.parametrize("seed", range(5))
def test_codes_say_all_that_xgboost_s_trees_tell(seed):
    kinds = [[NAN], [NAN], "named"]
    assert_codes_say_all(random_ensemble(kinds, seed=seed, categories_go_left=False, float32_input=True))


def make_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    x[:, 2] = rng.integers(0, 9, 300)
    x[rng.random(x.shape) < 0.1] = np.nan
    y = np.nan_to_num(x[:, 0]) + np.isin(x[:, 2], [1, 4]) + np.nan_to_num(x[:, 1]) ** 2
    return x, y


@pytest.mark.parametrize("extra", [{}, {"zero_as_missing": True}, {"use_missing": False}], ids=str)
def test_codes_of_a_lightgbm_teacher(extra):
    x, y = make_rows()
    params = {"n_estimators": 8, "num_leaves": 8, "min_child_samples": 5, "cat_smooth": 1, "min_data_per_group": 2}
    model = lgb_teacher.build("regression", params={**params, **extra})
    ensemble = lgb_teacher.parse(model.fit(x[:, :3], y, categorical_feature=[2]))
    binner = assert_codes_say_all(ensemble)
    assert binner.is_categorical.tolist() == [False, False, True]
    assert (binner.missing_code[:2] >= 0).all() == (extra != {"use_missing": False})
    assert binner.missing_code[2] == -1  # LightGBM sends a missing category with the others


def test_codes_of_an_xgboost_teacher():
    x, y = make_rows()
    params = {"n_estimators": 8, "max_depth": 4, "feature_types": ["q", "q", "c", "q"], "max_cat_to_onehot": 1}
    model = xgb_teacher.build("regression", params=params).fit(x, y)
    binner = assert_codes_say_all(xgb_teacher.parse(model))
    assert binner.is_categorical.tolist() == [False, False, True, False]
    assert (binner.missing_code == binner.n_codes - 1).all()


def test_numeric_codes_count_the_thresholds_below():
    ensemble = random_ensemble([[NONE], [NAN]], n_trees=20)
    binner = Binner.from_ensemble(ensemble)
    x = np.random.default_rng(0).normal(size=(50, 3))
    x[0] = np.nan
    expected = np.column_stack([(binner.thresholds[j] < x[:, [j]]).sum(axis=1) for j in range(2)])
    expected[0] = [(binner.thresholds[0] < 0.0).sum(), binner.n_codes[1] - 1]  # NaN is 0.0, or the code at the top
    np.testing.assert_array_equal(binner.transform(x)[:, :2], expected)
    np.testing.assert_array_equal(binner.n_codes[:2], [len(binner.thresholds[0]) + 1, len(binner.thresholds[1]) + 2])


def test_an_unused_feature_has_one_code():
    binner = Binner.from_ensemble(random_ensemble([[NAN]]))
    assert binner.n_codes[1] == 1
    assert binner.missing_code[1] == -1
    assert np.isfinite(binner.representatives(1)).all()
    assert not binner.transform([[np.nan, np.nan], [0.0, np.inf], [1.0, -3.0]])[:, 1].any()


def test_categories_have_a_code_each_and_one_for_all_others():
    ensemble = random_ensemble(["named"], n_trees=2)
    binner = Binner.from_ensemble(ensemble)
    named = np.unique(ensemble.category_values)
    x = np.column_stack([np.append(named, [-1.0, 77.0, np.nan, np.inf]), np.zeros(len(named) + 4)])
    other = len(named)
    assert binner.transform(x)[:, 0].tolist() == [*range(other), other, other, other, other]
    assert binner.categories[0].tolist() == named.tolist()
    assert binner.representatives(0)[-1] not in named


def test_the_type_grows_with_the_codes():
    def with_thresholds(n):
        ensemble = random_ensemble([[NONE]], n_trees=n)
        roots = ensemble.tree_start[:-1]
        threshold = np.full(ensemble.n_nodes, -1.0)
        threshold[roots] = np.arange(n)
        return TreeEnsemble(**{**vars(ensemble), "threshold": threshold, "feature": np.minimum(ensemble.feature, 0)})

    for n, dtype in [(254, np.uint8), (255, np.uint16)]:
        binner = Binner.from_ensemble(with_thresholds(n))  # n thresholds, -1.0 and what is above them all
        assert binner.n_codes[0] == n + 2
        assert binner.dtype == binner.transform(np.zeros((1, 2))).dtype == dtype


def test_an_ensemble_without_splits():
    ensemble = random_ensemble([[NONE]], n_trees=0)
    binner = Binner.from_ensemble(ensemble)
    assert binner.n_codes.tolist() == [1, 1]
    assert not binner.transform(np.ones((3, 2))).any()


def test_a_feature_of_two_kinds_is_refused():
    ensemble = random_ensemble(["named"], n_trees=4)
    is_categorical = ensemble.is_categorical.copy()
    is_categorical[0] = False
    with pytest.raises(ValueError, match="numeric and categorical splits of feature 0"):
        Binner.from_ensemble(TreeEnsemble(**{**vars(ensemble), "is_categorical": is_categorical}))


def test_rows_of_another_shape_are_refused():
    binner = Binner.from_ensemble(random_ensemble([[NONE]]))
    with pytest.raises(ValueError, match=r"x must have shape \(n_samples, 2\), got \(3, 5\)"):
        binner.transform(np.zeros((3, 5)))
