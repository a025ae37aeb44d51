"""The linear classifier is at its minimum, and its penalty is the one that does best on images it is not fitted to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from resnetkit.linear import PENALTIES, choose_penalty, fit_linear


def clusters(classes: int, each: int, noise: float = 0.45) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (classes, 16))
    labels = np.repeat(np.arange(classes), each)
    return (centres[labels] + rng.normal(0, noise, (len(labels), 16))).astype(np.float32), labels


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
    doubled = fit_linear(twice, torch.from_numpy(np.concatenate((labels, labels[:30]))), 2, penalty=0.01)
    weights = torch.tensor([2.0] * 30 + [1.0] * 30) / 1.5
    mean, std = twice.mean(0), twice.std(0, unbiased=False)
    weighted = fit_linear(torch.from_numpy(features), torch.from_numpy(labels), 2, penalty=0.01, image_weights=weights)
    some = (mean + std * torch.randn(50, 16, generator=torch.Generator().manual_seed(0))).float()
    difference = (doubled.logits(some).softmax(1) - weighted.logits(some).softmax(1)).abs().max()
    assert float(difference) < 0.05
    with pytest.raises(ValueError, match="batch_size"):
        fit_linear(torch.from_numpy(features), torch.from_numpy(labels[:5]), 2, penalty=0.01)


@pytest.mark.parametrize(("noise", "strong"), [(3.0, True), (0.05, False)])
def test_the_penalty_is_chosen_by_images_that_were_held(noise: float, strong: bool) -> None:
    found, labels = clusters(4, 40, noise)
    features, own = torch.from_numpy(found), torch.from_numpy(labels)
    held = torch.arange(len(own)) % 4 == 0
    losses = {penalty: float(cross_entropy(fit_linear(features[~held], own[~held], 4, penalty=penalty)
                                           .logits(features[held]), own[held])) for penalty in PENALTIES}  # fmt: skip
    chosen = choose_penalty(features, own, 4, held)
    assert losses[chosen] == min(losses.values()) < max(losses.values())
    assert (chosen >= 1.0) == strong  # classes that overlap need much, classes far apart need little
