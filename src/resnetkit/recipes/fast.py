"""The paper's ResNet-20 for CIFAR-10 in 24 epochs, not 164; the net is unchanged.

run: resnetkit train fast_resnet20
expect: top-1 91.8 % +- 0.3 on the test images (results/fast-resnet20.json)
"""

from resnetkit.recipe import Flip, Linear, Muon, Normalize, PadCrop, Recipe, View, Warmup
from resnetkit.recipes.cifar import MEAN, STD

RECIPES = (
    Recipe(
        name="fast_resnet20",
        model="resnet20",
        data="cifar10",
        image_size=32,
        batch_size=128,
        microbatch_size=128,
        optim=Muon(lr=0.03, momentum=0.8, sgd_lr=0.3, weight_decay=5e-4),
        schedule=Linear(),
        warmup=Warmup(shape="linear", start_factor=0.1, warmup_epochs=4.8),
        total_epochs=24.0,
        preprocess=Normalize(MEAN, STD),
        view=View(resize_size=32, crop_size=32),
        augment=(PadCrop(padding=4, mode="reflect"), Flip(alternating=True)),
        eval_every_epochs=2.0,
    ),
)
