"""The README's commands exist and its numbers are those of results/."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from resnetkit.cli import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return every command line of the README's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_the_first_screen_has_claim_table_and_commands() -> None:
    screen = "\n".join(README.splitlines()[:45])
    for part in ("# resnetkit", "| ", "make quickstart", "make test", "top-1 "):
        assert part in screen


def test_every_command_is_accepted() -> None:
    lines = [line for line in commands() if line.startswith("resnetkit ")]
    assert len(lines) >= 8
    for line in lines:
        build_parser().parse_args(shlex.split(line)[1:])


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
