"""Loading by zoo name, run directory or file; real weights give their published figures."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnetkit import checkpoint, load
from resnetkit.data.spec import ArrayDataset
from resnetkit.data.transforms import Preprocess
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.errors import BadRequest, DamagedFile, WeightsError
from resnetkit.evaluate import evaluate
from resnetkit.load import LoadedModel, load_model, save
from resnetkit.models import MODELS, ResNet, name_of
from tiny import RECIPE

SHARED = Path(__file__).parents[1].parent / "shared" / "weights"
TINY = MODELS["resnet4_tiny"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def floats(numbers: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(numbers, np.float32)


def drawn(num_classes: int = 3) -> ResNet:
    """Build the tiny net in eval mode with weights and statistics that are nowhere 0 or 1."""
    torch.manual_seed(1)
    model = ResNet(replace(TINY, num_classes=num_classes)).eval()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return model


def written(content: Any, path: Path, zipped: bool = True) -> Path:
    """Save as torch does; not zipped is the older format, which the page's files have."""
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def openmmlab(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Make a file's content as mmclassification publishes it."""
    state = {("head." if name.startswith("fc") else "backbone.") + name: value for name, value in tensors.items()}
    return {"meta": {"CLASSES": ["a", "b"], "epoch": 200}, "state_dict": state}


def logits_of(model: torch.nn.Module) -> Tensor:
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model(images)  # type: ignore[no-any-return]


def same_net(loaded: LoadedModel, model: ResNet) -> bool:
    return not loaded.model.training and torch.equal(logits_of(loaded.model), logits_of(model))


# our own files


def own_metadata(**changes: Any) -> dict[str, Any]:
    """Describe weights as a finished run does."""
    metadata = {
        "architecture": asdict(replace(TINY, num_classes=3)),
        "class_names": ["ant", "bee", "cow"],
        "preprocess": Preprocess(16, floats([0.1, 0.2, 0.3]), floats([0.5, 0.6, 0.7]), 20).to_json(),
        "recipe": "tiny",
        "data": {"name": "tiny", "sha256": "0" * 64},
        "metrics": {"tiny test": {"top1": 0.5}},
        "license": None,
    }
    return metadata | changes


def test_our_own_file_comes_back_as_it_was(tmp_path: Path) -> None:
    path, model = tmp_path / "any.safetensors", drawn()
    sha256 = checkpoint.save_weights(path, model.state_dict(), own_metadata())
    loaded = load_model(path)
    assert same_net(loaded, model)
    assert loaded.model.arch == replace(TINY, num_classes=3)
    assert loaded.class_names == ("ant", "bee", "cow")
    assert (loaded.preprocess.image_size, loaded.preprocess.resize_size) == (16, 20)
    assert np.array_equal(loaded.preprocess.mean, floats([0.1, 0.2, 0.3]))
    assert np.array_equal(loaded.preprocess.std, floats([0.5, 0.6, 0.7]))
    assert loaded.origin == f"{path}: resnet4_tiny, recipe tiny, all 20 tensors used"
    assert loaded.assumptions == ()
    assert loaded.sha256 == sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_mean_image_comes_back(tmp_path: Path) -> None:
    mean = np.random.default_rng(0).random((16, 16, 3), np.float32)
    preprocess = Preprocess(16, mean, np.ones(3, np.float32)).to_json()
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, drawn().state_dict(), own_metadata(preprocess=preprocess))
    assert np.array_equal(load_model(path).preprocess.mean, mean)


@pytest.mark.parametrize("name", ["resnetv1d50", "resnet50_caffe", "plain20", "resnet20_b"])
def test_our_own_file_says_what_tensors_cannot_tell(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    arch = MODELS.get(name, replace(MODELS["resnet20"], shortcut="B"))
    model = ResNet(replace(arch, widths=(8, 12, 16, 20)[: len(arch.depths)], stem_width=8, num_classes=3)).eval()
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, model.state_dict(), own_metadata(architecture=asdict(model.arch)))
    loaded = load_model(path)
    assert loaded.model.arch == model.arch
    assert same_net(loaded, model)


