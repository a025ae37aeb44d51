"""The ImageNet rows of the OpenMMLab ResNet page but for "rsb", and the configs beside them that have no row.

run: resnetkit train resnet50_8xb32_in1k --data DIR      DIR/train/CLASS/*.JPEG and DIR/val/CLASS/*.JPEG
published top-1: `resnetkit zoo`.  The values are those of mmclassification 0.x, which trained the published weights.
BatchNorm's statistics are those of the images on one GPU, 32 in the rows.  The wide nets' weights are torchvision's:
their recipe is the page's, and nobody says that it trains them.
"""

from dataclasses import replace

from resnetkit.recipe import (
    Amp,
    Cosine,
    CrossEntropy,
    CutMix,
    Flip,
    Mixup,
    Normalize,
    RandomResizedCrop,
    Recipe,
    ResizeFamily,
    Sgd,
    StepDecay,
    View,
    Warmup,
)

MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)  # RGB, pixels in [0, 1]
STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)


def page_row(name: str, model: str, family: ResizeFamily) -> Recipe:
    """Return a row: they differ in the net and in how photos are resized."""
    return Recipe(
        name=f"{name}_8xb32_in1k",
        model=model,
        data="imagenet1k",
        image_size=224,
        batch_size=256,
        microbatch_size=32,
        optim=Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=StepDecay(drop_epochs=(30, 60, 90), drop_factor=0.1),
        total_epochs=100,
        preprocess=Normalize(MEAN, STD),
        view=View(resize_size=256, crop_size=224, family=family),
        augment=(RandomResizedCrop(family=family), Flip()),
        zero_init_last=True,
    )


RESNET50 = page_row("resnet50", "resnet50", "cv2-bilinear")

ROWS = (
    *(page_row(f"resnet{depth}", f"resnet{depth}", "cv2-bilinear") for depth in (18, 34, 50, 101, 152)),
    *(page_row(f"resnetv1c{depth}", f"resnetv1c{depth}", "pillow-bilinear") for depth in (50, 101, 152)),
    *(page_row(f"resnetv1d{depth}", f"resnetv1d{depth}", "pillow-bilinear") for depth in (50, 101, 152)),
    replace(RESNET50, name="resnet50_8xb32-fp16_in1k", amp=Amp(loss_scale=512.0)),
    page_row("wide-resnet50", "wide_resnet50_2", "pillow-bilinear"),
    page_row("wide-resnet101", "wide_resnet101_2", "pillow-bilinear"),
)

COSINE = Cosine(falls="every_epoch")
WARMUP = Warmup(shape="linear", start_factor=0.25, warmup_steps=2500)
# 32 GPUs of 64 images
LARGE_BATCH = replace(
    RESNET50,
    name="resnet50_32xb64-warmup_in1k",
    batch_size=2048,
    microbatch_size=64,
    optim=Sgd(lr=0.8, momentum=0.9, nesterov=True, weight_decay=1e-4),
    warmup=WARMUP,
)
SMOOTH = CrossEntropy(label_smoothing=0.1)
# mmpretrain 1.x reaches the full rate one step earlier, and shifts the cosine behind a warm-up of five epochs
WARMUP_1X = replace(WARMUP, full_rate_at="last_step")
LARGE_BATCH_1X = (
    replace(LARGE_BATCH, name="resnet50_32xb64-warmup_in1k-mmpretrain1x", warmup=WARMUP_1X),
    replace(LARGE_BATCH, name="resnet50_32xb64-warmup-lbs_in1k-mmpretrain1x", warmup=WARMUP_1X, loss=SMOOTH),
    replace(
        LARGE_BATCH,
        name="resnet50_32xb64-warmup-coslr_in1k-mmpretrain1x",
        schedule=replace(COSINE, after_warmup=True),
        warmup=replace(WARMUP_1X, warmup_steps=0, warmup_epochs=5),
    ),
)
# configs beside the page, without a row
SIBLINGS = (
    replace(RESNET50, name="resnet50_8xb32-coslr_in1k", schedule=COSINE),
    replace(RESNET50, name="resnet50_8xb32-coslr-preciseBN_in1k", schedule=COSINE, precise_bn_images=8192),
    replace(RESNET50, name="resnet50_8xb32-lbs_in1k", loss=SMOOTH),
    replace(RESNET50, name="resnet50_8xb32-mixup_in1k", mix=(Mixup(alpha=0.2),)),
    replace(RESNET50, name="resnet50_8xb32-cutmix_in1k", mix=(CutMix(alpha=1.0),)),
    replace(RESNET50, name="resnet50_8xb32-fp16-dynamic_in1k", amp=Amp()),
    LARGE_BATCH,
    replace(LARGE_BATCH, name="resnet50_32xb64-warmup-coslr_in1k", schedule=COSINE),
    replace(LARGE_BATCH, name="resnet50_32xb64-warmup-lbs_in1k", loss=SMOOTH),
    replace(
        RESNET50,
        name="resnet50_8xb128_coslr-90e_in21k",
        data="imagenet21k",
        batch_size=1024,
        microbatch_size=128,
        optim=Sgd(lr=0.8, momentum=0.9, weight_decay=5e-5),
        schedule=COSINE,
        warmup=Warmup(shape="linear", start_factor=0.1, warmup_epochs=5),
        total_epochs=90,
    ),
    # timm's weights, top-1 81.45 %: the recipe is nominal here too
    page_row("wide-resnet50_timm", "wide_resnet50_2", "pillow-bicubic"),
)

RECIPES = ROWS + SIBLINGS + LARGE_BATCH_1X
