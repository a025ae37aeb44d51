"""The README's commands exist and its numbers are those of results/."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from resnetkit.arguments import build_parser
from resnetkit.cli import main
from resnetkit.data.spec import ArrayDataset, Split
from resnetkit.recipes import load_recipe
from resnetkit.train import train

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return every command line of the README's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_the_first_screen_has_claim_table_and_commands() -> None:
    screen = "\n".join(README.splitlines()[:45])
    for part in ("# resnetkit", "| ", "make quickstart", "make test", "top-1 "):
        assert part in screen


def test_every_command_is_accepted() -> None:
    lines = [line for line in commands() if line.startswith("resnetkit ")]
    assert len(lines) >= 8
    for line in lines:
        arguments = build_parser().parse_args(shlex.split(line)[1:])
        recipe = getattr(arguments, "recipe", None)
        if recipe:
            assert load_recipe(recipe, arguments.overrides).name == recipe


@pytest.mark.parametrize(
    "line", ["resnetkit show resnet18_8xb16_cifar10", "resnetkit --help", "resnetkit predict --help"]
)
def test_quick_commands_run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):  # help
        assert main(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out


def test_the_python_example_runs(tmp_path: Path, cifar10: ArrayDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    recipe = replace(load_recipe("resnet20"), model="resnet8", total_steps=1, batch_size=16, microbatch_size=16)
    few = Split(cifar10.test.images[:200], cifar10.test.labels[:200])
    train(recipe, replace(cifar10, train=few, test=few), tmp_path / "runs" / "resnet20")
    monkeypatch.chdir(tmp_path)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert 0 <= float(run.stdout.split()[0]) <= 1


@pytest.mark.parametrize("target", ["setup", "quickstart", "test", "test-slow", "check"])
def test_make_knows_the_targets(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_accuracies_are_those_of_the_results() -> None:
    rows = re.findall(r"^\|.*?\| (\d+\.\d\d) % \|.*?`results/([\w.-]+\.json)`", README, re.MULTILINE)
    assert len(rows) >= 3
    for percent, name in rows:
        assert percent == f"{100 * json.loads((ROOT / 'results' / name).read_text())['top1']:.2f}", name


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
