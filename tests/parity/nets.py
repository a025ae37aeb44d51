"""The nets of the 25 rows against every library that has them: logits, gradients, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from figures import Figure, relative_error, worst_error
from peers import Peer, peers_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from resnetkit.layouts.recognise import load_checked
from resnetkit.models import ResNet
from resnetkit.models.counting import Cost
from resnetkit.zoo import PAGE

LOGITS_BOUND, GRADIENTS_BOUND = 1e-5, 1e-4
GRADIENT_SIZE = 72  # pixels a side: maps of 18, 9, 5 and 3, so that an average pool meets odd sizes


@dataclass(frozen=True)
class Expected:
    """A row of reference/recipes.md, section 3."""

    params: int
    gmacs_page: float  # as the page counts
    gmacs: float | None  # convolutions and linear layers; not given for the weights-only row


# Counted for the reference document without this package; the rows fp16 and rsb are the net of resnet50.
EXPECTED = {
    "resnet18_8xb16_cifar10": Expected(11_173_962, 0.55721, 0.55542),
    "resnet34_8xb16_cifar10": Expected(21_282_122, 1.16242, 1.15940),
    "resnet50_8xb16_cifar10": Expected(23_520_842, 1.30765, 1.29783),
    "resnet101_8xb16_cifar10": Expected(42_512_970, 2.52482, 2.50998),
    "resnet152_8xb16_cifar10": Expected(58_156_618, 3.74316, 3.72214),
    "resnet50_8xb16_cifar100": Expected(23_705_252, 1.30765, 1.29801),
    "resnet18_8xb32_in1k": Expected(11_689_512, 1.82166, 1.81407),
    "resnet34_8xb32_in1k": Expected(21_797_672, 3.67512, 3.66376),
    "resnet50_8xb32_in1k": Expected(25_557_032, 4.11988, 4.08918),
    "resnet101_8xb32_in1k": Expected(44_549_160, 7.84745, 7.80141),
    "resnet152_8xb32_in1k": Expected(60_192_808, 11.57864, 11.51363),
    "resnetv1c50_8xb32_in1k": Expected(25_576_264, 4.36193, 4.32882),
    "resnetv1c101_8xb32_in1k": Expected(44_568_392, 8.08950, 8.04105),
    "resnetv1c152_8xb32_in1k": Expected(60_212_040, 11.82069, 11.75327),
    "resnetv1d50_8xb32_in1k": Expected(25_576_264, 4.36333, 4.32882),
    "resnetv1d101_8xb32_in1k": Expected(44_568_392, 8.09091, 8.04105),
    "resnetv1d152_8xb32_in1k": Expected(60_212_040, 11.82209, 11.75327),
    "resnet50_8xb32-fp16_in1k": Expected(25_557_032, 4.11988, 4.08918),
    "wide-resnet50_8xb32_in1k": Expected(68_883_240, 11.43857, 11.39802),
    "wide-resnet101_8xb32_in1k": Expected(126_886_696, 22.81407, 22.75305),
    "resnet50_8xb256-rsb-a1-600e_in1k": Expected(25_557_032, 4.11988, 4.08918),
    "resnet50_8xb256-rsb-a2-300e_in1k": Expected(25_557_032, 4.11988, 4.08918),
    "resnet50_8xb256-rsb-a3-100e_in1k": Expected(25_557_032, 4.11988, 4.08918),
    "resnet50_8xb8_cub": Expected(23_917_832, 16.47950, 16.34895),
    "resnet50-mill_in21k": Expected(46_499_861, 4.11988, None),
}


def net_figures() -> Iterator[Figure]:
    """Compare the net of every row with every peer; rows that share a net share the work, not the figures."""
    found: dict[tuple[str, int, int], list[Figure]] = {}
    for row in PAGE:
        key = row.model, row.num_classes, row.image_size
        if key not in found:
            net = row.build()
            assert isinstance(net, ResNet)
            cost, peers = row.cost(), peers_of(net.arch)
            found[key] = [figure for peer in peers for figure in compare(net, cost, peer, row.image_size)]
        yield from (replace(figure, subject=row.name) for figure in found[key])
        yield from expected_figures(row.name, row.cost())


def compare(ours: ResNet, cost: Cost, peer: Peer, image_size: int) -> list[Figure]:
    """Give ours the weights of a peer and compare logits, gradients, parameters and multiply-adds."""
    theirs = peer.build()
    draw_weights(theirs, seed=1)
    load_checked(ours, peer.to_ours(theirs.state_dict()))
    errors = {
        "logits": (logits_error(ours, theirs, image_size), LOGITS_BOUND),
        "gradients": (gradients_error(ours, theirs, peer, min(image_size, GRADIENT_SIZE)), GRADIENTS_BOUND),
        "parameters": (abs(num_parameters(ours) - num_parameters(theirs)), 0.0),
        "multiply-adds": (abs(cost.macs - num_macs(theirs, image_size)), 0.0),
    }
    return [Figure(question, "", peer.library, error, bound) for question, (error, bound) in errors.items()]


def draw_weights(model: nn.Module, seed: int) -> None:
    """Draw all weights, with every number of a BatchNorm at least 0.1 away from 0 and from 1.

    Where the last norm of a block starts at zero, the residual branches would count for nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
            nn.init.normal_(module.bias, std=0.01, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                draw_away(values.data, generator)
            module.bias.data.sub_(0.7)  # of either sign
            module.running_mean.sub_(0.7)


def draw_away(values: Tensor, generator: torch.Generator) -> None:
    """Fill with numbers between 0.2 and 0.5 or between 1.1 and 1.4."""
    values.uniform_(0.2, 0.5, generator=generator)
    values.add_(0.9 * torch.bernoulli(torch.full_like(values, 0.5), generator=generator))


def random_images(image_size: int) -> Tensor:
    """Return two images [2, 3, image_size, image_size] of noise, as if normalised."""
    return torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(2))


