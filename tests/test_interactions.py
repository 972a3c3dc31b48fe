"""Which features interact, and the bins of tables over them."""

from itertools import combinations

import numpy as np
import pytest
from lightgbm import LGBMRegressor

from gbdt2nn.binning import Binner
from gbdt2nn.interactions import coarse_bins, interacting_features, table_layout
from gbdt2nn.teachers import library_of


def parsed(f, *, n_features=5, n=600, categorical="auto", **params):
    x = np.random.default_rng(0).normal(size=(n, n_features))
    if categorical != "auto":
        x[:, categorical] = np.random.default_rng(1).integers(0, 40, (n, len(categorical)))
    model = LGBMRegressor(verbosity=-1, n_jobs=1, **{"n_estimators": 20, "num_leaves": 8, **params})
    ensemble = library_of(model).parse(model.fit(x, f(x), categorical_feature=categorical))
    return ensemble, Binner.from_ensemble(ensemble)


def paths(ensemble):
    """Every leaf with the features above it, walked in plain Python."""

    def walk(node, above):
        if ensemble.feature[node] < 0:
            yield node, above
        else:
            for child in (ensemble.left[node], ensemble.right[node]):
                yield from walk(child, above | {int(ensemble.feature[node])})

    for root in ensemble.tree_start[:-1]:
        yield list(walk(root, set()))


class TestInteractingFeatures:
    def test_pairs_and_triples_are_summed_over_the_paths(self):
        """Against a plain walk over all leaves."""
        ensemble, _ = parsed(lambda x: x[:, 0] * x[:, 3] + x[:, 1] * (x[:, 4] > 0))
        for size, found in zip((2, 3), interacting_features(ensemble), strict=True):
            worth = {}
            for leaves in paths(ensemble):
                cover = np.array([ensemble.cover[leaf] for leaf, _ in leaves])
                value = np.array([ensemble.value[leaf] for leaf, _ in leaves])
                share = cover / cover.sum()
                for (_, above), weight in zip(leaves, share * np.abs(value - share @ value), strict=True):
                    for chosen in combinations(sorted(above), size):
                        worth[chosen] = worth.get(chosen, 0.0) + weight
            assert {tuple(row) for row in found.tolist()} == set(worth)
            falling = [worth[tuple(row)] for row in found.tolist()]
            assert falling == pytest.approx(sorted(worth.values(), reverse=True))

    def test_the_product_comes_first(self):
        pairs, _ = interacting_features(parsed(lambda x: x[:, 1] * x[:, 4] + 0.1 * x[:, 0])[0])
        assert pairs[0].tolist() == [1, 4]

    def test_stumps_have_no_interaction(self):
        pairs, triples = interacting_features(parsed(lambda x: x[:, 0], num_leaves=2)[0])
        assert pairs.shape == (0, 2)
        assert triples.shape == (0, 3)

    def test_a_teacher_without_a_split_has_none(self):
        ensemble, binner = parsed(lambda x: 0 * x[:, 0])
        layout = table_layout(ensemble, binner)
        assert len(layout.pairs) == len(layout.triples) == layout.pair_start[-1] == 0


class TestCoarseBins:
    def test_every_code_keeps_its_bin_while_there_are_enough(self):
        assert coarse_bins(8, 8).tolist() == list(range(8))

    def test_ordered_codes_share_bins_with_neighbours(self):
        bins = coarse_bins(250, 16)
        assert bins[0] == 0
        assert set(np.diff(bins.astype(int))) == {0, 1}
        assert bins.max() == 15
        assert np.bincount(bins).min() >= 8

    def test_bins_are_narrow_where_thresholds_matter(self):
        weight = np.ones(249)
        weight[:50] = 10.0
        bins = coarse_bins(250, 16, threshold_weight=weight)
        assert bins[50] >= 10
        assert bins.max() == 15

    def test_one_heavy_threshold_does_not_use_up_the_bins(self):
        weight = np.ones(249)
        weight[100] = 1e6
        bins = coarse_bins(250, 16, threshold_weight=weight)
        assert bins[101] == bins[100] + 1
        assert bins.max() == 15

    @pytest.mark.parametrize("is_categorical", [False, True])
    def test_a_missing_value_has_the_last_bin_to_itself(self, is_categorical):
        bins = coarse_bins(60, 10, is_categorical=is_categorical, missing_code=59)
        assert bins[59] == 10
        assert bins[:59].max() == 9
        assert coarse_bins(1, 10, missing_code=0).tolist() == [0]

    def test_rare_categories_share_a_bin(self):
        weight = np.random.default_rng(0).permutation(40.0 * np.arange(40))
        bins = coarse_bins(40, 9, is_categorical=True, code_weight=weight)
        heavy = np.argsort(-weight)[:8]
        assert sorted(bins[heavy]) == list(range(8))
        assert (np.delete(bins, heavy) == 8).all()


class TestTableLayout:
    def test_unused_features_are_in_no_table(self):
        ensemble, binner = parsed(lambda x: x[:, 0] * x[:, 3], n_features=8, min_gain_to_split=30.0)
        unused = np.flatnonzero(~ensemble.used_features())
        assert len(unused)
        layout = table_layout(ensemble, binner)
        assert not np.isin(layout.pairs, unused).any()
        assert not np.isin(layout.triples, unused).any()

    def test_numbers_are_obeyed(self):
        ensemble, binner = parsed(lambda x: x[:, 0] * x[:, 3] + x[:, 1] * x[:, 2])
        layout = table_layout(ensemble, binner, n_pairs=3, n_triples=2, pair_bins=6, triple_bins=4)
        assert (len(layout.pairs), len(layout.triples)) == (3, 2)
        assert layout.pair_sizes.max() <= 6
        assert layout.n_values(2) == 2 * (
            layout.n_codes.sum() + 2 * layout.pair_start[-1] + 3 * layout.triple_start[-1]
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"n_pairs": "all"}, "n_pairs"), ({"pair_bins": 1}, "pair_bins"), ({"triple_bins": 256}, "triple_bins")],
    )
    def test_bad_numbers_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            table_layout(*parsed(lambda x: x[:, 0]), **options)

    def test_categories_are_not_ordered(self):
        layout = table_layout(*parsed(lambda x: np.sin(x[:, 1]) * x[:, 0], categorical=[1]))
        assert layout.n_ordered[1] == 0
        assert layout.n_ordered[0] == layout.n_codes[0]
