"""Codes must say all that an ensemble can tell: the same code, the same way at every split."""

import pickle
from typing import Any

import numpy as np
import pytest

from gbdt2nn.binning import Binner
from gbdt2nn.teachers import lightgbm as lgb_teacher
from gbdt2nn.teachers import xgboost as xgb_teacher
from gbdt2nn.trees import MISSING_NAN, MISSING_NONE, MISSING_ZERO, ZERO_THRESHOLD, TreeEnsemble, categories_of

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


# --- the compiled search, against the meaning of a code -----------------------------------------------------------


def codes_by_hand(binner, x):
    """Count thresholds and compare categories one by one."""
    codes = np.zeros(x.shape, dtype=np.int64)
    for j in range(binner.n_features):
        v = x[:, j].astype(np.float64)
        if binner.float32_input:
            with np.errstate(over="ignore"):
                v = v.astype(np.float32).astype(np.float64)
        is_missing = np.isnan(v)
        if binner.is_categorical[j]:
            category, named = categories_of(v, binner.categories_go_left), binner.categories[j]
            is_named = category[:, None] == named
            codes[:, j] = np.where(is_named.any(axis=1), (is_named * np.arange(len(named))).sum(axis=1), len(named))
        else:
            number = np.where(is_missing, 0.0, v)
            codes[:, j] = [(binner.thresholds[j] < value).sum() for value in number]
            if binner.zero_is_missing[j]:
                is_missing |= np.abs(v) <= ZERO_THRESHOLD
        if binner.missing_code[j] >= 0:
            codes[is_missing, j] = binner.missing_code[j]
    return codes


def binner_of(columns, *, missing=True, zero_is_missing=False, lightgbm=True):
    """A Binner made by hand; whole numbers are categories."""
    is_categorical = np.array([np.issubdtype(np.asarray(c).dtype, np.integer) for c in columns])
    n_codes = np.array([len(c) + 1 + missing for c in columns], dtype=np.int64)
    none = np.zeros(0)
    return Binner(
        n_codes=n_codes,
        missing_code=n_codes - 1 if missing else np.full(len(columns), -1),
        thresholds=[none if is_c else np.asarray(c) for c, is_c in zip(columns, is_categorical, strict=True)],
        is_categorical=is_categorical,
        categories=[
            (np.asarray(c) if is_c else none).astype(np.int32) for c, is_c in zip(columns, is_categorical, strict=True)
        ],
        zero_is_missing=~is_categorical & (zero_is_missing and missing),
        categories_go_left=lightgbm,
        float32_input=not lightgbm,
    )


def columns_of_all_kinds(seed, *, single=False):
    """Thresholds evenly spread, skewed, on both sides of zero, crowded, at the ends of the number range; categories."""
    rng = np.random.default_rng(seed)
    ends = [
        0.0,
        5e-324,
        1e-310,
        ZERO_THRESHOLD,
        BELOW_ZERO,
        1.0,
        1e18,
        1e38,
        3.5e38,
        1e300,
        np.finfo(float).max,
        np.inf,
    ]
    columns = [
        rng.normal(size=200),
        np.exp(3 * rng.normal(size=150)),
        rng.standard_cauchy(90),
        np.append(1e6 + 1e-9 * rng.normal(size=60), [-3.0, 1e9]),
        np.concatenate([ends, np.negative(ends)]),
        *(np.append(5 + 1e-7 * np.arange(crowd), [-1.0, 1e9]) for crowd in (4, 8, 17)),
        np.array([0.25]),
        np.array([-np.inf, np.inf]),
        10.0 ** rng.uniform(-300, 300, 40) * rng.choice([-1, 1], 40),
    ]
    if single:
        with np.errstate(over="ignore"):
            columns = [c.astype(np.float32).astype(np.float64) for c in columns]
    columns += [rng.choice(60, 20, replace=False), np.array([0, 2**24 - 1]), np.array([7])]
    return [np.unique(c) for c in columns]


def values_near(binner, n, seed=0):
    rng = np.random.default_rng(seed)
    columns = []
    for thresholds, named in zip(binner.thresholds, binner.categories, strict=True):
        t = np.concatenate([thresholds, named])
        with np.errstate(over="ignore"):
            beside = [np.nextafter(t, side) for side in (-np.inf, np.inf)] + [t.astype(np.float32).astype(float)]
        pool = np.concatenate([t, *beside, STRANGE, rng.normal(size=20), [2.0**24, 2.0**31, -0.99, 1e7]])
        columns.append(rng.choice(pool, n))
    return np.column_stack(columns)


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "none missing"])
@pytest.mark.parametrize("kind", ["lightgbm", "zero as missing", "xgboost"])
def test_codes_are_those_counted_by_hand(kind, missing):
    lightgbm = kind != "xgboost"
    for seed in range(3):
        columns = columns_of_all_kinds(seed, single=not lightgbm)
        binner = binner_of(columns, missing=missing, zero_is_missing=kind == "zero as missing", lightgbm=lightgbm)
        x = values_near(binner, 1100, seed)  # more rows than the search takes at once
        np.testing.assert_array_equal(binner.transform(x), codes_by_hand(binner, x))


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "every third row": lambda x: np.repeat(x, 3, axis=0)[::3],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "not aligned": lambda x: np.frombuffer(b"-" + x.tobytes(), x.dtype, x.size, 1).reshape(x.shape),
    "broadcast": lambda x: np.broadcast_to(x[3], x.shape),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lightgbm", [True, False], ids=["lightgbm", "xgboost"])
