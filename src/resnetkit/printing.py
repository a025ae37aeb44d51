"""What commands print: lines on standard output, tables where they help."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from resnetkit import checkpoint

if TYPE_CHECKING:  # what is printed was made already: nothing is imported for it
    from resnetkit.batch_plan import BatchPlan
    from resnetkit.bench import Measured
    from resnetkit.checks import Check
    from resnetkit.classifier import Classifier
    from resnetkit.conversion import Conversion
    from resnetkit.data_page import DataFacts
    from resnetkit.evaluate import Evaluation
    from resnetkit.forecast import Forecast
    from resnetkit.plan import Plan
    from resnetkit.predict import Prediction

OUT = Console(soft_wrap=True, highlight=False, markup=False)
ERR = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
COLUMNS = """
params: trainable parameters.
MACs: multiply-adds of convolutions and linear layers for one image (the paper's "FLOPs").
MACs as the page: what the page calls Flops, as mmcv counts them: convolutions, 2 for each input of a norm, 1 for each
output of a ReLU and each input of a pool, nothing for a linear layer.  All three are counted now, from the built net.
top-1, top-5: as published, of one centre crop where the source says nothing else.
* what is odd in what is published:"""
SHOWN_CLASSES = 5  # of a long list
SMALLEST_CLASSES, MOST_UNREADABLE, EXAMPLES = 5, 20, 2
MATRIX_CLASSES = 20  # a confusion matrix of more classes does not fit a terminal


def wide_console(columns: int) -> Console:
    """Return a console for tables, of this width where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else columns)


def print_zoo(rows: list[dict[str, Any]]) -> None:
    """Print the published nets, what is odd in what is published, and what the columns are."""
    columns = ("name", "net", "classes", "input", "params", "MACs", "MACs as the page", "top-1 %", "top-5 %", "source",
               "weights", "net proven by", "accuracy reproduced by")  # fmt: skip
    table = Table(*columns)
    for row in rows:
        published = ["" if row[key] is None else f"{row[key]:.2%}"[:-1] for key in ("top1", "top5")]
        costs = [f"{row[key]:,}" for key in ("params", "macs", "macs_page")]
        name, size = row["name"] + " *" * bool(row["notes"]), f"{row['image_size']} px"
        proofs = (row["net_proven_by"] or "", row["accuracy_reproduced_by"] or "not yet")
        weights = "with the package" if row["comes_with_weights"] else "published" if row["weights"] else ""
        known = (row["model"], f"{row['num_classes']}", size, *costs, *published, row["source"], weights)
        table.add_row(name, *known, *proofs)
    wide_console(260).print(table)
    OUT.print(COLUMNS)
    for row in rows:
        for note in row["notes"]:
            OUT.print(f"* {row['name']}: {note}")


def print_weights_table(rows: list[dict[str, Any]]) -> None:
    """Print the weights that can be had by name."""
    table = Table("name", "licence", "top-1 %", "images", "resize, crop", "file")
    for row in rows:
        top1 = "" if row["top1"] is None else f"{row['top1']:.2%}"[:-1]
        images = "" if row["images"] is None else f"{row['images']:,}"
        sizes = f"{row['resize_size']}, {row['image_size']} ({row['family']})"
        table.add_row(row["name"], row["license"] or "not named", top1, images, sizes, row["url"].rpartition("/")[2])
    wide_console(190).print(table)


def print_published(row: dict[str, Any]) -> None:
    """Print what is published of a net, beside what is counted now."""
    OUT.print(f"{row['name']}: {row['model']}, {row['num_classes']:,} classes, {row['image_size']} pixels")
    beside = {"params": "", "flops": ""}
    if row["printed_params_millions"] is not None:
        beside["params"] = f" (the page: {row['printed_params_millions']} M)"
        beside["flops"] = f" (the page: {row['printed_flops_billions']} G)"
    OUT.print(f"{row['params']:,} parameters{beside['params']}")
    OUT.print(f"{row['macs']:,} multiply-adds an image; as the page counts {row['macs_page']:,}{beside['flops']}")
    figures = [f"{name} {percent(row[key])}" for key, name in (("top1", "top-1"), ("top5", "top-5")) if row[key]]
    OUT.print(f"published {', '.join(figures) or 'without accuracy'}, {row['source']}")
    OUT.print(f"accuracy reproduced by {row['accuracy_reproduced_by'] or 'nobody here yet'}")
    for note in row["notes"]:
        OUT.print(f"note: {note}")
    OUT.print("")


