"""A self-contained HTML page that shows how well a fitted student imitates its teacher."""

import importlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn import figures
from gbdt2nn.fidelity_metrics import Fidelity, check_weight, format_number, measure, metric_name, score_r2
from gbdt2nn.figures import Share

Array = NDArray[np.float64]

MOST_FEATURES = 14  # in the bar chart and the beeswarms
MOST_SHARES = 8  # in a waterfall
MOST_CLASSES = 30  # in the table of classes


@dataclass(frozen=True)
class Sides:
    """Teacher and student on the rows of a report.

    Attributes
    ----------
    score, attribution, base_value : dict
        By side (``teacher``, ``student``): (n, k); (n, k, d); (k,). The last two are empty for a student that does not
        explain.
    x : ndarray of shape (n, d)
        The encoded table: numbers, and numbers of categories.
    rows : ndarray of shape (n,)
        Positions of the rows in the caller's table.
    weight : ndarray of shape (n,)
    output : int
        The output that pictures of a single output show.
    output_name : str or None
        Its name, where there are several.
    """

    score: dict[str, Array]
    attribution: dict[str, Array]
    base_value: dict[str, Array]
    x: Array
    rows: NDArray[np.int64]
    weight: Array
    names: list[str]
    categories: Sequence[Any]
    output: int
    output_name: str | None

    def importance(self, side: str, *, output: int | None = None) -> Array:
        """Mean size of each feature's share, of one output or summed over outputs: (d,)."""
        attribution = self.attribution[side] if output is None else self.attribution[side][:, [output]]
        return np.average(np.abs(attribution).sum(axis=1), axis=0, weights=self.weight)

    def value(self, row: int, feature: int) -> str:
        """A cell of the table in words."""
        value, known = self.x[row, feature], self.categories[feature]
        if np.isnan(value):
            return "missing"
        if known is not None:
            return str(known[int(value)])
        return str(int(value)) if value == np.round(value) and abs(value) < 1e7 else f"{value:.5g}"


def write_report(
    model: Any,
    X: Any,
    y: Any = None,
    *,
    path: str | os.PathLike[str] = "report.html",
    sample_weight: Any = None,
    title: str | None = None,
    max_rows: int | None = 2000,
    timings: Mapping[str, float] | None = None,
) -> Path:
    """Write a page on a student's fidelity: one HTML file with its pictures inside, no network, no scripts.

    Parameters
    ----------
    model : Gbdt2NNRegressor, Gbdt2NNClassifier, or a Pipeline that ends in one
        Fitted.
    X : array or frame of shape (n_samples, n_features)
        Rows to show, best such that had no part in training.
    y : array of shape (n_samples,), optional
        Labels: adds the label metric of teacher and student.
    path : path
        Replaced in one step if it exists; its folder must exist.
    sample_weight : array of shape (n_samples,), optional
        Rows of weight zero are left out.
    title : str, optional
    max_rows : int or None
        Of more rows, this many are drawn at random (always the same ones); None takes all. The teacher's own attributions
        of the rows take most of the time.
    timings : mapping of str to float, optional
        What was timed (``"Teacher's own SHAP"``) and how many seconds it took for all rows of X.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from gbdt2nn import Gbdt2NNRegressor, write_report
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = Gbdt2NNRegressor(max_steps=100, n_synthetic=500, random_state=0).fit(X[:300], y[:300])
    >>> write_report(model, X[300:], y[300:], path="report.html")  # doctest: +SKIP
    PosixPath('report.html')
    """
    _require_extra()
    path = Path(path)
    _check(path, max_rows, timings)
    if hasattr(model, "named_steps"):
        model, X = model[-1], model[:-1].transform(X)
    sides, n_given, label = _look(model, X, y, sample_weight, max_rows)
    fidelity = _measure(model, sides, label)
    page = {
        "title": title or f"{_kind(model)} student and its {_library(model)} teacher",
        "summary": _summary(model, sides, fidelity),
        "facts": _facts(model, sides, n_given),
        "tiles": _tiles(fidelity),
        "pictures": _pictures(model, sides, fidelity),
        "output": sides.output_name,
        "metrics": _metric_rows(fidelity, model.fidelity_),
        "n_rows": fidelity["n_rows"],
        "n_fit_rows": model.fidelity_.get("n_rows"),
        "fit_rows": model.fidelity_.get("measured_on", "held-out rows"),
        "classes": _class_rows(model, sides),
        "timings": _timing_rows(timings or {}, n_given),
        "n_given": n_given,
        "seconds": {name: f"{value:.1f}" for name, value in model.seconds_.items()},
        "provenance": _provenance(model),
        "colours": {"low": figures.LOW, "middle": figures.MIDDLE, "high": figures.HIGH, "plain": figures.PLAIN},
    }
    _write(path, _render(page))
    return path


