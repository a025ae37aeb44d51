"""VGG-16 and VGG-19 (arXiv 1409.1556), the yardstick of the ResNet paper's claim of lower complexity."""

from __future__ import annotations

from torch import Tensor, nn

CONVS_PER_STAGE = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


class Vgg(nn.Module):
    """A VGG net without norms, as the paper of 2014 has it; parameter names follow torchvision."""

    def __init__(self, convs_per_stage: tuple[int, ...], num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels = 3
        for convs, width in zip(convs_per_stage, WIDTHS, strict=True):
            for _ in range(convs):
                self.features.append(nn.Conv2d(channels, width, 3, padding=1))
                self.features.append(nn.ReLU(inplace=True))
                channels = width
            self.features.append(nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, 3, 224, 224]."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))  # [N, 512, 7, 7] -> [N, 25088]
        return logits
