from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.errors import RecipeError
from resnetkit.recipe import (
    Amp,
    AverageWeights,
    BinaryCrossEntropy,
    Cosine,
    CutMix,
    Flip,
    Linear,
    Mixup,
    PadCrop,
    Recipe,
    StepDecay,
    SubtractMeanImage,
    Warmup,
)
from resnetkit.recipe_json import read_recipe, recipe_differences, recipe_to_json
from resnetkit.recipes import RECIPES

QUICKSTART = RECIPES["quickstart"]
AUGMENTATIONS = (
    "PadCrop, ProgressiveCrop, Flip, RandomResizedCrop, Resize, ScaleJitter, RandomCrop, PcaLighting, RandAugment, "
    "TrivialAugment, ColorJitter, RandomErasing"
)


def problems_of(*overrides: str, data: Any = None) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe_to_json(QUICKSTART) if data is None else data, overrides)
    return list(caught.value.problems)


def quickstart_with(*overrides: str) -> Recipe:
    return read_recipe(recipe_to_json(QUICKSTART), overrides)


def test_every_recipe_survives_json() -> None:
    seen = 0
    for name, recipe in RECIPES.items():
        text = json.dumps(recipe_to_json(recipe), allow_nan=False)
        assert read_recipe(json.loads(text)) == recipe
        assert recipe.name == name
        seen += 1
    assert seen == 67


def test_json_keeps_every_optional_part() -> None:
    recipe = dataclasses.replace(
        QUICKSTART,
        average_weights=AverageWeights(0.999),
        schedule=Cosine(0.01),
        preprocess=SubtractMeanImage(),
        augment=(Flip(), PadCrop(3, "reflect"), Flip(alternating=True)),
        total_epochs=None,
        total_steps=7,
        loss=BinaryCrossEntropy(0.1, "mean_over_classes"),
        mix=(Mixup(0.2, 0.5), CutMix(1.0, 0.5)),
        amp=Amp(loss_scale=512.0),
        clip_grad_norm=1.0,
    )
    assert read_recipe(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe


def test_all_problems_are_listed_at_once_with_near_names() -> None:
    data = recipe_to_json(QUICKSTART)
    del data["model"]
    data |= {"batch_sizes": 3, "seed": "7", "channels_last": 1, "warmup": {"shape": "linaer"}}
    data["optim"] = {"kind": "Sgd", "lr": "0.1x", "momentun": 0.9}
    data["augment"] = [{"kind": "PadCorp"}, {"kind": "PadCrop", "padding": 4.5}, 3]
    assert sorted(problems_of(data=data)) == sorted(
        [
            "unknown field 'batch_sizes'; did you mean 'batch_size'?",
            "missing field 'model'",
            "seed: expected a whole number, got '7'",
            "channels_last: expected true or false, got 1",
            "warmup.shape: expected one of 'linear', 'constant', got 'linaer'; did you mean 'linear'?",
            "missing field 'warmup.start_factor'",
            "optim.lr: expected a number, got '0.1x'",
            "unknown field 'optim.momentun'; did you mean 'momentum'?",
            f"augment.0.kind: expected one of {AUGMENTATIONS}, got 'PadCorp'; did you mean 'PadCrop'?",
            "augment.1.padding: expected a whole number, got 4.5",
            f"augment.2.kind: expected one of {AUGMENTATIONS}, got 3",
        ]
    )


def test_the_message_counts_and_lists_the_problems() -> None:
    with pytest.raises(RecipeError) as caught:
        quickstart_with("seed=x", "optim.lr=no")
    assert str(caught.value).splitlines() == [
        "recipe has 2 problems",
        "  optim.lr: expected a number, got 'no'",
        "  seed: expected a whole number, got 'x'",
    ]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("batch_size=true", "batch_size: expected a whole number, got True"),
        ("batch_size=128.0", "batch_size: expected a whole number, got 128.0"),
        ("batch_size=null", "batch_size: expected a whole number, got None"),
        ("optim.lr=true", "optim.lr: expected a number, got True"),
        ("optim.nesterov=1", "optim.nesterov: expected true or false, got 1"),
        ("name=3", "name: expected a string, got 3"),
        ("augment=5", "augment: expected a list, got 5"),
        ("preprocess.mean=0.5", "preprocess.mean: expected a list, got 0.5"),
        ("preprocess.mean.1=x", "preprocess.mean.1: expected a number, got 'x'"),
        ("optim=3", "optim.kind: expected one of Sgd, Muon, Lamb, got 3"),
        ("optim.lr=NaN", "optim.lr: expected a finite number, got nan"),
        ("optim.lr=-Infinity", "optim.lr: expected a finite number, got -inf"),
        ("optim.lr=1" + "0" * 400, "optim.lr: expected a finite number, got inf"),
        ("schedule=[]", "schedule.kind: expected one of StepDecay, Cosine, Linear, Plateau, got []"),
        ("schedule=null", "schedule.kind: expected one of StepDecay, Cosine, Linear, Plateau, got None"),
        ("schedule.kind=3", "schedule.kind: expected one of StepDecay, Cosine, Linear, Plateau, got 3"),
        ("data=[]", "data: expected a string, got []"),
    ],
)
def test_wrong_types(override: str, problem: str) -> None:
    assert problems_of(override) == [problem]


