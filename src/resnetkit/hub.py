"""The Hugging Face hub, an extra: pull what has weights, push our own file with a model card.

Files with code in them are never asked for.  HF_ENDPOINT and the hub's own token settings are huggingface_hub's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from resnetkit.errors import BadRequest, SourceError
from resnetkit.model_card import model_card

NAME = re.compile(r"hf:([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
DESCRIPTIONS = ["config.json", "preprocessor_config.json", "README.md"]
WEIGHTS, OLD_WEIGHTS = "model.safetensors", "pytorch_model.bin"


def parse_hub_name(name: str) -> tuple[str, str | None] | None:
    """Return repository and revision of hf:OWNER/NAME or hf:OWNER/NAME@REVISION, None for another name."""
    found = NAME.fullmatch(name)
    return (found[1], found[2]) if found else None


def pull(repo: str, revision: str | None = None) -> Path:
    """Return a folder with a repository's weights and their description, from the hub or as it was kept.

    Raises BadRequest without the extra, SourceError for what is not there or cannot be reached.
    """
    hub = library_or_refusal()
    with said(f"hf:{repo}"):
        wanted = [WEIGHTS, OLD_WEIGHTS]
        if not offline():
            files = hub.HfApi(**endpoint()).list_repo_files(repo, revision=revision)
            wanted = [name for name in wanted if name in files][:1]
        if not wanted:
            raise SourceError(f"hf:{repo} has no weights", f"expected {WEIGHTS} or {OLD_WEIGHTS}")
        patterns = [*DESCRIPTIONS, *wanted]
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=patterns, **endpoint()))


def push(weights: Path, metadata: Mapping[str, Any], repo: str, *, private: bool = False) -> str:
    """Upload a weights file of ours with a model card made of its metadata; returns the URL.

    Raises BadRequest for an unsound name or without the extra, SourceError where the hub does not take it.
    """
    if not parse_hub_name(f"hf:{repo}"):
        raise BadRequest(f"expected OWNER/NAME, got {repo!r}")
    hub = library_or_refusal()
    card = model_card(metadata, repo).encode()
    with said(f"hf:{repo}"):
        api = hub.HfApi(**endpoint())
        api.create_repo(repo, private=private, exist_ok=True)
        operations = [
            hub.CommitOperationAdd(path_in_repo=WEIGHTS, path_or_fileobj=str(weights)),
            hub.CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=card),
        ]
        message = "Weights and card by resnetkit"
        return str(api.create_commit(repo, operations, commit_message=message).commit_url)


def library_or_refusal() -> ModuleType:
    """Import huggingface_hub, telling nobody about it."""
    try:
        import huggingface_hub.constants
    except ImportError as error:
        raise BadRequest("the hub needs huggingface-hub", "next: pip install 'resnetkit[hub]'") from error
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def endpoint() -> dict[str, str]:
    """Return the argument for another server than the hub's own, where HF_ENDPOINT names one."""
    other = os.environ.get("HF_ENDPOINT")
    return {"endpoint": other} if other else {}


def offline() -> bool:
    """Say whether only what was kept may be used."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


@contextmanager
def said(what: str) -> Iterator[None]:
    """Turn the library's errors into one of ours, in few lines and without tokens."""
    from huggingface_hub import errors

    unreachable: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # of whatever client it uses
    try:
        yield
    except errors.GatedRepoError as error:
        raise SourceError(f"{what} is gated", "next: ask for access on its page, then: hf auth login") from error
    except errors.RepositoryNotFoundError as error:
        next_step = "next: check the name; a private one needs: hf auth login"
        raise SourceError(f"{what} is not on the hub, or private", next_step) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"{what} has no such revision") from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError) as error:
        raise SourceError(f"{what}: the hub did not do it", f"got {first_line(error)}") from error
    except (unreachable, OSError) as error:
        next_step = "next: try again, or put the file somewhere and name it"
        raise SourceError(f"{what}: the hub cannot be reached", f"got {first_line(error)}", next_step) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, cut."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
