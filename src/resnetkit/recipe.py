"""The recipe: all that decides a training run's result, typed and frozen.

`recipe_json.py` reads it from JSON and from overrides `field.path=value`, `recipe_checks.py` says what cannot hold,
`assemble.py` makes objects of it and `train.py` follows it; the rest takes plain named arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Balance = Literal["none", "class_weights", "sampling"]
# cv2 resizes without antialias; torch's is pillow-bilinear to one level of 256, and faster
ResizeFamily = Literal["cv2-bilinear", "pillow-bilinear", "pillow-bicubic", "torch-bilinear"]


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum."""

    lr: float  # at factor 1 of the schedule, for the recipe's batch_size
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_norms_and_biases: bool = True
    norm_bias_lr_factor: float = 1.0  # of the rate, for the biases of norms


@dataclass(frozen=True)
class Muon:
    """Muon for the convolutions: momentum, made orthogonal, as the step (Jordan et al. 2024); SGD for the rest.

    A convolution is kept at the norm of the root of its output channels, which no norm after it sees, so `lr` is what
    a step changes, relative to it.
    """

    lr: float  # of the convolutions, at factor 1 of the schedule
    momentum: float = 0.9
    sgd_lr: float = 0.1  # of the other parameters
    norm_bias_lr_factor: float = 1.0  # of sgd_lr, for the biases of norms
    weight_decay: float = 0.0  # of the head


@dataclass(frozen=True)
class Lamb:
    """LAMB (arXiv 1904.00962); a parameter without decay takes no trust ratio."""

    lr: float
    weight_decay: float = 0.0
    decay_norms_and_biases: bool = True
    max_grad_norm: float = 1.0  # of all gradients together, before anything else


@dataclass(frozen=True)
class StepDecay:
    """Multiply the rate by `drop_factor` at each drop, given in epochs or in steps."""

    drop_epochs: tuple[float, ...] = ()
    drop_steps: tuple[int, ...] = ()
    drop_factor: float = 0.1


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the full rate to `final_factor` of it.

    after_warmup: the curve begins where the warm-up ends (mmpretrain 1.x); else at step 0, and the warm-up multiplies
    it (mmclassification 0.x).
    """

    final_factor: float = 0.0
    falls: Literal["every_step", "every_epoch"] = "every_step"
    after_warmup: bool = False


@dataclass(frozen=True)
class Linear:
    """A straight line from the full rate, at the end of the warm-up, to `final_factor` of it."""

    final_factor: float = 0.0


@dataclass(frozen=True)
class Plateau:
    """Multiply the rate by `drop_factor` when the held-out error has not improved for some evaluations."""

    drop_factor: float = 0.1
    patience_evaluations: int = 5
    min_improvement: float = 0.001  # of the error, a fraction


@dataclass(frozen=True)
class Warmup:
    """A smaller rate at first; its length is given in epochs or in steps.

    full_rate_at: the linear ramp reaches the full rate at the first step after the warm-up (mmclassification 0.x) or
    at its last step (mmpretrain 1.x).
    """

    shape: Literal["linear", "constant"]
    start_factor: float
    warmup_epochs: float = 0.0
    warmup_steps: int = 0
    full_rate_at: Literal["step_after", "last_step"] = "step_after"


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross entropy; smoothing e makes of a target t (1 - e) t + e / classes (arXiv 1512.00567)."""

    label_smoothing: float = 0.0


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """A sigmoid and a binary cross entropy for each class."""

    label_smoothing: float = 0.0
    reduction: Literal["sum_over_classes", "mean_over_classes"] = "sum_over_classes"  # the page's, timm's


@dataclass(frozen=True)
class Mixup:
    """Mix a micro-batch with a permutation of itself, in shares drawn from Beta(alpha, alpha) (arXiv 1710.09412)."""

    alpha: float
    probability: float = 1.0  # one or none of the recipe's mixes is drawn for a micro-batch


@dataclass(frozen=True)
class CutMix:
    """Paste a box of a permutation of the micro-batch, its area drawn from Beta(alpha, alpha) (arXiv 1905.04899)."""

    alpha: float
    probability: float = 1.0


