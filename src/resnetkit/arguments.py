"""The arguments of every command, with their help; `cli.py` calls what they name.

Nothing heavy is imported, so that help and refusals answer at once.
"""

from __future__ import annotations

import argparse

from resnetkit import __version__
from resnetkit.parser import (
    MODEL_HELP,
    Commands,
    Parser,
    above_zero,
    add_command,
    add_debug,
    add_device,
    add_engine,
    add_foreign,
    add_gate,
    add_json,
    add_max_microbatch,
    add_model,
    add_overrides,
    add_quarantine,
    port,
    positive,
)
from resnetkit.tracking import TRACKERS
from resnetkit.ways import AUTO

USUAL_START = "torchvision/resnet18.IMAGENET1K_V1"  # of fine-tuning


def build_parser() -> Parser:
    """Build the parser of all commands."""
    parser = Parser(
        prog="resnetkit",
        description="Residual networks: published recipes, exact resume, numbers anybody can check.",
        epilog="A model is a run directory, a weights file or a zoo name.  resnetkit COMMAND --help says more.",
        allow_abbrev=False,
    )
    add_debug(parser, default=False)
    parser.add_argument("--version", action="version", version=f"resnetkit {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for add in COMMANDS:
        command = add(commands)
        command.allow_abbrev = False
        add_debug(command, default=argparse.SUPPRESS)  # what was given before the command stays
    return parser


def add_zoo(commands: Commands) -> Parser:
    """List the published nets."""
    text = "List the nets of the ResNet page and of the paper. Parameters and multiply-adds are counted now."
    parser = add_command(commands, "zoo", text)
    parser.add_argument("--published", action="store_true",
                        help="list the weights of OpenMMLab, torchvision and timm that have a name here")  # fmt: skip
    add_json(parser)
    return parser


def add_show(commands: Commands) -> Parser:
    """Show a recipe or a weights file."""
    text = (
        "Show a recipe (complete, with its published figures and cost) or a weights file. Of a file, ours or foreign, "
        "it says container, layout, net, classes and dtype, and that all tensors are used."
    )
    parser = add_command(commands, "show", text)
    parser.add_argument("name", help="a name of recipe or zoo, a recipe.json, or a model: " + MODEL_HELP)
    parser.add_argument(
        "--devices", type=positive, default=1, metavar="N", help="say how N devices run a recipe (default: 1)"
    )
    add_max_microbatch(parser)
    parser.add_argument("--forecast", action="store_true",
                        help="add hours here (a run of seconds tells) and on GPUs, and memory")  # fmt: skip
    add_overrides(parser)
    add_foreign(parser)
    add_json(parser)
    return parser


def add_plan(commands: Commands) -> Parser:
    """Plan a recipe on many devices."""
    text = (
        "Say how a recipe would go on many devices: step time, epochs a day, memory, input. On CPUs a short run here "
        "is the base, on GPUs published figures; what is measured and what is modelled is said: docs/speed.md."
    )
    parser = add_command(commands, "plan", text)
    parser.add_argument("recipe", help="a recipe's name, or a recipe.json")
    parser.add_argument("--nodes", type=positive, default=1, metavar="N", help="machines (default: 1)")
    parser.add_argument("--gpus-per-node", dest="devices_per_node", type=positive, default=1, metavar="G",
                        help="GPUs of each, or processes on CPUs (default: 1)")  # fmt: skip
    parser.add_argument("--link", default="local", metavar="L",
                        help="between machines: 1GbE, 10GbE, 25GbE, 100GbE, 8x400G-IB; for one: local")  # fmt: skip
    parser.add_argument("--on", default="cpu", metavar="D",
                        help="cpu (default), machines like this one; or A100 80GB, V100 16GB, RTX 3090")  # fmt: skip
    add_max_microbatch(parser)
    add_overrides(parser)
    add_json(parser)
    return parser


def add_convert(commands: Commands) -> Parser:
    """Convert weights."""
    text = (
        "Write weights in another layout, equal bit for bit. What was written is read back, and its logits are "
        "compared with the source's on images; a layout that cannot hold the net is refused with the reasons."
    )
    parser = add_command(commands, "convert", text)
    add_model(parser)
    parser.add_argument("out", help="the file to write, .pth or .safetensors; for huggingface a folder")
    parser.add_argument("--to", required=True, choices=("torchvision", "openmmlab", "timm", "huggingface", "resnetkit"),
                        help="the layout")  # fmt: skip
    parser.add_argument("--images", nargs="+", metavar="IMAGE",
                        help="files or folders to compare logits on (default: 8 generated images)")  # fmt: skip
    parser.add_argument("--license", metavar="L", help="the weights' licence, as in apache-2.0, to be kept with them")
    add_json(parser)
    return parser


def add_export(commands: Commands) -> Parser:
    """Export a model."""
    text = (
        "Write a model for another engine, with class names and preprocessing inside. It is compared with the model on "
        "real images first, and written only if it answers alike; evaluate, predict and verify take it."
    )
    parser = add_command(commands, "export", text)
    add_model(parser)
    parser.add_argument("--format", dest="form", required=True, choices=("onnx", "openvino", "torch-export"),
                        help="for ONNX Runtime, OpenVINO, or torch without resnetkit")  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="the file to write (default: the model's name, here)")
    parser.add_argument("--last-map", action="store_true", help="add the last feature map as a second output")
    parser.add_argument("--int8", action="store_true", help="quantise to bytes: about a quarter of the size")
    add_gate(parser)
    parser.add_argument("--no-gate", action="store_true", help="write it unseen, and say so in it")
    return parser


