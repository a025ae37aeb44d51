"""Charts as SVG text: small pure functions, no library.  Colours and fonts come from the page's style sheet.

Everything here returns `Markup`, with what was put in escaped.  Lengths are in the units of the view box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Point = tuple[float, float]
Style = Literal["train", "heldout", "test", "other"]

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 426, 24, 214  # of the plotting area
MOST_POINTS = 300  # more than this cannot be told apart at this width
MOST_MARKERS = 24


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]  # in rising x
    style: Style


@dataclass(frozen=True)
class Axis:
    """A range of values with round ticks, laid on a stretch of the picture."""

    low: float
    high: float
    step: float
    ticks: tuple[float, ...]
    start: float  # where `low` is in the picture
    end: float

    def place(self, value: float) -> float:
        """Return where a value is."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True)
class Chart:
    """A drawn chart and its legend: for each line its sign, its name and its last value."""

    title: str
    unit: str
    svg: Markup
    legend: list[tuple[Markup, str, str]]


def draw_chart(
    title: str, unit: str, series: Sequence[Series], form: str, marks: Sequence[float], *, from_zero: bool
) -> Chart:
    """Draw those series that have a point over the epochs; `marks` are the epochs at which a run was resumed."""
    lines = [one for one in (Series(s.name, finite(s.points), s.style) for s in series) if one.points]
    summary = f"{title}. " + "; ".join(map(describe, lines))
    svg = line_chart(lines, summary=summary, x_label="epoch", y_label=unit, from_zero=from_zero, marks=marks)
    legend = [(swatch(line.style), line.name, format(line.points[-1][1], form)) for line in lines]
    return Chart(title, unit, svg, legend + ([(mark_swatch(), "resumed", "")] if marks else []))


def describe(series: Series) -> str:
    """Say in words where a line begins and ends."""
    (first_x, first), (last_x, last) = series.points[0], series.points[-1]
    begins = f"from {first:.4g} at epoch {first_x:.4g} to " if len(series.points) > 1 else ""
    return f"{series.name}: {begins}{last:.4g} at epoch {last_x:.4g}"


def finite(points: Iterable[Point]) -> list[Point]:
    """Drop points that cannot be drawn."""
    return [point for point in points if all(map(math.isfinite, point))]


def bin_means(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most `most` points: each the mean of as many neighbours."""
    size = math.ceil(len(points) / most)
    bins = [points[start : start + size] for start in range(0, len(points), max(size, 1))]
    return [(sum(x for x, _ in some) / len(some), sum(y for _, y in some) / len(some)) for some in bins]


def round_step(span: float, intervals: int) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten: the first that cuts `span` into at most `intervals`."""
    least = span / intervals
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))


def build_axis(values: Iterable[float], start: float, end: float, *, intervals: int = 5, tight: bool = False) -> Axis:
    """Return an axis for finite values, two ticks or more, whatever the values.

    It ends on ticks, or where the values end if `tight`.  Equal values get room around them.
    """
    low, high = min(values := list(values)), max(values)
    largest = max(abs(low), abs(high))
    if largest < 1e-12:  # nothing but zero
        low, high = 0.0, 1.0
    elif high - low < 1e-6 * largest:
        low, high, tight = low - 0.1 * largest, high + 0.1 * largest, False
    step = round_step(high - low, intervals)
    slack = 1e-9 if tight else -1e-9  # of a step: rounding must not add or lose a tick
    first, last = (math.ceil, math.floor) if tight else (math.floor, math.ceil)
    ticks = tuple(k * step for k in range(first(low / step - slack), last(high / step + slack) + 1))
    low, high = (low, high) if tight else (ticks[0], ticks[-1])
    return Axis(low, high, step, ticks, start, end)


def tick_text(value: float, step: float) -> str:
    """Write a tick with the digits that its step needs."""
    digits = next((n for n in range(6) if math.isclose(round(step, n), step, rel_tol=1e-6)), 6)
    if digits == 6 or abs(value) >= 1e7:
        return f"{value:g}"
    return f"{value:,.{digits}f}"


def line_chart(
    series: Sequence[Series],
    *,
    summary: str,  # what a screen reader says
    x_label: str,
    y_label: str,
    from_zero: bool = False,  # the y axis begins at zero
    marks: Sequence[float] = (),  # x of vertical lines
) -> Markup:
    """Draw lines of finite points over a common x axis that begins at zero; without points, say so."""
    points = [point for one in series for point in one.points]
    if not points:
        return Markup('<p class="note">No finite value to draw.</p>')
    x_axis = build_axis([0.0, *(x for x, _ in points)], LEFT, RIGHT, tight=True)
    y_axis = build_axis([*(y for _, y in points), *([0.0] if from_zero else [])], BOTTOM, TOP)
    parts = [draw_y_axis(y_axis, y_label), draw_x_axis(x_axis, x_label)]
    parts += [draw_mark(x_axis.place(x)) for x in marks]
    parts += [draw_series(one, x_axis, y_axis) for one in series]
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, summary)
    return head + Markup("").join(parts) + Markup("</svg>")


