"""The CIFAR-10 nets of He et al. (arXiv 1512.03385, section 4.2) and their plain twins.

run: resnetkit train resnet20      published test error: 8.75, 7.51, 7.17, 6.97, 6.43 (best of 5), 7.93 %
64k steps of 128 images on two GPUs: BatchNorm's statistics are those of 64 images.  The paper chose its schedule
on 45k images and 5k for validation: --set val_images=5000.  The plain twins are for the comparison of its figure 6;
one of 1202 layers, which the paper does not have, diverges in its second step at this rate and has no recipe.
"""

from resnetkit.recipe import Flip, PadCrop, Recipe, Sgd, StepDecay, SubtractMeanImage, View, Warmup

# "0.01 until the training error is below 80 % (about 400 iterations)"
WARMUP_110 = Warmup(shape="constant", start_factor=0.1, warmup_steps=400)


def paper_net(name: str, warmup: Warmup | None = None) -> Recipe:
    """Return the recipe of one net: they differ in the net, and the 110-layer one in its warm-up."""
    return Recipe(
        name=name,
        model=name,
        data="cifar10",
        image_size=32,
        batch_size=128,
        microbatch_size=64,
        optim=Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=StepDecay(drop_steps=(32_000, 48_000), drop_factor=0.1),
        warmup=warmup,
        total_steps=64_000,
        preprocess=SubtractMeanImage(),
        view=View(resize_size=32, crop_size=32),
        augment=(PadCrop(padding=4), Flip()),
    )


RECIPES = tuple(
    paper_net(f"{kind}{depth}", WARMUP_110 if depth == 110 else None)
    for kind in ("resnet", "plain")
    for depth in (20, 32, 44, 56, 110, 1202)
    if (kind, depth) != ("plain", 1202)
)