def print_plan(plan: BatchPlan, console: Console = OUT) -> None:
    """Print how a number of devices runs a recipe."""
    for reason in plan.reasons:
        console.print(reason)
    for warning in plan.warnings:
        console.print(f"warning: {warning}")


def print_step_plan(found: Plan, console: Console) -> None:
    """Print how a recipe would go on some devices, and how each figure is known."""
    where = f"{found.nodes} x {found.devices_per_node} {found.device}"
    console.print(f"{found.recipe} on {where}, link {found.link}")
    print_plan(found.batch, console)
    console.print(f"\na step     {found.step_seconds:.4g} s, modelled:")
    console.print(f"           {found.compute_seconds:.4g} s forward, backward and update")
    console.print(
        f"           {found.exposed_seconds:.4g} s sums that nothing hides, of {found.sum_seconds:.4g} s in all"
    )
    console.print(f"           {found.waiting_seconds:.4g} s waiting for the slowest")
    console.print(
        f"images     {found.images_per_second:,.1f} a second, {found.efficiency:.1%} of devices without a network"
    )
    console.print(f"epochs     {found.epochs_per_day:,.2f} a day; the whole recipe {found.hours:,.1f} hours")
    console.print(f"memory     {found.memory_bytes / 2**30:.2f} GiB a device, counted")
    if found.input_bytes_per_second is not None:
        console.print(f"input      {found.input_bytes_per_second / 1e6:,.1f} MB a second, all nodes together")
    for figure in found.figures:
        console.print(f"{figure.name}: {figure.value:.4g} {figure.unit} ({figure.known})")
    for note in found.notes:
        console.print(f"note: {note}")


def print_forecast(found: Forecast) -> None:
    """Print hours here and on GPUs, and memory."""
    here, gib = found.machine, 2**30
    OUT.print(
        f"\nthis machine ({here.device}, {here.threads} threads): {here.images_per_second:,.1f} images/s, "
        f"{here.hours:,.1f} hours of training ({here.steps} steps of {here.microbatch_size} images timed)"
    )
    table = Table("GPU", "precision", "images/s", "hours", "from, ResNet-50 at 224")
    for row in found.gpus:
        precision = row.precision + " (the recipe's)" * row.precision_of_recipe
        origin = f"{row.published_images_per_second:,.0f} images/s, {row.source}"
        name = row.gpu if row.gpus == 1 else f"{row.gpus} x {row.gpu}"
        table.add_row(name, precision, f"{row.images_per_second:,.0f}", f"{row.hours:,.1f}", origin)
    wide_console(140).print(table)
    parts = asdict(found.memory)
    total = parts.pop("total")
    said = ", ".join(f"{name.replace('_', ' ')} {size / gib:.2f}" for name, size in parts.items() if size)
    OUT.print(f"peak memory of a device, micro-batch {found.memory_microbatch_size}: {total / gib:.2f} GiB ({said})")
    for note in found.notes:
        OUT.print(f"note: {note}")


def print_run(run: Path, top1: float) -> None:
    """Print what a run came to, as its last lines."""
    OUT.print(f"top-1 {percent(top1)}")
    OUT.print(f"run {run}")
    OUT.print(f"report {run / checkpoint.REPORT}")


