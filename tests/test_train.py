"""A run: exact resume, the same bits for the same seed, and errors that lose nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from resnetkit import checkpoint
from resnetkit import train as train_module
from resnetkit.assemble import Training, assemble
from resnetkit.data.loader import Batch, MemoryBatches
from resnetkit.data.photos import PhotoDataset
from resnetkit.data.trees import read_photos
from resnetkit.errors import BadImage, BadRequest, DamagedFile, Interrupted, NonFiniteLoss, SaveFailed
from resnetkit.evaluate import Evaluation, evaluate
from resnetkit.home import locked, read_json
from resnetkit.journal import Journal
from resnetkit.recipe import (
    Amp,
    CrossEntropy,
    Flip,
    Lamb,
    Muon,
    PadCrop,
    Plateau,
    ProgressiveCrop,
    RandAugment,
    RandomResizedCrop,
    Recipe,
    RepeatedAugmentation,
    SubtractMeanImage,
    View,
)
from resnetkit.step import Tally, describe_bad_batch, train_step
from resnetkit.train import train
from tiny import RECIPE, STEPS, TIME_FIELDS, tiny_dataset, wait_for_step, weights_sha256

DATASET = tiny_dataset()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One undisturbed run."""
    run = tmp_path_factory.mktemp("reference") / "run"
    assert isinstance(train(RECIPE, DATASET, run), Evaluation)
    return run


@pytest.fixture
def asked_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The steps whose batches were asked for."""
    asked: list[int] = []
    at = MemoryBatches.at

    def watched(self: MemoryBatches, step: int) -> Batch:
        asked.append(step)
        return at(self, step)

    monkeypatch.setattr(MemoryBatches, "at", watched)
    yield asked


def timeless(run: Path, *left_out: str) -> list[dict[str, Any]]:
    """Return a run's events without what a clock says."""
    events = [event for event in checkpoint.read_events(run) if event["event"] not in left_out]
    return [{k: v for k, v in event.items() if k not in TIME_FIELDS} for event in events]


