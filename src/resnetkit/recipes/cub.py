"""The page's CUB-200-2011 row: ResNet-50 at 448 pixels, from the weights of its row resnet50-mill_in21k.

run: resnetkit train resnet50_8xb8_cub --data DIR      published top-1: 88.45 %
The page's configs feed ImageNet's mean and std, although the weights were trained on pixels in [0, 1] as they are.
mmpretrain 1.x shifts the cosine behind the warm-up.
"""

from dataclasses import replace

from resnetkit.recipe import Cosine, Flip, Normalize, RandomCrop, Recipe, Resize, Sgd, View, Warmup
from resnetkit.recipes.imagenet import MEAN, STD

WARMUP = Warmup(shape="linear", start_factor=0.01, warmup_epochs=5)

ROW = Recipe(
    name="resnet50_8xb8_cub",
    model="resnet50",
    data="cub200",
    image_size=448,
    batch_size=64,
    microbatch_size=8,
    optim=Sgd(lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=Cosine(falls="every_epoch"),
    warmup=WARMUP,
    total_epochs=100,
    preprocess=Normalize(MEAN, STD),
    view=View(resize_size=600, crop_size=448, family="cv2-bilinear", keep_ratio=False),
    augment=(Resize(size=600, family="cv2-bilinear", keep_ratio=False), RandomCrop(), Flip()),
    init_from="resnet50-mill_in21k",
    log_every_steps=20,
)

RECIPES = (
    ROW,
    replace(
        ROW,
        name="resnet50_8xb8_cub-mmpretrain1x",
        schedule=Cosine(falls="every_epoch", after_warmup=True),
        warmup=replace(WARMUP, full_rate_at="last_step"),
    ),
)
