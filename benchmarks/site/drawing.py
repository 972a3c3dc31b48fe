"""Small drawings in SVG: marks, texts and axes; all text is escaped, all colours come from the page's style."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

COLOURS = 7  # classes c0 to c6 of the style
SHAPES = ("circle", "square", "triangle", "diamond")
_CHARACTER = 6.6  # widest mean width of a character at 12 units, over the fonts of the page


class Drawing:
    """An SVG of a fixed coordinate system that is as wide as its place; with title and description for readers."""

    def __init__(self, key: str, width: float, height: float, heading: str, where: str, description: str) -> None:
        self.key, self.width, self.height = key, width, height
        self.heading, self.title, self.description = heading, f"{heading}, {where}", description
        self.parts: list[Markup] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """Draw a line."""
        drawn = Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>')
        self.parts.append(drawn.format(*map(_n, (x1, y1, x2, y2)), style))

    def rect(self, x: float, y: float, width: float, height: float, style: str, tip: str = "") -> None:
        """Draw a rectangle."""
        box = Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}">{}</rect>')
        self.parts.append(box.format(*map(_n, (x, y, width, height)), style, _tip(tip)))

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start", room: float = 0) -> None:
        """Write a text; cut with an ellipsis where it would be wider than ``room``, and then whole as its tip."""
        text = str(text)
        short = text if not room else fit(text, room)
        tip = _tip(text) if short != text else ""
        self.parts.append(
            Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}{}</text>').format(
                _n(x), _n(y), style, anchor, short, tip
            )
        )

    def mark(
        self,
        x: float,
        y: float,
        number: int,
        *,
        hollow: bool = False,
        size: float = 5,
        faint: bool = False,
        tip: str = "",
    ) -> None:
        """Draw the mark of a method: its number gives shape and colour."""
        self.parts.append(marker(x, y, number, hollow=hollow, size=size, faint=faint, tip=tip))

    def __html__(self) -> str:
        return str(
            Markup(
                '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-labelledby="{k}-t {k}-d">'
                '<title id="{k}-t">{t}</title><desc id="{k}-d">{d}</desc>{p}</svg>'
            ).format(
                w=_n(self.width),
                h=_n(self.height),
                k=self.key,
                t=self.title,
                d=self.description,
                p=Markup("").join(self.parts),
            )
        )


def marker(
    x: float, y: float, number: int, *, hollow: bool = False, size: float = 5, faint: bool = False, tip: str = ""
) -> Markup:
    """The mark of a method as SVG."""
    style = f"c{number % COLOURS} {'hollow' if hollow else 'solid'}{' faint' if faint else ''}"
    shape = SHAPES[(number // COLOURS + number % COLOURS) % len(SHAPES)]
    if shape == "circle":
        circle = Markup('<circle cx="{}" cy="{}" r="{}" class="{}">{}</circle>')
        return circle.format(_n(x), _n(y), _n(size), style, _tip(tip))
    corners = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "triangle": [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    }[shape]
    path = " ".join(f"{_n(x + size * dx)},{_n(y + size * dy)}" for dx, dy in corners)
    return Markup('<polygon points="{}" class="{}">{}</polygon>').format(path, style, _tip(tip))


def fit(text: str, room: float) -> str:
    """Cut a text with an ellipsis where it would be wider than ``room``."""
    most = max(2, int(room / _CHARACTER))
    return text if len(text) <= most else text[: most - 1] + "…"


def _tip(text: str) -> Markup:
    return Markup("<title>{}</title>").format(text) if text else Markup("")


def _n(value: float) -> str:
    assert math.isfinite(value)
    return f"{value:.1f}".removesuffix(".0")


@dataclass(frozen=True)
class Scale:
    """A scale of values onto 0..1: what is drawn of a value, the ends, and where ticks stand."""

    of: Callable[[float], float]
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def __call__(self, value: float) -> float:
        share = (self.of(value) - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)


def log_scale(values: Sequence[float], *, whole: bool = False) -> Scale:
    """Powers of ten, with 2 and 5 between where there are few; ``whole``: from one power to another."""
    logs = [math.log10(value) for value in values]
    low, high = min(logs), max(logs)
    if whole:
        low, high = math.floor(low - 0.3), math.ceil(high)
    else:
        room = max(0.08 * (high - low), 0.12)
        low, high = low - room, high + room
    powers = range(math.floor(low), math.ceil(high) + 1)
    steps = (1,) if high - low > 2.2 else (1, 2, 5) if high - low > 0.5 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    every = max(1, math.ceil((high - low) / 5))
    ticks = [step * 10.0**power for power in powers if power % every == 0 for step in steps]
    ticks = [value for value in ticks if low - 1e-9 <= math.log10(value) <= high + 1e-9]
    return Scale(math.log10, low, high, [(value, plain(value)) for value in ticks])


_R2_TICKS = (
    *(-999, -99, -9, -1, 0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999),
    *(0.9995, 0.9998, 0.9999, 0.99999, 0.999999),
)
_NINES = (-999, -99, -9, 0, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_BEST = 1e-6  # R² nearer to 1 than this are drawn here


def nines(value: float) -> float:
    """How many nines an R² has: 0.9 is one, 0.99 two."""
    return -math.log10(max(1.0 - value, _BEST))


def nines_scale(values: Sequence[float]) -> Scale:
    """R² by what is missing of 1, on a log axis, best at the end."""
    drawn = [nines(value) for value in values]
    room = max(0.08 * (max(drawn) - min(drawn)), 0.12)
    low, high = min(drawn) - room, max(drawn) + room
    inside = [v for v in (_R2_TICKS if high - low < 2.6 else _NINES) if low <= nines(v) <= high]
    if not inside:
        middle = 1 - 10 ** -((low + high) / 2)
        inside = [float(f"{middle:.4g}")]
    return Scale(nines, low, high, [(value, f"{value:g}") for value in inside])


def percent_scale(values: Sequence[float]) -> Scale:
    """Percent, even within one percent and by powers beyond."""

    def of(value: float) -> float:
        return math.asinh(value)

    low, high = min(0.0, *map(of, values)), max(0.0, *map(of, values))
    room = max(0.08 * (high - low), 0.15)
    low, high = low - room, high + room
    ticks = [v for v in (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 1000, 10_000) if low <= of(v) <= high]
    return Scale(of, low, high, [(v, f"+{v:,} %" if v > 0 else f"−{-v} %" if v < 0 else "0 %") for v in ticks])


def plain(value: float) -> str:
    """A round number as one reads it on an axis."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def three_digits(value: float) -> str:
    """A number to three digits, with thousands apart."""
    if value == 0 or not 1e-4 <= abs(value) < 1e9:
        return f"{value:.2g}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"