@pytest.mark.parametrize("stop", [1, 4, 5, 7, 13, 20])
def test_a_resumed_run_equals_an_uninterrupted_one(
    stop: int, reference: Path, tmp_path: Path, asked_steps: list[int]
) -> None:
    run = tmp_path / "run"
    assert train(RECIPE, DATASET, run, max_steps=stop) is None
    assert asked_steps == list(range(stop))
    asked_steps.clear()
    train(RECIPE, DATASET, run, resume=True)
    assert asked_steps == list(range(stop, STEPS))  # it went on at the last saved step, not at zero
    assert weights_sha256(run) == weights_sha256(reference)
    assert timeless(run, "start", "resume") == timeless(reference, "start")
    assert [event["step"] for event in checkpoint.read_events(run) if event["event"] == "resume"] == [stop]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PhotoDataset:
    """Twenty-four photos of two colours to train on, six to evaluate on."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for place, count in (("train/blue", 12), ("train/red", 12), ("val/blue", 3), ("val/red", 3)):
        (root / place).mkdir(parents=True)
        colour = (40, 60, 200) if place.endswith("blue") else (200, 60, 40)
        for number in range(count):
            noise = rng.integers(-40, 40, (*rng.integers(20, 30, 2), 3))
            Image.fromarray((noise + colour).clip(0, 255).astype(np.uint8)).save(root / place / f"{number}.png")
    return read_photos(root)


PLATEAU = Plateau(drop_factor=0.5, patience_evaluations=1)
EVERYTHING = {
    "plateau": replace(RECIPE, schedule=PLATEAU, warmup=None, eval_every_epochs=0.5),
    "dynamic scale, LAMB": replace(RECIPE, amp=Amp(), optim=Lamb(0.01, weight_decay=0.02)),
    "Muon": replace(RECIPE, optim=Muon(0.05, sgd_lr=0.1, norm_bias_lr_factor=4.0, weight_decay=1e-3)),
    "precise statistics": replace(RECIPE, precise_bn_images=40, average_weights=None, eval_every_epochs=0.5),
    "photos": replace(
        RECIPE,
        batch_size=6,
        microbatch_size=2,
        view=View(20, 16),
        augment=(RandomResizedCrop("pillow-bilinear"), Flip(), RandAugment(level=7)),
        repeated_augmentation=RepeatedAugmentation(3, 1),
        val_images=4,
    ),
}


@pytest.mark.parametrize("kind", EVERYTHING)
def test_whatever_a_recipe_has_a_resumed_run_equals_an_uninterrupted_one(
    kind: str, photos: PhotoDataset, tmp_path: Path
) -> None:
    recipe, data = EVERYTHING[kind], photos if kind == "photos" else DATASET
    train(recipe, data, tmp_path / "whole")
    train(recipe, data, tmp_path / "parts", max_steps=4)  # an evaluation comes next
    train(recipe, data, tmp_path / "parts", resume=True, max_steps=7)
    train(recipe, data, tmp_path / "parts", resume=True)
    assert weights_sha256(tmp_path / "parts") == weights_sha256(tmp_path / "whole")
    assert timeless(tmp_path / "parts", "start", "resume") == timeless(tmp_path / "whole", "start")


def test_a_plateau_lowers_the_rate_that_is_used(tmp_path: Path) -> None:
    recipe = replace(RECIPE, schedule=PLATEAU, warmup=None, eval_every_epochs=0.5, log_every_steps=1)
    train(recipe, DATASET, tmp_path / "run")
    events = checkpoint.read_events(tmp_path / "run")
    best, factor, rates = float("inf"), 1.0, set()
    for event in events:
        if event["event"] == "eval" and event["step"] < STEPS:
            error = 1 - event["top1"]
            best, factor = (error, factor) if error < best - 0.001 else (best, factor / 2)
        elif event["event"] == "train":
            assert event["lr"] == pytest.approx(recipe.optim.lr * factor)
            rates.add(event["lr"])
    assert len(rates) > 2


def test_precise_statistics_are_those_of_the_last_images(tmp_path: Path) -> None:
    recipe = replace(RECIPE, precise_bn_images=32, average_weights=None, augment=(), drop_path_rate=0.0)
    assert train(recipe, DATASET, tmp_path / "run")
    tensors, _ = checkpoint.read_weights(tmp_path / "run" / checkpoint.WEIGHTS)
    training = assemble(recipe, DATASET, CPU)
    training.model.load_state_dict(tensors)
    means = []
    for step in (STEPS - 2, STEPS - 1):  # 16 and 14 images; micro-batches of every second image
        images = training.feed.batches.at(step).images
        means += [training.model.conv1(part).mean((0, 2, 3)) for part in (images[::2], images[1::2])]
    torch.testing.assert_close(tensors["bn1.running_mean"], torch.stack(means).mean(0).detach())


def test_a_run_that_starts_from_weights_says_so(tmp_path: Path) -> None:
    train(RECIPE, DATASET, tmp_path / "first")
    recipe = replace(RECIPE, init_from=str(tmp_path / "first"), total_epochs=1)
    train(recipe, DATASET, tmp_path / "second", max_steps=1)
    start = checkpoint.read_events(tmp_path / "second")[0]
    assert start["init_sha256"] == weights_sha256(tmp_path / "first")
    training = assemble(recipe, DATASET, CPU)
    tensors, _ = checkpoint.read_weights(tmp_path / "first" / checkpoint.WEIGHTS)
    state = training.model.state_dict()
    assert all(torch.equal(state[name], tensors[name]) for name in tensors if not name.startswith("fc."))
    assert not torch.equal(state["fc.weight"], tensors["fc.weight"])


def test_photos_that_cannot_be_read_stop_the_run_and_are_named(photos: PhotoDataset, tmp_path: Path) -> None:
    shutil.copytree(photos.root, tmp_path / "photos")
    broken = tmp_path / "photos" / "train" / "red" / "7.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(BadImage, match=r"train/red/7\.png: the image is damaged"):
        train(EVERYTHING["photos"], read_photos(tmp_path / "photos"), tmp_path / "run")


def test_a_folder_that_has_moved_is_the_same_data(photos: PhotoDataset, tmp_path: Path) -> None:
    recipe = replace(EVERYTHING["photos"], data=str(photos.root))
    train(recipe, photos, tmp_path / "run", max_steps=2)
    moved = Path(shutil.copytree(photos.root, tmp_path / "elsewhere"))
    train(replace(recipe, data=str(moved)), read_photos(moved), tmp_path / "run", resume=True, max_steps=3)
    (moved / "train" / "red" / "7.png").unlink()
    with pytest.raises(BadRequest, match="other data"):
        train(replace(recipe, data=str(moved)), read_photos(moved), tmp_path / "run", resume=True)


def test_a_run_stopped_twice_equals_an_uninterrupted_one(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(RECIPE, DATASET, run, max_steps=3)
    train(RECIPE, DATASET, run, resume=True, max_steps=11)
    train(RECIPE, DATASET, run, resume=True)
    assert weights_sha256(run) == weights_sha256(reference)


def test_the_whole_state_is_equal_too(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(RECIPE, DATASET, run, max_steps=9)
    train(RECIPE, DATASET, run, resume=True)
    before, after = checkpoint.load_state(reference), checkpoint.load_state(run)
    assert before and after
    assert {name.partition(".")[0] for name in before.tensors} == {"model", "ema", "optimizer"}
    assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in before.tensors | after.tensors)
    del before.facts["seconds"], after.facts["seconds"]
    assert before.facts == after.facts


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(reference: Path, tmp_path: Path) -> None:
    train(RECIPE, DATASET, tmp_path / "same")
    train(replace(RECIPE, seed=1), DATASET, tmp_path / "other")
    assert timeless(tmp_path / "same") == timeless(reference)
    assert weights_sha256(tmp_path / "same") == weights_sha256(reference)
    assert weights_sha256(tmp_path / "other") != weights_sha256(reference)


def test_a_finished_run_resumed_does_no_step_again(reference: Path, tmp_path: Path, asked_steps: list[int]) -> None:
    run = tmp_path / "run"
    train(RECIPE, DATASET, run)
    asked_steps.clear()
    assert isinstance(train(RECIPE, DATASET, run, resume=True), Evaluation)
    assert asked_steps == []
    assert weights_sha256(run) == weights_sha256(reference)
    assert sum(event["event"] == "test" for event in checkpoint.read_events(run)) == 1


def test_events_tell_the_run(reference: Path) -> None:
    events = checkpoint.read_events(reference)
    kinds = [event["event"] for event in events]
    assert kinds.count("train") == STEPS // 4 + 1
    assert [event["step"] for event in events if event["event"] == "eval"] == [7, 14, 21]
    assert all(event["split"] == "val" and event["images"] == 10 for event in events if event["event"] == "eval")
    assert kinds[0] == "start" and kinds[-1] == "test"
    assert events[-1]["images"] == 30 and events[-1]["weights_sha256"] == weights_sha256(reference)
    assert events[0]["data_sha256"] == DATASET.sha256 and events[0]["seed"] == 0


def test_it_learns(reference: Path) -> None:
    assert read_json(reference / checkpoint.EVALUATION)["top1"] > 0.6


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(tmp_path: Path) -> None:
    recipe = replace(RECIPE, optim=replace(RECIPE.optim, lr=1e30), warmup=None, save_every_steps=1)
    with pytest.raises(NonFiniteLoss) as caught:
        train(recipe, DATASET, tmp_path / "run")
    step = int(caught.value.what.rpartition(" ")[2])
    assert 0 < step < STEPS
    first_images = assemble(recipe, DATASET, CPU).feed.batches.at(step).indices[:3]
    assert f"training images {', '.join(map(str, first_images))}, " in str(caught.value)
    assert f"batch {step} of epoch 0" in str(caught.value)
    state = checkpoint.load_state(tmp_path / "run")
    assert state and state.step == step


def test_micro_batches_add_up_to_the_mean_over_the_batch() -> None:
    """On a net without norms, any split gives the gradient of the whole batch's mean loss."""
    recipe = replace(RECIPE, batch_size=14, microbatch_size=2, loss=CrossEntropy(), mix=())
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * 3, 3)).double()
    training = assemble(recipe, DATASET, CPU)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.0)
    training = replace(training, model=linear, forward=linear, optimizer=optimizer, ema=None)  # type: ignore[arg-type]
    batch = training.feed.batches.at(7)  # 110 = 7 * 14 + 12: the last batch of the epoch has 12 images
    assert len(batch.labels) == 12
    batch = replace(batch, pixels=batch.images.double(), normalize=None)
    train_step(training, batch, 7)
    accumulated = linear[1].weight.grad
    whole = nn.functional.cross_entropy(linear(batch.images), batch.labels)
    linear.zero_grad()
    whole.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(accumulated, linear[1].weight.grad)


