"""From a recipe and data to all that the loop of `train.py` works on, and back to where a saved state left it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from resnetkit import schedule
from resnetkit.data.loader import MemoryBatches
from resnetkit.data.sources import ArrayDataset, Split
from resnetkit.data.transforms import Augmentation, Preprocess, RandomFlip, RandomPadCrop, mean_image
from resnetkit.ema import Ema
from resnetkit.errors import BadRequest
from resnetkit.models import Architecture, ResNet, find_architecture
from resnetkit.optim import build_sgd
from resnetkit.recipe import Cosine, Flip, Normalize, PadCrop, Recipe, StepDecay, total_steps_of


@dataclass
class Training:
    """What the loop works on, built from a recipe."""

    recipe: Recipe
    model: ResNet
    forward: Callable[[Tensor], Tensor]  # the model, compiled if the recipe says so
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    batches: MemoryBatches
    preprocess: Preprocess
    heldout: Split  # evaluated while training
    heldout_name: str
    lr_at: Callable[[int], float]
    total_steps: int
    data_sha256: str
    device: torch.device

    @property
    def kept_model(self) -> ResNet:
        """The model that is evaluated and kept: the average where there is one."""
        if self.ema is None:
            return self.model
        assert isinstance(self.ema.model, ResNet)
        return self.ema.model


def assemble(recipe: Recipe, dataset: ArrayDataset, device: torch.device) -> Training:
    """Build everything that the recipe describes."""
    kept = len(dataset.train.images) - recipe.val_images
    if kept < 1:
        images = len(dataset.train.images)
        raise BadRequest(f"val_images: expected less than the {images} training images, got {recipe.val_images}")
    train_split = Split(dataset.train.images[:kept], dataset.train.labels[:kept])
    val_split = Split(dataset.train.images[kept:], dataset.train.labels[kept:])
    preprocess = build_preprocess(recipe, train_split)
    batches = MemoryBatches(
        np.array(train_split.images),
        train_split.labels,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        normalize=preprocess.normalize,
        augmentations=build_augmentations(recipe),
        normalize_first=preprocess.mean.ndim == 3,
    )
    total_steps = total_steps_of(recipe, batches.steps_per_epoch)
    if total_steps < 1:
        raise BadRequest(f"total_epochs: {recipe.total_epochs} of {batches.steps_per_epoch} steps round to none")
    arch = replace(find_architecture(recipe.model), num_classes=len(dataset.class_names))
    model = build_model(recipe, arch, device)
    optimizer = build_sgd(model, **asdict(recipe.optim))
    ema = Ema(model, recipe.average_weights.decay) if recipe.average_weights else None
    return Training(
        recipe=recipe,
        model=model,
        forward=torch.compile(model, dynamic=False) if recipe.compile else model,
        optimizer=optimizer,
        ema=ema,
        batches=batches,
        preprocess=preprocess,
        heldout=val_split if recipe.val_images else dataset.test,
        heldout_name="val" if recipe.val_images else "test",
        lr_at=build_schedule(recipe, batches.steps_per_epoch, total_steps),
        total_steps=total_steps,
        data_sha256=dataset.sha256,
        device=device,
    )


def build_model(recipe: Recipe, arch: Architecture, device: torch.device) -> ResNet:
    """Build the net with weights drawn from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    model = ResNet(arch, drop_path_rate=recipe.drop_path_rate, zero_init_last=recipe.zero_init_last)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    return model.to(device=device, memory_format=layout)  # type: ignore[call-overload,no-any-return]


def build_preprocess(recipe: Recipe, train_split: Split) -> Preprocess:
    """Build the preprocessing; the mean image is that of the images trained on."""
    image_size = train_split.images.shape[1]
    if isinstance(recipe.preprocess, Normalize):
        mean = np.asarray(recipe.preprocess.mean, np.float32)
        return Preprocess(image_size, mean, np.asarray(recipe.preprocess.std, np.float32))
    mean = mean_image(train_split.images)
    return Preprocess(image_size, mean, np.ones(mean.shape[-1], np.float32))


def build_augmentations(recipe: Recipe) -> list[Augmentation]:
    """Build the recipe's augmentations, in its order."""
    built: list[Augmentation] = []
    for augmentation in recipe.augment:
        match augmentation:
            case PadCrop(padding=padding, mode=mode):
                built.append(RandomPadCrop(padding, mode))
            case Flip(alternating=alternating):
                built.append(RandomFlip(alternating))
    return built


def build_schedule(recipe: Recipe, steps_per_epoch: int, total_steps: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the step."""
    warmup, decay = recipe.warmup, recipe.schedule
    warmup_steps = 0
    if warmup:
        warmup_steps = warmup.warmup_steps or round(warmup.warmup_epochs * steps_per_epoch)

    def warmup_factor(step: int) -> float:
        if not warmup:
            return 1.0
        ramp = schedule.linear_warmup if warmup.shape == "linear" else schedule.constant_warmup
        return ramp(step, warmup_steps=warmup_steps, start_factor=warmup.start_factor)

    def decay_factor(step: int) -> float:
        if isinstance(decay, StepDecay):
            drops = decay.drop_steps or [round(epoch * steps_per_epoch) for epoch in decay.drop_epochs]
            return schedule.step_decay(step, drop_steps=drops, drop_factor=decay.drop_factor)
        if isinstance(decay, Cosine):
            return schedule.cosine(step, total_steps=total_steps, final_factor=decay.final_factor)
        after, left = max(step - warmup_steps, 0), max(total_steps - warmup_steps, 1)
        return schedule.linear(after, total_steps=left, final_factor=decay.final_factor)

    return lambda step: recipe.optim.lr * warmup_factor(step) * decay_factor(step)


def training_tensors(training: Training) -> dict[str, Tensor]:
    """Gather the tensors that change while training, by owner: `model.`, `ema.`, `optimizer.`."""
    tensors = {f"model.{name}": value for name, value in training.model.state_dict().items()}
    if training.ema:
        tensors |= {f"ema.{name}": value for name, value in training.ema.state_dict().items()}
    for index, values in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in values.items() if isinstance(v, Tensor)}
    return tensors


def restore_tensors(training: Training, tensors: dict[str, Tensor]) -> None:
    """Put back what `training_tensors` gathered."""
    named: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        owner, _, rest = name.partition(".")
        named[owner][rest] = tensor
    training.model.load_state_dict(named["model"])
    if training.ema:
        training.ema.load_state_dict(named["ema"])
    restore_optimizer(training.optimizer, named["optimizer"])


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back the optimizer's tensors, named `<index of the parameter>.<name>`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        # The fused kernel walks memory, not indices: a buffer must lie in memory as its parameter does.
        like = torch.empty_like(parameter) if tensor.shape == parameter.shape else torch.empty_like(tensor)
        optimizer.state[parameter][key] = like.copy_(tensor)
