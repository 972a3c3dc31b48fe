"""The pictures of the report: ranks, scatters, bars and runs; each is readable at the width of a phone."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.site.drawing import COLOURS, Drawing, Scale, log_scale, nines_scale, three_digits
from benchmarks.site.ranking import Ranking
from benchmarks.site.results import label

WIDTH = 360.0


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and how it is scaled."""

    title: str
    scale: Scale


@dataclass(frozen=True)
class Point:
    """A point of a scatter: a method's number, and what is said of it."""

    number: int
    name: str
    x: float
    y: float
    hollow: bool = False


def ranks(key: str, ranking: Ranking, numbers: Mapping[str, int], title: str, where: str, hollow: set[str]) -> Drawing:
    """Draw mean ranks with their intervals, best on top, and a bar beside methods that cannot be told apart."""
    n = len(ranking.methods)
    row, top = 32.0, 74.0 if ranking.critical_difference else 44.0
    n_bars = len(ranking.cliques)
    left, right = 10.0, WIDTH - 12 - 9 * n_bars - 6
    drawing = Drawing(key, WIDTH, top + row * n + 6, title, where, _said_of(ranking))

    def at(rank: float) -> float:
        return left + (rank - 1) / (n - 1) * (right - left)

    drawing.text(left, 12, "mean rank (1 is best)", "small")
    every = math.ceil(n / 8)
    for tick in range(1, n + 1):
        drawing.line(at(tick), top - 12, at(tick), top + row * n, "grid")
        if (tick - 1) % every == 0:
            drawing.text(at(tick), top - 16, str(tick), "small", "middle")
    if ranking.critical_difference:
        width = (right - left) * min(1.0, ranking.critical_difference / (n - 1))
        drawing.line(left, 26, left + width, 26, "strong")
        for end in (left, left + width):
            drawing.line(end, 22, end, 30, "strong")
        said = f"critical difference {ranking.critical_difference:.2f}"
        if ranking.critical_difference > n - 1:
            said += ": wider than the axis"
        inside = width > 6.6 * len(said) + 8
        drawing.text(left + (0 if inside else width + 6), 42 if inside else 30, said, "small")
    for place, (method, mean) in enumerate(zip(ranking.methods, ranking.mean_ranks, strict=True)):
        y = top + row * place
        value = f"{mean:.2f}"
        if ranking.intervals is not None:
            low, high = ranking.intervals[place]
            value += f"  [{low:.1f}–{high:.1f}]"
            drawing.line(at(low), y + 21, at(high), y + 21, "interval")
        drawing.text(left, y + 11, f"{numbers[method] + 1}  {label(method)}", "halo", room=right - left - 90)
        drawing.text(right, y + 11, value, "small halo", "end")
        tip = f"{label(method)}: mean rank {value}"
        drawing.mark(at(mean), y + 21, numbers[method], hollow=method in hollow, tip=tip)
    for i, (first, last) in enumerate(ranking.cliques):
        x = right + 14 + 9 * i
        drawing.line(x, top + row * first + 6, x, top + row * last + 26, "clique")
    return drawing


def _said_of(ranking: Ranking) -> str:
    parts = [f"{label(m)} {r:.2f}" for m, r in zip(ranking.methods, ranking.mean_ranks, strict=True)]
    together = [", ".join(label(m) for m in ranking.methods[a : b + 1]) for a, b in ranking.cliques]
    apart = f" Not told apart: {'; '.join(together)}." if together else ""
    return f"Mean ranks over {len(ranking.data)} data sets, best first: {', '.join(parts)}.{apart}"


def scatter(
    key: str, points: Sequence[Point], x: Axis, y: Axis, title: str, where: str, *,
    faint: Sequence[Point] = (), zero: bool = False,
) -> Drawing:  # fmt: skip
    """Draw numbered points; faint ones are single runs or data sets behind them, ``zero`` marks y = 0."""
    left = 12 + 6.8 * max(5, *(len(text) for _, text in y.scale.ticks))
    right, top, bottom = WIDTH - 14, 26.0, 252.0
    said = "; ".join(map(_told, points))
    drawing = Drawing(key, WIDTH, bottom + 40, title, where, f"{x.title} against {y.title}. {said}.")

    def across(value: float) -> float:
        return left + x.scale(value) * (right - left)

    def up(value: float) -> float:
        return bottom - y.scale(value) * (bottom - top)

    drawing.text(4, 12, y.title, "small", room=WIDTH - 10)
    drawing.text((left + right) / 2, bottom + 34, x.title, "small", "middle", room=right - left)
    for value, text in y.scale.ticks:
        drawing.line(left, up(value), right, up(value), "grid")
        drawing.text(left - 6, up(value) + 4, text, "small", "end")
    taken_until = -math.inf
    for value, text in x.scale.ticks:
        drawing.line(across(value), top, across(value), bottom, "grid")
        half = 3.4 * len(text)
        if across(value) - half > taken_until and across(value) + half < WIDTH:
            drawing.text(across(value), bottom + 16, text, "small", "middle")
            taken_until = across(value) + half + 4
    if zero:
        drawing.line(left, up(0), right, up(0), "zero")
    for p in faint:
        drawing.mark(across(p.x), up(p.y), p.number, hollow=p.hollow, size=2.8, faint=True, tip=_told(p))
    places = [(across(p.x), up(p.y)) for p in points]
    for p, (px, py) in zip(points, places, strict=True):
        drawing.mark(px, py, p.number, hollow=p.hollow, tip=_told(p))
    for p, (px, py), (tx, ty) in zip(points, places, _label_places(places, (left, right, top, bottom)), strict=True):
        if math.hypot(tx - px, ty - py) > 16:
            drawing.line(px, py, tx, ty, "leader")
        drawing.text(tx, ty + 4, str(p.number + 1), "number halo", "middle")
    return drawing


