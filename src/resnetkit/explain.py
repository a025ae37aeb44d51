"""Where a model looks for a class: Grad-CAM for any stage (arXiv 1610.02391), on torch.

For the last stage of a ResNet it is the class activation map, but for a factor: pooled features and one linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess
from resnetkit.errors import BadRequest
from resnetkit.heat import Heat
from resnetkit.models import ResNet


@dataclass(frozen=True)
class Explanation:
    """What a model says of an image, and where it looked for a class."""

    probs: NDArray[np.float32]  # [classes]
    index: int  # of the class that is explained
    heat: Heat  # [h, w] of the stage's map; negative: it speaks against the class


def grad_cam(
    model: ResNet,
    preprocess: Preprocess,
    images: NDArray[np.uint8],  # [N, image_size, image_size, 3]
    indices: Sequence[int | None],  # of the classes to explain; None: the most likely of the image
    stage: int | None = None,  # from 1; None: the last
    temperature: float = 1.0,  # of the probabilities: what is stored with the weights
) -> list[Explanation]:
    """Weigh each channel of a stage's map by how the class's logit changes with it, and add them up, place by place.

    Raises BadRequest for a stage or a class that the model has not.
    """
    stages = len(model.arch.depths)
    number = stages if stage is None else stage
    if not 1 <= number <= stages:
        raise BadRequest(f"--stage: expected 1 to {stages}, got {stage}")
    classes = model.arch.num_classes
    wrong = [index for index in indices if index is not None and not 0 <= index < classes]
    if wrong:
        raise BadRequest(f"no class {wrong[0]}", f"expected 0 to {classes - 1}")
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            maps = model.features(preprocess.normalize(torch.from_numpy(images)))
            logits = model.fc(maps[-1].mean((2, 3)))
            chosen = torch.tensor([int(row.argmax()) if index is None else index
                                   for row, index in zip(logits, indices, strict=True)])  # fmt: skip
            # The logits of different images do not touch: the gradient of their sum has each one's own.
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), maps[number - 1])
        heat = (gradient.mean((2, 3), keepdim=True) * maps[number - 1]).sum(1).detach()
    finally:
        model.train(was_training)
    probs = (logits.detach() / temperature).softmax(1)
    return [Explanation(*row) for row in zip(probs.numpy(), chosen.tolist(), heat.numpy(), strict=True)]
