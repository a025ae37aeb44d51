"""Imports go in one direction: docs/design.md draws the groups."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import resnetkit

PACKAGE = Path(resnetkit.__file__).parent
# A module imports from the groups above its own, and from its own package.
GROUPS = (
    ("errors",),
    (
        "home",
        "safe_pickle",
        "interrupt",
        "memory",
        "progress",
        "provenance",
        "charts",
        "page",
        "recipe",
        "statements",
        "ways",
        "heat",
        "shipped_weights",
        "contact_sheet",
    ),
    (
        "recipe_checks",
        "processes",
        "models",
        "metrics",
        "confidence",
        "schedule",
        "losses",
        "linear",
        "data.transforms",
        "data.spec",
        "torch_format",
    ),
    ("recipe_json", "published_tables", "model_card"),
    ("data",),
    ("checkpoint", "optim", "ema", "recipes", "tracking", "suspects", "engines"),
    ("zoo", "evaluate", "frozen", "feed", "journal", "layouts", "hub", "artefact", "gate"),
    ("weights_file",),
    ("published",),
    ("load",),
    ("engine_store",),
    ("together", "classifier", "quantize"),
    ("fitting",),
    ("export", "assemble", "cost", "batch_plan", "gpus"),
    ("training_state", "step"),
    ("train", "predict", "report", "forecast", "data_page", "explain"),
    ("gated", "bench_worker", "serve", "checks"),
    ("layout_files", "verify_results"),
    ("conversion", "embedding", "verify", "speed", "links", "doctor", "lr_range", "bench"),
    ("plan", "doctor_page", "finetune"),
    ("printing",),
    ("commands",),
    ("resnetkit",),  # the package itself: its public names, loaded when they are first used
    ("parser",),
    ("arguments",),
    ("cli",),
    ("__main__",),
)


def modules() -> dict[str, Path]:
    """Return every module by its name below resnetkit."""
    named = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "resnetkit"] = path
    return named


def rank(module: str) -> int:
    """Return the number of a module's group; the longest name that fits decides."""
    fitting = [(len(name), number) for number, group in enumerate(GROUPS) for name in group
               if module == name or module.startswith(name + ".")]  # fmt: skip
    assert fitting, f"{module} has no group"
    return max(fitting)[1]


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of ours that a file imports, also inside functions."""
    known = modules()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            inside = name.removeprefix("resnetkit.") if name.startswith("resnetkit.") else None
            while inside and inside not in known:
                inside = inside.rpartition(".")[0]
            if name.partition(".")[0] == "resnetkit":
                yield inside or "resnetkit"


def test_every_module_imports_from_groups_above_or_its_own_package() -> None:
    checked = 0
    for module, path in modules().items():
        for target in imports(path):
            checked += 1
            same_package = target.partition(".")[0] == module.partition(".")[0]
            assert same_package or rank(target) < rank(module), f"{module} imports {target}"
    assert checked > 80


def test_there_is_no_cycle() -> None:
    graph = {module: set(imports(path)) - {module} for module, path in modules().items()}
    done: set[str] = set()
    while ready := {module for module, targets in graph.items() if targets <= done} - done:
        done |= ready
    assert done == set(graph)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from resnetkit.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted(set(sys.modules) & {'torch', 'numpy', 'rich', 'PIL', 'jinja2'}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_forbidden_words_are_not_in_the_source() -> None:
    words = ("weights_only=" + "False", "pickle" + ".load", "eval" + "(", "except" + ":")
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace(".eval(", "")
        assert not [word for word in words if word in text], path
