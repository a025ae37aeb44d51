"""The ImageNet nets of He et al. (arXiv 1512.03385, section 3.4) and their plain twins.

run: resnetkit train resnet34_a --data DIR      published top-1 error, ten crops: `resnetkit zoo`
The short side is drawn from 256 to 480, 224 pixels are cropped and flipped, the mean image is subtracted, colours are
shifted as in AlexNet; SGD with 256 images, rate 0.1, divided by ten when the error plateaus, 600,000 steps at most.
The paper does not say: how many images are on a device (32 here), which error plateaus for how long (here that of the
evaluated images, for five epochs), how photos are resized (antialiased bilinear here).  Nets of 50 layers and more have
their stride on the first 1x1, as the paper's.
"""

from resnetkit.recipe import (
    Flip,
    PcaLighting,
    Plateau,
    RandomCrop,
    Recipe,
    ScaleJitter,
    Sgd,
    SubtractMeanImage,
    View,
)

MODELS = (
    *("plain18", "plain34", "resnet18_a", "resnet18", "resnet18_c", "resnet34_a", "resnet34", "resnet34_c"),
    *("resnet50_caffe", "resnet101_caffe", "resnet152_caffe"),
)


def paper_net(model: str) -> Recipe:
    """Return the recipe of one net: they differ in nothing else."""
    return Recipe(
        name=model,
        model=model,
        data="imagenet1k",
        image_size=224,
        batch_size=256,
        microbatch_size=32,
        optim=Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=Plateau(drop_factor=0.1, patience_evaluations=5, min_improvement=0.001),
        total_steps=600_000,
        preprocess=SubtractMeanImage(),
        view=View(resize_size=256, crop_size=224, family="pillow-bilinear"),
        augment=(ScaleJitter(256, 480, "pillow-bilinear"), RandomCrop(), Flip(), PcaLighting(std=0.1)),
    )


RECIPES = tuple(paper_net(model) for model in MODELS)