def draw_y_axis(axis: Axis, label: str) -> Markup:
    """Draw gridlines with their values, and the label above them."""
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
    text = Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>')
    rows = [
        line.format(LEFT, RIGHT, y, y) + text.format(LEFT - 8, y + 4, tick_text(tick, axis.step))
        for tick, y in ((tick, axis.place(tick)) for tick in axis.ticks)
    ]
    return Markup("").join([*rows, Markup('<text class="unit" x="0" y="10">{}</text>').format(label)])


def draw_x_axis(axis: Axis, label: str) -> Markup:
    """Draw the base line, ticks with their values, and the label below them."""
    base = Markup('<line class="base" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, RIGHT, BOTTOM, BOTTOM)
    tick_line = Markup('<line class="base" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>')
    text = Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    rows = [
        tick_line.format(x, x, BOTTOM, BOTTOM + 4) + text.format(x, BOTTOM + 18, tick_text(tick, axis.step))
        for tick, x in ((tick, axis.place(tick)) for tick in axis.ticks)
    ]
    unit = Markup('<text class="unit" x="{}" y="{}" text-anchor="end">{}</text>').format(RIGHT, HEIGHT - 2, label)
    return Markup("").join([base, *rows, unit])


def draw_mark(x: float) -> Markup:
    """Draw a vertical line."""
    return Markup('<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x, TOP, BOTTOM)


def draw_series(series: Series, x_axis: Axis, y_axis: Axis) -> Markup:
    """Draw a line through the points, and a marker on each where they are few."""
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in bin_means(series.points)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    line = Markup('<polyline class="line {}" points="{}"/>').format(series.style, path)
    few = len(places) <= MOST_MARKERS and series.style in {"heldout", "test"}
    marked = places if few or len(places) == 1 else []
    return line + Markup("").join(marker(x, y, series.style) for x, y in marked)


def marker(x: float, y: float, style: Style) -> Markup:
    """Draw one point: a diamond for the test, else a dot, so that colour is not all that tells them apart."""
    if style == "test":
        diamond = f"M{x:.1f},{y - 6:.1f}l6,6l-6,6l-6,-6z"
        return Markup('<path class="dot test" d="{}"/>').format(diamond)
    return Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(style, x, y)


def swatch(style: Style) -> Markup:
    """Draw what stands for a series in a legend."""
    line = "" if style == "test" else Markup('<polyline class="line {}" points="1,8 27,8"/>').format(style)
    dot = marker(14, 8, style) if style in {"heldout", "test"} else ""
    return Markup('<svg class="swatch" width="28" height="16" aria-hidden="true">{}{}</svg>').format(line, dot)


def mark_swatch() -> Markup:
    """Draw what stands for a vertical line in a legend."""
    line = Markup('<line class="mark" x1="7" x2="7" y1="1" y2="15"/>')
    return Markup('<svg class="swatch" width="14" height="16" aria-hidden="true">{}</svg>').format(line)


def bar(share: float, interval: Sequence[float], other: float | None = None) -> Markup:
    """Draw a fraction as a bar with its interval as a whisker, and another fraction as a triangle below.

    It is as wide as its place.  A reader finds the same numbers beside it, so screen readers pass over it.
    """
    low, high = (f"{100 * end:.2f}%" for end in interval)
    grid = [Markup('<line class="grid" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>').format(x) for x in (0, 25, 50, 75, 100)]
    fill = Markup('<rect class="fill" y="3" width="{:.2f}%" height="13"/>').format(100 * share)
    ends = [Markup('<line class="whisker" x1="{0}" x2="{0}" y1="5.5" y2="13.5"/>').format(x) for x in (low, high)]
    stem = Markup('<line class="whisker" x1="{}" x2="{}" y1="9.5" y2="9.5"/>').format(low, high)
    triangle = Markup('<svg x="{:.2f}%" overflow="visible"><path class="point" d="M0,17l4.5,7h-9z"/></svg>')
    below = [] if other is None else [triangle.format(100 * other)]
    parts = Markup("").join([*grid, fill, stem, *ends, *below])
    height = 19 if other is None else 26
    return Markup('<svg class="bar" width="100%" height="{}" aria-hidden="true">{}</svg>').format(height, parts)
