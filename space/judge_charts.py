"""Charts of an evaluation, as inline SVG: values in, string out.

Places across are percents and sizes are pixels, so that a chart is as wide as its column and its words stay as large as
those around it. Colours are classes: the page's style has one of each for light and dark.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, isfinite, log10

ROW, BAR = 38, 9  # of a bar chart, in pixels: one model; its bar
HIGH = 168  # of a chart with two axes


@dataclass(frozen=True, slots=True)
class Bar:
    """One model: its value with its interval, and how both are said."""

    label: str
    colour: str
    value: float
    low: float
    high: float
    said: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One trial at two tasks."""

    x: float
    y: float
    title: str
    is_front: bool = False  # none beats it at one task without losing at the other
    is_best: bool = False

    @property
    def look(self) -> str:
        return "best" if self.is_best else "front" if self.is_front else "trial"


def bars(rows: Sequence[Bar], most: float, told: str) -> str:
    """From zero to `most`, each model with its words over its bar."""
    scale = 100 / most if most > 0 else 0.0
    parts = []
    for number, row in enumerate(rows):
        y = number * ROW
        low, high, value = (max(0.0, min(100.0, scale * x)) for x in (row.low, row.high, row.value))
        middle = y + 22 + BAR / 2
        parts.append(
            f'<g class="{row.colour}"><text x="0" y="{y + 15}">{escape(row.label)}</text>'
            f'<text class="figure" x="100%" y="{y + 15}">{escape(row.said)}</text>'
            f'<rect class="track" x="0" y="{y + 22}" width="100%" height="{BAR}" rx="2"/>'
            f'<rect class="bar" x="0" y="{y + 22}" width="{value:.2f}%" height="{BAR}" rx="2"/>'
            f"{across(low, high, middle)}{tick(low, middle)}{tick(high, middle)}</g>"
        )
    return svg(len(rows) * ROW, told, "".join(parts))


def across(low: float, high: float, y: float) -> str:
    return f'<line class="reach" x1="{low:.2f}%" x2="{high:.2f}%" y1="{y:g}" y2="{y:g}"/>'


def tick(at: float, y: float) -> str:
    return f'<line class="reach" x1="{at:.2f}%" x2="{at:.2f}%" y1="{y - 4:g}" y2="{y + 4:g}"/>'


def curve(
    losses: Sequence[float], total: int, chord: Sequence[float], colours: tuple[str, str], ends: tuple[str, str],
    barrier: float | None, told: str,
) -> str:  # fmt: skip
    """The loss at points of a line between two models, from the left to the right, with the chord as a thin line.

    `barrier` is where a vertical mark from the chord to the curve stands, as a share of the line.
    """
    axis = Axis.of([*losses, *chord])
    places = [100 * i / max(total - 1, 1) for i in range(len(losses))]
    heights = [axis.y(loss) for loss in losses]
    parts = [grid(axis)]
    if chord:
        parts.append(line(0, axis.y(chord[0]), 100, axis.y(chord[-1]), "chord"))
    points = list(zip(places, heights, strict=True))
    parts += [line(*a, *b, "curve") for a, b in pairwise(points)]
    for number, (x, y) in enumerate(points):
        colour = colours[0] if number == 0 else colours[1] if number == total - 1 else "merged"
        parts.append(f'<circle class="{colour} dot" cx="{x:.2f}%" cy="{y:g}" r="4"><title>{losses[number]:.3g} nats'
                     "</title></circle>")  # fmt: skip
    if barrier is not None and chord:
        number = round(barrier * (total - 1))
        parts.append(line(100 * barrier, axis.y(chord[number]), 100 * barrier, heights[number], "barrier"))
    parts.append(f'<text class="{colours[0]} end" x="0" y="{HIGH + 20}">{escape(ends[0])}</text>')
    parts.append(f'<text class="{colours[1]} end right" x="100%" y="{HIGH + 20}">{escape(ends[1])}</text>')
    return svg(HIGH + 26, told, "".join(parts))


def plane(
    dots: Sequence[Dot], names: tuple[str, str], given: tuple[float, float] | None, told: str, *, better: str
) -> str:
    """Trials at two tasks: those that none beats are joined; thin lines stand where the recipe as it was is."""
    across_axis, up = Axis.of([dot.x for dot in dots], ticks=4), Axis.of([dot.y for dot in dots])
    parts = [grid(up)]
    for value in across_axis.ticks:
        parts.append(f'<text class="axis" x="{across_axis.x(value):.2f}%" y="{HIGH + 16}" text-anchor="middle">'
                     f"{value:g}</text>")  # fmt: skip
    if given:
        x, y = across_axis.x(given[0]), up.y(given[1])
        parts += [line(x, 0, x, HIGH, "null"), line(0, y, 100, y, "null")]
    front = sorted((across_axis.x(dot.x), up.y(dot.y)) for dot in dots if dot.is_front)
    parts += [line(*a, *b, "front") for a, b in pairwise(front)]
    for dot in sorted(dots, key=lambda dot: dot.is_best):
        r = 6 if dot.is_best else 3.5
        parts.append(f'<circle class="{dot.look} point" cx="{across_axis.x(dot.x):.2f}%" cy="{up.y(dot.y):g}" r="{r}">'
                     f"<title>{escape(dot.title)}</title></circle>")  # fmt: skip
    best = next((dot for dot in dots if dot.is_best), None)
    if best:
        x, y = across_axis.x(best.x), up.y(best.y)
        anchor, dx = ("end", -11) if x > 60 else ("start", 11)
        parts.append(f'<text class="merged said" x="{x:.2f}%" dx="{dx}" y="{y + (-8 if y > 24 else 16):g}" '
                     f'text-anchor="{anchor}">best</text>')  # fmt: skip
    parts.append(f'<text class="end" x="0" y="-10">{escape(names[1])}, {escape(better)}</text>')
    parts.append(f'<text class="end right" x="100%" y="{HIGH + 36}">{escape(names[0])}</text>')
    return svg(HIGH + 44, told, "".join(parts))


@dataclass(frozen=True, slots=True)
class Axis:
    """From a round number to a round number."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float], ticks: int = 3) -> "Axis":
        known = [value for value in values if isfinite(value)] or [0.0, 1.0]
        low, high = min(known), max(known)
        spread = high - low or abs(high) or 1.0
        step = nice(spread / ticks)
        first, last = floor(low / step), ceil(high / step)
        last = last if last > first else first + 1
        return cls(first * step, last * step, tuple(round(i * step, 10) for i in range(first, last + 1)))

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def x(self, value: float) -> float:
        return 100 * self.share(value)

    def y(self, value: float) -> float:
        return round(HIGH * (1 - self.share(value)), 2)


def nice(step: float) -> float:
    """The next of 1, 2, 5, 10 and so on."""
    power = 10.0 ** floor(log10(step))
    return next(round(one * power, 12) for one in (1, 2, 5, 10) if one * power >= step * 0.999)


def grid(axis: Axis) -> str:
    return "".join(
        f"{line(0, axis.y(value), 100, axis.y(value), 'grid')}"
        f'<text class="axis left" x="0" y="{axis.y(value) + 4:g}">{value:g}</text>'
        for value in axis.ticks
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.2f}%" y1="{y1:g}" x2="{x2:.2f}%" y2="{y2:g}"/>'


def svg(height: float, told: str, content: str) -> str:
    """`told` is what somebody hears who does not see it."""
    return f'<svg class="chart" role="img" width="100%" height="{height:g}" aria-label="{escape(told)}">{content}</svg>'