def add_bench(commands: Commands) -> Parser:
    """Find the fastest way of running a model."""
    text = (
        "Time every way of running a model on this machine's CPU, each behind the gate of export. The fastest that "
        "passes is remembered, and is what predict uses from then on."
    )
    parser = add_command(commands, "bench", text)
    add_model(parser)
    add_gate(parser)
    parser.add_argument("--no-gate", action="store_true",
                        help="about speed alone: nothing is judged or remembered, and a net of the zoo gets "
                        "random weights")  # fmt: skip
    add_json(parser)
    return parser


def add_explain(commands: Commands) -> Parser:
    """Explain predictions."""
    text = (
        "Show where a model looks for a class: a heat map over each image, as PNG, and contact sheets. Grad-CAM at any "
        "stage; for the last one, and exported models with their last map, that is exact."
    )
    parser = add_command(commands, "explain", text)
    add_model(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, or - for standard input")
    parser.add_argument("--out", metavar="DIR", default="explained", help="the folder to write (default: explained)")
    parser.add_argument("--stage", type=positive, metavar="N", help="of the net, from 1 (default: the last)")
    parser.add_argument("--class", dest="class_name", metavar="C",
                        help="the class to look for, by name or number (default: the most likely)")  # fmt: skip
    add_json(parser)
    return parser


def add_serve(commands: Commands) -> Parser:
    """Serve a model."""
    text = (
        "Answer predictions and explanations over HTTP, with a page to drop photos on: docs/serve.md. SIGHUP opens the "
        "model anew, SIGTERM finishes what is being answered. The environment's RESNETKIT_API_KEY is asked of clients."
    )
    parser = add_command(commands, "serve", text)
    add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, metavar="P", help="0: any that is free (default: 8000)")
    parser.add_argument("--max-megabytes", type=above_zero, default=20.0, metavar="M",
                        help="of a request's body (default: 20)")  # fmt: skip
    parser.add_argument("--max-images", type=positive, default=16, metavar="N", help="of a request (default: 16)")
    parser.add_argument("--queue", type=positive, default=64, metavar="N",
                        help="images that may wait, of all requests; more get 503 (default: 64)")  # fmt: skip
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="at most (default: 16)")
    parser.add_argument("--seconds", type=above_zero, default=30.0, metavar="S", help="for a request (default: 30)")
    parser.add_argument("--api-key-file", metavar="FILE", help="a file with the API key that clients must give")
    add_device(parser)
    add_engine(parser, default=AUTO)
    return parser


def add_push(commands: Commands) -> Parser:
    """Push weights to the hub."""
    text = "Push a model to the Hugging Face hub, with a model card made of what its file says. hf:OWNER/NAME pulls it."
    parser = add_command(commands, "push", text)
    parser.add_argument("model", help="a run directory or a weights file of ours")
    parser.add_argument("repo", help="OWNER/NAME; made where it is not there")
    parser.add_argument("--private", action="store_true", help="let nobody else see it")
    return parser


