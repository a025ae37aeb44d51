"""The page's three "rsb" rows: ResNet-50 by the procedures of "ResNet strikes back" (arXiv 2110.00476), as ported.

run: resnetkit train resnet50_8xb256-rsb-a3-100e_in1k --data DIR      published top-1: 80.12, 79.55, 78.30 %
The rows have the values of mmclassification 0.x, which trained the published weights; mmpretrain 1.x has others under
the same names, and here they end in -mmpretrain1x.  A3 trains at 160 pixels and is evaluated at 224.
"""

from dataclasses import replace

from resnetkit.recipe import (
    BinaryCrossEntropy,
    Cosine,
    CrossEntropy,
    CutMix,
    Flip,
    Lamb,
    Mixup,
    Normalize,
    RandAugment,
    RandomResizedCrop,
    Recipe,
    RepeatedAugmentation,
    View,
    Warmup,
)
from resnetkit.recipes.imagenet import MEAN, STD

MIN_LR = 1e-6  # where the cosine ends


def mixes(alpha: float) -> tuple[Mixup | CutMix, ...]:
    """Return mixup or cutmix, one of the two for every micro-batch."""
    return Mixup(alpha=alpha, probability=0.5), CutMix(alpha=1.0, probability=0.5)


A2 = Recipe(
    name="resnet50_8xb256-rsb-a2-300e_in1k",
    model="resnet50",
    data="imagenet1k",
    image_size=224,
    batch_size=2048,
    microbatch_size=256,
    optim=Lamb(lr=0.005, weight_decay=0.02, decay_norms_and_biases=False),
    schedule=Cosine(final_factor=MIN_LR / 0.005, falls="every_epoch"),
    warmup=Warmup(shape="linear", start_factor=1e-4, warmup_epochs=5),
    total_epochs=300,
    preprocess=Normalize(MEAN, STD),
    view=View(resize_size=236, crop_size=224, family="cv2-bilinear"),
    augment=(RandomResizedCrop(family="cv2-bilinear"), Flip(), RandAugment(level=7)),
    loss=BinaryCrossEntropy(),
    mix=mixes(alpha=0.1),
    repeated_augmentation=RepeatedAugmentation(),
    drop_path_rate=0.05,
    zero_init_last=True,
    sync_batchnorm=True,
)
A1 = replace(
    A2,
    name="resnet50_8xb256-rsb-a1-600e_in1k",
    optim=Lamb(lr=0.005, weight_decay=0.01, decay_norms_and_biases=False),
    total_epochs=600,
    loss=CrossEntropy(label_smoothing=0.1),
    mix=mixes(alpha=0.2),
)
A3 = replace(
    A2,
    name="resnet50_8xb256-rsb-a3-100e_in1k",
    image_size=160,
    optim=Lamb(lr=0.008, weight_decay=0.02, decay_norms_and_biases=False),
    schedule=Cosine(final_factor=MIN_LR / 0.008, falls="every_epoch"),
    total_epochs=100,
    augment=(RandomResizedCrop(family="cv2-bilinear"), Flip(), RandAugment(level=6)),
    repeated_augmentation=None,
    drop_path_rate=0.0,
)


def of_1x(row: Recipe, loss: CrossEntropy | BinaryCrossEntropy) -> Recipe:
    """Return what mmpretrain 1.x made of a row: its loss, bicubic photos of 224 pixels, schedule and drop path."""
    assert isinstance(row.schedule, Cosine)
    assert row.warmup is not None
    return replace(
        row,
        name=f"{row.name}-mmpretrain1x",
        image_size=224,
        loss=loss,
        schedule=replace(row.schedule, after_warmup=True),
        warmup=replace(row.warmup, full_rate_at="last_step"),
        view=replace(row.view, family="pillow-bicubic"),
        augment=(RandomResizedCrop(family="pillow-bicubic"), *row.augment[1:]),
        drop_path_shape="linear",
        repeated_augmentation=row.repeated_augmentation and RepeatedAugmentation(round_to=1),
    )


RECIPES = (
    *(A1, A2, A3),
    of_1x(A1, BinaryCrossEntropy(label_smoothing=0.1)),
    of_1x(A2, BinaryCrossEntropy()),
    of_1x(A3, BinaryCrossEntropy()),
)
