"""Trees written by hand, and walked by hand; the libraries' own trees are in test_teachers."""

import math
from typing import Any

import numpy as np
import pytest

import gbdt2nn.trees
from gbdt2nn.trees import (
    MISSING_NAN,
    MISSING_NONE,
    MISSING_ZERO,
    ZERO_THRESHOLD,
    TreeEnsemble,
    categories_of,
    mean_of_leaves,
)

NAN, INF = math.nan, math.inf
STRANGE = [NAN, INF, -INF, 0.0, -0.0, 1e-36, -1e-36, ZERO_THRESHOLD, -ZERO_THRESHOLD, 2e-35, -2e-35, -0.5, -1.0, -1.5]
STRANGE += [0.5, np.nextafter(0.5, -1), np.nextafter(0.5, 1), 1.0, 1.9, 2.0, 3.0, 5.0, 31.0, 2.0**24, 2.0**31, 1e300]


def leaf(value):
    return {"value": value}


def split(feature, left, right, *, at=0.5, missing=MISSING_NONE, default_left=False, named=None):
    return {"feature": feature, "left": left, "right": right, "at": at, "missing": missing} | {
        "default_left": default_left,
        "named": named,
    }


TREES = [
    split(
        0,
        split(1, leaf(1.0), leaf(2.0), missing=MISSING_ZERO, default_left=True),
        split(2, leaf(3.0), split(0, leaf(4.0), leaf(5.0), at=-1.0, missing=MISSING_NAN), named=[0, 2, 31]),
        missing=MISSING_NAN,
        default_left=True,
    ),
    leaf(-7.0),
    split(1, leaf(0.25), split(1, leaf(0.5), leaf(0.75), at=2.0), at=-0.0),
    split(2, leaf(10.0), leaf(20.0), named=[5], missing=MISSING_NAN, default_left=False),
    split(0, leaf(100.0), leaf(200.0), at=0.5, missing=MISSING_ZERO),
]
OUTPUTS = [0, 1, 1, 0, 1]


def ensemble_of(trees, outputs, *, categories_go_left=True, float32_input=False, base_score=(0.5, -0.5)):
    """Lay trees out breadth first, so that `from_nodes` has something to bring into order."""
    nodes: list[dict[str, Any]] = []
    roots: list[int] = []
    for tree in trees:
        roots.append(len(nodes))
        nodes.append(tree)
        at = roots[-1]
        while at < len(nodes):
            if "feature" in nodes[at]:
                nodes[at] = {**nodes[at], "children": (len(nodes), len(nodes) + 1)}
                nodes += [nodes[at]["left"], nodes[at]["right"]]
            at += 1

    def column(key, other, dtype):
        return np.array([node.get(key, other) for node in nodes], dtype=dtype)

    named = [node.get("named") or [] for node in nodes]
    children = np.array([node.get("children", (-1, -1)) for node in nodes], dtype=np.int64).reshape(-1, 2)
    return TreeEnsemble.from_nodes(
        n_features=4,
        n_outputs=2,
        base_score=base_score,
        roots=np.array(roots, dtype=np.int64),
        tree_output=np.array(outputs, dtype=np.int32),
        feature=column("feature", -1, np.int32),
        threshold=column("at", 0.0, float),
        left=children[:, 0],
        right=children[:, 1],
        missing=column("missing", 0, np.uint8),
        default_left=column("default_left", False, bool),
        value=column("value", 0.0, float),
        cover=np.arange(len(nodes), dtype=float),
        gain=np.ones(len(nodes)),
        is_categorical=np.array([bool(names) for names in named], dtype=bool),
        category_start=np.cumsum([0, *map(len, named)]).astype(np.int64),
        category_values=np.array([c for names in named for c in reversed(names)], dtype=np.int32),
        categories_go_left=categories_go_left,
        float32_input=float32_input,
        library_index=np.arange(len(nodes), dtype=np.int32),
    )


def walk(node, row, categories_go_left, float32_input):
    """One row down one tree, as the libraries' manuals say it."""
    while "feature" in node:
        x = float(np.float32(row[node["feature"]])) if float32_input else row[node["feature"]]
        is_missing = math.isnan(x) and node["missing"] != MISSING_NONE
        if node["missing"] == MISSING_ZERO:
            is_missing |= abs(x) <= ZERO_THRESHOLD
        if is_missing:
            goes_left = node["default_left"]
        elif node["named"] is not None:
            if categories_go_left:  # LightGBM truncates first
                is_named = math.isfinite(x) and int(x) in node["named"]
            else:  # XGBoost refuses what is negative first
                is_named = math.isfinite(x) and x >= 0 and int(x) in node["named"]
            goes_left = is_named == categories_go_left
        else:
            goes_left = (0.0 if math.isnan(x) else x) <= node["at"]
        node = node["left"] if goes_left else node["right"]
    return node["value"]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.choice(STRANGE, (500, 4))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")  # the walk by hand rounds 1e300
@pytest.mark.parametrize("categories_go_left", [True, False])
@pytest.mark.parametrize("float32_input", [True, False])
def test_every_value_goes_the_way_it_goes_by_hand(rows, categories_go_left, float32_input):
    kind = {"categories_go_left": categories_go_left, "float32_input": float32_input}
    ensemble = ensemble_of(TREES, OUTPUTS, **kind)
    expected = np.tile([0.5, -0.5], (len(rows), 1))
    for i, row in enumerate(rows):
        for tree, output in zip(TREES, OUTPUTS, strict=True):
            expected[i, output] += walk(tree, row, **kind)
    np.testing.assert_array_equal(ensemble.raw_score(rows), expected)