def logits_error(ours: nn.Module, theirs: nn.Module, image_size: int) -> float:
    """Compare the logits of two nets in eval mode."""
    images = random_images(image_size)
    with torch.no_grad():
        return relative_error(ours.eval()(images), theirs.eval()(images))


def gradients_error(ours: nn.Module, theirs: nn.Module, peer: Peer, image_size: int) -> float:
    """Compare the gradients of all parameters in train mode: the worst tensor counts.

    What is derived is a random weighting of the logits, since a softmax of large logits has no gradient left.
    """
    images = random_images(image_size)
    gradients = []
    for net in (ours, theirs):
        net.train().zero_grad()
        logits: Tensor = net(images)
        logits.backward(torch.randn(logits.shape, generator=torch.Generator().manual_seed(3)))  # type: ignore[no-untyped-call]
        named = {name: parameter.grad for name, parameter in net.named_parameters()}
        gradients.append({name: grad for name, grad in named.items() if grad is not None})
        assert len(gradients[-1]) == len(named)
    return worst_error(gradients[0], peer.to_ours(gradients[1]))


def num_parameters(model: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def num_macs(model: nn.Module, image_size: int) -> float:
    """Count the multiply-adds of one image with torch's own counter, which counts two operations for each."""
    net = model.eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, 3, image_size, image_size, device="meta"))
    flops: int = counter.get_total_flops()
    return flops / 2


def expected_figures(name: str, ours: Cost) -> list[Figure]:
    """Compare parameters and multiply-adds with the reference document, to its last digit (10,000 multiply-adds)."""
    expected = EXPECTED[name]
    pairs = {"parameters": (ours.params, expected.params)}
    for question, macs, gmacs in (
        ("multiply-adds, page", ours.macs_page, expected.gmacs_page),
        ("multiply-adds", ours.macs, expected.gmacs),
    ):
        if gmacs is not None:
            pairs[question] = round(macs / 1e4), round(gmacs * 1e5)
    return [Figure(question, name, "recipes.md", abs(a - b), 0.0) for question, (a, b) in pairs.items()]
