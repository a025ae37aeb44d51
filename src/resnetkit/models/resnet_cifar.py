"""The paper's CIFAR nets of depth 6n+2 (arXiv 1512.03385, section 4.2) and their plain twins."""

from __future__ import annotations

from resnetkit.models.resnet import Architecture, Shortcut


def cifar_architecture(n: int, shortcut: Shortcut = "A", num_classes: int = 10) -> Architecture:
    """Describe the net with 6n+2 layers: three stages of n blocks on maps of 32, 16 and 8 pixels."""
    if n < 1:
        raise ValueError(f"n is the number of blocks in a stage: expected 1 or more, got {n}")
    return Architecture(
        block="basic",
        depths=(n, n, n),
        widths=(16, 32, 64),
        stem="3x3",
        stem_width=16,
        shortcut=shortcut,
        num_classes=num_classes,
    )
