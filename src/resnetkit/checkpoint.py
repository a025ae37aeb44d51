"""The run directory: what a run leaves behind, written whole or not at all.

recipe.json          the recipe
metrics.jsonl        one event a line
state/step-NNNNNNNN/ what resume needs: tensors.safetensors and state.json, with checksums
weights.safetensors  the weights, and in its metadata what they are
evaluation.json      the last evaluation
report.html          the report
first-look/          of a fine-tuning: what was found in the data, and how it was divided
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from resnetkit.errors import BadRequest, DamagedFile
from resnetkit.home import atomic_write, read_json, sync_folder, write_json
from resnetkit.recipe import Recipe
from resnetkit.recipe_json import read_recipe, recipe_to_json

if TYPE_CHECKING:
    from torch import Tensor

RECIPE, METRICS, STATE = "recipe.json", "metrics.jsonl", "state"
WEIGHTS, EVALUATION, REPORT = "weights.safetensors", "evaluation.json", "report.html"
METADATA_KEY = "resnetkit"  # one key only: safetensors does not keep the order of several
LOOK = "first-look"  # what fine-tuning found out before it began; may be there before a run is
KEPT_STATES = 2  # the newest, and the one before in case the newest is damaged


@dataclass(frozen=True)
class State:
    """What a run goes on from."""

    step: int  # steps done
    tensors: dict[str, Tensor]
    facts: dict[str, Any]  # plain JSON data


def start_run(run: Path, recipe: Recipe) -> None:
    """Make a new run directory for a recipe; BadRequest if something is there already."""
    refuse_used(run)
    (run / STATE).mkdir(parents=True, exist_ok=True)
    write_json(run / RECIPE, recipe_to_json(recipe))
    sync_folder(run.parent)


def refuse_used(run: Path) -> None:
    """Refuse a run directory that has anything in it, but for what a start that was cut off leaves."""
    if run.is_dir() and all(
        path.suffix == ".part" or path.name == LOOK or (path.name == STATE and not any(path.glob("step-*")))
        for path in run.iterdir()
    ):
        return
    if run.exists():
        raise BadRequest(f"{run} is not empty", "next: --resume goes on with the run in it, or give another --out")


def run_recipe(run: Path) -> Recipe:
    """Return the recipe of a run directory; BadRequest where there is none."""
    if not (run / RECIPE).is_file():
        raise BadRequest(f"{run} is not a run directory", f"expected a file {RECIPE} in it")
    return read_recipe(read_json(run / RECIPE))


def append_event(run: Path, event: Mapping[str, Any]) -> None:
    """Add one line to metrics.jsonl."""
    with (run / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def sync_events(run: Path) -> None:
    """Make the lines of metrics.jsonl survive a power cut."""
    if (run / METRICS).exists():
        with (run / METRICS).open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())


def read_events(run: Path) -> list[dict[str, Any]]:
    """Return the events of metrics.jsonl; a last line cut off by a kill is left out."""
    path = run / METRICS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1].splitlines()
    try:
        return [json.loads(line) for line in whole]
    except json.JSONDecodeError as error:
        raise DamagedFile(f"{path} has a line that is not JSON", f"{error}") from error


def last_commit(run: Path) -> str | None:
    """Return the commit that a run started on, or went on last; what is checked out while it runs is not its code."""
    return next((event["commit"] for event in reversed(read_events(run)) if "commit" in event), None)


def drop_redone_events(run: Path, step: int) -> None:
    """Take out the events of what a run resumed after `step` steps does again.

    These are all later events, and what is evaluated or went back at this very step: that comes after the save.
    """
    kept = [
        event
        for event in read_events(run)
        if event["step"] < step or (event["step"] == step and event["event"] not in ("eval", "test", "rewind"))
    ]
    with atomic_write(run / METRICS) as file:
        file.writelines((json.dumps(event) + "\n").encode() for event in kept)


def save_state(run: Path, state: State, kept_step: int | None = None) -> Path:
    """Save a state beside the earlier ones, whole or not at all; keep it, the one before and that of `kept_step`."""
    import safetensors.torch  # here: a run directory's files can be found without torch

    folder = run / STATE
    folder.mkdir(exist_ok=True)
    final = folder / state_name(state.step)
    if final.exists():
        with suppress(DamagedFile):
            read_state(final)
            return final  # a step's state is always the same: it is not taken away to be written again
        shutil.rmtree(final)
    temporary = folder / f".{final.name}.{secrets.token_hex(4)}"
    temporary.mkdir()
    try:
        payload = safetensors.torch.save({name: value.contiguous() for name, value in state.tensors.items()})
        with atomic_write(temporary / "tensors.safetensors") as file:
            file.write(payload)
        facts = {"step": state.step, "tensors_sha256": hashlib.sha256(payload).hexdigest(), **state.facts}
        write_json(temporary / "state.json", {"sha256": json_sha256(facts), "state": facts})
        temporary.replace(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)
    drop_old_states(folder, kept_step)
    return final


def drop_old_states(folder: Path, kept_step: int | None) -> None:
    """Keep the newest states and one more; remove the others and what a kill left half-written."""
    states = sorted(folder.glob("step-*"))
    kept = None if kept_step is None else state_name(kept_step)
    old = [state for state in states[:-KEPT_STATES] if state.name != kept]
    for unwanted in [*old, *folder.glob(".step-*")]:
        shutil.rmtree(unwanted)


def drop_states_after(run: Path, step: int) -> None:
    """Remove the states of later steps, which a run that went back does anew."""
    for state in (run / STATE).glob("step-*"):
        if state.name > state_name(step):
            shutil.rmtree(state)


def state_name(step: int) -> str:
    """Return the folder's name of a step's state."""
    return f"step-{step:08d}"


def has_state(run: Path) -> bool:
    """Say whether a run has saved a state, whole or damaged."""
    return any((run / STATE).glob("step-*"))


def load_state(run: Path, step: int | None = None) -> State | None:
    """Return the newest whole state, or that of a step; None where none was saved, DamagedFile where none is whole.

    A damaged one is named on stderr, and the one before it is taken.
    """
    states = sorted((run / STATE).glob("step-*" if step is None else state_name(step)), reverse=True)
    for older in states[1:]:
        try:
            return read_state(states[0])
        except DamagedFile as error:
            print(f"warning: {error}\n  going on from {older.name}", file=sys.stderr)
            states = states[1:]
    return read_state(states[0]) if states else None


def read_state(folder: Path) -> State:
    """Read one saved state and check it."""
    import safetensors.torch

    wrapper = read_json(folder / "state.json")
    facts = wrapper.get("state") if isinstance(wrapper, dict) else None
    if not isinstance(facts, dict) or json_sha256(facts) != wrapper.get("sha256"):
        raise DamagedFile(f"{folder / 'state.json'} does not have its checksum")
    payload = (folder / "tensors.safetensors").read_bytes()
    found = hashlib.sha256(payload).hexdigest()
    if found != facts["tensors_sha256"]:
        raise DamagedFile(
            f"{folder / 'tensors.safetensors'} does not have its checksum",
            f"got sha256 {found}",
            f"expected {facts['tensors_sha256']}",
        )
    return State(facts["step"], safetensors.torch.load(payload), facts)


def json_sha256(data: object) -> str:
    """Return the SHA-256 of JSON data in one canonical form."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes and float32 values, which is the same in every file of these weights.

    Counters of batches have no part in it: some files leave them out.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in tensors if not name.endswith("num_batches_tracked")):
        value = tensors[name].detach().cpu().float().contiguous()
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Write weights that describe themselves; equal input gives an equal file.  Returns its SHA-256.

    The metadata get the `tensors_sha256` of the weights, by which a file alone can be verified.
    """
    import safetensors.torch

    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    said = {**metadata, "tensors_sha256": tensors_sha256(plain)}
    payload = safetensors.torch.save(plain, {METADATA_KEY: json.dumps(said)})
    with atomic_write(path) as file:
        file.write(payload)
    return hashlib.sha256(payload).hexdigest()


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read a safetensors file: its tensors, and our metadata or None for a foreign file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(metadata) if metadata else None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not a whole safetensors file", f"{error}") from error
