"""Fitted models with other covers than training gave them: what a refresh on other rows, or an editor, leaves behind."""

import json
import re
from collections.abc import Callable, Iterable

import lightgbm
import numpy as np
import xgboost
from conformance.models import PLAIN, SCORE, XGBOOST


def lightgbm_without_rows(booster: lightgbm.Booster, tree: int, leaves: Iterable[int]) -> lightgbm.Booster:
    """Say that no training row reached some leaves of a tree, and count again up to its root."""
    text = booster.model_to_string()
    blocks = re.split(r"(?=\nTree=\d+\n)", text.split("\nend of trees")[0])
    counts = re.search(r"\nleaf_count=(.*)", blocks[tree + 1])
    children = [re.search(rf"\n{side}_child=(.*)", blocks[tree + 1]) for side in ("left", "right")]
    assert counts is not None
    leaf = [int(word) for word in counts[1].split()]
    for number in leaves:
        leaf[number] = 0
    left, right = ([int(word) for word in found[1].split()] for found in children if found is not None)
    inner = [0] * len(left)

    def count(node: int) -> int:
        if node < 0:
            return leaf[~node]
        inner[node] = count(left[node]) + count(right[node])
        return inner[node]

    count(0)
    for key, numbers in (("leaf_count", leaf), ("internal_count", inner)):
        blocks[tree + 1] = re.sub(rf"\n{key}=.*", f"\n{key}={' '.join(map(str, numbers))}", blocks[tree + 1])
    text = "".join(blocks) + "\nend of trees" + text.split("\nend of trees")[1]
    return lightgbm.Booster(model_str=re.sub(r"\ntree_sizes=.*", "", text))  # the sizes are of the text before


def xgboost_with_covers(
    booster: xgboost.Booster, change: Callable[[int, dict[str, list[float]]], None]
) -> xgboost.Booster:
    """Change the trees of a model in its JSON."""
    model = json.loads(booster.save_raw("json"))
    for number, tree in enumerate(model["learner"]["gradient_booster"]["model"]["trees"]):
        change(number, tree)
    changed = xgboost.Booster()
    changed.load_model(bytearray(json.dumps(model).encode()))
    return changed


def xgboost_refreshed(booster: xgboost.Booster, rows: np.ndarray) -> xgboost.Booster:
    """Give a model the covers of some of the training rows, by the library's own refresh."""
    update = {**XGBOOST, "verbosity": 0, "process_type": "update", "updater": "refresh", "refresh_leaf": False}
    data = xgboost.DMatrix(PLAIN[rows], SCORE[rows], nthread=1)
    return xgboost.train(update, data, booster.num_boosted_rounds(), xgb_model=booster)