# ------------------------------------------------------------------------------------------------------ what is given


def _require_extra() -> None:
    for library in ("jinja2", "matplotlib"):
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise ImportError(f'write_report needs {library}: pip install "gbdt2nn[report]"') from error


def _check(path: Path, max_rows: Any, timings: Any) -> None:
    """Refuse before any work what would fail after it."""
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"path must name a file in an existing folder, got {str(path)!r}")
    if max_rows is not None and (not isinstance(max_rows, int | np.integer) or max_rows < 1):
        raise ValueError(f"max_rows must be a positive integer or None, got {max_rows!r}")
    if timings is not None and not (
        isinstance(timings, Mapping) and all(isinstance(s, float | int) and s >= 0 for s in timings.values())
    ):
        raise ValueError(f"timings must map what was timed to seconds, none negative, got {timings!r}")


def _look(model: Any, X: Any, y: Any, sample_weight: Any, max_rows: int | None) -> tuple[Sides, int, Array | None]:
    """Ask teacher and student about the rows of the report; the number of rows given; labels as numbers."""
    from sklearn.utils import _safe_indexing
    from sklearn.utils.validation import _num_samples, check_is_fitted

    check_is_fitted(model)
    n_given = _num_samples(X)
    weight = check_weight(sample_weight, n_given)
    label = None if y is None else _label_numbers(y, model.distilled_.classes, n_given)
    rows = np.flatnonzero(weight > 0)
    if max_rows is not None and len(rows) > max_rows:
        rows = np.sort(np.random.default_rng(0).choice(rows, max_rows, replace=False))
    table = X if len(rows) == n_given else _safe_indexing(X, rows)
    distilled, encoder = model.distilled_, model.encoder_
    teacher = distilled.teacher_explained(table, explain=distilled.explains)
    score, attribution = distilled.student_explained(table, explain=distilled.explains, precision=model.precision)
    n_outputs = score.shape[1]
    output = int(np.bincount(teacher.score.argmax(axis=1), minlength=n_outputs).argmax())
    explained = {"teacher": teacher.attribution, "student": attribution} if distilled.explains else {}
    sides = Sides(
        score={"teacher": teacher.score, "student": score},
        attribution=explained,
        base_value={"teacher": teacher.base_value, "student": model.base_value_} if explained else {},
        x=distilled.numbers(table),
        rows=rows,
        weight=weight[rows],
        names=[str(name) for name in encoder.feature_names_],
        categories=encoder.categories_,
        output=output,
        output_name=None if n_outputs == 1 else _output_names(model, n_outputs)[output],
    )
    return sides, n_given, None if label is None else label[rows]


def _output_names(model: Any, n_outputs: int) -> list[str]:
    classes = model.distilled_.classes
    return [str(name) for name in (range(n_outputs) if classes is None else classes)]


def _label_numbers(y: Any, classes: Any, n_samples: int) -> Array:
    """Targets as they are, class labels as the number of their class."""
    y = np.asarray(y)
    if y.shape != (n_samples,):
        raise ValueError(f"y must have shape ({n_samples},), got {y.shape}")
    if classes is None:
        return y.astype(np.float64)
    number = {label: i for i, label in enumerate(classes.tolist())}
    unknown = sorted(set(y.tolist()) - set(number), key=str)
    if unknown:
        raise ValueError(f"y must hold classes of the model, {list(number)[:10]}, got {unknown[:10]}")
    return np.array([number[label] for label in y.tolist()], np.float64)


