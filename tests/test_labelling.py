"""The teacher as an oracle: blocks, checks, what is asked of the library itself."""

import numpy as np
import pytest
from lightgbm import LGBMRegressor

from gbdt2nn.attributions import ATTRIBUTIONS
from gbdt2nn.binning import Binner
from gbdt2nn.labelling import BLOCK, label_rows
from gbdt2nn.teachers import library_of


@pytest.fixture(scope="module")
def oracle():
    x = np.random.default_rng(0).normal(size=(BLOCK + 500, 3))
    model = LGBMRegressor(n_estimators=5, verbosity=-1, n_jobs=1).fit(x[:300], x[:300, 0] * x[:300, 1])
    library = library_of(model)
    ensemble = library.parse(model)
    explain = ATTRIBUTIONS["tree_shap"](ensemble, Binner.from_ensemble(ensemble), n_samples=len(x))
    return x, ensemble, explain, lambda block: library.raw_score(model, block, n_jobs=1)


def test_only_the_checked_rows_are_scored_by_the_library(oracle):
    x, ensemble, explain, raw_score = oracle
    asked = []

    def counted(block):
        asked.append(len(block))
        return raw_score(block)

    every = label_rows(ensemble, x, attribution="tree_shap", raw_score=raw_score, explain=explain)
    for n_checked, calls in ((100, [100]), (BLOCK + 10, [BLOCK, 10]), (None, [BLOCK, 500])):
        asked.clear()
        some = label_rows(
            ensemble,
            x,
            attribution="tree_shap",
            raw_score=counted,
            explain=explain,
            n_checked=n_checked,
            dtype=np.float32,
        )
        assert asked == calls
        assert some.attribution.dtype == np.float32
        np.testing.assert_allclose(some.score, every.score, atol=1e-12)
        np.testing.assert_allclose(some.attribution, every.attribution, atol=1e-6)


def test_attributions_that_miss_the_librarys_score_are_refused(oracle):
    x, ensemble, explain, raw_score = oracle
    with pytest.raises(ValueError, match="must add up to the teacher's own raw score"):
        label_rows(
            ensemble, x, attribution="tree_shap", raw_score=lambda b: raw_score(b) + 1, explain=explain, n_checked=10
        )
