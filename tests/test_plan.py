"""Plans: the parts of a step add up, and each figure says how it is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from resnetkit import plan as planning
from resnetkit.cli import main
from resnetkit.errors import BadRequest
from resnetkit.links import Link, NodeRun, ring_seconds
from resnetkit.models import ResNet, find_architecture
from resnetkit.plan import LINKS, hidden_seconds, largest_normal, node_seconds, plan, slower
from resnetkit.recipes import load_recipe

HERE = Link(1e-4, 1e9)


def short_run(recipe: object, processes: int, threads: int, microbatch: int, budget: float) -> NodeRun:
    """A machine of known speed in place of this one."""
    return NodeRun(processes, threads, ((4096, 1e-4),), HERE, 0.0, microbatch, 0.01, 0.0, 0.002)


@pytest.fixture
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measure_node", short_run)
    monkeypatch.setattr(planning, "usable_cores", lambda: 4)


RECIPE = load_recipe("resnet18_8xb16_cifar10", [])  # 128 images a step, in micro-batches of 16


def test_a_step_is_compute_and_sums(known_machine: None) -> None:
    found = plan(RECIPE, devices_per_node=2)
    assert (found.batch.accumulation, found.batch.microbatch_size) == (4, 16)
    assert found.compute_seconds == pytest.approx(4 * 16 * 0.01 + 0.002)
    params = 11_173_962  # of the page, 11.17 M
    statistics = 2 * 4 * sum(
        module.num_features for module in ResNet(find_architecture("resnet18_cifar")).modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    )  # fmt: skip
    whole = ring_seconds(4 * params + statistics + 16, 2, HERE)
    messages = 3 + 2  # 44.7 MB of gradients in buckets of at most 25 MB, statistics, tally
    assert found.sum_seconds == pytest.approx(whole + (messages - 1) * 2 * HERE.alpha, rel=1e-6)
    assert found.step_seconds == pytest.approx(found.compute_seconds + found.sum_seconds)
    assert found.images_per_second == pytest.approx(128 / found.step_seconds)
    assert found.epochs_per_day == pytest.approx(86_400 / (391 * found.step_seconds))
    assert found.input_bytes_per_second == pytest.approx(3072 * found.images_per_second)


def test_more_processes_than_cores_share_them(known_machine: None) -> None:
    fits, crowded = plan(RECIPE, devices_per_node=4), plan(RECIPE, devices_per_node=8)
    assert fits.batch.accumulation == 2 and crowded.batch.accumulation == 1
    assert crowded.compute_seconds == pytest.approx(2 * (16 * 0.01 + 0.002))


def test_a_slow_link_makes_it_slower(known_machine: None) -> None:
    rates = [plan(RECIPE, 2, 2, link).images_per_second for link in ("1GbE", "10GbE", "100GbE")]
    assert rates == sorted(rates) and rates[0] < rates[-1]
    assert slower(HERE, LINKS["1GbE"]).bytes_per_second == LINKS["1GbE"].bytes_per_second
    assert slower(HERE, LINKS["100GbE"]).bytes_per_second == HERE.bytes_per_second


def test_gpus_hide_all_sums_but_the_last_bucket() -> None:
    found = plan(load_recipe("resnet50_8xb32-fp16_in1k", []), 2, 8, "100GbE", "A100 80GB")
    assert 0 < found.exposed_seconds < found.sum_seconds
    assert found.waiting_seconds == pytest.approx(
        0.01 * found.compute_seconds * largest_normal(16) / math.sqrt(found.batch.accumulation)
    )
    assert found.run is None and {figure.known.split()[0] for figure in found.figures} == {"published", "assumed"}
    assert hidden_seconds([1.0, 1.0, 1.0], 1.5) == pytest.approx(1.0)
    assert hidden_seconds([1.0], 1.5) == 0


def test_the_largest_of_normal_deviations_is_as_tables_say() -> None:
    means = {1: 0.0, 2: 0.5642, 3: 0.8463, 4: 1.0294, 10: 1.5388}  # Harter, Biometrika 48 (1961), table 1
    for count, mean in means.items():
        assert largest_normal(count) == pytest.approx(mean, abs=1e-4)


def test_nodes_choose_a_ring_or_a_tree() -> None:
    link, inside = Link(1e-3, 1e9), Link(0.0, 1e12)
    assert node_seconds(0, 2, 8, link, inside) == pytest.approx(2e-3)
    assert node_seconds(0, 64, 8, link, inside) == pytest.approx(2 * 6 * 1e-3)
    assert node_seconds(10**9, 2, 1, link, inside) == pytest.approx(1.0 + 2e-3)


def test_synchronised_statistics_are_counted(known_machine: None) -> None:
    synchronised = replace(RECIPE, sync_batchnorm=True)
    assert plan(synchronised, devices_per_node=2).sum_seconds > plan(RECIPE, devices_per_node=2).sum_seconds


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nodes", "2"], "expected --link"),
        (["--nodes", "2", "--link", "10GBE"], "did you mean '10GbE'"),
        (["--on", "A100"], "did you mean 'A100 80GB'"),
        (["--on", "RTX 3090"], "no published figure"),
    ],
)
def test_what_nothing_is_known_of_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "resnet18_8xb16_cifar10", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_command_prints_what_is_measured_and_modelled(
    known_machine: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "resnet18_8xb16_cifar10", "--gpus-per-node", "2"]) == 0
    printed = capsys.readouterr().out
    for word in ("modelled", "measured", "epochs", "memory", "input", "alpha"):
        assert word in printed
    assert main(["plan", "resnet18_8xb16_cifar10", "--gpus-per-node", "2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["batch"]["recipe"]["name"] == RECIPE.name and facts["step_seconds"] > 0


def test_one_process_of_this_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "BUDGET_SECONDS", 1.0)
    found = plan(load_recipe("quickstart", []))
    assert found.sum_seconds == found.waiting_seconds == 0 and found.efficiency == 1
    assert found.images_per_second > 10

    with pytest.raises(BadRequest):
        plan(RECIPE, 0)
