"""The CIFAR rows of the OpenMMLab ResNet page, with the values of mmclassification 0.x that trained its weights.

run: resnetkit train resnet18_8xb16_cifar10
published top-1: CIFAR-10 94.82, 95.34, 95.55, 95.58, 95.76 % (18 to 152 layers), CIFAR-100 79.90 % (50 layers)
BatchNorm's statistics are those of 16 images, as on each of the eight GPUs.
"""

from dataclasses import replace

from resnetkit.recipe import Flip, Mixup, Normalize, PadCrop, Recipe, Sgd, StepDecay, View

MEAN = (125.307 / 255, 122.961 / 255, 113.8575 / 255)  # mmclassification's cifar10_bs16.py, pixels in [0, 1]
STD = (51.5865 / 255, 50.847 / 255, 51.255 / 255)
MEAN_100 = (129.304 / 255, 124.070 / 255, 112.434 / 255)  # cifar100_bs16.py
STD_100 = (68.170 / 255, 65.392 / 255, 70.418 / 255)


def page_row(depth: int) -> Recipe:
    """Return the CIFAR-10 row of one depth: they differ in nothing else."""
    return Recipe(
        name=f"resnet{depth}_8xb16_cifar10",
        model=f"resnet{depth}_cifar",
        data="cifar10",
        image_size=32,
        batch_size=128,
        microbatch_size=16,
        optim=Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=StepDecay(drop_epochs=(100, 150), drop_factor=0.1),
        total_epochs=200,
        preprocess=Normalize(MEAN, STD),
        view=View(resize_size=32, crop_size=32),
        augment=(PadCrop(padding=4), Flip()),
        zero_init_last=True,
    )


CIFAR100 = replace(
    page_row(50),
    name="resnet50_8xb16_cifar100",
    data="cifar100",
    optim=Sgd(lr=0.1, momentum=0.9, weight_decay=5e-4),
    schedule=StepDecay(drop_epochs=(60, 120, 160), drop_factor=0.2),
    preprocess=Normalize(MEAN_100, STD_100),
)
# a config beside the page, without a row
MIXUP = replace(page_row(50), name="resnet50_8xb16-mixup_cifar10", mix=(Mixup(alpha=1.0),))

RECIPES = (*(page_row(depth) for depth in (18, 34, 50, 101, 152)), CIFAR100, MIXUP)
