"""Ten whole training steps of ResNet_CIFAR-18 against mmpretrain's, from equal weights on equal batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from figures import Figure, largest, relative_error, worst_error
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmpretrain.registry import MODELS as MMPRETRAIN
from mmpretrain.structures import DataSample
from peers import mmpretrain_config
from torch import Tensor, nn

from resnetkit.assemble import Training, assemble
from resnetkit.data.loader import Batch
from resnetkit.data.sources import load_dataset
from resnetkit.data.spec import CIFAR10, ArrayDataset, Split
from resnetkit.errors import ResnetkitError
from resnetkit.layouts.tables import openmmlab_rows, to_ours
from resnetkit.models import find_architecture
from resnetkit.recipe import Recipe
from resnetkit.recipes import RECIPES
from resnetkit.step import train_step

STEPS, LOSS_BOUND, WEIGHTS_BOUND, IMAGES_BOUND = 10, 1e-5, 1e-4, 1e-6
ROW, BATCH_SIZE = "resnet18_8xb16_cifar10", 16
MEAN, STD = (125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255)  # of the row, pixels 0 to 255


@dataclass(frozen=True)
class Numerics:
    """How both sides compute.

    In ten steps at this rate a rounding grows to 1e5 of its size (docs/parity.md).  So float32 is compared with equal
    kernels, and each side's own kernels are compared in float64.
    """

    dtype: torch.dtype
    equal_kernels: bool  # mmpretrain with our memory layout and the same SGD kernel

    def __str__(self) -> str:
        """Name the numerics in a table."""
        return f"{str(self.dtype).removeprefix('torch.')}, {'equal' if self.equal_kernels else 'own'} kernels"


FLOAT32, FLOAT64 = Numerics(torch.float32, equal_kernels=True), Numerics(torch.float64, equal_kernels=False)
FLOAT32_OWN = Numerics(torch.float32, equal_kernels=False)  # told, not bound: what roundings make of it


@dataclass
class Theirs:
    """mmpretrain's classifier with its optimizer."""

    model: nn.Module
    optim: OptimWrapper

    def step(self, images: Tensor, labels: Tensor) -> float:
        """Take one step on normalised images [N, 3, H, W]; returns the loss."""
        samples = [DataSample().set_gt_label(label) for label in labels]
        data = {"inputs": list(images), "data_samples": samples}
        return float(self.model.train_step(data, self.optim)["loss"].detach())  # type: ignore[operator]


def training_figures() -> Iterator[Figure]:
    """Compare what the nets are fed, then losses and weights of ten steps."""
    yield Figure("ten steps, images", "normalised batches", "mmpretrain", images_error(our_recipe()), IMAGES_BOUND)
    for numerics in (FLOAT32, FLOAT64):
        losses, weights = training_errors(our_recipe(), numerics)
        yield Figure("ten steps, losses", str(numerics), "mmpretrain", losses, LOSS_BOUND)
        yield Figure("ten steps, weights", str(numerics), "mmpretrain", weights, WEIGHTS_BOUND)


def our_recipe() -> Recipe:
    """Return the row's recipe with the batch of one of its eight devices."""
    return replace(RECIPES[ROW], batch_size=BATCH_SIZE, microbatch_size=BATCH_SIZE)


def images_error(recipe: Recipe) -> float:
    """Compare our normalised batches with mmpretrain's preprocessing of their pixels."""
    batches = assemble(recipe, images_to_train_on(), torch.device("cpu")).feed.batches
    preprocessor = MMPRETRAIN.build({"type": "ClsDataPreprocessor", "mean": MEAN, "std": STD, "to_rgb": False})
    ours = [batches.at(step).images for step in range(STEPS)]
    theirs = [preprocessor({"inputs": list(to_pixels(images))}, training=True)["inputs"] for images in ours]
    return largest(relative_error(a, b) for a, b in zip(ours, theirs, strict=True))


