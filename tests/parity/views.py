"""The test pipelines of the rows on real photos, from the file to the tensor, and what a real net says of them.

Ours turns colours with an embedded profile into sRGB, OpenCV knows no profiles: photos whose pixels that changes are
compared a second time with the profile passed over.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from configs import ROWS, read_config, recipe_of_1x
from figures import Figure
from mmpretrain.models.utils.data_preprocessor import ClsDataPreprocessor
from mmpretrain.registry import TRANSFORMS
from numpy.typing import NDArray
from pictures import EQUAL, PHOTOS, SHARED, Differences, Pixels, compare, photo_files, photos

from resnetkit import load_model
from resnetkit.data import decode as decoding
from resnetkit.data import imagenet
from resnetkit.data.decode import decode
from resnetkit.data.resize import resize, view
from resnetkit.data.transforms import Preprocess
from resnetkit.recipe import Normalize, Recipe, View
from resnetkit.recipes import RECIPES

WEIGHTS = SHARED.parent / "weights" / "imagenet-resnet18-torchvision-layout-fp16.pth"
LAST_DIGIT = 1e-4  # levels of 0 to 255
FEW_PHOTOS = 2 + 1e-9  # of 200, where 13 have other colours
FAMILIES = {"cv2": View(256, 224, "cv2-bilinear"), "pillow": View(256, 224, "pillow-bilinear")}
Pictures = Mapping[str, Pixels]


@cache
def without_profiles() -> Pictures:
    """Return the photos by name, decoded with their profiles passed over."""
    with patch.object(decoding, "with_profile", lambda image, profile: None):
        return {name: decode(data, name) for name, data in photo_files().items()}


@cache
def changed_by_profile() -> frozenset[str]:
    """Return the names of the photos that a profile changes."""
    return frozenset(name for name, pixels in photos().items() if (pixels != without_profiles()[name]).any())


@cache
def files() -> Path:
    """Write the photos where mmpretrain can read them; returns the folder."""
    folder = Path(tempfile.mkdtemp())
    for name, data in photo_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def decode_figures() -> Iterator[Figure]:
    """Compare decoding with OpenCV's, and count the photos that a colour profile changes."""
    load = TRANSFORMS.build({"type": "LoadImageFromFile"})
    theirs = {name: load({"img_path": str(files() / name)})["img"][:, :, ::-1] for name in photos()}
    same = [name for name in photos() if name not in changed_by_profile()]
    found = compare((photos()[name], theirs[name]) for name in same)
    yield from found.figures("decode", f"{len(same)} photos", "mmpretrain", EQUAL)
    found = compare((without_profiles()[name], theirs[name]) for name in photos())
    yield from found.figures("decode", "200 photos, profiles passed over", "mmpretrain", EQUAL)
    found = compare((photos()[name], theirs[name]) for name in changed_by_profile())
    yield Figure("decode, mean by profile", f"{len(changed_by_profile())} photos", "mmpretrain",
                 found.total / found.count, 10.0)  # fmt: skip


def pipeline_figures(of: Callable[[str], Recipe] = recipe_of_1x) -> Iterator[Figure]:
    """Compare each row's test pipeline: pixels before normalisation, and normalised values in levels."""
    for row in ROWS:
        recipe, config = of(row), read_config(row)
        pipeline = config["val_dataloader"]["dataset"]["pipeline"]
        found = view_differences(recipe.view, frozen(pipeline))
        yield from found.figures("test pipeline", recipe.name, "mmpretrain", EQUAL, EQUAL)
        yield Figure("normalised, in levels", recipe.name, "mmpretrain", normalised_error(recipe, config), LAST_DIGIT)
        if recipe is not RECIPES[row]:  # 1.x resizes otherwise than 0.x, which trained the published weights
            own = RECIPES[row].view
            steps = ({"type": "LoadImageFromFile"}, *steps_of_0x(own))
            yield from view_differences(own, frozen(steps)).figures("test pipeline", row, "0.x steps", EQUAL)


def steps_of_0x(shown: View) -> tuple[dict[str, Any], ...]:
    """Return the steps that 0.x has for a view, resized by OpenCV."""
    if shown.keep_ratio:
        first: dict[str, Any] = {"type": "ResizeEdge", "scale": shown.resize_size, "edge": "short"}
    else:
        first = {"type": "Resize", "scale": (shown.resize_size, shown.resize_size)}
    return first | {"backend": "cv2"}, {"type": "CenterCrop", "crop_size": shown.crop_size}


def frozen(pipeline: Any) -> tuple[tuple[tuple[str, Any], ...], ...]:
    """Return a pipeline as a key: rows share theirs."""
    return tuple(tuple(sorted(step.items())) for step in pipeline)


