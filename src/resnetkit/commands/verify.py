"""The command `verify`: claims, what was found, pass or fail."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from resnetkit.checks import Machine
from resnetkit.data.opening import refuse_unknown
from resnetkit.errors import BadRequest
from resnetkit.printing import OUT, print_checks
from resnetkit.verify import verify as verify_one
from resnetkit.verify import verify_all


def verify(
    name: str | None,
    every: bool,
    results: str,
    data: str | None,
    weights: str | None,
    as_json: bool,
    device: str | None,
    engine: str | None,
) -> int:
    """Check a claim, or all of them; 1 where one fails."""
    if (name is None) == (not every):
        raise BadRequest("verify: expected a NAME, or --all")
    if weights and not Path(weights).is_dir():
        raise BadRequest(f"--weights: no such folder: {weights}")
    if data:
        refuse_unknown(data)
    machine = Machine(data, Path(weights) if weights else None, device, engine)
    checks = verify_one(name, machine) if name is not None else verify_all(Path(results), machine)
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        print_checks(checks, OUT)
    return int(any(check.passed is False for check in checks))