@dataclass(frozen=True)
class PadCrop:
    """Pad each side of an image of the input size by `padding` pixels and take a random crop of it."""

    padding: int
    mode: Literal["zero", "reflect"] = "zero"


@dataclass(frozen=True)
class ProgressiveCrop:
    """Take a random part of the image in the first epochs: of `sizes` pixels a side, each until its epoch.

    Cheaper steps while there is least to learn from the whole image (after progressive resizing, Howard 2018).
    """

    sizes: tuple[int, ...]
    until_epochs: tuple[int, ...]


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability one half; alternating: each image in every second epoch."""

    alternating: bool = False


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a random part of the area, at a random ratio of sides, and resize it to the input size."""

    family: ResizeFamily
    min_area: float = 0.08
    max_area: float = 1.0
    max_ratio: float = 4 / 3  # the smallest is its inverse


@dataclass(frozen=True)
class Resize:
    """Resize the short side, or with `keep_ratio` false both sides, to `size` pixels."""

    size: int
    family: ResizeFamily
    keep_ratio: bool = True


@dataclass(frozen=True)
class ScaleJitter:
    """Resize the short side to a random size (the paper)."""

    min_size: int
    max_size: int
    family: ResizeFamily


@dataclass(frozen=True)
class RandomCrop:
    """Crop the input size at a random place."""


@dataclass(frozen=True)
class PcaLighting:
    """Shift the colour along ImageNet's principal components, by normal draws (AlexNet, the paper)."""

    std: float = 0.1


@dataclass(frozen=True)
class RandAugment:
    """Random operations of the page's fifteen (arXiv 1909.13719)."""

    level: float  # of 10
    level_std: float = 0.5
    num_ops: int = 2
    fill: tuple[int, ...] = (124, 116, 104)  # RGB, where an image was moved away


@dataclass(frozen=True)
class TrivialAugment:
    """One random operation of fourteen (arXiv 2103.10158, wide), as torchvision's."""

    num_levels: int = 31
    fill: tuple[int, ...] = (0, 0, 0)  # RGB, where an image was moved away


@dataclass(frozen=True)
class ColorJitter:
    """Random factors of 1 - x to 1 + x, and a turn of the hue by -x to x of the circle, in random order."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


@dataclass(frozen=True)
class RandomErasing:
    """Put noise, or one colour, into a random box (arXiv 1708.04896)."""

    probability: float = 0.25
    min_area: float = 0.02
    max_area: float = 1 / 3
    max_ratio: float = 10 / 3  # of the sides; the smallest is its inverse
    color: tuple[int, ...] | None = None  # RGB; null: noise


Augmentation = (
    PadCrop | ProgressiveCrop | Flip | RandomResizedCrop | Resize | ScaleJitter | RandomCrop | PcaLighting | RandAugment
    | TrivialAugment | ColorJitter | RandomErasing
)  # fmt: skip


@dataclass(frozen=True)
class Normalize:
    """Subtract `mean` and divide by `std`, one number a channel, pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class SubtractMeanImage:
    """Subtract the mean of the training images at each pixel and channel (the paper)."""

    most_images: int = 100_000  # photos are read for it: of more, this many spread evenly


@dataclass(frozen=True)
class View:
    """What evaluation sees of a photo: resized, then the centre square of `crop_size` pixels."""

    resize_size: int  # pixels of the short side; of both where the ratio is not kept
    crop_size: int
    family: ResizeFamily = "pillow-bilinear"
    keep_ratio: bool = True


@dataclass(frozen=True)
class RepeatedAugmentation:
    """See each image of an epoch several times, differently augmented, and so fewer images (arXiv 1902.05509).

    The copies go to different micro-batches.  An epoch has as many samples as there are images, rounded down to a
    multiple of `round_to` (mmclassification 0.x: 256), or for 1 up to one of the number of micro-batches (1.x).
    """

    repeats: int = 3
    round_to: int = 256


