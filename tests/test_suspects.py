"""Suspect labels: planted ones are found, and a fold never knows what it is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.linear import fit_linear
from resnetkit.suspects import find_suspects, folds_of


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


@given(st.integers(2, 5), st.lists(st.integers(0, 3), min_size=5, max_size=60), st.integers(0, 10))
def test_folds_keep_groups_together_and_classes_even(folds: int, labels: list[int], seed: int) -> None:
    own = np.array(labels)
    groups = np.arange(len(own))
    places = folds_of(own, groups, folds, seed)
    for label in set(labels):
        counts = np.bincount(places[own == label], minlength=folds)
        assert counts.max() - counts.min() <= 1
    groups = np.arange(len(own)) // 2 * 2
    places = folds_of(own, groups, folds, seed)
    assert all(places[index] == places[groups[index]] for index in range(len(own)))
    np.testing.assert_array_equal(places, folds_of(own, groups, folds, seed))


def test_a_linear_classifier_is_at_its_minimum() -> None:
    features, labels = clusters(3, 20)
    fitted = fit_linear(torch.from_numpy(features), torch.from_numpy(labels), 3, penalty=0.1)
    weight, bias = fitted.weight.clone().requires_grad_(), fitted.bias.clone().requires_grad_()
    mean, std = features.mean(0), features.std(0)
    inputs = torch.from_numpy((features - mean) / std)
    scaled = weight * torch.from_numpy(std)
    logits = torch.nn.functional.linear(inputs, scaled, bias + weight @ torch.from_numpy(mean))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)) + 0.1 / 2 * scaled.square().sum() / 3
    gradients = torch.autograd.grad(loss, (weight, bias))
    assert all(float(gradient.abs().max()) < 2e-3 for gradient in gradients)
    assert (fitted.logits(torch.from_numpy(features)).argmax(1).numpy() == labels).mean() > 0.95


def test_weights_of_images_count() -> None:
    features, labels = clusters(2, 30)
    twice = torch.from_numpy(np.concatenate((features, features[:30])))
    doubled = fit_linear(twice, torch.from_numpy(np.concatenate((labels, labels[:30]))), 2)
    weights = torch.tensor([2.0] * 30 + [1.0] * 30) / 1.5
    mean, std = twice.mean(0), twice.std(0, unbiased=False)
    weighted = fit_linear(torch.from_numpy(features), torch.from_numpy(labels), 2, image_weights=weights)
    some = (mean + std * torch.randn(50, 16, generator=torch.Generator().manual_seed(0))).float()
    difference = (doubled.logits(some).softmax(1) - weighted.logits(some).softmax(1)).abs().max()
    assert float(difference) < 0.05
    with pytest.raises(ValueError, match="batch_size"):
        fit_linear(torch.from_numpy(features), torch.from_numpy(labels[:5]), 2)
