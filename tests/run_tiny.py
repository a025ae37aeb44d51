"""The `resnetkit` command with the tiny data and recipe in place of CIFAR-10, for tests that need a process."""

import sys

from resnetkit.cli import main
from resnetkit.commands import evaluate, training
from resnetkit.data.opening import EvaluationData
from resnetkit.recipes import RECIPES
from tiny import RECIPE, tiny_dataset

if __name__ == "__main__":
    dataset = tiny_dataset()

    def opened(name: str, trained_on: str | None, quarantine: str | None) -> EvaluationData:
        return EvaluationData(dataset.test, dataset.class_names, dataset.sha256)

    RECIPES["tiny"] = RECIPE
    vars(training)["open_data"] = lambda name, quarantine: dataset
    vars(evaluate)["open_evaluation_data"] = opened
    sys.exit(main())
