"""Does each check of `make parity` see what it is there for?  Each is shown something broken on purpose."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmpretrain", reason="the libraries compared with are in .venv-parity: make parity")

import published_names
import run
from configs import differing_settings, read_config, recipe_of_1x, settings_of_config, settings_of_recipe
from figures import Figure, largest, relative_error, worst_error
from indices import wrong_places
from lamb import BOUND as LAMB_BOUND
from lamb import lamb_errors
from mmpretrain.engine.optimizers.lamb import Lamb as MmpretrainLamb
from mmpretrain.models.losses import CrossEntropyLoss, LabelSmoothLoss
from mmpretrain.models.utils.batch_augments import CutMix, Mixup
from nets import GRADIENT_SIZE, GRADIENTS_BOUND, LOGITS_BOUND, draw_weights, gradients_error, logits_error
from peers import peers_of
from rates import BOUND as RATE_BOUND
from rates import SCHEDULES, mmengine_rates, our_rates
from steps import FLOAT32, FLOAT64, LOSS_BOUND, WEIGHTS_BOUND, Numerics, our_recipe, training_errors
from targets import BOUND, CLASSES, loss_errors, mix_errors

import layouts
from resnetkit import conversion, layout_files
from resnetkit.data.mix import cutmix, mixup
from resnetkit.data.sampler import repeated_order
from resnetkit.layouts.recognise import load_checked
from resnetkit.layouts.targets import to_layout
from resnetkit.losses import binary_cross_entropy, cross_entropy
from resnetkit.models import ResNet, find_architecture
from resnetkit.optim import Lamb
from resnetkit.published import PUBLISHED
from resnetkit.recipe import Cosine, Recipe, Sgd, StepDecay
from resnetkit.recipes import RECIPES

# Broken on purpose: what is done to our net, and the model it is done to.
NET_BREAKS: dict[str, tuple[str, Callable[[ResNet], None]]] = {
    "a block without its branch": ("resnet50", lambda net: zero_last_norm(net.blocks()[-2])),
    "a block without its shortcut": ("resnet152_cifar", lambda net: set_residual(net.blocks()[20])),
    "a block with another activation": ("resnet18", lambda net: set_relu(net.blocks()[4])),
    "a stride on the first 1x1": ("resnet50", lambda net: swap_strides(net.blocks()[3])),
    "a shortcut without its pool": ("resnetv1d50", lambda net: skip_pool(net.blocks()[3])),
    "another epsilon in one norm": ("resnet34", lambda net: setattr(net.blocks()[7].bn1, "eps", 1e-3)),
}


def zero_last_norm(block: Any) -> None:
    nn.init.zeros_(block.last_bn.weight)
    nn.init.zeros_(block.last_bn.bias)


def set_residual(block: Any) -> None:
    block.residual = False


def set_relu(block: Any) -> None:
    block.relu = nn.ReLU6()


def swap_strides(block: Any) -> None:
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def skip_pool(block: Any) -> None:
    block.downsample[0], block.downsample[1].stride = nn.Identity(), (2, 2)


def net_errors(model: str, change: Callable[[ResNet], None]) -> tuple[float, float]:
    """Return the errors of logits and gradients against mmpretrain after a change to our net."""
    ours = ResNet(find_architecture(model))
    peer = peers_of(ours.arch)[0]
    theirs = peer.build()
    draw_weights(theirs, seed=1)
    load_checked(ours, peer.to_ours(theirs.state_dict()))
    change(ours)
    size = 32 if "cifar" in model else GRADIENT_SIZE
    return logits_error(ours, theirs, size), gradients_error(ours, theirs, peer, size)


@pytest.mark.parametrize("name", NET_BREAKS)
def test_a_broken_net_misses_both_bounds(name: str) -> None:
    model, change = NET_BREAKS[name]
    kept = net_errors(model, lambda net: None)
    broken = net_errors(model, change)
    assert kept[0] < LOGITS_BOUND < broken[0]
    assert kept[1] < GRADIENTS_BOUND < broken[1]


def test_drawn_weights_are_away_from_0_and_1() -> None:
    net = ResNet(find_architecture("resnet18"), zero_init_last=True)
    draw_weights(net, seed=1)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20
    for norm in norms:
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert values is not None
            assert values.abs().min() > 0.1
            assert (values - 1).abs().min() > 0.09


@pytest.mark.parametrize(
    ("row", "schedule"),
    [
        ("resnet18_8xb32_in1k", StepDecay(drop_epochs=(30, 60, 91))),
        ("resnet50_8xb8_cub", Cosine(falls="every_step")),
        ("resnet50_8xb256-rsb-a3-100e_in1k", Cosine(falls="every_epoch", final_factor=0.0)),
        ("resnet50_8xb256-rsb-a3-100e_in1k", Cosine(falls="every_epoch", final_factor=1e-6 / 0.008, after_warmup=True)),
    ],
)
def test_a_broken_schedule_misses_the_bound(row: str, schedule: StepDecay | Cosine) -> None:
    recipe, wanted = RECIPES[row], SCHEDULES[row]
    assert relative_error(our_rates(recipe, wanted.epoch_steps), wanted.rates()) < RATE_BOUND
    broken = replace(recipe, schedule=schedule)
    assert relative_error(our_rates(broken, wanted.epoch_steps), wanted.rates()) > RATE_BOUND


def test_a_warmup_of_0x_misses_the_bound_of_mmengine() -> None:
    name = "resnet50_8xb8_cub"
    variant, theirs = RECIPES[f"{name}-mmpretrain1x"], mmengine_rates(name, SCHEDULES[name])
    assert relative_error(our_rates(variant, SCHEDULES[name].epoch_steps), theirs) < RATE_BOUND
    broken = replace(variant, warmup=RECIPES[name].warmup)
    assert relative_error(our_rates(broken, SCHEDULES[name].epoch_steps), theirs) > RATE_BOUND


SETTING_BREAKS: dict[str, tuple[str, Recipe]] = {
    "optimizer": ("resnet50_8xb16_cifar100", RECIPES["resnet50_8xb16-mixup_cifar10"]),
    "train": ("resnetv1d50_8xb32_in1k", RECIPES["resnet50_8xb32_in1k"]),
    "view": ("resnet50_8xb256-rsb-a2-300e_in1k", RECIPES["resnet50_8xb256-rsb-a2-300e_in1k"]),
    "drop path": ("resnet50_8xb256-rsb-a1-600e_in1k", RECIPES["resnet50_8xb256-rsb-a1-600e_in1k"]),
    "loss scale": ("resnet50_8xb32-fp16_in1k", RECIPES["resnet50_8xb32-fp16-dynamic_in1k"]),
    "mixes": ("resnet50_8xb32-mixup_in1k", RECIPES["resnet50_8xb32-cutmix_in1k"]),
    "last norms start at zero": ("resnet50_8xb8_cub", replace(RECIPES["resnet50_8xb8_cub"], zero_init_last=True)),
    "net": ("wide-resnet50_8xb32_in1k", RECIPES["wide-resnet101_8xb32_in1k"]),
}


@pytest.mark.parametrize("setting", SETTING_BREAKS)
def test_another_setting_is_named(setting: str) -> None:
    row, recipe = SETTING_BREAKS[setting]
    theirs = settings_of_config(read_config(row))
    assert not differing_settings(settings_of_recipe(recipe_of_1x(row)), theirs)
    assert setting in differing_settings(settings_of_recipe(recipe), theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (partial(binary_cross_entropy, reduction="mean_over_classes"), CrossEntropyLoss(use_sigmoid=True)),
        (cross_entropy, CrossEntropyLoss(use_sigmoid=True)),
        (partial(cross_entropy, label_smoothing=0.1), CrossEntropyLoss(use_soft=True)),
        (partial(cross_entropy, label_smoothing=0.1), LabelSmoothLoss(0.1, CLASSES, mode="classy_vision")),
    ],
)
def test_a_broken_loss_misses_the_bound(ours: Callable[..., Tensor], theirs: nn.Module) -> None:
    assert min(loss_errors(ours, theirs, soft=True)) > BOUND


def swapped(mix: Callable[..., tuple[Tensor, Tensor]], **change: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a mix that does not do as it is told."""
    return lambda images, targets, **wanted: mix(images, targets, **(wanted | change))