def add_data(commands: Commands) -> Parser:
    """Fetch a data set, or look at one."""
    text = (
        "Fetch a data set, verify it and say where it is; with `data show DIR` look at one: images by class, sizes, "
        "modes, and a page with images as they are and as a recipe changes them; with `data pack DIR OUT` put photos "
        "into shards, which are read faster and from any store."
    )
    parser = add_command(commands, "data", text)
    parser.add_argument("name", metavar="NAME|show|pack", help="cifar10 or cifar100 to fetch, or: show, pack")
    parser.add_argument("place", metavar="DIR", nargs="?", help="for show and pack: a folder or list of photos")
    parser.add_argument("target", metavar="OUT", nargs="?", help="for pack: the folder to write")
    parser.add_argument("--content", choices=("original", "jpeg", "raw"),
                        help="for pack: the files as they are (default), smaller JPEGs, or pixels")  # fmt: skip
    parser.add_argument("--side", type=positive, metavar="N",
                        help="for pack, jpeg and raw: pixels of the short side at most (default: 256)")  # fmt: skip
    parser.add_argument("--quality", type=positive, metavar="Q", help="for pack, jpeg: 1 to 100 (default: 90)")
    parser.add_argument("--shard-mb", type=positive, metavar="N", help="for pack: MB a shard (default: 128)")
    add_quarantine(parser)
    parser.add_argument("--recipe", metavar="R", help="for show: whose augmentations (default: that of such data)")
    parser.add_argument("--out", metavar="FILE", help="for show: the page (default: DIR-data.html)")
    parser.add_argument("--images", type=positive, metavar="N", help="for show: on the page (default: 12)")
    parser.add_argument("--headers", type=positive, metavar="N",
                        help="for show: files a split whose headers are read (default: 20000)")  # fmt: skip
    add_overrides(parser)
    add_json(parser)
    parser.add_argument("--from", dest="source", metavar="FILE|DIR",
                        help="an official archive, python or binary, or its extracted folder")  # fmt: skip
    parser.add_argument("--samples", metavar="DIR", help="write a test image of each class there, as PNG")
    return parser


def add_doctor(commands: Commands) -> Parser:
    """Examine a data set."""
    text = (
        "Examine a folder or list of photos: files that cannot be used, odd ones, copies within and across splits and "
        "classes, imbalance, suspect labels. Every file is read once; a stopped examination goes on where it was."
    )
    parser = add_command(commands, "doctor", text)
    parser.add_argument("place", metavar="DIR", help="a folder or list of photos, in a layout of docs/data.md")
    parser.add_argument("--model", metavar="MODEL",
                        help="a net whose features tell suspect labels: " + MODEL_HELP)  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="for the page, the findings and the quarantine list (default: "
                        "NAME-doctor)")  # fmt: skip
    parser.add_argument("--quarantine-suspects", dest="suspects_too", action="store_true",
                        help="put photos with suspect labels into the quarantine list, too")  # fmt: skip
    parser.add_argument("--no-parts", action="store_true",
                        help="do not look for pictures cut out of others, which takes longest")  # fmt: skip
    add_json(parser)
    add_device(parser)
    return parser


def add_train(commands: Commands) -> Parser:
    """Train by a recipe."""
    text = (
        "Train by a recipe into a run directory. Ctrl-C saves first; --resume goes on exactly there. Several processes "
        "share the work where torchrun starts it: docs/processes.md."
    )
    parser = add_command(commands, "train", text)
    parser.add_argument("recipe", nargs="?", help="a recipe's name, or a recipe.json; with --resume that of the run")
    parser.add_argument("--data", metavar="NAME|DIR", help="the data to train on, instead of the recipe's: cifar10, "
                        "or a folder with train/CLASS/... and val/CLASS/...")  # fmt: skip
    parser.add_argument("--out", metavar="RUN", help="the run directory (default: runs/RECIPE, or the next free name)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--auto-resume", action="store_true",
                        help="start, or go on with the run that this command started before: for restarts")  # fmt: skip
    add_quarantine(parser)
    parser.add_argument("--init-from", metavar="MODEL",
                        help="start from these weights, all but the head; as --set init_from=MODEL")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="the same as --set seed=N")
    parser.add_argument("--on-nan", choices=("stop", "rewind"),
                        help="where a loss is not finite: stop (default), or go back to the last state with half "
                        "the rate; as --set on_nan=...")  # fmt: skip
    parser.add_argument("--speed", choices=("recipe", "auto"), default="recipe",
                        help="auto: try mixed precision, memory layout, compiling, threads and memory for a few steps, "
                        "keep what is faster here (default: as the recipe says)")  # fmt: skip
    parser.add_argument("--max-steps", type=positive, metavar="N", help="stop after step N, with the state saved")
    add_max_microbatch(parser)
    parser.add_argument("--timeout", type=positive, metavar="S",
                        help="give up when another process is silent for S seconds (default: 600)")  # fmt: skip
    parser.add_argument("--track", nargs="+", choices=tuple(TRACKERS), default=[], metavar="NAME",
                        help=f"also write events to {', '.join(TRACKERS)}; put it last")  # fmt: skip
    add_overrides(parser)
    add_device(parser)
    return parser


