"""What results files of benchmarks say of themselves, derived again from the rows that they keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import fmean, median, stdev, variance
from typing import Any

FASTER = 0.97  # of the seconds before, at most, where a setting is kept
LEAST_TIME = 0.9  # of another's, that counts as no less: rates of a machine vary
MOST_DROP, LEAST_AGREEMENT = 0.005, 0.95  # of quantised nets, by the gate of `export`
PAPER_TOP1 = 0.9125  # of ResNet-20 on CIFAR-10, He et al. 2016, table 6
EXACT = 1e-9  # largest difference of what follows from numbers beside it


def bounded(said: Mapping[str, Any]) -> bool:
    """Say whether every figure of a comparison is within its bound, and says so."""
    rows = said["figures"]
    return bool(rows) and all(row["passed"] == (row["error"] <= row["bound"]) and row["passed"] for row in rows)


def kills_survived(said: Mapping[str, Any]) -> bool:
    """Say whether killed runs have the hashes of whole ones, and what is told of the kills is what the rounds say."""
    kills = [kill for each in said["rounds"] for kill in each["kills"]]
    again = max(kill["done_steps"] - kill["resumed_step"] for kill in kills)
    counted = Counter(kill["moment"] for kill in kills)
    return (
        said["all_weights_equal"]
        and all(len(set(each["weights_sha256"].values())) == 1 for each in said["rounds"])
        and all(kill["resumed_step"] == kill["saved_step"] for kill in kills)
        and (said["kills"], said["kills_during"]) == (len(kills), dict(counted))
        and again == said["most_steps_done_again"] <= said["save_every_steps"]
    )


def ratios_hold(said: Mapping[str, Any]) -> bool:
    """Say whether the ratios of a benchmark of training follow from its seconds, and reach their goals."""

    def holds(net: Mapping[str, Any]) -> bool:
        def ratio(other: str) -> float:
            pairs = zip(net["seconds"][other], net["seconds"]["resnetkit"], strict=True)
            return float(median(theirs / ours for theirs, ours in pairs))

        found = {"loop_over_bare": 1 / ratio("bare"), "times_mmpretrain": ratio("mmpretrain"),
                 "times_timm": ratio("timm"),
                 "share_of_peak": net["flops_of_training"] / max(net["flops_of_matrix_product"].values())}  # fmt: skip
        return all(abs(net[name] - value) <= EXACT for name, value in found.items()) and all(
            found[name] <= goal if name == "loop_over_bare" else found[name] >= goal
            for name, goal in net["goals"].items()
        )

    return all(holds(said[net]) for net in ("resnet18", "resnet20"))


def forecasts_hold(said: Mapping[str, Any]) -> bool:
    """Say whether forecasts and measured rates differ as is said, and with two processes by no more than the goal."""
    return bool(said["rows"]) and all(
        abs(median(row["forecasts"]) / median(row["measured"]) - 1 - row["error"]) <= EXACT
        and (row["processes"] != 2 or abs(row["error"]) <= said["goal_with_two"])
        for row in said["rows"]
    )


def link_survived(said: Mapping[str, Any]) -> bool:
    """Say whether a cut link changed nothing, bit for bit, and one process gives the same within the tolerance."""
    two, one = (said[name]["largest_difference"] for name in ("from_two_processes_on_one_host", "from_one_process"))
    return bool(two == 0 and one <= said["tolerance"])


def choices_follow(said: Mapping[str, Any]) -> bool:
    """Say whether what `--speed auto` kept was faster by its seconds, and what it left out was not, or cost more."""
    trials = [trial for each in said["tried"].values() for trial in each["trials"]]
    return bool(trials) and all(
        trial["seconds"] < trial["before"] / FASTER  # memory stays as the recipe has it where nothing differs
        if trial["kept"]
        else bool(trial["note"]) or trial["seconds"] > FASTER * trial["before"]
        for trial in trials
    )


def input_is_fed(said: Mapping[str, Any]) -> bool:
    """Say whether the ratios of a benchmark of input follow from its times, and what is said of goals from those."""
    times = {name: way["milliseconds"] for name, way in said["ways"].items()}
    reference = times[next(iter(times))]
    follows = all(
        abs(median(theirs / ours for theirs, ours in zip(reference, times[name], strict=True)) - way["times_reference"])
        <= EXACT
        for name, way in said["ways"].items()
    )
    told = all(each["found"] == said["ways"][name]["times_reference"] for name, each in said["input_goals"].items())
    return follows and told and said["cifar"]["share"] < said["cifar"]["goal"]


def planted_are_found(said: Mapping[str, Any]) -> bool:
    """Say whether the shares of what was planted and found follow from their counts, and copies reach their goals."""
    copies, labels = said["copies"], said["labels"]
    names = ("recall", "precision", "of_as_many_as_were_changed", "true_class_named")
    of_copies = (*copies["recall"].values(), copies["precision_of_copies"], copies["precision_with_parts"])
    shares = [*of_copies, *(labels[name] for name in names)]
    whole = [copies["recall"][kind]["share"] for kind in ("quality 50", "resized")]
    return (
        all(abs(each["found"] / each["of"] - each["share"]) <= EXACT for each in shares)
        and min(whole) >= said["goals"]["recall"]
        and copies["precision_of_copies"]["share"] >= said["goals"]["precision"]
    )


def fine_tuning_pays(said: Mapping[str, Any]) -> bool:
    """Say whether fine-tuned nets are better, by their counts, than nets from scratch that had as much time."""
    outcomes = [each[start] for each in said["finetuned"].values() for start in ("from_weights", "from_scratch")]
    return all(abs(each["correct"] / each["images"] - each["top1"]) <= EXACT for each in outcomes) and all(
        each["from_weights"]["top1"] > each["from_scratch"]["top1"]
        and each["from_scratch"]["seconds"] >= LEAST_TIME * each["seconds_of_the_whole_command"]
        for each in said["finetuned"].values()
    )


def threads_serve(said: Mapping[str, Any]) -> bool:
    """Say whether threads prepare photos no slower than as many processes, by the medians of the rounds."""
    rates = {name: median(each["rounds"]) for name, each in said["workers"].items()}
    told = all(abs(each["images_per_second"] - rates[name]) <= EXACT for name, each in said["workers"].items())
    return told and rates[f"{said['cores']} threads"] >= FASTER * rates[f"{said['cores']} processes"]


def int8_costs_little(said: Mapping[str, Any]) -> bool:
    """Say whether each quantised net was exported, and its gate's shares follow from counts and are within bounds."""
    exports = [each for net in said["int8"].values() for each in net["exports"]]
    return bool(exports) and all(
        each["exit_code"] == 0
        and abs(gate["correct"] / gate["images"] - gate["top1"]) <= EXACT
        and abs(gate["model_correct"] / gate["images"] - gate["model_top1"]) <= EXACT
        and abs(gate["agree"] / gate["images"] - gate["agreement"]) <= EXACT
        and (gate["model_top1"] - gate["top1"] <= MOST_DROP + EXACT if gate["decided_by"] == "accuracy"
             else gate["agreement"] >= LEAST_AGREEMENT)
        for each in exports
        for gate in [each["gate"]]
    )  # fmt: skip