def print_evaluation(loaded: Classifier, data: str, class_names: Sequence[str], outcome: Evaluation) -> None:
    """Print the figures, a table of classes and the confusion matrix."""
    found = outcome.to_json(class_names)
    print_origin(loaded, OUT)
    OUT.print(f"{data} test, {outcome.images:,} images, {outcome.correct:,} correct")
    for name in ("top1", "top5"):
        low, high = found[f"{name}_interval"]
        OUT.print(f"{name[:-1]}-{name[-1]}  {percent(found[name])}, 95 % interval {percent(low)} to {percent(high)}")
    OUT.print(f"loss {outcome.loss:.4f}")
    at = "" if outcome.temperature == 1.0 else f" at the kept temperature of {outcome.temperature:.3g}"
    before = f", {percent(found['ece_at_temperature_1'])} without it" if at else ""
    OUT.print(f"expected calibration error {percent(outcome.ece)}{at}{before}\n")
    classes = Table("class", "images", "correct", "recall", "95 % interval", "precision", title="classes")
    for row in found["classes"]:
        low, high = row["recall_interval"]
        interval = f"{percent(low)} to {percent(high)}"
        counts = (f"{row['images']:,}", f"{row['correct']:,}")
        classes.add_row(row["class"], *counts, percent(row["recall"]), interval, percent(row["precision"]))
    wide = wide_console(160)
    wide.print(classes)
    if len(class_names) <= MATRIX_CLASSES:
        confusion = Table("label \\ predicted", *class_names, title="confusion")
        for name, counts in zip(class_names, outcome.confusion().tolist(), strict=True):
            confusion.add_row(name, *(f"{number:,}" if number else "" for number in counts))
        wide.print(confusion)


def percent(share: float | None) -> str:
    """Write a fraction in percent, nothing for None."""
    return "" if share is None else f"{100 * share:.2f} %"


def print_origin(loaded: Classifier, console: Console) -> None:
    """Print what was loaded, and what was assumed for it."""
    console.print(f"{loaded.origin}; engine {loaded.engine.name}")
    for assumption in loaded.assumptions:
        console.print(f"assumed: {assumption}")


def print_bench(origin: str, notes: Sequence[str], measured: Measured) -> None:
    """Print the ways of running a model, the fastest first, and what was left out."""
    OUT.print(origin)
    sizes = [timing.batch_size for timing in measured.rows[0].timings] if measured.rows else []
    heads = [head for size in sizes for head in (f"batch {size}: ms, p50 / p90 / p99", "images/s", "of peak")]
    table = Table("engine", "gate", "load, s", "file, MB", "memory, MB", *heads)
    for row in measured.rows:
        cells = []
        for timing in row.timings:
            times = " / ".join(f"{1000 * timing.percentiles[share]:.3g}" for share in timing.percentiles)
            share = "" if timing.share_of_peak is None else f"{timing.share_of_peak:.0%}"
            cells += [times, f"{timing.images_per_second:.1f}", share]
        size = "" if row.candidate.file_bytes is None else f"{row.candidate.file_bytes / 1e6:.1f}"
        known = (row.candidate.note, f"{row.load_seconds:.2f}", size, f"{row.peak_bytes / 1e6:.0f}")
        table.add_row(row.candidate.name, *known, *cells)
    wide_console(220).print(table)
    OUT.print(f"peak: {measured.flops_of_peak / 1e9:.0f} GFLOP/s, the faster of two float32 products of matrices here")
    for candidate in measured.left_out:
        OUT.print(f"left out: {candidate.name}: {candidate.note}")
    for note in notes:
        OUT.print(note)


def prediction_line(outcome: Prediction, names: Sequence[str], width: int, as_json: bool) -> str:
    """Write one image's outcome."""
    pairs = [(index, names[index], prob) for index, prob in zip(outcome.classes, outcome.probs, strict=True)]
    if as_json:
        rows = [{"class": name, "index": index, "prob": prob} for index, name, prob in pairs]
        return json.dumps({"file": outcome.file, "predictions": rows}, ensure_ascii=False)
    chances = ", ".join(f"{name} {100 * prob:.1f} %" for _, name, prob in pairs)
    return f"{outcome.file:{width}}  {chances}"


