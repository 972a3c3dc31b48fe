"""Pictures of a student beside its teacher, for a report: each function takes arrays and returns a matplotlib Figure.

Drawn on ``Figure`` objects, without pyplot, so that no global state of the caller's is touched. All have one width, that
of a phone's screen; wider pages put two side by side.
"""

import base64
import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

WIDTH = 4.4  # inches
INK, MUTED, GRID = "#1f2933", "#66727f", "#e6eaee"
TEACHER, STUDENT = "#a9b4bf", "#2c6a9e"
LOW, MIDDLE, HIGH, PLAIN = "#2c7fb8", "#9a7fb0", "#d1495b", "#aab4be"  # feature values; negative and positive shares
LINES = (STUDENT, "#d1495b", "#3c8d6e", "#b9812f", "#7a5fa0", "#4b5662")

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": "#c3cbd3",
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a column's name is a dollar
    "xtick.color": "#c3cbd3",
    "ytick.color": "#c3cbd3",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: a tenth of the size, and names in any script
    "svg.hashsalt": "gbdt2nn",  # equal pictures give equal bytes
}
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Share(NamedTuple):
    """One bar of a waterfall: its label, and how far it moves the score."""

    label: str
    value: float


def image(draw: Any, *args: Any, **options: Any) -> str:
    """Draw a picture with one of this room's functions and return it as a ``data:`` address (SVG)."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The measuring font may lack a script that the reader's own fonts have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure, stream = draw(*args, **options), io.StringIO()
        figure.savefig(stream, format="svg", dpi=200, transparent=True, metadata={"Date": None})
    svg = re.sub(r"'DejaVu Sans', sans-serif", _FONTS, stream.getvalue())
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _plain(text: str, longest: int = 24) -> str:
    """A name in one line, no longer than there is room for."""
    text = " ".join(str(text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _number(value: float, digits: int = 3) -> str:
    """A number with that many digits, thousands parted, and a true minus sign."""
    whole = abs(value) >= 1e3
    text = f"{float(f'{value:.{digits}g}'):,.0f}" if whole and abs(value) < 1e9 else f"{value:.{digits}g}"
    return text.replace("-", "−")


def _parted(axis: Any) -> None:
    """Part the thousands of an axis that reaches that far; leave all others to matplotlib."""
    from matplotlib.ticker import FuncFormatter

    ends = np.abs(axis.get_view_interval())
    if 5e3 <= ends.max() < 1e9:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace("-", "−")))


def limits(values: Array, margin: float = 0.04) -> tuple[float, float]:
    """Limits of an axis that shows all values, also where they are all equal."""
    low, high = float(np.min(values)), float(np.max(values))
    pad = margin * (high - low) or 0.5 * max(abs(high), 1.0)
    return low - pad, high + pad


def scores(teacher: Array, student: Array) -> "Figure":
    """Student's raw score against teacher's, as a density, and below it the difference; both of shape (n_samples,)."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    figure = _figure(4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.1))
    shades = LinearSegmentedColormap.from_list("density", ["#a8c6de", STUDENT, "#12304a"])
    options: dict[str, Any] = {"cmap": shades, "mincnt": 1, "linewidths": 0.1, "edgecolors": "face"}
    low, high = limits(np.concatenate([teacher, student]))
    error = student - teacher
    widest = max(float(np.abs(error).max()), 1e-6 * max(abs(low), abs(high)))
    for axes, values, extent, grid in (
        (upper, student, (low, high, low, high), (48, 30)),
        (lower, error, (low, high, -1.1 * widest, 1.1 * widest), (48, 12)),
    ):
        counts = axes.hexbin(teacher, values, gridsize=grid, extent=extent, **options)
        counts.set_norm(LogNorm(1, max(2, np.max(counts.get_array()))))
        axes.set(xlim=extent[:2], ylim=extent[2:])
        axes.grid(color=GRID, linewidth=0.8)
        axes.tick_params(axis="y", labelcolor=MUTED)
        _parted(axes.yaxis)
    _parted(lower.xaxis)
    upper.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    upper.set_ylabel("student's raw score")
    lower.axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    lower.set(ylabel="difference", xlabel="teacher's raw score")
    figure.align_ylabels()
    return figure


