"""The models of the matrix: small ones of either library, one for each objective and each way of training."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import xgboost
from numpy.typing import NDArray

Array = NDArray[np.float64]

N, D = 240, 7
ZEROS, CATEGORY, CONSTANT, COPY = 2, 3, 4, 6  # column 6 is column 0 again: no tree needs it
GROUP = 10  # rows of one query
HALF = 180  # rows before the ones that decide when to stop
FEATURE_TYPES = ["c" if j == CATEGORY else "q" for j in range(D)]


def _make_table(n_rows: int = N, n_categories: int = 12) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n_rows, D))
    x[:, 1] = np.round(2 * x[:, 1]) / 2
    x[rng.random(n_rows) < 0.4, ZEROS] = 0.0
    x[:, CATEGORY] = rng.permutation(np.arange(n_rows) % n_categories)
    x[:, CONSTANT] = 3.0
    x[:, COPY] = x[:, 0]
    kind = x[:, CATEGORY] % 12
    score = x[:, 0] * (x[:, ZEROS] > 0) + x[:, 1] + np.isin(kind, [1, 4, 7]) - (kind == 5) + 0.3 * x[:, 5]
    return x, score + 0.1 * rng.normal(size=n_rows)


def with_holes(x: Array, share: float = 0.15) -> Array:
    return np.where(np.random.default_rng(1).random(x.shape) < share, np.nan, x)


def _make_chain(n_features: int) -> tuple[Array, Array]:
    """Make rows that leave a tree one after the other: level k tells its rows by column k % n_features alone."""
    level = np.repeat(np.arange(45), 3)
    x = np.full((len(level), n_features), -60.0)
    leaving = np.flatnonzero(level < 44)
    x[leaving, level[leaving] % n_features] = -(level[leaving] // n_features)
    return x, level.astype(np.float64)


PLAIN, SCORE = _make_table()
HOLES = with_holes(PLAIN)
NOISY = SCORE[HALF:] + 1 * np.random.default_rng(4).normal(size=N - HALF)  # a few rounds are best
MANY, MANY_SCORE = _make_table(1200, n_categories=300)
MANY_SCORE = MANY_SCORE + 3 * np.sin(37 * MANY[:, CATEGORY])  # each of the 300 counts
FINE = np.where(np.arange(D) == 1, np.round(_make_table(1500)[0]), 0.0)
FINE[:, 5] = np.random.default_rng(5).uniform(-3, 3, size=len(FINE))  # hundreds of thresholds on this column
FINE_SCORE = 3 * np.sin(60 * FINE[:, 5]) + FINE[:, 1] + np.random.default_rng(6).normal(size=len(FINE))
FRESH, FRESH_SCORE = PLAIN[::-1] + 0.01, np.roll(SCORE, 7)
CHAIN, LEVEL = _make_chain(D)
WIDE, WIDE_LEVEL = _make_chain(44)

# What each objective learns, made from a score.
TARGETS: dict[str, Callable[[Array], Array]] = {
    "regression": lambda score: score,
    "binary": lambda score: (score > 0.5).astype(float),
    "multiclass": lambda score: np.digitize(score, [-0.5, 1.0]).astype(float),
    "poisson": lambda score: np.floor(2 * np.exp(0.3 * score)),
    "tweedie": lambda score: np.floor(2 * np.exp(0.3 * score)),
    "quantile": lambda score: score,
    "ranking": lambda score: np.digitize(score, [-0.5, 1.0]).astype(float),
}
LIGHTGBM_OBJECTIVES: dict[str, dict[str, Any]] = {
    "regression": {"objective": "regression"},
    "binary": {"objective": "binary"},
    "multiclass": {"objective": "multiclass", "num_class": 3},
    "poisson": {"objective": "poisson"},
    "tweedie": {"objective": "tweedie", "tweedie_variance_power": 1.3},
    "quantile": {"objective": "quantile", "alpha": 0.8},
    "ranking": {"objective": "lambdarank"},
}
XGBOOST_OBJECTIVES: dict[str, dict[str, Any]] = {
    "regression": {"objective": "reg:squarederror"},
    "binary": {"objective": "binary:logistic"},
    "multiclass": {"objective": "multi:softprob", "num_class": 3},
    "poisson": {"objective": "count:poisson"},
    "tweedie": {"objective": "reg:tweedie", "tweedie_variance_power": 1.3},
    "quantile": {"objective": "reg:quantileerror", "quantile_alpha": 0.8},
    "ranking": {"objective": "rank:ndcg"},
}
LIGHTGBM = {
    "num_leaves": 8,
    "min_data_in_leaf": 5,
    "max_bin": 63,
    "verbosity": -1,
    "num_threads": 1,
    "seed": 0,
    "deterministic": True,
    "force_col_wise": True,
}
XGBOOST = {"max_depth": 3, "max_bin": 64, "nthread": 1, "seed": 0}


@dataclass(frozen=True)
class Training:
    """One way of training: the rows, what is added to the parameters, and what is special about it.

    Attributes
    ----------
    params : dict
    x, score : ndarray
        Rows, and the score that the objective's target is made of.
    rounds : int
    categories : bool
        Whether column `CATEGORY` is declared to the library.
    weights : ndarray of shape (n_samples,), optional
    special : {"", "refit", "stopped"}
        What is done with the model afterwards, or how the training ends.
    """

    params: dict[str, Any] = field(default_factory=dict)
    x: Array = field(default_factory=lambda: PLAIN)
    score: Array = field(default_factory=lambda: SCORE)
    rounds: int = 6
    categories: bool = False
    weights: Array | None = None
    special: str = ""


WEIGHTS = np.random.default_rng(2).exponential(size=N) + 0.01
# Neighbouring levels differ, and each weighs less than the one before it: the heaviest left is split off first.
_DEEP: dict[str, Any] = {"x": CHAIN, "score": 6.0 * (LEVEL % 2) - 3.0, "weights": 1e6 * 1.4**-LEVEL, "rounds": 2}
_FINE: dict[str, Any] = {"x": FINE, "score": FINE_SCORE, "rounds": 10}
_SETS = {"cat_smooth": 1.0, "min_data_per_group": 2, "max_cat_to_onehot": 1}

LIGHTGBM_TRAININGS = {
    "plain": Training(),
    "missing": Training(x=HOLES),
    "zero-as-missing": Training({"zero_as_missing": True}, x=HOLES),
    "no-missing": Training({"use_missing": False}, x=HOLES),
    "categories": Training(_SETS, x=HOLES, categories=True),
    "one-hot": Training({"max_cat_to_onehot": 20}, x=HOLES, categories=True),
    "300-categories": Training(
        {**_SETS, "min_data_per_group": 1, "min_data_in_bin": 1, "max_bin": 512, "max_cat_threshold": 200},
        x=MANY,
        score=MANY_SCORE,
        categories=True,
    ),
    "1023-bins": Training(
        {"max_bin": 1023, "min_data_in_bin": 1, "min_data_in_leaf": 2, "num_leaves": 63, "learning_rate": 0.7}, **_FINE
    ),
    "bagging": Training({"bagging_fraction": 0.6, "bagging_freq": 1}),
    "feature-fraction": Training({"feature_fraction": 0.4}),
    "weights": Training(weights=WEIGHTS),
    "dart": Training({"boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.0}),
    "rf": Training({"boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1}),
    "refit": Training(special="refit"),
    "stopped": Training({"learning_rate": 0.5}, rounds=30, special="stopped"),
    "no-starting-score": Training({"boost_from_average": False}),
    "one-leaf": Training({"min_data_in_leaf": N}),
    "one-tree": Training(rounds=1),
    "deep": Training(
        {
            "num_leaves": 64,
            "min_data_in_leaf": 1,
            "min_sum_hessian_in_leaf": 1e-3,
            "min_data_in_bin": 1,
            "boost_from_average": False,  # a quantile of two labels is one of them, and tells nothing apart
        },
        **_DEEP,
    ),
}
XGBOOST_TRAININGS = {
    "plain": Training(),
    "missing": Training(x=HOLES),
    "categories": Training({"max_cat_to_onehot": 1}, x=HOLES, categories=True),
    "one-hot": Training({"max_cat_to_onehot": 100, "max_depth": 5}, x=HOLES, categories=True),
    "300-categories": Training({"max_cat_to_onehot": 1}, x=MANY, score=MANY_SCORE, categories=True),
    "1023-bins": Training({"max_bin": 1023, "max_depth": 9, "min_child_weight": 0, "eta": 0.7}, **_FINE),
    "exact": Training({"tree_method": "exact", "gamma": 0.01}, x=HOLES),
    "bagging": Training({"subsample": 0.6}),
    "feature-fraction": Training({"colsample_bytree": 0.4}),
    "weights": Training(weights=WEIGHTS),
    "dart": Training({"booster": "dart", "rate_drop": 0.5}),
    "rf": Training({"num_parallel_tree": 4, "subsample": 0.6, "eta": 1.0}, rounds=1),
    "refit": Training(special="refit"),
    "stopped": Training({"eta": 0.5}, rounds=30, special="stopped"),
    "base-score": Training({"base_score": 0.3}),
    "one-leaf": Training({"gamma": 1e9}),
    "one-tree": Training(rounds=1),
    "deep": Training(
        {
            "max_depth": 0,
            "max_leaves": 64,
            "grow_policy": "lossguide",
            "min_child_weight": 0,
            "lambda": 0,
            "base_score": 0.5,
            "max_delta_step": 3,  # by default, Poisson leaves cannot tell such levels apart
        },
        **_DEEP,
    ),
}


def _query_sizes(n_rows: int, objective: str) -> NDArray[np.int64] | None:
    return np.full(n_rows // GROUP, GROUP) if objective == "ranking" else None


def lightgbm_data(objective: str, x: Array, score: Array, training: Training, **more: Any) -> lightgbm.Dataset:
    y = TARGETS[objective](score)
    return lightgbm.Dataset(
        x,
        y,
        weight=training.weights,
        group=_query_sizes(len(x), objective),
        categorical_feature=[CATEGORY] if training.categories else [],
        free_raw_data=False,
        **more,
    )


def train_lightgbm(objective: str, training: Training) -> lightgbm.Booster:
    """Train a Booster."""
    params = {**LIGHTGBM, **LIGHTGBM_OBJECTIVES[objective], **training.params}
    if training.special == "stopped":
        data = lightgbm_data(objective, training.x[:HALF], training.score[:HALF], training)
        stop = lightgbm_data(objective, training.x[HALF:], NOISY, training, reference=data)
        booster = lightgbm.train(
            params,
            data,
            training.rounds,
            valid_sets=[stop],
            callbacks=[lightgbm.early_stopping(3, verbose=False)],
            keep_training_booster=True,  # and the rounds after the best with it
        )
        assert 0 < booster.best_iteration < booster.current_iteration()
        return booster
    booster = lightgbm.train(params, lightgbm_data(objective, training.x, training.score, training), training.rounds)
    if training.special == "refit":
        y, sizes = TARGETS[objective](FRESH_SCORE), _query_sizes(N, objective)
        return booster.refit(FRESH, y, decay_rate=0.3, group=sizes)
    return booster


def xgboost_data(objective: str, x: Array, score: Array, training: Training) -> xgboost.DMatrix:
    weights = training.weights
    if weights is not None and objective == "ranking":
        weights = weights[::GROUP]  # one for each query
    data = xgboost.DMatrix(
        x,
        TARGETS[objective](score),
        weight=weights,
        feature_types=FEATURE_TYPES if training.categories else None,
        enable_categorical=training.categories,
        nthread=1,
    )
    if objective == "ranking":
        data.set_group(_query_sizes(len(x), objective))
    return data


def train_xgboost(objective: str, training: Training) -> Any:
    """Train a Booster, or an estimator where training stops early: a bare Booster uses all its rounds."""
    params = {**XGBOOST, **XGBOOST_OBJECTIVES[objective], **training.params}
    if training.special == "stopped":
        kind = {"multiclass": xgboost.XGBClassifier, "binary": xgboost.XGBClassifier, "ranking": xgboost.XGBRanker}
        params = {k: v for k, v in params.items() if k not in ("nthread", "seed", "num_class")}
        model = kind.get(objective, xgboost.XGBRegressor)(
            n_estimators=training.rounds, early_stopping_rounds=3, n_jobs=1, random_state=0, **params
        )
        y = TARGETS[objective]
        queries = {"qid": np.arange(HALF) // GROUP, "eval_qid": [np.arange(N - HALF) // GROUP]}
        model.fit(
            PLAIN[:HALF],
            y(SCORE[:HALF]),
            eval_set=[(PLAIN[HALF:], y(NOISY))],
            verbose=False,
            **(queries if objective == "ranking" else {}),
        )
        assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
        return model
    booster = xgboost.train(params, xgboost_data(objective, training.x, training.score, training), training.rounds)
    if training.special == "refit":
        update = {**params, "verbosity": 0, "process_type": "update", "updater": "refresh", "refresh_leaf": True}
        x, score = np.concatenate([PLAIN, FRESH]), np.concatenate([np.roll(SCORE, 3), FRESH_SCORE])
        data = xgboost_data(objective, x, score, training)
        return xgboost.train(update, data, training.rounds, xgb_model=booster)
    return booster


LIBRARIES: dict[str, tuple[Callable[[str, Training], Any], dict[str, Training]]] = {
    "lightgbm": (train_lightgbm, LIGHTGBM_TRAININGS),
    "xgboost": (train_xgboost, XGBOOST_TRAININGS),
}
LEFT_OUT = {
    # Pairs within a query decide on its splits: no weights can make them fall off one by one.
    ("lightgbm", "ranking", "deep"),
    ("xgboost", "ranking", "deep"),
    # Ranking has none.
    ("lightgbm", "ranking", "no-starting-score"),
}


def _train_wide(library: str) -> Any:
    """A path of more than 30 different features."""
    params = {name: v for name, v in LIBRARIES[library][1]["deep"].params.items() if name != "boost_from_average"}
    return LIBRARIES[library][0]("regression", Training(params, x=WIDE, score=1000 * 1.5**-WIDE_LEVEL, rounds=1))


def _train_absent_class() -> lightgbm.Booster:
    """Three outputs whose trees split, and a fourth of one-leaf trees."""
    params = {**LIGHTGBM, "objective": "multiclass", "num_class": 4}
    return lightgbm.train(params, lightgbm.Dataset(PLAIN, TARGETS["multiclass"](SCORE)), 6)


def _train_continued() -> lightgbm.Booster:
    """Trees that differ on what is missing: zero and NaN, NaN alone, nothing."""
    booster = None
    for extra in ({"zero_as_missing": True}, {}, {"use_missing": False}):
        params = {**LIGHTGBM, **extra, "objective": "regression"}
        data = lightgbm.Dataset(HOLES, SCORE, params=params, free_raw_data=False)
        booster = lightgbm.train(params, data, 3, init_model=booster)
    assert booster is not None
    return booster


def _train_xgboost_targets(**params: Any) -> xgboost.Booster:
    y = SCORE if "quantile_alpha" in params else np.column_stack([SCORE, 2 * SCORE + 30])
    return xgboost.train({**XGBOOST, **params}, xgboost.DMatrix(HOLES, y, nthread=1), 6)


SINGLES: dict[str, Callable[[], Any]] = {
    "lightgbm-regression-wide": lambda: _train_wide("lightgbm"),
    "lightgbm-multiclass-absent-class": _train_absent_class,
    "lightgbm-regression-continued": _train_continued,
    "xgboost-regression-wide": lambda: _train_wide("xgboost"),
    "xgboost-quantiles-missing": lambda: _train_xgboost_targets(
        objective="reg:quantileerror", quantile_alpha=np.array([0.2, 0.8])
    ),
    "xgboost-targets-missing": lambda: _train_xgboost_targets(multi_strategy="one_output_per_tree"),
}
NAMES = [
    f"{library}-{objective}-{training}"
    for library, (_, trainings) in LIBRARIES.items()
    for objective in TARGETS
    for training in trainings
    if (library, objective, training) not in LEFT_OUT
] + list(SINGLES)