def test_a_run_directory(tmp_path: Path) -> None:
    run, model = tmp_path / "run", drawn()
    checkpoint.start_run(run, RECIPE)
    with pytest.raises(BadRequest, match="run has no weights yet") as caught:
        load_model(run)
    assert caught.value.details == (f"next: resnetkit train --resume --out {run}",)
    checkpoint.save_weights(run / checkpoint.WEIGHTS, model.state_dict(), own_metadata())
    assert same_net(load_model(run), model)
    assert same_net(load_model(str(run)), model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadRequest, match="is neither a run directory nor a model's folder"):
        load_model(tmp_path / "empty")


WRONG_METADATA: dict[str, Callable[[], dict[str, Any]]] = {
    "no architecture": lambda: {key: value for key, value in own_metadata().items() if key != "architecture"},
    "no classes": lambda: own_metadata(class_names=None),
    "no preprocess": lambda: {"architecture": asdict(TINY)},
    "unknown field": lambda: own_metadata(architecture={**asdict(TINY), "wings": 2}),
    "stages": lambda: own_metadata(architecture={**asdict(TINY), "depths": [1, 1]}),
    "another net": lambda: own_metadata(architecture=asdict(MODELS["resnet20"])),
    "other classes": lambda: own_metadata(architecture=asdict(replace(TINY, num_classes=5))),
}


@pytest.mark.parametrize("what", WRONG_METADATA)
def test_our_own_file_that_contradicts_itself_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, drawn().state_dict(), WRONG_METADATA[what]())
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    assert caught.value.what.startswith(f"{path}: ")
    assert caught.value.details


# files of others


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th", ".pth.tar", ""])
def test_a_foreign_file_is_recognised_whatever_its_suffix(zipped: bool, suffix: str, tmp_path: Path) -> None:
    model = drawn(num_classes=3)
    path = written(openmmlab(model.state_dict()), tmp_path / f"weights{suffix}", zipped)
    loaded = load_model(path)
    assert same_net(loaded, model)
    assert loaded.origin == f"{path}: {name_of(loaded.model.arch)}, openmmlab layout, all 20 tensors used"
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.class_names == ("class 0", "class 1", "class 2")
    assert loaded.preprocess.image_size == 32
    assert loaded.preprocess.resize_size is None


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    model = drawn()
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({f"module.{k}": v for k, v in model.state_dict().items()}, path, {"format": "pt"})
    loaded = load_model(path)
    assert same_net(loaded, model)
    assert "torchvision layout" in loaded.origin


def test_assumptions_are_stated_with_their_flags(tmp_path: Path) -> None:
    small = ResNet(replace(MODELS["resnet20"], depths=(1, 1, 1), widths=(4, 8, 12), stem_width=4))
    path = written(small.state_dict(), tmp_path / "small.pth")
    mean, std, shortcut = load_model(path).assumptions
    assert mean == "mean 0.485 0.456 0.406, the file names none (--mean)"
    assert std == "std 0.229 0.224 0.225, the file names none (--std)"
    assert "option A" in shortcut
    assert "--plain" in shortcut
    plain = load_model(path, plain=True)
    assert plain.model.arch.shortcut == "plain"
    assert plain.assumptions[2].startswith("plain")
    assert not torch.allclose(logits_of(plain.model), logits_of(load_model(path).model))

    narrow = replace(MODELS["resnet50"], depths=(1, 1, 1, 1), widths=(2, 4, 6, 8), stem_width=4)
    path = written(ResNet(narrow).state_dict(), tmp_path / "bottleneck.pth")
    loaded = load_model(path)
    assert loaded.assumptions[2] == "stride style pytorch (--stride-style pytorch or caffe)"
    assert (loaded.preprocess.image_size, loaded.preprocess.resize_size) == (224, 256)
    assert load_model(path, stride_style="caffe").model.arch.stride_style == "caffe"
    assert loaded.class_names[0].startswith("tench")
    assert len(loaded.class_names) == 1000


