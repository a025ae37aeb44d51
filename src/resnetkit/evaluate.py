"""Evaluation: every image once, and what came out of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from resnetkit.confidence import calibration_error
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.seen import batch_size_for, seen
from resnetkit.data.spec import Split
from resnetkit.engines import Engine
from resnetkit.errors import BadRequest
from resnetkit.metrics import confusion_matrix, ranks_of, wilson_interval
from resnetkit.processes import ALONE, Processes

TOP_K = 5


@dataclass(frozen=True)
class Evaluation:
    """The outcome for every image, in the order of the data; the figures follow from it."""

    num_classes: int
    labels: NDArray[np.int64]  # [N]
    predictions: NDArray[np.int64]  # [N] class of the largest logit
    confidences: NDArray[np.float32]  # [N] softmax probability of the prediction, at the engine's temperature
    ranks: NDArray[np.int64]  # [N] how many classes score above the label
    losses: NDArray[np.float32]  # [N] softmax cross entropy, nats
    raw_confidences: NDArray[np.float32]  # [N] the same at temperature 1
    temperature: float = 1.0

    @property
    def images(self) -> int:
        """Number of images evaluated."""
        return len(self.labels)

    @property
    def correct(self) -> int:
        """Images whose prediction is their label."""
        return int((self.ranks == 0).sum())

    @property
    def top1(self) -> float:
        """Fraction of images that are correct."""
        return self.correct / self.images

    @property
    def top5(self) -> float:
        """Fraction of images whose label is among the five highest logits."""
        return int((self.ranks < TOP_K).sum()) / self.images

    @property
    def loss(self) -> float:
        """Mean cross entropy, nats."""
        return float(self.losses.mean(dtype=np.float64))

    @property
    def ece(self) -> float:
        """Expected calibration error of the confidences, a fraction."""
        return calibration_error(self.confidences, self.ranks == 0)

    @property
    def raw_ece(self) -> float:
        """The same at temperature 1."""
        return calibration_error(self.raw_confidences, self.ranks == 0)

    def confusion(self) -> NDArray[np.int64]:
        """Count images by label (row) and prediction (column): [classes, classes], 4 GB at ImageNet-21k's 21,843."""
        labels, predictions = torch.from_numpy(self.labels), torch.from_numpy(self.predictions)
        return confusion_matrix(labels, predictions, self.num_classes).numpy()

    def confusion_cells(self) -> NDArray[np.int64]:
        """Return the cells of the confusion matrix that have images: rows of label, prediction, count, in order."""
        pairs, counts = np.unique(np.stack((self.labels, self.predictions), 1), axis=0, return_counts=True)
        return np.column_stack((pairs, counts))

    def mistakes(self, count: int) -> list[dict[str, Any]]:
        """Return the wrong predictions of highest confidence, the most confident first."""
        wrong = np.flatnonzero(self.ranks > 0)
        chosen = wrong[np.argsort(-self.confidences[wrong], kind="stable")][:count]
        return [
            {
                "index": int(index),
                "label": int(self.labels[index]),
                "prediction": int(self.predictions[index]),
                "confidence": float(self.confidences[index]),
            }
            for index in chosen
        ]

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the figures as JSON data: fractions, 95 % intervals, one row a class."""
        right = self.labels == self.predictions
        counts = [np.bincount(column, minlength=self.num_classes).tolist()
                  for column in (self.labels, self.labels[right], self.predictions)]  # fmt: skip
        top5_hits = int((self.ranks < TOP_K).sum())
        return {
            "images": self.images,
            "correct": self.correct,
            "top1": self.top1,
            "top1_interval": wilson_interval(self.correct, self.images),
            "top5": self.top5,
            "top5_interval": wilson_interval(top5_hits, self.images),
            "loss": self.loss,
            "ece": self.ece,
            "temperature": self.temperature,
            "ece_at_temperature_1": self.raw_ece,
            "classes": [class_row(*row) for row in zip(class_names, *counts, strict=True)],
            "confusion": self.confusion_cells().tolist(),
        }


def class_row(name: str, images: int, correct: int, predicted: int) -> dict[str, Any]:
    """Return one class's images, hits, recall and precision (None where nothing was counted)."""
    return {
        "class": name,
        "images": images,
        "correct": correct,
        "recall": correct / images if images else None,
        "recall_interval": wilson_interval(correct, images),
        "precision": correct / predicted if predicted else None,
    }


def evaluate(
    engine: Engine,
    split: Split | PhotoSplit,
    *,
    batch_size: int | None = None,  # None: many small images, few large ones
    on_batch: Callable[[int], None] = lambda count: None,  # called with the images of each batch, by all processes
    processes: Processes = ALONE,
) -> Evaluation:
    """Evaluate a model on each image exactly once.

    Of several processes each takes every so many-th image, and all return the whole.  Raises BadRequest for no images,
    BadImage with the name of a photo that cannot be read.
    """
    num_classes = 0

    def outcomes(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        nonlocal num_classes
        num_classes = logits.shape[1]
        predictions = logits.argmax(1)  # of equal ones the first; the softmax may round different logits to equal
        confidences, raw = ((logits / temperature).softmax(1).gather(1, predictions[:, None])[:, 0]
                            for temperature in (engine.temperature, 1.0))  # fmt: skip
        losses = F.cross_entropy(logits, labels, reduction="none")
        return labels, predictions, confidences, ranks_of(logits, labels), losses, raw

    columns = in_shares(engine, split, outcomes, batch_size, on_batch, processes)
    labels, predictions, confidences, ranks, losses, raw = columns
    return Evaluation(num_classes, labels, predictions, confidences, ranks, losses, raw, engine.temperature)


def logits_of(
    engine: Engine,
    split: Split | PhotoSplit,
    *,
    on_batch: Callable[[int], None] = lambda count: None,
    processes: Processes = ALONE,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the logits of every image [N, classes] and their labels [N]; arguments and errors are `evaluate`'s."""
    logits, labels = in_shares(engine, split, lambda *both: both, None, on_batch, processes)
    return logits, labels


def in_shares(
    engine: Engine,
    split: Split | PhotoSplit,
    compute: Callable[[Tensor, Tensor], tuple[Tensor, ...]],  # of the logits of a batch and its labels: rows an image
    batch_size: int | None,
    on_batch: Callable[[int], None],
    processes: Processes,
) -> list[NDArray[Any]]:
    """Return what is computed of every image, in the order of the data, each column whole in every process."""
    if len(split) == 0:
        raise BadRequest("there are no images to evaluate on")
    sharers = processes if processes.size <= len(split) else ALONE  # of fewer images each process takes all
    own = split if sharers.size == 1 else split.part(np.arange(sharers.rank, len(split), sharers.size))
    most = math.ceil(len(split) / sharers.size)  # images of a process; some may have one fewer
    batch_size = batch_size or batch_size_for(engine.preprocess)
    parts: list[tuple[Tensor, ...]] = []
    for images, labels in seen(own, engine.preprocess, batch_size):
        parts.append(compute(torch.from_numpy(engine.logits(images)), torch.from_numpy(labels)))
        on_batch(len(labels))
    for _ in range(len(parts), math.ceil(most / batch_size)):
        on_batch(0)
    columns = [torch.cat(column).numpy() for column in zip(*parts, strict=True)]
    return [in_turns(sharers.gather(column, most)) for column in columns]


def in_turns(shares: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Put together what each of several had every so many-th of, the first one first."""
    whole = np.empty((sum(map(len, shares)), *shares[0].shape[1:]), shares[0].dtype)
    for rank, share in enumerate(shares):
        whole[rank :: len(shares)] = share
    return whole
