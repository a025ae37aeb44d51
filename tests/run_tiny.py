"""The `resnetkit` command with the tiny data and recipe in place of CIFAR-10, for tests that need a process."""

import dataclasses
import sys

from resnetkit import commands
from resnetkit.cli import main
from resnetkit.data.spec import CIFAR10, DATASETS
from resnetkit.recipes import RECIPES
from tiny import RECIPE, tiny_dataset

if __name__ == "__main__":
    dataset = tiny_dataset()
    DATASETS["cifar10"] = dataclasses.replace(CIFAR10, side=16, train_images=120, class_names=dataset.class_names)
    RECIPES["tiny"] = RECIPE
    vars(commands)["load_dataset"] = lambda name: dataset
    sys.exit(main())