def test_a_whole_number_is_a_fine_float() -> None:
    recipe = quickstart_with("optim.lr=1", "total_epochs=3")
    assert (recipe.optim.lr, recipe.total_epochs) == (1.0, 3.0)
    assert type(recipe.optim.lr) is float


def test_an_object_of_one_type_may_name_its_kind_and_no_other() -> None:
    data = recipe_to_json(QUICKSTART)
    assert data["view"].pop("kind") == "View"
    assert read_recipe(data) == QUICKSTART
    assert problems_of("view.kind=Adam")[0] == "view.kind: expected View, got 'Adam'"


@pytest.mark.parametrize("data", [None, [], 3, "x", True, 0.5])
def test_a_recipe_is_an_object(data: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(data)
    assert caught.value.problems == (f"recipe: expected an object, got {data!r}",)


def test_names_are_checked_beside_the_rest() -> None:
    data = recipe_to_json(QUICKSTART) | {"seed": "x"}
    with pytest.raises(RecipeError) as caught:
        read_recipe(data, (), {"model": lambda name: f"no {name}", "name": lambda name: None})
    assert caught.value.problems == ("seed: expected a whole number, got 'x'", "model: no resnet8")


# --- overrides ---


def test_overrides_reach_everything() -> None:
    recipe = quickstart_with(
        "seed=3", "optim.lr=0.5", "augment.0.padding=4", "preprocess.std.2=1", "name=mine", "total_epochs=0.5"
    )
    assert recipe.seed == 3
    assert recipe.optim == dataclasses.replace(QUICKSTART.optim, lr=0.5)
    assert recipe.augment == (PadCrop(4, "reflect"), Flip(alternating=True))
    assert dict(recipe_to_json(recipe)["preprocess"])["std"][2] == 1.0
    assert (recipe.name, recipe.total_epochs) == ("mine", 0.5)


def test_overrides_leave_the_data_given_alone() -> None:
    data = recipe_to_json(QUICKSTART)
    read_recipe(data, ["optim.lr=0.5", "augment.0.padding=4", "schedule.kind=Cosine"])
    assert data == recipe_to_json(QUICKSTART)


def test_later_overrides_win() -> None:
    assert quickstart_with("seed=1", "seed=2").seed == 2
    assert quickstart_with("optim.lr=1", 'optim={"kind": "Sgd", "lr": 2}').optim.lr == 2
    assert quickstart_with('optim={"kind": "Sgd", "lr": 2}', "optim.lr=1").optim.lr == 1
    assert quickstart_with("warmup=null", "warmup.shape=linear", "warmup.start_factor=0", "warmup.warmup_steps=3")
    assert quickstart_with("warmup.start_factor=1", "warmup=null").warmup is None


def test_a_new_kind_empties_its_object_and_the_same_kind_does_not() -> None:
    steps = quickstart_with("schedule.kind=StepDecay", "schedule.drop_epochs=[2, 4]")
    assert steps.schedule == StepDecay(drop_epochs=(2.0, 4.0))
    assert quickstart_with("schedule.final_factor=0.5", "schedule.kind=Linear").schedule == Linear(0.5)
    assert quickstart_with("schedule.final_factor=0.5", "schedule.kind=Cosine").schedule == Cosine(0.0)
    assert quickstart_with("preprocess.kind=SubtractMeanImage").preprocess == SubtractMeanImage()
    assert quickstart_with("augment.0.kind=Flip").augment[0] == Flip()


def test_null_and_absent_optionals() -> None:
    assert quickstart_with("warmup=null").warmup is None
    recipe = quickstart_with("average_weights.decay=0.9")
    assert recipe.average_weights == AverageWeights(0.9)
    assert quickstart_with("total_epochs=null", "total_steps=10").total_steps == 10
    assert problems_of("warmup=null", "warmup.shape=constant") == ["missing field 'warmup.start_factor'"]


def test_a_value_that_is_not_json_is_a_string() -> None:
    assert quickstart_with("name=a=b").name == "a=b"
    assert quickstart_with('name="5"').name == "5"
    assert quickstart_with("name=").name == ""
    assert quickstart_with("name=" + "[" * 100_000).name == "[" * 100_000
    assert problems_of("seed=" + "1" * 5000)[0].startswith("seed: expected a whole number, got '111")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("seed", "override 'seed': expected field.path=value"),
        ("=3", "override '=3': expected field.path=value"),
        ("", "override '': expected field.path=value"),
        ("seed.deeper=3", "override 'seed.deeper=3': there is no 'deeper' to set"),
        ("seed.deeper.still=3", "override 'seed.deeper.still=3': there is no 'deeper' to go into"),
        ("augment.2.padding=3", "override 'augment.2.padding=3': there is no '2' to go into"),
        ("augment.-1.padding=3", "override 'augment.-1.padding=3': there is no '-1' to go into"),
        ("augment.padding=3", "override 'augment.padding=3': there is no 'padding' to set"),
        ("preprocess.mean.3=1", "override 'preprocess.mean.3=1': there is no '3' to set"),
        ("optin.lr=3", "unknown field 'optin'; did you mean 'optim'?"),
        ("optim..lr=3", "unknown field 'optim.'"),
        (".=3", "unknown field ''"),
    ],
)
def test_malformed_overrides(override: str, problem: str) -> None:
    assert problems_of(override) == [problem]


