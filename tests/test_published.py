"""Published weights: fetched once from the publisher or a mirror, whole and right or not at all."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models

from resnetkit.cli import main
from resnetkit.data import imagenet
from resnetkit.errors import BadRequest, DamagedFile, SourceError
from resnetkit.load import load_model, read_model_file
from resnetkit.models import MODELS, ResNet
from resnetkit.published import MILL_PREPROCESS, PUBLISHED, Published, published, published_file
from resnetkit.published_tables import DEFAULTS
from resnetkit.shipped_weights import SHIPPED
from resnetkit.zoo import ZOO

ROW = "resnet18_8xb16_cifar10"
NOWHERE = "http://127.0.0.1:9"  # the discard port: refused at once


def made(num_classes: int = 10) -> bytes:
    """Make a small file as OpenMMLab publishes them."""
    torch.manual_seed(0)
    tensors = ResNet(replace(MODELS["resnet4_tiny"], num_classes=num_classes)).state_dict()
    theirs = {("head." if name.startswith("fc") else "backbone.") + name: value for name, value in tensors.items()}
    file = io.BytesIO()
    torch.save({"meta": {}, "state_dict": theirs}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


MADE = made()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder for weights of an empty home."""
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RESNETKIT_MIRROR", raising=False)
    return tmp_path / "home" / "weights"


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Published:
    """An entry made for the test, in the place of a row."""
    name = f"made-{hashlib.sha256(MADE).hexdigest()[:8]}.pth"
    entry = replace(PUBLISHED[f"openmmlab/{ROW}"], url=f"{NOWHERE}/v0/resnet/{name}")
    monkeypatch.setitem(PUBLISHED, entry.name, entry)
    return entry


class Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback."""
    Quiet.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def put(folder: Path, entry: Published, content: bytes = MADE, below: str = "") -> Path:
    path = folder / below / entry.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def left(folder: Path) -> list[str]:
    """Name what is in the folder for weights, but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.is_dir() else []


@pytest.mark.parametrize("below", ["", "v0/resnet"])
@pytest.mark.parametrize("as_url", [True, False])
def test_a_mirror_with_the_publishers_path_or_the_bare_name(
    below: str, as_url: bool, home: Path, entry: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "mirror", entry, below=below)
    with serving(tmp_path / "mirror") as url:
        monkeypatch.setenv("RESNETKIT_MIRROR", url + "/" if as_url else str(tmp_path / "mirror"))
        loaded = load_model(ROW, weights="openmmlab")
    assert left(home) == [entry.file_name]
    assert loaded.sha256 == hashlib.sha256(MADE).hexdigest()
    assert loaded.class_names[0] == "airplane"
    assert loaded.assumptions == ()
    assert loaded.about["license"] == "apache-2.0"
    assert loaded.about["metrics"] == {"as published": {"images": 10_000, "top1": 0.9482, "top5": 0.9987}}
    assert loaded.about["origin"]["url"] == entry.url
    again = load_model(ROW)  # the server is gone, and nobody is asked
    assert again.sha256 == loaded.sha256
    assert load_model(entry.name).sha256 == loaded.sha256


def test_the_publisher_himself(home: Path, entry: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "site", entry, below="v0/resnet")
    with serving(tmp_path / "site") as url:
        monkeypatch.setitem(PUBLISHED, entry.name, replace(entry, url=entry.url.replace(NOWHERE, url)))
        load_model(ROW)
        assert Quiet.asked == [f"/v0/resnet/{entry.file_name}"]
        load_model(ROW)
        assert len(Quiet.asked) == 1
    assert left(home) == [entry.file_name]