def test_nodes_come_in_preorder():
    ensemble = ensemble_of(TREES, OUTPUTS)
    assert ensemble.tree_start.tolist() == [0, 9, 10, 15, 18, 21]
    assert (ensemble.n_trees, ensemble.n_nodes) == (5, 21)
    assert ensemble.feature[:9].tolist() == [0, 1, -1, -1, 2, -1, 0, -1, -1]
    assert ensemble.value[:9].tolist() == [0, 0, 1, 2, 0, 3, 0, 4, 5]
    assert ensemble.left[:9].tolist() == [1, 2, -1, -1, 5, -1, 7, -1, -1]
    assert ensemble.right[:9].tolist() == [4, 3, -1, -1, 6, -1, 8, -1, -1]
    assert ensemble.library_index[:9].tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8]
    assert ensemble.category_values.tolist() == [0, 2, 31, 5]  # sorted within a node
    assert ensemble.category_start[[4, 5, 15, 16]].tolist() == [0, 3, 3, 4]
    assert not ensemble.gain[ensemble.feature < 0].any()


def test_nodes_no_root_reaches_are_dropped():
    one = ensemble_of(TREES[:1], [0])
    all_nodes = ensemble_of(TREES, OUTPUTS)
    kept = TreeEnsemble.from_nodes(
        **{k: v for k, v in vars(all_nodes).items() if k not in ("tree_start", "tree_output", "left", "right")},
        roots=np.array([0], dtype=np.int64),
        tree_output=np.array([0], dtype=np.int32),
        left=all_nodes.left.astype(np.int64),
        right=all_nodes.right.astype(np.int64),
    )
    assert kept.n_nodes == one.n_nodes == 9
    np.testing.assert_array_equal(kept.value, one.value)
    np.testing.assert_array_equal(kept.category_values, one.category_values)


def test_leaves_are_absolute_and_hold_the_score(rows):
    ensemble = ensemble_of(TREES, OUTPUTS)
    leaves = ensemble.leaves(rows)
    assert leaves.shape == (len(rows), 5)
    assert (ensemble.feature[leaves] == -1).all()
    assert ((leaves >= ensemble.tree_start[:-1]) & (leaves < ensemble.tree_start[1:])).all()
    score = ensemble.value[leaves] @ np.eye(2)[OUTPUTS] + [0.5, -0.5]
    np.testing.assert_allclose(ensemble.raw_score(rows), score)


def test_row_order_and_batch_size_change_nothing(rows, monkeypatch):
    ensemble = ensemble_of(TREES, OUTPUTS)
    whole, leaves = ensemble.raw_score(rows), ensemble.leaves(rows)
    monkeypatch.setattr(gbdt2nn.trees, "_CHUNK", 17)
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_array_equal(ensemble.raw_score(rows[order]), whole[order])
    np.testing.assert_array_equal(ensemble.leaves(rows[order]), leaves[order])
    np.testing.assert_array_equal(ensemble.raw_score(rows[:1]), whole[:1])


def test_used_features():
    assert ensemble_of(TREES, OUTPUTS).used_features().tolist() == [True, True, True, False]
    assert not ensemble_of([leaf(1.0)], [0]).used_features().any()


def test_ensembles_of_leaves_and_of_nothing():
    x = np.zeros((3, 4))
    np.testing.assert_array_equal(ensemble_of([leaf(1.0), leaf(2.0)], [0, 0]).raw_score(x), [[3.5, -0.5]] * 3)
    empty = ensemble_of([], [])
    np.testing.assert_array_equal(empty.raw_score(x), [[0.5, -0.5]] * 3)
    assert empty.leaves(x).shape == (3, 0)
    assert ensemble_of(TREES, OUTPUTS).raw_score(x[:0]).shape == (0, 2)


def test_the_base_score_is_one_for_all_or_one_each():
    assert ensemble_of(TREES, OUTPUTS, base_score=2.0).base_score.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("shape", [(2, 3), (4,), (1, 2, 4)])
def test_rows_of_another_shape_are_refused(shape):
    ensemble = ensemble_of(TREES, OUTPUTS)
    for method in (ensemble.raw_score, ensemble.leaves):
        with pytest.raises(ValueError, match=r"x must have shape \(n_samples, 4\), got"):
            method(np.zeros(shape))


def test_categories_are_read_as_the_libraries_do():
    x = np.array([NAN, INF, -INF, -1.0, -0.5, 0.0, 2.9, 2.0**24, 2.0**31])
    assert categories_of(x, True).tolist() == [-1, -1, -1, -1, 0, 0, 2, 2**24, -1]
    assert categories_of(x, False).tolist() == [-1, -1, -1, -1, -1, 0, 2, -1, -1]


def test_inner_means_weigh_the_leaves():
    left, right = np.array([1, -1, 3, -1, -1]), np.array([2, -1, 4, -1, -1])
    value, roots = np.array([9.0, 1.0, 9.0, 2.0, 6.0]), np.array([0])
    mean = mean_of_leaves(value, np.array([0.0, 2.0, 0.0, 1.0, 3.0]), left, right, roots)
    np.testing.assert_allclose(mean, [(2 * 1 + 4 * 5) / 6, 1.0, 5.0, 2.0, 6.0], rtol=1e-14)
    # Leaves that weigh nothing still have a mean.
    assert mean_of_leaves(value, np.zeros(5), left, right, roots).tolist() == [2.5, 1.0, 4.0, 2.0, 6.0]
