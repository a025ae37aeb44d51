"""How a recipe would go on many devices: step time by the alpha-beta model, from a short run here or published figures.

A step is compute, then what of the gradients' sum is not hidden behind the backward pass, then waiting for the slowest:

    sum over a ring of n processes            2 (n - 1) (alpha + S / n / B)
    over N nodes with g GPUs each (NCCL)      2 (g - 1) / g S / B_inside + 2 (N - 1) / N S / B_link
                                              + the latencies of a ring or of a tree, whichever is less
    waiting                                   sigma times the mean of the largest of n normal deviations

(Patarasuk and Yuan, 2009, doi.org/10.1016/j.jpdc.2008.09.002, for the ring.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from resnetkit.batch_plan import BatchPlan, fit
from resnetkit.cost import RecipeCost, architecture_of, recipe_cost
from resnetkit.errors import BadRequest, did_you_mean
from resnetkit.forecast import measure, memory_of
from resnetkit.gpus import PUBLISHED, Precision, forecast_gpus
from resnetkit.links import Link, NodeRun, measure_node, ring_seconds
from resnetkit.models import ResNet
from resnetkit.provenance import usable_cores
from resnetkit.recipe import Recipe
from resnetkit.together import split_into_buckets

CPU = "cpu"
LOCAL = "local"
BUDGET_SECONDS = 8.0  # of the passes of the short run
TCP_SHARE = 0.94  # of a line's rate that is left for data: 1,448 of each 1,538 bytes on the line
# What is assumed of a network between nodes; bytes a second of a node, in one direction.
LINKS = {
    LOCAL: Link(0.0, math.inf),  # processes of this machine alone
    "1GbE": Link(30e-6, TCP_SHARE * 0.125e9),
    "10GbE": Link(20e-6, TCP_SHARE * 1.25e9),
    "25GbE": Link(15e-6, TCP_SHARE * 3.125e9),
    "100GbE": Link(10e-6, TCP_SHARE * 12.5e9),
    "8x400G-IB": Link(5e-6, 8 * 45e9),
}
# What is assumed between the GPUs of a node: NVLink of A100 and V100 at three quarters of its rate, PCIe 4 for the RTX.
INSIDE = {"A100 80GB": Link(3e-6, 225e9), "V100 16GB": Link(3e-6, 112e9), "RTX 3090": Link(10e-6, 20e9)}
SPREAD = 0.01  # of a step's time, assumed where it is not measured
BACKWARD_SHARE = 2 / 3  # of a pass: gradients of weights and of inputs
SMALL_SUM = 16  # bytes: loss and images counted right

# Bytes of an image as it is read: CIFAR's arrays; else the size of the published archive by its images
# (ILSVRC2012_img_train.tar 147,897,477,120 bytes; fall11_whole.tar 1.31 TB; CUB_200_2011.tgz 1,150,585,339 bytes).
IMAGE_BYTES = {"cifar10": 3072, "cifar100": 3072, "imagenet1k": 115_440, "imagenet21k": 92_300, "cub200": 97_600}


@dataclass(frozen=True)
class Figure:
    """A number, and how it is known."""

    name: str
    value: float
    unit: str
    known: str  # measured, published, assumed or modelled


@dataclass(frozen=True)
class Plan:
    """How a recipe would go on some devices; seconds of one optimizer step."""

    recipe: str
    nodes: int
    devices_per_node: int
    device: str
    link: str
    batch: BatchPlan
    compute_seconds: float  # forward, backward and update
    sum_seconds: float  # of gradients, running statistics and tally
    exposed_seconds: float  # of that, what is not hidden behind the backward pass
    waiting_seconds: float  # for the slowest
    step_seconds: float
    images_per_second: float
    efficiency: float  # of as many devices that need not wait for each other
    epochs_per_day: float
    hours: float
    memory_bytes: int  # of a device
    input_bytes_per_second: float | None  # all nodes; None where the size of an image is not known
    figures: tuple[Figure, ...]  # what went in
    run: NodeRun | None  # of this machine
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Device:
    """What a plan needs to know of a device."""

    seconds_per_image: float
    seconds_per_update: float
    spread: float  # of a pass
    overlaps: bool  # sums go on behind the backward pass
    crowding: float  # how many processes share a core
    figures: tuple[Figure, ...]
    run: NodeRun | None


def plan(
    recipe: Recipe,
    nodes: int = 1,
    devices_per_node: int = 1,
    link: str = LOCAL,
    device: str = CPU,
    max_microbatch: int | None = None,
) -> Plan:
    """Plan a recipe on `nodes` x `devices_per_node` devices; on CPUs after a short run on this machine.

    A node of CPUs is a machine like this one, whose cores its processes share.  Raises BadRequest for a link or a
    device that is not known, or several nodes without a link.
    """
    refuse_unknown(nodes, link, device, recipe)
    devices = nodes * devices_per_node
    batch = fit(recipe, devices, max_microbatch)
    cost = recipe_cost(batch.recipe)
    known = cpu_device(batch, cost, nodes, devices_per_node) if device == CPU else gpu_device(batch, cost, device)
    passes = batch.accumulation * batch.microbatch_size * known.seconds_per_image * known.crowding
    buckets, others = sums_of_step(batch.recipe, cost, nodes, devices_per_node, link, known, device)
    compute = passes + known.seconds_per_update * known.crowding
    hidden = hidden_seconds(buckets, passes / batch.accumulation) if known.overlaps else 0.0
    exposed = sum(buckets) + sum(others) - hidden
    waiting = compute * known.spread / math.sqrt(batch.accumulation) * largest_normal(devices)
    step = compute + exposed + waiting
    rate = cost.batch_size / step
    image_bytes = IMAGE_BYTES.get(recipe.data)
    return Plan(
        recipe=recipe.name,
        nodes=nodes,
        devices_per_node=devices_per_node,
        device=device,
        link=link,
        batch=batch,
        compute_seconds=compute,
        sum_seconds=sum(buckets) + sum(others),
        exposed_seconds=exposed,
        waiting_seconds=waiting,
        step_seconds=step,
        images_per_second=rate,
        efficiency=compute / step,
        epochs_per_day=86_400 / (step * cost.steps_per_epoch),
        hours=cost.steps * step / 3600,
        memory_bytes=memory_of(batch.recipe, cost, batch.microbatch_size).total,
        input_bytes_per_second=rate * image_bytes if image_bytes else None,
        figures=(*known.figures, *link_figures(link, device)),
        run=known.run,
        notes=CPU_NOTES if device == CPU else GPU_NOTES,
    )


def refuse_unknown(nodes: int, link: str, device: str, recipe: Recipe) -> None:
    """Refuse a link or a device that nothing is known of."""
    if link not in LINKS:
        raise BadRequest(f"--link: {link!r} is not known{did_you_mean(link, LINKS)}", f"expected {', '.join(LINKS)}")
    devices = [CPU, *INSIDE]
    if device not in devices:
        raise BadRequest(f"--on: {device!r} is not known{did_you_mean(device, devices)}",
                         f"expected {', '.join(devices)}")  # fmt: skip
    if nodes > 1 and link == LOCAL:
        raise BadRequest(f"{nodes} nodes: expected --link, the network between them", f"one of {', '.join(LINKS)}")
    if device != CPU and not gpu_rates(recipe, device):
        raise BadRequest(f"no published figure of {device} in the precision of {recipe.name}",
                         "next: --set amp='{}', mixed precision")  # fmt: skip


# --- devices ---


def cpu_device(batch: BatchPlan, cost: RecipeCost, nodes: int, per_node: int) -> Device:
    """Measure this machine: passes of as many processes as it has cores for, and sums between them."""
    cores = usable_cores()
    beside, threads = min(per_node, cores), max(1, cores // per_node)
    run = None
    if nodes * per_node > 1:
        budget = BUDGET_SECONDS if beside > 1 else 0.0
        run = measure_node(batch.recipe, max(2, beside), threads, batch.microbatch_size, budget)
    if run and run.seconds_per_image and run.seconds_per_update and run.microbatch_size:
        per_image, update, spread = run.seconds_per_image, run.seconds_per_update, run.spread
        images = run.microbatch_size
    else:
        alone = measure(batch.recipe, cost, batch.microbatch_size, BUDGET_SECONDS, torch.device("cpu"))
        per_image, update, spread = alone.seconds_per_image, alone.seconds_per_update, alone.spread
        images, threads = alone.microbatch_size, alone.threads
    who = "a process here" if beside == 1 else f"{beside} processes here at once"
    how = f"measured: {who}, passes of {images} images, {threads} threads each"
    figures = [
        Figure("a pass, an image", per_image, "s", how),
        Figure("an update", update, "s", how),
        Figure("spread of a pass", SPREAD if spread is None else spread, "", "assumed" if spread is None else how),
    ]
    if run:
        sums = f"gloo between {run.processes} processes here; single sums differ by up to {run.worst_fit:.0%}"
        figures += [
            Figure("alpha of a message", run.link.alpha, "s", f"measured: {sums}"),
            Figure("bandwidth", run.link.bytes_per_second, "B/s", f"measured: {sums}"),
        ]
    return Device(per_image, update, SPREAD if spread is None else spread, False, max(1.0, per_node / cores),
                  tuple(figures), run)  # fmt: skip


def gpu_device(batch: BatchPlan, cost: RecipeCost, name: str) -> Device:
    """Take a GPU's published throughput, in proportion to multiply-adds."""
    rows = forecast_gpus(cost.macs, cost.samples, batch.recipe.amp is not None)
    fitting = gpu_rates(batch.recipe, name)
    seconds = 1 / max(
        row.images_per_second for row in rows if row.gpu == name and row.gpus == 1 and row.precision in fitting
    )
    figures = (
        Figure("a pass and its update, an image", seconds, "s", "published ResNet-50 throughput, by multiply-adds"),
        Figure("spread of a step", SPREAD, "", "assumed"),
    )
    return Device(seconds, 0.0, SPREAD, True, 1.0, figures, None)


