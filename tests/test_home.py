from __future__ import annotations

import threading
import time
from pathlib import Path

import platformdirs
import pytest

from resnetkit.home import atomic_write, home, locked


def test_home_is_the_variable_or_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "data"))
    assert home() == tmp_path / "data"
    assert not home().exists()
    monkeypatch.setenv("RESNETKIT_HOME", "~/pictures")
    assert home() == Path.home() / "pictures"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESNETKIT_HOME", "here")
    assert home() == tmp_path / "here"
    for nothing in ("", None):
        monkeypatch.delenv("RESNETKIT_HOME")
        if nothing is not None:
            monkeypatch.setenv("RESNETKIT_HOME", nothing)
        assert home() == Path(platformdirs.user_cache_dir("resnetkit"))


def test_atomic_write_shows_the_file_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_atomic_write_keeps_the_old_file_when_interrupted(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside, most, waited = 0, 0, []

    def work() -> None:
        nonlocal inside, most
        with locked(tmp_path / "lock", lambda: waited.append(True)):
            inside += 1
            most = max(most, inside)
            time.sleep(0.05)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert waited  # somebody did have to wait
