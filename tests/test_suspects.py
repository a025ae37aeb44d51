"""Suspect labels: planted ones are found, and a fold never knows what it is asked."""

from __future__ import annotations

import numpy as np

from resnetkit.suspects import find_suspects


def clusters(classes: int = 4, each: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (classes, 16))
    labels = np.repeat(np.arange(classes), each)
    return (centres[labels] + rng.normal(0, 0.45, (len(labels), 16))).astype(np.float32), labels


def test_planted_labels_are_found() -> None:
    features, labels = clusters()
    wrong = np.random.default_rng(1).choice(len(labels), 8, replace=False)
    given_labels = labels.copy()
    given_labels[wrong] = (labels[wrong] + 1) % 4
    found = find_suspects(features, given_labels, np.arange(len(labels)), 4)
    assert {suspect.index for suspect in found[:8]} == set(wrong.tolist())
    assert all(suspect.likely == labels[suspect.index] for suspect in found[:8]) and len(found) <= 12
    assert all(suspect.likely_prob > suspect.label_prob for suspect in found)
    margins = [suspect.label_prob - suspect.likely_prob for suspect in found]
    assert margins == sorted(margins)


def test_a_copy_in_another_fold_does_not_vouch_for_a_wrong_label() -> None:
    features, labels = clusters()
    twice = np.concatenate((features, features[:3]))
    given_labels = np.concatenate((labels, labels[:3]))
    given_labels[[0, len(labels)]] = 3  # a picture and its copy, both wrong
    groups = np.arange(len(twice))
    groups[len(labels) :] = [0, 1, 2]
    found = {suspect.index for suspect in find_suspects(twice, given_labels, groups, 4)}
    assert {0, len(labels)} <= found


def test_classes_of_few_images_are_passed_over() -> None:
    features, labels = clusters(3, 30)
    labels[labels == 2] = 1
    labels[:2] = 2
    assert all(suspect.label != 2 for suspect in find_suspects(features, labels, np.arange(90), 3))