def print_weights(facts: dict[str, Any]) -> None:
    """Print what a weights file is."""
    arch, preprocess = facts["architecture"], facts["preprocess"]
    shape = f"{arch['block']} {'-'.join(map(str, arch['depths']))}, stem {arch['stem']}, shortcuts {arch['shortcut']}"
    extras = [f"{arch['width_factor']} times as wide"] * (arch["width_factor"] > 1) + ["V1D"] * arch["avg_down"]
    style = [f"stride style {arch['stride_style']}"] * (arch["block"] == "bottleneck")
    names = facts["class_names"]
    some = ", ".join(names[:SHOWN_CLASSES]) + ", ..." * (len(names) > SHOWN_CLASSES)
    lines = {
        "file": facts["path"],
        "container": f"{facts['container']}, sha256 {facts['sha256']}",
        "layout": facts["layout"],
        "net": f"{facts['net']}: {', '.join([shape, *extras, *style])}, {arch['in_channels']} channels in",
        "tensors": f"all {facts['tensors_used']} tensors used, {', '.join(facts['dtypes'])}, "
        f"{facts['parameters']:,} parameters",
        "values": f"sha256 {facts['tensors_sha256']}, the same in every layout",
        "classes": f"{facts['num_classes']:,}: {some}",
        "preprocess": preprocess_line(preprocess),
        **{key: printable(facts[key]) for key in ("recipe", "license") if facts[key]},
        **{key: pairs(facts[key]) for key in ("data", "recorded", "temperature") if facts[key]},
        **({"origin": pairs(facts["origin"])} if facts["layout"] == "resnetkit" and facts["origin"] else {}),
        **{f"metrics, {printable(name)}": pairs(figures) for name, figures in facts["metrics"].items()},
    }
    for key, line in lines.items():
        OUT.print(f"{key:12} {line}")
    for note in facts["notes"]:
        OUT.print(f"note: {note}")
    for name in facts["not_finite"]:
        OUT.print(f"warning: {name} has values that are nan or infinite")
    for assumption in facts["assumptions"]:
        OUT.print(f"assumed: {assumption}")


def preprocess_line(preprocess: dict[str, Any]) -> str:
    """Write how images are prepared in one line."""
    size, resize = preprocess["image_size"], preprocess["resize_size"]
    way = "short side" if preprocess["keep_ratio"] else "both sides"
    first = f"{way} to {resize or size} ({preprocess['family']}), centre crop of {size}"
    mean = preprocess["mean"]
    if mean and isinstance(mean[0], list):
        return f"{first}, minus a mean image"
    numbers = (" ".join(f"{number:.4g}" for number in preprocess[key]) for key in ("mean", "std"))
    return f"{first}, minus {next(numbers)}, by {next(numbers)}"


def pairs(facts: dict[str, Any]) -> str:
    """Write plain facts in one line."""
    flat = {key: value for key, value in facts.items() if value is not None}
    return ", ".join(
        f"{key} {pairs(value) if isinstance(value, dict) else printable(value)}" for key, value in flat.items()
    )


def printable(value: object) -> str:
    """Write a value of a file so that it cannot move the terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Print claims with what was found, then how many passed, failed and could not be checked."""
    words = {True: "pass", False: "FAIL", None: "not checked"}
    for check in checks:
        line = f"{words[check.passed]:<12} {printable(check.subject)}  {printable(check.what)}"
        if check.passed is None:
            console.print(f"{line}: {printable(check.reason)}")
        else:
            within = f", tolerance {check.tolerance:.3g}" if check.tolerance else ""
            on = f", engine {check.engine}" if check.engine else ""
            console.print(f"{line}: claimed {printable(check.claimed)}, found {printable(check.found)}{within}{on}")
    counts = [sum(check.passed is state for check in checks) for state in words]
    console.print(f"{counts[0]} passed, {counts[1]} failed, {counts[2]} not checked")