def test_the_order_of_constants_is_that_of_the_channels(tmp_path: Path) -> None:
    path = written(drawn().state_dict(), tmp_path / "w.pth")
    loaded = load_model(path)
    assert np.array_equal(loaded.preprocess.mean, floats(IMAGENET[0]))
    assert np.array_equal(loaded.preprocess.std, floats(IMAGENET[1]))
    given = load_model(path, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert np.array_equal(given.preprocess.mean, floats([0.1, 0.2, 0.3]))
    assert np.array_equal(given.preprocess.std, floats([0.4, 0.5, 0.6]))
    assert given.preprocess.mean.dtype == given.preprocess.std.dtype == np.float32
    assert not any("the file names none" in assumption for assumption in given.assumptions)
    half = load_model(path, std=(0.4, 0.5, 0.6))
    assert np.array_equal(half.preprocess.mean, floats(IMAGENET[0]))
    assert [a for a in half.assumptions if "the file names none" in a] == [loaded.assumptions[0]]


def test_a_gray_net_takes_its_pixels_as_they_are(tmp_path: Path) -> None:
    net = ResNet(replace(MODELS["resnet4_tiny"], in_channels=1))
    loaded = load_model(written(net.state_dict(), tmp_path / "gray.pth"))
    assert loaded.assumptions[:2] == (
        "mean 0.0, the file names none (--mean)",
        "std 1.0, the file names none (--std)",
    )
    pixels = torch.full((2, 32, 32, 1), 51, dtype=torch.uint8)
    assert loaded.model(loaded.preprocess.normalize(pixels)).shape == (2, 10)


def test_a_basic_net_has_one_stride_style(tmp_path: Path) -> None:
    path = written(ResNet(MODELS["resnet20"]).state_dict(), tmp_path / "w.pth")
    assert "resnet20" in load_model(path, stride_style="pytorch").origin
    with pytest.raises(BadRequest, match="the net has basic blocks"):
        load_model(path, stride_style="caffe")


def test_arguments_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    path = written(drawn().state_dict(), tmp_path / "w.pth")
    with pytest.raises(BadRequest, match="--stride-style: expected pytorch or caffe, got 'tensorflow'"):
        load_model(path, stride_style="tensorflow")  # type: ignore[arg-type]
    for names in ("abc", ["a", "b", ""], ["a", "b", "c\x1b[2J"], range(3)):
        with pytest.raises(BadRequest, match="expected names that are not empty"):
            load_model(path, class_names=names)  # type: ignore[arg-type]


def test_our_own_constants_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, drawn().state_dict(), own_metadata())
    loaded = load_model(path, mean=(0.0, 0.0, 0.0))
    assert not loaded.preprocess.mean.any()
    assert np.array_equal(loaded.preprocess.std, floats([0.5, 0.6, 0.7]))


def test_our_own_file_says_its_architecture_itself(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, drawn().state_dict(), own_metadata())
    with pytest.raises(BadRequest, match="--plain: the file says that its net has shortcuts"):
        load_model(path, plain=True)
    with pytest.raises(BadRequest, match="--stride-style: the file says that its stride style is pytorch"):
        load_model(path, stride_style="caffe")


def test_metadata_that_is_not_json_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2)}, path, {checkpoint.METADATA_KEY: "{"})
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        load_model(path)