def test_every_layout_has_the_same_codes(layout, dtype, lightgbm):
    binner = binner_of(columns_of_all_kinds(0, single=not lightgbm), lightgbm=lightgbm)
    with np.errstate(over="ignore"):
        x = LAYOUTS[layout](values_near(binner, 600).astype(dtype))
    x.flags.writeable = False
    before = x.copy()
    expected = codes_by_hand(binner, x)  # a float32 means its float64 value
    for order in ("C", "F"):
        codes = binner.transform(x, order=order)
        np.testing.assert_array_equal(codes, expected)
        assert codes.dtype == binner.dtype
        assert codes.flags[f"{order}_CONTIGUOUS"]
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.int8, np.bool_, np.longdouble, object])
def test_other_types_are_converted(dtype):
    binner = binner_of(columns_of_all_kinds(0))
    x = np.random.default_rng(0).integers(0, 2, (20, binner.n_features)).astype(dtype)
    np.testing.assert_array_equal(binner.transform(x), codes_by_hand(binner, x.astype(float)))
    np.testing.assert_array_equal(binner.transform(x.tolist()), codes_by_hand(binner, x.astype(float)))


@pytest.mark.parametrize(("n", "dtype"), [(3, np.uint8), (254, np.uint8), (255, np.uint16), (70_000, np.uint32)])
def test_codes_of_every_width(n, dtype):
    binner = binner_of([np.arange(float(n)), np.array([0.5])])
    x = np.column_stack([np.append(np.random.default_rng(0).uniform(-2, n + 2, 700), np.nan), np.zeros(701)])
    codes = binner.transform(x)
    assert codes.dtype == binner.dtype == dtype
    expected = np.where(np.isnan(x[:, 0]), n + 1, np.clip(np.ceil(x[:, 0]), 0, n))
    np.testing.assert_array_equal(codes[:, 0], expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_threads_change_nothing(order):
    binner = binner_of(columns_of_all_kinds(0))
    x = values_near(binner, 9000)
    one = binner.transform(x, order=order)
    np.testing.assert_array_equal(binner.transform(x, order=order, n_jobs=3), one)
    np.testing.assert_array_equal(binner.transform(x[:5], n_jobs=3), one[:5])
    assert binner.transform(x[:0]).shape == (0, binner.n_features)
    # A row's codes do not depend on the rows beside it.
    np.testing.assert_array_equal(np.concatenate([binner.transform(x[i : i + 1]) for i in range(700)]), one[:700])


def test_codes_go_where_the_caller_wants_them():
    binner = binner_of(columns_of_all_kinds(0))
    x = values_near(binner, 30)
    expected = binner.transform(x)
    for out in (
        np.empty(x.shape, np.uint8),
        np.empty(x.shape, np.uint8, order="F"),
        np.empty((60, 2 * x.shape[1]), np.uint8)[::2, 1::2],
    ):
        assert binner.transform(x, out=out) is out
        np.testing.assert_array_equal(out, expected)


def test_places_that_do_not_fit_are_refused():
    binner = binner_of([np.array([0.5]), np.array([0.5])])
    x = np.zeros((3, 2))
    fixed = np.empty((3, 2), np.uint8)
    fixed.flags.writeable = False
    for out, got in [
        (np.empty((2, 3), np.uint8), r"a writable one of shape \(2, 3\) and type uint8"),
        (np.empty((3, 2), np.int8), "and type int8"),
        (fixed, "a read-only one"),
    ]:
        with pytest.raises(
            ValueError, match=r"out must be a writable array of shape \(3, 2\) and type uint8, got .*" + got
        ):
            binner.transform(x, out=out)
    with pytest.raises(ValueError, match="order must be 'C' or 'F', got 'A'"):
        binner.transform(x, order="A")
    with pytest.raises(ValueError, match="n_jobs must be an integer of at least 1, got 0"):
        binner.transform(x, n_jobs=0)


def test_few_thresholds_stand_in_one_cell():
    """The speed rests on it: evenly spread, skewed and two-sided thresholds all keep to a few per cell."""
    rng = np.random.default_rng(0)
    spread = [rng.normal(size=100_000), np.exp(2 * rng.normal(size=100_000)), rng.standard_cauchy(100_000)]
    columns = [np.unique(np.quantile(x, np.linspace(0.005, 0.995, 200))) for x in spread]
    assert binner_of(columns)._tables.most.max() <= 3


def test_tables_are_no_part_of_a_pickle():
    binner = binner_of(columns_of_all_kinds(0))
    size = len(pickle.dumps(binner))
    x = values_near(binner, 50)
    codes = binner.transform(x)
    assert binner.kernel(np.float64).state() == "loaded"
    assert len(pickle.dumps(binner)) == size
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(binner)).transform(x), codes)