def print_conversion(done: Conversion, console: Console) -> None:
    """Print what was converted, and how it was checked."""
    console.print(done.source)
    for note in done.notes:
        console.print(f"note: {note}")
    for assumption in done.assumptions:
        console.print(f"assumed: {assumption}")
    console.print(
        f"logits before and after on {done.images} {done.images_from} images: "
        f"largest difference {done.largest_difference}; every tensor is equal bit for bit"
    )
    for path in done.files:
        console.print(f"wrote {path}")


def print_findings(found: dict[str, Any]) -> None:
    """Print what an examination of data found: a row for each thing, with how many and examples."""
    from resnetkit.doctor import across_of, copy_counts

    splits = ", ".join(f"{name} {count:,}" for name, count in found["splits"].items())
    OUT.print(f"{found['data']}: {found['images']:,} photos ({splits}), {len(found['classes']):,} classes, all read")
    table = Table("what", "how many", "for example")
    for problem, files in found["problems"].items():
        table.add_row(f"cannot be used: {problem}", f"{len(files):,}", examples([row["file"] for row in files]))
    for (kind, across), count in sorted(copy_counts(found).items()):
        pair = next(pair for pair in found["copies"] if pair["kind"] == kind and across_of(pair) == across)
        what = f"pairs: {kind}{f', across {across}' if across else ''}"
        table.add_row(what, f"{count:,}", examples([pair["first"], pair["second"]]))
    if found["suspects"] is not None:
        some = [f"{row['file']}: {row['class']}, likely {row['likely']}" for row in found["suspects"][:1]]
        table.add_row("suspect labels", f"{len(found['suspects']):,}", examples(some))
    for oddity, names in found["oddities"].items():
        table.add_row(oddity, f"{len(names):,}", examples(names))
    if found["foreign"]:
        table.add_row("other files, left out", f"{len(found['foreign']):,}", examples(found["foreign"]))
    if found["imbalance"] is not None:
        table.add_row("largest class by smallest", f"{found['imbalance']:.3g}", "")
    wide_console(150).print(table)
    for note in found["notes"]:
        OUT.print(f"note: {note}")
    if found["suspects"] is None:
        OUT.print("suspect labels were not looked for: --model MODEL, a net whose features tell such classes apart")


def examples(names: Sequence[str]) -> str:
    """Write the first names of a list."""
    return "\n".join(printable(name) for name in names[:EXAMPLES])


def print_data(facts: DataFacts) -> None:
    """Print what a look at a data set found, without its pictures."""
    OUT.print(f"{facts.name}: layout {facts.layout}, {len(facts.class_names):,} classes, sha256 {facts.sha256}")
    splits = (("training", facts.train_counts, facts.train), ("held out", facts.test_counts, facts.test))
    for title, counts, split in splits:
        if not split.images:
            OUT.print(f"{title}: no images")
            continue
        OUT.print(f"{title}: {split.images:,} images, {min(counts):,} to {max(counts):,} a class")
        looked = "" if split.looked_at == split.images else f", of {split.looked_at:,} files looked at"
        for side, numbers in (("width", split.widths), ("height", split.heights)):
            OUT.print(f"  {side}, least, median and largest{looked}: {', '.join(f'{number:,}' for number in numbers)}")
        found = [*split.kinds.items(), *((f"mode {mode}", number) for mode, number in split.modes.items())]
        found += [("turned by EXIF", split.turned), ("with a colour profile", split.profiles)]
        OUT.print(f"  {', '.join(f'{name} {number:,}' for name, number in found)}")
        for file, reason in split.unreadable[:MOST_UNREADABLE]:
            OUT.print(f"  unreadable: {printable(file)}: {reason}")
        if len(split.unreadable) > MOST_UNREADABLE:
            OUT.print(f"  unreadable in all: {len(split.unreadable):,}")
    for note in facts.notes:
        OUT.print(f"note: {note}")
    smallest = sorted(zip(facts.train_counts, facts.class_names, strict=True))[:SMALLEST_CLASSES]
    OUT.print(f"smallest classes: {', '.join(f'{printable(name)} {count:,}' for count, name in smallest)}")
