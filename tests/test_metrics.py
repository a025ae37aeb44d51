from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.metrics import confusion_matrix, ranks_of, wilson_interval

# Few values, so that ties are common.
VALUES = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, math.inf, math.nan])


@st.composite
def rows(draw: st.DrawFn, values: st.SearchStrategy[float]) -> tuple[list[list[float]], list[int]]:
    classes, images = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    logits = draw(st.lists(st.lists(values, min_size=classes, max_size=classes), min_size=images, max_size=images))
    return logits, draw(st.lists(st.integers(0, classes - 1), min_size=images, max_size=images))


def rank_by_sorting(row: list[float], label: int) -> int:
    """Sort classes, nan before everything, equal ones by index; a label without a finite logit comes last."""
    if not math.isfinite(row[label]):
        return len(row)
    order = sorted(range(len(row)), key=lambda place: (not math.isnan(row[place]), -row[place], place))
    return order.index(label)


@given(rows(VALUES))
def test_ranks_equal_those_of_sorting(case: tuple[list[list[float]], list[int]]) -> None:
    logits, labels = case
    ranks = ranks_of(torch.tensor(logits), torch.tensor(labels))
    assert ranks.dtype == torch.int64
    assert ranks.tolist() == [rank_by_sorting(row, label) for row, label in zip(logits, labels, strict=True)]


@given(rows(VALUES))
def test_rank_zero_means_that_the_label_is_the_prediction(case: tuple[list[list[float]], list[int]]) -> None:
    logits, labels = torch.tensor(case[0]), torch.tensor(case[1])
    right = ranks_of(logits, labels) == 0
    predicted = logits.argmax(1) == labels
    assert not (right & ~predicted).any()
    finite = logits.isfinite().all(1)
    assert torch.equal(right[finite], predicted[finite])


def test_ranks_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, math.nan, 1.0], [math.nan] * 3])
    assert ranks_of(logits, torch.tensor([1, 0, 2, 2, 0])).tolist() == [2, 0, 2, 1, 3]


@given(rows(st.floats(-(2.0**100), 2.0**100, width=32)))
def test_ranks_of_all_labels_are_a_permutation(case: tuple[list[list[float]], list[int]]) -> None:
    row = torch.tensor(case[0][:1])
    classes = row.shape[1]
    ranks = ranks_of(row.expand(classes, classes), torch.arange(classes))
    assert sorted(ranks.tolist()) == list(range(classes))


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [  # from the closed form, in decimal arithmetic with 40 digits
        (9173, 10_000, 0.91174012, 0.92253939),
        (9339, 10_000, 0.92886180, 0.93860496),
        (0, 10, 0.0, 0.27753280),
        (10, 10, 0.72246720, 1.0),
        (5, 10, 0.23659309, 0.76340691),
        (1, 1, 0.20654931, 1.0),
        (0, 1, 0.0, 0.79345069),
    ],
)
def test_wilson_interval(correct: int, images: int, low: float, high: float) -> None:
    assert wilson_interval(correct, images) == pytest.approx((low, high), abs=6e-9)


def test_wilson_interval_of_nothing_is_everything() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_mirrors(case: tuple[int, int]) -> None:
    correct, images = case
    low, high = wilson_interval(correct, images)
    assert 0.0 <= low <= correct / images <= high <= 1.0
    assert low < high
    mirrored_low, mirrored_high = wilson_interval(images - correct, images)
    assert (1 - mirrored_high, 1 - mirrored_low) == pytest.approx((low, high), abs=1e-12)
    # The bound is where the share lies 1.96 standard deviations away, which defines it.
    for bound in (low, high):
        if 1e-6 < bound < 1 - 1e-6:
            deviation = math.sqrt(bound * (1 - bound) / images)
            assert abs(correct / images - bound) / deviation == pytest.approx(1.959964, rel=1e-5)


def test_no_share_is_beside_its_interval_by_rounding() -> None:
    for images in range(1, 400):
        for correct in (0, images):
            low, high = wilson_interval(correct, images)
            assert low <= correct / images <= high


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_confusion_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    labels = torch.tensor([label for label, _ in pairs], dtype=torch.int64)
    predictions = torch.tensor([prediction for _, prediction in pairs], dtype=torch.int64)
    confusion = confusion_matrix(labels, predictions, 4)
    assert confusion.shape == (4, 4)
    assert confusion.dtype == torch.int64
    assert confusion.sum() == len(pairs)
    assert confusion.tolist() == [[pairs.count((row, column)) for column in range(4)] for row in range(4)]
