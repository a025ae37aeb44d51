"""The nets against torchvision's, and against a second computation written from the papers' words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn

from resnetkit.models import MODELS, Architecture, ResNet, cifar_architecture
from resnetkit.models.resnet import DropPath, Shortcut, ZeroPadShortcut, architecture_from_json

TORCHVISION = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"]

# entries of the state dict, and its size in 10^6 bytes
ENTRIES = {
    "resnet18": (122, "46.80"),
    "resnet34": (218, "87.26"),
    "resnet50": (320, "102.44"),
    "resnet101": (626, "178.62"),
    "resnet152": (932, "241.38"),
    "resnetv1c50": (332, "102.52"),
    "resnetv1c101": (638, None),
    "resnetv1c152": (944, None),
    "resnetv1d50": (332, "102.52"),
    "resnetv1d101": (638, None),
    "resnetv1d152": (944, None),
    "wide_resnet50_2": (320, "275.81"),
    "wide_resnet101_2": (626, "508.10"),
    "resnet18_cifar": (122, None),
    "resnet34_cifar": (218, None),
    "resnet50_cifar": (320, None),
    "resnet101_cifar": (626, None),
    "resnet152_cifar": (932, None),
}


def drawn(shapes: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Draw a state dict: weights of He's size, and norms whose statistics and weights are nowhere 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, value in shapes.items():
        if not value.is_floating_point():
            tensors[name] = torch.zeros(value.shape, dtype=value.dtype)
        elif value.ndim > 1:
            bound = (6 / value[0].numel()) ** 0.5
            tensors[name] = torch.empty(value.shape).uniform_(-bound, bound, generator=generator)
        else:
            low, high = (0.3, 0.7) if name.endswith(("weight", "running_var")) else (-0.2, 0.2)
            tensors[name] = torch.empty(value.shape).uniform_(low, high, generator=generator)
    return tensors


def meta(arch: Architecture) -> ResNet:
    """Build a net of shapes only."""
    with torch.device("meta"):
        return ResNet(arch)


def filled(arch: Architecture, seed: int = 0) -> ResNet:
    """Build a net in eval mode with drawn weights."""
    model = meta(arch)
    model.load_state_dict(drawn(model.state_dict(), seed), assign=True)
    return model.eval()


def narrow(name: str, num_classes: int = 7) -> Architecture:
    """Describe a net of MODELS with few channels: all that is special about it, and quick."""
    arch = MODELS[name]
    return replace(arch, widths=(8, 12, 16, 20)[: len(arch.depths)], stem_width=8, num_classes=num_classes)


@pytest.mark.parametrize("name", TORCHVISION)
@torch.inference_mode()
def test_logits_and_features_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name).eval()
    ours = meta(MODELS[name]).eval()
    tensors = drawn(theirs.state_dict())
    theirs.load_state_dict(tensors, assign=True)
    ours.load_state_dict(tensors, assign=True)  # strict: the same names and shapes
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = theirs(images)
    assert expected.std() > 0.01  # the logits say something
    assert not torch.allclose(expected[0], expected[1], rtol=1e-3)
    torch.testing.assert_close(ours(images), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
    last = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
    maps = ours.features(images)
    for index, stage in enumerate((theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)):
        last = stage(last)
        torch.testing.assert_close(maps[index], last, rtol=1e-6, atol=1e-6 * float(last.abs().max()))
    assert len(maps) == 4


def second_forward(arch: Architecture, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Compute the logits of float64 images from the tensors alone, as the papers describe the nets."""

    def norm(name: str, maps: Tensor) -> Tensor:
        mean, var = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
        scale = tensors[f"{name}.weight"] / (var + 1e-5).sqrt()
        return (maps - mean[:, None, None]) * scale[:, None, None] + tensors[f"{name}.bias"][:, None, None]

    def conv(name: str, maps: Tensor, stride: int = 1) -> Tensor:
        kernel = tensors[f"{name}.weight"]
        return F.conv2d(maps, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def shortcut(name: str, maps: Tensor, branch: Tensor, stride: int) -> Tensor:
        new = branch.shape[1] - maps.shape[1]
        if arch.shortcut == "A":
            zeros = torch.zeros_like(branch)
            zeros[:, new // 2 : new // 2 + maps.shape[1]] = maps[:, :, ::stride, ::stride]
            return zeros
        if stride == 1 and new == 0 and arch.shortcut != "C":
            return maps
        if not arch.avg_down:
            return norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", maps, stride))
        if stride == 2:
            maps = F.avg_pool2d(maps, 2, 2, ceil_mode=True, count_include_pad=False)
        return norm(f"{name}.downsample.2", conv(f"{name}.downsample.1", maps))

    def block(name: str, maps: Tensor, stride: int) -> Tensor:
        count = 3 if arch.block == "bottleneck" else 2
        strided = 1 if arch.block == "basic" or arch.stride_style == "caffe" else 2
        branch = maps
        for index in range(1, count + 1):
            branch = conv(f"{name}.conv{index}", branch, stride if index == strided else 1)
            branch = norm(f"{name}.bn{index}", branch)
            branch = branch.clamp(min=0) if index < count else branch
        if arch.shortcut != "plain":
            branch = branch + shortcut(name, maps, branch, stride)
        return branch.clamp(min=0)

    if arch.stem == "deep":
        for index, stride in ((0, 2), (3, 1)):
            images = norm(f"conv1.{index + 1}", conv(f"conv1.{index}", images, stride)).clamp(min=0)
        maps = conv("conv1.6", images)
    else:
        maps = conv("conv1", images, 2 if arch.stem == "7x7" else 1)
    maps = norm("bn1", maps).clamp(min=0)
    if arch.stem != "3x3":
        maps = F.max_pool2d(F.pad(maps, (1, 1, 1, 1)), 3, 2)  # zeros do not beat what is not negative
    for stage, depth in enumerate(arch.depths, 1):
        for position in range(depth):
            maps = block(f"layer{stage}.{position}", maps, 2 if stage > 1 and position == 0 else 1)
    return maps.mean((2, 3)) @ tensors["fc.weight"].T + tensors["fc.bias"]


QUICK = [name for name in MODELS if not name.endswith(("110", "1202"))]


@pytest.mark.parametrize("name", QUICK)
@torch.inference_mode()
def test_logits_equal_a_second_computation(name: str) -> None:
    arch = MODELS[name] if name == "resnet4_tiny" else narrow(name)
    model = filled(arch).double()
    images = torch.randn(2, 3, 45, 38, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = second_forward(arch, model.state_dict(), images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(model(images), expected, rtol=1e-9, atol=1e-9)


def test_the_second_computation_was_made_for_every_kind_of_net() -> None:
    assert len(QUICK) == len(MODELS) - 4 == 36
    archs = [MODELS[name] for name in QUICK]
    assert {arch.stem for arch in archs} == {"7x7", "deep", "3x3"}
    assert {arch.shortcut for arch in archs} == {"A", "B", "C", "plain"}
    assert {(arch.block, arch.stride_style, arch.avg_down) for arch in archs} == {
        ("basic", "pytorch", False),
        ("bottleneck", "pytorch", False),
        ("bottleneck", "caffe", False),
        ("bottleneck", "pytorch", True),
    }


@torch.inference_mode()
def test_caffe_style_is_another_function_of_equal_weights() -> None:
    ours, caffe = filled(narrow("resnet50")), filled(narrow("resnet50_caffe"))
    assert ours.state_dict().keys() == caffe.state_dict().keys()
    images = torch.randn(2, 3, 64, 64)
    assert not torch.allclose(ours(images), caffe(images), rtol=0.01)
    strides = {
        style: [getattr(model.get_submodule("layer2.0"), conv).stride for conv in ("conv1", "conv2")]
        for style, model in (("pytorch", ours), ("caffe", caffe))
    }
    assert strides == {"pytorch": [(1, 1), (2, 2)], "caffe": [(2, 2), (1, 1)]}


@pytest.mark.parametrize("name", ["plain18", "plain34", "plain20"])
@torch.inference_mode()
def test_a_plain_net_is_the_branches_alone(name: str) -> None:
    plain = filled(narrow(name))
    residual = filled(replace(narrow(name), shortcut="A"))
    assert plain.state_dict().keys() == residual.state_dict().keys()
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(plain(images), residual(images), rtol=0.01)
    maps = torch.rand(2, 8, 9, 9)
    block = plain.get_submodule("layer1.0")
    convs = [block.get_submodule(f"conv{index}") for index in (1, 2)]
    norms = [block.get_submodule(f"bn{index}") for index in (1, 2)]
    branch = norms[1](convs[1](norms[0](convs[0](maps)).relu()))
    torch.testing.assert_close(block(maps), branch.relu())
    torch.testing.assert_close(residual.get_submodule("layer1.0")(maps), (branch + maps).relu())


@pytest.mark.parametrize(("channels", "wider", "stride"), [(16, 32, 2), (3, 8, 2), (4, 4, 2), (5, 8, 1), (64, 256, 1)])
@pytest.mark.parametrize("size", [8, 7, 1])
def test_option_a_by_hand(channels: int, wider: int, stride: int, size: int) -> None:
    shortcut = ZeroPadShortcut(channels, wider, stride)
    assert list(shortcut.parameters()) == list(shortcut.buffers()) == []
    images = torch.randn(2, channels, size, size)
    small = (size + stride - 1) // stride
    expected = torch.zeros(2, wider, small, small)
    before = (wider - channels) // 2
    for channel in range(channels):
        for row in range(small):
            for column in range(small):
                expected[:, before + channel, row, column] = images[:, channel, row * stride, column * stride]
    assert torch.equal(shortcut(images), expected)


def test_only_the_dimension_changes_have_a_shortcut_with_work_to_do() -> None:
    def working(name: str) -> list[str]:
        arch = replace(narrow(name), widths=MODELS[name].widths, stem_width=64)
        return [n for n, module in meta(arch).named_modules() if n.endswith("downsample")]

    changes = [f"layer{stage}.0.downsample" for stage in (2, 3, 4)]
    assert working("resnet34") == working("resnet34_a") == changes
    assert len(working("resnet34_c")) == 16
    assert working("plain34") == []
    assert working("resnet50") == ["layer1.0.downsample", *changes]


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_and_bytes_of_the_state_dict(name: str) -> None:
    entries, megabytes = ENTRIES[name]
    tensors = meta(MODELS[name]).state_dict()
    assert len(tensors) == entries
    total = sum(value.numel() * value.element_size() for value in tensors.values() if value.is_floating_point())
    assert megabytes is None or f"{total / 1e6:.2f}" == megabytes


@pytest.mark.parametrize("name", ["resnetv1c50", "resnetv1d50"])
def test_deep_stem(name: str) -> None:
    model = meta(MODELS[name])
    stem = [
        (module.in_channels, module.out_channels, module.kernel_size, module.stride)
        for module in model.conv1.modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert stem == [(3, 32, (3, 3), (2, 2)), (32, 32, (3, 3), (1, 1)), (32, 64, (3, 3), (1, 1))]
    pools = [n for n, module in model.named_modules() if isinstance(module, nn.AvgPool2d)]
    expected = [f"layer{stage}.0.downsample.0" for stage in (2, 3, 4)]
    assert pools == (expected if name == "resnetv1d50" else [])


FEATURE_SIZES = {  # stem of the net, pixels a side: pixels of the maps
    ("resnet50", 224): [56, 28, 14, 7],
    ("resnet50", 225): [57, 29, 15, 8],
    ("resnetv1d50", 225): [57, 29, 15, 8],
    ("resnet50_caffe", 225): [57, 29, 15, 8],
    ("resnet18_a", 225): [57, 29, 15, 8],
    ("resnet50", 33): [9, 5, 3, 2],
    ("resnet50", 1): [1, 1, 1, 1],
    ("resnet18_cifar", 32): [32, 16, 8, 4],
    ("resnet18_cifar", 33): [33, 17, 9, 5],
    ("resnet20", 32): [32, 16, 8],
    ("resnet20", 33): [33, 17, 9],
    ("plain20", 33): [33, 17, 9],
}


@pytest.mark.parametrize(("name", "image_size"), FEATURE_SIZES)
@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_feature_shapes(name: str, image_size: int, in_channels: int) -> None:
    arch = replace(MODELS[name], in_channels=in_channels, num_classes=7)
    model = meta(arch).eval()
    images = torch.empty(2, in_channels, image_size, image_size, device="meta")
    expected = [
        (2, width * arch.expansion, size, size)
        for width, size in zip(arch.widths, FEATURE_SIZES[name, image_size], strict=True)
    ]
    assert [tuple(maps.shape) for maps in model.features(images)] == expected
    assert model(images).shape == (2, 7)


@pytest.mark.parametrize("num_classes", [1, 7])
@pytest.mark.parametrize("in_channels", [1, 4])
@pytest.mark.parametrize("name", ["resnet18", "resnetv1d50", "resnet20", "resnet4_tiny"])
def test_any_classes_and_channels(name: str, num_classes: int, in_channels: int) -> None:
    model = ResNet(replace(narrow(name), num_classes=num_classes, in_channels=in_channels))
    logits = model(torch.randn(2, in_channels, 40, 40))
    assert logits.shape == (2, num_classes)
    logits.square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@torch.inference_mode()
def test_features_are_not_changed_by_what_comes_after() -> None:
    model = filled(narrow("resnet18_c"))
    images = torch.randn(2, 3, 40, 40)
    maps = model.features(images)
    last = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    for index, stage in enumerate(model.stages()):
        last = stage(last)
        assert torch.equal(maps[index], last.clone())


def test_drop_path_is_the_identity_in_eval_and_at_rate_zero() -> None:
    branch = torch.randn(8, 3, 2, 2)
    assert torch.equal(DropPath(0.7).eval()(branch), branch)
    assert torch.equal(DropPath(0.0).train()(branch), branch)
    assert "rate=0.7" in repr(DropPath(0.7))


def test_drop_path_keeps_or_drops_whole_samples_and_the_mean() -> None:
    torch.manual_seed(0)
    branch = torch.rand(20_000, 2, 3, 1) + 0.5
    dropped = DropPath(0.3).train()(branch)
    factors = dropped / branch
    assert torch.allclose(factors, factors[:, :1, :1, :1])
    kept = factors[:, 0, 0, 0] > 0
    torch.testing.assert_close(factors[kept], torch.full_like(factors[kept], 1 / 0.7))
    assert kept.double().mean().item() == pytest.approx(0.7, abs=0.013)  # four standard deviations
    assert dropped.mean().item() == pytest.approx(branch.mean().item(), rel=0.02)


def test_drop_path_gradient_flows_through_kept_branches_only() -> None:
    torch.manual_seed(0)
    branch = torch.ones(64, 1, 1, 1, requires_grad=True)
    dropped = DropPath(0.5).train()(branch)
    dropped.sum().backward()
    assert branch.grad is not None
    assert torch.equal(branch.grad, dropped.detach())  # 0 or 2
    assert set(branch.grad.flatten().tolist()) == {0.0, 2.0}


def test_drop_path_in_a_net() -> None:
    arch = narrow("resnet34")
    torch.manual_seed(0)
    model = ResNet(arch, drop_path_rate=0.5)
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert rates == [0.5] * 16  # constant over the blocks
    assert not any(isinstance(module, DropPath) for module in ResNet(arch).modules())
    assert model.state_dict().keys() == ResNet(arch).state_dict().keys()
    images = torch.randn(1, 3, 32, 32).expand(8, -1, -1, -1)
    torch.manual_seed(1)
    logits = model(images)
    assert not torch.allclose(logits[0], logits[1])  # equal images, other branches
    torch.manual_seed(1)
    assert torch.equal(model(images), logits)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    twin = ResNet(arch).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(images), twin(images))


def test_a_block_without_its_branch_is_its_shortcut() -> None:
    model = ResNet(narrow("resnet18"), drop_path_rate=0.999999).train()
    maps = torch.rand(4, 8, 6, 6)
    torch.manual_seed(0)
    assert torch.equal(model.get_submodule("layer1.0")(maps.clone()), maps)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnetv1d50", "resnet20", "resnet34_c", "resnet4_tiny"])
def test_zero_init_makes_each_block_its_shortcut(name: str) -> None:
    model = ResNet(narrow(name), zero_init_last=True)
    checked = 0
    for block in model.blocks():
        maps = torch.rand(2, block.conv1.in_channels, 6, 6)
        for training in (True, False):
            block.train(training)
            expected = maps if block.downsample is None else block.downsample(maps).relu()
            assert torch.equal(block(maps.clone()), expected)
        checked += 1
    assert checked == sum(model.arch.depths)
    assert all(block.last_bn.weight.eq(0).all() for block in model.blocks())
    zeros = [n for n, value in model.state_dict().items() if n.endswith("weight") and not value.any()]
    assert len(zeros) == checked  # and no other weight
    assert all(n.endswith("bn3.weight" if model.arch.expansion == 4 else "bn2.weight") for n in zeros)
    assert all(block.last_bn.weight.eq(1).all() for block in ResNet(narrow(name)).blocks())


def test_initial_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    model = ResNet(MODELS["resnet18"])
    checked = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name
            assert abs(module.weight.mean().item()) < 0.05 * (2 / fan_out) ** 0.5
            checked += 1
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
            assert (module.eps, module.momentum) == (1e-5, 0.1)
            checked += 1
    assert checked == 40
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert model.fc.bias.eq(0).all()


def test_the_same_seed_gives_the_same_net() -> None:
    def build(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return ResNet(narrow("resnetv1d50")).state_dict()

    first, second, other = build(3), build(3), build(4)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.0.weight"], other["conv1.0.weight"])


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnetv1d50", "resnet20", "plain20"])
@torch.inference_mode()
def test_channels_last_gives_the_same_logits(name: str) -> None:
    model = filled(narrow(name))
    images = torch.randn(4, 3, 48, 48)
    expected = model(images)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images.contiguous(memory_format=torch.channels_last)), expected)


def test_an_architecture_comes_back_from_json() -> None:
    plain = {"block": "basic", "depths": [1, 2], "widths": [4, 8], "stem": "3x3", "stem_width": 4, "shortcut": "A"}
    expected = Architecture("basic", (1, 2), (4, 8), 1, "3x3", 4, "A", False, "pytorch", 1000, 3)
    assert architecture_from_json(plain) == expected
    for arch in MODELS.values():
        assert architecture_from_json(json.loads(json.dumps(asdict(arch)))) == arch


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["A", "B", "C", "plain"])
@torch.inference_mode()
def test_a_compiled_net_gives_the_same_logits(shortcut: Shortcut) -> None:
    model = filled(cifar_architecture(1, shortcut))
    images = torch.randn(4, 3, 32, 32)
    expected = model(images)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(images), expected, rtol=1e-4, atol=1e-4)


def test_drop_path_is_constant_or_rises_over_the_blocks() -> None:
    """mmclassification 0.x has the same rate in every block, mmpretrain 1.x from zero to it."""
    with torch.device("meta"):
        constant = ResNet(MODELS["resnet50"], drop_path_rate=0.05)
        linear = ResNet(MODELS["resnet50"], drop_path_rate=0.05, drop_path_shape="linear")
    rates = [[getattr(block.drop_path, "rate", None) for block in model.blocks()] for model in (constant, linear)]
    assert rates[0] == [0.05] * 16
    assert rates[1] == pytest.approx([0.05 * place / 15 for place in range(16)])