@pytest.mark.parametrize(
    ("flag", "numbers", "message"),
    [
        ("mean", (0.5,), "--mean: expected 3 numbers, one a channel, got 1"),
        ("std", (0.5,) * 4, "--std: expected 3 numbers, one a channel, got 4"),
        ("mean", (), "--mean: expected 3 numbers, one a channel, got 0"),
        ("mean", (125.3, 123.0, 113.9), "--mean: expected 0 to 1, pixels are in [0, 1], got 125.3; divide by 255"),
        ("std", (float("nan"), 0.5, 0.5), "--std: expected above 0 and at most 1, pixels are in [0, 1], got nan"),
        ("std", (0.5, 0.0, 0.5), "--std: expected above 0 and at most 1, pixels are in [0, 1], got 0.0"),
        ("std", (0.5, 0.5, -1.0), "--std: expected above 0 and at most 1, pixels are in [0, 1], got -1.0"),
    ],
)
def test_wrong_constants_are_refused(flag: str, numbers: tuple[float, ...], message: str, tmp_path: Path) -> None:
    path = written(drawn().state_dict(), tmp_path / "w.pth")
    given: dict[str, Any] = {flag: numbers}
    with pytest.raises(BadRequest) as caught:
        load_model(path, **given)
    assert caught.value.what == message


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet21", "resnet"),
        ("resnet18_8xb16_cifar1O", "resnet18_8xb16_cifar10"),
        ("rsenet50_8xb8_cub", "resnet50_8xb8_cub"),
    ],
)
def test_an_unknown_name_is_refused_with_a_near_one(name: str, near: str) -> None:
    with pytest.raises(BadRequest) as caught:
        load_model(name)
    assert caught.value.what.startswith(f"no model {name!r}; did you mean '{near}")
    assert "resnetkit zoo" in caught.value.details[0]


def test_what_is_near_nothing_and_a_missing_file() -> None:
    for name in ("alex.pth", "/nowhere/weights.pth", "~"):
        with pytest.raises(BadRequest, match="no model") as caught:
            load_model(name)
        assert "did you mean" not in caught.value.what


# damaged and hostile files


