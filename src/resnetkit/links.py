"""What processes of this machine take to add up tensors, and to do a step beside each other: measured in a short run.

run by `measure_node` under torchrun:  python -m resnetkit.links REQUEST.json
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resnetkit.assemble import assemble
from resnetkit.cost import recipe_cost
from resnetkit.errors import ResnetkitError
from resnetkit.forecast import blank_dataset, spread_of, timed_passes, update_seconds, without_data, without_updates
from resnetkit.home import read_json, write_json
from resnetkit.memory import keep_freed_memory
from resnetkit.processes import Processes, joined
from resnetkit.recipe import Recipe
from resnetkit.recipe_json import read_recipe, recipe_to_json
from resnetkit.train import deterministic

SIZES = tuple(4**power for power in range(6, 14))  # bytes of the sums that are timed: 4 KiB to 64 MiB
REPEATS = 7
LONGEST_SECONDS = 120  # that a process waits for another


@dataclass(frozen=True)
class Link:
    """A network of equal processes: a message of S bytes takes alpha + S / bytes_per_second."""

    alpha: float  # seconds before the first byte arrives
    bytes_per_second: float  # of one process, in one direction


@dataclass(frozen=True)
class NodeRun:
    """What a short run of several processes on this machine gave."""

    processes: int  # that worked at once
    threads: int  # of each
    sums: tuple[tuple[int, float], ...]  # bytes, and seconds of their sum over the processes
    link: Link  # fitted to them
    worst_fit: float  # the largest error of a fitted time, as a fraction
    microbatch_size: int | None  # images of the passes that were timed; None: of none
    seconds_per_image: float | None  # forward and backward in a process, while all others do the same
    spread: float | None  # standard deviation of a pass's time, as a fraction of it
    seconds_per_update: float | None


def ring_seconds(size: int, processes: int, link: Link) -> float:
    """Return what a sum of `size` bytes takes over a ring: each process sends 2 (n - 1) parts of 1 / n."""
    return 2 * (processes - 1) * (link.alpha + size / processes / link.bytes_per_second)


def fit_link(sums: Sequence[tuple[int, float]], processes: int) -> tuple[Link, float]:
    """Fit alpha and bandwidth of a ring to timed sums, by least squares of relative errors; also the largest error."""
    sizes, times = (np.array(column, dtype=float) for column in zip(*sums, strict=True))
    messages, share = 2 * (processes - 1), 2 * (processes - 1) / processes
    columns = np.stack([np.full_like(times, messages), share * sizes], axis=1) / times[:, None]
    (alpha, per_byte), *_ = np.linalg.lstsq(columns, np.ones_like(times))
    if alpha < 0:  # the noise of small sums: by the bandwidth alone
        alpha, per_byte = 0.0, columns[:, 1].sum() / np.square(columns[:, 1]).sum()
    link = Link(float(alpha), 1 / float(per_byte))
    fitted = np.array([ring_seconds(int(size), processes, link) for size in sizes])
    return link, float(np.max(np.abs(fitted / times - 1)))


def measure_node(recipe: Recipe, processes: int, threads: int, microbatch_size: int, budget_seconds: float) -> NodeRun:
    """Time sums over `processes` processes of this machine, and passes of a recipe that all do beside each other.

    No pass waits for another process: these are steps of one process each.  Raises ResnetkitError where it fails.
    """
    request = {"recipe": recipe_to_json(recipe), "threads": threads, "microbatch_size": microbatch_size,
               "budget_seconds": budget_seconds}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        write_json(path, request)
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *launch, "-m", "resnetkit.links", str(path)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        except subprocess.CalledProcessError as error:
            raise ResnetkitError("the short run failed", *reasons(error.stderr)) from error
        found = read_json(answer_of(path))
    link, worst = fit_link(found["sums"], processes)
    return NodeRun(processes, threads, tuple(map(tuple, found["sums"])), link, worst, *found["passes"])


def reasons(printed: str) -> list[str]:
    """Return the errors among what processes printed: the last line of each traceback, each once."""
    lines = [line.split("]: ", 1)[-1] for line in printed.splitlines()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Lost|Request|Exception): ", line)]
    return list(dict.fromkeys(errors))[:3] or lines[-3:]


def answer_of(request: Path) -> Path:
    """Return where the first process writes what all of them found."""
    return request.with_name("answer.json")


def main(request: Path) -> None:
    """Be one of the processes of a short run."""
    asked = read_json(request)
    keep_freed_memory()
    with deterministic(), joined(torch.device("cpu"), LONGEST_SECONDS) as processes:
        torch.set_num_threads(asked["threads"])
        sums = [(size, sum_seconds(size, processes)) for size in SIZES]
        passes = [None] * 4
        if asked["budget_seconds"]:
            passes = timed_beside(read_recipe(asked["recipe"]), processes, **{key: asked[key] for key in
                                  ("microbatch_size", "budget_seconds")})  # fmt: skip
        processes.on_first(lambda: write_json(answer_of(request), {"sums": sums, "passes": passes}))


def sum_seconds(size: int, processes: Processes) -> float:
    """Return the median seconds of a sum of `size` bytes of float32 over the processes."""
    tensor, times = torch.zeros(size // 4), []
    for _ in range(REPEATS + 1):
        processes.sums(0.0)  # all begin at once
        started = time.perf_counter()
        processes.wait_for(processes.start_sum(tensor))
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def timed_beside(recipe: Recipe, processes: Processes, microbatch_size: int, budget_seconds: float) -> list[Any]:
    """Time passes in all processes at once: images a pass, seconds an image, their spread, seconds an update."""
    classes = recipe_cost(recipe).num_classes
    training = assemble(without_data(recipe), blank_dataset(recipe.image_size, classes), torch.device("cpu"))
    processes.sums(0.0)
    deadline = time.perf_counter() + budget_seconds
    images, times = timed_passes(without_updates(training), microbatch_size, deadline)
    own = np.array([statistics.median(times) / images, update_seconds(training, deadline + budget_seconds / 4),
                    spread_of(times) or 0.0, images])  # fmt: skip
    per_image, update, spread, images = np.mean(processes.gather(own, len(own)), axis=0)
    return [round(float(images)), float(per_image), float(spread), float(update)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