def test_a_broken_mix_misses_the_bound() -> None:
    share, centre = 0.4, (0, 12)
    assert max(mix_errors(mixup, Mixup(1.0), share, ())) < BOUND
    assert min(mix_errors(swapped(mixup, share=0.6), Mixup(1.0), share, ())) > BOUND
    assert max(mix_errors(partial(cutmix, centre=centre), CutMix(1.0), share, centre)) < BOUND
    assert min(mix_errors(partial(cutmix, centre=(12, 12)), CutMix(1.0), share, centre)) > BOUND
    uncorrected = CutMix(1.0, correct_lam=False)
    assert mix_errors(partial(cutmix, centre=centre), uncorrected, share, centre)[1] > BOUND


def test_another_rounding_is_another_order() -> None:
    assert wrong_places(repeated_order, 1003, 8) == (0, 0)
    assert all(wrong_places(partial(exchanged, wrong={1: 256, 256: 1}), 1003, 8))
    assert all(wrong_places(lambda *given, **rules: repeated_order(*given, **rules)[::-1], 1003, 8))


def exchanged(*given: Any, wrong: dict[int, int], round_to: int, **rules: Any) -> Any:
    """Use the other version's rounding."""
    return repeated_order(*given, round_to=wrong[round_to], **rules)


@pytest.mark.parametrize("change", [{"max_grad_norm": 10.0}, {"eps": 1e-4}, {"betas": (0.9, 0.99)}, {"lr": 0.00501}])
def test_a_broken_lamb_misses_the_bound(change: dict[str, Any]) -> None:
    broken = lamb_errors(lambda groups, **given: Lamb(groups, **(given | change)), MmpretrainLamb)
    assert largest(lamb_errors(Lamb, MmpretrainLamb).values()) < LAMB_BOUND
    assert min(broken.values()) > LAMB_BOUND