def gpu_rates(recipe: Recipe, name: str) -> set[Precision]:
    """Return in which precisions a GPU's published figures fit a recipe."""
    fitting: set[Precision] = {"AMP"} if recipe.amp else {"TF32", "FP32"}
    return {row.precision for row in PUBLISHED if row.gpu == name and row.gpus == 1} & fitting


# --- sums ---


def sums_of_step(
    recipe: Recipe, cost: RecipeCost, nodes: int, per_node: int, link: str, known: Device, device: str
) -> tuple[list[float], list[float]]:
    """Return the seconds of each sum of a step: buckets of gradients in their order, and all others."""
    if nodes * per_node == 1:
        return [], []

    def seconds(size: int) -> float:
        if known.run:
            here = Link(known.crowding * known.run.link.alpha, known.run.link.bytes_per_second / known.crowding)
            return ring_seconds(size, nodes * per_node, slower(here, LINKS[link if nodes > 1 else LOCAL]))
        return node_seconds(size, nodes, per_node, LINKS[link], INSIDE[device])

    with torch.device("meta"):
        model = ResNet(architecture_of(recipe, cost.num_classes))
    buckets = split_into_buckets(list(model.parameters()))
    gradients = [sum(4 * parameter.numel() for parameter in bucket) for bucket in buckets]  # float32
    channels = [module.num_features for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if recipe.sync_batchnorm:  # in each pass count, mean and variance, and the gradients of the last two
        others = [4 * width for width in channels] * (5 * recipe.devices // (nodes * per_node))
    else:
        others = [2 * 4 * sum(channels)]  # running means and variances
    return [seconds(size) for size in gradients], [seconds(size) for size in (*others, SMALL_SUM)]


def slower(here: Link, between: Link) -> Link:
    """Return what a message takes over a network, with what the processes themselves take for it."""
    return Link(here.alpha + between.alpha, min(here.bytes_per_second, between.bytes_per_second))


def node_seconds(size: int, nodes: int, per_node: int, link: Link, inside: Link) -> float:
    """Return what NCCL's sum takes over nodes of several GPUs."""
    within = ring_seconds(size, per_node, inside) if per_node > 1 else 0.0
    if nodes == 1:
        return within
    latency = min(2 * (nodes - 1), 2 * math.log2(nodes)) * link.alpha
    return within + latency + 2 * (nodes - 1) / nodes * size / link.bytes_per_second


def hidden_seconds(buckets: list[float], pass_seconds: float) -> float:
    """Return what of the gradients' sums goes on behind the last backward pass: all but the last bucket may."""
    return min(sum(buckets[:-1]), BACKWARD_SHARE * pass_seconds)


def largest_normal(count: int) -> float:
    """Return the mean of the largest of `count` standard normal deviations: the integral of x d Phi(x)^count."""
    if count == 1:
        return 0.0
    places = np.linspace(-10, 10, 20_001)
    below = np.array([0.5 * math.erfc(-place / math.sqrt(2)) for place in places]) ** count
    return float(np.sum((places[1:] + places[:-1]) / 2 * np.diff(below)))


def link_figures(link: str, device: str) -> tuple[Figure, ...]:
    """Return what was assumed of the networks."""
    named = {link: LINKS[link]} if link != LOCAL else {}
    if device != CPU:
        named[f"inside a node of {device}"] = INSIDE[device]
    return tuple(figure for name, each in named.items() for figure in (
        Figure(f"latency, {name}", each.alpha, "s", "assumed"),
        Figure(f"bandwidth, {name}", each.bytes_per_second, "B/s", "assumed")))  # fmt: skip


CPU_NOTES = (
    "measured: passes, updates and sums on this machine; modelled: the step, and all that follows from it",
    "nothing of a sum is hidden behind the backward pass: gloo's work needs the same cores",
    "reading, decoding and augmenting, evaluation and saving come on top",
)
GPU_NOTES = (
    "nothing was measured: published throughput of ResNet-50 on one GPU, networks as assumed, and the model; nets with "
    "few channels use less of a GPU than this says",
    "eight A100 gave 6.7 times one with AMP, 7.7 times with TF32 (NVIDIA, input included); the model gives 7.7 and "
    "more: input is not in it",
    "decoding 115 kB JPEGs takes about a core for each 400 to 500 images a second",
)