def test_problems_of_overrides_and_of_fields_come_together() -> None:
    assert len(problems_of("seed", "batch_size=x", "augment.9.padding=1")) == 3


# --- contradictions ---


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ("batch_size=0 microbatch_size=1", "batch_size: expected more than 0, got 0"),
        ("microbatch_size=0", "microbatch_size: expected more than 0, got 0"),
        ("microbatch_size=-1", "microbatch_size: expected more than 0, got -1"),
        ("total_epochs=0", "total_epochs: expected more than 0, got 0.0"),
        ("total_epochs=null total_steps=0", "total_steps: expected more than 0, got 0"),
        ("log_every_steps=0", "log_every_steps: expected more than 0, got 0"),
        ("eval_every_epochs=0", "eval_every_epochs: expected more than 0, got 0.0"),
        ("save_every_steps=0", "save_every_steps: expected more than 0, got 0"),
        ("total_steps=9", "expected one of total_epochs and total_steps: set one, and the other to null"),
        ("total_epochs=null", "expected one of total_epochs and total_steps: set one, and the other to null"),
        ("microbatch_size=100", "batch_size: expected a multiple of microbatch_size 100, got 128"),
        ("microbatch_size=256", "batch_size: expected a multiple of microbatch_size 256, got 128"),
        ("loss.label_smoothing=1", "loss.label_smoothing: expected 0 or more and less than 1, got 1.0"),
        ("drop_path_rate=-0.1", "drop_path_rate: expected 0 or more and less than 1, got -0.1"),
        ("optim.momentum=1.5", "optim.momentum: expected 0 or more and less than 1, got 1.5"),
        ("average_weights.decay=1", "average_weights.decay: expected 0 or more and less than 1, got 1.0"),
        ("optim.lr=0", "optim.lr: expected more than 0, got 0.0"),
        ("optim.weight_decay=-1", "optim.weight_decay: expected 0 or more, got -1.0"),
        ("optim.momentum=0", "optim.nesterov: expected a momentum above 0, got momentum 0"),
        ("val_images=-1", "val_images: expected 0 or more and less than 2**63, got -1"),
        ("seed=-1", "seed: expected 0 or more and less than 2**63, got -1"),
        ("seed=9223372036854775808", "seed: expected 0 or more and less than 2**63, got 9223372036854775808"),
        (
            "schedule.kind=StepDecay schedule.drop_epochs=[1] schedule.drop_steps=[2]",
            "schedule: expected drop_epochs or drop_steps, got both: set the other to []",
        ),
        (
            "schedule.kind=StepDecay schedule.drop_steps=[3,3]",
            "schedule: expected drops above 0 in rising order, got [3, 3]",
        ),
        (
            "schedule.kind=StepDecay schedule.drop_epochs=[4,2]",
            "schedule: expected drops above 0 in rising order, got [4.0, 2.0]",
        ),
        (
            "schedule.kind=StepDecay schedule.drop_steps=[0,2]",
            "schedule: expected drops above 0 in rising order, got [0, 2]",
        ),
        (
            "schedule.kind=StepDecay schedule.drop_factor=0",
            "schedule.drop_factor: expected more than 0, got 0.0",
        ),
        ("schedule.final_factor=-0.1", "schedule.final_factor: expected 0 or more, got -0.1"),
        (
            "warmup.warmup_steps=3",
            "warmup: expected one of warmup_epochs and warmup_steps above 0, the other absent",
        ),
        (
            "warmup.warmup_epochs=0",
            "warmup: expected one of warmup_epochs and warmup_steps above 0, the other absent",
        ),
        (
            "warmup.warmup_epochs=-1 warmup.warmup_steps=3",
            "warmup.warmup_epochs: expected 0 or more, got -1.0",
        ),
        ("warmup.start_factor=1.5", "warmup.start_factor: expected 0 to 1, got 1.5"),
        ("preprocess.mean=[0.5]", "preprocess: expected three numbers, R G B, in mean and in std"),
        ("preprocess.mean=[] preprocess.std=[]", "preprocess: expected three numbers, R G B, in mean and in std"),
        ("preprocess.std=[1,0,1]", "preprocess.std: expected above 0 and at most 1, pixels are in [0, 1], got 0.0"),
        ("augment.0.padding=-1", "augment.0.padding: expected 0 to 127, got -1"),
        ("augment.0.padding=128", "augment.0.padding: expected 0 to 127, got 128"),
        ("image_size=0", "image_size: expected more than 0, got 0"),
        ("view.crop_size=40", "view.resize_size: expected at least view.crop_size 40, got 32"),
        ("clip_grad_norm=0", "clip_grad_norm: expected more than 0, got 0.0"),
        ("precise_bn_images=-1", "precise_bn_images: expected 0 or more and less than 2**63, got -1"),
        ('mix=[{"kind":"Mixup","alpha":0}]', "mix.0.alpha: expected more than 0, got 0.0"),
        (
            'mix=[{"kind":"Mixup","alpha":1},{"kind":"CutMix","alpha":1,"probability":0.5}]',
            "mix: expected probabilities that sum to 1 or less, got 1.5",
        ),
        ("amp.dtype=bfloat16 amp.loss_scale=2", "amp.loss_scale: expected null, bfloat16 needs no scale"),
        ("amp.loss_scale=0", "amp.loss_scale: expected more than 0, got 0.0"),
        (
            "preprocess.kind=SubtractMeanImage view.resize_size=40 view.crop_size=40",
            "view.crop_size: expected image_size 32, the size of the mean image, got 40",
        ),
        (
            "schedule.kind=Plateau schedule.patience_evaluations=0",
            "schedule.patience_evaluations: expected more than 0, got 0",
        ),
        (
            "repeated_augmentation.repeats=2",
            "repeated_augmentation: expected augmentations of photos, as RandomResizedCrop",
        ),
        (
            'augment=[{"kind":"TrivialAugment"},{"kind":"Flip","alternating":true}]',
            "augment.1: expected no alternating Flip beside those of single images",
        ),
        (
            'augment=[{"kind":"PadCrop","padding":4},{"kind":"Resize","size":30,"family":"pillow-bilinear"},'
            '{"kind":"PadCrop","padding":1}]',
            "augment.0: expected sides of at least image_size 32 with the padding, got none that are known",
        ),
        (
            'augment=[{"kind":"TrivialAugment","fill":[1,2]}]',
            "augment.0.fill: expected three numbers of 0 to 255, got [1, 2]",
        ),
        ('augment=[{"kind":"TrivialAugment","num_levels":1}]', "augment.0.num_levels: expected 2 or more, got 1"),
        (
            'augment=[{"kind":"ColorJitter","hue":0.6}]',
            "augment.0.hue: expected at most 0.5, half of the circle, got 0.6",
        ),
        ('augment=[{"kind":"ColorJitter","contrast":-1}]', "augment.0.contrast: expected 0 or more, got -1.0"),
        ('augment=[{"kind":"RandomErasing","probability":2}]', "augment.0.probability: expected 0 to 1, got 2.0"),
        ('augment=[{"kind":"RandomErasing","min_area":0.5}]', f"augment.0.min_area: expected at most max_area {1 / 3}"),
        ('augment=[{"kind":"RandomErasing","max_ratio":0.5}]', "augment.0.max_ratio: expected 1 or more, got 0.5"),
        (
            'augment=[{"kind":"RandomErasing","color":[1,2,256]}]',
            "augment.0.color: expected null or three numbers of 0 to 255, got [1, 2, 256]",
        ),
        (
            'augment=[{"kind":"RandomResizedCrop","family":"pillow-bilinear","min_area":0.5,"max_area":0.2}]',
            "augment.0.min_area: expected at most max_area 0.2",
        ),
        (
            'augment=[{"kind":"RandomResizedCrop","family":"pillow-bilinear","max_ratio":0.5}]',
            "augment.0.max_ratio: expected 1 or more, got 0.5",
        ),
        (
            'augment=[{"kind":"RandomCrop"}]',
            "augment.0: expected a Resize or ScaleJitter to at least image_size 32 before RandomCrop, got none",
        ),
        (
            'augment=[{"kind":"Resize","size":31,"family":"pillow-bilinear"},{"kind":"RandomCrop"}]',
            "augment.1: expected a Resize or ScaleJitter to at least image_size 32 before RandomCrop, got 31",
        ),
        (
            'augment=[{"kind":"ProgressiveCrop","sizes":[33],"until_epochs":[1]}]',
            "augment.0.sizes: expected at most image_size 32, got 33",
        ),
        (
            'augment=[{"kind":"ProgressiveCrop","sizes":[16,24],"until_epochs":[2,1]}]',
            "augment.0.sizes: expected sizes and rising until_epochs, as many, above 0, got (16, 24) and (2, 1)",
        ),
        (
            'augment=[{"kind":"ProgressiveCrop","sizes":[16],"until_epochs":[1]}] '
            'preprocess={"kind":"SubtractMeanImage"}',
            "augment.0: expected Normalize beside ProgressiveCrop: a mean image has one size",
        ),
        (
            'augment=[{"kind":"TrivialAugment"},{"kind":"ProgressiveCrop","sizes":[16],"until_epochs":[1]}]',
            "augment.1: expected no ProgressiveCrop beside those of single images",
        ),
        (
            'augment=[{"kind":"Resize","size":64,"family":"pillow-bilinear"}]',
            "augment: expected a RandomResizedCrop or RandomCrop, which gives image_size",
        ),
        (
            'augment=[{"kind":"ScaleJitter","min_size":41,"max_size":40,"family":"pillow-bilinear"},{"kind":"RandomCrop"}]',
            "augment.0.min_size: expected at most max_size 40, got 41",
        ),
        (
            'augment=[{"kind":"RandomResizedCrop","family":"pillow-bilinear"},{"kind":"RandAugment","level":11}]',
            "augment.1.level: expected 0 to 10, got 11.0",
        ),
    ],
)
def test_contradictions(overrides: str, problem: str) -> None:
    assert problems_of(*overrides.split()) == [problem]