def to_pixels(images: Tensor) -> Tensor:
    """Undo the normalisation of images [N, 3, H, W]: uint8, exactly, because pixels are whole numbers."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    pixels = images * std + mean
    if (pixels - pixels.round()).abs().max() > 0.01:
        raise ValueError("the images are not normalised with the row's mean and std")
    return pixels.round().to(torch.uint8)


def training_errors(recipe: Recipe, numerics: Numerics) -> tuple[float, float]:
    """Train both from equal weights on equal batches; return the errors of the losses and of the worst tensor."""
    training = assemble(recipe, images_to_train_on(), torch.device("cpu"))
    training.model.to(numerics.dtype)
    theirs = build_theirs(training, numerics)
    losses = []
    for step in range(STEPS):
        batch: Batch = training.feed.batches.at(step)
        for group in training.optimizer.param_groups:
            group["lr"] = training.lr_at(step)
        ours = train_step(training, replace(batch, pixels=batch.images.to(numerics.dtype), normalize=None), step)
        losses.append((ours.loss_sum / ours.images, theirs.step(batch.images, batch.labels)))
    our_losses, their_losses = np.array(losses).T
    return relative_error(our_losses, their_losses), worst_error(floats(training.model), floats(theirs.model))


def rounding_remarks() -> dict[str, dict[str, float]]:
    """Say what roundings alone make of ten float32 steps: no bound could hold here, whoever is compared."""
    pairs = {
        "ours against mmpretrain, own kernels": training_errors(our_recipe(), FLOAT32_OWN),
        "mmpretrain against itself, other memory layout and SGD kernel": kernel_errors(our_recipe()),
    }
    return {subject: {"losses": losses, "weights": weights} for subject, (losses, weights) in pairs.items()}


def kernel_errors(recipe: Recipe) -> tuple[float, float]:
    """Train mmpretrain's net twice in float32 with other kernels; return the errors as `training_errors` does."""
    training = assemble(recipe, images_to_train_on(), torch.device("cpu"))
    a, b = build_theirs(training, FLOAT32), build_theirs(training, FLOAT32_OWN)
    batches = [training.feed.batches.at(step) for step in range(STEPS)]
    losses = np.array([[side.step(batch.images, batch.labels) for batch in batches] for side in (a, b)])
    return relative_error(losses[0], losses[1]), worst_error(floats(a.model), floats(b.model))


def floats(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights and running statistics of either side under our names."""
    ours = to_ours(model.state_dict(), openmmlab_rows(deep_stem=False, pooled=False))
    return {name: value for name, value in ours.items() if value.is_floating_point()}


def build_theirs(training: Training, numerics: Numerics) -> Theirs:
    """Build mmpretrain's classifier as its config has it, and give it our weights.

    Its preprocessing is told to leave images as they are: both sides get the same numbers.
    """
    preprocessor = {"num_classes": 10, "mean": (0.0,) * 3, "std": (1.0,) * 3, "to_rgb": False}
    config = mmpretrain_config(find_architecture("resnet18_cifar"))
    model = MMPRETRAIN.build(config | {"data_preprocessor": preprocessor}).to(numerics.dtype)
    ours = training.model.state_dict()
    model.load_state_dict({f"head.{name}" if "fc." in name else f"backbone.{name}": ours[name] for name in ours})
    sgd = {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0001}
    if numerics.equal_kernels:
        model.to(memory_format=torch.channels_last)
        sgd |= {"fused": True}
    return Theirs(model, build_optim_wrapper(model, {"type": "OptimWrapper", "optimizer": sgd}))


def images_to_train_on() -> ArrayDataset:
    """Return CIFAR-10, or noise of its size where it cannot be had."""
    try:
        return load_dataset("cifar10")
    except ResnetkitError:
        draw = np.random.default_rng(7)
        images, labels = draw.integers(0, 256, (512, 32, 32, 3), np.uint8), draw.integers(0, 10, 512, np.uint8)
        split = Split(images, labels)
        return ArrayDataset("noise", split, split, CIFAR10.class_names, "")