@cache
def view_differences(shown: View, pipeline: Any) -> Differences:
    """Return the differences of all photos from file to crop, profiles passed over."""
    steps = [TRANSFORMS.build(dict(step)) for step in pipeline if dict(step)["type"] != "PackInputs"]
    found = Differences()
    for name, pixels in photos().items():
        if not steps:  # CIFAR: images as they are
            small = resize(pixels, 32, 32, "pillow-bilinear")
            found.add(seen(small, shown), small)
            continue
        results: dict[str, Any] = {"img_path": str(files() / name)}
        for step in steps:
            results = step(results)
        ours = without_profiles()[name] if name in changed_by_profile() else pixels
        found.add(seen(ours, shown), results["img"][:, :, ::-1])
    return found


def seen(pixels: Pixels, shown: View) -> Pixels:
    """Return what evaluation sees of an image."""
    return view(pixels, **vars(shown))


def normalised_error(recipe: Recipe, config: Mapping[str, Any]) -> float:
    """Return the largest difference of normalised values, times the std: in levels."""
    said = dict(config["data_preprocessor"])
    theirs = ClsDataPreprocessor(**{key: said[key] for key in ("mean", "std", "to_rgb", "num_classes")})
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    given = torch.from_numpy(pixels if not said["to_rgb"] else np.ascontiguousarray(pixels[..., ::-1]))
    their_values = theirs({"inputs": given.permute(0, 3, 1, 2)})["inputs"]
    our_values = preprocess_of(recipe).normalize(torch.from_numpy(pixels))
    std = torch.tensor(said["std"])[:, None, None]
    return float(((our_values - their_values).abs() * std).max())


def preprocess_of(recipe: Recipe) -> Preprocess:
    """Return the preprocessing that a recipe trains and evaluates with."""
    constants, shown = recipe.preprocess, recipe.view
    assert isinstance(constants, Normalize)
    mean, std = (np.asarray(numbers, np.float32) for numbers in (constants.mean, constants.std))
    return Preprocess(shown.crop_size, mean, std, shown.resize_size, shown.family, shown.keep_ratio)


# --- what a real net says ---


def accuracy_figures() -> Iterator[Figure]:
    """Count the photos of which a real ResNet-18 says another class, of our pixels or of mmpretrain's."""
    for backend, shown in FAMILIES.items():
        theirs = their_predictions(backend)
        for subject, pictures, bound in (
            ("profiles passed over", without_profiles(), EQUAL),
            ("as decoded", photos(), FEW_PHOTOS),
        ):
            ours = predictions(np.stack([seen(pixels, shown) for pixels in pictures.values()]))
            different = float((ours != theirs).sum())
            yield Figure("predicted class differs", f"{backend}, {subject}", "mmpretrain", different, bound)


def their_predictions(backend: str) -> NDArray[np.int64]:
    """Return the classes predicted of mmpretrain's pixels."""
    load = TRANSFORMS.build({"type": "LoadImageFromFile"})
    resize_edge = TRANSFORMS.build({"type": "ResizeEdge", "scale": 256, "edge": "short", "backend": backend})
    crop = TRANSFORMS.build({"type": "CenterCrop", "crop_size": 224})
    found = [crop(resize_edge(load({"img_path": str(files() / name)})))["img"] for name in photos()]
    return predictions(np.stack(found)[..., ::-1])


@cache
def real_net() -> Any:
    """Return the real ImageNet ResNet-18."""
    return load_model(WEIGHTS)


@torch.inference_mode()
def predictions(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the classes that the real net predicts of RGB images [N, 224, 224, 3]."""
    loaded = real_net()
    found = []
    for first in range(0, len(images), 20):
        part = torch.from_numpy(np.ascontiguousarray(images[first : first + 20]))
        found.append(loaded.model(loaded.preprocess.normalize(part)).argmax(1))
    return torch.cat(found).numpy()


def photos_right() -> dict[str, int]:
    """Count the photos that the real net gets right in each family, ours and mmpretrain's."""
    labels = np.array([imagenet.synsets().index(Path(name).parent.name) for name in photos()])
    found = {}
    for backend, shown in FAMILIES.items():
        found[f"mmpretrain, {backend}"] = int((their_predictions(backend) == labels).sum())
        for subject, pictures in (("resnetkit", photos()), ("resnetkit, profiles passed over", without_profiles())):
            ours = predictions(np.stack([seen(pixels, shown) for pixels in pictures.values()]))
            found[f"{subject}, {backend}"] = int((ours == labels).sum())
    assert len(labels) == PHOTOS
    return found
