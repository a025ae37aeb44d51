"""The run directory: whole or not at all, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from resnetkit import checkpoint
from resnetkit.checkpoint import State
from resnetkit.errors import BadRequest, DamagedFile
from tiny import RECIPE


def state(step: int) -> State:
    return State(step, {"model.weight": torch.full((3, 2), float(step)), "count": torch.tensor(step)}, {"tally": 0.1})


def test_a_state_comes_back_equal(tmp_path: Path) -> None:
    checkpoint.save_state(tmp_path, state(7))
    loaded = checkpoint.load_state(tmp_path)
    assert loaded and loaded.step == 7 and loaded.facts["tally"] == 0.1
    assert all(torch.equal(loaded.tensors[name], value) for name, value in state(7).tensors.items())


def test_the_newest_two_states_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        checkpoint.save_state(tmp_path, state(step))
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["step-00000002", "step-00000030"]
    newest = checkpoint.load_state(tmp_path)
    assert newest and newest.step == 30


def test_there_may_be_no_state(tmp_path: Path) -> None:
    assert checkpoint.load_state(tmp_path) is None


def test_a_failed_save_leaves_the_earlier_state_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save_state(tmp_path, state(1))

    def full_disk(path: Path, data: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "write_json", full_disk)  # after the tensors are written
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save_state(tmp_path, state(2))
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-00000001"]


def test_what_a_kill_left_is_not_trusted_and_goes_away(tmp_path: Path) -> None:
    (tmp_path / "state" / ".step-00000009.abcd").mkdir(parents=True)
    assert checkpoint.load_state(tmp_path) is None
    checkpoint.save_state(tmp_path, state(1))
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-00000001"]


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), name=st.sampled_from(["tensors", "state"]))
def test_any_flipped_bit_is_found(place: float, bit: int, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = tmp_path_factory.mktemp("run")
    folder = checkpoint.save_state(run, state(1))
    file = folder / {"tensors": "tensors.safetensors", "state": "state.json"}[name]
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    same_json = name == "state" and same_data(bytes(content), file.read_bytes())
    file.write_bytes(content)
    if not same_json:  # a flipped bit may turn a space into another blank
        with pytest.raises(DamagedFile, match=str(file)):
            checkpoint.load_state(run)


def same_data(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"state": 3}', b'{"state": {}, "sha256": "0"}', b"\xff\xfe"])
def test_a_state_that_is_no_state_is_refused(content: bytes, tmp_path: Path) -> None:
    folder = checkpoint.save_state(tmp_path, state(1))
    (folder / "state.json").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"state\.json"):
        checkpoint.load_state(tmp_path)


def test_events_survive_a_line_cut_off_by_a_kill(tmp_path: Path) -> None:
    for step in (0, 4, 8):
        checkpoint.append_event(tmp_path, {"event": "train", "step": step})
    checkpoint.append_event(tmp_path, {"event": "eval", "step": 4})
    checkpoint.append_event(tmp_path, {"event": "test", "step": 8})
    with (tmp_path / checkpoint.METRICS).open("a") as file:
        file.write('{"event": "tr')
    assert [event["step"] for event in checkpoint.read_events(tmp_path)] == [0, 4, 8, 4, 8]
    checkpoint.drop_redone_events(tmp_path, 4)
    assert [event["step"] for event in checkpoint.read_events(tmp_path)] == [0, 4]
    checkpoint.append_event(tmp_path, {"event": "train", "step": 5})
    assert [event["step"] for event in checkpoint.read_events(tmp_path)] == [0, 4, 5]


def test_a_run_starts_in_an_empty_place_only(tmp_path: Path) -> None:
    checkpoint.start_run(tmp_path / "a" / "b", RECIPE)
    assert checkpoint.run_recipe(tmp_path / "a" / "b") == RECIPE
    with pytest.raises(BadRequest, match="not empty"):
        checkpoint.start_run(tmp_path / "a" / "b", RECIPE)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match="not empty"):
        checkpoint.start_run(tmp_path / "file", RECIPE)
    with pytest.raises(BadRequest, match="not a run directory"):
        checkpoint.run_recipe(tmp_path)


METADATA: dict[str, Any] = {"architecture": {"depths": [1]}, "class_names": ["é", "b"], "metrics": {"top1": 0.1}}


def test_weights_describe_themselves_and_are_equal_bytes_each_time(tmp_path: Path) -> None:
    weights: dict[str, Tensor] = {
        "b": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "a": torch.ones(2),
    }
    hashes = {checkpoint.save_weights(tmp_path / f"{n}.safetensors", weights, METADATA) for n in range(5)}
    assert len(hashes) == 1
    tensors, metadata = checkpoint.read_weights(tmp_path / "3.safetensors")
    assert metadata == METADATA | {"tensors_sha256": checkpoint.tensors_sha256(weights)}
    assert set(tensors) == set(weights) and all(torch.equal(tensors[k], weights[k]) for k in weights)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, {"a": torch.ones(100)}, METADATA)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        checkpoint.read_weights(path)
