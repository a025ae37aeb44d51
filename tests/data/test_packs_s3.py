"""A pack in an object store: served by a real S3 server on this machine, read by a run of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from PIL import Image

from resnetkit.cli import main
from resnetkit.data.packing import Packing, pack
from resnetkit.data.packs import read_packed
from resnetkit.data.shards import Store
from resnetkit.data.trees import read_photos
from resnetkit.home import read_json


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a pack in a bucket; the same pack is in the folder `pack`."""
    rng = np.random.default_rng(0)
    for place, count in (("train/ant", 9), ("train/bee", 9), ("val/ant", 2), ("val/bee", 2)):
        (tmp_path / "photos" / place).mkdir(parents=True)
        for number in range(count):
            small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((40, 30))
            small.save(tmp_path / "photos" / place / f"{number}.jpg")
    pack(read_photos(tmp_path / "photos"), tmp_path / "pack", Packing(shard_bytes=6_000))
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    account = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (account | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    for file in (tmp_path / "pack").iterdir():
        client.upload_file(str(file), "photos", f"some/pack/{file.name}")
    yield "s3://photos/some/pack"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_photos_of_a_bucket_are_those_of_the_folder(address: str, tmp_path: Path) -> None:
    remote, local = read_packed(address), read_packed(str(tmp_path / "pack"))
    assert remote.sha256 == local.sha256 and len(remote.train) == 18
    for index in range(18):
        assert bytes(remote.train.data(index)) == bytes(local.train.data(index))


def test_a_run_on_a_bucket_equals_one_on_the_folder(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ["--set", "model=resnet4_tiny", "total_epochs=null", "total_steps=6", "batch_size=4", "microbatch_size=2",
           "image_size=16", "view.crop_size=16", "view.resize_size=20"]  # fmt: skip
    asked: list[str] = []
    fetch = Store.fetch

    def watched(self: Store, name: str, start: int, end: int) -> bytes:
        asked.append(name)
        return fetch(self, name, start, end)

    monkeypatch.setattr(Store, "fetch", watched)
    for data, out in ((str(tmp_path / "pack"), "local"), (address, "remote")):
        command = ["train", "resnet18_8xb32_in1k", "--data", data, "--out", str(tmp_path / out)]
        assert main([*command, "--max-steps", "3", *few]) == 0
        assert main(["train", "--resume", "--out", str(tmp_path / out)]) == 0
    ours, theirs = (read_json(tmp_path / out / "evaluation.json") for out in ("remote", "local"))
    assert ours["confusion"] == theirs["confusion"] and ours["loss"] == theirs["loss"]
    blocks = len(set(asked))
    assert 0 < blocks <= len(asked) <= 3 * blocks  # once each time the data is opened: start, resume, report
    assert main(["evaluate", str(tmp_path / "remote"), "--data", address]) == 0
