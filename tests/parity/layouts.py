"""Files that the libraries write themselves, loaded by us; files that we write, loaded by them with strict checks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import timm.models.resnet as timm_resnet
import torch
import torchvision.models.resnet as tv_resnet
import transformers
from figures import Figure, relative_error
from mmengine.runner import load_checkpoint, save_checkpoint
from mmpretrain.registry import MODELS as MMPRETRAIN
from nets import LOGITS_BOUND, draw_weights, random_images
from peers import Logits, Peer, mmpretrain_config, peers_of
from torch import Tensor, nn

from resnetkit import convert, load_model, save
from resnetkit.load import LoadedModel
from resnetkit.models import MODELS, Architecture, ResNet
from resnetkit.weights_file import default_preprocess, known_classes
from resnetkit.zoo import PAGE

SIDE = 64  # pixels of the images compared on; 32 for a 3x3 stem
TARGETS = {"mmpretrain": ("openmmlab", "w.pth"), "torchvision": ("torchvision", "w.pth"),
           "timm": ("timm", "w.safetensors"), "transformers": ("huggingface", "w")}  # fmt: skip
# Nets beside the page's rows that a layout has too: the stride on the first 1x1.
CAFFE = ("resnet50_caffe",)


def images_for(arch: Architecture) -> Tensor:
    """Return two images of noise."""
    return random_images(32 if arch.stem == "3x3" else SIDE)


@torch.no_grad()
def logits_of(net: nn.Module, arch: Architecture) -> Tensor:
    """Return a net's logits in eval mode."""
    logits: Tensor = net.eval()(images_for(arch))
    return logits


def row_nets() -> Iterator[tuple[str, Architecture]]:
    """Yield the net of every row of the page."""
    for row in PAGE:
        net = row.build()
        assert isinstance(net, ResNet)
        yield row.name, net.arch


def figures_of(question: str, compare: Any) -> Iterator[Figure]:
    """Compare for every row and every library that has its net; rows that share a net share the work."""
    found: dict[Architecture, list[Figure]] = {}
    for name, arch in row_nets():
        if arch not in found:
            found[arch] = [
                Figure(question, "", peer.library, compare(arch, peer), LOGITS_BOUND) for peer in peers_of(arch)
            ]
        yield from (replace(figure, subject=name) for figure in found[arch])


# their files


def files_in_figures() -> Iterator[Figure]:
    """Load what each library writes of the net of every row."""
    yield from figures_of("their file", error_of_their_file)