def features(names: Sequence[str], importance: Mapping[str, Array], r2: Array) -> "Figure":
    """Importance of each feature to both sides (mean size of its share), and its R² beside it; most important on top."""
    figure = _figure(1.05 + 0.32 * len(names))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    y = np.arange(len(names))
    for offset, (who, values), colour in zip((-0.18, 0.18), importance.items(), (TEACHER, STUDENT), strict=True):
        left.barh(y + offset, values, height=0.34, color=colour, label=who)
    left.set(ylim=(len(names) - 0.4, -0.6), xlabel="mean |share of score|")
    left.set_yticks(y, [_plain(name, 18) for name in names])
    left.tick_params(axis="y", length=0)
    above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.03, 0.99), "borderaxespad": 0.0}
    left.legend(ncols=2, fontsize=8, handlelength=1, columnspacing=1.2, **above)
    shown = np.clip(np.nan_to_num(r2, nan=0.0), 0, 1)
    right.barh(y, np.ones(len(names)), height=0.6, color="#f1f4f6")
    right.barh(y, shown, height=0.6, color=STUDENT)
    for at, value, length in zip(y, r2, shown, strict=True):
        inside = length > 0.5
        text = "no variance" if np.isnan(value) else f"{value:.3f}"
        colour = "white" if inside else INK
        where = length - 0.04 if inside else length + 0.04
        right.text(where, at, text, ha="right" if inside else "left", va="center", fontsize=8, color=colour)
    right.set(xlim=(0, 1), xlabel="R² of the share")
    right.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    right.tick_params(axis="y", length=0)
    for axes in (left, right):
        axes.spines["left"].set_visible(False)
    left.grid(axis="x", color=GRID, linewidth=0.8)
    left.locator_params(axis="x", nbins=4)
    _parted(left.xaxis)
    return figure


