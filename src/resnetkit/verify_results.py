"""Results files: that their figures hold together, and what can be computed again here."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnetkit.checks import (
    Check,
    Machine,
    check_accuracy,
    check_data,
    compared,
    unchecked,
)
from resnetkit.data.spec import DATASETS
from resnetkit.evaluate import class_row
from resnetkit.home import read_json
from resnetkit.load import load_model
from resnetkit.metrics import wilson_interval
from resnetkit.statements import EXACT, STATEMENTS

NOT_REPEATED = {
    "--quarantine",
    "--plain",
    "--raw",
    "--stride-style",
    "--class-names",
}  # of `evaluate`, to be given by the user again


def check_result(path: Path, machine: Machine) -> Iterator[Check]:
    """Check a results file: that its figures hold together, and what can be computed here."""
    said = read_json(path)
    subject = path.name
    if not isinstance(said, dict):
        yield Check(subject, "content", "an object", type(said).__name__, passed=False)
        return
    if "correct" in said or "confusion" in said:
        yield from check_consistency(subject, said)
        yield from check_again(subject, said, machine)
        return
    for key, holds in STATEMENTS.items():
        if key in said:
            yield compared(subject, key, True, holds(said))
    command = said.get("provenance", {}).get("command", "")
    yield unchecked(subject, "its figures", None, f"computed by its own command, in minutes or more: {command}")


def check_consistency(subject: str, said: Mapping[str, Any]) -> Iterator[Check]:
    """Check that an evaluation's figures follow from each other."""
    images, correct, cells = said["images"], said["correct"], counts_of(said["confusion"])
    yield compared(subject, "top1 = correct / images", said["top1"], correct / images, EXACT)
    yield compared(subject, "images of the confusion", images, sum(count for _, _, count in cells))
    right = sum(count for label, prediction, count in cells if label == prediction)
    yield compared(subject, "correct of the confusion", correct, right)
    hits = round(said["top5"] * images)
    yield compared(subject, "top5, of whole images", said["top5"], max(hits, correct) / images, EXACT)
    for name, number in (("top1", correct), ("top5", hits)):
        low, high = wilson_interval(number, images)
        yield compared(subject, f"{name}_interval, low", said[f"{name}_interval"][0], low, EXACT)
        yield compared(subject, f"{name}_interval, high", said[f"{name}_interval"][1], high, EXACT)
    yield compared(subject, "classes of the confusion", [], list(differing_classes(said["classes"], cells)))


def differing_classes(rows: Sequence[Mapping[str, Any]], cells: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    """Yield the names of classes whose figures are not those of the confusion."""
    images, predicted, correct = Counter[int](), Counter[int](), Counter[int]()
    for label, prediction, count in cells:
        images[label] += count
        predicted[prediction] += count
        correct[label] += count * (label == prediction)
    for number, row in enumerate(rows):
        found = class_row(row["class"], images[number], correct[number], predicted[number])
        if not all(row[name] == value or near(row[name], value) for name, value in found.items()):
            yield row["class"]


def near(claimed: Any, found: Any) -> bool:
    """Say whether numbers, or lists of them, are equal but for rounding."""
    if isinstance(claimed, list | tuple) and isinstance(found, list | tuple):
        return len(claimed) == len(found) and all(map(near, claimed, found))
    numbers = all(isinstance(value, int | float) for value in (claimed, found))
    return numbers and abs(claimed - found) <= EXACT


def counts_of(confusion: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Return label, prediction and count of a confusion matrix, kept whole or by its cells."""
    if len(confusion) == len(confusion[0]) != 3:  # files of the first version
        return [(row, column, count) for row, counts in enumerate(confusion) for column, count in enumerate(counts)]
    return [(label, prediction, count) for label, prediction, count in confusion]


def check_again(subject: str, said: Mapping[str, Any], machine: Machine) -> Iterator[Check]:
    """Evaluate anew, where weights with the claimed hash and the data are here."""
    words = shlex.split(said["provenance"]["command"])
    path = machine.find_weights(said["weights_sha256"])
    reason = None
    if path is None:
        reason = "weights of this sha256 are not at hand; next: --weights DIR"
    elif said["data"]["name"] not in DATASETS or NOT_REPEATED & set(words):
        reason = f"next: its own command: {said['provenance']['command']}"
    data = machine.open_data(said["data"]["name"], said["data"]["sha256"]) if reason is None else reason
    if isinstance(data, str) or path is None:
        yield unchecked(subject, "accuracy", said["top1"], str(data))
        return
    loaded = load_model(path, mean=floats_after(words, "--mean"), std=floats_after(words, "--std"))
    yield from check_data(subject, said["data"], data)
    yield from check_accuracy(subject, loaded, data, said, machine)


def floats_after(words: Sequence[str], option: str) -> list[float] | None:
    """Return the three numbers that follow an option of a command."""
    place = words.index(option) if option in words else -1
    return [float(word) for word in words[place + 1 : place + 4]] if place >= 0 else None
