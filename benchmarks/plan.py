"""Does `plan` foretell what several processes of this machine do?

run: python benchmarks/plan.py      writes results/plan.json; about 10 minutes, on an idle machine
needs: CIFAR-10 (resnetkit data cifar10)

The forecast knows sums between two processes and passes of one process each; the rate beside it is that of the training
loop under torchrun, one thread a process, in what its metrics.jsonl says.  Both are taken in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from resnetkit.checkpoint import read_events
from resnetkit.home import write_json
from resnetkit.plan import plan
from resnetkit.provenance import provenance
from resnetkit.recipes import load_recipe

RESULT = Path(__file__).parents[1] / "results" / "plan.json"
ROUNDS = 5
GOAL = 0.15  # largest error of the rate with two processes
LAPS = {"resnet20": 10, "resnet18_8xb16_cifar10": 3}  # steps that each measured rate is of
OVERRIDES = {"resnet20": ("batch_size=128", "microbatch_size=32"),
             "resnet18_8xb16_cifar10": ("batch_size=128", "microbatch_size=32")}  # fmt: skip


def measured(name: str, processes: int, steps: int) -> float:
    """Train for a few steps; returns images a second, without the first steps."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        overrides = [*OVERRIDES[name], "total_epochs=null", f"total_steps={100 * steps}", f"log_every_steps={steps}",
                     "val_images=0"]  # fmt: skip
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        words = ["-m", "resnetkit", "train", name, "--out", str(run), "--max-steps", str(4 * steps), "--set"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*launch, *words, *overrides], check=True, capture_output=True, env=environment)
        rates = [event["images_per_second"] for event in read_events(run) if event["event"] == "train"]
        return float(statistics.median(rates[1:]))


def main() -> None:
    """Compare in turns and write it down."""
    rows: list[dict[str, Any]] = []
    for name, steps in LAPS.items():
        for processes in (2, 4):
            forecasts, rates = [], []
            for _ in range(ROUNDS):
                found = plan(load_recipe(name, OVERRIDES[name]), devices_per_node=processes)
                forecasts.append(found.images_per_second)
                rates.append(measured(name, processes, steps))
            assert found.run
            forecast, rate = statistics.median(forecasts), statistics.median(rates)
            rows.append({
                "recipe": name, "processes": processes, "threads": found.run.threads,
                "forecast_images_per_second": forecast, "measured_images_per_second": rate,
                "error": forecast / rate - 1, "forecasts": forecasts, "measured": rates,
                "last_forecast": {"compute_seconds": found.compute_seconds, "sum_seconds": found.sum_seconds,
                                  "waiting_seconds": found.waiting_seconds, "alpha": found.run.link.alpha,
                                  "bytes_per_second": found.run.link.bytes_per_second,
                                  "worst_fit": found.run.worst_fit, "sums": found.run.sums},
            })  # fmt: skip
            print({key: rows[-1][key] for key in ("recipe", "processes", "error", "forecasts", "measured")}, flush=True)
    facts = provenance() | {"command": "python benchmarks/plan.py"}
    write_json(RESULT, {"goal_with_two": GOAL, "overrides": OVERRIDES, "rows": rows, "provenance": facts})
    print(json.dumps({f"{row['recipe']} {row['processes']}": round(row["error"], 3) for row in rows}))


if __name__ == "__main__":
    main()
