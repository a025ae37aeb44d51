from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetkit import provenance as module
from resnetkit.provenance import commit, processor, provenance, usable_cores


def test_the_facts_are_there_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/resnetkit", "train", "resnet20", "--set", "name=a b"])
    facts = json.loads(json.dumps(provenance(), allow_nan=False))
    assert facts["command"] == "resnetkit train resnet20 --set 'name=a b'"
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(facts["versions"]) == {"python", "resnetkit", "torch", "numpy", "pillow", "safetensors", "simplejpeg"}
    assert facts["machine"]["cores"] == usable_cores() >= 1
    assert facts["machine"]["processor"] == processor()
    assert platform.system() in facts["machine"]["system"]
    age = datetime.now(UTC) - datetime.fromisoformat(facts["time"])
    assert 0 <= age.total_seconds() < 60


def git(folder: Path, *words: str) -> None:
    names = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(folder), *names, *words], check=True, capture_output=True)


def test_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "src" / "resnetkit"
    source.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(source / "provenance.py"))
    assert commit() is None  # no repository
    git(tmp_path, "init")
    assert commit() is None  # no commit
    (source / "provenance.py").write_text("x = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "tag", "v1")
    clean = commit()
    assert clean is not None
    assert len(clean) == 40
    assert int(clean, 16) >= 0
    (source / "provenance.py").write_text("x = 2\n")
    assert commit() == f"{clean}-dirty"


def test_an_installed_package_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages" / "resnetkit"
    installed.mkdir(parents=True)
    git(tmp_path, "init")
    monkeypatch.setattr(module, "__file__", str(installed / "provenance.py"))
    assert commit() is None


def test_a_machine_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_a_machine_without_cpuinfo_has_a_processor_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: Path, encoding: str) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", absent)
    assert processor()