def test_contradictions_are_listed_together() -> None:
    assert len(problems_of("total_steps=9", "optim.lr=-1", "warmup.warmup_steps=2", "batch_size=100")) == 4
    assert len(problems_of("image_size=0", "view.crop_size=-1", "schedule.final_factor=-1")) == 3


# --- the rest ---


def test_differences_name_field_and_values() -> None:
    other = dataclasses.replace(QUICKSTART, seed=5, optim=dataclasses.replace(QUICKSTART.optim, lr=1.0))
    assert recipe_differences(QUICKSTART, QUICKSTART) == []
    found = recipe_differences(QUICKSTART, other)
    assert [line.partition(":")[0] for line in found] == ["optim", "seed"]
    assert found[1] == "seed: 0 -> 5"


def test_a_change_of_kind_alone_is_a_difference() -> None:
    one, other = (dataclasses.replace(QUICKSTART, mix=(mix,)) for mix in (Mixup(1.0), CutMix(1.0)))
    assert vars(one.mix[0]) == vars(other.mix[0])
    (found,) = recipe_differences(one, other)
    assert found.startswith("mix: ")
    assert "Mixup" in found
    assert "CutMix" in found


@pytest.mark.parametrize("part", [QUICKSTART, QUICKSTART.optim, QUICKSTART.schedule, QUICKSTART.warmup])
def test_recipes_are_frozen(part: Any) -> None:
    name = dataclasses.fields(part)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(part, name, 1)
    assert hash(part) == hash(dataclasses.replace(part))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    SCALARS | st.integers(-(10**400), 10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = ("Sgd", "Lamb", "StepDecay", "Cosine", "Linear", "Plateau", "Normalize", "SubtractMeanImage", "PadCrop", "Flip",
         "Warmup", "Mixup", "CutMix", "RandomResizedCrop", "RandAugment", "BinaryCrossEntropy", "View")  # fmt: skip
PARTS = st.fixed_dictionaries(
    {},
    optional={"kind": st.sampled_from(KINDS) | JSON}
    | dict.fromkeys(("lr", "mean", "std", "padding", "drop_epochs", "drop_steps", "start_factor"), JSON),
)
FIELDS = [field.name for field in dataclasses.fields(Recipe)]


def read_or_refuse(data: Any, overrides: list[str]) -> None:
    try:
        recipe = read_recipe(data, overrides)
    except RecipeError as error:
        assert error.problems
        assert len(error.details) == len(error.problems)
    else:
        assert read_recipe(recipe_to_json(recipe)) == recipe


@given(JSON)
def test_any_json_is_a_recipe_or_refused(data: Any) -> None:
    read_or_refuse(data, [])


@given(st.dictionaries(st.sampled_from(FIELDS), JSON | PARTS | st.lists(PARTS, max_size=3), max_size=4))
def test_any_change_of_fields_is_a_recipe_or_refused(changes: dict[str, Any]) -> None:
    read_or_refuse(recipe_to_json(QUICKSTART) | changes, [])


PATHS = st.sampled_from([*FIELDS, "optim.lr", "augment.0", "augment.1.kind", "warmup.shape", "schedule.kind", "a.b.c"])
VALUES = st.text(max_size=6) | JSON.map(json.dumps) | st.sampled_from(KINDS)
OVERRIDES = st.builds("{}={}".format, PATHS | st.text(max_size=8), VALUES) | st.text(max_size=10)


@given(st.lists(OVERRIDES, max_size=4))
def test_any_overrides_are_taken_or_refused(overrides: list[str]) -> None:
    read_or_refuse(recipe_to_json(QUICKSTART), overrides)


def test_a_warmup_in_steps_or_in_epochs() -> None:
    assert quickstart_with("warmup.warmup_epochs=0", "warmup.warmup_steps=3").warmup == Warmup("linear", 0.1, 0.0, 3)