def _measure(model: Any, sides: Sides, label: Array | None) -> Fidelity:
    description = model.distilled_.description
    return measure(
        teacher_score=sides.score["teacher"],
        student_score=sides.score["student"],
        teacher_attribution=sides.attribution.get("teacher"),
        student_attribution=sides.attribution.get("student"),
        base_value=model.base_value_,
        feature_names=sides.names,
        task=description.task,
        teacher_response=description.link(sides.score["teacher"]),
        student_response=description.link(sides.score["student"]),
        y=label,
        metric=model.fidelity_.get("metric"),
        sample_weight=sides.weight,
    )


# ---------------------------------------------------------------------------------------------------- words and numbers


def _library(model: Any) -> str:
    return {"lightgbm": "LightGBM", "xgboost": "XGBoost"}.get(
        model.distilled_.description.library, model.distilled_.description.library
    )


def _kind(model: Any) -> str:
    return {"mlp": "MLP"}.get(model.student, str(model.student).replace("_", "-").capitalize())


def _percent(r2: float) -> str:
    return f"{100 * max(r2, 0.0):.{2 if r2 > 0.999 else 1}f} %"


def _summary(model: Any, sides: Sides, fidelity: Fidelity) -> str:
    n_rows = f"{fidelity['n_rows']:,}"
    score = _percent(fidelity["score_r2"])
    text = f"On {n_rows} rows the neural student reproduces {score} of the variance of its teacher's "
    if not sides.attribution:
        return text + "raw score. It was trained without explanations, so only scores are compared."
    return text + f"raw score and {_percent(fidelity['attribution_r2'])} of the variance of its explanations."


def _facts(model: Any, sides: Sides, n_given: int) -> list[tuple[str, str]]:
    distilled, n = model.distilled_, len(sides.rows)
    n_categories = sum(known is not None for known in sides.categories)
    n_parameters = sum(p.numel() for p in model.student_.parameters())
    drawn = "" if n == n_given else f" of {n_given:,} given"
    taught = f"explains by {model.attribution}" if sides.attribution else "explains nothing"
    complete = ", complete: its shares add up to its score" if model.student_.complete and sides.attribution else ""
    return [
        ("Teacher", f"{type(model.teacher_).__name__}, {distilled.ensemble.n_trees:,} trees, {taught}"),
        ("Student", f"{_kind(model)} network, {n_parameters:,} parameters{complete}"),
        (
            "Data",
            f"{n:,} rows{drawn}, {len(sides.names)} features"
            + (f" ({n_categories} categorical)" if n_categories else "")
            + f", {distilled.description.task}"
            + (f", {sides.score['teacher'].shape[1]} classes" if sides.output_name is not None else ""),
        ),
        ("Training", f"{model.n_steps_:,} steps, {model.n_synthetic_:,} synthetic rows, weight of explanation "
                     f"{model.explanation_weight:g}"),
    ]  # fmt: skip


def _tiles(fidelity: Fidelity) -> list[tuple[str, str, str]]:
    """The headline numbers: (value, name, remark)."""
    tiles = [(f"{fidelity['score_r2']:.4f}", "score R²", "agreement of raw scores")]
    if not np.isnan(fidelity["attribution_r2"]):
        tiles += [
            (f"{fidelity['attribution_r2']:.4f}", "attribution R²", "agreement of explanations"),
            (f"{100 * fidelity['top3_overlap']:.1f} %", "top-3 overlap", "same three strongest reasons"),
        ]
    if not np.isnan(fidelity["decision_flip_rate"]):
        tiles.append((f"{100 * fidelity['decision_flip_rate']:.2f} %", "flipped decisions", "rows decided differently"))
    if not np.isnan(fidelity["student_metric"]):
        name = metric_name(fidelity["metric"])
        teacher = format_number(fidelity["teacher_metric"])
        tiles.append((format_number(fidelity["student_metric"]), f"student's {name}", f"teacher's: {teacher}"))
    elif np.isnan(fidelity["decision_flip_rate"]):
        tiles.append((format_number(fidelity["score_p999_error"]), "99.9 % error", "of the raw score"))
    return tiles


