from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.schedule import (
    PlateauState,
    after_evaluation,
    constant_warmup,
    cosine,
    linear,
    linear_warmup,
    step_decay,
)

STEPS = st.integers(1, 10_000)
FACTORS = st.floats(0.0, 1.0)
NEAR = 1e-12  # rounding


def test_golden_values() -> None:
    assert [step_decay(s, drop_steps=[3, 5], drop_factor=0.5) for s in range(7)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert [cosine(s, total_steps=4) for s in range(5)] == pytest.approx(
        [1, 0.8535533905932737, 0.5, 0.14644660940672627, 0], abs=NEAR
    )
    assert cosine(1, total_steps=3, final_factor=0.2) == pytest.approx(0.8)
    assert [linear(s, total_steps=4) for s in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert [linear(s, total_steps=4, final_factor=0.5) for s in range(5)] == [1, 0.875, 0.75, 0.625, 0.5]
    assert [linear_warmup(s, warmup_steps=4, start_factor=0.2) for s in range(6)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1, 1]
    )
    assert [constant_warmup(s, warmup_steps=2, start_factor=0.1) for s in range(4)] == [0.1, 0.1, 1, 1]


def test_no_drops_and_no_warmup_change_nothing() -> None:
    assert step_decay(10, drop_steps=[], drop_factor=0.1) == 1
    assert linear_warmup(0, warmup_steps=0, start_factor=0.1) == 1
    assert constant_warmup(0, warmup_steps=0, start_factor=0.1) == 1


@pytest.mark.parametrize("name", ["cosine", "linear"])
@given(total_steps=STEPS, final_factor=FACTORS, data=st.data())
def test_a_decay_falls_from_one_to_its_end(
    name: str, total_steps: int, final_factor: float, data: st.DataObject
) -> None:
    factor = {"cosine": cosine, "linear": linear}[name]
    step = data.draw(st.integers(0, total_steps - 1))
    now = factor(step, total_steps=total_steps, final_factor=final_factor)
    after = factor(step + 1, total_steps=total_steps, final_factor=final_factor)
    assert factor(0, total_steps=total_steps, final_factor=final_factor) == 1
    assert final_factor - NEAR <= after <= now + NEAR <= 1 + 2 * NEAR
    end = factor(total_steps, total_steps=total_steps, final_factor=final_factor)
    assert end == pytest.approx(final_factor, abs=NEAR)
    assert factor(total_steps + step, total_steps=total_steps, final_factor=final_factor) == end


@given(total_steps=STEPS, data=st.data())
def test_a_cosine_is_symmetric_about_its_middle(total_steps: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, total_steps))
    both = cosine(step, total_steps=total_steps) + cosine(total_steps - step, total_steps=total_steps)
    assert both == pytest.approx(1)


@given(
    drop_steps=st.lists(st.integers(1, 1000), unique=True).map(sorted),
    step=st.integers(0, 1100),
    drop_factor=st.floats(0.01, 1.0),
)
def test_step_decay_counts_the_drops_passed(drop_steps: list[int], step: int, drop_factor: float) -> None:
    expected = math.prod(drop_factor for drop in drop_steps if drop <= step)
    assert step_decay(step, drop_steps=drop_steps, drop_factor=drop_factor) == pytest.approx(expected, rel=1e-9, abs=0)


@given(warmup_steps=STEPS, start_factor=FACTORS, data=st.data())
def test_a_warmup_rises_to_one_and_joins(warmup_steps: int, start_factor: float, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, warmup_steps - 1))
    for warmup in (linear_warmup, constant_warmup):
        now = warmup(step, warmup_steps=warmup_steps, start_factor=start_factor)
        after = warmup(step + 1, warmup_steps=warmup_steps, start_factor=start_factor)
        assert start_factor - NEAR <= now <= after + NEAR <= 1 + 2 * NEAR
        assert warmup(0, warmup_steps=warmup_steps, start_factor=start_factor) == start_factor
        assert warmup(warmup_steps + step, warmup_steps=warmup_steps, start_factor=start_factor) == 1
    gap = 1 - linear_warmup(warmup_steps - 1, warmup_steps=warmup_steps, start_factor=start_factor)
    assert gap == pytest.approx((1 - start_factor) / warmup_steps)  # no jump at the join


@pytest.mark.parametrize("patience", [1, 3])
def test_a_plateau_drops_where_torchs_does(patience: int) -> None:
    errors = [0.9, 0.8, 0.8, 0.795, 0.7995, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6]
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        sgd, factor=0.1, patience=patience - 1, threshold=0.01, threshold_mode="abs", eps=0.0
    )
    state, drops = PlateauState(), 0
    for error in errors:
        state = after_evaluation(state, error, drop_factor=0.1, patience_evaluations=patience, min_improvement=0.01)
        theirs.step(error)
        drops += state.factor < 0.5
        assert state.factor == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-9)
    assert drops > 3
