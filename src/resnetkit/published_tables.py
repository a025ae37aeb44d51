"""The weights of ResNets that torchvision and timm publish: name, file, and how their publisher evaluates them.

Facts: torchvision 0.29.1 (torchvision/models/resnet.py), timm 1.0.31 (timm/models/resnet.py); compared with what is
installed by tests/test_published.py and tests/parity/published.py.  A file's name ends in the first digits of its
SHA-256.  Of timm's, four are not here: they are on the hub only, without a hash in their name.
"""

from __future__ import annotations

from resnetkit.recipe import ResizeFamily

TORCH = "https://download.pytorch.org/models/"
FB = "https://dl.fbaipublicfiles.com/semiweaksupervision/model_files/"
GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/"
TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights/"
RSB = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights/"
TIMM_OLD = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
RSB_OLD = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-rsb-weights/"
LICENCES = {TORCH: "bsd-3-clause", FB: "cc-by-nc-4.0"}  # as timm says; apache-2.0 from anywhere else

# name, file, percent top-1 and top-5 of ImageNet's 50,000 validation images, short side before a crop of 224
TORCHVISION: tuple[tuple[str, str, float, float, int], ...] = (
    ("resnet18.IMAGENET1K_V1", "resnet18-f37072fd.pth", 69.758, 89.078, 256),
    ("resnet34.IMAGENET1K_V1", "resnet34-b627a593.pth", 73.314, 91.420, 256),
    ("resnet50.IMAGENET1K_V1", "resnet50-0676ba61.pth", 76.130, 92.862, 256),
    ("resnet50.IMAGENET1K_V2", "resnet50-11ad3fa6.pth", 80.858, 95.434, 232),
    ("resnet101.IMAGENET1K_V1", "resnet101-63fe2227.pth", 77.374, 93.546, 256),
    ("resnet101.IMAGENET1K_V2", "resnet101-cd907fc2.pth", 81.886, 95.780, 232),
    ("resnet152.IMAGENET1K_V1", "resnet152-394f9c45.pth", 78.312, 94.046, 256),
    ("resnet152.IMAGENET1K_V2", "resnet152-f82ba261.pth", 82.284, 96.002, 232),
    ("wide_resnet50_2.IMAGENET1K_V1", "wide_resnet50_2-95faca4d.pth", 78.468, 94.086, 256),
    ("wide_resnet50_2.IMAGENET1K_V2", "wide_resnet50_2-9ba9bcbe.pth", 81.602, 95.758, 232),
    ("wide_resnet101_2.IMAGENET1K_V1", "wide_resnet101_2-32ee1156.pth", 78.848, 94.284, 256),
    ("wide_resnet101_2.IMAGENET1K_V2", "wide_resnet101_2-d733dc28.pth", 82.510, 96.020, 232),
)