def test_the_mean_image_is_that_of_the_images_trained_on(tmp_path: Path) -> None:
    recipe = replace(RECIPE, preprocess=SubtractMeanImage(), augment=())
    training = assemble(recipe, DATASET, CPU)
    expected = DATASET.train.images[:110].mean(axis=0) / 255
    np.testing.assert_allclose(training.feed.preprocess.mean, expected, atol=1e-6)
    epoch = torch.cat([training.feed.batches.at(step).images for step in range(training.feed.batches.steps_per_epoch)])
    assert epoch.mean().abs() < 1e-6
    assert epoch.is_contiguous(memory_format=torch.channels_last)


def augmentations(recipe: Recipe) -> list[str]:
    batches = assemble(recipe, DATASET, CPU).feed.batches
    assert isinstance(batches, MemoryBatches)
    return [type(augmentation).__name__ for augmentation in batches.augmentations]


def test_recipes_reach_the_loop() -> None:
    assert augmentations(RECIPE) == ["RandomPadCrop", "RandomFlip"]
    assert augmentations(replace(RECIPE, augment=(Flip(alternating=True), PadCrop(1)))) == [
        "RandomFlip",
        "RandomPadCrop",
    ]
    bare = assemble(replace(RECIPE, augment=(), average_weights=None, val_images=0), DATASET, CPU)
    assert augmentations(bare.recipe) == [] and bare.ema is None and bare.kept_model is bare.model
    assert bare.feed.heldout_name == "test" and len(bare.feed.heldout) == 30


