"""The CIFAR-10 rows of the OpenMMLab ResNet page, with the values of mmclassification 0.x that trained its weights.

run: resnetkit train resnet18_8xb16_cifar10      published top-1: 94.82, 95.34, 95.55, 95.58, 95.76 %
BatchNorm's statistics are those of 16 images, as on each of the eight GPUs.
"""

from resnetkit.recipe import Flip, Normalize, PadCrop, Recipe, Sgd, StepDecay

MEAN = (125.307 / 255, 122.961 / 255, 113.8575 / 255)  # mmclassification's cifar10_bs16.py, pixels in [0, 1]
STD = (51.5865 / 255, 50.847 / 255, 51.255 / 255)


def page_row(depth: int) -> Recipe:
    """Return the row of one depth: they differ in nothing else."""
    return Recipe(
        name=f"resnet{depth}_8xb16_cifar10",
        model=f"resnet{depth}_cifar",
        data="cifar10",
        batch_size=128,
        microbatch_size=16,
        optim=Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=StepDecay(drop_epochs=(100, 150), drop_factor=0.1),
        total_epochs=200,
        preprocess=Normalize(MEAN, STD),
        augment=(PadCrop(padding=4), Flip()),
        zero_init_last=True,
    )


RECIPES = tuple(page_row(depth) for depth in (18, 34, 50, 101, 152))