# name, where, file, crop and short side before it (timm's test sizes, where it has some), resize
TIMM_WEIGHTS: tuple[tuple[str, str, str, int, int, ResizeFamily], ...] = (
    ("resnet18.a1_in1k", RSB, "resnet18_a1_0-d63eafa0.pth", 288, 288, "pillow-bicubic"),
    ("resnet18.a2_in1k", RSB, "resnet18_a2_0-b61bd467.pth", 288, 288, "pillow-bicubic"),
    ("resnet18.a3_in1k", RSB, "resnet18_a3_0-40c531c8.pth", 224, 235, "pillow-bicubic"),
    ("resnet18.fb_ssl_yfcc100m_ft_in1k", FB, "semi_supervised_resnet18-d92f0530.pth", 224, 256, "pillow-bilinear"),
    ("resnet18.fb_swsl_ig1b_ft_in1k", FB, "semi_weakly_supervised_resnet18-118f1556.pth", 224, 256, "pillow-bilinear"),
    ("resnet18.gluon_in1k", GLUON, "gluon_resnet18_v1b-0757602b.pth", 224, 256, "pillow-bicubic"),
    ("resnet18.tv_in1k", TORCH, "resnet18-f37072fd.pth", 224, 256, "pillow-bilinear"),
    ("resnet18d.ra2_in1k", TIMM_OLD, "resnet18d_ra2-48a79e06.pth", 288, 303, "pillow-bicubic"),
    ("resnet34.a1_in1k", RSB, "resnet34_a1_0-46f8f793.pth", 288, 288, "pillow-bicubic"),
    ("resnet34.a2_in1k", RSB, "resnet34_a2_0-82d47d71.pth", 288, 288, "pillow-bicubic"),
    ("resnet34.a3_in1k", RSB, "resnet34_a3_0-a20cabb6.pth", 224, 235, "pillow-bicubic"),
    ("resnet34.bt_in1k", TIMM_OLD, "resnet34-43635321.pth", 288, 303, "pillow-bicubic"),
    ("resnet34.gluon_in1k", GLUON, "gluon_resnet34_v1b-c6d82d59.pth", 224, 256, "pillow-bicubic"),
    ("resnet34.tv_in1k", TORCH, "resnet34-b627a593.pth", 224, 256, "pillow-bilinear"),
    ("resnet34d.ra2_in1k", TIMM_OLD, "resnet34d_ra2-f8dcfcaf.pth", 288, 303, "pillow-bicubic"),
    ("resnet50.a1_in1k", RSB_OLD, "resnet50_a1_0-14fe96d1.pth", 288, 288, "pillow-bicubic"),
    ("resnet50.a1h_in1k", RSB, "resnet50_a1h2_176-001a1197.pth", 224, 224, "pillow-bicubic"),
    ("resnet50.a2_in1k", RSB, "resnet50_a2_0-a2746f79.pth", 288, 288, "pillow-bicubic"),
    ("resnet50.a3_in1k", RSB, "resnet50_a3_0-59cae1ef.pth", 224, 235, "pillow-bicubic"),
    ("resnet50.am_in1k", TIMM, "resnet50_am-6c502b37.pth", 224, 256, "pillow-bicubic"),
    ("resnet50.b1k_in1k", RSB, "resnet50_b1k-532a802a.pth", 288, 288, "pillow-bicubic"),
    ("resnet50.b2k_in1k", RSB, "resnet50_b2k-1ba180c1.pth", 288, 288, "pillow-bicubic"),
    ("resnet50.bt_in1k", TIMM, "rw_resnet50-86acaeed.pth", 288, 303, "pillow-bicubic"),
    ("resnet50.c1_in1k", RSB, "resnet50_c1-5ba5e060.pth", 288, 288, "pillow-bicubic"),
    ("resnet50.c2_in1k", RSB, "resnet50_c2-d01e05b2.pth", 288, 288, "pillow-bicubic"),
    ("resnet50.d_in1k", RSB, "resnet50_d-f39db8af.pth", 288, 288, "pillow-bicubic"),
    ("resnet50.fb_ssl_yfcc100m_ft_in1k", FB, "semi_supervised_resnet50-08389792.pth", 224, 256, "pillow-bilinear"),
    ("resnet50.fb_swsl_ig1b_ft_in1k", FB, "semi_weakly_supervised_resnet50-16a12f1b.pth", 224, 256, "pillow-bilinear"),
    ("resnet50.gluon_in1k", GLUON, "gluon_resnet50_v1b-0ebe02e2.pth", 224, 256, "pillow-bicubic"),
    ("resnet50.ra_in1k", TIMM, "resnet50_ra-85ebb6e5.pth", 288, 303, "pillow-bicubic"),
    ("resnet50.ram_in1k", TIMM, "resnet50_ram-a26f946b.pth", 288, 303, "pillow-bicubic"),
    ("resnet50.tv2_in1k", TORCH, "resnet50-11ad3fa6.pth", 224, 232, "pillow-bilinear"),
    ("resnet50.tv_in1k", TORCH, "resnet50-0676ba61.pth", 224, 256, "pillow-bilinear"),
    ("resnet50c.gluon_in1k", GLUON, "gluon_resnet50_v1c-48092f55.pth", 224, 256, "pillow-bicubic"),
    ("resnet50d.a1_in1k", RSB, "resnet50d_a1_0-e20cff14.pth", 288, 288, "pillow-bicubic"),
    ("resnet50d.a2_in1k", RSB, "resnet50d_a2_0-a3adc64d.pth", 288, 288, "pillow-bicubic"),
    ("resnet50d.a3_in1k", RSB, "resnet50d_a3_0-403fdfad.pth", 224, 235, "pillow-bicubic"),
    ("resnet50d.gluon_in1k", GLUON, "gluon_resnet50_v1d-818a1b1b.pth", 224, 256, "pillow-bicubic"),
    ("resnet50d.ra2_in1k", TIMM_OLD, "resnet50d_ra2-464e36ba.pth", 288, 303, "pillow-bicubic"),
    ("resnet101.a1_in1k", RSB, "resnet101_a1_0-cdcb52a9.pth", 288, 288, "pillow-bicubic"),
    ("resnet101.a1h_in1k", RSB_OLD, "resnet101_a1h-36d3f2aa.pth", 288, 288, "pillow-bicubic"),
    ("resnet101.a2_in1k", RSB, "resnet101_a2_0-6edb36c7.pth", 288, 288, "pillow-bicubic"),
    ("resnet101.a3_in1k", RSB, "resnet101_a3_0-1db14157.pth", 224, 235, "pillow-bicubic"),
    ("resnet101.gluon_in1k", GLUON, "gluon_resnet101_v1b-3b017079.pth", 224, 256, "pillow-bicubic"),
    ("resnet101.tv2_in1k", TORCH, "resnet101-cd907fc2.pth", 224, 232, "pillow-bilinear"),
    ("resnet101.tv_in1k", TORCH, "resnet101-63fe2227.pth", 224, 256, "pillow-bilinear"),
    ("resnet101c.gluon_in1k", GLUON, "gluon_resnet101_v1c-1f26822a.pth", 224, 256, "pillow-bicubic"),
    ("resnet101d.gluon_in1k", GLUON, "gluon_resnet101_v1d-0f9c8644.pth", 224, 256, "pillow-bicubic"),
    ("resnet101d.ra2_in1k", TIMM_OLD, "resnet101d_ra2-2803ffab.pth", 320, 320, "pillow-bicubic"),
    ("resnet152.a1_in1k", RSB, "resnet152_a1_0-2eee8a7a.pth", 288, 288, "pillow-bicubic"),
    ("resnet152.a1h_in1k", RSB_OLD, "resnet152_a1h-dc400468.pth", 288, 288, "pillow-bicubic"),
    ("resnet152.a2_in1k", RSB, "resnet152_a2_0-b4c6978f.pth", 288, 288, "pillow-bicubic"),
    ("resnet152.a3_in1k", RSB, "resnet152_a3_0-134d4688.pth", 224, 235, "pillow-bicubic"),
    ("resnet152.gluon_in1k", GLUON, "gluon_resnet152_v1b-c1edb0dd.pth", 224, 256, "pillow-bicubic"),
    ("resnet152.tv2_in1k", TORCH, "resnet152-f82ba261.pth", 224, 232, "pillow-bilinear"),
    ("resnet152.tv_in1k", TORCH, "resnet152-394f9c45.pth", 224, 256, "pillow-bilinear"),
    ("resnet152c.gluon_in1k", GLUON, "gluon_resnet152_v1c-a3bb0b98.pth", 224, 256, "pillow-bicubic"),
    ("resnet152d.gluon_in1k", GLUON, "gluon_resnet152_v1d-bd354e12.pth", 224, 256, "pillow-bicubic"),
    ("resnet152d.ra2_in1k", TIMM_OLD, "resnet152d_ra2-5cac0439.pth", 320, 320, "pillow-bicubic"),
    ("wide_resnet50_2.racm_in1k", TIMM_OLD, "wide_resnet50_racm-8234f177.pth", 288, 303, "pillow-bicubic"),
    ("wide_resnet50_2.tv2_in1k", TORCH, "wide_resnet50_2-9ba9bcbe.pth", 224, 232, "pillow-bilinear"),
    ("wide_resnet50_2.tv_in1k", TORCH, "wide_resnet50_2-95faca4d.pth", 224, 256, "pillow-bilinear"),
    ("wide_resnet101_2.tv2_in1k", TORCH, "wide_resnet101_2-d733dc28.pth", 224, 232, "pillow-bilinear"),
    ("wide_resnet101_2.tv_in1k", TORCH, "wide_resnet101_2-32ee1156.pth", 224, 256, "pillow-bilinear"),
)

# What the plain name of a net means: the default of each library.
DEFAULTS: dict[str, dict[str, str]] = {
    "torchvision": {
        **dict.fromkeys(("resnet18", "resnet34"), "IMAGENET1K_V1"),
        **dict.fromkeys(("resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"), "IMAGENET1K_V2"),
    },
    "timm": {
        **dict.fromkeys(("resnet18", "resnet34", "resnet50"), "a1_in1k"),
        **dict.fromkeys(("resnet101", "resnet152"), "a1h_in1k"),
        **dict.fromkeys(("resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d"), "ra2_in1k"),
        **dict.fromkeys(("resnet50c", "resnet101c", "resnet152c"), "gluon_in1k"),
        "wide_resnet50_2": "racm_in1k",
        "wide_resnet101_2": "tv_in1k",
    },
}