class Order:
    """What a hostile pickle is made of: unpickled, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def hostile(command: str) -> dict[str, bytes]:
    """Return files that run `command` when a careless reader opens them."""
    files = {"protocol 0": b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."}
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(
            {"state_dict": drawn().state_dict(), "x": Order(command)}, file, _use_new_zipfile_serialization=zipped
        )
        files["zip" if zipped else "older"] = file.getvalue()
    return files


@pytest.mark.parametrize("kind", ["protocol 0", "zip", "older"])
def test_nothing_of_a_hostile_file_runs(kind: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "weights.pth"
    path.write_bytes(hostile(f"touch {marker}")[kind])
    assert b"system" in path.read_bytes()
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    assert caught.value.what == f"{path} cannot be read as weights"
    assert not marker.exists()


def damaged() -> dict[str, bytes]:
    """Return what is left of files after the usual accidents."""
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(drawn().state_dict(), new)
    torch.save(drawn().state_dict(), old, _use_new_zipfile_serialization=False)
    whole, older = new.getvalue(), old.getvalue()
    other_zip = io.BytesIO()
    with zipfile.ZipFile(other_zip, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    return {
        "empty": b"",
        "one byte": b"\x80",
        "text": b"<html><body>404 Not Found</body></html>\n",
        "text in French": "n'existe pas: modèle\n".encode(),
        "json": json.dumps({"state_dict": {}}).encode(),
        "zeros": bytes(4096),
        "half": whole[: len(whole) // 2],
        "without its last byte": whole[:-1],
        "older, half": older[: len(older) // 2],
        "older, without its last byte": older[:-1],
        "older, header only": older[:200],
        "a list": saved([1, 2, 3]),
        "tensors without names": saved([torch.zeros(2)]),
        "one tensor": saved(torch.zeros(2)),
        "another net": saved({"features.0.weight": torch.zeros(2, 3, 3, 3)}),
        "a class": saved({"state_dict": Path("x")}),
        "another zip": other_zip.getvalue(),
        "itself": saved(own_content()),
    }


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def own_content() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["model"] = content
    return content


DAMAGED = damaged()


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    assert str(path) in caught.value.what
    assert caught.value.details[0].startswith("got ")
    assert all("\n" not in line for line in (caught.value.what, *caught.value.details))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:TypedStorage is deprecated")
def test_no_damage_gives_another_error(zipped: bool, tmp_path: Path) -> None:
    """Cut and overwrite a file at random; about a tenth of these were once a traceback."""
    file = io.BytesIO()
    torch.save({"state_dict": drawn().state_dict(), "epoch": 1}, file, _use_new_zipfile_serialization=zipped)
    whole, rng, path = file.getvalue(), np.random.default_rng(0), tmp_path / "weights.pth"
    refused = 0
    for _ in range(250):
        bent = np.frombuffer(whole, np.uint8).copy()
        count = rng.choice([1, 2, 5, 20])
        places = rng.integers(0, len(bent) if zipped else 3000, count)  # the older format begins with its structure
        bent[places] = rng.integers(0, 256, count)
        path.write_bytes(bent[: rng.integers(len(bent))].tobytes() if rng.random() < 0.3 else bent.tobytes())
        try:
            load_model(path)
        except WeightsError:
            refused += 1
    assert refused > 80


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_damaged_safetensors_file_is_named(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint.save_weights(path, drawn().state_dict(), own_metadata())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedFile, match="not a whole safetensors file") as caught:
        load_model(path)
    assert str(path) in caught.value.what


# the page's own weights


# saving


def test_a_saved_model_comes_back_with_all_that_is_known(tmp_path: Path) -> None:
    path, copy = tmp_path / "w.safetensors", tmp_path / "copy.safetensors"
    checkpoint.save_weights(path, drawn().state_dict(), own_metadata(origin={"file": "x.pth", "sha256": "1"}))
    loaded = load_model(path)
    sha256 = save(replace(loaded, class_names=("x", "y", "z")), copy, license="mit")
    again = load_model(copy)
    assert (again.sha256, again.class_names) == (sha256, ("x", "y", "z"))
    assert again.about == loaded.about | {"license": "mit"}
    assert again.about["metrics"] == {"tiny test": {"top1": 0.5}}
    assert same_net(again, loaded.model)


def test_metrics_go_with_the_weights_that_they_are_of(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, drawn().state_dict(), own_metadata())
    loaded = load_model(path)
    with torch.no_grad():
        loaded.model.fc.bias[0] += 1e-3
    save(loaded, tmp_path / "changed.safetensors")
    changed = load_model(tmp_path / "changed.safetensors").about
    assert changed["metrics"] == {}
    assert changed["recipe"] == "tiny"


def test_a_saved_foreign_model_says_where_it_came_from(tmp_path: Path) -> None:
    path = written(openmmlab(drawn().state_dict()), tmp_path / "theirs.pth")
    save(load_model(path), tmp_path / "own.safetensors")
    origin = load_model(tmp_path / "own.safetensors").about["origin"]
    assert (origin["file"], origin["sha256"]) == ("theirs.pth", hashlib.sha256(path.read_bytes()).hexdigest())


def test_saving_overwrites_nothing_and_wants_its_ending(tmp_path: Path) -> None:
    loaded = load_model(written(drawn().state_dict(), tmp_path / "w.pth"))
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    with pytest.raises(BadRequest, match="exists already"):
        save(loaded, tmp_path / "there.safetensors")
    with pytest.raises(BadRequest, match=r"ends in \.safetensors"):
        save(loaded, tmp_path / "w2.pth")
    with pytest.raises(BadRequest, match="no such folder"):
        save(loaded, tmp_path / "nowhere" / "w.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2


# the start of another run


def test_all_but_the_head_is_loaded_whatever_the_number_of_classes(tmp_path: Path) -> None:
    path = written(openmmlab(drawn().state_dict()), tmp_path / "start.pth")
    model = ResNet(replace(TINY, num_classes=7))
    head = model.fc.weight.clone()
    assert load.load_all_but_head(model, path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(model.fc.weight, head)
    body = {name: value for name, value in model.state_dict().items() if not name.startswith("fc.")}
    assert all(torch.equal(value, drawn().state_dict()[name]) for name, value in body.items())
    assert len(body) == len(drawn().state_dict()) - 2


def test_a_start_without_a_head_is_fine_and_one_without_a_block_is_not(tmp_path: Path) -> None:
    tensors = {name: value for name, value in drawn().state_dict().items() if not name.startswith("fc.")}
    load.load_all_but_head(ResNet(TINY), written(openmmlab(tensors), tmp_path / "headless.pth"))
    del tensors["layer1.0.conv2.weight"]
    path = written(openmmlab(tensors), tmp_path / "partial.pth")
    with pytest.raises(WeightsError, match="do not fit") as caught:
        load.load_all_but_head(ResNet(TINY), path)
    assert str(path) in caught.value.what
    assert caught.value.details == ("missing: layer1.0.conv2.weight",)
    with pytest.raises(BadRequest, match="no model 'nowhere'"):
        load.load_all_but_head(ResNet(TINY), "nowhere")


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ("resnet50_caffe", "resnet50", "stride_style 'caffe' instead of 'pytorch'"),
        ("plain20", "resnet20", "shortcut 'plain' instead of 'A'"),
    ],
)
def test_a_start_from_a_net_that_says_it_is_another_one_is_refused(
    theirs: str, ours: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "start.safetensors"
    arch = MODELS[theirs]
    names = [f"c{number}" for number in range(arch.num_classes)]
    metadata = own_metadata(architecture=asdict(arch), class_names=names)
    checkpoint.save_weights(path, ResNet(arch).state_dict(), metadata)
    with pytest.raises(WeightsError, match="another net, though all of them fit") as caught:
        load.load_all_but_head(ResNet(replace(MODELS[ours], num_classes=3)), path)
    assert caught.value.details == (f"got {said}",)
    load.load_all_but_head(ResNet(replace(arch, num_classes=3)), path)


# real weights


def real(name: str) -> Path:
    found = sorted(SHARED.glob(name))
    if not found:
        pytest.skip(f"no {name} in {SHARED}")
    return found[0]


REAL = [
    ("akamaster-cifar10-resnet20-*.th", "resnet20", "akamaster", 10),
    ("akamaster-cifar10-resnet56-*.th", "resnet56", "akamaster", 10),
    ("distiller-cifar10-resnet20-*.pth.tar", "resnet20_b", "torchvision", 10),
    ("imagenet-resnet18-torchvision-layout-fp16.pth", "resnet18", "torchvision", 1000),
]


@pytest.mark.parametrize(("file", "name", "layout", "num_classes"), REAL)
def test_real_files_are_recognised(file: str, name: str, layout: str, num_classes: int) -> None:
    path = real(file)
    loaded = load_model(path)
    assert name_of(loaded.model.arch) == name
    assert loaded.model.arch.num_classes == num_classes
    assert loaded.origin == f"{path}: {name}, {layout} layout, all {tensors_in(path)} tensors used"
    assert all(parameter.dtype == torch.float32 for parameter in loaded.model.parameters())
    assert logits_of(loaded.model).std() > 0.1


def tensors_in(path: Path) -> int:
    """Count the names of a file's state dict."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    return len(content.get("state_dict", content))


@pytest.mark.parametrize(("depth", "correct"), [(20, 9173), (56, 9339)])
def test_akamasters_nets_score_exactly_what_was_published(depth: int, correct: int, cifar10: ArrayDataset) -> None:
    loaded = load_model(real(f"akamaster-cifar10-resnet{depth}-*.th"), mean=IMAGENET[0], std=IMAGENET[1])
    model = loaded.model.to(memory_format=torch.channels_last)
    outcome = evaluate(TorchEngine(model, loaded.preprocess), cifar10.test)
    assert (outcome.images, outcome.correct) == (10_000, correct)
