from __future__ import annotations

import math

import pytest
import torch

from resnetkit.losses import binary_cross_entropy, cross_entropy

LOGITS = [[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.0]]
LABELS = [0, 2, 2]


def by_hand(smoothing: float) -> float:
    total = 0.0
    for row, label in zip(LOGITS, LABELS, strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        targets = [(1 - smoothing) * (place == label) + smoothing / 3 for place in range(3)]
        total -= sum(target * (value - log_sum) for target, value in zip(targets, row, strict=True))
    return total / len(LABELS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 0.99])
def test_cross_entropy_equals_the_sum_written_by_hand(smoothing: float) -> None:
    loss = cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS), label_smoothing=smoothing)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(by_hand(smoothing), rel=1e-6)


def test_no_smoothing_unless_asked() -> None:
    assert float(cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS))) == pytest.approx(by_hand(0.0), rel=1e-6)
    equal = cross_entropy(torch.zeros(4, 10), torch.zeros(4, dtype=torch.int64))
    assert float(equal) == pytest.approx(math.log(10))


def test_large_logits_stay_finite() -> None:
    loss = cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert float(loss) == pytest.approx(2e4)


SHARES = [[0.7, 0.3, 0.0], [0.0, 0.5, 0.5], [0.2, 0.0, 0.8]]


def binary_by_hand(targets: list[list[float]], smoothing: float) -> float:
    total = 0.0
    for row, shares in zip(LOGITS, targets, strict=True):
        for value, share in zip(row, shares, strict=True):
            target, probability = share * (1 - smoothing) + smoothing / 3, 1 / (1 + math.exp(-value))
            total -= target * math.log(probability) + (1 - target) * math.log(1 - probability)
    return total / len(LOGITS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_shares(smoothing: float) -> None:
    found = cross_entropy(torch.tensor(LOGITS), torch.tensor(SHARES), label_smoothing=smoothing)
    expected = 0.0
    for row, shares in zip(LOGITS, SHARES, strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        smooth = [(1 - smoothing) * share + smoothing / 3 for share in shares]
        expected -= sum(share * (value - log_sum) for share, value in zip(smooth, row, strict=True))
    assert float(found) == pytest.approx(expected / 3, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_sums_over_classes_or_takes_their_mean(smoothing: float) -> None:
    one_hot = [[float(place == label) for place in range(3)] for label in LABELS]
    for targets, shares in ((torch.tensor(LABELS), one_hot), (torch.tensor(SHARES), SHARES)):
        found = binary_cross_entropy(torch.tensor(LOGITS), targets, label_smoothing=smoothing)
        assert float(found) == pytest.approx(binary_by_hand(shares, smoothing), rel=1e-6)
        mean = binary_cross_entropy(
            torch.tensor(LOGITS), targets, label_smoothing=smoothing, reduction="mean_over_classes"
        )
        assert float(mean) == pytest.approx(float(found) / 3, rel=1e-6)
