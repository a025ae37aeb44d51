"""Checkpoints that a real mmengine Runner leaves: message hub, optimizer, schedules, with and without averaging."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from figures import Figure, relative_error
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from nets import LOGITS_BOUND, draw_weights
from peers import mmpretrain_config
from torch import Tensor

from layouts import logits_of
from resnetkit import load_model
from resnetkit.models import MODELS
from resnetkit.weights_file import read_weights_file

ARCH = MODELS["resnet18_cifar"]
IMAGES = 32  # a micro-batch of 8 four times, so that averaged and raw weights part


class Watch(Hook):  # type: ignore[misc]
    """Keeps the logits of what is evaluated, and of the raw weights after the last step."""

    priority = "VERY_LOW"  # after the averaging hook has exchanged them

    def __init__(self) -> None:
        self.evaluated: Tensor | None = None
        self.raw: Tensor | None = None

    def before_val_epoch(self, runner: Any) -> None:
        """Keep what is evaluated."""
        self.evaluated = ask(runner.model)

    def before_train_epoch(self, runner: Any) -> None:
        """Undo the eval mode in which we asked."""
        runner.model.train()

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        """Keep the logits of the weights that are trained."""
        self.raw = ask(runner.model)
        runner.model.train()


def ask(model: Any) -> Tensor:
    """Return the logits of an mmpretrain classifier."""
    return logits_of(Asked(model), ARCH)


class Asked(torch.nn.Module):
    """A classifier that gives its logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes]."""
        logits: Tensor = self.model(images, mode="tensor")
        return logits


@DATASETS.register_module(force=True)
class Noise(BaseDataset):  # type: ignore[misc]
    """Images of noise with labels."""

    METAINFO = {"classes": tuple("abcdefghij")}  # noqa: RUF012

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return the labels; `__getitem__` makes the images."""
        return [{"gt_label": index % 10} for index in range(IMAGES)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an image and its label as mmpretrain packs them."""
        from mmpretrain.structures import DataSample

        image = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        return {"inputs": image, "data_samples": DataSample().set_gt_label(index % 10)}


def train(folder: Path, *, averaged: bool, zipped: bool) -> tuple[Path, Watch]:
    """Train an epoch with mmengine's own loop; returns the checkpoint and what was seen."""
    loader = {"dataset": {"type": "Noise"}, "sampler": {"type": "DefaultSampler", "shuffle": False}, "batch_size": 8,
              "num_workers": 0, "collate_fn": {"type": "default_collate"}}  # fmt: skip
    hooks = [{"type": "EMAHook", "momentum": 0.3}] if averaged else []
    runner = Runner(
        model=mmpretrain_config(ARCH) | {"data_preprocessor": {"type": "ClsDataPreprocessor", "mean": [127.0] * 3,
                                         "std": [60.0] * 3, "num_classes": 10}},
        work_dir=str(folder),
        train_dataloader=loader,
        val_dataloader=loader,
        val_evaluator={"type": "Accuracy"},
        train_cfg={"by_epoch": True, "max_epochs": 1, "val_interval": 1},
        val_cfg={},
        optim_wrapper={"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9}},
        param_scheduler={"type": "MultiStepLR", "by_epoch": True, "milestones": [1]},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 1}, "checkpoint": {"type": "CheckpointHook"}},
        custom_hooks=hooks,
        default_scope="mmpretrain",
        log_level="ERROR",
        experiment_name=f"{folder.name}-{averaged}-{zipped}",
    )  # fmt: skip
    draw_weights(runner.model, seed=1)
    watch = Watch()
    runner.register_hook(watch, priority="VERY_LOW")
    save = functools.partial(torch.save, _use_new_zipfile_serialization=zipped)
    with mock.patch("torch.save", save):
        runner.train()
    return folder / "epoch_1.pth", watch


def runner_figures() -> Iterator[Figure]:
    """Load each checkpoint, and compare with what mmengine evaluated, and trained."""
    for averaged, zipped in ((False, True), (False, False), (True, True), (True, False)):
        kind = f"Runner{' with EMA' if averaged else ''}, {'zip' if zipped else 'legacy'}"
        with tempfile.TemporaryDirectory() as folder:
            path, watch = train(Path(folder), averaged=averaged, zipped=zipped)
            assert watch.evaluated is not None
            assert watch.raw is not None
            yield from figures_of_file(path, watch, kind, averaged)


def figures_of_file(path: Path, watch: Watch, kind: str, averaged: bool) -> Iterator[Figure]:
    """Compare one checkpoint's logits with those seen."""
    assert watch.evaluated is not None
    assert watch.raw is not None
    file = read_weights_file(path)
    right = file.class_names == tuple("abcdefghij") and file.recorded.get("epoch") == 1
    yield Figure("description", kind, "mmengine", 0.0 if right else 1.0, 0.0)
    error = relative_error(logits_of(load_model(path).model, ARCH), watch.evaluated)
    yield Figure("evaluated weights", kind, "mmengine", error, LOGITS_BOUND)
    if averaged:
        raw = relative_error(logits_of(load_model(path, raw=True).model, ARCH), watch.raw)
        yield Figure("raw weights", kind, "mmengine", raw, LOGITS_BOUND)
        apart = relative_error(watch.raw, watch.evaluated)
        yield Figure("the two are apart", kind, "mmengine", 0.0 if apart > 100 * LOGITS_BOUND else 1.0, 0.0)