def _told(point: Point) -> str:
    return f"{point.name}: {point.x:.4g}, {point.y:.4g}"


def _label_places(
    points: Sequence[tuple[float, float]], frame: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    """Where numbers stand: near their points, off all points and off each other."""
    left, right, top, bottom = frame
    placed: list[tuple[float, float]] = []
    for px, py in points:
        best, least = (px, py), math.inf
        for distance in (12, 18, 26, 36):
            for turn in range(12):
                angle = math.pi / 6 * turn
                tx, ty = px + distance * math.cos(angle), py - distance * math.sin(angle)
                if not (left + 6 <= tx <= right and top + 4 <= ty <= bottom - 6):
                    continue
                near = sum(max(0.0, 13 - math.hypot(tx - qx, ty - qy)) for qx, qy in placed)
                near += sum(max(0.0, 11 - math.hypot(tx - qx, ty - qy)) for qx, qy in points)
                cost = 10 * near + distance
                if cost < least - 1e-9:
                    best, least = (tx, ty), cost
        placed.append(best)
    return placed


def bars(key: str, rows: Sequence[tuple[str, float, int]], axis_title: str, title: str, where: str) -> Drawing:
    """Draw bars on a log axis: (label, value, number of the colour), the label above each bar."""
    row, top = 34.0, 40.0
    left, right = 8.0, WIDTH - 60
    said = "; ".join(f"{name}: {three_digits(value)}" for name, value, _ in rows)
    drawing = Drawing(key, WIDTH, top + row * len(rows) + 6, title, where, f"{axis_title}. {said}.")
    scale = log_scale([value for _, value, _ in rows], whole=True)
    _ticks_on_top(drawing, Axis(axis_title, scale), left, right, top, top + row * len(rows))
    for i, (name, value, number) in enumerate(rows):
        y = top + row * i
        width = max(1.5, scale(value) * (right - left))
        drawing.text(left, y + 11, name, "halo", room=WIDTH - 16)
        drawing.rect(left, y + 16, width, 11, f"c{number % COLOURS} solid", f"{name}: {three_digits(value)}")
        drawing.text(left + width + 5, y + 26, three_digits(value), "small halo")
    return drawing


def runs(
    key: str, by_method: Mapping[str, Sequence[tuple[int, float]]], numbers: Mapping[str, int], axis_title: str,
    title: str, where: str, hollow: set[str],
) -> Drawing:  # fmt: skip
    """Draw an R² of each run on a line for each method, best mean on top, and the mean as a stroke."""
    row, top = 32.0, 40.0
    left, right = 12.0, WIDTH - 12
    means = {method: statistics.fmean(v for _, v in found) for method, found in by_method.items()}
    order = sorted(means, key=lambda method: -means[method])
    said = "; ".join(f"{label(method)} {means[method]:.4f}" for method in order)
    bottom = top + row * len(order)
    drawing = Drawing(key, WIDTH, bottom + 6, title, where, f"{axis_title}, means over seeds: {said}.")
    scale = nines_scale([value for found in by_method.values() for _, value in found])
    _ticks_on_top(drawing, Axis(axis_title, scale), left, right, top, bottom)
    for i, method in enumerate(order):
        y = top + row * i
        drawing.text(left - 4, y + 11, f"{numbers[method] + 1}  {label(method)}", "halo", room=right - left - 60)
        drawing.text(right, y + 11, f"{means[method]:.4f}", "small halo", "end")
        drawing.line(left, y + 21, right, y + 21, "grid")
        mean = left + scale(means[method]) * (right - left)
        drawing.line(mean, y + 14, mean, y + 28, "interval")
        for seed, value in by_method[method]:
            x, tip = left + scale(value) * (right - left), f"{label(method)}, seed {seed}: {value:.6g}"
            drawing.mark(x, y + 21, numbers[method], hollow=method in hollow, size=4, tip=tip)
    return drawing


def _ticks_on_top(drawing: Drawing, axis: Axis, left: float, right: float, top: float, bottom: float) -> None:
    drawing.text(left, 12, axis.title, "small", room=WIDTH - 16)
    taken_until = -math.inf
    for value, text in axis.scale.ticks:
        x = left + axis.scale(value) * (right - left)
        drawing.line(x, top - 8, x, bottom, "grid")
        half = 3.4 * len(text)  # a number's width, about: those that would touch are left out
        if x - half > taken_until and x + half < WIDTH:
            drawing.text(max(x, half), top - 13, text, "small", "middle")
            taken_until = x + half + 4
