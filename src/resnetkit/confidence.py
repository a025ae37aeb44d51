"""How far confidences are to be believed: the expected calibration error, and the temperature that corrects it.

Both as in Guo et al. (arXiv 1706.04599).  Logits divided by a temperature keep their order, and so every prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of confidences, equally wide, as in the paper
LEAST_IMAGES, LEAST_WRONG = 100, 10  # that a temperature is fitted to; of nets that are hardly wrong it has no optimum
COLDEST, HOTTEST = 0.05, 20.0  # of a temperature
HALVINGS = 40  # of the range of its logarithm, 6: to the last digit of float32


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return probabilities [N, classes] of logits divided by a temperature."""
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def calibration_error(confidences: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error, a fraction: |accuracy - mean confidence| of each bin, by its images.

    nan where a confidence is.
    """
    if np.isnan(confidences).any():
        return math.nan
    bins = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, right - confidences.astype(np.float64), BINS)
    return float(np.abs(gaps).sum() / len(confidences))


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the temperature at which the cross entropy of logits [N, classes] is least.

    In the inverse temperature it is convex: its slope is the mean logit under the probabilities less that of the label.
    """
    values = logits.astype(np.float64)
    wanted = values[np.arange(len(labels)), labels].mean()
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = (softmax(values, math.exp(middle)) * values).sum(1).mean()
        if expected > wanted:  # too sure
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def fitted(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any] | None:
    """Fit a temperature to images that were held out, and say what it does to them, as it is kept with weights.

    None where too few images, or too few wrong ones, would have their say, or logits are not finite.
    """
    right = logits.argmax(1) == labels
    if len(labels) < LEAST_IMAGES or (~right).sum() < LEAST_WRONG or not np.isfinite(logits).all():
        return None
    value = fit_temperature(logits, labels)
    at_value, at_one = (calibration_error(softmax(logits, each).max(1), right) for each in (value, 1.0))
    return {"value": value, "images": len(labels), "ece": at_value, "ece_at_1": at_one}


def temperature_of(about: Mapping[str, Any]) -> float:
    """Return the temperature that is kept with weights, 1 where none is.

    ValueError for one that is no number of the range that is fitted in.
    """
    said = about.get("temperature")
    if said is None:
        return 1.0
    value = said.get("value") if isinstance(said, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not COLDEST <= value <= HOTTEST:
        raise ValueError(f"temperature {said!r:.100}")
    return float(value)