def smaller_is_told(said: Mapping[str, Any]) -> bool:
    """Say whether what is said of bounds, of photos decoded at a smaller size, follows from the figures."""
    bounds = said["bounds"]

    def within(row: Mapping[str, Any]) -> bool:
        levels = row["worst_photo_mean_levels"] <= bounds["mean_levels"]
        return bool(
            levels and row["largest_levels"] <= bounds["largest_levels"] and row["agreement"] >= bounds["agreement"]
        )

    return bool(said["reduced"]) and all(
        abs(row["agree"] / row["photos"] - row["agreement"]) <= EXACT and row["within_bounds"] == within(row)
        for row in said["reduced"]
    )


def engines_are_compared(said: Mapping[str, Any]) -> bool:
    """Say whether the ratios of engines follow from the times that are kept."""

    def follow(net: Mapping[str, Any]) -> bool:
        rates = {row["engine"]: {str(batch["batch_size"]): batch["batch_size"] / batch["seconds"]["p50"]
                                 for batch in row["batches"]} for row in net["arithmetic"]["rows"]}  # fmt: skip
        own = rates[net["auto"]]
        return all(
            abs(own[size] / rates[peer][size] - ratio) <= EXACT * ratio
            for name, peer in (("times_timm", "timm eager"), ("times_mmpretrain", "mmpretrain eager"))
            for size, ratio in net["found"][name].items()
        )

    return bool(said["inference"]) and all(follow(net) for net in said["inference"].values())


