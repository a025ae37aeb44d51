"""A small net in a few minutes, to see everything work.  run: make quickstart

expect: top-1 79.4 % (78.98 to 80.02 over seeds 0, 1, 2) in 1:30 on 2 cores of an AMD EPYC, 2026-11-23
"""

from resnetkit.recipe import Flip, Linear, Normalize, PadCrop, Recipe, Sgd, View, Warmup
from resnetkit.recipes.cifar import MEAN, STD

RECIPES = (
    Recipe(
        name="quickstart",
        model="resnet8",
        data="cifar10",
        image_size=32,
        batch_size=128,
        microbatch_size=128,
        optim=Sgd(lr=0.5, nesterov=True, weight_decay=5e-4, decay_norms_and_biases=False),
        schedule=Linear(),
        warmup=Warmup(shape="linear", start_factor=0.1, warmup_epochs=1.0),
        total_epochs=4.0,
        preprocess=Normalize(MEAN, STD),
        view=View(resize_size=32, crop_size=32),
        augment=(PadCrop(padding=2, mode="reflect"), Flip(alternating=True)),
        save_every_steps=100,
    ),
)