def test_the_mirror_goes_first(home: Path, entry: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "site", entry, below="v0/resnet")
    with serving(tmp_path / "site") as url:
        monkeypatch.setitem(PUBLISHED, entry.name, replace(entry, url=entry.url.replace(NOWHERE, url)))
        monkeypatch.setenv("RESNETKIT_MIRROR", str(put(tmp_path / "mirror", entry).parent))
        load_model(ROW)
        assert Quiet.asked == []
    assert left(home) == [entry.file_name]


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "damaged": (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "another file; got sha256 "),
    "truncated": (lambda content: content[: len(content) // 2], "another file; got sha256 "),
    "a web page": (lambda content: b"<html>", "another file; got sha256 "),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_and_not_kept(
    kind: str, home: Path, entry: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking, said = BROKEN[kind]
    put(tmp_path / "mirror", entry, breaking(MADE), below="v0/resnet")
    with serving(tmp_path / "mirror") as url:
        monkeypatch.setenv("RESNETKIT_MIRROR", url)
        with pytest.raises(SourceError, match=f"no source gave the weights of {entry.name}") as caught:
            load_model(ROW)
    by_path, by_name, publisher, *steps = caught.value.details
    assert by_path.startswith(f"{url}/v0/resnet/{entry.file_name}: {said}")
    assert f"expected {entry.hash_prefix}..." in by_path
    assert by_name == f"{url}/{entry.file_name}: File not found"
    assert publisher.startswith(f"{entry.url}: ")
    assert steps == [
        f"next: put the file there yourself: {home / entry.file_name}",
        f"or: set RESNETKIT_MIRROR to a folder or URL that has {entry.file_name}",
    ]
    assert left(home) == []


def test_a_damaged_mirror_does_not_hide_a_whole_one(
    home: Path, entry: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "mirror", entry, b"bad", below="v0/resnet")
    put(tmp_path / "mirror", entry)
    monkeypatch.setenv("RESNETKIT_MIRROR", (tmp_path / "mirror").as_uri())
    load_model(ROW)
    assert left(home) == [entry.file_name]


def test_put_there_by_hand(home: Path, entry: Published) -> None:
    put(home, entry)
    assert published_file(entry) == home / entry.file_name


def test_a_kept_file_that_was_changed_is_refused(home: Path, entry: Published) -> None:
    path = put(home, entry, MADE[:-1])
    with pytest.raises(DamagedFile, match="is not the published file") as caught:
        load_model(ROW)
    assert str(path) in caught.value.what
    assert caught.value.details[-1] == "next: remove it, and it is fetched again"
    assert path.exists()


def test_two_at_once_fetch_once(home: Path, entry: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "mirror", entry)
    with serving(tmp_path / "mirror") as url:
        monkeypatch.setitem(PUBLISHED, entry.name, replace(entry, url=f"{url}/{entry.file_name}"))
        threads = [threading.Thread(target=published_file, args=(PUBLISHED[entry.name],)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(Quiet.asked) == 1
    assert left(home) == [entry.file_name]


# names


@pytest.mark.parametrize(
    ("name", "weights", "found"),
    [
        ("resnet50_8xb32_in1k", None, "openmmlab/resnet50_8xb32_in1k"),
        ("resnet50_8xb32_in1k", "openmmlab", "openmmlab/resnet50_8xb32_in1k"),
        ("timm/resnet50.a1_in1k", None, "timm/resnet50.a1_in1k"),
        ("timm/resnet50.a1_in1k", "timm", "timm/resnet50.a1_in1k"),
        ("resnet50.a1_in1k", "timm", "timm/resnet50.a1_in1k"),
        ("resnet50d", "timm", "timm/resnet50d.ra2_in1k"),
        ("resnet50", "torchvision", "torchvision/resnet50.IMAGENET1K_V2"),
        ("resnet18", "torchvision", "torchvision/resnet18.IMAGENET1K_V1"),
    ],
)
def test_names(name: str, weights: str | None, found: str) -> None:
    assert published(name, weights) is PUBLISHED[found]


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("resnet50", "tim", "expected one of openmmlab, torchvision, timm, got 'tim'; did you mean 'timm'?"),
        ("resnet50.a1_in2k", "timm", "timm has no weights 'resnet50.a1_in2k'; did you mean 'resnet50.a1_in1k'?"),
        ("timm/resnet50.a1_in1k", "torchvision", "torchvision has no weights 'timm/resnet50.a1_in1k'"),
        ("resnet50", "openmmlab", "openmmlab has no weights 'resnet50'"),
        ("resnet32", None, "resnet32 has no weights that can be had here"),
    ],
)
def test_names_that_are_none(name: str, weights: str | None, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        load_model(name, weights=weights)
    assert said in str(caught.value)


# what is published


def test_every_row_of_the_page_that_has_weights_is_there() -> None:
    rows = {f"openmmlab/{name}" for name, row in ZOO.items() if row.weights}
    assert len(rows) == 25
    assert rows == {name for name in PUBLISHED if name.startswith("openmmlab/")}
    assert len(PUBLISHED) == 25 + 12 + 64


def test_the_table_lists_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "--published", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [*SHIPPED, *PUBLISHED]
    assert rows[0]["license"] == "apache-2.0"
    assert main(["zoo", "--published"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in PUBLISHED)
    assert "resnet50_a1_0-14fe96d1.pth" in text


def test_every_file_name_ends_in_a_hash_of_its_own() -> None:
    for entry in PUBLISHED.values():
        assert len(bytes.fromhex(entry.hash_prefix)) == 4
        assert entry.url.startswith("https://")
    # timm names torchvision's files too, and nobody else's
    twice = [entry for entry in PUBLISHED.values() if entry.name.startswith("timm/") and ".tv" in entry.name]
    files = {entry.url for entry in PUBLISHED.values()}
    assert len(files) == len(PUBLISHED) - len(twice) == len(PUBLISHED) - 12


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("resnet50_8xb32_in1k", (224, 256, "cv2-bilinear", True)),
        ("resnetv1d50_8xb32_in1k", (224, 256, "pillow-bilinear", True)),
        ("resnet50_8xb256-rsb-a3-100e_in1k", (224, 236, "cv2-bilinear", True)),
        ("resnet50_8xb8_cub", (448, 600, "cv2-bilinear", False)),
        ("resnet50-mill_in21k", (224, 224, "pillow-bilinear", False)),
    ],
)
def test_the_preprocessing_of_a_row(row: str, expected: tuple[Any, ...]) -> None:
    found = PUBLISHED[f"openmmlab/{row}"].preprocess
    assert (found.image_size, found.resize_size, found.family, found.keep_ratio) == expected
    constants = [123.675, 116.28, 103.53] if found is not MILL_PREPROCESS else [0.0, 0.0, 0.0]
    assert [round(float(value) * 255, 3) for value in found.mean] == constants


def test_torchvisions_table_is_torchvisions() -> None:
    nets = DEFAULTS["torchvision"]
    checked = 0
    for net, default in nets.items():
        known = torchvision.models.get_model_weights(net)
        assert known.DEFAULT.name == default
        for weights in known:
            entry, view = PUBLISHED[f"torchvision/{net}.{weights.name}"], weights.transforms()
            figures = weights.meta["_metrics"]["ImageNet-1K"]
            assert entry.url == weights.url
            assert entry.top1 == pytest.approx(figures["acc@1"] / 100)
            assert entry.top5 == pytest.approx(figures["acc@5"] / 100)
            assert ([entry.preprocess.resize_size], [entry.preprocess.image_size]) == (view.resize_size, view.crop_size)
            assert view.interpolation.value == "bilinear"
            assert entry.preprocess.mean.tolist() == pytest.approx(view.mean)
            assert entry.preprocess.std.tolist() == pytest.approx(view.std)
            same = weights.meta["categories"]
            assert [name.replace(" ", "_") for name in same if name not in {"crane bird", "maillot tank suit"}] == [
                name for index, name in enumerate(imagenet.names()) if index not in {134, 639}
            ]
            checked += 1
    assert checked == 12


def test_classes_that_nobody_names_stay_numbers(
    home: Path, entry: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = made(num_classes=3)
    other = replace(entry, url=f"{NOWHERE}/made-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    monkeypatch.setitem(PUBLISHED, entry.name, other)
    put(home, other, content)
    assert read_model_file(ROW).class_names == ("class 0", "class 1", "class 2")
