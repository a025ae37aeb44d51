from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Series,
    bar,
    bin_means,
    build_axis,
    draw_chart,
    line_chart,
    swatch,
    tick_text,
)

numbers = st.floats(-1e15, 1e15)
NUMBER = re.compile(r"-?[\d.]+")


def polyline(svg: str, style: str) -> list[tuple[float, float]]:
    found = re.search(rf'class="line {style}" points="([^"]*)"', svg)
    assert found
    pairs = (map(float, pair.split(",")) for pair in found[1].split())
    return [(x, y) for x, y in pairs]


def draw(*series: Series, marks: tuple[float, ...] = (), from_zero: bool = False) -> str:
    return str(line_chart(series, summary="s", x_label="epoch", y_label="nats", marks=marks, from_zero=from_zero))


@given(st.lists(numbers, min_size=1), st.booleans())
def test_an_axis_has_rising_ticks_around_the_values(values: list[float], tight: bool) -> None:
    axis = build_axis(values, 0, 100, tight=tight)
    assert 2 <= len(axis.ticks) <= 8
    assert all(map(math.isfinite, axis.ticks))
    assert all(before < after for before, after in pairwise(axis.ticks))
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values) <= max(values) <= axis.high + slack
    assert axis.low - slack <= axis.ticks[0] < axis.ticks[-1] <= axis.high + slack
    texts = [tick_text(tick, axis.step) for tick in axis.ticks]
    assert all("nan" not in text and "inf" not in text for text in texts)
    if axis.high < 1e4 and axis.low > -1e4:
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.2, 0.79], ["0.2", "0.4", "0.6", "0.8"]),
        ([0, 2.04], ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]),
        ([0, 2400], ["0", "500", "1,000", "1,500", "2,000", "2,500"]),
        ([0, 0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0, 0.1], ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]),
        ([0, 0.1 + 0.2], ["0.0", "0.1", "0.2", "0.3"]),  # which is a little above 0.3
        ([0, 1e8], ["0", "2e+07", "4e+07", "6e+07", "8e+07", "1e+08"]),
    ],
)
def test_ticks_are_round_numbers(values: list[float], ticks: list[str]) -> None:
    axis = build_axis(values, 0, 1)
    assert [tick_text(tick, axis.step) for tick in axis.ticks] == ticks


def test_a_tight_axis_ends_where_the_values_end() -> None:
    axis = build_axis([0, 2.7], 0, 270, tight=True)
    assert (axis.low, axis.high, axis.ticks) == (0, 2.7, (0, 1, 2))
    assert axis.place(2) == pytest.approx(200)


@given(st.lists(st.tuples(numbers, numbers)), st.integers(1, 50))
def test_bin_means_keep_the_number_small_and_the_mean(points: list[tuple[float, float]], most: int) -> None:
    bins = bin_means(points, most)
    assert len(bins) <= most
    if len(points) <= most:
        assert bins == points
    elif len(points) % len(bins) == 0 and math.ceil(len(points) / most) * len(bins) == len(points):
        assert sum(y for _, y in bins) / len(bins) == pytest.approx(sum(y for _, y in points) / len(points), abs=1e3)


def test_bin_means_are_means_of_neighbours() -> None:
    assert bin_means([(0, 1), (1, 3), (2, 5), (3, 9), (4, 11)], 3) == [(0.5, 2), (2.5, 7), (4, 11)]


@given(st.lists(st.tuples(st.floats(0, 1e6), numbers), min_size=1, max_size=40))
def test_lines_stay_inside_the_plot(points: list[tuple[float, float]]) -> None:
    svg = draw(Series("train", sorted(points), "train"))
    assert "nan" not in svg
    assert "inf" not in svg
    places = polyline(svg, "train")
    assert len(places) == len(points)
    assert all(LEFT - 0.1 <= x <= RIGHT + 0.1 and TOP - 0.1 <= y <= BOTTOM + 0.1 for x, y in places)


def test_one_point_is_a_marker() -> None:
    assert '<circle class="dot train"' in draw(Series("train", [(1, 2)], "train"))
    assert '<path class="dot test"' in draw(Series("test", [(1, 2)], "test"))


def test_higher_values_are_higher_and_later_ones_further_right() -> None:
    (x0, y0), (x1, y1) = polyline(draw(Series("lr", [(0, 0), (5, 1)], "other")), "other")
    assert (x0, y0, x1, y1) == (LEFT, BOTTOM, RIGHT, TOP)


def test_equal_values_lie_in_the_middle() -> None:
    places = polyline(draw(Series("lr", [(0, 0.1), (5, 0.1)], "other")), "other")
    assert all(TOP < y < BOTTOM for _, y in places)


def test_zero_is_on_the_axis_when_asked() -> None:
    series = Series("train", [(0, 10.0), (1, 11.0)], "train")
    assert ">0.0</text>" not in draw(series).partition('class="base"')[0]
    assert ">0.0</text>" in draw(series, from_zero=True).partition('class="base"')[0]


def test_no_finite_point_is_said() -> None:
    chart = draw_chart("Loss", "nats", [Series("train", [(1, math.nan)], "train")], ".3f", [], from_zero=True)
    assert "No finite value" in chart.svg
    assert chart.legend == []


def test_points_that_are_not_finite_are_left_out() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, math.inf), (3.0, 2.0)]
    chart = draw_chart("Loss", "nats", [Series("train", points, "train")], ".3f", [], from_zero=True)
    assert len(polyline(chart.svg, "train")) == 2
    assert [(name, value) for _, name, value in chart.legend] == [("train", "2.000")]


def test_a_chart_says_itself_in_words_and_marks_resumes() -> None:
    lines = [Series("train", [(0, 2), (5, 0.5)], "train"), Series("test", [(5, 0.6)], "test")]
    chart = draw_chart("Loss", "nats", lines, ".2f", [2.5], from_zero=True)
    words = "Loss. train: from 2 at epoch 0 to 0.5 at epoch 5; test: 0.6 at epoch 5"
    assert f'role="img" aria-label="{words}"' in chart.svg
    assert [(name, value) for _, name, value in chart.legend] == [("train", "0.50"), ("test", "0.60"), ("resumed", "")]
    found = re.search(r'class="mark" x1="([\d.]+)" x2="([\d.]+)"', chart.svg)
    assert found
    assert float(found[1]) == float(found[2]) == (LEFT + RIGHT) / 2


def test_texts_are_escaped() -> None:
    series = Series('<script>"', [(0, 1)], "train")
    svg = draw_chart('"><script>', "<b>", [series], ".1f", [], from_zero=True).svg
    assert "<script" not in svg
    assert "<b>" not in svg


def test_a_bar_has_its_lengths_in_percent() -> None:
    svg = str(bar(0.5, (0.4, 0.6), 0.75))
    assert '<rect class="fill" y="3" width="50.00%"' in svg
    assert svg.count('x1="40.00%"') == 2
    assert svg.count('x2="60.00%"') == 2
    assert '<svg x="75.00%"' in svg
    assert "point" not in bar(0.5, (0.4, 0.6))


def test_every_tag_is_closed() -> None:
    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            opened.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    for svg in (swatch("heldout"), bar(1, (0.9, 1), 0), draw(Series("a", [(0, 0)], "test"), marks=(0,))):
        Tags().feed(svg)
        assert opened == []