def test_images_that_are_smaller_at_first_resume_exactly(tmp_path: Path) -> None:
    recipe = replace(RECIPE, augment=(PadCrop(2), ProgressiveCrop((8, 12), (1, 2)), Flip()))
    train(recipe, DATASET, tmp_path / "whole")
    for stop in (5, 7, 10):
        run = tmp_path / f"{stop}"
        train(recipe, DATASET, run, max_steps=stop)
        train(recipe, DATASET, run, resume=True)
        assert weights_sha256(run) == weights_sha256(tmp_path / "whole")
    train(RECIPE, DATASET, tmp_path / "large")
    assert weights_sha256(tmp_path / "large") != weights_sha256(tmp_path / "whole")


def test_refusals_come_before_anything_is_started(reference: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="not empty"):
        train(RECIPE, DATASET, reference)
    with pytest.raises(BadRequest, match="another recipe\n  batch_size: 16 -> 32"):
        train(replace(RECIPE, batch_size=32), DATASET, reference, resume=True)
    with pytest.raises(BadRequest, match="other data"):
        train(RECIPE, tiny_dataset(seed=1), reference, resume=True)
    with pytest.raises(BadRequest, match="not a run directory"):
        train(RECIPE, DATASET, tmp_path / "nothing", resume=True)
    with pytest.raises(BadRequest, match="less than the 120 training images, got 120"):
        train(replace(RECIPE, val_images=120), DATASET, tmp_path / "new")
    with pytest.raises(BadRequest, match="round to none"):
        train(replace(RECIPE, total_epochs=0.01), DATASET, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(RECIPE, DATASET, run, max_steps=2)
    tensors = run / checkpoint.STATE / "step-00000002" / "tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 1
    tensors.write_bytes(content)
    with pytest.raises(DamagedFile, match="does not have its checksum"):
        train(RECIPE, DATASET, run, resume=True)


def long_recipe() -> str:
    """Overrides that make the tiny run long enough to be stopped in its middle."""
    return "total_epochs=400"


def start(run: Path, *extra: str) -> subprocess.Popen[str]:
    """Start a training process."""
    script = Path(__file__).with_name("run_tiny.py")
    command = [sys.executable, str(script), "train", "tiny", "--out", str(run), "--set", long_recipe(), *extra]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_first(number: int, exit_code: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run)
    wait_for_step(run, 10, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == exit_code
    state = checkpoint.load_state(run)
    assert state
    assert f"error: stopped by a signal after step {state.step} of 2800; the state is saved" in error
    assert f"next: resnetkit train --resume --out {run}" in error
    assert "Traceback" not in error


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    recipe: Recipe = replace(RECIPE, total_epochs=40)
    train(recipe, DATASET, tmp_path / "whole")
    run = tmp_path / "killed"
    process = start(run, "total_epochs=40")
    wait_for_step(run, 50, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    state = checkpoint.load_state(run)
    assert state and 50 <= state.step < 280
    train(recipe, DATASET, run, resume=True)
    resumed_at = [event["step"] for event in checkpoint.read_events(run) if event["event"] == "resume"]
    assert resumed_at == [state.step]
    assert weights_sha256(run) == weights_sha256(tmp_path / "whole")


def test_a_damaged_newest_state_is_named_and_the_one_before_is_used(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked_steps: list[int]
) -> None:
    run = tmp_path / "run"
    train(RECIPE, DATASET, run, max_steps=10)  # saved at 5 and 10
    (run / checkpoint.STATE / "step-00000010" / "tensors.safetensors").write_bytes(b"cut off")
    asked_steps.clear()
    train(RECIPE, DATASET, run, resume=True)
    assert asked_steps[0] == 5
    assert weights_sha256(run) == weights_sha256(reference)
    error = capsys.readouterr().err
    assert "step-00000010/tensors.safetensors does not have its checksum" in error
    assert "going on from step-00000005" in error


def test_two_processes_cannot_train_in_one_place(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(RECIPE, DATASET, run, max_steps=2)
    with locked(run / checkpoint.STATE / "lock"), pytest.raises(BadRequest, match="another process is training"):
        train(RECIPE, DATASET, run, resume=True)
    train(RECIPE, DATASET, run, resume=True)


def test_a_step_already_done_is_not_asked_for(tmp_path: Path) -> None:
    train(RECIPE, DATASET, tmp_path / "run", max_steps=6)
    with pytest.raises(BadRequest, match="the run has done 6 steps already"):
        train(RECIPE, DATASET, tmp_path / "run", resume=True, max_steps=5)


def test_a_run_without_a_saved_state_starts_anew_and_says_so(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(RECIPE, DATASET, run, max_steps=4)
    shutil.rmtree(run / checkpoint.STATE)
    train(RECIPE, DATASET, run, resume=True)
    assert weights_sha256(run) == weights_sha256(reference)
    assert "the run starts at step 0" in capsys.readouterr().err


@pytest.mark.parametrize("moment", ["save", "eval", "test"])
def test_a_signal_at_any_moment_is_obeyed_and_costs_nothing(
    moment: str, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    original: Callable[..., Any] = checkpoint.save_state if moment == "save" else evaluate
    times = {"save": 4, "eval": 2, "test": 4}[moment]  # three evaluations on val, then the one on test
    calls = []

    def signalled(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == times:
            signal.raise_signal(signal.SIGTERM)
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        if moment == "save":
            patch.setattr(checkpoint, "save_state", signalled)
        else:
            patch.setattr(train_module, "evaluate", signalled)
        with pytest.raises(Interrupted) as caught:
            train(RECIPE, DATASET, run)
    assert caught.value.exit_code == 143
    train(RECIPE, DATASET, run, resume=True)
    assert weights_sha256(run) == weights_sha256(reference)
    assert timeless(run, "start", "resume") == timeless(reference, "start")


def test_channels_last_reaches_the_net() -> None:
    layouts = []
    for channels_last in (True, False):
        training = assemble(replace(RECIPE, channels_last=channels_last), DATASET, CPU)
        training.model.stages()[0].register_forward_hook(
            lambda module, inputs, output: layouts.append(output.stride(1))
        )
        train_step(training, training.feed.batches.at(0), 0)
    assert layouts == [1, 1, 256, 256]  # two micro-batches each; 256 = 16 x 16 pixels between channels


def test_resuming_with_another_number_of_threads_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(RECIPE, DATASET, tmp_path / "run", max_steps=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        train(RECIPE, DATASET, tmp_path / "run", resume=True, max_steps=4)
    finally:
        torch.set_num_threads(threads)
    assert f"warning: threads was {threads} and is {threads + 1}" in capsys.readouterr().err


def test_metrics_are_json_lines(reference: Path) -> None:
    lines = (reference / checkpoint.METRICS).read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert len(lines) == 1 + 6 + 3 + 1


@pytest.mark.slow
@pytest.mark.parametrize("stop", [6, 8])  # 6: the next batch is the smaller last one of its epoch
def test_a_compiled_run_resumes_exactly(stop: int, tmp_path: Path) -> None:
    recipe = replace(RECIPE, compile=True)
    train(recipe, DATASET, tmp_path / "whole")
    train(recipe, DATASET, tmp_path / "parts", max_steps=stop)
    train(recipe, DATASET, tmp_path / "parts", resume=True)
    assert weights_sha256(tmp_path / "parts") == weights_sha256(tmp_path / "whole")


# --- a loss that is not finite ---


def bad_at(monkeypatch: pytest.MonkeyPatch, bad: Callable[[float, int], bool]) -> None:
    """Let a step's loss be infinite where `bad` says so of its rate and number."""
    step_of = train_step

    def checked(training: Training, batch: Batch, step: int) -> Tally:
        if bad(training.lr_of(step), step):
            raise NonFiniteLoss(*describe_bad_batch(training, batch.indices, step, float("inf")))
        return step_of(training, batch, step)

    monkeypatch.setattr(train_module, "train_step", checked)


REWIND = replace(RECIPE, on_nan="rewind", warmup=None, log_every_steps=1)


def rewinds(run: Path) -> list[tuple[int, int, float]]:
    events = [event for event in checkpoint.read_events(run) if event["event"] == "rewind"]
    return [(event["step"], event["from_step"], event["lr_factor"]) for event in events]


def test_a_run_may_go_back_with_half_the_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad_at(monkeypatch, lambda lr, step: step == 8 and lr > 0.03)  # from 0.1 it takes two halvings
    run = tmp_path / "run"
    assert train(REWIND, DATASET, run)
    assert rewinds(run) == [(5, 8, 0.25)]  # saved at 5; the first return was done again
    rates = {event["step"]: event["lr"] for event in checkpoint.read_events(run) if event["event"] == "train"}
    planned = assemble(REWIND, DATASET, CPU).lr_at
    assert list(rates) == list(range(1, STEPS + 1))
    assert all(rates[step] == pytest.approx(planned(step - 1) * (1 if step <= 5 else 0.25)) for step in rates)


def test_a_run_that_went_back_resumes_exactly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad_at(monkeypatch, lambda lr, step: step == 8 and lr > 0.06)
    train(REWIND, DATASET, tmp_path / "whole")
    for stops in ((7,), (9,), (13,), (6, 7, 8)):
        run = tmp_path / f"{stops}"
        for number, stop in enumerate(stops):
            train(REWIND, DATASET, run, max_steps=stop, resume=number > 0)
        train(REWIND, DATASET, run, resume=True)
        assert weights_sha256(run) == weights_sha256(tmp_path / "whole")
        assert rewinds(run) == rewinds(tmp_path / "whole") == [(5, 8, 0.5)]


def test_states_that_a_stop_saved_do_not_outlive_a_return(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad_at(monkeypatch, lambda lr, step: step == 8 and lr > 0.06)
    run = tmp_path / "run"
    train(REWIND, DATASET, run, max_steps=7)
    signals = iter([None] * 3 + [signal.SIGTERM] + [None] * 100)  # after the return to 5, at step 7

    def signal_of(journal: Journal) -> int | None:
        return next(signals)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "signal", signal_of)
        with pytest.raises(Interrupted):
            train(REWIND, DATASET, run, resume=True)
    state = checkpoint.load_state(run)
    assert state and state.facts["rewound_factor"] == 0.5
    train(REWIND, DATASET, run, resume=True)
    train(REWIND, DATASET, tmp_path / "whole")
    assert weights_sha256(run) == weights_sha256(tmp_path / "whole")


def test_a_bad_first_step_goes_back_to_the_start_and_gives_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad_at(monkeypatch, lambda lr, step: step == 2)
    with pytest.raises(NonFiniteLoss, match="the loss is inf at step 2"):
        train(REWIND, DATASET, tmp_path / "run")
    assert rewinds(tmp_path / "run")[-1] == (0, 2, 1 / 32)


def test_files_of_a_bad_batch_are_named(photos: PhotoDataset, tmp_path: Path) -> None:
    recipe = replace(EVERYTHING["photos"], optim=replace(RECIPE.optim, lr=1e30), warmup=None)
    with pytest.raises(NonFiniteLoss, match=r"training images \S+/(blue|red)/\d+\.png, \S+/(blue|red)/\d+\.png"):
        train(recipe, photos, tmp_path / "run")


# --- saves that fail ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    yield place
    subprocess.run(["umount", "--recursive", str(place)], check=True)


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def test_a_full_disk_stops_the_run_and_costs_only_the_steps_since_the_last_save(
    small_disk: Path, reference: Path
) -> None:
    run = small_disk / "run"

    def fill_at_12(event: dict[str, Any]) -> None:
        if event["event"] == "train" and event["step"] == 12:
            fill(small_disk)

    with pytest.raises(SaveFailed) as caught:
        train(RECIPE, DATASET, run, on_event=fill_at_12)
    assert "No space left on device" in caught.value.what
    assert "the state of step 10 is whole" in str(caught.value) and "--resume" in str(caught.value)
    assert sorted(path.name for path in (run / checkpoint.STATE).iterdir()) == [
        "lock",
        "step-00000005",
        "step-00000010",
    ]
    with pytest.raises(SaveFailed, match="No space left"):
        train(RECIPE, DATASET, run, resume=True)  # still full: nothing is lost by the try
    (small_disk / "filler").unlink()
    train(RECIPE, DATASET, run, resume=True)
    assert weights_sha256(run) == weights_sha256(reference)
    assert timeless(run, "start", "resume") == timeless(reference, "start")


def test_a_folder_that_becomes_read_only_stops_the_run_and_loses_nothing(small_disk: Path, reference: Path) -> None:
    run = small_disk / "run"
    states = str(run / checkpoint.STATE)

    def lock_at_12(event: dict[str, Any]) -> None:
        if event["event"] == "train" and event["step"] == 12:
            for command in (["mount", "--bind", states, states], ["mount", "-o", "remount,bind,ro", states]):
                subprocess.run(command, check=True)

    with pytest.raises(SaveFailed, match=r"the state of step 15 could not be saved: .*Read-only file system"):
        train(RECIPE, DATASET, run, on_event=lock_at_12)
    subprocess.run(["umount", states], check=True)
    train(RECIPE, DATASET, run, resume=True)
    assert weights_sha256(run) == weights_sha256(reference)