def test_a_lamb_that_scales_every_step_misses_the_bound_without_decay() -> None:
    always = partial(MmpretrainLamb, always_adapt=True)
    assert lamb_errors(Lamb, always)["without decay"] > LAMB_BOUND


@pytest.mark.parametrize(
    ("numerics", "optim"),
    [
        (FLOAT32, Sgd(lr=0.1, momentum=0.9, weight_decay=5e-4)),
        (FLOAT64, Sgd(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)),
    ],
)
def test_another_optimizer_misses_the_bounds_of_ten_steps(optim: Sgd, numerics: Numerics) -> None:
    losses, weights = training_errors(replace(our_recipe(), optim=optim), numerics)
    assert losses > LOSS_BOUND
    assert weights > WEIGHTS_BOUND


def test_a_file_with_two_norms_exchanged_misses_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = find_architecture("resnet18")
    peer = next(peer for peer in peers_of(arch) if peer.library == "torchvision")
    honest = layouts.write_theirs

    def exchanged(*given: Any) -> Path:
        path = honest(*given)
        tensors = torch.load(path, weights_only=True)
        first, second = "layer3.1.bn1.weight", "layer3.1.bn2.weight"
        tensors[first], tensors[second] = tensors[second], tensors[first]
        torch.save(tensors, path)
        return path

    assert layouts.error_of_their_file(arch, peer) < LOGITS_BOUND
    monkeypatch.setattr(layouts, "write_theirs", exchanged)
    assert layouts.error_of_their_file(arch, peer) > LOGITS_BOUND


@pytest.mark.parametrize("library", layouts.TARGETS)
def test_a_renamed_tensor_is_refused_by_every_library(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arch = replace(find_architecture("resnet18"), num_classes=3)
    peer = next(peer for peer in peers_of(arch) if peer.library == library)
    honest = to_layout

    def renamed(*given: Any) -> dict[str, Tensor]:
        tensors = honest(*given)
        return {name.replace("bn2.bias", "bn2.bios").replace("1.normalization.bias", "1.bios"): tensors[name]
                for name in tensors}  # fmt: skip

    assert layouts.error_of_our_file(arch, peer) < LOGITS_BOUND
    monkeypatch.setattr(layout_files, "to_layout", renamed)
    monkeypatch.setattr(conversion, "read_back", lambda path, file, target: file)  # ours would refuse it at once
    with pytest.raises((RuntimeError, ValueError)):
        layouts.error_of_our_file(arch, peer)


def test_another_entry_of_published_weights_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "timm/resnet50.a1_in1k"
    assert published_names.differences("resnet50.a1_in1k") == 0
    entry = PUBLISHED[name]
    monkeypatch.setitem(PUBLISHED, name, replace(entry, preprocess=replace(entry.preprocess, resize_size=256), url="x"))
    assert published_names.differences("resnet50.a1_in1k") == 2


def test_what_is_not_a_number_or_of_another_shape_or_name_never_passes() -> None:
    one, nan = torch.ones(2), torch.tensor([1.0, float("nan")])
    errors = {
        "nan": relative_error(nan, one),
        "zero": relative_error(one, torch.zeros(2)),
        "shape": relative_error(torch.ones(1), one),
        "names": worst_error({"a": one}, {"b": one}),
        "none": worst_error({}, {}),
        "largest": largest([0.0, float("nan"), 0.0]),
    }
    for name, error in errors.items():
        assert not Figure("", name, "", error, 1e-5).passed
        assert not Figure("", name, "", error, 0.0).passed
    assert Figure("", "equal", "", 0.0, 0.0).passed


@pytest.mark.parametrize(
    ("error", "figures", "code"), [(0.1, 1, 0), (0.1, 2, "broken: expected 2 figures, got 1"), (2.0, 1, 1)]
)
def test_the_run_ends_with_1_for_a_missed_bound_and_refuses_a_missing_figure(
    error: float, figures: int, code: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "QUESTIONS", {"broken": (lambda: [Figure("q", "s", "p", error, 1.0)], figures)})
    monkeypatch.setattr(sys, "argv", ["run.py", "broken"])
    with pytest.raises(SystemExit) as stopped:
        run.main()
    assert stopped.value.code == code