def _metric_rows(here: Fidelity, at_fit: Any) -> list[tuple[str, str, str, str]]:
    """(name, meaning, value on these rows, value on the check rows of the fit) of every number."""
    there = {name: value for name, value, _ in Fidelity(at_fit).rows()}
    return [(name, meaning, value, there.get(name, "–")) for name, value, meaning in here.rows()]


def _class_rows(model: Any, sides: Sides) -> list[tuple[str, ...]]:
    """(class, share of rows, score R², attribution R²) of each class, where there are several and not too many."""
    n_outputs = sides.score["teacher"].shape[1]
    if not 1 < n_outputs <= MOST_CLASSES:
        return []
    chosen, rows = sides.score["teacher"].argmax(axis=1), []
    for k, name in enumerate(_output_names(model, n_outputs)):
        pairs = [side for side in (sides.score, sides.attribution) if side]
        r2 = [score_r2(side["teacher"][:, [k]], side["student"][:, [k]], sides.weight) for side in pairs]
        share = np.average(chosen == k, weights=sides.weight)
        rows.append((name, f"{100 * share:.1f} %", *(f"{value:.4f}" for value in r2)))
    return rows


def _timing_rows(timings: Mapping[str, float], n_rows: int) -> list[tuple[str, str, str, str]]:
    """(what, seconds, microseconds a row, multiple of the shortest)."""
    shortest = min((s for s in timings.values() if s > 0), default=1.0)
    return [
        (str(what), f"{s:.3g}", f"{1e6 * s / n_rows:,.3g}" if s < 1e-3 * n_rows else f"{1e6 * s / n_rows:,.0f}",
         f"{s / shortest:,.3g}×" if s < 1e3 * shortest else f"{s / shortest:,.0f}×")
        for what, s in timings.items()
    ]  # fmt: skip


def _provenance(model: Any) -> list[tuple[str, str]]:
    """Versions of what was used, seed and date."""
    used = ("gbdt2nn", "torch", "numpy", "sklearn", model.distilled_.description.library)
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in used}
    versions = [f"{name} {v}" for name, v in loaded.items() if v]
    now = datetime.now().astimezone()
    return [
        ("Written", f"{now:%Y-%m-%d %H:%M} {now.tzname() or ''}".strip()),
        ("Seed", "none: another fit gives another student" if model.random_state is None else repr(model.random_state)),
        ("Versions", ", ".join([*versions, f"Python {platform.python_version()}"])),
        ("Model", _call(model)),
        ("Teacher", _call(model.teacher_)),
    ]


def _call(estimator: Any) -> str:
    """How an estimator was made, on one line; of a Booster, which prints as an address, its type."""
    return " ".join(repr(estimator).split()) if hasattr(estimator, "get_params") else type(estimator).__name__


# ------------------------------------------------------------------------------------------------------------- pictures


def _pictures(model: Any, sides: Sides, fidelity: Fidelity) -> dict[str, Any]:
    """The pictures as ``data:`` addresses, by name, with the numbers that their captions need."""
    at = sides.output
    drawn: dict[str, Any] = {
        "scores": figures.image(figures.scores, sides.score["teacher"][:, at], sides.score["student"][:, at])
    }
    if sides.attribution:
        drawn |= _feature_picture(sides, fidelity) | _beeswarms(sides) | _waterfalls(sides)
    if model.history_.steps:
        drawn["loss"] = figures.image(figures.loss_curves, model.history_.steps)
    if model.history_.validations:
        drawn["held_out"] = figures.image(figures.held_out_curves, model.history_.validations)
    return drawn