def error_of_their_file(arch: Architecture, peer: Peer) -> float:
    """Let a library save its net in its own way, and compare the logits of what we load from that alone."""
    theirs = peer.build()
    draw_weights(theirs, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_model(write_theirs(theirs, peer.library, Path(folder) / "theirs"))
        if loaded.model.arch != arch:
            return float("nan")
        return relative_error(logits_of(loaded.model, arch), logits_of(theirs, arch))


def write_theirs(net: nn.Module, library: str, path: Path) -> Path:
    """Save as the library does; returns what a user would name."""
    inner = net.net if isinstance(net, Logits) else net
    assert isinstance(inner, nn.Module)
    if library == "transformers":
        inner.save_pretrained(path)  # type: ignore[operator]
        return path
    if library == "timm":
        timm.models.save_for_hf(inner, path, safe_serialization=True)
        return path
    file = path.with_suffix(".pth")
    if library == "mmpretrain":
        meta = {"dataset_meta": {"classes": known_classes(1000)}, "epoch": 3, "cfg": "model = dict()"}
        save_checkpoint({"meta": meta, "state_dict": inner.state_dict()}, str(file))
    else:
        torch.save(inner.state_dict(), file)
    return file


# our files


def files_out_figures() -> Iterator[Figure]:
    """Load what we write of the net of every row in each library."""
    yield from figures_of("our file", error_of_our_file)
    for name in CAFFE:
        for library in ("mmpretrain", "transformers"):
            peer = Peer(library, nn.Identity, dict)
            yield Figure("our file", name, library, error_of_our_file(MODELS[name], peer), LOGITS_BOUND)


def error_of_our_file(arch: Architecture, peer: Peer) -> float:
    """Convert a net of ours, load it in the library with its strict checks, and compare logits."""
    ours = drawn(arch)
    target, name = TARGETS[peer.library]
    with tempfile.TemporaryDirectory() as folder:
        save(ours, Path(folder) / "ours.safetensors")
        done = convert(Path(folder) / "ours.safetensors", Path(folder) / name, target)
        assert done.tensors == len(ours.model.state_dict())
        theirs = read_by_library(Path(folder) / name, arch, peer)
    return relative_error(logits_of(ours.model, arch), logits_of(theirs, arch))


def drawn(arch: Architecture) -> LoadedModel:
    """Return a net of ours with weights nowhere 0 or 1."""
    net = ResNet(arch)
    draw_weights(net, seed=1)
    names = known_classes(arch.num_classes)
    return LoadedModel(net.eval(), default_preprocess(arch, None), names, "", (), "")


def read_by_library(path: Path, arch: Architecture, peer: Peer) -> nn.Module:
    """Load a file of ours as the library's users do; every key must be there, and no other."""
    if peer.library == "mmpretrain":
        net = MMPRETRAIN.build(mmpretrain_config(arch))
        load_checkpoint(net, str(path), map_location="cpu", strict=True)
        return Logits(net, lambda net, images: net(images, mode="tensor"))
    if peer.library == "transformers":
        kind = transformers.AutoModelForImageClassification
        net, info = kind.from_pretrained(str(path), output_loading_info=True)
        wrong = {key: value for key, value in info.items() if value}
        if wrong:
            raise ValueError(f"transformers: {wrong}")
        transformers.AutoImageProcessor.from_pretrained(str(path))
        return Logits(net, lambda net, images: net(images).logits)
    net = peer.build()
    if peer.library == "timm":
        timm.models.load_checkpoint(net, str(path), strict=True)
    else:
        net.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return net


# nets that are no row, of depths, widths and stages that a library's class can be asked for


def other_net_figures() -> Iterator[Figure]:
    """Load what we write of other nets in the libraries whose layout is said to hold them."""
    few = replace(MODELS["resnet50"], depths=(1, 2, 1, 1), num_classes=5)
    wide = replace(MODELS["wide_resnet50_2"], width_factor=4, num_classes=5)
    two = replace(MODELS["resnet50"], depths=(2, 1), widths=(4, 12), stem_width=6, num_classes=5)
    five = replace(MODELS["resnet18"], depths=(1, 2, 1, 3, 1), widths=(4, 8, 8, 12, 20), stem_width=10, num_classes=5)
    nets: list[tuple[str, Architecture, Peer]] = [
        ("1-2-1-1 blocks", few, Peer("timm", lambda: timm_resnet.ResNet(timm_resnet.Bottleneck, few.depths, 5), dict)),
        (
            "1-2-1-1 blocks",
            few,
            Peer("torchvision", lambda: tv_resnet.ResNet(tv_resnet.Bottleneck, few.depths, 5), dict),
        ),
        ("3x3 four times as wide", wide, Peer("mmpretrain", nn.Identity, dict)),
        ("two narrow stages", two, Peer("transformers", nn.Identity, dict)),
        ("five narrow stages", five, Peer("transformers", nn.Identity, dict)),
    ]
    for name, arch, peer in nets:
        yield Figure("our file, other nets", name, peer.library, error_of_our_file(arch, peer), LOGITS_BOUND)


# what wraps and what stores


def wrapped_figures() -> Iterator[Figure]:
    """Load torchvision's and mmpretrain's ResNet-18 as people save it: wrapped, in the older container, in half."""
    arch = MODELS["resnet18"]
    for peer in peers_of(arch):
        if peer.library not in {"torchvision", "mmpretrain"}:
            continue
        net = peer.build()
        draw_weights(net, seed=1)
        inner = net.net if isinstance(net, Logits) else net
        assert isinstance(inner, nn.Module)
        for kind, content, zipped in contents(inner):
            yield Figure(f"saved {kind}", "resnet18", peer.library, error_of(content, zipped, net, arch), LOGITS_BOUND)
        half = {
            name: value.half() if value.is_floating_point() else value for name, value in inner.state_dict().items()
        }
        inner.load_state_dict({name: value.float() for name, value in half.items()})
        yield Figure("saved in half", "resnet18", peer.library, error_of(half, True, net, arch), LOGITS_BOUND)


def contents(net: nn.Module) -> Iterator[tuple[str, Any, bool]]:
    """Yield a kind of saving, the content, and whether it goes into the newer container."""
    yield "by DataParallel", nn.DataParallel(net).state_dict(), True
    compiled = torch.compile(net, backend="eager")
    assert isinstance(compiled, nn.Module)
    yield "of torch.compile", compiled.state_dict(), True
    yield "in the older container", {"state_dict": net.state_dict(), "epoch": 3}, False
    averaged = torch.optim.swa_utils.AveragedModel(net)
    yield "by AveragedModel", averaged.state_dict(), True


def error_of(content: Any, zipped: bool, net: nn.Module, arch: Architecture) -> float:
    """Save, load by us, and compare logits."""
    folder = Path(tempfile.mkdtemp())
    try:
        torch.save(content, folder / "w.pth", _use_new_zipfile_serialization=zipped)
        return relative_error(logits_of(load_model(folder / "w.pth").model, arch), logits_of(net, arch))
    finally:
        shutil.rmtree(folder)
