"""The Hugging Face hub, played by a server on loopback: pull what has weights, push with a card."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]

from resnetkit import checkpoint, hub
from resnetkit.cli import main
from resnetkit.data.transforms import Preprocess
from resnetkit.errors import BadRequest, SourceError
from resnetkit.load import load_model
from resnetkit.model_card import model_card
from resnetkit.models import MODELS, ResNet
from resnetkit.weights_file import metadata_of

pytest.importorskip("huggingface_hub")

TINY = replace(MODELS["resnet4_tiny"], num_classes=3)
PREPROCESS = Preprocess(16, np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32), 20)
ABOUT: dict[str, Any] = {
    "recipe": "some_recipe",
    "data": {"name": "pets", "sha256": "0" * 64},
    "metrics": {"pets test": {"images": 200, "top1": 0.875, "top5": 0.99, "loss": 0.4}},
    "license": "apache-2.0",
    "origin": {"file": "theirs.pth", "sha256": "1" * 64, "layout": "openmmlab", "url": None},
    "temperature": {"value": 1.25, "images": 500},
}
REVISION, TOKEN = "a" * 40, "hf_a_secret_token"


def ours(path: Path) -> Path:
    torch.manual_seed(0)
    checkpoint.save_weights(
        path, ResNet(TINY).state_dict(), metadata_of(TINY, PREPROCESS, ("ant", "bee", "cow"), ABOUT)
    )
    return path


class Hub(http.server.BaseHTTPRequestHandler):
    """What huggingface_hub asks for, of a hub with repositories of files in memory."""

    repos: dict[str, dict[str, bytes]] = {}  # noqa: RUF012
    seen: list[tuple[str, str, str]] = []  # noqa: RUF012  (method, path, user agent)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, content: Any, code: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.seen.append((self.command, path, self.headers.get("User-Agent", "")))
        parts = path.strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.repos.get(repo)
        if repo == "some/gated":
            self.answer({}, 403, X_Error_Code="GatedRepo")
        elif files is None:
            self.answer({}, 404, X_Error_Code="RepoNotFound")
        elif "tree" in parts:
            self.answer([{"type": "file", "path": name, "size": len(data), "oid": sha1(data)}
                         for name, data in files.items()])  # fmt: skip
        elif "resolve" in parts:
            data = files[parts[-1]]
            self.answer(data, ETag=f'"{sha1(data)}"', X_Repo_Commit=REVISION)
        elif "nowhere" in parts:
            self.answer({}, 404, X_Error_Code="RevisionNotFound")
        else:
            self.answer({"id": repo, "sha": REVISION, "siblings": [{"rfilename": name} for name in files]})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.command, self.path, self.headers.get("User-Agent", "")))
        url = f"http://{self.headers['Host']}"
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            self.repos.setdefault(repo, {})
            self.answer({"url": f"{url}/{repo}"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self.answer({"files": [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                                   for each in json.loads(body)["files"]]})  # fmt: skip
        else:
            repo = "/".join(self.path.split("/")[3:5])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{url}/{repo}/commit/{REVISION}", "commitOid": REVISION, "success": True})


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, bytes]]]:
    """A hub with nothing on it, and an empty cache."""
    Hub.repos.clear()
    Hub.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield Hub.repos
        running.shutdown()


def test_pull_takes_weights_and_description_and_no_code(server: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    weights = ours(tmp_path / "w.safetensors").read_bytes()
    server["some/net"] = {
        "model.safetensors": weights, "pytorch_model.bin": b"old", "README.md": b"# card", "modeling.py": b"import os",
        "train.ckpt": b"x",
    }  # fmt: skip
    folder = hub.pull("some/net")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == weights
    loaded = load_model("hf:some/net")
    assert (loaded.class_names, loaded.about) == (("ant", "bee", "cow"), ABOUT)
    assert not any("modeling" in path or "bin" in path for _, path, _ in Hub.seen)
    assert not any("session" in agent or "torch" in agent for _, _, agent in Hub.seen)  # nothing is told about us


def test_pull_takes_the_older_file_where_there_is_no_other(server: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    torch.save(ResNet(TINY).state_dict(), tmp_path / "w.bin")
    config = {"architecture": "resnet10t", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3,
              "input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 1.0}}  # fmt: skip
    server["some/old"] = {
        "pytorch_model.bin": (tmp_path / "w.bin").read_bytes(),
        "config.json": json.dumps(config).encode(),
    }
    loaded = load_model("hf:some/old@main")
    assert loaded.model.arch.num_classes == 3
    assert loaded.preprocess.image_size == 32
    assert loaded.about["origin"]["url"] == "hf:some/old@main"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:some/none", "hf:some/none is not on the hub, or private"),
        ("hf:some/gated", "hf:some/gated is gated"),
        ("hf:some/empty", "hf:some/empty has no weights"),
        ("hf:some", "no model 'hf:some'"),
    ],
)
def test_what_cannot_be_pulled(
    name: str, said: str, server: dict[str, dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    server["some/empty"] = {"README.md": b"# nothing"}
    assert main(["show", name]) == (2 if name == "hf:some" else 1)
    error = capsys.readouterr().err
    assert said in error if name != "hf:some" else "hf:some" in error
    assert TOKEN not in error
    assert "Traceback" not in error


def test_a_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # it tries five times
    with pytest.raises(SourceError, match="hf:some/net: the hub cannot be reached") as caught:
        hub.pull("some/net")
    assert caught.value.details[0].startswith("got ")


def test_push_arrives_with_its_card_and_comes_back(
    server: dict[str, dict[str, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ours(tmp_path / "w.safetensors")
    assert main(["push", str(path), "me/net"]) == 0
    assert "me/net/commit/" in capsys.readouterr().out
    assert set(server["me/net"]) == {"model.safetensors", "README.md"}
    assert server["me/net"]["model.safetensors"] == path.read_bytes()
    metadata = checkpoint.read_weights(path)[1]
    assert metadata is not None
    assert server["me/net"]["README.md"].decode() == model_card(metadata, "me/net")
    assert load_model("hf:me/net").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_what_describes_itself_is_pushed(
    server: dict[str, dict[str, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(ResNet(TINY).state_dict(), tmp_path / "w.pth")
    assert main(["push", str(tmp_path / "w.pth"), "me/net"]) == 2
    assert "does not describe itself" in capsys.readouterr().err
    assert main(["push", str(ours(tmp_path / "w.safetensors")), "no owner"]) == 2
    assert "expected OWNER/NAME" in capsys.readouterr().err
    assert not Hub.seen


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BadRequest, match="the hub needs huggingface-hub") as caught:
        hub.pull("some/net")
    assert caught.value.details == ("next: pip install 'resnetkit[hub]'",)


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("hf:timm/resnet18.a1_in1k", ("timm/resnet18.a1_in1k", None)),
        ("hf:me/net@v1.0", ("me/net", "v1.0")),
        *((name, None) for name in ("timm/resnet18", "hf:net", "hf:a/b/c", "hf:../x/y", "hf:a/b c", "hf:a/-b", "")),
    ],
)
def test_names(name: str, parsed: Any) -> None:
    assert hub.parse_hub_name(name) == parsed


# the card


def card(**changes: Any) -> tuple[dict[str, Any], str]:
    """Return the front matter and the text of a card."""
    text = model_card(metadata_of(TINY, PREPROCESS, ("ant", "bee", "cow"), ABOUT | changes), "me/net")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_card_says_what_the_metadata_says() -> None:
    front, body = card()
    assert front["license"] == "apache-2.0"
    assert (front["library_name"], front["pipeline_tag"]) == ("resnetkit", "image-classification")
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"] == {"name": "pets test", "type": "pets"}
    assert [(metric["name"], metric["value"]) for metric in result["metrics"]] == [("top1", 0.875), ("top5", 0.99)]
    for part in ("| pets test | 200 | 87.50% | 82.20% to 91.39% | 99.00% |", "resnetkit predict hf:me/net photo.jpg",
                 "recipe `some_recipe`", "ant, bee, cow", f"pets, sha256 {'0' * 64}",
                 f"file theirs.pth, sha256 {'1' * 64}",
                 "short side to 20 (pillow-bilinear), centre crop of 16, pixels in [0, 1] minus mean 0.5 0.5 0.5",
                 ):  # fmt: skip
        assert part in body


def test_the_card_claims_nothing_that_is_not_known() -> None:
    front, body = card(metrics={"pets test": {"top1": 0.9}}, license=None, recipe=None, data=None, origin=None)
    assert front["license"] == "unknown"
    assert "model-index" not in front
    assert "Metrics" not in body
    assert "licence: not named" in body
    assert "0.9" not in body and "90" not in body
    assert "None" not in body


def test_odd_names_stay_texts() -> None:
    front, _ = card(license="yes: [no", metrics={"a: b": {"images": 10, "top1": 0.5}})
    assert front["license"] == "yes: [no"
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == "a: b"
