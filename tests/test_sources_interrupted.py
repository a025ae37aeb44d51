from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from conftest import Tiny, assert_equal, assert_whole
from resnetkit.data import sources
from resnetkit.data.download import download
from resnetkit.data.sources import DATASETS, ArrayDataset, load_dataset


def test_an_interrupt_leaves_nothing(
    home: Path, tiny_archive: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_archive.write("python tar", tmp_path)
    save, saved = np.save, []

    def interrupted(file: BinaryIO, values: np.ndarray) -> None:
        saved.append(values)
        if len(saved) == 3:
            raise KeyboardInterrupt
        save(file, values)

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("tiny", source=source)
    assert len(saved) == 3
    assert [path.name for path in (home / "data").iterdir()] == [".tiny.lock"]


# Fetches `tiny` in a process of its own, which kills itself at the given sync of a file or folder.
KILLED = """
import os, signal, sys
from pathlib import Path
import resnetkit.data.sources as sources
from resnetkit.data.spec import DatasetSpec
spec = {spec!r}
sources.DATASETS["tiny"] = spec
sync, left = os.fsync, int(sys.argv[2])
def kill_or_sync(descriptor):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(descriptor)
os.fsync = kill_or_sync
sources.load_dataset("tiny", source=Path(sys.argv[1]))
"""


@pytest.mark.parametrize("moment", range(1, 8))
def test_a_killed_fetch_is_cleaned_up_by_the_next(home: Path, tiny_archive: Tiny, tmp_path: Path, moment: int) -> None:
    source = tiny_archive.write("png tgz", tmp_path)
    script = KILLED.format(spec=tiny_archive.spec)
    command = [sys.executable, "-c", script, str(source), str(moment)]
    done = subprocess.run(command, check=False, timeout=60, env={**os.environ, "OMP_NUM_THREADS": "1"})
    names = {path.name.partition("-")[0] for path in (home / "data").iterdir()}
    if moment <= 5:  # four files and their folder: before the rename
        assert done.returncode == -9 and names == {".tiny.lock", ".tiny.part"}
    elif moment == 6:  # after the rename
        assert done.returncode == -9 and names == {".tiny.lock", ".tiny.part", "tiny"}
    else:
        assert done.returncode == 0 and names == {".tiny.lock", "tiny"}
    assert_equal(load_dataset("tiny", source=source), tiny_archive)
    assert_whole(home)


def test_fetches_at_the_same_time_read_the_source_once(
    home: Path, tiny_archive: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tiny_archive.write("python tar.gz", tmp_path).as_uri()
    monkeypatch.setitem(DATASETS, "tiny", replace(tiny_archive.spec, url=url))
    downloads, together = [], threading.Barrier(4)

    def counted(url: str, target: Path, max_bytes: int, show: bool) -> None:
        downloads.append(url)
        download(url, target, max_bytes, show)

    monkeypatch.setattr(sources, "download", counted)
    datasets: list[ArrayDataset] = []

    def work() -> None:
        together.wait()
        datasets.append(load_dataset("tiny", progress=False))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(datasets) == 4 and len(downloads) == 1
    for dataset in datasets:
        assert_equal(dataset, tiny_archive)
    assert_whole(home)