def _feature_picture(sides: Sides, fidelity: Fidelity) -> dict[str, Any]:
    importance = {side: sides.importance(side) for side in ("teacher", "student")}
    order = np.argsort(-importance["teacher"], kind="stable")[:MOST_FEATURES]
    r2 = np.array([fidelity["attribution_r2_per_feature"][name] for name in sides.names])
    chosen = {side: values[order] for side, values in importance.items()}
    picture = figures.image(figures.features, [sides.names[j] for j in order], chosen, r2[order])
    return {"features": picture, "n_features": len(order), "n_hidden": len(sides.names) - len(order)}


def _beeswarms(sides: Sides) -> dict[str, Any]:
    at = sides.output
    order = np.argsort(-sides.importance("teacher", output=at), kind="stable")[:MOST_FEATURES]
    shown = {side: values[:, at, order] for side, values in sides.attribution.items()}
    limits = figures.limits(np.concatenate(list(shown.values())))
    x = sides.x.copy()
    x[:, [known is not None for known in sides.categories]] = np.nan  # the order of categories means nothing
    names = [sides.names[j] for j in order]
    return {"has_plain": bool(np.isnan(x[:, order]).any())} | {
        f"beeswarm_{side}": figures.image(figures.beeswarm, names, values, x[:, order], limits)
        for side, values in shown.items()
    }


def _waterfalls(sides: Sides) -> dict[str, Any]:
    """Both explanations of a typical row: the one whose attributions are wrong by the median.

    Of several outputs one is explained, so only rows come into question for which the teacher chooses it.
    """
    at = sides.output
    theirs, ours = (sides.attribution[side][:, at] for side in ("teacher", "student"))
    candidates = np.flatnonzero(sides.score["teacher"].argmax(axis=1) == at)
    error = ((theirs - ours) ** 2).sum(axis=1)[candidates]
    row = int(candidates[np.argsort(error, kind="stable")[(len(error) - 1) // 2]])
    order = np.argsort(-np.abs(theirs[row]), kind="stable")
    shares = {side: _shares(sides, side, row, order) for side in ("teacher", "student")}
    base = {side: float(values[at]) for side, values in sides.base_value.items()}
    score = {side: float(values[row, at]) for side, values in sides.score.items()}
    limits = figures.waterfall_limits(
        [[base[side], *(base[side] + np.cumsum([s.value for s in shares[side]])), score[side]] for side in shares]
    )
    return {"row": int(sides.rows[row])} | {
        f"waterfall_{side}": figures.image(figures.waterfall, base[side], shares[side], score[side], limits)
        for side in shares
    }


def _shares(sides: Sides, side: str, row: int, order: NDArray[np.int64]) -> list[Share]:
    """The strongest shares of a row by name and value, the rest as one, and what an incomplete student leaves out."""
    attribution = sides.attribution[side][row, sides.output]
    few = len(order) if len(order) <= MOST_SHARES else MOST_SHARES - 1
    shares = [Share(f"{sides.names[j]} = {sides.value(row, int(j))}", float(attribution[j])) for j in order[:few]]
    if few < len(order):
        shares.append(Share(f"{len(order) - few} other features", float(attribution[order[few:]].sum())))
    gaps = {who: _unattributed(sides, who, row) for who in sides.attribution}
    if max(abs(gap) for gap in gaps.values()) > 1e-4 * max(1e-300, np.abs(attribution).max()):
        shares.append(Share("not attributed", gaps[side]))
    return shares


def _unattributed(sides: Sides, side: str, row: int) -> float:
    """Part of a row's raw score that neither the base value nor an attribution accounts for; 0 but for rounding."""
    total = sides.base_value[side][sides.output] + sides.attribution[side][row, sides.output].sum()
    gap, size = float(sides.score[side][row, sides.output] - total), abs(total)
    return gap if abs(gap) > 1e-6 * size else 0.0


# ------------------------------------------------------------------------------------------------------------- the file


def _render(page: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    source = resources.files("gbdt2nn").joinpath("report_template.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(page)


def _write(path: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old page or the new one, never half of one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
