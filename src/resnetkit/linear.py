"""A linear classifier on features: multinomial logistic regression, fitted to the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 100  # of L-BFGS, at most
PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03)  # to choose from, the strongest first


@dataclass(frozen=True)
class Linear:
    """Weights [classes, C] and biases [classes] of features as they come."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Return logits [N, classes] of features [N, C]."""
        return F.linear(features, self.weight, self.bias)


def fit_linear(
    features: Tensor,  # float32 [N, C]
    labels: Tensor,  # int64 [N]
    num_classes: int,
    *,
    penalty: float,  # times half the squared weights of standardised features, a class
    image_weights: Tensor | None = None,  # [N], of mean 1
) -> Linear:
    """Minimise the mean cross entropy plus the penalty, by L-BFGS from zero weights: nothing is random.

    Features are standardised for the fit; the result is for them as they come.
    """
    mean, std = features.mean(0), features.std(0, unbiased=False).clamp_min(1e-6)
    inputs = (features - mean) / std
    weight = torch.zeros(num_classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe",
                                  tolerance_grad=1e-5)  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(F.linear(inputs, weight, bias), labels, reduction="none")
        loss = (losses if image_weights is None else losses * image_weights).mean()
        loss = loss + penalty / 2 * weight.square().sum() / num_classes
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    scaled = weight.detach() / std
    return Linear(scaled, bias.detach() - scaled @ mean)


def choose_penalty(
    features: Tensor,  # float32 [N, C]
    labels: Tensor,  # int64 [N]
    num_classes: int,
    held: Tensor,  # bool [N]: the images that decide; some of all, and not all
    image_weights: Tensor | None = None,  # [N]
) -> float:
    """Return the penalty whose classifier, fitted without the held images, has the smallest loss on them."""

    def loss_of(penalty: float) -> float:
        weights = None if image_weights is None else image_weights[~held]
        fitted = fit_linear(features[~held], labels[~held], num_classes, penalty=penalty, image_weights=weights)
        losses = F.cross_entropy(fitted.logits(features[held]), labels[held], reduction="none")
        return float((losses if image_weights is None else losses * image_weights[held]).mean())

    return min(PENALTIES, key=loss_of)