def beeswarm(names: Sequence[str], attribution: Array, x: Array, limits: tuple[float, float]) -> "Figure":
    """One point a row and feature: across, the share of the score; colour, the feature's value from low to high.

    Parameters
    ----------
    names : sequence of str, of length n_features
        From top to bottom.
    attribution : ndarray of shape (n_samples, n_features)
    x : ndarray of shape (n_samples, n_features)
        What colours the points, NaN for none.
    limits : pair of float
        Of the axis; give both sides the same.
    """
    from matplotlib.colors import LinearSegmentedColormap

    figure = _figure(0.75 + 0.36 * len(names))
    axes = figure.subplots()
    colours = LinearSegmentedColormap.from_list("value", [LOW, MIDDLE, HIGH])
    axes.axvline(0, color="#c3cbd3", linewidth=0.8, zorder=0)
    for j in range(len(names)):
        axes.axhline(j, color=GRID, linewidth=0.7, zorder=0)
        y = j + _spread(attribution[:, j], limits)
        known = np.isfinite(x[:, j])
        rank = _relative(x[:, j])
        dots: dict[str, Any] = {"s": 5, "linewidths": 0, "rasterized": True}
        axes.scatter(attribution[~known, j], y[~known], color=PLAIN, zorder=2, **dots)
        axes.scatter(attribution[known, j], y[known], c=rank[known], cmap=colours, vmin=0, vmax=1, zorder=3, **dots)
    axes.set(xlim=limits, ylim=(len(names) - 0.4, -0.6), xlabel="share of the raw score")
    axes.locator_params(axis="x", nbins=6)
    _parted(axes.xaxis)
    axes.set_yticks(np.arange(len(names)), [_plain(name, 18) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def _relative(x: Array) -> Array:
    """Where each value lies between the column's 5th and 95th percentile, from 0 to 1; NaN stays NaN."""
    finite = x[np.isfinite(x)]
    if not len(finite):
        return np.full(len(x), np.nan)
    low, high = np.percentile(finite, [5, 95])
    if low == high:
        low, high = finite.min(), finite.max()
    return np.clip((x - low) / (high - low), 0, 1) if high > low else np.where(np.isfinite(x), 0.5, np.nan)


def _spread(values: Array, limits: tuple[float, float], n_bins: int = 90, height: float = 0.4) -> Array:
    """Offsets that part points of nearly equal value: above and below the line in turn, at most ``height`` away."""
    bins = np.floor((values - limits[0]) / (limits[1] - limits[0]) * n_bins)
    order = np.lexsort((np.random.default_rng(0).random(len(values)), bins))
    _, start, count = np.unique(bins[order], return_index=True, return_counts=True)
    place = np.arange(len(values)) - np.repeat(start, count)  # 0, 1, 2, ... in each bin
    offset = np.empty(len(values))
    offset[order] = (place + 1) // 2 * np.where(place % 2, 1, -1)
    return height * offset / max(np.abs(offset).max(initial=0), 4.0)


def waterfall(base_value: float, shares: Sequence[Share], score: float, limits: tuple[float, float]) -> "Figure":
    """From the base value to the raw score of one row, share by share, read from top to bottom."""
    figure = _figure(0.75 + 0.34 * (len(shares) + 2))
    axes = figure.subplots()
    last, span = len(shares) + 1, limits[1] - limits[0]
    at = base_value
    for j, share in enumerate(shares, start=1):
        up = share.value >= 0
        axes.barh(j, share.value, left=at, height=0.62, color=HIGH if up else LOW)
        axes.plot([at, at], [j - 1 if j > 1 else 0, j + 0.31], color="#9aa5b1", linewidth=0.7, zorder=0)
        at += share.value
        text = ("+" if up else "") + _number(share.value)
        if abs(share.value) > 0.22 * span:  # wide enough to hold its number
            axes.text(at - share.value / 2, j, text, ha="center", va="center", fontsize=8, color="white")
            continue
        right = max(at, at - share.value) + 0.2 * span < limits[1]
        edge = max(at, at - share.value) + 0.015 * span if right else min(at, at - share.value) - 0.015 * span
        axes.text(edge, j, text, ha="left" if right else "right", va="center", fontsize=8)
    axes.plot([at, at], [last - 1, last], color="#9aa5b1", linewidth=0.7, zorder=0)
    for j, value in ((0, base_value), (last, score)):
        axes.plot([value], [j], marker="o", markersize=5, color=INK)
        side = 1 if value + 0.2 * span < limits[1] else -1
        axes.text(
            value + side * 0.03 * span,
            j,
            _number(value, 4),
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=8.5,
            fontweight="bold",
        )
    labels = ["base value", *(_row_label(share) for share in shares), "raw score"]
    axes.set_yticks(np.arange(last + 1), labels)
    axes.set(xlim=limits, ylim=(last + 0.6, -0.6), xlabel="raw score")
    axes.locator_params(axis="x", nbins=5)
    _parted(axes.xaxis)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    return figure


def _row_label(share: Share) -> str:
    """Name and value in one line where they fit, else in two."""
    name, _, value = share.label.partition(" = ")
    return _plain(share.label) if not value or len(share.label) <= 24 else f"{_plain(name)}\n= {_plain(value, 20)}"


def waterfall_limits(steps: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Limits that hold every step of several waterfalls and the numbers beside the bars."""
    return limits(np.concatenate([np.asarray(path, np.float64) for path in steps]), margin=0.2)


def loss_curves(steps: Sequence[Mapping[str, float]]) -> "Figure":
    """Terms of the loss by step; only terms that were computed are drawn, each with its name at its end."""
    names = [name for name in steps[-1] if name not in ("step", "learning_rate", "total")]
    lines = {name.replace("_", " "): [(row["step"], row[name]) for row in steps if name in row] for name in names}
    return _curves(lines, "loss")


def held_out_curves(validations: Sequence[Mapping[str, float]]) -> "Figure":
    """What the student does not yet reproduce, ``1 - R²`` on held-out rows by step, of score and attribution."""
    titles = {"score_r2": "score", "attribution_r2": "attribution"}
    lines = {
        title: [(row["step"], 1 - row[key]) for row in validations if not math.isnan(row.get(key, math.nan))]
        for key, title in titles.items()
    }
    return _curves(lines, "1 − R², held-out rows")


def _curves(lines: Mapping[str, Sequence[tuple[float, float]]], ylabel: str) -> "Figure":
    figure = _figure(2.9)
    axes = figure.subplots()
    drawn = {_plain(name): np.array(points, np.float64).T for name, points in lines.items() if points}
    for (name, (step, value)), colour in zip(drawn.items(), LINES * len(lines), strict=False):
        value = np.maximum(value, 1e-16)  # a perfect end has a place on a logarithmic axis
        axes.plot(step, value, color=colour, linewidth=1.5, label=name, marker="o" if len(step) == 1 else None)
    _decades(axes)
    axes.set(xlabel="step", ylabel=ylabel)
    axes.tick_params(axis="y", labelcolor=MUTED)
    axes.grid(color=GRID, linewidth=0.8)
    axes.locator_params(axis="x", nbins=5)
    axes.legend(loc="upper right", fontsize=8.5, handlelength=1.4)
    return figure


def _decades(axes: "Axes") -> None:
    """A logarithmic axis with plain numbers at round places, however few decades it shows."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (
        (1,)
        if high > 1e3 * low
        else (1, 3)
        if high > 50 * low
        else (1, 2, 5)
        if high > 4 * low
        else (1, 1.5, 2, 3, 5, 7)
    )
    axes.yaxis.set_major_locator(FixedLocator([digit * 10.0**decade for decade in decades for digit in digits]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_ylim(low, high)
