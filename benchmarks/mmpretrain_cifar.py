"""mmpretrain's own config for CIFAR-10, on images that are in memory, with its own net or one of ours."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from resnetkit.data.sources import load_dataset


def cifar_config(build: Callable[[], torch.nn.Module] | None) -> Any:
    """Return the config of resnet18_8xb16_cifar10; `build` makes a net of ours, with 64 features, in place of its own.

    Nothing of it is imported before this is called: mmpretrain lives in an environment of its own.
    """
    import mmpretrain
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmpretrain.datasets import CIFAR10
    from mmpretrain.registry import DATASETS, MODELS

    data = load_dataset("cifar10")

    @DATASETS.register_module()
    class CifarInMemory(CIFAR10):  # type: ignore[misc]  # its files are another form of these arrays
        def load_data_list(self) -> list[dict[str, Any]]:
            split = data.test if self.test_mode else data.train
            return [{"img": image, "gt_label": int(label)} for image, label in
                    zip(split.images, split.labels, strict=True)]  # fmt: skip

    @MODELS.register_module()
    class OurNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            assert build
            self.net = build().to(memory_format=torch.contiguous_format)
            self.net.fc = torch.nn.Identity()
            self.init_cfg = None

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.net(images),)

    configs = Path(mmpretrain.__file__).parent / ".mim" / "configs"
    config = Config.fromfile(configs / "resnet" / "resnet18_8xb16_cifar10.py")
    config.train_dataloader.dataset.type = config.val_dataloader.dataset.type = "CifarInMemory"
    config.test_dataloader = config.test_cfg = config.test_evaluator = None
    if build:
        config.model = {"type": "ImageClassifier", "backbone": {"type": "OurNet"},
                        "head": {"type": "LinearClsHead", "num_classes": 10, "in_channels": 64,
                                 "loss": {"type": "CrossEntropyLoss"}}}  # fmt: skip
    init_default_scope("mmpretrain")
    return config


@contextmanager
def ready_runner(config: Any, hook: Any) -> Iterator[Any]:
    """Give mmpretrain's Runner with a hook that is called last, in a folder that goes with the block."""
    from mmengine.runner import Runner

    with tempfile.TemporaryDirectory() as folder:
        config.work_dir = folder
        runner = Runner.from_cfg(config)
        runner.register_hook(hook, priority="LOWEST")
        yield runner