def add_finetune(commands: Commands) -> Parser:
    """Fine-tune on photos."""
    text = (
        "Make a classifier of your own photos: look at them, divide them, choose a recipe for so many of such a size, "
        "train from given weights, report. The run is one like any other: train --resume goes on with it."
    )
    parser = add_command(commands, "finetune", text)
    parser.add_argument("place", metavar="DIR", help="class folders, with train/val/test above them or without; or a "
                        "list: docs/data.md")  # fmt: skip
    parser.add_argument("--model", default=USUAL_START, metavar="MODEL",
                        help=f"the weights to start from (default: {USUAL_START}, fetched)")  # fmt: skip
    parser.add_argument("--out", metavar="RUN", help="the run directory (default: runs/finetune-NAME, or the next)")
    add_quarantine(parser)
    parser.add_argument("--split", metavar="FILE", help="divide the photos as this photos.csv of an earlier run does")
    parser.add_argument("--new-split", action="store_true", help="do not divide them as the last run on them did")
    parser.add_argument("--balance", choices=("auto", "none", "class_weights", "sampling"), default="auto",
                        help="of unequal classes (default: auto, weights where the imbalance is large)")  # fmt: skip
    parser.add_argument("--find-lr", action="store_true", help="choose the rate by a learning-rate range test")
    parser.add_argument("--folds", type=positive, metavar="K", help="train K times, each photo held out once")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the division and the run (default: 0)")
    parser.add_argument("--look-only", action="store_true", help="stop before training: look, divide, forecast")
    add_overrides(parser)
    add_device(parser)
    return parser


def add_evaluate(commands: Commands) -> Parser:
    """Evaluate a model."""
    parser = add_command(commands, "evaluate", "Evaluate a model on every test image, each exactly once.")
    add_model(parser)
    parser.add_argument("--data", metavar="NAME|DIR", default="cifar10",
                        help="cifar10 (default), or a folder of class folders, or one with val/CLASS/...")  # fmt: skip
    parser.add_argument("--predictions", metavar="FILE", help="write one line an image there, as CSV")
    add_quarantine(parser)
    add_json(parser)
    add_engine(parser)
    add_device(parser)
    return parser


def add_verify(commands: Commands) -> Parser:
    """Verify claims."""
    text = (
        "Recompute what is claimed: params, multiply-adds, accuracy, hashes of data and weights. Exit code 1 where a "
        "claim fails; what could not be checked is listed with the reason. Nothing is fetched."
    )
    parser = add_command(commands, "verify", text)
    parser.add_argument("name", metavar="NAME|FILE|RUN", nargs="?",
                        help="a net of the zoo, a weights file, a run directory, or a results file")  # fmt: skip
    parser.add_argument("--all", dest="every", action="store_true", help="every results file and net of the zoo")
    parser.add_argument(
        "--results", metavar="DIR", default="results", help="for --all: where they are (default: results)"
    )
    parser.add_argument("--data", metavar="NAME|DIR", help="the images to evaluate on, instead of those a claim names")
    parser.add_argument("--weights", metavar="DIR", help="where weights may be, found by their hash")
    add_json(parser)
    add_engine(parser)
    add_device(parser)
    return parser


def add_predict(commands: Commands) -> Parser:
    """Predict image files."""
    parser = add_command(
        commands, "predict", "Name what is on images. A file that cannot be read is named and the rest goes on."
    )
    add_model(parser)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, folders, or - for an image on standard input"
    )
    parser.add_argument("--top", type=positive, default=5, metavar="K", help="classes an image (default: 5)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON line an image")
    add_engine(parser, default=AUTO)
    add_device(parser)
    return parser


def add_report(commands: Commands) -> Parser:
    """Write a run's report."""
    parser = add_command(commands, "report", "Write the report of a run anew and say where it is.")
    parser.add_argument("run", help="a run directory")
    return parser


COMMANDS = (
    add_zoo,
    add_show,
    add_plan,
    add_data,
    add_doctor,
    add_train,
    add_finetune,
    add_evaluate,
    add_verify,
    add_predict,
    add_convert,
    add_export,
    add_bench,
    add_explain,
    add_serve,
    add_push,
    add_report,
)