def holds_the_runs(said: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> bool:
    """Say whether a table's rows, each name's numbers, are those of all runs that a file keeps and that have them."""

    def numbers(value: Any) -> list[float]:
        return list(value) if isinstance(value, list) else [value]

    return all(
        sorted(number for row in rows.values() for number in numbers(row[name]))
        == sorted(run[key] for run in said["runs"].values() if key in run)
        for name, key in names.items()
    )


def levers_compare(said: Mapping[str, Any]) -> bool:
    """Say whether each lever's gain is the mean difference to the base's runs of the same seeds, and its error follows.

    The error is that of a difference of two means, with the deviation over seeds pooled over all levers.
    """
    if not holds_the_runs(said, said["levers"], {"top1": "top1"}):
        return False
    base = dict(zip(said["levers"]["base"]["seeds"], said["levers"]["base"]["top1"], strict=True))

    def gain(row: Mapping[str, Any]) -> float:
        return fmean(top1 - base[seed] for seed, top1 in zip(row["seeds"], row["top1"], strict=True))

    some = [row["top1"] for row in said["levers"].values() if len(row["top1"]) > 1]
    deviation = fmean(map(variance, some), [len(top1) - 1 for top1 in some]) ** 0.5
    return abs(deviation - said["deviation"]) <= EXACT and all(
        abs(gain(row) - row["gain"]) <= EXACT
        and abs(deviation * (2 / len(row["top1"])) ** 0.5 - row["gain_error"]) <= EXACT
        for row in said["levers"].values()
    )


def seeds_reach(said: Mapping[str, Any]) -> bool:
    """Say whether mean and deviation over seeds follow from their runs' counts, and the mean is the paper's or more."""
    if not holds_the_runs(said, {"": said["seeds"]}, {"correct": "correct"}):
        return False
    seeds, (own, paper) = said["seeds"], said["cost_beside_the_paper"]["train_flops"]
    top1 = [correct / seeds["images"] for correct in seeds["correct"]]
    follows = (
        max(abs(found - told) for found, told in zip(top1, seeds["top1"], strict=True)) <= EXACT
        and abs(fmean(top1) - seeds["mean"]) <= EXACT
        and abs(stdev(top1) - seeds["deviation"]) <= EXACT
        and abs(own / paper - said["cost_beside_the_paper"]["share"]) <= EXACT
    )
    return bool(follows and seeds["mean"] >= seeds["goal"] >= PAPER_TOP1)


def depth_helps(said: Mapping[str, Any]) -> bool:
    """Say whether the differences follow from the errors, and more layers hurt plain nets and help residual ones."""
    nets = said["depth"]
    found = {
        f"{kind}-56 against {kind}-20, {which}": nets[f"{kind}-56"][f"final_{which}_error"]
        - nets[f"{kind}-20"][f"final_{which}_error"]
        for kind in ("plain", "ResNet")
        for which in ("train", "test")
    }
    errors = {name: name for name in ("final_train_error", "final_test_error")}
    return (
        holds_the_runs(said, nets, errors)
        and said["differences"].keys() == found.keys()
        and all(abs(value - said["differences"][name]) <= EXACT for name, value in found.items())
        and all((value > 0) == name.startswith("plain") for name, value in found.items())
    )


def ours_is_ahead(said: Mapping[str, Any]) -> bool:
    """Say whether all sides were trained as long and evaluated at their end, and ours ended with the best accuracy."""
    sides = said["time_to_accuracy"]
    last = {name: side["curve"][-1] for name, side in sides.items()}
    as_long = all(abs(side["seconds"] / said["seconds"] - 1) <= 1 - FASTER for side in sides.values())
    to_the_end = all(abs(last[name][1] - side["epochs"]) <= EXACT for name, side in sides.items())
    return as_long and to_the_end and max(last, key=lambda name: float(last[name][2])) == "resnetkit"


def shipped_are_verified(said: Mapping[str, Any]) -> bool:
    """Say whether nothing failed of what comes with the package, and int8 is within the gate's bound."""

    def holds(form: Mapping[str, Any]) -> bool:
        return (
            not form["failed"] and form["checks"] > 0 and abs(form["correct"] / form["images"] - form["top1"]) <= EXACT
        )

    def all_hold(row: Mapping[str, Any]) -> bool:
        quantised = [value for key, value in row.items() if key.startswith("int8")]
        own = row["float"] | {key: row[key] for key in ("failed", "checks")}
        drops = [own["top1"] - form["top1"] for form in quantised]
        return bool(quantised) and all(map(holds, (own, *quantised))) and max(drops) <= MOST_DROP + EXACT

    return bool(said["shipped"]) and all(map(all_hold, said["shipped"].values()))


def none_failed(said: Mapping[str, Any]) -> bool:
    """Say whether every run of many ended well."""
    return bool(said["runs"]) and not said["failed"] and not any(run["exit_code"] for run in said["runs"])


# By a key of a file: whether what it says holds.
STATEMENTS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "figures": bounded,
    "kills": kills_survived,
    "from_one_process": link_survived,
    "resnet18": ratios_hold,
    "goal_with_two": forecasts_hold,
    "failed": none_failed,
    "tried": choices_follow,
    "input_goals": input_is_fed,
    "finetuned": fine_tuning_pays,
    "workers": threads_serve,
    "copies": planted_are_found,
    "int8": int8_costs_little,
    "reduced": smaller_is_told,
    "inference": engines_are_compared,
    "levers": levers_compare,
    "seeds": seeds_reach,
    "depth": depth_helps,
    "time_to_accuracy": ours_is_ahead,
    "shipped": shipped_are_verified,
    "equal_bytes": lambda said: said["equal_bytes"] is True,
    "equal_after_every_step": lambda said: said["equal_after_every_step"] is True,
}
