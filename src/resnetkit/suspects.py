"""Suspect labels: images that a classifier, fitted without them, takes for another class with confidence.

The method is confident learning (arXiv 1911.00068): probabilities come from a linear classifier on features, fitted
on the other folds; an image is suspect where the probability of another class is at least what images labelled so
have on average, and that of its own is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from resnetkit.data.division import folds_of
from resnetkit.linear import choose_penalty, fit_linear

FOLDS = 5


@dataclass(frozen=True)
class Suspect:
    """An image whose label may be wrong."""

    index: int
    label: int
    likely: int  # the class that it is taken for
    label_prob: float  # out of fold
    likely_prob: float


def find_suspects(
    features: NDArray[np.float32],  # [N, C]
    labels: NDArray[np.int64],  # [N]
    groups: NDArray[np.int64],  # [N]; images of one group are never on both sides
    num_classes: int,
    seed: int = 0,
) -> list[Suspect]:
    """Return the suspect images, the surest first; classes with fewer images than folds are passed over."""
    probs = out_of_fold_probs(features, labels, groups, num_classes, seed)
    counts = np.bincount(labels, minlength=num_classes)
    own = probs[np.arange(len(labels)), labels]
    usual = np.array([own[labels == label].mean() if counts[label] else np.inf for label in range(num_classes)])
    confident = np.where(probs >= usual, probs, -1.0)
    likely = confident.argmax(1)
    enough = counts >= FOLDS
    doubtful = (confident.max(1) > 0) & (likely != labels) & (own < usual[labels]) & enough[labels] & enough[likely]
    doubtful &= probs[np.arange(len(labels)), likely] > own
    found = [Suspect(int(index), int(labels[index]), int(likely[index]), float(own[index]),
                     float(probs[index, likely[index]])) for index in np.flatnonzero(doubtful)]  # fmt: skip
    return sorted(found, key=lambda suspect: suspect.label_prob - suspect.likely_prob)


def out_of_fold_probs(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    num_classes: int,
    seed: int,
    folds: int = FOLDS,
) -> NDArray[np.float32]:
    """Return the probabilities [N, classes] of each image by a classifier fitted on the other folds."""
    places = folds_of(labels, groups, folds, seed)
    probs = np.zeros((len(labels), num_classes), np.float32)
    known, own = torch.from_numpy(features), torch.from_numpy(labels)
    penalty = None
    for fold in range(folds):
        held = torch.from_numpy(places == fold)
        if not held.any() or held.all():
            continue
        penalty = penalty or choose_penalty(known, own, num_classes, held)
        classifier = fit_linear(known[~held], own[~held], num_classes, penalty=penalty)
        probs[held.numpy()] = classifier.logits(known[held]).softmax(1).numpy()
    return probs
