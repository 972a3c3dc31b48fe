"""Data and models that several test files share; all small."""

import os

# One thread each: the numbers are small, and thread pools of several libraries only wait for each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

DATASETS = Path(__file__).parent.parent / "datasets"

# A budget under which a fit takes about half a second.
QUICK = {"max_steps": 60, "n_synthetic": 300, "n_jobs": 1, "random_state": 0, "student_params": {"width": 64}}


@pytest.fixture(scope="session")
def quick():
    return dict(QUICK)


@pytest.fixture(scope="session")
def housing():
    """800 rows of California housing: NaN in one column, one category."""
    table = pd.read_parquet(DATASETS / "california_housing.parquet").sample(800, random_state=0).reset_index(drop=True)
    y = table.pop("median_house_value").to_numpy(float)
    return table, y


@pytest.fixture(scope="session")
def adult():
    """900 rows of adult: eight categories, three of them with missing values; string labels."""
    table = pd.read_parquet(DATASETS / "adult.parquet").sample(900, random_state=0).reset_index(drop=True)
    y = table.pop("income").to_numpy(object)
    return table.drop(columns="split"), y


@pytest.fixture(scope="session")
def numbers():
    """300 rows of three numbers with an interaction, and a number to predict."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    return X, X[:, 0] * X[:, 1] + 0.5 * X[:, 2]


@pytest.fixture(scope="session")
def three_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    return X, np.array(["low", "mid", "top"], object)[np.digitize(X[:, 0] + 0.5 * X[:, 1], [-0.5, 0.5])]