@dataclass(frozen=True)
class Amp:
    """Automatic mixed precision: convolutions and linear layers compute in `dtype`."""

    dtype: Literal["float16", "bfloat16"] = "float16"
    loss_scale: float | None = None  # constant; None: grows and shrinks


@dataclass(frozen=True)
class AverageWeights:
    """Exponential moving average of the weights; it is what is evaluated and kept."""

    decay: float


@dataclass(frozen=True)
class FrozenStart:
    """Fit the head to the features of the frozen body before the first step: a linear classifier, to the end."""

    penalty: float | None = None  # of its weights, as `linear.fit_linear` says; None: chosen on a fifth of the images


@dataclass(frozen=True)
class EarlyStopping:
    """Keep the weights of the smallest loss on val, and end the run after some evaluations that are not better.

    By the loss: top-1 of a hundred images moves in steps of one in a hundred.
    """

    patience_evaluations: int = 5


@dataclass(frozen=True)
class Recipe:
    """All that decides a result."""

    name: str
    model: str  # a name of resnetkit.models
    data: str  # a name of resnetkit.data.spec, or a folder or list of photos
    image_size: int  # pixels a side of what the model is trained on
    batch_size: int  # images per optimizer step, over all devices
    microbatch_size: int  # images per device and forward pass; BatchNorm's statistics are those of a micro-batch
    optim: Sgd | Muon | Lamb
    schedule: StepDecay | Cosine | Linear | Plateau
    preprocess: Normalize | SubtractMeanImage
    view: View
    augment: tuple[Augmentation, ...] = ()  # in this order
    total_epochs: float | None = None  # one of the two
    total_steps: int | None = None
    warmup: Warmup | None = None
    loss: CrossEntropy | BinaryCrossEntropy = CrossEntropy()
    mix: tuple[Mixup | CutMix, ...] = ()
    repeated_augmentation: RepeatedAugmentation | None = None
    init_from: str | None = None  # a model whose weights, all but the head, the run starts from
    unfold_images: int = 0  # training images by which folded norms of the start get scales of their own; 0: left as is
    frozen_start: FrozenStart | None = None
    head_lr_factor: float = 1.0  # of the rate, for the head
    batchnorm: Literal["batch", "running"] = "batch"  # normalises by a micro-batch's statistics, or by those it has
    balance: Balance = "none"  # of unequal classes, by the loss or by the order
    early_stopping: EarlyStopping | None = None
    drop_path_rate: float = 0.0
    drop_path_shape: Literal["constant", "linear"] = "constant"  # over the blocks; linear: from 0 to the rate
    zero_init_last: bool = False  # start the last norm of each block at zero
    sync_batchnorm: bool = False  # BatchNorm's statistics over the micro-batches of all devices
    precise_bn_images: int = 0  # evaluate with the statistics of this many training images; 0: the running ones
    clip_grad_norm: float | None = None  # largest norm of all gradients together
    amp: Amp | None = None
    average_weights: AverageWeights | None = None
    val_images: int = 0  # taken from train and evaluated while training; 0: the data's own val, else the test images
    on_nan: Literal["stop", "rewind"] = "stop"  # rewind: to the last saved state, with half the rate from there on
    quarantine: str | None = None  # a list of photos that are left out: docs/doctor.md
    seed: int = 0
    channels_last: bool = True
    compile: bool = False  # torch.compile
    threads: int | None = None  # of the process, on the CPU; None: as many as torch takes
    keep_freed_memory: bool = True  # on the CPU: glibc keeps what was freed for the next step
    log_every_steps: int = 50
    eval_every_epochs: float = 1.0
    save_every_steps: int = 500

    @property
    def devices(self) -> int:
        """How many devices, or micro-batches one after the other, share a step."""
        return self.batch_size // self.microbatch_size


def total_steps_of(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return how many steps the recipe takes on data of this many steps an epoch."""
    return recipe.total_steps or round((recipe.total_epochs or 0) * steps_per_epoch)


def warmup_steps_of(warmup: Warmup, steps_per_epoch: int) -> int:
    """Return how many steps a warm-up takes on data of this many steps an epoch."""
    return warmup.warmup_steps or round(warmup.warmup_epochs * steps_per_epoch)
