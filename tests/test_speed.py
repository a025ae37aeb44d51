"""`--speed auto`: what is faster here is kept, what is not is left out, what cannot run says why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnetkit import checkpoint, speed
from resnetkit.commands import training
from resnetkit.cost import recipe_cost
from resnetkit.home import write_json
from resnetkit.processes import ALONE
from resnetkit.recipe import Amp, Recipe
from resnetkit.recipe_json import read_recipe, recipe_to_json
from resnetkit.speed import FASTER, SETTINGS, Bench, Trial, choose_speed, slower_precision
from tiny import RECIPE

CPU = torch.device("cpu")
SCRIPT = str(Path(__file__).with_name("run_tiny.py"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Recipe], float]], None]:
    """Put a machine in place of this one, whose steps take what a function of the recipe says."""

    def put(seconds_of: Callable[[Recipe], float]) -> None:
        monkeypatch.setattr(Bench, "steps_of", lambda bench, recipe: lambda: seconds_of(recipe))
        monkeypatch.setattr(speed, "images_of_pass", lambda *about: 8)
        monkeypatch.setattr(speed, "usable_cores", lambda: 4)
        monkeypatch.setattr(speed, "keep_freed_memory", lambda keep=True: True)

    return put


def kept(trials: tuple[Trial, ...]) -> set[str]:
    return {trial.setting for trial in trials if trial.kept}


def test_what_is_faster_is_kept_and_builds_on_what_was_kept_before(machine: Callable[..., None]) -> None:
    def seconds_of(recipe: Recipe) -> float:
        half = {"bfloat16": 0.5, "float16": 4.0}[recipe.amp.dtype] if recipe.amp else 1.0
        return half * (1.0 if recipe.channels_last else 1.2) * (0.9 if recipe.threads == 1 else 1.0)

    machine(seconds_of)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        chosen, trials = choose_speed(RECIPE, 3, 100, CPU)
    finally:
        torch.set_num_threads(before)
    assert chosen.amp == Amp("bfloat16") and chosen.channels_last and chosen.threads == 1
    assert "bfloat16" in kept(trials)
    assert "channels first" not in kept(trials) and "float16" not in kept(trials)
    unchanged = {setting: getattr(RECIPE, setting) for setting in SETTINGS}
    assert replace(chosen, **unchanged) == RECIPE


def test_a_gain_within_the_noise_is_none(machine: Callable[..., None]) -> None:
    machine(lambda recipe: 0.98 if recipe.amp or not recipe.channels_last or recipe.threads else 1.0)
    chosen, trials = choose_speed(RECIPE, 3, 100, CPU)
    assert chosen == RECIPE
    assert kept(trials) == {"keeping freed memory"}  # as the recipe says: no difference was found


@pytest.mark.parametrize(("before", "after", "keeps"), [(1.0, 0.9, True), (1.0, 1.1, False), (1.0, 1.01, True)])
def test_memory_is_kept_unless_that_is_slower(
    before: float, after: float, keeps: bool, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"keeps": False}

    def tell(keep: bool = True) -> bool:
        state["keeps"] = keep
        return True

    machine(lambda recipe: after if state["keeps"] else before)
    monkeypatch.setattr(speed, "keep_freed_memory", tell)
    chosen, _ = choose_speed(RECIPE, 3, 10, CPU)
    assert chosen.keep_freed_memory is keeps and state["keeps"] is keeps


def test_mixed_precision_of_the_recipe_goes_where_it_is_slower(machine: Callable[..., None]) -> None:
    machine(lambda recipe: 2.0 if recipe.amp else 1.0)
    half = replace(RECIPE, amp=Amp("float16", loss_scale=512.0))
    chosen, trials = choose_speed(half, 3, 100, CPU)
    assert chosen.amp is None and "float32" in kept(trials)
    slow = slower_precision(half, 3, CPU)
    assert slow and (slow.before, slow.seconds) == (1.0, 2.0)
    machine(lambda recipe: 0.5 if recipe.amp else 1.0)
    assert slower_precision(half, 3, CPU) is None
    assert slower_precision(RECIPE, 3, CPU) is None


def test_compiling_is_kept_only_where_the_run_is_long_enough(machine: Callable[..., None]) -> None:
    machine(lambda recipe: 0.5 if recipe.compile else 1.0)
    chosen, trials = choose_speed(RECIPE, 3, 10, CPU)
    assert not chosen.compile
    assert next(trial for trial in trials if trial.setting == "torch.compile").note == "not tried, the run takes 10 s"
    chosen, trials = choose_speed(RECIPE, 3, 10_000, CPU)
    assert chosen.compile


def test_what_cannot_run_here_says_why(machine: Callable[..., None]) -> None:
    def seconds_of(recipe: Recipe) -> float:
        if recipe.compile:
            raise RuntimeError("no C++ compiler\nsecond line")
        return 1.0

    machine(seconds_of)
    chosen, trials = choose_speed(RECIPE, 3, 10_000, CPU)
    assert not chosen.compile
    assert trials[-1].line() == "speed: torch.compile: not possible here: no C++ compiler"


def test_several_processes_keep_the_threads_of_their_launcher(machine: Callable[..., None]) -> None:
    machine(lambda recipe: 0.1 if recipe.threads else 1.0)
    chosen, _ = choose_speed(RECIPE, 3, 100, CPU, alone=False)
    assert chosen.threads is None


def test_real_steps_are_timed_and_nothing_else_changes() -> None:
    said: list[str] = []
    threads = torch.get_num_threads()
    chosen, trials = choose_speed(RECIPE, 3, 10, CPU, say=said.append)
    assert torch.get_num_threads() == threads and not torch.are_deterministic_algorithms_enabled()
    assert {"channels first", "bfloat16", "float16"} <= {trial.setting for trial in trials}
    for trial in trials:
        if trial.before is not None and trial.seconds is not None:
            assert trial.before > 0 and trial.seconds > 0
            noise = FASTER if trial.setting.startswith("keeping") else 1.0  # where nothing differs, the recipe's stays
            assert not trial.kept or trial.seconds < trial.before / noise
    assert said[1:] == [trial.line() for trial in trials]
    assert replace(chosen, **{setting: getattr(RECIPE, setting) for setting in SETTINGS}) == RECIPE


def test_the_choice_is_stored_in_the_run_and_kept_by_restarts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [sys.executable, SCRIPT, "train", "tiny", "--out", str(run), "--speed", "auto", "--auto-resume"]
    first = subprocess.run([*words, "--max-steps", "6"], capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    stored = checkpoint.run_recipe(run)
    for setting in SETTINGS:
        assert f"speed: {setting} = " in first.stdout
    started = checkpoint.read_events(run)[0]
    assert {"setting", "before", "seconds", "kept", "note"} == set(started["speed"][0])
    chosen = replace(stored, channels_last=False, amp=Amp("bfloat16"), threads=1)  # as another machine would have
    write_json(run / checkpoint.RECIPE, recipe_to_json(chosen))
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "speed:" not in again.stdout
    assert checkpoint.run_recipe(run) == chosen


def test_a_recipe_given_again_leaves_what_was_chosen_but_not_what_is_said() -> None:
    stored = replace(RECIPE, amp=Amp("bfloat16"), threads=1)
    assert training.with_settings_of(stored, RECIPE, []) == stored
    assert training.with_settings_of(stored, RECIPE, ["threads=null"]) == replace(stored, threads=None)
    assert training.with_settings_of(stored, RECIPE, ["amp.dtype=float16"]).amp is None


def test_a_recipe_whose_mixed_precision_is_slower_is_warned_of(
    machine: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    machine(lambda recipe: 2.0 if recipe.amp else 1.0)
    half, cost = replace(RECIPE, amp=Amp("bfloat16")), recipe_cost(RECIPE)
    left = training.fastest(half, cost, CPU, ALONE, "recipe")
    assert read_recipe(left["recipe"]) == half and left["told"] == {}
    assert "mixed precision, bfloat16, as the recipe says, is slower here" in capsys.readouterr().err
    training.fastest(RECIPE, cost, CPU, ALONE, "recipe")
    assert capsys.readouterr().err == ""


def test_a_recipe_with_mixed_precision_is_trained_as_it_says(tmp_path: Path) -> None:
    words = [sys.executable, SCRIPT, "train", "tiny", "--out", str(tmp_path / "run"), "--max-steps", "1", "--set"]
    done = subprocess.run([*words, 'amp={"dtype": "float16"}'], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    half = checkpoint.run_recipe(tmp_path / "run")
    assert half.amp == Amp("float16")
