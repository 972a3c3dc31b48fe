"""Boosters of the speed suite: trained on one thread by seed, kept on disk as text, and described."""

import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import BenchmarkError
from benchmarks.speed.problems import Problem, Table

_SUFFIX = {"lightgbm": "txt", "xgboost": "json"}


def full_params(problem: Problem, table: Table, seed: int) -> dict[str, Any]:
    """Return the parameters that the library's ``train`` is given."""
    if problem.library == "lightgbm":
        task = {None: {"objective": "regression"}, 2: {"objective": "binary"}}
        own = {"num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": seed, "verbosity": -1}
        several = {"objective": "multiclass", "num_class": table.n_classes}
    else:
        task = {None: {"objective": "reg:squarederror"}, 2: {"objective": "binary:logistic"}}
        own = {"nthread": 1, "seed": seed, "verbosity": 0, "tree_method": "hist"}
        several = {"objective": "multi:softprob", "num_class": table.n_classes}
    return {**task.get(table.n_classes, several), **own, **problem.params}


def model_path(name: str, problem: Problem, table: Table, seed: int, cache: Path) -> Path:
    """Return where a booster is kept: its name carries a hash of all that it depends on."""
    depends = {
        "library": [problem.library, library_version(problem.library)],
        "table": [problem.table, list(table.X.shape), table.categories],
        # Rows are drawn by other libraries, whose next version may draw others.
        "numbers": hashlib.sha256(table.X.tobytes() + table.y.tobytes()).hexdigest(),
        "params": full_params(problem, table, seed),
        "n_rounds": problem.n_rounds,
    }
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:12]
    return cache / f"{name}-{digest}.{_SUFFIX[problem.library]}"


def library_version(library: str) -> str:
    """Return the installed version of "lightgbm" or "xgboost", whichever package the latter's module comes from."""
    names = ("xgboost", "xgboost-cpu") if library == "xgboost" else (library,)
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    raise BenchmarkError(f"the library {library!r} is not installed")


def load_model(name: str, problem: Problem, table: Table, seed: int, cache: Path) -> tuple[Any, Path]:
    """Return the booster of a problem, from the cache where it is there and trained anew where not.

    Returns
    -------
    booster : lightgbm.Booster or xgboost.Booster
        As read from its file, trained just now or before.
    path : Path
    """
    path = model_path(name, problem, table, seed, cache)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # A suffix that XGBoost knows; renamed when it is whole.
        part = path.with_name(f".part-{path.name}")
        _train(problem, table, full_params(problem, table, seed)).save_model(str(part))
        part.replace(path)
    return read_model(problem.library, path), path


def read_model(library: str, path: Path) -> Any:
    """Read a booster from its file."""
    if library == "lightgbm":
        import lightgbm

        return lightgbm.Booster(model_file=str(path))
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(str(path))
    booster.set_param({"nthread": 1})
    return booster


def _train(problem: Problem, table: Table, params: dict[str, Any]) -> Any:
    if problem.library == "lightgbm":
        import lightgbm

        dataset = lightgbm.Dataset(table.X, table.y, categorical_feature=table.categories)
        return lightgbm.train(params, dataset, problem.n_rounds)
    import xgboost

    kinds = ["c" if j in table.categories else "q" for j in range(table.X.shape[1])]
    matrix = xgboost.DMatrix(table.X, table.y, feature_types=kinds, enable_categorical=True, nthread=1)
    return xgboost.train(params, matrix, problem.n_rounds)


def describe_model(problem: Problem, booster: Any, path: Path) -> dict[str, Any]:
    """Return the size of a booster: trees, leaves, splits above a leaf, and different features among these.

    Returns
    -------
    description : dict
        ``leaf_depth`` and ``path_features`` hold mean, 90th and 99th percentile and maximum over all leaves.
    """
    roots = list(_roots(problem.library, booster))
    leaves = [leaf for root in roots for leaf in _leaves(root)]
    depth, features = (np.array(column) for column in zip(*leaves, strict=True))
    return {
        "library": problem.library,
        "version": library_version(problem.library),
        "n_trees": len(roots),
        "n_leaves": len(leaves),
        "leaf_depth": _spread(depth),
        "path_features": _spread(features),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def _roots(library: str, booster: Any) -> Iterator[dict[str, Any]]:
    if library == "lightgbm":
        yield from (tree["tree_structure"] for tree in booster.dump_model()["tree_info"])
    else:
        yield from (json.loads(text) for text in booster.get_dump(dump_format="json"))


def _leaves(root: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Yield depth and number of different features of each leaf's path."""
    nodes: list[tuple[dict[str, Any], int, frozenset[Any]]] = [(root, 0, frozenset())]
    while nodes:
        node, depth, above = nodes.pop()
        children = node.get("children") or [node[side] for side in ("left_child", "right_child") if side in node]
        if not children:
            yield depth, len(above)
        above = above | {node.get("split", node.get("split_feature"))}
        nodes += [(child, depth + 1, above) for child in children]


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "p90": float(np.percentile(values, 90)),
        "p99": float(np.percentile(values, 99)),
        "max": float(values.max()),
    }
